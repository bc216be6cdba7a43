"""Links g from the linear predictor eta to expected values, and the limits beyond which eta is far from 0."""

# ruff: noqa: D102 (what overrides is described in its base)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.floating]

FAR = 37.0  # to double precision softplus(eta) is exp(eta) below -FAR and eta above FAR
LARGEST = 300.0  # of what exp is taken: the square of the result is still a number


class Identity:
    """g(eta) = eta."""

    is_rate = False  # whether g is a rate in 1/s
    is_linear = True  # whether eta far above 0 has the units of the values, rather than those of their logarithm

    def value(self, eta: Array) -> Array:
        """Return g(eta)."""
        return eta

    def log(self, eta: Array) -> Array:
        """Return ln g(eta), finite however small g is."""
        return np.log(eta)

    def inverse(self, value: Array) -> Array:
        """Return eta of g(eta)."""
        return value

    def slope(self, eta: Array) -> Array:
        """Return g'(eta)."""
        return np.ones_like(eta)

    def relative(self, eta: Array) -> tuple[Array, Array]:
        """Return g'(eta) / g(eta) and g''(eta) / g(eta)."""
        return 1.0 / eta, np.zeros_like(eta)


class Softplus(Identity):
    """g(eta) = ln(1 + e^eta)."""

    is_rate = True

    def value(self, eta: Array) -> Array:
        return np.logaddexp(0.0, eta)

    def log(self, eta: Array) -> Array:
        return np.where(eta < -FAR, eta, np.log(np.logaddexp(0.0, np.maximum(eta, -FAR))))

    def inverse(self, value: Array) -> Array:
        return value + np.log(-np.expm1(-value))

    def slope(self, eta: Array) -> Array:
        return expit(eta)

    def relative(self, eta: Array) -> tuple[Array, Array]:
        near, safe = eta > -FAR, np.maximum(eta, -FAR)
        gate = expit(safe)
        first = np.where(near, gate / np.logaddexp(0.0, safe), 1.0)
        return first, first * np.where(near, 1.0 - gate, 1.0)


class Exp(Identity):
    """g(eta) = e^eta."""

    is_rate, is_linear = True, False

    def value(self, eta: Array) -> Array:
        return np.exp(np.minimum(eta, LARGEST))

    def log(self, eta: Array) -> Array:
        return np.minimum(eta, LARGEST)

    def inverse(self, value: Array) -> Array:
        return np.log(value)

    def slope(self, eta: Array) -> Array:
        return self.value(eta)

    def relative(self, eta: Array) -> tuple[Array, Array]:
        return np.ones_like(eta), np.ones_like(eta)


class Logit(Identity):
    """g(eta) = 1 / (1 + e^-eta)."""

    is_linear = False

    def value(self, eta: Array) -> Array:
        return expit(eta)

    def log(self, eta: Array) -> Array:
        return -np.logaddexp(0.0, -eta)

    def inverse(self, value: Array) -> Array:
        return np.log(value) - np.log1p(-value)

    def slope(self, eta: Array) -> Array:
        return expit(eta) * expit(-eta)

    def relative(self, eta: Array) -> tuple[Array, Array]:
        return expit(-eta), expit(-eta) * (1.0 - 2.0 * expit(eta))


LINKS: dict[str, Identity] = {"identity": Identity(), "softplus": Softplus(), "exp": Exp(), "logit": Logit()}
