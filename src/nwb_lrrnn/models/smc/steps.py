"""One step of the particle filter in plain torch: for any device, without a host sync, and to check the kernels by."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.kernels.particle_types import BEFORE, EVERY_STEP, LOW_ESS, Moves, Proposal
from nwb_lrrnn.models.networks import cells
from nwb_lrrnn.models.observation import likelihoods


class Options(NamedTuple):
    """What a filter is, beside its arrays."""

    nonlinearity: str
    likelihood: Likelihood
    readout: str  # latents (currents are read like latents), or rates
    when: int  # EVERY_STEP, LOW_ESS, BEFORE or NEVER
    threshold: float  # of the effective sample size, as a share of the particles
    n_newton: int  # steps to the expansion point of sites found on the way; 0: the proposal is given


class State(NamedTuple):
    """The particles that leave a bin."""

    z: Tensor  # (S, B, K, R)
    log_weights: Tensor  # (S, B, K), normalised, float64


class Affine(NamedTuple):
    """One bin's proposal (see `Proposal`): matrices (S, B, R, R), vectors (S, B, R), constant (S, B)."""

    gain: Tensor  # F
    root: Tensor  # L
    curvature: Tensor  # G
    shift: Tensor  # c
    linear: Tensor  # h
    constant: Tensor  # -k / 2
    slope: Tensor  # p
    information: Tensor  # I


def affine_of(proposal: Proposal, t: int) -> Affine:
    """Return the proposal of bin t."""
    rows, p = proposal.rows[:, t], proposal.slope[:, :, t]
    covariance, information = proposal.covariance[:, rows], proposal.information[:, rows]
    gain = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device) - torch.matmul(covariance, information)
    shift = torch.matmul(covariance, p[..., None])[..., 0]
    linear = p - torch.matmul(information, shift[..., None])[..., 0]
    constant = proposal.constant[:, :, t] - 0.5 * (proposal.log_det[:, rows] - (p * shift).sum(-1))
    curvature = torch.matmul(information, gain)
    return Affine(gain, proposal.root[:, rows], curvature, shift, linear, constant, p, information)


class View(NamedTuple):
    """One bin's observations and how they are read."""

    y: Tensor  # (B, D)
    mask: Tensor  # (B, D or 1)
    loadings: Tensor  # C (S, D, R), or c (S, N) of rates
    offset: Tensor  # (S, B or 1, D)
    spread: Tensor  # (S, D)


def transition(options: Options, moves: Moves, z: Tensor, v: Tensor, push: Tensor) -> Tensor:
    """Return f (S, B, K, R) of particles z, inputs v (1 or S, B, I) and push (S, B or 1, R)."""
    rates = cells.phi(options.nonlinearity, currents(moves, z, v), moves.thresholds[:, None, None])
    target = torch.matmul(rates, moves.right[:, None].mT)
    return moves.decay[:, None, None, None] * z + target + push[:, :, None]


def currents(moves: Moves, z: Tensor, v: Tensor) -> Tensor:
    """Return m z + B v + b, (S, B, K, N)."""
    x = torch.matmul(z, moves.left[:, None]) + moves.bias[:, None, None]
    return x + torch.matmul(v, moves.input_weights)[:, :, None] if v.shape[-1] else x


def predictor(options: Options, moves: Moves, view: View, z: Tensor, v: Tensor) -> Tensor:
    """Return eta (S, B, K, D) in float64."""
    if options.readout == "rates":
        rates = cells.phi(options.nonlinearity, currents(moves, z, v), moves.thresholds[:, None, None])
        return rates.double() * view.loadings[:, None, None] + view.offset[:, :, None]
    return torch.matmul(z.double(), view.loadings[:, None].mT) + view.offset[:, :, None]


def log_density(likelihood: Likelihood, view: View, eta: Tensor) -> Tensor:
    """Return ln p(y | eta) without the terms that do not depend on eta, (S, B, K)."""
    terms = likelihoods.value(likelihood, view.y[None, :, None], eta, view.spread[:, None, None])
    return (terms * view.mask[None, :, None]).sum(-1)


def quadratic(z: Tensor, slope: Tensor, curvature: Tensor) -> Tensor:
    """Return z^T slope - z^T curvature z / 2, (S, B, K)."""
    return (z * (slope[:, :, None] - 0.5 * torch.matmul(z, curvature.mT))).sum(-1)


def normalised(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Return normalised log weights and the log of their sum (S, B)."""
    total = torch.logsumexp(log_w, dim=-1)
    return log_w - total[..., None], total


def pick(log_weights: Tensor, points: Tensor) -> Tensor:
    """Return ancestors (S, B, K): the distribution of the weights inverted at sorted points (B, K)."""
    edges = torch.cumsum(torch.exp(log_weights.detach()), dim=-1)
    points = points[None].expand(edges.shape).contiguous()
    return torch.searchsorted(edges, points, right=True).clamp(max=edges.shape[-1] - 1)


def pick_from(z: Tensor, ancestors: Tensor) -> Tensor:
    """Return the rows of z (S, B, K, R) that `ancestors` (S, B, M) name, (S, B, M, R)."""
    return z.gather(2, ancestors[..., None].expand(*ancestors.shape, z.shape[-1]))


def advance(
    options: Options, moves: Moves, affine: Affine, view: View | None, state: State, f: Tensor, v: Tensor,
    normals: Tensor, points: Tensor, given: Tensor | None,
) -> tuple[State, Tensor, dict[str, Tensor]]:  # fmt: skip
    """Return the state after one bin, the increment (S, B), and what a smoother needs.

    f (S, B, K, R) are the particles' transitions, v (1 or S, B, I) the inputs of this bin; `given` are ancestors that
    replace the drawn ones.
    """
    n_particles = f.shape[2]
    even = -math.log(n_particles)
    wide = f.double()
    log_w = state.log_weights + quadratic(wide, affine.linear, affine.curvature) + affine.constant[..., None]
    increment = torch.zeros_like(log_w[..., 0])
    ancestors = torch.arange(n_particles, device=f.device).expand(log_w.shape)
    record = {"moved": f}
    if options.when == BEFORE:
        log_first, increment = normalised(log_w)
        ancestors = pick(log_first, points) if given is None else given
        wide = pick_from(wide, ancestors)
        log_w = torch.full_like(log_w, even)
        record["first_weights"] = torch.exp(log_first)
    noise = torch.matmul(normals.double(), affine.root.mT)
    drawn = (torch.matmul(wide, affine.gain.mT) + affine.shift[:, :, None] + noise).to(f.dtype)
    if view is not None:
        eta = predictor(options, moves, view, drawn, v)
        log_w = log_w + log_density(options.likelihood, view, eta)
        log_w = log_w - quadratic(drawn.double(), affine.slope, affine.information)
    log_weights, total = normalised(log_w)
    z = drawn
    again = torch.full(log_w.shape[:2], options.when == EVERY_STEP, device=f.device)
    if options.when == LOW_ESS:
        again = torch.exp(-torch.logsumexp(2 * log_weights, dim=-1)) < options.threshold * n_particles
    if options.when in (EVERY_STEP, LOW_ESS) and n_particles > 1:
        drawn_from = pick(log_weights, points) if given is None else given
        ancestors = torch.where(again[..., None], drawn_from, ancestors)
        z = pick_from(drawn, ancestors)
    else:
        again = torch.zeros_like(again)
    carried = torch.where(again[..., None], torch.full_like(log_weights, even), log_weights)
    record |= {"drawn": drawn, "weights": torch.exp(log_weights), "ancestors": ancestors, "resampled": again}
    return State(z, carried), increment + total, record
