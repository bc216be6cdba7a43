"""Reduced-rank regression of a recorded network: the best connectivity of a rank, in closed form.

With y_t = (x_{t+1} - (1 - alpha) x_t) / alpha the network is linear in what is sought, y = m n^T phi(x) / N + B u + b.
LINT (Valente, Pillow & Ostojic 2022) finds the same by gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from nwb_lrrnn.dynamics import nonlinearity as nonlinearities
from nwb_lrrnn.models.least_squares.ridge import NormalEquations

Array = NDArray[np.floating]


def sums(trials: Sequence[Array], inputs: Sequence[Array] | None, alpha: float, nonlinearity: str) -> NormalEquations:
    """Return the moments of phi(x), u (not penalised) and y over trials of currents x (time, unit)."""
    n_inputs = 0 if inputs is None else inputs[0].shape[1]
    moments = NormalEquations(n_free=n_inputs)
    for k, x in enumerate(trials):
        rates = nonlinearities.phi(nonlinearity, x[:-1])
        features = rates if inputs is None else np.concatenate([rates, inputs[k][: len(rates)]], axis=1)
        moments.add(features, (x[1:] - (1.0 - alpha) * x[:-1]) / alpha)
    return moments


class ReducedRank:
    """All ranks at once: of rank R are the first R columns of m and n."""

    def __init__(self, moments: NormalEquations, penalty: float, most: int, *, intercept: bool = True):
        self.moments, self.intercept = moments, intercept
        total = moments.scatter / moments.weight
        if not intercept:
            total = total + np.outer(moments.mean, moments.mean)
        n_rates = moments.n_features - moments.n_free
        free = slice(n_rates, moments.n_features)
        if moments.n_free:  # what the inputs explain is taken out of rates and targets alike
            explained = total[:, free] @ np.linalg.pinv(total[free, free], rcond=1e-12, hermitian=True) @ total[free]
        else:
            explained = 0.0
        own = total - explained
        gram = own[:n_rates, :n_rates] + penalty * np.eye(n_rates)
        cross = own[:n_rates, moments.n_features :]
        full = linalg.solve(gram, cross, assume_a="pos")  # B (rate, target)
        values, axes = linalg.eigh(cross.T @ full)  # B^T A B
        left = axes[:, ::-1][:, :most]
        signs = np.sign(left[np.abs(left).argmax(0), np.arange(left.shape[1])])
        self.strengths = values[::-1]
        scale = np.sqrt(n_rates)  # so that currents and latents are alike in size, the convention being 1/N
        self.left = left * signs * scale
        self.right = full @ (left * signs) * scale

    def connectivity(self, rank: int) -> Array:
        """Return J (target, source) of a rank."""
        return self.left[:, :rank] @ self.right[:, :rank].T / len(self.left)

    def rest(self, rank: int) -> tuple[Array, Array]:
        """Return input weights B (unit, input) and bias b (unit,) that go with a rank."""
        moments, n_rates = self.moments, len(self.right)
        free, aim = slice(n_rates, moments.n_features), slice(moments.n_features, None)
        total = moments.scatter / moments.weight
        if not self.intercept:
            total = total + np.outer(moments.mean, moments.mean)
        own = self.connectivity(rank).T  # (source, target)
        left_over = total[free, aim] - total[free, :n_rates] @ own
        weights = np.linalg.pinv(total[free, free], rcond=1e-12, hermitian=True) @ left_over
        mean = moments.mean
        bias = mean[aim] - mean[:n_rates] @ own - mean[free] @ weights if self.intercept else np.zeros(len(own))
        return weights.T, bias

    def step_error(self, moments: NormalEquations, rank: int) -> Array:
        """Return the mean squared error of y (unit,) over the samples of other moments."""
        weights, bias = self.rest(rank)
        linear = np.concatenate([self.connectivity(rank).T, weights.T])  # (feature, unit)
        both = np.concatenate([-linear, np.eye(linear.shape[1])])
        shift = moments.mean @ both - bias
        spread = np.einsum("ik,ik->k", both, moments.scatter @ both) / moments.weight
        return spread + shift**2
