"""Means over pairs of independent grains: moments of the true covariance, without bias by the length of a recording.

With K_tt' = x_t . x_t' over t and t' that are far apart, <K_tt'^2> is tr C^2, <|x_t|^2 |x_t'|^2> is (tr C)^2 and
<sum_i x_it^2 x_it'^2> is sum_i C_ii^2. Grains hold the sums of these over their bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.dimension.products import Products, between

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Pairs:
    """What each pair of grains says, where they are apart, for one scale of the units.

    Attributes
    ----------
    shared : array (grain, grain)
        sum_ij C_ij^2 between units, i != j, of the units whose products were taken.
    traces, squares : arrays (grain, grain)
        (tr C)^2 and sum_i C_ii^2.
    weights : array (grain, grain)
        Pairs of bins, 0 where grains are not apart.
    by_chance : float
        What the mean that was taken out leaves in `shared` of units that share nothing: the products of the variances
        of their means.
    n_units, n_drawn : int
        Of the recording, and of those whose products were taken.
    """

    shared: Array
    traces: Array
    squares: Array
    weights: Array
    by_chance: float
    n_units: int
    n_drawn: int

    def shared_sum(self, counts: Array | None = None) -> float:
        """Return sum_ij C_ij^2 between units; `counts` (grain,) is how often each grain is drawn."""
        return self._mean(self.shared, counts) - self.by_chance

    def _mean(self, values: Array, counts: Array | None) -> float:
        weights = self.weights if counts is None else self.weights * np.outer(counts, counts)
        return float(np.vdot(weights, values) / max(weights.sum(), 1e-300))

    def inverse_dimensions(self, counts: Array | None = None) -> tuple[float, float]:
        """Return 1 / dimension of these units, and of ever more such units (0 or less: of infinitely many)."""
        n, drawn = self.n_units, self.n_drawn
        shared = self.shared_sum(counts) / (drawn * (drawn - 1)) if drawn > 1 else 0.0
        trace, square = self._mean(self.traces, counts), self._mean(self.squares, counts)
        trace = trace if trace > 0 else np.nan
        return (square + n * (n - 1) * shared) / trace, shared * n**2 / trace

    def inverse_dimension_of(self, n_population: float, counts: Array | None = None) -> float:
        """Return 1 / dimension of so many such units."""
        n = self.n_units
        trace, square = self._mean(self.traces, counts), self._mean(self.squares, counts)
        limit = self.inverse_dimensions(counts)[1]
        return (square * n / trace + (n_population - 1) * limit) / n_population


def pairs_of(
    products: Products, variances: Array, scale: Array, drawn: NDArray[np.integer], apart: NDArray[np.bool_],
    stretches: NDArray[np.integer],
) -> Pairs:
    """Return what pairs of grains say.

    Parameters
    ----------
    products : Products
        Of the units `drawn`.
    variances : array (grain, unit)
        Of all units that count.
    scale : array (unit,)
        By which these are divided.
    drawn : array (drawn,)
        Those of them whose products were taken.
    apart, stretches : arrays (grain, grain), (grain,)
        Which grains are independent, and the stretch of each.
    """
    scaled = variances / scale**2
    traces = scaled.sum(axis=1)
    weights = apart * np.outer(products.n_seen, products.n_seen)
    total = products.n_seen.sum()
    of_stretch = np.zeros((stretches.max() + 1, len(drawn)))
    np.add.at(of_stretch, stretches, products.n_seen[:, None] * products.means[:, drawn] / scale[drawn])
    of_mean = (of_stretch**2).sum(axis=0) / total**2
    return Pairs(
        between(products, scale[drawn]),
        np.outer(traces, traces),
        scaled @ scaled.T,
        weights,
        float(of_mean.sum() ** 2 - (of_mean**2).sum()),
        len(scale),
        len(drawn),
    )


def by_units(products: Products, scale: Array, weights: Array) -> Array:
    """Return what each unit (unit,) adds to `shared_sum`: sum_j C_ij^2, j != i."""
    total = weights.sum()
    out = np.zeros(len(scale))
    flat = products.moments.reshape(len(weights), -1)
    for k in range(len(weights)):
        partner = (weights[k].astype(np.float32) @ flat).reshape(products.moments.shape[1:])
        out += ((products.moments[k] * partner / scale**2).sum(axis=1, dtype=float)) / scale**2 / total
    return out
