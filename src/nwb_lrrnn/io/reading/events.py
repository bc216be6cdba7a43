"""Event times, from a column of a table of intervals or from a series of events, as an indicator over bins."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import clean_spike_times, count_spikes
from nwb_lrrnn.io.files.hdf5 import plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import assemble
from nwb_lrrnn.io.reading.catalog import Catalog, choose, listed
from nwb_lrrnn.io.reading.clock import check_times
from nwb_lrrnn.io.reading.entries import SeriesEntry, series_kind
from nwb_lrrnn.io.reading.grid import grid_like
from nwb_lrrnn.io.reading.intervals import interval_tables, read_intervals

if TYPE_CHECKING:
    import xarray as xr


def read_events(source: Source, catalog: Catalog, name: str, like: Any, intervals: str | None) -> xr.DataArray:
    """Return 1.0 in the bins of `like` that hold an event and 0.0 elsewhere, as `Recording.events` describes it."""
    grid = grid_like(like)
    times, path = _event_times(source, catalog, name, intervals)
    counts = count_spikes([clean_spike_times(times)[0]], grid.bin_size, grid.starts, grid.n_bins)
    attrs = {"bin_size": grid.bin_size, "units": "event in bin", "source": source.uri, "nwb_path": path}
    indicator: Any = (counts > 0).astype(np.float64)  # (trial, time, input)
    return assemble(indicator, grid, None, inputs=[name.rsplit("/", 1)[-1]], attrs=attrs).rename(name)


def _event_times(source: Source, catalog: Catalog, name: str, intervals: str | None) -> tuple[NDArray[np.float64], str]:
    """Return session times of the events of that name, and where in the file they are."""
    tables = interval_tables(catalog)
    if intervals is not None:
        tables = (choose(tables, intervals, "intervals", "interval tables", by_path=catalog.result_intervals),)
    holding = [table for table in tables if name in table.columns]
    main = [table for table in holding if table.path == "/intervals/trials"]
    if len(holding) > 1 and not main:
        raise ValueError(
            f"name: {name!r} is a column of {len(holding)} interval tables: {', '.join(t.path for t in holding)}; "
            f"say which one is meant, such as intervals={holding[0].name!r}"
        )
    if holding:
        table = (main or holding)[0]
        times = read_intervals(source, table).columns.get(name)
        if times is None or times.dtype.kind not in "fiu":
            raise ValueError(f"name: the column {name!r} of {table.path} holds no times, wanted numbers in s")
        return times.astype(np.float64), f"{table.path}/{name}"
    series = [] if intervals is not None else [e for e in catalog.series if series_kind(e) == "events"]
    if any(entry.path.endswith("/" + name.strip("/")) for entry in series):
        entry = choose(series, name, "name", "event series")
        return series_times(source, entry), entry.path
    choices = [column for table in tables for column in table.columns] + [entry.path for entry in series]
    close = difflib.get_close_matches(name, choices, n=1)
    raise ValueError(
        f"name: got {name!r}, wanted a column of an interval table or a series of events: "
        f"{listed(choices) or 'the file has none'}" + (f"; did you mean {close[0]!r}?" if close else "")
    )


def series_times(source: Source, entry: SeriesEntry) -> NDArray[np.float64]:
    """Return the times of a series of events; of an IntervalSeries, where intervals begin."""
    if entry.timestamps_shape is None or len(entry.timestamps_shape) != 1:
        raise ValueError(f"name: {entry.path} has no timestamps, wanted one time per event")
    with source.open() as file:
        group = file[entry.path]
        check_times(group["timestamps"], f"{entry.path}/timestamps")
        times = np.asarray(group["timestamps"][()], dtype=np.float64)
        if plain(group.attrs.get("neurodata_type")) == "IntervalSeries" and "data" in group:
            times = times[np.asarray(group["data"][()]) > 0]
    return times
