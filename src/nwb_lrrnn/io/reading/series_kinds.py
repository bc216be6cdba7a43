"""What a series is, how its data lie, and why it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_lrrnn.io.reading.entries import PHOTONS, SeriesEntry

_SWEEPS = (
    "PatchClampSeries",
    "CurrentClampSeries",
    "CurrentClampStimulusSeries",
    "IZeroClampSeries",
    "VoltageClampSeries",
    "VoltageClampStimulusSeries",
)
_EVENT_TYPES = ("AnnotationSeries", "IntervalSeries", "Events", "LabeledEvents", "TTLs")
_BEHAVIOUR_PARENTS = ("Position", "CompassDirection", "BehavioralTimeSeries", "PupilTracking", "EyeTracking")
_BEHAVIOUR_TYPES = ("SpatialSeries", "PoseEstimationSeries")

# Where nothing else tells which dim is time: so many columns, and so many times more of them than samples, are odd.
_MANY_COLUMNS, _MORE_COLUMNS = 20, 2


@dataclass(frozen=True)
class SeriesLayout:
    """How the data of a series lie: samples, columns, whether the file holds (column, time), and what is odd."""

    n_samples: int
    n_columns: int
    transposed: bool = False
    oddity: str | None = None


def layout(entry: SeriesEntry) -> SeriesLayout:
    """Return how the data of a series lie; raise where no length, of timestamps or region, tells which dim is time."""
    shape = entry.shape or (0,)
    if len(shape) == 1:
        return SeriesLayout(shape[0], 1, oddity=_region_oddity(entry, 1))
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
    oddity = _region_oddity(entry, n_columns)
    if n_times is None and not entry.n_region and columns >= _MANY_COLUMNS and columns > _MORE_COLUMNS * rows:
        oddity = (
            f"{entry.path}: the data of shape {entry.shape} are read as {rows} samples of {columns} columns, as NWB "
            "has it, but have far more columns than samples: time may come second; if so, write them as (time, column)"
        )
    return SeriesLayout(n_samples, n_columns, transposed, oddity)


def series_kind(entry: SeriesEntry) -> str:
    """Return the kind of a series: pixels, roi, channel, series, behaviour, stimulus, input, events or other."""
    kind, parts = entry.neurodata_type, entry.path.split("/")
    if PHOTONS.search(kind) or (kind == "ImageSeries" and "CorrectedImageStack" in entry.parents):
        return "pixels"
    if "Image" in kind or kind in ("OpticalSeries", "IndexSeries", "SpikeEventSeries", *_SWEEPS):
        return "other"
    if kind in _EVENT_TYPES or "BehavioralEvents" in entry.parents or "BehavioralEpochs" in entry.parents:
        return "events"
    if entry.region == "rois" or kind == "RoiResponseSeries":
        return "roi"
    if entry.region == "electrodes" or kind == "ElectricalSeries":
        return "channel"
    if entry.is_momentary:
        return "events"
    if parts[1] == "stimulus":
        return "stimulus"
    is_behaviour = kind in _BEHAVIOUR_TYPES or any(parent in _BEHAVIOUR_PARENTS for parent in entry.parents)
    if is_behaviour or "behavior" in parts or "behaviour" in parts:
        return "behaviour"
    shape = entry.shape or ()
    return "series" if len(shape) == 2 and min(shape) > 1 else "other" if len(shape) > 2 else "input"


def why_no_pixels(entry: SeriesEntry) -> str | None:
    """Return the sentence why a movie cannot be read as (time, x, y) or (time, x, y, z), None where it can."""
    path, shape = entry.path, entry.shape
    if entry.fault:
        return f"{path}: {entry.fault}"
    if shape is None or not all(shape):
        return f"{path}: the movie holds no frames" + ("" if shape is None else f" (shape {shape})")
    if len(shape) not in (3, 4):
        return f"{path}: the data have {len(shape)} dims {shape}, wanted (time, x, y) or (time, x, y, z)"
    if np.dtype(_plain_dtype(entry.dtype)).kind not in "fiub":
        return f"{path}: the data are no real numbers (dtype {entry.dtype})"
    if entry.misread:
        return f"{path}: {entry.misread}"
    if entry.timestamps_shape is None and entry.rate is None:
        return f"{path}: the movie has neither timestamps nor a single starting_time with a rate"
    n_times = entry.timestamps_shape[0] if entry.timestamps_shape else shape[0]
    if n_times != shape[0] and n_times == shape[-1]:
        return f"{path}: time comes last in data of shape {shape}, wanted (time, x, y); write the movie anew"
    return None


def why_not_read(entry: SeriesEntry) -> str | None:
    """Return the sentence why a series cannot be read as (time, column), None where it can."""
    kind, path = entry.neurodata_type, entry.path
    if series_kind(entry) == "pixels":
        return f"{path}: frames of pixels, not columns; they are no input"
    if "Image" in kind or kind in ("OpticalSeries", "IndexSeries"):
        return f"{path}: {entry.fault or 'pixels are not fitted; fit the ROI series that were extracted from them'}"
    if kind in _SWEEPS:
        return f"{path}: a sweep of one cell; a network needs cells that were recorded together"
    if kind == "SpikeEventSeries":
        return f"{path}: waveforms around spikes; fit the spike times in the units table"
    if series_kind(entry) == "events":
        return f"{path}: it holds events, not samples; recording.events({entry.name!r}, like=X) reads them"
    if entry.fault:
        return f"{path}: {entry.fault}"
    if entry.shape is None:
        return f"{path}: the series holds no data"
    if not entry.dtype or np.dtype(_plain_dtype(entry.dtype)).kind not in "fiub":
        return f"{path}: the data are no real numbers (dtype {entry.dtype})"
    if entry.shape == ():
        return f"{path}: the data are a single value, wanted (time, unit)"
    if not all(entry.shape):
        return f"{path}: the series is empty (shape {entry.shape})"
    if len(entry.shape) > 2:
        return f"{path}: the data have {len(entry.shape)} dims {entry.shape}, wanted (time, unit)"
    if entry.misread and series_kind(entry) != "events":  # whose times are right all the same
        return f"{path}: {entry.misread}"
    if entry.timestamps_shape is None and entry.rate is None:
        return f"{path}: the series has neither timestamps nor a single starting_time with a rate"
    try:
        layout(entry)
    except ValueError as error:
        return str(error)
    return None


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
