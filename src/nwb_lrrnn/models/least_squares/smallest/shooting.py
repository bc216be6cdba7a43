r"""Shooting: all parameters of a small network refined so that its trajectories follow given ones.

Segments of the trajectories start where those are and run freely; their sensitivities S to the parameters p
follow the same steps,

.. math::

    z_{t+1} &= (1-\alpha) z_t + \alpha f(z_t; p) \\
    S_{t+1} &= (1-\alpha) S_t + \alpha ( \partial f / \partial z \, S_t + \partial f / \partial p )

and only their products are kept. A field that is right to 1e-3 may still miss the trajectories where it is slow;
gradient descent does not mend that in networks of few neurons, Levenberg-Marquardt does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import HOMOGENEOUS
from nwb_lrrnn.dynamics import nonlinearity as nonlinearities
from nwb_lrrnn.models.least_squares.smallest.levenberg import minimise
from nwb_lrrnn.models.least_squares.smallest.problem import Fit, Neurons

Array = NDArray[np.floating]

HORIZONS = (20, 60)  # steps that segments run freely, before they run to the end
_HELD = 1e-9  # penalty of theta, against directions that no trajectory sees
_HELD_SCALE = 1e-6  # the same where a neuron's scale is free


@dataclass(frozen=True)
class Runs:
    """Trajectories in whitened latents, and what drives them."""

    paths: Array  # (K, n + 1, R)
    inside: Array  # (K, n, Q - R): inputs that enter neurons
    free: Array  # (K, n, F): inputs that enter latents, and 1 for a drive

    def take(self, rows: NDArray) -> Runs:
        """Return some of the trajectories."""
        return Runs(self.paths[rows], self.inside[rows], self.free[rows])

    def segments(self, horizon: int) -> Runs:
        """Return pieces of `horizon` steps, one behind the other; steps that fill none are left out."""
        n = self.paths.shape[1] - 1
        if horizon >= n:
            return self
        starts = range(0, n - horizon + 1, horizon)
        return Runs(
            np.concatenate([self.paths[:, s : s + horizon + 1] for s in starts]),
            np.concatenate([self.inside[:, s : s + horizon] for s in starts]),
            np.concatenate([self.free[:, s : s + horizon] for s in starts]),
        )


class Shooting:
    """The mean squared error of free runs, with penalties of N and theta, as a function of all parameters, flat."""

    def __init__(self, runs: Runs, size: int, nonlinearity: str, alpha: float, ridge: float):
        self.runs, self.size, self.nonlinearity, self.alpha, self.ridge = runs, size, nonlinearity, alpha, ridge
        self.rank = runs.paths.shape[2]
        self.n_columns = self.rank + runs.inside.shape[2] + 1
        self.held = _HELD_SCALE if nonlinearity in HOMOGENEOUS else _HELD
        n_theta, n_out = size * self.n_columns, size * self.rank
        self.parts = n_theta, n_theta + n_out, n_theta + n_out + runs.free.shape[2] * self.rank
        self.count = len(runs.paths) * (runs.paths.shape[1] - 1)

    def pack(self, fit: Fit) -> Array:
        """Return theta, N and W of a network as one vector."""
        return np.concatenate([fit.neurons.theta.ravel(), fit.outgoing.ravel(), fit.free.ravel()])

    def unpack(self, flat: Array) -> tuple[Array, Array, Array]:
        """Return theta (d, Q + 1), N (d, R), W (F, R)."""
        a, b, _ = self.parts
        return flat[:a].reshape(self.size, -1), flat[a:b].reshape(self.size, -1), flat[b:].reshape(-1, self.rank)

    def _penalties(self, flat: Array) -> Array:
        a, b, _ = self.parts
        held = np.zeros_like(flat)
        held[:a], held[a:b] = self.held, self.ridge
        return held

    def cost(self, flat: Array) -> float:
        """Return half the penalised mean squared error."""
        errors = ((self.run(flat) - self.runs.paths[:, 1:]) ** 2).sum()
        value = 0.5 * float(errors / self.count + self._penalties(flat) @ flat**2)
        return value if np.isfinite(value) else np.inf

    def run(self, flat: Array) -> Array:
        """Return where the network runs to, (K, n, R)."""
        theta, outgoing, free = self.unpack(flat)
        z, path = self.runs.paths[:, 0], np.empty_like(self.runs.paths[:, 1:])
        drives = self.runs.free @ free
        currents = self.runs.inside @ theta[:, self.rank : -1].T + theta[:, -1]  # (K, n, d)
        with np.errstate(over="ignore", invalid="ignore"):  # a run that escapes ends as an infinite cost
            for t in range(path.shape[1]):
                rates = nonlinearities.phi(self.nonlinearity, z @ theta[:, : self.rank].T + currents[:, t])
                z = path[:, t] = (1 - self.alpha) * z + self.alpha * (rates @ outgoing + drives[:, t])
        return path

    def normal(self, flat: Array) -> tuple[Array, Array]:
        """Return J^T J and J^T F, sums over the steps of products of sensitivities."""
        theta, outgoing, free = self.unpack(flat)
        runs, rank, alpha = self.runs, self.rank, self.alpha
        (a, b, n), z = self.parts, runs.paths[:, 0]
        sensitivity = np.zeros((len(z), rank, n))
        hessian, gradient = np.zeros((n, n)), np.zeros(n)
        for t in range(runs.paths.shape[1] - 1):
            points = np.concatenate([z, runs.inside[:, t], np.ones((len(z), 1))], axis=1)  # (K, Q + 1)
            x = points @ theta.T
            rates = nonlinearities.phi(self.nonlinearity, x)
            through = nonlinearities.slope(self.nonlinearity, x)[:, None, :] * outgoing.T  # (K, R, d)
            along = through @ theta[:, :rank]  # df / dz (K, R, R)
            moved = along @ sensitivity
            moved[..., :a] += (through[..., None] * points[:, None, None, :]).reshape(len(z), rank, -1)
            for q in range(rank):
                moved[:, q, a + q : b : rank] += rates
                moved[:, q, b + q :: rank] += runs.free[:, t]
            sensitivity = (1 - alpha) * sensitivity + alpha * moved
            z = (1 - alpha) * z + alpha * (rates @ outgoing + runs.free[:, t] @ free)
            flat_rows = sensitivity.reshape(-1, n)
            hessian += flat_rows.T @ flat_rows
            gradient += flat_rows.T @ (z - runs.paths[:, t + 1]).ravel()
        held = self._penalties(flat)
        return hessian / self.count + np.diag(held), gradient / self.count + held * flat


def polish(fit: Fit, runs: Runs, alpha: float, horizon: int, ridge: float, *, max_evaluations: int = 60) -> Fit:
    """Return a network whose free runs of `horizon` steps follow the trajectories as well as they may."""
    shooting = Shooting(runs.segments(horizon), len(fit.neurons), fit.neurons.nonlinearity, alpha, ridge)
    start = shooting.pack(fit)
    if not np.isfinite(shooting.cost(start)):
        return fit
    found = minimise(shooting.cost, shooting.normal, start, max_evaluations=max_evaluations, min_gain=1e-5)
    theta, outgoing, free = shooting.unpack(found.at)
    return Fit(Neurons(theta, fit.neurons.nonlinearity), outgoing, free, ridge, fit.error)


def squared_errors(fit: Fit, runs: Runs, alpha: float) -> Array:
    """Return the squared error of free runs summed over their steps and latents, (K,); inf of a run that escapes."""
    shooting = Shooting(runs, len(fit.neurons), fit.neurons.nonlinearity, alpha, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = ((shooting.run(shooting.pack(fit)) - runs.paths[:, 1:]) ** 2).sum((1, 2))
    return np.where(np.isfinite(errors), errors, np.inf)
