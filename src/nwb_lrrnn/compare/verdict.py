"""The verdict: whether the data ask for nonlinear dynamics, or a linear model explains as much."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nwb_lrrnn.compare.baselines import state_space_name

_NOT = "nonlinear dynamics not supported"
_OPEN = "nonlinear dynamics cannot be judged"


def judge_nonlinearity(table: pd.DataFrame) -> dict[str, Any]:
    """Return `nonlinear_supported` and the `verdict` in a sentence or two; nothing where the model is itself linear.

    Supported means that the model scores above every linear model of the table on held-out data, each by a 95 % paired
    interval wholly on its side, linear state spaces of its own and of larger rank among them. A VAR, or a linear model
    that the user put there, counts as well: where it explains as much, a linear model does. As all of them must be
    beaten, the chance of a false "supported" is at most that of one interval.

    Parameters
    ----------
    table : DataFrame
        From `tabulate` or `compare_baselines`; the last row is the model.

    Returns
    -------
    dict
        `nonlinear_supported` (bool) and `verdict` (str), or empty.

    Examples
    --------
    >>> rows = {"vs_model": [-0.3, 0.0], "low": [-0.4, 0.0], "high": [-0.2, 0.0]}
    >>> table = pd.DataFrame(rows, index=["linear state space (rank 4)", "LowRankRNN (rank 2)"])
    >>> table["is_linear"], table["interval_holds"] = [True, False], True
    >>> table.attrs = {"rank": 2, "n_units": 20, "linear_ranks": [4], "interval_over": "trials"}
    >>> judge_nonlinearity(table)["nonlinear_supported"]
    True
    """
    is_linear = table["is_linear"].to_numpy(bool)
    if is_linear[-1]:
        return {}
    columns = (table[name].to_numpy(float)[is_linear] for name in ("vs_model", "low", "high"))
    rows = [
        _Row(str(name), *map(float, numbers)) for name, *numbers in zip(table.index[is_linear], *columns, strict=True)
    ]
    holds = bool(table["interval_holds"].to_numpy(bool)[is_linear].all())
    supported, verdict = _judge(rows, holds, table.attrs)
    return {"nonlinear_supported": supported, "verdict": verdict}


class _Row(NamedTuple):
    """A linear model: its score minus that of the model, with its interval."""

    name: str
    difference: float
    low: float
    high: float


def _judge(rows: list[_Row], holds: bool, attrs: Mapping[Any, Any]) -> tuple[bool, str]:
    if any(np.isnan(row.high) for row in rows):
        return False, f"{_OPEN}: a single held-out {attrs['interval_over'][:-1]} gives no interval; hold out more."
    best = max(rows, key=_difference)
    better = [row for row in rows if row.low > 0]
    as_good = [row for row in rows if row.high >= 0]
    if better:
        row = max(better, key=_difference)
        return False, f"{_NOT}: {_named(row.name)} scores {_interval(row)} nats per bin above."
    if as_good:
        row = max(as_good, key=_difference)
        return False, (
            f"{_NOT}: {_named(row.name)} explains as much, {_interval(row)} nats per bin from the model, and that "
            "interval includes 0."
        )
    if not holds:
        return False, (
            f"{_OPEN}: the model scores above every linear model, but the held-out windows of one recording are too "
            "few, or too dependent on each other, for an interval; hold out more, or cut shorter ones."
        )
    ranks = sorted(attrs["linear_ranks"])
    if max(ranks) <= attrs["rank"] < attrs["n_units"]:
        return False, (
            f"{_OPEN}: the model scores above the linear models, but no linear state space of larger rank was tried; "
            "leave larger_ranks=None."
        )
    return True, (
        f"nonlinear dynamics supported: the model scores above every linear model, linear state spaces of rank "
        f"{_listed(ranks)} among them. The closest, {_named(best.name)}, scores {_interval(best, -1)} nats per bin "
        f"below.{_still_rising(best, max(ranks), attrs['n_units'])}"
    )


def _difference(row: _Row) -> float:
    return row.difference


def _still_rising(best: _Row, largest: int, n_units: int) -> str:
    """Return a caution where the largest rank tried is the best and the units would allow a larger one."""
    if largest >= n_units or best.name != state_space_name(largest):
        return ""
    return f" Rank {largest} is the largest tried, and the score of linear state spaces still rose."


def _named(name: str) -> str:
    """Return the name of a row as it stands in a sentence: 'a linear state space of rank 4'."""
    found = re.fullmatch(r"(.+) \(rank (\d+)\)", name)
    if found is None:
        return name
    article = "a " if name == state_space_name(int(found[2])) else ""
    return f"{article}{found[1]} of rank {found[2]}"


def _interval(row: _Row, sign: int = 1) -> str:
    """Return the difference with its interval, to two digits of its width: '+0.12 [0.03, 0.21]'."""
    low, high = sorted((sign * row.low, sign * row.high))
    digits = int(np.clip(1 - np.floor(np.log10(high - low)), 2, 6)) if high > low else 4
    shown = f"{sign * row.difference:{'+' if sign > 0 else ''}.{digits}f}"
    return f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"


def _listed(ranks: list[int]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
