"""Event times, from a column of a table of intervals or whatever holds events, as an indicator over bins."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_lrrnn.binning import clean_spike_times, count_spikes
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import assemble
from nwb_lrrnn.io.reading.catalog import Catalog, choose, listed
from nwb_lrrnn.io.reading.event_times import EventColumn, Events, event_entries, find_events, read_event_times
from nwb_lrrnn.io.reading.grid import grid_like
from nwb_lrrnn.io.reading.intervals import interval_tables, main_table, read_intervals

if TYPE_CHECKING:
    import xarray as xr


def read_events(
    source: Source, catalog: Catalog, name: str, like: Any, intervals: str | None
) -> tuple[xr.DataArray, list[str]]:
    """Return 1.0 in the bins of `like` that hold an event and 0.0 elsewhere, as `Recording.events` says; and warnings.

    Events with labels have an input for each label that occurs.
    """
    grid = grid_like(like)
    found = _named_events(source, catalog, name, intervals)
    short = name.rsplit("/", 1)[-1]
    parts = [found.times] if found.labels is None else [found.only(kind).times for kind in found.kinds]
    inputs = [short] if found.labels is None else [f"{short}_{kind}" for kind in found.kinds]
    counts = count_spikes([clean_spike_times(times)[0] for times in parts], grid.bin_size, grid.starts, grid.n_bins)
    attrs = {"bin_size": grid.bin_size, "units": "event in bin", "source": source.uri, "nwb_path": found.path}
    indicator: Any = (counts > 0).astype(np.float64)  # (trial, time, input)
    return assemble(indicator, grid, None, inputs=inputs, attrs=attrs).rename(name), list(found.oddities)


def _named_events(source: Source, catalog: Catalog, name: str, intervals: str | None) -> Events:
    """Return the events of that name: of a column of a table of intervals, else of what holds events."""
    tables = interval_tables(catalog)
    if intervals is not None:
        tables = (choose(tables, intervals, "intervals", "interval tables", by_path=catalog.result_intervals),)
    holding = [table for table in tables if name in table.columns]
    main = main_table(holding)
    if len(holding) > 1 and not main:
        raise ValueError(
            f"name: {name!r} is a column of {len(holding)} interval tables: {', '.join(t.path for t in holding)}; "
            f"say which one is meant, such as intervals={holding[0].name!r}"
        )
    if holding:
        table = main or holding[0]
        if name in table.ragged:
            return read_event_times(source, EventColumn(f"{table.path}/{name}", table))
        times = read_intervals(source, table).columns.get(name)
        if times is None or times.dtype.kind not in "fiu":
            raise ValueError(f"name: the column {name!r} of {table.path} holds no times, wanted numbers in s")
        return Events(f"{table.path}/{name}", times.astype(np.float64))
    found = None if intervals is not None else find_events(source, catalog, name)
    if found is not None:
        entry, label = found
        events = read_event_times(source, entry).only(label)
        return events if label is None else replace(events, labels=None)
    others = [] if intervals is not None else [entry.path for entry in event_entries(catalog)]
    choices = [column for table in tables for column in table.columns] + others
    close = difflib.get_close_matches(name, choices, n=1)
    raise ValueError(
        f"name: got {name!r}, wanted a column of an interval table or a series of events: "
        f"{listed(choices) or 'the file has none'}" + (f"; did you mean {close[0]!r}?" if close else "")
    )
