"""How long windows of a recording must be to show what is in it: two of its own periods, or autocorrelation times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import detrend

from nwb_lrrnn.trials import as_trials

Array = NDArray[np.floating]

PER_WINDOW = 2  # periods or autocorrelation times
FEWEST_HELD_OUT = 8  # windows: with fewer nothing is decided
_COMPONENTS = 3  # of the population, at most
_SHARE = 0.3  # of the lagged variance of the first component that another one must have
_ABOVE = 1.4  # times the largest covariance from bin to bin of the same bins in another order
_LAGS = (1, 4)  # over which covariances from bin to bin are averaged: fast ones last one bin, faint ones need more
_DIP = -0.2  # of the correlation at lag 1: what falls below it turns back, and is an oscillation
_MOST_ENTRIES = 2**24  # bins times units that are looked at, from the beginning of a recording
_FEWEST = 4  # windows, whatever the time scale is: some are fitted and one is held out


@dataclass(frozen=True)
class WindowChoice:
    """How long windows are, in bins, and why.

    Attributes
    ----------
    length : int
        Bins of a window.
    scale : float or None
        Bins of a period or an autocorrelation time of the population; None where its bins are unrelated.
    is_period : bool
        Whether the population oscillates.
    n_bins : int
        Bins of the recording.
    """

    length: int
    scale: float | None
    is_period: bool
    n_bins: int

    @property
    def noun(self) -> str:
        """What the scale is, in the plural."""
        return "periods" if self.is_period else "autocorrelation times"

    def reason(self, step: float, unit: str) -> str:
        """Return why windows have this length; `step` is that of a bin in the unit."""
        if self.scale is None:
            return "bins of the population are unrelated to each other"
        held = self.length / self.scale
        told = f"the {self.noun[:-1]} of the population is {self.scale * step:.3g} {unit}"
        return f"{told}, of which a window holds {held:.2g}"

    def shortage(self, test_fraction: float) -> str:
        """Return how much longer the recording must be for windows enough; empty where they are."""
        n_windows = self.n_bins // self.length
        if self.scale is None or round(test_fraction * n_windows) >= FEWEST_HELD_OUT:
            return ""
        needed = PER_WINDOW * math.ceil(FEWEST_HELD_OUT / test_fraction)
        return (
            f"the recording holds {self.n_bins / self.scale:.2g} {self.noun}, and {FEWEST_HELD_OUT} held-out windows "
            f"of {PER_WINDOW} would take about {needed}"
        )


def choose_window(X: Any, n_windows: int) -> WindowChoice:
    """Return windows for a recording (time, unit): as many as are wanted, each of at least two of its time scales.

    Examples
    --------
    >>> time = np.arange(2000)[:, None]
    >>> X = np.cos(2 * np.pi * time / 100 + np.arange(5)) + np.random.default_rng(0).standard_normal((2000, 5))
    >>> choice = choose_window(X, 40)
    >>> choice.is_period, round(choice.length, -1)  # 200 bins, of which 100 are a period
    (True, 200)
    """
    n_bins, n_units = X.shape
    trials = as_trials(X[: max(2, _MOST_ENTRIES // max(n_units, 1))], allow_nan=True)
    scale, is_period = time_scale(trials.values[0], trials.seen[0])
    wanted = max(2, n_bins // n_windows)
    if scale is not None:
        wanted = max(wanted, math.ceil(PER_WINDOW * scale))
    return WindowChoice(max(1, min(wanted, max(2, n_bins // _FEWEST), n_bins)), scale, is_period, n_bins)


def time_scale(values: Array, seen: NDArray[np.bool_]) -> tuple[float | None, bool]:
    """Return the longest time scale of the population in bins, and whether it is a period, from values (time, unit).

    Of the few components that have most covariance from bin to bin, in which the noise of units has no part. A period
    is twice the lag at which the correlation first turns back from below zero; what does not turn back has an
    autocorrelation time, 1 + 2 sum of r(lag), in which r(1) stands for the correlation that noise takes from all lags.
    """
    y = _standardised(values, seen)
    n_bins, n_units = y.shape
    if n_units == 0 or n_bins < 8:
        return None, False
    # what unrelated bins of these very units would show; of one unit, less than three standard deviations
    shuffled = y[np.random.default_rng(0).permutation(n_bins)]
    for n_lags in _LAGS:  # the first that shows anything
        roots, axes = _lagged(y, n_lags)
        if roots[-1] > max(_ABOVE * _lagged(shuffled, n_lags)[0][-1], 3.0 / np.sqrt(n_lags * n_bins)):
            order = np.argsort(roots)[::-1][:_COMPONENTS]
            scales = [_scale_of(y @ axes[:, k]) for k in order if roots[k] >= _SHARE * roots[order[0]]]
            return max(scales, key=lambda one: one[0])
    return None, False


def _lagged(y: Array, n_lags: int) -> tuple[Array, Array]:
    """Return eigenvalues, rising, and axes of the symmetric part of the mean covariance at lags 1 to `n_lags`."""
    covariance = np.mean([y[lag:].T @ y[:-lag] for lag in range(1, n_lags + 1)], axis=0) / len(y)
    return np.linalg.eigh(0.5 * (covariance + covariance.T))


def _standardised(values: Array, seen: NDArray[np.bool_]) -> Array:
    """Return units in standard deviations without linear trends, 0 where unobserved; constant ones are left out."""
    n = np.maximum(seen.sum(axis=0), 1)
    y = np.where(seen, values - np.where(seen, values, 0.0).sum(axis=0) / n, 0.0)
    y = np.where(seen, detrend(y, axis=0), 0.0)
    power = (y**2).sum(axis=0) / n
    lively = power > 1e-20 * np.maximum((values**2).max(axis=0, initial=0.0), 1e-280)
    return y[:, lively] / np.sqrt(power[lively])


def _scale_of(x: Array) -> tuple[float, bool]:
    """Return the time scale of one series in bins, and whether it is a period."""
    n = len(x)
    power = np.abs(np.fft.rfft(x - x.mean(), 2 * n)) ** 2
    r = np.fft.irfft(power)[: n // 2]
    r /= r[0]
    least = 2.0 / np.sqrt(n)
    one = max(float(r[1]), least)
    below = np.flatnonzero(r < least)
    end = int(below[0]) if len(below) else len(r)
    crossing = np.flatnonzero(r < 0)
    if len(crossing):
        begin = int(crossing[0])
        error = np.sqrt((1.0 + 2.0 * (r[1:begin] ** 2).sum()) / n)  # Bartlett's, of lags at which nothing is left
        stretch = r[begin : 3 * begin + 2]
        turn = begin + int(stretch.argmin())
        if r[turn] < min(_DIP * one, -3.0 * error):
            return 2.0 * turn, True
    return float(1.0 + 2.0 * r[1:end].sum() / one), False
