"""The same rates and the same regression in torch, where a GPU is worth it: thousands of neurons, many samples."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.models.least_squares.features import Features
from nwb_lrrnn.models.networks import cells
from nwb_lrrnn.models.training import devices

Array = NDArray[np.floating]


def rates(
    name: str, latents: Tensor, encoders: Tensor, biases: Tensor, thresholds: Tensor, driven: Tensor | None = None
) -> Tensor:
    """Return phi(z Mᵀ + b + I v), (T, N); `driven` (T, N) is I v."""
    x = torch.addmm(biases, latents, encoders.T)
    return cells.phi(name, x if driven is None else x + driven, thresholds)


def ridge(features: Tensor, targets: Tensor, held: Tensor, share: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
    """Return weights (N, K) and intercept (K,) as `ridge.ridge` does; penalties `held` (N,), shares (T,) that sum to 1.

    No step waits for the device.
    """
    centre, goal = torch.zeros_like(features[0]), torch.zeros_like(targets[0])
    if intercept:
        centre, goal = share @ features, share @ targets
    root = share.sqrt()[:, None]
    rows, wanted = root * (features - centre), root * (targets - goal)
    orthonormal, triangle = torch.linalg.qr(torch.cat([rows, torch.diag(held.sqrt())]))
    weights = torch.linalg.solve_triangular(triangle, orthonormal[: len(rows)].T @ wanted, upper=True)
    return weights, goal - centre @ weights


def ridge_on(
    device: str, features: Array, targets: Array, held: Array, share: Array, intercept: bool
) -> tuple[Array, Array]:
    """Return the regression computed on `device`, as arrays."""
    place = devices.resolve(device)
    rows, wanted, penalty, part = (_sent(a, place) for a in (features, targets, held, share))
    weights, offset = ridge(rows, wanted, penalty, part, intercept)
    return weights.cpu().numpy(), offset.cpu().numpy()


def rates_on(device: str, features: Features, latents: Array, inputs: Array | None = None) -> Array:
    """Return the rates of neurons computed on `device`, as an array (T, N)."""
    place = devices.resolve(device)
    thresholds = np.ones(features.n_neurons) if features.thresholds is None else features.thresholds
    z, encoders, biases, h = (_sent(a, place) for a in (latents, features.encoders, features.biases, thresholds))
    driven = None
    if features.n_inputs and inputs is not None:
        driven = _sent(inputs, place) @ _sent(features.input_weights, place).T
    return rates(features.nonlinearity, z, encoders, biases, h, driven).cpu().numpy()


def _sent(values: Array, place: torch.device) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64, device=place)
