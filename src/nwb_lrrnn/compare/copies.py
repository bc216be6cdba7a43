"""Trials that are given twice: equal to the last bit in all units and bins, as trials are not by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import Trials

_LIKELY = np.log(1e-6)  # ln of the expected number of equal pairs, above which they are no copies


def copy_groups(parts: list[Trials], units: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return for each part the group (trial,) of each trial: trials that are copies share one, over all parts.

    Short trials of few spikes are equal by chance. A trial counts as copied only where its values, each drawn from how
    often they occur in their unit, would hardly come up in a second trial.
    """
    rare = _rarity(parts, units)
    n_trials = sum(len(part.lengths) for part in parts)
    known: dict[bytes, int] = {}
    groups, n = [], 0
    for part, log_p in zip(parts, rare, strict=True):
        own = np.empty(len(part.lengths), dtype=np.int64)
        for row, length in enumerate(part.lengths):
            key = part.values[row, :length].tobytes()
            if part.observed is not None:
                key += part.observed[row, :length].tobytes()
            if log_p[row] + 2 * np.log(n_trials) > _LIKELY:
                own[row] = n
            else:
                own[row] = known.setdefault(key, n)
            n += own[row] == n
        groups.append(own)
    return groups


def _rarity(parts: list[Trials], units: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return for each part ln of the probability (trial,) that a second trial has these values."""
    log_p: list[NDArray[np.float64]] = [np.zeros(len(part.lengths)) for part in parts]
    for unit in np.flatnonzero(units):
        seen = [part.seen[..., unit] for part in parts]
        values = np.concatenate([part.values[..., unit][at] for part, at in zip(parts, seen, strict=True)])
        if not len(values):
            continue
        _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
        terms = np.log(counts / len(values))[which.ravel()]
        begin = 0
        for total, at in zip(log_p, seen, strict=True):
            end = begin + int(at.sum())
            total += np.bincount(np.nonzero(at)[0], terms[begin:end], minlength=len(total))
            begin = end
    return log_p
