"""Sampled series: a population at its own rate or in bins, and behaviour or stimuli at the bins of a population."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import observed_bins, outside_intervals
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import assemble, report_dropped
from nwb_lrrnn.io.reading.catalog import Catalog, choose
from nwb_lrrnn.io.reading.clock import JITTER, Clock, clock_problems, read_clock
from nwb_lrrnn.io.reading.entries import InFile, SeriesEntry
from nwb_lrrnn.io.reading.grid import Grid, grid_like
from nwb_lrrnn.io.reading.intervals import Request, requested_grid
from nwb_lrrnn.io.reading.invalid_times import invalid_times
from nwb_lrrnn.io.reading.kinds import Content, Extent, Population
from nwb_lrrnn.io.reading.lazy import BinnedSeries, SampledSeries, lazy_blocks
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.series_columns import column_table, describe, value_problems
from nwb_lrrnn.io.reading.series_kinds import layout, series_kind, why_not_read
from nwb_lrrnn.io.reading.tables import Rows

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

_RADIANS = ("radian", "radians", "rad")


def named_series(catalog: Catalog, name: str) -> SeriesEntry:
    """Return the series of that name; those of results are known by their full path.

    Raises with the reason where the name is that of a link into a file that is not opened.
    """
    for lost in catalog.lost:
        if f"/{lost.path}".endswith(f"/{str(name).strip('/')}"):
            raise ValueError(lost.reason)
    return choose(catalog.series, name, "name", "series", by_path=catalog.result_series)


def read_series(
    source: Source,
    catalog: Catalog,
    entry: SeriesEntry,
    request: Request,
    *,
    bin_size: float | None,
    units: Any,
    max_gap: float | None,
    repair: str | None,
    sampled: Callable[..., tuple[Any, Rows, dict[str, Any]]] | None = None,
) -> tuple[xr.DataArray, list[str]]:
    """Return a series (trial, time, unit) or (time, unit) as `Recording.series` describes it, and warnings.

    `sampled` takes the place of `_sampled` where the samples are no columns of the data.
    """
    series, rows, attrs = (sampled or _sampled)(source, entry, units)
    clock = read_clock(source, entry, series.shape[0], repair)
    clock = clock.evened() if bin_size is None else clock
    oddity = layout(entry).oddity if sampled is None else None
    warnings = [oddity] if oddity else []
    if bin_size is None and not request.wants_trials and request.window is None:
        return _at_own_rate(series, clock, rows, attrs, entry, invalid_times(source, catalog, entry.path)), warnings
    own_rate = bin_size is None
    width = _own_bin(clock, entry) if bin_size is None else float(bin_size)
    stretch = (clock.start, clock.stop + clock.step)
    grid, n_asked, more = requested_grid(source, catalog, request, width, stretch)
    if own_rate:
        grid = _snapped(grid, clock)
    gap = max(1.5 * clock.step, width) if max_gap is None else float(max_gap)
    grid, holes = _without_gaps(grid, clock, gap, own_rate)
    binned = BinnedSeries(series, clock, width, grid.starts, grid.n_bins, gap, holes=_either(holes, grid.inside))
    observed = None if binned.holes is None else ~binned.holes
    invalid = invalid_times(source, catalog, entry.path)
    if invalid is not None:
        valid = observed_bins(outside_intervals(invalid), width, grid.starts, grid.n_bins)
        observed = valid if observed is None else observed & valid
    attrs["bin_size"] = width
    report_dropped(grid, n_asked, attrs)
    kind = _unit_kind(entry)
    array = assemble(lazy_blocks(binned), grid, rows, unit_kind=kind, observed=observed, attrs=attrs)
    return array.rename(entry.name), warnings + more


def read_inputs(
    source: Source,
    catalog: Catalog,
    name: str | None,
    like: Any,
    *,
    units: Any,
    max_gap: float | None,
    repair: str | None,
) -> xr.DataArray:
    """Return a series at the trials and bins of `like`, as `Recording.series` describes it."""
    if name is None:
        names = ", ".join(entry.path for entry in catalog.series) or "none"
        raise ValueError(f"name: wanted the series to read at the bins of like=; the file holds {names}")
    entry = named_series(catalog, name)
    reason = why_not_read(entry)
    if reason is not None:
        raise ValueError(reason)
    grid = grid_like(like)
    series, rows, attrs = _sampled(source, entry, units)
    clock = read_clock(source, entry, series.shape[0], repair)
    gap = max(1.5 * clock.step, grid.bin_size) if max_gap is None else float(max_gap)
    holes = clock.holes(grid.starts, grid.bin_size, grid.n_bins, gap)
    masked = _unobserved_everywhere(like, holes.shape)
    bins = (grid.bin_size, grid.starts, grid.n_bins, gap, _period(entry))
    binned = BinnedSeries(series, clock, *bins, holes=holes & masked if (holes & masked).any() else None)
    lacking = int((holes & ~masked).sum())
    if lacking:
        logger.warning(
            "%s has no samples in %d of %d bins of like=: they are NaN", entry.path, lacking, int((~masked).sum())
        )
    attrs["bin_size"] = grid.bin_size
    names = [f"{entry.name}{suffix}" for suffix in _suffixes(entry, series.shape[1], rows, units)]
    array = assemble(lazy_blocks(binned), grid, None, inputs=names, attrs=attrs).rename(entry.name)
    shared = {k: v for k, v in like.coords.items() if k not in array.coords and set(v.dims) <= {"trial"}}
    return array.assign_coords({k: v for k, v in shared.items() if k != "unit_kind"})


def _sampled(source: Source, entry: SeriesEntry, units: Any) -> tuple[SampledSeries, Rows, dict[str, Any]]:
    """Return a series with conversion and offset, its columns asked for, their metadata, and attributes."""
    with source.open() as file:
        series, rows, attrs = describe(source, file, entry)
    index = select_rows(rows, units, "unit")
    return (series if units is None else replace(series, columns=index)), rows.take(index), attrs


def _at_own_rate(
    series: SampledSeries,
    clock: Clock,
    rows: Rows,
    attrs: dict[str, Any],
    entry: SeriesEntry,
    invalid: NDArray[np.float64] | None,
) -> xr.DataArray:
    """Return the whole series (time, unit) at the times of its samples."""
    import xarray as xr
    from xarray.indexes import RangeIndex

    values, time_index, times = series.dask(), None, np.zeros(0)
    if clock.order is not None:
        values = values[clock.order]
    if clock.rate is not None:
        attrs["bin_size"] = 1 / clock.rate
        last = clock.start + (clock.n_samples - 1) / clock.rate
        time_index = xr.Coordinates.from_xindex(RangeIndex.linspace(clock.start, last, clock.n_samples, dim="time"))
    else:
        times = clock.times()
    grid = Grid(np.array([clock.start]), clock.step, times, np.zeros(1))
    observed = None
    if invalid is not None:
        observed = observed_bins(outside_intervals(invalid), clock.step, grid.starts, clock.n_samples)
    kind = _unit_kind(entry)
    array = assemble(values, grid, rows, unit_kind=kind, observed=observed, time_index=time_index, attrs=attrs)
    if len(clock.segments):
        array = array.assign_coords(segment=("time", clock.segment_of(np.arange(clock.n_samples))))
        logger.warning(
            "%s has %d gaps in its timestamps (the first at %g s): the coordinate `segment` numbers the stretches "
            "between them; pass bin_size= to mark the bins in gaps as unobserved",
            entry.path, len(clock.segments), clock.times()[clock.segments[0]],
        )  # fmt: skip
    elif clock.rate is None and clock.is_even:
        array.attrs["bin_size"] = clock.even.step
    elif clock.rate is None and clock.n_samples > 1:
        logger.warning("%s; pass bin_size= in s for the fixed rate that a model needs", _uneven(clock, entry))
    return array.rename(entry.name)


def _own_bin(clock: Clock, entry: SeriesEntry) -> float:
    """Return the step of a series as the width of its bins, or raise where it has none."""
    if clock.is_even:
        return clock.even.step
    raise ValueError(
        f"bin_size: {_uneven(clock, entry)}, so that trials cannot be cut at its own rate; pass bin_size= in s"
    )


def _uneven(clock: Clock, entry: SeriesEntry) -> str:
    """Return that samples are not evenly spaced, and by how much."""
    return (
        f"the samples of {entry.path} are unevenly spaced (median step {clock.step:g} s, up to {clock.even.off:.2g} "
        f"steps off an even grid, wanted at most {JITTER:g})"
    )


def _snapped(grid: Grid, clock: Clock) -> Grid:
    """Return the grid moved by less than one step, so that every bin holds exactly one sample, at its centre."""
    first = np.minimum(clock.index(grid.starts), clock.n_samples - 1)
    if clock.rate is not None:  # also outside of the recording, where the trial is dropped by its holes
        snapped = clock.start + np.ceil((grid.starts - clock.start) * clock.rate - 1e-6) / clock.rate
    else:
        outside = (grid.starts < clock.start - clock.step) | (grid.starts > clock.stop)
        snapped = np.where(outside, grid.starts, clock.even.time(first))
    return replace(grid, starts=snapped - grid.bin_size / 2)


def _without_gaps(grid: Grid, clock: Clock, max_gap: float, own_rate: bool) -> tuple[Grid, NDArray[np.bool_] | None]:
    """Return the grid without trials that a gap or the end of the recording interrupts, and the holes that are left."""
    holes = clock.holes(grid.starts, grid.bin_size, grid.n_bins, max_gap)
    if grid.trials is None:
        if holes.all():
            raise ValueError(
                f"window: the series runs from {clock.start:g} s to {clock.stop:g} s and has no sample in the window"
            )
        return grid, holes if holes.any() else None
    hit = holes if grid.inside is None else holes & grid.inside
    interrupted = np.asarray(hit.any(axis=1))
    edges = np.stack([grid.starts, grid.starts + grid.n_bins * grid.bin_size], axis=1)
    # A trial's first and last hole tell apart what lies outside of the recording from what lies in a gap of it.
    outside = interrupted & ((edges[:, 0] < clock.start - clock.step) | (edges[:, 1] > clock.stop + 2 * clock.step))
    if own_rate and len(clock.segments) and grid.inside is None:
        first, last = clock.index(edges[:, 0]), clock.index(edges[:, 1] - clock.step / 2)
        last = np.maximum(first, last - 1)
        interrupted |= clock.segment_of(first) != clock.segment_of(last)
    grid = grid.drop(outside, "its window reaches beyond the series")
    kept = ~outside
    crossing = interrupted[kept]
    holes = holes[kept][~crossing]
    grid = grid.drop(crossing, "its window crosses a gap in the timestamps")
    return grid, holes if holes.any() else None


def _either(a: NDArray[np.bool_] | None, inside: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Return holes and padding as one mask, None where there is neither."""
    if inside is None:
        return a
    return ~inside if a is None else a | ~inside


