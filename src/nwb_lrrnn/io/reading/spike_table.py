"""Spike times of a Units table: kept where they are few, read unit by unit where they would fill the memory."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.binning import COUNT_TYPES, clean_spike_times
from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.chunks.slices import read_dataset
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.ragged import read_ends
from nwb_lrrnn.locks import ThreadLock

_KEPT_BYTES = 256 * 2**20  # of float64: the spike times of a table up to this size are held in memory
_BATCH_BYTES = 32 * 2**20  # of float64: what is read of a larger one at a time, or one unit
_SLACK = 1e-6  # s: a spike at the end of an interval is inside of it, however its time was rounded
_READING = ThreadLock()  # so that two threads that need the same spike times read them once


@dataclass(frozen=True, eq=False)
class SpikeSummary:
    """What is known of the spikes of each row without keeping them.

    `n` (row,) are finite spike times, `n_inside` (row,) those in the intervals asked about; `first` and `last` (row,)
    in s, NaN without spikes; `repeats` (row,) whether two have the same time; `crowded` (row,) the shortest time in s
    that holds more spikes than the smallest type of counts does (inf where there are fewer); `whole` (row,) whether all
    times are whole numbers as the file has them; `problems` what was wrong with the spike times, by row number.
    """

    n: NDArray[np.int64]
    n_inside: NDArray[np.int64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    repeats: NDArray[np.bool_]
    crowded: NDArray[np.float64]
    whole: NDArray[np.bool_]
    problems: dict[int, str]

    def count_dtype(self, rows: NDArray[np.intp], bin_size: float) -> np.dtype[Any]:
        """Return the smallest signed type that holds the spikes of any of `rows` (unit,) in any window of one bin.

        Signed, since users subtract counts from each other.
        """
        # Spike k + 32767 within a bin of spike k would be one too many; the slack covers the tolerance of the edges.
        fits = bool((self.crowded[rows] > bin_size * 1.00001).all())
        return np.dtype(COUNT_TYPES[0] if fits else COUNT_TYPES[1])


@dataclass(frozen=True, eq=False)
class SpikeTable:
    """Where spike times lie: the file, the Units table, its number of rows and of spikes, and s per unit of time."""

    source: Source
    path: str
    n_rows: int
    n_spikes: int
    time_scale: float = 1.0

    @property
    def is_large(self) -> bool:
        """Whether the spike times are read anew for what is asked for, and not kept."""
        return self.n_spikes * 8 > _KEPT_BYTES

    @property
    def oddity(self) -> str | None:
        """What is odd about how the spike times are divided among the rows, in words; None where nothing is."""
        return _ends(self.source, self.path, self.n_rows, self.n_spikes)[1]

    def summary(self, intervals: tuple[bytes, ...] | None = None) -> SpikeSummary:
        """Return what is known of the spikes of each row, from one reading of all of them.

        `intervals` are those of each row in which spikes are counted as inside, ascending and disjoint (interval, 2),
        as bytes; None: all are inside.
        """
        with _READING:
            return _summary(*self._identity, intervals)

    def times(self, rows: Sequence[int] | NDArray[np.intp]) -> list[NDArray[np.float64]]:
        """Return sorted finite spike times of some rows in s."""
        if self.is_large:
            found = dict(_read(self, np.unique(np.asarray(rows, dtype=np.intp))))
            return [clean_spike_times(found[row])[0] for row in rows]
        with _READING:
            kept = _kept(*self._identity)
        return [kept[row][0] for row in rows]

    def groups(self, rows: NDArray[np.intp], bytes_of_unit: int) -> tuple[int, ...]:
        """Return how many of `rows` (unit,) after each other make a block of little memory, with its result."""
        n_spikes = np.diff(_ends(self.source, self.path, self.n_rows, self.n_spikes)[0], prepend=0)[rows]
        sizes: list[int] = []
        spikes = 0
        for n in n_spikes.tolist():
            spikes += n * 8
            if sizes and spikes <= _BATCH_BYTES and (sizes[-1] + 1) * bytes_of_unit <= _BATCH_BYTES:
                sizes[-1] += 1
            else:
                sizes.append(1)
                spikes = n * 8
        return tuple(sizes)

    @property
    def _identity(self) -> tuple[Source, str, int, int, float]:
        return self.source, self.path, self.n_rows, self.n_spikes, self.time_scale


@functools.lru_cache(maxsize=2)
def _kept(
    source: Source, path: str, n_rows: int, n_spikes: int, time_scale: float
) -> list[tuple[NDArray[np.float64], str | None]]:
    """Return spike times of each row and what was wrong; kept, since every block of trials needs every unit."""
    table = SpikeTable(source, path, n_rows, n_spikes, time_scale)
    return [clean_spike_times(times) for _, times in _read(table, np.arange(n_rows))]


@functools.lru_cache(maxsize=8)
def _summary(
    source: Source, path: str, n_rows: int, n_spikes: int, time_scale: float, intervals: tuple[bytes, ...] | None
) -> SpikeSummary:
    """Return what `SpikeTable.summary` returns."""
    table = SpikeTable(source, path, n_rows, n_spikes, time_scale)
    n, n_inside, repeats = np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows, bool)
    first, last, crowded = np.full(n_rows, np.nan), np.full(n_rows, np.nan), np.full(n_rows, np.inf)
    whole, most = np.zeros(n_rows, dtype=bool), int(np.iinfo(COUNT_TYPES[0]).max)
    problems: dict[int, str] = {}
    if table.is_large:
        cleaned = (clean_spike_times(times) for _, times in _read(table, np.arange(n_rows)))
    else:
        cleaned = iter(_kept(source, path, n_rows, n_spikes, time_scale))
    for row, (times, problem) in enumerate(cleaned):
        if problem is not None:
            problems[row] = problem
        if not len(times):
            continue
        n[row], first[row], last[row] = len(times), times[0], times[-1]
        n_inside[row] = len(times) if intervals is None else _n_inside(times, intervals[row])
        repeats[row] = bool((times[1:] == times[:-1]).any())
        whole[row] = time_scale == 1.0 and bool((times == np.round(times)).all())
        crowded[row] = (times[most:] - times[:-most]).min(initial=np.inf)
    return SpikeSummary(n, n_inside, first, last, repeats, crowded, whole, problems)


def _n_inside(times: NDArray[np.float64], intervals: bytes) -> int:
    """Return how many of sorted times lie in ascending, disjoint intervals (interval, 2), their ends included."""
    begins, ends = np.frombuffer(intervals).reshape(-1, 2).T
    n_before = np.searchsorted(times, ends + _SLACK, side="right") - np.searchsorted(times, begins - _SLACK)
    return min(int(n_before.sum()), len(times))


@functools.lru_cache(maxsize=8)
def _ends(source: Source, path: str, n_rows: int, n_spikes: int) -> tuple[NDArray[np.int64], str | None]:
    """Return where the spikes of each row end in the flat column, and what is odd about that in words, or None."""
    with source.open() as file:
        if path not in file or "spike_times" not in file[path] or file[path]["spike_times"].shape != (n_spikes,):
            raise ChangedFileError(
                f"{source.uri}: {path}/spike_times has another shape than when the file was opened, or is gone; "
                "the file was written anew: open it again with open_nwb"
            )
        return read_ends(file, path, "spike_times", n_rows)


def _read(table: SpikeTable, rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield ascending row numbers with their spike times in s as stored, read in batches of neighbouring rows."""
    table = replace(table, source=table.source.current())  # ends and times of one version of the file
    ends, _ = _ends(table.source, table.path, table.n_rows, table.n_spikes)
    begins = np.append(0, ends[:-1])
    most = _BATCH_BYTES // 8 if table.is_large else table.n_spikes
    at = 0
    while at < len(rows):
        stop = at + 1
        while (
            stop < len(rows)
            and begins[rows[stop]] == ends[rows[stop - 1]]
            and ends[rows[stop]] - begins[rows[at]] <= most
        ):
            stop += 1
        first = int(begins[rows[at]])
        flat = _flat(table, first, int(ends[rows[stop - 1]]))
        for row in rows[at:stop].tolist():
            yield row, flat[begins[row] - first : ends[row] - first]
        at = stop


def _flat(table: SpikeTable, first: int, stop: int) -> NDArray[np.float64]:
    """Return entries `first` to `stop` of the flat column of spike times in s."""
    path = f"{table.path}/spike_times"
    stored = read_dataset(table.source, path, slice(first, stop), shape=(table.n_spikes,))
    if stored.dtype.kind not in "fiu":
        return stored  # refused with its type by what cleans them
    times = stored.astype(np.float64, copy=False)
    return times if table.time_scale == 1.0 else times * table.time_scale
