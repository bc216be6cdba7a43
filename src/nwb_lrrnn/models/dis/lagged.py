"""Latents at bins and at other bins of the same trials: covariances, windows, and components made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# (later bins, earlier bins), the most telling first: two later bins see beyond noise that a bin and the next may share,
# earlier bins average it out
_SHAPES = (((1, 3), (1, 2)), ((1, 2), (1,)), ((1,), (1,)), ((1,), ()))
_FEWEST = 50  # bins below which a covariance says nothing


@dataclass(frozen=True)
class LaggedWindows:
    """Latents (point, latent) at some bins, at earlier and at later bins of the same trials; none later: no pairs."""

    now: Array
    before: tuple[Array, ...]
    after: tuple[Array, ...]


def windows(latents: Array, seen: Mask, n_points: int) -> LaggedWindows:
    """Return at most `n_points` evenly spaced windows that lie within trials and were seen whole.

    Parameters
    ----------
    latents : ndarray (trial, time, latent)
        Latents.
    seen : ndarray (trial, time)
        Where there are any.
    n_points : int
        How many windows to return at most.

    Examples
    --------
    >>> rising = windows(np.arange(100.0).reshape(1, 100, 1), np.ones((1, 100), dtype=bool), 20)
    >>> (rising.after[1] - rising.now).ravel()[:3]
    array([3., 3., 3.])
    """
    most = _whole(seen, (1,), ()).sum()
    for later, earlier in _SHAPES:
        whole = _whole(seen, later, earlier)
        n = int(whole.sum())
        if n >= max(_FEWEST, most / 2):  # short trials lose their edges
            break
    else:
        return LaggedWindows(np.empty((0, latents.shape[2])), (), ())
    trial, time = np.nonzero(whole)
    kept = evenly(n, n_points)
    trial, time = trial[kept], time[kept]
    before = tuple(latents[trial, time - lag] for lag in earlier)
    return LaggedWindows(latents[trial, time], before, tuple(latents[trial, time + lag] for lag in later))


def evenly(n: int, most: int) -> NDArray[np.intp]:
    """Return at most `most` evenly spaced indices below `n`."""
    count = min(n, most)
    return np.arange(count) * n // count


def _whole(seen: Mask, after: Sequence[int], before: Sequence[int]) -> Mask:
    """Return the bins that were seen together with those around them."""
    whole = seen.copy()
    for lag in after:
        whole[:, -lag:] = False
        whole[:, :-lag] &= seen[:, lag:]
    for lag in before:
        whole[:, :lag] = False
        whole[:, lag:] &= seen[:, :-lag]
    return whole


def lagged_covariances(latents: Array, seen: Mask, n_lags: int) -> list[Array]:
    """Return the symmetric covariances (latent, latent) at lags 1, 2, ... within trials, as far as there are pairs."""
    found = []
    for lag in range(1, min(n_lags, latents.shape[1] - 1) + 1):
        both = seen[:, :-lag] & seen[:, lag:]
        n = int(both.sum())
        if n < _FEWEST:
            break
        product = latents[:, :-lag][both].T @ latents[:, lag:][both] / n
        found.append((product + product.T) / 2)
    return found


def joint_diagonal(matrices: Sequence[Array]) -> Array:
    """Return the rotation R that makes all Rᵀ C R as diagonal as can be, for symmetric C, by Jacobi's plane rotations.

    Cardoso and Souloumiac (1996), SIAM J. Matrix Anal. Appl. 17, 161.
    """
    stack = np.stack(matrices)
    rotation = np.linalg.eigh(stack[0])[1]
    stack = rotation.T @ stack @ rotation
    for _ in range(60):
        largest = 0.0
        for p in range(stack.shape[1] - 1):
            for q in range(p + 1, stack.shape[1]):
                gap, twice = stack[:, p, p] - stack[:, q, q], 2.0 * stack[:, p, q]
                angle = 0.25 * float(np.arctan2(2.0 * (gap @ twice), gap @ gap - twice @ twice))
                if abs(angle) < 1e-8:
                    continue
                largest = max(largest, abs(angle))
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                stack[:, :, [p, q]] = stack[:, :, [p, q]] @ turn
                stack[:, [p, q]] = turn.T @ stack[:, [p, q]]
                rotation[:, [p, q]] = rotation[:, [p, q]] @ turn
        if largest < 1e-5:
            break
    return rotation


def independent_components(z: Array, rng: np.random.Generator, n_steps: int = 50) -> Array:
    """Return the rotation of white `z` (point, latent) into its least Gaussian components.

    Symmetric FastICA with ln cosh: Hyvarinen (1999), IEEE Trans. Neural Networks 10, 626.
    """
    n, k = z.shape
    rotation = np.linalg.qr(rng.standard_normal((k, k)))[0]
    for _ in range(n_steps):
        g = np.tanh(z @ rotation)
        u, _, v = np.linalg.svd(z.T @ g / n - rotation * (1.0 - (g * g).mean(axis=0)))
        change = np.abs(np.abs(((u @ v) * rotation).sum(axis=0)) - 1.0).max()
        rotation = u @ v
        if change < 1e-4:
            break
    return rotation
