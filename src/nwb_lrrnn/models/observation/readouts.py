"""What a trajectory's observations say: their log-likelihood and its curvature, by fused kernels or plain torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.observation import likelihoods
from nwb_lrrnn.models.training.devices import N_CHUNKS, arrays, use_kernels
from nwb_lrrnn.models.training.threads import over_ranges


class Readout(NamedTuple):
    """C (S, unit, R), d (S, unit) and the spread of the likelihood (S, unit), in the units of X."""

    loadings: Tensor
    offset: Tensor
    spread: Tensor


class Data(NamedTuple):
    """The observations of W windows of T steps."""

    y: Tensor  # (window, T, unit), 0 where unobserved
    seen: Tensor  # (window, T, unit) or (window, T, 1), 1.0 where observed
    constants: Tensor  # (window,), the part of log p that y alone makes: - sum ln y! of a Poisson model


def log_likelihood(
    likelihood: Likelihood, readout: Readout, latents: Tensor, data: Data, *, kernels: bool | None = None
) -> Tensor:
    """Return log p of each window's observations (S, window) given latents (S, window, T, R), constants included.

    Differentiable in the readout and the latents. `kernels` overrides the choice of path.
    """
    if _fused(likelihood, latents) if kernels is None else kernels:
        return _FusedReadout.apply(likelihood, data, latents, *readout)  # type: ignore[no-any-return]
    eta = predictor(readout, latents)
    return (likelihoods.log_prob(likelihood, data.y, eta, readout.spread[:, None, None]) * data.seen).sum((2, 3))


@torch.no_grad()
def curvature(
    likelihood: Likelihood, readout: Readout, latents: Tensor, data: Data, *, kernels: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Return the gradient (S, window, T, R) and Fisher information (S, window, T, R, R) of each bin in its latents."""
    if _fused(likelihood, latents) if kernels is None else kernels:
        return _fused_curvature(likelihood, readout, latents, data)
    loadings, spread = readout.loadings, readout.spread[:, None, None]
    rank = loadings.shape[-1]
    slope, fisher = likelihoods.derivatives(likelihood, data.y, predictor(readout, latents), spread)
    gradient = torch.matmul(slope * data.seen, loadings[:, None])
    outer = (loadings[..., :, None] * loadings[..., None, :]).flatten(2)  # (S, unit, R * R)
    return gradient, torch.matmul(fisher * data.seen, outer[:, None]).unflatten(-1, (rank, rank))


def predictor(readout: Readout, latents: Tensor) -> Tensor:
    """Return eta = C z + d, (S, window, T, unit)."""
    return torch.matmul(latents, readout.loadings.mT[:, None]) + readout.offset[:, None, None]


def _fused(likelihood: Likelihood, latents: Tensor) -> bool:
    return use_kernels(latents) and not likelihood.family.mixes_spread


class _FusedReadout(torch.autograd.Function):
    """`log_likelihood` by the fused kernels."""

    @staticmethod
    def forward(ctx, likelihood, data, latents, loadings, offset, spread):  # type: ignore[override]
        from nwb_lrrnn.models.kernels import readout as kernels

        z, y, seen, c, d, r, constants = arrays((latents, *data[:2], loadings.mT, offset, spread, data.constants))
        out = np.empty(z.shape[:2])
        fixed = (likelihood.code, likelihood.time, z, y, seen, c, d, r)
        over_ranges(lambda a, b: kernels.log_likelihood(a, b, *fixed, constants, out), out.size, y.size * len(z))
        ctx.fixed, ctx.dtype = fixed, latents.dtype
        return torch.from_numpy(out).to(latents.dtype)

    @staticmethod
    def backward(ctx, *grads):  # type: ignore[override]
        from nwb_lrrnn.models.kernels import readout as kernels

        kind, bin_size, z, y, seen, c, d, r = ctx.fixed
        chunks = min(N_CHUNKS, z.shape[1])
        dz = np.zeros_like(z)
        sums = [np.zeros((len(a), chunks, *a.shape[1:])) for a in (c, d, r)]
        fixed = [chunks, kind, bin_size, *arrays(grads), z, y, seen, c, d, r, dz]
        over_ranges(lambda a, b: kernels.adjoint(a, b, *fixed, *sums), len(z) * chunks, y.size * len(z))
        dz, dloadings, doffset, dspread = (torch.from_numpy(a).to(ctx.dtype) for a in (dz, *(a.sum(1) for a in sums)))
        return None, None, dz, dloadings.mT, doffset, dspread


def _fused_curvature(likelihood, readout, latents, data):
    from nwb_lrrnn.models.kernels import readout as kernels

    z, y, seen, c, d, r = arrays((latents, *data[:2], readout.loadings.mT, readout.offset, readout.spread))
    gradient, information = np.zeros_like(z), np.zeros((*z.shape, z.shape[-1]))
    fixed = (likelihood.code, likelihood.time, z, y, seen, c, d, r)
    over_ranges(
        lambda a, b: kernels.curvature(a, b, *fixed, gradient, information), z.shape[0] * z.shape[1], y.size * len(z)
    )
    return torch.from_numpy(gradient).to(latents.dtype), torch.from_numpy(information).to(latents.dtype)
