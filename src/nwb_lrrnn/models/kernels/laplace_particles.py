"""The particle filter for counts with linear dynamics: an unbiased estimate of p(Y) with Laplace proposals."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.copies import add, add_rows, copy, copy_rows
from nwb_lrrnn.models.kernels.kalman import backward_solve, cholesky, forward_solve
from nwb_lrrnn.models.kernels.laplace import expand, log_likelihood_at, newton_step


@njit(cache=True, nogil=True)
def apply(matrix, vector, out):
    """Fill `out` with matrix @ vector."""
    for i in range(matrix.shape[0]):
        value = 0.0
        for j in range(matrix.shape[1]):
            value += matrix[i, j] * vector[j]
        out[i] = value


@njit(cache=True, nogil=True)
def normalise(log_w):
    """Replace log weights by normalised log weights; return the log of their sum and the effective sample size."""
    top = np.max(log_w)
    if not top > -np.inf:  # every particle impossible: start again from equal weights, the estimate is 0
        log_w[:] = -math.log(len(log_w))
        return -np.inf, float(len(log_w))
    total = 0.0
    for k in range(len(log_w)):
        total += math.exp(log_w[k] - top)
    log_sum = top + math.log(total)
    squares = 0.0
    for k in range(len(log_w)):
        log_w[k] -= log_sum
        squares += math.exp(2.0 * log_w[k])
    return log_sum, 1.0 / squares


@njit(cache=True, nogil=True)
def resample(log_w, z, work, uniform):
    """Replace particles by a systematic sample of them and the log weights by equal ones."""
    n = len(log_w)
    source, total = 0, math.exp(log_w[0])
    for k in range(n):
        point = (k + uniform) / n
        while point > total and source < n - 1:
            source += 1
            total += math.exp(log_w[source])
        copy(z[source], work[k])
    copy_rows(work, z)
    log_w[:] = -math.log(n)


@njit(cache=True, nogil=True)
def propose(
    kind, y, seen, loadings, offset, dt, dispersion, lower, white, f, pull, info, shared_root, noise, n_newton,
    eta, x, slope, precision, root, out,
):  # fmt: skip
    """Fill `out` with a draw from the Laplace proposal of N(f, L L^T) p(y | z), and return its log weight.

    `pull` and `info` are the shared expansion of ln p(y | z) (its slope at z = 0 and its curvature), shared_root the
    Cholesky factor of I + L^T info L, white = C L, and noise a standard normal vector. Nothing here knows where f
    comes from.
    """
    rank = len(f)
    for r in range(rank):
        root[r] = shared_root[r]
        x[r] = pull[r]
        for s in range(rank):
            x[r] -= info[r, s] * f[s]
    for r in range(rank):
        slope[r, 0] = 0.0
        for s in range(rank):
            slope[r, 0] += lower[s, r] * x[s]
    forward_solve(root, slope)
    backward_solve(root, slope)
    for r in range(rank):
        x[r] = slope[r, 0]
    apply(loadings, f, eta)
    for i in range(len(eta)):
        eta[i] += offset[i]
    for _ in range(n_newton):
        newton_step(kind, y, seen, white, eta, dt, dispersion, x, slope, precision, root)
    log_w = 0.0
    for r in range(rank):
        slope[r, 0] = noise[r]
        log_w += 0.5 * noise[r] * noise[r] - math.log(root[r, r])  # minus ln q, its constant cancels that of the prior
    backward_solve(root, slope)
    for r in range(rank):
        x[r] += slope[r, 0]
        log_w -= 0.5 * x[r] * x[r]
    apply(lower, x, out)
    for r in range(rank):
        out[r] += f[r]
    return log_w + log_likelihood_at(kind, y, seen, white, eta, x, dt, dispersion)


@njit(cache=True, nogil=True)
def look_ahead(pull, info, transition, drive, lower, next_pull, next_info, root):
    """Fill slope and curvature of ln p(later counts | z_t), the later counts being Gaussian pseudo-observations.

    `next_pull`, `next_info` are those of the bins after t as functions of z_{t+1} (their own bin included);
    z_{t+1} ~ N(A z_t + drive, L L^T) is integrated out.
    """
    rank = transition.shape[0]
    root_info = lower.T @ next_info  # L^T info
    middle = root_info @ lower
    for r in range(rank):
        middle[r, r] += 1.0
    cholesky(middle, root)
    gain = root_info.copy()
    forward_solve(root, gain)
    backward_solve(root, gain)  # (I + L^T info L)^-1 L^T info
    curve = next_info - root_info.T @ gain
    slope = next_pull - gain.T @ (lower.T @ next_pull)
    copy_rows(transition.T @ curve @ transition, info)
    copy(transition.T @ (slope - curve @ drive), pull)


@njit(cache=True, nogil=True)
def quadratic(pull, info, z):
    """Return pull^T z - z^T info z / 2."""
    total = 0.0
    for r in range(len(z)):
        total += pull[r] * z[r]
        for s in range(len(z)):
            total -= 0.5 * info[r, s] * z[r] * z[s]
    return total


@njit(cache=True, nogil=True)
def particle_filter(
    kind, values, seen, loadings, offset, dt, dispersion, transition, noise_root, drive, initial, initial_root,
    centers, normals, uniforms,
):  # fmt: skip
    """Return ln of an unbiased estimate of p(Y) of one trial, without its terms of y alone.

    Proposals and resampling weights look ahead: what the later bins say of z_t is the Gaussian psi_t of the expansions
    of their likelihood at `centers` (time, latent). The psi_t cancel in the estimate, which stays unbiased whatever
    they are; with psi exact it would have no variance. Systematic resampling where the effective sample size falls
    below half the particles.
    """
    n_steps, n_particles, rank = normals.shape
    z, moved = np.zeros((n_particles, rank)), np.empty((n_particles, rank))
    log_w = np.full(n_particles, -math.log(n_particles))
    info, pull = np.zeros((n_steps, rank, rank)), np.zeros((n_steps, rank))
    later_info, later_pull = np.zeros((n_steps, rank, rank)), np.zeros((n_steps, rank))
    precision, root, shared_root = np.empty((rank, rank)), np.empty((rank, rank)), np.empty((rank, rank))
    slope, x, f, eta = np.empty((rank, 1)), np.empty(rank), np.empty(rank), np.empty(loadings.shape[0])
    for t in range(n_steps - 1, -1, -1):
        row = offset[t] if offset.shape[0] > 1 else offset[0]
        expand(kind, values[t], seen[t], loadings, row, centers[t], dt, dispersion, pull[t], info[t])
        add(info[t] @ centers[t], pull[t])
        if t < n_steps - 1:
            look_ahead(
                later_pull[t], later_info[t], transition, drive[t], noise_root, pull[t + 1], info[t + 1], shared_root
            )
        add(later_pull[t], pull[t])
        add_rows(later_info[t], info[t])
    total = 0.0
    for t in range(n_steps):
        row = offset[t] if offset.shape[0] > 1 else offset[0]
        lower = noise_root if t > 0 else initial_root
        shared = lower.T @ (info[t] @ lower)
        for r in range(rank):
            shared[r, r] += 1.0
        cholesky(shared, shared_root)
        white = loadings @ lower
        for k in range(n_particles):
            if t == 0:
                copy(initial, f)
            else:
                apply(transition, z[k], f)
                f += drive[t - 1]
                log_w[k] -= quadratic(later_pull[t - 1], later_info[t - 1], z[k])
            log_w[k] += propose(
                kind, values[t], seen[t], loadings, row, dt, dispersion, lower, white, f, pull[t], info[t],
                shared_root, normals[t, k], 0, eta, x, slope, precision, root, moved[k],
            )  # fmt: skip
            log_w[k] += quadratic(later_pull[t], later_info[t], moved[k])
        copy_rows(moved, z)
        log_sum, ess = normalise(log_w)
        total += log_sum
        if ess < 0.5 * n_particles:
            resample(log_w, z, moved, uniforms[t])
    return total
