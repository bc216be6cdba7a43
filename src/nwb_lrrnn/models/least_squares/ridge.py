"""Ridge regression with an unpenalised intercept, from all samples at once or from sums that add up over blocks.

    minimise over W (N, K) and c (K,):   sum_t w_t |phi_t W + c - y_t|² / sum_t w_t + penalty |W|²

The penalty is the variance of noise that every rate has for itself: under it this is the expected error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from nwb_lrrnn.parameters import positive

Array = NDArray[np.floating]


def ridge(
    features: Array,
    targets: Array,
    penalty: float,
    *,
    weight: Array | None = None,
    intercept: bool = True,
    n_free: int = 0,
) -> tuple[Array, Array]:
    """Return weights (N, K) and intercept (K,), zeros without one, by QR of the features above sqrt(penalty) I.

    features (T, N), of which the last `n_free` columns are not penalised; targets (T, K); weight (T,).
    """
    share = shares(weight, len(features))
    centre, goal = np.zeros(features.shape[1]), np.zeros(targets.shape[1])
    if intercept:
        centre, goal = share @ features, share @ targets
    root = np.sqrt(share)[:, None]
    rows, wanted = root * (features - centre), root * (targets - goal)
    held = np.diag(np.sqrt(penalties(penalty, features.shape[1], n_free)))
    orthonormal, triangle = np.linalg.qr(np.concatenate([rows, held]))
    weights = _solved(triangle, orthonormal[: len(rows)].T @ wanted)
    return weights, goal - centre @ weights


class NormalEquations:
    """Means and scatter of features and targets, added up block by block and then solved for any penalty."""

    def __init__(self, n_free: int = 0):
        self.n_free = n_free  # the last columns of the features, which are not penalised
        self.weight, self.n_samples = 0.0, 0
        self.mean: Array = np.zeros(0)  # of features and targets side by side (N + K,)
        self.scatter: Array = np.zeros((0, 0))
        self.n_features = 0

    def add(self, features: Array, targets: Array, weight: Array | None = None) -> NormalEquations:
        """Add a block, features (T, N), targets (T, K), weight (T,), and return self."""
        if not len(features):
            return self
        w = np.ones(len(features)) if weight is None else np.asarray(weight, dtype=float)
        rows = np.concatenate([features, targets], axis=1)
        total = float(w.sum())
        if total <= 0:
            return self
        mean = w @ rows / total
        centred = rows - mean
        self._join(total, len(rows), mean, (w[:, None] * centred).T @ centred, features.shape[1])
        return self

    def merge(self, other: NormalEquations) -> NormalEquations:
        """Add what another has added up, and return self."""
        if other.n_samples:
            self._join(other.weight, other.n_samples, other.mean, other.scatter, other.n_features)
        return self

    def forget(self, kept: float) -> NormalEquations:
        """Let all samples so far weigh `kept` of what they did, in (0, 1], and return self."""
        if not 0 < positive("kept", kept) <= 1:
            raise ValueError(f"kept: got {kept!r}, wanted a number > 0 and <= 1; 1 forgets nothing")
        self.weight, self.scatter = kept * self.weight, kept * self.scatter
        return self

    def _join(self, weight: float, n_samples: int, mean: Array, scatter: Array, n_features: int) -> None:
        """Add moments about a mean of their own (Chan, Golub & LeVeque 1983): no difference of large sums."""
        if not self.n_samples:
            self.mean, self.scatter = np.zeros_like(mean), np.zeros_like(scatter)
            self.n_features = n_features
        total = self.weight + weight
        step = mean - self.mean
        self.scatter = self.scatter + scatter + self.weight * weight / total * np.outer(step, step)
        self.mean = self.mean + weight / total * step
        self.weight, self.n_samples = total, self.n_samples + n_samples

    def solve(self, penalty: float, *, intercept: bool = True) -> tuple[Array, Array]:
        """Return weights (N, K) and intercept (K,) by Cholesky, or by eigenvectors where that has no root."""
        n = self.n_features
        moments = self.scatter / self.weight
        if not intercept:
            moments = moments + np.outer(self.mean, self.mean)
        gram = moments[:n, :n] + np.diag(penalties(penalty, n, self.n_free))
        cross = moments[:n, n:]
        try:
            weights = linalg.cho_solve(linalg.cho_factor(gram, check_finite=False), cross, check_finite=False)
        except linalg.LinAlgError:
            values, axes = np.linalg.eigh(gram)
            kept = values > 1e-14 * values[-1]
            weights = axes[:, kept] @ (axes[:, kept].T @ cross / values[kept, None])
        offset = self.mean[n:] - self.mean[:n] @ weights if intercept else np.zeros(weights.shape[1])
        return weights, offset

    def residual(self, weights: Array) -> Array:
        """Return the mean outer product of targets - intercept - features @ weights, (K, K)."""
        both = np.concatenate([-weights, np.eye(weights.shape[1])])
        return both.T @ self.scatter @ both / self.weight


def penalties(penalty: float, n_features: int, n_free: int) -> Array:
    """Return the penalty of every feature, (N,), 0 for the last `n_free`; a penalty of 0 is refused."""
    value = positive("ridge", penalty, hint=": without a penalty weights grow until any noise of the rates swamps them")
    held = np.full(n_features, value)
    held[n_features - n_free :] = 0.0
    return held


def shares(weight: Array | None, n_samples: int) -> Array:
    """Return weights (T,) that sum to 1."""
    if weight is None:
        return np.full(n_samples, 1.0 / n_samples)
    weight = np.asarray(weight, dtype=float)
    if weight.shape != (n_samples,) or not (weight >= 0).all() or not weight.sum() > 0:
        raise ValueError(f"weight: got shape {weight.shape}, wanted ({n_samples},) numbers >= 0, not all of them 0")
    return weight / weight.sum()


def _solved(triangle: Array, right: Array) -> Array:
    """Return triangle⁻¹ right; columns that no sample tells apart (unpenalised ones alone) get no weight."""
    diagonal = np.abs(np.diag(triangle))
    if diagonal.min(initial=np.inf) > 1e-14 * diagonal.max(initial=0.0):
        return linalg.solve_triangular(triangle, right, check_finite=False)
    return np.linalg.lstsq(triangle, right, rcond=1e-14)[0]
