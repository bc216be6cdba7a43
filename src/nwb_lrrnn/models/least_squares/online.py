"""Recursive least squares: the regression sample by sample, and networks that learn while a system runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.least_squares.features import Features
from nwb_lrrnn.models.least_squares.field import FittedField, checked_samples
from nwb_lrrnn.models.least_squares.ridge import NormalEquations
from nwb_lrrnn.parameters import choose, positive

Array = NDArray[np.floating]

STATES = ("clamped", "perturbed", "closed")
_BLOCK = 64  # samples of one update
_MOST = 1e6  # P never exceeds its start by more, or forgetting lets it grow for ever where nothing is seen


class RecursiveLeastSquares:
    """Weights (N, K) and intercept (K,) that minimise sum_t beta^(T-t) |phi_t W + c - y_t|² + beta^T penalty |W|².

    The penalty is that of the sum over samples: `ridge` with penalty / T says the same after T samples, to about 1e-12
    relative at a penalty of 1e-3 and 1e-9 at 1e-6 (P loses digits that the QR of all samples keeps). Samples enter as
    differences from the mean so far, so that the intercept needs no penalty. One update costs N² for each sample.
    """

    def __init__(
        self, n_features: int, n_targets: int, penalty: float, *, forgetting: float = 1.0, intercept: bool = True
    ):
        start = 1.0 / positive("ridge", penalty, hint=": P starts at 1 / ridge")
        self.forgetting = positive("forgetting", forgetting, hint=" and <= 1, the weight a sample keeps at the next")
        if self.forgetting > 1:
            raise ValueError(f"forgetting: got {forgetting!r}, wanted a number > 0 and <= 1; 1 forgets nothing")
        self.P: Array = start * np.eye(n_features)
        self.weights: Array = np.zeros((n_features, n_targets))
        self._has_intercept, self._most = intercept, _MOST * start * n_features
        self._weight, self._mean, self._goal = 0.0, np.zeros(n_features), np.zeros(n_targets)

    @property
    def intercept(self) -> Array:
        """Intercept c (K,), zeros without one."""
        return self._goal - self._mean @ self.weights

    def predict(self, features: Array) -> Array:
        """Return phi W + c, (..., K)."""
        return features @ self.weights + self.intercept

    def update(self, features: Array, targets: Array) -> RecursiveLeastSquares:
        """Learn from a sample, (N,) and (K,), or from samples in their order, (T, N) and (T, K), and return self."""
        features, targets = np.atleast_2d(features), np.atleast_2d(targets)
        for first in range(0, len(features), _BLOCK):
            self._learn(features[first : first + _BLOCK], targets[first : first + _BLOCK])
        return self

    def _learn(self, features: Array, targets: Array) -> None:
        kept = self.forgetting ** np.arange(len(features) - 1, -1, -1.0)
        rows, wanted = self._centred(features, targets, kept) if self._has_intercept else (features, targets)
        if not self._has_intercept:
            root = np.sqrt(kept)[:, None]
            rows, wanted = root * features, root * targets
        if self.forgetting < 1:
            self.P /= self.forgetting ** len(features)
            self.P *= min(1.0, self._most / np.trace(self.P))
        along = self.P @ rows.T  # (N, T)
        spread = np.eye(len(rows)) + rows @ along
        gain = np.linalg.solve(spread, along.T).T
        self.weights = self.weights + gain @ (wanted - rows @ self.weights)
        self.P = self.P - gain @ along.T
        self.P = (self.P + self.P.T) / 2

    def _centred(self, features: Array, targets: Array, kept: Array) -> tuple[Array, Array]:
        """Return samples about their own mean, and one row for how far that is from the mean before."""
        before, now = self._weight * self.forgetting ** len(features), float(kept.sum())
        total, share = before + now, kept / now
        mean, goal = share @ features, share @ targets
        shift = np.sqrt(before * now / total)
        rows, wanted = shift * (mean - self._mean)[None], shift * (goal - self._goal)[None]
        if len(features) > 1:
            root = np.sqrt(kept)[:, None]
            rows = np.concatenate([root * (features - mean), rows])
            wanted = np.concatenate([root * (targets - goal), wanted])
        self._mean = self._mean + now / total * (mean - self._mean)
        self._goal = self._goal + now / total * (goal - self._goal)
        self._weight = total
        return rows, wanted


class FieldLearner:
    """A network that learns a field from samples as they come; `field` is what it has learnt so far."""

    def __init__(
        self, features: Features, tau: float, *, penalty: float, forgetting: float = 1.0, intercept: bool = True
    ):
        self.features, self.tau = features, positive("tau", tau, hint=" seconds")
        self.penalty, rank = penalty, features.encoders.shape[1]
        self.regression = RecursiveLeastSquares(
            features.n_neurons, rank, penalty, forgetting=forgetting, intercept=intercept
        )
        self._seen = NormalEquations()

    def learn(self, latents: Array, velocity: Array, inputs: Array | None = None) -> FieldLearner:
        """Learn from samples (T, R), (T, R), (T, P), and return self."""
        z, dz, v = checked_samples(np.atleast_2d(latents), np.atleast_2d(velocity), inputs)
        rates, targets = self.features(z, v), z + self.tau * dz
        self._seen.add(z, (targets - self.regression.predict(rates)) / self.tau)
        self.regression.update(rates, targets)
        return self

    def velocity(self, latents: Array, inputs: Array | None = None) -> Array:
        """Return dz/dt (..., R) as learnt so far."""
        return (self.regression.predict(self.features(latents, inputs)) - latents) / self.tau

    @property
    def field(self) -> FittedField:
        """The network as learnt so far; its residuals are those of every sample before it was learnt from."""
        seen, rank = self._seen, self.features.encoders.shape[1]
        if not seen.n_samples:
            raise ValueError("field: got no samples so far, wanted one or more; call learn first")
        scatter = seen.scatter / seen.weight
        return FittedField(
            self.features, self.regression.weights, self.regression.intercept, None, self.tau,
            self.penalty / seen.n_samples, seen.n_samples, scatter[rank:, rank:], seen.mean[:rank],
            scatter[:rank, :rank],
        )  # fmt: skip


def learn_online(
    learner: FieldLearner,
    velocity: Callable[[Array], Array],
    start: Array,
    *,
    step: float,
    n_steps: int,
    states: str = "clamped",
    noise: float = 0.1,
    every: int = 2,
    rng: np.random.Generator,
) -> Array:
    """Return the states that a network learnt from (n_updates, R) in one pass of the system dz/dt = velocity(z).

    The system runs from `start` (R,) in steps of `step`, and the network learns at every `every`-th. What it sees is
    the system ("clamped"), which says nothing of what happens beside its path; the system disturbed by Gaussian
    noise ("perturbed"); or the network itself ("closed"), put back on the system when it goes astray.
    """
    choose("states", states, STATES)
    truth = np.asarray(start, dtype=float)
    own, spread, fed = truth, np.abs(truth), []
    for t in range(n_steps):
        if t % every == 0:
            at = truth
            if states == "perturbed":
                at = truth + noise * rng.standard_normal(truth.shape)
            elif states == "closed":
                spread = np.maximum(spread, np.abs(truth))
                own = own if np.all(np.abs(own) <= 2 * spread + 1e-12) else truth  # NaN is astray
                at = own
            learner.learn(at[None], velocity(at[None]))
            fed.append(at)
        truth = runge_kutta_step(velocity, truth, step)
        if states == "closed":
            own = runge_kutta_step(learner.velocity, own, step)
    return np.array(fed)


def runge_kutta_step(velocity: Callable[[Array], Array], latents: Array, step: float) -> Array:
    """Return latents (..., R) one step of dz/dt = velocity(z) later, of fourth order."""
    k1 = velocity(latents)
    k2 = velocity(latents + step / 2 * k1)
    k3 = velocity(latents + step / 2 * k2)
    k4 = velocity(latents + step * k3)
    return latents + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
