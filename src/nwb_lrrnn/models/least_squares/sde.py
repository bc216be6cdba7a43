"""Drift and diffusion of a stochastic system in one network: two readouts of the same neurons.

Increments over a step h of dz = f(z) dt + noise of covariance D(z) dt: f is the regression of dz / h, and D that of
(dz - h f)(dz - h f)ᵀ / h (Ito: forward differences are the right ones here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.models.least_squares.derivatives import trajectory_samples
from nwb_lrrnn.models.least_squares.field import FittedField, fit_field_samples
from nwb_lrrnn.models.least_squares.penalty import choose_penalty
from nwb_lrrnn.models.least_squares.ridge import ridge as solve_ridge
from nwb_lrrnn.parameters import positive, whole_number

Array = NDArray[np.floating]


@dataclass(frozen=True)
class StochasticField:
    """A network whose latents drift and diffuse."""

    drift: FittedField
    diffusion_weights: Array  # (N, R (R + 1) / 2), of the upper triangle of D
    diffusion_offset: Array  # (R (R + 1) / 2,)

    def velocity(self, latents: Array, inputs: Array | None = None) -> Array:
        """Return the drift (..., R), per second."""
        return self.drift.velocity(latents, inputs)

    def diffusion(self, latents: ArrayLike, inputs: Array | None = None) -> Array:
        """Return the covariance of the noise D (..., R, R), per second; directions below 0 are cut off there."""
        z = np.asarray(latents, dtype=float)
        rank = self.drift.rank
        upper = self.drift.features(z, inputs) @ self.diffusion_weights + self.diffusion_offset
        matrix = np.zeros((*upper.shape[:-1], rank, rank))
        rows, columns = np.triu_indices(rank)
        matrix[..., rows, columns] = matrix[..., columns, rows] = upper
        values, axes = np.linalg.eigh(matrix)
        return (axes * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(axes, -1, -2)

    def simulate(self, start: ArrayLike, step: float, n_steps: int, *, rng: np.random.Generator) -> Array:
        """Return paths (n_steps, ..., R) from `start` (..., R), its first point (Euler-Maruyama)."""
        z = np.asarray(start, dtype=float)
        path = np.empty((whole_number("n_steps", n_steps), *z.shape))
        for t in range(len(path)):
            path[t] = z
            values, axes = np.linalg.eigh(self.diffusion(z))
            root = axes * np.sqrt(np.maximum(values, 0.0))[..., None, :]
            noise = np.einsum("...ij,...j->...i", root, rng.standard_normal(z.shape))
            z = z + step * self.velocity(z) + np.sqrt(step) * noise
        return path


def fit_sde(
    trials: Sequence[Array],
    step: float,
    *,
    tau: float,
    n_neurons: int,
    ridge: str | float = "evidence",
    diffusion_ridge: str | float = "evidence",
    inputs: Sequence[Array] | None = None,
    rng: np.random.Generator,
    **options,
) -> StochasticField:
    """Return the network that drifts and diffuses as trials (T_i, R), `step` seconds apart, do.

    The error of the drift falls as 1 / (time seen), that of the diffusion as 1 / (samples seen). `options` are those
    of `fit_field_samples`.
    """
    step = positive("step", step, hint=" seconds")
    taken = trajectory_samples(trials, step, tau=tau, derivative="euler", inputs=inputs)
    options.setdefault("input_mode", "neuron")
    drift = fit_field_samples(
        taken.latents,
        taken.velocity,
        tau=tau,
        n_neurons=n_neurons,
        ridge=ridge,
        inputs=taken.inputs,
        rng=rng,
        **options,
    )
    missed = step * (taken.velocity - drift.velocity(taken.latents, taken.inputs))
    rows, columns = np.triu_indices(drift.rank)
    squares = missed[:, rows] * missed[:, columns] / step
    rates = drift.features(taken.latents, taken.inputs)
    penalty = choose_penalty(diffusion_ridge, rates, squares)
    return StochasticField(drift, *solve_ridge(rates, squares, penalty))
