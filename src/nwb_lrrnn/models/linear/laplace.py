"""The posterior of the latents of counts: a Gaussian approximation over whole trials, and a filter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.linear.smoothing import Moments
from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.models.training.threads import over_ranges
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_NEWTON_STEPS = 100
_LONG = 1000  # bins: one step size for a longer path means many Newton steps, unless they begin close to the mode
_PASSES = 8  # about as often the trials are gone through


def seen_entries(trials: Trials) -> NDArray[np.bool_]:
    """Return which entries (trial, time, unit) are observed."""
    return (
        np.ones(trials.values.shape, dtype=bool) if trials.observed is None else np.ascontiguousarray(trials.observed)
    )


def spread_of(system: LinearSystem) -> Array:
    """Return the spread (unit,) as the kernels want it, ones where the likelihood has none."""
    return np.ones(len(system.offset)) if system.dispersion is None else np.array(system.dispersion)


def constants_of(model: Likelihood, values: Array, seen: NDArray[np.bool_], system: LinearSystem) -> Array:
    """Return the terms of ln p(Y | eta) without eta, summed per trial, (trial,)."""
    return np.where(seen, model.constants(values, system.dispersion), 0.0).sum(axis=(1, 2))


def smooth(
    system: LinearSystem,
    trials: Trials,
    inputs: Array | None,
    likelihood: str,
    link: str,
    bin_size: float,
    start: Array | Moments | None = None,
    *,
    n_averages: int = 4,
) -> Moments:
    """Return a Gaussian approximation of the posterior of the latents, and of ln p(Y), per trial.

    First Laplace's: the mode over the whole trial by Newton's method, each step a Kalman smoother on the local
    quadratic (Fahrmeir & Kaufmann 1991; Paninski et al. 2010). Then `n_averages` steps in which slope and information
    are averaged over the posterior instead of taken at its mode (Opper & Archambeau 2009): near the kink of softplus
    the mode is no good mean. `filtered` and `predicted` of the result are not filled: see `run_filter`.

    Parameters
    ----------
    system : LinearSystem
        Its eta in spikes/s.
    trials : Trials
        Counts.
    inputs : array (trial, time, input) or None
        Known inputs.
    likelihood, link : str
        Names as in `LowRankDynamics`.
    bin_size : float
        Seconds (1.0: rates are per bin).
    start : array (trial, time, latent) or Moments, optional
        First guess of the modes; default the latents that the dynamics alone predict. From the Moments of nearly the
        same system the search for modes is skipped.
    n_averages : int
        0: Laplace's approximation itself, `log_likelihood` being that of ln p(Y); else a lower bound on ln p(Y).
    """
    from nwb_lrrnn.models.kernels import laplace_smoother as kernels
    from nwb_lrrnn.models.kernels.laplace_readout import NODES, WEIGHTS

    model = Likelihood(likelihood, link, bin_size)
    system = with_noise(system)
    n_trials, n_steps, _ = trials.values.shape
    rank = system.rank
    drive, initial = system.drives(inputs, n_trials, n_steps)
    if isinstance(start, Moments):
        means, covariances, n_newton = start.smoothed.copy(), start.covariances, 0
        sites = np.array(start.site_evidence), np.array(start.site_information)
    else:
        if start is None and n_steps > _LONG:
            start = run_filter(system, trials, inputs, likelihood, link, bin_size)[0]
        means = _prior_path(system, drive, initial) if start is None else np.array(start)
        covariances, n_newton = np.zeros((n_trials, n_steps, rank, rank)), _NEWTON_STEPS
        sites = np.zeros_like(means), np.zeros_like(covariances)
    means[np.arange(n_steps) >= trials.lengths[:, None]] = 0.0
    cross = np.zeros((n_trials, max(n_steps - 1, 0), rank, rank))
    log_evidence = np.zeros(n_trials)
    seen, dispersion = seen_entries(trials), spread_of(system)
    offsets = _offsets(system, inputs)
    loadings, transition, noise, initial_cov = _arrays(system)
    noise_inverse, initial_inverse = np.linalg.inv(noise), np.linalg.inv(initial_cov)
    over_ranges(
        lambda first, last: kernels.smooth_counts(
            model.code, trials.values, seen, loadings, offsets, bin_size, dispersion, trials.lengths,
            transition, noise, noise_inverse, drive, initial, initial_cov, initial_inverse,
            means, covariances, cross, *sites, log_evidence, n_newton, n_averages, NODES, WEIGHTS, first, last,
        ),
        n_trials, trials.values.size * _PASSES,
    )  # fmt: skip
    log_evidence += constants_of(model, trials.values, seen, system)
    return Moments(means, means, means, np.arange(n_trials), covariances, cross, log_evidence, *sites)


def run_filter(
    system: LinearSystem, trials: Trials, inputs: Array | None, likelihood: str, link: str, bin_size: float
) -> tuple[Array, Array]:
    """Return filtered and predicted means of the latents, (trial, time, latent) each.

    At each bin the posterior is replaced by the Gaussian at its mode (Brown et al. 1998; Koyama et al. 2010).
    """
    from nwb_lrrnn.models.kernels import laplace as kernels

    model = Likelihood(likelihood, link, bin_size)
    n_trials, n_steps, _ = trials.values.shape
    drive, initial = system.drives(inputs, n_trials, n_steps)
    predicted, filtered = np.zeros((2, n_trials, n_steps, system.rank))
    seen, dispersion, offsets = seen_entries(trials), spread_of(system), _offsets(system, inputs)
    loadings, transition, noise, initial_cov = _arrays(system)
    over_ranges(
        lambda first, last: kernels.filter_counts(
            model.code, trials.values, seen, loadings, offsets, bin_size, dispersion, trials.lengths,
            transition, noise, drive, initial, initial_cov, predicted, filtered, first, last,
        ),
        n_trials, trials.values.size * _PASSES,
    )  # fmt: skip
    return filtered, predicted


def with_noise(system: LinearSystem) -> LinearSystem:
    """Return the system with Q and Sigma_1 made invertible: Newton's line search wants the density of a path."""
    rank = system.rank
    scale = max(np.trace(system.noise), np.trace(system.initial_covariance), 1e-300) / rank
    lift = 1e-9 * scale * np.eye(rank)
    changes = {
        name: cov + lift
        for name in ("noise", "initial_covariance")
        if np.linalg.eigvalsh(cov := getattr(system, name))[0] < 1e-9 * scale
    }
    return system.replace(**changes)


def _prior_path(system: LinearSystem, drive: Array, initial: Array) -> Array:
    path = np.empty_like(drive)
    path[:, 0] = initial
    for t in range(1, path.shape[1]):
        path[:, t] = path[:, t - 1] @ system.transition.T + drive[:, t - 1]
    return path


def _offsets(system: LinearSystem, inputs: Array | None) -> Array:
    """Return d + F u as (trial or 1, time or 1, unit)."""
    return np.array(system.offsets(inputs), ndmin=3)


def _arrays(system: LinearSystem) -> tuple[Array, Array, Array, Array]:
    """Return writable C, A, Q and Sigma_1, so that the kernels compile once."""
    return tuple(np.array(a) for a in (system.loadings, system.transition, system.noise, system.initial_covariance))  # type: ignore[return-value]
