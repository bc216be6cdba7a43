"""Trials that are given twice: equal to the last bit in all units and bins, as trials are not by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import Packed

_LIKELY = np.log(1e-6)  # ln of the expected number of equal pairs, above which they are no copies


def copy_groups(parts: list[Packed], units: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return for each part the group (trial,) of each trial: trials that are copies share one, over all parts.

    Short trials of few spikes are equal by chance. A trial counts as copied only where its values, each drawn from how
    often they occur in their unit, would hardly come up in a second trial.
    """
    keys = [[_key(part, row) for row in range(len(part.lengths))] for part in parts]
    n_trials = sum(map(len, keys))
    if len({key for own in keys for key in own}) == n_trials:  # as nearly always
        return np.split(np.arange(n_trials), np.cumsum([len(own) for own in keys])[:-1])
    known: dict[bytes, int] = {}
    groups, n = [], 0
    for own, log_p in zip(keys, _rarity(parts, units), strict=True):
        group = np.empty(len(own), dtype=np.int64)
        for row, key in enumerate(own):
            by_chance = log_p[row] + 2 * np.log(n_trials) > _LIKELY
            group[row] = n if by_chance else known.setdefault(key, n)
            n += group[row] == n
        groups.append(group)
    return groups


def _key(trials: Packed, row: int) -> bytes:
    """Return the values of a trial and what is observed of them, as bytes."""
    here = trials.of_trial(row)
    return trials.values[here].tobytes() + trials.seen[here].tobytes()


def _rarity(parts: list[Packed], units: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return for each part ln of the probability (trial,) that a second trial has these values."""
    log_p: list[NDArray[np.float64]] = [np.zeros(len(part.lengths)) for part in parts]
    for unit in np.flatnonzero(units):
        seen = [part.seen[:, unit] for part in parts]
        values = np.concatenate([part.values[at, unit] for part, at in zip(parts, seen, strict=True)])
        if not len(values):
            continue
        _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        terms = np.log(counts / len(values))[which.ravel()]
        begin = 0
        for part, total, at in zip(parts, log_p, seen, strict=True):
            end = begin + int(at.sum())
            total += np.bincount(part.trial[at], terms[begin:end], minlength=len(total))
            begin = end
    return log_p
