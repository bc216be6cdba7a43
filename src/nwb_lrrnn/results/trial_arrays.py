"""Latents and rates in any kind that the verbs of a model return, as one DataArray that a file can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.trials import as_frame

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel


def as_array(argument: str, given: Any, last: str, dataset: xr.Dataset, model: LatentModel) -> xr.DataArray | None:
    """Return latents or rates in any kind that the verbs return as one DataArray that a module can hold."""
    if given is None:
        return None
    bin_size = float(model.bin_size_)
    if isinstance(given, (list, tuple)) and len(given) and np.ndim(given[0]) == 2:
        array = _stacked([_labelled(argument, trial, last, bin_size) for trial in given], bin_size)
    else:
        array = _labelled(argument, given, last, bin_size)
    wanted = dataset.sizes.get(last)
    if array.dims[-1] != last or (wanted is not None and array.sizes[last] != wanted):
        raise ValueError(
            f"{argument}: got dims {dict(array.sizes)}, wanted (trial, time, {last}) or (time, {last}) with {wanted} "
            f"{last}s, as model.{'transform' if last == 'latent' else 'inverse_transform'} returns them"
        )
    if "bin_size" in array.attrs or model.bin_size_is_known_:
        _check_step(argument, array, bin_size)
    return array.assign_attrs(bin_size=array.attrs.get("bin_size", bin_size))


def _check_step(argument: str, array: xr.DataArray, bin_size: float) -> None:
    """Raise if the times of an array are not one bin apart."""
    bin_size = float(array.attrs.get("bin_size", bin_size))
    if "time" not in array.coords or array["time"].dtype.kind not in "fiu" or array.sizes["time"] < 2:
        return
    step = float(np.median(np.diff(array["time"].values.astype(np.float64))))  # gaps are no steps
    if abs(step - bin_size) > 0.01 * bin_size:  # as even as samples have to be to serve as bins
        raise ValueError(
            f"{argument}: got times that step by {step:g} s with a bin_size of {bin_size:g} s, wanted one bin a step; "
            f"correct the coordinate `time` or attrs['bin_size'] of {argument}, which model.transform gives to match"
        )


def _labelled(argument: str, given: Any, last: str, bin_size: float) -> xr.DataArray:
    """Return one array with dims and times; times of arrays count from 0."""
    if isinstance(given, xr.DataArray):
        array = given.copy(deep=False)
        array.attrs = dict(given.attrs)
        return array
    given = as_frame(given)
    values = np.asarray(given)
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiub":
        raise TypeError(
            f"{argument}: got {type(given).__name__} of shape {values.shape}, wanted what the model returned: a "
            f"DataArray, an array (trial, time, {last}) or (time, {last}), a DataFrame, or a list of trials"
        )
    time = (np.arange(values.shape[-2]) + 0.5) * bin_size
    coords: dict[str, Any] = {"time": time}
    if isinstance(given, pd.DataFrame) and given.index.dtype.kind == "f":
        coords = {"time": given.index.to_numpy(), "align_time": 0.0}
    return xr.DataArray(values, dims=("trial", "time", last)[-values.ndim :], coords=coords)


def _stacked(trials: list[xr.DataArray], bin_size: float) -> xr.DataArray:
    """Return trials of unequal length as one array with NaN after their ends; each keeps its session times."""
    longest = max(trials, key=lambda trial: trial.sizes["time"])
    n_bins = longest.sizes["time"]
    values = np.full((len(trials), n_bins, longest.shape[-1]), np.nan)
    for k, trial in enumerate(trials):
        values[k, : trial.sizes["time"]] = trial.values
    begin = bin_size / 2
    starts = np.array([float(trial["time"][0]) if "time" in trial.coords else begin for trial in trials])
    aligned = np.array(
        [float(trial.coords["align_time"]) if "align_time" in trial.coords else np.nan for trial in trials]
    )
    if np.ptp(starts) <= 1e-6 * bin_size:  # one time axis for all
        begin, shift = starts[0], np.zeros(len(trials))
    else:  # times of the session: each trial gets its own zero
        shift = starts - begin
    coords: dict[str, Any] = {"time": begin + np.arange(n_bins) * bin_size}
    if np.isfinite(aligned).all() or shift.any():
        coords["align_time"] = ("trial", np.nan_to_num(aligned) + shift)
    if all("trial" in trial.coords for trial in trials):
        coords["trial"] = [trial["trial"].item() for trial in trials]
    return xr.DataArray(values, dims=("trial", *longest.dims), coords=coords, attrs=longest.attrs)
