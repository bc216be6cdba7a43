"""The observations of a trajectory, fused: log-likelihood, its curvature in the latents and its parameter gradients.

eta = C z + d per unit; Gaussian y ~ N(eta, spread), or Poisson y ~ Poisson(bin_size * softplus(eta) or * exp(eta)).
Nothing of size (bins x units) is stored, and the logarithm of a rate is taken only where there are spikes.
"""

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST, dot, exp

GAUSSIAN, POISSON_SOFTPLUS, POISSON_EXP, BINOMIAL_SOFTPLUS, BINOMIAL_EXP = range(5)
FAR = -30.0  # below this softplus(eta) is exp(eta)


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def predict(z, loadings, offset, eta):
    """Fill eta (unit,) = C z + d; loadings (R, unit); z may be longer than R."""
    for d in range(eta.shape[0]):
        eta[d] = offset[d]
    for r in range(loadings.shape[0]):
        c, row = z[r], loadings[r]
        for d in range(eta.shape[0]):
            eta[d] += c * row[d]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def mean_count(kind, bin_size, eta, mean, relative):
    """Fill the mean count and d log mean / d eta (unit,) of a count model; not finite where eta is not."""
    if kind == POISSON_EXP or kind == BINOMIAL_EXP:
        for d in range(eta.shape[0]):
            mean[d] = bin_size * exp(min(max(eta[d], -44.0), 44.0)) + 0.0 * eta[d]
            relative[d] = 1.0
        return
    for d in range(eta.shape[0]):
        x = eta[d]
        e = exp(-min(abs(x), 44.0))
        w = e / (2.0 + e)
        v = w * w
        series = 1.0 / 33
        for k in range(15, -1, -1):  # log1p(e) = 2 atanh(w), w <= 1/3
            series = series * v + 1.0 / (2 * k + 1)
        plus = max(x, 0.0) + 2.0 * w * series
        mean[d] = bin_size * plus + 0.0 * x
        relative[d] = (1.0 if x > 0.0 else e) / ((1.0 + e) * plus)


@njit(cache=True, nogil=True, error_model="numpy")
def _log_mean(kind, bin_size, eta, mean):
    if eta < FAR or (kind == POISSON_EXP and abs(eta) <= 44.0):
        return eta + math.log(bin_size)
    return math.log(mean)


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _log_density(kind, bin_size, y, seen, eta, spread, mean, relative):
    """Return the log density of one bin without the terms that y alone makes."""
    total = 0.0
    units = y.shape[0]
    one_mask = seen.shape[0] == 1
    if one_mask and seen[0] == 0.0:
        return 0.0
    if kind == GAUSSIAN:
        if one_mask:
            for d in range(units):
                total -= 0.5 * (y[d] - eta[d]) ** 2 / spread[d]
        else:
            for d in range(units):
                total -= 0.5 * seen[d] * ((y[d] - eta[d]) ** 2 / spread[d])
        return total
    mean_count(kind, bin_size, eta, mean, relative)
    if one_mask:
        for d in range(units):
            total -= mean[d]
        for d in range(units):
            if y[d] > 0.0:
                total += y[d] * _log_mean(kind, bin_size, eta[d], mean[d])
    else:
        for d in range(units):
            total -= seen[d] * mean[d]
            if y[d] > 0.0 and seen[d] > 0.0:
                total += y[d] * _log_mean(kind, bin_size, eta[d], mean[d])
    return total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def slopes(kind, bin_size, y, seen, eta, spread, mean, relative, slope, fisher):
    """Fill d log p / d eta and the Fisher information (unit,), both 0 where unobserved."""
    units = y.shape[0]
    if kind == GAUSSIAN:
        for d in range(units):
            fisher[d] = 1.0 / spread[d]
            slope[d] = (y[d] - eta[d]) * fisher[d]
    else:
        mean_count(kind, bin_size, eta, mean, relative)
        for d in range(units):
            slope[d] = (y[d] - mean[d]) * relative[d]
            fisher[d] = mean[d] * relative[d] * relative[d]
        if kind == BINOMIAL_SOFTPLUS or kind == BINOMIAL_EXP:
            for d in range(units):
                shrink = spread[d] / (spread[d] + mean[d])
                slope[d] *= shrink
                fisher[d] *= shrink
    if seen.shape[0] > 1:
        for d in range(units):
            slope[d] *= seen[d]
            fisher[d] *= seen[d]
    elif seen[0] == 0.0:
        for d in range(units):
            slope[d] = 0.0
            fisher[d] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def log_likelihood(first, last, kind, bin_size, z, y, seen, loadings, offset, spread, constants, out):
    """Fill out (S, window) for jobs first..last of S * window: log p of each window's observations.

    z (S, window, T, R); y (window, T, unit); seen (window, T, unit or 1); loadings (S, R, unit); offset, spread
    (S, unit); constants (window,): the terms that y alone makes. For a Gaussian the normalisation is added here.
    """
    windows, steps, units = y.shape
    eta, mean, relative, norms = np.empty(units), np.empty(units), np.empty(units), np.empty(units)
    for job in range(first, last):
        s, w = job // windows, job % windows
        total = constants[w]
        norm = 0.0
        if kind == GAUSSIAN:
            for d in range(units):
                norms[d] = -0.5 * math.log(2.0 * math.pi * spread[s, d])
                norm += norms[d]
        for t in range(steps):
            if seen.shape[2] == 1 and seen[w, t, 0] == 0.0:
                continue
            predict(z[s, w, t], loadings[s], offset[s], eta)
            total += _log_density(kind, bin_size, y[w, t], seen[w, t], eta, spread[s], mean, relative)
            if kind == GAUSSIAN:
                if seen.shape[2] == 1:
                    total += norm
                else:
                    total += dot(seen[w, t], norms)
        out[s, w] = total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _information(fisher, loadings, weighted, out):
    """Fill out (R, R) = C^T diag(fisher) C."""
    rank, units = loadings.shape
    for r in range(rank):
        row = loadings[r]
        for d in range(units):
            weighted[d] = fisher[d] * row[d]
        for q in range(r, rank):
            other, total = loadings[q], 0.0
            for d in range(units):
                total += weighted[d] * other[d]
            out[r, q] = total
            out[q, r] = total


