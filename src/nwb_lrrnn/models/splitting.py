"""Splitting trials into a training and a held-out part."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.trials import Trials

_SHORTEST = 10  # bins that the held-out end of a single trial must at least have


def hold_out(trials: Trials, fraction: float, rng: np.random.Generator) -> tuple[Trials, Trials | None]:
    """Return the training trials and the held-out ones; of a single trial, its beginning and its end.

    None is held out where `fraction` is 0 or there is too little to share.
    """
    n = len(trials.lengths)
    if fraction == 0:
        return trials, None
    if n > 1:
        order = rng.permutation(n)
        n_held = min(n - 1, max(1, round(fraction * n)))
        return trials.take(np.sort(order[n_held:])), trials.take(np.sort(order[:n_held]))
    length = int(trials.lengths[0])
    at = length - round(fraction * length)
    train, held = trials.cut(0, at), trials.cut(at, length)
    if min(at, length - at) < _SHORTEST or not train.bins.any() or not held.bins.any():
        return trials, None
    return train, held
