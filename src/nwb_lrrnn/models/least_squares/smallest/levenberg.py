"""Levenberg-Marquardt on normal equations: half a sum of squares minimised where only J^T J and J^T F are at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Minimum:
    """Where the search ended."""

    at: Array
    cost: float
    n_evaluations: int


def minimise(
    cost: Callable[[Array], float],
    normal: Callable[[Array], tuple[Array, Array]],
    start: Array,
    *,
    max_evaluations: int = 100,
    min_gain: float = 1e-10,
) -> Minimum:
    """Return the minimum of `cost` near `start`; `normal` gives J^T J and J^T F there.

    Parameters are scaled by the largest length that their column of J has had, as in MINPACK (More 1978); the damping
    follows the ratio of gain and promise (Nielsen 1999). Ends where 3 steps in a row gained less than `min_gain` of
    the cost, or where no step gains.
    """
    x, value = start.copy(), cost(start)
    damping, growth, scale, small = 1e-3, 2.0, np.zeros_like(start), 0
    n = 1
    hessian, gradient = normal(x)
    while n < max_evaluations and small < 3 and value > 0:
        scale = np.maximum(scale, np.sqrt(np.diag(hessian)))
        unit = np.where(scale > 0, scale, 1.0)
        scaled = hessian / np.outer(unit, unit)
        scaled.flat[:: len(x) + 1] += damping
        try:
            step = -linalg.cho_solve(linalg.cho_factor(scaled, check_finite=False), gradient / unit, check_finite=False)
        except linalg.LinAlgError:
            step = np.full_like(x, np.nan)
        promise = 0.5 * step @ (damping * step - gradient / unit)
        trial = x + step / unit
        reached = cost(trial) if np.isfinite(trial).all() else np.inf
        n += 1
        if reached < value and promise > 0:
            small = small + 1 if value - reached < min_gain * value else 0
            ratio = (value - reached) / promise
            damping = max(damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 1e-15)
            growth, x, value = 2.0, trial, reached
            hessian, gradient = normal(x)
        else:
            damping, growth = damping * growth, 2.0 * growth
            if damping > 1e10 or not np.isfinite(damping):
                break
    return Minimum(x, value, n)
