"""The kinds of object a user may pass, read into one 2-D array per trial; any other layout is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

DIMS = ("trial", "time", "unit")


def read_units(X: Any, estimator: Any, reset: bool) -> tuple[list[NDArray], NDArray]:
    """Return the trials of X as 2-D float arrays, and the unit ids."""
    if isinstance(X, xr.Dataset):
        raise TypeError(f"X: got a Dataset of {list(X.data_vars)}, wanted one DataArray; pass X['name']")
    if isinstance(X, xr.DataArray):
        block, ids = _data_array(X, DIMS, "X")
        flat = _validated(estimator, block.reshape(-1, block.shape[-1]), reset)
        return list(flat.reshape(block.shape)), ids
    if is_list_of_trials(X):
        return _list_of_trials(X, estimator, reset)
    if getattr(X, "ndim", None) == 3:
        block = np.asarray(X)
        _refuse_empty(block.shape, "X", DIMS)
        flat = _validated(estimator, block.reshape(-1, block.shape[-1]), reset)
        return list(flat.reshape(block.shape)), np.arange(block.shape[-1])
    if getattr(X, "ndim", None) not in (None, 0, 1, 2):
        raise ValueError(f"X: got an array of shape {X.shape}, wanted (trial, time, unit) or (time, unit)")
    flat = _validated(estimator, X, reset)
    ids = np.asarray(X.columns) if isinstance(X, pd.DataFrame) else np.arange(flat.shape[1])
    return [flat], ids


def _validated(estimator: Any, X: Any, reset: bool) -> NDArray[np.float64]:
    """Return a 2-D float64 array checked by scikit-learn, whose messages users know; NaN is judged later."""
    from sklearn.utils.validation import check_array, validate_data

    options: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": False}
    if estimator is None:
        return np.asarray(check_array(X, **options))
    return np.asarray(validate_data(estimator, X, reset=reset, ensure_min_samples=2 if reset else 1, **options))


def _data_array(X: xr.DataArray, dims: tuple[str, str, str], name: str) -> tuple[NDArray, NDArray]:
    """Return a DataArray as an array (trial, time, last) and the ids of its last dim; refuse any other layout."""
    wanted = dims if "trial" in X.dims or X.ndim == 3 else dims[1:]
    if set(X.dims) == set(wanted) and X.dims != wanted:
        order = ", ".join(map(repr, wanted))
        raise ValueError(f"{name}: got dims {X.dims}, wanted {wanted}; call {name}.transpose({order})")
    if X.dims != wanted:
        raise ValueError(
            f"{name}: got dims {X.dims}, wanted {dims} or {dims[1:]}; "
            f"rename them, e.g. {name}.rename(neuron={dims[2]!r})"
        )
    _refuse_empty(X.shape, name, wanted)
    _check_even_time(X, name)
    values = np.asarray(X.data.compute() if hasattr(X.data, "compute") else X.data)
    block = values if X.ndim == 3 else values[None]
    ids = X[dims[2]].values if dims[2] in X.coords else np.arange(X.shape[-1])
    if len(np.unique(ids)) != len(ids):
        repeated = next(u for i, u in enumerate(ids) if u in ids[:i])
        raise ValueError(f"{name}: {dims[2]} {repeated!r} occurs twice, wanted unique ids along {dims[2]}")
    return block, ids


def _refuse_empty(shape: tuple[int, ...], name: str, dims: tuple[str, ...]) -> None:
    for dim, size in zip(dims, shape, strict=True):
        if size == 0:
            raise ValueError(f"{name}: got no {dim}s (shape {shape}), wanted at least one; check the selection")


def _check_even_time(X: xr.DataArray, name: str) -> None:
    if "time" not in X.coords or X.sizes["time"] < 3:
        return
    steps = np.diff(X["time"].values.astype(float))
    step = np.median(steps)
    uneven = np.flatnonzero(~(np.abs(steps - step) <= 1e-3 * abs(step)))
    if uneven.size:
        at = uneven[0]
        raise ValueError(
            f"{name}: the time coordinate is uneven: step {at} from {X['time'].values[at]:.6g} to "
            f"{X['time'].values[at + 1]:.6g} s differs from the median step {step:.6g} s; bin or resample it first"
        )


def is_list_of_trials(X: Any) -> bool:
    """Return whether X is a list of 2-D trials (a list of lists of numbers is one 2-D array)."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and getattr(X[0], "ndim", np.ndim(X[0])) == 2


