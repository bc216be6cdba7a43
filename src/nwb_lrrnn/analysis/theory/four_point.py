"""Covariances across neurons: the dimension of the activity of a large network, and its time-scales.

Psi(tau1, tau2) = 1/N sum_ij C_ij(tau1) C_ij(tau2);   PR = C(0)² / Psi(0, 0), dimension N PR
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.theory import self_heard
from nwb_lrrnn.analysis.theory.ensembles import Gains, Overlaps, PartialSymmetry, RandomModes
from nwb_lrrnn.analysis.theory.mean_field import MeanField, mean_field
from nwb_lrrnn.analysis.theory.roots import root
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid
from nwb_lrrnn.analysis.theory.spectra import N_FREQUENCIES, Spectra, spectra
from nwb_lrrnn.parameters import whole_number

Array = NDArray[np.floating]
Ensemble = RandomModes | Gains | PartialSymmetry | Overlaps

NEAREST = 0.99988  # nu, to the transition
_FINER = {1: 0.98, 2: 0.998, 3: 0.9997, 5: NEAREST}  # times as many frequencies, up to this nu
_SEEN = 1e-7  # of the peak of the spectrum: frequencies below it say nothing


@dataclass(frozen=True, eq=False)
class FourPoint:
    """Covariances across neurons of one ensemble; times in units of the neurons' time constant.

    `pr` is the participation ratio of the rates, a fraction of N, `pr_currents` that of the currents (not a number
    where no formula is known), `pr_error` the standard error of a drawn fixed point over repeats, 0 of a computed one.
    """

    ensemble: Ensemble
    spectra: Spectra
    rate_variance: float
    psi_rates: Array  # Psi(w1, w2) (F, F), complex
    pr: float
    pr_currents: float
    pr_error: float = 0.0
    rate_variance_error: float = 0.0

    def __str__(self) -> str:
        error = f" ± {self.pr_error:.2g}" if self.pr_error else ""
        return (
            f"four-point functions of {self.ensemble!r} at g = {self.spectra.g:.4g}: dimension of the rates "
            f"{self.pr:.4g}{error} N, half-time of leading components {self.leading_half_time:.3g} time constants"
        )

    def psi(self, tau1: ArrayLike, tau2: ArrayLike) -> Array:
        """Return Psi of the rates at pairs of lags, broadcast against each other."""
        one, two = np.broadcast_arrays(np.asarray(tau1, dtype=float), np.asarray(tau2, dtype=float))
        waves = [np.exp(1j * np.multiply.outer(t.ravel(), self.spectra.w)) * self.spectra.weights for t in (one, two)]
        return np.sum((waves[0] @ self.psi_rates) * waves[1], axis=1).real.reshape(one.shape)

    def leading(self, tau: ArrayLike) -> Array:
        """Return Psi(tau, 0) / Psi(0, 0): the autocorrelation of principal components, weighted by variance²."""
        return self.spectra.course(self._row, tau) / self._at_once

    def cross(self, tau: ArrayLike) -> Array:
        """Return Psi(tau, tau) / Psi(0, 0): the mean square of cross-covariances at a lag."""
        return self.psi(tau, tau) / self._at_once

    @cached_property
    def leading_half_time(self) -> float:
        """Lag at which `leading` is a half."""
        return _half(self.leading, self._scale)

    @cached_property
    def cross_half_time(self) -> float:
        """Lag at which `cross` is a half."""
        return _half(self.cross, self._scale)

    @cached_property
    def half_time(self) -> float:
        """Lag at which the autocovariance of the rates of single neurons is a half."""
        return _half(lambda tau: self.spectra.course(self.spectra.rates, tau) / self.rate_variance, 1.0)

    @cached_property
    def _row(self) -> Array:
        return self.psi_rates @ self.spectra.weights

    @property
    def _at_once(self) -> float:
        return float((self.spectra.weights @ self._row).real)

    @property
    def _scale(self) -> float:
        return 0.5 * self.half_time


def four_point(
    g: float | None = None,
    ensemble: Ensemble | None = None,
    *,
    nonlinearity: Sigmoid = "erf",
    n_samples: int = 1000,
    n_repeats: int = 4,
    random_state: int | None = 0,
) -> FourPoint:
    """Return the covariances across neurons of a network of coupling strength `g` and a kind of connectivity.

    Parameters
    ----------
    g : float
        Coupling strength, above the transition to chaos; of `Overlaps` it is their own and may be left out.
    ensemble : RandomModes, Gains, PartialSymmetry or Overlaps
        Kind of connectivity; independent connections by default.
    nonlinearity : {"erf", "tanh"} or callable
        phi, as in `mean_field`.
    n_samples, n_repeats : int
        Paths and repeats of the drawn fixed point of `PartialSymmetry` and `Overlaps`; the others are computed.
    random_state : int
        Seed of the draws.

    Raises
    ------
    ValueError
        If there is no chaos.

    Notes
    -----
    Clark, Abbott & Litwin-Kumar (2023, PRL 131, 118401); Eqs. 38 to 51 of Clark, Marschall, van Meegen & Litwin-Kumar
    (2025, PRX 15, 041019); `RandomModes` says what holds for exact singular values.

    Examples
    --------
    >>> round(four_point(3.0, RandomModes(kappa=10.0)).pr, 5)
    0.00568
    """
    ensemble = RandomModes() if ensemble is None else ensemble
    if isinstance(ensemble, Overlaps):
        g = ensemble.g if g is None else g
        if abs(g / ensemble.g - 1.0) > 1e-6:
            raise ValueError(f"g: got {g}, but the strengths of these modes make {ensemble.g:.6g}; leave g out")
    if g is None:
        raise ValueError("g: got None, wanted a coupling strength above the transition to chaos, e.g. g=3.0")
    single = mean_field(g, nonlinearity)
    if not single.is_chaotic:
        raise ValueError(f"g: got {g}, where there is no chaos and all activity decays to 0; wanted g phi'(0) > 1")
    if isinstance(ensemble, (PartialSymmetry, Overlaps)):
        n_samples, n_repeats = whole_number("n_samples", n_samples, 50), whole_number("n_repeats", n_repeats)
        return _drawn(ensemble, single, n_samples, n_repeats, random_state)
    return _computed(ensemble, single)


def _computed(ensemble: RandomModes | Gains, single: MeanField) -> FourPoint:
    # the ridge along w1 = -w2 is as narrow as 1 - nu
    more = next((k for k, most in _FINER.items() if single.nu < most), None)
    if more is None:
        raise ValueError(
            f"g: got {single.g}, so near the transition to chaos that frequencies run together; wanted 2 % above it or "
            "more (towards it the dimension falls as (g - 1)³ N / 4.27 / (1 + kappa))"
        )
    n_frequencies = more * N_FREQUENCIES
    at = spectra(single, n_frequencies)
    both = np.outer(at.rates, at.rates)
    rates = ensemble.factor(at.g, at.response[:, None], at.response[None]) * both
    pr_currents = float("nan")
    if isinstance(ensemble, RandomModes):
        psi = at.weights @ _psi_currents(ensemble, at) @ at.weights
        pr_currents = float(single.variance**2 / psi.real)
    psi = float((at.weights @ rates @ at.weights).real)
    return FourPoint(ensemble, at, single.rate_variance, rates, single.rate_variance**2 / psi, pr_currents)


def _psi_currents(ensemble: RandomModes, at: Spectra) -> Array:
    """Return Psi of the currents (Eqs. E6 and I22)."""
    rates, filtered = np.outer(at.rates, at.rates), np.outer(at.filter, at.filter)
    u = at.g**2 * filtered / (1.0 - at.g**2 * np.outer(at.response, at.response))
    power = at.g**2 * at.rates * np.abs(at.filter) ** 2  # of the currents
    mixed = (at.response / at.filter).real * power  # of rates with currents: E phi' C
    return (
        np.outer(power, power) + (1.0 + ensemble.kappa) * np.abs(u) ** 2 * rates + 2.0 * u.real * np.outer(mixed, mixed)
    )


def _drawn(
    ensemble: PartialSymmetry | Overlaps, single: MeanField, n_samples: int, n_repeats: int, random_state: int | None
) -> FourPoint:
    """Return the mean over repeats of the drawn fixed point, and its standard error."""
    rngs = [np.random.default_rng(seed) for seed in np.random.SeedSequence(random_state).spawn(n_repeats)]
    found = [self_heard.solve(ensemble, single.g, single, n_samples=n_samples, rng=rng) for rng in rngs]
    seen = found[0].spectrum > _SEEN * found[0].spectrum.max()
    w = found[0].frequencies[: np.flatnonzero(seen)[-1] + 1]
    w = np.concatenate([-w[:0:-1], w])
    weights = np.full(len(w), (w[1] - w[0]) / (2.0 * np.pi))
    psi, ratios = np.zeros((len(w), len(w))), []
    for one in found:
        rates, s = one.power(w), one.response(w)
        of_one = ensemble.factor(single.g, s[:, None], s[None]) * np.outer(rates, rates)
        ratios.append(one.rate_variance**2 / float(weights @ of_one @ weights))
        psi = psi + of_one / n_repeats
    power = np.mean([one.power(w) for one in found], axis=0)
    response = np.mean([one.response(w) for one in found], axis=0)
    variances = [one.rate_variance for one in found]
    errors = [
        float(np.std(v, ddof=1) / np.sqrt(n_repeats)) if n_repeats > 1 else float("nan") for v in (ratios, variances)
    ]
    return FourPoint(
        ensemble,
        Spectra(single.g, w, weights, power, response),
        float(np.mean(variances)),
        psi,
        float(np.mean(ratios)),
        float("nan"),
        *errors,
    )


def _half(course: Callable[[ArrayLike], Array], scale: float) -> float:
    """Return where a falling course crosses a half."""
    for longest in (8.0 * scale, 64.0 * scale, 512.0 * scale):
        lags = np.linspace(0.0, longest, 33)
        below = np.flatnonzero(course(lags) < 0.5)
        if len(below):
            last = below[0]
            return root(
                lambda tau: float(course(np.array([tau]))[0]) - 0.5, float(lags[last - 1]), float(lags[last]), 1e-6
            )
    return float("nan")
