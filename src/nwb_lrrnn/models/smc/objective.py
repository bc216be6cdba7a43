"""What `SMCLowRankRNN` maximises: the variational SMC bound, by fresh noise in training, by fixed noise held out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.kernels.particle_types import Noise
from nwb_lrrnn.models.smc import bound
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.coordinates import Coordinates
from nwb_lrrnn.models.smc.data import Batches, TrialData
from nwb_lrrnn.models.smc.network import ParticleForm, ParticleNetwork


class FilterObjective:
    """The `Objective` of the training loop, for S restarts side by side, which share the noise."""

    def __init__(
        self,
        form: ParticleForm,
        coordinates: Coordinates,
        plan: Plan,
        source: Batches,
        held_out: TrialData,
        batch_size: int,
        baseline: float,
        seed: int,
    ):
        self.form, self.coordinates, self.plan = form, coordinates, plan
        self.parameters = torch.zeros_like(coordinates.origin).requires_grad_()  # free numbers
        self.source, self.held_out = source, held_out
        self.batch_size, self.baseline = batch_size, baseline
        self.resolution = 0.002 * form.n_units
        self.generator = torch.Generator(device=coordinates.origin.device).manual_seed(seed)
        self.held_noise = self._noise(held_out)
        self.climbed: list[Tensor] = []

    def network(self, free: Tensor) -> ParticleNetwork:
        """Return the networks of free numbers (S, size)."""
        return self.form.network(self.coordinates.layout, self.coordinates.parameters(free))

    def information(self, train: TrialData, n_batches: int) -> Tensor:
        """Return the mean square of the gradients of single trials, up to `n_batches`, per bin (S, size)."""
        total = torch.zeros_like(self.parameters)
        n_batches = min(n_batches, len(train.lengths))
        chosen = torch.linspace(0, len(train.lengths) - 1, n_batches, device=total.device).long()
        for trial in chosen.split(1):
            data = train.take(trial)
            (gradient,) = torch.autograd.grad(self.per_bin(data, self._noise(data)).sum(), self.parameters)
            total += gradient**2 * data.n_bins.sum()
        return total / n_batches

    def begin_epoch(self, epoch: int) -> None:
        """Do nothing: everything that is fitted is a parameter."""

    def batches(self, rng: np.random.Generator) -> Iterator[TrialData]:
        """Yield the trials of each batch, shuffled."""
        self.climbed = []
        yield from self.source.shuffled(rng, self.batch_size)

    def loss(self, batch: TrialData) -> Tensor:
        """Return minus the bound per observed bin of the batch (S,)."""
        per_bin = self.per_bin(batch, self._noise(batch))
        self.climbed.append(per_bin.detach())
        return -per_bin

    def judge(self) -> dict[str, Tensor]:
        """Return the bound per bin of the held-out trials, and that of the last epoch's batches as they came."""
        with torch.no_grad():
            validation = self.per_bin(self.held_out, self.held_noise)
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

    def per_bin(self, data: TrialData, noise: Noise) -> Tensor:
        """Return the bound per observed bin (S,)."""
        increments, _ = bound.run(self.network(self.parameters), data, self.plan, noise)
        return increments.sum((1, 2)) / data.n_bins.sum().clamp(min=1.0)  # of trials in which nothing is observed

    def _noise(self, data: TrialData) -> Noise:
        like = self.parameters.detach()
        plan = self.plan
        return bound.draw_noise(plan.scheme, data.y.shape[:2], plan.n_particles, self.form.rank, like, self.generator)
