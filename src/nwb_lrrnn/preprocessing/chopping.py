"""`chop`: a long recording becomes trials of equal length."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.preprocessing.step_gate import remembered
from nwb_lrrnn.trials import as_frame, bin_size_of, is_lazy, refuse_unreadable

logger = logging.getLogger(__name__)


def chop(X: Any, duration: float) -> xr.DataArray:
    """Return a long recording cut into windows of equal length: a DataArray (trial, time, unit).

    Parameters
    ----------
    X : DataArray (time, unit), 2-D array or DataFrame
        One recording. Without a bin size (`X.attrs["bin_size"]`, or the steps of its time), time counts in bins, and
        the windows have no coordinate `time`, so that a model's own `bin_size` holds.
    duration : float
        Length of a window, seconds (bins where the bin size is unknown); rounded to whole bins.

    Returns
    -------
    DataArray (trial, time, unit)
        `time` is the bin centre from the start of the window, coordinate `align_time` (trial) when that start was in
        the session (in the time of X, where X has no `align_time`). What is left over at the end is dropped, and
        attrs["dropped_bins"] says how many bins that was; attrs["preprocessing"] notes the step. A recording on dask
        stays there, nothing computed. The number of the window takes the place of a scalar
        coordinate `trial`, which one trial of several has.

    Raises
    ------
    TypeError, ValueError
        If X is not one recording of dims (time, unit), its time is uneven or not in seconds, `X.attrs["bin_size"]` is
        not its step, chunks on dask have no known size, or the window is shorter than a bin or longer than X.

    Examples
    --------
    >>> windows = chop(np.zeros((25, 3)), 10)
    >>> windows.shape, windows.attrs["dropped_bins"]
    ((2, 10, 3), 5)
    """
    refuse_unreadable(X)
    recording = _as_recording(X)
    step = _bin_size(recording)
    n_bins, unit = recording.sizes["time"], "bins" if step is None else "s"
    size = 1.0 if step is None else step
    if not (isinstance(duration, (int, float, np.number)) and np.isfinite(duration) and round(duration / size) >= 1):
        raise ValueError(f"duration: got {duration!r}, wanted at least one bin, {size:g} {unit}")
    length = round(float(duration) / size)
    if length > n_bins:
        raise ValueError(f"duration: got {duration:g} {unit}, wanted at most the recording, {n_bins * size:g} {unit}")
    n_windows = n_bins // length
    kept = recording.isel(time=slice(0, n_windows * length))
    dropped = n_bins - n_windows * length
    attrs = remembered(recording.attrs, f"chop(duration={float(duration):g})") | {"dropped_bins": dropped}
    if step is not None:
        attrs["bin_size"] = step
    if dropped:
        logger.info("chop: %d windows of %d bins; the last %d bins are dropped", n_windows, length, dropped)
    return xr.DataArray(
        kept.data.reshape(n_windows, length, kept.shape[1]),  # (trial, time, unit)
        dims=("trial", "time", str(recording.dims[1])),
        coords=_coords(kept, n_windows, length, step),
        name=recording.name,
        attrs=attrs,
    )


def _coords(kept: xr.DataArray, n_windows: int, length: int, step: float | None) -> dict[str, Any]:
    """Return the coordinates of the windows that a recording (time, unit) is cut into; lazy ones stay lazy."""
    size = 1.0 if step is None else step
    starts = np.arange(n_windows) * length
    if "time" in kept.coords:
        begin = np.asarray(kept["time"].variable[starts].values, dtype=np.float64) - 0.5 * size
    else:
        begin = starts * size
    if "align_time" in kept.coords:  # where time 0 of X lies in the session
        begin = begin + float(kept["align_time"])
    coords: dict[str, Any] = {"trial": np.arange(n_windows), "align_time": ("trial", begin)}
    if step is not None:  # a time in bins would be read as one in seconds
        coords["time"] = (np.arange(length) + 0.5) * step
    for name, coord in kept.coords.items():
        if name in ("trial", "time", "align_time"):  # the number of the window takes the place of the trial that X is
            continue
        if "time" not in coord.dims:
            coords[str(name)] = coord.variable
        else:  # `observed` and its like, (time,) or (time, unit)
            ordered = coord.transpose("time", ...)
            values = ordered.data.reshape(n_windows, length, *ordered.shape[1:])
            coords[str(name)] = ("trial", "time", *ordered.dims[1:]), values
    return coords


def _as_recording(X: Any) -> xr.DataArray:
    """Return X as a DataArray whose first of two dims is time."""
    if isinstance(X, xr.DataArray):
        if X.ndim != 2 or X.dims[0] != "time":
            raise ValueError(f"X: got dims {X.dims}, wanted ('time', 'unit'): one recording, not yet in trials")
        return X
    X = as_frame(X)
    if isinstance(X, pd.DataFrame):
        array = xr.DataArray(X.to_numpy(), dims=("time", "unit"), coords={"unit": np.asarray(X.columns)}, attrs=X.attrs)
        index = X.index
        is_time = not isinstance(index, pd.RangeIndex) and pd.api.types.is_float_dtype(index.dtype)
        return array.assign_coords(time=index.to_numpy()) if is_time else array
    if isinstance(X, xr.Dataset):
        raise TypeError(f"X: got a Dataset of {list(X.data_vars)}, wanted one DataArray; pass X['name']")
    array = X if is_lazy(X) else np.asarray(X)
    if array.ndim != 2:
        raise ValueError(f"X: got shape {array.shape}, wanted (time, unit): one recording, not yet in trials")
    return xr.DataArray(array, dims=("time", "unit"))


def _bin_size(recording: xr.DataArray) -> float | None:
    """Return seconds per bin, or None when nothing says; what the gate of the models refuses is refused here."""
    size, is_known = bin_size_of(recording, "X", None)
    return size if is_known else None
