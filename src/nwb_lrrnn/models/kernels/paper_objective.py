"""One epoch of a variational autoencoder with groups of latents: the loss, its hand-written gradient, and AdamW.

A restart is a job. Its parameters are one flat vector; `models.dis.paper.objective` has the same loss in torch, and
says what it means. The pairs of the partial correlation are most of the work: all loops over them run along
contiguous rows. All is inlined into `epoch`, so that its bits do not depend on what else a process has compiled or
loaded (see `group_density`).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST, dot
from nwb_lrrnn.models.kernels.copies import copy

Array = Any

LOSS, LOG_LIKELIHOOD, KL, PARTIAL_CORRELATION, BLOCK_DIAGONAL, N_TERMS = range(6)

_FURTHEST = 352.0  # nats; exp(-352) is 1e-153, so that the product of two of them is still a number


class Sizes(NamedTuple):
    """How many of what; no hidden units: a linear encoder."""

    features: int
    units: int
    rank: int
    hidden: int


class Weights(NamedTuple):
    """What the terms of the loss weigh."""

    sd: float  # of the posterior
    penalty: float  # of the partial correlation; 0: it is not computed
    block_penalty: float
    own: float  # 1, or 0 where a latent's own kernel is left out of the densities
    total: float  # of pairs, N_tot


@njit(inline="always", fastmath=FAST, error_model="numpy")
def exp_negative(y):
    """Return exp(y) for -352 <= y <= 0, to a relative error of 1e-12 above -100: a Taylor polynomial, squared."""
    u = y * 0.0009765625
    p = 1.0 + u * (
        1.0
        + u * (0.5 + u * (1.0 / 6 + u * (1.0 / 24 + u * (1.0 / 120 + u * (1.0 / 720 + u * (1.0 / 5040 + u / 40320))))))
    )
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p * p


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _kernel(z, means, begin, end, exponent, left_out, e, joint):
    """Fill e (B,) with a group's kernels and return their sum; multiply joint (B,) by them.

    Where one is left out, all are divided by the largest of the others; in the difference of the joint density and
    those of the groups, these factors cancel.
    """
    n = e.shape[0]
    e[:] = 0.0
    for k in range(begin, end):
        zk, row = z[k], means[k]
        for b in range(n):
            d = zk - row[b]
            e[b] += d * d
    nearest = 0.0
    if left_out >= 0:  # no other is sure to be near: measured from the nearest, so that the sum never vanishes
        e[left_out] = np.inf
        nearest = np.inf
        for b in range(n):
            nearest = min(nearest, e[b])
        nearest = nearest if nearest < np.inf else 0.0
    total = 0.0
    for b in range(n):
        v = exp_negative(-min((e[b] - nearest) * exponent, _FURTHEST))
        e[b] = v
        joint[b] *= v
        total += v
    if left_out >= 0:
        total -= e[left_out]
        e[left_out] = 0.0
        joint[left_out] = 0.0
    return total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _pull(z, means, coefficient, begin, end, dz, dmeans):
    """Add to dz (rank,) and dmeans (rank, B) the gradient of sum_b coefficient_b |z - mean_b|^2 / -2."""
    for k in range(begin, end):
        zk, row, out, total = z[k], means[k], dmeans[k], 0.0
        for b in range(coefficient.shape[0]):
            t = coefficient[b] * (zk - row[b])
            total += t
            out[b] += t
        dz[k] -= total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _coefficients(joint, e, joint_scale, scale, coefficient):
    for b in range(coefficient.shape[0]):
        coefficient[b] = joint_scale * joint[b] - scale * e[b]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _sum(values):
    total = 0.0
    for b in range(values.shape[0]):
        total += values[b]
    return total


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def partial_correlation(z, means, edges, sd, own, total, penalty, dz, dmeans):
    """Return the partial correlation of z (B, rank) with posterior means (rank, B).

    Adds its gradient times `penalty` to dz (B, rank) and dmeans (rank, B). `edges` (G + 1,) are where groups begin.
    """
    n, groups = z.shape[0], len(edges) - 1
    other = (total - 1.0) / (n - 1) if n > 1 else 0.0
    log_total = math.log(total - 1.0 + own)
    exponent = 0.5 / (sd * sd)
    e, joint, coefficient = np.empty((groups, n)), np.empty(n), np.empty(n)
    sums = np.empty(groups)
    value = 0.0
    for m in range(n):
        joint[:] = 1.0
        left_out = m if own == 0.0 else -1
        for g in range(groups):
            summed = _kernel(z[m], means, edges[g], edges[g + 1], exponent, left_out, e[g], joint)
            sums[g] = other * summed + (own - other) * e[g, m]
            value -= math.log(sums[g])
        joined = max(other * _sum(joint) + (own - other) * joint[m], 1e-300)
        value += math.log(joined) + (groups - 1) * log_total
        scale = penalty / (n * sd * sd)
        for g in range(groups):
            _coefficients(joint, e[g], scale * other / joined, scale * other / sums[g], coefficient)
            coefficient[m] = scale * own * (joint[m] / joined - e[g, m] / sums[g])
            _pull(z[m], means, coefficient, edges[g], edges[g + 1], dz[m], dmeans)
    return value / n


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _subtract(y, residual):
    """Turn residual (B, unit), which holds what is predicted, into y less that."""
    for b in range(y.shape[0]):
        for i in range(y.shape[1]):
            residual[b, i] = y[b, i] - residual[b, i]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _gaussian(residual, log_sd, dmean, dlog_sd):
    """Return the mean log-density of residuals (B, unit), which become the loss's gradient in the predicted means.

    dmean and dlog_sd (unit,) become its gradients in a mean and log sd that all pairs share.
    """
    n, units = residual.shape
    precision = np.empty(units)
    for i in range(units):
        precision[i] = math.exp(-2.0 * log_sd[i]) / n
    dmean[:] = 0.0
    dlog_sd[:] = 1.0
    for b in range(n):
        row = residual[b]
        for i in range(units):
            pull = row[i] * precision[i]
            dlog_sd[i] -= row[i] * pull
            dmean[i] -= pull
            row[i] = -pull
    value = -0.5 * math.log(2 * math.pi) * units
    for i in range(units):
        value -= log_sd[i] + 0.5 * (1.0 - dlog_sd[i])
    return value


# Products by loops: np.dot would save a tenth of a step and take twice as long to compile.


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _affine(x, weights, bias, out):
    """Fill out (B, i) = x weights^T + bias."""
    for b in range(x.shape[0]):
        for i in range(weights.shape[0]):
            out[b, i] = bias[i] + dot(x[b], weights[i])


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _times(x, weights, out):
    """Fill out (B, j) = x weights."""
    out[:] = 0.0
    for b in range(x.shape[0]):
        for i in range(weights.shape[0]):
            factor, row, total = x[b, i], weights[i], out[b]
            for j in range(row.shape[0]):
                total[j] += factor * row[j]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _outer(left, right, out):
    """Fill out (i, j) = left^T right."""
    out[:] = 0.0
    for b in range(left.shape[0]):
        for i in range(left.shape[1]):
            factor, row, total = left[b, i], right[b], out[i]
            for j in range(row.shape[0]):
                total[j] += factor * row[j]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _rectify(x, like):
    """Set x to 0 where `like`, of the same shape, is not above 0."""
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            x[b, i] = x[b, i] if not like[b, i] <= 0.0 else 0.0  # NaN stays


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _sum_rows(x, total):
    total[:] = 0.0
    for b in range(x.shape[0]):
        for i in range(x.shape[1]):
            total[i] += x[b, i]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _sample(mean, noise, sd, z, rows, drows):
    """Fill z = mean + sd * noise (B, rank), and (rank, B) the means and the KL's gradient; return the mean square."""
    n, squares = mean.shape[0], 0.0
    for b in range(n):
        for k in range(mean.shape[1]):
            m = mean[b, k]
            z[b, k] = m + sd * noise[b, k]
            rows[k, b] = m
            drows[k, b] = m / n
            squares += m * m
    return squares / n


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def _add_transposed(x, rows):
    for b in range(x.shape[0]):
        for k in range(x.shape[1]):
            x[b, k] += rows[k, b]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def loss_and_gradient(flat, sizes, weights, edges, u, y, noise, grad, terms):
    """Fill grad (as flat) and terms (N_TERMS,) for a batch u (B, feature), y (B, unit), noise (B, rank)."""
    n, rank, units, hidden = u.shape[0], sizes.rank, sizes.units, sizes.hidden
    inner = hidden if hidden else sizes.features
    at_encoder = hidden * (sizes.features + 1)
    at_output = at_encoder + rank * inner
    at_decoder = at_output + rank
    at_offset = at_decoder + units * rank
    at_log_sd = at_offset + units
    first = flat[: hidden * sizes.features].reshape(hidden, sizes.features)
    encoder = flat[at_encoder:at_output].reshape(rank, inner)
    decoder = flat[at_decoder:at_offset].reshape(units, rank)
    dfirst = grad[: hidden * sizes.features].reshape(hidden, sizes.features)
    dencoder = grad[at_encoder:at_output].reshape(rank, inner)
    ddecoder = grad[at_decoder:at_offset].reshape(units, rank)

    x = u
    if hidden:
        x = np.empty((n, hidden))
        _affine(u, first, flat[hidden * sizes.features : at_encoder], x)
        _rectify(x, x)
    mean, z, dz = np.empty((n, rank)), np.empty((n, rank)), np.empty((n, rank))
    rows, drows, residual = np.empty((rank, n)), np.empty((rank, n)), np.empty((n, units))
    _affine(x, encoder, flat[at_output:at_decoder], mean)
    kl = _sample(mean, noise, weights.sd, z, rows, drows) + rank * (weights.sd**2 - 1.0 - 2 * math.log(weights.sd))
    kl *= 0.5
    _affine(z, decoder, flat[at_offset:at_log_sd], residual)
    _subtract(y, residual)
    log_likelihood = _gaussian(residual, flat[at_log_sd:], grad[at_offset:at_log_sd], grad[at_log_sd:])
    _outer(residual, z, ddecoder)
    _times(residual, decoder, dz)

    correlation = block = 0.0
    if len(edges) > 2 and weights.penalty != 0.0:
        correlation = partial_correlation(
            z, rows, edges, weights.sd, weights.own, weights.total, weights.penalty, dz, drows
        )
    _add_transposed(dz, drows)  # the mean has the gradient of the sample, and one of its own
    _outer(dz, x, dencoder)
    _sum_rows(dz, grad[at_output:at_decoder])
    if weights.block_penalty != 0.0:
        block = _block_diagonal(encoder, decoder, edges, weights.block_penalty, dencoder, ddecoder)
    if hidden:
        dx = np.empty((n, hidden))
        _times(dz, encoder, dx)
        _rectify(dx, x)
        _outer(dx, u, dfirst)
        _sum_rows(dx, grad[hidden * sizes.features : at_encoder])

    terms[LOG_LIKELIHOOD], terms[KL], terms[PARTIAL_CORRELATION] = log_likelihood, kl, correlation
    terms[BLOCK_DIAGONAL] = block
    terms[LOSS] = kl - log_likelihood + weights.penalty * correlation + weights.block_penalty * block


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _block_diagonal(encoder, decoder, edges, penalty, dencoder, ddecoder):
    """Return the mean square of B A outside its blocks, add its gradient times `penalty`."""
    rank, value = encoder.shape[0], 0.0
    for g in range(len(edges) - 1):
        for i in range(edges[g], edges[g + 1]):
            for j in range(rank):
                if edges[g] <= j < edges[g + 1]:
                    continue
                entry = 0.0
                for n in range(encoder.shape[1]):
                    entry += encoder[i, n] * decoder[n, j]
                value += entry * entry / rank**2
                change = 2.0 * penalty * entry / rank**2
                for n in range(encoder.shape[1]):
                    dencoder[i, n] += change * decoder[n, j]
                    ddecoder[n, j] += change * encoder[i, n]
    return value


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy", forceinline=True)
def adamw(flat, grad, first, second, count, rate, decay):
    """Move flat (P,) by one step of AdamW, the count-th; first and second are its moments."""
    step, correction = rate / (1.0 - 0.9**count), 1.0 / math.sqrt(1.0 - 0.999**count)
    for i in range(flat.shape[0]):
        first[i] += 0.1 * (grad[i] - first[i])
        second[i] += 0.001 * (grad[i] * grad[i] - second[i])
        flat[i] -= rate * decay * flat[i] + step * first[i] / (math.sqrt(second[i]) * correction + 1e-8)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _take(values, rows, out):
    for b in range(len(rows)):
        row = values[rows[b]]
        for i in range(out.shape[1]):
            out[b, i] = row[i]


