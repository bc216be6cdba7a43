"""`VectorAutoregression`: every unit predicted from the last bins of all units, the baseline without latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.baselines import Baseline, count_log_likelihood, fit_dispersion
from nwb_lrrnn.models.linear.observations import FLOOR, UnitMoments, moments_of_units
from nwb_lrrnn.models.parameters import choose, positive, whole_number
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_ENOUGH_TRIALS = 10  # to give the first bins a covariance of their own


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
    likelihood : {"auto", "gaussian", "poisson", "negative_binomial"}
        As everywhere; the negative binomial has the Poisson fit and a dispersion per unit.
    link : {None, "identity", "softplus", "exp"}
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

    def __init__(self, n_lags=1, *, alpha=None, likelihood="auto", link=None, bin_size=None):
        self.n_lags = n_lags
        self.alpha = alpha
        self.likelihood = likelihood
        self.link = link
        self.bin_size = bin_size

    def _fit_trials(self, trials: Trials) -> None:
        n_lags = whole_number("n_lags", self.n_lags)
        alpha = positive("alpha", self.alpha, optional=True, zero=True)
        gaussian = self.likelihood_ == "gaussian"
        links, default = (("identity",), "identity") if gaussian else (("softplus", "exp"), "softplus")
        self.link_ = choose("link", default if self.link is None else self.link, links)
        self._lags = int(n_lags or 1)  # checked above
        self._units = moments_of_units(trials)
        pairs = lagged(trials, self._units, self._lags)
        self._fit_gaussian(trials, pairs, alpha) if gaussian else self._fit_counts(trials, pairs, alpha)
        self.mean_ = self._units.mean

    def _fit_gaussian(self, trials: Trials, pairs: Lagged, alpha: float | None) -> None:
        y = _standardised(trials, self._units)
        seen = trials.seen
        whole, first = seen.all(axis=2), _first_bins(trials, self._lags)
        use = np.asarray(pairs.has_past & whole)
        weights, offset, residual, self.alpha_ = ridge(pairs.past[use], y[use], alpha)
        self._weights, self._offset = weights, offset
        self._marginal = _normal(y[whole], self._units)
        self._first = _normal(y[whole & first], self._units) if (whole & first).sum() >= _ENOUGH_TRIALS else None
        self._residual = _shrunk(residual, self._units) if len(residual) else self._marginal[1]
        scale = np.sqrt(self._units.variance)
        self._store(weights * scale[:, None], scale)

    def _fit_counts(self, trials: Trials, pairs: Lagged, alpha: float | None) -> None:
        from nwb_lrrnn.models.linear.autoregression_counts import fit_counts, starting_rates

        fitted = fit_counts(trials, pairs, self.link_, alpha)
        self._weights, self._offset, self.alpha_ = fitted.weights, fitted.offset, fitted.alpha
        self._rate, self._first_rate = starting_rates(trials, _first_bins(trials, self._lags))
        self._dispersion = None
        if self.likelihood_ == "negative_binomial":
            self._dispersion = fit_dispersion(trials, self._expected_counts(trials, pairs))
        self._store(self._weights, np.sqrt(self._units.variance))

    def _store(self, weights: Array, scale: Array) -> None:
        n_units = len(scale)
        self.coefficients_ = weights.reshape(n_units, self._lags, n_units).transpose(1, 0, 2) / scale

    def _log_evidence(self, trials: Trials) -> Array:
        pairs = lagged(trials, self._units, self._lags)
        if self.likelihood_ == "gaussian":
            return self._gaussian_evidence(trials, pairs)
        terms = count_log_likelihood(trials.values, self._expected_counts(trials, pairs), self._dispersion)
        return np.where(trials.seen, terms, 0.0).sum(axis=(1, 2))

    def _expected_counts(self, trials: Trials, pairs: Lagged) -> Array:
        eta = pairs.past @ self._weights.T + self._offset
        rate = np.exp(np.minimum(eta, 700.0)) if self.link_ == "exp" else np.logaddexp(0.0, eta)
        mean = np.maximum(rate * trials.bin_size, 1e-12)
        first = _first_bins(trials, self._lags)[..., None]
        return np.where(pairs.has_past[..., None], mean, np.where(first, self._first_rate, self._rate))

    def _gaussian_evidence(self, trials: Trials, pairs: Lagged) -> Array:
        y, seen = _standardised(trials, self._units), trials.seen
        kinds = np.where(pairs.has_past, 0, 1)
        if self._first is not None:
            kinds[~pairs.has_past & _first_bins(trials, self._lags)] = 2
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


@dataclass(frozen=True)
class Lagged:
    """Standardised past of every bin, (trial, time, lag * unit), and which bins have all of it, (trial, time)."""

    past: Array
    has_past: NDArray[np.bool_]


def lagged(trials: Trials, units: UnitMoments, n_lags: int) -> Lagged:
    """Return the last `n_lags` bins of every bin, nearest first; the past touches no unobserved entry or it is none."""
    y = _standardised(trials, units)
    whole = np.asarray(trials.seen.all(axis=2))
    n_trials, n_steps, n_units = y.shape
    past = np.zeros((n_trials, n_steps, n_lags, n_units))
    has_past = np.zeros((n_trials, n_steps), dtype=bool)
    has_past[:, n_lags:] = True
    for lag in range(1, n_lags + 1):
        past[:, lag:, lag - 1] = y[:, : n_steps - lag]
        has_past[:, lag:] &= whole[:, : n_steps - lag]
    return Lagged(past.reshape(n_trials, n_steps, -1), has_past)


def ridge(past: Array, y: Array, alpha: float | None) -> tuple[Array, Array, Array, float]:
    """Return weights (unit, regressor), offset (unit,), residuals (bin, unit) scaled to be unbiased, and alpha.

    alpha None: the minimum of generalised cross-validation (Golub, Heath & Wahba 1979), summed over units.
    """
    n_bins = len(y)
    if n_bins < 3:
        return np.zeros((y.shape[1], past.shape[1])), np.zeros(y.shape[1]), y[:0], 0.0 if alpha is None else alpha
    center, target = past.mean(axis=0), y.mean(axis=0)
    x, r = past - center, y - target
    values, axes = np.linalg.eigh(x.T @ x)
    values = np.maximum(values, 0.0)
    cross = axes.T @ (x.T @ r)  # (axis, unit)
    power = (cross**2).sum(axis=1)
    total = (r**2).sum()
    grid = max(values.mean(), 1e-12) * np.logspace(-6, 4, 41)
    floor = 1e-10 * max(values.max(), 1e-12)  # of directions that the past never takes

    def freedom(a: float) -> float:
        return float((values / (values + a + floor)).sum()) + 1.0

    def criterion(a: float) -> float:
        shrunk = values + a + floor
        rss = total - (power * (2.0 / shrunk - values / shrunk**2)).sum()
        return rss / max(n_bins - freedom(a), 1e-3 * n_bins) ** 2

    best = float(grid[np.argmin([criterion(a) for a in grid])]) if alpha is None else alpha
    weights = ((axes / (values + best + floor)) @ cross).T
    residual = r - x @ weights.T
    residual *= np.sqrt(n_bins / max(n_bins - freedom(best), 1.0))
    return weights, target - weights @ center, residual, best


def masked_normal(residual: Array, seen: NDArray[np.bool_], covariance: Array) -> Array:
    """Return ln N(residual; 0, covariance) of each row over its observed entries, (row,)."""
    log_p = np.zeros(len(residual))
    if not len(residual):
        return log_p
    masks, which = np.unique(seen, axis=0, return_inverse=True)
    for k, mask in enumerate(masks):
        rows = which.reshape(-1) == k
        lower = np.linalg.cholesky(covariance[np.ix_(mask, mask)])
        white = np.linalg.solve(lower, residual[rows][:, mask].T)
        log_p[rows] = (
            -0.5 * (white**2).sum(axis=0) - np.log(np.diag(lower)).sum() - 0.5 * mask.sum() * np.log(2 * np.pi)
        )
    return log_p


def _first_bins(trials: Trials, n_lags: int) -> NDArray[np.bool_]:
    """Return which bins (trial, time) lie so early in their trial that no past is long enough."""
    return np.broadcast_to(np.arange(trials.values.shape[1]) < n_lags, trials.values.shape[:2])


def _standardised(trials: Trials, units: UnitMoments) -> Array:
    y = (trials.values - units.mean) / np.sqrt(units.variance)
    return y if trials.observed is None else np.where(trials.observed, y, 0.0)


def _normal(y: Array, units: UnitMoments) -> tuple[Array, Array]:
    """Return mean and shrunk covariance of rows; standard normal where there are none."""
    if not len(y):
        return np.zeros(y.shape[1]), np.eye(y.shape[1])
    mean = y.mean(axis=0)
    return mean, _shrunk(y - mean, units)


def _shrunk(residual: Array, units: UnitMoments) -> Array:
    """Return the Ledoit-Wolf covariance of rows of mean 0; constant units keep the variance they were given."""
    from sklearn.covariance import ledoit_wolf

    lively = ~units.is_constant
    covariance = np.eye(residual.shape[1])
    if lively.any():
        estimate: Any = ledoit_wolf(residual[:, lively], assume_centered=True)[0]
        covariance[np.ix_(lively, lively)] = estimate + FLOOR * np.eye(int(lively.sum()))
    return covariance
