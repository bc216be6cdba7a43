"""The past of every bin, and the Gaussian laws of what follows it or has no past: what autoregressions stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.observations import FLOOR, UnitMoments
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

ENOUGH_TRIALS = 10  # to give the first bins of trials a law of their own


@dataclass(frozen=True)
class Lagged:
    """Standardised past of every bin, (trial, time, lag * unit), and which bins have all of it, (trial, time)."""

    past: Array
    has_past: NDArray[np.bool_]


def lagged(trials: Trials, units: UnitMoments, n_lags: int) -> Lagged:
    """Return the last `n_lags` bins of every bin, nearest first; the past touches no unobserved entry or it is none."""
    y = standardised(trials, units)
    whole = np.asarray(trials.seen.all(axis=2))
    n_trials, n_steps, n_units = y.shape
    past = np.zeros((n_trials, n_steps, n_lags, n_units))
    has_past = np.zeros((n_trials, n_steps), dtype=bool)
    has_past[:, n_lags:] = True
    for lag in range(1, n_lags + 1):
        past[:, lag:, lag - 1] = y[:, : n_steps - lag]
        has_past[:, lag:] &= whole[:, : n_steps - lag]
    return Lagged(past.reshape(n_trials, n_steps, -1), has_past)


def ridge(past: Array, y: Array, alpha: float | None) -> tuple[Array, Array, Array, float]:
    """Return weights (unit, regressor), offset (unit,), residuals (bin, unit) scaled to be unbiased, and alpha.

    alpha None: the minimum of generalised cross-validation (Golub, Heath & Wahba 1979), summed over units.
    """
    n_bins = len(y)
    if n_bins < 3:
        return np.zeros((y.shape[1], past.shape[1])), np.zeros(y.shape[1]), y[:0], 0.0 if alpha is None else alpha
    center, target = past.mean(axis=0), y.mean(axis=0)
    x, r = past - center, y - target
    values, axes = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0.0)
    cross = axes.T @ (x.T @ r)  # (axis, unit)
    power = (cross**2).sum(axis=1)
    total = (r**2).sum()
    grid = max(values.mean(), 1e-12) * np.logspace(-6, 4, 41)
    floor = 1e-10 * max(values.max(), 1e-12)  # of directions that the past never takes

    def freedom(a: float) -> float:
        return float((values / (values + a + floor)).sum()) + 1.0

    def criterion(a: float) -> float:
        shrunk = values + a + floor
        rss = total - (power * (2.0 / shrunk - values / shrunk**2)).sum()
        return rss / max(n_bins - freedom(a), 1e-3 * n_bins) ** 2

    best = float(grid[np.argmin([criterion(a) for a in grid])]) if alpha is None else alpha
    weights = ((axes / (values + best + floor)) @ cross).T
    residual = r - x @ weights.T
    residual *= np.sqrt(n_bins / max(n_bins - freedom(best), 1.0))
    return weights, target - weights @ center, residual, best


def masked_normal(residual: Array, seen: NDArray[np.bool_], covariance: Array) -> Array:
    """Return ln N(residual; 0, covariance) of each row over its observed entries, (row,)."""
    log_p = np.zeros(len(residual))
    if not len(residual):
        return log_p
    masks, which = np.unique(seen, axis=0, return_inverse=True)
    for k, mask in enumerate(masks):
        rows = which.reshape(-1) == k
        lower = np.linalg.cholesky(covariance[np.ix_(mask, mask)])
        white = np.linalg.solve(lower, residual[rows][:, mask].T)
        log_p[rows] = (
            -0.5 * (white**2).sum(axis=0) - np.log(np.diag(lower)).sum() - 0.5 * mask.sum() * np.log(2 * np.pi)
        )
    return log_p


def first_bins(trials: Trials, n_lags: int) -> NDArray[np.bool_]:
    """Return which bins (trial, time) lie so early in their trial that no past is long enough."""
    return np.broadcast_to(np.arange(trials.values.shape[1]) < n_lags, trials.values.shape[:2])


def standardised(trials: Trials, units: UnitMoments) -> Array:
    """Return values (trial, time, unit) in standard deviations of their units, 0 where nothing was observed."""
    y = (trials.values - units.mean) / np.sqrt(units.variance)
    return y if trials.observed is None else np.where(trials.observed, y, 0.0)


def normal(y: Array, units: UnitMoments) -> tuple[Array, Array]:
    """Return mean and shrunk covariance of rows; standard normal where there are none."""
    if not len(y):
        return np.zeros(y.shape[1]), np.eye(y.shape[1])
    mean = y.mean(axis=0)
    return mean, shrunk(y - mean, units)


def shrunk(residual: Array, units: UnitMoments) -> Array:
    """Return the Ledoit-Wolf covariance of rows of mean 0; constant units keep the variance they were given."""
    from sklearn.covariance import ledoit_wolf

    lively = ~units.is_constant
    covariance = np.eye(residual.shape[1])
    if lively.any():
        estimate: Any = ledoit_wolf(residual[:, lively], assume_centered=True)[0]
        covariance[np.ix_(lively, lively)] = estimate + FLOOR * np.eye(int(lively.sum()))
    return covariance
