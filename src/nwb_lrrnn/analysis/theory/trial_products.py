"""Dimension and time-scales of simulated activity from products of different trials: no bias by their length.

Covariances of two independent trials of one network have independent errors, so that the mean of their product is the
square of the covariance (Eqs. 24 to 26 of Clark, Marschall, van Meegen & Litwin-Kumar 2025). A mean of 0, which odd
networks have, is not taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class SimulatedDimension:
    """`pr` is the dimension as a fraction of N; over networks average its inverse, as the theory averages Psi."""

    n_neurons: int
    variance: float  # C(0)
    psi: Array  # Psi(tau, 0) (lag,)
    cross: Array  # Psi(tau, tau) (lag,)
    autocovariance: Array  # C(tau) (lag,)

    @property
    def pr(self) -> float:
        """C(0)² / Psi(0, 0)."""
        return self.variance**2 / float(self.psi[0])

    @property
    def dimension(self) -> float:
        """N PR."""
        return self.n_neurons * self.pr


def simulated_dimension(activity: xr.DataArray, lags: ArrayLike = (0,)) -> SimulatedDimension:
    """Return dimension and time-scales of activity (trial, time, neuron), at lags in samples, of which the first is 0.

    Raises
    ------
    ValueError
        If there are fewer than two trials.
    """
    values = activity.transpose("trial", "time", "neuron").values
    n_trials, n_times, n = values.shape
    steps = [int(lag) for lag in np.atleast_1d(lags)]
    if n_trials < 2 or steps[0] != 0 or max(steps) >= n_times:
        raise ValueError(
            f"activity: got {n_trials} trials of {n_times} samples and lags {steps}, wanted two trials or more, and "
            "lags that begin at 0 and end within a trial; n_trials=16 is usual"
        )
    totals = np.zeros((len(steps), n, n))
    same = np.zeros((len(steps), 2))  # products of a trial with itself, to be taken out
    autocovariance = np.zeros(len(steps))
    for one in values:
        at_once = one.T @ one / n_times
        for k, lag in enumerate(steps):
            c = at_once if lag == 0 else one[: n_times - lag].T @ one[lag:] / (n_times - lag)
            autocovariance[k] += float(np.trace(c, dtype=float)) / (n * n_trials)
            totals[k] += c
            same[k] += _product(c, at_once), _product(c, c)
    pairs = n_trials * (n_trials - 1) * n
    psi = np.array([_product(total, totals[0]) for total in totals])
    cross = np.array([_product(total, total) for total in totals])
    return SimulatedDimension(
        n, float(autocovariance[0]), (psi - same[:, 0]) / pairs, (cross - same[:, 1]) / pairs, autocovariance
    )


def _product(one: Array, other: Array) -> float:
    return float(np.vdot(one.astype(float, copy=False), other.astype(float, copy=False)))