def _list_of_trials(X: Sequence, estimator: Any, reset: bool) -> tuple[list[NDArray], NDArray]:
    blocks, first_ids = [], None
    for k, trial in enumerate(X):
        if isinstance(trial, xr.DataArray):
            block, ids = _data_array(trial, DIMS, f"X[{k}]")
            block = block[0]
        else:
            block = np.asarray(trial)
            ids = np.asarray(trial.columns) if isinstance(trial, pd.DataFrame) else np.arange(block.shape[-1])
            if block.ndim != 2:
                raise ValueError(f"X: trial {k} has shape {block.shape}, wanted (time, unit) like the first")
            _refuse_empty(block.shape, f"X[{k}]", DIMS[1:])
        first_ids = ids if first_ids is None else first_ids
        if not np.array_equal(ids, first_ids):
            raise ValueError(
                f"X: trial {k} has {len(ids)} units, wanted the {len(first_ids)} units of trial 0, in order"
            )
        blocks.append(block)
    flat = _validated(estimator, np.concatenate(blocks), reset)
    return np.split(flat, np.cumsum([len(b) for b in blocks])[:-1]), np.asarray(first_ids)


def read_inputs(inputs: Any, X: Any, lengths: NDArray, longest: int) -> tuple[NDArray, NDArray]:
    """Return inputs padded to (trial, time, input), and their ids."""
    dims = ("trial", "time", "input")
    if isinstance(inputs, xr.DataArray):
        block, ids = _data_array(inputs, dims, "inputs")
        _check_same_time(inputs, X)
        blocks = list(block)
    elif is_list_of_trials(inputs):
        blocks = [
            _data_array(u, dims, "inputs")[0][0] if isinstance(u, xr.DataArray) else np.asarray(u) for u in inputs
        ]
        ids = np.arange(blocks[0].shape[-1])
    else:
        ids = np.asarray(inputs.columns) if isinstance(inputs, pd.DataFrame) else None
        block = np.asarray(inputs, dtype=np.float64)
        if block.ndim not in (2, 3):
            raise ValueError(f"inputs: got shape {block.shape}, wanted (trial, time, input)")
        blocks = list(block) if block.ndim == 3 else [block]
        ids = np.arange(block.shape[-1]) if ids is None else ids
    shapes = [b.shape for b in blocks]
    wanted = [(int(n), len(ids)) for n in lengths]
    if shapes != wanted:
        at = next((k for k, (a, b) in enumerate(zip(shapes, wanted, strict=False)) if a != b), 0)
        raise ValueError(
            f"inputs: got {len(shapes)} trials, the first that differs of shape {shapes[at]}; wanted {len(wanted)} "
            f"trials and {wanted[at]} (time, input) there, the trials and bins of X"
        )
    padded = np.zeros((len(blocks), longest, len(ids)))
    for k, b in enumerate(blocks):
        padded[k, : len(b)] = b
    if not np.isfinite(padded).all():
        k, t, j = np.argwhere(~np.isfinite(padded))[0]
        raise ValueError(
            f"inputs: not finite at trial {k}, bin {t}, input {ids[j]}; wanted finite values; fill the gap first"
        )
    return padded, ids


def _check_same_time(inputs: xr.DataArray, X: Any) -> None:
    if not isinstance(X, xr.DataArray):
        return
    for dim in ("trial", "time"):
        if dim in inputs.coords and dim in X.coords and inputs.sizes[dim] == X.sizes[dim]:
            a, b = inputs[dim].values, X[dim].values
            same = np.allclose(a, b, rtol=0, atol=1e-6) if a.dtype.kind == b.dtype.kind == "f" else np.array_equal(a, b)
            if not same:
                raise ValueError(f"inputs: its {dim} coordinate differs from that of X; take both from one selection")
