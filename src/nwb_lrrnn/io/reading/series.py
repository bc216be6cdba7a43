"""Sampled series: a population at its own rate or in bins, and behaviour or stimuli at the bins of a population."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import observed_bins, outside_intervals
from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.arrays import assemble, report_dropped
from nwb_lrrnn.io.reading.catalog import Catalog, choose
from nwb_lrrnn.io.reading.clock import Clock, read_clock
from nwb_lrrnn.io.reading.entries import SeriesEntry, layout, series_kind, why_not_read
from nwb_lrrnn.io.reading.grid import Grid, grid_like
from nwb_lrrnn.io.reading.intervals import Request, requested_grid
from nwb_lrrnn.io.reading.lazy import BinnedSeries, SampledSeries, lazy_blocks
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.spikes import invalid_times
from nwb_lrrnn.io.reading.tables import Rows, region_columns

if TYPE_CHECKING:
    import xarray as xr

logger = logging.getLogger(__name__)

_RADIANS = ("radian", "radians", "rad")


def choose_series(catalog: Catalog, name: str | None) -> SeriesEntry:
    """Return the series that is meant: `name`, else the only population.

    Raises
    ------
    ValueError
        If no series or several fit, or if the one meant cannot be read.
    """
    if name is not None:
        entry = choose(catalog.series, name, "name", "series", by_path=catalog.result_series)
        reason = why_not_read(entry)
        if reason is not None:
            raise ValueError(reason)
        return entry
    populations = [entry for entry in catalog.series if series_kind(entry) in ("roi", "channel", "series")]
    readable = [entry for entry in populations if why_not_read(entry) is None]
    if len(readable) == 1:
        return readable[0]
    if readable:
        raise ValueError(
            f"name: the file holds {len(readable)} populations: {', '.join(entry.path for entry in readable)}; say "
            f"which one is meant, such as name={readable[0].name!r}"
        )
    why = f" ({why_not_read(populations[0])})" if populations else ""
    if catalog.results:
        why += f" beside the results in {', '.join(result.path for result in catalog.results)}"
    raise ValueError(
        f"name: the file holds no series that is a population{why}; recording.contents lists what there is"
    )


def read_population(
    source: Source,
    catalog: Catalog,
    name: str | None,
    request: Request,
    *,
    bin_size: float | None,
    units: Any,
    max_gap: float | None,
    repair: str | None,
) -> "tuple[xr.DataArray, list[str]]":
    """Return a population as `Recording.series` describes it, and warnings for its caller."""
    entry = choose_series(catalog, name)
    series, rows, attrs = _sampled(source, entry, units)
    clock = read_clock(source, entry, series.shape[0], repair)
    oddity = layout(entry).oddity
    warnings = [oddity] if oddity else []
    if bin_size is None and not request.wants_trials and request.window is None:
        return _at_own_rate(series, clock, rows, attrs, entry, invalid_times(source, catalog)), warnings
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
    invalid = invalid_times(source, catalog)
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
) -> "xr.DataArray":
    """Return a series at the trials and bins of `like`, as `Recording.series` describes it."""
    if name is None:
        names = ", ".join(entry.path for entry in catalog.series) or "none"
        raise ValueError(f"name: wanted the series to read at the bins of like=; the file holds {names}")
    entry = choose_series(catalog, name)
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


def describe(
    source: Source, file: H5, entry: SeriesEntry, known: dict[H5, Rows] | None = None
) -> tuple[SampledSeries, Rows, dict[str, Any]]:
    """Return a series with conversion and offset, not read yet, the metadata of its columns, and attributes.

    Parameters
    ----------
    source : Source
        The file.
    file : h5py.File
        The same, open.
    entry : SeriesEntry
        The series, which can be read (see `why_not_read`).
    known : dict, optional
        Tables that were read; those of the columns are added.

    Returns
    -------
    series : SampledSeries
        Samples (time, column).
    rows : Rows
        One for each column.
    attrs : dict
        Unit of measure, and where the series lies.
    """
    shape = layout(entry)
    group = file[entry.path]
    data = group["data"]
    gain = _gain(group, entry, shape.n_columns)
    rows = _column_rows(file, group, entry, shape.n_columns, known)
    path, dtype = f"{entry.path}/data", _working_dtype(data.dtype)
    series = SampledSeries(
        source, path, entry.shape or (), data.chunks, dtype, gain, entry.offset, transposed=shape.transposed
    )
    attrs = {
        "units": entry.units,
        "source": source.uri,
        "version_tag": source.version_tag,
        "nwb_path": entry.path,
        "neurodata_type": entry.neurodata_type,
        "object_id": str(plain(group.attrs.get("object_id")) or ""),
    }
    return series, rows, attrs


def _gain(group: H5, entry: SeriesEntry, n_columns: int) -> NDArray[np.float64] | float:
    """Return conversion times channel_conversion: a number, or one per column."""
    if "channel_conversion" not in group:
        return entry.conversion
    per_channel = np.asarray(group["channel_conversion"][()], dtype=np.float64).reshape(-1)
    return entry.conversion * per_channel if len(per_channel) == n_columns else entry.conversion


def _column_rows(file: H5, group: H5, entry: SeriesEntry, n_columns: int, known: dict[H5, Rows] | None = None) -> Rows:
    """Return ids and metadata of the columns: those of their ROIs or electrodes, else their numbers."""
    numbers = np.arange(n_columns)
    if not entry.region or entry.n_region != n_columns:
        return Rows(numbers, {})
    region = group[entry.region]
    ids, columns, table = region_columns(file, region, np.asarray(region[()]), known)
    if ids is None:
        return Rows(numbers, {})
    if entry.region == "rois":
        columns |= _plane(table, n_columns)
    if len(np.unique(ids)) < len(ids):
        return Rows(numbers, {**columns, "id": ids}, ids_repeat=True)
    return Rows(ids, columns)


def _plane(table: H5, n_columns: int) -> dict[str, NDArray[Any]]:
    """Return the imaging plane's location and indicator as columns, where the segmentation names its plane."""
    plane = table.get("imaging_plane")
    if plane is None:
        return {}
    columns = {}
    for name in ("location", "indicator"):
        if name in plane:
            columns[f"plane_{name}"] = np.full(n_columns, str(plain(plane[name][()])))
    return columns


