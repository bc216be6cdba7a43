"""The simple models beside a model: which there are, how they are fitted, and by whom they are scored."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.models import stability
from nwb_lrrnn.models.linear import (
    FactorAnalysis,
    LinearStateSpace,
    MeanRate,
    UnitAutoregression,
    VectorAutoregression,
)
from nwb_lrrnn.models.scored_units import UnscoredUnitsWarning

if TYPE_CHECKING:
    from nwb_lrrnn.dynamics import LowRankDynamics
    from nwb_lrrnn.models.base import LatentModel

logger = logging.getLogger(__name__)

REFERENCE = "mean rate"
PER_UNIT = "autoregression per unit"  # the name goes on with the lags that the training data chose
_LARGEST = 64  # latents: EM takes time with the cube of the rank


def baselines_of(
    model: LatentModel, larger_ranks: Sequence[int] | None = None, random_state: int | None = 0
) -> dict[str, LatentModel]:
    """Return the unfitted baselines of a fitted model by name, with its likelihood, link, rank and bin size.

    Parameters
    ----------
    model : estimator
        Fitted.
    larger_ranks : tuple of int, optional
        Ranks of further linear state spaces; None: no further ones (`compare_baselines` searches them by their scores).
    random_state : int or None
        Seed of particle noise.
    """
    rank = same_rank(model)
    shared: dict[str, Any] = {"likelihood": model.likelihood_, "bin_size": float(model.bin_size_)}
    linked: dict[str, Any] = shared | {"link": link_of(model)}
    models: dict[str, LatentModel] = {REFERENCE: MeanRate(**shared), PER_UNIT: UnitAutoregression(**linked)}
    models[f"factor analysis (rank {rank})"] = FactorAnalysis(rank, **linked, random_state=random_state)
    models["VAR(1)"] = VectorAutoregression(1, **linked)
    ranks = tuple(larger_ranks or ())
    for r in ranks if type(model) is LinearStateSpace else (rank, *ranks):
        models[state_space_name(r)] = state_space_of(model, r, random_state)
    return models


def state_space_of(model: LatentModel, rank: int, random_state: int | None = 0) -> LinearStateSpace:
    """Return an unfitted linear state space with the likelihood, link and bin size of a fitted model."""
    linked: dict[str, Any] = {"likelihood": model.likelihood_, "link": link_of(model)}
    return LinearStateSpace(rank, **linked, bin_size=float(model.bin_size_), random_state=random_state)


def state_space_name(rank: int) -> str:
    """Return the name of a linear state space in the table."""
    return f"linear state space (rank {rank})"


def fitted_name(name: str, fitted: Sequence[LatentModel]) -> str:
    """Return the name of a row once its models are fitted: the lags that the training data chose belong to it."""
    if name != PER_UNIT:
        return name
    lags = max(int(getattr(model, "n_lags_", 0)) for model in fitted)  # of all folds
    return f"{name} ({lags} lag{'s' if lags != 1 else ''})"


def rank_of(model: LatentModel) -> int:
    """Return the rank of a fitted model of latents."""
    network = _network(model)
    if network is None:
        raise TypeError(f"model: got a {type(model).__name__} without dynamics_, wanted a fitted model of latents")
    return int(network.rank)


def _network(model: LatentModel) -> LowRankDynamics | None:
    """Return the network that says what units show; None of a model without latents."""
    return getattr(model, "readout_network_", None)


def same_rank(model: LatentModel) -> int:
    """Return the rank of a fitted model, or the number of units where that is less: linear models have no more."""
    return min(rank_of(model), n_scored(model))


def n_scored(model: LatentModel) -> int:
    """Return how many units a fitted model scores."""
    return int(model.scored_units_.sum())


def next_rank(rank: int, model: LatentModel) -> int | None:
    """Return the next rank to try: twice as large, at most the number of units; None where there is none."""
    r = min(2 * rank, n_scored(model), max(_LARGEST, 2 * same_rank(model)))
    return r if r > rank else None


def is_linear(model: LatentModel) -> bool:
    """Return whether a fitted model has linear dynamics, or none; a model that is more than its dynamics says it."""
    said = getattr(model, "is_linear_", None)
    if said is not None:
        return bool(said)
    return not hasattr(model, "dynamics_") or model.dynamics_.nonlinearity == "identity"


def has_latents(model: LatentModel) -> bool:
    """Return whether a fitted model has latents, whatever their dynamics."""
    return _network(model) is not None


def label(model: LatentModel) -> str:
    """Return the name of the compared model in the table."""
    return f"{type(model).__name__} (rank {rank_of(model)})"


def link_of(model: LatentModel) -> str:
    """Return the link of a fitted model."""
    network = _network(model)
    return str(getattr(model, "link_", "identity") if network is None else network.link)


# --- who scores whom -------------------------------------------------------------------------------------------------


def scorer_of(linear: LatentModel, model: LatentModel) -> LatentModel:
    """Return the estimator that scores a fitted linear state space beside the fitted model.

    A model that scores by a bound is set back by the slack of that bound, which an exact likelihood does not have: the
    same estimator, with the linear parameters in place of its own, scores both.
    """
    place = getattr(model, "with_dynamics", None)
    return linear if place is None else place(linear.dynamics_)


def scorer_name(scorer: LatentModel) -> str:
    """Return which estimator a score is from, and with how many particles where it is a bound."""
    name = type(scorer).__name__
    exact = isinstance(scorer, LinearStateSpace) and scorer.likelihood_ == "gaussian"
    particles = getattr(scorer, "n_particles_", None) or getattr(scorer, "n_particles", None)
    return (
        name
        if particles is None or (exact and not hasattr(scorer, "with_dynamics"))
        else f"{name} bound, K = {particles}"
    )


# --- what may be compared ---------------------------------------------------------------------------------------------


def _nothing(record: logging.LogRecord) -> bool:
    """Let no record through: that of a baseline whose latents grow, which nobody is going to simulate."""
    return False


@contextmanager
def convergence_in_the_log(name: str) -> Iterator[None]:
    """Send to the log that the EM of a baseline ran out of iterations: the user fits another model."""
    growth = stability.logger
    growth.addFilter(_nothing)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        growth.removeFilter(_nothing)
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning | UnscoredUnitsWarning):  # the compared model said it
            logger.info("%s: %s", name, warning.message)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def check_comparable(name: str, other: LatentModel, model: LatentModel) -> None:
    """Raise a ValueError where the scores of two fitted models do not compare."""
    if other.likelihood_ != model.likelihood_:
        raise ValueError(
            f"others: {name!r} is {other.likelihood_} and the model {model.likelihood_}; their scores do not compare; "
            f"give both likelihood={model.likelihood_!r}"
        )
    if abs(other.bin_size_ - model.bin_size_) > 1e-9 * model.bin_size_:
        raise ValueError(
            f"others: {name!r} has bins of {other.bin_size_:g} s and the model {model.bin_size_:g} s; their scores do "
            "not compare; bin once"
        )
