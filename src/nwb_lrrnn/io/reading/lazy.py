"""Arrays that are not read yet: picklable descriptions that open the file again, in any process, for what is asked.

A task graph holds these descriptions and never an h5py object. They know the version of the file they describe, so that
the name of a dask array changes with the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import count_spikes
from nwb_lrrnn.io.files.chunks.slices import read_dataset
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.clock import Clock
from nwb_lrrnn.io.reading.spike_table import SpikeTable
from nwb_lrrnn.resample import bin_series
from nwb_lrrnn.trials.ends import alike, last_bins

if TYPE_CHECKING:
    import dask.array as da

_BLOCK_BYTES = 32 * 2**20
_CHUNK_BYTES, _MOST_CHUNK_BYTES = 64 * 2**20, 128 * 2**20


@dataclass(frozen=True, eq=False)
class SpikeCounts:
    """Counts (trial, time, unit) of spikes in bins, not counted yet."""

    table: SpikeTable
    rows: NDArray[np.intp]
    bin_size: float
    starts: NDArray[np.float64]
    n_bins: int
    inside: NDArray[np.bool_] | None
    dtype: np.dtype[Any]

    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(trial, time, unit)."""
        return len(self.starts), self.n_bins, len(self.rows)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("SpikeCounts", *_identity(self.table), self.rows, self.bin_size, self.starts, self.n_bins, self.inside)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        (trials, bins, units), squeeze = ranges(key, self.shape)
        first, n_bins = min(bins, default=0), max(bins, default=0) - min(bins, default=0) + 1
        starts, times = self.starts[trials] + first * self.bin_size, self.table.times(self.rows[units])
        taken = np.asarray(bins, dtype=np.intp) - first
        if self.inside is None:
            counts = count_spikes(times, self.bin_size, starts, n_bins).astype(self.dtype, copy=False)
            return some(counts[:, taken], squeeze)
        inside = self.inside[np.ix_(trials, bins)]
        counts = np.zeros((len(trials), len(bins), len(units)), dtype=self.dtype)  # as padding holds
        for group in alike(last_bins(inside)):
            longest = int(last_bins(inside[group]).max(initial=1))  # nothing is counted where no trial is
            last = int(taken[:longest].max(initial=-1)) + 1
            some_counts = count_spikes(times, self.bin_size, starts[group], max(last, 1))[:, taken[:longest]]
            counts[group, :longest] = some_counts * inside[group, :longest, None]
        return some(counts, squeeze)


