"""One walk over an NWB file by `neurodata_type`: what is there, without pynwb and without reading data."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from nwb_lrrnn.io.errors import ChangedFileError, ElsewhereError
from nwb_lrrnn.io.files.hdf5 import H5, check_nwb2, is_group, plain
from nwb_lrrnn.io.files.hdf5_low_level import low_level
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.entries import (
    InFile,
    LostEntry,
    SeriesEntry,
    TableEntry,
    find_dataset,
    series_entry,
    table_entry,
)
from nwb_lrrnn.io.reading.marks import type_of

# Subject, session and the like are read by name; `specifications` holds cached schemas, thousands of objects of no use.
_NOT_WALKED = ("specifications", "general")
_MOST_AT_ONCE = 256  # series whose attributes are read in the same walk; of more, seldom all are wanted
_INFO_COLUMNS = {"section", "key", "value"}  # of the table that every module of ours has
_SESSION_FIELDS = ("identifier", "session_description", "session_start_time", "timestamps_reference_time")
_GENERAL_FIELDS = ("session_id", "experiment_description", "experimenter", "institution", "lab", "keywords")


class _Named(Protocol):
    """Anything with a path in the file."""

    @property
    def path(self) -> str: ...

    @property
    def name(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)


@dataclass(frozen=True)
class ResultEntry(InFile):
    """A processing module that `write_results` wrote, with its series and tables."""

    path: str
    series: tuple[SeriesEntry, ...]
    tables: tuple[TableEntry, ...]


@dataclass(frozen=True)
class Place:
    """Where a series lies, its neurodata_type, and those of the groups around it (or their names).

    `elsewhere` names the other file that a link leads to.
    """

    path: str
    kind: str
    parents: tuple[str, ...]
    elsewhere: str | None = None


@dataclass(frozen=True)
class Catalog:
    """What an NWB file holds: version, session fields, series and tables in file order.

    Series and tables of results that `write_results` wrote are no data of the recording: they are in `results` alone.
    Of a file with very many series, only their places are known at first; what they are is read when it is asked for.
    What lies in other files that are missing or not opened is in `lost`.
    """

    source: Source = field(compare=False)
    nwb_version: str
    session: dict[str, Any]
    places: tuple[Place, ...]
    every_table: tuple[TableEntry, ...]
    lost: tuple[LostEntry, ...] = ()

    @cached_property
    def every_series(self) -> tuple[SeriesEntry, ...]:
        """All series of the file, those of results too."""
        with self.source.open() as file:
            return _series_at(file, self.places, self.source)

    @cached_property
    def _results(self) -> list[str]:
        """The paths of the modules of results."""
        return [path for table in self.every_table if (path := _result_of(table))]

    @cached_property
    def series(self) -> tuple[SeriesEntry, ...]:
        """The series of the recording."""
        return _by_module(self.every_series, self._results)[""]

    @cached_property
    def tables(self) -> tuple[TableEntry, ...]:
        """The tables of the recording."""
        return _by_module(self.every_table, self._results)[""]

    @cached_property
    def results(self) -> tuple[ResultEntry, ...]:
        """The results of earlier fits."""
        if not self._results:
            return ()
        series = _by_module(self.every_series, self._results)
        tables = _by_module(self.every_table, self._results)
        return tuple(ResultEntry(path, series[path], tables[path]) for path in self._results)

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
        """Return the tables of these types, or of types that extend them."""
        return tuple(table for table in self.tables if table.kind in types)


def read_catalog(source: Source) -> Catalog:
    """Return the catalogue of an NWB file from one walk over its groups; raise where it is no NWB 2, or is damaged.

    No dataset is read but the few scalars of the session and of the series.
    """
    with source.open() as file:
        version = check_nwb2(file, source.uri)
        found = list(_walk(low_level(file), "", (), ()))
        places = tuple(place for place in found if isinstance(place, Place))
        tables = tuple(table for table in found if isinstance(table, TableEntry))
        lost = tuple(entry for entry in found if isinstance(entry, LostEntry))
        catalog = Catalog(source, version, _session(file), places, tables, lost)
        if len(places) <= _MOST_AT_ONCE:
            vars(catalog)["every_series"] = _series_at(file, places, source)
        return catalog


def choose(
    entries: Sequence[Entry], name: str, argument: str, what: str, by_path: Sequence[Entry] | None = None
) -> Entry:
    """Return the entry that `name` means: a full path, or the end of a path where only one entry ends so.

    Only their full path names the entries `by_path`. Where none or several are meant, the error names the `argument`
    that carried the name, `what` is chosen (such as "series"), and the closest choice.
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


