"""Kalman filter and Rauch-Tung-Striebel smoother in information form: R x R per step, whatever the number of units.

What a bin tells about its latents is J_t = C^T R^-1 C over the observed units and h_t = C^T R^-1 (y_t - d). The
covariances depend on J alone, so they are computed once per distinct sequence of J ("pattern") and shared by all trials
of that pattern. Every kernel works on a range of patterns or trials and releases the GIL; nothing is summed across
trials here, so the result does not depend on how the ranges are cut.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.copies import copy, copy_rows

_PIVOT = 1e-14  # a pivot below this fraction of the largest diagonal entry is a direction without variance


@njit(cache=True, nogil=True)
def cholesky(a, lower):
    """Fill `lower` with L, L L^T = a, for a positive semi-definite `a`; what has no variance gives zero columns."""
    n = a.shape[0]
    scale = 0.0
    for i in range(n):
        scale = max(scale, a[i, i])
    for j in range(n):
        for i in range(j):
            lower[i, j] = 0.0
        pivot = a[j, j]
        for k in range(j):
            pivot -= lower[j, k] * lower[j, k]
        if pivot <= _PIVOT * scale:
            for i in range(j, n):
                lower[i, j] = 0.0
            continue
        root = math.sqrt(pivot)
        lower[j, j] = root
        for i in range(j + 1, n):
            value = 0.5 * (a[i, j] + a[j, i])
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            lower[i, j] = value / root


@njit(cache=True, nogil=True)
def forward_solve(lower, b):
    """Overwrite the columns of `b` with L^-1 b; zero pivots give zeros."""
    n, m = b.shape
    for c in range(m):
        for i in range(n):
            if lower[i, i] == 0.0:
                b[i, c] = 0.0
                continue
            value = b[i, c]
            for k in range(i):
                value -= lower[i, k] * b[k, c]
            b[i, c] = value / lower[i, i]


@njit(cache=True, nogil=True)
def backward_solve(lower, b):
    """Overwrite the columns of `b` with L^-T b; zero pivots give zeros."""
    n, m = b.shape
    for c in range(m):
        for i in range(n - 1, -1, -1):
            if lower[i, i] == 0.0:
                b[i, c] = 0.0
                continue
            value = b[i, c]
            for k in range(i + 1, n):
                value -= lower[k, i] * b[k, c]
            b[i, c] = value / lower[i, i]


@njit(cache=True, nogil=True)
def multiply(a, b, out):
    """Fill `out` with a b."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            out[i, j] = 0.0
        for k in range(a.shape[1]):
            factor = a[i, k]
            for j in range(b.shape[1]):
                out[i, j] += factor * b[k, j]


@njit(cache=True, nogil=True)
def multiply_transposed(a, b, out):
    """Fill `out` with a b^T."""
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            value = 0.0
            for k in range(a.shape[1]):
                value += a[i, k] * b[j, k]
            out[i, j] = value


@njit(cache=True, nogil=True)
def condition(lower, information, work, filtered):
    """Fill `filtered` with (P^-1 + J)^-1, P = L L^T, and return ln det(I + L^T J L): exact for singular P too."""
    n = lower.shape[0]
    multiply(information, lower, filtered)
    for i in range(n):
        for j in range(n):
            value = 1.0 if i == j else 0.0
            for k in range(n):
                value += lower[k, i] * filtered[k, j]
            work[i, j] = value  # I + L^T J L, eigenvalues >= 1
    cholesky(work, filtered)
    log_det = 0.0
    for i in range(n):
        log_det += 2.0 * math.log(filtered[i, i])
        for j in range(n):
            work[i, j] = lower[j, i]
    forward_solve(filtered, work)
    for i in range(n):
        for j in range(i + 1):
            value = 0.0
            for k in range(n):
                value += work[k, i] * work[k, j]
            filtered[i, j] = value
            filtered[j, i] = value
    return log_det


