"""What the constructor parameters of `LeastSquaresRNN` mean for given data: checks, and the plan of the fit."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Protocol

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.dynamics.likelihoods import Likelihood, choose_link
from nwb_lrrnn.dynamics.nonlinearity import NONLINEARITIES
from nwb_lrrnn.models.base import LatentModel
from nwb_lrrnn.models.least_squares.features import BASES
from nwb_lrrnn.models.least_squares.field import INPUT_MODES
from nwb_lrrnn.models.least_squares.penalty import check_rule
from nwb_lrrnn.models.least_squares.rounds import Plan
from nwb_lrrnn.models.posteriors import POSTERIORS
from nwb_lrrnn.models.training.devices import resolve
from nwb_lrrnn.models.training.ending import level_of_the_caller
from nwb_lrrnn.parameters import choose, fraction, positive, whole_number
from nwb_lrrnn.trials import Trials

logger = logging.getLogger(__name__)

SOURCES = ("smoothed", "factor_analysis", "units")
GIVEN = "given"  # what a file says where latents were passed as an array or a model
_ENOUGH = 3  # pairs of bins for a neuron
_FAST = 3.0  # bins that tau should at least have


class LeastSquaresModel(Protocol):
    """What is read of an estimator whose network is found by regression."""

    rank: int
    n_neurons: int
    nonlinearity: str
    basis: str
    ridge: Any  # as given, like all that is checked below
    rate_noise: float
    input_mode: str
    latents: Any
    tau: float | None
    link: str | None
    max_epochs: int
    validation_fraction: float
    posterior: str
    device: str
    random_state: int | None
    likelihood_: str
    bin_size_is_known_: bool


def plan_of(model: LeastSquaresModel, trials: Trials) -> Plan:
    """Return the plan of a fit, after checking every parameter and that the trials show dynamics."""
    rank = whole_number("rank", model.rank)
    if rank > trials.n_units:
        raise ValueError(f"rank: got {rank}, wanted at most the number of units, {trials.n_units}; lower rank")
    if trials.lengths.max() < 2:
        raise ValueError("X: got trials of one bin, which show no dynamics, wanted at least 2; bin more finely")
    neurons = whole_number("n_neurons", model.n_neurons)
    check_rule(model.ridge)
    check_latents(model.latents)
    choose("posterior", model.posterior, POSTERIORS)
    whole_number("random_state", model.random_state, 0, optional=True)
    resolve(model.device)
    return Plan(
        rank=rank,
        n_neurons=neurons,
        nonlinearity=choose("nonlinearity", model.nonlinearity, NONLINEARITIES),
        basis=choose("basis", model.basis, BASES),
        ridge=model.ridge,
        rate_noise=positive("rate_noise", model.rate_noise, hint=", the standard deviation of the noise of a rate"),
        input_mode=choose("input_mode", model.input_mode, INPUT_MODES),
        tau=_tau(model.tau, trials.bin_size),
        likelihood=Likelihood(model.likelihood_, choose_link(model.likelihood_, model.link), trials.bin_size),
        max_rounds=whole_number("max_epochs", model.max_epochs),
        validation_fraction=fraction("validation_fraction", model.validation_fraction),
        device=model.device,
    )


def check_latents(latents: object) -> None:
    """Refuse what latents cannot come from."""
    if isinstance(latents, str):
        if latents == GIVEN:
            raise ValueError(
                "latents: got 'given': this model was fitted to latents that its file does not hold; pass them again"
            )
        choose("latents", latents, SOURCES)
    elif not isinstance(latents, (LatentModel, list)) and not hasattr(latents, "shape"):
        wanted = ", ".join(map(repr, SOURCES))
        raise ValueError(f"latents: got {latents!r}, wanted {wanted}, a fitted model or an array (trial, time, latent)")


def _tau(given: float | None, bin_size: float) -> float | None:
    tau = positive("tau", given, optional=True)
    if tau is None:
        return None
    if tau < bin_size:
        raise ValueError(
            f"tau: got {tau:.6g} s, shorter than the bins of {bin_size:.6g} s, wanted tau >= bin size; bin more finely "
            "or leave tau to the fit (tau=None)"
        )
    return tau


def tell_of_scarcity(model: LeastSquaresModel, trials: Trials) -> None:
    """Warn where there are fewer pairs of bins than three for a neuron."""
    n_pairs = int(np.maximum(trials.lengths - 1, 0).sum())
    if n_pairs >= _ENOUGH * model.n_neurons:
        return
    warnings.warn(
        f"{type(model).__name__}: {n_pairs} pairs of bins for {model.n_neurons} neurons, less than {_ENOUGH} each: "
        "what the network does between the latents is a matter of the penalty; give more trials, or at most "
        f"n_neurons={max(1, n_pairs // _ENOUGH)}",
        ConvergenceWarning,
        stacklevel=level_of_the_caller(),
    )


def tell_of_tau(model: LeastSquaresModel, tau: float, bin_size: float) -> None:
    """Say in the log how many bins the time constant of the neurons has."""
    n_bins = tau / bin_size
    unit = " s" if model.bin_size_is_known_ else ""
    said = "" if n_bins >= _FAST else ": they forget within a bin or two, bin more finely to resolve them"
    logger.info("%s: neurons of tau = %.4g%s, %.3g bins%s", type(model).__name__, tau, unit, n_bins, said)
