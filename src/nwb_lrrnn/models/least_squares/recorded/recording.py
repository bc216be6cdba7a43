"""Trials of recorded units as currents of a network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import NONLINEARITIES
from nwb_lrrnn.parameters import choose

Array = NDArray[np.floating]

_CLOSE = 1e-6  # rates nearer than this to where phi ends have no current


class Recording(NamedTuple):
    """Trials of currents with their inputs, and the condition of each."""

    currents: list[Array]  # (time, unit)
    inputs: list[Array] | None  # (time, input)
    conditions: NDArray  # (trial,)

    def take(self, rows: NDArray) -> Recording:
        """Return some of the trials."""
        inputs = None if self.inputs is None else [self.inputs[k] for k in rows]
        return Recording([self.currents[k] for k in rows], inputs, self.conditions[rows])


def read_recording(X, inputs, conditions, observed: str, nonlinearity: str) -> Recording:
    """Return trials as currents, or say what is wrong with them."""
    choose("nonlinearity", nonlinearity, tuple(name for name in NONLINEARITIES if name != "clipped_relu"))
    trials = [np.asarray(trial, dtype=float) for trial in X]
    if not trials:
        raise ValueError("X: got no trials, wanted a list of arrays (time, unit)")
    for k, trial in enumerate(trials):
        if trial.ndim != 2 or len(trial) < 2 or trial.shape[1] != trials[0].shape[-1]:
            wanted = f"(time, {trials[0].shape[-1]}) with two bins or more"
            raise ValueError(f"X: got shape {trial.shape} in trial {k}, wanted {wanted}")
        if not np.isfinite(trial).all():
            raise ValueError(f"X: got values that are not finite in trial {k}, wanted finite numbers; leave it out")
    drives = None if inputs is None else [np.asarray(u, dtype=float) for u in inputs]
    if drives is not None:
        if [len(u) for u in drives] != [len(trial) for trial in trials]:
            raise ValueError("inputs: got other numbers of trials or bins than X has, wanted (time, input) for each")
        if not all(u.ndim == 2 and u.shape[1] == drives[0].shape[1] and np.isfinite(u).all() for u in drives):
            raise ValueError("inputs: got arrays of several shapes or not finite, wanted finite (time, input)")
    names = np.arange(len(trials)) if conditions is None else np.asarray(conditions)
    if names.shape != (len(trials),):
        raise ValueError(f"conditions: got shape {names.shape}, wanted ({len(trials)},), one for every trial")
    return Recording([_currents(trial, observed, nonlinearity) for trial in trials], drives, names)


def _currents(trial: Array, observed: str, nonlinearity: str) -> Array:
    """Return x of what was observed."""
    if observed == "currents":
        return trial
    if nonlinearity not in ("tanh", "erf", "softplus", "identity"):
        raise ValueError(
            f"observed: got 'rates' with nonlinearity={nonlinearity!r}, which cannot be inverted where it is flat; "
            "wanted 'currents', or tanh, erf or softplus"
        )
    if nonlinearity == "identity":
        return trial
    if nonlinearity == "softplus":
        outside = trial <= 0
    else:
        outside = np.abs(trial) >= 1.0 - _CLOSE
    if outside.any():
        t, unit = np.argwhere(outside)[0]
        raise ValueError(
            f"X: got the rate {trial[t, unit]:.6g} at bin {t}, unit {unit}, which no current has under {nonlinearity}; "
            "scale the rates, or pass observed='currents'"
        )
    if nonlinearity == "tanh":
        return np.arctanh(trial)
    if nonlinearity == "erf":
        from scipy.special import erfinv

        return 2.0 / np.sqrt(np.pi) * erfinv(trial)
    return trial + np.log(-np.expm1(-trial))