def _series_at(file: H5, places: Sequence[Place], source: Source) -> tuple[SeriesEntry, ...]:
    """Return the entries of series from one opening of the file."""
    root = low_level(file)
    try:
        return tuple(
            series_entry(root[place.path], place.path, place.kind, place.parents, place.elsewhere) for place in places
        )
    except KeyError as error:
        raise ChangedFileError(f"{source.uri}: a series is gone since the file was opened; open it again") from error


def _walk(
    group: H5, path: str, parents: tuple[str, ...], above: tuple[H5, ...], elsewhere: str | None = None
) -> Iterator[Place | TableEntry | LostEntry]:
    """Yield the entries below a group, which lies in the file `elsewhere` (None: in this one).

    Soft links are skipped: what they name is met at its own place. Those into other files are followed where they may.
    """
    import h5py

    for name in group:
        if not parents and not path and name in _NOT_WALKED:
            continue
        link, here = group.get(name, getlink=True), f"{path}/{name}"
        if isinstance(link, h5py.ExternalLink):
            child, why = _behind(group, name, link)
            if why is not None:
                yield LostEntry(here, f"{here}: it {why}")
                continue
        elif isinstance(link, h5py.HardLink):
            child = group.get(name)
        else:
            continue
        if not is_group(child):
            continue
        file = getattr(child, "elsewhere", None) or elsewhere
        kind = type_of(child)
        if "colnames" in child.attrs:
            yield table_entry(child, here, kind, file)
        elif kind and any(key in child for key in ("data", "timestamps", "starting_time")):
            yield Place(here, kind, parents, file)
        elif child not in above:  # a hard link to a group above would lead round for ever
            yield from _walk(child, here, (*parents, kind or name), (*above, child), file)


def _behind(group: H5, name: str, link: Any) -> tuple[H5 | None, str | None]:
    """Return what a link into another file leads to and None, or None and why it is not there."""
    try:
        child = group.get(name)
    except ElsewhereError as error:
        return None, str(error).removeprefix(f"{name} ")
    missing = f"lies in another file, {link.filename}, which has no {link.path} or is not opened"
    return child, missing if child is None else None


def _session(file: H5) -> dict[str, Any]:
    """Return the session and subject fields of the file; subject fields are named `subject_...`."""
    session: dict[str, Any] = {}
    general = _group(file, "general")
    subject = _group(general, "subject")
    groups: tuple[tuple[H5, tuple[str, ...] | None, str], ...] = (
        (file, _SESSION_FIELDS, ""),
        (general, _GENERAL_FIELDS, ""),
        (subject, None, "subject_"),
    )
    for group, names, prefix in groups:
        if not is_group(group):
            continue
        for name in list(group) if names is None else names:
            dataset, _ = find_dataset(group, name)
            if dataset is None or dataset.size > 100:
                continue
            value = plain(dataset[()])
            value = [plain(part) for part in value] if hasattr(value, "shape") and value.shape else value
            session[name if name.startswith(prefix) else prefix + name] = value
    return session


def _group(parent: H5, name: str) -> H5 | None:
    """Return a group in another one, None where there is none, or it lies in a file that is not opened."""
    try:
        return parent.get(name) if is_group(parent) else None
    except ElsewhereError:
        return None
