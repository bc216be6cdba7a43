r"""Variable projection: neurons refined by Gauss-Newton, outgoing weights eliminated by their regression.

Minimised over theta = (weights, bias) is the square of

.. math:: F(\theta) = [ (Y - \Phi N) / \sqrt T ;\ -\sqrt{\lambda} N ;\ -\sqrt{\lambda_\theta} \theta ]

with N(theta) the ridge solution. With P the projection off the columns of [Phi / sqrt(T); sqrt(lambda) I], the Jacobian
of Kaufman (1975) is -P [phi'(x_i) z_k / sqrt(T); 0] N_iq for parameter (i, k) and target q; what it leaves out of the
Jacobian is orthogonal to F, so that the gradient is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from nwb_lrrnn.dynamics import HOMOGENEOUS
from nwb_lrrnn.models.least_squares.smallest.levenberg import minimise
from nwb_lrrnn.models.least_squares.smallest.problem import Fit, Neurons, Samples, regress

Array = NDArray[np.floating]

_HELD = 1e-6  # penalty of neurons whose scale is free (c theta, N / c): without one it drifts


class Projection:
    """The residual and its Jacobian as functions of flat theta, computed once for each theta asked for."""

    def __init__(self, samples: Samples, size: int, nonlinearity: str, ridge: float, held: float | None = None):
        self.samples, self.size, self.nonlinearity, self.ridge = samples, size, nonlinearity, ridge
        self.held = (_HELD if nonlinearity in HOMOGENEOUS else 0.0) if held is None else held
        self.points = np.column_stack([samples.points, np.ones(len(samples))])  # (T, Q + 1)
        self.targets = samples.without_free(samples.targets) / np.sqrt(len(samples))
        self._at: Array | None = None

    def _move(self, flat: Array) -> None:
        if self._at is not None and np.array_equal(self._at, flat):
            return
        self._at = flat.copy()
        self.neurons = Neurons(flat.reshape(self.size, -1), self.nonlinearity)
        rates = self.samples.without_free(self.neurons.rates(self.samples.points)) / np.sqrt(len(self.samples))
        rows = np.concatenate([rates, np.sqrt(self.ridge) * np.eye(self.size)])
        axes, triangle = np.linalg.qr(rows)
        self.above, self.below = axes[: len(rates)], axes[len(rates) :]
        along = self.above.T @ self.targets
        self.missed = np.concatenate([self.targets - self.above @ along, -self.below @ along])  # (T + d, R)
        self.outgoing = linalg.solve_triangular(triangle, along, check_finite=False)  # N (d, R)

    def residual(self, flat: Array) -> Array:
        """Return F (R (T + d) + d (Q + 1),)."""
        self._move(flat)
        return np.concatenate([self.missed.T.ravel(), -np.sqrt(self.held) * flat])

    def jacobian(self, flat: Array) -> Array:
        """Return dF / d theta, (R (T + d) + d (Q + 1), d (Q + 1))."""
        self._move(flat)
        n_rows, n_targets = self.missed.shape
        moved = self._directions()  # (T + d, d, Q + 1)
        blocks = -np.einsum("tik,iq->qtik", moved, self.outgoing, optimize=True).reshape(n_targets * n_rows, flat.size)
        return np.concatenate([blocks, -np.sqrt(self.held) * np.eye(flat.size)])

    def cost(self, flat: Array) -> float:
        """Return |F|² / 2."""
        self._move(flat)
        return 0.5 * float((self.missed**2).sum() + self.held * flat @ flat)

    def normal(self, flat: Array) -> tuple[Array, Array]:
        """Return J^T J and J^T F: one product of directions for all targets, (d (Q + 1), d (Q + 1)) and its row."""
        self._move(flat)
        moved = self._directions()
        flat_moved = moved.reshape(len(moved), -1)
        squares = (flat_moved.T @ flat_moved).reshape(*moved.shape[1:], *moved.shape[1:])
        squares *= (self.outgoing @ self.outgoing.T)[:, None, :, None]
        hessian = squares.reshape(flat.size, flat.size) + self.held * np.eye(flat.size)
        by_target = np.einsum("tik,tq->ikq", moved, self.missed, optimize=True)
        gradient = -np.einsum("ikq,iq->ik", by_target, self.outgoing).ravel() + self.held * flat
        return hessian, gradient

    def _directions(self) -> Array:
        """Return P [phi'(x_i) z_k / sqrt(T); 0], (T + d, d, Q + 1)."""
        slopes = self.neurons.slopes(self.samples.points) / np.sqrt(len(self.samples))
        moved = self.samples.without_free(slopes[:, :, None] * self.points[:, None, :])
        flat = moved.reshape(len(moved), -1)
        along = self.above.T @ flat
        return np.concatenate([flat - self.above @ along, -self.below @ along]).reshape(-1, *moved.shape[1:])


def refine(neurons: Neurons, samples: Samples, ridge: float, *, max_evaluations: int = 200) -> Fit:
    """Return neurons whose weights and biases are refined until the penalised error has a minimum."""
    problem = Projection(samples, len(neurons), neurons.nonlinearity, ridge)
    found = minimise(problem.cost, problem.normal, neurons.theta.ravel(), max_evaluations=max_evaluations)
    return regress(Neurons(found.at.reshape(neurons.theta.shape), neurons.nonlinearity), samples, ridge)
