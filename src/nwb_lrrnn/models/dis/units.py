"""How recorded units are read: scaled values, and the features that the encoder sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.nonlinearity import phi
from nwb_lrrnn.models.linear.observations import FLOOR, moments_of_units
from nwb_lrrnn.models.networks.scales import scales_of
from nwb_lrrnn.showing import in_short
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_SMALL = 0.25  # standard deviation of currents on which phi is nearly linear

LIKELIHOODS = ("gaussian", "poisson", "negative_binomial")  # those that scale with a unit's mean


@dataclass(frozen=True)
class Units:
    """The recorded units as the neurons of the network: y = scale (x + e) + center, or counts of mean scale g(x) dt.

    Attributes
    ----------
    likelihood : {"gaussian", "poisson", "negative_binomial"}
    nonlinearity : str
        phi.
    center, scale : arrays (unit,)
        Gaussian: in the units of X. Counts: 0 and the mean rate in spikes/s.
    floor : array (unit,)
        Least noise variance, of scaled values.
    bin_size : float
        Seconds, or 1.0 for bins.
    link : {"identity", "softplus", "exp"}
        g.
    """

    likelihood: str
    nonlinearity: str
    center: Array
    scale: Array
    floor: Array
    bin_size: float
    link: str = "identity"

    __repr__ = in_short

    @property
    def are_counts(self) -> bool:
        """Whether values are counts."""
        return self.likelihood != "gaussian"

    @property
    def exposure(self) -> Array:
        """Expected count where the link is 1, (unit,)."""
        return self.scale * self.bin_size

    def scaled(self, values: Array) -> Array:
        """Return values in units of the link: x + e of Gaussian units, counts over their mean."""
        return values / self.exposure if self.are_counts else (values - self.center) / self.scale

    def features(self, values: Array) -> Array:
        """Return what the encoder reads of a bin: phi(x + e), or the variance-stabilised count 2 sqrt(y + 3/8)."""
        if self.are_counts:  # Anscombe (1948)
            return 2.0 * np.sqrt(values + 0.375)
        return phi(self.nonlinearity, self.scaled(values))

    def log_jacobian(self, seen: NDArray[np.bool_]) -> Array:
        """Return ln p(X) - ln p(scaled X) of each bin of `seen` (..., unit), (...,)."""
        return np.zeros(seen.shape[:-1]) if self.are_counts else -1.0 * (seen @ np.log(self.scale))


def units_of(trials: Trials, likelihood: str, link: str, nonlinearity: str, scaling: str) -> Units:
    """Return the units of trials.

    Parameters
    ----------
    trials : Trials
    likelihood, link, nonlinearity : str
    scaling : {"given", "unit", "small"}
        Gaussian values: as they are, with mean 0 and variance 1 of every unit, or with mean 0 and a standard deviation
        so small that phi hardly bends.
    """
    moments = moments_of_units(trials)
    scale, center = scales_of(trials, likelihood, link)
    if likelihood == "gaussian" and scaling == "given":
        scale, center = np.ones_like(scale), np.zeros_like(center)
    elif likelihood == "gaussian" and scaling == "small":
        scale = scale / _SMALL
    floor = np.where(moments.is_constant, 1.0, FLOOR) * moments.variance / scale**2
    return Units(likelihood, nonlinearity, center, scale, floor, trials.bin_size, link)