def _unobserved_everywhere(like: xr.DataArray, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the bins (trial, time) in which no unit of `like` was observed."""
    if "observed" not in like.coords:
        return np.zeros(shape, dtype=bool)
    observed = like.coords["observed"]
    if "unit" in observed.dims:
        observed = observed.any("unit")
    return ~np.asarray(observed.values, dtype=bool).reshape(shape)


def _period(entry: SeriesEntry) -> float | None:
    """Return the period of a series of angles, None where its values are no angles on a circle.

    Eye positions are angles too, but small ones around the straight-ahead that never wrap.
    """
    units = entry.units.lower()
    if "CompassDirection" not in entry.parents and not (
        series_kind(entry) == "behaviour" and units in _RADIANS and not {"EyeTracking"} & set(entry.parents)
    ):
        return None
    return 360.0 if units.startswith("deg") else 2 * np.pi


def _unit_kind(entry: SeriesEntry) -> str:
    """Return roi, pixel or channel."""
    return {"roi": "roi", "pixels": "pixel"}.get(series_kind(entry), "channel")


def _suffixes(entry: SeriesEntry, n_columns: int, rows: Rows, units: Any) -> list[str]:
    """Return what to append to a series' name for each of its columns."""
    if n_columns == 1 and units is None:
        return [""]
    if series_kind(entry) == "behaviour" and entry.neurodata_type == "SpatialSeries" and max(rows.ids) < 3:
        return [f"_{'xyz'[id_]}" for id_ in rows.ids.tolist()]
    return [f"_{id_}" for id_ in rows.ids.tolist()]


# --- what the table of populations says of series ---------------------------------------------------------------------


def extent_of_series(entry: SeriesEntry) -> Extent:
    """Return how large a series is."""
    if why_not_read(entry) is not None:
        return Extent(entry.shape, None, entry.units, entry.rate)
    shape = layout(entry)
    duration = shape.n_samples / entry.rate if entry.rate and entry.rate > 0 else None
    return Extent(entry.shape, shape.n_columns, entry.units, entry.rate, duration)


def size_of_series(catalog: Catalog, content: Content) -> str:
    """Return how large a series is in words."""
    if content.shape is None:
        return ""
    if content.n_units is None:
        parts = [f"shape {content.shape}"]
    else:
        n_samples = int(np.prod(content.shape)) // content.n_units
        noun = "columns" if content.population is None else content.population.noun
        parts = [f"{content.n_units} {noun if content.n_units > 1 else noun[:-1]}", f"{n_samples} samples"]
    if content.rate:
        parts.append(f"{content.rate:.6g} Hz")
    if content.duration:
        parts.append(f"{content.duration:.4g} s")
    return ", ".join([*parts, content.units])


def series_problems(source: Source, catalog: Catalog, entry: SeriesEntry) -> list[str]:
    """Return what is wrong with a series."""
    reason = why_not_read(entry)
    if reason is not None:
        return [reason] if series_kind(entry) != "other" else []  # images and sweeps are in order, if not read
    shape = layout(entry)
    problems = [shape.oddity] if shape.oddity else []
    if shape.transposed:
        problems.append(f"{entry.path}: the data are stored (unit, time); they are read as (time, unit)")
    problems += value_problems(source, entry, shape.n_columns)
    return problems + clock_problems(source, entry, shape.n_samples)


def _is_of_kind(kind: str, entry: InFile) -> bool:
    """Return whether an entry is a series of this kind."""
    return isinstance(entry, SeriesEntry) and series_kind(entry) == kind


def _call(entry: SeriesEntry, name: str) -> str:
    """Return how a user reads it: at its own rate where it has one."""
    return f'recording.series("{name}")' if entry.rate else f'recording.series("{name}", bin_size=...)'


def _sampled_population(kind: str, noun: str, unit_kind: str) -> Population:
    """Return a kind of sampled series as a kind of population."""
    return Population(
        kind=kind,
        method="series",
        noun=noun,
        unit_kind=unit_kind,
        holder="TsdFrame",
        matches=partial(_is_of_kind, kind),
        why_not=why_not_read,
        call=_call,
        extent=extent_of_series,
        size=size_of_series,
        read=read_series,
        unit_table=column_table,
        problems=series_problems,
    )


ROIS = _sampled_population("roi", "ROIs", "roi")
CHANNELS = _sampled_population("channel", "channels", "channel")
COLUMNS = _sampled_population("series", "columns", "channel")
