"""Tables of intervals: which one is meant, its rows as trials, and the bins that a request makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_lrrnn.io.files.hdf5 import H5
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, choose
from nwb_lrrnn.io.reading.entries import TableEntry
from nwb_lrrnn.io.reading.grid import Grid, looks_padded, looks_relative, session_grid, trial_grid
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.tables import Rows, read_ragged, read_rows, trial_rows

if TYPE_CHECKING:
    import xarray as xr


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
    """Return the tables of intervals that can be trials: all but `invalid_times` and those of results."""
    return tuple(table for table in catalog.of_type("TimeIntervals") if table.name != "invalid_times")


def choose_intervals(catalog: Catalog, name: str | None) -> TableEntry:
    """Return the table of intervals that is meant, or raise: `name`, else `trials`, else the only one."""
    tables = interval_tables(catalog)
    if name is not None:
        return choose(tables, name, "intervals", "interval tables", by_path=catalog.result_intervals)
    if not tables:
        raise ValueError(
            "intervals: the file holds no table of trials or other intervals, so nothing can be aligned; leave "
            "align=, intervals= and trials= out to read the whole recording, and divide it with chop"
        )
    trials = [table for table in tables if table.path == "/intervals/trials"]
    if len(trials) == 1 or len(tables) == 1:
        return (trials or list(tables))[0]
    raise ValueError(
        f"intervals: the file holds {len(tables)} interval tables: {', '.join(table.path for table in tables)}; "
        f"say which one is meant, such as intervals={tables[0].name!r}"
    )


def read_intervals(source: Source, entry: TableEntry) -> Rows:
    """Return the rows of a table of intervals that make trials; the others are in `dropped`."""
    with source.open() as file:
        return trial_rows(read_rows(file, entry))


def intervals_dataset(source: Source, entry: TableEntry) -> xr.Dataset:
    """Return a table of intervals as a Dataset over `trial`.

    Ragged columns become object arrays of lists; a column `timeseries` is left out. Rows that make no trial are left
    out; attrs["dropped"] says which and why.
    """
    import xarray as xr

    rows = read_intervals(source, entry)
    with source.open() as file:
        group = file[entry.path]
        ragged = {name: read_ragged(file, entry.path, name, entry.n_rows) for name in ragged_columns(group, entry)}
        all_ids = read_rows(file, entry).ids
    kept = np.flatnonzero(np.isin(all_ids, rows.ids))
    variables: dict[str, Any] = {name: ("trial", values) for name, values in rows.columns.items()}
    for name, parts in ragged.items():
        cells = np.empty(len(kept), dtype=object)
        cells[:] = [(parts or [])[row].tolist() for row in kept]
        variables[name] = ("trial", cells)
    attrs: dict[str, Any] = {"nwb_path": entry.path, "source": source.uri}
    if rows.dropped:
        attrs["dropped"] = [f"{id_}: {reason}" for id_, reason in rows.dropped]
    return xr.Dataset(variables, coords={"trial": rows.ids}, attrs=attrs)


def ragged_columns(group: H5, entry: TableEntry) -> list[str]:
    """Return the columns of a table of intervals with a list in each row; lists of lists and `timeseries` are left."""
    ragged = [name for name in entry.columns if f"{name}_index" in group and name != "timeseries"]
    return [name for name in ragged if f"{name}_index_index" not in group]


def requested_grid(
    source: Source,
    catalog: Catalog,
    request: Request,
    bin_size: float,
    stretch: tuple[float, float],
) -> tuple[Grid, int, list[str]]:
    """Return the bins of a request, the number of trials asked for and warnings.

    A request without trials and window asks for the whole `stretch` (start and stop of the recording in s).
    """
    if not request.wants_trials:
        start, stop = request.window if request.window is not None else stretch
        return session_grid(start, stop, bin_size), 0, []
    trials = read_intervals(source, choose_intervals(catalog, request.intervals))
    if request.trials is not None:
        trials = replace(trials.take(select_rows(trials, request.trials, "trial")), dropped=())
    n_asked = len(trials) + len(trials.dropped)
    grid = trial_grid(trials, bin_size, request.align, request.window)
    found = looks_relative(trials, request.align), looks_padded(grid)
    return grid, n_asked, [warning for warning in found if warning]


class IntervalTables(Mapping[str, "xr.Dataset"]):
    """Interval tables by name, each read when it is asked for; those that share a name go by their path."""

    def __init__(self, source: Source, catalog: Catalog):
        tables = interval_tables(catalog)
        names = [table.name for table in tables]
        self._source = source
        self._of_results = catalog.result_intervals
        self._tables = {t.name if names.count(t.name) == 1 else t.path: t for t in tables}

    def __getitem__(self, name: str) -> xr.Dataset:
        if name in self._tables:
            return intervals_dataset(self._source, self._tables[name])
        try:
            tables = tuple(self._tables.values())
            entry = choose(tables, name, "intervals", "interval tables", by_path=self._of_results)
        except ValueError as error:
            raise KeyError(str(error)) from error
        return intervals_dataset(self._source, entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def __repr__(self) -> str:
        rows = [f"  {name}: {table.n_rows} rows ({', '.join(table.columns)})" for name, table in self._tables.items()]
        return "\n".join(["Interval tables:", *(rows or ["  none"])])
