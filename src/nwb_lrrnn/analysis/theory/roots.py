"""Where a function of one number crosses zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scipy.optimize import brentq


def root(function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-12) -> float:
    """Return the zero of a function that changes sign between `low` and `high`."""
    found: Any = brentq(function, low, high, xtol=tolerance)
    return float(found)
