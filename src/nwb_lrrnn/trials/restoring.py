"""Results go back in the kind the user gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials.kinds import is_list_of_trials
from nwb_lrrnn.trials.timed_kinds import is_pynapple, like_pynapple


def restore(source: Any, values: Any, lengths: NDArray, dim: str, ids: Sequence | np.ndarray | None) -> Any:
    """Return values (trial, time, k) in the kind of `source`, with the last dim named `dim`; dask arrays stay lazy.

    For a list of trials, a list of (time, k) will do.
    """
    if is_list_of_trials(source):
        return [_restore_one(trial, values[k][: lengths[k]], dim, ids) for k, trial in enumerate(source)]
    if isinstance(source, xr.DataArray) and source.ndim == 3:
        return _like(source, values, dim, ids)
    if getattr(source, "ndim", None) == 3:
        return values
    return _restore_one(source, values[0], dim, ids)


def _restore_one(source: Any, values: Any, dim: str, ids: Sequence | np.ndarray | None) -> Any:
    if isinstance(source, xr.DataArray):
        return _like(source, values, dim, ids)
    if isinstance(source, pd.DataFrame):
        columns = [f"{dim}{k}" for k in range(values.shape[1])] if ids is None else list(ids)
        frame = pd.DataFrame(values, index=source.index, columns=columns)
        frame.attrs = dict(source.attrs)
        return frame
    if is_pynapple(source):
        return like_pynapple(
            source, values, [f"{dim}{k}" for k in range(values.shape[1])] if ids is None else list(ids)
        )
    return values


def _like(source: xr.DataArray, values: Any, dim: str, ids: Sequence | np.ndarray | None) -> xr.DataArray:
    gone = [name for name, c in source.coords.items() if "unit" in c.dims or name in ("unit_kind", dim)]
    coords = source.drop_vars(gone).coords  # as one object, which keeps the indexes as they are
    attrs = {key: source.attrs[key] for key in ("bin_size", "source", "preprocessing") if key in source.attrs}
    if dim == "latent":
        attrs |= {"long_name": "latents", "units": "a.u."}
        ids = np.arange(values.shape[-1]) if ids is None else ids
    array = xr.DataArray(values, coords=coords, dims=(*source.dims[:-1], dim), name=dim + "s", attrs=attrs)
    return array if ids is None else array.assign_coords({dim: np.asarray(ids)})
