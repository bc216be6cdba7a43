"""Trajectories of a low-rank network, their adjoint and their tangents, fused over time.

z_{t+1} = (1 - alpha) z_t + alpha [ n^T phi(m z_t + B v_t + b; h) / N + s + S u_t ]

Arrays carry a leading axis S of networks (restarts, side by side) and a second axis of windows; the neuron axis is
last, so that every inner loop runs over neurons in vector registers. Only latents are kept for the backward pass:
currents and rates are recomputed, so memory does not grow with N.
"""

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import CLIPPED_RELU, FAST, activate, dot


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _currents(x, z, v, m, weights, bias):
    """Fill x = m z + B v + b (neuron,)."""
    n = x.shape[0]
    for i in range(n):
        x[i] = bias[i]
    for r in range(z.shape[0]):
        c = z[r]
        row = m[r]
        for i in range(n):
            x[i] += c * row[i]
    for j in range(v.shape[0]):
        c = v[j]
        row = weights[j]
        for i in range(n):
            x[i] += c * row[i]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _forward_one(code, z, length, v, u, m, n, weights, bias, h, drive, latent_weights, a):
    neurons, rank = m.shape[1], m.shape[0]
    x, value, slope = np.empty(neurons), np.empty(neurons), np.empty(neurons)
    for t in range(length - 1):
        _currents(x, z[t], v[t], m, weights, bias)
        activate(code, x, h, value, slope)
        for r in range(rank):
            target = dot(n[r], value) / neurons + drive[r]
            for j in range(u.shape[1]):
                target += latent_weights[r, j] * u[t, j]
            z[t + 1, r] = (1.0 - a) * z[t, r] + a * target


@njit(cache=True, nogil=True, error_model="numpy")
def forward(first, last, code, z, lengths, v, u, m, n, weights, bias, thresholds, drive, latent_weights, alpha):
    """Fill latents z (S, window, T, R), whose first step is given, for jobs first..last of S * window.

    v (1 or S, window, T, I) and u (window, T, I); m, n (S, R, N); weights (S, I, N); bias, thresholds (S, N);
    drive (S, R); latent_weights (S, R, I); alpha (S,). Steps at and beyond a window's length are 0.
    """
    n_windows = z.shape[1]
    for job in range(first, last):
        s, w = job // n_windows, job % n_windows
        _forward_one(
            code, z[s, w], lengths[w], v[s % v.shape[0], w], u[w], m[s], n[s], weights[s], bias[s], thresholds[s],
            drive[s], latent_weights[s], alpha[s],
        )  # fmt: skip


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _adjoint_step(code, z, v, g, x, value, slope, m, n, weights, bias, h, dm, dn, dweights, dbias, dh, back, dv):
    """Accumulate the gradients of q = n^T phi(x) given g = dL/dq; fill back = dL/dz through x, dv = dL/dv."""
    neurons, rank = x.shape[0], z.shape[0]
    _currents(x, z, v, m, weights, bias)
    activate(code, x, h, value, slope)
    if code == CLIPPED_RELU:  # d phi / d h = 1 where x + h > 0
        for r in range(rank):
            for i in range(neurons):
                dh[i] += g[r] * n[r, i] * (1.0 if x[i] + h[i] > 0.0 else 0.0)
    dx = x  # x has served
    for i in range(neurons):
        dx[i] = 0.0
    for r in range(rank):
        c = g[r]
        row, drow = n[r], dn[r]
        for i in range(neurons):
            dx[i] += c * row[i]
            drow[i] += c * value[i]
    for i in range(neurons):
        dx[i] *= slope[i]
        dbias[i] += dx[i]
    for r in range(rank):
        c = z[r]
        drow = dm[r]
        for i in range(neurons):
            drow[i] += c * dx[i]
        back[r] = dot(m[r], dx)
    for j in range(v.shape[0]):
        c = v[j]
        drow = dweights[j]
        for i in range(neurons):
            drow[i] += c * dx[i]
        dv[j] = dot(weights[j], dx)


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _adjoint_one(
    code, z, grad, length, v, u, m, n, weights, bias, h, a, dm, dn, dweights, dbias, dh, ddrive, dlatent, dstart, dv
):
    """Accumulate the gradients of one window, return its share of d alpha."""
    neurons, rank = m.shape[1], m.shape[0]
    x, value, slope = np.empty(neurons), np.empty(neurons), np.empty(neurons)
    g, back, lam = np.empty(rank), np.empty(rank), np.empty(rank)
    dalpha = 0.0
    for r in range(rank):
        lam[r] = grad[length - 1, r]
    for t in range(length - 2, -1, -1):
        for r in range(rank):
            # d z_{t+1} / d alpha = target - z_t = (z_{t+1} - z_t) / alpha
            dalpha += lam[r] * (z[t + 1, r] - z[t, r]) / a
            ddrive[r] += a * lam[r]
            for j in range(u.shape[1]):
                dlatent[r, j] += a * lam[r] * u[t, j]
            g[r] = a * lam[r] / neurons
        _adjoint_step(
            code, z[t], v[t], g, x, value, slope, m, n, weights, bias, h, dm, dn, dweights, dbias, dh, back, dv[t]
        )
        for r in range(rank):
            lam[r] = grad[t, r] + (1.0 - a) * lam[r] + back[r]
    for r in range(rank):
        dstart[r] = lam[r]
    return dalpha


