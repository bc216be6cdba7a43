"""Each thing in a recording as a Dataset of xarray whose samples, spike times and timestamps are not read yet."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from xarray.indexes import PandasIndex, RangeIndex

from nwb_lrrnn.io.errors import ElsewhereError, InvalidTimestampsError, MisreadValuesError
from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, ResultEntry
from nwb_lrrnn.io.reading.clock import check_times, read_clock
from nwb_lrrnn.io.reading.entries import LostEntry, SeriesEntry, TableEntry, table_entry
from nwb_lrrnn.io.reading.intervals import interval_variables
from nwb_lrrnn.io.reading.lazy import SampledSeries
from nwb_lrrnn.io.reading.marks import type_of
from nwb_lrrnn.io.reading.populations import population_of
from nwb_lrrnn.io.reading.ragged import read_ends
from nwb_lrrnn.io.reading.series import read_series
from nwb_lrrnn.io.reading.series_columns import describe
from nwb_lrrnn.io.reading.series_kinds import series_kind, why_not_read
from nwb_lrrnn.io.reading.tables import ELECTRODES, Rows, free_names, read_rows, trial_rows, unit_electrodes
from nwb_lrrnn.io.reading.units import why_no_spikes
from nwb_lrrnn.io.reading.views.lazy_variables import StoredText, as_text_variable, as_variable, stored_numbers
from nwb_lrrnn.io.reading.views.timestamps_index import TimestampsIndex

Entry = SeriesEntry | TableEntry | ResultEntry | LostEntry

_DIMS = {"Units": "unit", "TimeIntervals": "trial", "Events": "event"}


def node(source: Source, file: H5, entry: Entry, *, chunked: bool, known: dict[H5, Rows] | None = None) -> xr.Dataset:
    """Return one thing in a recording as a Dataset, on dask where `chunked`, else in xarray's lazy arrays.

    What cannot be read has no variables and says why in attrs["reason"]; see `Recording.to_datatree`. `file` is
    `source`, open; tables of electrodes and ROIs that the thing names are added to `known`.
    """
    attrs: dict[str, Any] = {"nwb_path": entry.path}
    if isinstance(entry, ResultEntry):
        reason = "results of an earlier fit; nwb_lrrnn.read_results reads them"
        return xr.Dataset(attrs=attrs | {"neurodata_type": "ProcessingModule", "reason": f"{entry.path}: {reason}"})
    if isinstance(entry, LostEntry):
        return xr.Dataset(attrs=attrs | {"reason": entry.reason})
    attrs["neurodata_type"] = entry.neurodata_type
    if isinstance(entry, TableEntry):
        try:
            return _table(source, file, entry, attrs, chunked)
        except ElsewhereError as error:
            return xr.Dataset(attrs=attrs | {"reason": f"{entry.path}: {error}"})
    is_event = series_kind(entry) == "events"
    reason = None if is_event else _why_no_series(entry)
    if reason is None:
        try:
            if is_event:
                return _events(source, file, entry, attrs, chunked)
            return _series(source, file, entry, attrs, chunked, {} if known is None else known)
        except (InvalidTimestampsError, MisreadValuesError, ElsewhereError) as error:
            reason = str(error)
    return _unread(entry, attrs, reason)


def _why_no_series(entry: SeriesEntry) -> str | None:
    """Return the sentence why an entry cannot be shown as a series (time, unit), None where it can."""
    population = population_of(entry)
    if population is None or population.read is read_series:
        return why_not_read(entry)
    held = "in trials" if population.in_trials else "as frames"
    return population.why_not(entry) or f"{entry.path}: held {held}; {population.call(entry, entry.path)} reads it"


def _unread(entry: SeriesEntry, attrs: dict[str, Any], reason: str) -> xr.Dataset:
    """Return a series that is not read: what is known about it, and why."""
    known = {"reason": reason, "dtype": entry.dtype, "units": entry.units, "rate": entry.rate}
    shape = {} if entry.shape is None else {"shape": list(entry.shape)}
    return xr.Dataset(attrs=attrs | shape | {name: value for name, value in known.items() if value})


def _series(
    source: Source, file: H5, entry: SeriesEntry, attrs: dict[str, Any], chunked: bool, known: dict[H5, Rows]
) -> xr.Dataset:
    """Return a sampled series (time, unit) in its unit of measure."""
    samples, rows, about = describe(source, file, entry, known)
    time, step = _times(source, file, entry, samples.shape[0])
    if step is not None:
        about["bin_size"] = step
    name = _free_name(entry.name, {"time", "unit"}, "series")
    taken = {"time", "unit", name}
    unit = PandasIndex(rows.ids, "unit")
    named = zip(free_names(rows.columns, "unit", taken), rows.columns.values(), strict=True)
    columns = {column: xr.Variable(("unit",), values) for column, values in named}
    # Put together with their indexes at once: xarray would align and copy them for each that is added later.
    coords = xr.Coordinates(
        {**time.create_variables(), **unit.create_variables(), **columns}, indexes={"time": time, "unit": unit}
    )
    coords.variables["time"].attrs["units"] = "s"
    values = as_variable(("time", "unit"), samples, about, chunked=chunked)
    return xr.Dataset({name: values}, coords=coords, attrs=attrs)


def _times(
    source: Source, file: H5, entry: SeriesEntry, n_samples: int
) -> tuple[xr.Index, float | None]:  # of the coordinate, and the step in s at a fixed rate
    """Return when samples were taken, without reading timestamps, or raise where there is no time per sample."""
    if entry.timestamps_shape is None:
        clock = read_clock(source, entry, n_samples)
        return RangeIndex.linspace(clock.start, clock.stop, n_samples, dim="time"), clock.step
    if entry.timestamps_shape != (n_samples,):
        raise InvalidTimestampsError(
            f"{entry.path}/timestamps: got shape {entry.timestamps_shape} for {n_samples} samples, wanted "
            f"({n_samples},), one time per sample; repair the file"
        )
    path = f"{entry.path}/timestamps"
    check_times(file[path], path)
    return TimestampsIndex(stored_numbers(source, file[path], path), "time"), None


def _events(source: Source, file: H5, entry: SeriesEntry, attrs: dict[str, Any], chunked: bool) -> xr.Dataset:
    """Return a series of events: the time of each, and what the file holds beside it."""
    n_times = entry.timestamps_shape
    if entry.fault or n_times is None or len(n_times) != 1:
        return _unread(entry, attrs, f"{entry.path}: {entry.fault or 'the events have no timestamps, one each'}")
    path = f"{entry.path}/timestamps"
    check_times(file[path], path)
    times = stored_numbers(source, file[path], path)
    coords = {"time": as_variable(("event",), times, {"units": "s"}, chunked=chunked)}
    dataset = xr.Dataset(coords=coords, attrs=attrs)
    if entry.shape is None or entry.shape[:1] != n_times or len(entry.shape) > 2:
        return dataset
    name = _free_name(entry.name, {"time", "event", "column"}, "series")
    dims = ("event", "column")[: len(entry.shape)]
    if entry.misread:  # the times are right, the values would not be
        return dataset.assign_attrs(reason=f"{entry.path}: {entry.misread}")
    if np.dtype(entry.dtype if entry.dtype != "compound" else "O").kind in "fiub":
        data = file[f"{entry.path}/data"]
        values = SampledSeries(
            source, f"{entry.path}/data", data.shape, data.chunks, np.dtype(np.float64), entry.conversion, entry.offset
        )
        labels = data.attrs.get("labels")  # of codes
        known = {} if labels is None else {"labels": [str(plain(label)) for label in np.atleast_1d(labels)]}
        dataset[name] = as_variable(dims, values, {"units": entry.units, **known}, chunked=chunked)
    elif len(dims) == 1 and entry.neurodata_type == "AnnotationSeries":
        dataset[name] = as_text_variable("event", StoredText(source, f"{entry.path}/data", n_times), chunked=chunked)
    return dataset


def _table(source: Source, file: H5, entry: TableEntry, attrs: dict[str, Any], chunked: bool) -> xr.Dataset:
    """Return a table: its scalar columns over its rows, which are read, and spike times, which are not."""
    rows = read_rows(file, entry)
    dim = "electrode" if entry.path == ELECTRODES else _DIMS.get(entry.kind, "row")
    if dim in ("trial", "event"):
        variables, left_out = interval_variables(file, entry, rows, np.ones(len(rows), dtype=bool), dim)
        attrs = attrs | (_dropped(rows) if dim == "trial" else {}) | ({"left_out": left_out} if left_out else {})
        return xr.Dataset(variables, coords={dim: rows.ids}, attrs=attrs)
    columns, taken = rows.columns, {dim}
    variables: dict[str, Any] = {}
    if dim == "unit":
        columns = {**unit_electrodes(file, entry)[0], **columns}  # the unit's own column wins
        taken |= {"spike", "spike_times", "spike_index", "obs_interval", "obs_intervals", "obs_index", "bound"}
        variables, problem = _ragged_of_units(source, file, entry, chunked)
        attrs = attrs | ({"reason": problem} if problem else {})
    named = zip(free_names(columns, dim, taken), columns.values(), strict=True)
    variables |= {name: (dim, values) for name, values in named}
    return xr.Dataset(variables, coords={dim: rows.ids}, attrs=attrs)


def _ragged_of_units(
    source: Source, file: H5, entry: TableEntry, chunked: bool
) -> tuple[dict[str, Any], str]:  # variables, and the sentence why there are none, or what is odd about them
    """Return the flat spike times of a Units table, where those of each unit end, and the same of what was observed."""
    problem = why_no_spikes(entry) or ""
    variables: dict[str, Any] = {}
    for column, dims, index in (
        ("spike_times", ("spike",), "spike_index"),
        ("obs_intervals", ("obs_interval", "bound"), "obs_index"),
    ):
        if column not in entry.columns or (column == "spike_times" and problem):
            continue
        try:
            ends, odd = read_ends(file, entry.path, column, entry.n_rows)
            problem = problem or odd or ""
            dataset = file[entry.path][column]
            if column == "obs_intervals" and not dataset.size:
                continue
            if dataset.ndim != len(dims) or dataset.dtype.kind not in "fiu" or dataset.shape[1:] not in ((), (2,)):
                raise ValueError(f"{entry.path}/{column}: got {dataset.dtype} of shape {dataset.shape}, wanted times")
        except ValueError as error:
            problem = problem or str(error)
            continue
        numbers = stored_numbers(source, dataset, f"{entry.path}/{column}")
        variables[column] = as_variable(dims, numbers, {"units": "s"}, chunked=chunked)
        variables[index] = ("unit", ends, {"description": f"{column} of unit k lie from the end of unit k - 1 to this"})
    return variables, problem


def _dropped(rows: Rows) -> dict[str, Any]:
    """Return which rows of a table of intervals make no trial and why, as attributes."""
    dropped = trial_rows(rows).dropped
    return {"dropped": [f"{id_}: {reason}" for id_, reason in dropped]} if dropped else {}


def _free_name(name: str, taken: Iterable[str], what: str) -> str:
    """Return the name of a column or series as a variable: that of a dim gets a prefix."""
    return f"{what}_{name}" if name in taken else name


def entries(file: H5, catalog: Catalog) -> tuple[Entry, ...]:
    """Return everything in an open recording that makes a node: tables, the electrodes, series and results."""
    electrodes = file.get(ELECTRODES)
    more = () if electrodes is None or "colnames" not in electrodes.attrs else (_electrodes(electrodes),)
    return (*catalog.tables, *more, *catalog.series, *catalog.results, *catalog.lost)


def _electrodes(group: H5) -> TableEntry:
    """Return the table of electrodes, which the catalogue leaves to the series that name it."""
    return table_entry(group, ELECTRODES, type_of(group) or "DynamicTable")
