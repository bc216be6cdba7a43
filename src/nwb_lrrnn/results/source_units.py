"""What a source says of the units of a model, beside what the model says of them."""

import logging
from typing import Any

import numpy as np
import xarray as xr

from nwb_lrrnn.io.reading.recording import Recording
from nwb_lrrnn.io.writing.unit_rows import UnitRows, find_units

logger = logging.getLogger(__name__)

_UNIT_COLUMNS = ("location", "quality", "group_name")


def units_of_source(dataset: xr.Dataset, recording: Recording, nwb_path: str | None) -> UnitRows | None:
    """Return the units of a model in its source; None where they are not there, or in several places."""
    try:
        return find_units(recording, _ids(dataset).tolist(), nwb_path)
    except ValueError:  # a stand-alone file needs nothing of its source
        return None


def units_within(dataset: xr.Dataset, recording: Recording, nwb_path: str | None) -> UnitRows | None:
    """Return the units of a model in the recording that it is written into.

    None, with a line in the log, where the ids name rows of several tables, or are 0, 1, 2, ... of a population of
    another size, as for a model fitted to an array: its units then get a table of their own. ValueError if units of
    the model are in no population of the recording.
    """
    if not any(variable.dims[:1] == ("unit",) for variable in dataset.data_vars.values()):
        return None
    ids = _ids(dataset).tolist()
    is_counted = ids == list(range(len(ids)))  # as for an array, whose columns may be any units
    try:
        units = find_units(recording, ids, nwb_path)
    except ValueError:
        if not is_counted:
            raise
        units = None
    if is_counted and (units is None or units.n_population != len(ids)):
        logger.info("the model was fitted without unit ids: its loadings are not linked to units of the recording")
        return None
    if units is None or not units.table:
        logger.info("the units of the model are rows of no one table of the recording: its loadings are not linked")
    return units


def described_loadings(dataset: xr.Dataset, units: UnitRows | None) -> xr.Dataset | None:
    """Return what a model says of each unit, with what its source says of it; None where it has no units."""
    names = [name for name, variable in dataset.data_vars.items() if variable.dims[:1] == ("unit",)]
    if not names:
        return None
    loadings = dataset[names].reset_coords(drop=True).drop_attrs(deep=False)
    loadings = loadings.assign_coords(unit=("unit", plain_text(_ids(dataset))))
    if units is None:
        return loadings
    known = units.known
    columns: dict[str, Any] = {
        name: ("unit", known[name].to_numpy().astype(str)) for name in _UNIT_COLUMNS if name in known
    }
    return loadings.assign_coords(source_row=("unit", known["source_row"].to_numpy()), **columns)


def plain_text(values: np.ndarray) -> np.ndarray:
    """Return names that came as Python objects as text."""
    return values.astype(str) if values.dtype.kind == "O" else values


def _ids(dataset: xr.Dataset) -> np.ndarray:
    return dataset["unit"].values if "unit" in dataset.coords else np.arange(dataset.sizes.get("unit", 0))
