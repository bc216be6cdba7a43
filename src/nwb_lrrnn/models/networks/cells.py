"""The recurrent step in torch: the mirror of `LowRankDynamics.step`, for any device, dtype and number of networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics


class Cell(NamedTuple):
    """The parameters of S networks side by side; the neuron axis is last.

    z_{t+1} = (1 - alpha) z_t + alpha [ n^T phi(m z_t + B v_t + b; h) / N + s + S u_t ]
    """

    left_vectors: Tensor  # m (S, R, N)
    right_vectors: Tensor  # n (S, R, N)
    bias: Tensor  # b (S, N)
    thresholds: Tensor  # h (S, N)
    input_weights: Tensor  # B (S, I, N)
    drive: Tensor  # s (S, R)
    latent_input_weights: Tensor  # S (S, R, I)
    alpha: Tensor  # (S,)


def stacked(array: Any, *shape: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return an array as that of one network, (1, ...); zeros (1, *shape) for None."""
    if array is None:
        return torch.zeros((1, *shape), dtype=dtype, device=device)
    return torch.tensor(array, dtype=dtype, device=device)[None]


def cell_of(dynamics: LowRankDynamics, *, dtype: torch.dtype, device: torch.device | str) -> Cell:
    """Return the parameters of one network, S = 1; what it lacks is 0."""

    def tensor(array: Any, *shape: int) -> Tensor:
        return stacked(array, *shape, dtype=dtype, device=device)

    def transposed(array: Any) -> Any:
        return None if array is None else array.T.copy()

    rank, neurons, inputs = dynamics.rank, dynamics.n_neurons, dynamics.n_inputs
    return Cell(
        tensor(transposed(dynamics.left_vectors)),
        tensor(transposed(dynamics.right_vectors)),
        tensor(dynamics.bias, neurons),
        tensor(dynamics.thresholds if dynamics.nonlinearity == "clipped_relu" else None, neurons),
        tensor(transposed(dynamics.input_weights), inputs, neurons),
        tensor(dynamics.drive, rank),
        tensor(dynamics.latent_input_weights, rank, inputs),
        tensor(dynamics.alpha),
    )


def phi(name: str, x: Tensor, thresholds: Tensor) -> Tensor:
    """Return phi(x; h) elementwise."""
    match name:
        case "tanh":
            return torch.tanh(x)
        case "erf":
            return torch.erf(0.5 * torch.pi**0.5 * x)
        case "relu":
            return torch.relu(x)
        case "clipped_relu":
            return torch.relu(x + thresholds) - torch.relu(x)
        case "softplus":
            return torch.nn.functional.softplus(x, threshold=40.0)
        case _:
            return x


def slope(name: str, x: Tensor, thresholds: Tensor) -> Tensor:
    """Return d phi / d x elementwise."""
    match name:
        case "tanh":
            return 1.0 - torch.tanh(x) ** 2
        case "erf":
            return torch.exp(-0.25 * torch.pi * x**2)
        case "relu":
            return (x > 0).to(x.dtype)
        case "clipped_relu":
            return (x + thresholds > 0).to(x.dtype) - (x > 0).to(x.dtype)
        case "softplus":
            return torch.sigmoid(x)
        case _:
            return torch.ones_like(x)


def currents(cell: Cell, z: Tensor, v: Tensor) -> Tensor:
    """Return x (S, window, N) from latents (S, window, R) and inputs v (1 or S, window, I)."""
    x = torch.matmul(z, cell.left_vectors) + cell.bias[:, None, :]
    return x + torch.matmul(v, cell.input_weights) if v.shape[-1] else x


def step(name: str, cell: Cell, z: Tensor, v: Tensor, u: Tensor) -> Tensor:
    """Return z_{t+1} (S, window, R) from z_t, v_t (1 or S, window, I) and u_t (window, I)."""
    rates = phi(name, currents(cell, z, v), cell.thresholds[:, None, :])
    neurons = cell.left_vectors.shape[-1]
    target = torch.matmul(rates, cell.right_vectors.mT) / neurons + cell.drive[:, None, :]
    if u.shape[-1]:
        target = target + torch.matmul(u, cell.latent_input_weights.mT)
    alpha = cell.alpha[:, None, None]
    return (1.0 - alpha) * z + alpha * target


def jacobian(name: str, cell: Cell, z: Tensor, v: Tensor) -> Tensor:
    """Return the one-step Jacobian (S, window, R, R) at latents (S, window, R)."""
    gain = slope(name, currents(cell, z, v), cell.thresholds[:, None, :])  # (S, window, N)
    scaled = cell.right_vectors[:, None] * gain[:, :, None, :]  # (S, window, R, N)
    recurrent = torch.matmul(scaled, cell.left_vectors.mT[:, None]) / cell.left_vectors.shape[-1]
    alpha = cell.alpha[:, None, None, None]
    return (1.0 - alpha) * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device) + alpha * recurrent


def filtered(alpha: Tensor, u: Tensor) -> Tensor:
    """Return v (S, window, T, I) from u (window, T, I): v_{t+1} = (1-alpha) v_t + alpha u_t, v_1 = 0."""
    a = alpha[:, None, None]
    v = [torch.zeros(alpha.shape[0], u.shape[0], u.shape[2], dtype=u.dtype, device=u.device)]
    for t in range(u.shape[1] - 1):
        v.append((1.0 - a) * v[-1] + a * u[:, t])
    return torch.stack(v, dim=2)
