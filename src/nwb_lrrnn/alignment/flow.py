"""What the flow of a fitted network does to a cloud of states, in numbers that no choice of latents changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nwb_lrrnn.dynamics import LowRankDynamics

Array = NDArray[np.floating]

QUANTILES = (np.arange(16) + 0.5) / 16
_LARGEST = 4.0  # of a distance, in those of the cloud at the start: a flow that runs away is as far as this from all


def cloud(network: LowRankDynamics, n_states: int, rng: np.random.Generator) -> Array:
    """Return states (state, latent) drawn from the Gaussian law of the latents over the data of the fit."""
    mean = network.latent_mean if network.latent_covariance is not None else network.initial_mean
    mean = np.zeros(network.rank) if mean is None else mean
    values, axes = np.linalg.eigh(_spread(network))
    draws = rng.standard_normal((n_states, network.rank))
    return mean + draws * np.sqrt(np.maximum(values, 0.0)) @ axes.T


def metric_of(network: LowRankDynamics) -> Array:
    """Return W (latent, shown), so that |z W| is a length that is the same in any coordinates of the latents.

    It is that of the units where they read the latents, |C z|: directions that hardly show count little. Other networks
    are whitened by the law of their latents.
    """
    if network.loadings is not None and network.readout == "latents" and np.any(network.loadings):
        return np.linalg.qr(network.loadings)[1].T
    values, axes = np.linalg.eigh(_spread(network))
    return axes / np.sqrt(np.maximum(values, 1e-12 * max(float(values[-1]), 1e-300)))


def _spread(network: LowRankDynamics) -> Array:
    spread = network.latent_covariance
    spread = network.initial_covariance if spread is None else spread
    return np.eye(network.rank) if spread is None else np.asarray(spread)


def trajectories(network: LowRankDynamics, states: Array, times: Array) -> Array:
    """Return where the flow without noise and inputs takes states (state, latent) by times in s, (time, state, latent).

    Between steps of the network states are interpolated.
    """
    steps = times / network.dt
    n_steps = int(np.ceil(steps[-1])) + 1
    path = np.empty((n_steps + 1, *states.shape))
    path[0] = states
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(n_steps):
            path[t + 1] = network.step(path[t])
    first = np.floor(steps).astype(int)
    part = (steps - first)[:, None, None]
    with np.errstate(invalid="ignore"):
        return (1.0 - part) * path[first] + part * path[first + 1]


def flow_signature(network: LowRankDynamics, bands: Array, *, n_states: int = 128, random_state: int = 0) -> Array:
    r"""Return the laws of two distances in each band of time after the start, (table, band, quantile).

    States are drawn from the law of the latents over the data. :math:`|F^t(z) - z|` is how far the flow has moved each
    one after a time t, and :math:`|F^t(z) - F^t(z')|` is how far from each other two of them are by then; both in the
    root mean square of the latter at the start, over all t in a band. The first tells time-scales and rotation, the
    second what is left of the cloud: one point, some points, a cycle, a line.

    Parameters
    ----------
    network : LowRankDynamics
    bands : array (band + 1,)
        Edges of the bands in s.
    n_states : int
    random_state : int

    Returns
    -------
    array (2, band, quantile)
        The roots of the mean squared differences of two of them are distances of Wasserstein, averaged over bands.
    """
    per_band = 6
    parts = (np.arange(per_band) + 0.5) / per_band
    times = (bands[:-1, None] * (bands[1:] / bands[:-1])[:, None] ** parts).ravel()
    states = cloud(network, n_states, np.random.default_rng(random_state))
    metric = metric_of(network)
    start = states @ metric
    with np.errstate(over="ignore", invalid="ignore"):
        path = trajectories(network, states, times) @ metric
        moved = np.linalg.norm(path - start, axis=-1)
        apart = np.concatenate(
            [np.linalg.norm(path - np.roll(path, shift, axis=1), axis=-1) for shift in (1, 2, 3)], axis=1
        )
    unit = np.sqrt(np.mean([np.square(start - np.roll(start, shift, axis=0)).sum(-1) for shift in (1, 2, 3)]))
    tables = []
    for distances in (moved, apart):
        relative = distances / unit if unit > 0 else np.zeros_like(distances)
        relative = np.where(np.isfinite(relative), np.minimum(relative, _LARGEST), _LARGEST)
        tables.append(np.quantile(relative.reshape(len(bands) - 1, -1), QUANTILES, axis=1).T)
    return np.stack(tables)
