"""In what units the parameters of a network are fitted: the scale and the centre of every recorded unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.trials import LazyTrials, Trials


def scales_of(
    trials: Trials | LazyTrials, likelihood: str, link: str
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return scale and centre (unit,), over its observed bins, in which loadings and offset are of order 1.

    Gaussian values: standard deviation (1 for a constant unit) and mean. Others: the mean rate in spikes/s (of a silent
    unit that of half a spike), or 1 where eta is no rate but the logarithm of one, around 0.
    """
    seen = trials.summary
    if likelihood == "gaussian":
        return np.sqrt(np.where(seen.is_constant, 1.0, seen.variance)), seen.mean
    mean = np.maximum(seen.mean, 0.5 / np.maximum(seen.n_observed, 1.0))
    return Likelihood(likelihood, link, trials.bin_size).size(mean), np.zeros_like(mean)
