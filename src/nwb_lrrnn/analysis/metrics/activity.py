"""Means, spreads and correlations of units: whether a generated population looks like the recorded one."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.analysis.metrics.series import read_pair, unit_ids

Array = NDArray[np.float64]


def mean_rate_error(data: Any, generated: Any) -> float:
    r"""Return the mean over units of (sum_t x_ti - sum_t x'_ti)^2 / T, as in Pals et al. 2024.

    Parameters
    ----------
    data, generated : DataArray or array (trial, time, unit) or (time, unit), or DataFrame
        Of the same number T of time bins, over all trials.

    Raises
    ------
    ValueError
        If the arrays have other dims, gaps, units or numbers of bins.

    Examples
    --------
    >>> mean_rate_error(np.ones((100, 2)), np.zeros((100, 2)))
    100.0
    """
    first, second = read_pair(data, generated)
    n_bins, others = (x.shape[0] * x.shape[1] for x in (first, second))
    if n_bins != others:
        raise ValueError(f"generated: got {others} bins, wanted {n_bins} as in data; cut the longer one")
    gap = first.sum(axis=(0, 1)) - second.sum(axis=(0, 1))  # (unit,)
    return float((gap**2).mean() / n_bins)


def compare_activity(data: Any, generated: Any) -> xr.Dataset:
    """Return means, standard deviations and pairwise correlations of recorded and generated units, and how they agree.

    Parameters
    ----------
    data, generated : DataArray or array (trial, time, unit) or (time, unit), or DataFrame
        Values per bin (counts, say), over all trials.

    Returns
    -------
    Dataset
        `mean`, `standard_deviation` (source, unit) in the units of X, `correlation` (source, pair) between units
        `unit_a` and `unit_b`, NaN where a unit never changes, `source` being "data" and "generated"; `agreement`
        (statistic,), the correlation of each of the three between the sources, NaN where it has no meaning.

    Raises
    ------
    ValueError
        If the arrays have other dims, gaps or units.

    Examples
    --------
    >>> x = np.random.default_rng(0).poisson([1.0, 2.0, 3.0], size=(500, 3))
    >>> compare_activity(x, x[::-1]).agreement.values.round(6)
    array([1., 1., 1.])
    """
    first, second = (x.reshape(-1, x.shape[2]) for x in read_pair(data, generated))
    ids = unit_ids(data, first.shape[1])
    a, b = np.triu_indices(first.shape[1], k=1)
    statistics = {
        "mean": np.stack([x.mean(axis=0) for x in (first, second)]),
        "standard_deviation": np.stack([x.std(axis=0) for x in (first, second)]),
        "correlation": np.stack([_correlations(x)[a, b] for x in (first, second)]),
    }
    agreement = [_agreement(*values) for values in statistics.values()]
    dims = {"mean": "unit", "standard_deviation": "unit", "correlation": "pair"}
    return xr.Dataset(
        {name: (("source", dims[name]), values) for name, values in statistics.items()}
        | {"agreement": ("statistic", agreement)},
        coords={
            "source": ["data", "generated"],
            "unit": ids,
            "statistic": list(statistics),
            "unit_a": ("pair", ids[a]),
            "unit_b": ("pair", ids[b]),
        },
    )


def _correlations(x: Array) -> Array:
    """Return correlations (unit, unit) of x (bin, unit), NaN where a unit never changes."""
    x = x - x.mean(axis=0)
    norm = np.sqrt((x**2).sum(axis=0))
    x = x / np.where(norm > 0, norm, np.nan)
    return x.T @ x


def _agreement(first: Array, second: Array) -> float:
    known = np.isfinite(first) & np.isfinite(second)
    pair = np.stack([first[known], second[known]])
    if pair.shape[1] < 2 or not (np.ptp(pair, axis=1) > 0).all():
        return np.nan
    return float(_correlations(pair.T)[0, 1])
