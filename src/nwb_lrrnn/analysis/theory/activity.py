"""Dimension and time-scales of the activity, as a table over coupling strength and effective rank."""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from nwb_lrrnn.analysis.theory.ensembles import RATES, Gains, PartialSymmetry, RandomModes
from nwb_lrrnn.analysis.theory.four_point import Ensemble, four_point
from nwb_lrrnn.analysis.theory.mean_field import mean_field
from nwb_lrrnn.analysis.theory.modes import overlapping_modes, participation
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid
from nwb_lrrnn.parameters import choose

NUMBERS = {
    "pr": "dimension of the rates / N",
    "pr_error": "its standard error, of drawn fixed points",
    "pr_currents": "dimension of the currents / N",
    "rate_variance": "mean variance of the rates",
    "half_time": "of the autocovariance of single neurons, time constants",
    "leading_half_time": "of principal components, weighted by variance², time constants",
    "cross_half_time": "of the mean square of cross-covariances, time constants",
}


def dimension_of_activity(
    g: ArrayLike,
    *,
    effective_rank: ArrayLike | None = None,
    kappa: float | None = None,
    gains: float | ArrayLike | None = None,
    rates: str = "normalised",
    reciprocity: float | None = None,
    overlap: float | None = None,
    nonlinearity: Sigmoid = "erf",
    **drawing: int,
) -> xr.Dataset:
    """Return dimension and time-scales of the activity that a kind of connectivity makes.

    Parameters
    ----------
    g : float or sequence
        Coupling strength. Where there is no chaos the numbers are not numbers.
    effective_rank : float or sequence, optional
        (sum D²)² / (N sum D⁴) of the modes; by default connections are independent.
    kappa : float, optional
        In place of it, 1 / PR - 2 of exact singular values S, PR = (sum S²)² / (N sum S⁴): -1 of an orthogonal matrix.
    gains : float or array (neuron,), optional
        Gains of the neurons, or their participation ratio <G²>² / <G⁴>.
    rates : {"normalised", "raw", "readout"}
        Of gains, what is looked at: rates without their gain (z-scored data), with it, or with gains of others.
    reciprocity : float, optional
        Correlation of J_ij with J_ji of independent connections.
    overlap : float, optional
        Of exponential modes, as in `RandomModeModel`; needs `effective_rank`.
    nonlinearity : {"erf", "tanh"} or callable
        phi.
    **drawing
        `n_samples`, `n_repeats`, `random_state` of `four_point`, for `reciprocity` and `overlap`.

    Returns
    -------
    Dataset
        Over `g` and `effective_rank`, where these are sequences: the numbers, each with its `meaning`.

    Raises
    ------
    ValueError
        If two kinds exclude each other.

    Examples
    --------
    >>> dimension_of_activity(3.0, effective_rank=[0.1, 1.0]).pr.values.round(4)
    array([0.0057, 0.028 ])
    """
    choose("rates", rates, RATES)
    _refuse_mixtures(effective_rank, kappa, gains, reciprocity, overlap)
    axes = {"g": g, "effective_rank": np.inf if effective_rank is None else effective_rank}
    values = {name: np.atleast_1d(np.asarray(given, dtype=float)) for name, given in axes.items()}
    if not (values["effective_rank"] > 0).all():
        raise ValueError(f"effective_rank: got {effective_rank}, wanted numbers > 0")
    gain_pr = None if gains is None else float(gains) if np.ndim(gains) == 0 else participation(gains)  # type: ignore
    shape = tuple(len(v) for v in values.values())
    table = {name: np.full(shape, np.nan) for name in NUMBERS}
    for (i, strength), (j, rank) in itertools.product(*(enumerate(v) for v in values.values())):
        single = mean_field(float(strength), nonlinearity)
        if not single.is_chaotic:
            continue
        ensemble = _ensemble(float(strength), float(rank), kappa, gain_pr, rates, reciprocity, overlap)
        found = four_point(float(strength), ensemble, nonlinearity=nonlinearity, **drawing)
        for name in NUMBERS:
            table[name][i, j] = getattr(found, name)
    data = xr.Dataset({k: (tuple(axes), v, {"meaning": NUMBERS[k]}) for k, v in table.items()}, coords=values)
    scalars = [name for name, given in axes.items() if np.ndim(given) == 0]
    return data.isel(dict.fromkeys(scalars, 0))


def _refuse_mixtures(effective_rank, kappa, gains, reciprocity, overlap) -> None:
    given = {"effective_rank": effective_rank, "kappa": kappa, "gains": gains, "reciprocity": reciprocity}
    used = [name for name, value in given.items() if value is not None]
    allowed = ([], ["effective_rank"], ["kappa"], ["gains"], ["effective_rank", "gains"], ["kappa", "gains"])
    if overlap is not None and used != ["effective_rank"]:
        raise ValueError("overlap: it is of modes; give effective_rank, and neither kappa, gains nor reciprocity")
    if used not in (*allowed, ["reciprocity"]):
        raise ValueError(
            f"got {' and '.join(used)} together, wanted effective_rank or kappa, with gains or without, or reciprocity "
            "alone: there is no theory of other mixtures"
        )
    if reciprocity is not None and not -1.0 < reciprocity < 1.0:
        raise ValueError(f"reciprocity: got {reciprocity}, wanted a correlation between -1 and 1")


def _ensemble(g: float, rank: float, kappa, gain_pr, rates, reciprocity, overlap) -> Ensemble:
    if reciprocity is not None:
        return PartialSymmetry(reciprocity)
    if overlap is not None:
        return overlapping_modes(g, rank, overlap)
    sharpness = 1.0 / rank if kappa is None else kappa
    return RandomModes(sharpness) if gain_pr is None else Gains(sharpness, gain_pr, rates)
