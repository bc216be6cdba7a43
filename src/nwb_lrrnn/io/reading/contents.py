"""What each thing in a file is to a model: a population, an input, events, trials, or why none of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nwb_lrrnn.io.reading.catalog import Catalog, ResultEntry
from nwb_lrrnn.io.reading.entries import SeriesEntry, TableEntry
from nwb_lrrnn.io.reading.event_times import EventEntry, event_entries, n_events, why_no_events
from nwb_lrrnn.io.reading.intervals import TRIALS, interval_names, interval_tables
from nwb_lrrnn.io.reading.invalid_times import invalid_table
from nwb_lrrnn.io.reading.kinds import Content, Population
from nwb_lrrnn.io.reading.populations import POPULATIONS, population_of
from nwb_lrrnn.io.reading.series import extent_of_series
from nwb_lrrnn.io.reading.series_kinds import series_kind, why_not_read

_ORDER = (
    *(population.kind for population in POPULATIONS),
    "behaviour",
    "stimulus",
    "input",
    "events",
    "intervals",
    "results",
    "other",
)

_SPANS = (("start_time", "stop_time"), ("start", "stop"), ("start", "end"), ("start_time", "end_time"))


def contents(catalog: Catalog) -> list[Content]:
    """Return everything in the file, populations first, in file order."""
    found = _tables(catalog)
    events = event_entries(catalog)
    names = [entry.name for entry in {entry.path: entry for entry in (*catalog.series, *events)}.values()]
    found += [_events_content(entry, entry.name if names.count(entry.name) == 1 else entry.path) for entry in events]
    held = {entry.path for entry in events}
    for entry in catalog.series:
        if entry.path in held:
            continue
        name = entry.name if names.count(entry.name) == 1 else entry.path
        population = population_of(entry)
        if population is None:
            found.append(_series_content(entry, name))
        else:
            found.append(_population_content(population, entry, entry.neurodata_type, name))
    found += [
        Content(entry.name, entry.path, "other", "link", None, None, "", None, None, None, entry.reason, entry)
        for entry in catalog.lost
    ]
    tables = interval_tables(catalog)
    found += [_intervals_content(table, name) for table, name in zip(tables, interval_names(tables), strict=True)]
    found += [_left_out(table, reason) for table in catalog.tables if (reason := _why_left_out(catalog, table))]
    found += [_results_content(result) for result in catalog.results]
    return sorted(found, key=lambda content: _ORDER.index(content.kind))


def why_nothing(contents: Sequence[Content]) -> str | None:
    """Return the one sentence why nothing in the file can be fitted: what it lacks, or the reason of what came closest.

    None where something can be fitted.
    """
    if any(content.fittable for content in contents):
        return None
    reasons = [content.reason for content in contents if content.reason]
    if reasons:
        more = f" (and {len(reasons) - 1} more like it)" if len(reasons) > 1 else ""
        return reasons[0] + more
    if contents:
        kinds = ", ".join(sorted({content.kind for content in contents}))
        return f"the file holds {kinds}, but no population: no spike times, no ROI series and no electrical series"
    return "the file holds no units, no time series and no intervals"


def _tables(catalog: Catalog) -> list[Content]:
    """Return the tables that are populations; where only one has spikes, or for /units, the call needs no name."""
    units = [table for table in catalog.of_type("Units") if table.n_spikes is not None]
    names = [table.name for table in catalog.of_type("Units")]
    found = []
    for table in catalog.tables:
        population = population_of(table)
        if population is not None:
            own = table.name if names.count(table.name) == 1 else table.path
            name = "" if table.path == "/units" or len(units) < 2 else own
            found.append(_population_content(population, table, table.kind, name))
    return found


def _population_content(
    population: Population, entry: SeriesEntry | TableEntry, neurodata_type: str, name: str
) -> Content:
    """Return the content of a population; `name` is what its call names it by."""
    reason, extent = population.why_not(entry), population.extent(entry)
    call = None if reason else population.call(entry, name)
    if reason is None and extent.n_units == 1 and population.needs_several:
        reason = f"{entry.path}: a single {population.unit_kind}; a network needs several"
    return Content(
        entry.name, entry.path, population.kind, neurodata_type, *extent, call, reason, entry, population
    )  # fmt: skip


def _series_content(entry: SeriesEntry, name: str) -> Content:
    """Return the content of a series that is no population."""
    kind, reason = series_kind(entry), why_not_read(entry)
    call = None
    if reason is None:
        call = f'recording.series("{name}", like=X)'
        if kind == "input":
            reason = f"{entry.path}: a single channel; a network needs several, but it can be an input (like=X)"
    return Content(
        entry.name, entry.path, kind, entry.neurodata_type, *extent_of_series(entry), call, reason, entry
    )  # fmt: skip


def _events_content(entry: EventEntry, name: str) -> Content:
    """Return the content of what holds events."""
    reason, number = why_no_events(entry), n_events(entry)
    call = None if reason else f'recording.events("{name}", like=X)'
    shape = None if number is None else (number,)
    kind = entry.neurodata_type
    return Content(entry.name, entry.path, "events", kind, shape, None, "s", None, None, call, reason, entry)


def _intervals_content(table: TableEntry, name: str) -> Content:
    """Return the content of a table of intervals; `name` is what its call names it by."""
    call = "recording.trials" if table.path == TRIALS else f"recording.intervals[{name!r}]"
    return replace(_left_out(table, None), call=call)


def _left_out(table: TableEntry, reason: str | None) -> Content:
    """Return the content of a table with times that is not read, with the reason."""
    shape = (table.n_rows,)
    kind = "intervals" if table.kind == "TimeIntervals" else "other"
    return Content(
        table.name, table.path, kind, table.neurodata_type, shape, None, "s", None, None, None, reason, table
    )  # fmt: skip


def _why_left_out(catalog: Catalog, table: TableEntry) -> str | None:
    """Return why a table with times is no table of intervals to read; None of every other table."""
    if table.kind == "TimeIntervals":
        if not table.n_rows:
            return f"{table.path}: the table has no rows"
        if table == invalid_table(catalog):
            return (
                f"{table.path}: no trials: bins inside them are unobserved, in the series that an interval names, else "
                "in all; other columns, such as tags, are not asked"
            )
    elif table.kind == "DynamicTable" and any({*pair} <= {*table.columns} for pair in _SPANS):
        return (
            f"{table.path}: a plain DynamicTable and no TimeIntervals, so that its times are not taken for session "
            f"times; recording.to_datatree()[{table.path!r}] reads it"
        )
    return None


def _results_content(result: ResultEntry) -> Content:
    """Return the content of a module with results of an earlier fit."""
    call = f"nwb_lrrnn.read_results(recording.uri, module={result.name!r})"
    name, path, kind = result.name, result.path, "ProcessingModule"
    return Content(name, path, "results", kind, None, None, "", None, None, call, None, result)
