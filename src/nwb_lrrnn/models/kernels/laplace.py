"""Spikes seen through a link: expansions of their likelihood, Laplace filters, and Laplace proposals of particles.

Terms of ln p(y | z) that depend on y alone are left out everywhere and added by the caller (see `observation`).
Whitened coordinates x, z = f + L x with L L^T the prior covariance, keep every step exact for singular covariances too.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels import observation
from nwb_lrrnn.models.kernels.copies import copy, copy_rows
from nwb_lrrnn.models.kernels.kalman import backward_solve, cholesky, forward_solve

_HALVINGS = 30


@njit(cache=True, nogil=True)
def log_likelihood_at(kind, y, seen, loadings, offset, latents, dt, dispersion):
    """Return ln p(y | z) of one bin, without its terms of y alone."""
    total = 0.0
    for i in range(len(y)):
        if seen[i]:
            eta = offset[i]
            for r in range(len(latents)):
                eta += loadings[i, r] * latents[r]
            total += observation.value(kind, y[i], eta, dt, dispersion[i])
    return total


@njit(cache=True, nogil=True)
def expand(kind, y, seen, loadings, offset, latents, dt, dispersion, slope, information):
    """Fill slope (R,) and information (R, R) of ln p(y | z) at `latents`, and return its value."""
    rank = len(latents)
    slope[:] = 0.0
    information[:] = 0.0
    total = 0.0
    for i in range(len(y)):
        if not seen[i]:
            continue
        eta = offset[i]
        for r in range(rank):
            eta += loadings[i, r] * latents[r]
        value, pull, weight = observation.terms(kind, y[i], eta, dt, dispersion[i])
        total += value
        for r in range(rank):
            slope[r] += pull * loadings[i, r]
            scaled = weight * loadings[i, r]
            for s in range(r + 1):
                information[r, s] += scaled * loadings[i, s]
    for r in range(rank):
        for s in range(r):
            information[s, r] = information[r, s]
    return total


@njit(cache=True, nogil=True)
def newton_step(kind, y, seen, white, eta, dt, dispersion, x, slope, precision, root):
    """Move x to the maximum of the quadratic of ln p(y | eta + white x) - |x|^2 / 2 there; root root^T = precision.

    This is the Laplace proposal of one particle: with f its transition mean and L L^T the noise, white = C L and
    eta = C f + d; after the call it is N(x, precision^-1) in whitened coordinates, z = f + L x. It knows no dynamics.
    """
    value = expand(kind, y, seen, white, eta, x, dt, dispersion, slope[:, 0], precision)
    rank = len(x)
    for r in range(rank):
        for s in range(rank):
            slope[r, 0] += precision[r, s] * x[s]
        precision[r, r] += 1.0
    cholesky(precision, root)
    forward_solve(root, slope)
    backward_solve(root, slope)
    copy(slope[:, 0], x)
    return value


@njit(cache=True, nogil=True)
def white_mode(kind, y, seen, white, eta, dt, dispersion, x, slope, precision, root, n_newton, tol):
    """Move x to the mode of ln p(y | eta + white x) - |x|^2 / 2 by Newton steps with halving."""
    rank = len(x)
    start, move = np.empty(rank), np.empty(rank)
    for _ in range(n_newton):
        copy(x, start)
        before = newton_step(kind, y, seen, white, eta, dt, dispersion, x, slope, precision, root)
        before -= 0.5 * np.sum(start * start)
        copy(x - start, move)
        factor = 1.0
        for _ in range(_HALVINGS):
            after = log_likelihood_at(kind, y, seen, white, eta, x, dt, dispersion) - 0.5 * np.sum(x * x)
            if after >= before - 1e-12 * abs(before):
                break
            factor *= 0.5
            copy(start + factor * move, x)
        if np.max(np.abs(move)) * factor < tol:
            break


@njit(cache=True, nogil=True)
def filter_counts(
    kind, values, seen, loadings, offsets, dt, dispersion, lengths, transition, noise, drive, initial,
    initial_covariance, predicted, filtered, first, last,
):  # fmt: skip
    """Fill predicted and filtered means of a Laplace filter: at each bin the mode and curvature given the past."""
    rank = transition.shape[0]
    cov, lower = np.empty((rank, rank)), np.empty((rank, rank))
    root, work = np.empty((rank, rank)), np.empty((rank, rank))
    x, slope, white = np.empty(rank), np.empty((rank, 1)), np.empty(loadings.shape)
    eta = np.empty(loadings.shape[0])
    for k in range(first, last):
        offset = offsets[k] if offsets.shape[0] > 1 else offsets[0]
        for t in range(lengths[k]):
            if t == 0:
                copy(initial[k], predicted[k, t])
                copy_rows(initial_covariance, cov)
            else:  # `work` holds the filtered covariance of the bin before
                copy(transition @ filtered[k, t - 1] + drive[k, t - 1], predicted[k, t])
                copy_rows(transition @ work @ transition.T + noise, cov)
            cholesky(cov, lower)
            copy_rows(loadings @ lower, white)
            copy(loadings @ predicted[k, t] + (offset[t] if offset.shape[0] > 1 else offset[0]), eta)
            x[:] = 0.0
            white_mode(kind, values[k, t], seen[k, t], white, eta, dt, dispersion, x, slope, work, root, 50, 1e-8)
            copy(predicted[k, t] + lower @ x, filtered[k, t])
            copy_rows(lower.T, cov)
            forward_solve(root, cov)
            copy_rows(cov.T @ cov, work)  # L precision^-1 L^T
