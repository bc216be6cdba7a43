"""Spike times to counts, and intervals to masks: pure functions on arrays."""

import difflib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A spike written as 0.29 s may lie one unit in the last place below the edge at 29 bins of 0.01 s. A millionth of a bin
# is far above that rounding error and far below the clock tick of any recording system (30 kHz: 1/300 of 10 ms).
EDGE_TOLERANCE = 1e-6

_CELLS_AT_ONCE = 2**18  # bins of trials that are looked at together where each takes many bytes

# Of counts, the smallest that holds them: signed, so that a difference of counts can be negative.
COUNT_TYPES = (np.int16, np.int32)

_ON_BAD_SPIKES = ("sort", "raise")


def clean_spike_times(times: ArrayLike, *, on_bad_spikes: str = "sort") -> tuple[NDArray[np.float64], str | None]:
    """Return the finite spike times in ascending order, and what was wrong with them.

    Parameters
    ----------
    times : array-like, shape (spike,)
        Spike times of one unit, in seconds.
    on_bad_spikes : {"sort", "raise"}
        What to do with NaN, infinite or unsorted times: drop and sort them, or refuse.

    Returns
    -------
    times : ndarray, shape (spike,)
        Sorted finite times, float64. The input itself where nothing had to change.
    problem : str or None
        One phrase for a warning; None where the times were clean.

    Raises
    ------
    TypeError
        If the times are not real numbers.
    ValueError
        If the times are not one-dimensional, if `on_bad_spikes` is unknown, or if it is "raise" and times are bad.

    Examples
    --------
    >>> clean_spike_times([0.3, float("nan"), 0.1])
    (array([0.1, 0.3]), '1 of 3 times NaN or infinite (dropped), not in ascending order from index 1 on (sorted)')
    """
    if on_bad_spikes not in _ON_BAD_SPIKES:
        close = difflib.get_close_matches(str(on_bad_spikes), _ON_BAD_SPIKES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"on_bad_spikes: got {on_bad_spikes!r}, wanted one of {', '.join(_ON_BAD_SPIKES)}{hint}")
    array = np.asarray(times)
    if array.ndim != 1:
        raise ValueError(f"times: got shape {array.shape}, wanted (spike,); pass the times of one unit at a time")
    if array.size and array.dtype.kind not in "fiu":
        raise TypeError(f"times: got dtype {array.dtype}, wanted real numbers (seconds); convert them to float first")
    clean = array.astype(np.float64, copy=False)
    problems = []
    finite = np.isfinite(clean)
    n_bad = clean.size - int(np.count_nonzero(finite))
    if n_bad:
        clean = clean[finite]
        problems.append(f"{n_bad} of {array.size} times NaN or infinite (dropped)")
    steps_back = clean[1:] < clean[:-1]
    if steps_back.any():
        problems.append(f"not in ascending order from index {int(steps_back.argmax()) + 1} on (sorted)")
        clean = np.sort(clean)
    if not problems:
        return clean, None
    problem = ", ".join(problems)
    if on_bad_spikes == "raise":
        told = problem.replace(" (dropped)", "").replace(" (sorted)", "")
        raise ValueError(
            f"times: got {told}, wanted finite times in ascending order; "
            "on_bad_spikes='sort' drops what is not finite and sorts the rest"
        )
    return clean, problem


def window_bins(window: tuple[float, float], bin_size: float) -> tuple[int, NDArray[np.float64]]:
    """Return the number of whole bins in a window and their centres.

    Parameters
    ----------
    window : (float, float)
        Start and stop in seconds, relative to the alignment. A last bin that does not fit whole is dropped.
    bin_size : float
        Width of a bin in seconds.

    Returns
    -------
    n_bins : int
        Number of bins.
    centres : ndarray, shape (n_bins,)
        Bin centres in seconds, relative to the alignment.

    Raises
    ------
    ValueError
        If the window is not two finite ascending numbers, or holds no whole bin, or if `bin_size` is not positive.

    Examples
    --------
    >>> n_bins, centres = window_bins((-0.1, 0.25), bin_size=0.1)
    >>> n_bins, centres.round(3)
    (3, array([-0.05,  0.05,  0.15]))
    """
    bin_size = positive_bin_size(bin_size)
    pair = np.asarray(window, dtype=np.float64)
    if pair.shape != (2,) or not np.isfinite(pair).all() or pair[1] <= pair[0]:
        raise ValueError(f"window: got {window!r}, wanted (start, stop) in seconds with start < stop")
    start, stop = pair.tolist()
    n_bins = math.floor((stop - start) / bin_size + EDGE_TOLERANCE)
    if n_bins == 0:
        raise ValueError(
            f"window: got {window!r}, which is shorter than one bin of {bin_size:g} s; "
            "wanted at least one whole bin: widen the window or lower bin_size"
        )
    return n_bins, start + (np.arange(n_bins) + 0.5) * bin_size


