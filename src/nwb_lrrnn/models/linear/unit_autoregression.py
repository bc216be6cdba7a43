"""`UnitAutoregression`: every unit predicted from its own last bins, the baseline of what single units do alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood, choose_link
from nwb_lrrnn.models.linear.baselines import Baseline, fit_spread
from nwb_lrrnn.models.linear.lagged import ENOUGH_TRIALS, first_bins, standardised
from nwb_lrrnn.models.linear.observations import moments_of_units
from nwb_lrrnn.models.linear.unit_regression import (
    OwnPast,
    UnitRegression,
    own_past,
    regress_counts,
    regress_values,
)
from nwb_lrrnn.parameters import LikelihoodName, Link, whole_number
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_BINS_A_WEIGHT = 5  # bins with a whole past that each weight of a unit must have, on average


class UnitAutoregression(Baseline, auto_wrap_output_keys=None):
    r"""Every unit predicted from its own last bins: what it does by itself, without latents or other units.

    Gaussian: y_t ~ N(c + sum_l a_l y_{t-l}, v) for each unit. Counts: y_t of mean bin_size * link(c + sum_l a_l
    y_{t-l}). The number of lags is the one, up to `max_lags`, that has the lowest BIC on the training data, summed over
    units. A bin with a shorter past, at the beginning of a trial or after a gap, is predicted from what there is, by a
    regression of that order; a bin without any has the law of all bins, the first bins of trials one of their own.

    Traces that were smoothed or deconvolved need several lags, and have little left that latents could predict.

    Parameters
    ----------
    max_lags : int
        The most bins of the past.
    likelihood : str
        As everywhere; the negative binomial has the Poisson fit and a dispersion per unit.
    link : str, optional
        As in `LinearStateSpace`.
    bin_size : float, optional
        Seconds, where X does not say.

    Attributes
    ----------
    n_lags_ : int
        Bins of the past that are used.
    coefficients_ : array (lag, unit)
        a_l, nearest bin first.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((10, 50, 2)).cumsum(axis=1)
    >>> UnitAutoregression().fit(X).coefficients_.round(1)
    array([[1., 1.]])
    """

    mean_: Array
    n_lags_: int
    coefficients_: Array
    _axes_of_units = {"mean_": (0,), "coefficients_": (1,)}

    def __init__(
        self,
        max_lags: int = 5,
        *,
        likelihood: Literal["auto"] | LikelihoodName = "auto",
        link: Link | None = None,
        bin_size: float | None = None,
    ):
        self.max_lags = max_lags
        self.likelihood = likelihood
        self.link = link
        self.bin_size = bin_size

    def _fit_trials(self, trials: Trials) -> None:
        most = int(whole_number("max_lags", self.max_lags) or 1)
        self.link_ = choose_link(self.likelihood_, self.link)
        self._units = moments_of_units(trials)
        self._model = Likelihood(self.likelihood_, self.link_, trials.bin_size)
        y, seen = standardised(trials, self._units), trials.seen
        past = own_past(y, seen, most)
        while most > 1 and (seen & (past.order >= most)).sum() < _BINS_A_WEIGHT * (most + 1) * trials.n_units:
            most -= 1
        past = replace(past, lags=past.lags[:most], order=np.minimum(past.order, most))
        self._start = self._laws_without_past(trials, y)
        orders = self._orders(trials, y, past)
        self.n_lags_ = self._lags_of_lowest_bic(trials, y, past, orders)
        self._orders_used = orders[: self.n_lags_]
        scale = np.sqrt(self._units.variance)
        units = scale if self.likelihood_ == "gaussian" else np.ones_like(scale)
        self.coefficients_ = self._orders_used[-1].weights * units / scale
        self._spread = None
        if self._model.has_spread and self.likelihood_ != "gaussian":
            self._spread = fit_spread(trials, self._expected_values(trials), self.likelihood_)
        self.mean_ = self._units.mean

    def _laws_without_past(self, trials: Trials, y: Array) -> tuple[UnitRegression, UnitRegression]:
        """Return the laws of any bin, and of the first bins of trials."""
        seen = trials.seen
        first = seen & first_bins(trials, 1)[..., None]
        nothing = OwnPast([], np.zeros(y.shape, dtype=np.int64))
        if self.likelihood_ == "gaussian":
            fitted = [regress_values(y, use, nothing, 0, self._units) for use in (seen, first)]
            enough = first.sum(axis=(0, 1)) >= ENOUGH_TRIALS
            own = [np.where(enough, getattr(fitted[1], k), getattr(fitted[0], k)) for k in ("offset", "variance")]
            return fitted[0], UnitRegression(fitted[1].weights, own[0], own[1])
        family = self._model.plain.family
        mean = family.mean_of(trials.values.sum(axis=(0, 1)), seen.sum(axis=(0, 1)))
        total = np.where(first, trials.values, 0.0).sum(axis=(0, 1))
        early = (total + mean) / (first.sum(axis=(0, 1)) + 1.0)  # worth one bin of all bins
        none = np.zeros((0, trials.n_units))
        any_bin, first_bin = (UnitRegression(none, self._model.eta_of(m)) for m in (mean, early))
        return any_bin, first_bin

    def _orders(self, trials: Trials, y: Array, past: OwnPast) -> list[UnitRegression]:
        """Return the regressions on 1, 2, ... bins of the past, each on all bins that have so many."""
        fitted, before = [], self._start[0]
        for n_lags in range(1, len(past.lags) + 1):
            use = trials.seen & (past.order >= n_lags)
            if self.likelihood_ == "gaussian":
                before = regress_values(y, use, past, n_lags, self._units)
            else:
                shorter = replace(past, lags=past.lags[:n_lags])
                before = regress_counts(trials.values, use, shorter, before, self._model.plain)
            fitted.append(before)
        return fitted

    def _lags_of_lowest_bic(self, trials: Trials, y: Array, past: OwnPast, orders: list[UnitRegression]) -> int:
        """Return the number of lags; all are held against the bins that have the longest past."""
        use = trials.seen & (past.order >= len(past.lags))
        log_n = np.log(np.maximum(use.sum(axis=(0, 1)), 1)).sum()  # summed over units
        bic = []
        for n_lags, fitted in enumerate(orders, start=1):
            log_p = self._log_prob(trials.values, y, fitted, past, None)
            bic.append((n_lags + 1) * log_n - 2 * float(log_p[use].sum()))
        return int(np.argmin(bic)) + 1

    def _log_prob(self, values: Array, y: Array, fitted: UnitRegression, past: OwnPast, spread: Array | None) -> Array:
        """Return ln p of all entries (trial, time, unit) under one regression; of counts, of the plain likelihood."""
        predicted = fitted.predicted(past)
        if self.likelihood_ == "gaussian":
            variance = np.asarray(fitted.variance)
            return -0.5 * ((y - predicted) ** 2 / variance + np.log(2 * np.pi * variance * self._units.variance))
        family = self._model.plain.family
        return family.log_prob(values, family.bounded(self._model.mean(predicted)), spread)

    def _log_evidence(self, trials: Trials) -> Array:
        if self.likelihood_ == "gaussian":
            y = standardised(trials, self._units)
            past = own_past(y, trials.seen, self.n_lags_)
            terms = self._chosen(past, lambda fitted: self._log_prob(trials.values, y, fitted, past, None))
        else:
            terms = self._model.family.log_prob(trials.values, self._expected_values(trials), self._spread)
        return np.where(trials.seen, terms, 0.0).sum(axis=(1, 2))

    def _expected_values(self, trials: Trials) -> Array:
        past = own_past(standardised(trials, self._units), trials.seen, self.n_lags_)
        model = self._model._replace(bin_size=trials.bin_size)
        return self._chosen(past, lambda fitted: model.family.bounded(model.mean(fitted.predicted(past))))

    def _chosen(self, past: OwnPast, values_of) -> Array:
        """Return what the regression of each entry's order says, (trial, time, unit)."""
        chosen = np.array(values_of(self._start[0]))
        chosen[:, :1] = np.asarray(values_of(self._start[1]))[:, :1]
        for n_lags, fitted in enumerate(self._orders_used, start=1):
            chosen = np.where(past.order == n_lags, values_of(fitted), chosen)
        return chosen
