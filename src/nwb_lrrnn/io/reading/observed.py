"""For how long units were observed: the stretch of a session, and what obs_intervals and invalid times leave of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import outside_intervals
from nwb_lrrnn.io.reading.spike_table import SpikeSummary, SpikeTable

_ALWAYS = np.array([[-np.inf, np.inf]])


@dataclass(frozen=True, eq=False)
class UnitRates:
    """What is known of how fast units fired; one value a row of the Units table.

    `n_spikes` (unit,) are all finite spike times, `n_inside` (unit,) those in observed time, `seconds` (unit,) is how
    long each unit was observed, `rates` (unit,) is n_inside / seconds in spikes/s, NaN where nothing was observed.
    `stretch` are start and stop of the session in s, `summary` is what else the spikes tell.
    """

    n_spikes: NDArray[np.int64]
    n_inside: NDArray[np.int64]
    seconds: NDArray[np.float64]
    stretch: tuple[float, float]
    summary: SpikeSummary

    @property
    def rates(self) -> NDArray[np.float64]:
        """Spikes per second of observed time (unit,)."""
        known = self.seconds > 0
        return np.where(known, self.n_inside / np.where(known, self.seconds, 1.0), np.nan)


def unit_rates(
    spikes: SpikeTable, observed: Sequence[NDArray[np.float64]] | None, invalid: NDArray[np.float64] | None
) -> UnitRates:
    """Return how fast the units of a table fired in the time in which they were observed.

    `observed` are the obs_intervals (interval, 2) of each row, None where the table has none; a row without any was
    observed throughout, as all are then. `invalid` (interval, 2) is never observed. All of it is read once.
    """
    intervals = observed_intervals(observed, invalid, spikes.n_rows)
    summary = spikes.summary(intervals)
    stretch = session_stretch(summary, observed)
    seconds = np.full(spikes.n_rows, max(0.0, stretch[1] - stretch[0]))
    lengths: dict[bytes, float] = {}  # units recorded together have the same intervals: ask once
    for row, part in enumerate(intervals or ()):
        if part not in lengths:
            inside = np.clip(np.frombuffer(part).reshape(-1, 2), *stretch)
            lengths[part] = float((inside[:, 1] - inside[:, 0]).sum())
        seconds[row] = lengths[part]
    return UnitRates(summary.n, summary.n_inside, seconds, stretch, summary)


def observed_intervals(
    observed: Sequence[NDArray[np.float64]] | None, invalid: NDArray[np.float64] | None, n_rows: int
) -> tuple[bytes, ...] | None:
    """Return the intervals (interval, 2) in which each row was observed, ascending, disjoint, as bytes; None: always.

    As bytes they can be compared, so that what was learned with them is kept.
    """
    if observed is None and invalid is None:
        return None
    never = np.empty((0, 2)) if invalid is None else invalid
    found: dict[bytes, bytes] = {}
    intervals = []
    for part in [_ALWAYS] * n_rows if observed is None else observed:
        part = np.ascontiguousarray(part if len(part) else _ALWAYS, dtype=np.float64)
        key = part.tobytes()
        if key not in found:
            found[key] = outside_intervals(np.concatenate([outside_intervals(part), never])).tobytes()
        intervals.append(found[key])
    return tuple(intervals)


def trials_outside(
    starts: NDArray[np.float64], stops: NDArray[np.float64], found: UnitRates
) -> str | None:  # the sentence, which goes on from the name of the trials
    """Return that trials (trial,) lie outside of the stretch of a session, where all are silent; None: none does."""
    first, last = found.stretch
    n_outside = int(((stops <= first) | (starts >= last)).sum())
    if not n_outside or not found.n_spikes.any():
        return None
    return (
        f"{n_outside} of {len(starts)} trials lie outside of the time in which any unit has spikes, {first:g} to "
        f"{last:g} s: it may not have been recorded, or the times of one of them are not in s or have another zero"
    )


def in_seconds(
    observed: Sequence[NDArray[np.float64]], spikes: SpikeSummary, time_scale: float
) -> list[NDArray[np.float64]]:
    """Return obs_intervals (interval, 2) of each row in s, given the spikes in s, whose unit was `time_scale` s.

    They are in that unit, too, unless they end nearer to the last spike as they are: a file that counts spikes in
    samples may well hold the intervals in s.
    """
    every = np.concatenate([part.reshape(-1) for part in observed])
    end, last = float(np.max(every, initial=0.0, where=np.isfinite(every))), float(np.nanmax(spikes.last, initial=0.0))
    is_scaled = not (end > 0 and last > 0 and abs(np.log(end / last)) < abs(np.log(end * time_scale / last)))
    return [part * (time_scale if is_scaled else 1.0) for part in observed]


def session_stretch(spikes: SpikeSummary, observed: Sequence[NDArray[np.float64]] | None) -> tuple[float, float]:
    """Return start and stop of a session in s: those of the obs_intervals, else the first and last spike of any unit.

    Before the first spike and after the last nothing tells silence from time that was not recorded. Units without
    obs_intervals beside others with them count with their spikes.
    """
    spoken_for = np.zeros(len(spikes.n), dtype=bool) if observed is None else np.array([len(p) > 0 for p in observed])
    ends = [*spikes.first[~spoken_for], *spikes.last[~spoken_for]]
    if observed is not None and spoken_for.any():
        every = np.concatenate([part for part in observed if len(part)])
        ends += every[np.isfinite(every) & (every[:, 1:] > every[:, :1])].tolist()
    ends = np.array(ends, dtype=np.float64)
    ends = ends[np.isfinite(ends)]
    if not len(ends):  # intervals without end tell nothing
        ends = np.array([*spikes.first, *spikes.last])
        ends = ends[np.isfinite(ends)]
    return (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 0.0)
