"""One walk over an NWB file by `neurodata_type`: what is there, without pynwb and without reading data."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .source import H5, Source, check_nwb2, plain

# Subject, session and the like are read by name; `specifications` holds cached schemas, thousands of objects of no use.
_NOT_WALKED = ("specifications", "general")
_INFO_COLUMNS = {"section", "key", "value"}  # of the table that every module of ours has
_SESSION_FIELDS = ("identifier", "session_description", "session_start_time", "timestamps_reference_time")
_GENERAL_FIELDS = ("session_id", "experiment_description", "experimenter", "institution", "lab", "keywords")


@dataclass(frozen=True)
class SeriesEntry:
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

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class TableEntry:
    """A table of the file. `columns` leaves out `id` and the `_index` companions of ragged columns."""

    path: str
    neurodata_type: str
    n_rows: int
    columns: tuple[str, ...]
    n_spikes: int | None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


Entry = TypeVar("Entry", SeriesEntry, TableEntry)


@dataclass(frozen=True)
class ResultEntry:
    """A processing module that `write_results` wrote, with its series and tables."""

    path: str
    series: tuple[SeriesEntry, ...]
    tables: tuple[TableEntry, ...]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Catalog:
    """What an NWB file holds: version, session fields, series and tables in file order.

    Series and tables of results that `write_results` wrote are no data of the recording: they are in `results` alone.
    """

    nwb_version: str
    session: dict[str, Any]
    series: tuple[SeriesEntry, ...]
    tables: tuple[TableEntry, ...]
    results: tuple[ResultEntry, ...] = ()

    @property
    def result_series(self) -> tuple[SeriesEntry, ...]:
        """The series of all results, which only their full path names."""
        return tuple(entry for result in self.results for entry in result.series)

    @property
    def result_intervals(self) -> tuple[TableEntry, ...]:
        """The tables of intervals of all results, which only their full path names."""
        tables = [table for result in self.results for table in result.tables]
        return tuple(table for table in tables if table.neurodata_type == "TimeIntervals")

    def of_type(self, *types: str) -> tuple[TableEntry, ...]:
        """Return the tables of these types."""
        return tuple(table for table in self.tables if table.neurodata_type in types)


def read_catalog(source: Source) -> Catalog:
    """Return the catalogue of an NWB file from one walk over its groups.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    catalog : Catalog
        Series and tables; no dataset is read but the few scalars of the session.

    Raises
    ------
    NotNWBError
        If the file is not NWB 2 (OldNWBError: NWB 1.x).
    TruncatedFileError
        If a part of the file is missing or damaged.

    Examples
    --------
    >>> read_catalog(resolve("session.nwb")).nwb_version  # doctest: +SKIP
    '2.7.0'
    """
    with source.open() as file:
        version = check_nwb2(file, source.uri)
        entries = list(_walk(file, "", ()))
        series = tuple(entry for entry in entries if isinstance(entry, SeriesEntry))
        tables = tuple(entry for entry in entries if isinstance(entry, TableEntry))
        paths = [path for table in tables if (path := _result_of(table))]
        series_of, tables_of = _by_module(series, paths), _by_module(tables, paths)
        results = tuple(ResultEntry(path, series_of[path], tables_of[path]) for path in paths)
        return Catalog(version, _session(file), series_of[""], tables_of[""], results)


def choose(
    entries: Sequence[Entry], name: str, argument: str, what: str, by_path: Sequence[Entry] | None = None
) -> Entry:
    """Return the entry of that name: a full path, or the end of a path where only one entry ends so.

    Parameters
    ----------
    entries : sequence of SeriesEntry or TableEntry
        The choices.
    name : str
        What the user asked for.
    argument : str
        The argument that carried it, for the message.
    what : str
        What is chosen, such as "series", for the message.
    by_path : sequence of SeriesEntry or TableEntry
        Further ones that only their full path names.

    Returns
    -------
    entry : SeriesEntry or TableEntry
        The one meant.

    Raises
    ------
    TypeError
        If `name` is not text.
    ValueError
        If no entry or more than one has that name.

    Examples
    --------
    >>> choose(catalog.series, "DfOverF", argument="name", what="series")  # doctest: +SKIP
    """
    if not isinstance(name, str):
        raise TypeError(f"{argument}: got {type(name).__name__}, wanted the name of a {what} as text")
    wanted = name.strip("/")
    found = [entry for entry in (*entries, *(by_path or ())) if entry.path.strip("/") == wanted]
    found = found or [entry for entry in entries if entry.path.endswith("/" + wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{argument}: {name!r} names {len(found)} {what}: {', '.join(entry.path for entry in found)}; "
            f"pass the full path, such as {argument}={found[0].path!r}"
        )
    names = {entry.name: entry for entry in (*(by_path or ()), *entries)}
    close = difflib.get_close_matches(name.rsplit("/", 1)[-1], names, n=1)
    hint = f"; did you mean {names[close[0]].path!r}?" if close else ""
    if not entries:
        raise ValueError(f"{argument}: got {name!r}, but the file holds no {what}{hint}")
    raise ValueError(f"{argument}: got {name!r}, wanted one of {listed([entry.path for entry in entries])}{hint}")


def listed(names: Sequence[object], at_most: int = 12) -> str:
    """Return names joined by commas, the first dozen of them.

    Examples
    --------
    >>> listed(range(15), at_most=3)
    '0, 1, 2 and 12 more'
    """
    shown = ", ".join(str(name) for name in list(names)[:at_most])
    return shown + (f" and {len(names) - at_most} more" if len(names) > at_most else "")


def _result_of(table: TableEntry) -> str:
    """Return the path of the processing module whose results a table describes; "" for every other table."""
    parts = table.path.split("/")
    described = len(parts) == 4 and parts[1] == "processing" and parts[3] == "fit_info"
    return table.path.removesuffix("/fit_info") if described and set(table.columns) == _INFO_COLUMNS else ""


def _by_module(entries: Sequence[Entry], paths: Sequence[str]) -> dict[str, tuple[Entry, ...]]:
    """Return the entries below each of these modules by its path, and all others by ""."""
    module_of = {
        entry.path: next((path for path in paths if entry.path.startswith(f"{path}/")), "") for entry in entries
    }
    return {path: tuple(entry for entry in entries if module_of[entry.path] == path) for path in ("", *paths)}


def _walk(group: H5, path: str, parents: tuple[str, ...]) -> "Iterator[SeriesEntry | TableEntry]":
    """Yield the entries below a group. Soft links are skipped: what they name is met at its own place."""
    import h5py

    for name in group:
        if not parents and not path and name in _NOT_WALKED:
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        child = group.get(name, getclass=True)
        if child is not h5py.Group:
            continue
        child = group[name]
        kind = plain(child.attrs.get("neurodata_type")) or ""
        if "colnames" in child.attrs:
            yield table_entry(child, f"{path}/{name}", kind)
        elif kind and any(key in child for key in ("data", "timestamps", "starting_time")):
            yield _series(child, f"{path}/{name}", kind, parents)
        else:
            yield from _walk(child, f"{path}/{name}", (*parents, kind or name))


def _series(group: H5, path: str, kind: str, parents: tuple[str, ...]) -> SeriesEntry:
    """Return the entry of a time series."""
    data, fault = _dataset(group, "data")
    attributes = {} if data is None else data.attrs  # read one by one: each costs as much as opening the dataset
    timestamps, timestamps_fault = _dataset(group, "timestamps")
    starting_time = rate = None
    start, _ = _dataset(group, "starting_time")
    if start is not None and timestamps is None:
        starting_time = _number(start[()])
        rate = _number(start.attrs.get("rate"))
    region = next((name for name in ("rois", "electrodes") if name in group), None)
    region_data, _ = _dataset(group, region) if region else (None, None)
    return SeriesEntry(
        path=path,
        neurodata_type=kind,
        shape=None if data is None else data.shape,
        dtype="" if data is None else data.dtype.str if data.dtype.names is None else "compound",
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
    rows, _ = _dataset(group, "id")
    if rows is None:
        rows, _ = _dataset(group, next((name for name in ordered if f"{name}_index" not in group), ""))
    spikes, _ = _dataset(group, "spike_times")
    return TableEntry(
        path=path,
        neurodata_type=kind,
        n_rows=rows.shape[0] if rows is not None and rows.ndim else 0,
        columns=tuple(ordered),
        n_spikes=None if spikes is None or spikes.ndim != 1 else spikes.shape[0],
    )


def _dataset(group: H5, name: str) -> tuple[H5 | None, str | None]:
    """Return a dataset and None, or None and why it cannot be reached (None where it simply is not there)."""
    import h5py

    try:
        found = group.get(name) if name else None
    except (KeyError, OSError, RuntimeError) as error:
        return None, f"`{name}` cannot be reached ({error})"
    if isinstance(found, h5py.Dataset):
        return found, None
    link = group.get(name, getlink=True) if name in group.keys() else None  # `in group` would follow the link
    if isinstance(link, h5py.ExternalLink):
        return None, f"`{name}` lies in another file, {link.filename}, which is missing"
    if isinstance(link, h5py.SoftLink):
        return None, f"`{name}` is a link to {link.path}, which is missing"
    return None, None


def _number(value: Any, default: Any = None) -> Any:
    """Return a float from an attribute or scalar; the default where it is missing or no single number."""
    value = plain(value)
    return float(value) if isinstance(value, int | float) else default


def _session(file: H5) -> dict[str, Any]:
    """Return the session and subject fields of the file; subject fields are named `subject_...`."""
    import h5py

    session: dict[str, Any] = {}
    general = file.get("general")
    subject = general.get("subject") if isinstance(general, h5py.Group) else None
    groups: tuple[tuple[H5, tuple[str, ...] | None, str], ...] = (
        (file, _SESSION_FIELDS, ""),
        (general, _GENERAL_FIELDS, ""),
        (subject, None, "subject_"),
    )
    for group, names, prefix in groups:
        if not isinstance(group, h5py.Group):
            continue
        for name in list(group) if names is None else names:
            dataset, _ = _dataset(group, name)
            if dataset is None or dataset.size > 100:
                continue
            value = plain(dataset[()])
            value = [plain(part) for part in value] if hasattr(value, "shape") and value.shape else value
            session[name if name.startswith(prefix) else prefix + name] = value
    return session
