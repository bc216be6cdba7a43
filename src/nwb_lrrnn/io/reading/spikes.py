"""Spike times of a Units table as counts in bins: lazy, with the metadata of every unit and the bins not observed."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import observed_bins, outside_intervals
from nwb_lrrnn.io.files.hdf5 import is_dataset
from nwb_lrrnn.io.files.memory import check_memory
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import assemble, origin, report_dropped
from nwb_lrrnn.io.reading.catalog import Catalog, listed
from nwb_lrrnn.io.reading.entries import InFile, TableEntry
from nwb_lrrnn.io.reading.grid import Grid
from nwb_lrrnn.io.reading.intervals import Request, main_table, read_intervals, requested_grid
from nwb_lrrnn.io.reading.invalid_times import invalid_times
from nwb_lrrnn.io.reading.kinds import Content, Extent, Population
from nwb_lrrnn.io.reading.lazy import SpikeCounts, lazy_blocks
from nwb_lrrnn.io.reading.observed import UnitRates, in_seconds, trials_outside, unit_rates
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.spike_table import SpikeTable
from nwb_lrrnn.io.reading.tables import Rows, repeated_ids
from nwb_lrrnn.io.reading.time_units import coarse_times, doubtful_unit
from nwb_lrrnn.io.reading.units import ReadUnits, rates_of_units, read_observed, read_units, why_no_spikes

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

_ON_BAD_SPIKES = ("sort", "raise")
_MOST_SHOWN = 2**21  # spikes that are read for a line of the printout
_USUAL_BIN = 0.02  # s; spike times that are too coarse for it are a problem of the file


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
    spikes = SpikeTable(source, entry.path, entry.n_rows, entry.n_spikes or 0, _positive_scale(time_scale))
    known = read_units(source, entry)
    if known.observed is not None and time_scale != 1.0:
        known = replace(known, observed=in_seconds(known.observed, spikes.summary(), time_scale))
    invalid = invalid_times(source, catalog, entry.path)
    rates = unit_rates(spikes, known.observed, invalid)
    summary = rates.summary
    index = select_rows(known.rows, units, "unit")
    warnings = _bad_spikes(known.rows, index, summary.problems, on_bad_spikes)
    warnings += [spikes.oddity] if spikes.oddity else []
    index = _fast_enough(index, rates, min_rate)
    doubt = doubtful_unit(source, catalog, entry, summary) if time_scale == 1.0 else None
    warnings += [doubt] if doubt else []
    hint = "or time_scale= where the spike times of the file are not in s" + (f": {doubt}" if doubt else "")
    grid, n_asked, more = requested_grid(source, catalog, request, bin_size, rates.stretch, hint=hint)
    said = [*_outside(entry.path, known, rates, index), coarse_times(source, entry, summary, grid.bin_size)]
    if grid.trials is not None and known.observed is None:
        said.append(trials_outside(grid.starts, grid.starts + grid.n_bins * grid.bin_size, rates))
    for text in filter(None, said):
        logger.warning("%s", text)
    observed = _observed(grid, known.observed, index, invalid)
    if observed is not None:
        seen = np.asarray(observed.any(axis=tuple(range(1, observed.ndim))))
        if grid.trials is not None:
            grid = grid.drop(~seen, "no bin of it was observed")
            observed = observed[seen]
        elif not seen.all():
            raise ValueError(f"window: no bin of {request.window} s was observed; widen the window")
    dtype = summary.count_dtype(index, grid.bin_size)
    counts = SpikeCounts(spikes, index, grid.bin_size, grid.starts, grid.n_bins, grid.inside, dtype)
    attrs = {"bin_size": grid.bin_size, **origin(source, entry, known.object_id, "counts")}
    report_dropped(grid, n_asked, attrs)
    array = assemble(lazy_blocks(counts), grid, known.rows.take(index), observed=observed, attrs=attrs)
    return array.rename("spikes"), warnings + more


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
            what = f"bin_size: {shape[0]} trials of {shape[1]} bins of {len(keys)} units, observed at different times,"
            check_memory(
                math.prod(shape) * len(keys), what, "pass a larger bin_size=, a shorter window= or fewer units="
            )
            every = every[..., None] & np.stack([masks[key] for key in keys], axis=-1)
    return None if every.all() else every


def _positive_scale(time_scale: float) -> float:
    """Return the s per unit of the file's spike times, or raise."""
    if isinstance(time_scale, int | float | np.number) and 0 < time_scale < np.inf:
        return float(time_scale)
    raise ValueError(
        f"time_scale: got {time_scale!r}, wanted a positive number, the s per unit of the file's spike times: 0.001 "
        "for ms, 1/30000 for sample indices at 30 kHz"
    )


def _bad_spikes(rows: Rows, index: NDArray[np.intp], problems: dict[int, str], on_bad_spikes: str) -> list[str]:
    """Return one warning about bad spike times of the units asked for, or raise."""
    said = [f"unit {rows.ids[row]}: {problems[row]}" for row in index.tolist() if row in problems]
    if not said:
        return []
    if on_bad_spikes == "raise":
        told = listed([text.replace(" (dropped)", "").replace(" (sorted)", "") for text in said], at_most=5)
        raise ValueError(f"spike times of {len(said)} units are bad: {told}; on_bad_spikes='sort' drops and sorts them")
    return [f"spike times of {len(said)} of {len(index)} units were repaired: {listed(said, at_most=5)}"]


