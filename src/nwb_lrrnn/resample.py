"""Sampled series to bins: the mean of the samples inside, interpolation only across short gaps."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The same rule as for spikes: a sample a rounding error before an edge counts as on it.
EDGE_TOLERANCE = 1e-6


def bin_series(
    times: ArrayLike,
    values: ArrayLike,
    bin_size: float,
    starts: ArrayLike,
    n_bins: int,
    *,
    max_gap: float | None = None,
    circular: bool = False,
) -> NDArray[np.float64]:
    """Return a sampled series averaged into the bins of each trial.

    A bin with samples gets their mean. An empty bin (a series slower than the bins) gets the value interpolated at its
    centre, where the samples on both sides are at most `max_gap` apart. Every other bin is NaN: a hole is never filled
    in silence. NaN samples count as absent, each column by itself.

    Parameters
    ----------
    times : array-like, shape (time,)
        Session times of the samples in seconds, ascending. For a series with a rate: start + arange(n) / rate.
    values : array-like, shape (time, ...)
        Samples.
    bin_size : float
        Width of a bin in seconds.
    starts : array-like, shape (trial,)
        Session time of the left edge of the first bin of each trial, in any order; windows may overlap.
    n_bins : int
        Number of bins in each trial.
    max_gap : float, optional
        Widest distance between two samples to interpolate across, in seconds. By default 1.5 times the median step of
        `times` or one bin, whichever is larger: slower series are interpolated, missing samples are not made up.
    circular : bool
        Values are angles in radians: means and interpolation are taken on the circle, along the shorter arc. The result
        is in (-pi, pi], or in [0, 2 pi) where no sample is negative. Angles that cancel have no mean: NaN.

    Returns
    -------
    binned : ndarray, shape (trial, n_bins, ...)
        float64.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If times and values do not match, if times are not finite and ascending, or if `bin_size`, `starts`, `n_bins` or
        `max_gap` is not valid.

    Examples
    --------
    >>> times = np.arange(6) * 0.05
    >>> bin_series(times, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], bin_size=0.1, starts=[0.0, 0.1], n_bins=2)
    array([[0.5, 2.5],
           [2.5, 4.5]])
    """
    times, values = _checked_samples(times, values)
    bin_size, starts, n_bins, max_gap = _checked_grid(times, bin_size, starts, n_bins, max_gap)
    columns = values.reshape(len(values), math.prod(values.shape[1:]))  # (time, column)
    binned = np.empty((starts.size, n_bins, columns.shape[1]))
    present = ~np.isnan(columns)
    if columns.shape[1] and (present == present[:, :1]).all():
        keep = present[:, 0]
        samples = (times, columns) if keep.all() else (times[keep], columns[keep])
        binned[...] = _bin_complete(*samples, bin_size, starts, n_bins, max_gap, circular)
    else:  # columns miss different samples, so that neighbours in time differ between them
        for column, keep in enumerate(present.T):
            samples = (times[keep], columns[keep, column : column + 1])
            binned[..., column : column + 1] = _bin_complete(*samples, bin_size, starts, n_bins, max_gap, circular)
    if circular and not (columns < 0).any():
        binned %= 2 * np.pi
        binned[binned == 2 * np.pi] = 0.0  # what a rounding error below zero wraps to
    return binned.reshape(starts.size, n_bins, *values.shape[1:])


def _bin_complete(
    times: NDArray[np.float64],
    columns: NDArray[np.float64],
    bin_size: float,
    starts: NDArray[np.float64],
    n_bins: int,
    max_gap: float,
    circular: bool,
) -> NDArray[np.float64]:
    """Return bins (trial, n_bins, column) of columns (time, column) without NaN."""
    order = np.argsort(starts)  # ascending trials keep the stretches between windows short for reduceat
    edges = starts[order, None] + np.arange(n_bins + 1) * bin_size  # (trial, n_bins + 1)
    borders = np.searchsorted(times, edges - EDGE_TOLERANCE * bin_size)  # first sample at or after each edge
    n_samples = np.diff(borders, axis=1)  # (trial, n_bins)
    if circular:
        mean = _mean_of_segments(np.exp(1j * columns), borders, n_samples)
        cancelled = np.abs(mean) < 1e-9
        binned = np.angle(mean)
        binned[cancelled] = np.nan
    else:
        binned = _mean_of_segments(columns, borders, n_samples)
    trial, k = np.nonzero(n_samples == 0)
    centres = starts[order][trial] + (k + 0.5) * bin_size
    binned[trial, k] = _interpolate(times, columns, centres, max_gap, circular)
    restored = np.empty_like(binned)
    restored[order] = binned
    return restored


def _mean_of_segments(columns: NDArray, borders: NDArray[np.intp], n_samples: NDArray[np.intp]) -> NDArray:
    """Return means (trial, n_bins, column) of the samples between neighbouring borders (trial, n_bins + 1)."""
    n_trials, n_edges = borders.shape
    padded = np.concatenate([columns, np.zeros((1, columns.shape[1]), dtype=columns.dtype)])  # a border may be the end
    # Each bin is summed by itself: differences of one long cumulative sum would lose digits far into a recording.
    sums = np.add.reduceat(padded, borders.reshape(-1), axis=0).reshape(n_trials, n_edges, columns.shape[1])[:, :-1]
    return sums / np.maximum(n_samples, 1)[..., None]


def _interpolate(
    times: NDArray[np.float64],
    columns: NDArray[np.float64],
    centres: NDArray[np.float64],
    max_gap: float,
    circular: bool,
) -> NDArray[np.float64]:
    """Return values (centre, column) on the line between the two neighbouring samples, NaN across wide gaps."""
    values = np.full((centres.size, columns.shape[1]), np.nan)
    after = np.searchsorted(times, centres)
    inside = (after > 0) & (after < times.size)
    after = after[inside]
    before = after - 1
    gap = times[after] - times[before]
    near = gap <= max_gap * (1 + EDGE_TOLERANCE)
    before, after, gap = before[near], after[near], gap[near]
    inside[inside] = near
    weight = ((centres[inside] - times[before]) / gap)[:, None]
    change = columns[after] - columns[before]
    if circular:
        change = np.pi - (np.pi - change) % (2 * np.pi)  # the shorter arc, in (-pi, pi]
    line = columns[before] + weight * change
    values[inside] = np.pi - (np.pi - line) % (2 * np.pi) if circular else line
    return values


def _checked_samples(times: ArrayLike, values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times (time,) and values (time, ...) as float64, or raise."""
    moments, samples = np.asarray(times, dtype=np.float64), np.asarray(values)
    if moments.ndim != 1 or samples.ndim == 0 or len(samples) != moments.size:
        raise ValueError(
            f"values: got shape {samples.shape} for times of shape {moments.shape}, wanted (time, ...) and (time,); "
            "time comes first"
        )
    if samples.dtype.kind not in "fiub":
        raise TypeError(f"values: got dtype {samples.dtype}, wanted real numbers")
    ascending = np.diff(moments) >= 0  # False beside a NaN too
    if not np.isfinite(moments).all() or not ascending.all():
        bad = int(np.argmax(~np.isfinite(moments))) if not np.isfinite(moments).all() else int(np.argmin(ascending)) + 1
        raise ValueError(
            f"times: got {moments[bad]:g} at index {bad}, wanted finite times in ascending order; "
            "drop or sort the samples first"
        )
    return moments, samples.astype(np.float64, copy=False)


