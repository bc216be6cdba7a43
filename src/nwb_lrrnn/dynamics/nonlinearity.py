"""The nonlinearities phi of the model neurons: value, slope, and both averaged over private Gaussian noise."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf as _erf
from scipy.special import expit, ndtr

from nwb_lrrnn.parameters import Nonlinearity

Array = NDArray[np.floating]

NONLINEARITIES: tuple[str, ...] = get_args(Nonlinearity)
ODD = ("tanh", "erf", "identity")  # phi(-x) = -phi(x): a neuron's sign is free
HOMOGENEOUS = ("relu", "clipped_relu", "identity")  # phi(c x; c h) = c phi(x; h) for c > 0: a neuron's scale is free

_HALF_SQRT_PI = 0.5 * float(np.sqrt(np.pi))  # a plain number, which keeps float32 what it is


def phi(name: str, x: Array, thresholds: Array | None = None) -> Array:
    """Return phi(x; h), elementwise; h (neuron,) is the saturation of clipped_relu, relu(x + h) - relu(x).

    >>> phi("clipped_relu", np.array([-2.0, -0.5, 3.0]), np.ones(3))
    array([0. , 0.5, 1. ])
    """
    match name:
        case "tanh":
            return np.tanh(x)
        case "erf":
            return _erf(_HALF_SQRT_PI * x)
        case "relu":
            return np.maximum(x, 0.0)
        case "clipped_relu":
            return np.maximum(x + _required(thresholds), 0.0) - np.maximum(x, 0.0)
        case "softplus":
            return np.logaddexp(0.0, x)
        case _:
            return x


def slope(name: str, x: Array, thresholds: Array | None = None) -> Array:
    """Return d phi / d x, elementwise (0 at the kinks of the piecewise linear ones, from the left)."""
    match name:
        case "tanh":
            return 1.0 - np.tanh(x) ** 2
        case "erf":
            return np.exp(-((_HALF_SQRT_PI * x) ** 2))
        case "relu":
            return (x > 0).astype(float)
        case "clipped_relu":
            return (x + _required(thresholds) > 0).astype(float) - (x > 0)
        case "softplus":
            return expit(x)
        case _:
            return np.ones_like(x)


def noisy_phi(name: str, x: Array, variance: Array, thresholds: Array | None = None) -> Array:
    """Return E phi(x + e), e ~ N(0, variance (neuron,)): closed form, or to 1e-10 (tanh, softplus; 1e-8 if sd > 32)."""
    sd = np.sqrt(variance)
    match name:
        case "erf":
            return _erf(_HALF_SQRT_PI * x / np.sqrt(1.0 + 0.5 * np.pi * variance))
        case "relu":
            return _noisy_relu(x, sd)
        case "clipped_relu":
            return _noisy_relu(x + _required(thresholds), sd) - _noisy_relu(x, sd)
        case "identity":
            return x
        case _:
            return _averaged(phi, name, x, sd)


def noisy_slope(name: str, x: Array, variance: Array, thresholds: Array | None = None) -> Array:
    """Return d/dx E phi(x + e) for e ~ N(0, variance (neuron,))."""
    sd = np.sqrt(variance)
    match name:
        case "erf":
            spread = 1.0 + 0.5 * np.pi * variance
            return np.exp(-((_HALF_SQRT_PI * x) ** 2) / spread) / np.sqrt(spread)
        case "relu":
            return _noisy_step(x, sd)
        case "clipped_relu":
            return _noisy_step(x + _required(thresholds), sd) - _noisy_step(x, sd)
        case "identity":
            return np.ones_like(x)
        case _:
            return _averaged(slope, name, x, sd)


# Noise much wider than tanh or softplus: with L of the logistic law, tanh(x) = 2 P(x + L > 0) - 1 (L of scale 1/2) and
# softplus(x) = E max(x + L, 0) (of scale 1), and L is lost in the noise but for its variance and its fourth cumulant.
_WIDE = 32.0
_LOGISTIC = {"tanh": (np.pi**2 / 12, np.pi**4 / 120), "softplus": (np.pi**2 / 3, 2 * np.pi**4 / 15)}


def _averaged(function, name: str, x: Array, sd: Array) -> Array:
    """Return E function(name, x + e), e ~ N(0, sd^2), of tanh or softplus or its slope."""
    if not sd.max(initial=0.0) > _WIDE:
        return _gaussian_mean(function, name, x, sd)
    narrow = _gaussian_mean(function, name, x, np.minimum(sd, _WIDE))
    return np.where(sd > _WIDE, _under_wide_noise(function, name, x, np.maximum(sd, _WIDE)), narrow)


def _under_wide_noise(function, name: str, x: Array, sd: Array) -> Array:
    """Return the same by an Edgeworth series, to 1e-8: the number of nodes of a quadrature would grow with sd."""
    variance, fourth = _LOGISTIC[name]
    s = np.sqrt(sd**2 + variance)
    z, excess = x / s, fourth / (24.0 * s**4)
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    if name == "tanh" and function is slope:
        return 2.0 / s * density * (1.0 + excess * (z**4 - 6.0 * z**2 + 3.0))
    if name == "softplus" and function is phi:
        return s * (z * ndtr(z) + density * (1.0 + excess * (z**2 - 1.0)))
    below = ndtr(z) - excess * (z**3 - 3.0 * z) * density
    return 2.0 * below - 1.0 if name == "tanh" else below


def _gaussian_mean(function, name: str, x: Array, sd: Array) -> Array:
    """Return E function(name, x + e), e ~ N(0, sd^2), by the trapezoidal rule.

    On the line it converges like exp(-2 pi a / h) for nodes h apart and the nearest pole a from the axis (Trefethen &
    Weideman 2014, Theorem 5.1): a = pi / 2 for tanh. 40 Gauss-Hermite nodes err by 2e-3 at sd = 3, where they are
    further apart than tanh is wide. One node at a time, so that memory does not grow with their number.
    """
    spacing = min(0.7, 0.4 / max(float(sd.max(initial=0.0)), 1e-300))  # of nodes, in standard deviations
    last = int(np.ceil(8.0 / spacing))
    nodes = spacing * np.arange(-last, last + 1)
    weights = np.exp(-0.5 * nodes**2)
    total = np.zeros(np.broadcast_shapes(x.shape, sd.shape))
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        total += weight * function(name, x + sd * node)
    return total


def _noisy_relu(x: Array, sd: Array) -> Array:
    safe = np.where(sd > 0, sd, 1.0)
    u = np.clip(x / safe, -40.0, 40.0)  # beyond, the density and one tail are exactly 0 and only overflow is new
    density = np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi)
    return np.where(sd > 0, x * ndtr(u) + safe * density, np.maximum(x, 0.0))


def _noisy_step(x: Array, sd: Array) -> Array:
    return np.where(sd > 0, ndtr(x / np.where(sd > 0, sd, 1.0)), (x > 0).astype(float))


def _required(thresholds: Array | None) -> Array:
    if thresholds is None:
        raise ValueError("thresholds: None, but nonlinearity='clipped_relu' saturates there; pass (neuron,)")
    return thresholds
