"""Right connectivity vectors: ridge regression of latents on the neurons a bin before, with error bars."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from nwb_lrrnn.dynamics.nonlinearity import phi
from nwb_lrrnn.models.dis.network import GroupNetwork, given_inputs
from nwb_lrrnn.models.dis.regression import Linear, narrow
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

RIDGES = 10.0 ** np.arange(-8, 1.5, 0.5)  # of the mean variance of the regressors
_BLOCKS = 20  # stretches that are drawn again where there are few trials
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
        block = np.arange(len(trial)) * _BLOCKS // max(len(trial), 1)
        block = np.unique(block, return_inverse=True)[1].reshape(-1)
    return Steps(rates[:, :-1][rows], latents[:, 1:][rows], block)


def regress(steps: Steps) -> RidgeRegression:
    """Return the ridge regression of steps, its ridge chosen by cross-validation over blocks.

    It is the largest within one standard error (over blocks) of the best held-out likelihood (Breiman et al. 1984):
    currents of few latents hardly tell neurons apart, and the least loss alone would fit what they do not show.
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
    weights, drive = _solutions(u, z, [ridge])[0]
    return RidgeRegression(weights if axes is None else weights @ axes.T, drive, float(ridge), loss)


def _within_one_error(left: Array, best: int, steps: Steps) -> int:
    """Return the largest ridge whose held-out loss, in the metric of the best one, is within a standard error of it."""
    covariance = left[best].T @ left[best] / left.shape[1]
    size = max(float(np.trace(covariance)) / len(covariance), 1e-300)
    root = np.linalg.cholesky(covariance + 1e-12 * size * np.eye(len(covariance)))
    losses = np.stack([(np.linalg.solve(root, rest.T) ** 2).sum(axis=0) for rest in left])  # (ridge, step)
    counts = np.bincount(steps.block, minlength=steps.n_blocks)
    means = np.stack([np.bincount(steps.block, one, minlength=steps.n_blocks) / counts for one in losses])
    error = means[best].std(ddof=1) / np.sqrt(steps.n_blocks)
    return int(np.flatnonzero(means.mean(axis=1) <= means[best].mean() + error).max())


def _log_det(rest: NDArray) -> float:
    covariance = rest.T @ rest / max(len(rest), 1)
    return float(np.linalg.slogdet(covariance + 1e-300 * np.eye(len(covariance)))[1])


def _solutions(u: Array, z: Array, ridges) -> list[tuple[Array, Array]]:
    """Return weights (latent, neuron) and drive (latent,) for each ridge, from one eigendecomposition."""
    u_mean, z_mean = u.mean(axis=0), z.mean(axis=0)
    values, axes = np.linalg.eigh((u - u_mean).T @ (u - u_mean) / len(u))
    values = np.maximum(values, 0.0)
    cross = axes.T @ ((u - u_mean).T @ (z - z_mean)) / len(u)  # (axis, latent)
    size = max(float(values.sum()) / len(u_mean), 1e-300)
    found = []
    for ridge in ridges:
        weights = (axes @ (cross / (values + ridge * size)[:, None])).T
        found.append((weights, z_mean - weights @ u_mean))
    return found


def bootstrap(
    trials: Trials,
    network: GroupNetwork,
    steps: Steps,
    known: NDArray[np.bool_],
    n_bootstraps: int,
    rng: np.random.Generator,
    ridges: float | Array,
    latent_axes: Array,
) -> tuple[Array, Array]:
    """Return how far left and right vectors move when blocks of bins are drawn again, with replacement.

    The latents stay: uncertainty of the rotation into groups is not in it. Left vectors are regressions of scaled
    values on latents; of counts these are linear in the rates, and so are their error bars.

    Parameters
    ----------
    trials, network : Trials, GroupNetwork
    steps, known : Steps, array (trial, time)
        As of `steps_of`.
    n_bootstraps : int
    rng : Generator
    ridges : float or array (axis,)
        Of right vectors, for each of `latent_axes` (latent, axis).

    Returns
    -------
    left : array (bootstrap, unit, latent)
        m of the drawn blocks minus m of all.
    right : array (bootstrap, latent, neuron)
        nᵀ / N likewise.
    """
    rows = known[:, :-1] & trials.bins[:, 1:]
    targets = network.units.scaled(trials.values)[:, 1:][rows]
    counts = rng.multinomial(steps.n_blocks, np.full(steps.n_blocks, 1 / steps.n_blocks), size=n_bootstraps)
    regressors, axes = narrow(steps.regressors)
    back = np.linalg.inv(latent_axes)
    turned = replace(steps, regressors=regressors, latents=steps.latents @ back.T)
    whole = _both(turned, targets, np.ones(len(targets)), ridges)
    draws = [_both(turned, targets, drawn[steps.block].astype(float), ridges) for drawn in counts]
    left = np.stack([(decoder - whole[0]) @ back for decoder, _ in draws])
    right = np.stack([latent_axes @ (weights - whole[1]) for _, weights in draws])
    return left, right if axes is None else right @ axes.T


def _both(steps: Steps, targets: Array, weight: Array, ridges: float | Array) -> tuple[Array, Array]:
    """Return m of targets on latents and nᵀ / N of latents on regressors, bins weighted."""
    total = weight.sum()
    u = steps.regressors - weight @ steps.regressors / total
    z = steps.latents - weight @ steps.latents / total
    weighted = weight[:, None] * z / total
    inner = weighted.T @ z
    size = np.trace(inner) / len(inner)
    decoder = np.linalg.solve(inner + (1e-9 * size + 1e-300) * np.eye(len(inner)), weighted.T @ targets).T
    values, axes = np.linalg.eigh(u.T @ (weight[:, None] * u) / total)
    values = np.maximum(values, 0.0)
    size = max(float(values.sum()) / u.shape[1], 1e-300)
    return decoder, (axes @ ((axes.T @ (u.T @ weighted)) / (values[:, None] + ridges * size))).T


def standard_errors(lefts: Array, rights: Array) -> Array:
    """Return the standard deviation over bootstraps of left (bootstrap, unit, latent) times right, (unit, neuron)."""
    size = max(1, _ERRORS_AT_ONCE // rights[:, 0].size)
    rows = [np.std(lefts[:, i : i + size] @ rights, axis=0, ddof=1) for i in range(0, lefts.shape[1], size)]
    return np.concatenate(rows)


def ridges_of_encoder(linear: Linear, ridge: float | None) -> tuple[Array, Array]:
    """Return axes of the latents (latent, axis), and the ridge to which expectation maximisation comes on each (axis,).

    Where it stands still, B (Cov u + ridge (G A)^-1) = Cov(A^-1 y, u), G the gain of a bin: the ridge is divided by
    how much of a latent one bin tells.
    """
    told = linear.decoder.T @ (linear.decoder / linear.noise[:, None])
    kept, axes = eigh(told, told + np.linalg.inv(linear.latent_noise))  # G A = axes kept axes^-1
    ridge = RIDGES[0] if ridge is None else np.maximum(ridge, RIDGES[0])
    return axes, ridge / np.maximum(kept, 1e-9)
