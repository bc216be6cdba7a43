"""What one bin's observations say of the latents, as a Gaussian in R dimensions, and the proposal it makes.

ln p(y | z) is replaced by p^T z - z^T I z / 2, its expansion (with Fisher's information I) at the mode m of the
particles' own Gaussian prediction N(c, P) times p(y | z). The proposal of a particle with transition f is then
N(V (Sigma^-1 f + p), V), V = (Sigma^-1 + I)^-1, whatever the observations are.

p = I m + P^-1 (m - c): at the mode that is I m and the slope of ln p(y | m). Where the steps end before it, and where a
link leaves a steep slope without curvature, it still makes a proposal about m, and the slope would not.
"""

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.copies import copy_rows
from nwb_lrrnn.models.kernels.kalman import backward_solve, cholesky, forward_solve
from nwb_lrrnn.models.kernels.observation import log_density, slopes
from nwb_lrrnn.models.kernels.particle_readout import RATES, predict_rates
from nwb_lrrnn.models.kernels.readout import predict

_SHORTER = 6  # a step that loses is cut to a quarter, so often at most, and then not made
_AT_MODE = 1e-5  # nats that a step promises: fewer are rounding where rates are of float32, and steps would wander


@njit(cache=True, nogil=True, error_model="numpy")
def inverse(a, out, root):
    """Fill out = a^-1 of a symmetric positive matrix; return ln|a|."""
    cholesky(a, root)
    out[:] = 0.0
    log_det = 0.0
    for r in range(len(a)):
        out[r, r] = 1.0
        log_det += 2.0 * math.log(root[r, r])
    forward_solve(root, out)
    backward_solve(root, out)
    return log_det


@njit(cache=True, nogil=True, error_model="numpy")
def bin_proposal(covariance, information, p, gain, curvature, c, h):
    """Fill F, G (R, R), c and h (R,) of one bin from V, I and p; return p^T c."""
    rank = len(p)
    total = 0.0
    for r in range(rank):
        c[r] = 0.0
        for q in range(rank):
            c[r] += covariance[r, q] * p[q]
            gain[r, q] = 1.0 if r == q else 0.0
            for i in range(rank):
                gain[r, q] -= covariance[r, i] * information[i, q]
        total += p[r] * c[r]
    for r in range(rank):
        h[r] = p[r]
        for q in range(rank):
            h[r] -= information[r, q] * c[q]
            curvature[r, q] = 0.0
            for i in range(rank):
                curvature[r, q] += information[r, i] * gain[i, q]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def bin_proposal_adjoint(
    covariance, information, p, gain, c, dgain, dcurvature, dc, dh, dk, dcovariance, dinformation, dp
):  # fmt: skip
    """Add the gradients in V, I and p given those in F, G, c, h and k of one bin; overwrites dgain and dc."""
    rank = len(p)
    for r in range(rank):  # G = I F, h = p - I c, k = ... - p^T c
        dp[r] += dh[r] - dk * c[r]
        dc[r] -= dk * p[r]
        for q in range(rank):
            dc[r] -= information[q, r] * dh[q]
            dinformation[r, q] -= dh[r] * c[q]
            for i in range(rank):
                dinformation[r, q] += dcurvature[r, i] * gain[q, i]
                dgain[r, q] += information[i, r] * dcurvature[i, q]
    for r in range(rank):  # F = 1 - V I, c = V p
        for q in range(rank):
            dcovariance[r, q] += dc[r] * p[q]
            dp[r] += covariance[q, r] * dc[q]
            for i in range(rank):
                dcovariance[r, q] -= dgain[r, i] * information[q, i]
                dinformation[r, q] -= covariance[i, r] * dgain[i, q]


@njit(cache=True, nogil=True, error_model="numpy")
def _expand(
    code, kind, readout, bin_size, z, y, mask, loadings, offset, spread, m, base, h, padded_z, x, value, slope, eta,
    mean, relative, pull, fisher, effective, gradient, information,
):  # fmt: skip
    """Fill gradient (R,) and information (R, R) of ln p(y | z) in z."""
    rank, units = len(z), len(y)
    if readout == RATES:
        for r in range(rank):
            padded_z[r] = z[r]
        predict_rates(code, padded_z, m, base, h, loadings[0], offset, x, value, slope, eta)
        for r in range(rank):
            for d in range(units):
                effective[r, d] = loadings[0, d] * slope[d] * m[r, d]
    else:
        predict(z, loadings, offset, eta)
        copy_rows(loadings, effective)
    slopes(kind, bin_size, y, mask, eta, spread, mean, relative, pull, fisher)
    for r in range(rank):
        gradient[r] = 0.0
        for d in range(units):
            gradient[r] += effective[r, d] * pull[d]
        for q in range(r + 1):
            total = 0.0
            for d in range(units):
                total += effective[r, d] * fisher[d] * effective[q, d]
            information[r, q] = total
            information[q, r] = total


