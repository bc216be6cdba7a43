"""Alignment: latents of one model onto another's, groups onto groups, and every network into one gauge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from nwb_lrrnn.dynamics import HOMOGENEOUS, ODD, LowRankDynamics

Array = NDArray[np.floating]


@dataclass(frozen=True)
class AffineMap:
    """z -> z weights + offset, from the last axis of one array of latents to that of another."""

    weights: Array  # (source latent, target latent)
    offset: Array  # (target latent,)

    def __call__(self, latents: ArrayLike) -> Array:
        """Return the mapped latents, (..., target latent)."""
        return np.asarray(latents, dtype=float) @ self.weights + self.offset


def affine_map(source: ArrayLike, target: ArrayLike) -> AffineMap:
    """Return the least-squares affine map from source (..., latent) onto target (..., latent).

    >>> z = np.random.default_rng(0).normal(size=(50, 2))
    >>> affine_map(z, 3 * z + 1).offset.round(6)
    array([1., 1.])
    """
    x, y = _flat(source, target)
    design = np.column_stack([x, np.ones(len(x))])
    solved = np.linalg.lstsq(design, y, rcond=None)[0]
    return AffineMap(solved[:-1], solved[-1])


def procrustes_map(source: ArrayLike, target: ArrayLike, *, scale: bool = True) -> AffineMap:
    """Return the rotation (with reflection), translation and optional one scale that best map source onto target.

    Schoenemann (1966); both must have the same number of latents.
    """
    x, y = _flat(source, target)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"source: got {x.shape[1]} latents, wanted {y.shape[1]} like target; use affine_map instead")
    x_mean, y_mean = x.mean(0), y.mean(0)
    u, s, vt = np.linalg.svd((x - x_mean).T @ (y - y_mean))
    size = s.sum() / max(((x - x_mean) ** 2).sum(), 1e-300) if scale else 1.0
    rotation = size * (u @ vt)
    return AffineMap(rotation, y_mean - x_mean @ rotation)


def aligned_r2(
    source: ArrayLike,
    target: ArrayLike,
    *,
    test_source: ArrayLike | None = None,
    test_target: ArrayLike | None = None,
) -> float:
    """Return R2 of target explained by the affine map from source, both (..., latent).

    The map is fitted on (source, target) and judged on (test_source, test_target), or on the same where those are
    absent. R2 pools the latents: 1 - residual sum of squares / sum of squares about the mean.
    """
    mapping = affine_map(source, target)
    x, y = _flat(source, target) if test_source is None or test_target is None else _flat(test_source, test_target)
    return float(1.0 - ((y - mapping(x)) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())


class GroupMatch(NamedTuple):
    """Which source group goes with each target group, and how well."""

    order: NDArray[np.int64]  # (target group,)
    r2: Array  # (target group,)


def match_groups(source: list[ArrayLike], target: list[ArrayLike]) -> GroupMatch:
    """Return the one-to-one match of groups of latents (each (..., latent)) that maximises the summed affine R2.

    Hungarian assignment; groups may have unequal ranks.
    """
    if len(source) != len(target):
        raise ValueError(f"source: got {len(source)} groups, wanted {len(target)} like target")
    r2 = np.array([[aligned_r2(a, b) for a in source] for b in target])
    rows, order = linear_sum_assignment(-r2)
    return GroupMatch(order, r2[rows, order])


def _flat(source: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(f"source: got shape {x.shape}, wanted the leading axes of target, {y.shape[:-1]}")
    return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])


# --- gauge -----------------------------------------------------------------------------------------------------------


class Gauge(NamedTuple):
    """A change of latent coordinates, z = A z' + c, that leaves everything observable as it is."""

    matrix: Array  # A (latent, latent)
    shift: Array  # c (latent,)

    def latents(self, latents: ArrayLike) -> Array:
        """Return z' = A^-1 (z - c)."""
        return np.linalg.solve(self.matrix, (np.asarray(latents, dtype=float) - self.shift)[..., None])[..., 0]

    def covariance(self, covariance: ArrayLike) -> Array:
        """Return A^-1 Sigma A^-T."""
        inverse = np.linalg.inv(self.matrix)
        moved = inverse @ np.asarray(covariance, dtype=float) @ inverse.T
        return 0.5 * (moved + moved.T)


