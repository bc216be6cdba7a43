"""Covariance of the activity of one given matrix, not of an ensemble.

The network acts on its own noise: C(w) = q(w) G Gᴴ, G = ((1 + i w) / m - J)⁻¹, as if neurons were linear with slope m
and were driven by independent noise of power q(w) (the idea of Clark 2026, arXiv 2604.23489). Slope and noise are made
to agree with the activity of this very matrix: m is the mean slope at the variance of the currents, q the power that
gives single neurons their spectrum, and this the spectrum of rates under the currents that the network then makes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from nwb_lrrnn.analysis.theory.mean_field import MeanField, mean_field
from nwb_lrrnn.analysis.theory.mixing import AndersonMixing
from nwb_lrrnn.analysis.theory.resolvent import DirectResolvent, Resolvent, resolvent_of
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid, pair_law
from nwb_lrrnn.analysis.theory.spectra import grid

Array = NDArray[np.floating]

logger = logging.getLogger(__name__)

_N_FREQUENCIES = 181  # >= 0, at which the matrix is asked
_MOST_ROUNDS = 300
_SETTLED = 1e-6
_MOST_SLOPES = 15
_MATTERS = 1e-7  # of the peak of the spectrum: below, frequencies follow the others


@dataclass(frozen=True)
class _Grid:
    """Frequencies >= 0 of periodic courses, and fewer of them, dense where the spectrum lives, for the matrix."""

    step: float
    n: int
    w: Array  # (n / 2 + 1,)
    asked: Array
    shares: Array  # of `asked`, weights of the integral over both signs of w

    @classmethod
    def around(cls, single: MeanField) -> _Grid:
        step = np.pi / (12.0 + 8.0 * min(single.g, 10.0))
        n = 2 ** int(np.ceil(np.log2(50.0 * single.half_time / step)))
        asked, shares = grid(single.half_time, min(single.g, 10.0), 2 * _N_FREQUENCIES - 1)
        asked, shares = asked[_N_FREQUENCIES - 1 :], 2.0 * shares[_N_FREQUENCIES - 1 :]
        shares[0] *= 0.5
        return cls(step, n, 2.0 * np.pi * np.fft.rfftfreq(n, step), asked, shares)

    def spectrum(self, course: Array) -> Array:
        return self.step * np.fft.rfft(course).real

    def course(self, spectrum: Array) -> Array:
        return np.fft.irfft(spectrum, self.n) / self.step

    @property
    def lags(self) -> Array:
        k = np.arange(self.n)
        return self.step * np.minimum(k, self.n - k)

    def everywhere(self, asked: Array) -> Array:
        """Return values at all frequencies from positive ones at those asked; beyond these the last."""
        course = CubicSpline(np.arcsinh(self.asked / self.asked[1]), np.log(asked))
        at = np.minimum(self.w, self.asked[-1])
        return np.exp(course(np.arcsinh(at / self.asked[1])))

    def where_asked(self, spectrum: Array) -> Array:
        """Return a spectrum at the frequencies asked."""
        return np.exp(CubicSpline(self.w, np.log(spectrum))(np.minimum(self.asked, self.w[-1])))


def predicted_covariance(
    J: ArrayLike, nonlinearity: Sigmoid = "erf", *, gains: ArrayLike | None = None, tolerance: float = 1e-5
) -> xr.Dataset:
    """Return the covariance that the rates of one autonomous, chaotic network have by theory.

    Parameters
    ----------
    J : array (target, source)
        Connectivity of (1 + d/dt) x = J G phi(x), of zero mean, without outlying modes.
    nonlinearity : {"erf", "tanh"} or callable
        phi.
    gains : array (neuron,), optional
        G; 1 by default.
    tolerance : float
        Of the mean slope.

    Returns
    -------
    Dataset
        `covariance` (neuron, other_neuron) of the rates G phi, `normalised_covariance` of phi, `pr` and
        `normalised_pr`, their dimensions as fractions of N, `dimension` N `pr`, `rate_variance`, `current_variance`,
        `mean_slope`, `g` and whether it `converged`. Without chaos covariances are 0 and dimensions not numbers.

    Raises
    ------
    ValueError
        If J is no square matrix of finite numbers.

    Notes
    -----
    Neurons are taken as Gaussian with one mean slope, so that single slow modes do not saturate. Of networks of 1000
    neurons the logarithm of the predicted dimension is off by .11 (root mean square; independent connections, modes of
    effective rank .8 and 2, free singular vectors), at effective rank .3 by .27; the ensemble's formula by .27 and .35.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> J = 3.0 * rng.standard_normal((100, 100)) / 10.0
    >>> 2 < float(predicted_covariance(J).dimension) < 10
    True
    """
    matrix, gain = _checked(J, gains)
    n, coupled = len(matrix), matrix * gain
    single = mean_field(max(float(np.linalg.norm(coupled)) / np.sqrt(n), 1e-12), nonlinearity)
    if not single.is_chaotic:
        return _dataset(np.zeros((n, n)), gain, single.g, 0.0, single.mean_slope, True)
    resolvent, at = resolvent_of(coupled), _Grid.around(single)
    start = at.spectrum(single.rate_autocovariance(at.lags))
    slope, spectrum, currents, converged = _agreeing(resolvent, at, start, single, tolerance)
    s = slope / (1.0 + 1j * at.asked)
    noise = at.where_asked(spectrum) / (resolvent.traces(s)[1] / n)
    return _dataset(resolvent.covariance(s, noise * at.shares), gain, single.g, currents, slope, converged)


def _checked(J: ArrayLike, gains: ArrayLike | None) -> tuple[Array, Array]:
    matrix = np.asarray(J, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"J: got shape {matrix.shape}, wanted a square matrix (target, source) of finite numbers")
    gain = np.ones(len(matrix)) if gains is None else np.asarray(gains, dtype=float)
    if gain.shape != (len(matrix),):
        raise ValueError(f"gains: got shape {gain.shape}, wanted ({len(matrix)},)")
    return matrix, gain


def _agreeing(
    resolvent: Resolvent | DirectResolvent, at: _Grid, spectrum: Array, single: MeanField, tolerance: float
) -> tuple[float, Array, float, bool]:
    """Return mean slope, spectrum of the rates and variance of the currents that agree with each other."""
    fastest = float(resolvent.values.real.max(initial=0.0))
    most = 0.998 / fastest if fastest > 0 else np.inf  # beyond, the linear network would run away
    slope, variance = min(single.mean_slope, most), single.variance
    spectrum = np.maximum(spectrum, 1e-14 * spectrum.max())
    tried: list[tuple[float, float]] = []
    for _ in range(_MOST_SLOPES):
        spectrum, variance, settled = _activity(_loudness(resolvent, at, slope), at, spectrum, single)
        missed = pair_law(single.nonlinearity, variance).mean_slope - slope
        logger.debug("slope %.6f: %.2g off, settled %s", slope, missed, settled)
        if settled and abs(missed) < tolerance * slope:
            return slope, spectrum, variance, True
        step = 0.5 * missed
        if tried and tried[-1][1] != missed:  # secant
            step = -missed * (slope - tried[-1][0]) / (missed - tried[-1][1])
        tried.append((slope, missed))
        slope = min(slope + float(np.clip(step, -0.05 * slope, 0.05 * slope)), most)
    return slope, spectrum, variance, False


def _loudness(resolvent: Resolvent | DirectResolvent, at: _Grid, slope: float) -> Array:
    """Return the mean spectrum of the currents over that of the rates, at a mean slope."""
    s = slope / (1.0 + 1j * at.asked)
    trace, power = resolvent.traces(s)
    trace, power = trace / resolvent.n, power / resolvent.n
    heard = power / np.abs(s) ** 2 - 1.0 - 2.0 * (trace / s - 1.0).real  # tr J G Gᴴ Jᵀ / N
    heard = np.maximum(heard, 1e-12 * power)
    return at.everywhere(heard / power) / (1.0 + at.w**2)


def _activity(loudness: Array, at: _Grid, spectrum: Array, single: MeanField) -> tuple[Array, float, bool]:
    """Return the spectrum of rates whose currents are `loudness` times it, the variance of these, whether settled."""
    mixing = AndersonMixing(depth=6, step=0.8)
    matters = np.sqrt(spectrum / spectrum.sum()) * (spectrum > _MATTERS * spectrum.max())
    for _ in range(_MOST_ROUNDS):
        currents = at.course(loudness * spectrum)
        variance = float(currents[0])
        found = at.spectrum(pair_law(single.nonlinearity, variance).covariance(np.clip(currents, -variance, variance)))
        found = np.maximum(found, 1e-14 * found.max())
        if np.sum(np.abs(found - spectrum)) < _SETTLED * np.sum(spectrum):
            return found, variance, True
        here, there = np.log(spectrum), np.log(found)
        mixed = np.where(matters > 0, mixing.next(here, there, matters), there)
        spectrum = np.exp(here + np.clip(mixed - here, -0.5, 0.5))
    return spectrum, variance, False


def _dataset(covariance: Array, gain: Array, g: float, currents: float, slope: float, converged: bool) -> xr.Dataset:
    dims = ("neuron", "other_neuron")
    raw = covariance * np.outer(gain, gain)
    ratios = [float(np.trace(c) ** 2 / (len(c) * np.sum(c**2))) if c.any() else np.nan for c in (raw, covariance)]
    return xr.Dataset(
        {
            "covariance": (dims, raw),
            "normalised_covariance": (dims, covariance),
            "pr": ratios[0],
            "normalised_pr": ratios[1],
            "dimension": len(gain) * ratios[0],
            "rate_variance": float(np.trace(covariance)) / len(gain),
            "current_variance": currents,
            "mean_slope": slope,
            "g": g,
            "converged": converged,
        }
    )
