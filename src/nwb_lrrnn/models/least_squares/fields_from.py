"""Networks from what is known: a field that can be called, samples of one, or trajectories."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.least_squares.derivatives import trajectory_samples
from nwb_lrrnn.models.least_squares.field import FittedField, fit_field_samples
from nwb_lrrnn.parameters import positive, whole_number

Array = NDArray[np.floating]
Sampler = Callable[[int, np.random.Generator], Any] | Array


@dataclass(frozen=True)
class TimeCode:
    """Time as inputs of neurons: a ramp from -1 to 1 over `duration` s, or (n_bumps > 0) Gaussian bumps along it."""

    duration: float
    n_bumps: int = 0

    def __call__(self, times: Array) -> Array:
        """Return the inputs (..., P) at times (...,) in seconds."""
        phase = np.asarray(times, dtype=float)[..., None] / positive("duration", self.duration, hint=" seconds")
        if not self.n_bumps:
            return 2.0 * phase - 1.0
        centres = np.linspace(0.0, 1.0, self.n_bumps)
        return np.exp(-0.5 * ((phase - centres) * max(1, self.n_bumps - 1)) ** 2)


def box(low: Sequence[float], high: Sequence[float]) -> Callable[[int, np.random.Generator], Array]:
    """Return the sampler of points drawn uniformly between `low` and `high`, (R,) both."""
    bottom, top = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    if bottom.ndim != 1 or bottom.shape != top.shape or not (bottom < top).all():
        raise ValueError(
            f"low, high: got {low!r} and {high!r}, wanted the corners of a box, (latent,) both, low < high"
        )
    return lambda n, rng: rng.uniform(bottom, top, (n, len(bottom)))


def fit_field(
    g: Callable[..., Array],
    sampler: Sampler,
    *,
    tau: float,
    n_neurons: int,
    n_samples: int = 2000,
    time_code: TimeCode | None = None,
    input_mode: str = "auto",
    rng: np.random.Generator,
    **options: Any,
) -> FittedField:
    """Return the network whose latents move as dz/dt = g(z), or g(z, v) under inputs v, or g(z, t) in time.

    Parameters
    ----------
    g : callable
        From latents (T, R), and inputs (T, P) or with `time_code` times (T,), to dz/dt (T, R), per second.
    sampler : callable or array (T, R)
        Where the field is looked at: the points themselves, or ``sampler(n, rng)`` that returns them (n, R), with
        inputs (n, P) beside them where g takes some; `box` makes one.
    tau, n_neurons, options
        As in `fit_field_samples`.
    n_samples : int
        How many points are drawn.
    time_code : TimeCode, optional
        How neurons are told the time: their inputs are ``time_code(t)``, in training and later.
    input_mode : {"auto", "latent", "neuron"}
        "auto": where inputs leave less of the field unexplained. Where they only push the latents, neurons that take
        them in spend themselves on a sum; where they gate, nothing else will do. Time enters the neurons.

    Raises
    ------
    ValueError
        If g does not return (T, R) finite numbers.

    Warns
    -----
    UserWarning
        If there are fewer than 3 samples for each neuron.
    """
    drawn = sampler(whole_number("n_samples", n_samples), rng) if callable(sampler) else sampler
    latents, inputs = drawn if isinstance(drawn, tuple) else (drawn, None)
    latents = np.asarray(latents, dtype=float)
    if latents.ndim != 2:
        raise ValueError(f"sampler: got points of shape {latents.shape}, wanted (sample, latent)")
    given: tuple = () if inputs is None else (inputs,)
    if time_code is not None:
        if inputs is not None:
            raise ValueError("time_code: got one beside inputs of the sampler, wanted one of the two")
        times = rng.uniform(0.0, time_code.duration, len(latents))
        given, inputs = (times,), time_code(times)
    velocity = np.asarray(g(latents, *given), dtype=float)
    if velocity.shape != latents.shape:
        raise ValueError(
            f"g: got dz/dt of shape {velocity.shape} for latents of shape {latents.shape}, wanted the same; g takes "
            "all samples at once"
        )
    modes = (input_mode,) if input_mode != "auto" else ("neuron",) if time_code is not None else ("latent", "neuron")
    fields = [
        fit_field_samples(
            latents, velocity, tau=tau, n_neurons=n_neurons, inputs=inputs, input_mode=mode, rng=rng, **options
        )
        for mode in (modes if inputs is not None else modes[:1])
    ]
    field = min(fields, key=lambda one: float(np.trace(one.residual_covariance)))
    _say(field.warnings)
    return field


def fit_samples(
    latents: Array, velocity: Array, inputs: Array | None = None, *, tau: float, n_neurons: int, **options: Any
) -> FittedField:
    """Return the network of samples: `fit_field_samples`, which see, its warnings given."""
    field = fit_field_samples(latents, velocity, inputs=inputs, tau=tau, n_neurons=n_neurons, **options)
    _say(field.warnings)
    return field


def fit_trajectories(
    trials: Sequence[Array],
    step: float,
    inputs: Sequence[Array] | None = None,
    *,
    tau: float,
    n_neurons: int,
    derivative: str = "savgol",
    window: int | None = None,
    **options: Any,
) -> FittedField:
    """Return the network that moves latents as they moved along trials (T_i, R), `step` seconds apart.

    Derivatives are those of `trajectory_samples`, within each trial; ridge="cv" holds out trials; `options` are those
    of `fit_field_samples`.
    """
    taken = trajectory_samples(trials, step, tau=tau, derivative=derivative, window=window, inputs=inputs)
    groups = taken.groups if len(np.unique(taken.groups)) > 1 else None
    field = fit_field_samples(
        taken.latents, taken.velocity, tau=tau, n_neurons=n_neurons, inputs=taken.inputs, groups=groups,
        average=taken.average, **options,
    )  # fmt: skip
    _say((*taken.warnings, *field.warnings))
    return field


def _say(texts: Sequence[str]) -> None:
    for text in texts:
        warnings.warn(text, UserWarning, stacklevel=3)
