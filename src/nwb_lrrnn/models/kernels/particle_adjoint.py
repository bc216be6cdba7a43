"""The adjoint of `particle_filter.run`: gradients of a weighted sum of the increments, ancestors held fixed.

With g_t the weight of increment t, lambda = dL/dz_t of the particles that go on, and A = dL/d(log weights that they
carry), backwards in time:

    delta = lambda summed over a particle's offspring;   rho = g_t w + [not resampled] (A - w sum A)
    f' = F^T delta + rho (h - G f);   dF += delta f^T, dc += delta, dL += delta eps^T, dG -= rho f f^T / 2, dh += rho f,
    dk -= rho / 2, and through them dV, dI, dp;   a residual ln p(y | z) - (p^T z - z^T I z / 2) adds rho times its
    slope in z to delta, and its gradients;   lambda_{t-1} = a f' + m^T dx, with the gradients of the transition
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST
from nwb_lrrnn.models.kernels.copies import add, add_rows, copy_rows
from nwb_lrrnn.models.kernels.observation import add_spread, slopes
from nwb_lrrnn.models.kernels.particle_filter import base_of, take
from nwb_lrrnn.models.kernels.particle_moves import move_adjoint, pad_rows, padded
from nwb_lrrnn.models.kernels.particle_readout import RATES, linear_adjoint, predict_rates, rates_adjoint
from nwb_lrrnn.models.kernels.particle_sites import bin_proposal, bin_proposal_adjoint
from nwb_lrrnn.models.kernels.particle_types import BEFORE, Array
from nwb_lrrnn.models.kernels.readout import predict


class Gradients(NamedTuple):
    """Sums within each of C chunks of trials, in float64; all zero on entry."""

    decay: Array  # (S, C)
    left: Array  # (S, C, R, N)
    right: Array  # (S, C, R, N)
    bias: Array  # (S, C, N)
    thresholds: Array  # (S, C, N)
    input_weights: Array  # (S, C, I, N)
    push: Array  # (S, B, T or 1, R)
    inputs: Array  # (S, B, T, I)
    start: Array  # (S, B, R)
    covariance: Array  # (S, C, P, R, R), or (S, 1, P, R, R) where no two trials share a row
    root: Array  # the same
    information: Array  # the same
    log_det: Array  # (S, C or 1, P)
    slope: Array  # (S, B, T, R)
    constant: Array  # (S, B, T)
    loadings: Array  # (S, C, R or 1, D)
    offset: Array  # (S, B, T or 1, D)
    spread: Array  # (S, C, D)


@njit(cache=True, nogil=True, error_model="numpy")
def _weights_adjoint(g, weights, resampled, carried, rho):
    """Fill rho (K,) = dL/d ln w of the unnormalised weights."""
    total = 0.0
    if not resampled:
        for k in range(len(weights)):
            total += carried[k]
    for k in range(len(weights)):
        rho[k] = g * weights[k]
        if not resampled:
            rho[k] += carried[k] - weights[k] * total


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(sources, ancestors, out):
    """Fill out (K, R) with the sum of `sources` over the offspring of each particle."""
    out[:] = 0.0
    for k in range(len(ancestors)):
        j = ancestors[k]
        for r in range(out.shape[1]):
            out[j, r] += sources[k, r]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _draw_adjoint(delta, f, gain, normals, dgain, dshift, droot, back):
    """Fill back (K, R) = F^T delta and add the gradients of F, c and L; f (K, R) are the particles' own."""
    rank = delta.shape[1]
    for k in range(delta.shape[0]):
        for r in range(rank):
            d = delta[k, r]
            total = 0.0
            dshift[r] += d
            for q in range(rank):
                total += gain[q, r] * delta[k, q]
                dgain[r, q] += d * float(f[k, q])
            for q in range(r + 1):
                droot[r, q] += d * float(normals[k, q])
            back[k, r] = total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _quadratic_adjoint(sign, rho, f, curvature, slope, dcurvature, dslope, back):
    """Add sign * rho times the gradients of f^T h - f^T G f / 2 in f, G and h, over particles; G is symmetric."""
    rank = f.shape[1]
    for k in range(f.shape[0]):
        w = sign * rho[k]
        for r in range(rank):
            scaled = w * float(f[k, r])
            total = slope[r]
            dslope[r] += scaled
            for q in range(rank):
                fq = float(f[k, q])
                total -= curvature[r, q] * fq
                dcurvature[r, q] -= 0.5 * scaled * fq
            back[k, r] += w * total


