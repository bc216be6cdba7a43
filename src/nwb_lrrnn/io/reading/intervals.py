"""Tables of intervals: which one is meant, its rows as trials, and the bins that a request makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.hdf5 import H5
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, choose, listed
from nwb_lrrnn.io.reading.entries import TableEntry
from nwb_lrrnn.io.reading.event_times import EventColumn, Events, event_entries, find_events, read_event_times
from nwb_lrrnn.io.reading.grid import Grid, all_one_window, looks_padded, looks_relative, session_grid, trial_grid
from nwb_lrrnn.io.reading.marks import type_of
from nwb_lrrnn.io.reading.ragged import read_ragged
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.tables import Rows, free_names, is_split, read_rows, trial_rows

if TYPE_CHECKING:
    import xarray as xr

TRIALS = "/intervals/trials"


@dataclass(frozen=True, eq=False)
class Request:
    """Which stretches of a session a user asks for; see `Recording.spikes` for the meaning of each."""

    align: Any = None
    window: Any = None
    intervals: str | None = None
    trials: Any = None

    @property
    def wants_trials(self) -> bool:
        """Whether trials are asked for, rather than the session as one stretch."""
        return self.align is not None or self.intervals is not None or self.trials is not None


def interval_tables(catalog: Catalog) -> tuple[TableEntry, ...]:
    """Return the tables of intervals that can be trials: all with rows but `invalid_times` and those of results."""
    return tuple(t for t in catalog.of_type("TimeIntervals") if t.name != "invalid_times" and t.n_rows)


def empty_tables(catalog: Catalog) -> tuple[TableEntry, ...]:
    """Return the tables of intervals without rows, which count as none."""
    return tuple(table for table in catalog.of_type("TimeIntervals") if not table.n_rows)


def interval_names(tables: Sequence[TableEntry]) -> list[str]:
    """Return what each table of intervals is called: its name, or its path where several share the name."""
    names = [table.name for table in tables]
    return [table.name if names.count(table.name) == 1 else table.path for table in tables]


def main_table(tables: Sequence[TableEntry]) -> TableEntry | None:
    """Return the table that NWB calls the trials of a session, None where it is not among them."""
    return next((table for table in tables if table.path == TRIALS), None)


def choose_intervals(catalog: Catalog, name: str | None) -> TableEntry:
    """Return the table of intervals that is meant, or raise: `name`, else `trials`, else the only one."""
    tables, empty = interval_tables(catalog), empty_tables(catalog)
    if name is not None:
        if isinstance(name, str) and any(table.path.endswith("/" + name.strip("/")) for table in empty):
            if not any(table.path.endswith("/" + name.strip("/")) for table in tables):
                raise ValueError(f"intervals: the table {name!r} has no rows; leave intervals= out to read everything")
        return choose(tables, name, "intervals", "interval tables", by_path=catalog.result_intervals)
    if not tables:
        raise ValueError(
            "intervals: the file holds no table of trials or other intervals"
            + (f" with rows (empty: {listed([table.path for table in empty])})" if empty else "")
            + ", so nothing can be aligned; leave align=, intervals= and trials= out to read the whole recording, and "
            "divide it with chop"
        )
    trials = main_table(tables)
    if trials is not None or len(tables) == 1:
        return trials or tables[0]
    raise ValueError(
        f"intervals: the file holds {len(tables)} interval tables: {', '.join(table.path for table in tables)}; "
        f"say which one is meant, such as intervals={interval_names(tables)[0]!r}"
    )


def read_intervals(source: Source, entry: TableEntry) -> Rows:
    """Return the rows of a table of intervals that make trials; the others are in `dropped`."""
    with source.open() as file:
        return trial_rows(read_rows(file, entry))


def intervals_dataset(source: Source, entry: TableEntry) -> xr.Dataset:
    """Return a table of intervals as a Dataset over `trial`; see `interval_variables` for its columns.

    Rows that make no trial are left out; attrs["dropped"] says which and why, attrs["left_out"] which columns.
    """
    import xarray as xr

    with source.open() as file:
        every = read_rows(file, entry)
        rows = trial_rows(every)
        kept = np.isin(every.ids, rows.ids)
        variables, left_out = interval_variables(file, entry, rows, kept)
    attrs: dict[str, Any] = {"nwb_path": entry.path, "source": source.uri}
    if rows.dropped:
        attrs["dropped"] = [f"{id_}: {reason}" for id_, reason in rows.dropped]
    if left_out:
        attrs["left_out"] = left_out
    return xr.Dataset(variables, coords={"trial": rows.ids}, attrs=attrs)


def interval_variables(
    file: H5, entry: TableEntry, rows: Rows, kept: NDArray[np.bool_], dim: str = "trial"
) -> tuple[dict[str, Any], list[str]]:
    """Return the columns of a table of intervals or events as variables over `dim`, and which are left out and why.

    `rows` are those of the table where `kept` (row of the file,) is True. Ragged columns become object arrays of lists;
    a column called `trial`, as the ids are, becomes `trial_trial`.
    """
    columns: dict[str, Any] = dict(rows.columns)
    left_out = dict(left_out_columns(file[entry.path], entry))
    for name in ragged_columns(file[entry.path], entry):
        if name in left_out:
            continue
        cells = np.empty(len(rows), dtype=object)
        try:
            parts = read_ragged(file, entry.path, name, entry.n_rows) or []
        except ValueError as error:
            left_out[name] = str(error)
            continue
        cells[:] = [parts[row].tolist() for row in np.flatnonzero(kept)]
        columns[name] = cells
    named = zip(free_names(columns, dim, {dim}), columns.values(), strict=True)
    return {name: (dim, values) for name, values in named}, [f"{name}: {why}" for name, why in left_out.items()]


def ragged_columns(group: H5, entry: TableEntry) -> list[str]:
    """Return the columns of a table of intervals with a list in each row; lists of lists are left."""
    return [name for name in entry.columns if f"{name}_index" in group and f"{name}_index_index" not in group]


def left_out_columns(group: H5, entry: TableEntry) -> list[tuple[str, str]]:
    """Return the columns of a table that are not read, with the reason."""
    found = []
    for name in entry.columns:
        column = group[name]
        if name == "timeseries":
            found.append((name, "references to stretches of series"))
        elif f"{name}_index_index" in group:
            found.append((name, "lists of lists"))
        elif f"{name}_index" in group:
            continue
        elif type_of(column) == "DynamicTableRegion":
            found.append((name, "rows of another table"))
        elif column.ndim > 1 and not is_split(column):
            found.append((name, f"arrays of shape {column.shape[1:]} in each row"))
        elif column.dtype.names:
            found.append((name, "compound values"))
    return found


def requested_grid(
    source: Source,
    catalog: Catalog,
    request: Request,
    bin_size: float,
    stretch: tuple[float, float],
    hint: str = "",
) -> tuple[Grid, int, list[str]]:
    """Return the bins of a request, the number of trials asked for and warnings.

    A request without trials and window asks for the whole `stretch` (start and stop of the recording in s). Bins that
    would fill the memory are refused; `hint` is what may be done about it beside what the error says.
    """
    if not request.wants_trials:
        start, stop = request.window if request.window is not None else stretch
        return session_grid(start, stop, bin_size, hint), 0, []
    events, said = _events_of(source, catalog, request)
    if events is not None and request.intervals is None and request.trials is None:
        if request.window is None:
            raise ValueError(
                f"window: align={request.align!r} makes a trial of each of {len(events.times)} events, which last no "
                "time; pass window=(start, stop) in s, or intervals= for the first event inside each trial"
            )
        known = {"start_time": events.times, **events.columns}
        known |= {} if events.labels is None else {"label": events.labels}
        trials = Rows(np.arange(len(events.times)), known)
        return trial_grid(trials, bin_size, None, request.window, hint), len(trials), said
    trials = read_intervals(source, choose_intervals(catalog, request.intervals))
    if request.trials is not None:
        trials = replace(trials.take(select_rows(trials, request.trials, "trial")), dropped=())
    n_asked = len(trials) + len(trials.dropped)
    align = request.align
    if events is not None:
        trials, align = _with_first(trials, events, str(align).strip("/").replace("/", "_"))
    grid = trial_grid(trials, bin_size, align, request.window, hint)
    warnings = [*said, looks_relative(trials, align), all_one_window(grid), looks_padded(grid)]
    return grid, n_asked, [warning for warning in warnings if warning]


def _events_of(source: Source, catalog: Catalog, request: Request) -> tuple[Events | None, list[str]]:
    """Return the events that `align` names and what is odd about them, None where it is a column or no text."""
    name = request.align
    if not isinstance(name, str):
        return None, []
    tables = interval_tables(catalog)
    if tables and (request.intervals is not None or request.trials is not None or len(tables) == 1):
        tables = (choose_intervals(catalog, request.intervals),)
    elif main := main_table(tables):
        tables = (main,)
    if any(name in table.columns and name not in table.ragged for table in tables):
        return None, []
    ragged = [table for table in tables if name in table.ragged]
    found = (EventColumn(f"{ragged[0].path}/{name}", ragged[0]), None) if ragged else find_events(source, catalog, name)
    others = [] if tables or found is not None else [entry.path for entry in event_entries(catalog)]
    if others:
        raise ValueError(f"align: got {name!r}, wanted the name of events: {listed(others)}")
    if found is None:
        return None, []
    events = read_event_times(source, found[0]).only(found[1])
    return events, list(events.oddities)


def _with_first(trials: Rows, events: Events, name: str) -> tuple[Rows, str]:
    """Return trials with the time of the first event inside each as a column, and its name; without those of none.

    Events of a list in the trials' own table count for their own trial.
    """
    name = f"{name}_event" if name in trials.columns else name
    if "stop_time" not in trials.columns:
        raise ValueError(f"align: the table has no stop_time, so that no event of {name!r} lies inside a trial")
    start, stop = trials.columns["start_time"], trials.columns["stop_time"]
    first = np.full(len(trials), np.nan)
    order = np.argsort(events.times, kind="stable")
    order = order[np.isfinite(events.times[order])]
    times = events.times[order]
    for k, id_ in enumerate(trials.ids.tolist()):
        its_own = times if events.trials is None else times[events.trials[order] == id_]
        at = int(np.searchsorted(its_own, start[k]))
        if at < len(its_own) and its_own[at] < stop[k]:
            first[k] = its_own[at]
    missing = np.isnan(first)
    trials = replace(trials, columns={**trials.columns, name: first})
    return trials.take(~missing, [(id_, f"no event of {name} inside") for id_ in trials.ids[missing].tolist()]), name


class IntervalTables(Mapping[str, "xr.Dataset"]):
    """Interval tables by name, each read when it is asked for; those that share a name go by their path."""

    def __init__(self, source: Source, catalog: Catalog):
        tables = interval_tables(catalog)
        self._source = source
        self._of_results = catalog.result_intervals
        self._tables = dict(zip(interval_names(tables), tables, strict=True))

    def __getitem__(self, name: str) -> xr.Dataset:
        return intervals_dataset(self._source, self._entry(name))

    def __contains__(self, name: object) -> bool:
        try:  # without reading the table, as Mapping would
            return self._entry(name) is not None
        except (KeyError, TypeError):
            return False

    def _entry(self, name: Any) -> TableEntry:
        """Return the table that a name or path means."""
        if name in self._tables:
            return self._tables[name]
        try:
            tables = tuple(self._tables.values())
            return choose(tables, name, "intervals", "interval tables", by_path=self._of_results)
        except ValueError as error:
            raise KeyError(str(error)) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __repr__(self) -> str:
        rows = [f"  {name}: {table.n_rows} rows ({', '.join(table.columns)})" for name, table in self._tables.items()]
        return "\n".join(["Interval tables:", *(rows or ["  none"])])
