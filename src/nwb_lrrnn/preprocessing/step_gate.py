"""The gate of the steps: X as parts, checked by the gate of the models; results go back in the kind of X."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.preprocessing.rectangles import BlockPlace, Rectangle
from nwb_lrrnn.trials import (
    DIMS,
    as_frame,
    as_trials,
    is_lazy,
    is_list_of_trials,
    is_pynapple,
    like_pynapple,
    observed_flags,
    read_units,
    refuse_unreadable,
    time_step,
    times_of,
    zeroed,
)


@dataclass(frozen=True)
class Parts:
    """X as a step sees it.

    Attributes
    ----------
    source : object
        X as the user gave it.
    parts : list of Rectangle
        One, or one for every trial of a list.
    bin_size : float
        Seconds, or 1.0 when unknown.
    bin_size_is_known : bool
    unit_ids : array (unit,)
    """

    source: Any
    parts: list[Rectangle]
    bin_size: float
    bin_size_is_known: bool
    unit_ids: NDArray

    def restore(self, results: Sequence[Any], step: str, **changes: Any) -> Any:
        """Return one result (trial, time, unit) for each part in the kind of X, the step noted in its attrs."""
        back = [
            restore_part(part.source, values, step, **changes) for part, values in zip(self.parts, results, strict=True)
        ]
        return back if is_list_of_trials(self.source) else back[0]


def read(X: Any, estimator: Any, *, reset: bool) -> Parts:
    """Return X as `Parts`, nothing computed; what the gate of the models refuses is refused here, in its words."""
    lazy = is_lazy(X) and not isinstance(X, xr.Dataset)
    refuse_unreadable(X)
    if not lazy:  # every check of values is made on the values
        values, lengths, _ = read_units(as_frame(X), None, reset)
        blocks = [values[k : k + 1, :n] for k, n in enumerate(lengths)] if is_list_of_trials(X) else [values]
    form = as_trials(_stand_in(as_frame(X)), estimator=estimator, reset=reset, allow_nan=True)
    if lazy:
        blocks = [_array(trial) for trial in (X if is_list_of_trials(X) else [X])]
    sources = list(X) if is_list_of_trials(X) else [X]
    parts = [
        Rectangle(source, block, _observed(source), _place(source, k, form.unit_ids, block.shape))
        for k, (source, block) in enumerate(zip(sources, blocks, strict=True))
    ]
    return Parts(X, parts, form.bin_size, form.bin_size_is_known, form.unit_ids)


def _stand_in(X: Any) -> Any:
    """Return the first bins of the first trials with zeros for values: all that the form of X says, and no data."""
    if is_list_of_trials(X):
        return [_stand_in(trial) for trial in X]
    if isinstance(X, xr.DataArray):
        return _stand_in_of_array(X)
    if isinstance(X, pd.DataFrame):
        step, times = time_step(X, "X"), times_of(X)
        index = None if step is None or times is None else float(times[0]) + step * np.arange(2)
        frame = pd.DataFrame(np.zeros((min(2, len(X)), X.shape[1])), columns=X.columns, index=index)
        frame.attrs = X.attrs
        return frame
    shape = X.shape if hasattr(X, "shape") else np.asarray(X).shape
    return np.zeros([min(2, n) for n in shape[:-1]] + [shape[-1]])


def _stand_in_of_array(X: xr.DataArray) -> xr.DataArray:
    dtype = np.dtype(np.float64) if X.dtype.kind in "biuf" else X.dtype
    if X.dims not in (DIMS, DIMS[1:]):  # refused for its dims
        return X.copy(data=np.broadcast_to(np.zeros((), dtype), X.shape))
    step = time_step(X, "X")
    cut = X[tuple(slice(0, 2) for _ in X.dims[:-1])]
    cut = zeroed(cut, dtype)
    return cut if step is None else cut.assign_coords(time=float(X["time"][0]) + step * np.arange(2))


def _array(source: Any) -> Any:
    """Return a trial or a recording on dask as a dask array (trial, time, unit)."""
    import dask.array as da

    data = da.asarray(source.data if isinstance(source, xr.DataArray) else source)
    return data if data.ndim == 3 else data[None]


def _observed(source: Any) -> Any:
    """Return the coordinate `observed` with axes (trial, time, unit), of length 1 where it lacks the dim, or None."""
    if not (isinstance(source, xr.DataArray) and "observed" in source.coords):
        return None
    return observed_flags(source.coords["observed"].variable)


def _place(source: Any, number: int, unit_ids: NDArray, shape: tuple[int, ...]) -> BlockPlace:
    trial_ids, times, first, step = np.arange(number, number + shape[0]), None, 0.0, 1.0
    if isinstance(source, xr.DataArray):
        if "trial" in source.coords:
            trial_ids = np.atleast_1d(source["trial"].values)
        if "time" in source.coords:
            first, step = float(source["time"][0]), time_step(source, "X") or 1.0
    elif isinstance(source, pd.DataFrame):
        times = source.index
    elif is_pynapple(source):
        times = pd.Index(source.t)
    return BlockPlace(trial_ids, unit_ids, times, first, step)


def restore_part(source: Any, values: Any, step: str, *, unit: str | None = None, **more: Any) -> Any:
    """Return values (trial, time, unit) in the kind of `source`, its labels and attrs kept.

    Parameters
    ----------
    source : DataArray, DataFrame or array
    values : array (trial, time, unit)
    step : str
        What was done, noted in attrs["preprocessing"].
    unit : str, optional
        Unit of measure of the result, where the source says its own (which takes the place of {}).
    more : values of attrs
    """
    if isinstance(source, xr.DataArray):
        result = source.copy(deep=False, data=values if source.ndim == 3 else values[0])
    elif isinstance(source, pd.DataFrame):
        result = pd.DataFrame(values[0], index=source.index, columns=source.columns)
    elif is_pynapple(source):
        return like_pynapple(source, values[0], list(as_frame(source).columns))
    else:
        return values if getattr(source, "ndim", None) == 3 else values[0]
    attrs: dict[Any, Any] = {**remembered(source.attrs, step), **more}
    if unit is not None and "units" in attrs:
        attrs["units"] = unit.replace("{}", str(attrs["units"]))
    result.attrs = attrs
    return result


def remembered(attrs: Mapping[Any, Any], step: str) -> dict[Any, Any]:
    """Return a copy of attrs in which `preprocessing` names one step more.

    >>> remembered({"bin_size": 0.1}, "ZScore()")
    {'bin_size': 0.1, 'preprocessing': ['ZScore()']}
    """
    steps = attrs.get("preprocessing", [])
    return dict(attrs) | {"preprocessing": [*([steps] if isinstance(steps, str) else map(str, steps)), step]}
