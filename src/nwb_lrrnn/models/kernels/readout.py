"""The observations of a trajectory, fused: log-likelihood, its curvature in the latents and its parameter gradients.

eta = C z + d per unit; p(y | eta) is that of `observation`, for likelihoods that mix no terms of y and the spread.
Nothing of size (bins x units) is stored, and the logarithm of a rate is taken only where there are spikes.
"""

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST, dot
from nwb_lrrnn.models.kernels.copies import copy_rows
from nwb_lrrnn.models.kernels.observation import add_norm, add_spread, has_norm, log_density, norms, slopes


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def predict(z, loadings, offset, eta):
    """Fill eta (unit,) = C z + d; loadings (R, unit); z may be longer than R."""
    for d in range(eta.shape[0]):
        eta[d] = offset[d]
    for r in range(loadings.shape[0]):
        c, row = z[r], loadings[r]
        for d in range(eta.shape[0]):
            eta[d] += c * row[d]


@njit(cache=True, nogil=True, error_model="numpy")
def log_likelihood(first, last, kind, bin_size, z, y, seen, loadings, offset, spread, constants, out):
    """Fill out (S, window) for jobs first..last of S * window: log p of each window's observations.

    z (S, window, T, R); y (window, T, unit); seen (window, T, unit or 1); loadings (S, R, unit); offset, spread
    (S, unit); constants (window,): the terms that y alone makes. A term of the spread alone is added here.
    """
    windows, steps, units = y.shape
    eta, mean, relative, of_spread = np.empty(units), np.empty(units), np.empty(units), np.empty(units)
    for job in range(first, last):
        s, w = job // windows, job % windows
        total = constants[w]
        norm = 0.0
        if has_norm(kind):
            norms(spread[s], of_spread)
            for d in range(units):
                norm += of_spread[d]
        for t in range(steps):
            if seen.shape[2] == 1 and seen[w, t, 0] == 0.0:
                continue
            predict(z[s, w, t], loadings[s], offset[s], eta)
            total += log_density(kind, bin_size, y[w, t], seen[w, t], eta, spread[s], mean, relative)
            if has_norm(kind):
                if seen.shape[2] == 1:
                    total += norm
                else:
                    total += dot(seen[w, t], of_spread)
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
        known = False
        for t in range(steps):
            if seen.shape[2] == 1 and seen[w, t, 0] == 0.0:
                continue
            predict(z[s, w, t], loadings[s], offset[s], eta)
            slopes(kind, bin_size, y[w, t], seen[w, t], eta, spread[s], mean, relative, slope, fisher)
            for r in range(rank):
                gradient[s, w, t, r] = dot(loadings[s, r], slope)
            if known:
                copy_rows(constant, information[s, w, t])
            else:
                _information(fisher, loadings[s], weighted, information[s, w, t])
                if has_norm(kind) and seen.shape[2] == 1:
                    copy_rows(information[s, w, t], constant)
                    known = True


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _accumulate(weight, z, slope, dloadings, doffset):
    """Add one bin's weighted gradients of C and d."""
    for d in range(slope.shape[0]):
        slope[d] *= weight
        doffset[d] += slope[d]
    for r in range(z.shape[0]):
        c, row = z[r], dloadings[r]
        for d in range(slope.shape[0]):
            row[d] += c * slope[d]


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
                _accumulate(weights[s, w], z[s, w, t], slope, dloadings[s, c], doffset[s, c])
                add_spread(kind, weights[s, w], y[w, t], seen[w, t], eta, spread[s], mean, dspread[s, c])
                if has_norm(kind):
                    add_norm(weights[s, w], seen[w, t], spread[s], dspread[s, c])
                for r in range(rank):
                    dz[s, w, t, r] = dot(loadings[s, r], slope)
