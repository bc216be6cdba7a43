"""What is wrong with a file, found by reading spike times, trial tables and timestamps."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, listed
from nwb_lrrnn.io.reading.entries import TableEntry
from nwb_lrrnn.io.reading.grid import long_trials
from nwb_lrrnn.io.reading.intervals import interval_tables, read_intervals
from nwb_lrrnn.io.reading.populations import population_of
from nwb_lrrnn.io.reading.series import series_problems
from nwb_lrrnn.io.reading.tables import repeated_ids


def find_problems(source: Source, catalog: Catalog) -> list[str]:
    """Return what is wrong with the file, one sentence each; empty where nothing was found."""
    problems = []
    for table in catalog.tables:
        population = population_of(table)
        if population is not None:
            problems += population.problems(source, catalog, table)
    for table in interval_tables(catalog):
        problems += _interval_problems(source, table)
    for entry in catalog.series:
        population = population_of(entry)
        find = series_problems if population is None else population.problems
        problems += find(source, catalog, entry)
    return problems


def _interval_problems(source: Source, table: TableEntry) -> list[str]:
    """Return what is wrong with a table of intervals."""
    rows = read_intervals(source, table)
    problems = repeated_ids(table.path, rows)
    if rows.dropped:
        said = listed([f"{id_}: {reason}" for id_, reason in rows.dropped], at_most=5)
        problems.append(f"{table.path}: {len(rows.dropped)} of {table.n_rows} rows make no trial ({said})")
    if not table.n_rows:
        return [f"{table.path}: the table has no rows"]
    if not len(rows) or "stop_time" not in rows.columns:
        return problems
    start, stop = rows.columns["start_time"], rows.columns["stop_time"]
    order = np.argsort(start, kind="stable")
    if (np.diff(order) < 0).any():
        problems.append(f"{table.path}: the rows are not in order of start_time; they are kept in the file's order")
    long = long_trials(stop - start, rows.ids)
    if long:
        problems.append(f"{table.path}: {long}; padded to the longest, most bins of most trials are unobserved")
    n_overlaps = int((start[order][1:] < np.fmax.accumulate(stop[order])[:-1]).sum())
    if n_overlaps:
        problems.append(
            f"{table.path}: {n_overlaps} of {len(rows)} rows overlap an earlier one; what they share is used twice"
        )
    return problems