def count_spikes(
    spike_times: Sequence[NDArray[np.floating[Any]]], bin_size: float, starts: ArrayLike, n_bins: int
) -> NDArray[np.signedinteger[Any]]:
    """Return the number of spikes of each unit in each bin of each trial.

    A spike at time t belongs to bin floor((t - start) / bin_size + 1e-6): the left edge is inside, and the tolerance
    keeps rounding from moving a spike on an edge into the bin before.

    Parameters
    ----------
    spike_times : sequence of ndarray, shape (spike,)
        Sorted session times of each unit in seconds (see `clean_spike_times`).
    bin_size : float
        Width of a bin in seconds.
    starts : array-like, shape (trial,)
        Session time of the left edge of the first bin of each trial, in any order; windows may overlap. One start and
        many bins count a long recording.
    n_bins : int
        Number of bins in each trial.

    Returns
    -------
    counts : ndarray, shape (trial, n_bins, unit)
        int16, or int32 where a count does not fit. A view in which each unit is contiguous in memory.

    Raises
    ------
    ValueError
        If spike times are not one-dimensional, finite and sorted, or if `bin_size`, `starts` or `n_bins` is not valid.

    Examples
    --------
    >>> count_spikes([np.array([0.01, 0.29, 0.30])], bin_size=0.1, starts=[0.0], n_bins=4)[0, :, 0]
    array([1, 0, 1, 1], dtype=int16)
    """
    bin_size, start_times, n_bins = _checked_grid(bin_size, starts, n_bins)
    n_units, n_trials = len(spike_times), start_times.size
    counts = np.zeros((n_units, n_trials, n_bins), dtype=COUNT_TYPES[0])
    for unit, times in enumerate(spike_times):
        cells, repeats = _occupied_cells(_checked_sorted(times, unit), bin_size, start_times, n_bins)
        largest = int(repeats.max(initial=0))
        if largest > np.iinfo(counts.dtype).max:
            counts = counts.astype(COUNT_TYPES[1])
        counts[unit].reshape(-1)[cells] = repeats
    return counts.transpose(1, 2, 0)  # (trial, n_bins, unit)


