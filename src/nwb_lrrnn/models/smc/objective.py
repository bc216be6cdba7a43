"""What `SMCLowRankRNN` maximises: the variational SMC bound, by fresh noise in training, by fixed noise held out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.kernels.particle_types import Noise
from nwb_lrrnn.models.smc import bound
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.coordinates import Coordinates
from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.members import Member
from nwb_lrrnn.models.smc.network import ParticleForm

Batch = list[list[TrialData | None]]  # by restart and member


class Batches(Protocol):
    """Where the members of all restarts take their trials from."""

    def shuffled(self, rng: np.random.Generator, size: int) -> Iterator[Batch]:
        """Yield all trials once, each member's share of them."""
        ...


class FilterObjective:
    """The `Objective` of the training loop, for S restarts of M networks: all M are trained, the held-out ones judge.

    A restart's parameters are those of its M networks one after the other: they move in the same epochs and at the same
    rate, and go back or stop together.
    """

    def __init__(
        self,
        form: ParticleForm,
        coordinates: Coordinates,
        plan: Plan,
        source: Batches,
        members: list[list[Member]],
        batch_size: int,
        baseline: float,
        seed: int,
    ):
        self.form, self.coordinates, self.plan, self.source = form, coordinates, plan, source
        n_nets, size = coordinates.origin.shape
        free = torch.zeros_like(coordinates.origin).reshape(len(members), -1)
        self.parameters = free.requires_grad_()  # free numbers (S, M * size)
        self.size, self.n_members = size, n_nets // len(members)
        self.batch_size, self.baseline = batch_size, baseline
        self.resolution = 0.002 * form.n_units
        self.generator = torch.Generator(device=coordinates.origin.device).manual_seed(seed)
        judges = [[(k, m.held) for k, m in enumerate(restart) if m.held is not None] for restart in members]
        self.judges = [[(k, held, self._noise(held)) for k, held in restart] for restart in judges]
        self.climbed: list[Tensor] = []

    def flats(self, free: Tensor) -> Tensor:
        """Return the parameters (S, M, size) of free numbers (S, M * size)."""
        flats = self.coordinates.parameters(free.reshape(-1, self.size))
        return flats.reshape(len(free), self.n_members, self.size)

    def begin_epoch(self, epoch: int) -> None:
        """Do nothing: everything that is fitted is a parameter."""

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield the trials of each batch, shuffled."""
        self.climbed = []
        yield from self.source.shuffled(rng, self.batch_size)

    def loss(self, batch: Batch) -> Tensor:
        """Return minus the bound per observed bin of the batch, the mean over members (S,)."""
        bounds = []
        for flats, shares in zip(self.flats(self.parameters), batch, strict=True):
            nothing = 0.0 * flats.sum()
            bounds.append(
                torch.stack([nothing if d is None else self._of(f, d) for f, d in zip(flats, shares, strict=True)])
            )
        per_bin = torch.stack(bounds)  # (S, M)
        self.climbed.append(per_bin[:, -1].detach())
        return -per_bin.mean(1)

    def judge(self) -> dict[str, Tensor]:
        """Return the bound per bin of all held-out trials, and the last member's of the last epoch's batches."""
        with torch.no_grad():
            flats = self.flats(self.parameters)
            validation = torch.stack([self._held(f, judges) for f, judges in zip(flats, self.judges, strict=True)])
        elbo = torch.stack(self.climbed).mean(0) if self.climbed else torch.full_like(validation, torch.nan)
        return {"elbo": elbo, "validation": validation}

    def snapshot(self) -> dict[str, Tensor]:
        """Return nothing: the parameters are all the state."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Return the state of the noise, and the bounds of the last epoch's batches."""
        climbed = {"climbed": torch.stack(self.climbed)} if self.climbed else {}
        return {"generator": self.generator.get_state(), **climbed}

    def load(self, state: dict[str, Tensor]) -> None:
        """Become what `state` returned."""
        self.generator.set_state(state["generator"])
        self.climbed = list(state["climbed"].to(self.parameters.device)) if "climbed" in state else []

    def _of(self, flat: Tensor, data: TrialData) -> Tensor:
        """Return the bound per observed bin of one network under fresh noise."""
        n_bins = data.n_bins.sum().clamp(min=1.0)  # of trials in which nothing is observed
        return self._bound(flat, data, self._noise(data)) / n_bins

    def _held(self, flats: Tensor, judges: list[tuple[int, TrialData, Noise]]) -> Tensor:
        bounds = torch.stack([self._bound(flats[k], held, noise) for k, held, noise in judges])
        return bounds.sum() / torch.stack([held.n_bins.sum() for _, held, _ in judges]).sum()

    def _bound(self, flat: Tensor, data: TrialData, noise: Noise) -> Tensor:
        net = self.form.network(self.coordinates.layout, flat[None])
        return bound.run(net, data, self.plan, noise)[0].sum()

    def _noise(self, data: TrialData) -> Noise:
        like = self.coordinates.origin
        plan = self.plan
        return bound.draw_noise(plan.scheme, data.y.shape[:2], plan.n_particles, self.form.rank, like, self.generator)


def information(
    form: ParticleForm, coordinates: Coordinates, plan: Plan, data: TrialData, n_trials: int, seed: int
) -> Tensor:
    """Return the mean square of the gradients of single trials, up to `n_trials`, per bin (size,): of one network."""
    free = torch.zeros_like(coordinates.origin).requires_grad_()
    generator = torch.Generator(device=free.device).manual_seed(seed)
    n_trials = min(n_trials, len(data.lengths))
    total = torch.zeros_like(free[0])
    for trial in torch.linspace(0, len(data.lengths) - 1, n_trials, device=free.device).long().split(1):
        one = data.take(trial)
        noise = bound.draw_noise(plan.scheme, one.y.shape[:2], plan.n_particles, form.rank, free.detach(), generator)
        net = form.network(coordinates.layout, coordinates.parameters(free))
        n_bins = one.n_bins.sum().clamp(min=1.0)
        (gradient,) = torch.autograd.grad(bound.run(net, one, plan, noise)[0].sum() / n_bins, free)
        total += gradient[0] ** 2 * one.n_bins.sum()
    return total / n_trials
