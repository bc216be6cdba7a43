"""Whether units share anything, and how far numbers may be off: signs and numbers of stretches are drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nwb_lrrnn.analysis.dimension.pairs import Pairs

Array = NDArray[np.floating]

LEVEL = 0.02  # of chance, below which units share something
_N_SIGNS, _N_DRAWS = 4000, 400


def p_of_nothing_shared(pairs: Pairs, stretches: NDArray[np.integer], rng: np.random.Generator) -> float:
    """Return how often the covariances of units that share nothing are as large.

    The covariance of two such units in a stretch is as often positive as negative, whatever other stretches show. So
    the pairs of stretches are given the signs of independent draws.
    """
    n = stretches.max() + 1
    weighted = np.zeros((n, n))
    np.add.at(weighted, (stretches[:, None], stretches[None]), pairs.weights * pairs.shared)
    seen = weighted.sum() - pairs.by_chance * pairs.weights.sum()
    same = np.trace(weighted)
    signs = rng.choice([-1.0, 1.0], size=(_N_SIGNS, n))
    drawn = np.einsum("si,ij,sj->s", signs, weighted, signs, optimize=True)
    return float((1 + np.sum(drawn - same >= seen - same)) / (1 + _N_SIGNS))


def spread(
    statistic: Callable[[Array], Array], stretches: NDArray[np.integer], rng: np.random.Generator
) -> tuple[Array, int]:
    """Return values (draw, ...) of a statistic of how often each grain counts, stretches drawn anew, and their number.

    Deviations are those of as many independent draws as there are stretches, of which one is spent on the mean.
    """
    n = int(stretches.max()) + 1
    draws = []
    for _ in range(_N_DRAWS):
        counts = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        draws.append(statistic(counts[stretches]))
    return np.array(draws), n


def interval(value: float, draws: Array, n: int, level: float = 0.95, more: float = 0.0) -> tuple[float, float]:
    """Return the interval of a number from draws of it; `more` is another standard error, of another source."""
    known = draws[np.isfinite(draws)]
    if not np.isfinite(value) or len(known) < 0.5 * len(draws):
        return np.nan, np.nan
    width = stats.t.ppf(0.5 + level / 2, max(n - 1, 2)) * np.sqrt(n / max(n - 1, 1))
    away = width * float(np.hypot(np.std(known), more))
    return value - away, value + away
