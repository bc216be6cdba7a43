"""What is wrong with a file, found by reading spike times, trial tables and timestamps."""

import numpy as np

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, listed
from nwb_lrrnn.io.reading.clock import read_clock
from nwb_lrrnn.io.reading.entries import SeriesEntry, TableEntry, layout, series_kind, why_not_read
from nwb_lrrnn.io.reading.intervals import interval_tables, read_intervals
from nwb_lrrnn.io.reading.spike_table import SpikeTable
from nwb_lrrnn.io.reading.spikes import looks_like_ms, read_units, why_no_spikes
from nwb_lrrnn.io.reading.tables import Rows


def find_problems(source: Source, catalog: Catalog) -> list[str]:
    """Return what is wrong with the file, one sentence each.

    Parameters
    ----------
    source : Source
        The file.
    catalog : Catalog
        Its catalogue.

    Returns
    -------
    problems : list of str
        Empty where nothing was found.

    Examples
    --------
    >>> find_problems(source, catalog)  # doctest: +SKIP
    ['/units: unit 3: not in ascending order from index 515 on (sorted)']
    """
    problems = []
    for table in catalog.of_type("Units"):
        problems += _unit_problems(source, catalog, table)
    for table in interval_tables(catalog):
        problems += _interval_problems(source, table)
    for entry in catalog.series:
        problems += _series_problems(source, entry)
    return problems


def _unit_problems(source: Source, catalog: Catalog, table: TableEntry) -> list[str]:
    """Return what is wrong with a units table."""
    reason = why_no_spikes(table)
    if reason is not None:
        return [reason]
    try:
        rows = read_units(source, table).rows
        spikes = SpikeTable(source, table.path, table.n_rows, table.n_spikes or 0).summary()
    except ValueError as error:
        return [str(error)]
    problems = [f"{table.path}: unit {rows.ids[row]}: {problem}" for row, problem in spikes.problems.items()]
    kinds = (
        ("have no spikes", spikes.n == 0),
        ("have spikes before time 0", spikes.first < 0),
        ("have spikes at the same time twice", spikes.repeats),
    )
    for what, flags in kinds:
        if flags.any():
            ids = listed(rows.ids[flags].tolist())
            problems.append(f"{table.path}: {flags.sum()} of {len(flags)} units {what}: {ids}")
    return problems + _repeated_ids(table, rows) + looks_like_ms(source, catalog, spikes, 1.0)


def _interval_problems(source: Source, table: TableEntry) -> list[str]:
    """Return what is wrong with a table of intervals."""
    rows = read_intervals(source, table)
    problems = _repeated_ids(table, rows)
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
    n_overlaps = int((start[order][1:] < np.fmax.accumulate(stop[order])[:-1]).sum())
    if n_overlaps:
        problems.append(
            f"{table.path}: {n_overlaps} of {len(rows)} rows overlap an earlier one; what they share is used twice"
        )
    return problems


def _series_problems(source: Source, entry: SeriesEntry) -> list[str]:
    """Return what is wrong with a series."""
    reason = why_not_read(entry)
    if reason is not None:
        return [reason] if series_kind(entry) != "other" else []  # images and sweeps are in order, if not read
    shape = layout(entry)
    problems = [shape.oddity] if shape.oddity else []
    if shape.transposed:
        problems.append(f"{entry.path}: the data are stored (unit, time); they are read as (time, unit)")
    try:
        clock = read_clock(source, entry, shape.n_samples)
    except ValueError as error:
        return [*problems, str(error)]
    if len(clock.segments):
        first = clock.times()[clock.segments[0]]
        problems.append(f"{entry.path}: {len(clock.segments)} gaps in the timestamps, the first ends at {first:g} s")
    return problems


def _repeated_ids(table: TableEntry, rows: Rows) -> list[str]:
    """Return a problem where ids repeat."""
    return [f"{table.path}: ids repeat; rows go by their numbers instead"] if rows.ids_repeat else []
