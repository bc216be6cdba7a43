"""The particle filter of a low-rank network, trial by trial: proposals affine in the transition, any weights.

One trial of one network is a job. See `particle_types` for what the arrays mean; `particle_adjoint` for gradients.
"""

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST
from nwb_lrrnn.models.kernels.copies import copy
from nwb_lrrnn.models.kernels.observation import log_density
from nwb_lrrnn.models.kernels.particle_moves import move, pad_rows, padded
from nwb_lrrnn.models.kernels.particle_readout import RATES, predict_rates
from nwb_lrrnn.models.kernels.particle_sites import bin_proposal, site_of
from nwb_lrrnn.models.kernels.particle_types import BEFORE, EVERY_STEP, LOW_ESS
from nwb_lrrnn.models.kernels.readout import predict


@njit(cache=True, nogil=True, error_model="numpy")
def normalise(log_w, weights):
    """Fill weights (K,) with normalised exp(log_w); return the log of their sum."""
    top = -np.inf
    for k in range(len(log_w)):
        top = max(top, log_w[k])
    if not top > -np.inf:  # every particle impossible, or not a number
        bad = np.sum(log_w)
        weights[:] = 1.0 / len(weights)
        return bad if bad != bad else -np.inf
    total = 0.0
    for k in range(len(log_w)):
        weights[k] = math.exp(log_w[k] - top)
        total += weights[k]
    for k in range(len(log_w)):
        weights[k] /= total
    return top + math.log(total)


@njit(cache=True, nogil=True, error_model="numpy")
def pick(weights, points, ancestors):
    """Fill ancestors (K,) by inverting the distribution of the weights at sorted points."""
    n = len(weights)
    source, edge = 0, weights[0]
    for k in range(n):
        while points[k] >= edge and source < n - 1:
            source += 1
            edge += weights[source]
        ancestors[k] = source


@njit(cache=True, nogil=True, error_model="numpy")
def take(source, ancestors, out):
    """Fill out (K, R) with the ancestors' rows of source (K, R)."""
    for k in range(len(ancestors)):
        j = ancestors[k]
        for r in range(source.shape[1]):
            out[k, r] = source[j, r]


@njit(cache=True, nogil=True, error_model="numpy")
def base_of(moves, s, b, t, base):
    """Fill base (neuron,) = b + B v_t."""
    copy(moves.bias[s], base)
    if moves.input_weights.shape[1]:
        v = moves.inputs[s % moves.inputs.shape[0], b, t]
        for j in range(moves.input_weights.shape[1]):
            c, row = base.dtype.type(v[j]), moves.input_weights[s, j]
            for i in range(len(base)):
                base[i] += c * row[i]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def add_quadratic(sign, f, curvature, slope, out):
    """Add sign * (f^T h - f^T G f / 2) of each particle f (K, R) to out (K,), in float64."""
    rank = f.shape[1]
    for k in range(f.shape[0]):
        total = 0.0
        for r in range(rank):
            pull = slope[r]
            for q in range(rank):
                pull -= 0.5 * curvature[r, q] * float(f[k, q])
            total += pull * float(f[k, r])
        out[k] += sign * total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def draw(f, gain, shift, root, normals, z):
    """Fill z (K, R) = F f + c + L eps, computed in float64."""
    rank = f.shape[1]
    for k in range(f.shape[0]):
        for r in range(rank):
            total = shift[r]
            for q in range(rank):
                total += gain[r, q] * float(f[k, q])
            for q in range(r + 1):
                total += root[r, q] * float(normals[k, q])
            z[k, r] = total