def change_gauge(dynamics: LowRankDynamics, gauge: Gauge) -> LowRankDynamics:
    """Return the same network in latents z' = A^-1 (z - c); c must be 0 for a network without a drive s."""
    a, c = gauge
    if dynamics.drive is None and np.any(c != 0):
        raise ValueError("gauge: a shift needs a constant drive s to absorb it; this network has none (drive=None)")
    inverse = np.linalg.inv(a)
    changes: dict[str, object] = {
        "left_vectors": dynamics.left_vectors @ a,
        "right_vectors": dynamics.right_vectors @ inverse.T,
    }
    if np.any(c != 0):
        bias = np.zeros(dynamics.n_neurons) if dynamics.bias is None else dynamics.bias
        changes["bias"] = bias + dynamics.left_vectors @ c
    if dynamics.drive is not None:
        changes["drive"] = inverse @ (dynamics.drive - c)
    for name in ("latent_input_weights", "initial_input_weights"):
        if (value := getattr(dynamics, name)) is not None:
            changes[name] = inverse @ value
    for name in ("latent_noise", "initial_covariance", "latent_covariance"):
        value = getattr(dynamics, name)
        if value is None and name == "initial_covariance":
            value = np.eye(dynamics.rank)  # what an absent one means
        if value is not None:
            changes[name] = gauge.covariance(value)
    for name in ("initial_mean", "latent_mean"):
        value = getattr(dynamics, name)
        if value is None and name == "initial_mean" and np.any(c != 0):
            value = np.zeros(dynamics.rank)
        if value is not None:
            changes[name] = gauge.latents(value)
    if dynamics.loadings is not None and dynamics.readout == "latents":
        changes["loadings"] = dynamics.loadings @ a
        if np.any(c != 0):
            offset = np.zeros(dynamics.n_units) if dynamics.offset is None else dynamics.offset
            changes["offset"] = offset + dynamics.loadings @ c
    return dynamics.replace(**changes)


def canonicalize(dynamics: LowRankDynamics) -> tuple[LowRankDynamics, Gauge]:
    """Return the network in the canonical gauge, and the change of latents that leads there.

    Latents are centred (where a drive allows it), uncorrelated where the network lives (`latent_covariance`, or
    Sigma_1) and ordered by variance, in coordinates in which the loadings are orthonormal; without a readout of
    latents, the left vectors are (m^T m = N). The largest loading of each latent is positive. Neurons of an odd phi
    have their largest left entry positive, those of relu and clipped relu a left vector of unit length, and neurons
    come in order of |m_i| |n_i|. Doing it twice changes nothing.
    """
    gauge = _latent_gauge(dynamics)
    return _neuron_gauge(change_gauge(dynamics, gauge)), gauge


def _latent_gauge(dynamics: LowRankDynamics) -> Gauge:
    if dynamics.loadings is not None and dynamics.readout == "latents":
        frame = dynamics.loadings
    else:
        frame = dynamics.left_vectors / np.sqrt(dynamics.n_neurons)
    _, root = np.linalg.qr(frame)  # frame z = orthonormal (root z)
    if np.linalg.cond(root) > 1e12:
        root = np.eye(dynamics.rank)  # a latent that shows nowhere: no scale to fix
    spread = dynamics.latent_covariance if dynamics.latent_covariance is not None else dynamics.initial_covariance
    spread = np.eye(dynamics.rank) if spread is None else spread
    values, axes = np.linalg.eigh(root @ spread @ root.T)
    axes = axes[:, np.argsort(-values)]
    matrix = np.linalg.solve(root, axes)  # z = root^-1 axes z'
    shown = frame @ matrix
    largest = np.abs(shown).argmax(0)
    matrix = matrix * np.where(shown[largest, np.arange(dynamics.rank)] < 0, -1.0, 1.0)
    centred = dynamics.drive is not None and dynamics.latent_mean is not None
    return Gauge(matrix, np.array(dynamics.latent_mean) if centred else np.zeros(dynamics.rank))


def _neuron_gauge(dynamics: LowRankDynamics) -> LowRankDynamics:
    """Return the network with signs, scales and the order of its neurons fixed."""
    if dynamics.readout != "latents" or dynamics.private_noise is not None:
        return dynamics  # the neurons are the recorded units: they keep their names
    m = dynamics.left_vectors
    factor = np.ones(dynamics.n_neurons)
    if dynamics.nonlinearity in ODD:
        factor = np.where(m[np.arange(len(m)), np.abs(m).argmax(1)] < 0, -1.0, 1.0)
    elif dynamics.nonlinearity in HOMOGENEOUS:
        length = np.linalg.norm(m, axis=1)
        factor = np.where(length > 0, 1.0 / np.where(length > 0, length, 1.0), 1.0)
    weight = np.linalg.norm(m, axis=1) * np.linalg.norm(dynamics.right_vectors, axis=1)
    order = np.argsort(-weight, kind="stable")
    changes: dict[str, object] = {"right_vectors": (dynamics.right_vectors / factor[:, None])[order]}
    for name in ("left_vectors", "input_weights", "bias", "thresholds"):
        value = getattr(dynamics, name)
        if value is not None:
            scaled = value * (factor[:, None] if value.ndim == 2 else factor)
            changes[name] = (np.abs(scaled) if name == "thresholds" and dynamics.nonlinearity in ODD else scaled)[order]
    return dynamics.replace(**changes)
