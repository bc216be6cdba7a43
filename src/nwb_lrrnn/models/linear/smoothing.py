"""The posterior of the latents of `Trials` under a linear Gaussian system: exact moments and exact log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.showing import in_short
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Patterns:
    """Which trials share one sequence of observed entries, and so share every covariance.

    Attributes
    ----------
    pattern : array (trial,), int
        The pattern of each trial.
    lengths, counts : arrays (pattern,), int
        Bins of each pattern and how many trials have it.
    bins : array (pattern, time), float
        1 where a bin is observed in at least one unit.
    units : array (pattern, time, unit), float, or None
        1 where an entry is observed; None when every bin is observed whole or not at all.
    """

    pattern: NDArray[np.int64]
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]
    bins: Array
    units: Array | None


@dataclass(frozen=True)
class Moments:
    """Posterior moments of the latents, padding being 0; covariances are stored once per pattern of observed entries.

    Attributes
    ----------
    smoothed, filtered, predicted : arrays (trial, time, latent)
        Posterior means given all bins, bins up to the current one, and bins before it.
    pattern : array (trial,), int
        Row of `pattern_covariances` that holds for each trial.
    pattern_covariances, pattern_cross : arrays (pattern, time, latent, latent), (pattern, time - 1, latent, latent)
        Cov(z_t | Y) and Cov(z_{t+1}, z_t | Y).
    log_likelihood : array (trial,)
        ln p(Y) of each trial, nats (for counts an approximation).
    site_evidence, site_information : arrays (trial, time, latent), (trial, time, latent, latent), or None
        Counts only: the Gaussian pseudo-observations h_t, J_t whose posterior this is.
    """

    smoothed: Array
    filtered: Array
    predicted: Array
    pattern: NDArray[np.int64]
    pattern_covariances: Array
    pattern_cross: Array
    log_likelihood: Array
    site_evidence: Array | None = None
    site_information: Array | None = None

    __repr__ = in_short

    @property
    def means(self) -> Array:
        """Smoothed means (trial, time, latent)."""
        return self.smoothed

    @property
    def covariances(self) -> Array:
        """Smoothed covariances (trial, time, latent, latent)."""
        return self.pattern_covariances[self.pattern]


def find_patterns(observed: NDArray[np.bool_] | None, lengths: NDArray[np.int64], n_steps: int) -> Patterns:
    """Return the distinct sequences of observed entries and lengths among trials."""
    n_trials = len(lengths)
    if observed is None:
        ones = np.ones((1, n_steps))
        return Patterns(np.zeros(n_trials, dtype=np.int64), lengths[:1], np.array([n_trials]), ones, None)
    keys = np.packbits(observed.reshape(n_trials, -1), axis=1)
    keys = np.concatenate([keys, lengths[:, None].view(np.uint8).reshape(n_trials, -1)], axis=1)
    _, first, pattern, counts = np.unique(keys, axis=0, return_index=True, return_inverse=True, return_counts=True)
    distinct = observed[first]
    bins = np.asarray(distinct.any(axis=2))
    whole = bool((distinct == bins[..., None]).all())
    units = None if whole else distinct.astype(np.float64)
    return Patterns(pattern.reshape(-1).astype(np.int64), lengths[first], counts, bins.astype(np.float64), units)


def information(system: LinearSystem, patterns: Patterns) -> Array:
    """Return J_t = C^T R^-1 C over the observed units, (pattern, time, latent, latent)."""
    loadings, rank = system.loadings, system.rank
    if system.variance is None:
        raise ValueError("variance: None, but the Kalman filter wants a Gaussian readout")
    weighted = loadings / system.variance[:, None]
    if patterns.units is None:
        return np.multiply.outer(patterns.bins, weighted.T @ loadings)
    products = (weighted[:, :, None] * loadings[:, None, :]).reshape(len(loadings), -1)  # (unit, latent * latent)
    return (patterns.units @ products).reshape(*patterns.bins.shape, rank, rank)


def gaussian_constants(variance: Array, patterns: Patterns) -> Array:
    """Return -1/2 sum of ln(2 pi R) over the observed entries of each trial, (trial,)."""
    terms = np.log(2 * np.pi * variance)
    shared = patterns.bins.sum(axis=1) * terms.sum() if patterns.units is None else (patterns.units @ terms).sum(axis=1)
    return -0.5 * shared[patterns.pattern]


def smooth(system: LinearSystem, trials: Trials, inputs: Array | None = None) -> Moments:
    """Return the exact posterior moments of the latents of `trials` and their log-likelihood.

    Parameters
    ----------
    system : LinearSystem
        Gaussian, in the units of `trials`.
    trials : Trials
        What was observed; masks and unequal lengths are respected.
    inputs : array (trial, time, input), optional
        Default `trials.inputs`.

    Returns
    -------
    Moments
        By the Kalman filter and the Rauch-Tung-Striebel smoother (Shumway & Stoffer 1982).
    """
    inputs = trials.inputs if inputs is None else inputs
    patterns = find_patterns(trials.observed, trials.lengths, trials.values.shape[1])
    residual = trials.values - system.offsets(inputs)
    if trials.observed is not None:
        residual = np.where(trials.observed, residual, 0.0)
    power = np.einsum("kti,kti,i->k", residual, residual, 1.0 / np.asarray(system.variance), optimize=True)
    return smooth_residual(system, residual, power, patterns, inputs)


def smooth_residual(
    system: LinearSystem,
    residual: Array,
    power: Array,
    patterns: Patterns,
    inputs: Array | None,
    *,
    backward: bool = True,
) -> Moments:
    """Return the moments given y - d, 0 where unobserved, and `power` (trial,), its sum of squares over R.

    With `backward=False` the smoothed covariances are skipped (left zero); means and likelihood are complete.
    """
    weighted = system.loadings / np.asarray(system.variance)[:, None]
    evidence = residual @ weighted  # (trial, time, latent)
    moments, quadratic, log_det = run_smoother(
        system, evidence, information(system, patterns), patterns, inputs, backward
    )
    log_likelihood = gaussian_constants(np.asarray(system.variance), patterns)
    log_likelihood = log_likelihood - 0.5 * (power + quadratic + log_det[patterns.pattern])
    return Moments(*moments, log_likelihood)


def run_smoother(system: LinearSystem, evidence: Array, info: Array, patterns: Patterns, inputs, backward: bool):
    """Return the fields of `Moments` before the likelihood, its quadratic part (trial,) and log det (pattern,)."""
    from nwb_lrrnn.models.kernels import kalman

    n_trials, n_steps, rank = evidence.shape
    n_patterns = len(patterns.lengths)
    drive, initial = system.drives(inputs, n_trials, n_steps)
    predicted_cov, filtered_cov = np.zeros((2, n_patterns, n_steps, rank, rank))
    gain = np.zeros((n_patterns, max(n_steps - 1, 0), rank, rank))
    log_det, quadratic = np.zeros(n_patterns), np.zeros(n_trials)
    predicted, filtered, smoothed = np.zeros((3, n_trials, n_steps, rank))
    transition, noise = np.array(system.transition), np.array(system.noise)  # writable: one compiled version
    trial_lengths = patterns.lengths[patterns.pattern]
    kalman.covariance_pass(
        info, patterns.lengths, transition, noise, np.array(system.initial_covariance),
        predicted_cov, filtered_cov, gain, log_det, 0, n_patterns,
    )  # fmt: skip
    kalman.mean_pass(
        evidence, info, patterns.pattern, trial_lengths, transition, drive, initial, filtered_cov, gain,
        predicted, filtered, smoothed, quadratic, 0, n_trials,
    )  # fmt: skip
    covariances, cross = np.zeros_like(filtered_cov), np.zeros_like(gain)
    if backward:
        kalman.smooth_covariances(
            patterns.lengths, transition, noise, filtered_cov, gain, covariances, cross, 0, n_patterns
        )
    return (smoothed, filtered, predicted, patterns.pattern, covariances, cross), quadratic, log_det
