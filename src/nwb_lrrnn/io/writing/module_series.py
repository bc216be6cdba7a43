"""Latents and rates as time series with the table of their trials, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from nwb_lrrnn.io.writing.columns import as_column, compressed, read_column, storable
from nwb_lrrnn.io.writing.intact import check_rows
from nwb_lrrnn.io.writing.module_arrays import NamedArray
from nwb_lrrnn.io.writing.module_pieces import noted
from nwb_lrrnn.io.writing.module_rows import Placement, place_trials, restore_rows

_RESERVED = ("trial", "id", "tags", "timeseries", "name", "description", "columns", "colnames", "parent", "children")


def series_and_trials(latents: xr.DataArray, rates: xr.DataArray | None) -> list[Any]:
    """Return the time series of latents and rates, as `as_pieces` returns them, and the table of their trials."""
    given = {"latents": latents} if rates is None else {"latents": latents, "rates": rates}
    arrays = {key: array if "trial" in array.dims else array.expand_dims("trial") for key, array in given.items()}
    placement = place_trials(list(arrays.values()))
    objects = [_trial_intervals(arrays["latents"], placement)]
    for key, array in arrays.items():
        objects += [_time_series(key, array, placement, number) for number in range(placement.n_series)]
    return objects


def _series_name(key: str, number: int) -> str:
    return key if number == 0 else f"{key}_{number + 1}"


def _time_series(key: str, array: xr.DataArray, placement: Placement, number: int) -> Any:
    from pynwb import TimeSeries

    times = placement.times(number)
    steps = np.arange(times.size) * placement.bin_size
    if times.size > 1 and np.allclose(times, times[0] + steps, rtol=0, atol=1e-6 * placement.bin_size):
        timing: dict[str, Any] = {"starting_time": float(times[0]), "rate": 1 / placement.bin_size}
    else:
        timing = {"timestamps": compressed(times)}
    return TimeSeries(
        name=_series_name(key, number),
        description=f"{key.capitalize()} at the centres of the bins, one column for each {array.dims[-1]}",
        data=compressed(placement.rows(array.values, number)),
        unit=str(array.attrs.get("units", "n.a.")),
        **timing,
    )


def _trial_intervals(latents: xr.DataArray, placement: Placement) -> Any:
    from pynwb.epoch import TimeIntervals

    order = placement.trial_order
    ids = latents["trial"].values if "trial" in latents.coords else np.arange(latents.sizes["trial"])
    columns = {
        "start_time": ("Left edge of the first bin (s)", placement.start_time),
        "stop_time": ("Right edge of the last bin (s)", placement.stop_time),
        "trial_id": ("Trial in the source", storable(ids)[order]),
        "series": ("Series that holds the trial", [_series_name("latents", int(n)) for n in placement.series]),
        "start_index": ("First row in the series", placement.start_index),
        "count": ("Number of rows", placement.count),
        "trial_order": ("Place of the trial in the fitted array", order),
        "align_time": ("Session time of time 0 (s)", placement.align_time),
    }
    for (
        name,
        coord,
    ) in latents.coords.items():  # conditions beside the intervals, for whoever reads without this package
        if coord.dims == ("trial",) and name not in (*columns, *_RESERVED):
            columns[str(name)] = (f"{name} of the trial", storable(coord.values)[order])
    return TimeIntervals(
        name="latent_trials",
        description="Which rows of which series belong to which trial",
        columns=[as_column(name, text, values) for name, (text, values) in columns.items()],
    )


def read_series(group: Any, key: str, coordinates: Mapping[str, NamedArray]) -> xr.DataArray | None:
    """Return latents or rates (`key`) with their trials in the original order; None where there are none."""
    if key not in group:
        return None
    trials = group["latent_trials"]
    names = [str(text) for text in read_column(trials, "series")]
    number = np.array([int(name.rpartition("_")[2]) - 1 if "_" in name else 0 for name in names], dtype=np.int64)
    wrong = [name for name, k in zip(names, number, strict=True) if k < 0 or name != _series_name("latents", int(k))]
    if wrong or not names:
        raise ValueError(f"`series` names {(wrong or ['no series'])[0]!r}, wanted latents, latents_2, ...")
    series = [group[_series_name(key, k)]["data"][()] for k in range(int(number.max()) + 1)]
    columns = [trials[name][()] for name in ("trial_order", "start_index", "count")]
    check_rows(columns[0], number, columns[1], columns[2], [len(rows) for rows in series])
    dims = tuple(coordinates[f"{key}/array/dims"].values)
    shape = coordinates[f"{key}/array/shape"].values
    values = restore_rows(series, columns[0], number, columns[1], columns[2], int(shape[-2]))
    coords, attrs = noted(key, coordinates)
    return xr.DataArray(
        values if len(dims) == 3 else values[0],
        dims=dims,
        coords={name: (c.dims, c.values) for name, c in coords.items()},
        attrs=attrs,
        name=key,
    )
