r"""Expectation maximisation for linear Gaussian state-space models (Shumway & Stoffer 1982; Ghahramani & Hinton 1996).

`fit` is usable without an estimator: it is the start of the nonlinear models. All its M-steps are in closed form, so
the exact log-likelihood (plus, with few trials, the log prior of the initial state) never decreases.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.em_runs import EMRun, race
from nwb_lrrnn.models.linear.factor_start import start_from_factors
from nwb_lrrnn.models.linear.larger_start import grown_systems
from nwb_lrrnn.models.linear.observations import Observations, prepare
from nwb_lrrnn.models.linear.smoothing import Moments, smooth_residual
from nwb_lrrnn.models.linear.subspace import starts_from_subspace
from nwb_lrrnn.models.linear.system import LinearSystem, canonical_gauge
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]
logger = logging.getLogger(__name__)

_LEAST_NOISE = 1e-8  # smallest eigenvalue of Q and Sigma_1; the latents start with variance 1
_HIGHER = 3e-3  # of the advantage over constant rates: less is the same place, a few iterations apart
_PLENTY = 5  # trials per parameter of the initial mean that make the prior of the initial state unnecessary


@dataclass(frozen=True)
class EMFit:
    """What EM found: parameters and moments in the units of X, in the canonical gauge.

    Attributes
    ----------
    system : LinearSystem
        The parameters.
    moments : Moments
        Posterior of the latents of the training trials under them.
    latent_mean, latent_covariance : arrays (latent,), (latent, latent)
        Moments of the latents pooled over all bins of all trials (0 and I, by the gauge).
    log_likelihood : array (iteration,)
        ln p(X) per observed bin at the start of each iteration.
    objective : array (iteration,)
        The same plus the log prior of the initial state: what EM climbs.
    converged : bool
        Whether the gain fell below the tolerance before the iterations ran out.
    last_gain : float
        Gain of the last iteration relative to the total over a model of independent bins.
    """

    system: LinearSystem
    moments: Moments
    latent_mean: Array
    latent_covariance: Array
    log_likelihood: Array
    objective: Array
    converged: bool
    last_gain: float


def fit(
    trials: Trials,
    rank: int,
    *,
    max_iter: int = 100,
    tol: float = 1e-4,
    dynamic: bool = True,
    inputs=None,
    smaller: LinearSystem | None = None,
) -> EMFit:
    """Return the linear Gaussian state-space model of `rank` latents fitted to trials by EM.

    Parameters
    ----------
    trials : Trials
        Any values; masks, unequal lengths and inputs are handled exactly.
    rank : int
        Number of latents, at most the number of units.
    max_iter : int
        Most iterations.
    tol : float
        EM stops when one iteration gains less than this fraction of what the model has gained over constant rates.
    dynamic : bool
        False: A = 0, Q = Sigma_1 = I, which is factor analysis.
    inputs : array (trial, time, input), optional
        Default `trials.inputs`.
    smaller : LinearSystem, optional
        Of smaller rank, in the units of X: one more place to start from, so that the larger model explains the trials
        at least as well.

    Returns
    -------
    EMFit
        Parameters, posterior moments and history.
    """
    data, runs = _runs(trials, rank, dynamic, inputs, smaller)
    return _finish(race(runs, max_iter, tol), data)


def fit_each(trials: Trials, rank: int, *, max_iter: int, tol: float, dynamic: bool = True, inputs=None) -> list[EMFit]:
    """Return what EM finds from each of its starts, for a caller with a choice of its own: factors first.

    A subspace that leads no higher than the factors is left out: most likely it leads to the same place.
    """
    data, runs = _runs(trials, rank, dynamic, inputs)
    for run in runs:
        run.run(max_iter, tol)
    least = runs[0].objectives[-1] + _HIGHER * runs[0].advantage
    return [_finish(run, data) for run in runs if run is runs[0] or run.objectives[-1] > least]


def _runs(
    trials: Trials, rank: int, dynamic: bool, inputs: Array | None, smaller: LinearSystem | None = None
) -> tuple[Observations, list[EMRun]]:
    """Return the observations made ready, and EM at its starts."""
    inputs = trials.inputs if inputs is None and dynamic else inputs
    data = prepare(trials, inputs)
    prior_weight = _prior_weight(data, rank) if dynamic else 0.0
    runs = [
        EMRun(
            start,
            lambda system, _: expect(system, data),
            lambda system, moments: maximise(system, moments, data, prior_weight, dynamic=dynamic),
            lambda system: prior_weight * log_prior(system) if prior_weight else 0.0,
            -0.5 * float(data.n_observed.sum() * np.log(2 * np.pi) + data.squares.sum()),
            data.n_bins,
        )
        for start in [*_starts(data, rank, dynamic), *_grown(data, rank, smaller)]
    ]
    return data, runs


def _starts(data: Observations, rank: int, dynamic: bool) -> list[LinearSystem]:
    """Return where EM starts: at factors, and where trials have time to show dynamics, at the best subspace."""
    factors = start_from_factors(data, rank, dynamic=dynamic)
    subspaces = starts_from_subspace(data, rank) if dynamic else []
    if not subspaces:
        return [factors]
    heights = [expect(system, data).log_likelihood.sum() for system in subspaces]
    return [factors, subspaces[int(np.argmax(heights))]]


def _grown(data: Observations, rank: int, smaller: LinearSystem | None) -> list[LinearSystem]:
    """Return the likeliest of the larger systems that a smaller one in the units of X grows into; none without one."""
    if smaller is None or smaller.rank >= rank:
        return []
    known = smaller.in_units(-data.center / data.scale, 1.0 / data.scale)
    shown = expect(known, data).smoothed @ known.loadings.T + known.offset
    weights = data.weights if data.masked_by_unit else data.weights[..., None]
    residual = (weights * (data.values - shown)).reshape(-1, len(known.offset))
    systems = list(grown_systems(known, rank, residual, np.ones(len(known.offset))))
    return [max(systems, key=lambda system: expect(system, data).log_likelihood.sum())]


def expect(system: LinearSystem, data: Observations) -> Moments:
    """Return the E-step: posterior moments and log-likelihood of standardised observations."""
    residual = data.values - system.offset
    if data.weights.min() == 0.0:
        residual *= data.weights if data.masked_by_unit else data.weights[..., None]
    power = np.einsum("kti,kti->ki", residual, residual) @ (1.0 / np.asarray(system.variance))
    return smooth_residual(system, residual, power, data.patterns, data.inputs)


def maximise(
    system: LinearSystem, moments: Moments, data: Observations, prior_weight: float, *, dynamic: bool = True
) -> LinearSystem:
    """Return the M-step: every parameter at its conditional maximum."""
    if dynamic:
        system = update_dynamics(system, moments, data.lengths, data.patterns, data.inputs, prior_weight)
    return update_readout(system, moments, data)


# --- dynamics: shared with Laplace-EM --------------------------------------------------------------------------------


def update_dynamics(system, moments: Moments, lengths, patterns, inputs, prior_weight: float) -> LinearSystem:
    """Return the system with A, c, B, Q and mu_1, K, Sigma_1 at their maximum given posterior moments."""
    n_steps = moments.smoothed.shape[1]
    inside = np.arange(1, n_steps) < lengths[:, None]  # (trial, time - 1): the step t -> t + 1 is in the trial
    system = update_initial(system, moments, inputs, prior_weight)
    if not inside.any():
        return system
    rank = system.rank
    before, after = moments.smoothed[:, :-1][inside], moments.smoothed[:, 1:][inside]
    regressors = _with_inputs(before, None if inputs is None else inputs[:, :-1][inside])
    steps = np.arange(1, n_steps) < patterns.lengths[:, None]
    times = (patterns.counts[:, None] * steps)[..., None, None]
    cov = moments.pattern_covariances
    square = regressors.T @ regressors
    square[:rank, :rank] += (cov[:, :-1] * times).sum(axis=(0, 1))
    cross = after.T @ regressors
    cross[:, :rank] += (moments.pattern_cross * times).sum(axis=(0, 1))
    total = after.T @ after + (cov[:, 1:] * times).sum(axis=(0, 1))
    weights = regress(cross, square)
    noise = (total - weights @ cross.T) / len(before)
    return system.replace(
        transition=weights[:, :rank],
        drive=weights[:, rank],
        input_weights=weights[:, rank + 1 :] if inputs is not None else None,
        noise=floored(noise),
    )


def update_initial(system: LinearSystem, moments: Moments, inputs, prior_weight: float) -> LinearSystem:
    """Return the system with mu_1 + K u_1 regressed on the first bins and Sigma_1 their residual covariance.

    The prior, for few trials, is `prior_weight` imaginary trials whose z_1 is drawn from N(0, I) with u_1 = 0: the
    law that the latents start from. Without it one trial would have Sigma_1 = 0 and no other trial any likelihood.
    """
    first = moments.smoothed[:, 0]  # (trial, latent)
    rank = system.rank
    regressors = _with_inputs(first[:, :0], None if inputs is None else inputs[:, 0])
    square = regressors.T @ regressors
    square[0, 0] += prior_weight
    weights = regress(first.T @ regressors, square)
    residual = first - regressors @ weights.T
    shared = np.bincount(moments.pattern, minlength=len(moments.pattern_covariances))
    scatter = residual.T @ residual + np.tensordot(shared, moments.pattern_covariances[:, 0], axes=1)
    scatter += prior_weight * (np.eye(rank) + np.outer(weights[:, 0], weights[:, 0]))
    return system.replace(
        initial_mean=weights[:, 0],
        initial_input_weights=weights[:, 1:] if inputs is not None else None,
        initial_covariance=floored(scatter / (len(first) + prior_weight)),
    )


def regress(cross: Array, square: Array) -> Array:
    """Return the least-squares weights cross square^-1; of regressors that repeat others, the smallest weights."""
    size = np.sqrt(np.diag(square))
    size = np.where(size > 0, size, 1.0)  # inputs come in any unit
    return (cross / size) @ np.linalg.pinv(square / np.outer(size, size), rcond=1e-12, hermitian=True) / size


def log_prior(system: LinearSystem) -> float:
    """Return E ln N(z; mu_1, Sigma_1) over z ~ N(0, I): the log prior of one imaginary trial."""
    precision = np.linalg.inv(system.initial_covariance)
    mean, rank = system.initial_mean, system.rank
    log_det = np.linalg.slogdet(system.initial_covariance)[1]
    return float(-0.5 * (rank * np.log(2 * np.pi) + log_det + np.trace(precision) + mean @ precision @ mean))


def prior_weight_for(n_trials: int, rank: int, n_inputs: int) -> float:
    """Return the weight of the prior of the initial state: 1 imaginary trial while trials are few, else 0."""
    return 1.0 if n_trials < _PLENTY * (rank + 1 + n_inputs) else 0.0


def floored(covariance: Array, least: float = _LEAST_NOISE) -> Array:
    """Return the symmetric matrix with its eigenvalues raised to `least`: the constrained maximum of its likelihood."""
    covariance = 0.5 * (covariance + covariance.T)
    values, vectors = np.linalg.eigh(covariance)
    if values[0] >= least:
        return covariance
    return (vectors * np.maximum(values, least)) @ vectors.T


def pooled_moments(moments: Moments, lengths: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return mean and covariance of the latents over all bins of all trials, posterior uncertainty included."""
    inside = np.arange(moments.smoothed.shape[1]) < lengths[:, None]
    z = moments.smoothed[inside]
    mean = z.mean(axis=0)
    counts = np.bincount(moments.pattern, minlength=len(moments.pattern_covariances))
    within = np.tensordot(counts, moments.pattern_covariances.sum(axis=1), axes=1) / len(z)  # padding is 0
    return mean, (z - mean).T @ (z - mean) / len(z) + within


