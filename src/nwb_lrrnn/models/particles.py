"""Particle weights and resampling: pure functions on arrays whose last axis is the particle."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


def log_mean_exp(log_weights: ArrayLike) -> Array:
    """Return ln of the mean of exp(log_weights) over the last axis, (...,), without overflow.

    >>> float(log_mean_exp([-1000.0, -1000.0]))
    -1000.0
    """
    w = np.asarray(log_weights, dtype=np.float64)
    top = w.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # every weight 0: minus infinity
        return np.log(np.exp(w - top).mean(axis=-1)) + top[..., 0]


def normalised_weights(log_weights: ArrayLike) -> Array:
    """Return weights that sum to 1 over the last axis, (..., particle); equal ones where all are 0."""
    w = np.asarray(log_weights, dtype=np.float64)
    top = w.max(axis=-1, keepdims=True)
    weights = np.exp(w - np.where(np.isfinite(top), top, 0.0))
    weights = np.where(np.isfinite(top), weights, 1.0)
    return weights / weights.sum(axis=-1, keepdims=True)


def systematic_resample(log_weights: ArrayLike, uniform: ArrayLike) -> NDArray[np.intp]:
    """Return ancestor indices (..., particle) from one uniform number per row, (...,).

    Particle k is drawn floor(K w_k) or ceil(K w_k) times (Kitagawa 1996).

    >>> systematic_resample(np.log([0.5, 0.25, 0.25, 1e-300]), 0.5)
    array([0, 0, 1, 2])
    """
    w = normalised_weights(log_weights)
    n = w.shape[-1]
    points = (np.arange(n) + np.asarray(uniform, dtype=np.float64)[..., None]) / n
    return _invert(w, points)


def _invert(weights: Array, points: Array) -> NDArray[np.intp]:
    """Return for each of the sorted points the particle whose share of [0, 1) it falls into."""
    shape = np.broadcast_shapes(weights.shape, points.shape)
    edges = np.cumsum(np.broadcast_to(weights, shape), axis=-1).reshape(-1, shape[-1])
    edges /= edges[:, -1:]  # rounding must not leave a point beyond the last edge
    points = np.broadcast_to(points, shape).reshape(-1, shape[-1])
    index = np.stack([np.searchsorted(e, p, side="right") for e, p in zip(edges, points, strict=True)])
    return np.minimum(index, shape[-1] - 1).reshape(shape)


def seed_of(random_state: int | np.random.Generator | None) -> int:
    """Return the whole number that seeds the noise of a score."""
    if random_state is None:
        return 0
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(np.random.default_rng(random_state).integers(2**63))


def noise_of_trial(seed: int, values: Array, seen: NDArray[np.bool_], n_kinds: int = 1) -> list[np.random.Generator]:
    """Return generators of one trial's noise, one a kind, functions of the seed and of what the trial holds.

    Up to its last observed bin: a trial with unobserved bins at its end has the noise of the shorter trial.
    """
    observed = np.flatnonzero(seen.any(axis=1))
    end = int(observed[-1]) + 1 if len(observed) else 0
    digest = hashlib.blake2b(np.ascontiguousarray(values[:end]).tobytes(), digest_size=16)
    digest.update(np.ascontiguousarray(seen[:end]).tobytes())
    source = np.random.SeedSequence([abs(seed), int.from_bytes(digest.digest(), "little")])
    return [np.random.default_rng(kind) for kind in source.spawn(n_kinds)]
