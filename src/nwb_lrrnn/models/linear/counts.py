"""Laplace-EM for counts with linear dynamics (Smith & Brown 2003; Macke et al. 2011): Poisson or negative binomial."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.linear import em, laplace
from nwb_lrrnn.models.linear.em_runs import EMRun, race
from nwb_lrrnn.models.linear.larger_start import grown_systems
from nwb_lrrnn.models.linear.smoothing import Moments, Patterns
from nwb_lrrnn.models.linear.system import LinearSystem, canonical_gauge
from nwb_lrrnn.models.training.threads import over_ranges
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_GAUSSIAN_ITERATIONS = 15  # of the Gaussian model of the counts that Laplace-EM starts from
_DISPERSION_BINS = 5_000  # bins that suffice for one number per unit


def fit(
    trials: Trials,
    rank: int,
    *,
    likelihood: str = "poisson",
    link: str = "softplus",
    max_iter: int = 100,
    tol: float = 1e-4,
    dynamic: bool = True,
    inputs: Array | None = None,
    smaller: LinearSystem | None = None,
) -> em.EMFit:
    """Return the linear state-space model of counts fitted by Laplace-EM.

    Parameters
    ----------
    trials : Trials
        Counts; masks, unequal lengths and inputs are handled.
    rank : int
        Number of latents, at most the number of units.
    likelihood, link : str
        Of the counts, whose mean is bin_size * link(C z + d); or of other values that are not Gaussian.
    max_iter : int
        Most iterations.
    tol : float
        EM stops when one iteration gains less than this fraction of the advantage over constant rates.
    dynamic : bool
        False: A = 0, Q = Sigma_1 = I, which is factor analysis of counts.
    inputs : array (trial, time, input), optional
        Default `trials.inputs`.
    smaller : LinearSystem, optional
        Of smaller rank: one more place to start from, so that the larger model explains the trials at least as well.

    Returns
    -------
    EMFit
        `log_likelihood` is the Laplace approximation of ln p(X) per observed bin.

    Notes
    -----
    Two weak priors keep the parameters of silent and nearly silent units finite: half a count at z = 0, and loadings
    of the size of twice the unit's mean rate (at least 2).
    """
    inputs = trials.inputs if inputs is None and dynamic else inputs
    model = Likelihood(likelihood, link, trials.bin_size)
    readout = CountReadout(trials, model)
    weight = em.prior_weight_for(len(trials.values), rank, 0 if inputs is None else inputs.shape[2]) if dynamic else 0.0
    lengths, distinct = trials.lengths, all_distinct(trials)

    def climb_from(system: LinearSystem, latents: Array) -> EMRun:
        return EMRun(
            system,
            lambda system, before: _expect(system, trials, inputs, model, latents if before is None else before),
            lambda system, moments: readout.update(
                em.update_dynamics(system, moments, lengths, distinct, inputs, weight) if dynamic else system, moments
            ),
            lambda system: weight * em.log_prior(system) if weight else 0.0,
            readout.log_likelihood_of_constant_rates(),
            trials.n_observed_bins,
        )

    starts = _starts(trials, rank, model, readout, dynamic, inputs)
    starts += _grown(trials, rank, model, readout, inputs, smaller)
    climbs = [climb_from(*start) for start in starts]
    return _finish(race(climbs, max_iter, tol), trials, inputs, model)


def _expect(system: LinearSystem, trials: Trials, inputs, model: Likelihood, start: Array | Moments) -> Moments:
    """Return the E-step; one step from the moments of the iteration before, where that does not lose likelihood."""
    given = (system, trials, inputs, model.name, model.link, model.bin_size)
    if not isinstance(start, Moments):
        return laplace.smooth(*given, start)
    moments = laplace.smooth(*given, start, n_averages=1)
    if moments.log_likelihood.sum() > start.log_likelihood.sum() - 1e-3 * trials.n_observed_bins:
        return moments
    return laplace.smooth(*given, start.smoothed)


class CountReadout:
    """The counts laid out unit by unit, with the updates of what each unit reads."""

    def __init__(self, trials: Trials, model: Likelihood):
        self.model = model
        inside = np.arange(trials.values.shape[1]) < trials.lengths[:, None]
        self.inside = inside
        self.values = np.ascontiguousarray(trials.values[inside].T)  # (unit, bin)
        seen = np.ones_like(self.values, dtype=bool)
        self.seen = seen if trials.observed is None else np.ascontiguousarray(trials.observed[inside].T)
        self.mean = model.family.mean_of(self.values.sum(axis=1), self.seen.sum(axis=1))  # (unit,), of a bin
        self.ridge = 1.0 / (2.0 * np.maximum(model.size(self.mean), 1.0)) ** 2

    def start(self, loadings: Array) -> tuple[Array, Array]:
        """Return C and d with which the expected values are the units' means, and change by `loadings` there."""
        offset = self.model.eta_of(self.mean)
        return loadings / (self.model.time * self.model.g.slope(offset)[:, None]), offset

    def update(self, system: LinearSystem, moments: Moments) -> LinearSystem:
        """Return the system with C and d improved by a Newton step, and the dispersion at its maximum."""
        from nwb_lrrnn.models.kernels import laplace_readout as kernels

        means = moments.smoothed[self.inside]
        covariances = moments.pattern_covariances[self.inside]  # one pattern a trial
        if self.model.has_spread:
            system = system.replace(dispersion=self._dispersion(system, means, covariances))
        weights = np.concatenate([system.loadings, system.offset[:, None]], axis=1)
        dispersion = laplace.spread_of(system)
        over_ranges(
            lambda first, last: kernels.update_readout(
                self.model.code, self.values, self.seen, means, covariances, weights, self.model.time, dispersion,
                self.ridge, kernels.NODES, kernels.WEIGHTS, 1, first, last,
            ),
            len(weights), self.values.size * len(kernels.NODES),
        )  # fmt: skip
        return system.replace(loadings=weights[:, :-1].copy(), offset=weights[:, -1].copy())

    def log_likelihood_of_constant_rates(self) -> float:
        """Return ln p of all values under one expected value per unit, a likelihood without a spread standing in."""
        terms = self.model.plain.family.log_prob(self.values, self.mean[:, None])
        return float(terms[self.seen].sum())

    def _dispersion(self, system: LinearSystem, means: Array, covariances: Array) -> Array:
        """Return r of each unit by one-dimensional maximisation of the expected log-likelihood."""
        from nwb_lrrnn.models.kernels.laplace_readout import NODES, WEIGHTS

        stride = max(1, len(means) // _DISPERSION_BINS)
        means, covariances = means[::stride], covariances[::stride]
        result = np.empty(len(system.offset))
        for i, (c, d) in enumerate(zip(system.loadings, system.offset, strict=True)):
            seen = self.seen[i, ::stride]
            y, z, cov = self.values[i, ::stride][seen], means[seen], covariances[seen]
            sd = np.sqrt(np.maximum(np.einsum("brs,r,s->b", cov, c, c, optimize=True), 0.0))
            eta = (z @ c + d)[:, None] + sd[:, None] * NODES
            result[i] = self.model.family.best_spread(y, np.maximum(self.model.mean(eta), 1e-300), WEIGHTS)
        return result


def _starts(
    trials: Trials, rank: int, model: Likelihood, readout: CountReadout, dynamic: bool, inputs: Array | None
) -> list[tuple[LinearSystem, Array]]:
    """Return parameters and latents of Gaussian models of the counts, their readouts bent to the link.

    The first is from factors; where a subspace leads to another, better Gaussian model, both are returned, and which
    one is better for counts the evidence of counts will tell.
    """
    dispersion = np.full(len(readout.mean), 10.0) if model.has_spread else None
    found = []
    for gaussian in em.fit_each(trials, rank, max_iter=_GAUSSIAN_ITERATIONS, tol=1e-3, dynamic=dynamic, inputs=inputs):
        loadings, offset = readout.start(gaussian.system.loadings)
        system = gaussian.system.replace(loadings=loadings, offset=offset, variance=None, dispersion=dispersion)
        if not dynamic:  # the gauge of the Gaussian fit moved the prior a little: factors are N(0, I)
            eye, zero = np.eye(rank), np.zeros(rank)
            system = system.replace(drive=zero, noise=eye, initial_mean=zero, initial_covariance=eye)
        found.append((system, gaussian.moments.smoothed))
    return found


def _grown(
    trials: Trials,
    rank: int,
    model: Likelihood,
    readout: CountReadout,
    inputs: Array | None,
    smaller: LinearSystem | None,
) -> list[tuple[LinearSystem, Array]]:
    """Return the likeliest of the larger systems that a smaller one grows into, with latents; none without one."""
    if smaller is None or smaller.rank >= rank:
        return []
    given = (trials, inputs, model.name, model.link, model.bin_size)
    z = laplace.smooth(smaller, *given).smoothed
    mean = model.mean(z @ smaller.loadings.T + smaller.offset)
    scale = np.sqrt(np.maximum(readout.mean, 1e-12))
    residual = np.where(trials.seen, (trials.values - mean) / scale, 0.0).reshape(-1, len(scale))
    latents = np.concatenate([z, np.zeros((*z.shape[:2], rank - smaller.rank))], axis=2)
    systems = list(grown_systems(smaller, rank, residual, readout.start(scale[:, None])[0][:, 0]))
    best = max(systems, key=lambda system: laplace.smooth(system, *given, latents).log_likelihood.sum())
    return [(best, latents)]


def all_distinct(trials: Trials) -> Patterns:
    """Return patterns in which every trial has covariances of its own, as counts make them."""
    n_trials, n_steps, _ = trials.values.shape
    index = np.arange(n_trials)
    return Patterns(index, trials.lengths, np.ones(n_trials, dtype=np.int64), np.ones((n_trials, n_steps)), None)


def _finish(climb: EMRun, trials: Trials, inputs: Array | None, model: Likelihood) -> em.EMFit:
    """Return the fit in the canonical gauge, with the moments of its final parameters."""

    def moments_of(parameters: LinearSystem, start: Array | None) -> Moments:
        return laplace.smooth(parameters, trials, inputs, model.name, model.link, model.bin_size, start)

    moments = moments_of(climb.system, None if climb.moments is None else climb.moments.smoothed)
    mean, covariance = em.pooled_moments(moments, trials.lengths)
    change, shift = canonical_gauge(climb.system, mean, covariance)
    system = climb.system.in_gauge(change, shift)
    moments = moments_of(system, (moments.smoothed - shift) @ np.linalg.inv(change).T)
    mean, covariance = em.pooled_moments(moments, trials.lengths)
    likelihoods, objectives = climb.history().T
    return em.EMFit(system, moments, mean, covariance, likelihoods, objectives, climb.converged, float(climb.gain))
