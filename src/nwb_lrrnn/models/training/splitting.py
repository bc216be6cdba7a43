"""Splitting trials into a training and a held-out part, once or in turn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import LazyTrials, Trials, joined

_SHORTEST = 10  # bins that the held-out end of a single trial must at least have


def held_out_rows(n: int, fraction: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of n > 1 trials are for training and which are held out, each in order."""
    order = rng.permutation(n)
    n_held = min(n - 1, max(1, round(fraction * n)))
    return np.sort(order[n_held:]), np.sort(order[:n_held])


def hold_out(
    trials: Trials, fraction: float, rng: np.random.Generator, *, by_place: bool = False
) -> tuple[Trials, Trials | None]:
    """Return the training trials and the held-out ones; of a single trial, its beginning and its end.

    None is held out where `fraction` is 0 or there is too little to share; trials of which nothing is observed, which
    judge nothing, never are. The same trials are held out in whatever order they come, unless they are drawn
    `by_place`, as those are which `put_back` and `all_but_held_out` must know again.
    """
    n = len(trials.lengths)
    if fraction == 0:
        return trials, None
    seen = np.flatnonzero(trials.bins.any(axis=1))
    if n > 1 and len(seen) == 1:
        return trials, None
    if n > 1:
        drawn = held_out_rows(len(seen), fraction, rng)[1]
        held = np.sort((seen if by_place else _by_content(trials, seen))[drawn])
        return trials.take(np.setdiff1d(np.arange(n), held)), trials.take(held)
    length = int(trials.lengths[0])
    at = length - round(fraction * length)
    train, held = trials.cut(0, at), trials.cut(at, length)
    if min(at, length - at) < _SHORTEST or not train.bins.any() or not held.bins.any():
        return trials, None
    return train, held


def folds(trials: Trials, fraction: float, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return which trials are held out together, so that in turn every one is; each fold is about `fraction` of them.

    Trials of which nothing is observed are in no fold. Empty where `fraction` is 0 or there are no two trials to share.
    """
    seen = np.flatnonzero(trials.bins.any(axis=1))
    if fraction == 0 or len(seen) < 2:
        return []
    n = min(len(seen), max(2, round(1 / fraction)))
    return [np.sort(part) for part in np.array_split(rng.permutation(_by_content(trials, seen)), n)]


def _by_content(trials: Trials, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return trials in an order that what is in them alone decides: how far one unit is from its mean in each.

    That unit is the one whose neighbouring bins are most alike, which no unit of measure, no order of units or trials
    and, short of a smoother one, no other unit decides.
    """
    n = np.maximum(trials.seen.sum(axis=(0, 1)), 1)
    mean = trials.values.sum(axis=(0, 1)) / n
    squares, products = np.zeros((len(rows), trials.n_units)), np.zeros(trials.n_units)
    for k, row in enumerate(rows):
        away = trials.values[row] - mean
        away = away if trials.observed is None else np.where(trials.observed[row], away, 0.0)
        squares[k] = (away**2).sum(axis=0)
        products += (away[1:] * away[:-1]).sum(axis=0)
    total = squares.sum(axis=0)
    smoothest = int(np.argmax(products / np.where(total > 0, total, np.inf)))
    return rows[np.argsort(squares[:, smoothest], kind="stable")]


def put_back(train: Trials, held: Trials | None, fraction: float, seed: np.random.SeedSequence) -> Trials:
    """Return the sample of a recording that `hold_out` shared out, its trials in order, so that one copy is held.

    `seed` is what `hold_out` had its generator from.
    """
    if held is None:
        return train
    n = len(train.lengths) + len(held.lengths)
    rows = np.concatenate(held_out_rows(n, fraction, np.random.default_rng(seed)))
    return joined([train, held]).take(np.argsort(rows))


def all_but_held_out(
    whole: LazyTrials | None, share: int, fraction: float, seed: np.random.SeedSequence
) -> LazyTrials | None:
    """Return the trials of a recording but for those that `hold_out` holds out of its sample; None for no recording.

    And None where the sample is all there is. `seed` is what `hold_out` had its generator from.
    """
    if whole is None:
        return None
    sampled, everything = whole.sample_rows(share), np.arange(len(whole.lengths))
    if len(sampled) == len(everything):
        return None
    if fraction == 0 or len(sampled) == 1:
        return whole
    held = held_out_rows(len(sampled), fraction, np.random.default_rng(seed))[1]
    return whole.select(np.setdiff1d(everything, sampled[held]))
