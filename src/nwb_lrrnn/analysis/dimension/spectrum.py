"""The spectrum of the covariance, along axes from one half of a recording and in the other half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.dimension.products import Products

Array = NDArray[np.floating]

_MOST = 50


def cross_validated(products: Products, variances: Array, stretches: NDArray[np.integer], shared: bool) -> Array:
    """Return shares (component,) of the variance along principal axes of every second stretch, in the others."""
    n = min(_MOST, variances.shape[1])
    halves = [stretches % 2 == half for half in (0, 1)]
    if not shared or any(not products.n_seen[half].any() for half in halves):
        return np.full(n, np.nan)
    flat = products.moments.reshape(len(stretches), -1)
    covariances = []
    for half in halves:
        weights = np.where(half, products.n_seen, 0.0)
        weights = weights / weights.sum()
        matrix = (weights.astype(np.float32) @ flat).reshape(products.moments.shape[1:]).astype(float)
        np.fill_diagonal(matrix, weights @ variances)
        covariances.append(matrix)
    found = np.zeros(n)
    for one, other in (covariances, covariances[::-1]):
        axes = np.linalg.eigh(one)[1][:, ::-1][:, :n]
        found += 0.5 * np.einsum("ik,ij,jk->k", axes, other, axes, optimize=True)
    total = 0.5 * sum(float(np.trace(matrix)) for matrix in covariances)
    return found / total if total > 0 else np.full(n, np.nan)
