"""The rank of a recorded network, by its free runs in conditions that were held out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.nonlinearity import phi
from nwb_lrrnn.models.least_squares.recorded.network import run_freely
from nwb_lrrnn.models.least_squares.recorded.regression import ReducedRank, sums

if TYPE_CHECKING:
    from nwb_lrrnn.models.least_squares.recorded.recording import Recording

_FOLDS = 5
_AS_GOOD = 0.02  # of the least error: ranks within it are as good


def choose_rank(
    trials: Recording, alpha: float, nonlinearity: str, penalty: float, most: int, intercept: bool
) -> xr.Dataset:
    """Return errors on held-out conditions over `rank`, 0 to `most`; attrs say which rank is selected.

    `error` is that of free runs from the first bins, `step_error` that of y; both relative to the variance, units
    pooled. Selected is the smallest rank whose free runs are worse than the best by no more than 2 %, or than a
    standard error of that difference over conditions. The error of a step alone would not do: noise of
    observation is in x_t and in y alike, and more ranks predict it better.
    """
    folds = folds_of(trials.conditions, _FOLDS, np.random.default_rng(0))
    if len(np.unique(folds)) < 2:
        raise ValueError(
            "rank: got 'cv' with trials of one condition, wanted two or more to hold some out; pass a rank"
        )
    names, at = np.unique(trials.conditions, return_inverse=True)
    parts = [trials.take(np.flatnonzero(at == k)) for k in range(len(names))]
    moments = [sums(part.currents, part.inputs, alpha, nonlinearity) for part in parts]
    fold_of = np.array([folds[at == k][0] for k in range(len(names))])
    step, run = np.empty((len(names), most + 1)), np.empty((len(names), most + 1))
    for fold in np.unique(folds):
        together = _joined([moments[k] for k in np.flatnonzero(fold_of != fold)])
        fitted = ReducedRank(together, penalty, most, intercept=intercept)
        for rank in range(most + 1):
            weights, bias = fitted.rest(rank)
            left, right = fitted.left[:, :rank], fitted.right[:, :rank]
            for k in np.flatnonzero(fold_of == fold):
                step[k, rank] = fitted.step_error(moments[k], rank).sum()
                x, lengths = parts[k].currents, [len(trial) for trial in parts[k].currents]
                starts = np.stack([trial[0] for trial in x])
                rates = partial(phi, nonlinearity)
                free = run_freely(rates, left, right, weights, bias, alpha, starts, lengths, parts[k].inputs)
                run[k, rank] = np.mean([((a - b) ** 2).sum(1).mean() for a, b in zip(x, free, strict=True)])
    everything = _joined(moments)
    step /= np.diag(everything.scatter)[everything.n_features :].sum() / everything.weight
    run /= np.concatenate(trials.currents).var(0).sum()
    run = np.where(np.isfinite(run), run, np.inf)
    mean = run.mean(0)
    best = int(np.argmin(mean))
    with np.errstate(invalid="ignore"):
        spread = (run - run[:, [best]]).std(0, ddof=1) / np.sqrt(len(names))
    as_good = np.maximum(mean[best] * (1 + _AS_GOOD), mean[best] + np.where(np.isfinite(spread), spread, 0.0))
    good = np.flatnonzero(mean <= as_good)
    return xr.Dataset(
        {"error": ("rank", mean), "standard_error": ("rank", spread), "step_error": ("rank", step.mean(0))},
        coords={"rank": np.arange(most + 1)},
        attrs={"selected": max(1, int(good[0])), "has_structure": int(good[0] > 0)},
    )


def folds_of(conditions: NDArray, n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold (trial,) of every trial, conditions kept together."""
    names, at = np.unique(conditions, return_inverse=True)
    n_folds = min(n_folds, len(names))
    return (rng.permutation(len(names)) % n_folds)[at]


def _joined(parts):
    together = parts[0].__class__(n_free=parts[0].n_free)
    for part in parts:
        together.merge(part)
    return together
