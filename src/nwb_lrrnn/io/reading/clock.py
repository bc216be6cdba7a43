"""When the samples of a series were taken: by rate or by timestamps, with the gaps between them."""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import ChangedFileError, InvalidTimestampsError
from nwb_lrrnn.io.files.hdf5 import H5
from nwb_lrrnn.io.files.memory import tell_memory
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.entries import SeriesEntry

logger = logging.getLogger(__name__)

# A step of more than 1.5 median steps is a gap: a hole in the recording, never bridged in silence.
_GAP = 1.5
# Timestamps within a ten-thousandth of a step of an even grid are that grid, written out.
_EVEN = 1e-4
# Cameras and microscopes jitter. Within a quarter of a step of an even grid every bin of the grid holds its own sample,
# and none is further from its place than what a bin blurs anyway.
JITTER = 0.25
# Leaving out more samples than this is no repair.
_MOST_LEFT_OUT = 1 / 3
_BYTES_OF_TIME = 40  # of each timestamp, with what is made to check it
_CELLS_AT_ONCE = 2**18  # bins of trials that are looked at together


@dataclass(frozen=True, eq=False)
class EvenGrid:
    """Even times near those of samples.

    In each gapless stretch they begin at one of `starts` (stretch,), at the sample of that number in `firsts`
    (stretch,), and go on by `step` in s. `off` is how far a sample is from its own at most, in steps.
    """

    starts: NDArray[np.float64]
    firsts: NDArray[np.intp]
    step: float
    off: float

    def time(self, sample: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the even times of samples."""
        stretch = np.searchsorted(self.firsts, sample, side="right") - 1
        return self.starts[stretch] + (sample - self.firsts[stretch]) * self.step


@dataclass(frozen=True, eq=False)
class Clock:
    """Times of the samples of a series.

    With a `rate` they are start + k / rate; without, they are read from the file at `path` when they are needed.
    `order` are the samples in ascending time where the file has them in another order (None: as stored).
    `segments` are the first samples after a gap, and `step` is the median step in s.
    """

    source: Source
    path: str
    n_samples: int
    start: float
    stop: float
    step: float
    rate: float | None
    segments: NDArray[np.intp]
    sorted_order: bool = False

    @property
    def order(self) -> NDArray[np.intp] | None:
        """The samples in ascending time, None where they are stored so."""
        return _timestamps(self.source.current(), self.path, True)[1] if self.sorted_order else None

    def times(self, first: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return the times of samples `first` to `stop` in s."""
        stop = self.n_samples if stop is None else stop
        if self.rate is not None:
            return self.start + np.arange(first, stop) / self.rate
        times, _ = _timestamps(self.source.current(), self.path, self.sorted_order)
        if len(times) != self.n_samples:
            raise ChangedFileError(
                f"{self.source.uri}: {self.path} was written anew since it was opened; open it again"
            )
        return times[first:stop]

    def index(self, time: NDArray[np.float64] | float) -> NDArray[np.intp]:
        """Return the first samples at or after `time` (a millionth of a step before counts as at)."""
        slack = 1e-6 * self.step
        if self.rate is not None:
            index = np.ceil((np.asarray(time) - self.start) * self.rate - 1e-6)
            return np.clip(index, 0, self.n_samples).astype(np.intp)
        return np.searchsorted(self.times(), np.asarray(time) - slack)

    def around(self, begin: float, end: float, margin: float) -> tuple[int, int]:
        """Return first and stop of the samples inside a stretch, with those up to `margin` s and one more beside it."""
        first, stop = self.index(np.array([begin - margin, end + margin])).tolist()
        return max(0, first - 1), min(self.n_samples, stop + 1)

    def holes(
        self, starts: NDArray[np.float64], bin_size: float, n_bins: int, max_gap: float
    ) -> NDArray[np.bool_]:  # (trial, n_bins)
        """Return which bins have neither a sample inside nor neighbours near enough to interpolate between."""
        step = max(1, _CELLS_AT_ONCE // (n_bins + 1))
        if len(starts) > step:  # the edges of all trials would take many times the result
            parts = [starts[k : k + step] for k in range(0, len(starts), step)]
            return np.concatenate([self.holes(part, bin_size, n_bins, max_gap) for part in parts])
        edges = starts[:, None] + np.arange(n_bins + 1) * bin_size
        empty = np.diff(self.index(edges), axis=1) == 0
        holes = empty.copy()
        trial, k = np.nonzero(empty)
        after = self.index(edges[trial, k] + bin_size / 2)
        between = (after > 0) & (after < self.n_samples)
        if self.rate is not None:
            gap = np.full(len(after), self.step)
        else:
            times = self.times()
            gap = times[np.minimum(after, self.n_samples - 1)] - times[np.maximum(after - 1, 0)]
        holes[trial, k] = ~(between & (gap <= max_gap * 1.000001))
        return holes

    def segment_of(self, sample: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the number of the gapless stretch that each sample belongs to."""
        return np.searchsorted(self.segments, sample, side="right")

    @functools.cached_property
    def even(self) -> EvenGrid:
        """Return the even grid nearest to the samples, which begins anew in every gapless stretch."""
        bounds = np.append(0, self.segments).astype(np.intp)
        if self.rate is not None:
            return EvenGrid(np.array([self.start]), bounds, self.step, 0.0)
        times = self.times()
        lengths = np.diff(bounds, append=len(times))
        middles = np.add.reduceat(times, bounds) / lengths
        number = np.arange(len(times), dtype=np.float64)
        number -= np.repeat(bounds + (lengths - 1) / 2, lengths)
        off = times - np.repeat(middles, lengths)
        spread = float(number @ number)
        step = float(number @ off) / spread if spread else math.inf
        if not 0 < step < math.inf:
            return EvenGrid(times[bounds], bounds, self.step, math.inf)
        variance = max(0.0, float(off @ off) - step**2 * spread) / max(1, len(times) - len(bounds) - 1)
        step = _roundest(step, 3 * math.sqrt(variance / spread))
        number *= step
        off -= number
        return EvenGrid(middles - (lengths - 1) / 2 * step, bounds, step, float(max(off.max(), -off.min())) / step)

    @property
    def is_even(self) -> bool:
        """Whether the samples between gaps lie within a quarter of a step of an even grid, so that they can be bins."""
        return self.even.off <= JITTER

    def evened(self) -> Clock:
        """Return the clock of the even grid nearest to the samples where they have one and no gaps, else this clock."""
        if self.rate is not None or not self.is_even or len(self.segments) or self.sorted_order:
            return self
        if self.even.off > _EVEN:
            logger.warning(
                "%s jitter by up to %.2g of a step, less than the %g that are taken for regular: the samples are read "
                "at %.6g Hz; bin_size= reads them at their own times",
                self.path, self.even.off, JITTER, 1 / self.even.step,
            )  # fmt: skip
        start, step = float(self.even.starts[0]), self.even.step
        return replace(self, start=start, stop=start + (self.n_samples - 1) * step, step=step, rate=1 / step)


def _roundest(step: float, error: float) -> float:
    """Return the step in s, within an error, whose rate in Hz has the fewest digits: jitter blurs a rate of 30 Hz."""
    for digits in range(2, 8):
        rate = float(f"{1 / step:.{digits}g}")
        if abs(1 / rate - step) <= error:
            return 1 / rate
    return step


def read_clock(source: Source, entry: SeriesEntry, n_samples: int, repair: str | None = None) -> Clock:
    """Return the clock of a series of `n_samples`; timestamps on an even grid become a rate.

    Raises InvalidTimestampsError where there is no time per sample or times do not ascend, naming the first bad one.
    `repair="sort"` puts samples into ascending time and leaves out those without a time and repeated times.
    """
    if repair not in (None, "sort"):
        raise ValueError(f"repair: got {repair!r}, wanted None or 'sort'")
    if entry.timestamps_shape is None:
        return _regular_clock(source, entry, n_samples)
    path = f"{entry.path}/timestamps"
    if entry.timestamps_shape != (n_samples,):
        raise InvalidTimestampsError(
            f"{path}: got shape {entry.timestamps_shape} for {n_samples} samples, wanted ({n_samples},), "
            "one time per sample; repair the file"
        )
    stored, _ = _timestamps(source.current(), path, False)
    _check_ascending(stored, path, repair)
    times, order = _timestamps(source.current(), path, repair == "sort")
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else math.inf
    segments = np.flatnonzero(steps > _GAP * step) + 1
    rate = None
    even_step = (times[-1] - times[0]) / max(1, len(steps))
    if len(steps) and not len(segments) and order is None:
        deviation = np.abs(times - (times[0] + np.arange(len(times)) * even_step))
        rate = 1 / even_step if deviation.max() < _EVEN * even_step else None
    ends = (float(times[0]), float(times[-1]))
    return Clock(source, path, len(times), *ends, step, rate, segments, sorted_order=order is not None)


def _check_ascending(times: NDArray[np.float64], path: str, repair: str | None) -> None:
    """Raise where timestamps do not ascend and are not, or cannot be, repaired; say what a repair leaves out."""
    if not len(times):
        raise InvalidTimestampsError(f"{path}: the series is empty, wanted at least one sample")
    known = np.isfinite(times)
    if not known.any():
        raise InvalidTimestampsError(
            f"{path}: all {len(times)} times are NaN, a placeholder for no samples or events at all; there is nothing "
            "to read"
        )
    bad = np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0) | ~known)
    if not len(bad):
        return
    left_out = len(times) - len(np.unique(times[known]))
    if repair is not None and left_out <= _MOST_LEFT_OUT * len(times):
        if left_out:
            logger.warning(
                "%s: repair='sort' leaves out %d of %d samples, whose times are repeated or missing",
                path, left_out, len(times),
            )  # fmt: skip
        return
    first = int(bad[0])
    what = "repeat" if first and times[first] == times[first - 1] else "do not ascend"
    before = f" after {times[first - 1]:g}" if first else ""
    odd = f": {int((~known).sum())} of {len(times)} are NaN or infinite" if not known.all() else _coarse(times)
    if left_out > _MOST_LEFT_OUT * len(times):
        fix = (
            f"repair='sort' would leave out {left_out} of {len(times)} samples, which is no repair; write the times "
            "anew as float64, or starting_time and rate in their place"
        )
    else:
        fix = f"repair='sort' sorts the samples and leaves out {left_out} of {len(times)}, repeated or without a time"
    raise InvalidTimestampsError(
        f"{path}: the times {what} at index {first} ({times[first]:g}{before}){odd}; wanted ascending times; {fix}"
    )


def _coarse(times: NDArray[np.float64]) -> str:
    """Return that repeated times are those of float32 where they are; empty where not."""
    stored = times.astype(np.float32)
    largest = float(np.abs(times).max())
    if not np.array_equal(stored, times) or np.array_equal(times, np.round(times)):
        return ""
    apart = float(np.spacing(np.float32(largest)))
    return f": they are float32, too coarse to tell times near {largest:g} s apart by less than {apart:.2g} s"


def clock_problems(source: Source, entry: SeriesEntry, n_samples: int) -> list[str]:
    """Return what is wrong with the times of a series of `n_samples`: that there are none, or gaps."""
    try:
        clock = read_clock(source, entry, n_samples)
    except ValueError as error:
        return [str(error)]
    if not len(clock.segments):
        return []
    first = clock.times()[clock.segments[0]]
    return [f"{entry.path}: {len(clock.segments)} gaps in the timestamps, the first ends at {first:g} s"]


def _regular_clock(source: Source, entry: SeriesEntry, n_samples: int) -> Clock:
    """Return the clock of a series with a rate."""
    start, rate = entry.starting_time, entry.rate
    if rate is None or start is None or not (0 < rate < math.inf and math.isfinite(start)):
        raise InvalidTimestampsError(
            f"{entry.path}: got starting_time {entry.starting_time} and rate {entry.rate} without timestamps, wanted "
            "one starting_time in s and one positive rate in Hz; repair the file"
        )
    if not n_samples:
        raise InvalidTimestampsError(f"{entry.path}: the series is empty, wanted at least one sample")
    no_gaps = np.zeros(0, dtype=np.intp)
    return Clock(source, entry.path, n_samples, start, start + (n_samples - 1) / rate, 1 / rate, rate, no_gaps)


def read_timestamps(source: Source, path: str) -> NDArray[np.float64]:
    """Return timestamps (time,) in s as they are stored; those that were read last are kept."""
    return _timestamps(source.current(), path, False)[0]


def check_times(dataset: H5, path: str) -> None:
    """Raise InvalidTimestampsError where timestamps are no numbers."""
    if dataset.dtype.kind not in "fiu":
        raise InvalidTimestampsError(
            f"{path}: got times of dtype {dataset.dtype}, wanted numbers in s; repair the file"
        )


@functools.lru_cache(maxsize=4)
def _timestamps(source: Source, path: str, repair: bool) -> tuple[NDArray[np.float64], NDArray[np.intp] | None]:
    """Return timestamps and their order; kept, since every block of trials needs them."""
    with source.open() as file:
        check_times(file[path], path)
        tell_memory(_BYTES_OF_TIME * file[path].size, f"{path}: the times of {file[path].size} samples")
        times: NDArray[Any] = file[path][()].astype(np.float64, copy=False)
    if not repair:
        return times, None
    order = np.argsort(times, kind="stable")
    order = order[np.isfinite(times[order])]
    order = order[np.diff(times[order], prepend=-np.inf) > 0]
    return (times, None) if len(order) == len(times) and (np.diff(order) == 1).all() else (times[order], order)
