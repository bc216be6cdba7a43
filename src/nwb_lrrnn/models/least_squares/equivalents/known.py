"""What was seen of a field, as weighted samples, and the path of the latents that all networks of an ensemble share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.dynamics.observation import linear_predictor
from nwb_lrrnn.models.least_squares.field import checked_samples
from nwb_lrrnn.models.least_squares.filtering import smooth
from nwb_lrrnn.models.least_squares.samples import field_samples
from nwb_lrrnn.models.training.devices import one_thread

if TYPE_CHECKING:
    from nwb_lrrnn.models.least_squares.estimator import LeastSquaresRNN

Array = NDArray[np.floating]

_PATH = 10.0  # time constants that a path lasts where none is given
_FARTHEST = 100.0  # times as far out as samples are: a run that gets there is none of theirs
_QUIET = 1e-2  # of the latents' standard deviation: the noise of a measurement where nothing tells it


@dataclass(frozen=True)
class Known:
    """Samples of the field of a network, each counting `each`, and a path with the inputs along it."""

    network: LowRankDynamics
    latents: Array  # (T, R)
    velocity: Array  # (T, R)
    inputs: Array | None  # (T, P)
    each: float  # how many observations a sample stands for
    spread: Array  # variance of the velocity beside what samples show (R,)
    path: Array  # (time, R)
    path_inputs: Array | None  # (time, P), as the experiment gave them
    noise: Array  # (R,) standard deviation with which an experiment sees the latents of a bin
    score: Callable[[LowRankDynamics], float] | None = None  # ln p of the recording per bin, nats

    @property
    def scale(self) -> Array:
        """Standard deviation of the latents (R,)."""
        size = self.latents.std(axis=0)
        return np.where(size > 0, size, 1.0)


def known_of(
    model: LeastSquaresRNN, data: Any, inputs: Any, path: ArrayLike | None, path_inputs: ArrayLike | None
) -> Known:
    """Return what a model was fitted to: trials X given again, or samples, given or kept, of a known field."""
    from nwb_lrrnn.models.least_squares.estimator import LeastSquaresRNN

    if not isinstance(model, LeastSquaresRNN):
        raise TypeError(
            f"model: got a {type(model).__name__}, wanted a fitted LeastSquaresRNN; "
            "LeastSquaresRNN(rank, latents=model).fit(X) is one that takes the latents of another model"
        )
    check_is_fitted(model, "dynamics_")
    if model.dynamics_.readout != "latents":
        raise ValueError("model: got one whose units are its neurons (latents='units'), wanted one with latents")
    if hasattr(model, "field_"):
        return _of_field(model, data, inputs, path, path_inputs)
    return _of_trials(model, data, inputs, path, path_inputs)


def _of_field(model: LeastSquaresRNN, data: Any, inputs: Any, path, path_inputs) -> Known:
    network, seen = model.dynamics_, model.field_.seen
    if inputs is not None:
        raise ValueError("inputs: got some beside samples, wanted data=(latents, velocity, inputs)")
    if data is not None:
        if not isinstance(data, tuple) or len(data) not in (2, 3):
            raise ValueError("data: wanted (latents, velocity) or (latents, velocity, inputs), for a field has no X")
        z, dz, u = checked_samples(*data)
    elif seen is not None:
        z, dz, u = seen
    else:
        raise ValueError("data: got None, wanted (latents, velocity): this model learnt online and kept sums alone")
    if z.shape[1] != network.rank or (0 if u is None else u.shape[1]) != network.n_inputs:
        raise ValueError(
            f"data: got {z.shape[1]} latents and {0 if u is None else u.shape[1]} inputs, wanted {network.rank} and "
            f"{network.n_inputs}"
        )
    along = _checked_path(network, path, path_inputs) if path is not None else _free_run(network, z, u)
    noise = _QUIET * np.maximum(z.std(axis=0), 1e-300)
    return Known(network, z, dz, u, 1.0, np.zeros(network.rank), *along, noise)


def _of_trials(model: LeastSquaresRNN, X: Any, inputs: Any, path, path_inputs) -> Known:
    if X is None:
        raise ValueError("data: got None, wanted the X that the model was fitted to: a model does not keep it")
    trials, inner = model._in_memory(X, inputs), model._scored
    network = inner.dynamics_
    with one_thread():
        moments = smooth(network, trials, device=inner.device)
    samples = field_samples(moments, trials)
    n_pairs = int(np.maximum(trials.lengths - 1, 0).sum())
    if path is None:
        longest = int(np.argmax(trials.lengths))
        length = int(trials.lengths[longest])
        path = moments.smoothed[longest, :length]
        path_inputs = None if trials.inputs is None else trials.inputs[longest, :length]

    def score(other: LowRankDynamics) -> float:
        with one_thread(), np.errstate(all="ignore"):
            found = smooth(other, trials, device=inner.device, goes_back=False).log_likelihood
        return float(found.sum()) / trials.n_observed_bins

    along = _checked_path(network, path, path_inputs)
    return Known(
        network, samples.latents, samples.velocity, samples.inputs, n_pairs / len(samples.latents),
        np.diag(samples.spread) / trials.bin_size**2, *along, noise_of_a_bin(network, *along), score,
    )  # fmt: skip


def noise_of_a_bin(network: LowRankDynamics, path: Array, path_inputs: Array | None) -> Array:
    """Return the standard deviation (R,) with which a bin shows the latents: of what units show, and as they stray."""
    variance = np.zeros(network.rank)
    if network.latent_noise is not None:
        variance = variance + np.diag(network.latent_noise)
    if network.loadings is not None:
        told = _information(network, path, path_inputs)
        variance = variance + np.diag(np.linalg.pinv((network.loadings.T * told) @ network.loadings))
    floor = 0.0 if network.latent_covariance is None else _QUIET**2 * np.diag(network.latent_covariance)
    return np.sqrt(np.maximum(variance, floor))


def _information(network: LowRankDynamics, path: Array, path_inputs: Array | None) -> Array:
    """Return the Fisher information (unit,) of its linear predictor in a bin of each unit, the mean of the path."""
    if network.observation_variance is not None:
        return 1.0 / network.observation_variance
    v = None if path_inputs is None else network.filtered_inputs(path_inputs)
    likelihood = Likelihood(network.likelihood, str(network.link), network.dt)
    eta, spread = linear_predictor(network, path, v), likelihood.spread_of(network)
    return likelihood.terms(network.expected(path, v), eta, spread)[2].mean(axis=0)


def _checked_path(network: LowRankDynamics, path: ArrayLike, path_inputs: ArrayLike | None):
    z = np.asarray(path, dtype=float)
    if z.ndim != 2 or z.shape[1] != network.rank or len(z) < 2 or not np.isfinite(z).all():
        raise ValueError(f"path: got shape {z.shape}, wanted finite latents (time, {network.rank}), two bins or more")
    u = None if path_inputs is None else np.asarray(path_inputs, dtype=float)
    wanted = (len(z), network.n_inputs)
    if (u is None and network.n_inputs) or (u is not None and u.shape != wanted):
        raise ValueError(f"path_inputs: got {'None' if u is None else f'shape {u.shape}'}, wanted {wanted}")
    return z, u


def _free_run(network: LowRankDynamics, latents: Array, inputs: Array | None):
    """Return the run of the network from the sample in the middle of all, under the mean input."""
    middle = np.linalg.norm((latents - np.median(latents, axis=0)) / np.maximum(latents.std(axis=0), 1e-300), axis=1)
    z = latents[np.argsort(middle)[len(middle) // 2]]
    held = None if inputs is None else inputs.mean(axis=0)
    n_steps = max(2, round(_PATH / network.alpha))
    path = np.empty((n_steps, network.rank))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(n_steps):
            path[t] = z
            z = network.step(z, held)
    far = np.abs(path - latents.mean(axis=0)).max(axis=0)
    if not (far <= _FARTHEST * np.abs(latents - latents.mean(axis=0)).max(axis=0)).all():
        raise ValueError("path: got None, and the network runs away from its samples; wanted latents (time, latent)")
    return path, None if held is None else np.tile(held, (n_steps, 1))
