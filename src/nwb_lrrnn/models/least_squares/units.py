"""The network whose neurons are the recorded units: reduced-rank regression, and the noise around what it says."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.models.least_squares.recorded import fit_recorded
from nwb_lrrnn.models.least_squares.rounds import Plan
from nwb_lrrnn.models.linear import em
from nwb_lrrnn.trials import Trials

logger = logging.getLogger(__name__)

Array = NDArray[np.floating]

_FASTEST, _SLOWEST = 0.9, 0.05  # alpha, where tau is not given


def learn_units(trials: Trials, plan: Plan) -> LowRankDynamics:
    """Return the network of which every unit shows the current of a neuron, y = scale * x + centre.

    x follows the network where it is on the span of m, inputs and bias; what a unit shows beside that is noise of its
    own, and what a step misses along m is noise of the latents.
    """
    if plan.likelihood.name != "gaussian":
        raise ValueError(
            f"latents: got 'units' with likelihood={plan.likelihood.name!r}, wanted 'gaussian': units that are the "
            "network show currents, not counts; smooth the counts first, or pass latents='smoothed'"
        )
    told = trials.summary
    centre, scale = told.mean, np.sqrt(told.variance)
    x = np.where(trials.seen, (trials.values - centre) / scale, 0.0)
    stretches = _stretches(trials)
    if not stretches:
        raise ValueError("X: got no two bins in a row in which every unit is observed, wanted them for latents='units'")
    currents = [x[k, a:b] for k, a, b in stretches]
    inputs = None if trials.inputs is None else [trials.inputs[k, a:b] for k, a, b in stretches]
    tau = trials.bin_size / _alpha(currents) if plan.tau is None else plan.tau
    ridge = plan.ridge if not isinstance(plan.ridge, str) else plan.rate_noise**2
    found = fit_recorded(
        currents, trials.bin_size, plan.rank, tau=tau, inputs=inputs, nonlinearity=plan.nonlinearity, ridge=ridge,
        method="rrr", device=plan.device,
    )  # fmt: skip
    network = found.dynamics
    missed, beside = _noise(network, currents, inputs)
    least = LIKELIHOODS["gaussian"].spread_limits[0]
    return network.replace(
        loadings=scale,
        offset=centre,
        observation_variance=np.maximum(beside, least) * scale**2,
        latent_noise=em.floored(missed),
        initial_covariance=em.floored(np.asarray(network.initial_covariance)),
        unit_ids=trials.unit_ids,
    )


def _stretches(trials: Trials) -> list[tuple[int, int, int]]:
    """Return (trial, first bin, end) of the stretches of two bins or more in which every unit is observed."""
    whole = trials.seen.all(axis=2) & (np.arange(trials.values.shape[1]) < trials.lengths[:, None])
    edges = np.diff(np.pad(whole.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    first, end = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [(int(k), int(a), int(b)) for (k, a), (_, b) in zip(first, end, strict=True) if b - a > 1]


def _alpha(currents: list[Array]) -> float:
    """Return alpha of neurons that are as slow as the units: 1 less the correlation of neighbouring bins."""
    products = sum(float((x[1:] * x[:-1]).sum()) for x in currents)
    squares = sum(float((x[:-1] ** 2).sum()) for x in currents)
    return float(np.clip(1.0 - products / max(squares, 1e-300), _SLOWEST, _FASTEST))


def _noise(network: LowRankDynamics, currents: Sequence[Array], inputs: Sequence[Array] | None) -> tuple[Array, Array]:
    """Return the covariance of what steps miss along the latents, and the variance of what units show beside them."""
    bias = 0.0 if network.bias is None else network.bias
    onto = np.linalg.pinv(network.left_vectors).T
    rank = network.rank
    missed, beside, n_steps, n_bins = np.zeros((rank, rank)), np.zeros(network.n_neurons), 0, 0
    for k, x in enumerate(currents):
        v, shown = None, x - bias
        if inputs is not None and network.input_weights is not None:
            v = network.filtered_inputs(inputs[k])
            shown = shown - v @ network.input_weights.T
        z = shown @ onto
        error = z[1:] - network.step(z[:-1], None if v is None else v[:-1])
        missed, n_steps = missed + error.T @ error, n_steps + len(error)
        beside, n_bins = beside + ((shown - z @ network.left_vectors.T) ** 2).sum(axis=0), n_bins + len(z)
    return missed / n_steps, beside / n_bins
