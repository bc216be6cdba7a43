"""The transition of many particles, and its adjoint, fused over neurons.

f_k = a z_k + n^T phi(m z_k + base; h) + push, with n the right vectors times alpha / N.

The latents are padded to a multiple of 4 with zeros, so that every loop over neurons serves four of them at once and
its sums stay in registers; up to 4 latents of piecewise linear neurons take one single pass, in which no current is
ever stored. Arrays may be float32 or float64: every constant takes the type of the arrays.
"""

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels.activations import CLIPPED_RELU, FAST, RELU, activate
from nwb_lrrnn.models.kernels.copies import copy_rows


@njit(cache=True, nogil=True)
def padded(rank):
    """Return the rank rounded up to a multiple of 4."""
    return (rank + 3) // 4 * 4


@njit(cache=True, nogil=True)
def pad_rows(a):
    """Return a copy of a (R, N) with rows of zeros up to a multiple of 4."""
    out = np.zeros((padded(a.shape[0]), a.shape[1]), a.dtype)
    copy_rows(a, out)
    return out


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _piecewise(z, a, m, n, base, h, clipped, push, f):
    """Fill f (K, R) for phi = relu(x + h) - clipped * relu(x); m and n (4, neuron)."""
    m0, m1, m2, m3 = m[0], m[1], m[2], m[3]
    n0, n1, n2, n3 = n[0], n[1], n[2], n[3]
    rank = z.shape[1]
    zero = base.dtype.type(0)
    for k in range(z.shape[0]):
        z0 = z[k, 0]
        z1 = z[k, 1] if rank > 1 else zero
        z2 = z[k, 2] if rank > 2 else zero
        z3 = z[k, 3] if rank > 3 else zero
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(base.shape[0]):
            x = base[i] + z0 * m0[i] + z1 * m1[i] + z2 * m2[i] + z3 * m3[i]
            value = max(x + h[i], zero) - clipped * max(x, zero)
            s0 += n0[i] * value
            s1 += n1[i] * value
            s2 += n2[i] * value
            s3 += n3[i] * value
        f[k, 0] = a * z0 + s0 + push[0]
        if rank > 1:
            f[k, 1] = a * z1 + s1 + push[1]
        if rank > 2:
            f[k, 2] = a * z2 + s2 + push[2]
        if rank > 3:
            f[k, 3] = a * z3 + s3 + push[3]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def currents(z, m, base, x):
    """Fill x (neuron,) = m z + base; z and the rows of m are padded."""
    for i in range(base.shape[0]):
        x[i] = base[i]
    for r in range(0, m.shape[0], 4):
        m0, m1, m2, m3 = m[r], m[r + 1], m[r + 2], m[r + 3]
        z0, z1, z2, z3 = z[r], z[r + 1], z[r + 2], z[r + 3]
        for i in range(base.shape[0]):
            x[i] += z0 * m0[i] + z1 * m1[i] + z2 * m2[i] + z3 * m3[i]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def products(rows, x, out):
    """Fill out (R,) = rows (R, neuron) @ x, R a multiple of 4."""
    zero = x.dtype.type(0)
    for r in range(0, rows.shape[0], 4):
        n0, n1, n2, n3 = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(x.shape[0]):
            s0 += n0[i] * x[i]
            s1 += n1[i] * x[i]
            s2 += n2[i] * x[i]
            s3 += n3[i] * x[i]
        out[r], out[r + 1], out[r + 2], out[r + 3] = s0, s1, s2, s3


