"""Spike times that are not in s: sample indices, ms or microseconds, known by rates, length and what else a file holds.

NWB wants seconds. A file whose spikes run ten times longer than all else in it and are too rare for neurons has another
unit; so does one with nothing else in it whose neurons would hardly ever fire.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nwb_lrrnn.io.files.hdf5 import plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog
from nwb_lrrnn.io.reading.entries import SeriesEntry, TableEntry
from nwb_lrrnn.io.reading.series_kinds import layout, why_not_read
from nwb_lrrnn.io.reading.spike_table import SpikeSummary
from nwb_lrrnn.io.reading.tables import read_rows

# Spikes per s and unit. Neurons of a recording that lasts as long as all else in its file are what they are; else a
# median this low makes the unit of time doubtful.
_RARE, _VERY_RARE = 0.5, 0.05
_LONGER = 10.0  # times as long as all else in the file
_FEWEST = 50  # spikes that tell anything
_SAMPLING_RATES = (30_000.0, 20_000.0, 25_000.0, 24_414.0625, 32_000.0, 40_000.0)  # Hz, of common systems
_AUDIBLE = (5_000.0, 200_000.0)  # Hz: series sampled so fast are those that spikes are sorted from
_USUAL_RATE, _USUAL_LENGTH = 5.0, 1800.0  # spikes/s, s
_MOST_READ = 16  # series whose last timestamp is read


@dataclass(frozen=True)
class Scale:
    """A unit that spike times may be in: s per unit, its name, and how a user writes it."""

    seconds: float
    name: str
    written: str


_MS = Scale(1e-3, "in ms", "0.001")
_US = Scale(1e-6, "in microseconds", "1e-6")


def doubtful_unit(source: Source, catalog: Catalog, table: TableEntry, spikes: SpikeSummary) -> str | None:
    """Return the sentence that the spike times of a table, taken as s, are not in s, and what to pass; else None."""
    spiking = spikes.n > 1
    if not spiking.any() or spikes.n.sum() < _FEWEST:
        return None
    last = float(spikes.last[spiking].max())
    length = max(last - float(spikes.first[spiking].min()), 1e-9)
    rate = float(np.median(spikes.n[spiking])) / length
    if not rate < _RARE:
        return None
    whole = bool(spikes.whole[spiking].all())
    end = _end_of_all_else(source, catalog, table, last)
    if end is not None and last <= _LONGER * end:
        return None  # as long as all else: they fire as rarely as that
    choices = [_MS, _US, *([_sampled(_rates_of_file(source, catalog, table), last, end)] if whole else [])]
    found = None if end is None else _as_long_as(choices, last, end)
    if found is None and rate < _VERY_RARE:
        found = _plausible(choices, rate, length)
    if found is None:
        return None
    kind = "whole numbers up to" if whole else "numbers up to"
    beside = f" while all else in the file ends at {end:.6g} s" if end else ""
    return (
        f"{table.path}: spike times are {kind} {last:.4g}{beside}, and the median rate, were they in s, is {rate:.2g} "
        f"spikes/s: they may be {found.name}; if so, pass time_scale={found.written} "
        f"({length * found.seconds:.4g} s, {rate / found.seconds:.3g} spikes/s)"
    )


def coarse_times(source: Source, table: TableEntry, spikes: SpikeSummary, bin_size: float) -> str | None:
    """Return that spike times in float32 are not told apart by a tenth of a bin of that many s, None where they are."""
    last = float(np.nanmax(np.abs([spikes.first, spikes.last]), initial=0.0))
    apart = float(np.spacing(np.float32(last)))
    if not apart > 0.1 * bin_size:
        return None
    with source.open() as file:
        if file[f"{table.path}/spike_times"].dtype.itemsize > 4:
            return None
    return (
        f"{table.path}: spike times are float32, which tells times near {last:.6g} s no nearer than {apart:.2g} s "
        "apart; counts in bins that are not much wider are wrong"
    )


def _sampled(rates: Sequence[float], last: float, end: float | None) -> Scale:
    """Return sample indices as a unit of time: at the first of some rates in Hz at which spikes outlast all else."""
    longer = [rate for rate in rates if end is not None and last / rate > 0.95 * end]
    rate = (longer or list(rates))[0]
    return Scale(1 / rate, f"sample indices, at {rate / 1000:.6g} kHz for instance", f"1/{rate:.10g}")


def _as_long_as(choices: Sequence[Scale], last: float, end: float) -> Scale | None:
    """Return the unit in which spikes end nearest to the end of all else: at most half before it, or four times it."""
    near = [scale for scale in choices if 0.5 <= last * scale.seconds / end <= 4.0]
    # Recordings outlast their trials, so that a little later is likelier than a little earlier.
    return min(near, key=lambda scale: abs(math.log(last * scale.seconds / end / 1.05)), default=None)


def _plausible(choices: Sequence[Scale], rate: float, length: float) -> Scale | None:
    """Return the unit in which rate and length are most like those of a recording, None where all are unlike it."""

    def oddity(scale: Scale) -> float:
        rate_off = abs(math.log10(rate / scale.seconds / _USUAL_RATE))
        length_off = abs(math.log10(length * scale.seconds / _USUAL_LENGTH))
        # Whole numbers are sample indices more often than times that were rounded.
        return rate_off + length_off - (scale not in (_MS, _US))

    found = min(choices, key=oddity)
    in_seconds = abs(math.log10(rate / _USUAL_RATE)) + abs(math.log10(length / _USUAL_LENGTH))
    return found if oddity(found) < 3.0 and oddity(found) < in_seconds - 1.0 else None


def _end_of_all_else(source: Source, catalog: Catalog, table: TableEntry, last: float) -> float | None:
    """Return the latest time in s of intervals and series, None where the file has neither.

    obs_intervals count where they end long before the `last` spike: else they may be in the unit of the spikes.
    """
    ends = [0.0]
    with source.open() as file:
        observed = file[f"{table.path}/obs_intervals"] if "obs_intervals" in table.columns else None
        if observed is not None and observed.dtype.kind in "fiu" and observed.size:
            values = observed[()]
            stop = float(values[np.isfinite(values)].max(initial=0.0))
            ends += [stop] if last > _LONGER * stop else []
        for intervals in catalog.of_type("TimeIntervals"):
            columns = read_rows(file, intervals).columns
            times = [columns[name] for name in ("start_time", "stop_time") if name in columns]
            ends += [float(part[np.isfinite(part)].max(initial=0.0)) for part in times if part.dtype.kind in "fiu"]
        n_read = 0
        for entry in catalog.series:
            if why_not_read(entry) is not None:
                continue
            if entry.timestamps_shape is None:
                ends.append(_end_by_rate(entry))
            elif n_read < _MOST_READ and entry.timestamps_shape[:1] > (0,):
                n_read += 1
                end = file[f"{entry.path}/timestamps"][-1]
                ends.append(float(end) if np.ndim(end) == 0 and np.isfinite(end) else 0.0)
    return max(ends) or None


def _end_by_rate(entry: SeriesEntry) -> float:
    """Return when a series with a rate ends in s, 0 where its rate is none."""
    if not entry.rate or not entry.rate > 0 or entry.starting_time is None:
        return 0.0
    end = entry.starting_time + layout(entry).n_samples / entry.rate
    return end if math.isfinite(end) else 0.0


def _rates_of_file(source: Source, catalog: Catalog, table: TableEntry) -> list[float]:
    """Return the sampling rates in Hz that spikes may be counted at: those the file names, else common ones."""
    found = [entry.rate for entry in catalog.series if entry.rate]
    with source.open() as file:
        resolution = plain(file[f"{table.path}/spike_times"].attrs.get("resolution"))
        if isinstance(resolution, int | float) and 0 < resolution < 1:
            found.append(1 / resolution)
        for name in ("waveform_mean", "waveforms"):
            if name in table.columns:
                rate = plain(file[f"{table.path}/{name}"].attrs.get("sampling_rate"))
                found += [float(rate)] if isinstance(rate, int | float) else []
    named = sorted({round(rate, 6) for rate in found if _AUDIBLE[0] <= rate <= _AUDIBLE[1]}, reverse=True)
    return named or list(_SAMPLING_RATES)
