"""Partial correlation of groups of latents by a leave-one-out kernel density, in one pass over pairs of points."""

import math

import numba
import numpy as np
from numba import njit

from nwb_lrrnn.caches import find_numba_cache

find_numba_cache(numba)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"}, error_model="numpy")
def partial_correlation(points, ends, bandwidth):
    """Return the mean of ln q(z) - sum_g ln q(z_g) over points, in nats, no point being its own neighbour.

    ``points`` (point, latent) has the groups side by side, ``ends`` (group,) says where each ends, and q is a Gaussian
    kernel density of standard deviation ``bandwidth``. The norms of the kernels cancel.
    """
    n, n_groups = points.shape[0], ends.shape[0]
    joint = np.zeros(n)
    marginal = np.zeros((n_groups, n))
    near = np.empty(n_groups)
    scale = 0.5 / (bandwidth * bandwidth)
    for i in range(n):
        for j in range(i):
            both = 1.0
            first = 0
            for g in range(n_groups):
                square = 0.0
                for k in range(first, ends[g]):
                    difference = points[i, k] - points[j, k]
                    square += difference * difference
                first = ends[g]
                near[g] = math.exp(-scale * square)
                both *= near[g]
            joint[i] += both
            joint[j] += both
            for g in range(n_groups):
                marginal[g, i] += near[g]
                marginal[g, j] += near[g]
    total = 0.0
    for i in range(n):
        total += math.log(max(joint[i], 1e-300))
        for g in range(n_groups):
            total -= math.log(max(marginal[g, i], 1e-300))
    return total / n + (n_groups - 1) * math.log(n - 1.0)
