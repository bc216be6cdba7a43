"""A function of trials mapped over the blocks of a recording backed by dask: the result is lazy too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials.ends import alike, ends_by_label
from nwb_lrrnn.trials.gate import Trials, as_trials
from nwb_lrrnn.trials.kinds import is_list_of_trials
from nwb_lrrnn.trials.labels import on_all_dims
from nwb_lrrnn.trials.lazy import labelled, numbered
from nwb_lrrnn.trials.restoring import restore

if TYPE_CHECKING:
    import dask.array as da

    from nwb_lrrnn.trials.blocks import LazyTrials


def map_trials(
    X: Any,
    inputs: Any,
    function: Callable[[Trials], NDArray],
    *,
    bin_size: float,
    allow_nan: bool,
    dim: str,
    size: int,
    ids: Sequence | NDArray | None = None,
) -> Any:
    """Return per-bin results of a function of trials, in the kind of X and lazy where X is: nothing is computed.

    Parameters
    ----------
    X, inputs : as for `as_trials`
        X backed by dask and its form checked; values are checked when they are computed.
    function : callable
        Trials -> (trial, time, k), every trial's result independent of the others; picklable.
    bin_size : float
        Where X has none.
    allow_nan : bool
        Whether NaN means unobserved instead of being an error.
    dim, size, ids : str, int, sequence
        Name, length k and coordinates of the last dim of the result.
    """
    if is_list_of_trials(X):
        drives = [None] * len(X) if inputs is None else inputs
        arrays = numbered(labelled(X, "unit"))
        return [
            restore(trial, _mapped(array, drive, function, bin_size, allow_nan, size), np.array([len(array)]), dim, ids)
            for trial, array, drive in zip(X, arrays, drives, strict=True)
        ]
    array = numbered(labelled(X, "unit"))
    lengths = np.full(array.shape[0] if array.ndim == 3 else 1, array.shape[-2])
    return restore(X, _mapped(array, inputs, function, bin_size, allow_nan, size), lengths, dim, ids)


def _mapped(X: xr.DataArray, inputs: Any, function: Callable, bin_size: float, allow_nan: bool, size: int) -> da.Array:
    """Return the results (trial, time, k) of one array as a dask array."""
    import dask.array as da

    from nwb_lrrnn.trials.blocks import BLOCK_BYTES

    data = da.asarray(X.data if X.ndim == 3 else X.data[None])
    n_trials, n_steps, n_units = data.shape
    most = max(1, BLOCK_BYTES // (8 * n_steps * n_units))
    data = data.rechunk({0: data.chunks[0] if max(data.chunks[0]) <= most else most, 1: -1, 2: -1})
    along = data.chunks[0]

    def blocked(values: Any, index: str) -> tuple[da.Array, str]:
        whole = da.broadcast_to(da.asarray(values), (n_trials, *values.shape[1:]))
        return whole.rechunk({0: along} | dict.fromkeys(range(1, whole.ndim), -1)), index

    arrays = [(data, "tlu"), blocked(np.arange(n_trials), "t")]
    if "observed" in X.coords:
        arrays.append(blocked(on_all_dims(X.coords["observed"].variable), "tvw"))
    if inputs is not None:
        drive = labelled(inputs, "input")
        arrays.append(blocked(drive.data if drive.ndim == 3 else drive.data[None], "tli"))
    time = X["time"].values if "time" in X.coords else None
    names = X["trial"].values if "trial" in X.coords else np.zeros((), dtype=int)
    lengths = ends_by_label(X, np.full(n_trials, n_steps, dtype=np.int64))
    unit = X.coords.get("unit")
    on_block = _OnBlock(function, names, time, unit, lengths, bin_size, allow_nan, "observed" in X.coords)
    return da.blockwise(
        on_block,
        "tlk",
        *(part for pair in arrays for part in pair),
        new_axes={"k": size},
        concatenate=True,
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )


def map_blocks(X: Any, trials: LazyTrials, function: Callable[[Trials], NDArray], *, dim: str, size: int) -> Any:
    """Return per-bin results of a function of trials in the kind of X, which is in memory, block by block."""
    if is_list_of_trials(X):
        values: Any = [np.zeros((0, size))] * len(X)
    else:
        values = np.zeros((*X.shape[:2], size))
    for rows, block in trials.blocks():
        for row, n, found in zip(rows, block.lengths, block.per_bin(function), strict=True):
            if isinstance(values, list):
                values[row] = found[:n].copy()
            else:
                values[row, :n] = found[:n]
    return restore(X, values, trials.lengths, dim, None)


@dataclass(frozen=True)
class _OnBlock:
    """The function on one block, its values checked like any other's."""

    function: Callable[[Trials], NDArray]
    names: NDArray  # ids of all trials
    time: NDArray | None
    unit: Any
    lengths: NDArray[np.int64]  # bins of all trials
    bin_size: float
    allow_nan: bool
    is_masked: bool

    def __call__(self, values: NDArray, positions: NDArray, *more: NDArray) -> NDArray:
        shown = [np.broadcast_to(part, (*values.shape[:2], part.shape[2])) for part in more]
        out = None
        for rows in alike(self.lengths[positions]):
            longest = int(self.lengths[positions[rows]].max(initial=1))  # what follows in all of them is padding
            cut = (slice(None) if len(rows) == len(values) else rows, slice(0, longest))
            found = self._on_part(values[cut], positions[rows], *(part[cut] for part in shown))
            if found.shape[:2] == values.shape[:2]:
                return found
            out = np.zeros((*values.shape[:2], found.shape[2])) if out is None else out
            out[rows, : found.shape[1]] = found
        return np.zeros((0, 0, 0)) if out is None else out

    def _on_part(self, values: NDArray, positions: NDArray, *more: NDArray) -> NDArray:
        """Return the results of trials of like length, none of which is longer than the array."""
        coords: dict[str, Any] = {"trial": self.names[positions] if self.names.ndim else positions}
        coords |= {} if self.time is None else {"time": self.time[: values.shape[1]]}
        coords |= {} if self.unit is None else {"unit": self.unit.values}
        X = xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords)
        if self.is_masked:
            dims = ("trial", "time", "unit") if more[0].shape[2] > 1 else ("trial", "time")
            X = X.assign_coords(observed=(dims, more[0] if len(dims) == 3 else more[0][..., 0]))
        inputs = more[-1] if len(more) > self.is_masked else None
        trials = as_trials(X, inputs=inputs, bin_size=self.bin_size, allow_nan=self.allow_nan, is_part=True)
        return np.asarray(trials.ended(self.lengths[positions]).per_bin(self.function), dtype=np.float64)
