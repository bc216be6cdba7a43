"""Rivals: other dynamics that make the same path, each under an input of its own, u_t = (z_{t+1} - F(z_t)) / alpha."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.equivalents.known import Known
from nwb_lrrnn.models.least_squares.equivalents.posterior import neurons_of, with_neurons
from nwb_lrrnn.models.least_squares.field import fit_field_samples

Array = NDArray[np.floating]
Rival = Callable[[Array], Array]

_CLOUD = 2000  # points around what was seen, where a rival is fitted
_SPREAD = 1.0  # standard deviations that they lie apart from it
_EXACT = 1e-12  # the penalty, and how steep the neurons are: shallow ones make what is nearly linear
_SHALLOW = 0.5

STANDARD = ("leak", "growing")


def standard_rivals(tau: float) -> dict[str, Rival]:
    """Return those that need no thought: no recurrence at all, and one that doubles every 1.4 time constants."""
    return {"leak": lambda z: -z / tau, "growing": lambda z: 0.5 * z / tau}


def rivals_of(given: Any, known: Known) -> dict[str, Rival]:
    """Return rivals by name: names of the standard ones, or fields dz/dt = g(z) of their own."""
    standard = standard_rivals(known.network.tau)
    if given is None:
        return {}
    if isinstance(given, str):
        given = (given,)
    if not isinstance(given, Mapping):
        wrong = [name for name in given if name not in standard]
        if wrong:
            raise ValueError(f"rivals: got {wrong[0]!r}, wanted names of {STANDARD} or a dict of fields dz/dt = g(z)")
        return {name: standard[name] for name in given}
    for name, g in given.items():
        if not callable(g):
            raise TypeError(f"rivals[{name!r}]: got a {type(g).__name__}, wanted a field dz/dt = g(z)")
    return dict(given)


def network_of_rival(name: str, g: Rival, known: Known, rng: np.random.Generator) -> LowRankDynamics:
    """Return the network of as many neurons whose latents move by g where latents were, and somewhat farther out."""
    network = known.network
    rows = rng.integers(len(known.latents), size=_CLOUD)
    cloud = known.latents[rows] + _SPREAD * known.scale * rng.standard_normal((_CLOUD, network.rank))
    velocity = np.asarray(g(cloud), dtype=float)
    if velocity.shape != cloud.shape or not np.isfinite(velocity).all():
        raise ValueError(f"rivals[{name!r}]: got dz/dt of shape {velocity.shape}, wanted finite {cloud.shape}")
    if np.allclose(velocity, -cloud / network.tau, rtol=1e-12, atol=0):
        nothing = np.zeros((network.n_neurons, network.rank))
        return with_neurons(network, neurons_of(network), nothing, np.zeros(network.rank), _no_inputs(network))
    field = fit_field_samples(
        cloud, velocity, tau=network.tau, n_neurons=network.n_neurons, nonlinearity=network.nonlinearity,
        basis="gaussian", gain=_SHALLOW, ridge=_EXACT, rng=rng,
    )  # fmt: skip
    neurons = field.features
    if network.input_weights is not None:  # of no effect: whatever the inputs are, a rival moves by g
        neurons = replace(neurons, input_weights=np.zeros_like(network.input_weights))
    return with_neurons(network, neurons, field.weights, field.drive, _no_inputs(network))


def _no_inputs(network: LowRankDynamics) -> Array | None:
    return None if network.latent_input_weights is None else np.zeros_like(network.latent_input_weights)


def inputs_along(network: LowRankDynamics, path: Array, path_inputs: Array | None) -> Array:
    """Return the latent inputs (time, R) under which a network follows `path`; the last is 0."""
    drives = np.zeros_like(path)
    drives[:-1] = (path[1:] - steps_along(network, path, path_inputs)) / network.alpha
    return drives


def steps_along(network: LowRankDynamics, path: Array, path_inputs: Array | None) -> Array:
    """Return where a network goes from each bin of a path but the last, (time - 1, R)."""
    if path_inputs is None:
        return network.step(path[:-1])
    return network.step(path[:-1], network.filtered_inputs(path_inputs)[:-1], path_inputs[:-1])
