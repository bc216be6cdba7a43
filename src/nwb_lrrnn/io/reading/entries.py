"""Series and tables of a file as a catalogue lists them: where they lie, what their attributes say, what they are."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from nwb_lrrnn.io.files.hdf5 import H5, is_dataset, plain

_SWEEPS = (
    "PatchClampSeries",
    "CurrentClampSeries",
    "CurrentClampStimulusSeries",
    "IZeroClampSeries",
    "VoltageClampSeries",
    "VoltageClampStimulusSeries",
)
_EVENT_TYPES = ("AnnotationSeries", "IntervalSeries")
_BEHAVIOUR_PARENTS = ("Position", "CompassDirection", "BehavioralTimeSeries", "PupilTracking", "EyeTracking")
_BEHAVIOUR_TYPES = ("SpatialSeries", "PoseEstimationSeries")


class InFile:
    """Anything with a path in the file."""

    path: str

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class SeriesEntry(InFile):
    """A time series of the file: where it lies and what its attributes say.

    `shape` is None where there is no `data`; `timestamps_shape` is None where the series has a rate. `starting_time`
    and `rate` are None where they are missing or no single numbers. `fault` says why the data cannot be reached.
    """

    path: str
    neurodata_type: str
    shape: tuple[int, ...] | None
    dtype: str
    units: str
    conversion: float
    offset: float
    starting_time: float | None
    rate: float | None
    timestamps_shape: tuple[int, ...] | None
    region: str | None
    n_region: int
    parents: tuple[str, ...]
    fault: str | None = None


@dataclass(frozen=True)
class TableEntry(InFile):
    """A table of the file. `columns` leaves out `id` and the `_index` companions of ragged columns."""

    path: str
    neurodata_type: str
    n_rows: int
    columns: tuple[str, ...]
    n_spikes: int | None

    @property
    def kind(self) -> str:
        """Its type; a type of an extension counts as Units or TimeIntervals where it has their columns."""
        if self.neurodata_type in ("Units", "TimeIntervals", "DynamicTable"):
            return self.neurodata_type
        if self.n_spikes is not None:
            return "Units"
        return "TimeIntervals" if {"start_time", "stop_time"} <= set(self.columns) else self.neurodata_type


def series_entry(group: H5, path: str, kind: str, parents: tuple[str, ...]) -> SeriesEntry:
    """Return the entry of a time series, a group at `path` of type `kind`; no data are read but starting_time.

    `parents` are the neurodata_types of the groups around it, or their names.
    """
    data, fault = find_dataset(group, "data")
    attributes = {} if data is None else data.attrs  # read one by one: each costs as much as opening the dataset
    timestamps, timestamps_fault = find_dataset(group, "timestamps")
    starting_time = rate = None
    start, _ = find_dataset(group, "starting_time")
    if start is not None and timestamps is None:
        starting_time = _number(start[()])
        rate = _number(start.attrs.get("rate"))
    region = next((name for name in ("rois", "electrodes") if name in group), None)
    region_data, _ = find_dataset(group, region) if region else (None, None)
    return SeriesEntry(
        path=path,
        neurodata_type=kind,
        shape=None if data is None else data.shape,
        dtype="" if data is None else _name_of(data.dtype),
        units=_unit_of_measure(attributes.get("unit")),
        conversion=_number(attributes.get("conversion"), default=1.0),
        offset=_number(attributes.get("offset"), default=0.0),
        starting_time=starting_time,
        rate=rate,
        timestamps_shape=None if timestamps is None else timestamps.shape,
        region=region if region_data is not None and region_data.ndim == 1 else None,
        n_region=region_data.shape[0] if region_data is not None and region_data.ndim == 1 else 0,
        parents=parents,
        fault=fault or timestamps_fault,
    )


def table_entry(group: H5, path: str, kind: str) -> TableEntry:
    """Return the entry of a table; rows are counted by `id`, which every DynamicTable has, columns as in `colnames`."""
    import h5py

    names = [name for name in group if name != "id" and not (name.endswith("_index") and name[:-6] in group)]
    names = [name for name in names if group.get(name, getclass=True) is h5py.Dataset]
    written = [str(plain(name)) for name in group.attrs["colnames"]]
    ordered = [name for name in written if name in names] + [name for name in names if name not in written]
    rows, _ = find_dataset(group, "id")
    if rows is None:
        rows, _ = find_dataset(group, next((name for name in ordered if f"{name}_index" not in group), ""))
    spikes, _ = find_dataset(group, "spike_times")
    return TableEntry(
        path=path,
        neurodata_type=kind,
        n_rows=rows.shape[0] if rows is not None and rows.ndim else 0,
        columns=tuple(ordered),
        n_spikes=None if spikes is None or spikes.ndim != 1 or spikes.dtype.kind not in "fiu" else spikes.shape[0],
    )


def find_dataset(group: H5, name: str) -> tuple[H5 | None, str | None]:
    """Return a dataset and None, or None and why it cannot be reached (None where it simply is not there)."""
    import h5py

    try:
        found = group.get(name) if name else None
    except (KeyError, OSError, RuntimeError) as error:
        return None, f"`{name}` cannot be reached ({error})"
    if is_dataset(found):
        return found, None
    link = group.get(name, getlink=True) if name in group.keys() else None  # `in group` would follow the link
    if isinstance(link, h5py.ExternalLink):
        return None, f"`{name}` lies in another file, {link.filename}, which is missing"
    if isinstance(link, h5py.SoftLink):
        return None, f"`{name}` is a link to {link.path}, which is missing"
    return None, None


@dataclass(frozen=True)
class SeriesLayout:
    """How the data of a series lie: samples, columns, whether the file holds (column, time), and what is odd."""

    n_samples: int
    n_columns: int
    transposed: bool = False
    oddity: str | None = None


def layout(entry: SeriesEntry) -> SeriesLayout:
    """Return how the data of a series lie; raise where no length, of timestamps or region, tells which dim is time."""
    shape = entry.shape or (0,)
    if len(shape) == 1:
        return SeriesLayout(shape[0], 1, oddity=_region_oddity(entry, 1))
    rows, columns = shape[:2]
    n_times = entry.timestamps_shape[0] if entry.timestamps_shape and len(entry.timestamps_shape) == 1 else None
    if n_times is not None and (rows == n_times) != (columns == n_times):
        transposed = columns == n_times
    elif entry.n_region and (rows == entry.n_region) != (columns == entry.n_region):
        transposed = rows == entry.n_region
    elif entry.n_region and columns != entry.n_region and columns > rows:
        raise ValueError(
            f"{entry.path}: data of shape {shape} fit neither (time, {entry.n_region}) nor ({entry.n_region}, time) "
            f"for the {entry.n_region} rows of its {entry.region}; repair the file"
        )
    else:
        transposed = False  # as the schema says: time first
    n_samples, n_columns = (columns, rows) if transposed else (rows, columns)
    return SeriesLayout(n_samples, n_columns, transposed, _region_oddity(entry, n_columns))


def _unit_of_measure(stored: Any) -> str:
    """Return a unit of measure as text: some files hold several, or bytes written out as "b'V'"."""
    found = [str(plain(part)) for part in np.atleast_1d(plain(stored)).ravel() if part is not None]
    found = [text[2:-1] if re.fullmatch(r"b'[^']*'|b\"[^\"]*\"", text) else text for text in found]
    return ", ".join(dict.fromkeys(text for text in found if text)) or "unknown"


def series_kind(entry: SeriesEntry) -> str:
    """Return the kind of a series: roi, channel, series, behaviour, stimulus, input, events or other."""
    kind, parts = entry.neurodata_type, entry.path.split("/")
    if "Image" in kind or "Photon" in kind or kind in ("OpticalSeries", "IndexSeries", "SpikeEventSeries", *_SWEEPS):
        return "other"
    if kind in _EVENT_TYPES or "BehavioralEvents" in entry.parents or "BehavioralEpochs" in entry.parents:
        return "events"
    if entry.region == "rois" or kind == "RoiResponseSeries":
        return "roi"
    if entry.region == "electrodes" or kind == "ElectricalSeries":
        return "channel"
    if parts[1] == "stimulus":
        return "stimulus"
    is_behaviour = kind in _BEHAVIOUR_TYPES or any(parent in _BEHAVIOUR_PARENTS for parent in entry.parents)
    if is_behaviour or "behavior" in parts or "behaviour" in parts:
        return "behaviour"
    shape = entry.shape or ()
    return "series" if len(shape) == 2 and min(shape) > 1 else "other" if len(shape) > 2 else "input"


def why_not_read(entry: SeriesEntry) -> str | None:
    """Return the sentence why a series cannot be read as (time, column), None where it can."""
    kind, path = entry.neurodata_type, entry.path
    if "Image" in kind or "Photon" in kind or kind in ("OpticalSeries", "IndexSeries"):
        return f"{path}: pixels are not fitted; fit the ROI series that were extracted from them"
    if kind in _SWEEPS:
        return f"{path}: a sweep of one cell; a network needs cells that were recorded together"
    if kind == "SpikeEventSeries":
        return f"{path}: waveforms around spikes; fit the spike times in the units table"
    if entry.fault:
        return f"{path}: {entry.fault}"
    if entry.shape is None:
        return f"{path}: the series holds no data"
    if kind != "AnnotationSeries" and (not entry.dtype or np.dtype(_plain_dtype(entry.dtype)).kind not in "fiub"):
        return f"{path}: the data are no real numbers (dtype {entry.dtype})"
    if entry.shape == ():
        return f"{path}: the data are a single value, wanted (time, unit)"
    if not all(entry.shape):
        return f"{path}: the series is empty (shape {entry.shape})"
    if len(entry.shape) > 2:
        return f"{path}: the data have {len(entry.shape)} dims {entry.shape}, wanted (time, unit)"
    if entry.timestamps_shape is None and entry.rate is None:
        return f"{path}: the series has neither timestamps nor a single starting_time with a rate"
    try:
        layout(entry)
    except ValueError as error:
        return str(error)
    return None


def _region_oddity(entry: SeriesEntry, n_columns: int) -> str | None:
    """Return what is odd about the region of units of a series, None where it fits."""
    if not entry.region or entry.n_region == n_columns:
        return None
    return (
        f"{entry.path}: {entry.n_region} {entry.region} for {n_columns} columns of data, so that the columns carry "
        "no metadata"
    )


def _plain_dtype(dtype: str) -> str:
    """Return a dtype that numpy can build; compound data count as objects."""
    return "O" if dtype == "compound" else dtype


def _name_of(dtype: Any) -> str:
    """Return the name of a dtype, "compound" for one of several fields."""
    return dtype.str if dtype.names is None else "compound"


def _number(value: Any, default: Any = None) -> Any:
    """Return a float from an attribute or scalar; the default where it is missing or no single number."""
    value = plain(value)
    return float(value) if isinstance(value, int | float) else default
