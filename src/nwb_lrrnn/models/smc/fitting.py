"""The fit of `SMCLowRankRNN`: linear start, number of particles, training of all restarts side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.observation.constant import constant_log_density
from nwb_lrrnn.models.smc import bound
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.coordinates import Coordinates, decorrelated
from nwb_lrrnn.models.smc.data import BlockWise, InMemory, TrialData, join, trial_data
from nwb_lrrnn.models.smc.network import ParticleForm, ParticleNetwork
from nwb_lrrnn.models.smc.objective import FilterObjective
from nwb_lrrnn.models.smc.regression import RIDGES, rates_of, refit
from nwb_lrrnn.models.smc.smoothing import smooth
from nwb_lrrnn.models.training.checkpoints import NO_CHECKPOINT, Checkpoint, LoggedStep, fingerprint
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.models.training.loop import Schedule, train
from nwb_lrrnn.trials import LazyTrials, Trials

PARTICLES = (16, 64, 256)  # the numbers of particles that are tried where none is asked for
GAP, GAP_PER_UNIT = 0.02, 3e-4  # nats per bin that four times as many particles may gain, the larger of the two
MOST_IN_TRAINING = 64  # particles: the bound that is reported may take more
_JUDGED = 2000  # bins on which the numbers of particles are compared
_INFORMED = 50  # trials whose gradients make the units of the parameters
_HELD = 1e6  # ridge that leaves the right vectors where they are
_FACTOR, _MOST_FACTORS = 1.3, 6  # by which Sigma_z is multiplied, and how often at most
_PATIENCE = 3  # rounds without a gain
_ROUNDS = 20  # of expectation maximisation at most
_ERRORS = 2.0  # standard errors over trials that a gain must exceed
_DRAWS = 2  # trajectories of every trial
_NEURON_STEPS = 25  # of the quasi-Newton method, a round
_LEAST_GAIN, _LEAST_PER_UNIT = 2e-3, 3e-4  # nats per bin of the held-out bound: below the larger a gain is none


@dataclass(frozen=True)
class ParticleFit:
    """The best restart after training, and how it came about."""

    net: ParticleNetwork  # one network
    plan: Plan
    ending: Ending


@dataclass(frozen=True)
class ParticleTask:
    """What is to be fitted, from where and how."""

    form: ParticleForm
    starts: Tensor  # (S, size), made of the training trials
    all_starts: Tensor | None  # the same, made of all trials; None with an encoder, which knows its start's latents
    train_trials: Trials
    held_trials: Trials | None
    whole: LazyTrials | None  # all trials but the held-out ones, where the trials are a sample: gradients are theirs
    plan: Plan
    chooses_particles: bool  # whether their number is chosen, whatever the plan says
    schedule: Schedule
    batch_size: int
    seeds: list[int]  # three: of the held-out noise, of the order of trials, of the choice
    label: str
    log: Checkpoint = NO_CHECKPOINT


def run(task: ParticleTask) -> ParticleFit:
    """Return the fit: held-out trials decide how far to go from the start, and the same way is then gone on all trials.

    Where gradients led further than expectation maximisation, what is linear in the parameters is fitted to all trials
    instead. An encoder is trained by gradients alone.
    """
    form, starts, log = task.form, task.starts, task.log
    noise_seed, shuffle_seed, choice_seed = task.seeds
    data = trial_data(task.train_trials, starts.device)
    held = data if task.held_trials is None else trial_data(task.held_trials, starts.device)
    plan = task.plan
    if task.chooses_particles:
        plan = choose_particles(form.network(form.layout(), starts[:1]), data, plan, MOST_IN_TRAINING, choice_seed)
    encodes = plan.proposal == "encoder"
    guide = bound.guide_of(plan, form.likelihood.name, form.readout)  # trajectories come from a proposal that is ready
    climb = ParticleEM(form, guide, data, held, noise_seed)
    steps = [log.step(f"climb {k + 1}", partial(fingerprint, row.cpu())) for k, row in enumerate(starts.detach())]
    rows = zip(starts.double(), steps, strict=True)
    climbed = [(row, []) if encodes else climb.run(row, step) for row, step in rows]
    flat = torch.stack([row for row, _ in climbed]).to(starts)
    objective = _objective(task, plan, climb, flat)
    outcome = train(objective, task.schedule, np.random.default_rng(shuffle_seed), label=task.label, log=log)
    best = int(np.nanargmax(outcome.validation))
    found = objective.coordinates.parameters(outcome.parameters.detach())[best]
    if task.held_trials is not None:
        of_all = None if task.all_starts is None else task.all_starts[best]
        found = climb.on_all_trials(_Reached(flat[best], found, climbed[best][1]), of_all, log, by_gradients=encodes)
    net = form.network(form.layout(), found[None])
    if task.chooses_particles:
        plan = choose_particles(net, held, plan, PARTICLES[-1], choice_seed)
    history = outcome.history.isel(restart=best, drop=True)
    not_finite = (outcome.not_finite,) if outcome.not_finite else ()
    return ParticleFit(net, plan, Ending(history, outcome.validation, not_finite, outcome.not_converged))


def _objective(task: ParticleTask, plan: Plan, climb: ParticleEM, flat: Tensor) -> FilterObjective:
    """Return the objective of the gradients from parameters (S, size), in units of their own information."""
    data, held = climb.data, climb.held
    source = InMemory(data) if task.whole is None else BlockWise(task.whole, flat.device)
    likelihood = task.form.likelihood
    baseline = constant_log_density(task.train_trials, task.held_trials or task.train_trials, likelihood)

    def objective(coordinates: Coordinates, plan: Plan) -> FilterObjective:
        return FilterObjective(task.form, coordinates, plan, source, held, task.batch_size, baseline, task.seeds[0])

    rates = torch.stack([climb.rates(row) for row in flat.double()])
    coordinates = decorrelated(task.form.layout(), flat, rates)
    information = objective(coordinates, climb.guide).information(data, _INFORMED)
    return objective(coordinates.in_units(information), plan)


Recipe = list[tuple[float, int]]  # of every round: the ridge and the steps of the neurons


class _Reached(NamedTuple):
    """Parameters (size,) that the training trials led to."""

    climbed: Tensor  # by expectation maximisation,
    found: Tensor  # and from there by gradients
    recipe: Recipe

    def fingerprint(self) -> str:
        return fingerprint(self.climbed.detach().cpu(), self.found.detach().cpu(), repr(self.recipe))


class ParticleEM:
    """Particle expectation maximisation of one network, while the held-out bound rises."""

    def __init__(self, form: ParticleForm, plan: Plan, data: TrialData, held: TrialData, seed: int):
        self.form, self.layout, self.data, self.held, self.seed = form, form.layout(), data, held, seed
        self.guide = plan
        # latents must be known better than the bound: few particles do for trajectories, more for the comparison
        self.plan = plan._replace(n_particles=max(plan.n_particles, 32))

    def run(self, flat: Tensor, step: LoggedStep) -> tuple[Tensor, Recipe]:
        """Return the parameters (size,) after as many rounds as raised the held-out bound, and how they came about."""
        first, start = flat, self.value(flat)
        best, chosen, recipe = start, flat, []
        k = n_good = waited = 0
        kept = step.recall()
        if kept is not None:
            best, chosen, flat = (torch.as_tensor(kept[name]).to(flat) for name in ("best", "chosen", "flat"))
            recipe = [(float(ridge), int(n)) for ridge, n in kept["recipe"]]
            k, n_good, waited = (int(n) for n in kept["counts"])
        while k < _ROUNDS and waited < _PATIENCE:
            value, flat, how = self._round(flat, best, k)
            recipe, k, waited = [*recipe, how], k + 1, waited + 1
            if value.sum() > best.sum():
                waited = 0 if value.sum() > best.sum() + _LEAST_GAIN * self.held.n_bins.sum() else waited
                best, chosen, n_good = value, flat, k
            now = {"best": best, "chosen": chosen, "flat": flat}
            counts = {"recipe": np.array(recipe), "counts": np.array([k, n_good, waited])}
            step.store(lambda now=now, counts=counts: {n: t.detach().cpu().numpy() for n, t in now.items()} | counts)
        if not rises(best, start, self.held):
            return first, []
        return chosen, recipe[:n_good]

    def _round(self, flat: Tensor, best: Tensor, k: int) -> tuple[Tensor, Tensor, tuple[float, int]]:
        """Return the held-out bound (B,) after round k, its parameters (size,), and how they came about."""
        draws = self.draws(flat, self.data, k)
        tried = []
        for r in RIDGES:
            candidate = self.refitted(flat, self.data, draws, r, 0)
            tried.append((self.value(candidate), candidate, r))
        value, reached, r = max(tried, key=lambda t: float(t[0].sum()))
        n_steps = 0
        if value.sum() > best.sum():  # moving the neurons costs most of a round
            further = self.refitted(flat, self.data, draws, r, _NEURON_STEPS)
            if self.value(further).sum() > value.sum():
                reached, n_steps = further, _NEURON_STEPS
        reached = self.rescaled(reached, self.data)
        return self.value(reached), reached, (r, n_steps)

    def on_all_trials(
        self, reached: _Reached, all_start: Tensor | None, log: Checkpoint, *, by_gradients: bool
    ) -> Tensor:
        """Return the parameters (size,) for all trials: what the training trials led to, made of all of them."""
        step = log.step("all trials", reached.fingerprint)
        kept = step.recall()
        if kept is not None:
            return torch.as_tensor(kept["found"]).to(reached.found)
        found = self._of_all(reached, all_start, by_gradients).to(reached.found).detach()
        step.store(lambda: {"found": found.cpu().numpy()})
        return found

    def _of_all(self, reached: _Reached, all_start: Tensor | None, by_gradients: bool) -> Tensor:
        everything, recipe = join(self.data, self.held), reached.recipe
        if by_gradients or rises(self.value(reached.found), self.value(reached.climbed), self.held):
            draws = self.draws(reached.found, everything, _ROUNDS + 1)
            ridge = recipe[-1][0] if recipe else _HELD
            return self.rescaled(self.refitted(reached.found, everything, draws, ridge, 0), everything)
        return reached.climbed if all_start is None else self.replay(all_start, everything, recipe)

    def replay(self, flat: Tensor, data: TrialData, recipe: Recipe) -> Tensor:
        """Return the parameters (size,) after the rounds of a recipe on other trials."""
        for k, (ridge, n_steps) in enumerate(recipe):
            flat = self.rescaled(self.refitted(flat, data, self.draws(flat, data, k), ridge, n_steps), data)
        return flat

    def rescaled(self, flat: Tensor, data: TrialData) -> Tensor:
        """Return the parameters (size,) with Sigma_z times a power of `_FACTOR`: the best that a climb from 1 meets.

        Expectation maximisation is slowest in the noise of the latents, the more so the less is seen of them.
        """
        best = trial_bounds(self.network(flat), data, self.plan, self.seed).sum()
        for direction in (_FACTOR, 1.0 / _FACTOR):
            for _ in range(_MOST_FACTORS):
                parts = {name: value.clone() for name, value in self.layout.unpack(flat[None]).items()}
                theta, shift = parts["noise"], 0.5 * float(np.log(direction))
                if theta.ndim == 2:
                    parts["noise"] = theta + shift
                else:  # L times the root of the factor: entries below the diagonal, logarithms on it
                    lower = torch.tril(theta, -1) * direction**0.5
                    parts["noise"] = lower + torch.diag_embed(theta.diagonal(dim1=1, dim2=2) + shift)
                candidate = self.layout.pack(parts)[0]
                value = trial_bounds(self.network(candidate), data, self.plan, self.seed).sum()
                if not value > best:
                    break
                best, flat = value, candidate
        return flat

    def value(self, flat: Tensor) -> Tensor:
        """Return the bound of every held-out trial (B,)."""
        return trial_bounds(self.network(flat), self.held, self.plan, self.seed)

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
        """Return the rates (bin, N) of the network along trajectories."""
        draws = self.draws(flat, self.data, _ROUNDS)[:, :, 0]
        inside = torch.arange(draws.shape[1], device=draws.device)[None] < self.data.lengths[:, None]
        parts = {name: value[0] for name, value in self.layout.unpack(flat[None]).items()}
        v = self.network(flat).moves(self.data).inputs[0].double()
        z, v = draws[inside], v[inside]
        keep = torch.linspace(0, len(z) - 1, min(len(z), _JUDGED), device=z.device).long()
        return rates_of(self.form, parts, z[keep], v[keep])


def rises(after: Tensor, before: Tensor, data: TrialData) -> bool:
    """Return whether the bound of trials rises: by more than two standard errors over them, and by something at all."""
    gain, bins = after - before, data.n_bins
    per_bin = gain.sum() / bins.sum()
    if not float(per_bin) > max(_LEAST_GAIN, _LEAST_PER_UNIT * data.y.shape[2]):
        return False
    n = len(gain)
    error = torch.sqrt(n / max(n - 1, 1) * ((gain - per_bin * bins) ** 2).sum()) / bins.sum()
    return bool(per_bin > _ERRORS * error)


@torch.no_grad()
def choose_particles(net: ParticleNetwork, data: TrialData, plan: Plan, most: int, seed: int) -> Plan:
    """Return the plan with the fewest particles, up to `most`, at which four times as many gain next to nothing."""
    n_trials = max(1, min(len(data.lengths), int(_JUDGED / max(float(data.n_bins.mean()), 1.0))))
    few = data.take(torch.arange(n_trials, device=data.lengths.device))
    gap = max(GAP, GAP_PER_UNIT * data.y.shape[2])
    chosen, before = most, -np.inf
    for k in reversed([k for k in PARTICLES if k <= most]):
        value = float(trial_bounds(net, few, plan._replace(n_particles=k), seed).sum() / few.n_bins.sum())
        if np.isfinite(before) and before - value > gap:
            break
        chosen, before = k, value
    return plan._replace(n_particles=chosen)


@torch.no_grad()
def trial_bounds(net: ParticleNetwork, data: TrialData, plan: Plan, seed: int) -> Tensor:
    """Return the bound of every trial (B,) under noise from one seed."""
    like = net.cell.left_vectors
    generator = torch.Generator(device=like.device).manual_seed(seed)
    noise = bound.draw_noise(plan.scheme, data.y.shape[:2], plan.n_particles, like.shape[1], like, generator)
    return bound.run(net, data, plan, noise)[0][0].sum(1)
