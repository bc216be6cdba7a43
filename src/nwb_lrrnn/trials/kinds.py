"""The kinds of object a user may pass, read into one padded array of trials; any other layout is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials.labels import DIMS, time_step
from nwb_lrrnn.trials.timed_kinds import as_frame, is_pynapple


def read_units(X: Any, estimator: Any, reset: bool) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray]:
    """Return X padded to (trial, time, unit), the number of bins of each trial, and the unit ids."""
    if isinstance(X, xr.Dataset):
        raise TypeError(f"X: got a Dataset of {list(X.data_vars)}, wanted one DataArray; pass X['name']")
    if is_list_of_trials(X):
        blocks, ids = _list_of_trials(X)
        frames = all(isinstance(trial, pd.DataFrame) for trial in X)  # together, so that their names are checked
        whole = pd.concat(X, ignore_index=True) if frames else np.concatenate(blocks)
        flat = _validated(estimator, whole, reset, units_are_named(X))
        lengths = np.array([len(block) for block in blocks], dtype=np.int64)
        return pad(np.split(flat, np.cumsum(lengths)[:-1]), lengths), lengths, ids
    _refuse_masked(X, "X")
    ndim = getattr(X, "ndim", None)
    if isinstance(X, xr.DataArray):
        block, ids = _data_array(X, DIMS, "X")
    elif ndim == 3:
        block = np.asarray(X)
        _refuse_empty(block.shape, "X", DIMS)
        ids = np.arange(block.shape[-1])
    elif ndim is not None and ndim > 3:
        raise ValueError(f"X: got an array of shape {X.shape}, wanted (trial, time, unit) or (time, unit)")
    else:
        ids = _columns(X, "X", "unit") if isinstance(X, pd.DataFrame) else None
        flat = _validated(estimator, X, reset)
        return flat[None], np.array([len(flat)]), np.arange(flat.shape[1]) if ids is None else ids
    flat = _validated(estimator, block.reshape(-1, block.shape[-1]), reset, units_are_named(X))
    return flat.reshape(block.shape), np.full(len(block), block.shape[1]), ids


def is_list_of_trials(X: Any) -> bool:
    """Return whether X is a list of trials (a list of lists of numbers is one 2-D array)."""
    return isinstance(X, (list, tuple)) and len(X) > 0 and _ndim(X[0]) == 2


def units_are_named(X: Any) -> bool:
    """Return whether X says what its units are called."""
    first = as_frame(X[0] if is_list_of_trials(X) else X)
    if isinstance(first, xr.DataArray):
        return "unit" in first.coords
    return isinstance(first, pd.DataFrame) and not first.columns.equals(pd.RangeIndex(first.shape[1]))


def pad(blocks: Sequence[NDArray], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 2-D blocks as one array (trial, time, column), 0 after the end of each."""
    values = np.zeros((len(blocks), int(lengths.max()), blocks[0].shape[1]))
    for k, block in enumerate(blocks):
        values[k, : len(block)] = block
    return values


def read_inputs(inputs: Any, X: Any, lengths: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray]:
    """Return inputs padded to (trial, time, input), and their ids; they must have the trials and bins of X."""
    if isinstance(inputs, xr.Dataset):
        raise TypeError(
            f"inputs: got a Dataset of {list(inputs.data_vars)}, wanted one DataArray; call .to_dataarray('input')"
        )
    if is_list_of_trials(inputs):
        blocks, ids = _list_of_trials(inputs, "inputs", "input")
    else:
        block, ids = _one_block(inputs)
        blocks = list(block)
    for one, other in zip(
        inputs if is_list_of_trials(inputs) else [inputs], X if is_list_of_trials(X) else [X], strict=False
    ):
        _check_same_coordinates(one, other)
    shapes = [block.shape for block in blocks]
    wanted = [(int(n), len(ids)) for n in lengths]
    if len(shapes) != len(wanted):
        raise ValueError(f"inputs: got {len(shapes)} trials, wanted {len(wanted)}, the trials of X")
    for k, (got, want) in enumerate(zip(shapes, wanted, strict=True)):
        if got != want:
            raise ValueError(f"inputs: got shape {got} in trial {k}, wanted {want}, (time, input) with the bins of X")
    padded = pad([_numbers(block, "inputs") for block in blocks], lengths)
    if not np.isfinite(padded).all():
        k, t, j = np.argwhere(~np.isfinite(padded))[0]
        raise ValueError(
            f"inputs: not finite at trial {k}, bin {t}, input {ids[j]}; wanted finite values; fill the gap first"
        )
    return padded, ids


