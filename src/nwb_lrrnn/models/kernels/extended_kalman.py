"""Extended Kalman filter and Rauch-Tung-Striebel smoother of a low-rank network, fused over the bins of a trial.

The network moves the filtered mean as it is and the filtered covariance by its Jacobian there, which is exact. A bin
of Gaussian values conditions as in `kalman`; one of counts is expanded at its mode, and its evidence and moments are
then integrated about it at given nodes. Trials are independent: nothing is summed across them here.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels import observation
from nwb_lrrnn.models.kernels.activations import FAST, activate, dot
from nwb_lrrnn.models.kernels.copies import copy, copy_rows
from nwb_lrrnn.models.kernels.kalman import (
    backward_solve,
    cholesky,
    condition,
    forward_solve,
    multiply,
    multiply_transposed,
)
from nwb_lrrnn.models.kernels.laplace import white_mode
from nwb_lrrnn.models.kernels.readout import predict

_NEWTON_STEPS = 50
_TOL = 1e-8  # of a mode, in standard deviations of what the bins before say


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def move(code, network, push, v, z, x, value, slope, mean, jacobian):
    """Fill where the network goes from z (R,), and its Jacobian there; x, value, slope (N,) are room to work."""
    rank, neurons = network.left.shape
    for i in range(neurons):
        x[i] = network.bias[i]
    for r in range(rank):
        row = network.left[r]
        for i in range(neurons):
            x[i] += z[r] * row[i]
    for k in range(v.shape[0]):
        row = network.input_weights[k]
        for i in range(neurons):
            x[i] += v[k] * row[i]
    activate(code, x, network.thresholds, value, slope)
    for r in range(rank):
        row = network.right[r]
        mean[r] = network.decay * z[r] + push[r] + dot(row, value)
        for i in range(neurons):
            x[i] = row[i] * slope[i]
        for s in range(rank):
            jacobian[r, s] = dot(x, network.left[s])
        jacobian[r, r] += network.decay


@njit(cache=True, nogil=True)
def _expand_gaussian(y, seen, readout, offset, mean, slope, information):
    """Fill slope (R,) and information (R, R) of ln p(y | z) at a mean, and return the sum of squares over variances."""
    rank = len(mean)
    slope[:] = 0.0
    information[:] = 0.0
    power = 0.0
    for i in range(len(y)):
        if not seen[i]:
            continue
        error = y[i] - offset[i]
        for r in range(rank):
            error -= readout.loadings[i, r] * mean[r]
        scaled = error / readout.spread[i]
        power += error * scaled
        for r in range(rank):
            slope[r] += readout.loadings[i, r] * scaled
            weight = readout.loadings[i, r] / readout.spread[i]
            for s in range(r + 1):
                information[r, s] += weight * readout.loadings[i, s]
    for r in range(rank):
        for s in range(r):
            information[s, r] = information[r, s]
    return power


@njit(cache=True, nogil=True)
def _see_values(y, seen, readout, offset, mean, lower, slope, information, work, after, covariance):
    """Fill mean and covariance given Gaussian values, the prior being N(mean, L L^T); return ln p of the values."""
    power = _expand_gaussian(y, seen, readout, offset, mean, slope, information)
    log_det = condition(lower, information, work, covariance)
    for r in range(len(mean)):
        shift = 0.0
        for s in range(len(mean)):
            shift += covariance[r, s] * slope[s]
        after[r] = mean[r] + shift
        power -= slope[r] * shift
    return -0.5 * (power + log_det)


@njit(cache=True, nogil=True)
def _integrate(kind, y, mask, white, eta, readout, mode, root, rule, points, masses, room):
    """Fill points (node, R) about a mode, whose precision is root root^T, with their share of the posterior.

    Returns ln of the integral of p(y | eta + white^T x) N(x; 0, I): importance sampling at fixed nodes.
    """
    nodes, weights = rule
    rank = len(mode)
    step, at, mean, relative = room
    top = -np.inf
    for k in range(len(nodes)):
        size = 0.0
        for r in range(rank):
            step[r, 0] = nodes[k, r]
            size += nodes[k, r] * nodes[k, r]
        backward_solve(root, step)
        for r in range(rank):
            points[k, r] = mode[r] + step[r, 0]
            size -= points[k, r] * points[k, r]
        predict(points[k], white, eta, at)
        value = observation.log_density(kind, readout.time, y, mask, at, readout.spread, mean, relative)
        masses[k] = value + 0.5 * size
        top = max(top, masses[k])
    total = 0.0
    for k in range(len(nodes)):
        masses[k] = weights[k] * math.exp(masses[k] - top)
        total += masses[k]
    for k in range(len(nodes)):
        masses[k] /= total
    value = top + math.log(total)
    for r in range(rank):
        value -= math.log(root[r, r])
    return value


@njit(cache=True, nogil=True)
def _see_counts(kind, y, seen, readout, offset, mean, lower, rule, room, after, covariance):
    """Fill mean and covariance given counts, the prior being N(mean, L L^T); return ln p with its terms of y ln time.

    The prior is whitened, z = mean + L x: exact for singular covariances too.
    """
    rank = len(mean)
    white, turned, eta, mask, x, slope, precision, root, points, masses, more = room
    multiply(readout.loadings, lower, white)
    all_seen = True
    for i in range(len(y)):
        eta[i] = offset[i]
        mask[i] = 1.0 if seen[i] else 0.0
        all_seen &= seen[i]
        for r in range(rank):
            eta[i] += readout.loadings[i, r] * mean[r]
            turned[r, i] = white[i, r]
    x[:] = 0.0
    time, spread = readout.time, readout.spread
    white_mode(kind, y, seen, white, eta, time, spread, x, slope, precision, root, _NEWTON_STEPS, _TOL)
    of_mask = mask[:1] if all_seen else mask
    value = _integrate(kind, y, of_mask, turned, eta, readout, x, root, rule, points, masses, more)
    for r in range(rank):
        x[r] = 0.0
        for k in range(len(masses)):
            x[r] += masses[k] * points[k, r]
    for r in range(rank):
        for s in range(rank):
            precision[r, s] = 0.0
            for k in range(len(masses)):
                precision[r, s] += masses[k] * (points[k, r] - x[r]) * (points[k, s] - x[s])
    multiply(lower, precision, root)
    multiply_transposed(root, lower, covariance)
    for r in range(rank):
        after[r] = mean[r]
        for s in range(rank):
            after[r] += lower[r, s] * x[s]
    return value


@njit(cache=True, nogil=True)
def _go_back(length, jacobians, noise, before, filtered_covariances, posterior, k):
    """Fill smoothed means and covariances of trial k backwards (Rauch, Tung & Striebel 1965)."""
    rank = noise.shape[0]
    lower, gain, step = np.empty((rank, rank)), np.empty((rank, rank)), np.empty((rank, rank))
    left, right = np.empty((rank, rank)), np.empty((rank, rank))
    smoothed, covariances = posterior.smoothed[k], posterior.covariances[k]
    copy(posterior.filtered[k, length - 1], smoothed[length - 1])
    copy_rows(filtered_covariances[length - 1], covariances[length - 1])
    for t in range(length - 2, -1, -1):
        multiply(jacobians[t], filtered_covariances[t], step)
        cholesky(before[t + 1], lower)
        forward_solve(lower, step)
        backward_solve(lower, step)
        for r in range(rank):
            for s in range(rank):
                gain[r, s] = step[s, r]
        for r in range(rank):
            smoothed[t, r] = posterior.filtered[k, t, r]
            for s in range(rank):
                smoothed[t, r] += gain[r, s] * (smoothed[t + 1, s] - posterior.predicted[k, t + 1, s])
        multiply(gain, jacobians[t], step)
        for r in range(rank):
            for s in range(rank):
                step[r, s] = (1.0 if r == s else 0.0) - step[r, s]
        multiply(step, filtered_covariances[t], left)
        multiply_transposed(left, step, right)
        for r in range(rank):
            for s in range(rank):
                step[r, s] = covariances[t + 1, r, s] + noise[r, s]
        multiply(gain, step, left)
        multiply_transposed(left, gain, step)
        for r in range(rank):
            for s in range(rank):
                covariances[t, r, s] = 0.5 * (right[r, s] + right[s, r] + step[r, s] + step[s, r])
        multiply_transposed(covariances[t + 1], gain, posterior.cross[k, t])


@njit(cache=True, nogil=True)
def run(code, kind, is_gaussian, network, law, readout, rule, lengths, posterior, goes_back, first, last):
    """Fill the posterior of trials first ... last; `rule` holds nodes (node, R) and weights (node,) of N(0, I)."""
    n_steps, units = readout.values.shape[1], readout.values.shape[2]
    rank, neurons = network.left.shape
    x, value, slopes = np.empty(neurons), np.empty(neurons), np.empty(neurons)
    lower, work, step = np.empty((rank, rank)), np.empty((rank, rank)), np.empty((rank, rank))
    slope, information = np.empty(rank), np.empty((rank, rank))
    n_nodes = len(rule[1])
    more = np.empty((rank, 1)), np.empty(units), np.empty(units), np.empty(units)
    room = (
        np.empty((units, rank)), np.empty((rank, units)), np.empty(units), np.empty(units), np.empty(rank),
        np.empty((rank, 1)), np.empty((rank, rank)), np.empty((rank, rank)), np.empty((n_nodes, rank)),
        np.empty(n_nodes), more,
    )  # fmt: skip
    before, jacobians = np.zeros((n_steps, rank, rank)), np.zeros((n_steps, rank, rank))
    after = np.zeros((n_steps, rank, rank))
    for k in range(first, last):
        push = network.push[k % network.push.shape[0]]
        inputs = network.inputs[k % network.inputs.shape[0]]
        offsets = readout.offsets[k % readout.offsets.shape[0]]
        for t in range(lengths[k]):
            mean = posterior.predicted[k, t]
            if t == 0:
                copy(law.initial[k], mean)
                copy_rows(law.initial_covariance, before[t])
            else:
                u, v = push[(t - 1) % push.shape[0]], inputs[(t - 1) % inputs.shape[0]]
                move(code, network, u, v, posterior.filtered[k, t - 1], x, value, slopes, mean, jacobians[t - 1])
                multiply(jacobians[t - 1], after[t - 1], step)
                multiply_transposed(step, jacobians[t - 1], work)
                for r in range(rank):
                    for s in range(rank):
                        before[t, r, s] = 0.5 * (work[r, s] + work[s, r]) + law.noise[r, s]
            cholesky(before[t], lower)
            y, seen, offset = readout.values[k, t], readout.seen[k, t], offsets[t % offsets.shape[0]]
            if is_gaussian or not seen.any():
                posterior.increments[k, t] = _see_values(
                    y, seen, readout, offset, mean, lower, slope, information, work, posterior.filtered[k, t], after[t]
                )  # fmt: skip
            else:
                posterior.increments[k, t] = _see_counts(
                    kind, y, seen, readout, offset, mean, lower, rule, room, posterior.filtered[k, t], after[t]
                )
            copy_rows(after[t], posterior.covariances[k, t])
        if goes_back and lengths[k]:
            _go_back(lengths[k], jacobians, law.noise, before, after, posterior, k)
