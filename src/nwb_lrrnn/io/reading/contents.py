"""What each thing in a file is to a model: a population, an input, events, trials, or why none of these."""

from collections.abc import Sequence
from dataclasses import dataclass

from nwb_lrrnn.io.reading.catalog import Catalog, ResultEntry
from nwb_lrrnn.io.reading.entries import SeriesEntry, TableEntry, layout, series_kind, why_not_read
from nwb_lrrnn.io.reading.intervals import interval_tables
from nwb_lrrnn.io.reading.spikes import why_no_spikes

_ORDER = (
    "units",
    "roi",
    "channel",
    "series",
    "behaviour",
    "stimulus",
    "input",
    "events",
    "intervals",
    "results",
    "other",
)


@dataclass(frozen=True)
class Content:
    """One thing in a file. `call` is how to read it, None where it cannot be read; `reason` why it is not fitted.

    `kind` is units, roi, channel or series (populations), behaviour, stimulus, input (a single channel), events,
    intervals, results (of earlier fits), or other. `fittable` is True for populations.
    """

    name: str
    path: str
    kind: str
    neurodata_type: str
    shape: tuple[int, ...] | None
    n_units: int | None
    units: str
    rate: float | None
    duration: float | None
    call: str | None
    reason: str | None

    @property
    def fittable(self) -> bool:
        """Whether a model can be fitted to it."""
        return self.kind in ("units", "roi", "channel", "series") and self.reason is None


def contents(catalog: Catalog) -> list[Content]:
    """Return everything in the file, populations first, in file order."""
    tables = catalog.of_type("Units")
    several = len([table for table in tables if table.n_spikes is not None]) > 1
    found = [_units_content(table, several) for table in tables]
    names = [entry.name for entry in catalog.series]
    found += [_series_content(entry, names.count(entry.name) == 1) for entry in catalog.series]
    found += [_intervals_content(table) for table in interval_tables(catalog)]
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


def _units_content(table: TableEntry, several: bool) -> Content:
    """Return the content of a Units table."""
    reason = why_no_spikes(table)
    where = "" if table.path == "/units" or not several else f", table={table.name!r}"
    call = None if reason else f"recording.spikes(bin_size=0.02{where})"
    shape = None if table.n_spikes is None else (table.n_spikes,)
    return Content(table.name, table.path, "units", "Units", shape, table.n_rows, "spikes", None, None, call, reason)


def _series_content(entry: SeriesEntry, is_unique: bool) -> Content:
    """Return the content of a series."""
    kind, reason = series_kind(entry), why_not_read(entry)
    name = entry.name if is_unique else entry.path
    call = None
    n_units = duration = None
    if reason is None:
        shape = layout(entry)
        n_units = shape.n_columns
        duration = shape.n_samples / entry.rate if entry.rate and entry.rate > 0 else None
        quoted = f'"{name}"'
        if kind == "events":
            call = f"recording.events({quoted}, like=X)"
        elif kind in ("roi", "channel", "series"):
            call = f"recording.series({quoted})" if entry.rate else f"recording.series({quoted}, bin_size=...)"
        else:
            call = f"recording.series({quoted}, like=X)"
        if kind == "input":
            reason = f"{entry.path}: a single channel; a network needs several, but it can be an input (like=X)"
        elif kind in ("roi", "channel") and n_units == 1:
            reason = f"{entry.path}: a single {kind}; a network needs several"
    return Content(
        entry.name, entry.path, kind, entry.neurodata_type, entry.shape, n_units, entry.units, entry.rate, duration,
        call, reason,
    )  # fmt: skip


def _intervals_content(table: TableEntry) -> Content:
    """Return the content of a table of intervals."""
    reason = None if table.n_rows else f"{table.path}: the table has no rows"
    call = None if reason else f"recording.intervals[{table.name!r}]"
    if call and table.path == "/intervals/trials":
        call = "recording.trials"
    shape = (table.n_rows,)
    return Content(
        table.name, table.path, "intervals", table.neurodata_type, shape, None, "s", None, None, call, reason
    )


def _results_content(result: ResultEntry) -> Content:
    """Return the content of a module with results of an earlier fit."""
    call = f"nwb_lrrnn.read_results(recording.uri, module={result.name!r})"
    return Content(result.name, result.path, "results", "ProcessingModule", None, None, "", None, None, call, None)