def _one_block(inputs: Any) -> tuple[NDArray, NDArray]:
    dims = ("trial", "time", "input")
    if isinstance(inputs, xr.DataArray):
        return _data_array(inputs, dims, "inputs")
    _refuse_masked(inputs, "inputs")
    block = _numbers(inputs, "inputs")
    if block.ndim not in (2, 3):
        raise ValueError(f"inputs: got shape {block.shape}, wanted (trial, time, input) or (time, input)")
    block = block if block.ndim == 3 else block[None]
    _refuse_empty(block.shape, "inputs", dims)
    ids = _columns(inputs, "inputs", "input") if isinstance(inputs, pd.DataFrame) else np.arange(block.shape[-1])
    return block, ids


def _validated(estimator: Any, X: Any, reset: bool, is_named: bool = False) -> NDArray[np.float64]:
    """Return a 2-D float64 array checked by scikit-learn, whose messages users know; NaN is judged later.

    `is_named` says whether X came with names of units.
    """
    from sklearn.utils.validation import check_array, validate_data

    if getattr(getattr(X, "dtype", None), "kind", "") in ("m", "M"):
        raise TypeError(f"X: got values of type {X.dtype}, wanted numbers")
    # in one layout: that of X must change no digit, and kernels are compiled for each
    options: dict[str, Any] = {"dtype": np.float64, "order": "C", "ensure_all_finite": False}
    if estimator is not None and not reset:
        X = _in_terms_of_fit(estimator, X, is_named)
    try:
        if estimator is None:
            return np.asarray(check_array(X, **options))
        return np.asarray(validate_data(estimator, X, reset=reset, ensure_min_samples=2 if reset else 1, **options))
    except TypeError as error:
        raise TypeError(f"X: {error}") from error
    except ValueError as error:
        raise ValueError(f"X: {error}") from error


