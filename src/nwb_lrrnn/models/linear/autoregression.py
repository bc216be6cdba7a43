"""`VectorAutoregression`: every unit predicted from the last bins of all units, the baseline without latents."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood, choose_link
from nwb_lrrnn.models.linear.autoregression_counts import fit_counts, starting_means
from nwb_lrrnn.models.linear.baselines import Baseline, fit_spread
from nwb_lrrnn.models.linear.lagged import (
    ENOUGH_TRIALS,
    Lagged,
    first_bins,
    lagged,
    masked_normal,
    normal,
    ridge,
    shrunk,
    standardised,
)
from nwb_lrrnn.models.linear.observations import moments_of_units
from nwb_lrrnn.parameters import LikelihoodName, Link, positive, whole_number
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]


class VectorAutoregression(Baseline, auto_wrap_output_keys=None):
    r"""Every unit predicted from the last `n_lags` bins of all units.

    Gaussian: y_t ~ N(c + sum_l A_l y_{t-l}, Sigma) by ridge regression; Sigma full, shrunk by Ledoit & Wolf (2004).
    Counts: y_t of mean bin_size * link(c + sum_l A_l y_{t-l}), by penalised maximum likelihood. Bins without a whole
    observed past have the marginal law of all bins; the first bins of trials one of their own.

    Parameters
    ----------
    n_lags : int
        Bins of the past.
    alpha : float, optional
        Ridge strength, for standardised units; None: by generalised cross-validation (Gaussian) or on a fifth of the
        trials held out (counts).
    likelihood : str
        As everywhere; the negative binomial has the Poisson fit and a dispersion per unit.
    link : str, optional
        As in `LinearStateSpace`.
    bin_size : float, optional
        Seconds, where X does not say.

    Attributes
    ----------
    coefficients_ : array (lag, unit, unit)
        A_l, target first.
    alpha_ : float
        The ridge strength used.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((10, 50, 2)).cumsum(axis=1)
    >>> VectorAutoregression().fit(X).coefficients_.round(1).shape
    (1, 2, 2)
    """

    mean_: Array
    coefficients_: Array
    alpha_: float
    _axes_of_units = {"mean_": (0,), "coefficients_": (1, 2)}

    def __init__(
        self,
        n_lags: int = 1,
        *,
        alpha: float | None = None,
        likelihood: Literal["auto"] | LikelihoodName = "auto",
        link: Link | None = None,
        bin_size: float | None = None,
    ):
        self.n_lags = n_lags
        self.alpha = alpha
        self.likelihood = likelihood
        self.link = link
        self.bin_size = bin_size

    def _fit_trials(self, trials: Trials) -> None:
        n_lags = whole_number("n_lags", self.n_lags)
        alpha = positive("alpha", self.alpha, optional=True, zero=True)
        self.link_ = choose_link(self.likelihood_, self.link)
        self._lags = int(n_lags or 1)  # checked above
        self._units = moments_of_units(trials)
        pairs = lagged(trials, self._units, self._lags)
        (self._fit_gaussian if self.likelihood_ == "gaussian" else self._fit_counts)(trials, pairs, alpha)
        self.mean_ = self._units.mean

    def _fit_gaussian(self, trials: Trials, pairs: Lagged, alpha: float | None) -> None:
        y = standardised(trials, self._units)
        seen = trials.seen
        whole, first = seen.all(axis=2), first_bins(trials, self._lags)
        use = np.asarray(pairs.has_past & whole)
        weights, offset, residual, self.alpha_ = ridge(pairs.past[use], y[use], alpha)
        self._weights, self._offset = weights, offset
        self._marginal = normal(y[whole], self._units)
        self._first = normal(y[whole & first], self._units) if (whole & first).sum() >= ENOUGH_TRIALS else None
        self._residual = shrunk(residual, self._units) if len(residual) else self._marginal[1]
        scale = np.sqrt(self._units.variance)
        self._store(weights * scale[:, None], scale)

    def _fit_counts(self, trials: Trials, pairs: Lagged, alpha: float | None) -> None:
        self._model = Likelihood(self.likelihood_, self.link_, trials.bin_size)
        plain = self._model.plain
        fitted = fit_counts(trials, pairs, plain, alpha)
        self._weights, self._offset, self.alpha_ = fitted.weights, fitted.offset, fitted.alpha
        self._mean, self._first_mean = starting_means(trials, first_bins(trials, self._lags), plain)
        self._spread = None
        if self._model.has_spread:
            self._spread = fit_spread(trials, self._expected_values(trials, pairs), self.likelihood_)
        self._store(self._weights, np.sqrt(self._units.variance))

    def _store(self, weights: Array, scale: Array) -> None:
        n_units = len(scale)
        self.coefficients_ = weights.reshape(n_units, self._lags, n_units).transpose(1, 0, 2) / scale

    def _log_evidence(self, trials: Trials) -> Array:
        pairs = lagged(trials, self._units, self._lags)
        if self.likelihood_ == "gaussian":
            return self._gaussian_evidence(trials, pairs)
        terms = self._model.family.log_prob(trials.values, self._expected_values(trials, pairs), self._spread)
        return np.where(trials.seen, terms, 0.0).sum(axis=(1, 2))

    def _expected_values(self, trials: Trials, pairs: Lagged) -> Array:
        eta = pairs.past @ self._weights.T + self._offset
        model = self._model._replace(bin_size=trials.bin_size)
        mean = model.family.bounded(model.mean(eta))
        first = first_bins(trials, self._lags)[..., None]
        return np.where(pairs.has_past[..., None], mean, np.where(first, self._first_mean, self._mean))

    def _gaussian_evidence(self, trials: Trials, pairs: Lagged) -> Array:
        y, seen = standardised(trials, self._units), trials.seen
        kinds = np.where(pairs.has_past, 0, 1)
        if self._first is not None:
            kinds[~pairs.has_past & first_bins(trials, self._lags)] = 2
        residual = y - np.where(
            pairs.has_past[..., None], pairs.past @ self._weights.T + self._offset, self._marginal[0]
        )
        if self._first is not None:
            residual[kinds == 2] = y[kinds == 2] - self._first[0]
        log_p = np.zeros(y.shape[:2])
        covariances = [self._residual, self._marginal[1], self._marginal[1] if self._first is None else self._first[1]]
        for kind, covariance in enumerate(covariances):
            at = kinds == kind
            log_p[at] = masked_normal(residual[at], seen[at], covariance)
        return log_p.sum(axis=1) - 0.5 * seen.sum(axis=1) @ np.log(self._units.variance)
