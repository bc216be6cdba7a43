"""What the labels of X say without its values: time steps and bin sizes, what is observed, where an entry is."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.trials.timed_kinds import refuse_shuffled, times_of

DIMS = ("trial", "time", "unit")
SAME_STEP = 1e-3  # relative: time coordinates in single precision step so unevenly


def bin_size_of(source: Any, name: str, given: float | None) -> tuple[float, bool]:
    """Return the bin size of an array or a trial called `name`, and whether it is known; 1.0 where it is not."""
    attrs = getattr(source, "attrs", None)
    stated = attrs.get("bin_size") if isinstance(attrs, Mapping) else None
    whose = f"{name}.attrs['bin_size']" if stated is not None else "bin_size="
    stated = given if stated is None else stated
    step = time_step(source, name) if isinstance(source, (xr.DataArray, pd.DataFrame)) else None
    if stated is None:
        return (1.0, False) if step is None else (step, True)
    number = stated.item() if isinstance(stated, np.ndarray) and stated.ndim == 0 else stated
    is_number = isinstance(number, numbers.Real) and not isinstance(number, (bool, np.bool_))
    if not (is_number and 0 < float(number) < np.inf):
        raise ValueError(f"bin_size: got {stated!r}, wanted seconds > 0")
    number = float(number)
    if step is not None and abs(step - number) > SAME_STEP * number:
        what = "index" if isinstance(source, pd.DataFrame) else "time coordinate"
        raise ValueError(
            f"bin_size: got {number:.6g} s, but the {what} steps by {step:.6g} s; "
            f"correct {whose} or the {what.split()[-1]}"
        )
    return number, True


def time_step(X: Any, name: str) -> float | None:
    """Return the step of the times of a DataArray or a DataFrame in seconds, None where there are none.

    Uneven ones are refused.
    """
    if isinstance(X, pd.DataFrame):
        refuse_shuffled(X, name)
        times = times_of(X)
        return None if times is None else _step_of(times, name, "index", f"{name}.sort_index()")
    if "time" not in X.coords:
        return None
    if _is_even(X):  # millions of times need not be written out to find their step
        first, last = X["time"].variable[[0, -1]].values
        return float((last - first) / (X.sizes["time"] - 1))
    time = X["time"].values
    if time.dtype.kind not in "iuf":
        fix = "convert it to seconds"
        if time.dtype.kind in "mM":
            fix = f"call {name}.assign_coords(time=({name}.time - {name}.time[0]) / np.timedelta64(1, 's'))"
        raise ValueError(f"{name}: the time coordinate is of type {time.dtype}, wanted seconds as numbers; {fix}")
    return _step_of(time.astype(float), name, "time coordinate", f"{name}.sortby('time')")


def _step_of(time: np.ndarray, name: str, what: str, sort: str) -> float | None:
    """Return the step of times (time,) in seconds, None of a single one; refuse uneven ones."""
    if not np.isfinite(time).all():
        raise ValueError(f"{name}: the {what} is not finite at bin {np.flatnonzero(~np.isfinite(time))[0]}")
    if len(time) < 2:
        return None
    steps = np.diff(time)
    if (steps <= 0).any():
        at = np.flatnonzero(steps <= 0)[0]
        raise ValueError(
            f"{name}: the {what} does not increase: {time[at]:.6g} is followed by {time[at + 1]:.6g}; call {sort}"
        )
    step = np.median(steps)
    uneven = np.flatnonzero(np.abs(steps - step) > 1e-3 * step)
    if uneven.size:
        at = uneven[0]
        raise ValueError(
            f"{name}: the {what} is uneven: step {at} from {time[at]:.6g} to {time[at + 1]:.6g} s differs "
            f"from the median step {step:.6g} s; bin or resample it first"
        )
    return float((time[-1] - time[0]) / (len(time) - 1))


def _is_even(X: xr.DataArray) -> bool:
    """Return whether times are two numbers and a count, which makes even ones that increase."""
    index = X.xindexes.get("time")
    if not isinstance(index, xr.indexes.RangeIndex) or X.sizes["time"] < 2 or X["time"].dtype.kind != "f":
        return False
    return bool(np.isfinite(index.start) and np.isfinite(index.step) and index.step > 0)


def observed_flags(coord: xr.Variable) -> Any:
    """Return the coordinate `observed` as booleans on all dims (see `on_all_dims`); lazy where it is."""
    data = on_all_dims(coord)
    if data.dtype == bool:
        return data
    if not isinstance(data, np.ndarray) or not np.isin(data, (0, 1)).all():
        raise ValueError(f"observed: got values of type {data.dtype}, wanted booleans; see X.observed")
    return data.astype(bool)


def on_all_dims(coord: xr.Variable) -> Any:
    """Return the data of a coordinate with axes (trial, time, unit), of length 1 where it lacks the dim."""
    data: Any = coord.transpose(*(dim for dim in DIMS if dim in coord.dims)).data
    return data.reshape([coord.sizes.get(dim, 1) for dim in DIMS])


def zeroed(array: xr.DataArray, dtype: Any = None) -> xr.DataArray:
    """Return zeros in the form of a DataArray, nothing of it computed: without lazy coordinates and `observed`."""
    values = [name for name, coord in array.coords.items() if coord.chunks is not None or name == "observed"]
    return array.drop_vars(values).copy(data=np.zeros(array.shape, dtype=array.dtype if dtype is None else dtype))


def entry_name(trial: Any, time: Any, unit: Any) -> str:
    """Return where an entry is, in the user's coordinates: 'trial 3, time 0.25, unit 17'."""
    shown = f"{time:.6g}" if isinstance(time, numbers.Real) else str(time)
    return f"trial {trial}, time {shown}, unit {unit}"
