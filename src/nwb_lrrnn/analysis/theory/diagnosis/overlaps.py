"""Whether left and right vectors of the modes know of each other, held against modes of free direction.

With J = sum_a S_a u_a v_aᵀ and O_a = u_a · v_a:   t3 = sum_a S_a² (N O_a² - 1) / sum_a S_a²

Free directions with the same singular values make O the diagonal of a Haar orthogonal matrix, t3 about 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_LARGE = 400  # modes: beyond, entries of a Haar matrix are independent Gaussians to 1 / N


@dataclass(frozen=True)
class OverlapTest:
    """t3, its values under a null (draw,), and the share of these at least as large."""

    statistic: float
    null: Array
    p_value: float


def overlap_statistic(strengths: Array, overlaps: Array, n: int) -> float:
    """Return t3 of singular values and overlaps (mode,) of n neurons."""
    weights = strengths**2
    return float(np.sum(weights * (n * overlaps**2 - 1.0)) / weights.sum())


def against(statistic: float, null: Array) -> OverlapTest:
    """Return the test of a statistic against draws of a null."""
    return OverlapTest(statistic, null, float((1 + np.sum(null >= statistic)) / (1 + len(null))))


def haar_test(strengths: Array, overlaps: Array, n: int, n_draws: int, rng: np.random.Generator) -> OverlapTest:
    """Return the test against modes of free direction that keep every singular value."""
    draws = [overlap_statistic(strengths, _free_overlaps(n, len(strengths), rng), n) for _ in range(n_draws)]
    return against(overlap_statistic(strengths, overlaps, n), np.array(draws))


def _free_overlaps(n: int, m: int, rng: np.random.Generator) -> Array:
    if m > _LARGE:
        return rng.standard_normal(m) / np.sqrt(n)
    q, r = np.linalg.qr(rng.standard_normal((n, m)))
    return np.diag(q) * np.sign(np.diag(r))
