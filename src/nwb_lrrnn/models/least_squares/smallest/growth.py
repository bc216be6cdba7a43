"""Growth: the best of fresh candidates joins, all neurons are refined together, size after size, within a budget."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.least_squares.smallest.dictionary import best_candidates, draw_candidates, greedy_path
from nwb_lrrnn.models.least_squares.smallest.problem import Fit, Neurons, Samples
from nwb_lrrnn.models.least_squares.smallest.projection import refine

Array = NDArray[np.floating]

_STRONGEST = 1.0  # ridge; at it no weight is worth more than its own square
_FEW = 10  # neurons up to which growth falls into poor minima, so that a fresh choice competes with it
_FRESH = 1e-6  # least ridge of that choice


def grow(
    samples: Samples,
    nonlinearity: str,
    rng: np.random.Generator,
    *,
    max_weight: float,
    ridge: float,
    n_candidates: int,
    n_init: int,
) -> Iterator[Fit]:
    """Yield the best network of every size from 1 on, without end.

    `n_init` networks grow side by side, each from candidates of its own. Of every size the one with the least error on
    the samples is taken, networks within the budget of weights before others.
    """
    branches: list[Fit | None] = [None] * n_init
    seeds = rng.spawn(n_init)
    while True:
        for k, own in enumerate(seeds):
            branches[k] = _larger(branches[k], samples, nonlinearity, own, max_weight, ridge, n_candidates)
        yield min((fit for fit in branches if fit is not None), key=lambda fit: order_of(fit, max_weight))


def _larger(
    fit: Fit | None, samples: Samples, nonlinearity: str, rng: np.random.Generator, max_weight, ridge, n_candidates
) -> Fit:
    """Return a network with one neuron more: the one before with the best candidate, or all of them chosen afresh."""
    candidates = draw_candidates(samples.points, n_candidates, nonlinearity, rng)
    likely = ridge if fit is None else fit.ridge
    chosen = None if fit is None else fit.neurons
    row = candidates.theta[best_candidates(candidates, chosen, samples, likely)[0]]
    starts = [Neurons(row[None], nonlinearity) if chosen is None else chosen.and_one(row)]
    if chosen is not None and len(chosen) < _FEW:
        order = greedy_path(candidates, samples, len(chosen) + 1, ridge=max(likely, _FRESH)).order
        starts.append(Neurons(candidates.theta[order], nonlinearity))
    fits = [within_budget(start, samples, max_weight, ridge, likely) for start in starts]
    return min(fits, key=lambda fit: order_of(fit, max_weight))


def order_of(fit: Fit, max_weight: float) -> tuple[bool, float]:
    """Return by what networks of one size are compared: those within the budget first, then the error."""
    return fit.largest_weight > max_weight, fit.error


def within_budget(start: Neurons, samples: Samples, max_weight: float, ridge: float, likely: float) -> Fit:
    """Return neurons refined at the smallest penalty (a power of ten times `ridge`) that keeps weights in the budget.

    The search begins at `ridge` itself, at which an exact network is found, and goes on at `likely`, which the network
    before had.
    """
    free = refine(start, samples, ridge)
    if free.largest_weight <= max_weight:
        return free
    held = max(10.0 * ridge, likely)
    fit = refine(start, samples, held)
    if fit.largest_weight <= max_weight:
        while held > 100.0 * ridge:  # less may do
            less = refine(fit.neurons, samples, held / 10.0)
            if less.largest_weight > max_weight:
                break
            fit, held = less, held / 10.0
        return fit
    while fit.largest_weight > max_weight and held < _STRONGEST:
        held *= 10.0
        fit = refine(start, samples, held)
    return fit
