"""Loadings and offsets as regressions on given trajectories: the readout that a start should have."""

from __future__ import annotations

import torch
from torch import Tensor

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.observation import likelihoods
from nwb_lrrnn.models.observation.readouts import Data, Readout

_STEPS = 8
_RIDGE = 1e-4  # relative to the curvature of each coefficient's own direction


@torch.no_grad()
def regress(likelihood: Likelihood, readout: Readout, latents: Tensor, data: Data) -> Readout:
    """Return the readout (one network) with each unit's parameters at the maximum of its likelihood.

    A generalised linear model per unit on latents (1, window, T, R), by Fisher scoring; a unit's step is halved until
    its likelihood rises.
    """
    design = torch.cat([latents[0], torch.ones_like(latents[0, ..., :1])], dim=-1).flatten(0, 1)  # (bin, R + 1)
    y, seen = data.y.flatten(0, 1), data.seen.expand_as(data.y).flatten(0, 1)  # (bin, unit)
    spread = readout.spread[0]
    weights = torch.cat([readout.loadings[0], readout.offset[0][:, None]], dim=1)  # (unit, R + 1)

    def log_p(w: Tensor) -> Tensor:
        return (likelihoods.log_prob(likelihood, y, design @ w.T, spread) * seen).sum(0)  # (unit,)

    best = log_p(weights)
    outer = (design[:, :, None] * design[:, None, :]).flatten(1)  # (bin, (R + 1)^2)
    for _ in range(_STEPS):
        slope, fisher = likelihoods.derivatives(likelihood, y, design @ weights.T, spread)
        gradient = (slope * seen).T @ design  # (unit, R + 1)
        information = ((fisher * seen).T @ outer).unflatten(1, (design.shape[1], design.shape[1]))
        own = information.diagonal(dim1=1, dim2=2)
        information = information + torch.diag_embed(_RIDGE * own + 1e-12 * (1.0 + own.amax(1, keepdim=True)))
        step = torch.linalg.solve(information, gradient)
        for _ in range(6):
            value = log_p(weights + step)
            step = torch.where((value >= best)[:, None], step, 0.5 * step)
        better = log_p(weights + step) >= best
        weights = torch.where(better[:, None], weights + step, weights)
        best = log_p(weights)
    spread = _spread(likelihood, y, design @ weights.T, seen, spread)
    return Readout(weights[None, :, :-1].contiguous(), weights[None, :, -1].contiguous(), spread[None])


def _spread(likelihood: Likelihood, y: Tensor, eta: Tensor, seen: Tensor, spread: Tensor) -> Tensor:
    """Return each unit's variance, or its dispersion to a tenth of a decade, at the maximum of its likelihood."""
    if likelihood.name == "gaussian":
        n = seen.sum(0).clamp(min=1.0)
        mean = (y * seen).sum(0) / n
        residual, own = (((y - at) ** 2 * seen).sum(0) / n for at in (eta, mean))
        return torch.maximum(residual, likelihood.family.spread_limits[0] * own)
    if not likelihood.has_spread:
        return spread
    tried = torch.logspace(-1, 4, 51, dtype=y.dtype, device=y.device)
    values = torch.stack([(likelihoods.log_prob(likelihood, y, eta, r) * seen).sum(0) for r in tried])
    return tried[values.argmax(0)]