@njit(cache=True, nogil=True)
def covariance_pass(information, lengths, transition, noise, initial, predicted, filtered, gain, log_det, first, last):
    """Fill predicted and filtered covariances, smoother gains P_t A^T P_{t+1|t}^-1 and summed log determinants."""
    n = transition.shape[0]
    lower, work, step = np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    for p in range(first, last):
        total = 0.0
        for t in range(lengths[p]):
            if t == 0:
                copy_rows(initial, predicted[p, t])
            else:
                multiply(transition, filtered[p, t - 1], step)
                multiply_transposed(step, transition, work)
                for i in range(n):
                    for j in range(n):
                        predicted[p, t, i, j] = 0.5 * (work[i, j] + work[j, i]) + noise[i, j]
            cholesky(predicted[p, t], lower)
            if t > 0:
                forward_solve(lower, step)
                backward_solve(lower, step)
                for i in range(n):
                    for j in range(n):
                        gain[p, t - 1, i, j] = step[j, i]
            total += condition(lower, information[p, t], work, filtered[p, t])
        log_det[p] = total


@njit(cache=True, nogil=True)
def smooth_covariances(lengths, transition, noise, filtered, gain, smoothed, cross, first, last):
    """Fill smoothed covariances and Cov(z_{t+1}, z_t | Y) backwards, in a form that stays positive semi-definite."""
    n = transition.shape[0]
    shrink, left, right = np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    for p in range(first, last):
        end = lengths[p] - 1
        copy_rows(filtered[p, end], smoothed[p, end])
        for t in range(end - 1, -1, -1):
            multiply(gain[p, t], transition, shrink)
            for i in range(n):
                for j in range(n):
                    shrink[i, j] = (1.0 if i == j else 0.0) - shrink[i, j]
            multiply(shrink, filtered[p, t], left)
            multiply_transposed(left, shrink, right)
            for i in range(n):
                for j in range(n):
                    shrink[i, j] = smoothed[p, t + 1, i, j] + noise[i, j]
            multiply(gain[p, t], shrink, left)
            multiply_transposed(left, gain[p, t], shrink)
            for i in range(n):
                for j in range(n):
                    smoothed[p, t, i, j] = 0.5 * (right[i, j] + right[j, i] + shrink[i, j] + shrink[j, i])
            multiply_transposed(smoothed[p, t + 1], gain[p, t], cross[p, t])


@njit(cache=True, nogil=True)
def mean_pass(
    evidence, information, pattern, lengths, transition, drive, initial, covariance, gain,
    predicted, filtered, smoothed, quadratic, first, last,
):  # fmt: skip
    """Fill predicted, filtered and smoothed means, and the data's part of -2 ln p(Y) that depends on the latents."""
    n = transition.shape[0]
    score = np.empty(n)
    for k in range(first, last):
        p = pattern[k]
        total = 0.0
        for t in range(lengths[k]):
            for i in range(n):
                value = initial[k, i]
                if t > 0:
                    value = drive[k, t - 1, i]
                    for j in range(n):
                        value += transition[i, j] * filtered[k, t - 1, j]
                predicted[k, t, i] = value
            for i in range(n):
                pull = 0.0
                for j in range(n):
                    pull += information[p, t, i, j] * predicted[k, t, j]
                score[i] = evidence[k, t, i] - pull
                total -= predicted[k, t, i] * (evidence[k, t, i] + score[i])
            for i in range(n):
                shift = 0.0
                for j in range(n):
                    shift += covariance[p, t, i, j] * score[j]
                filtered[k, t, i] = predicted[k, t, i] + shift
                total -= score[i] * shift
        quadratic[k] = total
        end = lengths[k] - 1
        copy(filtered[k, end], smoothed[k, end])
        for t in range(end - 1, -1, -1):
            for i in range(n):
                value = filtered[k, t, i]
                for j in range(n):
                    value += gain[p, t, i, j] * (smoothed[k, t + 1, j] - predicted[k, t + 1, j])
                smoothed[k, t, i] = value
