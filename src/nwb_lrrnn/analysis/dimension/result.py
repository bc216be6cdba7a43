"""`RecordedDimension`: a Dataset of numbers that prints what they say."""

from __future__ import annotations

from typing import Any

import numpy as np

from nwb_lrrnn.analysis.spoken import SpokenDataset


class RecordedDimension(SpokenDataset):
    """A Dataset whose text is a paragraph; what is taken from it (variables, selections) is shown as xarray does.

    `text` is the paragraph, and `values_of(name)` a number with its interval.
    """

    __slots__ = ()
    _of_whole = frozenset({"dimension", "effective_rank", "half_time"})

    def values_of(self, name: str) -> tuple[float, float, float]:
        """Return a number and both ends of its interval."""
        return tuple(float(np.asarray(self[key])) for key in (name, f"{name}_low", f"{name}_high"))  # type: ignore[return-value]


def number(value: float) -> str:
    """Return a number in three digits."""
    if np.isposinf(value):
        return "inf"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def with_interval(values: Any, unit: str = "") -> str:
    """Return a number, its interval and its unit."""
    value, low, high = values
    return f"{number(value)}{unit} [{number(low)}, {number(high)}]" if np.isfinite(low) else f"{number(value)}{unit}"
