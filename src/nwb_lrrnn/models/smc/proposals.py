"""Proposals that are affine in a particle's transition: from what a bin's observations say to how particles move.

A site replaces ln p(y_t | z) by p^T z - z^T I z / 2 and a constant. With a transition z ~ N(f, Sigma) it makes a
Gaussian posterior of covariance V = (Sigma^-1 + I)^-1 and mean V (Sigma^-1 f + p), exactly: see `Proposal`.

For Gaussian observations read linearly the site is exact, and everything of the size of the observed units is gone
from the time loop. I = 0 is the bootstrap filter. All is computed in float64, and differentiable.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nwb_lrrnn.models.kernels.particle_types import Proposal


class Sites(NamedTuple):
    """What the bins say of their latents: P rows of information, one slope a bin.

    rows (trial, time) says which row is whose; a row belongs to first bins or to later ones, never to both.
    """

    rows: Tensor  # (B, T), int64
    is_first: Tensor  # (P,), bool: the row is one of first bins, whose law is N(mu_1, Sigma_1)
    information: Tensor  # I (S, P, R, R)
    slope: Tensor  # p (S, B, T, R)
    constant: Tensor  # (S, B, T): ln of what y alone, or the noise of y, makes of p(y | z)


def proposal_of(sites: Sites, initial_root: Tensor, noise_root: Tensor) -> Proposal:
    """Return the proposal that sites make with Sigma_1 and Sigma_z, given by their roots (S, R, R)."""
    rank = noise_root.shape[-1]
    eye = torch.eye(rank, dtype=torch.float64, device=noise_root.device)
    roots = torch.stack([noise_root, initial_root], dim=1).double()  # (S, 2, R, R)
    which = sites.is_first.long()
    inverse_roots = torch.linalg.solve_triangular(roots, eye.expand_as(roots), upper=False)
    precision = (inverse_roots.mT @ inverse_roots)[:, which]  # (S, P, R, R)
    log_det = 2.0 * torch.log(roots.diagonal(dim1=-2, dim2=-1)).sum(-1)[:, which]  # (S, P)
    information = sites.information
    posterior_root = torch.linalg.cholesky_ex(precision + information)[0]
    inverse_root = torch.linalg.solve_triangular(posterior_root, eye.expand_as(posterior_root), upper=False)
    covariance = inverse_root.mT @ inverse_root  # V
    log_det = log_det + 2.0 * torch.log(posterior_root.diagonal(dim1=-2, dim2=-1)).sum(-1)
    root = torch.linalg.cholesky_ex(covariance)[0]
    return Proposal(sites.rows, covariance, root, information, log_det, sites.slope, sites.constant)


class Masks(NamedTuple):
    """Which units are observed where, by distinct pattern."""

    patterns: Tensor  # (Q, D) or (Q, 1), float64
    index: Tensor  # (B, T), int64
    complete: bool  # nothing is missing anywhere


def masks_of(seen: Tensor) -> Masks:
    """Return the distinct patterns of seen (B, T, D or 1)."""
    patterns, index = torch.unique(seen.flatten(0, 1), dim=0, return_inverse=True)
    return Masks(patterns, index.reshape(seen.shape[:2]), bool((patterns == 1.0).all()))


def _rows(index: Tensor, n_patterns: int) -> tuple[Tensor, Tensor]:
    """Return rows (B, T) and is_first (P,) that keep first bins apart: row = pattern, or n_patterns + pattern."""
    rows = index.clone()
    rows[:, 0] += n_patterns
    return rows, torch.arange(2 * n_patterns, device=index.device) >= n_patterns


def gaussian_sites(masks: Masks, y: Tensor, seen: Tensor, loadings: Tensor, offset: Tensor, spread: Tensor) -> Sites:
    """Return the exact sites of Gaussian observations y ~ N(C z + d, spread) read linearly.

    y (B, T, D); seen (B, T, D or 1); loadings (S, D, R); offset (S, B or 1, T or 1, D); spread (S, D).
    """
    weighted = loadings / spread[..., None]  # P C (S, D, R)
    precision = (masks.patterns[None, :, :, None] * weighted[:, None]).mT @ loadings[:, None]  # (S, Q, R, R)
    precision = 0.5 * (precision + precision.mT)
    error = y[None] - offset
    if not masks.complete:
        error = error * seen
    scaled = error / spread[:, None, None]
    rows, is_first = _rows(masks.index, len(masks.patterns))
    units = masks.patterns.expand(-1, y.shape[2])
    norm = units @ torch.log(2 * math.pi * spread).mT  # (Q, S)
    # few arrays of the size of the observations: making and dropping them costs more than the arithmetic
    constant = -0.5 * (torch.einsum("sbtd,sbtd->sbt", scaled, error) + norm.mT[:, masks.index])
    slope = torch.matmul(scaled, loadings[:, None])
    return Sites(rows, is_first, torch.cat([precision, precision], dim=1), slope, constant)


def blind_sites(like: Tensor, constant: Tensor) -> Sites:
    """Return sites that say nothing: the bootstrap filter; `like` (S, B, T, R) gives the sizes, constant (S, B, T)."""
    nets, trials, steps, rank = like.shape
    rows, is_first = _rows(torch.zeros((trials, steps), dtype=torch.int64, device=like.device), 1)
    information = like.new_zeros((nets, 2, rank, rank))
    return Sites(rows, is_first, information, torch.zeros_like(like), constant)


def own_sites(information: Tensor, slope: Tensor, constant: Tensor) -> Sites:
    """Return sites with a row for every bin: information (S, B, T, R, R), slope (S, B, T, R), constant (S, B, T)."""
    nets, trials, steps, rank = slope.shape
    rows = torch.arange(trials * steps, device=slope.device).reshape(trials, steps)
    is_first = (rows.flatten() % steps) == 0
    return Sites(rows, is_first, information.reshape(nets, -1, rank, rank), slope, constant)
