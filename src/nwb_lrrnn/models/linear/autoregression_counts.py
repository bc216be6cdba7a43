"""Autoregression of counts: a penalised generalised linear model of every unit on the past of all units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.linear.lagged import Lagged
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

GRID = 10.0 ** np.arange(7, -1, -1)  # ridge strengths, strong (no coupling at all) to weak
_ITERATIONS = 50
_HELD_OUT = 0.2


@dataclass(frozen=True)
class CountRegression:
    """Weights (unit, regressor) and offset (unit,) of eta in spikes/s, and the ridge strength."""

    weights: Array
    offset: Array
    alpha: float


def fit_counts(trials: Trials, pairs: Lagged, model: Likelihood, alpha: float | None) -> CountRegression:
    """Return the regression; alpha None: the strength that predicts best the last fifth of the bins with a past."""
    seen = np.ones(trials.values.shape, bool) if trials.observed is None else trials.observed
    use = pairs.has_past & seen.any(axis=2)
    x, y, w = pairs.past[use], trials.values[use], seen[use].astype(np.float64)
    problem = _Problem(x, y, w, model)
    if alpha is not None:
        return CountRegression(*problem.solve(alpha, None), alpha)
    n_train = len(x) - int(_HELD_OUT * len(x))
    if n_train < 2 or n_train == len(x):
        return CountRegression(*problem.solve(GRID[0], None), float(GRID[0]))
    train = _Problem(x[:n_train], y[:n_train], w[:n_train], problem.model)
    best, best_score, start = float(GRID[0]), -np.inf, None
    for strength in GRID:
        start = train.solve(strength, start)
        score = float(_value(problem.model, y[n_train:], x[n_train:] @ start[0].T + start[1], w[n_train:]).sum())
        if score > best_score:
            best, best_score = float(strength), score
        elif score < best_score - 1e-3 * abs(best_score):
            break  # overfitted: weaker ridges only do worse
    return CountRegression(*problem.solve(best, None), best)


def starting_means(trials: Trials, first: NDArray[np.bool_], model: Likelihood) -> tuple[Array, Array]:
    """Return expected values (unit,) of any bin, and of the first bins of trials (worth one bin of the former)."""
    seen = np.ones(trials.values.shape, bool) if trials.observed is None else trials.observed
    mean = model.family.mean_of(trials.values.sum(axis=(0, 1)), seen.sum(axis=(0, 1)))
    early = seen & first[..., None]
    total = np.where(early, trials.values, 0.0).sum(axis=(0, 1))
    return mean, (total + mean) / (early.sum(axis=(0, 1)) + 1.0)


class _Problem:
    """The penalised likelihood of all units at once; each has its own step length."""

    def __init__(self, x: Array, y: Array, w: Array, model: Likelihood):
        self.x, self.y, self.w, self.model = x, y, w, model
        self.mean = model.family.mean_of((w * y).sum(axis=0), w.sum(axis=0))
        self.size = np.maximum(model.size(self.mean), 1.0)
        values, self.axes = np.linalg.eigh(x.T @ x)
        self.values = np.maximum(values, 0.0)

    def solve(self, alpha: float, start: tuple[Array, Array] | None) -> tuple[Array, Array]:
        """Return weights and offset at the maximum of ln p - alpha |weights / size|^2 / 2 and the prior of d.

        Newton steps with the curvature of a unit taken as its mean over bins times x^T x, which is factorised once.
        """
        weights, offset = start or (np.zeros((self.y.shape[1], self.x.shape[1])), self.model.eta_of(self.mean))
        ridge = alpha / self.size**2  # (unit,)
        eta = self.x @ weights.T + offset
        value = self._objective(eta, weights, offset, ridge)
        for _ in range(_ITERATIONS):
            _, pull, _, curve = self.model.terms(self.y, eta)
            pull, curve = self.w * pull, self.w * np.maximum(curve, 1e-12)
            mean_curve = curve.sum(axis=0) / len(self.x)
            slope = pull.T @ self.x - ridge[:, None] * weights
            step = ((slope @ self.axes) / (mean_curve[:, None] * self.values + ridge[:, None] + 1e-12)) @ self.axes.T
            _, prior_pull, prior_curve = self.model.prior(offset)
            prior_curve = np.maximum(prior_curve, 1e-12)
            offset_step = (pull.sum(axis=0) + prior_pull) / (curve.sum(axis=0) + prior_curve)
            eta_step = self.x @ step.T + offset_step
            factor = np.ones_like(offset)
            for _ in range(25):
                after = self._objective(
                    eta + factor * eta_step, weights + factor[:, None] * step, offset + factor * offset_step, ridge
                )
                worse = ~(after >= value - 1e-12 * np.abs(value))
                if not worse.any():
                    break
                factor[worse] *= 0.5
            factor[worse] = 0.0
            weights, offset, eta = (
                weights + factor[:, None] * step,
                offset + factor * offset_step,
                eta + factor * eta_step,
            )
            gain = np.where(worse, 0.0, after - value)
            value = value + gain
            if gain.sum() < 1e-6 * len(self.x):
                break
        return weights, offset

    def _objective(self, eta: Array, weights: Array, offset: Array, ridge: Array) -> Array:
        prior = self.model.prior(offset)[0] - 0.5 * ridge * (weights**2).sum(axis=1)
        return _value(self.model, self.y, eta, self.w) + prior


def _value(model: Likelihood, y: Array, eta: Array, w: Array) -> Array:
    """Return ln p of each unit, (unit,), without its terms of y alone."""
    return (w * model.value(y, eta)).sum(axis=0)
