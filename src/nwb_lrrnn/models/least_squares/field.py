"""Samples of a field, dz/dt at z, turned into a network whose latents move that way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.distance import distance_from_data, reach_of_data
from nwb_lrrnn.models.least_squares.features import Features, draw_features
from nwb_lrrnn.models.least_squares.penalty import check_rule, choose_penalty
from nwb_lrrnn.models.least_squares.ridge import penalties, shares
from nwb_lrrnn.models.least_squares.ridge import ridge as solve_ridge
from nwb_lrrnn.parameters import choose, positive, whole_number

Array = NDArray[np.floating]

INPUT_MODES = ("latent", "neuron")


class Seen(NamedTuple):
    """The samples that a field is of: latents and velocity (T, R), inputs (T, P) or None."""

    latents: Array
    velocity: Array
    inputs: Array | None


@dataclass(frozen=True)
class FittedField:
    """A network as the regression leaves it: tau dz/dt = -z + Wᵀ phi(M z + I v + b) + s + S u, in the user's units."""

    features: Features
    weights: Array  # W (N, R); n of `LowRankDynamics` is N times this
    drive: Array  # s (R,)
    latent_input_weights: Array | None  # S (R, P), of input_mode="latent"
    tau: float
    penalty: float  # in units of latents of standard deviation 1
    n_samples: int
    residual_covariance: Array  # of the velocity over the samples (R, R)
    latent_mean: Array  # (R,)
    latent_covariance: Array  # (R, R)
    warnings: tuple[str, ...] = ()
    seen: Seen | None = field(default=None, repr=False, compare=False)  # None: sums over them are all that was kept

    @property
    def rank(self) -> int:
        """Number of latents R."""
        return self.weights.shape[1]

    @property
    def n_neurons(self) -> int:
        """Number of neurons N."""
        return self.weights.shape[0]

    def velocity(self, latents: Array, inputs: Array | None = None) -> Array:
        """Return dz/dt (..., R) at latents (..., R) and inputs (..., P)."""
        latents = np.asarray(latents, dtype=float)
        inputs = None if inputs is None else np.asarray(inputs, dtype=float)
        target = self.features(latents, inputs) @ self.weights + self.drive
        if self.latent_input_weights is not None and inputs is not None:
            target = target + inputs @ self.latent_input_weights.T
        return (target - latents) / self.tau

    def is_extrapolating(self, latents: Array) -> NDArray[np.bool_]:
        """Return where latents (..., R) lie outside the samples: farther than 99.73 % of a Gaussian cloud."""
        distance = distance_from_data(self.to_dynamics(self.tau), np.asarray(latents, dtype=float))
        return np.zeros(np.shape(latents)[:-1], dtype=bool) if distance is None else distance > reach_of_data(self.rank)

    def to_dynamics(self, dt: float, **other) -> LowRankDynamics:
        """Return the network at time step `dt` (s, at most tau); `other` are further fields of it."""
        has_inputs = self.features.n_inputs > 0
        fields = {
            "left_vectors": self.features.encoders,
            "right_vectors": self.n_neurons * self.weights,
            "dt": dt,
            "tau": self.tau,
            "nonlinearity": self.features.nonlinearity,
            "bias": self.features.biases,
            "thresholds": self.features.thresholds,
            "input_weights": self.features.input_weights if has_inputs else None,
            "drive": self.drive,
            "latent_input_weights": self.latent_input_weights,
            "latent_mean": self.latent_mean,
            "latent_covariance": self.latent_covariance,
        }
        return LowRankDynamics(**(fields | other))


@dataclass(frozen=True)
class Scaling:
    """Centre and standard deviation of latents (R,) and inputs (P,) over the samples."""

    centre: Array
    scale: Array
    input_centre: Array
    input_scale: Array

    @classmethod
    def of(cls, latents: Array, inputs: Array | None, share: Array) -> Scaling:
        """Return that of samples (T, R), (T, P), of shares (T,); what never changes keeps its scale."""
        inputs = np.zeros((len(latents), 0)) if inputs is None else inputs
        return cls(*_moments(latents, share), *_moments(inputs, share))

    def undone(self, features: Features) -> Features:
        """Return neurons drawn in these units as functions of the user's latents and inputs."""
        if features.n_inputs:
            return features.of_units(self.centre, self.scale, self.input_centre, self.input_scale)
        return features.of_units(self.centre, self.scale, np.zeros(0), np.ones(0))


def _moments(values: Array, share: Array) -> tuple[Array, Array]:
    centre = share @ values
    scale = np.sqrt(share @ (values - centre) ** 2)
    return centre, np.where(scale > 1e-12 * (np.abs(centre) + 1e-300), scale, 1.0)


