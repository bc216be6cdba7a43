"""Likelihoods of the observations in torch, in the units of X: values, and their first two derivatives in eta.

The mirror of `dynamics.likelihoods`, one class a likelihood; `spread` broadcasts against y. The value of a likelihood
holds y ln(time), as the fused loops of `kernels.observation` have it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.dynamics.links import FAR


def value(likelihood: Likelihood, y: Tensor, eta: Tensor, spread: Tensor) -> Tensor:
    """Return log p(y | eta) without the terms that do not depend on eta, entry by entry."""
    return _OF[likelihood.name].value(likelihood, y, eta, spread)


def constants(likelihood: Likelihood, y: Tensor, spread: Tensor) -> Tensor:
    """Return the terms of log p(y | eta) that do not depend on eta, entry by entry."""
    return _OF[likelihood.name].constants(y, spread)


def log_prob(likelihood: Likelihood, y: Tensor, eta: Tensor, spread: Tensor) -> Tensor:
    """Return log p(y | eta) entry by entry, constants included."""
    return value(likelihood, y, eta, spread) + constants(likelihood, y, spread)


def derivatives(likelihood: Likelihood, y: Tensor, eta: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return d log p / d eta and the Fisher information -E d2 log p / d eta2 >= 0, entry by entry."""
    return _OF[likelihood.name].derivatives(likelihood, y, eta, spread)


# --- rates -----------------------------------------------------------------------------------------------------------


def _mean(likelihood: Likelihood, eta: Tensor) -> Tensor:
    rate = softplus(eta, threshold=FAR) if likelihood.link == "softplus" else torch.exp(eta)
    return likelihood.time * rate


def _log_mean(likelihood: Likelihood, eta: Tensor) -> Tensor:
    """Return the logarithm of the expected count, finite for every finite eta."""
    if likelihood.link == "exp":
        return eta + math.log(likelihood.time)
    # softplus(eta) -> exp(eta) far below 0, where its logarithm would underflow
    safe = torch.log(softplus(torch.clamp(eta, min=-FAR), threshold=FAR))
    return torch.where(eta > -FAR, safe, eta) + math.log(likelihood.time)


# --- likelihoods -----------------------------------------------------------------------------------------------------


class _Gaussian:
    @staticmethod
    def value(likelihood, y, eta, spread):
        return -0.5 * (y - eta) ** 2 / spread

    @staticmethod
    def constants(y, spread):
        return -0.5 * torch.log(2 * math.pi * spread) + torch.zeros_like(y)

    @staticmethod
    def derivatives(likelihood, y, eta, spread):
        precision = (1.0 / spread).expand_as(eta)
        return (y - eta) * precision, precision


class _Poisson:
    @staticmethod
    def value(likelihood, y, eta, spread):
        return y * _log_mean(likelihood, eta) - _mean(likelihood, eta)

    @staticmethod
    def constants(y, spread):
        return -torch.lgamma(y + 1) + torch.zeros_like(spread)

    @staticmethod
    def derivatives(likelihood, y, eta, spread):
        mu = torch.exp(_log_mean(likelihood, eta))
        relative = torch.ones_like(eta)  # d log mu / d eta
        if likelihood.link == "softplus":
            relative = torch.sigmoid(eta) * likelihood.time / mu
        return (y - mu) * relative, mu * relative**2


class _NegativeBinomial:
    @staticmethod
    def value(likelihood, y, eta, spread):
        return y * _log_mean(likelihood, eta) - (y + spread) * torch.log1p(_mean(likelihood, eta) / spread)

    @staticmethod
    def constants(y, spread):
        return torch.lgamma(y + spread) - torch.lgamma(spread) - torch.lgamma(y + 1) - y * torch.log(spread)

    @staticmethod
    def derivatives(likelihood, y, eta, spread):
        slope, fisher = _Poisson.derivatives(likelihood, y, eta, spread)
        shrink = spread / (spread + torch.exp(_log_mean(likelihood, eta)))
        return slope * shrink, fisher * shrink


class _Bernoulli:
    @staticmethod
    def value(likelihood, y, eta, spread):
        return y * eta - softplus(eta, threshold=FAR)

    @staticmethod
    def constants(y, spread):
        return torch.zeros_like(y) + torch.zeros_like(spread)

    @staticmethod
    def derivatives(likelihood, y, eta, spread):
        p = torch.sigmoid(eta)
        return y - p, p * torch.sigmoid(-eta)


_OF = {"gaussian": _Gaussian, "poisson": _Poisson, "negative_binomial": _NegativeBinomial, "bernoulli": _Bernoulli}
