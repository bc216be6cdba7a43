"""Neurons that hear themselves through the network: currents are no longer Gaussian, and the fixed point is drawn.

    (1 + d/dt) x = eta + R * phi(x),   eta Gaussian of power Q(w)           (Eq. 47 of Clark et al. 2025)

Q and R follow from the spectrum C and the response S of the rates, and these from x. Paths of x are periodic, so that
nothing leaks between frequencies, and are found by relaxation over whole paths. C and S are measured as differences
to the Gaussian neuron of the same drive (R = 0), whose C and S are known: what the draws have in common cancels, and
without R the result is exact. S comes from the covariance of rates and drive (Novikov) as a sum of exponentials that
begins at E phi'.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from nwb_lrrnn.analysis.theory.mean_field import MeanField
from nwb_lrrnn.analysis.theory.mixing import AndersonMixing
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid, pair_law, rate, slope

Array = NDArray[np.floating]
ComplexArray = NDArray[np.complexfloating]

logger = logging.getLogger(__name__)

_SWEEPS = 3  # of relaxation a round; paths are kept from round to round
_SETTLED = 2e-4  # change of C and S a round, relative


class Hearing(Protocol):
    """Connectivity through which neurons hear themselves."""

    def drive(self, g: float, s: ComplexArray) -> tuple[Array, ComplexArray]:
        """Return Q / C and R."""
        ...


@dataclass(frozen=True)
class SelfHeard:
    """The fixed point: spectrum of the rates at frequencies >= 0 and their response as a sum of exponentials."""

    rate_variance: float
    variance: float
    mean_slope: float
    frequencies: Array
    spectrum: Array
    rates: Array  # lambda (K,)
    amplitudes: Array  # c (K,)
    change: float  # of the last round, relative

    def response(self, w: Array) -> ComplexArray:
        """Return S(w)."""
        return _exponentials(self.rates, w) @ self.amplitudes

    def power(self, w: Array) -> Array:
        """Return C(w), 0 beyond the grid."""
        course = CubicSpline(self.frequencies, np.log(np.maximum(self.spectrum, 1e-300)))
        at = np.abs(w)
        return np.where(at <= self.frequencies[-1], np.exp(course(np.minimum(at, self.frequencies[-1]))), 0.0)


class _Paths:
    """Periodic paths of neurons, (sample, time), their drive and their Gaussian companions."""

    def __init__(self, nonlinearity: Sigmoid, n_samples: int, n_steps: int, step: float, rng: np.random.Generator):
        self.nonlinearity, self.n_steps, self.step = nonlinearity, n_steps, step
        self.w = 2.0 * np.pi * np.fft.rfftfreq(n_steps, step)
        self.filter = 1.0 / (1.0 + 1j * self.w)
        drawn = np.fft.rfft(rng.standard_normal((n_samples, n_steps)), axis=1)
        self.drawn = drawn * np.sqrt(n_steps / np.mean(np.abs(drawn) ** 2, axis=0))  # of power exactly 1 per frequency
        self.x: Array | None = None

    def measure(self, power: Array, heard: ComplexArray) -> tuple[Array, ComplexArray, float, float]:
        """Return C(w), S(w), E phi' and the variance of x under a drive of this power."""
        eta = self.drawn * np.sqrt(power / self.step)
        gaussian = np.fft.irfft(eta * self.filter, self.n_steps, axis=1)
        x = gaussian if self.x is None else self.x
        for _ in range(_SWEEPS):
            heard_rates = heard * np.fft.rfft(rate(self.nonlinearity, x), axis=1)
            x = np.fft.irfft((eta + heard_rates) * self.filter, self.n_steps, axis=1)
        self.x = x
        more = np.fft.rfft(rate(self.nonlinearity, x), axis=1)
        plain = np.fft.rfft(rate(self.nonlinearity, gaussian), axis=1)
        c, s, mean_slope, variance = self._of_gaussian(power)
        scale = self.step / self.n_steps
        c = c + scale * np.mean(np.abs(more) ** 2 - np.abs(plain) ** 2, axis=0)
        s = s + scale * np.mean((more - plain) * np.conj(eta), axis=0) / power
        mean_slope += float(np.mean(slope(self.nonlinearity, x)) - np.mean(slope(self.nonlinearity, gaussian)))
        variance += float(np.mean(x**2) - np.mean(gaussian**2))
        return c, s, mean_slope, variance

    def _of_gaussian(self, power: Array) -> tuple[Array, ComplexArray, float, float]:
        covariance = np.fft.irfft(power * np.abs(self.filter) ** 2, self.n_steps) / self.step
        pair = pair_law(self.nonlinearity, float(covariance[0]))
        c = self.step * np.fft.rfft(pair.covariance(np.clip(covariance, -covariance[0], covariance[0]))).real
        return c, pair.mean_slope * self.filter, pair.mean_slope, float(covariance[0])


