"""Spikes that a file holds as counts in bins around events: BinnedAlignedSpikes of the extension ndx-binned-spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import observed_bins, outside_intervals
from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.chunks.slices import read_dataset
from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import assemble, object_id_of, origin, report_dropped
from nwb_lrrnn.io.reading.catalog import Catalog
from nwb_lrrnn.io.reading.column_values import read_values
from nwb_lrrnn.io.reading.entries import InFile, SeriesEntry, find_dataset
from nwb_lrrnn.io.reading.grid import Grid
from nwb_lrrnn.io.reading.intervals import Request
from nwb_lrrnn.io.reading.invalid_times import invalid_times
from nwb_lrrnn.io.reading.kinds import Content, Extent, Population
from nwb_lrrnn.io.reading.lazy import lazy_blocks, ranges, some
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.tables import Rows, region_columns
from nwb_lrrnn.io.reading.units import read_units

if TYPE_CHECKING:
    import xarray as xr

_TYPE = "BinnedAlignedSpikes"
_OFFSETS = ("event_to_bin_offset_in_ms", "milliseconds_from_event_to_first_bin")  # of 0.3, and of earlier versions
_CHECKED_BYTES = 32 * 2**20  # of the data that are held against `_fault` at a time


@dataclass(frozen=True, eq=False)
class StoredCounts:
    """Counts (trial, time, unit) of a dataset (unit, event, bin), not read yet; `events` and `units` are its rows."""

    source: Source
    path: str
    stored_shape: tuple[int, int, int]
    events: NDArray[np.intp]
    units: NDArray[np.intp]
    dtype: np.dtype[Any]

    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(trial, time, unit)."""
        return len(self.events), self.stored_shape[2], len(self.units)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        identity = (self.source.uri, self.source.version_tag, self.path)
        return ("StoredCounts", *identity, self.events, self.units, str(self.dtype))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        asked, squeeze = ranges(key, self.shape)
        trials, bins, units = (np.asarray(stretch, dtype=np.intp) for stretch in asked)
        values = self.stored(self.events[trials], self.units[units])[..., bins]  # (unit, event, bin)
        fault = _fault(values, self.dtype)
        if fault is not None:
            raise ValueError(f"{self.path}: {fault}; repair the file, or leave out what is bad with trials= or units=")
        return some(values.astype(self.dtype).transpose(1, 2, 0), squeeze)

    def stored(self, events: NDArray[np.intp], units: NDArray[np.intp]) -> NDArray[Any]:
        """Return all bins (unit, event, bin) of some events and units, as they are stored."""
        if not (len(events) and len(units)):
            return np.zeros((len(units), len(events), self.stored_shape[2]))
        stretch = (slice(units.min(), units.max() + 1), slice(events.min(), events.max() + 1), slice(None))
        values = read_dataset(self.source, self.path, stretch, shape=self.stored_shape)
        return values[np.ix_(units - units.min(), events - events.min())]


def _fault(values: NDArray[Any], dtype: np.dtype[Any]) -> str | None:
    """Return what keeps stored values from being counts of a type, None where nothing does."""
    if values.dtype.kind == "f":
        bad, what = ~np.isfinite(values), "that are no numbers, such as a fill value"
        if not bad.any():
            bad, what = values != np.round(values), "that are no whole numbers"
    else:
        bad, what = np.zeros(1, dtype=bool), ""
    if not bad.any():
        bad, what = values < 0, "below 0"
    if not bad.any():
        bad, what = values > np.iinfo(dtype).max, "beyond any count of spikes"
    if not bad.any():
        return None
    return f"{int(bad.sum())} values {what} (the first is {values[bad][0]:g}), wanted counts of spikes"


