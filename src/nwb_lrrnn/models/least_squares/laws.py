"""What beside the field the smoothed latents fix: readout, noise of the units, and the law of the first bin."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.linear import em
from nwb_lrrnn.models.linear.counts import CountReadout
from nwb_lrrnn.models.linear.observations import prepare
from nwb_lrrnn.models.linear.smoothing import Moments, Patterns
from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]


class Laws:
    """The M-steps of expectation maximisation for all but the dynamics, those of the linear models, on some trials."""

    def __init__(self, trials: Trials, likelihood: Likelihood):
        self.trials, self.likelihood = trials, likelihood
        seen = trials.seen
        bins = np.asarray(seen.any(axis=2))
        units = None if (seen == bins[..., None]).all() else seen.astype(float)
        n_trials = len(trials.lengths)
        # every trial has covariances of its own: where a network is depends on what it did
        patterns = Patterns(np.arange(n_trials), trials.lengths, np.ones(n_trials, int), bins.astype(float), units)
        self._data = self._counts = None
        if likelihood.name == "gaussian":
            weights = patterns.bins if patterns.units is None else patterns.units
            self._data = dataclasses.replace(prepare(trials, trials.inputs), patterns=patterns, weights=weights)
        else:
            self._counts = CountReadout(trials, likelihood)

    def fields(self, network: LowRankDynamics, moments: Moments) -> dict[str, Any]:
        """Return the fields of a network of readout and first bin at their best given moments of the latents."""
        system = _system(network)
        n_inputs = 0 if self.trials.inputs is None else self.trials.inputs.shape[2]
        prior = em.prior_weight_for(len(self.trials.lengths), system.rank, n_inputs)
        system = em.update_initial(system, moments, self.trials.inputs, prior)
        if self._data is not None:
            data = self._data
            system = em.update_readout(system, moments, data).in_units(data.center, data.scale)
        elif self._counts is not None:
            system = self._counts.update(system, moments)
        return {
            "initial_mean": system.initial_mean,
            "initial_covariance": system.initial_covariance,
            "initial_input_weights": system.initial_input_weights,
            "loadings": system.loadings,
            "offset": system.offset,
            "likelihood": self.likelihood.name,
            "link": self.likelihood.link,
            "observation_variance": system.variance,
            "dispersion": system.dispersion,
        }

    def first_readout(self, rank: int) -> dict[str, Any]:
        """Return a readout of counts that shows no latents yet, which Newton steps begin at."""
        if self._counts is None:
            return {}
        loadings, offset = self._counts.start(np.zeros((self.trials.n_units, rank)))
        found: dict[str, Any] = {"loadings": loadings, "offset": offset}
        return found | ({"dispersion": np.full(len(offset), 10.0)} if self.likelihood.has_spread else {})


def _system(network: LowRankDynamics) -> LinearSystem:
    """Return readout and first bin of a network in the form that the M-steps take; its dynamics do not count."""
    rank = network.rank
    eye, zero = np.eye(rank), np.zeros(rank)
    loadings = np.zeros((network.n_units, rank)) if network.loadings is None else np.array(network.loadings)
    return LinearSystem(
        transition=eye,
        drive=zero,
        noise=eye,
        initial_mean=zero,
        initial_covariance=eye,
        loadings=loadings,
        offset=np.zeros(network.n_units) if network.offset is None else np.array(network.offset),
        variance=network.observation_variance,
        dispersion=network.dispersion,
    )
