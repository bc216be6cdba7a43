"""FORCE learning (Sussillo & Abbott 2009), the baseline of online learning: a chaotic network of full rank.

    tau dx/dt = -x + g J r + F o,   r = tanh(x),   o = Wᵀ r

The outputs o are fed back as they are while recursive least squares moves W, so that the regression changes under the
network's own feet; learning a field (`online`) is the same recursion without J and with states that stand still.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.least_squares.online import RecursiveLeastSquares

Array = NDArray[np.floating]


class ForceNetwork:
    """N rate neurons with random connections J, of which readout weights W (N, K) are learnt."""

    def __init__(
        self,
        n_neurons: int,
        n_outputs: int,
        *,
        dt: float,
        tau: float,
        gain: float = 1.5,
        density: float | None = None,
        penalty: float = 1.0,
        rng: np.random.Generator,
    ):
        density = min(1.0, max(0.1, 10.0 / n_neurons)) if density is None else density
        present = rng.uniform(size=(n_neurons, n_neurons)) < density
        size = gain / np.sqrt(density * n_neurons)
        self.recurrent: Array = size * present * rng.standard_normal((n_neurons, n_neurons))
        self.feedback: Array = rng.uniform(-1.0, 1.0, (n_neurons, n_outputs))
        self.alpha = dt / tau
        self.currents: Array = 0.5 * rng.standard_normal(n_neurons)
        self.regression = RecursiveLeastSquares(n_neurons, n_outputs, penalty, intercept=False)

    def step(self) -> Array:
        """Let the network take a step and return its outputs (K,)."""
        rates = np.tanh(self.currents)
        target = self.recurrent @ rates + self.feedback @ (rates @ self.regression.weights)
        self.currents = (1.0 - self.alpha) * self.currents + self.alpha * target
        return np.tanh(self.currents) @ self.regression.weights

    def train(self, targets: Array, *, every: int = 2) -> Array:
        """Return the outputs (T, K) while the network learns to put out the targets (T, K)."""
        outputs = np.empty_like(targets)
        for t, wanted in enumerate(targets):
            outputs[t] = self.step()
            if t % every == 0:
                self.regression.update(np.tanh(self.currents), wanted)
        return outputs

    def run(self, n_steps: int) -> Array:
        """Return the outputs (n_steps, K) of the network left to itself."""
        return np.array([self.step() for _ in range(n_steps)])
