"""A Units table: which one is meant, its rows with their electrodes, and when and how fast each unit fired."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import object_id_of
from nwb_lrrnn.io.reading.catalog import Catalog, choose, listed
from nwb_lrrnn.io.reading.entries import TableEntry
from nwb_lrrnn.io.reading.invalid_times import invalid_times
from nwb_lrrnn.io.reading.observed import UnitRates, unit_rates
from nwb_lrrnn.io.reading.ragged import read_ends, read_ragged
from nwb_lrrnn.io.reading.spike_table import SpikeTable
from nwb_lrrnn.io.reading.tables import Rows, free_names, read_rows, unit_electrodes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class ReadUnits:
    """Rows of a Units table with electrode metadata, and the intervals in which each unit was observed (or None).

    `oddities` say what is wrong with the electrodes and the intervals.
    """

    rows: Rows
    observed: list[NDArray[np.float64]] | None
    object_id: str
    oddities: tuple[str, ...] = ()


def choose_units(catalog: Catalog, name: str | None) -> TableEntry:
    """Return the Units table that is meant, or raise: `name`, else /units, else the only one with spike times."""
    tables = catalog.of_type("Units")
    if name is not None:
        entry = choose(tables, name, "table", "units tables")
    elif not tables:
        raise ValueError(
            "the file holds no units table, so there are no spikes; recording.contents lists what there is"
        )
    else:
        usable = [table for table in tables if table.n_spikes is not None] or list(tables)
        main = [table for table in usable if table.path == "/units"]
        if len(usable) > 1 and not main:
            paths = ", ".join(table.path for table in usable)
            raise ValueError(
                f"table: the file holds several units tables: {paths}; say which, table={usable[0].path!r}"
            )
        entry = (main or usable)[0]
    reason = why_no_spikes(entry)
    if reason is not None:
        raise ValueError(reason)
    return entry


def why_no_spikes(entry: TableEntry) -> str | None:
    """Return the sentence why a Units table cannot be binned, None where it can."""
    if not entry.n_rows:
        return f"{entry.path}: the units table has no rows, so there are no spikes to bin"
    fault = next((text for text in entry.faults if "`spike_times`" in text), None)
    if fault is not None:
        return fault
    if entry.n_spikes is None:
        columns = listed(entry.columns) or "none"
        why = (
            "its column spike_times is no list of numbers"
            if "spike_times" in entry.columns
            else "no column spike_times"
        )
        return f"{entry.path}: the units have no spikes ({why}); available columns: {columns}"
    return None


def read_units(source: Source, entry: TableEntry) -> ReadUnits:
    """Return the rows of a Units table with the metadata of their electrodes, and their observation intervals."""
    with source.open() as file:
        rows = read_rows(file, entry)
        electrodes, odd = unit_electrodes(file, entry)
        columns = {**electrodes, **rows.columns}  # the unit's own column wins
        object_id = object_id_of(file[entry.path])
    observed, oddity = read_observed(source, entry)
    return ReadUnits(replace(rows, columns=columns), observed, object_id, tuple(filter(None, (odd, oddity))))


def read_observed(source: Source, entry: TableEntry) -> tuple[list[NDArray[np.float64]] | None, str | None]:
    """Return the obs_intervals (interval, 2) of each row of a Units table, and what is odd about their division.

    None where it says of no unit.
    """
    with source.open() as file:
        observed = read_ragged(file, entry.path, "obs_intervals", entry.n_rows)
        oddity = None if observed is None else read_ends(file, entry.path, "obs_intervals", entry.n_rows)[1]
    if observed is None:
        return None, oddity
    if any(part.size and part.shape[1:] != (2,) for part in observed):
        raise ValueError(
            f"{entry.path}/obs_intervals: got {observed[0].ndim} dims, wanted (interval, 2), a start and a stop "
            "each; repair the file with pynwb"
        )
    observed = [part.reshape(-1, 2).astype(np.float64) for part in observed]
    return (None if all(not len(part) for part in observed) else observed), oddity


def rates_of_units(
    source: Source, catalog: Catalog, entry: TableEntry, observed: list[NDArray[np.float64]] | None
) -> UnitRates:
    """Return how fast the units of a table fired in observed time, given their obs_intervals (`read_observed`)."""
    spikes = SpikeTable(source, entry.path, entry.n_rows, entry.n_spikes or 0)
    return unit_rates(spikes, observed, invalid_times(source, catalog, entry.path))


def unit_frame(source: Source, catalog: Catalog, entry: TableEntry) -> pd.DataFrame:
    """Return the rows of a Units table by id, with n_spikes and rate in spikes/s; see `Recording.units`."""
    import pandas as pd

    known = read_units(source, entry)
    rows, found = known.rows, rates_of_units(source, catalog, entry, known.observed)
    names = free_names(rows.columns, "unit", {"unit", "n_spikes", "rate"})
    columns = dict(zip(names, rows.columns.values(), strict=True))
    return pd.DataFrame(
        columns | {"n_spikes": found.n_spikes, "rate": found.rates}, index=pd.Index(rows.ids, name="unit")
    )
