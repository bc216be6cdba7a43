"""Checks of what a step is constructed with, made in `fit`: each says what came, what is wanted and how to mend it."""

from __future__ import annotations

import numbers

import numpy as np


def number(argument: str, got: object, *, zero: bool = False, hint: str = "") -> float:
    """Return `got` as a finite float > 0 (>= 0 with `zero`)."""
    if isinstance(got, numbers.Real) and not isinstance(got, (bool, np.bool_)):
        value = float(got)
        if np.isfinite(value) and (value > 0 or (zero and value == 0)):
            return value
    raise ValueError(f"{argument}: got {got!r}, wanted a finite number {'>=' if zero else '>'} 0{hint}")


def whole_number(argument: str, got: object, most: int | None = None, hint: str = "") -> int:
    """Return `got` as an int from 1 to `most`."""
    if isinstance(got, numbers.Integral) and not isinstance(got, (bool, np.bool_)) and int(got) >= 1:
        if most is None or int(got) <= most:
            return int(got)
        raise ValueError(f"{argument}: got {got}, wanted at most {most}{hint}")
    raise ValueError(f"{argument}: got {got!r}, wanted a whole number >= 1, e.g. {argument}={min(4, most or 4)}")


def flag(argument: str, got: object) -> bool:
    """Return `got`, which must be True or False."""
    if isinstance(got, (bool, np.bool_)):
        return bool(got)
    raise ValueError(f"{argument}: got {got!r}, wanted True or False")
