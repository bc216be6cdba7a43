"""Recordings that are not in memory: dask arrays, alone, in a DataArray or in a list of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.trials.kinds import is_list_of_trials
from nwb_lrrnn.trials.labels import DIMS, zeroed


def is_lazy(X: Any) -> bool:
    """Return whether X, or one of its trials, is backed by dask."""
    if is_list_of_trials(X):
        return any(is_lazy(trial) for trial in X)
    if isinstance(X, xr.DataArray):
        return X.chunks is not None
    return hasattr(type(X), "__dask_graph__") and isinstance(getattr(X, "chunks", None), tuple)


def has_trial_ids(X: Any) -> bool:
    """Return whether X says what its trials are called."""
    return isinstance(X, xr.DataArray) and "trial" in X.coords


def labelled(X: Any, last: str) -> Any:
    """Return X as a DataArray or a list of DataArrays, nothing computed.

    DataArrays come back as they are, so that a layout that is refused is refused in the user's words.
    """
    if is_list_of_trials(X):
        odd = next((k for k, trial in enumerate(X) if np.ndim(trial) != 2), None)
        if odd is not None:
            raise ValueError(f"X: trial {odd} has {np.ndim(X[odd])} dims, wanted (time, {last}) like the first")
        return [labelled(trial, last) for trial in X]
    if isinstance(X, xr.DataArray):
        return X
    if isinstance(X, pd.DataFrame):
        return xr.DataArray(X.to_numpy(), dims=("time", last), coords={last: np.asarray(X.columns)})
    data = X if hasattr(X, "ndim") else np.asarray(X)
    if data.ndim not in (2, 3):
        raise ValueError(f"got an array of shape {data.shape}, wanted (trial, time, {last}) or (time, {last})")
    return xr.DataArray(data, dims=(*DIMS[:2], last)[-data.ndim :])


def refuse_unreadable(X: Any, name: str = "X") -> None:
    """Refuse what is on dask and has no known shape, or no numbers; blocks would fail only when they are computed."""
    if is_list_of_trials(X):
        for k, trial in enumerate(X):
            refuse_unreadable(trial, f"{name}[{k}]")
        return
    if not is_lazy(X):
        return
    if np.isnan(X.shape).any():
        array = f"{name}.data" if isinstance(X, xr.DataArray) else name
        raise ValueError(
            f"{name}: got chunks of unknown size (shape {X.shape}), wanted known ones; "
            f"call {array}.compute_chunk_sizes() first"
        )
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{name}: got values of type {X.dtype}, wanted real numbers; call {name}.astype(float)")


def numbered(X: Any) -> Any:
    """Return a labelled recording whose trials have ids, so that messages name trials by their place in the whole."""
    if isinstance(X, list):
        return [t if "trial" in t.coords else t.assign_coords(trial=k) for k, t in enumerate(X)]
    if X.ndim == 3 and X.dims[0] == "trial" and "trial" not in X.coords:
        return X.assign_coords(trial=np.arange(X.shape[0]))
    return X


def lengths_of(X: Any) -> np.ndarray:
    """Return the bins (trial,) of each trial of a labelled recording."""
    if isinstance(X, list):
        return np.array([trial.shape[0] for trial in X], dtype=np.int64)
    n_trials = X.shape[0] if X.ndim == 3 else 1
    return np.full(n_trials, X.shape[-2], dtype=np.int64)


def rows_of(X: Any, rows: Sequence[int] | np.ndarray, n_bins: int | None = None) -> Any:
    """Return some trials of a labelled recording, of an array at most `n_bins` of each, nothing computed."""
    if isinstance(X, list):
        return [X[k] for k in rows]
    if X.ndim == 2:
        return X[:n_bins]
    rows = np.asarray(rows)
    if len(rows) and (np.diff(rows) == 1).all():  # a slice keeps the chunks of dask together
        return X[int(rows[0]) : int(rows[-1]) + 1, :n_bins]
    return X[rows, :n_bins]  # in one step: dask then asks a file for these bins alone


def computed(X: Any) -> Any:
    """Return a labelled recording in memory."""
    if not is_lazy(X):
        return X
    from dask import config
    from dask.base import compute
    from dask.system import CPU_COUNT

    # Outside of the main thread dask starts four threads more than there are cores, each with blocks of its own.
    found = compute(*(X if isinstance(X, list) else [X]), num_workers=config.get("num_workers", None) or CPU_COUNT)
    return list(found) if isinstance(X, list) else found[0]


def stand_in(X: Any) -> Any:
    """Return the first trial of a labelled recording with zeros for values: what its form says without its values."""
    first = rows_of(X, [0])
    return [zeroed(trial) for trial in first] if isinstance(first, list) else zeroed(first)


def chunk_edges(X: Any) -> np.ndarray:
    """Return where the chunks of a labelled recording along trials end, the last being the number of trials."""
    if isinstance(X, list):
        return np.arange(1, len(X) + 1)
    if X.ndim == 2:
        return np.array([1])
    sizes = X.chunks[0] if X.chunks is not None else (X.shape[0],)
    return np.cumsum(sizes)
