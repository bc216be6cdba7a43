"""`RandomModeNetwork`: one network of the random-mode model, as its modes or as a matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.analysis.theory.mean_field import mean_field
from nwb_lrrnn.analysis.theory.running import run
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid, rate
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.parameters import Nonlinearity, positive
from nwb_lrrnn.progress import Progress

Array = NDArray[np.floating]

_CHEAPER = 0.4  # of N: with fewer modes two thin products cost less than the square one


class Modes(NamedTuple):
    """J = left diag(strengths) rightᵀ, of vectors (N, M)."""

    left: Array
    strengths: Array
    right: Array


@dataclass(frozen=True, eq=False)
class RandomModeNetwork:
    """(1 + d/dt) x = J G phi(x), gains G (neuron,), J by its modes or as an array (target, source)."""

    form: Modes | Array
    gains: Array
    nonlinearity: Sigmoid

    @property
    def n_neurons(self) -> int:
        """Number of neurons N."""
        return len(self.gains)

    def connectivity(self) -> Array:
        """Return J (target, source), gains left out."""
        if isinstance(self.form, Modes):
            return (self.form.left * self.form.strengths) @ self.form.right.T
        return self.form

    def recurrent(self, dtype: str, through_modes: bool | None = None) -> Callable[[Array], Array]:
        """Return the function that takes phi (N, trial) to J G phi; through the modes where that is cheaper (None)."""
        modes = self.form if isinstance(self.form, Modes) else None
        if through_modes is None:
            through_modes = modes is not None and len(modes.strengths) < _CHEAPER * self.n_neurons
        if through_modes and modes is not None:
            out = np.ascontiguousarray(modes.left * modes.strengths, dtype=dtype)
            into = np.ascontiguousarray((modes.right * self.gains[:, None]).T, dtype=dtype)
            return lambda rates: out @ (into @ rates)
        dense = np.ascontiguousarray(self.connectivity() * self.gains, dtype=dtype)
        return lambda rates: dense @ rates

    def to_dynamics(self, dt: float = 0.1) -> LowRankDynamics:
        """Return the network as dynamics of its modes; its currents are those of the network once they lie in L.

        Raises
        ------
        ValueError
            If it has no modes, or about as many as neurons.
        """
        n, form = self.n_neurons, self.form
        if not isinstance(form, Modes) or 2 * len(form.strengths) > n or callable(self.nonlinearity):
            n_modes = len(form.strengths) if isinstance(form, Modes) else "no"
            raise ValueError(
                f"to_dynamics: got {n_modes} modes in {n} neurons and nonlinearity {self.nonlinearity!r}, wanted at "
                "most N / 2 modes and a nonlinearity by name; choose spectrum='flat' and a smaller effective_rank"
            )
        return LowRankDynamics(
            np.sqrt(n) * form.left * form.strengths,
            np.sqrt(n) * form.right * self.gains[:, None],
            dt=positive("dt", dt),
            tau=1.0,
            nonlinearity=cast("Nonlinearity", self.nonlinearity),
        )


def simulated(
    network: RandomModeNetwork,
    *,
    g: float,
    n_trials: int,
    duration: float,
    burn_in: float | None,
    sample_interval: float,
    step: float,
    variable: str,
    dtype: str,
    rng: np.random.Generator,
    label: str,
) -> xr.DataArray:
    """Return the activity of a network (trial, time, neuron) from random starts."""
    single = mean_field(g, network.nonlinearity)
    if burn_in is None:
        burn_in = max(100.0, 10.0 * single.half_time) if single.is_chaotic else 100.0
    n_between = max(1, int(np.ceil(sample_interval / step - 1e-9)))
    step = sample_interval / n_between
    n_burn_in = int(np.ceil(positive("burn_in", burn_in, zero=True) / step))
    n_samples = max(1, round(duration / sample_interval))
    spread = np.sqrt(single.variance) if single.is_chaotic else 1.0
    start = (spread * rng.standard_normal((network.n_neurons, n_trials))).astype(dtype)
    values = np.empty((n_trials, n_samples, network.n_neurons), dtype=dtype)
    gains = network.gains.astype(dtype)

    def record(k: int, x: Array) -> None:
        values[:, k] = x.T if variable == "currents" else rate(network.nonlinearity, x).T * gains

    with Progress(n_burn_in + (n_samples - 1) * n_between, label, "step") as progress:
        run(
            network.recurrent(dtype),
            start,
            nonlinearity=network.nonlinearity,
            step=step,
            n_burn_in=n_burn_in,
            n_samples=n_samples,
            n_between=n_between,
            record=record,
            progress=progress,
        )
    return xr.DataArray(
        values,
        dims=("trial", "time", "neuron"),
        coords={"time": sample_interval * np.arange(n_samples)},
        name=variable,
        attrs={"bin_size": sample_interval, "time_unit": "time constants"},
    )
