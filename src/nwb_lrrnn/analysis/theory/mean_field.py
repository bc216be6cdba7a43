"""Single neurons of a large random network: variance and autocovariance, which depend on the coupling strength alone.

Currents and rates obey (1 + d/dt) x = eta, eta Gaussian of covariance g² C, so that the autocovariance D(tau) of the
currents moves like a particle, D'' = D - g² C(D; D(0)), that starts at rest and ends at rest at 0 (Sompolinsky,
Crisanti & Sommers 1988; Eq. 36 of Clark, Marschall, van Meegen & Litwin-Kumar 2025). The energy gives D(0) as the root
of one equation, and the course by one integral; the equation of motion itself runs away.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from nwb_lrrnn.analysis.theory.roots import root
from nwb_lrrnn.analysis.theory.sigmoids import ErfPair, Sigmoid, SigmoidPair, check_sigmoid, pair_law, slope
from nwb_lrrnn.parameters import positive

Array = NDArray[np.floating]

_TAIL = 2e-3  # of D(0): below it the decay is exponential
_N_KNOTS = 3000
_FLAT = 0.05  # of u in D = D(0) / cosh(u): nearer to the start the speed is extrapolated


@dataclass(frozen=True)
class MeanField:
    """A neuron of a large network of coupling strength `g`, time in units of the neuron's time constant.

    `variance` and `rate_variance` are those of currents and rates, `mean_slope` is E phi', `nu` is (g E phi')², below 1
    in chaos, and `half_time` the time in which the autocovariance of the rates falls to a half. Without chaos all
    activity dies out: variances are 0 and the half-time is not a number.
    """

    g: float
    nonlinearity: Sigmoid
    variance: float
    rate_variance: float
    mean_slope: float
    _pair: ErfPair | SigmoidPair = field(repr=False)

    def __str__(self) -> str:
        if not self.is_chaotic:
            return f"mean field of g = {self.g:g}: no chaos (g phi'(0) <= 1), all activity decays to 0"
        return (
            f"mean field of g = {self.g:g}: chaos, variance of currents {self.variance:.4g}, of rates "
            f"{self.rate_variance:.4g}, half-time {self.half_time:.3g} time constants"
        )

    @property
    def is_chaotic(self) -> bool:
        """Whether activity sustains itself."""
        return self.variance > 0

    @property
    def nu(self) -> float:
        """(g E phi')²."""
        return (self.g * self.mean_slope) ** 2

    @cached_property
    def half_time(self) -> float:
        """Time in which the autocovariance of the rates falls to a half, in time constants."""
        if not self.is_chaotic:
            return float("nan")

        def above(tau: float) -> float:
            return float(self.rate_autocovariance(tau)) - 0.5 * self.rate_variance

        return root(above, 0.0, self.end)

    @property
    def end(self) -> float:
        """Lag from which on the autocovariance of the currents is an exponential."""
        return float(self._course.x[-1])

    @property
    def decay(self) -> float:
        """Rate of that exponential, sqrt(1 - nu)."""
        return np.sqrt(max(1.0 - self.nu, 0.0))

    def autocovariance(self, tau: ArrayLike) -> Array:
        """Return that of the currents at lags `tau`, in time constants, of the same shape."""
        lag = np.abs(np.asarray(tau, dtype=float))
        if not self.is_chaotic:
            return np.zeros_like(lag)
        inside = self.variance / np.cosh(self._course(np.minimum(lag, self.end)))
        return inside * np.exp(-self.decay * np.maximum(lag - self.end, 0.0))

    def rate_autocovariance(self, tau: ArrayLike) -> Array:
        """Return that of the rates at lags `tau`, in time constants, of the same shape."""
        return self._pair.covariance(self.autocovariance(tau)) if self.is_chaotic else self.autocovariance(tau)

    def to_dataset(self, tau: ArrayLike | None = None) -> xr.Dataset:
        """Return `autocovariance` and `rate_autocovariance` over `lag` (by default 0 to 10 half-times), and numbers."""
        longest = 10.0 * self.half_time if self.is_chaotic else 10.0
        lag = np.linspace(0.0, longest, 201) if tau is None else np.atleast_1d(np.asarray(tau, dtype=float))
        numbers = ("variance", "rate_variance", "mean_slope", "nu", "half_time", "is_chaotic")
        return xr.Dataset(
            {
                "autocovariance": ("lag", self.autocovariance(lag)),
                "rate_autocovariance": ("lag", self.rate_autocovariance(lag)),
                **{name: getattr(self, name) for name in numbers},
            },
            coords={"lag": lag},
            attrs={"g": self.g, "nonlinearity": str(self.nonlinearity), "lag_unit": "time constants"},
        )

    @cached_property
    def _course(self) -> CubicSpline:
        """U of D = D(0) / cosh(u) as a function of the lag."""
        u = np.linspace(0.0, np.arccosh(1.0 / _TAIL), _N_KNOTS)
        d = self.variance / np.cosh(u)
        with np.errstate(invalid="ignore", divide="ignore"):
            squared = (d**2 - 2.0 * self.g**2 * self._pair.integral(d)) / np.tanh(u) ** 2  # (dD/dtau / tanh u)²
        # even in u; at 0 the force over the distance, nearby the parabola through that and the first good value
        squared[0] = self.variance * (self.g**2 * self.rate_variance - self.variance)
        near = u < _FLAT
        first = np.flatnonzero(~near)[0]
        squared[near] = squared[0] + (squared[first] - squared[0]) * (u[near] / u[first]) ** 2
        lag = CubicSpline(u, d / np.sqrt(squared)).antiderivative()(u)
        return CubicSpline(lag, u)


def mean_field(g: float, nonlinearity: Sigmoid = "erf") -> MeanField:
    """Return the two-point functions of a network of coupling strength `g`.

    Parameters
    ----------
    g : float
        Standard deviation of the connections times sqrt(N). Without chaos, g phi'(0) <= 1, all activity dies out, and
        the result says so.
    nonlinearity : {"erf", "tanh"} or callable
        phi; erf means erf(sqrt(pi) x / 2), of unit slope; a callable is any odd sigmoid of arrays.

    Returns
    -------
    MeanField
        Variances, time-scale, and the autocovariances as functions of the lag.

    Raises
    ------
    ValueError
        If `g` is not positive or the nonlinearity no odd sigmoid.

    Notes
    -----
    Eq. 36 of Clark, Marschall, van Meegen & Litwin-Kumar (2025, PRX 15, 041019).

    Examples
    --------
    >>> print(mean_field(3.0))
    mean field of g = 3: chaos, variance of currents 5.637, of rates 0.7107, half-time 3.31 time constants
    """
    check_sigmoid(nonlinearity)
    return _mean_field(positive("g", g), nonlinearity)


@lru_cache(maxsize=256)
def _mean_field(g: float, nonlinearity: Sigmoid) -> MeanField:
    steepness = float(slope(nonlinearity, np.zeros(1))[0])
    if g * steepness <= 1.0:
        return MeanField(g, nonlinearity, 0.0, 0.0, steepness, pair_law(nonlinearity, 0.0))

    def energy(log_variance: float) -> float:
        variance = np.exp(log_variance)
        return 0.5 - g**2 * float(pair_law(nonlinearity, variance).integral(np.asarray(variance))) / variance**2

    low, high = np.log(1e-2 * (g * steepness - 1.0) / steepness**2), np.log(g**2)
    while energy(high) < 0:  # a sigmoid that saturates above 1
        high += 1.0
    while energy(low) > 0:
        low -= 2.0
    variance = float(np.exp(root(energy, low, high, 1e-13)))
    pair = pair_law(nonlinearity, variance)
    return MeanField(g, nonlinearity, variance, float(pair.covariance(np.asarray(variance))), pair.mean_slope, pair)
