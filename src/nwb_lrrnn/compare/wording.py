"""How rows, units and differences are named in a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from nwb_lrrnn.compare.baselines import state_space_name

_MOST = 6  # names in a sentence


def named_row(name: str) -> str:
    """Return the name of a row as it stands in a sentence: 'a linear state space of rank 4'."""
    found = re.fullmatch(r"(.+) \(rank (\d+)\)", name)
    if found is None:
        return name
    article = "a " if name == state_space_name(int(found[2])) else ""
    return f"{article}{found[1]} of rank {found[2]}"


def named_units(ids: Sequence[Any]) -> str:
    """Return 'unit 3', 'units 3 and 7', or the first few and how many more there are.

    Examples
    --------
    >>> named_units([3]), named_units([3, 7])
    ('unit 3', 'units 3 and 7')
    """
    return named("unit", ids)


def named(noun: str, ids: Sequence[Any]) -> str:
    """Return a noun and its names, in the plural where there are several, at most the first few."""
    shown = [str(one) for one in ids[:_MOST]]
    if len(ids) > _MOST:
        return f"{noun}s {', '.join(shown)} and {len(ids) - _MOST} more"
    return f"{noun}{'s' if len(ids) > 1 else ''} {listed(shown)}"


def listed(entries: Sequence[Any]) -> str:
    """Return '2', '2 and 4' or '2, 4 and 8'."""
    texts = [str(entry) for entry in entries]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def difference_text(difference: float, low: float, high: float, *, sign: bool = True) -> str:
    """Return a difference with its interval, to two digits of its width: '+0.12 [0.03, 0.21]'."""
    digits = int(np.clip(1 - np.floor(np.log10(high - low)), 2, 6)) if high > low else 4
    shown = [f"{number:.{digits}f}" for number in (low, high)]
    return f"{difference:{'+' if sign else ''}.{digits}f} [{', '.join(shown)}]"


def still_rising(name: str, largest: int, n_units: int) -> str:
    """Return a caution where the largest rank tried is the best and the units would allow a larger one."""
    if largest >= n_units or name != state_space_name(largest):
        return ""
    return f" Rank {largest} is the largest tried, and the score of linear state spaces still rose."
