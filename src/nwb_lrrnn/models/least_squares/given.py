"""A network of latents that are given: regression once, no smoothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.base import LatentModel
from nwb_lrrnn.models.least_squares.derivatives import trajectory_samples
from nwb_lrrnn.models.least_squares.laws import Laws
from nwb_lrrnn.models.least_squares.rounds import Learnt, Plan, regress, score
from nwb_lrrnn.models.least_squares.samples import FieldSamples, field_samples
from nwb_lrrnn.models.linear import counts, em
from nwb_lrrnn.models.linear.smoothing import Moments
from nwb_lrrnn.trials import Trials, as_trials

Array = NDArray[np.floating]

_SLOWEST = 0.05  # alpha: time constants of more than 20 bins are not taken unless asked for
_GLM_STEPS = 25
_POLYNOMIAL = 12  # bins


def learn_from(latents: Any, trials: Trials, plan: Plan, seed: np.random.SeedSequence) -> Learnt:
    """Return the network of latents that are a fitted model's, an array's, or those of a factor analysis."""
    means = _latents_of(latents, trials, plan)
    n_trials, n_steps, rank = means.shape
    certain = np.zeros((n_trials, n_steps, rank, rank))
    moments = Moments(means, means, means, np.arange(n_trials), certain, certain[:, 1:], np.zeros(n_trials))
    tau = trials.bin_size / _SLOWEST if plan.tau is None else plan.tau
    field = regress(_steps(moments, trials, tau), plan, tau, None, np.random.default_rng(seed))
    taken = field_samples(moments, trials)  # as they are: what is smoothed away of a step is noise of it too
    missed = trials.bin_size * (taken.velocity - field.velocity(taken.latents, taken.inputs))
    noise = em.floored(missed.T @ missed / len(missed))
    laws = Laws(trials, plan.likelihood)
    network = field.to_dynamics(trials.bin_size, latent_noise=noise, unit_ids=trials.unit_ids)
    first: dict[str, Any] = laws.first_readout(rank)
    fields = laws.fields(network.replace(**first) if first else network, moments)
    for _ in range(_GLM_STEPS if first else 0):
        fields = laws.fields(network.replace(**fields), moments)
    network = network.replace(**fields)
    per_bin = float(score(network, trials, plan).sum()) / trials.n_observed_bins
    return Learnt(network, field, False, None, 1, [per_bin], [])


def _steps(moments: Moments, trials: Trials, tau: float) -> FieldSamples:
    """Return samples of where latents, freed of noise by local polynomials, go within one bin.

    The steps are those of the network, so that it moves as they do; trials of less than twelve bins are left out,
    and if all are so short, they are taken as they are.
    """
    plain = field_samples(moments, trials)
    rows = np.flatnonzero(trials.lengths >= _POLYNOMIAL)
    if not len(rows):
        return plain
    paths = [moments.smoothed[k, : trials.lengths[k]] for k in rows]
    inputs = None if trials.inputs is None else [trials.inputs[k, : trials.lengths[k]] for k in rows]
    smooth = trajectory_samples(paths, trials.bin_size, tau=tau, inputs=inputs)
    goes_on = smooth.groups[1:] == smooth.groups[:-1]
    velocity = np.diff(smooth.latents, axis=0)[goes_on] / trials.bin_size
    given = None if smooth.inputs is None else smooth.inputs[:-1][goes_on]
    return FieldSamples(smooth.latents[:-1][goes_on], velocity, given, rows[smooth.groups[:-1][goes_on]], plain.spread)


def _latents_of(latents: Any, trials: Trials, plan: Plan) -> Array:
    """Return latents (trial, time, R) of trials, 0 in padding."""
    if isinstance(latents, str):  # a factor analysis, of which every bin is by itself
        name, link = plan.likelihood.name, plan.likelihood.link
        if name == "gaussian":
            found = em.fit(trials, plan.rank, dynamic=False).moments.smoothed
        else:
            found = counts.fit(trials, plan.rank, likelihood=name, link=link, dynamic=False).moments.smoothed
    elif isinstance(latents, LatentModel):
        found = _of_model(latents, trials)
    else:
        given = as_trials(latents, bin_size=trials.bin_size)  # of a whole that is not in memory a sample is fitted
        if not np.array_equal(given.lengths, trials.lengths):
            raise ValueError(
                f"latents: got {len(given.lengths)} trials of {given.lengths.max()} bins at most, wanted those of X: "
                f"{len(trials.lengths)} trials of at most {trials.lengths.max()}, each as long as in X"
            )
        found = given.values
    if found.shape[2] != plan.rank:
        raise ValueError(f"latents: got {found.shape[2]} of them, wanted rank={plan.rank}; pass rank={found.shape[2]}")
    inside = np.arange(found.shape[1])[None] < trials.lengths[:, None]
    return np.where(inside[..., None], found, 0.0)


def _of_model(model: LatentModel, trials: Trials) -> Array:
    network: LowRankDynamics = model._scored.readout_network_
    if network.n_units != trials.n_units:
        raise ValueError(
            f"latents: got a model of {network.n_units} units, wanted one of the {trials.n_units} units of X that are "
            "scored"
        )
    if network.n_inputs == 0:
        trials = dataclasses.replace(trials, inputs=None, input_ids=None)
    model._check_inputs(trials)
    return model._scored._latents(trials)
