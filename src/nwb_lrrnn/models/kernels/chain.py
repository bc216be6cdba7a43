"""Chains of nodes, each coupled with the next: block-tridiagonal systems solved node after node, a job for each chain.

Arrays carry a leading axis S of networks and a second axis of trials; a trial has as many nodes as `n_nodes` says.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def _root(a, root):
    """Fill root with the Cholesky root of a (R, R), taken as symmetric; NaN where it is not positive definite."""
    rank = a.shape[0]
    for i in range(rank):
        for j in range(rank):
            root[i, j] = 0.0
    for j in range(rank):
        pivot = a[j, j]
        for k in range(j):
            pivot -= root[j, k] ** 2
        if not pivot > 0.0:  # a trajectory that left every bound: not finite, so that it is never taken
            root[:] = np.nan
            return
        root[j, j] = np.sqrt(pivot)
        for i in range(j + 1, rank):
            value = 0.5 * (a[i, j] + a[j, i])
            for k in range(j):
                value -= root[i, k] * root[j, k]
            root[i, j] = value / root[j, j]


@njit(cache=True, nogil=True, error_model="numpy")
def _solve(root, b):
    """Overwrite b (R, K) with (root root^T)^-1 b."""
    rank = root.shape[0]
    for c in range(b.shape[1]):
        for i in range(rank):
            for k in range(i):
                b[i, c] -= root[i, k] * b[k, c]
            b[i, c] /= root[i, i]
        for i in range(rank - 1, -1, -1):
            for k in range(i + 1, rank):
                b[i, c] -= root[k, i] * b[k, c]
            b[i, c] /= root[i, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _eliminate(diagonal, upper, gradient, damping, n, roots, sides):
    """Fill the Cholesky roots of the pivots (node, R, R) and the reduced right-hand sides (node, R) of one chain.

    The diagonal of each block is raised by its share `damping`.
    """
    rank = gradient.shape[1]
    pivot, carry = np.empty((rank, rank)), np.empty((rank, rank))
    for k in range(n):
        for i in range(rank):
            sides[k, i] = gradient[k, i]
            for j in range(rank):
                pivot[i, j] = diagonal[k, i, j]
            pivot[i, i] += damping * diagonal[k, i, i]
        if k:
            carry[:] = upper[k - 1]
            _solve(roots[k - 1], carry)  # pivot^-1 upper
            for i in range(rank):
                for q in range(rank):
                    sides[k, i] -= carry[q, i] * sides[k - 1, q]
                    for j in range(rank):
                        pivot[i, j] -= carry[q, i] * upper[k - 1, q, j]
        _root(pivot, roots[k])


@njit(cache=True, nogil=True, error_model="numpy")
def solve(first, last, diagonal, upper, gradient, damping, n_nodes, steps):
    """Fill the solutions (S, trial, node, R) of damped systems, for jobs first..last of S * trial.

    diagonal and upper (S, trial, node, R, R), the coupling of a node with the next; gradient (S, trial, node, R);
    damping (S, trial), of each diagonal; n_nodes (trial,). Absent nodes are left as they are.
    """
    n_trials, most, rank = steps.shape[1:]
    roots, sides, b = np.empty((most, rank, rank)), np.empty((most, rank)), np.empty((rank, 1))
    for job in range(first, last):
        s, w = job // n_trials, job % n_trials
        n, out = n_nodes[w], steps[s, w]
        _eliminate(diagonal[s, w], upper[s, w], gradient[s, w], damping[s, w], n, roots, sides)
        for k in range(n - 1, -1, -1):
            for i in range(rank):
                b[i, 0] = sides[k, i]
                if k < n - 1:
                    for j in range(rank):
                        b[i, 0] -= upper[s, w, k, i, j] * out[k + 1, j]
            _solve(roots[k], b)
            out[k] = b[:, 0]


@njit(cache=True, nogil=True, error_model="numpy")
def invert(first, last, diagonal, upper, n_nodes, log_det, covariance, cross):
    """Fill ln det (S, trial), and of the inverses the diagonal and the upper blocks (S, trial, node, R, R)."""
    n_trials, most, rank = covariance.shape[1:4]
    roots, sides = np.empty((most, rank, rank)), np.empty((most, rank))
    nothing, gain = np.zeros((most, rank)), np.empty((rank, rank))
    for job in range(first, last):
        s, w = job // n_trials, job % n_trials
        n, own, mixed = n_nodes[w], covariance[s, w], cross[s, w]
        _eliminate(diagonal[s, w], upper[s, w], nothing, 0.0, n, roots, sides)
        for k in range(n - 1, -1, -1):
            own[k] = np.eye(rank)
            _solve(roots[k], own[k])
            for i in range(rank):
                log_det[s, w] += 2.0 * np.log(roots[k, i, i])
            if k == n - 1:
                continue
            gain[:] = upper[s, w, k]
            _solve(roots[k], gain)  # pivot^-1 upper
            for i in range(rank):
                for j in range(rank):
                    mixed[k, i, j] = 0.0
                    for q in range(rank):
                        mixed[k, i, j] -= gain[i, q] * own[k + 1, q, j]
            for i in range(rank):
                for j in range(rank):
                    for q in range(rank):
                        own[k, i, j] -= mixed[k, i, q] * gain[j, q]
