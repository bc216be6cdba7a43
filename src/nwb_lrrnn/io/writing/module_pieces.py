"""The pieces of a fit in the form in which a module gives them back, and what tables cannot say about them."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.io.writing.columns import clean_text, storable
from nwb_lrrnn.io.writing.module_arrays import NamedArray, as_named_arrays
from nwb_lrrnn.io.writing.module_info import info_as_read
from nwb_lrrnn.io.writing.module_tables import as_stored, as_stored_frame, table_dim

logger = logging.getLogger(__name__)

OWN_TABLES = ("latent_trials", "unit_loadings", "unit_reference", "fit_info", "model_state", "coordinates")
_SERIES = ("latents", "rates")


class GivenPieces(TypedDict, total=False):
    """What is given to be written.

    - `latents` (trial, time, latent) or (time, latent): stored as rows in the order of session time, float64. `time`
      is relative to `align_time`; trials without it follow each other from 0. Bins at the end of a trial that are all
      NaN are padding and are not stored.
    - `rates` (trial, time, unit) or (time, unit): of the trials and bins of `latents`.
    - `state`: arrays or scalars of numbers, booleans or text, kept bit for bit.
    - `info`: rows (section, key, value); values are JSON scalars or lists of them.
    - `loadings`: variables (unit, ...); coordinates along `unit` say what the units are.
    - `tables`: Datasets whose variables share their first dim, or DataFrames. One without rows is not stored.
    """

    latents: xr.DataArray | None
    rates: xr.DataArray | None
    state: Mapping[str, Any] | None
    info: Sequence[tuple[str, str, Any]]
    loadings: xr.Dataset | None
    tables: Mapping[str, xr.Dataset | pd.DataFrame] | None


class ModulePieces(TypedDict):
    """What a module holds; None or empty where it has none."""

    latents: xr.DataArray | None
    rates: xr.DataArray | None
    state: dict[str, np.ndarray]
    info: dict[str, dict[str, Any]]
    loadings: xr.Dataset | None
    tables: dict[str, xr.Dataset | pd.DataFrame]


def as_pieces(
    *,
    latents: xr.DataArray | None = None,
    rates: xr.DataArray | None = None,
    state: Mapping[str, Any] | None = None,
    info: Sequence[tuple[str, str, Any]] = (),
    loadings: xr.Dataset | None = None,
    tables: Mapping[str, xr.Dataset | pd.DataFrame] | None = None,
) -> tuple[ModulePieces, dict[str, NamedArray]]:
    """Return the pieces as `read_module` will return them, and what the tables of the module do not hold.

    The latter are coordinates, attrs, dims and shapes by array/kind/name. TypeError or ValueError for a piece of
    another form than `GivenPieces` says.
    """
    extra: dict[str, NamedArray] = {}
    if rates is not None and latents is None:
        raise ValueError("rates: got rates without latents, wanted both: rates lie at the bins of the latents")
    kept: dict[str, xr.DataArray | None] = {
        name: None if array is None else _as_series(name, array, extra)
        for name, array in (("latents", latents), ("rates", rates))
    }
    if (
        kept["latents"] is not None
        and kept["rates"] is not None
        and (kept["latents"].shape[:-1] != kept["rates"].shape[:-1])
    ):
        raise ValueError(
            f"rates: got shape {kept['rates'].shape}, wanted the trials and bins of latents {kept['latents'].shape}"
        )
    if loadings is not None:
        if "unit" not in loadings.dims:
            raise ValueError(f"loadings: got dims {tuple(loadings.dims)}, wanted a Dataset with the dim 'unit'")
        if "source_row" not in loadings.coords:
            loadings = loadings.assign_coords(source_row=("unit", np.arange(loadings.sizes["unit"])))
        loadings = _as_dataset("unit_loadings", "unit", loadings, extra)
    stored: dict[str, xr.Dataset | pd.DataFrame] = {}
    for name, table in (tables or {}).items():
        if name in OWN_TABLES or name.startswith(_SERIES):
            raise ValueError(f"tables: got the name {name!r}, which the module keeps for itself; wanted another one")
        rows = len(table) if isinstance(table, pd.DataFrame) else table.sizes[table_dim(name, table)]
        if rows == 0:
            logger.info("table %r has no rows and is not stored", name)
        elif isinstance(table, pd.DataFrame):
            stored[name] = as_stored_frame(table)
        else:
            stored[name] = _as_dataset(name, table_dim(name, table), table, extra)
    pieces: ModulePieces = {
        "latents": kept["latents"],
        "rates": kept["rates"],
        "state": {name: array.values for name, array in as_named_arrays("state", state or {}).items()},
        "info": info_as_read(info),
        "loadings": loadings,
        "tables": stored,
    }
    return pieces, extra


def _as_series(name: str, array: xr.DataArray, extra: dict[str, NamedArray]) -> xr.DataArray:
    """Return latents or rates as they will be read back; notes coordinates and attrs in `extra`."""
    last = "latent" if name == "latents" else "unit"
    if array.dims not in (("trial", "time", last), ("time", last)):
        raise ValueError(f"{name}: got dims {array.dims}, wanted ('trial', 'time', {last!r}) or ('time', {last!r})")
    if 0 in array.shape:
        raise ValueError(f"{name}: got shape {array.shape}, wanted at least one trial, bin and {last}")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got dtype {array.dtype}, wanted real numbers")
    kind = np.float32 if name == "rates" and array.dtype == np.float32 else np.float64
    coords = {str(key): NamedArray(_exact(c.values), tuple(map(str, c.dims))) for key, c in array.coords.items()}
    attrs = _storable_attrs(name, array.attrs)
    _note(name, coords, attrs, extra)
    extra[f"{name}/array/dims"] = NamedArray(np.array(array.dims, dtype=object), ("entry",))
    extra[f"{name}/array/shape"] = NamedArray(np.array(array.shape), ("entry",))
    return xr.DataArray(
        np.asarray(array.values, dtype=kind),
        dims=array.dims,
        coords={key: (c.dims, c.values) for key, c in coords.items()},
        attrs=attrs,
        name=name,
    )


def _as_dataset(name: str, row_dim: str, data: xr.Dataset, extra: dict[str, NamedArray]) -> xr.Dataset:
    """Return a Dataset as it will be read back; notes in `extra` what does not lie along its rows."""
    data = as_stored(data)
    coords = {
        str(key): NamedArray(_exact(c.values), tuple(map(str, c.dims)))
        for key, c in data.coords.items()
        if c.dims[:1] != (row_dim,)
    }
    data.attrs = _storable_attrs(name, data.attrs)
    _note(name, coords, data.attrs, extra)
    return data


def _note(name: str, coords: Mapping[str, NamedArray], attrs: Mapping[str, Any], extra: dict[str, NamedArray]) -> None:
    for key, coord in coords.items():
        extra[f"{name}/coords/{key}"] = coord
    for key, value in attrs.items():
        array = np.asarray(value)
        extra[f"{name}/attrs/{key}"] = NamedArray(array, ("entry",) * array.ndim)


def _exact(values: np.ndarray) -> np.ndarray:
    """Return coordinate values that a table of arrays keeps as they are: numbers, booleans and text without secrets."""
    return clean_text(values if values.dtype.kind in "biuUcf" else storable(values))


def _storable_attrs(name: str, attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the attrs that are numbers, text without secrets or lists of them; the log tells which are not."""
    kept = {}
    for key, value in attrs.items():
        entries = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
        kinds = {type(entry) for entry in entries}
        if len(kinds) > 1 or not all(issubclass(kind, (str, bool, int, float, np.number, np.bool_)) for kind in kinds):
            logger.info("attrs[%r] of %s is not a number, a text or a list of one of them and is not stored", key, name)
            continue
        kept[str(key)] = clean_text(np.asarray(value)).tolist()
    return kept


