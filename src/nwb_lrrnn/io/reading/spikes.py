"""Spike times of a Units table as counts in bins: lazy, with the metadata of every unit and the bins not observed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import observed_bins, outside_intervals
from nwb_lrrnn.io.files.hdf5 import plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import assemble, report_dropped
from nwb_lrrnn.io.reading.catalog import Catalog, choose, listed
from nwb_lrrnn.io.reading.entries import InFile, TableEntry
from nwb_lrrnn.io.reading.grid import Grid
from nwb_lrrnn.io.reading.intervals import Request, requested_grid
from nwb_lrrnn.io.reading.kinds import Content, Extent, Population
from nwb_lrrnn.io.reading.lazy import SpikeCounts, lazy_blocks
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.spike_table import SpikeSummary, SpikeTable
from nwb_lrrnn.io.reading.tables import Rows, read_ragged, read_rows, repeated_ids, unit_electrodes

if TYPE_CHECKING:
    import xarray as xr

_ON_BAD_SPIKES = ("sort", "raise")


@dataclass(frozen=True, eq=False)
class ReadUnits:
    """Rows of a Units table with electrode metadata, and the intervals in which each unit was observed (or None)."""

    rows: Rows
    observed: list[NDArray[np.float64]] | None
    object_id: str


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


def read_units(source: Source, entry: TableEntry, time_scale: float = 1.0) -> ReadUnits:
    """Return the rows of a Units table with the metadata of their electrodes, and their observation intervals."""
    with source.open() as file:
        rows = read_rows(file, entry)
        columns = {**unit_electrodes(file, entry), **rows.columns}  # the unit's own column wins
        observed = read_ragged(file, entry.path, "obs_intervals", entry.n_rows)
        object_id = str(plain(file[entry.path].attrs.get("object_id")) or "")
    if observed is not None:
        if any(part.size and part.shape[1:] != (2,) for part in observed):
            raise ValueError(
                f"{entry.path}/obs_intervals: got {observed[0].ndim} dims, wanted (interval, 2), a start and a stop "
                "each; repair the file with pynwb"
            )
        observed = [part.reshape(-1, 2) * time_scale for part in observed]
        observed = None if all(not len(part) for part in observed) else observed
    return ReadUnits(replace(rows, columns=columns), observed, object_id)


def read_spikes(
    source: Source,
    catalog: Catalog,
    entry: TableEntry,
    request: Request,
    *,
    bin_size: float,
    units: Any,
    on_bad_spikes: str,
    min_rate: float | None,
    time_scale: float,
) -> tuple[xr.DataArray, list[str]]:
    """Return counts as `Recording.spikes` describes them, and warnings for its caller."""
    if on_bad_spikes not in _ON_BAD_SPIKES:
        raise ValueError(f"on_bad_spikes: got {on_bad_spikes!r}, wanted one of {', '.join(_ON_BAD_SPIKES)}")
    known = read_units(source, entry, time_scale)
    spikes = SpikeTable(source, entry.path, entry.n_rows, entry.n_spikes or 0, float(time_scale))
    summary = spikes.summary()
    index = select_rows(known.rows, units, "unit")
    warnings = _bad_spikes(known.rows, index, summary.problems, on_bad_spikes)
    stretch = session_stretch(summary, known.observed)
    index = _fast_enough(index, summary, stretch, min_rate)
    warnings += looks_like_ms(source, catalog, summary, time_scale)
    grid, n_asked, more = requested_grid(source, catalog, request, bin_size, stretch)
    observed = _observed(grid, known.observed, index, invalid_times(source, catalog))
    if observed is not None:
        seen = np.asarray(observed.any(axis=tuple(range(1, observed.ndim))))
        if grid.trials is not None:
            grid = grid.drop(~seen, "no bin of it was observed")
            observed = observed[seen]
        elif not seen.all():
            raise ValueError(f"window: no bin of {request.window} s was observed; widen the window")
    dtype = summary.count_dtype(index, grid.bin_size)
    counts = SpikeCounts(spikes, index, grid.bin_size, grid.starts, grid.n_bins, grid.inside, dtype)
    attrs = {
        "bin_size": grid.bin_size,
        "units": "counts",
        "source": source.uri,
        "version_tag": source.version_tag,
        "nwb_path": entry.path,
        "neurodata_type": entry.neurodata_type,
        "object_id": known.object_id,
    }
    report_dropped(grid, n_asked, attrs)
    array = assemble(lazy_blocks(counts), grid, known.rows.take(index), observed=observed, attrs=attrs)
    return array.rename("spikes"), warnings + more


def invalid_times(source: Source, catalog: Catalog) -> NDArray[np.float64] | None:
    """Return the intervals (interval, 2) that the file calls invalid, None where it has none."""
    entry = next((table for table in catalog.of_type("TimeIntervals") if table.name == "invalid_times"), None)
    if entry is None or not {"start_time", "stop_time"} <= set(entry.columns):
        return None
    with source.open() as file:
        columns = read_rows(file, entry).columns
    return np.stack([columns["start_time"], columns["stop_time"]], axis=1).astype(np.float64)


def session_stretch(spikes: SpikeSummary, observed: list[NDArray[np.float64]] | None) -> tuple[float, float]:
    """Return start and stop of a session in s: those of the observation intervals, else 0 and the last spike.

    A session whose clock does not start at 0 (first spike later than the spikes last) starts at its first spike.
    """
    if observed is not None:
        every = np.concatenate(observed)
        every = every[np.isfinite(every).all(axis=1)]
        if len(every):
            return float(every.min()), float(every.max())
    if not spikes.n.any():
        return 0.0, 0.0
    first, last = float(np.nanmin(spikes.first)), float(np.nanmax(spikes.last))
    return (first, last) if first < 0 or first > last - first else (0.0, last)


def _observed(
    grid: Grid, observed: list[NDArray[np.float64]] | None, index: NDArray[np.intp], invalid: NDArray[np.float64] | None
) -> NDArray[np.bool_] | None:
    """Return which bins were observed: (trial, time), or (trial, time, unit) where units differ; None: all."""
    shape = (len(grid.starts), grid.n_bins)
    every = np.ones(shape, dtype=bool) if grid.inside is None else grid.inside.copy()
    if invalid is not None:
        every &= observed_bins(outside_intervals(invalid), grid.bin_size, grid.starts, grid.n_bins)
    if observed is not None:
        masks: dict[bytes, NDArray[np.bool_]] = {}  # units recorded together have the same intervals: ask once
        keys = [observed[row].tobytes() for row in index]
        for row, key in zip(index, keys, strict=True):
            if key not in masks:
                masks[key] = observed_bins(observed[row], grid.bin_size, grid.starts, grid.n_bins)
                masks[key] |= not len(observed[row])  # no intervals: nothing is said about this unit
        if len(masks) == 1:
            every &= next(iter(masks.values()))
        elif not all(mask.all() for mask in masks.values()):
            every = every[..., None] & np.stack([masks[key] for key in keys], axis=-1)
    return None if every.all() else every


def _bad_spikes(rows: Rows, index: NDArray[np.intp], problems: dict[int, str], on_bad_spikes: str) -> list[str]:
    """Return one warning about bad spike times of the units asked for, or raise."""
    said = [f"unit {rows.ids[row]}: {problems[row]}" for row in index.tolist() if row in problems]
    if not said:
        return []
    if on_bad_spikes == "raise":
        told = listed([text.replace(" (dropped)", "").replace(" (sorted)", "") for text in said], at_most=5)
        raise ValueError(f"spike times of {len(said)} units are bad: {told}; on_bad_spikes='sort' drops and sorts them")
    return [f"spike times of {len(said)} of {len(index)} units were repaired: {listed(said, at_most=5)}"]


def _fast_enough(
    index: NDArray[np.intp], spikes: SpikeSummary, stretch: tuple[float, float], min_rate: float | None
) -> NDArray[np.intp]:
    """Return the rows of units with at least `min_rate` spikes/s over the recording."""
    if min_rate is None:
        return index
    duration = max(stretch[1] - stretch[0], 1e-9)
    rates = spikes.n[index] / duration
    if not (rates >= min_rate).any():
        raise ValueError(f"min_rate: no unit reaches {min_rate} spikes/s, the fastest has {rates.max():.3g}; lower it")
    return index[rates >= min_rate]


def looks_like_ms(source: Source, catalog: Catalog, spikes: SpikeSummary, time_scale: float) -> list[str]:
    """Return a warning where spike times run far beyond the trials at absurdly low rates: they may be in ms."""
    trials = next((table for table in catalog.of_type("TimeIntervals") if table.path == "/intervals/trials"), None)
    spiking = spikes.n > 1
    if trials is None or "stop_time" not in trials.columns or not spiking.any() or time_scale != 1.0:
        return []
    last_spike = float(spikes.last[spiking].max())
    rate = float(np.median(spikes.n[spiking])) / max(last_spike, 1e-9)
    if rate >= 0.05:
        return []
    with source.open() as file:
        stops = read_rows(file, trials).columns.get("stop_time", np.zeros(0))
    last_stop = float(stops[np.isfinite(stops)].max(initial=0.0))
    if not 0 < last_stop < last_spike / 10:
        return []
    return [
        f"spike times run to {last_spike:g} s but trials end at {last_stop:g} s, and the median rate is {rate:.2g} "
        "spikes/s: they may be in ms; if so, pass time_scale=0.001"
    ]


# --- what the table of populations says of a Units table --------------------------------------------------------------


def _is_units(entry: InFile) -> bool:
    """Return whether an entry is a table of units."""
    return isinstance(entry, TableEntry) and entry.kind == "Units"


def _call(entry: TableEntry, name: str) -> str:
    """Return how a user reads it."""
    return f"recording.spikes(bin_size=0.02{f', table={name!r}' if name else ''})"


def _extent(entry: TableEntry) -> Extent:
    """Return how large it is; its shape is that of its spike times."""
    return Extent(None if entry.n_spikes is None else (entry.n_spikes,), entry.n_rows, "spikes")


def _size(source: Source, content: Content) -> str:
    """Return how large it is in words."""
    text = f"{content.n_units} units"
    return text if content.shape is None else f"{text}, {content.shape[0]} spikes{_mean_rate(source, content)}"


def _unit_table(source: Source, catalog: Catalog, entry: TableEntry) -> tuple[Rows, str, NDArray[np.intp]]:
    """Return ids and metadata of the units, whose table is their own."""
    return read_units(source, entry).rows, entry.path, np.arange(entry.n_rows)


def _mean_rate(source: Source, content: Content) -> str:
    """Return the mean rate over units as text, from a few numbers of the file; empty where they do not tell.

    The duration is that of the observation intervals, else the time of the last unit's last spike: an estimate.
    """
    if not content.n_units or not content.shape or not content.shape[0]:
        return ""
    try:
        duration = _observed_duration(source, content.path)
    except (OSError, ValueError):  # the file is gone or damaged: printing must work all the same
        return ""
    if not duration > 0:
        return ""
    return f", about {content.shape[0] / content.n_units / duration:.2g} spikes/s per unit"


def _observed_duration(source: Source, path: str) -> float:
    """Return how long units were observed on average, in s."""
    with source.open() as file:
        group = file[path]
        if "obs_intervals" in group and group["obs_intervals"].ndim == 2 and len(group["obs_intervals"]):
            lengths = np.diff(group["obs_intervals"][()], axis=1)
            return float(lengths[np.isfinite(lengths)].sum()) / len(group["id"])
        return float(group["spike_times"][-1])


def _problems(source: Source, catalog: Catalog, table: TableEntry) -> list[str]:
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
    return problems + repeated_ids(table.path, rows) + looks_like_ms(source, catalog, spikes, 1.0)


UNITS = Population(
    kind="units",
    method="spikes",
    noun="units",
    unit_kind="unit",
    holder="TsGroup",
    matches=_is_units,
    why_not=why_no_spikes,
    call=_call,
    extent=_extent,
    size=_size,
    read=read_spikes,
    unit_table=_unit_table,
    problems=_problems,
    needs_several=False,
)
