"""Series and tables of a file as a catalogue lists them: where they lie and what their attributes say."""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from nwb_lrrnn.io.errors import ElsewhereError
from nwb_lrrnn.io.files.hdf5 import H5, is_dataset, plain
from nwb_lrrnn.io.reading.marks import column_names, type_of

PHOTONS = re.compile("Photon|MicroscopySeries|VoltageImag")  # types of movies of cells, those of extensions too
_EVENT_TABLES = ("AnnotatedEventsTable", "AnnotatedEvents")
# Names of series that hold one sample an event, where no attribute says so; their values are looked at too.
_EVENT_NAME = re.compile(r".*(lick|reward|ttl|pulse|event|onset|trigger|poke|press)s?(_?(time|timestamp)s?)?", re.I)
_MOST_EVENTS = 10_000  # that are looked at for it


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
    and `rate` are None where they are missing or no single numbers. `fault` says why the data cannot be reached,
    `misread` why their values would be wrong: a conversion that is no number, for instance. `is_momentary` says that a
    sample is an event and not one of a course of values; `elsewhere` names the other file that the series, or its data,
    lie in.
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
    misread: str | None = None
    is_momentary: bool = False
    elsewhere: str | None = None


@dataclass(frozen=True)
class LostEntry(InFile):
    """What a link leads to in another file that is missing or not opened, and the sentence that says so."""

    path: str
    reason: str


@dataclass(frozen=True)
class TableEntry(InFile):
    """A table of the file. `columns` leaves out `id`, the `_index` of ragged columns and the labels of coded ones.

    `ragged` are those with a list of floating-point numbers in each row, which may be times. `elsewhere` names the
    other file that the table, or some of it, lies in; `faults` say which columns cannot be reached, and why.
    """

    path: str
    neurodata_type: str
    n_rows: int
    columns: tuple[str, ...]
    n_spikes: int | None
    ragged: tuple[str, ...] = ()
    elsewhere: str | None = None
    faults: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Its type, Events for tables of events; a type of an extension goes by its columns."""
        if self.neurodata_type in ("Units", "TimeIntervals", "DynamicTable"):
            return self.neurodata_type
        if self.neurodata_type in _EVENT_TABLES and "event_times" in self.columns:
            return "Events"
        if "timestamp" in self.columns and "start_time" not in self.columns:
            return "Events"
        if self.n_spikes is not None:
            return "Units"
        return "TimeIntervals" if {"start_time", "stop_time"} <= set(self.columns) else self.neurodata_type


def series_entry(
    group: H5, path: str, kind: str, parents: tuple[str, ...], elsewhere: str | None = None
) -> SeriesEntry:
    """Return the entry of a time series, a group at `path` of type `kind`; no data are read but starting_time.

    `parents` are the neurodata_types of the groups around it, or their names; `elsewhere` is the other file it is in.
    """
    data, fault = find_dataset(group, "data")
    attributes = {} if data is None else data.attrs  # read one by one: each costs as much as opening the dataset
    timestamps, timestamps_fault = find_dataset(group, "timestamps")
    starting_time = rate = None
    start, _ = find_dataset(group, "starting_time")
    if start is not None and timestamps is None:
        starting_time = _number(start[()])
        rate = _number(start.attrs.get("rate"))
    odd: list[str] = []
    conversion = _finite(attributes.get("conversion"), 1.0, "conversion", odd)
    offset = _finite(attributes.get("offset"), 0.0, "offset", odd)
    if conversion == 0:
        odd.append("`conversion` is 0, which would make all values alike")
    region = next((name for name in ("rois", "electrodes") if name in group), None)
    region_data, _ = find_dataset(group, region) if region else (None, None)
    return SeriesEntry(
        path=path,
        neurodata_type=kind,
        shape=None if data is None else data.shape,
        dtype="" if data is None else _name_of(data.dtype),
        units=_unit_of_measure(attributes.get("unit")),
        conversion=conversion,
        offset=offset,
        starting_time=starting_time,
        rate=rate,
        timestamps_shape=None if timestamps is None else timestamps.shape,
        region=region if region_data is not None and region_data.ndim == 1 else None,
        n_region=region_data.shape[0] if region_data is not None and region_data.ndim == 1 else 0,
        parents=parents,
        fault=_external_files(group, kind) or fault or timestamps_fault,
        misread=f"{'; '.join(odd)}; repair the file" if odd else None,
        is_momentary=_is_momentary(path, data, attributes, timestamps),
        elsewhere=elsewhere or _elsewhere(data) or _elsewhere(timestamps),
    )


def _elsewhere(found: H5 | None) -> str | None:
    """Return the name of the other file that a dataset or group lies in, None where it is in this one."""
    return getattr(found, "elsewhere", None)


def _external_files(group: H5, kind: str) -> str | None:
    """Return that the frames of a movie lie in files of other formats, None where they do not."""
    if "external_file" not in group or not ("Image" in kind or PHOTONS.search(kind)):
        return None
    names, why = find_dataset(group, "external_file")
    if names is None or not names.size:
        return why
    first = str(plain(names[()] if not names.ndim else names[0]))
    more = f" and {names.size - 1} more" if names.size > 1 else ""
    return f"the frames lie in other files ({first}{more}), which are not read; write them into the NWB file"


def _is_momentary(path: str, data: H5 | None, attributes: Any, timestamps: H5 | None) -> bool:
    """Return whether each sample of a series is an event: it says so, or is named so and is one value or irregular."""
    if data is None or timestamps is None or data.ndim != 1 or timestamps.shape != data.shape:
        return False
    if plain(attributes.get("continuity")) == "instantaneous":
        return True
    named = _EVENT_NAME.fullmatch(path.rsplit("/", 1)[-1])
    if not named or not 1 < data.shape[0] <= _MOST_EVENTS or timestamps.dtype.kind not in "fiu":
        return False
    values, steps = np.asarray(data[()]), np.diff(np.asarray(timestamps[()], dtype=np.float64))
    middle = np.median(steps)
    return bool((values == values[0]).all() or np.median(np.abs(steps - middle)) > 0.1 * abs(middle))


def table_entry(group: H5, path: str, kind: str, elsewhere: str | None = None) -> TableEntry:
    """Return the entry of a table; rows are counted by `id`, which every DynamicTable has, columns as in `colnames`."""
    named = [name for name in group if name != "id" and not (name.endswith("_index") and name[:-6] in group)]
    found, faults = {}, []
    for name in named:
        try:
            found[name] = group.get(name)
        except ElsewhereError as error:
            faults.append(f"{path}: `{name}`{str(error).removeprefix(name)}")
    names = [name for name in found if is_dataset(found[name]) and not _are_labels(group, name)]
    written = column_names(group)
    ordered = [name for name in written if name in names] + [name for name in names if name not in written]
    ragged = () if "start_time" not in names else tuple(name for name in ordered if _is_ragged(group, name))
    rows, _ = find_dataset(group, "id")
    if rows is None:
        rows, _ = find_dataset(group, next((name for name in ordered if f"{name}_index" not in group), ""))
    spikes = found["spike_times"] if "spike_times" in names else None
    return TableEntry(
        path=path,
        neurodata_type=kind,
        n_rows=rows.shape[0] if rows is not None and rows.ndim else 0,
        columns=tuple(ordered),
        n_spikes=None if spikes is None or spikes.ndim != 1 or spikes.dtype.kind not in "fiu" else spikes.shape[0],
        ragged=ragged,
        elsewhere=elsewhere or next((file for name in names if (file := _elsewhere(found[name]))), None),
        faults=tuple(faults),
    )


def _are_labels(group: H5, name: str) -> bool:
    """Return whether a dataset of a table holds the labels of a column of codes, hdmf's EnumData."""
    coded = name.removesuffix("_elements")
    if coded == name or coded not in group:
        return False
    column, _ = find_dataset(group, coded)
    return column is not None and type_of(column) == "EnumData"