@dataclass(frozen=True, eq=False)
class SampledSeries:
    """Samples (time, column) of a series in its unit of measure, not read yet: data * gain + offset.

    `columns` are the columns wanted, None for all; `transposed` says that the file holds (column, time).
    """

    source: Source
    path: str
    stored_shape: tuple[int, ...]
    stored_chunks: tuple[int, ...] | None
    dtype: np.dtype[Any]
    gain: NDArray[np.float64] | float = 1.0
    offset: float = 0.0
    columns: NDArray[np.intp] | None = None
    transposed: bool = False

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(time, column)."""
        n_samples, n_columns = self._stored_2d
        return n_samples, n_columns if self.columns is None else len(self.columns)

    @property
    def _stored_2d(self) -> tuple[int, int]:
        shape = self.stored_shape if len(self.stored_shape) > 1 else (*self.stored_shape, 1)
        return (shape[1], shape[0]) if self.transposed else (shape[0], shape[1])

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        identity = (self.source.uri, self.source.version_tag, self.path)
        return ("SampledSeries", *identity, self.gain, self.offset, self.columns, self.transposed, str(self.dtype))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        (samples, columns), squeeze = ranges(key, self.shape)
        return some(self._read(samples, columns), squeeze)

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Return samples `first` to `stop`, shape (time, column)."""
        n_samples, n_columns = self.shape
        return self._read(range(first, min(stop, n_samples)), range(n_columns))

    def _read(self, samples: range, columns: range) -> NDArray[Any]:
        """Return some samples and columns, shape (time, column); of the file, the stretch of columns that has them."""
        wanted = np.arange(self._stored_2d[1]) if self.columns is None else np.asarray(self.columns)
        wanted = wanted[np.asarray(columns, dtype=np.intp)]
        if not len(samples) or not len(wanted):
            return np.zeros((len(samples), len(wanted)), dtype=self.dtype)
        low, high = int(wanted.min()), int(wanted.max()) + 1
        ends = sorted((samples[0], samples[-1]))
        rows, stretch = slice(ends[0], ends[1] + 1, abs(samples.step)), slice(low, high)
        key = (rows,) if len(self.stored_shape) == 1 else (stretch, rows) if self.transposed else (rows, stretch)
        values = read_dataset(self.source, self.path, key, shape=self.stored_shape)
        values = values.T if self.transposed else values.reshape(len(samples), -1)  # (time, column)
        if samples.step < 0:
            values = values[::-1]
        if not np.array_equal(wanted, np.arange(low, high)):
            values = values[:, wanted - low]
        values = values.astype(self.dtype, copy=False)
        if np.ndim(self.gain) or self.gain != 1.0 or self.offset != 0.0:
            gain = np.asarray(self.gain, dtype=self.dtype)
            values *= gain[wanted] if gain.ndim else gain
            values += self.dtype.type(self.offset)
        return values

    def between(self, first: int, stop: int) -> SampledSeries:
        """Return the series of columns `first` to `stop`."""
        if (first, stop) == (0, self.shape[1]):
            return self
        columns = np.arange(self._stored_2d[1]) if self.columns is None else self.columns
        return replace(self, columns=columns[first:stop])

    def dask(self) -> da.Array:
        """Return the samples as a dask array (time, column) whose chunks are whole HDF5 chunks, 32 to 128 MB of them.

        They hold all columns, unless the file's own chunks are so long that these together would be too large.
        """
        (n_samples, n_columns), item_bytes = self.shape, self.dtype.itemsize
        long, wide, n_together = self._steps
        if long * n_together * item_bytes <= _MOST_CHUNK_BYTES:
            long *= max(1, _CHUNK_BYTES // (n_together * item_bytes) // long)
            wide = n_columns
        else:
            wide *= max(1, _CHUNK_BYTES // (long * item_bytes) // wide)
        chunks: Any = (max(1, min(long, n_samples)), max(1, min(wide, n_columns)))
        return as_dask(self, chunks)

    @property
    def _steps(self) -> tuple[int, int, int]:
        """The fewest samples and columns that are read at once, and the columns of the file that all wanted lie in."""
        n_samples, n_stored = self._stored_2d
        if self.stored_chunks is None:
            most = max(1, _CHUNK_BYTES // self.dtype.itemsize)
            return (max(1, min(n_samples, most)), 1, n_stored) if self.transposed else (1, n_stored, max(1, n_stored))
        long, wide = (*self.stored_chunks, 1)[:2]
        if self.transposed:
            long, wide = wide, long
        if self.columns is None or not len(self.columns):
            return long, wide, max(1, n_stored)
        first, last = int(self.columns.min()) // wide, int(self.columns.max()) // wide
        return long, wide, (last + 1 - first) * wide


@dataclass(frozen=True, eq=False)
class BinnedSeries:
    """Means (trial, time, column) of a series in bins, not read yet.

    `holes` (trial, time) marks the bins without samples, None where there are none. `period` makes the mean circular:
    2 pi for angles in radians, 360 for degrees.
    """

    series: SampledSeries
    clock: Clock
    bin_size: float
    starts: NDArray[np.float64]
    n_bins: int
    max_gap: float
    period: float | None = None
    holes: NDArray[np.bool_] | None = None

    ndim = 3
    dtype = np.dtype(np.float64)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(trial, time, column)."""
        return len(self.starts), self.n_bins, self.series.shape[1]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        bins = (self.bin_size, self.starts, self.n_bins, self.max_gap, self.period, self.holes)
        return ("BinnedSeries", self.series.__dask_tokenize__(), self.clock.path, self.clock.sorted_order, *bins)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        (trials, bins, columns), squeeze = ranges(key, self.shape)
        if not (len(trials) and len(bins) and len(columns)):
            return some(np.zeros((len(trials), len(bins), len(columns))), squeeze)
        first, n_bins = min(bins), max(bins) - min(bins) + 1
        low = min(columns)
        read = replace(self, series=self.series.between(low, max(columns) + 1))
        out = read._bins(self.starts[trials] + first * self.bin_size, n_bins)[:, np.asarray(bins) - first]
        if self.holes is not None:
            out[self.holes[np.ix_(trials, bins)]] = 0.0
        return some(out[:, :, np.asarray(columns) - low], squeeze)

    def _bins(self, starts: NDArray[np.float64], n_bins: int) -> NDArray[np.float64]:
        """Return the bins (trial, time, column) of some trials, from one reading where they lie near each other."""
        stretch = (starts.min(), starts.max() + n_bins * self.bin_size)
        first, stop = self.clock.around(*stretch, margin=self.max_gap)
        if (stop - first) * self.shape[2] * 8 > _CHUNK_BYTES:
            if len(starts) > 1:
                return np.concatenate([self._bins(starts[k : k + 1], n_bins) for k in range(len(starts))])
            if n_bins > 1:
                half = n_bins // 2
                later = self._bins(starts + half * self.bin_size, n_bins - half)
                return np.concatenate([self._bins(starts, half), later], axis=1)
        order = self.clock.order
        if order is None:
            values = self.series.read(first, stop)
        else:  # times out of order in the file: the samples of a stretch lie anywhere
            rows = order[first:stop]
            low = int(rows.min(initial=self.series.shape[0]))
            values = self.series.read(low, int(rows.max(initial=low - 1)) + 1)[rows - low]
        times, gap = self.clock.times(first, stop), self.max_gap
        if self.period is None:
            return bin_series(times, values, self.bin_size, starts, n_bins, max_gap=gap)
        to_angle = 2 * np.pi / self.period
        return (
            bin_series(times, values * to_angle, self.bin_size, starts, n_bins, max_gap=gap, circular=True) / to_angle
        )


class Description(Protocol):
    """What is known of an array (trial, time, unit) that is not read yet; `[...]` takes what dask asks for."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(trial, time, unit)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        ...


def lazy_blocks(description: Description) -> da.Array:
    """Return a description as a dask array (trial, time, unit) in blocks of whole trials, or of time in one stretch.

    Counts of a table whose spike times are not kept come in blocks of units, so that each spike is read once.
    """
    n_trials, n_bins, n_units = description.shape
    bin_bytes = max(1, n_units * description.dtype.itemsize)
    time_chunk = n_bins if n_trials > 1 else max(1, min(n_bins, _BLOCK_BYTES // bin_bytes))
    trial_chunk = max(1, min(n_trials, _BLOCK_BYTES // (bin_bytes * max(1, n_bins))))
    chunks: Any = (trial_chunk, time_chunk, max(n_units, 1))
    if isinstance(description, SpikeCounts) and description.table.is_large and n_units:
        bytes_of_unit = max(1, n_trials * n_bins * description.dtype.itemsize)
        chunks = (max(n_trials, 1), max(n_bins, 1), description.table.groups(description.rows, bytes_of_unit))
    return as_dask(description, chunks)


def _identity(table: SpikeTable) -> tuple[Any, ...]:
    """Return what makes a spike table that table, for dask's names."""
    return table.source.uri, table.source.version_tag, table.path, table.time_scale


def as_dask(description: Any, chunks: Any) -> da.Array:
    """Return a description as a dask array in such blocks; of a block, only what a later key takes is read."""
    import dask.array as da

    # dask merges keys of one array only where that takes lists too.
    return da.from_array(description, chunks=chunks, asarray=False, fancy=True, inline_array=True)


def ranges(key: Any, shape: tuple[int, ...]) -> tuple[list[range], tuple[Any, ...]]:
    """Return the stretch to read along each dim, and what to take of these: all, the only one, or some in a list."""
    keys = key if isinstance(key, tuple) else (key,)
    keys = (*keys, *(slice(None),) * (len(shape) - len(keys)))
    stretches: list[range] = []
    taken: list[Any] = []
    for part, size in zip(keys, shape, strict=True):
        if isinstance(part, slice):
            stretches.append(range(size)[part])
            taken.append(slice(None))
        elif np.ndim(part):
            positions = np.arange(size)[np.asarray(part, dtype=None if len(part) else np.intp)]
            first = int(positions.min(initial=size))
            stretches.append(range(first, int(positions.max(initial=first - 1)) + 1))
            taken.append(positions - first)
        else:
            position = range(size)[part]
            stretches.append(range(position, position + 1))
            taken.append(0)
    return stretches, tuple(taken)


def some(values: NDArray[Any], taken: tuple[Any, ...]) -> NDArray[Any]:
    """Return what `ranges` said to take; lists along two dims take every combination."""
    for axis in range(len(taken) - 1, -1, -1):
        values = values[(*(slice(None),) * axis, taken[axis])]
    return values
