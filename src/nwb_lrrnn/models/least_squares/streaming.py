"""One pass over a recording that is not in memory: a field learnt from a sample of it, regressed again on all of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.field import FittedField
from nwb_lrrnn.models.least_squares.filtering import smooth
from nwb_lrrnn.models.least_squares.ridge import NormalEquations
from nwb_lrrnn.models.least_squares.samples import field_samples
from nwb_lrrnn.trials import LazyTrials

Array = NDArray[np.floating]

_ALL = 10**9  # samples of a block


def regress_all(network: LowRankDynamics, field: FittedField, whole: LazyTrials, device: str) -> LowRankDynamics:
    """Return the network with right vectors, drive and latent inputs from all trials, block by block.

    The latents are those that the network of the sample smooths; neurons, readout, laws and penalty stay. The normal
    equations of the blocks add up, so that no more than one block is in memory.
    """
    features, tau = field.features, field.tau
    scale, origin = np.sqrt(np.diag(field.latent_covariance)), field.latent_mean
    n_free = 0 if field.latent_input_weights is None else field.latent_input_weights.shape[1]
    sums = NormalEquations(n_free)
    for _, block in whole.blocks():
        samples = field_samples(smooth(network, block, device=device), block, most=_ALL)
        if not len(samples.latents):
            continue
        rates = features(samples.latents, samples.inputs if features.n_inputs else None)
        if n_free and samples.inputs is not None:
            rates = np.concatenate([rates, samples.inputs], axis=1)
        sums.add(rates, (samples.latents - origin + tau * samples.velocity) / scale)
    found, offset = sums.solve(field.penalty)
    n = field.n_neurons
    return network.replace(
        right_vectors=n * found[:n] * scale,
        drive=offset * scale + origin,
        latent_input_weights=(found[n:] * scale).T if n_free else None,
    )
