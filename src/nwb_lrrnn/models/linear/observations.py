"""Observations made ready for EM: standardised per unit, with masks as weights and the sums that never change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.smoothing import Patterns, find_patterns
from nwb_lrrnn.trials import Trials

Array = NDArray[np.float64]

_CONSTANT = 1e-3  # a constant unit counts as having this fraction of the mean variance of the units
FLOOR = 1e-6  # no noise variance goes below this fraction of the unit's own variance


@dataclass(frozen=True)
class Observations:
    """Standardised trials: y = (X - center) / scale, 0 where unobserved.

    Attributes
    ----------
    values : array (trial, time, unit)
        y.
    center, scale : arrays (unit,)
        Mean and standard deviation of each unit over its observed bins.
    patterns : Patterns
        Which trials share covariances.
    weights : array (trial, time) or (trial, time, unit)
        1 where observed.
    n_observed : array (unit,)
        Observed bins of each unit.
    squares : array (trial, unit)
        Sum of y^2 of each trial and unit.
    inputs : array (trial, time, input) or None
    """

    values: Array
    center: Array
    scale: Array
    patterns: Patterns
    weights: Array
    n_observed: Array
    squares: Array
    inputs: Array | None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bins of each trial."""
        return self.patterns.lengths[self.patterns.pattern]

    @property
    def n_bins(self) -> float:
        """Bins observed in at least one unit, over all trials."""
        return float(self.patterns.bins.sum(axis=1) @ self.patterns.counts)

    @property
    def masked_by_unit(self) -> bool:
        """Whether some bin is observed in some units only."""
        return self.patterns.units is not None

    def log_jacobian(self) -> float:
        """Return ln p(X) - ln p(y), the sum of -ln scale over observed entries."""
        return -float(self.n_observed @ np.log(self.scale))


def moments_of_units(trials: Trials) -> tuple[Array, Array, Array]:
    """Return mean, variance and number of observed bins of each unit, (unit,); constant units get a variance > 0.

    A unit that never changes would have a Gaussian likelihood without bound; it is given 1e-3 of the mean variance
    of the units (1 when all are constant), in every linear model and baseline alike, so that they compare.
    """
    axes = (0, 1)
    if trials.observed is None:
        count = np.full(trials.values.shape[2], float(np.prod(trials.values.shape[:2])))
        mean = trials.values.mean(axis=axes)
        variance = trials.values.var(axis=axes)
    else:
        count = trials.observed.sum(axis=axes).astype(np.float64)
        mean = trials.values.sum(axis=axes) / np.maximum(count, 1.0)
        residual = np.where(trials.observed, trials.values - mean, 0.0)
        variance = (residual**2).sum(axis=axes) / np.maximum(count, 1.0)
    constant = variance <= 1e-20 * np.maximum(mean**2, 1e-280)  # rounding of a constant leaves this much
    lively = variance[~constant]
    stand_in = _CONSTANT * lively.mean() if lively.size else 1.0
    return mean, np.where(constant, stand_in, variance), count


def prepare(trials: Trials, inputs: Array | None) -> Observations:
    """Return trials standardised per unit, with the sums that EM needs."""
    center, variance, count = moments_of_units(trials)
    scale = np.sqrt(variance)
    values = (trials.values - center) / scale
    patterns = find_patterns(trials.observed, trials.lengths, trials.values.shape[1])
    if trials.observed is not None:
        values = np.where(trials.observed, values, 0.0)
    shown = patterns.bins if patterns.units is None else patterns.units
    squares = np.einsum("kti,kti->ki", values, values)
    return Observations(values, center, scale, patterns, shown[patterns.pattern], count, squares, inputs)
