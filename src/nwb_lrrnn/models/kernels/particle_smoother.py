"""Backward simulation through a particle filter's record: draws of whole trajectories given all bins of a trial."""

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.particle_filter import normalise


@njit(cache=True, nogil=True, error_model="numpy")
def simulate(
    first, last, lengths, moved, drawn, weights, ancestors, resampled, precision_root, points, draws, means
):  # fmt: skip
    """Fill draws (S, B, T, M, R) with trajectories and means (S, B, T, R), for jobs first..last of S * trial.

    Given z_{t+1}, a particle j that left bin t has the weight W_j N(z_{t+1}; f_{t+1,j}, Sigma) (Godsill, Doucet & West
    2004). The mean of z_t is that of this law, averaged over the M trajectories: it has less noise than the draws.
    precision_root (S, R, R) is L^-1 of Sigma = L L^T; points (B, T, M) are uniform and need not be sorted.
    """
    _, n_trials, _, n_particles, rank = moved.shape
    n_draws = draws.shape[3]
    w, log_w = np.empty(n_particles), np.empty(n_particles)
    z = np.empty((n_particles, rank))
    gap = np.empty(rank)
    for job in range(first, last):
        s, b = job // n_trials, job % n_trials
        end = lengths[b] - 1
        for i in range(n_draws):
            _invert(weights[s, b, end], points[b, end, i], drawn[s, b, end], draws[s, b, end, i])
        for k in range(n_particles):
            for r in range(rank):
                means[s, b, end, r] += weights[s, b, end, k] * drawn[s, b, end, k, r]
        for t in range(end - 1, -1, -1):
            again = resampled[s, b, t]
            for k in range(n_particles):
                j = ancestors[s, b, t, k] if again else k
                for r in range(rank):
                    z[k, r] = drawn[s, b, t, j, r]
            for i in range(n_draws):
                for k in range(n_particles):
                    log_w[k] = 0.0
                    if not again:
                        log_w[k] = math.log(weights[s, b, t, k]) if weights[s, b, t, k] > 0.0 else -np.inf
                    for r in range(rank):
                        gap[r] = draws[s, b, t + 1, i, r] - moved[s, b, t + 1, k, r]
                    for r in range(rank):
                        total = 0.0
                        for q in range(r + 1):
                            total += precision_root[s, r, q] * gap[q]
                        log_w[k] -= 0.5 * total * total
                normalise(log_w, w)
                for k in range(n_particles):
                    for r in range(rank):
                        means[s, b, t, r] += w[k] * z[k, r] / n_draws
                _invert(w, points[b, t, i], z, draws[s, b, t, i])


@njit(cache=True, nogil=True, error_model="numpy")
def _invert(w, point, z, out):
    """Fill out (R,) with the particle at which the distribution of w passes the point."""
    total = 0.0
    j = len(w) - 1
    for k in range(len(w)):
        total += w[k]
        if point < total:
            j = k
            break
    for r in range(len(out)):
        out[r] = z[j, r]
