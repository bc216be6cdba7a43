"""Random neurons and the regression that makes them move latents: the start of every nonlinear fit.

Random m, b and a ridge regression of n on where the latents should go (Eq. 1.2 and 1.11 of the least-squares
construction of Arora & Pillow 2025).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_FAR = 10.0  # s.d. of the latents that no latent reaches


def draw_neurons(
    rank: int, n_neurons: int, n_inputs: int, inputs: Array | None, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Return m (R, N), b (N,), h (N,) and B (I, N) for latents of s.d. 1 and inputs (..., input) of any scale."""
    left = rng.standard_normal((rank, n_neurons))
    bias = rng.standard_normal(n_neurons)
    thresholds = np.exp(0.5 * rng.standard_normal(n_neurons))
    weights = 0.5 * rng.standard_normal((n_inputs, n_neurons))
    if inputs is not None:
        weights = weights / (inputs.reshape(-1, n_inputs).std(0)[:, None] + 1e-12)
    return left, bias, thresholds, weights


def ridges(rates: Array, targets: Iterable[Array], strengths: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return n (N, R) and s (R,) of the regression target = rates @ n + s, for every target and every strength of it.

    rates (bin, N), targets (bin, R); a strength is relative to the rates' mean square.
    """
    mean_rate = rates.mean(0)
    centred = rates - mean_rate
    gram = centred.T @ centred / len(centred)
    unit = max(np.diag(gram).mean(), 1e-12) * np.eye(len(gram))
    fits = []
    for target in targets:
        mean_target = target.mean(0)
        cross = centred.T @ (target - mean_target) / len(centred)
        for strength in strengths:
            n = np.linalg.solve(gram + strength * unit, cross)
            fits.append((n, mean_target - mean_rate @ n))
    return fits


def straighten(nonlinearity: str, left: Array, bias: Array, thresholds: Array) -> None:
    """Make some neurons, at most a quarter, linear over any latents of s.d. 1, in place: two for every latent.

    Random neurons alone express a linear map only up to an error that grows with the rank. These do it exactly
    (piecewise linear ones), or to about 1e-3.
    """
    rank, n = left.shape[0], min(2 * left.shape[0], left.shape[1] // 4)
    directions = np.tile(np.eye(rank), 2)[:, :n] * np.where(np.arange(n) < rank, 1.0, -1.0)
    if nonlinearity in ("tanh", "erf"):
        left[:, :n], bias[:n] = 0.05 * directions, 0.0
        return
    left[:, :n], bias[:n] = directions, _FAR
    if nonlinearity == "clipped_relu":  # relu(x + h) - relu(x) rises between -h and 0
        bias[:n], thresholds[:n] = -_FAR, 2.0 * _FAR
