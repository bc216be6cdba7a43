"""How far latents are from where the data of a fitted network had them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

if TYPE_CHECKING:
    from nwb_lrrnn.dynamics.network import LowRankDynamics

Array = NDArray[np.floating]


def distance_from_data(network: LowRankDynamics, latents: Array) -> Array | None:
    """Return the distance of latents (..., latent) from their mean over the data in standard deviations, (...,).

    It is that of Mahalanobis, sqrt((z - mean)ᵀ covariance⁻¹ (z - mean)): standard deviations of the latents in the
    direction of z. None: the network has no `latent_covariance`, and no data to be far from.
    """
    if network.latent_covariance is None:
        return None
    mean = 0.0 if network.latent_mean is None else network.latent_mean
    values, axes = np.linalg.eigh(network.latent_covariance)
    values = np.maximum(values, 1e-12 * max(float(values[-1]), 1e-300))
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.linalg.norm((latents - mean) @ axes / np.sqrt(values), axis=-1)
    return np.where(np.isfinite(distance), distance, np.inf)


def reach_of_data(rank: int) -> float:
    """Return the distance within which 99.73 % of a Gaussian cloud are: 3 standard deviations for one latent."""
    return float(np.sqrt(2 * gammaincinv(rank / 2, 0.9973002)))  # of chi with `rank` degrees of freedom
