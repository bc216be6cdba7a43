"""What one trajectory does not tell: networks that share it under inputs of their own, and what a push does to each."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.fields import checked_latents

Array = NDArray[np.floating]


def drive_along(network: LowRankDynamics, path: ArrayLike) -> tuple[LowRankDynamics, Array]:
    """Return the network with an input to each latent, and the inputs (T, R) under which it follows `path` (T, R).

    u_t = (z_{t+1} - (1 - alpha) z_t) / alpha - nᵀ phi(m z_t + b) / N - s makes any path a solution of any network: two
    that share it differ only in what happens beside it. The last input is 0. The network must have no inputs.
    """
    z = checked_latents(network, path)
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"path: got shape {z.shape}, wanted (time, {network.rank}), two bins or more")
    if network.n_inputs:
        raise ValueError(f"network: got one with {network.n_inputs} inputs, wanted one without")
    inputs = np.zeros_like(z)
    inputs[:-1] = (z[1:] - network.step(z[:-1])) / network.alpha
    return network.replace(latent_input_weights=np.eye(network.rank)), inputs


def gain_along(network: LowRankDynamics, path: ArrayLike, inputs: ArrayLike | None = None) -> Array:
    """Return (R, R): what a small push at the start of `path` (T, R) has become at its end.

    The product of the one-step Jacobians along the path; `inputs` (T, P) where they enter the neurons.
    """
    z = checked_latents(network, path)
    steps = network.jacobian(z[:-1], None if inputs is None else np.asarray(inputs, dtype=float)[:-1])
    gain = np.eye(network.rank)
    for step in steps:
        gain = step @ gain
    return gain