def solve(
    connectivity: Hearing,
    g: float,
    single: MeanField,
    *,
    n_samples: int,
    n_rounds: int = 80,
    rng: np.random.Generator,
) -> SelfHeard:
    """Return the fixed point, from that of the Gaussian neuron `single` of equal coupling strength."""
    step = min(0.125, 0.5 * np.pi / (2.0 + g))
    n_steps = 2 ** int(np.ceil(np.log2(40.0 * single.half_time / step)))
    paths = _Paths(single.nonlinearity, n_samples, n_steps, step, rng)
    w, lags = paths.w, step * np.minimum(np.arange(n_steps), n_steps - np.arange(n_steps))
    c = step * np.fft.rfft(single.rate_autocovariance(lags)).real
    c = np.maximum(c, 1e-12 * c[0])
    decays = np.concatenate([[1.0], np.geomspace(0.1, 4.0 * (1.0 + g), 9)])
    amplitudes = np.zeros(len(decays))
    amplitudes[0] = single.mean_slope
    mixing, change, variance = AndersonMixing(), np.inf, single.variance
    mean_slope, size = single.mean_slope, len(w)
    for _ in range(n_rounds):
        s = _exponentials(decays, w) @ amplitudes
        ratio, heard = connectivity.drive(g, s)
        found, response, mean_slope, variance = paths.measure(ratio * c, heard)
        found = np.maximum(found, 1e-12 * found.max())
        fitted = _fit_exponentials(decays, w, response, mean_slope, weights=c)
        there = np.concatenate([np.log(found), fitted / mean_slope])
        here = np.concatenate([np.log(c), amplitudes / mean_slope])
        matters = np.concatenate([np.sqrt(c / c.sum()), np.ones(len(decays)) / len(decays)])
        moved = _exponentials(decays, w[:1]) @ (fitted - amplitudes) / mean_slope
        change = max(abs(found.sum() / c.sum() - 1.0), abs(found[0] / c[0] - 1.0), float(np.abs(moved[0])))
        if change < _SETTLED:
            break
        mixed = mixing.next(here, there, matters)
        c, amplitudes = np.exp(mixed[:size]), mixed[size:] * mean_slope
    logger.debug("self-heard fixed point: change %.2g", change)
    period = n_steps * step
    rate_variance = float((2.0 * c.sum() - c[0]) / period)
    return SelfHeard(rate_variance, variance, mean_slope, w, c, decays, amplitudes, change)


def _exponentials(decays: Array, w: Array) -> ComplexArray:
    return 1.0 / (decays + 1j * np.asarray(w)[..., None])


def _fit_exponentials(decays: Array, w: Array, s: ComplexArray, at_once: float, weights: Array) -> Array:
    """Return amplitudes (K,) that sum to `at_once` and fit S, held a little to the single exponential."""
    root = np.sqrt(weights / weights.sum())
    basis = _exponentials(decays, w)
    columns = basis[:, 1:] - basis[:, :1]
    missed = s - at_once * basis[:, 0]
    rows = root[:, None] * columns
    goal = root * missed
    ridge = 1e-3 * np.eye(len(decays) - 1)
    rest = np.linalg.lstsq(
        np.concatenate([rows.real, rows.imag, ridge]),
        np.concatenate([goal.real, goal.imag, np.zeros(len(ridge))]),
        rcond=None,
    )[0]
    return np.concatenate([[at_once - rest.sum()], rest])
