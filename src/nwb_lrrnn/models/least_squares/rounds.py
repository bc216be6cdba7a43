"""Rounds of smoothing and regression: from a linear model of trials to a network, as far as held-out trials gain.

A linear smoother flattens what is nonlinear; the network that is regressed on what it leaves smooths again, and so on.
This is expectation maximisation, its E-step the extended Kalman smoother.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.least_squares.features import Features
from nwb_lrrnn.models.least_squares.field import FittedField, fit_field_samples
from nwb_lrrnn.models.least_squares.filtering import smooth
from nwb_lrrnn.models.least_squares.laws import Laws
from nwb_lrrnn.models.least_squares.samples import FieldSamples, field_samples
from nwb_lrrnn.models.linear import em
from nwb_lrrnn.models.linear.network_start import linear_model
from nwb_lrrnn.models.linear.system import LinearSystem, to_dynamics
from nwb_lrrnn.models.smc.evidence import Gain, gain_of
from nwb_lrrnn.models.smc.members import parts_of
from nwb_lrrnn.models.training.checkpoints import NO_CHECKPOINT
from nwb_lrrnn.models.training.devices import resolve
from nwb_lrrnn.trials import Trials

logger = logging.getLogger(__name__)

Array = NDArray[np.floating]

_QUIETER = 1.0 / 3.0  # the factor by which noise of the latents is lowered while the likelihood rises
_LOWERED = 12  # times at most
_CLOUD = 4000  # latents, spread by so much of their standard deviation, on which a network imitates a linear model
_SPREAD = 0.5
_EXACT = 1e-8  # the penalty of that


@dataclass(frozen=True)
class Plan:
    """What the parameters of an estimator mean for its data."""

    rank: int
    n_neurons: int
    nonlinearity: str
    basis: str
    ridge: str | float
    rate_noise: float
    input_mode: str
    tau: float | None  # s; None: as slow as the linear model is
    likelihood: Likelihood
    max_rounds: int
    validation_fraction: float
    device: str


@dataclass(frozen=True)
class Learnt:
    """What the rounds found."""

    network: LowRankDynamics
    field: FittedField
    stayed: bool  # whether it moves as the linear model does, because no network was better for sure
    tried: Gain | None  # of the best network over the linear model, on held-out trials; None: nothing was held out
    n_rounds: int
    train: list[float]  # ln p per bin of the trials, by round, the linear model first
    validation: list[float]  # the same of held-out trials


class Learner:
    """A network learnt from some trials, round by round."""

    def __init__(self, trials: Trials, plan: Plan, seed: np.random.SeedSequence):
        self.trials, self.plan = trials, plan
        system, _ = linear_model(trials, plan.rank, plan.likelihood, NO_CHECKPOINT, "linear start")
        self.rng = np.random.default_rng(seed)
        self.laws = Laws(trials, plan.likelihood)
        self.linear = _network_of(system, trials, plan)
        self.network, self.field = self.linear, None
        slow = float(np.clip(1.0 - np.trace(system.transition) / plan.rank, 0.05, 0.9))
        self.tau = trials.bin_size / slow if plan.tau is None else plan.tau
        self.train: list[float] = []

    def advance(self) -> None:
        """Smooth the trials with the network so far, and make the one that is regressed on that."""
        moments = smooth(self.network, self.trials, device=self.plan.device)
        self.train.append(float(moments.log_likelihood.sum()) / self.trials.n_observed_bins)
        samples = field_samples(moments, self.trials)
        features = None if self.field is None else self.field.features
        self.field = regress(samples, self.plan, self.tau, features, self.rng)
        noise = self.field.residual_covariance * self.trials.bin_size**2 + samples.spread
        laws = self.laws.fields(self.network, moments)
        self.network = self._with_noise(_complete(self.field, self.trials, laws), noise)

    def imitate(self) -> None:
        """Make the network that moves as the linear model does, all over where the latents are."""
        linear, bin_size = self.linear, self.trials.bin_size
        inside = np.arange(self.trials.values.shape[1])[None] < self.trials.lengths[:, None]
        moments = smooth(linear, self.trials, device=self.plan.device)
        self.train.append(float(moments.log_likelihood.sum()) / self.trials.n_observed_bins)
        means = moments.smoothed[inside]
        rows = self.rng.integers(len(means), size=_CLOUD)
        cloud = means[rows] + _SPREAD * means.std(axis=0) * self.rng.standard_normal((_CLOUD, self.plan.rank))
        inputs = None if self.trials.inputs is None else self.trials.inputs[inside]
        given = None if inputs is None else inputs[rows]
        velocity = (linear.step(cloud, given) - cloud) / bin_size
        samples = FieldSamples(cloud, velocity, given, rows, np.zeros((self.plan.rank, self.plan.rank)))
        plan = dataclasses.replace(self.plan, ridge=_EXACT)
        self.field = regress(samples, plan, self.tau, None, self.rng)
        missed = bin_size * self.field.velocity(means, inputs) + means - linear.step(means, inputs)
        names = ("initial_mean", "initial_covariance", "initial_input_weights", "loadings", "offset", "likelihood",
                 "link", "observation_variance", "dispersion")  # fmt: skip
        laws = {name: getattr(linear, name) for name in names}
        noise = em.floored(np.asarray(linear.latent_noise) + missed.T @ missed / len(missed))
        self.network = _complete(self.field, self.trials, laws).replace(latent_noise=noise)

    def _with_noise(self, network: LowRankDynamics, noise: Array) -> LowRankDynamics:
        """Return the network with noise of its latents, lowered as long as the trials become likelier.

        Expectation maximisation alone would take hundreds of rounds to where latents hardly stray.
        """
        best = network.replace(latent_noise=em.floored(noise))
        value = score(best, self.trials, self.plan).sum()
        for k in range(1, _LOWERED + 1):
            quieter = network.replace(latent_noise=em.floored(noise * _QUIETER**k))
            likelier = score(quieter, self.trials, self.plan).sum()
            if not likelier > value:
                break
            best, value = quieter, likelier
        return best


def learn(trials: Trials, plan: Plan, seed: np.random.SeedSequence) -> Learnt:
    """Return the network of as many rounds as held-out trials gain from, learnt from all trials.

    Trials are held out in turn, each judging a network that has not seen it. Where the best network does not beat the
    linear models that it came from by more than chance, the network of all trials is one that imitates the linear one.
    """
    of_parts, of_neurons = seed.spawn(2)
    parts = parts_of(trials, plan.validation_fraction, np.random.default_rng(of_parts)).parts
    whole = Learner(trials, plan, of_neurons)
    pairs = [(whole if part.train is trials else Learner(part.train, plan, of_neurons), part) for part in parts]
    judged = [(learner, part.held) for learner, part in pairs if part.held is not None]
    before = _scores(judged, plan)
    n_bins = np.concatenate([held.bins.sum(axis=1) for _, held in judged])
    totals, best = [before.sum()], before
    for _ in range(plan.max_rounds):
        for learner, _ in judged:
            learner.advance()
        after = _scores(judged, plan)
        totals.append(after.sum())
        if not np.isfinite(after).all() or (len(totals) > 2 and totals[-1] <= totals[-2]):
            break
        best = after
    n_rounds = max(1, int(np.argmax(np.where(np.isfinite(totals[1:]), totals[1:], -np.inf))) + 1)
    gain = gain_of(_tensor(best), _tensor(before), _tensor(n_bins), trials.n_units)
    stayed = not gain.is_real
    if stayed:
        whole.imitate()
    else:
        while len(whole.train) < n_rounds:
            whole.advance()
    if whole.field is None:
        raise RuntimeError("no field was regressed")
    return Learnt(whole.network, whole.field, stayed, gain, n_rounds, whole.train, [t / n_bins.sum() for t in totals])


def regress(
    samples: FieldSamples, plan: Plan, tau: float, features: Features | None, rng: np.random.Generator
) -> FittedField:
    """Return the field of samples, by neurons that are drawn where none are given."""
    return fit_field_samples(
        samples.latents,
        samples.velocity,
        tau=tau,
        n_neurons=plan.n_neurons,
        nonlinearity=plan.nonlinearity,
        basis=plan.basis,
        ridge=plan.ridge,
        rate_noise=plan.rate_noise,
        inputs=samples.inputs,
        input_mode=plan.input_mode,
        groups=samples.trial if len(np.unique(samples.trial)) > 1 else None,
        features=features,
        device=str(resolve(plan.device)),
        rng=rng,
    )


def score(network: LowRankDynamics, trials: Trials, plan: Plan) -> Array:
    """Return ln p of each trial (trial,), minus infinity where a network has none."""
    with np.errstate(all="ignore"):  # a network that runs away is one that loses
        found = smooth(network, trials, device=plan.device, goes_back=False).log_likelihood
    return np.where(np.isfinite(found), found, -np.inf)


def _scores(judged: list[tuple[Learner, Trials]], plan: Plan) -> Array:
    return np.concatenate([score(learner.network, held, plan) for learner, held in judged])


def _tensor(numbers: NDArray) -> torch.Tensor:
    return torch.as_tensor(numbers, dtype=torch.float64)


def _complete(field: FittedField, trials: Trials, laws: dict) -> LowRankDynamics:
    return field.to_dynamics(trials.bin_size, unit_ids=trials.unit_ids, **laws)


def _network_of(system: LinearSystem, trials: Trials, plan: Plan) -> LowRankDynamics:
    """Return a linear model as a network of identity neurons; its latents have mean 0 and covariance I."""
    likelihood, rank = plan.likelihood, plan.rank
    moments = np.zeros(rank), np.eye(rank)
    return to_dynamics(system, trials.bin_size, likelihood.name, likelihood.link, *moments, trials.unit_ids)
