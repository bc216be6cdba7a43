"""The latents of one fit in the coordinates of another's, found from their flows alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.align import AffineMap
from nwb_lrrnn.alignment.flow import cloud
from nwb_lrrnn.dynamics import LowRankDynamics

Array = NDArray[np.floating]

_N_STATES, _N_STARTS, _N_REFINED = 64, 48, 2


class Mapped(NamedTuple):
    """z -> z weights + offset, and how much of the reference's flow it misses (0: none; 1: as much as there is)."""

    map: AffineMap
    error: float


def map_onto(network: LowRankDynamics, reference: LowRankDynamics, rng: np.random.Generator) -> Mapped | None:
    """Return the map of latents onto those of the reference under which the flows are most alike; None: other ranks.

    The latents of both are whitened by their law over the data; what is left is an orthogonal matrix Q, chosen for the
    least mean squared difference of the velocities v'(w Q) and v(w) Q over states w of that law (the Procrustes
    analysis over vector fields of Ostrow et al. 2023, with the fields in place of fitted operators).
    """
    if network.rank != reference.rank:
        return None
    here, there = _Whitened(network), _Whitened(reference)
    states = rng.standard_normal((_N_STATES, network.rank))
    velocity = here.velocity(states)
    wanted_power = float(np.mean(np.square(there.velocity(states)).sum(-1)))
    power = max(0.5 * (wanted_power + float(np.mean(np.square(velocity).sum(-1)))), 1e-300)

    def loss(q: Array) -> float:
        return float(np.mean(np.square(there.velocity(states @ q) - velocity @ q).sum(-1))) / power

    starts = [np.eye(network.rank), *(_orthogonal(network.rank, rng) for _ in range(_N_STARTS))]
    if network.rank == 1:
        starts = [np.eye(1), -np.eye(1)]
    if loss(starts[0]) < 1e-12:  # the same network
        starts = starts[:1]
    ends = [_descend(loss, q) for q in sorted(starts, key=loss)[:_N_REFINED]]
    q = min(ends, key=loss)
    weights = here.whiten @ q @ np.linalg.inv(there.whiten)
    return Mapped(AffineMap(weights, there.mean - here.mean @ weights), float(np.sqrt(loss(q))))


class _Whitened:
    """A network in latents w = (z - mean) whiten, whose law over the data is N(0, I)."""

    def __init__(self, network: LowRankDynamics):
        draws = cloud(network, 4096, np.random.default_rng(0))
        self.network = network
        self.mean = draws.mean(0)
        values, axes = np.linalg.eigh(np.atleast_2d(np.cov(draws, rowvar=False)))
        scale = np.sqrt(np.maximum(values, 1e-12 * max(float(values[-1]), 1e-300)))
        self.whiten = axes / scale
        self.unwhiten = (axes * scale).T

    def velocity(self, w: Array) -> Array:
        """Return dw/dt per second, (..., latent)."""
        z = w @ self.unwhiten + self.mean
        return (self.network.step(z) - z) / self.network.dt @ self.whiten


def _orthogonal(rank: int, rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((rank, rank)))
    return q * np.sign(np.diag(r))


def _descend(loss, q: Array) -> Array:
    """Return the orthogonal matrix where the loss is least near q."""
    from scipy.linalg import expm
    from scipy.optimize import minimize

    rank = len(q)
    rows, columns = np.triu_indices(rank, 1)
    if not len(rows) or loss(q) < 1e-12:
        return q

    def turned(angles: Array) -> Array:
        skew = np.zeros((rank, rank))
        skew[rows, columns], skew[columns, rows] = angles, -angles
        return q @ expm(skew)

    found = minimize(
        lambda angles: loss(turned(angles)), np.zeros(len(rows)), method="L-BFGS-B", options={"maxiter": 30}
    )
    return turned(found.x)
