"""How long activity remembers: autocorrelations, half-times, and how many independent samples a recording holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_LEFT = 0.15  # of a correlation: what never comes back above it is over


def correlation(sums: Array, n_pairs: Array, counts: Array | None = None) -> Array:
    """Return a correlation (lag,) from sums and numbers of pairs (grain, lag); NaN where lag 0 has no variance."""
    weights = np.ones(len(sums)) if counts is None else counts
    mean = (weights @ sums) / np.maximum(weights @ n_pairs, 1e-300)
    mean = np.where(weights @ n_pairs > 0, mean, np.nan)
    return mean / mean[0] if mean[0] > 0 else np.full(len(mean), np.nan)


def half_time(correlation: Array, lags: NDArray[np.integer]) -> float:
    """Return the lag, in bins, at which a correlation first is 1/2; NaN where it never is."""
    if not np.isfinite(correlation[0]):
        return np.nan
    below = np.flatnonzero(correlation < 0.5)
    if not len(below):
        return np.nan
    k = int(below[0])
    before, after = correlation[k - 1], correlation[k]
    return float(lags[k - 1] + (lags[k] - lags[k - 1]) * (before - 0.5) / (before - after))


def independent_samples(
    correlation: Array, lags: NDArray[np.integer], lengths: NDArray[np.integer], share: float = 1.0
) -> tuple[float, float]:
    """Return how many independent samples trials of such lengths hold, and how many bins one takes.

    T / sum of rho(lag)^2, as products of two units at two times depend on each other by rho^2. `share` of the bins are
    observed.
    """
    rho = np.clip(np.nan_to_num(correlation), -1.0, 1.0)
    large = np.flatnonzero(np.abs(rho) > _LEFT)
    end = int(lags[min(int(large[-1]) + 1, len(lags) - 1)]) if len(large) else 0
    steps = np.arange(1, end + 1)
    squares = np.interp(steps, lags, rho) ** 2
    total, bins = 0.0, 0.0
    sizes, numbers = np.unique(lengths[lengths > 0], return_counts=True)
    for size, number in zip(sizes, numbers, strict=True):
        inside = steps < size
        total += number * size / (1.0 + 2.0 * np.sum((1.0 - steps[inside] / size) * squares[inside]))
        bins += number * size
    return share * total, bins / total
