"""What `LowRankRNN` maximises: the Laplace evidence of its trajectories, by alternating latents and parameters.

Each epoch one Newton step brings every node to the mode under the current parameters and the laws of the nodes are
set to their closed-form optimum (as in Laplace-EM); then the parameters climb the log joint density at those nodes
through the trajectories' adjoint. Held-out trials are judged by their own Laplace evidence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.low_rank.network import ShootingForm
from nwb_lrrnn.models.low_rank.shooting import (
    Posterior,
    Prior,
    ShootingNetwork,
    gaussian_log_density,
    last_latents,
    posterior,
)
from nwb_lrrnn.models.low_rank.windows import Windows, join
from nwb_lrrnn.models.networks import scan
from nwb_lrrnn.models.observation import readouts

_FLOOR = 1e-6  # of the latents' own variance: no law of a node is narrower
_PRIOR_TRIALS = 1.0  # pseudo-observations that keep covariances proper with few trials


class ShootingObjective:
    """The `Objective` of the training loop, for S restarts side by side."""

    def __init__(
        self,
        form: ShootingForm,
        flat: Tensor,
        prior: Prior,
        train: tuple[Windows, Tensor],
        held_out: tuple[Windows, Tensor] | None,
        batch_size: int | None,
        baseline: float,
    ):
        self.form, self.layout = form, form.layout()
        self.parameters = flat.requires_grad_()
        self.prior = prior
        self.windows, self.nodes = train
        self.held_out = held_out
        self.batch_size = batch_size
        self.baseline = baseline
        self.resolution = 0.002 * form.n_units
        self.damping: Tensor | None = None
        self.held_out_damping: Tensor | None = None
        self.terms: dict[str, Tensor] = {}
        self.n_bins = self.windows.bins.sum()

    def network(self, flat: Tensor) -> ShootingNetwork:
        """Return the networks of flat parameters, with the current laws of the nodes."""
        return self.form.network(self.layout, flat, self.prior)

    def begin_epoch(self, epoch: int) -> None:
        """Move the nodes to their mode and set their laws to the optimum."""
        net = self.network(self.parameters.detach())
        steps = 8 if epoch == 1 else 1
        post = posterior(net, self.windows, [self.nodes], max_steps=steps, damping=self.damping, approximate=True)
        self.nodes, self.damping = post.nodes, post.damping.clamp(max=1e3)
        with torch.no_grad():
            self.prior = update_prior(net, self.windows, post)
            evidence = post.log_evidence.sum(1) / self.n_bins
            jump = torch.where(self.windows.first[:, None], torch.zeros_like(post.residuals), post.residuals)
            self.terms = {
                "log_evidence": evidence,
                "log_likelihood": post.log_likelihood.sum(1) / self.n_bins,
                "largest_jump": (jump.abs() / latent_moments(post.latents, self.windows)[1].diagonal(
                    dim1=1, dim2=2).sqrt()[:, None]).amax((1, 2)),
            }  # fmt: skip

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the windows of each batch, shuffled (all at once where they fit one batch)."""
        n = len(self.windows.lengths)
        size = n if self.batch_size is None else self.batch_size
        order = torch.as_tensor(rng.permutation(n) if size < n else np.arange(n), device=self.windows.lengths.device)
        yield from order.split(size)

    def loss(self, batch: Tensor) -> Tensor:
        """Return minus the log joint density per observed bin (S,), at the current nodes."""
        windows = self.windows if len(batch) == len(self.windows.lengths) else self.windows.take(batch)
        following = self.nodes.roll(-1, dims=1)[:, batch] if self.windows.present.shape[1] > 1 else None
        return negative_joint(self.network(self.parameters), windows, self.nodes[:, batch], following)

    def judge(self) -> dict[str, Tensor]:
        """Return the evidence per bin of the held-out trials (of the training trials where none are held out)."""
        if self.held_out is None:
            return {**self.terms, "validation": self.terms["log_evidence"]}
        windows, nodes = self.held_out
        net = self.network(self.parameters.detach())
        validation, nodes, self.held_out_damping = judged(net, windows, nodes, self.held_out_damping)
        self.held_out = windows, nodes
        return {**self.terms, "validation": validation}

    def paths(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the current trajectories (S, trial, time, latent) of the training trials and of the held-out ones."""
        return self._path(self.windows, self.nodes), None if self.held_out is None else self._path(*self.held_out)

    @torch.no_grad()
    def _path(self, windows: Windows, nodes: Tensor) -> np.ndarray:
        net = self.network(self.parameters.detach())
        drive = windows.drive(net.cell.alpha if net.filter_inputs else None)
        latents = scan.trajectory(net.nonlinearity, net.cell, nodes, drive).cpu().double().numpy()
        shape = (len(windows.table), int(windows.spans[:, 2].max()))
        return np.stack([join(row, windows, shape) for row in latents])

    def snapshot(self) -> dict[str, Tensor]:
        """Return the nodes and their laws (live, so that the loop can put them back)."""
        held_out = {} if self.held_out is None else {"held_out_nodes": self.held_out[1]}
        return {"nodes": self.nodes, **self.prior._asdict(), **held_out}

    def state(self) -> dict[str, Tensor]:
        """Return nodes, their laws and how far their Newton steps are damped."""
        damping = {"damping": self.damping, "held_out_damping": self.held_out_damping}
        return self.snapshot() | {name: tensor for name, tensor in damping.items() if tensor is not None}

    def load(self, state: dict[str, Tensor]) -> None:
        """Become what `state` returned."""
        found = {name: tensor.to(self.nodes) for name, tensor in state.items()}
        self.nodes, self.prior = found["nodes"], Prior(*(found[name] for name in Prior._fields))
        self.damping, self.held_out_damping = found.get("damping"), found.get("held_out_damping")
        if self.held_out is not None:
            self.held_out = self.held_out[0], found["held_out_nodes"]


def negative_joint(net: ShootingNetwork, windows: Windows, nodes: Tensor, following: Tensor | None) -> Tensor:
    """Return minus the log joint density per observed bin (S,) of windows from nodes (S, window, R).

    `following` are the nodes of the windows after each, None where no window has one after it.
    """
    drive = windows.drive(net.cell.alpha if net.filter_inputs else None)
    latents = scan.trajectory(net.nonlinearity, net.cell, nodes, drive)
    total = readouts.log_likelihood(net.likelihood, net.readout, latents, windows.data).sum(1)
    if following is not None:
        log_node = gaussian_log_density(following - last_latents(windows, latents), net.prior.node_covariance)
        total = total + torch.where(windows.has_next, log_node, torch.zeros_like(log_node)).sum(1)
    return -total / windows.bins.sum().clamp(min=1.0)  # of a batch in which nothing is observed


def judged(
    net: ShootingNetwork, windows: Windows, nodes: Tensor, damping: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the evidence per bin (S,) after a step or two of held-out nodes, the nodes there and their damping."""
    steps = 8 if damping is None else 2
    post = posterior(net, windows, [nodes], max_steps=steps, damping=damping, approximate=True)
    return post.log_evidence.sum(1) / windows.bins.sum(), post.nodes, post.damping.clamp(max=1e3)


def update_prior(net: ShootingNetwork, windows: Windows, post: Posterior) -> Prior:
    """Return the laws of the nodes at their optimum given the posterior of the nodes (the M-step)."""
    prior = net.prior
    scale = latent_moments(post.latents, windows)[1]  # (S, R, R)
    rank = scale.shape[-1]
    floor = _FLOOR * torch.diag_embed(scale.diagonal(dim1=1, dim2=2))
    first = windows.first
    starts = post.nodes[:, first]
    mean, weights, residual = prior.mean, prior.input_weights, starts - prior.mean[:, None]
    v = windows.inputs[first][:, 0]  # (trial, input)
    if v.shape[-1] and not net.filter_inputs:  # a filtered input is 0 in the first bin and says nothing of z_1
        design = torch.cat([v, torch.ones_like(v[:, :1])], dim=1)
        gram = design.T @ design + 1e-3 * torch.diag(torch.cat([v.var(0, correction=0) + 1e-9, v.new_zeros(1)]))
        solved = torch.linalg.solve(gram, design.T @ starts)  # (S, input + 1, R)
        weights, mean = solved[:, :-1].mT, solved[:, -1]
        residual = starts - design @ solved
    else:
        mean = starts.mean(1)
        residual = starts - mean[:, None]
    n = starts.shape[1]
    spread = residual.mT @ residual + post.covariance[:, first].sum(1)
    covariance = (spread + _PRIOR_TRIALS * scale) / (n + _PRIOR_TRIALS) + floor
    node_covariance = prior.node_covariance
    follows = torch.nonzero(~first)[:, 0]
    if len(follows):
        before = follows - 1
        jac, cross = post.to_next[:, before], post.next_covariance[:, before]
        shared = jac @ cross
        unsure = post.covariance[:, follows] + jac @ post.covariance[:, before] @ jac.mT - shared - shared.mT
        r = post.residuals[:, follows]
        node_covariance = (r.mT @ r + unsure.sum(1) + 0.01 * scale) / (len(follows) + rank) + floor
        node_covariance = 0.5 * (node_covariance + node_covariance.mT)
    return Prior(mean, weights, 0.5 * (covariance + covariance.mT), node_covariance)


def latent_moments(latents: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the mean (S, R) and covariance (S, R, R) of latents (S, window, T, R) over the bins of the data."""
    steps = windows.lengths - windows.has_next.to(windows.lengths.dtype)
    inside = (torch.arange(latents.shape[2], device=latents.device)[None] < steps[:, None])[None, :, :, None]
    n = steps.sum()
    mean = (latents * inside).sum((1, 2)) / n
    centred = (latents - mean[:, None, None]) * inside
    return mean, torch.einsum("swtr,swtq->srq", centred, centred) / n


def with_prior(net: ShootingNetwork, prior: Prior) -> ShootingNetwork:
    """Return the networks with other laws of the nodes."""
    return dataclasses.replace(net, prior=prior)


def select(net: ShootingNetwork, row: int) -> ShootingNetwork:
    """Return one of S networks as a network of one."""
    rows = slice(row, row + 1)

    def chosen(parts):
        return type(parts)(*(t[rows] for t in parts))

    return dataclasses.replace(net, cell=chosen(net.cell), readout=chosen(net.readout), prior=chosen(net.prior))
