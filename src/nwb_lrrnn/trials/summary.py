"""What one pass over a recording tells: moments of its units, observed bins of its trials, whether it holds counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# number (unit,) or (1,), mean (unit,), sum of squares about it (unit,) or (unit, unit)
NumberMeanSquares = tuple[NDArray, NDArray, NDArray]

_ROUNDING = 1e-10  # of its mean: what a constant changes by where it was computed
_LEAST_VARIANCE = 1e-280


@dataclass(frozen=True)
class Summary:
    """Sums over the observed entries of trials.

    Attributes
    ----------
    n_observed : array (unit,)
        Observed bins of each unit.
    mean, variance : arrays (unit,)
        Of each unit over its observed bins; 0 where there are none.
    n_bins : array (trial,), int
        Bins of each trial observed in at least one unit.
    is_whole : array (unit,), bool
        Whether all values of a unit are whole numbers >= 0.
    largest : array (unit,)
        Largest absolute value.
    """

    n_observed: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    n_bins: NDArray[np.int64]
    is_whole: NDArray[np.bool_]
    largest: NDArray[np.float64]

    @property
    def are_counts(self) -> bool:
        """Whether all values are whole numbers >= 0, and not all of them 0."""
        return bool(self.is_whole.all() and (self.mean > 0).any())

    @property
    def is_constant(self) -> NDArray[np.bool_]:
        """Which units (unit,) never change, but for what rounding leaves of a constant, or are never observed."""
        return self.variance <= np.maximum((_ROUNDING * self.mean) ** 2, _LEAST_VARIANCE)

    def of_units(self, kept: NDArray[np.bool_]) -> Summary:
        """Return what is told of some units (unit,), bool; bins stay those that any unit was observed in."""
        n, mean, variance = (values[kept] for values in (self.n_observed, self.mean, self.variance))
        return Summary(n, mean, variance, self.n_bins, self.is_whole[kept], self.largest[kept])


def summarise(values: NDArray[np.float64], observed: NDArray[np.bool_] | None, bins: NDArray[np.bool_]) -> Summary:
    """Return the summary of values and what is observed of them (trial, time, unit), and of bins (trial, time)."""
    with np.errstate(over="ignore", invalid="ignore"):  # of values whose squares are no numbers, `largest` tells
        return _summarise(values, observed, bins)


def _summarise(values: NDArray[np.float64], observed: NDArray[np.bool_] | None, bins: NDArray[np.bool_]) -> Summary:
    if observed is None:
        n = np.full(values.shape[2], float(values.shape[0] * values.shape[1]))
        mean, variance = values.mean(axis=(0, 1)), values.var(axis=(0, 1))
    else:
        n = observed.sum(axis=(0, 1)).astype(np.float64)
        mean = values.sum(axis=(0, 1)) / np.maximum(n, 1.0)
        residual = np.where(observed, values - mean, 0.0)
        variance = (residual**2).sum(axis=(0, 1)) / np.maximum(n, 1.0)
    is_whole = ((values >= 0) & (values == np.round(values))).all(axis=(0, 1))
    return Summary(n, mean, variance, bins.sum(axis=1), is_whole, np.abs(values).max(axis=(0, 1), initial=0.0))


def pooled(parts: Iterable[tuple[NDArray[np.int64], Summary]], n_trials: int) -> Summary:
    """Return the summary of a whole from those of its parts: (rows, summary) each."""
    n = mean = variance = np.zeros(())
    n_bins = np.zeros(n_trials, dtype=np.int64)
    is_whole, largest = np.ones((), dtype=bool), np.zeros(())
    for rows, part in parts:
        of_part = part.n_observed, part.mean, part.n_observed * part.variance
        n, mean, square = merged_moments((n, mean, n * variance), of_part)
        variance = square / np.maximum(n, 1.0)
        n_bins[rows] = part.n_bins
        is_whole, largest = is_whole & part.is_whole, np.maximum(largest, part.largest)
    return Summary(n, mean, variance, n_bins, is_whole, largest)


def merged_moments(
    one: NumberMeanSquares, other: NumberMeanSquares, product: Callable[..., NDArray] = np.multiply
) -> NumberMeanSquares:
    """Return number, mean and sum of squares about the mean of two parts together, in which nothing cancels.

    Chan, Golub & LeVeque 1983, Eq. 1.5. With `product=np.outer` the squares are co-moments (unit, unit).
    """
    (n, mean, square), (m, mean_m, square_m) = one, other
    total = np.maximum(n + m, 1.0)
    delta = mean_m - mean
    return n + m, mean + delta * m / total, square + square_m + product(delta, delta) * n * m / total
