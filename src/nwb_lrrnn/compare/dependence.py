"""Units that are linear combinations of others: copies, sums, references taken out of all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

# A unit that the others predict to this share of its variance has no noise of its own that a model could fit: models
# floor the noise variance of a unit at 1e-6 of its variance, and ten times that is where the floor begins to be felt.
# Recorded units are far above: neighbouring channels of one field at 1e-3 to 1e-2, spike counts at 0.1 and more.
OWN_VARIANCE = 1e-5


def dependent_units(values: Array) -> NDArray[np.bool_]:
    """Return which units (unit,) the others predict, to rounding or nearly so, from values (bin, unit).

    The variance of a unit given all others is 1 over its entry on the diagonal of the inverse correlations. Where bins
    are fewer than twice the units, which then predict each other by chance, only pairs are looked at.
    """
    n_bins, n_units = values.shape
    if n_units < 2 or n_bins < 4:
        return np.zeros(n_units, dtype=bool)
    centered = values - values.mean(axis=0)
    scale = np.sqrt((centered**2).mean(axis=0))
    lively = scale > 0
    x = centered[:, lively] / scale[lively]
    correlation = x.T @ x / n_bins
    own = np.ones(n_units)
    if n_bins >= 2 * n_units:
        roots, axes = np.linalg.eigh(correlation)
        least = 1e-14 * n_units  # rounding of the correlations
        own[lively] = 1.0 / (axes**2 / np.maximum(roots, least)).sum(axis=1) * n_bins / (n_bins - lively.sum())
    else:
        np.fill_diagonal(correlation, 0.0)
        own[lively] = 1.0 - (correlation**2).max(axis=1, initial=0.0)
    return own < OWN_VARIANCE
