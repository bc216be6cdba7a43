"""Particle expectation maximisation of the networks of one restart, all alike, while what they hold out rises."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.smc import bound
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.evidence import JUDGED, LEAST_GAIN, Gain, gain_of, trial_bounds
from nwb_lrrnn.models.smc.members import Member
from nwb_lrrnn.models.smc.network import ParticleForm, ParticleNetwork
from nwb_lrrnn.models.smc.regression import RIDGES, rates_of, refit
from nwb_lrrnn.models.smc.smoothing import smooth
from nwb_lrrnn.models.training.checkpoints import LoggedStep

_FACTOR, _MOST_FACTORS = 1.3, 6  # by which Sigma_z is multiplied, and how often at most
_PATIENCE = 3  # rounds without a gain
_ROUNDS = 20  # of expectation maximisation at most
_DRAWS = 2  # trajectories of every trial
_NEURON_STEPS = 25  # of the quasi-Newton method, a round


class Standing(NamedTuple):
    """Where a restart is: a network for every member, and what is held out under them."""

    flats: Tensor  # (M, size)
    value: Tensor  # bound of every held-out trial (B,), the folds one after the other


class ParticleEM:
    """The climb of one restart: rounds that all members take alike, chosen by the trials that they hold out."""

    def __init__(self, form: ParticleForm, plan: Plan, members: list[Member], seed: int):
        self.form, self.layout, self.members, self.seed = form, form.layout(), members, seed
        self.judged = [(k, member.held) for k, member in enumerate(members) if member.held is not None]
        self.n_bins = torch.cat([held.n_bins for _, held in self.judged])
        self.guide = plan
        # latents must be known better than the bound: few particles do for trajectories, more for the comparison
        self.plan = plan._replace(n_particles=max(plan.n_particles, 32))

    def stand(self, flats: Tensor) -> Standing:
        """Return where networks (M, size) are."""
        return Standing(flats, self.value(flats))

    def gain(self, after: Standing, before: Standing) -> Gain:
        """Return what the held-out trials gain."""
        return gain_of(after.value, before.value, self.n_bins, self.form.n_units)

    def run(self, start: Standing, step: LoggedStep, most: int) -> Standing:
        """Return the best of where rounds, `most` at most, lead that go on while they raise the held-out bound."""
        now = best = start
        k = waited = 0
        kept = step.recall()
        if kept is not None:
            now, best = (_standing(kept, name, start.flats) for name in ("now", "best"))
            k, waited = (int(n) for n in kept["counts"])
        while k < min(_ROUNDS, most) and waited < _PATIENCE:
            now = self._round(now.flats, best.value, k)
            if not bool(torch.isfinite(now.flats).all()):  # rates beyond numbers: no round goes on from there
                break
            k, waited = k + 1, waited + 1
            if now.value.sum() > best.value.sum():
                waited = 0 if now.value.sum() > best.value.sum() + LEAST_GAIN * self.n_bins.sum() else waited
                best = now
            step.store(lambda kept=(now, best), counts=(k, waited): _arrays(*kept) | {"counts": np.array(counts)})
        return best

    def _round(self, flats: Tensor, best: Tensor, k: int) -> Standing:
        """Return where round k leads: the ridge, whether neurons move and the noise are those that are judged best."""
        draws = [self.draws(flat, member.train, k) for flat, member in zip(flats, self.members, strict=True)]

        def refitted(ridge: float, n_steps: int, members: list[int]) -> Tensor:
            reached = flats.clone()
            for m in members:
                reached[m] = self.refitted(flats[m], self.members[m].train, draws[m], ridge, n_steps)
            return reached

        judged = [k for k, _ in self.judged]
        unjudged = [k for k in range(len(self.members)) if k not in judged]
        tried = [(self.stand(refitted(r, 0, judged)), r, 0) for r in RIDGES]
        found, ridge, n_steps = max(tried, key=lambda t: float(t[0].value.sum()))
        if found.value.sum() > best.sum():  # moving the neurons costs most of a round
            further = self.stand(refitted(ridge, _NEURON_STEPS, judged))
            if further.value.sum() > found.value.sum():
                found, n_steps = further, _NEURON_STEPS
        power, value = self._noise_power(found)
        reached = found.flats.clone()
        if unjudged:
            reached[unjudged] = refitted(ridge, n_steps, unjudged)[unjudged]
        return Standing(torch.stack([self.rescaled(flat, power) for flat in reached]), value)

    def _noise_power(self, standing: Standing) -> tuple[int, Tensor]:
        """Return the power of `_FACTOR` times which Sigma_z is judged best, the first that a climb from 0 meets.

        Expectation maximisation is slowest in the noise of the latents, the more so the less is seen of them.
        """
        best, power = standing.value, 0
        for direction in (1, -1):
            if power:
                break
            for n in range(1, _MOST_FACTORS + 1):
                value = self.value(torch.stack([self.rescaled(flat, direction * n) for flat in standing.flats]))
                if not value.sum() > best.sum():
                    break
                best, power = value, direction * n
        return power, best

    def rescaled(self, flat: Tensor, power: int) -> Tensor:
        """Return the parameters (size,) with Sigma_z times a power of `_FACTOR`."""
        if not power:
            return flat
        parts = {name: value.clone() for name, value in self.layout.unpack(flat[None]).items()}
        theta, shift = parts["noise"], 0.5 * power * float(np.log(_FACTOR))
        if theta.ndim == 2:
            parts["noise"] = theta + shift
        else:  # L times the root of the factor: entries below the diagonal, logarithms on it
            lower = torch.tril(theta, -1) * float(np.exp(shift))
            parts["noise"] = lower + torch.diag_embed(theta.diagonal(dim1=1, dim2=2) + shift)
        return self.layout.pack(parts)[0]

    def value(self, flats: Tensor) -> Tensor:
        """Return the bound of every held-out trial (B,) under the network of its fold; -inf where it is no number."""
        bounds = [trial_bounds(self.network(flats[k]), held, self.plan, self.seed + k) for k, held in self.judged]
        return torch.cat(bounds).nan_to_num(nan=-torch.inf)

    def refitted(self, flat: Tensor, data: TrialData, draws: Tensor, ridge: float, n_steps: int) -> Tensor:
        """Return the parameters (size,) fitted to trajectories."""
        parts = {name: value[0] for name, value in self.layout.unpack(flat[None]).items()}
        fitted = refit(self.form, self.network(flat), parts, data, draws, ridge, n_steps)
        return self.layout.pack({name: fitted[name][None] for name in self.layout.shapes})[0]

    def network(self, flat: Tensor) -> ParticleNetwork:
        """Return the network of one vector of parameters."""
        kept = self.form.scale.dtype
        return self.form.network(self.layout, flat[None].to(kept))

    @torch.no_grad()
    def draws(self, flat: Tensor, data: TrialData, round_: int) -> Tensor:
        """Return trajectories (B, T, M, R) of trials."""
        net = self.network(flat)
        like = net.cell.left_vectors
        generator = torch.Generator(device=like.device).manual_seed(self.seed + round_)
        shape = data.y.shape[:2]
        noise = bound.draw_noise(self.plan.scheme, shape, self.plan.n_particles, like.shape[1], like, generator)
        _, record = bound.run(net, data, self.plan, noise)
        points = torch.rand((*shape, _DRAWS), generator=generator, dtype=torch.float64, device=like.device)
        return smooth(record, data.lengths, net.law.noise_root, points).draws[0]

    @torch.no_grad()
    def rates(self, flat: Tensor) -> Tensor:
        """Return the rates (bin, N) of the last member's network along trajectories."""
        data = self.members[-1].train
        draws = self.draws(flat, data, _ROUNDS)[:, :, 0]
        inside = torch.arange(draws.shape[1], device=draws.device)[None] < data.lengths[:, None]
        parts = {name: value[0] for name, value in self.layout.unpack(flat[None]).items()}
        v = self.network(flat).moves(data).inputs[0].double()
        z, v = draws[inside], v[inside]
        keep = torch.linspace(0, len(z) - 1, min(len(z), JUDGED), device=z.device).long()
        return rates_of(self.form, parts, z[keep], v[keep])


def _arrays(now: Standing, best: Standing) -> dict[str, np.ndarray]:
    return {
        f"{name} {part}": tensor.detach().cpu().numpy()
        for name, standing in (("now", now), ("best", best))
        for part, tensor in standing._asdict().items()
    }


def _standing(kept: dict[str, np.ndarray], name: str, like: Tensor) -> Standing:
    return Standing(*(torch.as_tensor(kept[f"{name} {part}"]).to(like) for part in Standing._fields))
