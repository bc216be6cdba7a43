"""Polish of one size by trajectories: several starts, horizons that grow, the better half going on each time."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.models.least_squares.smallest.dictionary import best_candidates, draw_candidates, greedy_path
from nwb_lrrnn.models.least_squares.smallest.growth import order_of
from nwb_lrrnn.models.least_squares.smallest.problem import Fit, Neurons, Samples
from nwb_lrrnn.models.least_squares.smallest.projection import refine
from nwb_lrrnn.models.least_squares.smallest.shooting import HORIZONS, Runs, polish, squared_errors

_RIDGES = 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2  # of the outgoing weights, relative to the runs' variance


def polished(
    grown: Fit,
    smaller: Fit | None,
    samples: Samples,
    runs: Runs,
    alpha: float,
    rng: np.random.Generator,
    *,
    n_starts: int,
    n_candidates: int,
    max_weight: float,
) -> Fit:
    """Return the network of the size of `grown` whose free runs follow best, its weights within the budget.

    Starts are `grown`, the polished network one `smaller` with the best candidate beside it, and fresh choices.
    """
    starts = [grown, *_beside(smaller, samples, rng, n_candidates)]
    while len(starts) < n_starts:
        starts.append(_fresh(grown, samples, rng, n_candidates))
    last = runs.paths.shape[1] - 1
    horizons = [h for h in HORIZONS if h < last] + [last]
    fits = starts
    for horizon in horizons:
        fits = [polish(fit, runs, alpha, horizon, _RIDGES[0]) for fit in fits]
        fits.sort(key=lambda fit: float(squared_errors(fit, runs, alpha).sum()))
        fits = fits[: max(1, (len(fits) + 1) // 2)]
    best = fits[0]
    for ridge in _RIDGES[1:]:
        if best.largest_weight <= max_weight:
            break
        best = polish(best, runs, alpha, last, ridge)
    unpolished = float(squared_errors(grown, runs, alpha).sum())
    reached = float(squared_errors(best, runs, alpha).sum())
    ranked = [(order_of(best, max_weight)[0], reached, best), (order_of(grown, max_weight)[0], unpolished, grown)]
    return min(ranked, key=lambda entry: entry[:2])[2]


def _beside(smaller: Fit | None, samples: Samples, rng: np.random.Generator, n_candidates: int) -> list[Fit]:
    """Return the network one smaller with one neuron more, which has no outgoing weight yet."""
    if smaller is None:
        return []
    nonlinearity = smaller.neurons.nonlinearity
    candidates = draw_candidates(samples.points, n_candidates, nonlinearity, rng)
    row = candidates.theta[best_candidates(candidates, smaller.neurons, samples, 1e-4)[0]]
    outgoing = np.concatenate([smaller.outgoing, np.zeros((1, smaller.outgoing.shape[1]))])
    return [Fit(smaller.neurons.and_one(row), outgoing, smaller.free, smaller.ridge, smaller.error)]


def _fresh(grown: Fit, samples: Samples, rng: np.random.Generator, n_candidates: int) -> Fit:
    """Return neurons chosen from candidates of their own, refined a little on the field."""
    nonlinearity = grown.neurons.nonlinearity
    candidates = draw_candidates(samples.points, n_candidates, nonlinearity, rng)
    order = greedy_path(candidates, samples, grown.size, ridge=1e-4).order
    if len(order) < grown.size:
        return grown
    chosen = Neurons(candidates.theta[order], nonlinearity)
    return refine(chosen, samples, 1e-4, max_evaluations=20)
