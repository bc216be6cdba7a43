"""A field as numbers: points, where they should go, and neurons as rows of weights and biases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import nonlinearity as nonlinearities
from nwb_lrrnn.models.least_squares.ridge import ridge as solve_ridge

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Samples:
    """A sampled field, to be explained as targets = phi(points weights^T + bias) N + free W."""

    points: Array  # (T, Q): latents, and inputs that enter neurons, all of standard deviation 1
    targets: Array  # (T, R): z + tau dz/dt
    free: Array  # (T, F): what is explained without a penalty: inputs that enter latents, and 1 for a drive
    variance: float  # mean square of tau dz/dt about its mean, latents summed: the error of a network is relative to it

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: NDArray) -> Samples:
        """Return some of the samples, errors being relative to the same variance."""
        return Samples(self.points[rows], self.targets[rows], self.free[rows], self.variance)

    @cached_property
    def _axes(self) -> Array:
        """Orthonormal axes (T, F) of what is explained without a penalty."""
        axes, sizes, _ = np.linalg.svd(self.free, full_matrices=False)
        return axes[:, sizes > 1e-12 * max(sizes.max(initial=0.0), 1e-300)]

    def without_free(self, columns: Array) -> Array:
        """Return columns (T, ...) without what the free ones explain of them."""
        if not self._axes.shape[1]:
            return columns
        flat = columns.reshape(len(columns), -1)
        return (flat - self._axes @ (self._axes.T @ flat)).reshape(columns.shape)


@dataclass(frozen=True)
class Neurons:
    """Neurons phi(weights . point + bias); a row of `theta` is a neuron's weights (Q,) and its bias."""

    theta: Array  # (d, Q + 1)
    nonlinearity: str

    def __len__(self) -> int:
        return len(self.theta)

    def currents(self, points: Array) -> Array:
        """Return currents (T, d)."""
        return points @ self.theta[:, :-1].T + self.theta[:, -1]

    def rates(self, points: Array) -> Array:
        """Return rates (T, d)."""
        return nonlinearities.phi(self.nonlinearity, self.currents(points))

    def slopes(self, points: Array) -> Array:
        """Return phi' (T, d)."""
        return nonlinearities.slope(self.nonlinearity, self.currents(points))

    def and_one(self, row: Array) -> Neurons:
        """Return the neurons with one more."""
        return Neurons(np.concatenate([self.theta, row[None]]), self.nonlinearity)


@dataclass(frozen=True)
class Fit:
    """Neurons with their regression on samples."""

    neurons: Neurons
    outgoing: Array  # N (d, R)
    free: Array  # W (F, R)
    ridge: float
    error: float  # relative mean squared error of dz/dt on the samples of the fit

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self.neurons)

    @property
    def largest_weight(self) -> float:
        """The largest outgoing weight, of latents of standard deviation 1."""
        return float(np.abs(self.outgoing).max(initial=0.0))

    def squared_errors(self, samples: Samples) -> Array:
        """Return the squared errors (T,) of tau dz/dt, latents summed."""
        guess = self.neurons.rates(samples.points) @ self.outgoing + samples.free @ self.free
        return ((samples.targets - guess) ** 2).sum(1)


def regress(neurons: Neurons, samples: Samples, ridge: float) -> Fit:
    """Return the neurons with the outgoing weights of a ridge regression on samples."""
    rates = neurons.rates(samples.points)
    rows, n_free = np.concatenate([rates, samples.free], axis=1), samples.free.shape[1]
    found, _ = solve_ridge(rows, samples.targets, ridge, intercept=False, n_free=n_free)
    fit = Fit(neurons, found[: len(neurons)], found[len(neurons) :], ridge, np.nan)
    error = float(fit.squared_errors(samples).mean() / samples.variance)
    return Fit(neurons, fit.outgoing, fit.free, ridge, error)
