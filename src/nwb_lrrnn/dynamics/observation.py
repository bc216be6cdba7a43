"""What the units show of a network: expected values, log-likelihoods and draws."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.dynamics import fields
from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.dynamics.links import LINKS


def linear_predictor(net, latents, inputs=None) -> np.ndarray:
    """Return C r + F v + d, (..., unit): before the link, in units of X or spikes/s."""
    if net.loadings is None:
        raise ValueError("loadings: this network has no readout; pass loadings= (and offset=) to LowRankDynamics")
    if net.readout == "latents":
        eta = fields.checked_latents(net, latents) @ net.loadings.T
    else:
        eta = net.loadings * (net.currents if net.readout == "currents" else net.rates)(latents, inputs)
    if net.offset is not None:
        eta = eta + net.offset
    v = None if inputs is None else fields.checked_inputs(net, inputs)
    if v is not None and net.readout_input_weights is not None:
        eta = eta + v @ net.readout_input_weights.T
    return eta


def expected(net, latents, inputs=None) -> np.ndarray:
    """Return the expected observation time * g(C r + F v + d), (..., unit), in the units of X."""
    return _time(net) * LINKS[net.link].value(linear_predictor(net, latents, inputs))


def log_likelihood(net, observations, latents, inputs=None) -> np.ndarray:
    """Return log p(y | z) per unit, (..., unit), constants included."""
    y = np.asarray(observations, dtype=np.float64)
    eta = linear_predictor(net, latents, inputs)
    if y.ndim and y.shape[-1] != eta.shape[-1]:
        raise ValueError(f"observations: got shape {y.shape}, wanted (..., {eta.shape[-1]}), the last axis being units")
    family = LIKELIHOODS[net.likelihood]
    if net.likelihood == "gaussian":
        variance = _variance(net)
        if variance is None or not (variance > 0).all():
            raise ValueError(
                "observation_variance: got None or 0, so this Gaussian readout has no density; pass it > 0, (unit,)"
            )
        return family.log_prob(y, expected(net, latents, inputs), variance)
    spread = None if family.spread is None else getattr(net, family.spread)
    time = _time(net)
    return family.value(LINKS[net.link], y, eta, spread, time) + family.constants(y, spread, time)


def spread_and_floor(net, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each unit's spread, (unit,), inf where there is none, and the least that is fitted at these variances."""
    family = LIKELIHOODS[net.likelihood]
    least = family.spread_limits[0] * (variance if family.squares_units else np.ones_like(variance))
    spread = None if family.spread is None else getattr(net, family.spread)
    if family.squares_units:
        spread = _variance(net)
    return np.full(net.n_units, np.inf) if spread is None else spread, least


def _time(net):
    """Return the expected value where the link is 1: of a rate the bin size, times each unit's gain."""
    if not LINKS[net.link].is_rate:
        return 1.0
    return net.dt if net.link_gain is None else net.dt * net.link_gain


def _variance(net) -> np.ndarray | None:
    """Return the variance of Gaussian observations given z_t: the readout's, and private noise where units show it."""
    if net.private_noise is None or net.readout != "currents":
        return net.observation_variance
    shown = net.loadings**2 * net.private_noise
    return shown if net.observation_variance is None else shown + net.observation_variance


def draw(net, latents, inputs, rng: np.random.Generator, private: np.ndarray | None = None) -> np.ndarray:
    """Return observations (..., unit) drawn given latents (and, of a recorded network, its private noise)."""
    mean = expected(net, latents, inputs)
    family = LIKELIHOODS[net.likelihood]
    if net.likelihood == "gaussian" and private is not None and net.readout == "currents":
        mean = mean + net.loadings * private
    return family.draw(rng, mean, None if family.spread is None else getattr(net, family.spread))
