"""Events in a file, whatever holds them: which there are, when each happened, and what it is called."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, choose
from nwb_lrrnn.io.reading.clock import check_times
from nwb_lrrnn.io.reading.column_values import read_values
from nwb_lrrnn.io.reading.entries import InFile, SeriesEntry, TableEntry
from nwb_lrrnn.io.reading.ragged import read_ragged
from nwb_lrrnn.io.reading.series_kinds import series_kind
from nwb_lrrnn.io.reading.tables import read_rows

# Columns of a table of events that say what each of them is, where they hold text.
_LABEL_COLUMNS = ("label", "event_type", "event_name", "ttl_type", "type", "event")
_MOMENTS = re.compile(r"time|onset|offset|lick|reward|event|poke|press|pulse|touch|tap", re.IGNORECASE)


@dataclass(frozen=True)
class EventColumn(InFile):
    """A column of a table of intervals with a list of times in each row."""

    path: str
    table: TableEntry

    @property
    def neurodata_type(self) -> str:
        """What it is in the file."""
        return "VectorData"


EventEntry = SeriesEntry | TableEntry | EventColumn


@dataclass(frozen=True, eq=False)
class Events:
    """When events happened (event,) in s, in the order of the file, and what is known of each.

    `labels` (event,) are None where all are of one kind. `trials` (event,) are the ids of the rows of the table of
    intervals whose column holds them. `oddities` say what is wrong with them.
    """

    path: str
    times: NDArray[np.float64]
    labels: NDArray[np.str_] | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    trials: NDArray[Any] | None = None
    oddities: tuple[str, ...] = ()

    @property
    def kinds(self) -> list[str]:
        """The labels that occur, in alphabetical order."""
        return [] if self.labels is None else sorted(set(self.labels.tolist()))

    def only(self, label: str | None) -> Events:
        """Return the events of one label, all for None."""
        if label is None or self.labels is None:
            return self
        kept = self.labels == label
        columns = {name: values[kept] for name, values in self.columns.items()}
        trials = None if self.trials is None else self.trials[kept]
        return Events(self.path, self.times[kept], self.labels[kept], columns, trials, self.oddities)


def event_entries(catalog: Catalog) -> list[EventEntry]:
    """Return all that holds events: series, tables of events, and columns of lists of times in tables of intervals."""
    tables = [table for table in catalog.of_type("TimeIntervals") if table.name != "invalid_times"]
    columns = [
        EventColumn(f"{table.path}/{name}", table) for table in tables for name in table.ragged if _MOMENTS.search(name)
    ]
    series = [entry for entry in catalog.series if series_kind(entry) == "events"]
    return [*series, *catalog.of_type("Events"), *columns]


def find_events(source: Source, catalog: Catalog, name: str) -> tuple[EventEntry, str | None] | None:
    """Return the entry that a name means and the label asked for in it ("port/left"), None where it means none.

    A name is a full path, or the end of one where no other ends so; raises where several do.
    """
    entries = event_entries(catalog)
    if any(_ends(entry, name) for entry in entries):
        return choose(entries, name, "name", "events"), None
    head, _, label = name.rpartition("/")
    if head and any(_ends(entry, head) for entry in entries):
        entry = choose(entries, head, "name", "events")
        if label in read_event_times(source, entry).kinds:
            return entry, label
    return None


def _ends(entry: EventEntry, name: str) -> bool:
    """Return whether a path is, or ends in, a name."""
    wanted = name.strip("/")
    return bool(wanted) and (entry.path.strip("/") == wanted or entry.path.endswith(f"/{wanted}"))


def why_no_events(entry: EventEntry) -> str | None:
    """Return the sentence why events cannot be read, None where they can."""
    if isinstance(entry, EventColumn):
        return None
    if isinstance(entry, TableEntry):
        return None if entry.n_rows else f"{entry.path}: the table has no rows"
    if entry.fault:
        return f"{entry.path}: {entry.fault}"
    if entry.timestamps_shape is None or len(entry.timestamps_shape) != 1:
        return f"{entry.path}: the events have no timestamps, wanted one time per event"
    return None if entry.timestamps_shape[0] else f"{entry.path}: there is no event in it"


def n_events(entry: EventEntry) -> int | None:
    """Return how many events there are, None where only their values tell."""
    if isinstance(entry, SeriesEntry):
        return (entry.timestamps_shape or (0,))[0]
    return entry.n_rows if isinstance(entry, TableEntry) and "timestamp" in entry.columns else None


def size_of_events(entry: EventEntry) -> str:
    """Return how many events there are in words."""
    number = n_events(entry)
    if isinstance(entry, EventColumn):
        return f"lists of times in {entry.table.n_rows} rows"
    if number is None:
        return f"{entry.n_rows} kinds of events" if isinstance(entry, TableEntry) else ""
    if entry.neurodata_type == "IntervalSeries":
        return f"{number} starts and stops"
    return f"{number} event{'' if number == 1 else 's'}"


def read_event_times(source: Source, entry: EventEntry) -> Events:
    """Return the events of an entry, or raise where they have no times."""
    reason = why_no_events(entry)
    if reason is not None:
        raise ValueError(f"name: {reason}")
    with source.open() as file:
        if isinstance(entry, SeriesEntry):
            return _of_series(file, entry)
        if isinstance(entry, EventColumn):
            return _of_column(file, entry)
        return _of_table(file, entry)


def event_problems(source: Source, entry: EventEntry) -> list[str]:
    """Return what is wrong with events, one sentence each."""
    try:
        events = read_event_times(source, entry)
    except ValueError as error:
        return [str(error).removeprefix("name: ")]
    n_bad = int((~np.isfinite(events.times)).sum())
    bad = [f"{entry.path}: {n_bad} of {len(events.times)} events have no finite time; they are left out"]
    return [*events.oddities, *(bad if n_bad else [])]


def _of_series(file: H5, entry: SeriesEntry) -> Events:
    """Return the events of a series; of an IntervalSeries, where intervals begin."""
    group = file[entry.path]
    check_times(group["timestamps"], f"{entry.path}/timestamps")
    times = np.asarray(group["timestamps"][()], dtype=np.float64)
    if entry.neurodata_type == "IntervalSeries":
        return Events(entry.path, times[np.asarray(group["data"][()]) > 0] if "data" in group else times)
    names = None
    if entry.neurodata_type not in ("AnnotationSeries", "TimeSeries"):
        names = group["labels"] if "labels" in group else None
    codes = next((group[name] for name in ("label_keys", "data") if name in group), None)
    stored = None if codes is None else codes.attrs.get("labels")
    if stored is None and names is None and entry.neurodata_type not in ("LabeledEvents", "TTLs"):
        return Events(entry.path, times)
    if codes is None or codes.shape != times.shape or codes.dtype.kind not in "iu":
        got = "no codes" if codes is None else f"codes of dtype {codes.dtype} and shape {codes.shape}"
        odd = f"{entry.path}: got {got} for {len(times)} events, wanted one whole number each; the labels are left out"
        return Events(entry.path, times, oddities=(odd,))
    given: Any = stored if names is None else read_values(file, names)
    known = [] if given is None else np.atleast_1d(given)
    texts = [str(plain(text)) for text in known]
    numbers = codes[()].astype(np.int64).tolist()
    labels = [texts[code] if 0 <= code < len(texts) and texts[code] else str(code) for code in numbers]
    beyond = sorted({code for code in numbers if not 0 <= code < len(texts)}) if texts else []
    odd = f"{entry.path}: the codes {', '.join(map(str, beyond))} have no label; the numbers stand for it"
    return Events(entry.path, times, np.asarray(labels, dtype=np.str_), oddities=(odd,) if beyond else ())


def _of_table(file: H5, entry: TableEntry) -> Events:
    """Return the events of a table: one a row with its `timestamp`, or those of one kind a row in `event_times`."""
    rows = read_rows(file, entry)
    texts = [name for name in _LABEL_COLUMNS if name in rows.columns and rows.columns[name].dtype.kind == "U"]
    if "timestamp" in entry.columns:
        times = rows.columns.get("timestamp")
        if times is None or times.dtype.kind not in "fiu":
            raise ValueError(f"name: the column timestamp of {entry.path} holds no times, wanted numbers in s")
        columns = {name: values for name, values in rows.columns.items() if name != "timestamp"}
        return Events(entry.path, times.astype(np.float64), columns[texts[0]] if texts else None, columns)
    parts = read_ragged(file, entry.path, "event_times", entry.n_rows) or []
    names = rows.columns[texts[0]] if texts else rows.ids.astype(np.str_)
    times, row = _joined(parts, f"{entry.path}/event_times")
    return Events(entry.path, times, names[row])


def _of_column(file: H5, entry: EventColumn) -> Events:
    """Return the events in the lists of a column of a table of intervals."""
    table = entry.table
    parts = read_ragged(file, table.path, entry.name, table.n_rows) or []
    times, row = _joined(parts, entry.path)
    known = read_rows(file, table)
    start = known.columns.get("start_time")
    oddities: tuple[str, ...] = ()
    if start is not None and len(times):
        n_before = int((times < start[row]).sum())
        if n_before > len(times) / 2:
            oddities = (
                f"{entry.path}: {n_before} of {len(times)} times lie before the start of their own row; they seem to "
                "count from it, but are read as times of the session",
            )
    return Events(entry.path, times, trials=known.ids[row], oddities=oddities)


def _joined(parts: list[NDArray[Any]], path: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return lists of times one after the other, and the row that each comes from."""
    flat = np.concatenate([*parts, np.zeros(0)])
    if any(part.dtype.kind not in "fiu" or part.ndim != 1 for part in parts):
        raise ValueError(f"name: {path} holds no times, wanted numbers in s")
    row = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return flat.astype(np.float64), row.astype(np.intp)
