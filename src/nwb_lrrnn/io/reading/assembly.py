"""Values, bins and metadata put together as one DataArray with the coordinates of the data contract."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import listed
from nwb_lrrnn.io.reading.entries import SeriesEntry, TableEntry
from nwb_lrrnn.io.reading.grid import Grid
from nwb_lrrnn.io.reading.tables import Rows, free_names

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

logger = logging.getLogger(__name__)

# Names with a meaning of their own in the data contract; a table column of that name becomes <dim>_<name>.
_RESERVED = {"trial", "time", "unit", "input", "latent", "neuron", "align_time", "observed", "unit_kind", "segment"}


def assemble(
    values: da.Array,
    grid: Grid,
    units: Rows | None,
    *,
    unit_kind: str = "unit",
    inputs: list[str] | None = None,
    observed: NDArray[np.bool_] | None = None,
    time_index: xr.Coordinates | None = None,
    attrs: dict[str, Any],
) -> xr.DataArray:
    """Return values as a DataArray (trial, time, unit), or (time, unit) where the grid is one stretch; lazy.

    `values` are (trial, time, unit); of one stretch (time, unit), or one trial. `units` are None where the last dim
    holds `inputs`, by their names. `observed` (trial, time) or (trial, time, unit) is attached where some bin is
    unobserved; `time_index` takes the place of `grid.time`.
    """
    import xarray as xr

    one_stretch = grid.trials is None
    last = "input" if inputs is not None else "unit"
    dims = ("time", last) if one_stretch else ("trial", "time", last)
    coords: dict[str, Any] = {} if time_index is not None else {"time": grid.time}
    coords["align_time"] = float(grid.align_time[0]) if one_stretch else ("trial", grid.align_time)
    if inputs is not None:
        coords["input"] = inputs
    if grid.trials is not None:
        coords["trial"] = grid.trials.ids
    if units is not None:
        coords |= {"unit": units.ids, "unit_kind": unit_kind}
    taken = _RESERVED
    if grid.trials is not None:
        of_trials = _columns("trial", grid.trials, _RESERVED)
        coords |= of_trials
        taken = _RESERVED | set(of_trials)
    if units is not None:
        coords |= _columns("unit", units, taken)
    if observed is not None and not observed.all():
        coords["observed"] = (dims if observed.ndim == 3 else dims[:-1], observed[0] if one_stretch else observed)
    array = xr.DataArray(values[0] if values.ndim > len(dims) else values, dims=dims, coords=coords, attrs=attrs)
    if time_index is not None:
        array = array.assign_coords(time_index)
    array["time"].attrs["units"] = "s"
    return array


def _columns(dim: str, rows: Rows, taken: set[str]) -> dict[str, tuple[str, NDArray[Any]]]:
    """Return the columns of a table as coordinates over `dim`."""
    return {
        name: (dim, values)
        for name, values in zip(free_names(rows.columns, dim, taken), rows.columns.values(), strict=True)
    }


def origin(source: Source, entry: SeriesEntry | TableEntry, object_id: str, units: str) -> dict[str, Any]:
    """Return the attributes that say where an array comes from, and its unit of measure."""
    return {
        "units": units,
        "source": source.uri,
        "version_tag": source.version_tag,
        "nwb_path": entry.path,
        "neurodata_type": entry.neurodata_type,
        "object_id": object_id,
    }


def object_id_of(group: H5) -> str:
    """Return the id of a typed object of NWB, empty where it has none."""
    return str(plain(group.attrs.get("object_id")) or "")


def report_dropped(grid: Grid, n_asked: int, attrs: dict[str, Any]) -> None:
    """Write the trials that a selection dropped into attrs and the log."""
    dropped = () if grid.trials is None else grid.trials.dropped
    if dropped:
        said = [f"{id_}: {reason}" for id_, reason in dropped]
        attrs["dropped_trials"] = said
        logger.warning("dropped %d of %d trials: %s", len(said), n_asked, listed(said, at_most=5))
