"""Rates of neurons whose encoders are drawn, not trained: phi(Z Mᵀ + V Iᵀ + b)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import nonlinearity as nonlinearities
from nwb_lrrnn.parameters import choose

Array = NDArray[np.floating]

BASES = ("nef", "gaussian", "data")


@dataclass(frozen=True)
class Features:
    """Neurons as functions of latents (..., R) and, where they have them, inputs (..., P)."""

    encoders: Array  # M (N, R)
    biases: Array  # b (N,)
    input_weights: Array  # I (N, P), P = 0 without inputs
    nonlinearity: str
    thresholds: Array | None = None  # h (N,), of clipped_relu alone

    @property
    def n_neurons(self) -> int:
        """Number of neurons N."""
        return len(self.biases)

    @property
    def n_inputs(self) -> int:
        """Number of inputs P that enter the neurons."""
        return self.input_weights.shape[1]

    def currents(self, latents: Array, inputs: Array | None = None) -> Array:
        """Return M z + I v + b, (..., N)."""
        x = latents @ self.encoders.T + self.biases
        if self.n_inputs:
            if inputs is None:
                raise ValueError(f"inputs: got None, wanted (..., {self.n_inputs}): these neurons are driven by inputs")
            x = x + inputs @ self.input_weights.T
        return x

    def __call__(self, latents: Array, inputs: Array | None = None) -> Array:
        """Return the rates phi(M z + I v + b), (..., N)."""
        return nonlinearities.phi(self.nonlinearity, self.currents(latents, inputs), self.thresholds)

    def slopes(self, latents: Array, inputs: Array | None = None) -> Array:
        """Return phi'(M z + I v + b), (..., N)."""
        return nonlinearities.slope(self.nonlinearity, self.currents(latents, inputs), self.thresholds)

    def select(self, kept: NDArray) -> Features:
        """Return the neurons of `kept`, numbers or (N,) bool."""
        thresholds = None if self.thresholds is None else self.thresholds[kept]
        return replace(
            self,
            encoders=self.encoders[kept],
            biases=self.biases[kept],
            input_weights=self.input_weights[kept],
            thresholds=thresholds,
        )

    def of_units(self, centre: Array, scale: Array, input_centre: Array, input_scale: Array) -> Features:
        """Return the same neurons as functions of centre + scale * z and input_centre + input_scale * v."""
        encoders = self.encoders / scale
        weights = self.input_weights / input_scale
        biases = self.biases - encoders @ centre - weights @ input_centre
        return replace(self, encoders=encoders, biases=biases, input_weights=weights)


def draw_features(
    latents: Array,
    n_neurons: int,
    *,
    basis: str = "nef",
    nonlinearity: str = "tanh",
    rng: np.random.Generator,
    inputs: Array | None = None,
    gain: float = 1.0,
) -> Features:
    """Return neurons drawn for latents (T, R) and inputs (T, P), all of standard deviation 1.

    With z the latents and inputs together: "gaussian", m ~ N(0, gain² I), b ~ N(0, 1); "data", m the same and
    b = -m z_i, a kink at a sample drawn at random; "nef", m = gain * e with |e| = 1 and b = -gain * c,
    c ~ U(-r, r), r = max |e z|: a kink anywhere within the samples along e (Eliasmith & Anderson 2003).
    """
    choose("basis", basis, BASES)
    choose("nonlinearity", nonlinearity, nonlinearities.NONLINEARITIES)
    rank, n_inputs = latents.shape[1], 0 if inputs is None else inputs.shape[1]
    samples = latents if inputs is None else np.concatenate([latents, inputs], axis=1)
    directions = rng.standard_normal((n_neurons, rank + n_inputs))
    if basis == "gaussian":
        weights, biases = gain * directions, rng.standard_normal(n_neurons)
    elif basis == "data":
        weights = gain * directions
        biases = -np.einsum("nr,nr->n", weights, samples[rng.integers(len(samples), size=n_neurons)])
    else:
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        reach = np.abs(samples @ directions.T).max(axis=0)  # (N,)
        weights, biases = gain * directions, -gain * rng.uniform(-reach, reach)
    thresholds = np.exp(0.5 * rng.standard_normal(n_neurons)) if nonlinearity == "clipped_relu" else None
    return Features(weights[:, :rank], biases, weights[:, rank:], nonlinearity, thresholds)
