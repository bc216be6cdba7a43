"""The fit of `SMCLowRankRNN`: linear start, number of particles, training of all restarts side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.observation.constant import constant_log_density
from nwb_lrrnn.models.smc import bound, coordinates
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.climb import ParticleEM, Standing
from nwb_lrrnn.models.smc.coordinates import Coordinates
from nwb_lrrnn.models.smc.data import BlockWise, InMemory, trial_data
from nwb_lrrnn.models.smc.evidence import LEAST_IN_SCORES, MOST_IN_TRAINING, Gain, choose_particles
from nwb_lrrnn.models.smc.members import Parts, Pieces, Stream, members_of
from nwb_lrrnn.models.smc.network import ParticleForm, ParticleNetwork
from nwb_lrrnn.models.smc.objective import FilterObjective, information
from nwb_lrrnn.models.training.checkpoints import NO_CHECKPOINT, Checkpoint, fingerprint
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.models.training.loop import Schedule, train
from nwb_lrrnn.progress import Progress
from nwb_lrrnn.trials import LazyTrials, Trials

_INFORMED = 50  # trials whose gradients make the units of the parameters


@dataclass(frozen=True)
class ParticleFit:
    """The best restart after training, and how it came about."""

    net: ParticleNetwork  # one network
    plan: Plan
    ending: Ending
    stayed: bool  # at its start, because nothing that was tried predicts held-out trials better
    tried: Gain  # the most that was found over the start


@dataclass(frozen=True)
class ParticleTask:
    """What is to be fitted, from where and how."""

    form: ParticleForm
    starts: Tensor  # (S, M, size), each made of what its member is trained on
    trials: Trials
    parts: list[Parts]  # of each restart
    whole: LazyTrials | None  # where the trials are a sample: gradients are of all that it holds
    sampled: np.ndarray | None  # which of them the trials are
    plan: Plan
    chooses_particles: bool  # whether their number is chosen, whatever the plan says
    schedule: Schedule
    batch_size: int
    seeds: list[int]  # three: of the held-out noise, of the order of trials, of the choice
    label: str
    log: Checkpoint = NO_CHECKPOINT


class _Climbed(NamedTuple):
    """One restart before its gradients."""

    start: Standing
    best: Standing
    kept: Standing  # the best, or the start where held-out trials do not want it for sure


class _Way(NamedTuple):
    """One restart at its end."""

    end: Standing
    moved: bool
    tried: Gain  # the most that was found over the start


def run(task: ParticleTask) -> ParticleFit:
    """Return the fit: held-out trials decide how far to go from the start, all trials in turn being held out.

    A network of all trials goes along, and is kept. An encoder is trained by gradients alone.
    """
    form, log = task.form, task.log
    noise_seed, shuffle_seed, choice_seed = task.seeds
    data = trial_data(task.trials, task.starts.device)
    plan = task.plan
    if task.chooses_particles:
        first = form.network(form.layout(), task.starts[0, -1:])
        plan = choose_particles(first, data, plan, choice_seed, most=MOST_IN_TRAINING)
    encodes = plan.proposal == "encoder"
    guide = bound.guide_of(plan, form.likelihood.name, form.readout)  # trajectories come from a proposal that is ready
    climbs = [ParticleEM(form, guide, members_of(parts, data.y.device), noise_seed) for parts in task.parts]
    climbed = []
    for k, (climb, row) in enumerate(zip(climbs, task.starts.detach(), strict=True)):
        step = log.step(f"climb {k + 1}", partial(fingerprint, row.cpu()))
        start = climb.stand(row.double())
        best = start if encodes else climb.run(start, step, task.schedule.max_epochs)
        climbed.append(_Climbed(start, best, best if climb.gain(best, start).is_real else start))
    objective = _objective(task, plan, climbs, torch.stack([one.kept.flats for one in climbed]).to(task.starts))
    with Progress(task.schedule.max_epochs, task.label) as progress:
        rng = np.random.default_rng(shuffle_seed)
        outcome = train(objective, task.schedule, rng, progress=progress, log=log)
    found = objective.flats(outcome.parameters.detach()).double()
    ways = [_end(climb, one, row, encodes) for climb, one, row in zip(climbs, climbed, found, strict=True)]
    chosen = max(range(len(ways)), key=lambda k: (ways[k].moved, float(ways[k].end.value.sum())))
    way = ways[chosen]
    net = form.network(form.layout(), way.end.flats[-1:].to(task.starts))
    if task.chooses_particles:
        plan = choose_particles(net, data, plan, choice_seed, least=LEAST_IN_SCORES)
    history = outcome.history.isel(restart=chosen, drop=True)
    not_finite = (outcome.not_finite,) if outcome.not_finite else ()
    ending = Ending(history, outcome.validation, not_finite, outcome.not_converged)
    return ParticleFit(net, plan, ending, not way.moved, way.tried)


def _end(climb: ParticleEM, climbed: _Climbed, found: Tensor, by_gradients: bool) -> _Way:
    """Return where a restart ends: at what gradients found (M, size), if held-out trials want it, or before them."""
    start, best, kept = climbed
    reached = climb.stand(found)
    end = reached if by_gradients or climb.gain(reached, kept).is_real else kept
    tried = max((climb.gain(at, start) for at in (best, reached)), key=lambda gain: gain.per_bin)
    return _Way(end, climb.gain(end, start).is_real, tried)


def _objective(task: ParticleTask, plan: Plan, climbs: list[ParticleEM], flats: Tensor) -> FilterObjective:
    """Return the objective of the gradients from parameters (S, M, size), in units of their own information."""
    form, device = task.form, flats.device
    found = [_coordinates(form, climb, row, task.seeds[0]) for climb, row in zip(climbs, flats, strict=True)]
    members = [climb.members for climb in climbs]
    baseline = constant_log_density(task.trials, task.trials, form.likelihood)
    shared = coordinates.side_by_side(found)
    return FilterObjective(
        form, shared, plan, _source(task, climbs, device), members, task.batch_size, baseline, task.seeds[0]
    )


def _coordinates(form: ParticleForm, climb: ParticleEM, flats: Tensor, seed: int) -> Coordinates:
    """Return the coordinates of the networks (M, size) of one restart, in the units of the last."""
    last = flats[-1:]
    own = coordinates.decorrelated(form.layout(), last, climb.rates(last[0].double())[None])
    found = information(form, own, climb.guide, climb.members[-1].train, _INFORMED, seed)
    return own.in_units(found[None]).around(flats)


def _source(task: ParticleTask, climbs: list[ParticleEM], device: torch.device) -> Stream | Pieces:
    """Return where the members take their trials from."""
    if task.whole is None and len(task.trials.lengths) == 1:
        return Pieces([climb.members for climb in climbs])
    n_members = len(climbs[0].members)
    n_trials = len((task.trials if task.whole is None else task.whole).lengths)
    fold_of = [np.full(n_trials, -1) for _ in climbs]
    for of, parts in zip(fold_of, task.parts, strict=True):
        for k, rows in enumerate(parts.folds):
            of[rows if task.sampled is None else task.sampled[rows]] = k
    source = InMemory(climbs[0].members[-1].train) if task.whole is None else BlockWise(task.whole, device)
    return Stream(source, fold_of, n_members)