def _checked_grid(
    times: NDArray[np.float64], bin_size: float, starts: ArrayLike, n_bins: int, max_gap: float | None
) -> tuple[float, NDArray[np.float64], int, float]:
    """Return bin size, starts (trial,), number of bins and widest gap, or raise."""
    width = float(bin_size)
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"bin_size: got {bin_size!r}, wanted a positive number of seconds, for instance 0.02")
    start_times = np.atleast_1d(np.asarray(starts, dtype=np.float64))
    if start_times.ndim != 1 or not np.isfinite(start_times).all():
        raise ValueError(
            f"starts: got shape {start_times.shape} with {np.count_nonzero(~np.isfinite(start_times))} values NaN or "
            "infinite, wanted (trial,) finite session times; drop trials without a time first"
        )
    if isinstance(n_bins, bool) or int(n_bins) != n_bins or n_bins < 1:
        raise ValueError(f"n_bins: got {n_bins!r}, wanted a whole number of at least 1")
    if max_gap is None:
        max_gap = max(1.5 * float(np.median(np.diff(times))), width) if times.size > 1 else width
    elif not float(max_gap) >= 0:
        raise ValueError(f"max_gap: got {max_gap!r}, wanted a number of seconds of at least 0, or None for the default")
    return width, start_times, int(n_bins), float(max_gap)
