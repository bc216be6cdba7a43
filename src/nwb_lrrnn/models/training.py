"""The one training loop: a flat parameter vector per restart, Adam, warm-up, plateau decay, early stopping."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import xarray as xr
from torch import Tensor

logger = logging.getLogger("nwb_lrrnn")


class Layout:
    """Named arrays in one flat vector, S vectors side by side."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        self.shapes = dict(shapes)
        self.size = sum(math.prod(shape) for shape in self.shapes.values())

    def unpack(self, flat: Tensor) -> dict[str, Tensor]:
        """Return views (S, *shape) of a flat (S, size) tensor, by name."""
        parts, begin = {}, 0
        for name, shape in self.shapes.items():
            length = math.prod(shape)
            parts[name] = flat[:, begin : begin + length].reshape(flat.shape[0], *shape)
            begin += length
        return parts

    def pack(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the flat (S, size) tensor of arrays (S, *shape)."""
        return torch.cat([parts[name].reshape(len(parts[name]), -1) for name in self.shapes], dim=1)


class Objective(Protocol):
    """What the loop trains: S restarts side by side, each judged on its own."""

    parameters: Tensor  # (S, size), a leaf that requires gradients
    baseline: float  # the `validation` value of a model without dynamics
    resolution: float  # differences of `validation` below this mean nothing

    def begin_epoch(self, epoch: int) -> None:
        """Bring what is not a parameter (latents, their laws) up to date with the parameters."""
        ...

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield one epoch's batches."""
        ...

    def loss(self, batch: Tensor) -> Tensor:
        """Return the loss (S,) of a batch in nats per observed bin, differentiable in `parameters`."""
        ...

    def judge(self) -> dict[str, Tensor]:
        """Return the terms to record, each (S,); `validation`, the higher the better, decides who stops and wins."""
        ...

    def snapshot(self) -> dict[str, Tensor]:
        """Return the state beside the parameters, each (S, ...), to be kept with the best epoch."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; nothing depends on `max_epochs` but the end.

    Gains and losses are measured in the advantage that the best state has over the objective's `baseline` (at least
    in its `resolution`).
    """

    max_epochs: int
    patience: int
    learning_rate: float
    warm_up: int = 10
    clip: float = 1.0
    decay: float = 0.3  # of the learning rate, on a plateau and after an overshoot
    n_plateaus: int = 2  # the last of them is the end
    min_gain: float = 2e-4  # below it `patience` runs out
    overshoot: float = 0.05  # a loss of this much goes back to the best state
    slowest: float = 1e-3  # of the learning rate: below it there is nothing left to gain


@dataclass(frozen=True)
class Outcome:
    """The best state of every restart."""

    parameters: Tensor  # (S, size)
    state: dict[str, Tensor]
    validation: np.ndarray  # (S,)
    history: xr.Dataset
    n_epochs: int
    complaints: tuple[str, ...]  # what the user should know: restarts that diverged, an end without convergence


class _Adam:
    """Adam over rows, with a learning rate and a gradient clip for each."""

    def __init__(self, flat: Tensor):
        self.first, self.second, self.count = torch.zeros_like(flat), torch.zeros_like(flat), 0

    def step(self, flat: Tensor, grad: Tensor, rate: Tensor, clip: float) -> None:
        norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
        grad = grad * torch.clamp(clip / (norm + 1e-12), max=1.0)
        grad = torch.where(torch.isfinite(norm), grad, torch.zeros_like(grad))
        self.count += 1
        self.first.lerp_(grad, 0.1)
        self.second.lerp_(grad**2, 0.001)
        corrected = torch.sqrt(self.second / (1 - 0.999**self.count)) + 1e-8
        flat -= rate[:, None] * self.first / (1 - 0.9**self.count) / corrected


def train(objective: Objective, schedule: Schedule, rng: np.random.Generator, *, label: str) -> Outcome:
    """Return the best state of every restart after training until no restart improves.

    A restart whose validation value falls far below its best goes back there with a smaller learning rate; so does
    one that has gained next to nothing for `patience` epochs, and after `n_plateaus` of those it has converged. A
    restart whose loss is not finite goes back to its last good state in the same way.
    """
    from tqdm import tqdm

    flat = objective.parameters
    adam = _Adam(flat.detach())
    n_nets = flat.shape[0]
    keeper = _Keeper(schedule, objective)
    records: list[dict[str, np.ndarray]] = []
    epoch = 0
    with tqdm(total=schedule.max_epochs, desc=label, unit="epoch", disable=None, leave=False) as bar:
        for epoch in range(1, schedule.max_epochs + 1):
            objective.begin_epoch(epoch)
            terms = objective.judge()
            records.append({name: value.detach().cpu().numpy().copy() for name, value in terms.items()})
            value = records[-1]["validation"]
            rolled_back = keeper.look(value, epoch, flat, objective)
            if rolled_back.any():
                _restore(adam, rolled_back)
            bar.update()
            bar.set_postfix_str(f"{np.nanmax(value):.4f} nats/bin" if np.isfinite(value).any() else "")
            if keeper.finished.all():
                break
            rate = torch.as_tensor(keeper.rate(epoch), dtype=flat.dtype, device=flat.device)
            for batch in objective.batches(rng):
                loss = objective.loss(batch)
                (grad,) = torch.autograd.grad(loss.sum(), flat)
                with torch.no_grad():
                    adam.step(flat, grad, rate, schedule.clip)
    keeper.go_back(np.isfinite(keeper.best), flat, objective.snapshot())
    history = xr.Dataset(
        {name: (("epoch", "restart"), np.stack([r[name] for r in records])) for name in records[0]},
        coords={"epoch": np.arange(1, len(records) + 1), "restart": np.arange(n_nets)},
    )
    return Outcome(keeper.best_flat, keeper.best_state, keeper.best, history, epoch, keeper.complaints(label))


def _restore(adam: _Adam, rows: np.ndarray) -> None:
    index = torch.as_tensor(np.flatnonzero(rows), device=adam.first.device)
    adam.first[index] = 0.0  # the momentum that overshot is not carried back


class _Keeper:
    """Book-keeping per restart: best state so far, plateaus, learning rate, end."""

    def __init__(self, schedule: Schedule, objective: Objective):
        self.schedule, self.baseline, self.resolution = schedule, objective.baseline, objective.resolution
        n_nets = len(objective.parameters)
        self.best = np.full(n_nets, -np.inf)
        self.reference = np.full(n_nets, -np.inf)
        self.waited = np.zeros(n_nets, dtype=int)
        self.plateaus = np.zeros(n_nets, dtype=int)
        self.slowed = np.ones(n_nets)
        self.finished = np.zeros(n_nets, dtype=bool)
        self.broken_at = np.zeros(n_nets, dtype=int)
        self.best_flat: Tensor = torch.empty(0)
        self.best_state: dict[str, Tensor] = {}

    def rate(self, epoch: int) -> np.ndarray:
        """Return the learning rate of every restart, 0 for one that has finished."""
        warm = min(1.0, epoch / self.schedule.warm_up)
        return np.where(self.finished, 0.0, self.schedule.learning_rate * warm * self.slowed)

    def look(self, value: np.ndarray, epoch: int, flat: Tensor, objective: Objective) -> np.ndarray:
        """Keep what is best, decide who slows down or ends; return which restarts went back to their best state."""
        state, plan = objective.snapshot(), self.schedule
        if epoch == 1:
            self.best_flat = flat.detach().clone()
            self.best_state = {name: tensor.clone() for name, tensor in state.items()}
        broken = ~np.isfinite(value) & ~self.finished
        better = ~self.finished & ~broken & (value > self.best)
        self._keep(better, flat, state)
        self.best = np.where(better, value, self.best)
        advantage = np.maximum(self.best - self.baseline, self.resolution)
        gained = better & (value > self.reference + plan.min_gain * advantage)
        self.reference = np.where(gained, value, self.reference)
        self.waited = np.where(gained, 0, self.waited + 1)
        floor = self.best - plan.overshoot * advantage - self.resolution
        overshot = ~self.finished & ~broken & (value < floor)
        stale = ~self.finished & ~overshot & (self.waited > plan.patience)
        back = broken | overshot | stale
        self.slowed = np.where(back, self.slowed * plan.decay, self.slowed)
        self.plateaus = self.plateaus + stale
        self.waited = np.where(stale, 0, self.waited)
        self.broken_at = np.where(broken & (self.broken_at == 0), epoch, self.broken_at)
        self.finished = self.finished | (self.plateaus >= plan.n_plateaus) | (self.slowed < plan.slowest)
        back = back & np.isfinite(self.best)
        if back.any():
            self.go_back(back, flat, state)
        return back

    def go_back(self, back: np.ndarray, flat: Tensor, state: dict[str, Tensor]) -> None:
        """Put the best state back, in place, in the rows of `back`."""
        index = torch.as_tensor(np.flatnonzero(back), device=flat.device)
        with torch.no_grad():
            flat[index] = self.best_flat[index]
        for name, tensor in state.items():
            tensor[index] = self.best_state[name][index]

    def _keep(self, better: np.ndarray, flat: Tensor, state: dict[str, Tensor]) -> None:
        if not better.any():
            return
        index = torch.as_tensor(np.flatnonzero(better), device=flat.device)
        self.best_flat[index] = flat.detach()[index]
        for name, tensor in state.items():
            self.best_state[name][index] = tensor[index]

    def complaints(self, label: str) -> tuple[str, ...]:
        """Return what the user should know of the end; raise where no restart ever had a finite value."""
        if not np.isfinite(self.best).any():
            raise FloatingPointError(
                f"{label}: the loss was not finite from epoch {self.broken_at.min()}; X may be scaled extremely or the "
                "learning rate too high: rescale X or lower learning_rate"
            )
        said = []
        if self.broken_at.any():
            at = self.broken_at[self.broken_at > 0].min()
            said.append(
                f"the loss of {int((self.broken_at > 0).sum())} of {len(self.best)} restarts was not finite, first in "
                f"epoch {at} (likely a learning rate too high); the last good state was kept. Lower learning_rate"
            )
        if not self.finished.all():
            said.append(
                f"the validation value last rose {int(self.waited.min())} epochs before the end, to "
                f"{self.best.max():.4f} nats per bin. Raise max_epochs"
            )
        return tuple(said)
