"""Right connectivity vectors: ridge regression of latents on the neurons a bin before, with error bars."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.nonlinearity import noisy_phi, phi
from nwb_lrrnn.models.dis.network import GroupNetwork, given_inputs
from nwb_lrrnn.models.dis.regression import narrow
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

RIDGES = 10.0 ** np.arange(-8, 1.5, 0.5)  # of the mean variance of the regressors
_BLOCKS = 20  # stretches that are drawn again where there are few trials, at least
_MOST_BLOCKS, _BLOCK_BINS = 100, 25  # and how many there are at most, of how many bins at least
_FOLDS = 5
_ERRORS_AT_ONCE = 2_000_000  # entries of bootstrapped connectivity held at a time


@dataclass(frozen=True)
class RidgeRegression:
    """How the latents of a bin follow from the neurons of the bin before.

    Attributes
    ----------
    weights : array (latent, neuron)
        nᵀ / N.
    drive : array (latent,)
        s.
    ridge : float
        Of the regressors' mean variance.
    loss : float
        ln det of the covariance of what it leaves of held-out bins: half of it is minus a log-likelihood per bin.
    """

    weights: Array
    drive: Array
    ridge: float
    loss: float


def currents(network: GroupNetwork, trials: Trials, latents: Array) -> Array:
    """Return x = A z + c + F v, (trial, time, unit)."""
    linear = network.linear
    return latents @ linear.decoder.T + linear.offset + given_inputs(trials) @ linear.input_weights.T


def shown_rates(network: GroupNetwork, trials: Trials) -> Array:
    """Return phi(x + e) of Gaussian units, what they showed, (trial, time, unit)."""
    return network.units.features(trials.values)


def denoised_rates(network: GroupNetwork, trials: Trials, latents: Array) -> Array:
    """Return phi(x) of the currents that latents make, (trial, time, unit)."""
    return phi(network.units.nonlinearity, currents(network, trials, latents))


def expected_rates(network: GroupNetwork, trials: Trials, filtered: Array) -> Array:
    """Return E phi(x) given a bin and the one before, (trial, time, unit), filtered latents being the mean of theirs.

    The next latents are linear in phi(x), so that they regress on this expectation without attenuation, which phi at
    the expected x would bring (regression calibration, Carroll et al. 2006).
    """
    linear = network.linear
    told = linear.decoder.T @ (linear.decoder / linear.noise[:, None])
    latent_noise = linear.latent_noise + 1e-12 * np.trace(linear.latent_noise) * np.eye(network.rank)
    spread = np.linalg.inv(np.linalg.inv(latent_noise) + told)
    variance = np.einsum("ir,rs,is->i", linear.decoder, spread, linear.decoder)
    return noisy_phi(network.units.nonlinearity, currents(network, trials, filtered), variance, None)


@dataclass(frozen=True)
class Steps:
    """Consecutive bins: regressors of the first, latents of the second, and the block each pair of bins is in."""

    regressors: Array  # (step, neuron)
    latents: Array  # (step, latent)
    block: NDArray[np.int64]  # (step,)

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(self.block.max()) + 1


def steps_of(trials: Trials, rates: Array, latents: Array, known: NDArray[np.bool_]) -> Steps:
    """Return the steps from known bins (trial, time) to bins that are seen; blocks are trials or stretches."""
    rows = known[:, :-1] & trials.bins[:, 1:]
    trial, _ = np.nonzero(rows)
    n_trials = len(np.unique(trial))
    if n_trials >= _BLOCKS:
        block = np.unique(trial, return_inverse=True)[1].reshape(-1)
    else:
        n_blocks = min(max(len(trial) // _BLOCK_BINS, _BLOCKS), _MOST_BLOCKS)
        block = np.arange(len(trial)) * n_blocks // max(len(trial), 1)
        block = np.unique(block, return_inverse=True)[1].reshape(-1)
    return Steps(rates[:, :-1][rows], latents[:, 1:][rows], block)


def regress(steps: Steps) -> RidgeRegression:
    """Return the ridge regression of steps, its ridge chosen by cross-validation over blocks and its bias corrected.

    The ridge is the largest whose held-out loss is not above the least one by more than a standard error (over
    blocks) of the difference: currents of few latents hardly tell neurons apart, and the least loss alone would fit
    what they do not show. What that ridge takes away is then regressed once more and given back ("twicing", Tukey
    1977): directions that the bins show lose their bias, those that they hardly show stay near 0.
    """
    u, axes = narrow(steps.regressors)
    z = steps.latents
    fold = steps.block * _FOLDS // max(steps.n_blocks, 1)
    ridge, loss = RIDGES[0], np.inf
    if len(np.unique(fold)) > 1:
        left = np.zeros((len(RIDGES), *z.shape))
        for k in np.unique(fold):
            held = fold == k
            for i, (weights, drive) in enumerate(_solutions(u[~held], z[~held], RIDGES)):
                left[i, held] = z[held] - u[held] @ weights.T - drive
        losses = np.array([_log_det(left[i]) for i in range(len(left))])
        best = int(np.argmin(losses))
        ridge, loss = RIDGES[_within_one_error(left, best, steps)], float(losses[best])
    weights, drive = _solutions(u, z, [ridge], is_corrected=True)[0]
    return RidgeRegression(weights if axes is None else weights @ axes.T, drive, float(ridge), loss)


def _within_one_error(left: Array, best: int, steps: Steps) -> int:
    """Return the largest ridge whose held-out loss, in the metric of the best one, is within a standard error of it."""
    covariance = left[best].T @ left[best] / left.shape[1]
    size = max(float(np.trace(covariance)) / len(covariance), 1e-300)
    root = np.linalg.cholesky(covariance + 1e-12 * size * np.eye(len(covariance)))
    losses = np.stack([(np.linalg.solve(root, rest.T) ** 2).sum(axis=0) for rest in left])  # (ridge, step)
    counts = np.bincount(steps.block, minlength=steps.n_blocks)
    above = np.stack(
        [np.bincount(steps.block, one, minlength=steps.n_blocks) / counts for one in losses - losses[best]]
    )
    errors = above.std(axis=1, ddof=1) / np.sqrt(steps.n_blocks)
    return int(np.flatnonzero(above.mean(axis=1) <= errors).max())


def _log_det(rest: NDArray) -> float:
    covariance = rest.T @ rest / max(len(rest), 1)
    return float(np.linalg.slogdet(covariance + 1e-300 * np.eye(len(covariance)))[1])


def _inverse(values: Array, ridge: float, is_corrected: bool) -> Array:
    """Return what stands for 1 / values under a ridge, (axis,); corrected: of the solution plus that of what it left.

    With f = v / (v + r): f / v, and (f + f (1 - f)) / v.
    """
    plain = 1 / (values + ridge)
    return plain * (1 + ridge * plain) if is_corrected else plain


def _solutions(u: Array, z: Array, ridges, is_corrected: bool = False) -> list[tuple[Array, Array]]:
    """Return weights (latent, neuron) and drive (latent,) for each ridge, from one eigendecomposition."""
    u_mean, z_mean = u.mean(axis=0), z.mean(axis=0)
    values, axes = np.linalg.eigh((u - u_mean).T @ (u - u_mean) / len(u))
    values = np.maximum(values, 0.0)
    cross = axes.T @ ((u - u_mean).T @ (z - z_mean)) / len(u)  # (axis, latent)
    size = max(float(values.sum()) / len(u_mean), 1e-200)
    found = []
    for ridge in ridges:
        weights = (axes @ (cross * _inverse(values, ridge * size, is_corrected)[:, None])).T
        found.append((weights, z_mean - weights @ u_mean))
    return found


def bootstrap(
    trials: Trials,
    network: GroupNetwork,
    steps: Steps,
    known: NDArray[np.bool_],
    n_bootstraps: int,
    rng: np.random.Generator,
    ridge: float,
) -> tuple[Array, Array]:
    """Return how far left and right vectors move when blocks of bins are drawn again, with replacement.

    The latents stay: uncertainty of the rotation into groups is not in it. Left vectors are regressions of scaled
    values on latents; of counts these are linear in the rates, and so are their error bars. Moves are wider by as much
    as residuals are narrower than errors, by the parameters that they were left by and by the mean of the blocks.

    Parameters
    ----------
    trials, network : Trials, GroupNetwork
    steps, known : Steps, array (trial, time)
        As of `steps_of`.
    n_bootstraps : int
    rng : Generator
    ridge : float
        Of right vectors.

    Returns
    -------
    left : array (bootstrap, unit, latent)
        m of the drawn blocks minus m of all.
    right : array (bootstrap, latent, neuron)
        nᵀ / N likewise.
    """
    rows = known[:, :-1] & trials.bins[:, 1:]
    targets = network.units.scaled(trials.values)[:, 1:][rows]
    n = steps.n_blocks
    counts = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstraps)
    regressors, axes = narrow(steps.regressors)
    narrowed = replace(steps, regressors=regressors)
    (decoder, weights), free = _both(narrowed, targets, np.ones(len(targets)), ridge)
    draws = [_both(narrowed, targets, drawn[steps.block].astype(float), ridge)[0] for drawn in counts]
    wider = np.sqrt(n / max(n - 1, 1))
    left = wider * np.stack([drawn - decoder for drawn, _ in draws])
    right = (
        wider * np.sqrt(len(targets) / max(len(targets) - free, 1.0)) * np.stack([one - weights for _, one in draws])
    )
    return left, right if axes is None else right @ axes.T


def _both(steps: Steps, targets: Array, weight: Array, ridge: float) -> tuple[tuple[Array, Array], float]:
    """Return m of targets on latents and nᵀ / N of latents on regressors, bins weighted, and the latter's parameters.

    Parameters are the effective number of each latent's, the trace of the matrix that turns latents into predictions.
    """
    total = weight.sum()
    u = steps.regressors - weight @ steps.regressors / total
    z = steps.latents - weight @ steps.latents / total
    weighted = weight[:, None] * z / total
    inner = weighted.T @ z
    size = np.trace(inner) / len(inner)
    decoder = np.linalg.solve(inner + (1e-9 * size + 1e-300) * np.eye(len(inner)), weighted.T @ targets).T
    values, axes = np.linalg.eigh(u.T @ (weight[:, None] * u) / total)
    values = np.maximum(values, 0.0)
    size = max(float(values.sum()) / u.shape[1], 1e-200)
    inverse = _inverse(values, ridge * size, is_corrected=True)
    return (decoder, (axes @ ((axes.T @ (u.T @ weighted)) * inverse[:, None])).T), 1.0 + float(values @ inverse)


def standard_errors(lefts: Array, rights: Array) -> Array:
    """Return the standard deviation over bootstraps of left (bootstrap, unit, latent) times right, (unit, neuron)."""
    size = max(1, _ERRORS_AT_ONCE // rights[:, 0].size)
    rows = [np.std(lefts[:, i : i + size] @ rights, axis=0, ddof=1) for i in range(0, lefts.shape[1], size)]
    return np.concatenate(rows)
