"""Observations made ready for EM: standardised per unit, with masks as weights and the sums that never change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.models.linear.smoothing import Patterns, find_patterns
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_CONSTANT = 1e-3  # a constant unit counts as having this fraction of the mean variance of the units
FLOOR = LIKELIHOODS["gaussian"].spread_limits[0]  # no noise variance goes below this fraction of the unit's own


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
    floor : array (unit,)
        Least noise variance: 1e-6, or all of the stand-in variance of a constant unit.
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
    floor: Array
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


@dataclass(frozen=True)
class UnitMoments:
    """Mean, variance and number of observed bins of each unit, (unit,), and which units never change."""

    mean: Array
    variance: Array
    n_observed: Array
    is_constant: NDArray[np.bool_]


def moments_of_units(trials: Trials) -> UnitMoments:
    """Return the moments of each unit over its observed bins; constant units get a variance > 0.

    Of parts of a recording: a unit that never changes in the whole is left out before. It is given 1e-3 of the mean
    variance of the units (1 when all are constant) as its noise, in every linear model alike.
    """
    told = trials.summary
    mean, variance = told.mean, told.variance
    constant = told.is_constant
    lively = variance[~constant]
    stand_in = _CONSTANT * lively.mean() if lively.size else 1.0
    return UnitMoments(mean, np.where(constant, stand_in, variance), told.n_observed, constant)


def prepare(trials: Trials, inputs: Array | None) -> Observations:
    """Return trials standardised per unit, with the sums that EM needs."""
    units = moments_of_units(trials)
    scale = np.sqrt(units.variance)
    values = (trials.values - units.mean) / scale
    patterns = find_patterns(trials.observed, trials.lengths, trials.values.shape[1])
    if trials.observed is not None:
        values = np.where(trials.observed, values, 0.0)
    shown = patterns.bins if patterns.units is None else patterns.units
    squares = np.einsum("kti,kti->ki", values, values)
    floor = np.where(units.is_constant, 1.0, FLOOR)
    return Observations(
        values, units.mean, scale, patterns, shown[patterns.pattern], units.n_observed, floor, squares, inputs
    )