@njit(cache=True, nogil=True, error_model="numpy")
def epoch(
    begin, end, sizes, weights, edges, u, y, order, noise, batch, count, rates, decay, flat, good, first, second,
    running, sums,
):  # fmt: skip
    """Train restarts begin..end of S for an epoch.

    Parameters
    ----------
    order, noise : arrays (S, pair), (S, pair, rank)
        The pairs' order, and each one's noise.
    batch, count : int
        Pairs of a batch; steps made before.
    rates : array (step,)
    flat, good, first, second : arrays (S, P)
        Parameters, the last ones whose loss was finite, and the moments: all of them in and out.
    running : array (S,)
        Whether a restart goes on; False from the first loss or gradient that is not finite, out.
    sums : array (S, N_TERMS)
        The terms' means over the pairs, out.
    """
    n = order.shape[1]
    grad, terms = np.empty(flat.shape[1]), np.empty(N_TERMS)
    for s in range(begin, end):
        sums[s] = 0.0
        for step in range(len(rates)):
            if not running[s]:
                break
            rows = order[s, step * batch : min((step + 1) * batch, n)]
            drawn = noise[s, step * batch : step * batch + len(rows)]
            features, targets = np.empty((len(rows), sizes.features)), np.empty((len(rows), sizes.units))
            _take(u, rows, features)
            _take(y, rows, targets)
            loss_and_gradient(flat[s], sizes, weights, edges, features, targets, drawn, grad, terms)
            if not (math.isfinite(terms[LOSS]) and math.isfinite(_sum(grad))):
                running[s] = False
                copy(good[s], flat[s])
                break
            for term in range(N_TERMS):
                sums[s, term] += terms[term] * len(rows) / n
            copy(flat[s], good[s])
            adamw(flat[s], grad, first[s], second[s], count + step + 1, rates[step], decay)
