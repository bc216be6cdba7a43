"""Arrays that are not read yet: picklable descriptions that open the file again, in any process, for what is asked.

A task graph holds these descriptions and never an h5py object. They know the version of the file they describe, so that
the name of a dask array changes with the file.
"""

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import clean_spike_times, count_spikes
from nwb_lrrnn.resample import bin_series

from .clock import Clock
from .source import ChangedFileError, Source
from .tables import read_ragged

if TYPE_CHECKING:
    import dask.array as da

_BLOCK_BYTES = 32 * 2**20
_CHUNK_BYTES = 64 * 2**20
_READING = threading.Lock()  # so that two threads that need the same spike times read them once


@dataclass(frozen=True, eq=False)
class SpikeTable:
    """Where spike times lie: the file, the Units table, its number of rows and of spikes, and s per unit of time."""

    source: Source
    path: str
    n_rows: int
    n_spikes: int
    time_scale: float = 1.0

    def read(self) -> tuple[list[NDArray[np.float64]], dict[int, str]]:
        """Return sorted finite spike times of each row in s, and what was wrong with them by row number."""
        with _READING:
            return _spike_times(self.source, self.path, self.n_rows, self.n_spikes, self.time_scale)


@functools.lru_cache(maxsize=2)
def _spike_times(
    source: Source, path: str, n_rows: int, n_spikes: int, time_scale: float
) -> tuple[list[NDArray[np.float64]], dict[int, str]]:
    """Return what `SpikeTable.read` returns; kept, since every block of trials needs the spikes of every unit."""
    with source.open() as file:
        if path not in file or file[path]["spike_times"].shape != (n_spikes,):
            raise _changed(source, f"{path}/spike_times")
        parts = read_ragged(file, path, "spike_times", n_rows) or []
    cleaned = [clean_spike_times(part * time_scale if time_scale != 1.0 else part) for part in parts]
    problems = {row: problem for row, (_, problem) in enumerate(cleaned) if problem is not None}
    return [times for times, _ in cleaned], problems


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
        (trials, bins, units), squeeze = _ranges(key, self.shape)
        times, _ = self.table.read()
        first, n_bins = min(bins, default=0), max(bins, default=0) - min(bins, default=0) + 1
        starts = self.starts[trials] + first * self.bin_size
        wanted = [times[row] for row in self.rows[units]]
        counts = count_spikes(wanted, self.bin_size, starts, n_bins).astype(self.dtype, copy=False)
        counts = counts[:, np.asarray(bins) - first]
        if self.inside is not None:
            counts = counts * self.inside[np.ix_(trials, bins)][..., None]  # padding holds zeros
        return counts[squeeze]


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
        (samples, columns), squeeze = _ranges(key, self.shape)
        values = self.read(samples.start, samples.stop) if samples.step == 1 else self.read(0, self.shape[0])[samples]
        return values[:, columns][squeeze]

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Return samples `first` to `stop`, shape (time, column)."""
        with self.source.open() as file:
            dataset = file.get(self.path)
            if dataset is None or dataset.shape != self.stored_shape:
                raise _changed(self.source, self.path)
            values = dataset[:, first:stop].T if self.transposed else dataset[first:stop]
        values = values.reshape(len(values), -1).astype(self.dtype)  # (time, column)
        identity = np.ndim(self.gain) == 0 and self.gain == 1.0 and self.offset == 0.0
        if not identity:
            values = (values * np.asarray(self.gain, dtype=self.dtype) + self.dtype.type(self.offset)).astype(
                self.dtype, copy=False
            )
        return values if self.columns is None else values[:, self.columns]

    def dask(self) -> "da.Array":
        """Return the samples as a dask array (time, column) whose chunks are whole HDF5 chunks."""
        import dask.array as da

        n_samples, n_columns = self.shape
        step = 1
        if self.stored_chunks is not None:
            step = self.stored_chunks[1 if self.transposed else 0]
        row_bytes = max(1, self._stored_2d[1] * self.dtype.itemsize)
        chunk = max(1, _CHUNK_BYTES // row_bytes // step) * step
        chunks: Any = (min(chunk, max(n_samples, 1)), n_columns)
        return da.from_array(self, chunks=chunks, asarray=False, fancy=False, inline_array=True)


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
        (trials, bins, columns), squeeze = _ranges(key, self.shape)
        first, n_bins = min(bins, default=0), max(bins, default=0) - min(bins, default=0) + 1
        out = self._bins(self.starts[trials] + first * self.bin_size, n_bins)[:, np.asarray(bins) - first]
        if self.holes is not None:
            out[self.holes[np.ix_(trials, bins)]] = 0.0
        return out[:, :, columns][squeeze]

    def _bins(self, starts: NDArray[np.float64], n_bins: int) -> NDArray[np.float64]:
        """Return the bins (trial, time, column) of some trials, from one reading where they lie near each other."""
        stretch = (starts.min(), starts.max() + n_bins * self.bin_size)
        first, stop = self.clock.around(*stretch, margin=self.max_gap)
        if len(starts) > 1 and (stop - first) * self.shape[2] * 8 > _CHUNK_BYTES:
            return np.concatenate([self._bins(starts[k : k + 1], n_bins) for k in range(len(starts))])
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


def lazy_blocks(description: SpikeCounts | BinnedSeries) -> "da.Array":
    """Return a description as a dask array (trial, time, unit) in blocks of whole trials, or of time in one stretch.

    Examples
    --------
    >>> lazy_blocks(counts).chunks  # doctest: +SKIP
    ((60, 40), (35,), (107,))
    """
    import dask.array as da

    n_trials, n_bins, n_units = description.shape
    bin_bytes = max(1, n_units * description.dtype.itemsize)
    time_chunk = n_bins if n_trials > 1 else max(1, min(n_bins, _BLOCK_BYTES // bin_bytes))
    trial_chunk = max(1, min(n_trials, _BLOCK_BYTES // (bin_bytes * max(1, n_bins))))
    chunks: Any = (trial_chunk, time_chunk, max(n_units, 1))
    return da.from_array(description, chunks=chunks, asarray=False, fancy=False, inline_array=True)


def count_dtype(times: list[NDArray[np.float64]], bin_size: float) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds the spikes of any unit in any window of one bin.

    Examples
    --------
    >>> count_dtype([np.arange(300) * 1e-4], 0.02), count_dtype([np.arange(300) * 1e-4], 0.1)
    (dtype('uint8'), dtype('uint16'))
    """
    for dtype in (np.uint8, np.uint16):
        most = int(np.iinfo(dtype).max)
        # Spike k + most within a bin of spike k would be one too many; the slack covers the tolerance of the edges.
        if all(len(t) <= most or bool((t[most:] - t[:-most] > bin_size * 1.00001).all()) for t in times):
            return np.dtype(dtype)
    return np.dtype(np.uint32)


def _identity(table: SpikeTable) -> tuple[Any, ...]:
    """Return what makes a spike table that table, for dask's names."""
    return table.source.uri, table.source.version_tag, table.path, table.time_scale


def _changed(source: Source, path: str) -> ChangedFileError:
    """Return the exception for a dataset that is not what it was."""
    return ChangedFileError(
        f"{source.uri}: {path} has another shape than when the file was opened, or is gone; "
        "the file was written anew: open it again with open_nwb"
    )


def _ranges(key: Any, shape: tuple[int, ...]) -> tuple[list[range], tuple[Any, ...]]:
    """Return the indices along each dim as ranges, and the key that drops the dims indexed by integers."""
    keys = key if isinstance(key, tuple) else (key,)
    keys = (*keys, *(slice(None),) * (len(shape) - len(keys)))
    ranges = []
    for part, size in zip(keys, shape, strict=True):
        if isinstance(part, slice):
            ranges.append(range(size)[part])
        else:
            position = range(size)[part]
            ranges.append(range(position, position + 1))
    return ranges, tuple(slice(None) if isinstance(part, slice) else 0 for part in keys)
