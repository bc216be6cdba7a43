"""Bounds of trials under fixed noise, and what they decide: whether a network is better, how many particles do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.smc import bound
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.network import ParticleNetwork

PARTICLES = (16, 64, 256)  # the numbers of particles that are tried where none is asked for
GAP, GAP_PER_UNIT = 0.02, 3e-4  # nats per bin that four times as many particles may gain, the larger of the two
MOST_IN_TRAINING = 64  # particles: the bound that is reported may take more
LEAST_IN_SCORES = 64  # with 16 the noise of the bound is as large as what a nonlinear model gains over a linear one
JUDGED = 2000  # bins on which the numbers of particles are compared
LEAST_GAIN, LEAST_PER_UNIT = 2e-3, 3e-4  # nats per bin of the held-out bound: below the larger a gain is none
_ERRORS = 2.0  # standard errors over trials that a gain must exceed


class Gain(NamedTuple):
    """What one network's bound of trials is above another's, under the same noise, in nats per bin."""

    per_bin: float
    error: float  # standard error, over trials
    least: float  # that counts

    @property
    def is_real(self) -> bool:
        """Whether the bound rises: by more than two standard errors, and by something at all."""
        return self.per_bin > max(self.least, _ERRORS * self.error)


def gain_of(after: Tensor, before: Tensor, n_bins: Tensor, n_units: int) -> Gain:
    """Return the gain from bounds (B,) of trials."""
    gain, total = after - before, n_bins.sum()
    per_bin = gain.sum() / total
    n = len(gain)
    error = torch.sqrt(n / max(n - 1, 1) * ((gain - per_bin * n_bins) ** 2).sum()) / total
    return Gain(float(per_bin), float(error), max(LEAST_GAIN, LEAST_PER_UNIT * n_units))


@torch.no_grad()
def trial_bounds(net: ParticleNetwork, data: TrialData, plan: Plan, seed: int) -> Tensor:
    """Return the bound of every trial (B,) under noise from one seed."""
    like = net.cell.left_vectors
    generator = torch.Generator(device=like.device).manual_seed(seed)
    noise = bound.draw_noise(plan.scheme, data.y.shape[:2], plan.n_particles, like.shape[1], like, generator)
    return bound.run(net, data, plan, noise)[0][0].sum(1)


@torch.no_grad()
def choose_particles(
    net: ParticleNetwork, data: TrialData, plan: Plan, seed: int, *, least: int = 0, most: int = PARTICLES[-1]
) -> Plan:
    """Return the plan with the fewest particles, least to most, at which four times as many gain next to nothing."""
    n_trials = max(1, min(len(data.lengths), int(JUDGED / max(float(data.n_bins.mean()), 1.0))))
    few = data.take(torch.arange(n_trials, device=data.lengths.device))
    gap = max(GAP, GAP_PER_UNIT * data.y.shape[2])
    chosen, before = most, -np.inf
    for k in reversed([k for k in PARTICLES if least <= k <= most]):
        value = float(trial_bounds(net, few, plan._replace(n_particles=k), seed).sum() / few.n_bins.sum())
        if np.isfinite(before) and before - value > gap:
            break
        chosen, before = k, value
    return plan._replace(n_particles=chosen)
