"""The M-step of the readout for counts: loadings and offset of each unit from posterior moments, by Newton steps."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels import observation
from nwb_lrrnn.models.kernels.copies import copy, copy_rows
from nwb_lrrnn.models.kernels.kalman import backward_solve, cholesky, forward_solve

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@njit(cache=True, nogil=True)
def _expected(kind, y, seen, means, covariances, weights, dt, dispersion, nodes, node_weights, slope, hessian):
    """Fill slope and information of sum E ln p(y | c^T z + d) in (c, d), and return its value.

    The expectation over z ~ N(mean, covariance) is one-dimensional: Gauss-Hermite along c^T z.
    """
    rank = means.shape[1]
    slope[:] = 0.0
    hessian[:] = 0.0
    spread, point = np.empty(rank), np.empty(rank + 1)
    total = 0.0
    point[rank] = 1.0
    for b in range(len(y)):
        if not seen[b]:
            continue
        eta, variance = weights[rank], 0.0
        for r in range(rank):
            eta += weights[r] * means[b, r]
            spread[r] = 0.0
            for s in range(rank):
                spread[r] += covariances[b, r, s] * weights[s]
            variance += spread[r] * weights[r]
        sd = math.sqrt(max(variance, 0.0))
        scale = 1.0 / sd if sd > 1e-12 else 0.0
        for j in range(len(nodes)):
            value, pull, weight = observation.terms(kind, y[b], eta + sd * nodes[j], dt, dispersion)
            total += node_weights[j] * value
            for r in range(rank):
                point[r] = means[b, r] + nodes[j] * scale * spread[r]  # d (c^T z at the node) / d c
            for r in range(rank + 1):
                slope[r, 0] += node_weights[j] * pull * point[r]
                scaled = node_weights[j] * weight * point[r]
                for s in range(r + 1):
                    hessian[r, s] += scaled * point[s]
    for r in range(rank + 1):
        for s in range(r):
            hessian[s, r] = hessian[r, s]
    return total


@njit(cache=True, nogil=True)
def _penalty(kind, weights, ridge, slope, hessian):
    """Add the log prior of one unit, and return it: that of d, weak, and c of the size 1 / sqrt(ridge)."""
    rank = len(weights) - 1
    value, pull, weight = observation.prior(kind, weights[rank])
    slope[rank, 0] += pull
    hessian[rank, rank] += weight
    for r in range(rank):
        value -= 0.5 * ridge * weights[r] * weights[r]
        slope[r, 0] -= ridge * weights[r]
        hessian[r, r] += ridge
    return value


@njit(cache=True, nogil=True)
def update_readout(
    kind, values, seen, means, covariances, weights, dt, dispersion, ridge, nodes, node_weights, n_newton, first, last
):
    """Improve (c, d) of each unit, rows of `weights`, by `n_newton` Newton steps, halved until they are no loss.

    `values` and `seen` are (unit, bin), `means` (bin, latent) and `covariances` (bin, latent, latent).
    """
    size = weights.shape[1]
    slope, hessian, root = np.empty((size, 1)), np.empty((size, size)), np.empty((size, size))
    step, new_hessian, trial = np.empty((size, 1)), np.empty((size, size)), np.empty(size)
    new_slope = np.empty((size, 1))
    for i in range(first, last):
        value = _expected(
            kind, values[i], seen[i], means, covariances, weights[i], dt, dispersion[i], nodes, node_weights,
            slope, hessian,
        )  # fmt: skip
        value += _penalty(kind, weights[i], ridge[i], slope, hessian)
        for _ in range(n_newton):
            for r in range(size):
                step[r, 0] = slope[r, 0]
                hessian[r, r] += 1e-10 * hessian[r, r]
            cholesky(hessian, root)
            forward_solve(root, step)
            backward_solve(root, step)
            factor, better = 1.0, False
            for _ in range(10):
                for r in range(size):
                    trial[r] = weights[i, r] + factor * step[r, 0]
                after = _expected(
                    kind, values[i], seen[i], means, covariances, trial, dt, dispersion[i], nodes, node_weights,
                    new_slope, new_hessian,
                )  # fmt: skip
                after += _penalty(kind, trial, ridge[i], new_slope, new_hessian)
                if after >= value:
                    better = True
                    break
                factor *= 0.25
            if not better:
                break
            copy(trial, weights[i])
            value = after
            copy_rows(new_slope, slope)
            copy_rows(new_hessian, hessian)
