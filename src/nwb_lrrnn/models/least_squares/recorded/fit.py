"""`fit_recorded`: trials of all neurons of a network -> `RecordedNetwork`, by regression and then by gradient."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics import nonlinearity as nonlinearities
from nwb_lrrnn.models.least_squares.recorded.network import RecordedNetwork, free_run, noise_ceiling, r2
from nwb_lrrnn.models.least_squares.recorded.rank import choose_rank, folds_of
from nwb_lrrnn.models.least_squares.recorded.recording import Recording, read_recording
from nwb_lrrnn.models.least_squares.recorded.regression import ReducedRank, sums
from nwb_lrrnn.parameters import choose, positive, whole_number

logger = logging.getLogger(__name__)

Array = NDArray[np.floating]

METHODS = ("rrr", "rrr+gradient")
_EXACT = 1e-4  # of the variance of the units: a free run that misses no more has nothing for the gradient to mend
_HELD_OUT = 0.2  # of the conditions, while the gradient is followed


def fit_recorded(
    X: Sequence[ArrayLike],
    dt: float,
    rank: int | str = "cv",
    *,
    tau: float,
    inputs: Sequence[ArrayLike] | None = None,
    conditions: ArrayLike | None = None,
    method: str = "rrr+gradient",
    observed: str = "currents",
    nonlinearity: str = "tanh",
    ridge: float = 1e-4,
    intercept: bool = True,
    max_rank: int = 6,
    max_epochs: int = 300,
    learning_rate: float = 3e-3,
    random_state: int | np.random.Generator | None = None,
    device: str = "cpu",
) -> RecordedNetwork:
    """Return the network of low rank whose neurons are the recorded units.

    The regression minimises the error of a step (LINT of Valente, Pillow & Ostojic 2022 in closed form); it is exact
    where the units are all of a network of that rank. Where they are not, its free runs may be poor, and the gradient
    of the free runs' error goes on from there; what it finds is taken only where it does better.

    Parameters
    ----------
    X : list of arrays (time, unit)
        Trials; inputs, where there are any, a list of arrays (time, input) in parallel.
    dt, tau : float
        Bin size and time constant of the units, seconds, dt <= tau.
    rank : int or "cv"
        "cv": the smallest whose free runs on held-out conditions miss no more than the best do, within a standard
        error or 2 %.
    conditions : array (trial,), optional
        Which trials repeat each other: they are held out together, and tell the noise ceiling. Without it every trial
        is a condition of its own.
    method : {"rrr+gradient", "rrr"}
        With or without the gradient after the regression.
    observed : {"currents", "rates"}
        Whether X is x or phi(x); rates must be within the range of a phi that can be inverted (tanh, erf, softplus).
    ridge : float
        Variance of noise of each rate's own, > 0.
    intercept : bool
        Whether every neuron has a constant input b.
    max_epochs, learning_rate, device
        Of the gradient.

    Raises
    ------
    ValueError
        If a trial has fewer than two bins or values that are not finite, numbers of units or bins disagree, rates have
        no current, or a parameter does not fit; the message says which.
    """
    trials = read_recording(X, inputs, conditions, choose("observed", observed, ("currents", "rates")), nonlinearity)
    choose("method", method, METHODS)
    alpha = _alpha(dt, tau)
    n_units = trials.currents[0].shape[1]
    ridge = positive("ridge", ridge, hint=": without a penalty the weights follow any noise of the rates")
    path = None
    if rank == "cv":
        most = min(whole_number("max_rank", max_rank), n_units)
        path = choose_rank(trials, alpha, nonlinearity, ridge, most, intercept)
        rank = int(path.attrs["selected"])
    rank = whole_number("rank", rank, most=n_units, hint=f", there being {n_units} units")
    fitted = ReducedRank(sums(trials.currents, trials.inputs, alpha, nonlinearity), ridge, rank, intercept=intercept)
    weights, bias = fitted.rest(rank)
    network = _network(fitted.left, fitted.right, weights, bias if intercept else None, dt, tau, nonlinearity, observed)
    held_out, history = np.nan, None
    if method == "rrr+gradient" and _missed(network, trials, observed) > _EXACT:
        from nwb_lrrnn.models.least_squares.recorded.gradient import follow_gradient  # torch only where it is asked for

        rng = np.random.default_rng(random_state)
        train, held = _held_out(trials, rng)
        network, held_out, history = follow_gradient(
            network, train, held, observed, max_epochs=max_epochs, learning_rate=learning_rate, rng=rng, device=device
        )
    return _complete(network, trials, observed, ridge, method, path, held_out, history)


def _complete(network, trials: Recording, observed: str, ridge, method, path, held_out, history) -> RecordedNetwork:
    """Return the network with the laws of its noise and of its start, and how well it runs."""
    x = trials.currents
    residual = np.zeros(network.n_neurons)
    for k, current in enumerate(x):
        rates = nonlinearities.phi(network.nonlinearity, current[:-1], network.thresholds)
        aim = rates @ network.right_vectors / network.n_neurons @ network.left_vectors.T
        aim += 0.0 if network.bias is None else network.bias
        if trials.inputs is not None:
            aim += trials.inputs[k][: len(aim)] @ network.input_weights.T
        residual += ((current[1:] - (1 - network.alpha) * current[:-1] - network.alpha * aim) ** 2).sum(0)
    residual /= sum(len(current) - 1 for current in x)
    centred = np.concatenate(x) - (0.0 if network.bias is None else network.bias)
    onto = np.linalg.pinv(network.left_vectors).T  # (unit, latent)
    starts = np.stack([current[0] for current in x]) - (0.0 if network.bias is None else network.bias)
    z, z_1 = centred @ onto, starts @ onto
    network = network.replace(
        latent_mean=z.mean(0), latent_covariance=_covariance(z),
        initial_mean=z_1.mean(0), initial_covariance=_covariance(z_1),
    )  # fmt: skip
    shown = [_shown(network, current, observed) for current in x]
    runs = free_run(network, [current[0] for current in x], [len(current) for current in x], trials.inputs)
    fit = r2(shown, [_shown(network, run, observed) for run in runs])
    ceiling = noise_ceiling(shown, trials.conditions)
    logger.info(
        "recorded network: rank %d, free-run R2 %.4f (ceiling %.4f); m, input weights and bias are identified, "
        "n only within their span", network.rank, fit, ceiling,
    )  # fmt: skip
    return RecordedNetwork(network, residual, ridge, method, path, fit, held_out, ceiling, history)


def _covariance(z: Array) -> Array:
    centred = z - z.mean(0)
    return centred.T @ centred / max(len(z) - 1, 1) + 1e-12 * np.eye(z.shape[1])


def _network(left, right, weights, bias, dt, tau, nonlinearity, observed) -> LowRankDynamics:
    n = len(left)
    return LowRankDynamics(
        left, right, dt=dt, tau=tau, nonlinearity=nonlinearity, bias=bias, readout=observed, loadings=np.ones(n),
        offset=np.zeros(n), input_weights=weights if weights.shape[1] else None, filter_inputs=weights.shape[1] > 0,
    )  # fmt: skip


def _shown(network: LowRankDynamics, currents: Array, observed: str) -> Array:
    return currents if observed == "currents" else nonlinearities.phi(network.nonlinearity, currents)


def _missed(network: LowRankDynamics, trials: Recording, observed: str) -> float:
    """Return 1 - R2 of free runs."""
    x = trials.currents
    runs = free_run(network, [current[0] for current in x], [len(current) for current in x], trials.inputs)
    return 1.0 - r2([_shown(network, c, observed) for c in x], [_shown(network, c, observed) for c in runs])


def _held_out(trials: Recording, rng: np.random.Generator) -> tuple[Recording, Recording]:
    """Return the trials that are trained on and those of held-out conditions (the same trials, where all are one)."""
    folds = folds_of(trials.conditions, round(1 / _HELD_OUT), rng)
    rows = np.arange(len(trials.currents))
    if len(np.unique(folds)) < 2:
        return trials, trials
    return trials.take(rows[folds != 0]), trials.take(rows[folds == 0])


def _alpha(dt: float, tau: float) -> float:
    dt, tau = positive("dt", dt, hint=" seconds"), positive("tau", tau, hint=" seconds")
    if dt > tau * (1 + 1e-12):
        raise ValueError(f"tau: got {tau:.6g} s with bins of {dt:.6g} s, wanted tau >= dt: bin the recording finer")
    return min(1.0, dt / tau)