def _is_ragged(group: H5, name: str) -> bool:
    """Return whether a column of a table holds a list of floating-point numbers in each row."""
    if f"{name}_index" not in group or f"{name}_index_index" in group:
        return False
    column, _ = find_dataset(group, name)
    return column is not None and column.ndim == 1 and column.dtype.kind == "f"


def find_dataset(group: H5, name: str) -> tuple[H5 | None, str | None]:
    """Return a dataset and None, or None and why it cannot be reached (None where it simply is not there)."""
    import h5py

    try:
        found = group.get(name) if name else None
    except ElsewhereError as error:
        return None, f"`{name}`{str(error).removeprefix(name)}"
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


def _unit_of_measure(stored: Any) -> str:
    """Return a unit of measure as text: some files hold several, or bytes written out as "b'V'"."""
    found = [str(plain(part)) for part in np.atleast_1d(plain(stored)).ravel() if part is not None]
    found = [text[2:-1] if re.fullmatch(r"b'[^']*'|b\"[^\"]*\"", text) else text for text in found]
    return ", ".join(dict.fromkeys(text for text in found if text)) or "unknown"


def _name_of(dtype: Any) -> str:
    """Return the name of a dtype, "compound" for one of several fields."""
    return dtype.str if dtype.names is None else "compound"


def _number(value: Any) -> float | None:
    """Return a float from an attribute or scalar, None where it is missing or no single number."""
    value = plain(value)
    return float(value) if isinstance(value, int | float) else None


def _finite(attribute: Any, default: Any, name: str, odd: list[str]) -> Any:
    """Return a float from an attribute, the default where it is missing; anything else is said in `odd`."""
    import h5py

    value = plain(attribute)
    if value is None or isinstance(value, h5py.Empty):
        return default
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    n_values = getattr(value, "size", 1)
    what = f"{n_values} values" if n_values != 1 else repr(value)
    odd.append(f"`{name}` is {what}, wanted one finite number")
    return default
