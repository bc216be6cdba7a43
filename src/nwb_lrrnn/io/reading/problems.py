"""What is wrong with a file, found by reading spike times, trial tables and timestamps."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.io.errors import ElsewhereError
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, listed
from nwb_lrrnn.io.reading.entries import TableEntry
from nwb_lrrnn.io.reading.event_times import event_entries, event_problems
from nwb_lrrnn.io.reading.grid import long_trials
from nwb_lrrnn.io.reading.intervals import empty_tables, interval_tables, ragged_columns, read_intervals
from nwb_lrrnn.io.reading.invalid_times import invalid_table, read_invalid_times
from nwb_lrrnn.io.reading.populations import population_of
from nwb_lrrnn.io.reading.ragged import read_ends
from nwb_lrrnn.io.reading.series import series_problems
from nwb_lrrnn.io.reading.series_kinds import series_kind
from nwb_lrrnn.io.reading.tables import repeated_ids


def find_problems(source: Source, catalog: Catalog) -> list[str]:
    """Return what is wrong with the file, one sentence each; empty where nothing was found."""
    problems = [entry.reason for entry in catalog.lost]
    for entry in (*catalog.tables, *catalog.series):
        if entry.elsewhere:
            problems.append(f"{entry.path}: it lies in another file, {entry.elsewhere}; keep the two together")
    for table in catalog.tables:
        problems += table.faults
        population = population_of(table)
        if population is not None:
            problems += population.problems(source, catalog, table)
    problems += [f"{table.path}: the table has no rows" for table in empty_tables(catalog)]
    for table in interval_tables(catalog):
        try:
            problems += _interval_problems(source, table)
        except ElsewhereError as error:
            problems.append(f"{table.path}: {error}")
        except ValueError as error:  # a part of the table is missing or damaged
            problems.append(str(error))
    invalid = invalid_table(catalog)
    if invalid is not None:
        problems += read_invalid_times(source, invalid).oddities
    events = event_entries(catalog)
    for entry in events:
        problems += event_problems(source, entry)
    held = {entry.path for entry in events}
    for entry in catalog.series:
        if entry.misread and series_kind(entry) == "events":
            problems.append(f"{entry.path}: {entry.misread}")
        if entry.path in held:
            continue
        population = population_of(entry)
        find = series_problems if population is None else population.problems
        problems += find(source, catalog, entry)
    return list(dict.fromkeys(problems))


def _interval_problems(source: Source, table: TableEntry) -> list[str]:
    """Return what is wrong with a table of intervals."""
    rows = read_intervals(source, table)
    problems = repeated_ids(table.path, rows)
    if rows.dropped:
        said = listed([f"{id_}: {reason}" for id_, reason in rows.dropped], at_most=5)
        problems.append(f"{table.path}: {len(rows.dropped)} of {table.n_rows} rows make no trial ({said})")
    problems += [f"{table.path}: {text}" for text in _damaged_columns(source, table)]
    if not len(rows):
        return problems
    start = rows.columns["start_time"]
    stop = rows.columns.get("stop_time", start)
    windows = np.unique(np.stack([start, np.where(np.isnan(stop), start, stop)]), axis=1).shape[1]
    if windows == 1 and len(rows) > 1:
        return [
            *problems,
            f"{table.path}: all {len(rows)} rows are one and the same window from {start[0]:g} s on, copies of one "
            "trial; if times are relative to each trial, the file cannot be divided into trials",
        ]
    order = np.argsort(start, kind="stable")
    if (np.diff(order) < 0).any():
        problems.append(f"{table.path}: the rows are not in order of start_time; they are kept in the file's order")
    if windows < len(rows):
        n_copies = len(rows) - windows
        problems.append(f"{table.path}: {n_copies} of {len(rows)} rows are copies of earlier ones, at the same times")
    long = long_trials(stop - start, rows.ids)
    if long:
        problems.append(f"{table.path}: {long}; padded to the longest, most bins of most trials are unobserved")
    n_overlaps = int((start[order][1:] < np.fmax.accumulate(stop[order])[:-1]).sum())
    if n_overlaps:
        problems.append(
            f"{table.path}: {n_overlaps} of {len(rows)} rows overlap an earlier one; what they share is used twice"
        )
    return problems


def _damaged_columns(source: Source, table: TableEntry) -> list[str]:
    """Return what is wrong with the ragged columns of a table of intervals."""
    found = []
    with source.open() as file:
        for name in ragged_columns(file[table.path], table):
            try:
                odd = read_ends(file, table.path, name, table.n_rows)[1]
            except ValueError as error:
                odd = str(error)
            found += [odd.removeprefix(f"{table.path}: ").removeprefix(f"{table.path}/")] if odd else []
    return found