def _fast_enough(index: NDArray[np.intp], found: UnitRates, min_rate: float | None) -> NDArray[np.intp]:
    """Return the rows of units with at least `min_rate` spikes/s in the time in which they were observed."""
    if min_rate is None:
        return index
    rates = np.nan_to_num(found.rates[index])  # what was never observed reaches no rate
    if not (rates >= min_rate).any():
        raise ValueError(
            f"min_rate: no unit reaches {min_rate} spikes/s in observed time, the fastest has {rates.max():.3g}; "
            "lower it"
        )
    return index[rates >= min_rate]


def _outside(path: str, known: ReadUnits, found: UnitRates, index: NDArray[np.intp]) -> list[str]:
    """Return the sentence that spikes of some units (unit,) lie outside of their obs_intervals, where they do."""
    if known.observed is None:
        return []
    n_outside = found.n_spikes - found.n_inside
    hit = [row for row in index.tolist() if n_outside[row]]
    if not hit:
        return []
    said = listed([f"{known.rows.ids[row]} ({n_outside[row]} of {found.n_spikes[row]})" for row in hit], at_most=5)
    return [
        f"{path}: {len(hit)} of {len(index)} units have spikes outside of their obs_intervals or in invalid_times, "
        f"where bins count as unobserved: unit {said}"
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


def _size(catalog: Catalog, content: Content) -> str:
    """Return how large it is in words."""
    text = f"{content.n_units} units"
    return text if content.shape is None else f"{text}, {content.shape[0]} spikes{_how_long_and_fast(catalog, content)}"


def _unit_table(source: Source, catalog: Catalog, entry: TableEntry) -> tuple[Rows, str, NDArray[np.intp]]:
    """Return ids and metadata of the units, whose table is their own."""
    return read_units(source, entry).rows, entry.path, np.arange(entry.n_rows)


def _how_long_and_fast(catalog: Catalog, content: Content) -> str:
    """Return the stretch of a session and the mean rate over units in observed time as text, empty where unknown.

    From all spikes where they are few and near, else from a few numbers of the file.
    """
    if not content.n_units or not content.shape or not content.shape[0]:
        return ""
    try:
        is_near = not catalog.source.is_remote and content.shape[0] <= _MOST_SHOWN
        start, stop, duration, rate = (_measured if is_near else _estimated)(catalog, content.entry)
    except (OSError, ValueError):  # the file is gone or damaged: printing must work all the same
        return ""
    if not 0 < duration < np.inf:
        return ""
    ends = " to ".join(f"{round(end, 2):.13g}" for end in (start, stop))
    what = "obs_intervals" if "obs_intervals" in content.entry.columns else "first to last spike"
    part = "" if duration > 0.999 * (stop - start) else f", {duration:.4g} s observed"
    return f", {ends} s ({what}{part}), about {rate:.2g} spikes/s per unit"


def _measured(catalog: Catalog, entry: TableEntry) -> tuple[float, float, float, float]:
    """Return start and stop of the session, mean observed seconds, and mean rate, from all spikes."""
    found = rates_of_units(catalog.source, catalog, entry, read_observed(catalog.source, entry)[0])
    rates = found.rates[np.isfinite(found.rates)]
    return *found.stretch, float(found.seconds.mean()), float(rates.mean()) if len(rates) else np.nan


def _estimated(catalog: Catalog, entry: TableEntry) -> tuple[float, float, float, float]:
    """Return the same from obs_intervals, else from the first unit's first and the last unit's last spike."""
    n_spikes, n_rows = entry.n_spikes or 0, entry.n_rows
    with catalog.source.open() as file:
        group = file[entry.path]
        observed = group.get("obs_intervals")
        if is_dataset(observed) and observed.ndim == 2 and len(observed) and observed.dtype.kind in "fiu":
            intervals = observed[()]
            intervals = intervals[np.isfinite(intervals).all(axis=1)]
            start, stop = float(intervals.min()), float(intervals.max())
            duration = float(np.diff(intervals, axis=1).sum()) / n_rows
        else:
            start, stop = float(group["spike_times"][0]), float(group["spike_times"][-1])
            duration = stop - start
    return start, stop, duration, n_spikes / n_rows / duration if duration > 0 else np.nan


def _problems(source: Source, catalog: Catalog, table: TableEntry) -> list[str]:
    """Return what is wrong with a units table."""
    reason = why_no_spikes(table)
    if reason is not None:
        return [reason]
    try:
        known = read_units(source, table)
        times = SpikeTable(source, table.path, table.n_rows, table.n_spikes or 0)
        rows, found = known.rows, rates_of_units(source, catalog, table, known.observed)
        spikes = found.summary
    except ValueError as error:
        return [str(error)]
    problems = [*([times.oddity] if times.oddity else []), *known.oddities]
    problems += [f"{table.path}: unit {rows.ids[row]}: {problem}" for row, problem in spikes.problems.items()]
    kinds = (
        ("have no spikes", spikes.n == 0),
        ("have spikes before time 0", spikes.first < 0),
        ("have spikes at the same time twice", spikes.repeats),
    )
    for what, flags in kinds:
        if flags.any():
            ids = listed(rows.ids[flags].tolist())
            problems.append(f"{table.path}: {flags.sum()} of {len(flags)} units {what}: {ids}")
    problems += _outside(table.path, known, found, np.arange(table.n_rows))
    problems += repeated_ids(table.path, rows)
    said = [doubtful_unit(source, catalog, table, spikes), coarse_times(source, table, spikes, _USUAL_BIN)]
    trials = main_table(catalog.of_type("TimeIntervals"))
    if trials is not None and known.observed is None and said[0] is None:
        columns = read_intervals(source, trials).columns
        starts = columns.get("start_time", np.zeros(0))
        text = trials_outside(starts, columns.get("stop_time", starts), found)
        said.append(text and f"{trials.path}: {text}")
    return problems + [text for text in said if text]


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