def observed_bins(intervals: ArrayLike, bin_size: float, starts: ArrayLike, n_bins: int) -> NDArray[np.bool_]:
    """Return which bins of each trial lie wholly inside the union of intervals.

    Parameters
    ----------
    intervals : array-like, shape (interval, 2)
        Start and stop in session seconds, in any order; overlapping and touching intervals count as one. An interval
        with a NaN or without duration observes nothing; infinite ends are allowed.
    bin_size : float
        Width of a bin in seconds.
    starts : array-like, shape (trial,)
        Session time of the left edge of the first bin of each trial.
    n_bins : int
        Number of bins in each trial.

    Returns
    -------
    observed : ndarray of bool, shape (trial, n_bins)
        False where any part of the bin lies outside (beyond a millionth of a bin).

    Raises
    ------
    ValueError
        If `intervals` is not (interval, 2), or if `bin_size`, `starts` or `n_bins` is not valid.

    Examples
    --------
    >>> observed_bins([[0.0, 0.25], [0.25, 0.31]], bin_size=0.1, starts=[0.0], n_bins=4)
    array([[ True,  True,  True, False]])
    """
    bin_size, start_times, n_bins = _checked_grid(bin_size, starts, n_bins)
    slack = EDGE_TOLERANCE * bin_size
    begins, ends = _merged(intervals, slack)
    if begins.size == 0:
        return np.zeros((start_times.size, n_bins), dtype=bool)
    observed = np.empty((start_times.size, n_bins), dtype=bool)
    offsets = np.arange(n_bins + 1) * bin_size
    step = max(1, _CELLS_AT_ONCE // (n_bins + 1))  # the edges of all trials would take many times the result
    for trial in range(0, start_times.size, step):
        edges = start_times[trial : trial + step, None] + offsets  # (trial, n_bins + 1)
        left, right = edges[:, :-1], edges[:, 1:]
        # The last interval that begins before the bin; or -1.
        latest = np.searchsorted(begins, left + slack, side="right") - 1
        observed[trial : trial + step] = (latest >= 0) & (right <= ends[latest] + slack)
    return observed


def outside_intervals(intervals: ArrayLike) -> NDArray[np.float64]:
    """Return the intervals between, before and after the given ones.

    Turns a table of invalid times into one that `observed_bins` takes.

    Parameters
    ----------
    intervals : array-like, shape (interval, 2)
        Start and stop in seconds, as for `observed_bins`.

    Returns
    -------
    outside : ndarray, shape (interval, 2)
        Ascending, from -inf to inf.

    Raises
    ------
    ValueError
        If `intervals` is not (interval, 2).

    Examples
    --------
    >>> outside_intervals([[1.0, 2.0], [4.0, 5.0]])
    array([[-inf,   1.],
           [  2.,   4.],
           [  5.,  inf]])
    """
    begins, ends = _merged(intervals, slack=0.0)
    outside = np.stack([np.append(-np.inf, ends), np.append(begins, np.inf)], axis=1)  # (interval, 2)
    return outside[outside[:, 1] > outside[:, 0]]


def _occupied_cells(
    times: NDArray[np.float64], bin_size: float, starts: NDArray[np.float64], n_bins: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the flat (trial, bin) indices that hold spikes of one unit, ascending, and how many each holds."""
    margin = bin_size * 2 * EDGE_TOLERANCE  # twice the tolerance: the rule below decides, this only preselects
    first = np.searchsorted(times, starts - margin)
    n_inside = np.searchsorted(times, starts + n_bins * bin_size + margin) - first
    if starts.size == 1:
        inside = times[first[0] : first[0] + n_inside[0]]
        bins = np.floor((inside - starts[0]) / bin_size + EDGE_TOLERANCE)
        keep = slice(np.searchsorted(bins, 0), np.searchsorted(bins, n_bins))  # sorted times make sorted bins
        cells = bins[keep].astype(np.intp)
    else:
        trial = np.repeat(np.arange(starts.size), n_inside)  # (spike,)
        rank = np.arange(trial.size) - np.repeat(np.cumsum(n_inside) - n_inside, n_inside)
        bins = np.floor((times[first[trial] + rank] - starts[trial]) / bin_size + EDGE_TOLERANCE)
        keep = (bins >= 0) & (bins < n_bins)
        cells = trial[keep] * n_bins + bins[keep].astype(np.intp)
    # Sorted times make sorted cells, so that runs of equal cells are the counts: the cost is of the order of the number
    # of spikes, without an int64 histogram as long as the recording.
    run_starts = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])[: cells.size])
    return cells[run_starts], np.diff(run_starts, append=cells.size)


def _merged(intervals: ArrayLike, slack: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return starts and stops of the union of intervals, ascending and disjoint by more than `slack`."""
    array = np.asarray(intervals, dtype=np.float64)
    if array.size == 0:
        return np.empty(0), np.empty(0)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"intervals: got shape {array.shape}, wanted (interval, 2): one row of start and stop each")
    array = array[array[:, 1] > array[:, 0]]  # also drops NaN
    array = array[np.argsort(array[:, 0], kind="stable")]
    reach = np.maximum.accumulate(array[:, 1])  # (interval,) latest stop so far
    opens = np.ones(len(array), dtype=bool)
    opens[1:] = array[1:, 0] > reach[:-1] + slack
    closes = np.append(opens[1:], True)[: len(array)]
    return array[opens, 0], reach[closes]


def _checked_sorted(times: NDArray[np.floating[Any]], unit: int) -> NDArray[np.float64]:
    """Return the times of one unit as float64, or raise."""
    array = np.asarray(times, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"spike_times[{unit}]: got shape {array.shape}, wanted (spike,)")
    # NaN fails every comparison, so only the two ends need a test of their own.
    if array.size and not (np.isfinite(array[[0, -1]]).all() and bool((array[1:] >= array[:-1]).all())):
        raise ValueError(
            f"spike_times[{unit}]: got times that are not finite or not in ascending order, wanted sorted finite "
            "times; pass them through clean_spike_times first"
        )
    return array


def _checked_grid(bin_size: float, starts: ArrayLike, n_bins: int) -> tuple[float, NDArray[np.float64], int]:
    """Return bin size, starts (trial,) and number of bins, or raise."""
    bin_size = positive_bin_size(bin_size)
    start_times = np.atleast_1d(np.asarray(starts, dtype=np.float64))
    if start_times.ndim != 1 or not np.isfinite(start_times).all():
        raise ValueError(
            f"starts: got shape {start_times.shape} with {np.count_nonzero(~np.isfinite(start_times))} values NaN or "
            "infinite, wanted (trial,) finite session times; drop trials without a time first"
        )
    if isinstance(n_bins, bool) or int(n_bins) != n_bins or n_bins < 1:
        raise ValueError(f"n_bins: got {n_bins!r}, wanted a whole number of at least 1; see window_bins")
    return bin_size, start_times, int(n_bins)


def positive_bin_size(bin_size: float) -> float:
    """Return the bin size as a float, or raise a ValueError that says what is wanted."""
    if isinstance(bin_size, (int, float, np.number)) and math.isfinite(bin_size) and bin_size > 0:
        return float(bin_size)
    raise ValueError(f"bin_size: got {bin_size!r}, wanted a positive number of seconds, for instance 0.02")
