"""What is asked of each network of an ensemble: where it rests, what becomes of a push, how it is connected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.distance import distance_from_data, reach_of_data
from nwb_lrrnn.models.least_squares.along import gain_along
from nwb_lrrnn.models.least_squares.equivalents.known import Known

Array = NDArray[np.floating]

_N_PROBES = 200  # latents where velocities are compared, as many again twice as far out
_N_STARTS = 40  # of the search for fixed points
_N_POINTS = 5  # fixed points that are followed, the nearest to the data
_NEWTON = 60
_STILL = 1e-7  # standard deviations per time constant: what counts as rest
_APART = 1e-3  # standard deviations between two fixed points
_SAME = 1.0  # standard deviations within which a fixed point of another network is the same one


def ask(networks: list[LowRankDynamics], known: Known) -> dict[str, tuple[tuple[str, ...], NDArray]]:
    """Return variables over `network`; fixed points are those of the first network, looked for in all others."""
    probes, is_beyond = probes_of(known)
    rests = fixed_points(networks[0], known)
    v = None if known.path_inputs is None else networks[0].filtered_inputs(known.path_inputs)
    held = None if known.inputs is None else np.tile(known.inputs.mean(axis=0), (len(probes), 1))
    found = [rests_near(network, rests, known.scale) for network in networks]
    jacobians = [network.jacobian(known.path, v) for network in networks]  # each (time, R, R), of one step
    gains = np.stack([gain_along(network, known.path, v) for network in networks])
    eye, dt = np.eye(known.network.rank), known.network.dt
    return {
        "probe": (("point", "latent"), probes),
        "is_beyond": (("point",), is_beyond),
        "velocity": (("network", "point", "latent"), np.stack([net.velocity(probes, held) for net in networks])),
        "propagator": (("network", "latent", "by_latent"), gains),
        "gain": (("network",), np.array([_largest(gain) for gain in gains])),
        "jacobian": (
            ("network", "latent", "by_latent"),
            np.stack([(steps.mean(axis=0) - eye) / dt for steps in jacobians]),
        ),
        "fixed_point": (("network", "fixed_point", "latent"), np.stack([points for points, _ in found])),
        "fixed_point_rate": (("network", "fixed_point"), np.stack([rates for _, rates in found])),
        "overlap": (("network", "latent", "by_latent"), np.stack([net.overlap() for net in networks])),
        "connectivity_norm": (("network",), np.array([_norm(net) for net in networks])),
    }


def probes_of(known: Known) -> tuple[Array, NDArray[np.bool_]]:
    """Return points (point, R) among the latents seen, then as many twice as far out, and which are the latter."""
    rows = np.linspace(0, len(known.latents) - 1, min(_N_PROBES, len(known.latents))).round().astype(int)
    inside = known.latents[rows]
    centre = known.latents.mean(axis=0)
    return np.concatenate([inside, centre + 2 * (inside - centre)]), np.repeat([False, True], len(rows))


def fixed_points(network: LowRankDynamics, known: Known) -> Array:
    """Return fixed points (fixed_point, R) without inputs within reach of the data, nearest first."""
    rows = np.linspace(0, len(known.latents) - 1, min(_N_STARTS, len(known.latents))).round().astype(int)
    starts = np.concatenate([known.latents[rows], known.latents.mean(axis=0, keepdims=True)])
    points = _newton(network, starts, known.scale)
    points = points[np.isfinite(points).all(axis=1)]
    distance = distance_from_data(network, points)
    distance = np.zeros(len(points)) if distance is None else distance
    kept: list[Array] = []
    for k in np.argsort(distance):
        if distance[k] <= reach_of_data(network.rank) and len(kept) < _N_POINTS:
            if all((np.abs(points[k] - other) / known.scale).max() > _APART for other in kept):
                kept.append(points[k])
    return np.array(kept).reshape(-1, network.rank)


def rests_near(network: LowRankDynamics, points: Array, scale: Array) -> tuple[Array, Array]:
    """Return where a network rests near given points, NaN where it does not, and the fastest growth there (1/s)."""
    found = _newton(network, points, scale)
    found[~(np.linalg.norm((found - points) / scale, axis=1) <= _SAME)] = np.nan
    rates = np.full(len(found), np.nan)
    for k, point in enumerate(found):
        if np.isfinite(point).all():
            moves = (network.jacobian(point) - np.eye(network.rank)) / network.dt
            rates[k] = np.linalg.eigvals(moves).real.max()
    return found, rates


def _newton(network: LowRankDynamics, starts: Array, scale: Array) -> Array:
    """Return where Newton's steps, of half a standard deviation at most, end from starts (S, R), NaN where nowhere."""
    z, eye = np.array(starts, dtype=float), np.eye(network.rank)
    if not len(z):
        return z
    for _ in range(_NEWTON):
        moves = (network.jacobian(z) - eye) / network.alpha  # of tau dz/dt
        step = -np.einsum("srq,sq->sr", np.linalg.pinv(moves), network.tau * network.velocity(z))
        size = np.abs(step / scale).max(axis=1, keepdims=True)
        if (size < 1e-12).all():
            break
        z = z + step * np.minimum(1.0, 0.5 / np.maximum(size, 1e-300))
    moving = np.abs(network.tau * network.velocity(z) / scale).max(axis=1)
    z[~(moving < _STILL)] = np.nan
    return z


def _largest(gain: Array) -> float:
    return float(np.linalg.norm(gain, 2)) if np.isfinite(gain).all() else np.inf


def _norm(network: LowRankDynamics) -> float:
    """Return the Frobenius norm of J = m nᵀ / N."""
    m, n = np.asarray(network.left_vectors), np.asarray(network.right_vectors)
    return float(np.sqrt(np.maximum(np.sum((m.T @ m) * (n.T @ n)), 0.0)) / network.n_neurons)
