"""What the numbers of a recording say, in a paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nwb_lrrnn.analysis.dimension.result import number, with_interval

_MOST_NAMED = 5


def paragraph(table: Any, notes: Sequence[str]) -> str:
    """Return the paragraph of a RecordedDimension that has all its numbers and attributes but the text."""
    attrs = table.attrs
    said = [_what(table)]
    unit = f" {attrs['time_unit']}"
    times = [
        (f"single units {with_interval(table.values_of('half_time'), unit)}", "half_time"),
        (f"the leading components {with_interval(table.values_of('half_time_of_components'), unit)}",
         "half_time_of_components"),
    ]  # fmt: skip
    known = [text for text, name in times if np.isfinite(float(table[name]))]
    if known:
        said.append(f"Half of its autocorrelation is gone after: {', '.join(known)}.")
    said.append(
        f"It holds about {number(attrs['n_independent'])} independent samples ({attrs['n_bins']} bins in "
        f"{attrs['n_trials']} trial{'s' if attrs['n_trials'] > 1 else ''}); brackets are 95 % intervals."
    )
    return " ".join([*said, *notes])


def _what(table: Any) -> str:
    attrs = table.attrs
    who = f"{attrs['n_units']} units"
    if not attrs["shared"]:
        chance = f"they covary no more than independent units do (p = {number(attrs['p_value'])})"
        if attrs["n_stretches"] < 8:
            return (
                f"Whether {who} share anything cannot be told from {attrs['n_stretches']} independent stretches: "
                f"{chance}. A longer recording may tell."
            )
        return f"No shared dimension: {who} share nothing that shows, {chance}."
    z = with_interval(table.values_of("z_scored_dimension"))
    first = (
        f"The {attrs['quantity']} of {who} is {with_interval(table.values_of('dimension'))}, z-scored {z}; of ever "
        f"more such units it would be {with_interval(table.values_of('effective_rank'))} (effective rank)."
    )
    private = {
        "poisson": " Poisson noise of the counts is taken out.",
        "kept": " It includes what noise each unit has of its own.",
    }[attrs["private"]]
    return first + private


def named(ids: Sequence[Any]) -> str:
    """Return names, the first few of many."""
    shown = [str(name) for name in ids[:_MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else "")


def notes_of(unit_ids: Any, constant: Any, copies: Sequence[tuple[int, int]], n_copied: int, n_drawn: int) -> list[str]:
    """Return what is to be known of units and trials that do not count."""
    notes = []
    dead = [unit_ids[k] for k in np.flatnonzero(constant)]
    if dead:
        notes.append(f"Left out, as they never change: {named(dead)}.")
    if copies:
        pairs = [f"{unit_ids[copy]} (a copy of {unit_ids[same]})" for copy, same in copies]
        notes.append(f"Left out, as they equal another unit in every bin: {named(pairs)}.")
    if n_copied:
        notes.append(f"{n_copied} trial{'s are copies of others and do' if n_copied > 1 else ' is a copy of another and does'} not count.")
    if n_drawn:
        notes.append(f"Covariances are those of {n_drawn} units, drawn at random.")
    return notes

