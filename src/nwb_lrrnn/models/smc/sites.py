"""Sites found while the filter runs, in plain torch: the mirror of `kernels.particle_sites`."""

from __future__ import annotations

import torch
from torch import Tensor

from nwb_lrrnn.models.kernels.particle_types import Moves
from nwb_lrrnn.models.networks import cells
from nwb_lrrnn.models.observation import likelihoods
from nwb_lrrnn.models.smc.steps import Options, View, currents, log_density, predictor

_SHORTER = 6  # a step that loses is cut to a quarter, so often at most, and then not made
_AT_MODE = 1e-5  # nats that a step promises: fewer are rounding where rates are of float32, and steps would wander


@torch.no_grad()
def site_of(
    options: Options, moves: Moves, view: View, f: Tensor, log_weights: Tensor, covariance: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Return p (S, B, R) and I (S, B, R, R) of one bin, expanded about the particles f with their weights.

    covariance (S, R, R) is that of the noise of this bin.
    """
    weights = torch.exp(log_weights)[..., None]
    wide = f.double()
    centre = (weights * wide).sum(2)  # (S, B, R)
    centred = wide - centre[:, :, None]
    predicted = covariance[:, None] + torch.matmul((weights * centred).mT, centred)
    precision = torch.linalg.inv_ex(predicted)[0]  # no check, which would wait for the device
    z = centre
    factors = 0.25 ** torch.arange(_SHORTER, dtype=z.dtype, device=z.device)
    for _ in range(options.n_newton):
        gradient, information, value = _expand(options, moves, view, z, v)
        before = value - _distance(z, centre, precision)
        residual = gradient - torch.matmul(precision, (z - centre)[..., None])[..., 0]
        step = torch.linalg.solve_ex(precision + information, residual[..., None])[0][..., 0]
        at_mode = 0.5 * (step * residual).sum(-1) < _AT_MODE
        if z.device.type == "cpu" and bool(at_mode.all()):  # elsewhere a look would wait for the device
            break
        slack = 1e-12 * (1.0 + before.abs())  # rounding must not decide at the mode
        # all factors 1, 1/4, ... at once, and the first that does not lose, else 0: what the kernel does, branchless
        trials = z[:, :, None] + factors[:, None] * step[:, :, None]  # (S, B, factor, R)
        after = _value(options, moves, view, trials, v)
        after = after - _distance(trials, centre[:, :, None], precision[:, :, None])
        gains = (after >= (before - slack)[..., None]) & ~at_mode[..., None]
        first = gains & (gains.cumsum(-1) == 1)
        z = z + (first * factors).sum(-1)[..., None] * step
    _, information, _ = _expand(options, moves, view, z, v)
    pulled = torch.matmul(information, z[..., None]) + torch.matmul(precision, (z - centre)[..., None])
    return pulled[..., 0], information


def _expand(options: Options, moves: Moves, view: View, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradient (S, B, R), Fisher information (S, B, R, R) and value (S, B) of ln p(y | z)."""
    particle = z[:, :, None].to(moves.left.dtype) if options.readout == "rates" else z[:, :, None]
    eta = predictor(options, moves, view, particle, v)
    slope, fisher = likelihoods.derivatives(options.likelihood, view.y[None, :, None], eta, view.spread[:, None, None])
    mask = view.mask[None, :, None]
    slope, fisher = (slope * mask)[:, :, 0], (fisher * mask)[:, :, 0]  # (S, B, D)
    if options.readout == "rates":
        x = currents(moves, particle, v)[:, :, 0]
        gain = cells.slope(options.nonlinearity, x, moves.thresholds[:, None]).double() * view.loadings[:, None]
        effective = gain[..., None] * moves.left.double().mT[:, None]  # (S, B, D, R)
    else:
        effective = view.loadings[:, None]
    gradient = (effective * slope[..., None]).sum(2)
    information = torch.matmul((effective * fisher[..., None]).mT, effective)
    return gradient, information, log_density(options.likelihood, view, eta)[..., 0]


def _value(options: Options, moves: Moves, view: View, z: Tensor, v: Tensor) -> Tensor:
    """Return ln p(y | z) (S, B, K) of one bin at some z (S, B, K, R)."""
    particle = z.to(moves.left.dtype) if options.readout == "rates" else z
    return log_density(options.likelihood, view, predictor(options, moves, view, particle, v))


def _distance(z: Tensor, centre: Tensor, precision: Tensor) -> Tensor:
    return 0.5 * ((z - centre) * torch.matmul(precision, (z - centre)[..., None])[..., 0]).sum(-1)