@njit(cache=True, nogil=True, error_model="numpy")
def move(code, z, a, m, n, base, h, push, padded_z, target, x, value, slope, f):
    """Fill f (K, R) from particles z (K, R); m, n (padded R, N); padded_z, target (padded R,), x, value, slope (N,)."""
    if m.shape[0] == 4 and (code == RELU or code == CLIPPED_RELU):
        _piecewise(z, a, m, n, base, h, base.dtype.type(1 if code == CLIPPED_RELU else 0), push, f)
        return
    rank = z.shape[1]
    for k in range(z.shape[0]):
        for r in range(rank):
            padded_z[r] = z[k, r]
        currents(padded_z, m, base, x)
        activate(code, x, h, value, slope)
        products(n, value, target)
        for r in range(rank):
            f[k, r] = a * z[k, r] + target[r] + push[r]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _piecewise_adjoint(z, g, a, m, n, base, h, clipped, value, dm, dn, dbase, dh, back):
    """Add the gradients of `_piecewise` in m, n, base and h, given g (K, R) = dL/df; fill back (K, R) = dL/dz.

    Two loops over neurons, for with the four rows of dn more the compiler would give up checking for overlaps, and
    with that vector instructions.
    """
    m0, m1, m2, m3 = m[0], m[1], m[2], m[3]
    n0, n1, n2, n3 = n[0], n[1], n[2], n[3]
    p0, p1, p2, p3 = dm[0], dm[1], dm[2], dm[3]
    q0, q1, q2, q3 = dn[0], dn[1], dn[2], dn[3]
    rank = z.shape[1]
    zero, one = base.dtype.type(0), base.dtype.type(1)
    for k in range(z.shape[0]):
        z0, g0 = z[k, 0], g[k, 0]
        z1, g1 = (z[k, 1], g[k, 1]) if rank > 1 else (zero, zero)
        z2, g2 = (z[k, 2], g[k, 2]) if rank > 2 else (zero, zero)
        z3, g3 = (z[k, 3], g[k, 3]) if rank > 3 else (zero, zero)
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(base.shape[0]):
            x = base[i] + z0 * m0[i] + z1 * m1[i] + z2 * m2[i] + z3 * m3[i]
            y = x + h[i]
            upper = one if y > zero else zero
            lower = clipped if x > zero else zero
            value[i] = max(y, zero) - clipped * max(x, zero)
            d = g0 * n0[i] + g1 * n1[i] + g2 * n2[i] + g3 * n3[i]
            dh[i] += d * upper * clipped  # only clipped neurons have thresholds
            d *= upper - lower
            dbase[i] += d
            p0[i] += d * z0
            p1[i] += d * z1
            p2[i] += d * z2
            p3[i] += d * z3
            s0 += d * m0[i]
            s1 += d * m1[i]
            s2 += d * m2[i]
            s3 += d * m3[i]
        for i in range(base.shape[0]):
            q0[i] += g0 * value[i]
            q1[i] += g1 * value[i]
            q2[i] += g2 * value[i]
            q3[i] += g3 * value[i]
        back[k, 0] = a * g0 + s0
        if rank > 1:
            back[k, 1] = a * g1 + s1
        if rank > 2:
            back[k, 2] = a * g2 + s2
        if rank > 3:
            back[k, 3] = a * g3 + s3


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def add_outer(weights, x, rows):
    """Add weights (R,) outer x (neuron,) to rows (R, neuron), R a multiple of 4."""
    for r in range(0, rows.shape[0], 4):
        q0, q1, q2, q3 = rows[r], rows[r + 1], rows[r + 2], rows[r + 3]
        g0, g1, g2, g3 = weights[r], weights[r + 1], weights[r + 2], weights[r + 3]
        for i in range(x.shape[0]):
            q0[i] += g0 * x[i]
            q1[i] += g1 * x[i]
            q2[i] += g2 * x[i]
            q3[i] += g3 * x[i]


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def currents_adjoint(code, z, dx, x, h, slope, m, dm, dbase, dh, out):
    """Turn dx from dL/dphi into dL/dx, add its gradients, and fill out (padded R,) = m^T dx."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    if code == CLIPPED_RELU:  # d phi / d h = 1 where x + h > 0
        for i in range(x.shape[0]):
            dh[i] += dx[i] * (one if x[i] + h[i] > zero else zero)
    for i in range(x.shape[0]):
        dx[i] *= slope[i]
        dbase[i] += dx[i]
    add_outer(z, dx, dm)
    products(m, dx, out)


@njit(cache=True, nogil=True, error_model="numpy")
def move_adjoint(
    code, z, g, a, m, n, base, h, padded_z, padded_g, target, x, value, slope, dx, dm, dn, dbase, dh, dpush, back
):  # fmt: skip
    """Add the gradients of `move` given g (K, R) = dL/df; fill back (K, R) = dL/dz; return dL/da."""
    rank = z.shape[1]
    da = 0.0
    for k in range(z.shape[0]):
        for r in range(rank):
            dpush[r] += g[k, r]
            da += g[k, r] * z[k, r]
    if m.shape[0] == 4 and (code == RELU or code == CLIPPED_RELU):
        clipped = base.dtype.type(1 if code == CLIPPED_RELU else 0)
        _piecewise_adjoint(z, g, a, m, n, base, h, clipped, value, dm, dn, dbase, dh, back)
        return da
    for k in range(z.shape[0]):
        for r in range(rank):
            padded_z[r], padded_g[r] = z[k, r], g[k, r]
        currents(padded_z, m, base, x)
        activate(code, x, h, value, slope)
        add_outer(padded_g, value, dn)
        _weigh(padded_g, n, dx)
        currents_adjoint(code, padded_z, dx, x, h, slope, m, dm, dbase, dh, target)
        for r in range(rank):
            back[k, r] = a * g[k, r] + target[r]
    return da


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _weigh(g, n, dx):
    """Fill dx (neuron,) = n^T g; the rows of n (padded R, neuron)."""
    dx[:] = dx.dtype.type(0)
    for r in range(0, n.shape[0], 4):
        n0, n1, n2, n3 = n[r], n[r + 1], n[r + 2], n[r + 3]
        g0, g1, g2, g3 = g[r], g[r + 1], g[r + 2], g[r + 3]
        for i in range(dx.shape[0]):
            dx[i] += g0 * n0[i] + g1 * n1[i] + g2 * n2[i] + g3 * n3[i]
