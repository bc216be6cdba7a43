"""Covariance of the rates of two Gaussian currents: closed form for erf, quadrature for every other odd sigmoid.

Two currents of variance v and covariance c have rates of covariance C(c), of which

    C(c) = integral of E[phi'(x) phi'(y)] from 0 to c      (Price's theorem; phi is odd, so C(0) = 0)

phi' lives where phi bends, however wide the currents are, so that quadrature over phi' stays right at large coupling,
where nodes for phi itself, spread over the currents, step over the bend.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import nonlinearity as nonlinearities
from nwb_lrrnn.parameters import choose

Array = NDArray[np.floating]
Sigmoid = str | Callable[[Array], Array]

SIGMOIDS = ("erf", "tanh")

_STEP = 0.1  # of the nodes of u = w sinh(t)
_DEVIATIONS = 8.5  # beyond, a Gaussian weighs 1e-16
_DEGREE = 80  # of the polynomials of C in arcsin


def check_sigmoid(sigmoid: Sigmoid) -> None:
    """Raise a ValueError unless `sigmoid` is a known name or an odd, growing, bounded function."""
    if not callable(sigmoid):
        choose("nonlinearity", sigmoid, SIGMOIDS)
        return
    x = np.concatenate([np.linspace(0.0, 5.0, 21), [50.0, 1e6, 1e9]])
    with np.errstate(all="ignore"):
        above, below = np.asarray(sigmoid(x), dtype=float), np.asarray(sigmoid(-x), dtype=float)
    is_odd = np.isfinite([above, below]).all() and np.allclose(above, -below, rtol=1e-9)
    if not (is_odd and (np.diff(above) >= -1e-12).all() and above[-1] < 1.001 * above[-2]):
        raise ValueError(
            "nonlinearity: got a function that is not an odd sigmoid, wanted phi(-x) = -phi(x) that grows and saturates"
        )


def rate(sigmoid: Sigmoid, x: Array) -> Array:
    """Return phi(x), elementwise."""
    return sigmoid(x) if callable(sigmoid) else nonlinearities.phi(sigmoid, x)


def slope(sigmoid: Sigmoid, x: Array) -> Array:
    """Return phi'(x), elementwise; of a function by differences of fourth order."""
    if not callable(sigmoid):
        return nonlinearities.slope(sigmoid, x)
    h = 1e-3
    near = sigmoid(x + h) - sigmoid(x - h)
    far = sigmoid(x + 2 * h) - sigmoid(x - 2 * h)
    return (8.0 * near - far) / (12.0 * h)


def pair_law(sigmoid: Sigmoid, variance: float) -> ErfPair | SigmoidPair:
    """Return what two currents of one variance give."""
    return ErfPair(variance) if sigmoid == "erf" else SigmoidPair(sigmoid, variance)


class ErfPair:
    """phi(x) = erf(sqrt(pi) x / 2)."""

    def __init__(self, variance: float):
        self.variance = variance
        self._reach = variance + 2.0 / np.pi

    @property
    def mean_slope(self) -> float:
        """E phi'(x)."""
        return (1.0 + 0.5 * np.pi * self.variance) ** -0.5

    def covariance(self, of_currents: Array) -> Array:
        """Return C at covariances of the currents."""
        return 2.0 / np.pi * np.arcsin(of_currents / self._reach)

    def slope(self, of_currents: Array) -> Array:
        """Return dC/dc."""
        return 2.0 / np.pi / np.sqrt(self._reach**2 - np.square(of_currents))

    def integral(self, of_currents: Array) -> Array:
        """Return the integral of C from 0."""
        a, c = self._reach, np.asarray(of_currents, dtype=float)
        # sqrt(a² - c²) - a without the difference of two large numbers
        return 2.0 / np.pi * (c * np.arcsin(c / a) - c**2 / (a + np.sqrt(a**2 - c**2)))


class SigmoidPair:
    """Any odd sigmoid; C is a polynomial in arcsin(c / (v + e)), which is how C of a steep one runs."""

    def __init__(self, sigmoid: Sigmoid, variance: float):
        self.sigmoid, self.variance = sigmoid, variance
        self._width = float(rate(sigmoid, np.array([1e6]))[0] / slope(sigmoid, np.zeros(1))[0])
        self._reach = variance + 2.0 / np.pi * self._width**2

    @cached_property
    def mean_slope(self) -> float:
        """E phi'(x)."""
        nodes, weights = self._nodes(self.variance)
        return float(2.0 * weights @ slope(self.sigmoid, nodes))

    def covariance(self, of_currents: Array) -> Array:
        """Return C at covariances of the currents (0 to their variance)."""
        return self._polynomials[0](self._angle(of_currents))

    def slope(self, of_currents: Array) -> Array:
        """Return dC/dc."""
        angle = self._angle(of_currents)
        return self._polynomials[0].deriv()(angle) / (self._reach * np.cos(angle))

    def integral(self, of_currents: Array) -> Array:
        """Return the integral of C from 0."""
        return self._polynomials[1](self._angle(of_currents))

    def _angle(self, of_currents: Array) -> Array:
        return np.arcsin(np.asarray(of_currents, dtype=float) / self._reach)

    @cached_property
    def _polynomials(self) -> tuple[Chebyshev, Chebyshev]:
        domain = [0.0, float(np.arcsin(self.variance / self._reach))]

        def growth(angles: Array) -> Array:
            return np.array([self._pair_slope(self._reach * np.sin(a)) * self._reach * np.cos(a) for a in angles])

        def fitted(function: Callable[[Array], Array]) -> Chebyshev:
            return Chebyshev.interpolate(function, _DEGREE, domain=domain).integ(lbnd=0.0)

        covariance = fitted(growth)
        return covariance, fitted(lambda angles: covariance(angles) * self._reach * np.cos(angles))

    def _pair_slope(self, covariance: float) -> float:
        """Return E[phi'(x) phi'(y)], over the sum u and the difference v of x and y, which are independent."""
        u, weights_u = self._nodes(self.variance + covariance)
        v, weights_v = self._nodes(max(self.variance - covariance, 0.0))
        x, y = (u[:, None] + v) / np.sqrt(2.0), (u[:, None] - v) / np.sqrt(2.0)
        return float(4.0 * weights_u @ (slope(self.sigmoid, x) * slope(self.sigmoid, y)) @ weights_v)

    def _nodes(self, variance: float) -> tuple[Array, Array]:
        """Return nodes >= 0 and weights of N(0, variance), dense where phi bends and where the Gaussian does."""
        deviation = np.sqrt(variance)
        if deviation == 0.0:
            return np.zeros(1), np.array([0.5])
        scale = min(self._width, deviation)
        t = np.arange(0.0, np.arcsinh(_DEVIATIONS * deviation / scale) + _STEP, _STEP)
        nodes = scale * np.sinh(t)
        weights = _STEP * scale * np.cosh(t) * np.exp(-0.5 * (nodes / deviation) ** 2)
        weights[0] *= 0.5
        return nodes, weights / (np.sqrt(2.0 * np.pi) * deviation)
