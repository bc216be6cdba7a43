"""Kernel densities of groups of columns: entropies with their gradients, in one pass over pairs of points.

p_g(i) = [own + sum_{j != i} k_g(i, j)] / (n - 1 + own),   k_g(i, j) = exp(-|u_ig - u_jg|^2 / (2 h_g^2)),
so densities lack the constant -d_g/2 ln(2 pi h_g^2). own = 1 keeps the kernel of the point itself, which bounds ln p
from below; own = 0 leaves it out. Sums run in a fixed order on one thread, and kernels that others call are inlined
(`forceinline`): equal input gives equal bits in every process. Otherwise each caller would bring a copy, optimised with
the caller, and a process would take the copy that it loaded first: compiling, or the order of calls, would tell.

After a change in `activations` delete __pycache__: numba does not see that a function which it calls has changed.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST, exp

_FLOOR = (
    44.0  # exp of `activations` is exact to 1e-10 up to here; a kernel below 1e-19 is nothing beside its neighbours
)
_TINY = 1e-300


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _row(points, i, half_precision, kernel):
    """Fill kernel[j], j < i, with exp(-half_precision |u_i - u_j|^2); points (column, point)."""
    for j in range(i):
        kernel[j] = 0.0
    for c in range(points.shape[0]):
        here = points[c, i]
        column = points[c]
        for j in range(i):
            step = here - column[j]
            kernel[j] += step * step
    for j in range(i):
        kernel[j] = exp(-min(half_precision * kernel[j], _FLOOR))


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy", forceinline=True)
def log_density(points, bandwidth, own):
    """Return ln p (n,) of each column of `points` (d, n) under the density of all of them, without its constant."""
    n = points.shape[1]
    total = np.full(n, own)
    kernel = np.empty(n)
    half_precision = 0.5 / (bandwidth * bandwidth)
    for i in range(1, n):
        _row(points, i, half_precision, kernel)
        row = 0.0
        for j in range(i):
            row += kernel[j]
            total[j] += kernel[j]
        total[i] += row
    scale = 1.0 / (n - 1.0 + own)
    for i in range(n):
        total[i] = math.log(max(total[i] * scale, _TINY))
    return total


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def entropy(points, bandwidth, own, gradient):
    """Return -mean ln p of `points` (d, n), up to its constant, and fill `gradient` (d, n) with its slope."""
    d, n = points.shape
    log_p = log_density(points, bandwidth, own)
    inverse = np.empty(n)  # 1 / (sum of the kernels at a point)
    value = 0.0
    for i in range(n):
        value -= log_p[i]
        inverse[i] = math.exp(-log_p[i]) / (n - 1.0 + own)
    gradient[:] = 0.0
    kernel = np.empty(n)
    precision = 1.0 / (bandwidth * bandwidth)
    scale = precision / n
    for i in range(1, n):  # the kernels once more: cheaper than to store n^2 of them
        _row(points, i, 0.5 * precision, kernel)
        for j in range(i):
            kernel[j] *= scale * (inverse[i] + inverse[j])
        for c in range(d):
            here = points[c, i]
            column, slope = points[c], gradient[c]
            pull = 0.0
            for j in range(i):
                force = kernel[j] * (here - column[j])
                pull += force
                slope[j] -= force
            slope[i] += pull
    return value / n
