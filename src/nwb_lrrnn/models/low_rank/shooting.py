r"""The latents of deterministic trajectories: the posterior mode over shooting nodes, and its Laplace evidence.

A trial is a chain of windows. The first starts at z_1 ~ N(mu_1 + K v_1, Sigma_1); every later node has the prior
z_k ~ N(F(z_{k-1}), Sigma_node), F being the network run through the window before it. The log of that prior is the
continuity penalty. The mode is found by Levenberg-Marquardt over all nodes of a trial at once: each window's
observations are pulled back to its node (R numbers, an R x R Fisher information), and the nodes of a trial form a
block-tridiagonal system. Damping, acceptance and convergence are per trial, so a trial's result does not depend on
the batch it comes in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nwb_lrrnn.models.low_rank import chain
from nwb_lrrnn.models.low_rank.chain import Chains
from nwb_lrrnn.models.low_rank.windows import Windows
from nwb_lrrnn.models.networks import scan
from nwb_lrrnn.models.networks.form import StackedNetwork
from nwb_lrrnn.models.observation import readouts


class Prior(NamedTuple):
    """The laws of the nodes: z_1 ~ N(mean + K v_1, covariance), later nodes N(F(previous), node_covariance)."""

    mean: Tensor  # (S, R)
    input_weights: Tensor  # K (S, R, I)
    covariance: Tensor  # (S, R, R)
    node_covariance: Tensor  # (S, R, R)


@dataclass(frozen=True)
class ShootingNetwork(StackedNetwork):
    """S networks with all that makes a density of X: dynamics, readout, likelihood and the laws of the nodes."""

    prior: Prior


class Evaluation(NamedTuple):
    """A trajectory from given nodes, and the log joint density it has."""

    latents: Tensor  # (S, window, T, R)
    residuals: Tensor  # node minus its prior mean, (S, window, R)
    log_likelihood: Tensor  # log p(y | latents), (S, trial)
    joint: Tensor  # log p(Y, nodes), (S, trial)


class Posterior(NamedTuple):
    """The Laplace approximation of the posterior of the nodes."""

    nodes: Tensor  # mode (S, window, R)
    latents: Tensor  # (S, window, T, R)
    residuals: Tensor  # (S, window, R)
    log_likelihood: Tensor  # of the observations at the mode, (S, trial), nats
    log_evidence: Tensor  # (S, trial), nats
    covariance: Tensor  # (S, window, R, R)
    next_covariance: Tensor  # of a node with its successor, (S, window, R, R)
    to_next: Tensor  # dF/dz (S, window, R, R)
    damping: Tensor  # (S, trial)


def last_latents(windows: Windows, latents: Tensor) -> Tensor:
    """Return each window's last latent (S, window, R): where there is a next node, the prediction of it."""
    index = (windows.lengths - 1)[None, :, None, None].expand(latents.shape[0], -1, 1, latents.shape[3])
    return latents.gather(2, index)[:, :, 0]


def evaluate(net: ShootingNetwork, windows: Windows, drive: scan.Drive, nodes: Tensor) -> Evaluation:
    """Return the trajectory from nodes (S, window, R) and log p(Y, nodes) of each trial."""
    latents = scan.trajectory(net.nonlinearity, net.cell, nodes, drive)
    log_p = readouts.log_likelihood(net.likelihood, net.readout, latents, windows.data)
    expected = net.prior.mean[:, None] + torch.matmul(drive.filtered[:, :, 0], net.prior.input_weights.mT)
    before = last_latents(windows, latents).roll(1, dims=1)
    residuals = nodes - torch.where(windows.first[None, :, None], expected, before)
    log_p = windows.per_trial(log_p)
    log_prior = windows.per_trial(_node_log_prior(net.prior, windows, residuals))
    return Evaluation(latents, residuals, log_p, log_p + log_prior)


def _node_log_prior(prior: Prior, windows: Windows, residuals: Tensor) -> Tensor:
    values = [gaussian_log_density(residuals, c) for c in (prior.covariance, prior.node_covariance)]
    return torch.where(windows.first, *values)


def gaussian_log_density(residuals: Tensor, covariance: Tensor) -> Tensor:
    """Return log N(r; 0, covariance (S, R, R)) for residuals (S, window, R)."""
    root, failed = torch.linalg.cholesky_ex(covariance)
    root = torch.where(failed[:, None, None] > 0, torch.nan, root)  # a diverged network has no density, and no error
    white = torch.linalg.solve_triangular(root, residuals.mT, upper=False)  # (S, R, window)
    log_det = 2 * torch.log(torch.diagonal(root, dim1=-2, dim2=-1)).sum(-1)
    return -0.5 * ((white**2).sum(1) + log_det[:, None] + residuals.shape[-1] * math.log(2 * math.pi))