def _count_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return a signed type that holds the counts, without reading them: more than 2**31 in a bin are no spikes."""
    is_small = stored.kind == "b" or (stored.kind in "iu" and stored.itemsize == 1) or stored == np.int16
    return np.dtype(np.int16 if is_small else np.int32)


# --- events and units -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Layout:
    """What is read at once: width of a bin and first edge after the event in s, events, and what is odd about them."""

    bin_size: float
    first_edge: float
    times: NDArray[np.float64]
    events: Rows
    oddities: list[str]


def _layout(file: H5, entry: SeriesEntry) -> _Layout:
    """Return the bins and events of an open file, or raise where they do not fit the counts."""
    group = file.get(entry.path)
    if group is None:
        raise ChangedFileError(f"{file.filename}: {entry.path} is gone since the file was opened; open it again")
    width = plain(group.attrs.get("bin_width_in_ms"))
    first = next((plain(group.attrs[name]) for name in _OFFSETS if name in group.attrs), 0.0)
    if not isinstance(width, int | float) or not 0 < width < np.inf:
        raise ValueError(f"{entry.path}: got bin_width_in_ms {width}, wanted one positive number; repair the file")
    if not isinstance(first, int | float) or not np.isfinite(first):
        raise ValueError(f"{entry.path}: got {_OFFSETS[0]} {first}, wanted one number; repair the file")
    times, why = find_dataset(group, "event_timestamps")
    if times is None or times.shape != (entry.shape or ())[1:2] or times.dtype.kind not in "fiu":
        got = why or ("none" if times is None else f"{times.dtype} of shape {times.shape}")
        raise ValueError(
            f"{entry.path}/event_timestamps: got {got} for data of shape {entry.shape} (unit, event, bin), wanted the "
            "time of each event in s; repair the file"
        )
    events, oddities = _conditions(file, group, entry.path, times.shape[0])
    return _Layout(width / 1000, first / 1000, times[()].astype(np.float64), events, oddities)


def _conditions(file: H5, group: H5, path: str, n_events: int) -> tuple[Rows, list[str]]:
    """Return the events with the condition of each, by label where the file has labels, and what is odd about them."""
    numbers = np.arange(n_events)
    indices, _ = find_dataset(group, "condition_indices")
    if indices is None:
        return Rows(numbers, {}), []
    if indices.shape != (n_events,) or indices.dtype.kind not in "iu":
        got = f"{indices.dtype} of shape {indices.shape}"
        return Rows(numbers, {}), [f"{path}/condition_indices: got {got} for {n_events} events; they are left out"]
    index = indices[()].astype(np.int64)
    labels, _ = find_dataset(group, "condition_labels")
    if labels is None:
        return Rows(numbers, {"condition": index}), []
    names = read_values(file, labels)
    if names.ndim != 1 or (len(index) and not 0 <= index.min() <= index.max() < len(names)):
        odd = f"{path}/condition_labels: {len(names)} labels do not fit the condition_indices; they are left out"
        return Rows(numbers, {"condition": index}), [odd]
    return Rows(numbers, {"condition": names[index], "condition_index": index}), []


def _units(source: Source, catalog: Catalog, entry: SeriesEntry) -> tuple[Rows, str, NDArray[np.intp], list[str]]:
    """Return ids and metadata of the units, the path of their table, their rows in it, and what is odd about them."""
    n_units = (entry.shape or (0,))[0]
    numbers, nothing = np.arange(n_units), np.empty(0, dtype=np.intp)
    with source.open() as file:
        region, _ = find_dataset(file[entry.path], "units_region")
        if region is None:
            return Rows(numbers, {}), "", nothing, []
        places = np.asarray(region[()]).reshape(-1).astype(np.intp)
        ids, columns, target = region_columns(file, region, places) if len(places) == n_units else (None, {}, None)
        table = next((table for table in catalog.of_type("Units") if file[table.path] == target), None)
    if ids is None:
        odd = f"{entry.path}/units_region: its {len(places)} rows do not fit the {n_units} units of the data"
        return Rows(numbers, {}), "", nothing, [f"{odd}, so that these carry no metadata"]
    known = Rows(ids, columns) if table is None else read_units(source, table).rows.take(places)
    if len(np.unique(known.ids)) < len(known):
        known = Rows(numbers, {**known.columns, "id": known.ids}, ids_fail=True)
    return known, "" if table is None else table.path, nothing if table is None else places, []


# --- what the table of populations says of them -----------------------------------------------------------------------


def _matches(entry: InFile) -> bool:
    """Return whether an entry holds counts around events."""
    return isinstance(entry, SeriesEntry) and entry.neurodata_type == _TYPE


def _why_not(entry: SeriesEntry) -> str | None:
    """Return the sentence why the counts cannot be read, None where they can."""
    if entry.fault:
        return f"{entry.path}: {entry.fault}"
    if entry.shape is None:
        return f"{entry.path}: the counts hold no data"
    if len(entry.shape) != 3:
        return f"{entry.path}: the data have {len(entry.shape)} dims {entry.shape}, wanted (unit, event, bin)"
    if not all(entry.shape):
        return f"{entry.path}: the counts are empty (shape {entry.shape}, wanted (unit, event, bin))"
    if entry.dtype == "compound" or np.dtype(entry.dtype).kind not in "fiub":
        return f"{entry.path}: the data are no real numbers (dtype {entry.dtype})"
    return None


def _call(entry: SeriesEntry, name: str) -> str:
    """Return how a user reads them."""
    return f'recording.series("{name}")'


def _extent(entry: SeriesEntry) -> Extent:
    """Return how large they are."""
    return Extent(entry.shape, None if _why_not(entry) else (entry.shape or (0,))[0], "counts")


def _size(catalog: Catalog, content: Content) -> str:
    """Return how large they are in words."""
    if content.n_units is None or content.shape is None:
        return "" if content.shape is None else f"shape {content.shape}"
    sizes = zip(content.shape, ("unit", "event", "bin"), strict=True)
    return ", ".join(f"{n} {noun}{'s' if n > 1 else ''}" for n, noun in sizes) + ", counts"


def _read(
    source: Source,
    catalog: Catalog,
    entry: SeriesEntry,
    request: Request,
    *,
    bin_size: float | None,
    units: Any,
    max_gap: float | None,
    repair: str | None,
) -> tuple[xr.DataArray, list[str]]:
    """Return the counts (trial, time, unit) as `Recording.series` describes them, and warnings for its caller."""
    with source.open() as file:
        found = _layout(file, entry)
        object_id = object_id_of(file[entry.path])
        stored = file[f"{entry.path}/data"].dtype
    _refuse(entry, found.bin_size, request, bin_size, {"max_gap": max_gap, "repair": repair})
    rows, _, _, odd = _units(source, catalog, entry)
    columns = select_rows(rows, units, "unit")
    asked = select_rows(found.events, request.trials, "trial")
    times, n_bins = found.times[asked], (entry.shape or (0,))[-1]
    centres = (found.first_edge + (np.arange(n_bins) + 0.5) * found.bin_size).astype(np.float64)
    grid = Grid(times + found.first_edge, found.bin_size, centres, times, found.events.take(asked))
    unknown = ~np.isfinite(times)
    grid, asked = grid.drop(unknown, "event_timestamps is not finite"), asked[~unknown]
    observed = None
    invalid = invalid_times(source, catalog, entry.path)
    if invalid is not None:
        observed = observed_bins(outside_intervals(invalid), grid.bin_size, grid.starts, n_bins)
        seen = np.asarray(observed.any(axis=1))
        grid, asked, observed = grid.drop(~seen, "no bin of it was observed"), asked[seen], observed[seen]
    attrs = {"bin_size": found.bin_size, **origin(source, entry, object_id, "counts")}
    report_dropped(grid, len(unknown), attrs)
    counts = _counts(source, entry, stored, asked, columns)
    array = assemble(lazy_blocks(counts), grid, rows.take(columns), observed=observed, attrs=attrs)
    return array.rename(entry.name), [*found.oddities, *odd]


def _counts(
    source: Source, entry: SeriesEntry, stored: np.dtype[Any], events: NDArray[np.intp], units: NDArray[np.intp]
) -> StoredCounts:
    """Return the counts of some events and units, not read yet."""
    n_units, n_events, n_bins = entry.shape or (0, 0, 0)
    path, shape = f"{entry.path}/data", (n_units, n_events, n_bins)
    return StoredCounts(source, path, shape, events, units, _count_dtype(stored))


def _refuse(entry: SeriesEntry, width: float, request: Request, bin_size: float | None, others: dict[str, Any]) -> None:
    """Raise where other bins or trials are asked for than the file holds."""
    if bin_size is not None and not np.isclose(bin_size, width, rtol=1e-9):
        raise ValueError(
            f"bin_size: got {bin_size!r}, but {entry.path} holds counts in bins of {width:g} s; leave bin_size= out, "
            "and make wider bins with nwb_lrrnn.preprocessing.Resample"
        )
    given = {"align": request.align, "window": request.window, "intervals": request.intervals} | others
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise ValueError(
            f"{named[0]}: {entry.path} holds counts around events of its own; leave {', '.join(named)} out, and take "
            "a part of the time with X.sel(time=slice(start, stop))"
        )


def _unit_table(source: Source, catalog: Catalog, entry: SeriesEntry) -> tuple[Rows, str, NDArray[np.intp]]:
    """Return ids and metadata of the units, the path of their table, and their rows in it."""
    rows, table, places, _ = _units(source, catalog, entry)
    return rows, table, places


def _problems(source: Source, catalog: Catalog, entry: SeriesEntry) -> list[str]:
    """Return what is wrong with the counts, which are read block by block."""
    reason = _why_not(entry)
    if reason is not None:
        return [reason]
    try:
        with source.open() as file:
            found, stored = _layout(file, entry), file[f"{entry.path}/data"].dtype
        problems = [*found.oddities, *_units(source, catalog, entry)[3]]
    except ValueError as error:
        return [str(error)]
    n_units, n_events, n_bins = entry.shape or (0, 0, 0)
    known = np.isfinite(found.times)
    if not known.all():
        problems.append(
            f"{entry.path}: {int((~known).sum())} of {n_events} events have no finite time; they are dropped"
        )
    if (np.diff(found.times[known]) < 0).any():
        problems.append(f"{entry.path}: the events are not in order of time; they are kept in the file's order")
    counts = _counts(source, entry, stored, np.arange(n_events), np.arange(n_units))
    step = max(1, _CHECKED_BYTES // (8 * n_units * n_bins))
    for first in range(0, n_events, step):
        fault = _fault(counts.stored(counts.events[first : first + step], counts.units), counts.dtype)
        if fault is not None:
            stop = min(first + step, n_events) - 1
            return [*problems, f"{entry.path}/data: in events {first} to {stop}, {fault}"]
    return problems


BINNED_SPIKES = Population(
    kind="binned_spikes",
    method="series",
    noun="units",
    unit_kind="unit",
    holder=None,  # windows may overlap, and pynapple holds every time once
    matches=_matches,
    why_not=_why_not,
    call=_call,
    extent=_extent,
    size=_size,
    read=_read,
    unit_table=_unit_table,
    problems=_problems,
    in_trials=True,
)
