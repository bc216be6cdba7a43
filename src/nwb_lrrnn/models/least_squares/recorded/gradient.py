"""A recorded network by the gradient of its free runs (LINT, Valente, Pillow & Ostojic 2022), from the regression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.networks.cells import phi
from nwb_lrrnn.models.training.devices import resolve
from nwb_lrrnn.models.training.loop import Layout, Schedule, train
from nwb_lrrnn.progress import Progress

if TYPE_CHECKING:
    from nwb_lrrnn.models.least_squares.recorded.recording import Recording


def follow_gradient(
    network: LowRankDynamics,
    trials: Recording,
    held: Recording,
    observed: str,
    *,
    max_epochs: int,
    learning_rate: float,
    rng: np.random.Generator,
    device: str,
) -> tuple[LowRankDynamics, float, xr.Dataset]:
    """Return the network that runs best on held-out conditions on the way, its R2 there, and the way (epoch)."""
    objective = FreeRuns(network, trials, held, observed, device)
    schedule = Schedule(max_epochs, patience=30, learning_rate=learning_rate, warm_up=5)
    with Progress(max_epochs, "LINT") as progress:
        outcome = train(objective, schedule, rng, progress=progress)
    parts = objective.layout.unpack(outcome.parameters)
    found = {name: value[0].cpu().numpy() for name, value in parts.items() if value.numel()}
    history = outcome.history.isel(restart=0, drop=True)
    return network.replace(**found), float(1.0 + outcome.validation[0]), history


class FreeRuns:
    """The squared error of free runs from the first bins, relative to the units' variance."""

    baseline, resolution = -1.0, 1e-6

    def __init__(self, network: LowRankDynamics, trials: Recording, held: Recording, observed: str, device: str):
        self.network, self.observed = network, observed
        self.device = resolve(device)
        self.none = torch.empty(0, device=self.device)  # thresholds, which no phi that is offered here has
        parts = {"left_vectors": network.left_vectors, "right_vectors": network.right_vectors}
        if network.bias is not None:
            parts["bias"] = network.bias
        if network.input_weights is not None:
            parts["input_weights"] = network.input_weights
        self.layout = Layout({name: value.shape for name, value in parts.items()})
        tensors = {name: torch.tensor(value, device=self.device)[None] for name, value in parts.items()}
        self.parameters = self.layout.pack(tensors).requires_grad_(True)
        self.data, self.held = self._padded(trials), self._padded(held)

    def _padded(self, trials: Recording) -> tuple[Tensor, Tensor, Tensor]:
        longest = max(map(len, trials.currents))
        shape = (longest, len(trials.currents))
        x, inside = np.zeros((*shape, self.network.n_neurons)), np.zeros((*shape, 1))
        u = np.zeros((*shape, self.network.n_inputs))
        for k, current in enumerate(trials.currents):
            x[: len(current), k], inside[: len(current), k] = current, 1.0
            if trials.inputs is not None:
                u[: len(current), k] = trials.inputs[k]
        return tuple(torch.tensor(values, device=self.device) for values in (x, u, inside))  # pyright: ignore

    def _missed(self, data: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, u, inside = data
        parts = {name: value[0] for name, value in self.layout.unpack(self.parameters).items()}
        net, run, path = self.network, x[0], [x[0]]
        drive = torch.zeros((), dtype=x.dtype, device=x.device)
        if "input_weights" in parts:
            drive = u @ parts["input_weights"].T  # (time, trial, unit)
        drive = (drive + parts.get("bias", torch.zeros_like(x[0, 0]))).expand(x.shape)
        for t in range(len(x) - 1):
            latent = phi(net.nonlinearity, run, self.none) @ parts["right_vectors"] / net.n_neurons
            run = (1 - net.alpha) * run + net.alpha * (latent @ parts["left_vectors"].T + drive[t])
            path.append(run)
        shown, truth = torch.stack(path), x
        if self.observed == "rates":
            shown, truth = (phi(net.nonlinearity, values, self.none) for values in (shown, truth))
        mean = (truth * inside).sum((0, 1)) / inside.sum()
        return ((shown - truth) ** 2 * inside).sum() / ((truth - mean) ** 2 * inside).sum().clamp_min(1e-300)

    def begin_epoch(self, epoch: int) -> None:
        """Do nothing: all that changes are the parameters."""

    def batches(self, rng: np.random.Generator) -> Iterator[None]:
        """Yield one batch, of all trials."""
        yield None

    def loss(self, batch: None) -> Tensor:
        """Return the error (1,) of the trials that are trained on."""
        return self._missed(self.data)[None]

    def judge(self) -> dict[str, Tensor]:
        """Return minus the error (1,) of the held-out conditions."""
        with torch.no_grad():
            return {"validation": -self._missed(self.held)[None]}

    def snapshot(self) -> dict[str, Tensor]:
        """Return nothing: there is no state beside the parameters."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Return nothing, likewise."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take nothing, likewise."""
