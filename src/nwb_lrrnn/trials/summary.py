"""What one pass over a recording tells: moments of its units, observed bins of its trials, whether it holds counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# number (unit,) or (1,), mean (unit,), sum of squares about it (unit,) or (unit, unit)
NumberMeanSquares = tuple[NDArray, NDArray, NDArray]


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
    are_counts : bool
        Whether all values are whole numbers >= 0, and not all of them 0.
    """

    n_observed: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    n_bins: NDArray[np.int64]
    are_counts: bool


def summarise(values: NDArray[np.float64], observed: NDArray[np.bool_] | None, bins: NDArray[np.bool_]) -> Summary:
    """Return the summary of values and what is observed of them (trial, time, unit), and of bins (trial, time)."""
    if observed is None:
        n = np.full(values.shape[2], float(values.shape[0] * values.shape[1]))
        mean, variance = values.mean(axis=(0, 1)), values.var(axis=(0, 1))
    else:
        n = observed.sum(axis=(0, 1)).astype(np.float64)
        mean = values.sum(axis=(0, 1)) / np.maximum(n, 1.0)
        residual = np.where(observed, values - mean, 0.0)
        variance = (residual**2).sum(axis=(0, 1)) / np.maximum(n, 1.0)
    are_counts = bool((values >= 0).all() and (values == np.round(values)).all() and values.any())
    return Summary(n, mean, variance, bins.sum(axis=1), are_counts)


def pooled(parts: Iterable[tuple[NDArray[np.int64], Summary, bool]], n_trials: int) -> Summary:
    """Return the summary of a whole from those of its parts: (rows, summary, whether all its values are 0) each."""
    n = mean = variance = np.zeros(())
    n_bins = np.zeros(n_trials, dtype=np.int64)
    whole, any_value = True, False
    for rows, part, is_zero in parts:
        of_part = part.n_observed, part.mean, part.n_observed * part.variance
        n, mean, square = merged_moments((n, mean, n * variance), of_part)
        variance = square / np.maximum(n, 1.0)
        n_bins[rows] = part.n_bins
        whole &= part.are_counts or is_zero
        any_value |= not is_zero
    return Summary(n, mean, variance, n_bins, whole and any_value)


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
