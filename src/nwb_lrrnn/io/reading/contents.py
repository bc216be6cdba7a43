"""What each thing in a file is to a model: a population, an input, events, trials, or why none of these."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nwb_lrrnn.io.reading.catalog import Catalog, ResultEntry
from nwb_lrrnn.io.reading.entries import SeriesEntry, TableEntry
from nwb_lrrnn.io.reading.intervals import interval_tables
from nwb_lrrnn.io.reading.spikes import why_no_spikes

_SWEEPS = (
    "PatchClampSeries",
    "CurrentClampSeries",
    "CurrentClampStimulusSeries",
    "IZeroClampSeries",
    "VoltageClampSeries",
    "VoltageClampStimulusSeries",
)
_ORDER = (
    "units",
    "roi",
    "channel",
    "series",
    "behaviour",
    "stimulus",
    "input",
    "events",
    "intervals",
    "results",
    "other",
)
_EVENT_TYPES = ("AnnotationSeries", "IntervalSeries")
_BEHAVIOUR_PARENTS = ("Position", "CompassDirection", "BehavioralTimeSeries", "PupilTracking", "EyeTracking")
_BEHAVIOUR_TYPES = ("SpatialSeries", "PoseEstimationSeries")


@dataclass(frozen=True)
class Content:
    """One thing in a file. `call` is how to read it, None where it cannot be read; `reason` why it is not fitted.

    `kind` is units, roi, channel or series (populations), behaviour, stimulus, input (a single channel), events,
    intervals, results (of earlier fits), or other. `fittable` is True for populations.
    """

    name: str
    path: str
    kind: str
    neurodata_type: str
    shape: tuple[int, ...] | None
    n_units: int | None
    units: str
    rate: float | None
    duration: float | None
    call: str | None
    reason: str | None

    @property
    def fittable(self) -> bool:
        """Whether a model can be fitted to it."""
        return self.kind in ("units", "roi", "channel", "series") and self.reason is None


@dataclass(frozen=True)
class Layout:
    """How the data of a series lie: samples, columns, whether the file holds (column, time), and what is odd."""

    n_samples: int
    n_columns: int
    transposed: bool = False
    oddity: str | None = None


def layout(entry: SeriesEntry) -> Layout:
    """Return how the data of a series lie, from the lengths of its timestamps and of its region of units.

    Raises
    ------
    ValueError
        If neither length tells which dim is time.
    """
    shape = entry.shape or (0,)
    if len(shape) == 1:
        return Layout(shape[0], 1, oddity=_region_oddity(entry, 1))
    rows, columns = shape[:2]
    n_times = entry.timestamps_shape[0] if entry.timestamps_shape and len(entry.timestamps_shape) == 1 else None
    if n_times is not None and (rows == n_times) != (columns == n_times):
        transposed = columns == n_times
    elif entry.n_region and (rows == entry.n_region) != (columns == entry.n_region):
        transposed = rows == entry.n_region
    elif entry.n_region and columns != entry.n_region and columns > rows:
        raise ValueError(
            f"{entry.path}: data of shape {shape} fit neither (time, {entry.n_region}) nor ({entry.n_region}, time) "
            f"for the {entry.n_region} rows of its {entry.region}; repair the file"
        )
    else:
        transposed = False  # as the schema says: time first
    n_samples, n_columns = (columns, rows) if transposed else (rows, columns)
    return Layout(n_samples, n_columns, transposed, _region_oddity(entry, n_columns))


def series_kind(entry: SeriesEntry) -> str:
    """Return the kind of a series: roi, channel, series, behaviour, stimulus, input, events or other."""
    kind, parts = entry.neurodata_type, entry.path.split("/")
    if "Image" in kind or "Photon" in kind or kind in ("OpticalSeries", "IndexSeries", "SpikeEventSeries", *_SWEEPS):
        return "other"
    if kind in _EVENT_TYPES or "BehavioralEvents" in entry.parents or "BehavioralEpochs" in entry.parents:
        return "events"
    if entry.region == "rois" or kind == "RoiResponseSeries":
        return "roi"
    if entry.region == "electrodes" or kind == "ElectricalSeries":
        return "channel"
    if parts[1] == "stimulus":
        return "stimulus"
    is_behaviour = kind in _BEHAVIOUR_TYPES or any(parent in _BEHAVIOUR_PARENTS for parent in entry.parents)
    if is_behaviour or "behavior" in parts or "behaviour" in parts:
        return "behaviour"
    shape = entry.shape or ()
    return "series" if len(shape) == 2 and min(shape) > 1 else "other" if len(shape) > 2 else "input"


def why_not_read(entry: SeriesEntry) -> str | None:
    """Return the sentence why a series cannot be read as (time, column), None where it can."""
    kind, path = entry.neurodata_type, entry.path
    if "Image" in kind or "Photon" in kind or kind in ("OpticalSeries", "IndexSeries"):
        return f"{path}: pixels are not fitted; fit the ROI series that were extracted from them"
    if kind in _SWEEPS:
        return f"{path}: a sweep of one cell; a network needs cells that were recorded together"
    if kind == "SpikeEventSeries":
        return f"{path}: waveforms around spikes; fit the spike times in the units table"
    if entry.fault:
        return f"{path}: {entry.fault}"
    if entry.shape is None:
        return f"{path}: the series holds no data"
    if kind != "AnnotationSeries" and (not entry.dtype or np.dtype(_plain_dtype(entry.dtype)).kind not in "fiub"):
        return f"{path}: the data are no real numbers (dtype {entry.dtype})"
    if entry.shape == ():
        return f"{path}: the data are a single value, wanted (time, unit)"
    if not all(entry.shape):
        return f"{path}: the series is empty (shape {entry.shape})"
    if len(entry.shape) > 2:
        return f"{path}: the data have {len(entry.shape)} dims {entry.shape}, wanted (time, unit)"
    if entry.timestamps_shape is None and entry.rate is None:
        return f"{path}: the series has neither timestamps nor a single starting_time with a rate"
    try:
        layout(entry)
    except ValueError as error:
        return str(error)
    return None


def contents(catalog: Catalog) -> list[Content]:
    """Return everything in the file, populations first, in file order."""
    tables = catalog.of_type("Units")
    several = len([table for table in tables if table.n_spikes is not None]) > 1
    found = [_units_content(table, several) for table in tables]
    names = [entry.name for entry in catalog.series]
    found += [_series_content(entry, names.count(entry.name) == 1) for entry in catalog.series]
    found += [_intervals_content(table) for table in interval_tables(catalog)]
    found += [_results_content(result) for result in catalog.results]
    return sorted(found, key=lambda content: _ORDER.index(content.kind))


def why_nothing(contents: Sequence[Content]) -> str | None:
    """Return the one sentence why nothing in the file can be fitted: what it lacks, or the reason of what came closest.

    None where something can be fitted.
    """
    if any(content.fittable for content in contents):
        return None
    reasons = [content.reason for content in contents if content.reason]
    if reasons:
        more = f" (and {len(reasons) - 1} more like it)" if len(reasons) > 1 else ""
        return reasons[0] + more
    if contents:
        kinds = ", ".join(sorted({content.kind for content in contents}))
        return f"the file holds {kinds}, but no population: no spike times, no ROI series and no electrical series"
    return "the file holds no units, no time series and no intervals"


def _units_content(table: TableEntry, several: bool) -> Content:
    """Return the content of a Units table."""
    reason = why_no_spikes(table)
    where = "" if table.path == "/units" or not several else f", table={table.name!r}"
    call = None if reason else f"recording.spikes(bin_size=0.02{where})"
    shape = None if table.n_spikes is None else (table.n_spikes,)
    return Content(table.name, table.path, "units", "Units", shape, table.n_rows, "spikes", None, None, call, reason)


def _series_content(entry: SeriesEntry, is_unique: bool) -> Content:
    """Return the content of a series."""
    kind, reason = series_kind(entry), why_not_read(entry)
    name = entry.name if is_unique else entry.path
    call = None
    n_units = duration = None
    if reason is None:
        shape = layout(entry)
        n_units = shape.n_columns
        duration = shape.n_samples / entry.rate if entry.rate and entry.rate > 0 else None
        quoted = f'"{name}"'
        if kind == "events":
            call = f"recording.events({quoted}, like=X)"
        elif kind in ("roi", "channel", "series"):
            call = f"recording.series({quoted})" if entry.rate else f"recording.series({quoted}, bin_size=...)"
        else:
            call = f"recording.series({quoted}, like=X)"
        if kind == "input":
            reason = f"{entry.path}: a single channel; a network needs several, but it can be an input (like=X)"
        elif kind in ("roi", "channel") and n_units == 1:
            reason = f"{entry.path}: a single {kind}; a network needs several"
    return Content(
        entry.name, entry.path, kind, entry.neurodata_type, entry.shape, n_units, entry.units, entry.rate, duration,
        call, reason,
    )  # fmt: skip


def _intervals_content(table: TableEntry) -> Content:
    """Return the content of a table of intervals."""
    reason = None if table.n_rows else f"{table.path}: the table has no rows"
    call = None if reason else f"recording.intervals[{table.name!r}]"
    if call and table.path == "/intervals/trials":
        call = "recording.trials"
    shape = (table.n_rows,)
    return Content(
        table.name, table.path, "intervals", table.neurodata_type, shape, None, "s", None, None, call, reason
    )


def _results_content(result: ResultEntry) -> Content:
    """Return the content of a module with results of an earlier fit."""
    call = f"nwb_lrrnn.read_results(recording.uri, module={result.name!r})"
    return Content(result.name, result.path, "results", "ProcessingModule", None, None, "", None, None, call, None)


def _region_oddity(entry: SeriesEntry, n_columns: int) -> str | None:
    """Return what is odd about the region of units of a series, None where it fits."""
    if not entry.region or entry.n_region == n_columns:
        return None
    return (
        f"{entry.path}: {entry.n_region} {entry.region} for {n_columns} columns of data, so that the columns carry "
        "no metadata"
    )


def _plain_dtype(dtype: str) -> str:
    """Return a dtype that numpy can build; compound data count as objects."""
    return "O" if dtype == "compound" else dtype
