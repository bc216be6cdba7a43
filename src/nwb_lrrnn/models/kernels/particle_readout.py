"""What one bin's observations say of a particle: ln p(y | z) and its gradients; terms without z are the caller's.

eta = C z + d (readout of latents, or of currents, which are linear in z), or eta = c phi(x(z)) + d (of rates).
Kinds: Gaussian values; counts of mean bin_size * g(eta), g softplus or exp, Poisson or negative binomial.
"""

import math

from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST, activate
from nwb_lrrnn.models.kernels.particle_moves import currents, currents_adjoint
from nwb_lrrnn.models.kernels.readout import (
    BINOMIAL_EXP,
    BINOMIAL_SOFTPLUS,
    FAR,
    GAUSSIAN,
    POISSON_EXP,
    POISSON_SOFTPLUS,
    mean_count,
)

KINDS = {
    ("gaussian", "identity"): GAUSSIAN,
    ("poisson", "softplus"): POISSON_SOFTPLUS,
    ("poisson", "exp"): POISSON_EXP,
    ("negative_binomial", "softplus"): BINOMIAL_SOFTPLUS,
    ("negative_binomial", "exp"): BINOMIAL_EXP,
}
LATENTS, RATES = range(2)


@njit(cache=True, nogil=True, error_model="numpy")
def predict_rates(code, padded_z, m, base, h, gains, offset, x, value, slope, eta):
    """Fill eta (neuron,) = c phi(m z + base) + d, and x, value and slope of the neurons."""
    currents(padded_z, m, base, x)
    activate(code, x, h, value, slope)
    for i in range(eta.shape[0]):
        eta[i] = gains[i] * value[i] + offset[i]


@njit(cache=True, nogil=True, error_model="numpy")
def log_density(kind, bin_size, y, seen, eta, spread, mean, relative):
    """Return ln p(y | eta) of one bin without the terms that do not depend on eta; seen (unit,) or (1,)."""
    total = 0.0
    one_mask = seen.shape[0] == 1
    if one_mask and seen[0] == 0.0:
        return 0.0
    if kind == GAUSSIAN:
        for d in range(y.shape[0]):
            weight = 1.0 if one_mask else seen[d]
            total -= weight * 0.5 * (y[d] - eta[d]) ** 2 / spread[d]
        return total
    mean_count(kind, bin_size, eta, mean, relative)
    for d in range(y.shape[0]):
        if not one_mask and seen[d] == 0.0:
            continue
        if y[d] > 0.0:
            far = eta[d] < FAR or ((kind == POISSON_EXP or kind == BINOMIAL_EXP) and abs(eta[d]) <= 44.0)
            total += y[d] * (eta[d] + math.log(bin_size) if far else math.log(mean[d]))
        if kind == POISSON_SOFTPLUS or kind == POISSON_EXP:
            total -= mean[d]
        else:
            total -= (y[d] + spread[d]) * math.log(spread[d] + mean[d])
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def add_spread(kind, weight, y, seen, eta, spread, mean, dspread):
    """Add weight times d (particle-dependent terms of ln p) / d spread to dspread (unit,); after `slopes`."""
    if kind == POISSON_SOFTPLUS or kind == POISSON_EXP:
        return
    for d in range(y.shape[0]):
        w = weight * (seen[0] if seen.shape[0] == 1 else seen[d])
        if kind == GAUSSIAN:
            dspread[d] += w * 0.5 * ((y[d] - eta[d]) / spread[d]) ** 2
        else:
            dspread[d] -= w * (math.log(spread[d] + mean[d]) + (y[d] + spread[d]) / (spread[d] + mean[d]))


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def linear_adjoint(weight, z, slope, loadings, dloadings, doffset, dz):
    """Add weight * slope to the gradients of C (R, unit), d (unit,) and of z (R,)."""
    for d in range(slope.shape[0]):
        slope[d] *= weight
        doffset[d] += slope[d]
    for r in range(loadings.shape[0]):
        c, row, drow = float(z[r]), loadings[r], dloadings[r]
        total = 0.0
        for d in range(slope.shape[0]):
            drow[d] += c * slope[d]
            total += row[d] * slope[d]
        dz[r] += total


@njit(cache=True, nogil=True, error_model="numpy")
def rates_adjoint(
    code, weight, padded_z, m, h, gains, x, value, phi_slope, slope, dx, dm, dbase, dh, dgains, doffset, target, dz
):  # fmt: skip
    """Add weight * slope to the gradients of c and d (neuron,), of the neurons, and of z (R,)."""
    for i in range(slope.shape[0]):
        s = weight * slope[i]
        doffset[i] += s
        dgains[i] += s * value[i]
        dx[i] = s * gains[i]
    currents_adjoint(code, padded_z, dx, x, h, phi_slope, m, dm, dbase, dh, target)
    for r in range(dz.shape[0]):
        dz[r] += target[r]