@njit(cache=True, nogil=True, error_model="numpy")
def run(
    first, last, code, kind, readout, bin_size, when, threshold, n_newton, lengths, moves, covariances, proposal, seen,
    noise, record,
):  # fmt: skip
    """Run the filter for jobs first..last of S * trial and fill the record.

    With n_newton > 0 the proposals are found on the way: each bin's observations are expanded by so many Newton steps
    about the particles, and the rows of `proposal` are filled; covariances (S, 2, R, R) are Sigma_1 and Sigma_z.
    """
    n_trials, n_steps, n_particles, rank = noise.normals.shape
    neurons, units = moves.bias.shape[1], seen.y.shape[2]
    kept = moves.bias.dtype
    wide = padded(rank)
    padded_z, target = np.zeros(wide, kept), np.zeros(wide, kept)
    x, value, slope, base = (
        np.empty(neurons, kept),
        np.empty(neurons, kept),
        np.empty(neurons, kept),
        np.empty(neurons, kept),
    )
    eta, mean, relative = np.empty(units), np.empty(units), np.empty(units)
    pull, fisher, effective = np.empty(units), np.empty(units), np.empty((rank, units))
    z, f = np.empty((n_particles, rank), kept), np.empty((n_particles, rank), kept)
    gain, curvature = np.empty((rank, rank)), np.empty((rank, rank))
    c, linear = np.empty(rank), np.empty(rank)
    log_w, carried = np.empty(n_particles), np.empty(n_particles)
    has_residual = units > 0
    even = -math.log(n_particles)
    for job in range(first, last):
        s, b = job // n_trials, job % n_trials
        m, n, h = pad_rows(moves.left[s]), pad_rows(moves.right[s]), moves.thresholds[s]
        carried[:] = even
        for t in range(lengths[b]):
            if t == 0:
                for k in range(n_particles):
                    copy(moves.start[s, b], f[k])
            else:
                base_of(moves, s, b, t - 1, base)
                push = moves.push[s, b % moves.push.shape[1], (t - 1) % moves.push.shape[2]]
                move(code, z, moves.decay[s], m, n, base, h, push, padded_z, target, x, value, slope, f)
            moved = record.moved[s, b, t]
            for k in range(n_particles):
                for r in range(rank):
                    moved[k, r] = f[k, r]
            row = proposal.rows[b, t]
            if readout == RATES and has_residual:
                base_of(moves, s, b, t, base)
            offset = seen.offset[s, b % seen.offset.shape[1], t % seen.offset.shape[2]]
            if n_newton:
                proposal.log_det[s, row] = site_of(
                    code, kind, readout, bin_size, n_newton, f, carried, covariances[s, min(t, 1)], seen.y[b, t],
                    seen.mask[b, t], seen.loadings[s], offset, seen.spread[s], m, base, h, padded_z, x, value, slope,
                    eta, mean, relative, pull, fisher, effective, proposal.slope[s, b, t],
                    proposal.information[s, row], proposal.covariance[s, row], proposal.root[s, row],
                )  # fmt: skip
            p, information = proposal.slope[s, b, t], proposal.information[s, row]
            k = proposal.log_det[s, row] - bin_proposal(
                proposal.covariance[s, row], information, p, gain, curvature, c, linear
            )
            for i in range(n_particles):
                log_w[i] = carried[i] - 0.5 * k + proposal.constant[s, b, t]
            add_quadratic(1.0, f, curvature, linear, log_w)
            total = 0.0
            ancestors = record.ancestors[s, b, t]
            if when == BEFORE:
                total = normalise(log_w, record.first_weights[s, b, t])
                _choose(record.first_weights[s, b, t], noise, s, b, t, ancestors)
                take(moved, ancestors, f)
                log_w[:] = even
            drawn = record.drawn[s, b, t]
            draw(f, gain, c, proposal.root[s, row], noise.normals[b, t], drawn)
            if has_residual:
                y, mask, loadings, spread = seen.y[b, t], seen.mask[b, t], seen.loadings[s], seen.spread[s]
                add_quadratic(-1.0, drawn, information, p, log_w)
                for k in range(n_particles):
                    for r in range(rank):
                        padded_z[r] = drawn[k, r]
                    if readout == RATES:
                        predict_rates(code, padded_z, m, base, h, loadings[0], offset, x, value, slope, eta)
                    else:
                        predict(padded_z, loadings, offset, eta)
                    log_w[k] += log_density(kind, bin_size, y, mask, eta, spread, mean, relative)
            weights = record.weights[s, b, t]
            total += normalise(log_w, weights)
            record.increments[s, b, t] = total
            again = when == EVERY_STEP
            if when == LOW_ESS:
                squares = 0.0
                for k in range(n_particles):
                    squares += weights[k] * weights[k]
                again = 1.0 < threshold * n_particles * squares
            if n_particles == 1:
                again = False
            record.resampled[s, b, t] = again
            if again:
                _choose(weights, noise, s, b, t, ancestors)
                take(drawn, ancestors, z)
                carried[:] = even
            else:
                for k in range(n_particles):
                    for r in range(rank):
                        z[k, r] = drawn[k, r]
                    carried[k] = math.log(weights[k]) if weights[k] > 0.0 else -np.inf


@njit(cache=True, nogil=True, error_model="numpy")
def _choose(weights, noise, s, b, t, ancestors):
    if noise.ancestors.shape[3]:
        copy(noise.ancestors[s, b, t], ancestors)
    else:
        pick(weights, noise.points[b, t], ancestors)
