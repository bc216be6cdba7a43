"""`RecordedDimension`: a Dataset of numbers that prints what they say."""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any

import numpy as np
import xarray as xr

_WIDTH = 110


class RecordedDimension(xr.Dataset):
    """A Dataset whose text is a paragraph; what is taken from it (variables, selections) is shown as xarray does.

    `text` is the paragraph, and `values_of(name)` a number with its interval.
    """

    __slots__ = ()

    @property
    def text(self) -> str:
        """What the numbers say."""
        return str(self.attrs.get("text", ""))

    def values_of(self, name: str) -> tuple[float, float, float]:
        """Return a number and both ends of its interval."""
        return tuple(float(np.asarray(self[key])) for key in (name, f"{name}_low", f"{name}_high"))  # type: ignore[return-value]

    def __repr__(self) -> str:
        return "\n".join(textwrap.wrap(self.text, _WIDTH)) if self._is_whole else super().__repr__()

    def _repr_html_(self) -> str:
        more = super()._repr_html_()
        return f"<div><p>{escape(self.text)}</p>{more}</div>" if self._is_whole else more

    @property
    def _is_whole(self) -> bool:
        return "text" in self.attrs and {"dimension", "effective_rank", "half_time"} <= set(map(str, self.data_vars))


def number(value: float) -> str:
    """Return a number in three digits."""
    if np.isposinf(value):
        return "inf"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def with_interval(values: Any, unit: str = "") -> str:
    """Return a number, its interval and its unit."""
    value, low, high = values
    return f"{number(value)}{unit} [{number(low)}, {number(high)}]" if np.isfinite(low) else f"{number(value)}{unit}"
