"""What the units show of a network: expected values, log-likelihoods and draws, for every likelihood."""

from __future__ import annotations

import numpy as np
from scipy.special import betaln, gammaln

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
    v = None if inputs is None else fields.checked_inputs(net, inputs)
    if v is not None and net.readout_input_weights is not None:
        eta = eta + v @ net.readout_input_weights.T
    return eta


def expected(net, latents, inputs=None) -> np.ndarray:
    """Return g(C r + F v + d), (..., unit): the identity, or the count per bin dt * softplus(.) or dt * exp(.)."""
    eta = linear_predictor(net, latents, inputs)
    if net.link == "identity":
        return eta
    return _unit_time(net) * (np.logaddexp(0.0, eta) if net.link == "softplus" else np.exp(eta))


def log_likelihood(net, observations, latents, inputs=None) -> np.ndarray:
    """Return log p(y | z) per unit, (..., unit), constants included."""
    y = np.asarray(observations, dtype=np.float64)
    eta = linear_predictor(net, latents, inputs)
    if y.ndim and y.shape[-1] != eta.shape[-1]:
        raise ValueError(f"observations: got shape {y.shape}, wanted (..., {eta.shape[-1]}), the last axis being units")
    if net.likelihood == "gaussian":
        variance = _variance(net)
        if variance is None or not (variance > 0).all():
            raise ValueError(
                "observation_variance: got None or 0, so this Gaussian readout has no density; pass it > 0, (unit,)"
            )
        return -0.5 * ((y - expected(net, latents, inputs)) ** 2 / variance + np.log(2 * np.pi * variance))
    log_mean = _log_expected(net, eta)
    mean = np.exp(log_mean)
    if net.likelihood == "poisson":
        return y * log_mean - mean - gammaln(y + 1)
    r = net.dispersion
    # log [Gamma(y + r) / (Gamma(r) y!)] through the beta function, which stays exact where r is large (near Poisson)
    some = np.where(y > 0, y, 1.0)
    log_choose = np.where(y > 0, -betaln(r, some) - np.log(some), 0.0)
    log_r_mean = np.log1p(mean / r)  # log((r + mean) / r)
    return log_choose - r * log_r_mean + y * (log_mean - np.log(r) - log_r_mean)


def _unit_time(net):
    """Return the expected count where the link is 1: the bin size, times each unit's gain."""
    return net.dt if net.link_gain is None else net.dt * net.link_gain


def _log_expected(net, eta: np.ndarray) -> np.ndarray:
    """Return log g(eta) of a count link, finite however small the rate is."""
    log_time = np.log(_unit_time(net))
    if net.link == "exp":
        return log_time + eta
    # softplus(eta) = e^eta (1 - e^eta / 2 + ...): below -37 the bracket is 1 to double precision
    return log_time + np.where(eta < -37.0, eta, np.log(np.logaddexp(0.0, np.maximum(eta, -37.0))))


def _variance(net) -> np.ndarray | None:
    """Return the variance of Gaussian observations given z_t: the readout's, and private noise where units show it."""
    if net.private_noise is None or net.readout != "currents":
        return net.observation_variance
    shown = net.loadings**2 * net.private_noise
    return shown if net.observation_variance is None else shown + net.observation_variance


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
