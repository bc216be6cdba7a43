"""Likelihoods of the observations in torch, in the units of X: values, and their first two derivatives in eta."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor
from torch.nn.functional import softplus

from nwb_lrrnn.trials import Trials


class Likelihood(NamedTuple):
    """p(y | g(eta)): which density, which link, and the bin size that turns spikes/s into counts."""

    name: str  # gaussian, poisson, negative_binomial
    link: str  # identity, softplus, exp
    bin_size: float


def mean(likelihood: Likelihood, eta: Tensor) -> Tensor:
    """Return g(eta): the identity, or the expected count per bin."""
    if likelihood.link == "identity":
        return eta
    return likelihood.bin_size * (softplus(eta, threshold=40.0) if likelihood.link == "softplus" else torch.exp(eta))


def log_mean(likelihood: Likelihood, eta: Tensor) -> Tensor:
    """Return log g(eta) of a count model, finite for every finite eta."""
    if likelihood.link == "exp":
        return eta + math.log(likelihood.bin_size)
    # softplus(eta) -> exp(eta) far below 0, where its logarithm would underflow
    safe = torch.log(softplus(torch.clamp(eta, min=-30.0), threshold=40.0))
    return torch.where(eta > -30.0, safe, eta) + math.log(likelihood.bin_size)


def log_prob(likelihood: Likelihood, y: Tensor, eta: Tensor, spread: Tensor) -> Tensor:
    """Return log p(y | eta) entry by entry, constants included.

    `spread` broadcasts against y: the variance (gaussian), the dispersion r (negative binomial), unused for Poisson.
    """
    if likelihood.name == "gaussian":
        return -0.5 * ((y - eta) ** 2 / spread + torch.log(2 * math.pi * spread))
    log_mu = log_mean(likelihood, eta)
    mu = mean(likelihood, eta)
    if likelihood.name == "poisson":
        return y * log_mu - mu - torch.lgamma(y + 1)
    r = spread
    norm = torch.lgamma(y + r) - torch.lgamma(r) - torch.lgamma(y + 1)
    return norm + r * (torch.log(r) - torch.log(r + mu)) + y * (log_mu - torch.log(r + mu))


def derivatives(likelihood: Likelihood, y: Tensor, eta: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return d log p / d eta and the Fisher information -E d2 log p / d eta2 >= 0, entry by entry."""
    if likelihood.name == "gaussian":
        precision = (1.0 / spread).expand_as(eta)
        return (y - eta) * precision, precision
    log_mu = log_mean(likelihood, eta)
    mu = torch.exp(log_mu)
    if likelihood.link == "exp":
        relative = torch.ones_like(eta)  # d log mu / d eta
    else:
        relative = torch.sigmoid(eta) * likelihood.bin_size / mu
    if likelihood.name == "poisson":
        return (y - mu) * relative, mu * relative**2
    shrink = spread / (spread + mu)
    return (y - mu) * relative * shrink, mu * relative**2 * shrink


def constant_log_density(train: Trials, held_out: Trials, likelihood: Likelihood) -> float:
    """Return log p per bin of held-out trials under each unit's own constant mean (and variance) in the training ones.

    The zero point of what a fit gains; a Poisson mean stands in for every count model.
    """

    def sums(trials: Trials):
        seen = (
            np.broadcast_to(trials.bins[..., None], trials.values.shape) if trials.observed is None else trials.observed
        )
        y = trials.values
        return seen.sum((0, 1)), y.sum((0, 1)), (y**2).sum((0, 1)), trials.n_observed_bins

    n, total, square, _ = sums(train)
    mean = total / np.maximum(n, 1)
    held_n, held_total, held_square, held_bins = sums(held_out)
    if likelihood.name == "gaussian":
        variance = square / np.maximum(n, 1) - mean**2
        variance = np.where(variance > 1e-12 * (1 + mean**2), variance, 1.0)
        errors = held_square - 2 * mean * held_total + held_n * mean**2
        return float(-0.5 * (errors / variance + held_n * np.log(2 * np.pi * variance)).sum() / held_bins)
    mean = np.maximum(mean, 0.5 / np.maximum(n, 1))
    return float(
        (held_total * np.log(mean) - held_n * mean - gammaln(held_out.values + 1).sum((0, 1))).sum() / held_bins
    )
