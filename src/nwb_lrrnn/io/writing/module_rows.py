"""Trials of a (trial, time, k) array as rows in the order of session time, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray


@dataclass(frozen=True)
class Placement:
    """Where each trial lies in which series; the entries are in the order of session time."""

    trial_order: NDArray[np.intp]  # (trial,): place of the trial in the array
    series: NDArray[np.intp]  # (trial,): number from 0; a trial that overlaps an earlier one lies in a later series
    start_index: NDArray[np.intp]  # (trial,): first row in its series
    count: NDArray[np.intp]  # (trial,): number of rows
    align_time: NDArray[np.float64]  # (trial,): session time of the alignment, s
    offsets: NDArray[np.float64]  # (time,): bin centres relative to the alignment, s
    bin_size: float  # s

    @property
    def n_series(self) -> int:
        """Number of series, at least one."""
        return int(self.series.max(initial=0)) + 1

    @property
    def start_time(self) -> NDArray[np.float64]:
        """Session time of the left edge of the first bin, shape (trial,)."""
        return self.align_time + self.offsets[0] - self.bin_size / 2

    @property
    def stop_time(self) -> NDArray[np.float64]:
        """Session time of the right edge of the last bin, shape (trial,)."""
        return self.align_time + self.offsets[self.count - 1] + self.bin_size / 2

    def rows(self, values: NDArray[Any], series: int) -> NDArray[Any]:
        """Return the rows (row, k) of one series from values (trial, time, k)."""
        mine = np.flatnonzero(self.series == series)
        return np.concatenate([values[self.trial_order[k], : self.count[k]] for k in mine])

    def times(self, series: int) -> NDArray[np.float64]:
        """Return the session time of each row of one series, strictly increasing."""
        mine = np.flatnonzero(self.series == series)
        return np.concatenate([self.align_time[k] + self.offsets[: self.count[k]] for k in mine])


def place(
    align_time: NDArray[np.float64], offsets: NDArray[np.float64], counts: NDArray[np.intp], bin_size: float
) -> Placement:
    """Return where trials lie so that the times of each series are strictly increasing.

    Each trial lies in the first series whose last window ends before it begins. `align_time` (trial,) is the session
    time of time = 0, `offsets` (time,) are the bin centres relative to it, `counts` (trial,) the bins to store, at
    least one each.
    """
    order = np.argsort(align_time, kind="stable")
    begins = align_time[order] + offsets[0] - bin_size / 2
    ends = align_time[order] + offsets[counts[order] - 1] + bin_size / 2
    last_end: list[float] = []
    n_rows: list[int] = []
    series, start_index = np.zeros(order.size, dtype=np.intp), np.zeros(order.size, dtype=np.intp)
    for k, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        free = (number for number, last in enumerate(last_end) if last <= begin + 1e-6 * bin_size)
        number = next(free, len(last_end))
        if number == len(last_end):
            last_end.append(end)
            n_rows.append(0)
        series[k], start_index[k] = number, n_rows[number]
        last_end[number] = end
        n_rows[number] += int(counts[order[k]])
    return Placement(order, series, start_index, counts[order], align_time[order], offsets, bin_size)


def place_trials(arrays: Sequence[xr.DataArray]) -> Placement:
    """Return the placement of arrays (trial, time, k) of the same trials and bins.

    Trials without `align_time` follow each other from 0. Bins at the end of a trial where every array is NaN are
    padding and have no rows.
    """
    first = arrays[0]
    n_trials, n_bins = first.shape[:2]
    stated = first.attrs.get("bin_size")
    offsets: Any = first["time"].values.astype(np.float64) if "time" in first.coords else None
    if stated is not None:
        bin_size = float(stated)
    else:
        bin_size = float(np.median(np.diff(offsets))) if offsets is not None and n_bins > 1 else 1.0
    if offsets is None:
        offsets = (np.arange(n_bins) + 0.5) * bin_size
    if "align_time" in first.coords:
        align = np.broadcast_to(first["align_time"].values.astype(np.float64), n_trials)
    elif n_trials == 1:
        align = np.zeros(1)
    else:
        align = np.arange(n_trials) * (n_bins * bin_size) - (offsets[0] - bin_size / 2)
    filled = np.zeros((n_trials, n_bins), dtype=bool)
    for array in arrays:
        filled |= ~np.isnan(array.values).all(axis=2)
    counts = n_bins - np.argmax(filled[:, ::-1], axis=1)
    counts[~filled.any(axis=1)] = 1  # a trial without a value keeps one row, so that it keeps its place
    return place(align, offsets, counts, bin_size)


def restore_rows(
    series: Sequence[NDArray[Any]],
    trial_order: NDArray[np.intp],
    number: NDArray[np.intp],
    start_index: NDArray[np.intp],
    count: NDArray[np.intp],
    n_bins: int,
) -> NDArray[Any]:
    """Return values (trial, n_bins, k) from the rows (row, k) of the series; NaN where a trial has no rows.

    Trials are in their original order again; `number` is the series of each.
    """
    values = np.full((trial_order.size, n_bins, series[0].shape[1]), np.nan, dtype=series[0].dtype)
    for trial, which, first, n_rows in zip(trial_order, number, start_index, count, strict=True):
        values[trial, :n_rows] = series[which][first : first + n_rows]
    return values
