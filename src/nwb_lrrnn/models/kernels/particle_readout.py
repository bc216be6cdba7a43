"""How a particle is read: eta of one bin, and the gradients of what `observation` says of it in the readout and in z.

eta = C z + d (readout of latents, or of currents, which are linear in z), or eta = c phi(x(z)) + d (of rates).
"""

from numba import njit

from nwb_lrrnn.models.kernels.activations import FAST, activate
from nwb_lrrnn.models.kernels.particle_moves import currents, currents_adjoint

LATENTS, RATES = range(2)


@njit(cache=True, nogil=True, error_model="numpy")
def predict_rates(code, padded_z, m, base, h, gains, offset, x, value, slope, eta):
    """Fill eta (neuron,) = c phi(m z + base) + d, and x, value and slope of the neurons."""
    currents(padded_z, m, base, x)
    activate(code, x, h, value, slope)
    for i in range(eta.shape[0]):
        eta[i] = gains[i] * value[i] + offset[i]


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
