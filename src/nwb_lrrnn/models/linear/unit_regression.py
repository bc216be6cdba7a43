"""Regressions of every unit on its own past: least squares for Gaussian values, Newton's method for counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.linear.observations import FLOOR, UnitMoments

Array = NDArray[np.floating]

_RIDGE = 1.0  # of one standardised bin of the past: a prior worth one bin, against collinear pasts of few bins
_ITERATIONS = 30
_HALVINGS = 20


@dataclass(frozen=True)
class OwnPast:
    """The last bins of each unit, nearest first: standardised values, and how many of them are observed.

    Attributes
    ----------
    lags : list of array (trial, time, unit)
        0 where there is none.
    order : array (trial, time, unit), int
        How many bins before an entry are observed without a gap, at most the number of lags.
    """

    lags: list[Array]
    order: NDArray[np.int64]


@dataclass(frozen=True)
class UnitRegression:
    """Weights (lag, unit), offset (unit,) and, Gaussian, the variance (unit,) of what is left."""

    weights: Array
    offset: Array
    variance: Array | None = None

    def predicted(self, past: OwnPast) -> Array:
        """Return offset + sum of weights times past, (trial, time, unit)."""
        total = np.broadcast_to(self.offset, past.order.shape).copy()
        for weight, lag in zip(self.weights, past.lags, strict=False):
            total += weight * lag
        return total


def own_past(y: Array, seen: NDArray[np.bool_], n_lags: int) -> OwnPast:
    """Return the past of standardised values y (trial, time, unit)."""
    lags = [np.zeros_like(y) for _ in range(n_lags)]
    order = np.zeros(y.shape, dtype=np.int64)
    for t in range(1, y.shape[1]):
        order[:, t] = np.where(seen[:, t - 1], np.minimum(order[:, t - 1] + 1, n_lags), 0)
        for lag in range(min(t, n_lags)):
            lags[lag][:, t] = np.where(order[:, t] > lag, y[:, t - 1 - lag], 0.0)
    return OwnPast(lags, order)


def regress_values(y: Array, use: NDArray[np.bool_], past: OwnPast, n_lags: int, units: UnitMoments) -> UnitRegression:
    """Return the least-squares regression of standardised values on `n_lags` bins of their own past, where `use`."""
    w = use.astype(np.float64)
    square, cross = _normal_equations(w, w * y, past, n_lags)
    solution = np.linalg.solve(square + _penalty(n_lags), cross[..., None])[..., 0]  # (unit, lag + 1)
    fitted = UnitRegression(solution[:, 1:].T, solution[:, 0])
    left = (w * (y - fitted.predicted(past)) ** 2).sum(axis=(0, 1))
    n = w.sum(axis=(0, 1))
    variance = left / np.maximum(n - n_lags - 1, 1.0) + FLOOR
    return UnitRegression(fitted.weights, fitted.offset, np.where(units.is_constant | (n < n_lags + 3), 1.0, variance))


def regress_counts(
    y: Array, use: NDArray[np.bool_], past: OwnPast, start: UnitRegression, model: Likelihood
) -> UnitRegression:
    """Return the penalised most likely regression of counts, from a start with as many lags or fewer.

    ln p - |weights / size|^2 / 2 + the weak prior of the offset, size that of the unit's rate; each unit has its own
    step length.
    """
    w = use.astype(np.float64)
    n_lags = len(past.lags)
    weights = np.zeros((n_lags, y.shape[2]))
    weights[: len(start.weights)] = start.weights
    mean = model.family.mean_of((w * y).sum(axis=(0, 1)), w.sum(axis=(0, 1)))
    penalty = _penalty(n_lags) / np.maximum(model.size(mean), 1.0)[:, None, None] ** 2  # (unit, lag + 1, lag + 1)
    now = UnitRegression(weights, start.offset)
    value = _objective(y, w, now, past, penalty, model)
    for _ in range(_ITERATIONS):
        _, pull, information, _ = model.terms(y, now.predicted(past))
        curvature, slope = _normal_equations(w * information, w * pull, past, n_lags)
        _, prior_pull, prior_curve = model.prior(now.offset)
        slope[:, 0] += prior_pull
        curvature[:, 0, 0] += np.maximum(prior_curve, 1e-12)
        slope -= np.einsum("ujk,uk->uj", penalty, _stacked(now))
        step = np.linalg.solve(curvature + penalty + 1e-12 * np.eye(n_lags + 1), slope[..., None])[..., 0]
        now, gain = _stepped(y, w, now, step, value, past, penalty, model)
        value = value + gain
        if gain.sum() < 1e-6 * max(w.sum() / y.shape[2], 1.0):
            break
    return now


def _stepped(y, w, now: UnitRegression, step: Array, value: Array, past: OwnPast, penalty: Array, model: Likelihood):
    """Return the regression after a step, halved for each unit until it loses nothing, and the gain (unit,)."""
    factor = np.ones(len(step))
    for _ in range(_HALVINGS):
        moved = factor[:, None] * step
        after = UnitRegression(now.weights + moved[:, 1:].T, now.offset + moved[:, 0])
        gain = _objective(y, w, after, past, penalty, model) - value
        worse = ~(gain >= -1e-12 * np.abs(value))
        if not worse.any():
            return after, gain
        factor[worse] *= 0.5
    still = np.where(worse, 0.0, factor)[:, None] * step
    after = UnitRegression(now.weights + still[:, 1:].T, now.offset + still[:, 0])
    return after, np.where(worse, 0.0, gain)


def _objective(y: Array, w: Array, fitted: UnitRegression, past: OwnPast, penalty: Array, model: Likelihood) -> Array:
    stacked = _stacked(fitted)
    fit = (w * model.value(y, fitted.predicted(past))).sum(axis=(0, 1))
    return fit + model.prior(fitted.offset)[0] - 0.5 * np.einsum("uj,ujk,uk->u", stacked, penalty, stacked)


def _stacked(fitted: UnitRegression) -> Array:
    return np.column_stack([fitted.offset, fitted.weights.T])  # (unit, 1 + lag)


def _penalty(n_lags: int) -> Array:
    return np.diag([1e-12, *[_RIDGE] * n_lags])


def _normal_equations(w: Array, target: Array, past: OwnPast, n_lags: int) -> tuple[Array, Array]:
    """Return sum w x x^T (unit, 1 + lag, 1 + lag) and sum x target (unit, 1 + lag), x = (1, past)."""
    n_units = w.shape[2]
    square, cross = np.zeros((n_units, n_lags + 1, n_lags + 1)), np.zeros((n_units, n_lags + 1))
    square[:, 0, 0], cross[:, 0] = w.sum(axis=(0, 1)), target.sum(axis=(0, 1))
    for j in range(n_lags):
        weighted = w * past.lags[j]
        square[:, 0, j + 1] = square[:, j + 1, 0] = weighted.sum(axis=(0, 1))
        cross[:, j + 1] = np.einsum("ktu,ktu->u", target, past.lags[j])
        for k in range(j, n_lags):
            square[:, j + 1, k + 1] = square[:, k + 1, j + 1] = np.einsum("ktu,ktu->u", weighted, past.lags[k])
    return square, cross
