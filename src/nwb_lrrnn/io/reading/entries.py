"""Series and tables of a file as a catalogue lists them: where they lie and what their attributes say."""

from dataclasses import dataclass
from typing import Any

from nwb_lrrnn.io.files.hdf5 import H5, is_dataset, plain


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
    """Return the entry of a time series.

    Parameters
    ----------
    group : h5py.Group
        The group of the series.
    path : str
        Its path in the file.
    kind : str
        Its neurodata_type.
    parents : tuple of str
        The neurodata_types of the groups around it, or their names.

    Returns
    -------
    entry : SeriesEntry
        No data are read but starting_time.
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
        units=str(plain(attributes.get("unit")) or "unknown"),
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
    """Return the entry of a table; rows are counted by `id`, which every DynamicTable has.

    Parameters
    ----------
    group : h5py.Group
        The group of the table.
    path : str
        Its path in the file.
    kind : str
        Its neurodata_type.

    Returns
    -------
    entry : TableEntry
        Columns in the order of `colnames`.
    """
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


def _name_of(dtype: Any) -> str:
    """Return the name of a dtype, "compound" for one of several fields."""
    return dtype.str if dtype.names is None else "compound"


def _number(value: Any, default: Any = None) -> Any:
    """Return a float from an attribute or scalar; the default where it is missing or no single number."""
    value = plain(value)
    return float(value) if isinstance(value, int | float) else default
