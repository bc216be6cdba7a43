"""The law of first bins, learnt from the beginnings of trials alone: pieces of a long trial begin anywhere."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.filtering import check_filterable, smooth
from nwb_lrrnn.models.linear.em import prior_weight_for, update_initial
from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.models.training.devices import one_thread
from nwb_lrrnn.trials import Trials

logger = logging.getLogger(__name__)

_ROUNDS = 10  # of expectation maximisation


def with_beginnings(network: LowRankDynamics, begin: Trials) -> LowRankDynamics:
    """Return the network with N(mu_1 + K u_1, Sigma_1) learnt from beginnings of trials, all else as it is.

    With few trials one imaginary trial of the law of any bin steadies it.
    """
    try:
        check_filterable(network)
    except ValueError as error:
        logger.warning("the law of first bins is that of where pieces of long trials begin: %s", error)
        return network
    with one_thread():
        return _learnt(network, begin)


def _learnt(network: LowRankDynamics, begin: Trials) -> LowRankDynamics:
    rank = network.rank
    centre = np.zeros(rank) if network.latent_mean is None else np.asarray(network.latent_mean)
    spread = np.eye(rank) if network.latent_covariance is None else np.asarray(network.latent_covariance)
    root = np.linalg.cholesky(spread + 1e-9 * np.trace(spread) / rank * np.eye(rank))
    inputs = None if network.filter_inputs else begin.inputs  # a filtered input is 0 in the first bin
    weight = prior_weight_for(len(begin.lengths), rank, 0 if inputs is None else inputs.shape[2])
    eye, zero = np.eye(rank), np.zeros(rank)
    system = LinearSystem(
        transition=eye, drive=zero, noise=eye, initial_mean=zero, initial_covariance=eye, loadings=eye, offset=zero
    )  # its form alone counts
    for _ in range(_ROUNDS):
        moments = smooth(network, begin)
        first = np.linalg.solve(root, (moments.smoothed[:, 0] - centre).T).T
        left = np.linalg.solve(root, moments.pattern_covariances[:, 0])
        left = np.linalg.solve(root, left.swapaxes(1, 2))
        whitened = replace(moments, smoothed=first[:, None], pattern_covariances=left[:, None])
        found = update_initial(system, whitened, inputs, weight)
        network = network.replace(
            initial_mean=centre + root @ found.initial_mean,
            initial_covariance=root @ found.initial_covariance @ root.T,
            initial_input_weights=None if found.initial_input_weights is None else root @ found.initial_input_weights,
        )
    return network