def noted(name: str, coordinates: Mapping[str, NamedArray]) -> tuple[dict[str, NamedArray], dict[str, Any]]:
    """Return the coordinates and the attrs that `as_pieces` noted for one array, each by name."""
    coords, attrs = {}, {}
    for path, array in coordinates.items():
        owner, kind, key = path.split("/", 2)
        if owner == name and kind == "coords":
            coords[key] = array
        elif owner == name and kind == "attrs":
            attrs[key] = array.values.tolist()
    return coords, attrs


def with_coordinates(name: str, data: Any, coordinates: Mapping[str, NamedArray]) -> Any:
    """Return a Dataset with the coordinates and attrs that were noted for it; a DataFrame as it is."""
    if isinstance(data, pd.DataFrame):
        return data
    coords, attrs = noted(name, coordinates)
    return data.assign_coords({key: (c.dims, c.values) for key, c in coords.items()}).assign_attrs(attrs)


def check_same(written: ModulePieces, read: ModulePieces) -> None:
    """Raise OSError, naming it, at the first piece that was read back and is not what was written, to the last bit."""
    pairs: dict[str, tuple[Any, Any]] = {
        key: (written[key], read[key]) for key in ("latents", "rates", "loadings", "info")
    }
    pairs["names in state"] = (sorted(written["state"]), sorted(read["state"]))
    pairs["names of tables"] = (sorted(written["tables"]), sorted(read["tables"]))
    pairs |= {f"state[{key!r}]": (value, read["state"].get(key)) for key, value in written["state"].items()}
    pairs |= {f"tables[{key!r}]": (value, read["tables"].get(key)) for key, value in written["tables"].items()}
    for name, (before, after) in pairs.items():
        if not _same(before, after):
            raise OSError(f"{name} read back differs from what was written; nothing was stored: is the disk sound?")


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, (xr.DataArray, xr.Dataset)):
        return before.identical(after)
    if isinstance(before, pd.DataFrame):
        return isinstance(after, pd.DataFrame) and before.equals(after)
    if isinstance(before, np.ndarray):
        if not isinstance(after, np.ndarray) or (before.dtype, before.shape) != (after.dtype, after.shape):
            return False
        return bool((before == after).all()) if before.dtype == object else before.tobytes() == after.tobytes()
    return json.dumps(before) == json.dumps(after)  # text, so that NaN equals NaN