# --- readout ---------------------------------------------------------------------------------------------------------


def update_readout(system: LinearSystem, moments: Moments, data: Observations) -> LinearSystem:
    """Return the system with C, d and the variances of units at their maximum given posterior moments."""
    rank = system.rank
    z = moments.smoothed
    design = np.concatenate([z, np.ones((*z.shape[:2], 1))], axis=2).reshape(-1, rank + 1)
    y = data.values.reshape(len(design), -1)
    cross = y.T @ design  # (unit, latent + 1); y is 0 where unobserved
    n_units, total = len(cross), data.squares.sum(axis=0)
    if data.masked_by_unit:
        square = _squares_by_unit(moments, design, data)
        weights = np.linalg.solve(square + 1e-12 * np.eye(rank + 1), cross[..., None])[..., 0]
    else:
        weight = data.weights.reshape(-1, 1)
        shared = (design * weight).T @ design
        times = (data.patterns.counts[:, None] * data.patterns.bins)[..., None, None]
        shared[:rank, :rank] += (moments.pattern_covariances * times).sum(axis=(0, 1))
        weights = regress(cross, shared)
        square = np.broadcast_to(shared, (n_units, rank + 1, rank + 1))
    # the sum of squares written out, so that it stays right where the solution is regularised
    explained = 2 * np.einsum("ir,ir->i", weights, cross) - np.einsum("ir,irs,is->i", weights, square, weights)
    variance = (total - explained) / np.maximum(data.n_observed, 1.0)
    return system.replace(
        loadings=weights[:, :rank], offset=weights[:, rank], variance=np.maximum(variance, data.floor)
    )


