"""Where EM starts: factor analysis of the units, and dynamics from the lagged covariances of its factors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.observations import FLOOR, Observations
from nwb_lrrnn.models.linear.system import LinearSystem

Array = NDArray[np.floating]


def start_from_factors(data: Observations, rank: int, *, dynamic: bool = True) -> LinearSystem:
    """Return a linear Gaussian system for standardised observations whose latents have variance of about 1."""
    n_units = data.values.shape[2]
    flat = data.values.reshape(-1, n_units)
    weights = data.weights.reshape(len(flat), -1)
    pairs = weights.T @ weights if data.masked_by_unit else weights.sum()
    covariance = flat.T @ flat / np.maximum(pairs, 1.0)
    loadings, variance = factor_covariance(covariance, rank)
    variance = np.maximum(variance, data.floor)
    eye, zero = np.eye(rank), np.zeros(rank)
    static = LinearSystem(np.zeros((rank, rank)), zero, eye, zero, eye, loadings, np.zeros(n_units), variance)
    if not dynamic:
        return static
    n_inputs = 0 if data.inputs is None else data.inputs.shape[2]
    transition, noise = _lagged(data, loadings, variance)
    blank = np.zeros((rank, n_inputs)) if n_inputs else None
    return static.replace(transition=transition, noise=noise, input_weights=blank, initial_input_weights=blank)


def factor_covariance(covariance: Array, rank: int, n_iter: int = 20) -> tuple[Array, Array]:
    """Return loadings (unit, latent) and noise variances (unit,) of a few EM steps of factor analysis, from PCA.

    The units are standardised: unit variances on the diagonal.
    """
    values, vectors = np.linalg.eigh(covariance)
    rest = max(values[:-rank].mean() if rank < len(values) else 0.0, FLOOR)
    loadings = vectors[:, -rank:] * np.sqrt(np.maximum(values[-rank:] - rest, 1e-3))
    variance = np.maximum(np.diag(covariance) - (loadings**2).sum(axis=1), 0.01)
    for _ in range(n_iter):  # Rubin & Thayer 1982
        weighted = loadings / variance[:, None]
        posterior = np.linalg.inv(np.eye(rank) + weighted.T @ loadings)
        gain = posterior @ weighted.T  # (latent, unit)
        cross = covariance @ gain.T  # (unit, latent)
        loadings = np.linalg.solve(posterior + gain @ cross, cross.T).T
        variance = np.maximum(np.diag(covariance) - (loadings * cross).sum(axis=1), 0.01)
    return loadings, variance


def _lagged(data: Observations, loadings: Array, variance: Array) -> tuple[Array, Array]:
    """Return A and Q of the factors, whose posterior covariance is taken out of their variance."""
    rank = loadings.shape[1]
    weighted = loadings / variance[:, None]
    posterior = np.linalg.inv(np.eye(rank) + weighted.T @ loadings)
    z = data.values @ weighted @ posterior
    steps = data.weights if data.weights.ndim == 2 else data.weights.any(axis=2).astype(float)
    both = (steps[:, 1:] * steps[:, :-1]).astype(bool)
    if not both.any():
        return 0.5 * np.eye(rank), 0.75 * np.eye(rank)
    before, after = z[:, :-1][both], z[:, 1:][both]
    # factors shrink towards 0 by I - posterior: undo it, so that A is that of the latents themselves
    shrink = np.linalg.inv(np.eye(rank) - posterior + 1e-3 * np.eye(rank))
    lag = shrink @ (after.T @ before / len(before)) @ shrink.T
    transition = lag  # the latents have variance I
    radius = np.abs(np.linalg.eigvals(transition)).max()
    if radius > 0.98:
        transition = transition * (0.98 / radius)
    values, vectors = np.linalg.eigh(np.eye(rank) - transition @ transition.T)
    return transition, (vectors * np.maximum(values, 0.02)) @ vectors.T
