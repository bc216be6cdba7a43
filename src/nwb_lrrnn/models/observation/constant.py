"""What is known without a model: the log density of held-out trials under the units' own constant means."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.trials import Trials


def constant_log_density(train: Trials, held_out: Trials, likelihood: Likelihood) -> float:
    """Return log p per bin of held-out trials under each unit's own constant mean (and variance) in the training ones.

    The zero point of what a fit gains; a likelihood without a spread stands in for those that have one, but Gaussians.
    """

    def seen_of(trials: Trials):
        whole = np.broadcast_to(trials.bins[..., None], trials.values.shape)
        return whole if trials.observed is None else trials.observed

    seen, held = seen_of(train), seen_of(held_out)
    n, total, square = seen.sum((0, 1)), train.values.sum((0, 1)), (train.values**2).sum((0, 1))
    family = likelihood.plain.family
    mean = family.mean_of(total, n)
    variance = square / np.maximum(n, 1) - mean**2
    variance = np.where(variance > 1e-12 * (1 + mean**2), variance, 1.0)
    terms = family.log_prob(held_out.values, mean, variance)
    return float(np.where(held, terms, 0.0).sum() / held_out.n_observed_bins)