def _squares_by_unit(moments: Moments, design: Array, data: Observations) -> Array:
    """Return sum of E[(z, 1)(z, 1)^T] over the observed bins of each unit, (unit, latent + 1, latent + 1)."""
    size = design.shape[1]
    weights = data.weights.reshape(len(design), -1)  # (bin, unit)
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    square = (weights.T @ products).reshape(-1, size, size)
    cov = moments.pattern_covariances.reshape(-1, (size - 1) ** 2)
    units = np.asarray(data.patterns.units) * data.patterns.counts[:, None, None]
    spread = units.reshape(len(cov), -1).T @ cov
    square[:, : size - 1, : size - 1] += spread.reshape(-1, size - 1, size - 1)
    return square


# --- book-keeping ----------------------------------------------------------------------------------------------------


def _with_inputs(latents: Array, inputs: Array | None) -> Array:
    parts = [latents, np.ones((len(latents), 1))]
    return np.concatenate(parts if inputs is None else [*parts, inputs], axis=1)


def _prior_weight(data: Observations, rank: int) -> float:
    n_inputs = 0 if data.inputs is None else data.inputs.shape[2]
    return prior_weight_for(len(data.values), rank, n_inputs)


def _finish(run: EMRun, data: Observations) -> EMFit:
    """Return the fit in the units of X and the canonical gauge, with the moments of its final parameters."""
    moments = expect(run.system, data)
    mean, covariance = pooled_moments(moments, data.lengths)
    change, shift = canonical_gauge(run.system, mean, covariance)
    system = run.system.in_gauge(change, shift)
    moments = expect(system, data)
    mean, covariance = pooled_moments(moments, data.lengths)
    likelihoods, objectives = (run.history() + data.log_jacobian() / data.n_bins).T
    system = system.in_units(data.center, data.scale)
    return EMFit(system, moments, mean, covariance, likelihoods, objectives, run.converged, float(run.gain))
