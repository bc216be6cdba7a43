"""Networks of equal singular values and free directions, run as the fit runs: same inputs, noise, biases and length."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.theory.network import RandomModeNetwork, simulated
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid
from nwb_lrrnn.analysis.theory.trial_products import simulated_dimension
from nwb_lrrnn.dynamics import LowRankDynamics

Array = NDArray[np.floating]

_QUIET = 1e-8  # standard deviation of the rates: below, nothing moves


@dataclass(frozen=True)
class Activity:
    """Dimensions of simulated rates over model neurons, and how unequal the neurons' variances are."""

    dimension: float
    z_scored_dimension: float
    half_time: float  # of single neurons, same unit as the samples
    unequal: float  # <variance²> / <variance>²
    unit_dimension: float = np.nan  # of the expected activity of recorded units

    @classmethod
    def of(cls, rates: Array, spacing: float) -> Activity:
        """Return that of rates (trial, time, neuron), samples `spacing` apart."""
        centred = rates - rates.mean(axis=(0, 1))
        variance = np.mean(centred**2, axis=(0, 1))
        if not np.sqrt(variance.max()) > _QUIET:
            return cls(np.nan, np.nan, np.nan, np.nan)
        scaled = centred / np.sqrt(np.maximum(variance, 1e-6 * variance.max()))
        return cls(
            _dimension(centred),
            _dimension(scaled),
            _half_time(centred) * spacing,
            float(np.mean(variance**2) / variance.mean() ** 2),
        )


def matrix_activity(
    J: Array, g: float, nonlinearity: Sigmoid, gains: Array, n_trials: int, duration: float, rng: np.random.Generator
) -> Activity:
    """Return the activity of an autonomous network, time in time constants."""
    network = RandomModeNetwork(J, gains, nonlinearity)
    rates = simulated(
        network,
        g=g,
        n_trials=n_trials,
        duration=duration,
        burn_in=60.0,
        sample_interval=1.0,
        step=0.2,
        variable="rates",
        dtype="float32",
        rng=rng,
        label="simulation",
    )
    return Activity.of(rates.values.astype(float), 1.0)


def free_matrix(strengths: Array, n: int, rng: np.random.Generator) -> Array:
    """Return U diag(strengths) Vᵀ with free U and V."""
    left, right = (_free(n, len(strengths), rng) for _ in range(2))
    return (left * strengths) @ right.T


def network_activity(
    network: LowRankDynamics, inputs: ArrayLike | None, n_trials: int, n_steps: int, rng: np.random.Generator
) -> Activity:
    """Return the activity of a low-rank network with its inputs and noise, time in seconds."""
    latents = network.simulate(n_trials, n_steps, inputs=inputs, random_state=rng).latents.values
    latents = latents[:, n_steps // 5 :]  # without the beginning
    filtered = None if inputs is None or network.n_inputs == 0 else _inputs_of(network, inputs, n_trials, n_steps)
    with np.errstate(over="ignore", invalid="ignore"):
        rates = network.rates(latents, filtered)
        units = network.expected(latents, filtered) if network.n_units else None
    if not np.isfinite(rates).all():
        return Activity(np.nan, np.nan, np.nan, np.nan)
    found = Activity.of(rates, network.dt)
    return found if units is None else replace(found, unit_dimension=Activity.of(units, network.dt).dimension)


def free_network(
    network: LowRankDynamics, svd: tuple[Array, Array, Array], rng: np.random.Generator
) -> LowRankDynamics:
    """Return the network with free left and right vectors, the singular values of J, and latents that are driven alike.

    `svd` are left vectors (N, R), singular values and right vectors of J. In its gauge left vectors are orthonormal;
    noise, drive, inputs and start of the latents go along.
    """
    left, strengths, _ = svd
    n, r = left.shape
    turn = left.T @ network.left_vectors / np.sqrt(n)  # z' = turn z

    def vector(field: Array | None) -> Array | None:
        return None if field is None else turn @ field

    def matrix(field: Array | None) -> Array | None:
        return None if field is None else turn @ field @ turn.T

    loadings = network.loadings
    if loadings is not None and network.readout == "latents":
        loadings = loadings @ np.linalg.pinv(turn)
    return network.replace(
        left_vectors=np.sqrt(n) * _free(n, r, rng),
        right_vectors=np.sqrt(n) * _free(n, r, rng) * strengths,
        drive=vector(network.drive),
        latent_input_weights=vector(network.latent_input_weights),
        latent_noise=matrix(network.latent_noise),
        initial_mean=vector(network.initial_mean),
        initial_covariance=matrix(network.initial_covariance),
        initial_input_weights=vector(network.initial_input_weights),
        loadings=loadings,
        latent_mean=vector(network.latent_mean),
        latent_covariance=matrix(network.latent_covariance),
    )


def _inputs_of(network: LowRankDynamics, inputs: ArrayLike, n_trials: int, n_steps: int) -> Array:
    u = np.asarray(inputs, dtype=float)
    u = np.broadcast_to(u, (n_trials, *u.shape[-2:])) if u.ndim == 2 else u
    return network.filtered_inputs(u)[:, n_steps // 5 : n_steps]


def _dimension(values: Array) -> float:
    if len(values) < 2:
        return float("nan")
    return simulated_dimension(xr.DataArray(values, dims=("trial", "time", "neuron"))).dimension


def _half_time(values: Array) -> float:
    n_times = values.shape[1]
    variance = np.mean(values**2)
    for lag in range(1, n_times // 2):
        if np.mean(values[:, :-lag] * values[:, lag:]) < 0.5 * variance:
            return float(lag)
    return float("nan")


def _free(n: int, m: int, rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((n, m)))
    return q * np.sign(np.diag(r))
