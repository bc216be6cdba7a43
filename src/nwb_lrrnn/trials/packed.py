"""`Packed`: trials one after another, without any padding, for what is asked of all bins at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials.blocks import LazyTrials, read_trials
from nwb_lrrnn.trials.gate import Trials, place_in


@dataclass(frozen=True)
class Packed:
    """The bins of all trials in order.

    Attributes
    ----------
    values : array (bin, unit), float64
        0 where unobserved.
    seen : array (bin, unit), bool
        What is observed.
    trial, time : arrays (bin,), int
        The trial that a bin is of, and its place in it.
    lengths : array (trial,), int
    unit_ids : array (unit,)
    source : object
        X as the user gave it, whose coordinates name trials and times.
    """

    values: NDArray[np.float64]
    seen: NDArray[np.bool_]
    trial: NDArray[np.int64]
    time: NDArray[np.int64]
    lengths: NDArray[np.int64]
    unit_ids: NDArray
    source: Any

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.values.shape[1]

    @property
    def bins(self) -> NDArray[np.bool_]:
        """Which bins (bin,) are observed in at least one unit."""
        return np.asarray(self.seen.any(axis=1))

    def of_trial(self, row: int) -> slice:
        """Return where the bins of a trial are."""
        end = int(self.lengths[: row + 1].sum())
        return slice(end - int(self.lengths[row]), end)

    def per_trial(self, values: NDArray) -> NDArray:
        """Return the sum over the bins of each trial, (trial,), of values (bin,)."""
        return np.bincount(self.trial, values, minlength=len(self.lengths))

    def place(self, at: int, unit: int) -> str:
        """Return where an entry of `values` is, in the user's coordinates: 'trial 3, time 0.25, unit 17'."""
        return place_in(self.source, self.unit_ids, int(self.trial[at]), int(self.time[at]), unit)

    def name_of_trial(self, row: int) -> str:
        """Return what the user calls a trial."""
        return place_in(self.source, self.unit_ids, row, 0, 0).split(", ")[0].removeprefix("trial ")


def packed(trials: Trials | LazyTrials, source: Any) -> Packed:
    """Return trials, read block by block where they are not in memory, one after another."""
    starts = np.concatenate([[0], np.cumsum(trials.lengths)])
    values = np.zeros((int(starts[-1]), trials.n_units))
    seen = np.zeros(values.shape, dtype=bool)
    for rows, block in trials.blocks():
        shown = block.seen
        for at, row in enumerate(rows):
            n = int(trials.lengths[row])
            here = slice(int(starts[row]), int(starts[row]) + n)
            values[here], seen[here] = block.values[at, :n], shown[at, :n]
    trial = np.repeat(np.arange(len(trials.lengths)), trials.lengths)
    time = np.arange(len(trial)) - starts[trial]
    return Packed(values, seen, trial, time, np.asarray(trials.lengths), trials.unit_ids, source)


def as_packed(X: Any, *, most: int | None = None) -> Packed:
    """Return X one trial after another, NaN being unobserved; of more than `most` bytes a sample, as fits see it."""
    trials = read_trials(X, allow_nan=True, forecasts=False)
    if most is None or not isinstance(trials, LazyTrials) or trials.n_bytes <= most:
        return packed(trials, X)
    rows, named_as_before = trials.sample_rows(), None
    if isinstance(X, xr.DataArray):
        ids = X["trial"].values if "trial" in X.coords else np.arange(len(X))
        named_as_before = X.isel(trial=rows).assign_coords(trial=ids[rows])
    return packed(trials.select(rows), named_as_before)