def fit_field_samples(
    latents: Array,
    velocity: Array,
    *,
    tau: float,
    n_neurons: int,
    nonlinearity: str = "tanh",
    basis: str = "nef",
    ridge: str | float = "noise",
    rate_noise: float = 0.01,
    inputs: Array | None = None,
    input_mode: str = "latent",
    weight: Array | None = None,
    groups: NDArray | None = None,
    intercept: bool = True,
    gain: float = 1.0,
    features: Features | None = None,
    average: sparse.csr_array | None = None,
    device: str = "cpu",
    rng: np.random.Generator,
) -> FittedField:
    """Return the network of `n_neurons` whose latents move by `velocity` (T, R) at `latents` (T, R).

    Regression of z + tau dz/dt on the rates of drawn neurons, latents in units of their standard deviation (Arora &
    Pillow 2025). Inputs (T, P) enter the neurons ("neuron") or the latents directly ("latent": their weights S are
    found without a penalty). `weight` (T,) weighs samples; `groups` (T,) are held out together by ridge="cv";
    `features`, in the user's units, are taken in place of drawn ones; with `average` (M, T) the velocity (M, R) is the
    mean of the field with these weights, and `weight` and `groups` are (M,) too. What is to be said
    of the fit is in `warnings`. `device` other than "cpu" solves the regression in torch, to rounding the same.
    """
    latents, velocity, inputs = checked_samples(latents, velocity, inputs, average)
    tau = positive("tau", tau, hint=" seconds")
    choose("input_mode", input_mode, INPUT_MODES)
    check_rule(ridge)
    share = shares(weight, len(velocity))
    seen = share if average is None else share @ average  # how much each latent counts
    units = Scaling.of(latents, inputs, seen)
    v = None if inputs is None else (inputs - units.input_centre) / units.input_scale
    if features is None:
        inside = v if input_mode == "neuron" else None
        n_neurons = whole_number("n_neurons", n_neurons)
        z = (latents - units.centre) / units.scale
        drawn = draw_features(z, n_neurons, basis=basis, nonlinearity=nonlinearity, rng=rng, inputs=inside, gain=gain)
        features = units.undone(drawn)
    rows, n_free = features(latents, inputs if features.n_inputs else None), 0
    if v is not None and input_mode == "latent":
        rows, n_free = np.concatenate([rows, v], axis=1), int(v.shape[1])
    # without an intercept the drive must be 0 in the user's units, so targets keep their centre
    origin = units.centre if intercept else np.zeros_like(units.centre)
    at = latents - origin
    if average is not None:
        rows, at = average @ rows, average @ at
    targets = (at + tau * velocity) / units.scale
    penalty = choose_penalty(
        ridge, rows, targets, rate_noise=rate_noise, weight=weight, groups=groups, intercept=intercept, n_free=n_free
    )
    found, offset = _solved(device, rows, targets, penalty, share, intercept, n_free)
    missed = (targets - rows @ found - offset) * units.scale / tau  # (T, R)
    n = features.n_neurons
    weights, drive = found[:n] * units.scale, offset * units.scale + origin
    through = None
    if n_free:
        through = (found[n:] * units.scale).T / units.input_scale  # (R, P)
        drive = drive - through @ units.input_centre
    centred = latents - units.centre
    return FittedField(
        features, weights, drive, through, tau, penalty, len(velocity), (share[:, None] * missed).T @ missed,
        units.centre, (seen[:, None] * centred).T @ centred, _warnings(len(velocity), n),
        Seen(latents, velocity, inputs) if average is None else None,
    )  # fmt: skip


def _solved(device: str, rows: Array, targets: Array, penalty: float, share: Array, intercept: bool, n_free: int):
    """Return weights and intercept of the regression, computed on `device`."""
    if device == "cpu":
        return solve_ridge(rows, targets, penalty, weight=share, intercept=intercept, n_free=n_free)
    from nwb_lrrnn.models.least_squares.on_device import ridge_on

    return ridge_on(device, rows, targets, penalties(penalty, rows.shape[1], n_free), share, intercept)


def checked_samples(latents, velocity, inputs=None, average=None) -> tuple[Array, Array, Array | None]:
    """Return samples as float64 (T, R), (T, R), (T, P), or say what is wrong with them."""
    z, dz = _table("latents", latents), _table("velocity", velocity)
    if average is not None and average.shape != (len(dz), len(z)):
        raise ValueError(f"average: got shape {average.shape}, wanted ({len(dz)}, {len(z)})")
    if not len(dz) or z.shape[1] != dz.shape[1] or (average is None and len(z) != len(dz)):
        raise ValueError(
            f"velocity: got shape {dz.shape}, wanted that of the latents, {z.shape}, with a sample or more"
        )
    if inputs is None:
        return z, dz, None
    u = _table("inputs", inputs)
    if len(u) != len(z):
        raise ValueError(f"inputs: got {len(u)} samples, wanted {len(z)}, one for every latent")
    return z, dz, u


def _table(name: str, values) -> Array:
    table = np.asarray(values, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2:
        raise ValueError(f"{name}: got an array of shape {table.shape}, wanted (sample, {name})")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(
            f"{name}: got {table[row, column]} at sample {row}, column {column}, wanted finite numbers; leave such "
            "samples out"
        )
    return table


def _warnings(n_samples: int, n_neurons: int) -> tuple[str, ...]:
    if n_samples >= 3 * n_neurons:
        return ()
    return (
        f"{n_samples} samples for {n_neurons} neurons: fewer than 3 for each, the field between the samples is a "
        f"matter of the penalty; give more samples, or at most {max(1, n_samples // 3)} neurons",
    )