@njit(cache=True, nogil=True, error_model="numpy")
def run(
    first, last, chunks, code, kind, readout, bin_size, when, lengths, moves, proposal, seen, noise, record, g, out
):
    """Add the gradients of sum g (S, B, T) * increments to `out`, for jobs first..last of S * chunks.

    A chunk's trials are its index and every chunks-th after it.
    """
    n_trials, _, n_particles, rank = noise.normals.shape
    neurons, units = moves.bias.shape[1], seen.y.shape[2]
    kept, wide = moves.bias.dtype, padded(moves.left.shape[1])
    padded_z, padded_g, target = np.zeros(wide, kept), np.zeros(wide, kept), np.zeros(wide, kept)
    x, value, slope = np.empty(neurons, kept), np.empty(neurons, kept), np.empty(neurons, kept)
    base, dx, dbase = np.empty(neurons, kept), np.empty(neurons, kept), np.zeros(neurons, kept)
    eta, mean, relative = np.empty(units), np.empty(units), np.empty(units)
    pull, fisher = np.empty(units), np.empty(units)
    gain, curvature = np.empty((rank, rank)), np.empty((rank, rank))
    dgain, dcurvature = np.empty((rank, rank)), np.empty((rank, rank))
    shift, linear, dshift, dlinear = np.empty(rank), np.empty(rank), np.empty(rank), np.empty(rank)
    rho, carried = np.empty(n_particles), np.empty(n_particles)
    delta, back = np.empty((n_particles, rank)), np.empty((n_particles, rank))
    g_move, lam, dpush = np.empty((n_particles, rank), kept), np.empty((n_particles, rank), kept), np.empty(rank)
    z = np.empty((n_particles, rank), kept)
    dm, dn = np.zeros((wide, neurons), kept), np.zeros((wide, neurons), kept)
    dbias, dh = np.zeros(neurons, kept), np.zeros(neurons, kept)
    has_residual = units > 0
    driven = moves.input_weights.shape[1] > 0
    for job in range(first, last):
        s, c = job // chunks, job % chunks
        m, n, h = pad_rows(moves.left[s]), pad_rows(moves.right[s]), moves.thresholds[s]
        shared = c % out.covariance.shape[1]
        for b in range(c, n_trials, chunks):
            dm[:], dn[:], dbias[:], dh[:] = 0.0, 0.0, 0.0, 0.0
            lam[:], carried[:] = 0.0, 0.0
            for t in range(lengths[b] - 1, -1, -1):
                row, resampled = proposal.rows[b, t], record.resampled[s, b, t]
                ancestors, weights = record.ancestors[s, b, t], record.weights[s, b, t]
                drawn, moved = record.drawn[s, b, t], record.moved[s, b, t]
                p, information = proposal.slope[s, b, t], proposal.information[s, row]
                dp, dinformation = out.slope[s, b, t], out.information[s, shared, row]
                if resampled:
                    _gather(lam, ancestors, delta)
                else:
                    copy_rows(lam, delta)
                _weights_adjoint(g[s, b, t], weights, resampled, carried, rho)
                if has_residual:
                    offset = seen.offset[s, b % seen.offset.shape[1], t % seen.offset.shape[2]]
                    doffset = out.offset[s, b, t % out.offset.shape[2]]
                    y, mask, loadings, spread = seen.y[b, t], seen.mask[b, t], seen.loadings[s], seen.spread[s]
                    dloadings, dspread = out.loadings[s, c], out.spread[s, c]
                    if readout == RATES:
                        base_of(moves, s, b, t, base)
                        dbase[:] = 0.0
                    _quadratic_adjoint(-1.0, rho, drawn, information, p, dinformation, dp, delta)
                    for k in range(n_particles):
                        for r in range(rank):
                            padded_z[r] = drawn[k, r]
                        if readout == RATES:
                            predict_rates(code, padded_z, m, base, h, loadings[0], offset, x, value, slope, eta)
                        else:
                            predict(padded_z, loadings, offset, eta)
                        slopes(kind, bin_size, y, mask, eta, spread, mean, relative, pull, fisher)
                        add_spread(kind, rho[k], y, mask, eta, spread, mean, dspread)
                        if readout == RATES:
                            rates_adjoint(
                                code, rho[k], padded_z, m, h, loadings[0], x, value, slope, pull, dx, dm, dbase, dh,
                                dloadings[0], doffset, target, delta[k],
                            )  # fmt: skip
                        else:
                            linear_adjoint(rho[k], padded_z, pull, loadings, dloadings, doffset, delta[k])
                    if readout == RATES:
                        _flush_base(moves, s, b, t, c, dbase, dbias, out, driven)
                bin_proposal(proposal.covariance[s, row], information, p, gain, curvature, shift, linear)
                dgain[:], dcurvature[:], dshift[:], dlinear[:] = 0.0, 0.0, 0.0, 0.0
                if when == BEFORE:
                    take(moved, ancestors, z)
                else:
                    for k in range(n_particles):
                        for r in range(rank):
                            z[k, r] = moved[k, r]
                _draw_adjoint(delta, z, gain, noise.normals[b, t], dgain, dshift, out.root[s, shared, row], back)
                if when == BEFORE:
                    copy_rows(back, delta)
                    _gather(delta, ancestors, back)
                    for k in range(n_particles):
                        rho[k] = g[s, b, t] * record.first_weights[s, b, t, k]
                _quadratic_adjoint(1.0, rho, moved, curvature, linear, dcurvature, dlinear, back)
                total = 0.0
                for k in range(n_particles):
                    total += rho[k]
                    carried[k] = rho[k]
                out.constant[s, b, t] += total
                out.log_det[s, shared, row] -= 0.5 * total
                bin_proposal_adjoint(
                    proposal.covariance[s, row], information, p, gain, shift, dgain, dcurvature, dshift, dlinear,
                    -0.5 * total, out.covariance[s, shared, row], dinformation, dp,
                )  # fmt: skip
                if t == 0:
                    for k in range(n_particles):
                        add(back[k], out.start[s, b])
                    continue
                _particles_after(record, s, b, t - 1, z)
                for k in range(n_particles):
                    for r in range(rank):
                        g_move[k, r] = back[k, r]
                base_of(moves, s, b, t - 1, base)
                dpush[:] = 0.0
                if driven:
                    dbase[:] = 0.0
                out.decay[s, c] += move_adjoint(
                    code, z, g_move, moves.decay[s], m, n, base, h, padded_z, padded_g, target, x, value, slope, dx, dm,
                    dn, dbase if driven else dbias, dh, dpush, lam,
                )  # fmt: skip
                if driven:
                    _flush_base(moves, s, b, t - 1, c, dbase, dbias, out, driven)
                add(dpush, out.push[s, b, (t - 1) % out.push.shape[2]])
            add_rows(dm[:rank], out.left[s, c])
            add_rows(dn[:rank], out.right[s, c])
            add(dbias, out.bias[s, c])
            add(dh, out.thresholds[s, c])


@njit(cache=True, nogil=True, error_model="numpy")
def _particles_after(record, s, b, t, z):
    """Fill z (K, R) with the particles that leave bin t."""
    drawn, ancestors, resampled = record.drawn[s, b, t], record.ancestors[s, b, t], record.resampled[s, b, t]
    for k in range(len(z)):
        j = ancestors[k] if resampled else k
        for r in range(z.shape[1]):
            z[k, r] = drawn[j, r]


@njit(cache=True, nogil=True, error_model="numpy")
def _flush_base(moves, s, b, t, c, dbase, dbias, out, driven):
    """Hand the gradient of b + B v_t on to b, B and v_t."""
    for i in range(len(dbase)):
        dbias[i] += dbase[i]
    if not driven:
        return
    v = moves.inputs[s % moves.inputs.shape[0], b, t]
    for j in range(len(v)):
        weights, dweights, total = moves.input_weights[s, j], out.input_weights[s, c, j], 0.0
        for i in range(len(dbase)):
            dweights[i] += v[j] * dbase[i]
            total += weights[i] * dbase[i]
        out.inputs[s, b, t, j] += total
