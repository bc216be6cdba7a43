"""The bins that a selection asks for: where every trial starts, how many bins it has, which of them are inside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import EDGE_TOLERANCE, positive_bin_size, window_bins
from nwb_lrrnn.io.files.memory import check_memory
from nwb_lrrnn.io.reading.catalog import listed
from nwb_lrrnn.io.reading.tables import Rows

if TYPE_CHECKING:
    import xarray as xr


# Of every bin of a trial: its time, with what is made on the way to it; of every bin, whether it is inside.
_BYTES_OF_TIME, _BYTES_OF_MASK = 24, 3


@dataclass(frozen=True, eq=False)
class Grid:
    """Bins of every trial, or of one long recording.

    `starts` (trial,) are the session times of the left edges; `time` (n_bins,) the bin centres in s relative to
    `align_time` (trial,). `inside` (trial, n_bins) is False in the padding of shorter trials, None where there is none.
    `trials` are the table rows, None for a recording as one stretch, whose times are session times.
    """

    starts: NDArray[np.float64]
    bin_size: float
    time: NDArray[np.float64]
    align_time: NDArray[np.float64]
    trials: Rows | None = None
    inside: NDArray[np.bool_] | None = None

    @property
    def n_bins(self) -> int:
        """Number of bins of every trial."""
        return len(self.time)

    def drop(self, bad: NDArray[np.bool_], reason: str) -> Grid:
        """Return the grid without the trials where `bad` (trial,) is True; the reason is kept with them."""
        if self.trials is None or not bad.any():
            return self
        dropped = [(id_, reason) for id_ in self.trials.ids[bad].tolist()]
        inside = None if self.inside is None else self.inside[~bad]
        return replace(
            self,
            starts=self.starts[~bad],
            align_time=self.align_time[~bad],
            trials=self.trials.take(~bad, dropped),
            inside=inside,
        ).checked()

    def checked(self) -> Grid:
        """Return the grid, or raise where no trial is left."""
        if self.trials is None or len(self.starts):
            return self
        reasons = listed([f"{id_} ({reason})" for id_, reason in self.trials.dropped], at_most=3)
        raise ValueError(
            "no trial is left"
            + (f": dropped {reasons}" if reasons else ", the table has no rows")
            + "; wanted at least one: choose another table with intervals=, another align= or window=, "
            "or leave all three out to read the whole recording"
        )


def session_grid(start: float, stop: float, bin_size: float, hint: str = "") -> Grid:
    """Return the bins of one stretch of the session, `start` to `stop` in s; raise where that is shorter than a bin.

    Bins that would fill the memory are refused, too, with a `hint` to what may be wrong.

    >>> session_grid(0.0, 1.0, 0.25).time
    array([0.125, 0.375, 0.625, 0.875])
    """
    bin_size = positive_bin_size(bin_size)
    if stop < start:
        raise ValueError(f"window: got ({start:g}, {stop:g}), wanted (start, stop) in seconds with start < stop")
    if not stop > start:
        raise ValueError(f"the recording runs from {start:g} s to {stop:g} s: too short for one bin of {bin_size!r} s")
    _check_bins(1, (start, stop), bin_size, hint)
    _, time = window_bins((start, stop), bin_size)
    return Grid(np.array([start]), float(bin_size), time, np.zeros(1))


def trial_grid(
    trials: Rows, bin_size: float, align: Any = None, window: tuple[float, float] | None = None, hint: str = ""
) -> Grid:
    """Return the bins of trials: a `window` in s around `align`, or each trial from start to stop.

    `align` is a column of session times, or such times by trial id; start_time by default. Trials where it is NaN are
    left out. Without a window, trials of unequal length are padded to the longest, with `inside` False. Bins that would
    fill the memory are refused, with a `hint` to what may be wrong.
    """
    bin_size = positive_bin_size(bin_size)
    align_time = _align_times(trials, "start_time" if align is None else align)
    missing = ~np.isfinite(align_time)
    name = align if isinstance(align, str) else "align"
    trials = trials.take(~missing, [(id_, f"{name} is NaN") for id_ in trials.ids[missing].tolist()])
    align_time = align_time[~missing]
    if window is not None:
        _check_bins(len(trials), window, bin_size, hint)
        _, time = window_bins(window, bin_size)
        return Grid(align_time + float(window[0]), float(bin_size), time, align_time, trials).checked()
    Grid(align_time, float(bin_size), np.zeros(1), align_time, trials).checked()
    begins = trials.columns["start_time"] - align_time
    ends = trials.columns.get("stop_time", np.full(len(trials), np.nan)) - align_time
    if not np.isfinite(ends).all():
        raise ValueError("window: the table holds instants without stop_time, so pass window=(start, stop) in s")
    # The first edge is a whole number of bins from the alignment, so that time 0 is an edge in every trial.
    first_edge = math.floor(begins.min() / float(bin_size) + EDGE_TOLERANCE) * float(bin_size)
    _check_bins(len(trials), (first_edge, float(ends.max())), bin_size, hint)
    _, time = window_bins((first_edge, float(ends.max())), bin_size)
    first = np.ceil((begins - first_edge) / bin_size - EDGE_TOLERANCE)
    last = np.floor((ends - first_edge) / bin_size + EDGE_TOLERANCE)
    bins = np.arange(len(time))
    inside = (bins >= first[:, None]) & (bins < last[:, None])  # (trial, n_bins)
    grid = Grid(align_time + first_edge, float(bin_size), time, align_time, trials, inside)
    grid = grid.drop(~inside.any(axis=1), "shorter than one bin")
    return replace(grid, inside=None) if grid.inside is not None and grid.inside.all() else grid


def _check_bins(n_trials: int, window: Any, bin_size: float, hint: str) -> None:
    """Raise where the times and masks of the bins of one window in each trial would fill the memory."""
    pair = np.asarray(window, dtype=np.float64)
    if pair.shape != (2,) or not np.isfinite(pair).all():
        return  # refused for what it is
    length = float(pair[1] - pair[0])
    n_bins = max(0.0, length / bin_size)
    each = "" if n_trials == 1 else f" in each of {n_trials} trials"
    check_memory(
        n_bins * (_BYTES_OF_TIME + _BYTES_OF_MASK * n_trials),
        f"bin_size: {n_bins * n_trials:.4g} bins of {bin_size:g} s over {length:.6g} s{each}, whose times and masks",
        "pass a larger bin_size=, a shorter window=" + (f", {hint}" if hint else ""),
    )


def grid_like(X: xr.DataArray) -> Grid:
    """Return the bins of an array that was read before, whose trials then carry ids only.

    Raises where it lacks `time`, or `align_time` (trial,), which say where its bins lie in the session.
    """
    if not (hasattr(X, "dims") and hasattr(X, "coords") and hasattr(X, "attrs")):
        raise TypeError(
            f"like: got {type(X).__name__}, wanted a DataArray from spikes() or series(), whose coordinates say "
            "where its bins lie in the session"
        )
    lacking = [name for name in ("time", *(("align_time",) if "trial" in X.dims else ())) if name not in X.coords]
    if lacking:
        raise ValueError(
            f"like: X has no coordinate {' or '.join(map(repr, lacking))}, wanted the array as spikes() or series() "
            "returned it; reshaping through numpy loses the coordinates"
        )
    time = np.asarray(X["time"].values, dtype=np.float64)
    bin_size = X.attrs.get("bin_size") or (float(time[1] - time[0]) if len(time) > 1 else None)
    if bin_size is None:
        raise ValueError("like: X has one bin and no attrs['bin_size'], wanted the width of its bins in s; set it")
    align_time = np.atleast_1d(np.asarray(X.coords["align_time"].values if "align_time" in X.coords else 0.0, float))
    trials = None
    if "trial" in X.dims:
        trials = Rows(X["trial"].values if "trial" in X.coords else np.arange(X.sizes["trial"]), {})
    return Grid(align_time + time[0] - bin_size / 2, float(bin_size), time, align_time, trials)


def looks_relative(trials: Rows, align: Any) -> str | None:
    """Return a warning where an alignment column seems to hold times relative to trial start; else None."""
    if not isinstance(align, str) or align in ("start_time", "stop_time"):
        return None
    before = trials.columns[align] < trials.columns["start_time"]
    if not before.any():
        return None
    return (
        f"align={align!r} lies before start_time in {int(before.sum())} of {len(trials)} trials; if it holds times "
        f"relative to trial start, pass align=recording.trials['start_time'] + recording.trials[{align!r}]"
    )


def all_one_window(grid: Grid) -> str | None:
    """Return a warning where all trials are one and the same stretch of the session, so that each is a copy; else None.

    Their times may be relative to each trial, which cannot be told from the file.
    """
    if grid.trials is None or len(grid.starts) < 2 or (grid.starts != grid.starts[0]).any():
        return None
    if grid.inside is not None and (grid.inside != grid.inside[0]).any():
        return None
    return (
        f"all {len(grid.starts)} trials are one and the same window, from {grid.starts[0]:g} s on: each is a copy of "
        "the others, and what is held out was seen; if times are relative to each trial, the file cannot be divided"
    )


def long_trials(durations: NDArray, ids: NDArray) -> str:
    """Return a sentence on trials that are so long that padding to them is most of an array; "" where none are.

    `durations` (trial,) are in any unit of time; those that are not finite are no matter.
    """
    from nwb_lrrnn.trials import is_mostly_padding

    known = np.isfinite(durations)
    durations, ids = durations[known], ids[known]
    if not len(durations) or not is_mostly_padding(durations):
        return ""
    order = np.argsort(-durations)
    n = next(k for k in range(1, len(order) + 1) if k == len(order) or not is_mostly_padding(durations[order[k:]]))
    longest, median = float(durations[order[0]]), float(np.median(durations))
    named = ", ".join(str(id_) for id_ in ids[np.sort(order[:n])][:5].tolist()) + (
        f" and {n - 5} more" if n > 5 else ""
    )
    lasts = f"trial {named} lasts" if n == 1 else f"trials {named} last up to"
    return f"{lasts} {longest:.4g} s, the median is {median:.3g} s"


def looks_padded(grid: Grid) -> str | None:
    """Return a warning where a grid is mostly the padding behind trials much shorter than the longest; else None."""
    if grid.inside is None or grid.trials is None:
        return None
    n = grid.inside.sum(axis=1)
    which = long_trials(n * grid.bin_size, grid.trials.ids)
    if not which:
        return None
    share = 100 * n.sum() / grid.inside.size
    return (
        f"{which}: all {len(n)} trials are padded to {grid.n_bins} bins, of which {share:.2g} % are observed; "
        "leave the long ones out with trials=, or give all one length with align= and window="
    )


def _align_times(trials: Rows, align: Any) -> NDArray[np.float64]:
    """Return the session time of time 0 of each trial."""
    if isinstance(align, str):
        times = {
            name: values
            for name, values in trials.columns.items()
            if values.dtype.kind == "f" or (values.dtype.kind in "iu" and name.endswith("_time"))
        }
        if align in times:
            return times[align].astype(np.float64)
        import difflib

        close = difflib.get_close_matches(align, times, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        what = "is no column of times" if align in trials.columns else "is no column of the table"
        raise ValueError(f"align: {align!r} {what}, wanted one of {listed(list(times))}{hint}")
    if not (hasattr(align, "coords") and "trial" in align.coords):
        raise TypeError(
            f"align: got {type(align).__name__}, wanted the name of a column, or a DataArray of session times over "
            "'trial' such as recording.trials['start_time'] + 0.1"
        )
    by_id = dict(zip(align["trial"].values.tolist(), np.asarray(align.values, dtype=np.float64).tolist(), strict=True))
    return np.array([by_id.get(id_, np.nan) for id_ in trials.ids.tolist()])