@njit(cache=True, nogil=True, error_model="numpy")
def _value(
    code, kind, readout, bin_size, z, y, mask, loadings, offset, spread, m, base, h, padded_z, x, value, slope, eta,
    mean, relative,
):  # fmt: skip
    """Return ln p(y | z), up to terms of y alone."""
    if readout == RATES:
        for r in range(len(z)):
            padded_z[r] = z[r]
        predict_rates(code, padded_z, m, base, h, loadings[0], offset, x, value, slope, eta)
    else:
        predict(z, loadings, offset, eta)
    return log_density(kind, bin_size, y, mask, eta, spread, mean, relative)


@njit(cache=True, nogil=True, error_model="numpy")
def prediction(f, log_weights, covariance, centre, spread):
    """Fill the mean (R,) and covariance (R, R) of the particles' prediction, noise included."""
    centre[:] = 0.0
    for k in range(len(f)):
        w = math.exp(log_weights[k])
        for r in range(len(centre)):
            centre[r] += w * f[k, r]
    copy_rows(covariance, spread)
    for k in range(len(f)):
        w = math.exp(log_weights[k])
        for r in range(len(centre)):
            for q in range(len(centre)):
                spread[r, q] += w * (f[k, r] - centre[r]) * (f[k, q] - centre[q])


@njit(cache=True, nogil=True, error_model="numpy")
def site_of(
    code, kind, readout, bin_size, n_newton, f, log_weights, covariance, y, mask, loadings, offset, spread, m, base, h,
    padded_z, x, value, slope, eta, mean, relative, pull, fisher, effective, p, information, posterior, root,
):  # fmt: skip
    """Fill the site (p, I) of one bin, V and L; return ln|Sigma| + ln|V^-1|."""
    rank = len(p)
    centre, predicted = np.empty(rank), np.empty((rank, rank))
    prediction(f, log_weights, covariance, centre, predicted)
    precision, work, hessian = np.empty((rank, rank)), np.empty((rank, rank)), np.empty((rank, rank))
    inverse(predicted, precision, work)
    z, trial, gradient, step = centre.copy(), np.empty(rank), np.empty(rank), np.empty((rank, 1))
    for iteration in range(n_newton + 1):
        _expand(
            code, kind, readout, bin_size, z, y, mask, loadings, offset, spread, m, base, h, padded_z, x, value, slope,
            eta, mean, relative, pull, fisher, effective, gradient, information,
        )  # fmt: skip
        if iteration == n_newton:
            break
        before = log_density(kind, bin_size, y, mask, eta, spread, mean, relative) - _distance(z, centre, precision)
        for r in range(rank):
            step[r, 0] = gradient[r]
            for q in range(rank):
                step[r, 0] -= precision[r, q] * (z[q] - centre[q])
                hessian[r, q] = precision[r, q] + information[r, q]
        cholesky(hessian, work)
        forward_solve(work, step)
        promise = 0.0
        for r in range(rank):
            promise += 0.5 * step[r, 0] ** 2
        if promise < _AT_MODE:
            break
        backward_solve(work, step)
        factor, gains = 1.0, False
        for _ in range(_SHORTER):
            for r in range(rank):
                trial[r] = z[r] + factor * step[r, 0]
            after = _value(
                code, kind, readout, bin_size, trial, y, mask, loadings, offset, spread, m, base, h, padded_z, x, value,
                slope, eta, mean, relative,
            ) - _distance(trial, centre, precision)  # fmt: skip
            gains = after >= before - 1e-12 * (1.0 + abs(before))  # rounding must not decide at the mode
            if gains:
                break
            factor *= 0.25
        if gains:
            for r in range(rank):
                z[r] += factor * step[r, 0]
    for r in range(rank):
        p[r] = 0.0
        for q in range(rank):
            p[r] += information[r, q] * z[q] + precision[r, q] * (z[q] - centre[q])
    log_det = inverse(covariance, precision, work)
    copy_rows(precision + information, hessian)
    log_det += inverse(hessian, posterior, work)
    cholesky(posterior, root)
    return log_det


@njit(cache=True, nogil=True, error_model="numpy")
def _distance(z, centre, precision):
    total = 0.0
    for r in range(len(z)):
        for q in range(len(z)):
            total += 0.5 * (z[r] - centre[r]) * precision[r, q] * (z[q] - centre[q])
    return total
