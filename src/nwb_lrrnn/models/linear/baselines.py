"""Baselines without dynamics: `MeanRate` and `FactorAnalysis`, with the verbs and the score of every model."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.models.base import LatentModel
from nwb_lrrnn.models.linear.observations import moments_of_units
from nwb_lrrnn.models.linear.state_space import LinearStateSpace
from nwb_lrrnn.models.scored_units import widened
from nwb_lrrnn.parameters import LikelihoodName
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]


class Absent:
    """A verb that a model does not have: the attribute is missing, with a sentence why."""

    def __set_name__(self, owner: type, name: str):
        self.name = name

    def __get__(self, instance: Any, owner: type):
        raise AttributeError(f"{owner.__name__} has no {self.name}: it models the units without latents")


class Baseline(LatentModel, auto_wrap_output_keys=None):
    """A model of the units without latents: `fit`, `score` and `score_trials`.

    Inputs are accepted, so that one call compares all models, and not used.
    """

    _allow_nan = True

    transform: Any = Absent()
    fit_transform: Any = Absent()
    inverse_transform: Any = Absent()
    rates: Any = Absent()
    simulate: Any = Absent()
    loadings_: Any = Absent()
    offset_: Any = Absent()
    get_feature_names_out: Any = Absent()

    mean_: Array
    _axes_of_units: dict[str, tuple[int, ...]] = {"mean_": (0,)}  # of fitted arrays

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "mean_")

    def _note_floors(self, trials: Any) -> None:
        self.units_at_floor_ = np.zeros(trials.n_units, dtype=bool)

    def _widen(self, inner: Any, means: Array) -> None:
        for name, axes in ({"units_at_floor_": (0,)} | self._axes_of_units).items():
            if hasattr(inner, name):
                vars(self)[name] = widened(getattr(inner, name), axes, self.scored_units_)
        self.mean_[~self.scored_units_] = means[~self.scored_units_]


class MeanRate(Baseline, auto_wrap_output_keys=None):
    """Every unit constant and independent: the model that all others must beat.

    Gaussian: mean and variance of each unit. Counts: one rate per unit, (sum of counts + 1/2) / bins, the posterior
    mean of a Gamma prior of half a count, so that a unit silent in training is not impossible later; negative
    binomial: and its dispersion, by maximum likelihood.

    Parameters
    ----------
    likelihood : str
        As everywhere.
    bin_size : float, optional
        Seconds, where X does not say.

    Attributes
    ----------
    mean_ : array (unit,)
        Expected value per bin, in units of X.
    variance_ : array (unit,)
        Gaussian only.
    dispersion_ : array (unit,)
        Negative binomial only.

    Examples
    --------
    >>> MeanRate().fit(np.array([[0, 2], [1, 3]])).mean_
    array([0.75, 2.75])
    """

    variance_: Array
    dispersion_: Array
    _axes_of_units = {"mean_": (0,), "variance_": (0,), "dispersion_": (0,)}

    def __init__(self, *, likelihood: Literal["auto"] | LikelihoodName = "auto", bin_size: float | None = None):
        self.likelihood = likelihood
        self.bin_size = bin_size

    def _fit_trials(self, trials: Trials) -> None:
        units = moments_of_units(trials)
        if self.likelihood_ == "gaussian":
            self.mean_, self.variance_ = units.mean, units.variance
            return
        family = LIKELIHOODS[self.likelihood_]
        self.mean_ = family.mean_of(trials.values.sum(axis=(0, 1)), units.n_observed)
        if family.spread is not None:
            means = np.broadcast_to(self.mean_, trials.values.shape)
            setattr(self, f"{family.spread}_", fit_spread(trials, means, self.likelihood_))

    def _log_evidence(self, trials: Trials) -> Array:
        check_is_fitted(self)
        family = LIKELIHOODS[self.likelihood_]
        spread = self.variance_ if self.likelihood_ == "gaussian" else getattr(self, f"{family.spread}_", None)
        terms = family.log_prob(trials.values, self.mean_, spread)
        if trials.observed is not None:
            terms = np.where(trials.observed, terms, 0.0)
        return terms.sum(axis=(1, 2))


class FactorAnalysis(LinearStateSpace, auto_wrap_output_keys=None):
    """Latents without dynamics: each bin an independent draw z_t ~ N(0, I), seen as in `LinearStateSpace`.

    Gaussian: maximum-likelihood factor analysis, its score exact. Counts: Poisson (or negative binomial) factor
    analysis, its score the particle bound. The verbs, parameters and attributes are those of `LinearStateSpace`, whose
    A is 0 here. Inputs are accepted, so that one call compares all models, and not used.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((200, 5))
    >>> FactorAnalysis(rank=1, tol=1e-2).fit(X).transition_matrix()
    array([[0.]])
    """

    _dynamic = False

    def _driving(self, trials: Trials) -> None:
        return None


def fit_spread(trials: Trials, mean: Array, likelihood: str) -> Array:
    """Return the most likely spread of each unit given the expected values (trial, time, unit)."""
    seen = trials.bins if trials.observed is None else trials.observed
    result = np.empty(mean.shape[2])
    for i in range(len(result)):
        at = seen if seen.ndim == 2 else seen[..., i]
        y, expected = trials.values[..., i][at], mean[..., i][at][:, None]
        result[i] = LIKELIHOODS[likelihood].best_spread(y, expected, np.ones(1))
    return result