def _in_terms_of_fit(estimator: Any, X: Any, is_named: bool) -> Any:
    """Return X such that scikit-learn compares names of columns only between data frames.

    Where one of fit and X was a data frame and the other a DataArray, it would warn of missing names; units are
    compared by their ids afterwards.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if isinstance(X, pd.DataFrame):
        return X.set_axis(np.arange(X.shape[1]), axis=1) if names is None else X
    if names is not None and is_named and X.shape[1] == len(names):
        return pd.DataFrame(X, columns=names, copy=False)
    return X


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
    time_step(X, name)
    values = X.values
    ids = np.arange(X.shape[-1])
    if dims[2] in X.coords:
        _refuse_multi_index(X.indexes.get(dims[2]), name, dims[2])
        ids = _unique(X[dims[2]].values, name, dims[2])
    return values if X.ndim == 3 else values[None], ids


def _list_of_trials(X: Sequence, name: str = "X", dim: str = "unit") -> tuple[list[NDArray], NDArray]:
    """Return a list of 2-D trials as arrays (time, `dim`), and the ids they share."""
    blocks, first_ids = [], np.arange(0)
    for k, trial in enumerate(X):
        _refuse_masked(trial, f"{name}[{k}]")
        if _ndim(trial) != 2:
            raise ValueError(f"{name}: trial {k} has {_ndim(trial)} dims, wanted (time, {dim}) like the first")
        if isinstance(trial, xr.DataArray):
            block, ids = _data_array(trial, ("trial", "time", dim), f"{name}[{k}]")
            block = block[0]
        else:
            block = _array(trial, f"{name}[{k}]")
            _refuse_empty(block.shape, f"{name}[{k}]", ("time", dim))
            named = isinstance(trial, pd.DataFrame)
            ids = _columns(trial, f"{name}[{k}]", dim) if named else np.arange(block.shape[-1])
        first_ids = ids if k == 0 else first_ids
        if len(ids) != len(first_ids):
            raise ValueError(f"{name}: trial {k} has {len(ids)} {dim}s, wanted {len(first_ids)} like trial 0")
        if not np.array_equal(ids, first_ids):
            at = next(i for i, (a, b) in enumerate(zip(ids, first_ids, strict=True)) if a != b)
            raise ValueError(
                f"{name}: {dim} {at} of trial {k} is {ids[at]}, wanted {first_ids[at]}: the {dim}s of trial 0, in order"
            )
        blocks.append(block)
    return blocks, first_ids


def _check_same_coordinates(inputs: Any, X: Any) -> None:
    if not (isinstance(X, xr.DataArray) and isinstance(inputs, xr.DataArray)):
        return
    for dim in ("trial", "time"):
        if dim in inputs.indexes and dim in X.indexes and inputs.sizes[dim] == X.sizes[dim]:
            a, b = inputs[dim].values, X[dim].values
            numbers = a.dtype.kind in "iuf" and b.dtype.kind in "iuf"
            if not (np.allclose(a, b, rtol=0, atol=1e-6) if numbers else np.array_equal(a, b)):
                raise ValueError(f"inputs: its {dim} coordinate differs from that of X; take both from one selection")


def _ndim(X: Any) -> int:
    if is_pynapple(X):
        return 2 if X.ndim == 1 else X.ndim  # a Tsd is one unit
    if isinstance(X, (list, tuple)):
        return 1 + (_ndim(X[0]) if X else 0)
    return getattr(X, "ndim", 0)


def _array(X: Any, name: str) -> NDArray:
    try:
        return np.asarray(X)
    except ValueError as error:
        raise ValueError(f"{name}: got rows of unequal length, wanted a rectangle of numbers") from error


def _numbers(X: Any, name: str) -> NDArray[np.float64]:
    array = _array(X, name)
    if array.dtype.kind in "mMc":
        raise TypeError(f"{name}: got values of type {array.dtype}, wanted real numbers")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: got values that are no numbers ({error}), wanted real numbers") from error


def _columns(frame: pd.DataFrame, name: str, dim: str) -> NDArray:
    _refuse_multi_index(frame.columns, name, dim)
    return _unique(np.asarray(frame.columns), name, dim)


def _unique(ids: NDArray, name: str, dim: str) -> NDArray:
    repeated = pd.Index(ids).duplicated()
    if repeated.any():
        raise ValueError(f"{name}: {dim} {ids[repeated][0]} occurs twice, wanted unique ids along {dim}")
    return ids


def _refuse_multi_index(index: Any, name: str, dim: str) -> None:
    if isinstance(index, pd.MultiIndex):
        levels = ", ".join(map(str, index.names))
        raise ValueError(
            f"{name}: {dim}s are named by several levels ({levels}), wanted one id each; flatten the index"
        )


def _refuse_masked(X: Any, name: str) -> None:
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"{name}: got a masked array, wanted a boolean coordinate 'observed' on a DataArray, or NaN where the "
            f"model takes it: {name}.astype(float).filled(np.nan)"
        )


def _refuse_empty(shape: tuple[int, ...], name: str, dims: tuple[str, ...]) -> None:
    for dim, size in zip(dims, shape, strict=True):
        if size == 0:
            raise ValueError(f"{name}: got no {dim}s (shape {shape}), wanted at least one; check the selection")
