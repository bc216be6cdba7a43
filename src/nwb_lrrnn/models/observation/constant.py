"""What is known without a model: the log density of held-out trials under the units' own constant means."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.trials import Trials


def constant_log_density(train: Trials, held_out: Trials, likelihood: Likelihood) -> float:
    """Return log p per bin of held-out trials under each unit's own constant mean (and variance) in the training ones.

    The zero point of what a fit gains; a likelihood without a spread stands in for those that have one, but Gaussians.
    """
    family = likelihood.plain.family
    mean = family.mean_of(train.values.sum((0, 1)), train.summary.n_observed)
    variance = np.where(train.summary.is_constant, 1.0, train.summary.variance)
    terms = family.log_prob(held_out.values, mean, variance)
    return float(np.where(held_out.seen, terms, 0.0).sum() / held_out.n_observed_bins)
