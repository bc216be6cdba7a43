"""The canonical gauge within groups: each group's latents uncorrelated, by variance, its loadings orthonormal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.align import slices

Array = NDArray[np.floating]

_TIE = 1e-9  # numbers closer than this (relative) are equal: rounding must not choose a sign


def group_gauge(loadings: Array, covariance: Array, group_ranks: Sequence[int]) -> Array:
    """Return M such that z' = M z is in the canonical gauge; latents of different groups are never mixed.

    Within a group latents are uncorrelated and ordered by variance, in coordinates in which the loadings are
    orthonormal, the largest loading of each latent being positive. Groups of equal rank come by falling variance of
    what they show.

    Parameters
    ----------
    loadings : array (unit, latent)
        C, in the units of X.
    covariance : array (latent, latent)
        Of the latents over the training data.
    group_ranks : sequence of int
    """
    blocks, shown = [], []
    for part in slices(group_ranks):
        own, spread = loadings[:, part], covariance[part, part]
        root = _frame(own, spread)
        values, axes = np.linalg.eigh(root @ spread @ root.T)
        block = axes[:, ::-1].T @ root
        rows = own @ np.linalg.inv(block)
        largest = [int(np.argmax(column >= (1 - _TIE) * column.max())) for column in np.abs(rows).T]
        signs = np.where(rows[largest, np.arange(len(block))] < 0, -1.0, 1.0)
        blocks.append(signs[:, None] * block)
        shown.append(float((own @ spread * own).sum()))
    matrix = np.zeros_like(covariance)
    free = list(range(len(blocks)))
    for target in slices(group_ranks):
        rank = target.stop - target.start
        best = max((g for g in free if len(blocks[g]) == rank), key=lambda g: (shown[g], -g))
        free.remove(best)
        matrix[target, slices(group_ranks)[best]] = blocks[best]
    return matrix


def _frame(loadings: Array, spread: Array) -> Array:
    """Return R, such that the loadings of R z are orthonormal; where a latent shows nowhere, R whitens."""
    length = np.linalg.norm(loadings, axis=0)
    if len(loadings) >= loadings.shape[1] and length.all() and np.linalg.cond(loadings / length) < 1e10:
        return np.linalg.qr(loadings)[1]
    values, vectors = np.linalg.eigh(spread)
    return (vectors / np.sqrt(np.maximum(values, 1e-12 * max(values[-1], 1e-300)))).T
