"""The one training loop: a flat parameter vector per restart, Adam, warm-up, plateau decay, early stopping."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nwb_lrrnn.models.training.checkpoints import NO_CHECKPOINT, Checkpoint, fingerprint
from nwb_lrrnn.progress import Progress


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

    def batches(self, rng: np.random.Generator) -> Iterator[Any]:
        """Yield one epoch's batches, in a form that only `loss` knows."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """Return the loss (S,) of a batch in nats per observed bin, differentiable in `parameters`."""
        ...

    def judge(self) -> dict[str, Tensor]:
        """Return the terms to record, each (S,); `validation`, the higher the better, decides who stops and wins."""
        ...

    def snapshot(self) -> dict[str, Tensor]:
        """Return the state beside the parameters, each (S, ...), to be kept with the best epoch."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return all that changes while the loop runs beside the parameters, between two epochs."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Become what `state` returned, given as tensors on the CPU."""
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
    not_finite: str  # what the user should know of restarts that diverged; "" where none did
    not_converged: str  # the same of an end without convergence


class _Adam:
    """Adam over rows, with a learning rate and a gradient clip for each."""

    def __init__(self, flat: Tensor):
        self.first, self.second, self.count = torch.zeros_like(flat), torch.zeros_like(flat), 0

    def step(self, flat: Tensor, loss: Tensor, grad: Tensor, rate: Tensor, clip: float) -> Tensor:
        """Move the rows whose loss and gradient are finite, in place; return which are not."""
        norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
        finite = torch.isfinite(norm) & torch.isfinite(loss)[:, None]
        grad = grad * torch.clamp(clip / (norm + 1e-12), max=1.0)
        grad = torch.where(finite, grad, torch.zeros_like(grad))
        self.count += 1
        self.first.lerp_(grad, 0.1)
        self.second.lerp_(grad**2, 0.001)
        corrected = torch.sqrt(self.second / (1 - 0.999**self.count)) + 1e-8
        flat -= rate[:, None] * finite * self.first / (1 - 0.9**self.count) / corrected
        return ~finite[:, 0]


def train(
    objective: Objective,
    schedule: Schedule,
    rng: np.random.Generator,
    *,
    progress: Progress,
    what: str = "",
    log: Checkpoint = NO_CHECKPOINT,
    name: str = "training",
) -> Outcome:
    """Return the best state of every restart after training until no restart improves.

    A restart whose validation value falls far below its best goes back there with a smaller learning rate; so does
    one that has gained next to nothing for `patience` epochs, and after `n_plateaus` of those it has converged. A
    restart whose validation value, or whose loss in every batch of an epoch, is not finite goes back to its last good
    state in the same way; a single such batch is skipped. Both are said in `Outcome.not_finite`.

    `progress` counts the epochs, `what` names them beside its label.

    Every epoch is stored in `log` as the step `name`. A step found there that had the same start goes on from its last
    epoch, and one that had ended is taken as it is; where it had ended by `max_epochs`, and there are more now, it goes
    on too.
    """
    run = _Run(objective, schedule, rng)
    step = log.step(name, run.fingerprint)
    kept = step.recall()
    if kept is not None and kept["epoch"] <= schedule.max_epochs:
        run.load(kept)
    keeper = run.keeper
    progress.advance(run.epoch, what)
    while run.epoch < schedule.max_epochs and not keeper.finished.all():
        value = run.one_epoch()
        step.store(run.state)
        progress.advance(1, what, float(np.nanmax(value)) if np.isfinite(value).any() else None)
    keeper.go_back(np.isfinite(keeper.best), run.flat, objective.snapshot())
    history = xr.Dataset(
        {name: (("epoch", "restart"), values[: run.epoch]) for name, values in run.records.items()},
        coords={"epoch": np.arange(1, run.epoch + 1), "restart": np.arange(len(run.flat))},
    )
    keeper.refuse_nothing_finite(progress.label + what)
    said = keeper.not_finite(), keeper.not_converged()
    return Outcome(keeper.best_flat, keeper.best_state, keeper.best, history, run.epoch, *said)


