"""`FromFields`: the verbs of `LeastSquaresRNN` for fields that are known, by a formula or by samples of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares import fields_from
from nwb_lrrnn.models.least_squares.features import draw_features
from nwb_lrrnn.models.least_squares.field import FittedField, Scaling, checked_samples
from nwb_lrrnn.models.least_squares.fields_from import TimeCode
from nwb_lrrnn.models.least_squares.online import FieldLearner
from nwb_lrrnn.models.least_squares.penalty import choose_penalty
from nwb_lrrnn.models.least_squares.ridge import shares
from nwb_lrrnn.parameters import positive

_STEPS = 20  # of a time constant, where there is no bin size


class FromFields:
    """What needs no recording: networks that move as they are told, without units to show it.

    `dynamics_` is all that such a fit sets, with `field_`: `simulate`, fixed points and figures take it; `transform`
    and `score`, which ask what units show, do not.
    """

    n_neurons: int
    nonlinearity: str
    basis: str
    ridge: Any
    rate_noise: float
    input_mode: str
    tau: float | None
    bin_size: float | None
    random_state: int | None
    dynamics_: LowRankDynamics
    bin_size_: float
    field_: FittedField
    _learner: FieldLearner | None = None

    def fit_field(
        self, g: Callable[..., np.ndarray], sampler: Any, *, n_samples: int = 2000, time_code: TimeCode | None = None
    ):
        """Return the model whose latents move as dz/dt = g(z), or g(z, v) under inputs v, or g(z, t) in time.

        Parameters
        ----------
        g : callable
            From latents (sample, latent), and inputs (sample, input) or with `time_code` times (sample,), to dz/dt
            per second. Inputs enter the neurons, or push the latents alone, whichever leaves less of g unexplained.
        sampler : callable or array (sample, latent)
            The points where g is asked, or ``sampler(n, rng)`` that draws them, with inputs beside them where g takes
            some.
        n_samples : int
            How many are drawn.
        time_code : TimeCode, optional
            How neurons are told the time.

        Raises
        ------
        ValueError
            If `tau` is None, or g does not return (sample, latent) finite numbers.
        """
        field = fields_from.fit_field(
            g, sampler, n_samples=n_samples, time_code=time_code, **self._field_options(input_mode="auto")
        )
        return self._keep_field(field)

    def fit_samples(self, latents: ArrayLike, velocity: ArrayLike, inputs: ArrayLike | None = None):
        """Return the model whose latents move by `velocity` at `latents`, (sample, latent) both, per second."""
        z, dz, u = checked_samples(latents, velocity, inputs)
        return self._keep_field(fields_from.fit_samples(z, dz, u, **self._field_options()))

    def learn_samples(
        self, latents: ArrayLike, velocity: ArrayLike, inputs: ArrayLike | None = None, *, forgetting: float = 1.0
    ):
        """Return the model after it learnt from samples as they came, by recursive least squares.

        The neurons are drawn at the first samples, for latents as wide as those; inputs enter the neurons. A sample
        counts `forgetting` times what it counted at the sample before; without forgetting the weights are those of the
        ridge regression on all samples, of a penalty that falls with their number from what it was at the first call.
        """
        z, dz, u = checked_samples(latents, velocity, inputs)
        if self._learner is None:
            options = self._field_options(input_mode="neuron")
            units = Scaling.of(z, u, shares(None, len(z)))
            inside = None if u is None else (u - units.input_centre) / units.input_scale
            neurons = draw_features(
                (z - units.centre) / units.scale, self.n_neurons, basis=self.basis, nonlinearity=self.nonlinearity,
                rng=options["rng"], inputs=inside,
            )  # fmt: skip
            neurons = neurons.of_units(units.centre, units.scale, units.input_centre, units.input_scale)
            rule = choose_penalty(self.ridge, neurons(z, u), z + options["tau"] * dz, rate_noise=self.rate_noise)
            self._learner = FieldLearner(neurons, options["tau"], penalty=rule * len(z), forgetting=forgetting)
        self._learner.learn(z, dz, u)
        return self._keep_field(self._learner.field)

    def _field_options(self, input_mode: str | None = None) -> dict[str, Any]:
        if self.tau is None:
            raise ValueError("tau: got None, wanted the time constant of the neurons in seconds: no bins tell it here")
        return {
            "tau": positive("tau", self.tau, hint=" seconds"),
            "n_neurons": self.n_neurons,
            "nonlinearity": self.nonlinearity,
            "basis": self.basis,
            "ridge": self.ridge,
            "rate_noise": self.rate_noise,
            "input_mode": self.input_mode if input_mode is None else input_mode,
            "rng": np.random.default_rng(self.random_state),
        }

    def _keep_field(self, field: FittedField):
        step = field.tau / _STEPS if self.bin_size is None else positive("bin_size", self.bin_size)
        if step > field.tau * (1 + 1e-12):
            raise ValueError(f"tau: got {field.tau:.6g} s with bins of {step:.6g} s, wanted tau >= bin size")
        self.field_ = field
        self.dynamics_ = field.to_dynamics(step)
        self.bin_size_, self.penalty_ = step, field.penalty
        return self