@njit(cache=True, nogil=True, error_model="numpy")
def curvature(first, last, kind, bin_size, z, y, seen, loadings, offset, spread, gradient, information):
    """Fill the gradient (S, window, T, R) and Fisher information (S, window, T, R, R) of each bin in its latents."""
    windows, steps, units = y.shape
    rank = z.shape[3]
    eta, mean, relative = np.empty(units), np.empty(units), np.empty(units)
    slope, fisher, weighted = np.empty(units), np.empty(units), np.empty(units)
    constant = np.zeros((rank, rank))
    for job in range(first, last):
        s, w = job // windows, job % windows
        if kind == GAUSSIAN:
            for d in range(units):
                fisher[d] = 1.0 / spread[s, d]
            _information(fisher, loadings[s], weighted, constant)
        for t in range(steps):
            if seen.shape[2] == 1 and seen[w, t, 0] == 0.0:
                continue
            predict(z[s, w, t], loadings[s], offset[s], eta)
            slopes(kind, bin_size, y[w, t], seen[w, t], eta, spread[s], mean, relative, slope, fisher)
            for r in range(rank):
                gradient[s, w, t, r] = dot(loadings[s, r], slope)
            if kind == GAUSSIAN and seen.shape[2] == 1:
                information[s, w, t] = constant
            else:
                _information(fisher, loadings[s], weighted, information[s, w, t])


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _accumulate(weight, z, y, seen, eta, spread, slope, gaussian, dloadings, doffset, dspread):
    """Add one bin's weighted parameter gradients."""
    for d in range(slope.shape[0]):
        slope[d] *= weight
        doffset[d] += slope[d]
    for r in range(z.shape[0]):
        c, row = z[r], dloadings[r]
        for d in range(slope.shape[0]):
            row[d] += c * slope[d]
    if gaussian:
        if seen.shape[0] == 1:
            for d in range(slope.shape[0]):
                error = y[d] - eta[d]
                dspread[d] += 0.5 * weight * (error * error / spread[d] - 1.0) / spread[d]
        else:
            for d in range(slope.shape[0]):
                error = y[d] - eta[d]
                dspread[d] += 0.5 * seen[d] * weight * (error * error / spread[d] - 1.0) / spread[d]


@njit(cache=True, nogil=True, error_model="numpy")
def adjoint(
    first, last, chunks, kind, bin_size, weights, z, y, seen, loadings, offset, spread, dz, dloadings, doffset, dspread
):
    """Fill dz (S, window, T, R), add dC (S, chunk, R, unit), dd and dspread (S, chunk, unit); L = sum weights * log p.

    Jobs first..last are S * chunks; a chunk's windows are its index and every chunks-th after it.
    """
    windows, steps, units = y.shape
    rank = z.shape[3]
    eta, mean, relative = np.empty(units), np.empty(units), np.empty(units)
    slope, fisher = np.empty(units), np.empty(units)
    for job in range(first, last):
        s, c = job // chunks, job % chunks
        for w in range(c, windows, chunks):
            for t in range(steps):
                if seen.shape[2] == 1 and seen[w, t, 0] == 0.0:
                    continue
                predict(z[s, w, t], loadings[s], offset[s], eta)
                slopes(kind, bin_size, y[w, t], seen[w, t], eta, spread[s], mean, relative, slope, fisher)
                _accumulate(
                    weights[s, w], z[s, w, t], y[w, t], seen[w, t], eta, spread[s], slope, kind == GAUSSIAN,
                    dloadings[s, c], doffset[s, c], dspread[s, c],
                )  # fmt: skip
                for r in range(rank):
                    dz[s, w, t, r] = dot(loadings[s, r], slope)
