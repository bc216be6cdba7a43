"""Weights of a network drawn from their posterior: Bayesian regression of where latents go on the rates of neurons.

For each latent, y = phi w + c + U s + noise of variance 1 / beta, w ~ N(0, I / alpha), c and s free; alpha and beta are
those of the largest evidence (MacKay 1992), so that weights which no sample tells are as wide as those which some do.
A penalty that guards against noise of the rates is no such law: its posterior would be sure of what it never saw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.equivalents.known import Known
from nwb_lrrnn.models.least_squares.features import Features, draw_features
from nwb_lrrnn.models.least_squares.field import Scaling
from nwb_lrrnn.models.least_squares.ridge import shares

Array = NDArray[np.floating]

_ROUNDS = 60
_WIDEST = 30.0  # standard deviations of the targets that N weights together may make: evidence has no bound of its own
_FINEST = 1e-12  # of the variance of the targets: below it noise is rounding


def neurons_of(network: LowRankDynamics) -> Features:
    """Return the neurons of a network as functions of its latents and, where they enter them, inputs."""
    n, weights = network.n_neurons, network.input_weights
    return Features(
        np.array(network.left_vectors),
        np.zeros(n) if network.bias is None else np.array(network.bias),
        np.zeros((n, 0)) if weights is None else np.array(weights),
        network.nonlinearity,
        None if network.thresholds is None else np.array(network.thresholds),
    )


def other_neurons(known: Known, basis: str, rng: np.random.Generator) -> Features:
    """Return as many neurons drawn afresh, by the law that those of the network were drawn by."""
    network = known.network
    inside = known.inputs if network.input_weights is not None else None
    units = Scaling.of(known.latents, inside, shares(None, len(known.latents)))
    v = None if inside is None else (inside - units.input_centre) / units.input_scale
    drawn = draw_features(
        (known.latents - units.centre) / units.scale, network.n_neurons, basis=basis,
        nonlinearity=network.nonlinearity, rng=rng, inputs=v,
    )  # fmt: skip
    return units.undone(drawn)


class Posterior:
    """The posterior of the weights of given neurons; `draw` gives a network of it."""

    def __init__(self, known: Known, neurons: Features):
        self.known, self.neurons = known, neurons
        network, inputs = known.network, known.inputs
        has_latent_inputs = network.latent_input_weights is not None
        free = np.ones((len(known.latents), 1))
        if inputs is not None and has_latent_inputs:
            free = np.concatenate([free, inputs], axis=1)
        self.n_through = free.shape[1] - 1
        self.tau, self.n = network.tau, known.each * len(known.latents)
        self.scale = known.scale
        rates = neurons(known.latents, inputs if neurons.n_inputs else None)
        targets = (known.latents + self.tau * known.velocity) / self.scale
        # what is free is fitted without a penalty: rates and targets are what is left beside it
        self.free_root = np.linalg.pinv(np.sqrt(known.each) * free)
        self.of_rates, self.of_targets = (self.free_root @ (np.sqrt(known.each) * m) for m in (rates, targets))
        rows, goals = rates - free @ self.of_rates, targets - free @ self.of_targets
        self.sizes, self.axes = np.linalg.eigh(known.each * rows.T @ rows)
        self.sizes = np.maximum(self.sizes, 0.0)
        self.projected = self.axes.T @ (known.each * rows.T @ goals)  # (N, R)
        self.power = known.each * (goals**2).sum(axis=0)
        self.extra = known.spread * (self.tau / self.scale) ** 2
        self.alpha, self.beta = self._most_evident()

    def _most_evident(self) -> tuple[Array, Array]:
        """Return alpha and beta (R,) by MacKay's fixed point."""
        n_free, N = self.n_through + 1, len(self.sizes)
        variance = np.maximum(self.power / self.n, 1e-300)
        alpha, beta = N / variance, 100.0 / variance
        for _ in range(_ROUNDS):
            kept = beta * self.sizes[:, None]  # (N, R)
            mean = beta * self.projected / (kept + alpha)
            told = (kept / (kept + alpha)).sum(axis=0)
            left = self.power - 2 * (mean * self.projected).sum(0) + (self.sizes[:, None] * mean**2).sum(0)
            noise = np.maximum(left, 0.0) / np.maximum(self.n - n_free - told, 1.0) + self.extra
            beta = 1.0 / np.maximum(noise, _FINEST * variance)
            alpha = np.maximum(told, 1e-12) / np.maximum((mean**2).sum(axis=0), 1e-300)
            alpha = np.clip(alpha, N / (_WIDEST**2 * variance), 1e12 * N / variance)
        return alpha, beta

    def draw(self, rng: np.random.Generator) -> LowRankDynamics:
        """Return the network with weights, drive and latent input weights of one draw."""
        network, rank = self.known.network, len(self.scale)
        precision = self.beta * self.sizes[:, None] + self.alpha
        along = self.beta * self.projected / precision + rng.standard_normal(precision.shape) / np.sqrt(precision)
        weights = self.axes @ along  # (N, R)
        chance = self.free_root @ rng.standard_normal((self.free_root.shape[1], rank)) / np.sqrt(self.beta)
        free = (self.of_targets - self.of_rates @ weights + chance) * self.scale
        return with_neurons(
            network, self.neurons, weights * self.scale, free[0], free[1:].T if self.n_through else None
        )


def with_neurons(
    network: LowRankDynamics, neurons: Features, weights: Array, drive: Array, through: Array | None
) -> LowRankDynamics:
    """Return a network with other neurons, weights W (N, R), drive s and latent input weights S; all else stays."""
    return network.replace(
        left_vectors=neurons.encoders,
        right_vectors=neurons.n_neurons * weights,
        bias=neurons.biases,
        thresholds=neurons.thresholds,
        input_weights=neurons.input_weights if neurons.n_inputs else None,
        drive=drive,
        latent_input_weights=through,
    )
