"""What the units show of a network: expected values, log-likelihoods and draws, for every likelihood."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from nwb_lrrnn.dynamics import fields


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
    if inputs is not None and net.readout_input_weights is not None:
        eta = eta + fields.checked_inputs(net, inputs) @ net.readout_input_weights.T
    return eta


def apply_link(net, eta: np.ndarray) -> np.ndarray:
    """Return g(eta): the identity, or the expected count per bin dt * softplus(eta) or dt * exp(eta)."""
    if net.link == "identity":
        return eta
    return net.dt * (np.logaddexp(0.0, eta) if net.link == "softplus" else np.exp(eta))


def expected(net, latents, inputs=None) -> np.ndarray:
    """Return g(C r + F v + d), (..., unit)."""
    return apply_link(net, linear_predictor(net, latents, inputs))


def log_likelihood(net, observations, latents, inputs=None) -> np.ndarray:
    """Return log p(y | z) per unit, (..., unit), constants included."""
    y = np.asarray(observations, dtype=np.float64)
    mean = expected(net, latents, inputs)
    if net.likelihood == "gaussian":
        variance = net.observation_variance
        if variance is None:
            raise ValueError("observation_variance: this Gaussian readout has none, so its likelihood is undefined")
        return -0.5 * ((y - mean) ** 2 / variance + np.log(2 * np.pi * variance))
    tiny = np.finfo(float).tiny
    if net.likelihood == "poisson":
        return y * np.log(np.maximum(mean, tiny)) - mean - gammaln(y + 1)
    r = net.dispersion
    log_norm = gammaln(y + r) - gammaln(r) - gammaln(y + 1)
    return log_norm + r * np.log(r / (r + mean)) + y * np.log(np.maximum(mean, tiny) / (r + mean))


def draw(net, latents, inputs, rng: np.random.Generator, private: np.ndarray | None = None) -> np.ndarray:
    """Return observations (..., unit) drawn given latents (and, of a recorded network, its private noise)."""
    mean = expected(net, latents, inputs)
    if net.likelihood == "gaussian":
        if private is not None and net.readout == "currents":
            mean = mean + net.loadings * private
        variance = 0.0 if net.observation_variance is None else net.observation_variance
        return mean + np.sqrt(variance) * rng.standard_normal(mean.shape)
    if net.likelihood == "poisson":
        return rng.poisson(mean)
    return rng.poisson(mean * rng.gamma(net.dispersion, 1.0 / net.dispersion, size=mean.shape))