def _working_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of converted samples: float32 where it holds the stored numbers, else float64."""
    small = stored.kind == "b" or (stored.kind in "iu" and stored.itemsize <= 2)
    return np.dtype(np.float32 if small or (stored.kind == "f" and stored.itemsize <= 4) else np.float64)


def _at_own_rate(
    series: SampledSeries,
    clock: Clock,
    rows: Rows,
    attrs: dict[str, Any],
    entry: SeriesEntry,
    invalid: NDArray[np.float64] | None,
) -> "xr.DataArray":
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
        attrs |= {"bin_size": clock.step} if clock.is_even and not len(clock.segments) else {}
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
    return array.rename(entry.name)


def _own_bin(clock: Clock, entry: SeriesEntry) -> float:
    """Return the step of a series as the width of its bins, or raise where it has none."""
    if clock.is_even:
        return clock.step if clock.rate is None else 1 / clock.rate
    raise ValueError(
        f"bin_size: the samples of {entry.path} are unevenly spaced (median step {clock.step:g} s), so that trials "
        "cannot be cut at its own rate; pass bin_size= in s"
    )


def _snapped(grid: Grid, clock: Clock) -> Grid:
    """Return the grid moved by less than one step, so that every bin holds exactly one sample, at its centre."""
    first = np.minimum(clock.index(grid.starts), clock.n_samples - 1)
    if clock.rate is not None:  # also outside of the recording, where the trial is dropped by its holes
        snapped = clock.start + np.ceil((grid.starts - clock.start) * clock.rate - 1e-6) / clock.rate
    else:
        times = clock.times()
        outside = (grid.starts < clock.start - clock.step) | (grid.starts > clock.stop)
        snapped = np.where(outside, grid.starts, times[first])
    return replace(grid, starts=snapped - clock.step / 2)


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


def _unobserved_everywhere(like: "xr.DataArray", shape: tuple[int, int]) -> NDArray[np.bool_]:
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
    """Return roi or channel."""
    return "roi" if series_kind(entry) == "roi" else "channel"


def _suffixes(entry: SeriesEntry, n_columns: int, rows: Rows, units: Any) -> list[str]:
    """Return what to append to a series' name for each of its columns."""
    if n_columns == 1 and units is None:
        return [""]
    if series_kind(entry) == "behaviour" and entry.neurodata_type == "SpatialSeries" and max(rows.ids) < 3:
        return [f"_{'xyz'[id_]}" for id_ in rows.ids.tolist()]
    return [f"_{id_}" for id_ in rows.ids.tolist()]