@torch.no_grad()
def posterior(
    net: ShootingNetwork,
    windows: Windows,
    starts: list[Tensor],
    *,
    max_steps: int = 50,
    tol: float = 1e-9,
    damping: Tensor | None = None,
    approximate: bool = False,
) -> Posterior:
    """Return the mode of the nodes and its Laplace evidence.

    Parameters
    ----------
    starts : list of Tensors (S, window, R)
        Guesses of the nodes; each trial goes on from the one with the highest joint density.
    max_steps : int
        Levenberg-Marquardt steps at most.
    tol : float
        A trial has converged when a Newton step promises less than this many nats.
    damping : Tensor (S, trial), optional
        Where to start the damping; carried from epoch to epoch in training.
    approximate : bool
        Whether the curvature before the last step stands for that after it (a third of the work, in training).
    """
    drive = windows.drive(net.cell.alpha if net.filter_inputs else None)
    here = evaluate(net, windows, drive, starts[0])
    nodes = starts[0]
    for start in starts[1:]:
        here, nodes, _ = _better(windows, here, nodes, evaluate(net, windows, drive, start), start)
    lam = torch.full_like(here.joint, 1e-3) if damping is None else damping
    done = torch.zeros_like(here.joint, dtype=torch.bool)
    system = _system(net, windows, drive, here)
    for count in range(max_steps):
        delta, promise = _newton_step(windows, system, lam)
        done = done | ~(promise > tol)
        proposal = nodes + torch.where(_of_windows(windows, done)[..., None], torch.zeros_like(delta), delta)
        there = evaluate(net, windows, drive, proposal)
        here, nodes, taken = _better(windows, here, nodes, there, proposal)
        lam = torch.where(done, lam, torch.where(taken, lam * 0.2, lam * 8.0).clamp(1e-12, 1e12))
        done = done | (lam >= 1e12)
        if not (approximate and count == max_steps - 1):
            system = _system(net, windows, drive, here)
        if done.device.type == "cpu" and bool(done.all()):  # on a GPU a look would cost a host sync a step
            break
    if not approximate:
        here, nodes, system = _polished(net, windows, drive, here, nodes, system)
    return _laplace(net, windows, here, nodes, system, lam)


def _polished(
    net: ShootingNetwork, windows: Windows, drive: scan.Drive, here: Evaluation, nodes: Tensor, system: _System
):
    """Return the mode after one more undamped step, where it promises too little to be judged by the density."""
    delta, promise = _newton_step(windows, system, torch.zeros_like(here.joint))
    small = _of_windows(windows, promise.abs() < 1e-6)[..., None]
    nodes = nodes + torch.where(small & torch.isfinite(delta), delta, torch.zeros_like(delta))
    here = evaluate(net, windows, drive, nodes)
    return here, nodes, _system(net, windows, drive, here)


def _of_windows(windows: Windows, per_trial: Tensor) -> Tensor:
    """Return values (S, trial) spread over the windows (S, window) of each trial."""
    return per_trial[:, windows.trial]


def _better(windows: Windows, here: Evaluation, nodes: Tensor, there: Evaluation, proposal: Tensor):
    """Return, trial by trial, whichever evaluation has the higher joint density, its nodes, and where it is `there`."""
    taken = (there.joint > here.joint) | (torch.isnan(here.joint) & ~torch.isnan(there.joint))
    mine = _of_windows(windows, taken)
    latents = torch.where(mine[:, :, None, None], there.latents, here.latents)
    residuals = torch.where(mine[:, :, None], there.residuals, here.residuals)
    log_likelihood = torch.where(taken, there.log_likelihood, here.log_likelihood)
    joint = torch.where(taken, there.joint, here.joint)
    return Evaluation(latents, residuals, log_likelihood, joint), torch.where(mine[:, :, None], proposal, nodes), taken


class _System(NamedTuple):
    """The Gauss-Newton system of every trial, and how the nodes follow from each other."""

    chains: Chains
    to_next: Tensor  # (S, window, R, R)


def _system(net: ShootingNetwork, windows: Windows, drive: scan.Drive, here: Evaluation) -> _System:
    gradient, information = readouts.curvature(net.likelihood, net.readout, here.latents, windows.data)
    rank = gradient.shape[-1]
    g, h, to_next = scan.pulled_back(net.nonlinearity, net.cell, here.latents, drive, gradient, information)
    p_first, p_node = (torch.linalg.inv(c)[:, None] for c in (net.prior.covariance, net.prior.node_covariance))
    precision = torch.where(windows.first[None, :, None, None], p_first, p_node)  # (S, window, R, R)
    ahead = windows.has_next[None, :, None, None]
    coupling = torch.where(ahead, to_next.mT @ p_node, torch.zeros((), dtype=h.dtype, device=h.device))
    next_residual = here.residuals.roll(-1, dims=1)[..., None]
    diagonal = h + precision + coupling @ to_next
    gradient = g - (precision @ here.residuals[..., None])[..., 0] + (coupling @ next_residual)[..., 0]
    eye = torch.eye(rank, dtype=h.dtype, device=h.device)
    present = windows.present[None, :, :, None, None]
    chains = Chains(
        torch.where(present, diagonal[:, windows.table], eye),
        torch.where(present, -coupling[:, windows.table], torch.zeros_like(eye)),
        gradient[:, windows.table] * windows.present[None, :, :, None],
        windows.present.sum(1),
    )
    return _System(chains, to_next)


def _newton_step(windows: Windows, system: _System, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return the damped step of every node (S, window, R) and the nats it promises (S, trial)."""
    delta = chain.solve(system.chains, damping)  # (S, trial, node, R)
    promise = 0.5 * (delta * system.chains.gradient).sum((2, 3))
    return _to_windows(windows, delta), promise


def _to_windows(windows: Windows, by_node: Tensor) -> Tensor:
    """Return values (S, trial, node, ...) as (S, window, ...)."""
    return by_node[:, windows.present]  # row-major: trials in order, their nodes in order, as the windows lie


def _laplace(
    net: ShootingNetwork, windows: Windows, here: Evaluation, nodes: Tensor, system: _System, lam: Tensor
) -> Posterior:
    inverse = chain.invert(system.chains)
    n_nodes = system.chains.n_nodes
    log_evidence = here.joint + 0.5 * (n_nodes * nodes.shape[-1] * math.log(2 * math.pi) - inverse.log_det)
    covariance, cross = (_to_windows(windows, blocks) for blocks in (inverse.diagonal, inverse.upper))
    return Posterior(
        nodes, here.latents, here.residuals, here.log_likelihood, log_evidence, covariance, cross, system.to_next, lam
    )