class _Run:
    """All that changes while the loop runs, an epoch at a time: what a checkpoint has to hold."""

    def __init__(self, objective: Objective, schedule: Schedule, rng: np.random.Generator):
        self.objective, self.schedule, self.rng = objective, schedule, rng
        self.flat = objective.parameters
        self.adam = _Adam(self.flat.detach())
        self.keeper = _Keeper(schedule, objective)
        self.records: dict[str, np.ndarray] = {}  # (epoch or more, S); rows beyond `epoch` are not filled yet
        self.epoch = 0

    def one_epoch(self) -> np.ndarray:
        """Judge the present state, then move the parameters by every batch; return the validation values (S,)."""
        objective, keeper, flat = self.objective, self.keeper, self.flat
        self.epoch += 1
        objective.begin_epoch(self.epoch)
        self._record({name: _array(value) for name, value in objective.judge().items()})
        value = self.records["validation"][self.epoch - 1]
        rolled_back = keeper.look(value, self.epoch, flat, objective)
        if rolled_back.any():
            _restore(self.adam, rolled_back)
        if keeper.finished.all():
            return value
        rate = torch.as_tensor(keeper.rate(self.epoch), dtype=flat.dtype, device=flat.device)
        skipped, n_batches = torch.zeros(len(flat), dtype=torch.int64, device=flat.device), 0
        for batch in objective.batches(self.rng):
            loss = objective.loss(batch)
            (grad,) = torch.autograd.grad(loss.sum(), flat)
            with torch.no_grad():
                skipped += self.adam.step(flat, loss.detach(), grad, rate, self.schedule.clip)
            n_batches += 1
            del batch, loss  # before the next is made: a batch may be a block of a recording that is not in memory
        keeper.tally(skipped.cpu().numpy(), n_batches, self.epoch)
        return value

    def _record(self, terms: dict[str, np.ndarray]) -> None:
        for name, value in terms.items():
            rows = self.records.get(name, np.empty((0, *value.shape), value.dtype))
            if self.epoch > len(rows):  # twice as many at a time; those filled never change, so that views of them keep
                rows = np.concatenate([rows, np.empty((max(64, len(rows)), *value.shape), value.dtype)])
            rows[self.epoch - 1] = value
            self.records[name] = rows

    def fingerprint(self) -> str:
        """Return what the run begins with, as a digest; of the schedule all but where it ends."""
        parts = {**self._tensors(), **self.objective.snapshot()}
        plan = repr(replace(self.schedule, max_epochs=0)), self.objective.baseline, self.objective.resolution
        return fingerprint(*plan, self._rng_state(), *(_array(parts[name]) for name in sorted(parts)))

    def state(self) -> dict[str, np.ndarray]:
        """Return all that changes, as arrays of their own."""
        kept = {name: _array(tensor) for name, tensor in self._tensors().items()}
        kept |= {f"best/{name}": _array(tensor) for name, tensor in self.keeper.best_state.items()}
        kept |= {f"keeper/{name}": getattr(self.keeper, name).copy() for name in _Keeper.NUMBERS}
        kept |= {f"record/{name}": values[: self.epoch] for name, values in self.records.items()}
        numbers = {"epoch": np.array(self.epoch), "count": np.array(self.adam.count)}
        return kept | numbers | {"rng": np.array(self._rng_state()), "best": _array(self.keeper.best_flat)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what `state` returned."""

        def under(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): value for k, value in arrays.items() if k.startswith(prefix)}

        def tensor(array: np.ndarray) -> Tensor:
            return torch.tensor(array, device=self.flat.device)

        with torch.no_grad():
            self.flat.copy_(tensor(arrays["parameters"]))
        self.adam.first, self.adam.second = tensor(arrays["first"]), tensor(arrays["second"])
        self.adam.count, self.epoch = int(arrays["count"]), int(arrays["epoch"])
        for name, value in under("keeper/").items():
            setattr(self.keeper, name, value.copy())
        self.keeper.best_flat = tensor(arrays["best"])
        self.keeper.best_state = {name: tensor(value) for name, value in under("best/").items()}
        self.records = {name: value.copy() for name, value in under("record/").items()}
        self.rng.bit_generator.state = json.loads(str(arrays["rng"][()]))
        self.objective.load({name: torch.tensor(value) for name, value in under("objective/").items()})

    def _tensors(self) -> dict[str, Tensor]:
        of_objective = {f"objective/{name}": tensor for name, tensor in self.objective.state().items()}
        return {"parameters": self.flat, "first": self.adam.first, "second": self.adam.second, **of_objective}

    def _rng_state(self) -> str:
        return json.dumps(self.rng.bit_generator.state)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def _restore(adam: _Adam, rows: np.ndarray) -> None:
    index = torch.as_tensor(np.flatnonzero(rows), device=adam.first.device)
    adam.first[index] = 0.0  # the momentum that overshot is not carried back


class _Keeper:
    """Book-keeping per restart: best state so far, plateaus, learning rate, end."""

    NUMBERS = ("best", "reference", "waited", "plateaus", "slowed", "finished", "broken_at", "is_stuck")  # each (S,)

    def __init__(self, schedule: Schedule, objective: Objective):
        self.schedule, self.baseline, self.resolution = schedule, objective.baseline, objective.resolution
        n_nets = len(objective.parameters)
        self.best = np.full(n_nets, -np.inf)
        self.reference = np.full(n_nets, -np.inf)
        self.waited = np.zeros(n_nets, dtype=int)
        self.plateaus = np.zeros(n_nets, dtype=int)
        self.slowed = np.ones(n_nets)
        self.finished = np.zeros(n_nets, dtype=bool)
        self.broken_at = np.zeros(n_nets, dtype=int)  # the first epoch with a loss that was not finite, 0: none
        self.is_stuck = np.zeros(n_nets, dtype=bool)  # no batch of the last epoch had a finite loss
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
        broken = (~np.isfinite(value) | self.is_stuck) & ~self.finished
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

    def tally(self, skipped: np.ndarray, n_batches: int, epoch: int) -> None:
        """Remember how many batches (S,) of an epoch were skipped because loss or gradient was not finite."""
        skipped = np.where(self.finished, 0, skipped)
        self.broken_at = np.where((skipped > 0) & (self.broken_at == 0), epoch, self.broken_at)
        self.is_stuck = (skipped > 0) & (skipped == n_batches)

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

    def refuse_nothing_finite(self, label: str) -> None:
        """Raise where no restart ever had a finite value."""
        if not np.isfinite(self.best).any():
            raise FloatingPointError(
                f"{label}: the loss was not finite from epoch {self.broken_at.min()}; X may be scaled extremely or the "
                "learning rate too high: rescale X or lower learning_rate"
            )

    def not_finite(self) -> str:
        """Return what to say of restarts whose loss was not finite, "" where there are none."""
        if not self.broken_at.any():
            return ""
        at = self.broken_at[self.broken_at > 0].min()
        return (
            f"the loss of {int((self.broken_at > 0).sum())} of {len(self.best)} restarts was not finite, first in "
            f"epoch {at} (likely a learning rate too high); the last good state was kept. Lower learning_rate"
        )

    def not_converged(self) -> str:
        """Return what to say of restarts that had not converged, "" where all had."""
        if self.finished.all():
            return ""
        return (
            f"the validation value last rose {int(self.waited.min())} epochs before the end, to {self.best.max():.4f} "
            "nats per bin. Raise max_epochs"
        )
