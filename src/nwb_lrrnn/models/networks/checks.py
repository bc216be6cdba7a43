"""The check of what every network that is trained by gradients is constructed with."""

from __future__ import annotations

from typing import Protocol

from nwb_lrrnn.dynamics.likelihoods import choose_link
from nwb_lrrnn.dynamics.nonlinearity import NONLINEARITIES
from nwb_lrrnn.parameters import choose, flag, fraction, positive, whole_number
from nwb_lrrnn.trials import Trials


class TrainedModel(Protocol):
    """What is read of every estimator whose network is trained by gradients."""

    rank: int
    nonlinearity: str
    link: str | None
    tau: float | None
    filter_inputs: bool
    max_epochs: int
    patience: int
    batch_size: int | None
    learning_rate: float
    validation_fraction: float
    n_init: int
    warm_start: bool
    dtype: str
    random_state: int | None
    likelihood_: str
    n_inputs_: int


def check_network(model: TrainedModel, trials: Trials) -> None:
    """Check what every network trained by gradients is constructed with, and that the trials show dynamics."""
    whole_number("rank", model.rank)
    n_units = trials.values.shape[2]
    if model.rank > n_units:
        raise ValueError(f"rank: got {model.rank}, wanted at most the number of units, {n_units}; lower rank")
    if trials.lengths.max() < 2:
        raise ValueError("X: got trials of one bin, which show no dynamics, wanted at least 2; bin more finely")
    for name in ("max_epochs", "patience", "n_init"):
        whole_number(name, getattr(model, name))
    whole_number("batch_size", model.batch_size, optional=True)
    whole_number("random_state", model.random_state, 0, optional=True)
    choose("nonlinearity", model.nonlinearity, NONLINEARITIES)
    choose("dtype", model.dtype, ("float64", "float32"))
    positive("learning_rate", model.learning_rate)
    fraction("validation_fraction", model.validation_fraction)
    flag("filter_inputs", model.filter_inputs)
    flag("warm_start", model.warm_start)
    choose_link(model.likelihood_, model.link)
    tau = positive("tau", model.tau, optional=True)
    if tau is not None and tau < trials.bin_size:
        raise ValueError(
            f"tau: got {tau:.6g} s, shorter than the bins of {trials.bin_size:.6g} s, wanted tau >= bin size; "
            "bin more finely or fit tau (tau=None)"
        )
