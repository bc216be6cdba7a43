"""Checks of constructor parameters, made in `fit`: each says what came, what is wanted and how to mend it."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from nwb_lrrnn.dynamics.fields import choose
from nwb_lrrnn.dynamics.nonlinearity import NONLINEARITIES
from nwb_lrrnn.trials import Trials

__all__ = ["choose", "flag", "fraction", "network", "positive", "whole_number"]


def whole_number(argument: str, got: object, minimum: int = 1, *, optional: bool = False) -> int | None:
    """Return `got` as an int of at least `minimum` (or None where optional)."""
    if optional and got is None:
        return None
    if isinstance(got, numbers.Integral) and not isinstance(got, (bool, np.bool_)) and int(got) >= minimum:
        return int(got)
    also = " or None" if optional else ""
    raise ValueError(f"{argument}: got {got!r}, wanted a whole number >= {minimum}{also}, e.g. {argument}={minimum}")


def positive(argument: str, got: object, *, optional: bool = False, zero: bool = False) -> float | None:
    """Return `got` as a finite float > 0 (>= 0 with `zero`; None where optional)."""
    if optional and got is None:
        return None
    if isinstance(got, numbers.Real) and not isinstance(got, (bool, np.bool_)):
        value = float(got)
        if np.isfinite(value) and (value > 0 or (zero and value == 0)):
            return value
    also = " or None" if optional else ""
    raise ValueError(f"{argument}: got {got!r}, wanted a finite number {'>=' if zero else '>'} 0{also}")


def fraction(argument: str, got: object) -> float:
    """Return `got` as a float in [0, 1)."""
    if isinstance(got, numbers.Real) and not isinstance(got, (bool, np.bool_)) and 0 <= float(got) < 1:
        return float(got)
    raise ValueError(f"{argument}: got {got!r}, wanted a fraction in [0, 1), e.g. {argument}=0.2")


def flag(argument: str, got: object) -> bool:
    """Return `got`, which must be True or False."""
    if isinstance(got, (bool, np.bool_)):
        return bool(got)
    raise ValueError(f"{argument}: got {got!r}, wanted True or False")


def network(model: Any, trials: Trials) -> None:
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
    if model.link is not None:
        choose("link", model.link, ("identity",) if model.likelihood_ == "gaussian" else ("softplus", "exp"))
    tau = positive("tau", model.tau, optional=True)
    if tau is not None and tau < trials.bin_size:
        raise ValueError(
            f"tau: got {tau:.6g} s, shorter than the bins of {trials.bin_size:.6g} s, wanted tau >= bin size; "
            "bin more finely or fit tau (tau=None)"
        )
