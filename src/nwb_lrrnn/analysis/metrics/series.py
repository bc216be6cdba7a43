"""What the metrics accept, read as arrays (trial, time, unit); the message names the argument that does not fit."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials import bin_size_of

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]


def read_series(name: str, X: Any) -> Array:
    """Return X as float64 (trial, time, unit), a 2-D recording being one trial."""
    if isinstance(X, xr.DataArray):
        wanted = ("trial", "time", "unit")[-X.ndim :] if X.ndim in (2, 3) else ("trial", "time", "unit")
        if X.dims != wanted:
            raise ValueError(f"{name}: got dims {X.dims}, wanted {wanted}; transpose or rename them")
        if "observed" in X.coords and not bool(X["observed"].all()):
            raise ValueError(f"{name}: some bins are not observed, wanted every bin; select trials without gaps")
    try:
        values = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: got no array of numbers ({error}), wanted (trial, time, unit) or (time, unit)"
        ) from None
    if values.ndim not in (2, 3) or not values.size:
        raise ValueError(f"{name}: got shape {values.shape}, wanted (trial, time, unit) or (time, unit), none empty")
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: got values that are not finite, wanted finite ones; interpolate or drop them")
    return values if values.ndim == 3 else values[None]


def read_pair(data: Any, generated: Any, *, same_bins: bool = False) -> tuple[Array, Array]:
    """Return both as (trial, time, unit), of the same units and, on request, the same bins in a trial."""
    first, second = read_series("data", data), read_series("generated", generated)
    if first.shape[2] != second.shape[2]:
        raise ValueError(f"generated: got {second.shape[2]} units, wanted {first.shape[2]}, the units of data")
    if same_bins and first.shape[1] != second.shape[1]:
        raise ValueError(
            f"generated: got trials of {second.shape[1]} bins, wanted {first.shape[1]} as in data; cut the longer one"
        )
    return first, second


def like(X: Any, values: Array) -> Any:
    """Return values (trial, time, unit) in the kind and shape of X."""
    if isinstance(X, xr.DataArray):
        return X.copy(data=values.reshape(X.shape))
    if isinstance(X, pd.DataFrame):
        frame = pd.DataFrame(values[0], index=X.index, columns=X.columns)
        frame.attrs = dict(X.attrs)
        return frame
    return values.reshape(np.shape(X))


def unit_ids(X: Any, n_units: int) -> NDArray:
    """Return the names of the units of X, 0..D-1 where it has none."""
    if isinstance(X, pd.DataFrame):
        return np.asarray(X.columns)
    return X["unit"].values if isinstance(X, xr.DataArray) and "unit" in X.coords else np.arange(n_units)


def bin_size(X: Any) -> float:
    """Return the bin size of X in seconds, from its attributes or its times; 1.0 where it has neither."""
    if isinstance(X, pd.DataFrame) and "bin_size" not in X.attrs:
        index = np.asarray(X.index)
        step = np.diff(index[:2]) if index.dtype.kind == "f" and len(index) > 1 else [1.0]
        return float(step[0]) if step[0] > 0 else 1.0
    return bin_size_of(X, "data", None)[0]


def moving_units(data: Any, values: Array) -> NDArray[np.bool_]:
    """Return which units change within a trial (unit,), values (trial, time, unit); the log names those that do not."""
    moves = np.ptp(values, axis=1).any(axis=0)
    if not moves.any():
        raise ValueError("data: no unit changes within a trial, wanted one at least; choose other trials or units")
    if not moves.all():
        still = ", ".join(str(one) for one in unit_ids(data, values.shape[2])[~moves])
        logger.warning("data: left out, since they never change within a trial here: units %s", still)
    return moves


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least `least`, or say that it is none."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise ValueError(f"{name}: got {value!r}, wanted a whole number of at least {least}")


def positive(name: str, value: Any) -> float:
    """Return a finite number > 0, or say that it is none."""
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 < value < np.inf:
        return float(value)
    raise ValueError(f"{name}: got {value!r}, wanted a finite number > 0")
