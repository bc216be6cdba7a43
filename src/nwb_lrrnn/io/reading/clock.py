"""When the samples of a series were taken: by rate or by timestamps, with the gaps between them."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import ChangedFileError, InvalidTimestampsError
from nwb_lrrnn.io.files.hdf5 import H5
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.entries import SeriesEntry

# A step of more than 1.5 median steps is a gap: a hole in the recording, never bridged in silence.
_GAP = 1.5
# Timestamps within a ten-thousandth of a step of an even grid are that grid, written out.
_EVEN = 1e-4


@dataclass(frozen=True, eq=False)
class Clock:
    """Times of the samples of a series.

    With a `rate` they are start + k / rate; without, they are read from the file at `path` when they are needed.
    `order` are the samples in ascending time where the file has them in another order (None: as stored).
    `segments` are the first samples after a gap, and `step` is the median step in s.
    """

    source: Source
    path: str
    n_samples: int
    start: float
    stop: float
    step: float
    rate: float | None
    segments: NDArray[np.intp]
    sorted_order: bool = False

    @property
    def order(self) -> NDArray[np.intp] | None:
        """The samples in ascending time, None where they are stored so."""
        return _timestamps(self.source.current(), self.path, True)[1] if self.sorted_order else None

    def times(self, first: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return the times of samples `first` to `stop` in s."""
        stop = self.n_samples if stop is None else stop
        if self.rate is not None:
            return self.start + np.arange(first, stop) / self.rate
        times, _ = _timestamps(self.source.current(), self.path, self.sorted_order)
        if len(times) != self.n_samples:
            raise ChangedFileError(
                f"{self.source.uri}: {self.path} was written anew since it was opened; open it again"
            )
        return times[first:stop]

    def index(self, time: NDArray[np.float64] | float) -> NDArray[np.intp]:
        """Return the first samples at or after `time` (a millionth of a step before counts as at)."""
        slack = 1e-6 * self.step
        if self.rate is not None:
            index = np.ceil((np.asarray(time) - self.start) * self.rate - 1e-6)
            return np.clip(index, 0, self.n_samples).astype(np.intp)
        return np.searchsorted(self.times(), np.asarray(time) - slack)

    def around(self, begin: float, end: float, margin: float) -> tuple[int, int]:
        """Return first and stop of the samples inside a stretch, with those up to `margin` s and one more beside it."""
        first, stop = self.index(np.array([begin - margin, end + margin])).tolist()
        return max(0, first - 1), min(self.n_samples, stop + 1)

    def holes(
        self, starts: NDArray[np.float64], bin_size: float, n_bins: int, max_gap: float
    ) -> NDArray[np.bool_]:  # (trial, n_bins)
        """Return which bins have neither a sample inside nor neighbours near enough to interpolate between."""
        edges = starts[:, None] + np.arange(n_bins + 1) * bin_size
        empty = np.diff(self.index(edges), axis=1) == 0
        holes = empty.copy()
        trial, k = np.nonzero(empty)
        after = self.index(edges[trial, k] + bin_size / 2)
        between = (after > 0) & (after < self.n_samples)
        if self.rate is not None:
            gap = np.full(len(after), self.step)
        else:
            times = self.times()
            gap = times[np.minimum(after, self.n_samples - 1)] - times[np.maximum(after - 1, 0)]
        holes[trial, k] = ~(between & (gap <= max_gap * 1.000001))
        return holes

    def segment_of(self, sample: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the number of the gapless stretch that each sample belongs to."""
        return np.searchsorted(self.segments, sample, side="right")

    @property
    def is_even(self) -> bool:
        """Whether steps between gaps are all alike (to a hundredth), so that samples can serve as bins."""
        if self.rate is not None or self.n_samples < 2:
            return self.rate is not None
        steps = np.delete(np.diff(self.times()), self.segments - 1)
        return bool((np.abs(steps - self.step) < 0.01 * self.step).all())


def read_clock(source: Source, entry: SeriesEntry, n_samples: int, repair: str | None = None) -> Clock:
    """Return the clock of a series of `n_samples`; timestamps on an even grid become a rate.

    Raises InvalidTimestampsError where there is no time per sample or times do not ascend, naming the first bad one.
    `repair="sort"` puts samples into ascending time and leaves out those without a time and repeated times.
    """
    if repair not in (None, "sort"):
        raise ValueError(f"repair: got {repair!r}, wanted None or 'sort'")
    if entry.timestamps_shape is None:
        return _regular_clock(source, entry, n_samples)
    path = f"{entry.path}/timestamps"
    if entry.timestamps_shape != (n_samples,):
        raise InvalidTimestampsError(
            f"{path}: got shape {entry.timestamps_shape} for {n_samples} samples, wanted ({n_samples},), "
            "one time per sample; repair the file"
        )
    times, order = _timestamps(source.current(), path, repair == "sort")
    steps = np.diff(times)
    bad = np.flatnonzero(~(steps > 0)) + 1
    if len(times) and not math.isfinite(times[0]):
        bad = np.insert(bad, 0, 0)
    if len(bad):
        first = int(bad[0])
        what = "repeat" if first and times[first] == times[first - 1] else "do not ascend"
        before = f" after {times[first - 1]:g}" if first else ""
        raise InvalidTimestampsError(
            f"{path}: the times {what} at index {first} ({times[first]:g}{before}), wanted ascending times; "
            "repair='sort' sorts the samples and leaves out repeated times"
        )
    if not len(times):
        raise InvalidTimestampsError(f"{path}: the series is empty, wanted at least one sample")
    step = float(np.median(steps)) if len(steps) else math.inf
    segments = np.flatnonzero(steps > _GAP * step) + 1
    rate = None
    even_step = (times[-1] - times[0]) / max(1, len(steps))
    if len(steps) and not len(segments) and order is None:
        deviation = np.abs(times - (times[0] + np.arange(len(times)) * even_step))
        rate = 1 / even_step if deviation.max() < _EVEN * even_step else None
    ends = (float(times[0]), float(times[-1]))
    return Clock(source, path, len(times), *ends, step, rate, segments, sorted_order=order is not None)


def _regular_clock(source: Source, entry: SeriesEntry, n_samples: int) -> Clock:
    """Return the clock of a series with a rate."""
    start, rate = entry.starting_time, entry.rate
    if rate is None or start is None or not (0 < rate < math.inf and math.isfinite(start)):
        raise InvalidTimestampsError(
            f"{entry.path}: got starting_time {entry.starting_time} and rate {entry.rate} without timestamps, wanted "
            "one starting_time in s and one positive rate in Hz; repair the file"
        )
    if not n_samples:
        raise InvalidTimestampsError(f"{entry.path}: the series is empty, wanted at least one sample")
    no_gaps = np.zeros(0, dtype=np.intp)
    return Clock(source, entry.path, n_samples, start, start + (n_samples - 1) / rate, 1 / rate, rate, no_gaps)


def read_timestamps(source: Source, path: str) -> NDArray[np.float64]:
    """Return timestamps (time,) in s as they are stored; those that were read last are kept."""
    return _timestamps(source.current(), path, False)[0]


def check_times(dataset: H5, path: str) -> None:
    """Raise InvalidTimestampsError where timestamps are no numbers."""
    if dataset.dtype.kind not in "fiu":
        raise InvalidTimestampsError(
            f"{path}: got times of dtype {dataset.dtype}, wanted numbers in s; repair the file"
        )


@functools.lru_cache(maxsize=4)
def _timestamps(source: Source, path: str, repair: bool) -> tuple[NDArray[np.float64], NDArray[np.intp] | None]:
    """Return timestamps and their order; kept, since every block of trials needs them."""
    with source.open() as file:
        check_times(file[path], path)
        times: NDArray[Any] = file[path][()].astype(np.float64)
    if not repair:
        return times, None
    order = np.argsort(times, kind="stable")
    order = order[np.isfinite(times[order])]
    order = order[np.diff(times[order], prepend=-np.inf) > 0]
    return (times, None) if len(order) == len(times) and (np.diff(order) == 1).all() else (times[order], order)
