"""Posterior means of the latents from a particle filter's record: smoothed, filtered, delayed; and trajectories."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.kernels.particle_types import Record
from nwb_lrrnn.models.smc.steps import pick_from
from nwb_lrrnn.models.training.devices import use_kernels
from nwb_lrrnn.models.training.threads import over_ranges


class Smoothed(NamedTuple):
    """M trajectories of every trial given all its bins, and the means."""

    draws: Tensor  # (S, B, T, M, R)
    means: Tensor  # (S, B, T, R)


def smooth(
    record: Record, lengths: Tensor, noise_root: Tensor, points: Tensor, *, kernels: bool | None = None
) -> Smoothed:
    """Return trajectories by backward simulation (Godsill, Doucet & West 2004) and the posterior means.

    A trajectory picks its particle of bin t among all of them, by W_j N(z_{t+1}; f(z_tj), Sigma_z): pairing particles
    of one index would be no draw from the posterior.

    Parameters
    ----------
    noise_root : Tensor (S, R, R)
        Of Sigma_z.
    points : Tensor (B, T, M)
        Uniform in [0, 1).
    """
    eye = torch.eye(noise_root.shape[-1], dtype=torch.float64, device=noise_root.device)
    root = noise_root.detach().double()
    inverse = torch.linalg.solve_triangular(root, eye.expand_as(root), upper=False)
    if use_kernels(points) if kernels is None else kernels:
        return _fused(record, lengths, inverse, points)
    return _loop(record, lengths, inverse, points)


def _fused(record, lengths, inverse, points) -> Smoothed:
    from nwb_lrrnn.models.kernels import particle_smoother

    arrays = [np.asarray(a) for a in record]
    moved, drawn, weights, _, ancestors, resampled, _ = arrays
    shape = (*moved.shape[:3], points.shape[2], moved.shape[4])
    draws, means = np.zeros(shape), np.zeros((*shape[:3], shape[4]))
    fixed = (lengths.numpy(), moved, drawn, weights, ancestors, resampled, inverse.contiguous().numpy(), points.numpy())
    over_ranges(
        lambda a, b: particle_smoother.simulate(a, b, *fixed, draws, means), moved.shape[0] * moved.shape[1], draws.size
    )
    return Smoothed(torch.from_numpy(draws), torch.from_numpy(means))


def _loop(record, lengths, inverse, points) -> Smoothed:
    moved, drawn = record.moved.double(), record.drawn.double()
    n_steps, n_draws = moved.shape[2], points.shape[2]
    draws, means = [], []
    z_next = drawn[:, :, 0, :1].expand(-1, -1, n_draws, -1)
    for t in range(n_steps - 1, -1, -1):
        last = (t == lengths - 1)[None, :, None]
        again = record.resampled[:, :, t, None]
        z, log_w = drawn[:, :, t], torch.log(record.weights[:, :, t])
        after = pick_from(z, record.ancestors[:, :, t].long())
        # at the end of a trial the particles as they were drawn, before it those that went on
        z = torch.where((again & ~last)[..., None], after, z)
        log_w = torch.where(again & ~last, torch.zeros_like(log_w), log_w)[:, :, None]  # (S, B, 1, K)
        if t + 1 < n_steps:
            gap = z_next[:, :, :, None] - moved[:, :, t + 1, None]  # (S, B, M, K, R)
            pull = -0.5 * (torch.matmul(gap, inverse[:, None, None].mT) ** 2).sum(-1)
            log_w = log_w + torch.where(last[..., None], torch.zeros_like(pull), pull)
        w = torch.softmax(log_w, dim=-1).expand(*z.shape[:2], n_draws, -1)
        edges = torch.cumsum(w, dim=-1)
        at = points[:, t].expand(len(z), -1, -1)[..., None].contiguous()
        index = torch.searchsorted(edges.contiguous(), at, right=True).clamp(max=z.shape[2] - 1)[..., 0]
        inside = (t < lengths)[None, :, None, None]
        z_next = torch.where(inside, pick_from(z, index), torch.zeros((), dtype=z.dtype, device=z.device))
        draws.append(z_next)
        means.append(torch.where(inside[..., 0], torch.matmul(w, z).mean(2), torch.zeros_like(z[:, :, 0])))
    return Smoothed(torch.stack(draws[::-1], dim=2), torch.stack(means[::-1], dim=2))


def filtered(record: Record) -> np.ndarray:
    """Return E[z_t | y_1..t], (S, B, T, R)."""
    return _mean(record.weights, record.drawn)


def delayed(record: Record) -> np.ndarray:
    """Return E[z_t | y_1..t-1], (S, B, T, R): the mean of the transitions of the particles that left the bin before."""
    weights, resampled = np.asarray(_array(record.weights)), _array(record.resampled)
    before = np.full_like(weights, 1.0 / weights.shape[3])
    before[:, :, 1:] = np.where(resampled[:, :, :-1, None], before[:, :, 1:], weights[:, :, :-1])
    return np.einsum("sbtk,sbtkr->sbtr", before, _array(record.moved).astype(np.float64))


def _mean(weights, z) -> np.ndarray:
    return np.einsum("sbtk,sbtkr->sbtr", _array(weights), _array(z).astype(np.float64))


def _array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
