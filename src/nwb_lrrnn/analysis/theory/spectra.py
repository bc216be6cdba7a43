"""Spectra and responses of single neurons, on a grid of frequencies that is dense where the spectrum lives.

C(w) is the integral of exp(-i w tau) C(tau) over tau; back, dw / (2 pi). The response of the rates to small inputs of
one neuron is S(w) = E phi' / (1 + i w), that of the currents 1 / (1 + i w).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_legendre

from nwb_lrrnn.analysis.theory.mean_field import MeanField

Array = NDArray[np.floating]
ComplexArray = NDArray[np.complexfloating]

N_FREQUENCIES = 401


@dataclass(frozen=True)
class Spectra:
    """Single neurons at frequencies w (F,), both signs; `weights` are those of the integral over dw / (2 pi)."""

    g: float
    w: Array
    weights: Array
    rates: Array  # C(w) of the rates
    response: ComplexArray  # S(w) of the rates

    @property
    def filter(self) -> ComplexArray:
        """Response of the currents."""
        return 1.0 / (1.0 + 1j * self.w)

    def course(self, spectrum: Array, lags: ArrayLike) -> Array:
        """Return the function of lags (L,) whose spectrum is (F,)."""
        waves = np.exp(1j * np.multiply.outer(np.asarray(lags, dtype=float), self.w))
        return (waves @ (self.weights * spectrum)).real


def grid(half_time: float, g: float, n_frequencies: int = N_FREQUENCIES) -> tuple[Array, Array]:
    """Return frequencies w = w0 sinh(s) to 12 + 8 g, and weights of the integral over dw / (2 pi)."""
    first, last = 0.3 / half_time, 12.0 + 8.0 * g
    nodes, weights = _legendre(n_frequencies)
    top = np.arcsinh(last / first)
    s = top * nodes
    return first * np.sinh(s), weights * top * first * np.cosh(s) / (2.0 * np.pi)


@lru_cache(maxsize=8)
def _legendre(n: int) -> tuple[Array, Array]:
    return roots_legendre(n)


@lru_cache(maxsize=16)  # one g, many ensembles
def spectra(single: MeanField, n_frequencies: int = N_FREQUENCIES) -> Spectra:
    """Return the spectra of neurons in chaos."""
    w, weights = grid(single.half_time, single.g, n_frequencies)
    positive = w >= 0
    found = cosine_transform(single.rate_autocovariance, w[positive], longest=single.end + 20.0 / single.decay)
    rates = np.concatenate([found[::-1], found[1:]] if n_frequencies % 2 else [found[::-1], found])
    return Spectra(single.g, w, weights, np.maximum(rates, 0.0), single.mean_slope / (1.0 + 1j * w))


def cosine_transform(function, w: Array, *, longest: float, block: int = 4096) -> Array:
    """Return the integral of cos(w tau) f(tau) over all tau, f even and smooth, by the trapezoidal rule."""
    step = min(0.8 * np.pi / w.max(), longest / 2000)
    total = np.zeros_like(w)
    n = int(np.ceil(longest / step))
    for start in range(0, n, block):
        tau = step * np.arange(start, min(start + block, n))
        values = 2.0 * step * function(tau)
        values[0] *= 0.5 if start == 0 else 1.0
        total += np.cos(np.multiply.outer(w, tau)) @ values
    return total