@njit(cache=True, nogil=True, error_model="numpy")
def adjoint(
    first, last, chunks, code, z, grad, lengths, v, u, m, n, weights, bias, thresholds, alpha,
    dm, dn, dweights, dbias, dh, ddrive, dlatent, dalpha, dstart, dv,
):  # fmt: skip
    """Fill the gradients of L with respect to everything, given grad = dL/dz (S, window, T, R).

    dstart (S, window, R) and dv (S, window, T, I) are set; dm, dn, dweights, dbias, dh, ddrive, dlatent and dalpha,
    shaped like the arguments with a chunk axis at 1, are added to. Jobs first..last are S * chunks; a chunk's windows
    are its index and every chunks-th after it.
    """
    n_windows = z.shape[1]
    for job in range(first, last):
        s, c = job // chunks, job % chunks
        for w in range(c, n_windows, chunks):
            dalpha[s, c] += _adjoint_one(
                code, z[s, w], grad[s, w], lengths[w], v[s % v.shape[0], w], u[w], m[s], n[s], weights[s], bias[s],
                thresholds[s], alpha[s], dm[s, c], dn[s, c], dweights[s, c], dbias[s, c], dh[s, c], ddrive[s, c],
                dlatent[s, c], dstart[s, w], dv[s, w],
            )  # fmt: skip


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _tangent_one(code, z, length, v, m, n, weights, bias, h, a, jacobians):
    neurons, rank = m.shape[1], m.shape[0]
    x, value, slope = np.empty(neurons), np.empty(neurons), np.empty(neurons)
    for t in range(length - 1):
        _currents(x, z[t], v[t], m, weights, bias)
        activate(code, x, h, value, slope)
        for r in range(rank):
            for i in range(neurons):
                value[i] = n[r, i] * slope[i]
            for q in range(rank):
                jacobians[t, r, q] = a / neurons * dot(value, m[q])
            jacobians[t, r, r] += 1.0 - a


@njit(cache=True, nogil=True, error_model="numpy")
def tangent(first, last, code, z, lengths, v, m, n, weights, bias, thresholds, alpha, jacobians):
    """Fill the Jacobians (S, window, T, R, R) of the step from t to t+1 along latents z, up to a window's last step."""
    n_windows = z.shape[1]
    for job in range(first, last):
        s, w = job // n_windows, job % n_windows
        _tangent_one(
            code, z[s, w], lengths[w], v[s % v.shape[0], w], m[s], n[s], weights[s], bias[s], thresholds[s], alpha[s],
            jacobians[s, w],
        )  # fmt: skip


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _congruence(a, h, scratch, out):
    """Fill out = a^T h a (R, R), h symmetric."""
    rank = a.shape[0]
    for i in range(rank):
        for j in range(rank):
            scratch[i, j] = 0.0
            for k in range(rank):
                scratch[i, j] += h[i, k] * a[k, j]
    for i in range(rank):
        for j in range(rank):
            out[i, j] = 0.0
            for k in range(rank):
                out[i, j] += a[k, i] * scratch[k, j]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _pull_back_one(jacobians, length, gradient, information, g, h, e):
    """Fill g (R,), h (R, R) and e (R, R) for one window."""
    rank = g.shape[0]
    g_next, scratch, h_next = np.zeros(rank), np.zeros((rank, rank)), np.zeros((rank, rank))
    for r in range(rank):
        e[r, r] = 1.0
    for t in range(length - 1, -1, -1):
        if t < length - 1:
            step = jacobians[t]
            _congruence(step, h, scratch, h_next)
            for i in range(rank):
                g_next[i] = 0.0
                for k in range(rank):
                    g_next[i] += step[k, i] * g[k]
                for j in range(rank):
                    h[i, j] = h_next[i, j]
                    scratch[i, j] = 0.0
                    for k in range(rank):
                        scratch[i, j] += e[i, k] * step[k, j]
            for i in range(rank):
                g[i] = g_next[i]
                for j in range(rank):
                    e[i, j] = scratch[i, j]
        for r in range(rank):
            g[r] += gradient[t, r]
            for q in range(rank):
                h[r, q] += information[t, r, q]


@njit(cache=True, nogil=True, error_model="numpy")
def pull_back(first, last, jacobians, lengths, gradient, information, total_g, total_h, to_last):
    """Fill what observations along a window say of its first latent, for jobs first..last of S * window.

    From gradient (S, window, T, R) and information (S, window, T, R, R) of each step's log-likelihood in z_t:
    their sums pulled back to the start, (S, window, R) and (S, window, R, R), and the Jacobian (S, window, R, R)
    of the window's last latent in its first. All three are zero on entry.
    """
    n_windows = gradient.shape[1]
    for job in range(first, last):
        s, w = job // n_windows, job % n_windows
        _pull_back_one(
            jacobians[s, w], lengths[w], gradient[s, w], information[s, w], total_g[s, w], total_h[s, w], to_last[s, w]
        )
