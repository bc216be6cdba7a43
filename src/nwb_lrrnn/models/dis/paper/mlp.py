"""An encoder with one hidden layer of ReLUs, fitted by regression on latents that are known.

    z = W_2 relu(W_1 u + b_1) + b_2

Names: `hidden_weights` W_1 (hidden, feature), `hidden_bias` b_1, `output_weights` W_2 (latent, hidden), `output_bias`
b_2, as in `objective.Form.layout`, which trains the same encoder by the paper's objective; `network.encode` applies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.models.training.devices import one_thread, resolve
from nwb_lrrnn.models.training.loop import Layout, Schedule, train
from nwb_lrrnn.progress import Progress

Array = NDArray[np.floating]

N_HIDDEN = 32
_RIDGE = 1e-3  # of the linear start, on standardised features


@dataclass(frozen=True)
class MLPFit:
    """A fitted encoder, and what there is to say of it."""

    parameters: dict[str, Array]
    r2: float  # of the held-out pairs, the mean over latents
    n_epochs: int
    not_finite: str  # as in `models.training.Outcome`
    not_converged: str


def fit_mlp(
    u: Array,
    z: Array,
    *,
    weights: Array | None = None,
    held_out: NDArray[np.bool_] | None = None,
    n_hidden: int = N_HIDDEN,
    max_epochs: int = 500,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    patience: int = 20,
    n_init: int = 1,
    random_state: int | np.random.SeedSequence | None = None,
    device: str = "cpu",
    dtype: str = "float64",
) -> MLPFit:
    """Return the encoder of least squares, stopped where pairs it was not trained on are predicted best.

    It begins as the linear regression, which two hidden units a latent represent exactly (where there are as many), so
    that on the held-out pairs it is never worse than that.

    Parameters
    ----------
    u, z : arrays (pair, feature), (pair, latent)
    weights : array (pair,), optional
        How much each pair counts; 0: not at all.
    held_out : bool array (pair,), optional
        Pairs that decide when to stop; without them, the last fifth.
    """
    held = np.arange(len(u)) >= len(u) - max(1, len(u) // 5) if held_out is None else held_out
    weight = np.ones(len(u)) if weights is None else np.asarray(weights, dtype=np.float64)
    _check(weight, held)
    rng = np.random.default_rng(random_state)
    features, targets = _Scale.of(u[~held], weight[~held]), _Scale.of(z[~held], weight[~held])
    pairs = features.apply(u), targets.apply(z), weight
    inside, outside = ([a[rows] for a in pairs] for rows in (~held, held))
    with one_thread():
        start = _start(inside, n_hidden, n_init, rng)
        objective = _Regression(start, inside, outside, batch_size, resolve(device), getattr(torch, dtype))
        schedule = Schedule(max_epochs, patience, learning_rate)
        with Progress(max_epochs, "MLP encoder") as progress:
            outcome = train(objective, schedule, rng, progress=progress)
    best = int(np.nanargmax(outcome.validation))
    parts = objective.layout.unpack(outcome.parameters.detach().to("cpu", torch.float64))
    parameters = {name: values[best].numpy() for name, values in parts.items()}
    r2 = 1.0 - outcome.validation[best] / objective.baseline
    said = outcome.not_finite, outcome.not_converged
    return MLPFit(_in_units(parameters, features, targets), float(r2), outcome.n_epochs, *said)


@dataclass(frozen=True)
class _Scale:
    """Mean and sd (column,) by which columns are standardised."""

    mean: Array
    sd: Array

    @classmethod
    def of(cls, x: Array, weight: Array) -> _Scale:
        mean = np.average(x, axis=0, weights=weight)
        sd = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
        return cls(mean, np.where(sd > 0, sd, 1.0))

    def apply(self, x: Array) -> Array:
        return (x - self.mean) / self.sd


def _layout(n_features: int, n_hidden: int, rank: int) -> Layout:
    return Layout(
        {
            "hidden_weights": (n_hidden, n_features),
            "hidden_bias": (n_hidden,),
            "output_weights": (rank, n_hidden),
            "output_bias": (rank,),
        }
    )


def _start(pairs: list[Array], n_hidden: int, n_init: int, rng: np.random.Generator) -> Tensor:
    """Return the start (S, P): torch's `nn.Linear`, in which the first units carry the linear regression."""
    u, z, weight = pairs
    n_features, rank = u.shape[1], z.shape[1]
    layout, rows = _layout(n_features, n_hidden, rank), []
    gram = (u * weight[:, None]).T @ u + _RIDGE * weight.sum() * np.eye(n_features)
    linear = np.linalg.solve(gram, (u * weight[:, None]).T @ z).T  # (latent, feature)
    for _ in range(n_init):
        parts, width = {}, 1.0
        for name, shape in layout.shapes.items():
            width = shape[1] ** -0.5 if len(shape) == 2 else width
            parts[name] = rng.uniform(-width, width, shape)
        if 2 * rank <= n_hidden:
            eye, both = np.eye(rank), slice(0, 2 * rank)
            parts["hidden_weights"][both] = np.vstack([linear, -linear])
            parts["hidden_bias"][both] = 0.0
            parts["output_weights"][:] = 0.0
            parts["output_weights"][:, both] = np.hstack([eye, -eye])  # a = relu(a) - relu(-a)
            parts["output_bias"][:] = 0.0
        rows.append(layout.pack({name: torch.as_tensor(values)[None] for name, values in parts.items()}))
    return torch.cat(rows)


class _Regression:
    """The `Objective` of the training loop: half the squared error of standardised latents, weighted."""

    resolution = 1e-4

    def __init__(
        self,
        start: Tensor,
        inside: list[Array],
        outside: list[Array],
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ):
        to = {"device": device, "dtype": dtype}
        self.inside, self.outside = ([torch.as_tensor(a).to(**to) for a in part] for part in (inside, outside))
        n_features, rank = inside[0].shape[1], inside[1].shape[1]
        self.layout = _layout(n_features, (start.shape[1] - rank) // (n_features + 1 + rank), rank)
        self.parameters = start.to(**to).clone().requires_grad_()
        self.batch_size, self.mean_weight = batch_size, float(inside[2].mean())
        centre = np.average(outside[1], axis=0, weights=outside[2])
        self.baseline = -0.5 * float(np.average(((outside[1] - centre) ** 2).sum(1), weights=outside[2]))

    def begin_epoch(self, epoch: int) -> None:
        """Do nothing: there is only the parameters."""

    def batches(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the rows of every batch (S, pair), in each restart's own order."""
        n = len(self.inside[0])
        order = rng.permuted(np.tile(np.arange(n), (len(self.parameters), 1)), axis=1)
        rows = torch.as_tensor(order).to(self.parameters.device)
        for begin in range(0, n, self.batch_size):
            yield rows[:, begin : begin + self.batch_size]

    def loss(self, batch: Tensor) -> Tensor:
        """Return half the squared error (S,) of a batch, per pair of the average weight."""
        u, z, weight = (a[batch] for a in self.inside)
        return (self._squares(u, z) * weight).mean(1) / self.mean_weight

    def judge(self) -> dict[str, Tensor]:
        """Return minus half the squared error (S,) of the held-out pairs."""
        u, z, weight = self.outside
        with torch.no_grad():
            return {"validation": -(self._squares(u, z) * weight).sum(1) / weight.sum()}

    def snapshot(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Do nothing."""

    def _squares(self, u: Tensor, z: Tensor) -> Tensor:
        parts = self.layout.unpack(self.parameters)
        hidden = torch.relu(u @ parts["hidden_weights"].mT + parts["hidden_bias"][:, None])
        return 0.5 * ((hidden @ parts["output_weights"].mT + parts["output_bias"][:, None] - z) ** 2).sum(-1)


def _in_units(parameters: dict[str, Array], features: _Scale, targets: _Scale) -> dict[str, Array]:
    """Return the parameters for features and latents as they came."""
    hidden = parameters["hidden_weights"] / features.sd
    return {
        "hidden_weights": hidden,
        "hidden_bias": parameters["hidden_bias"] - hidden @ features.mean,
        "output_weights": targets.sd[:, None] * parameters["output_weights"],
        "output_bias": targets.mean + targets.sd * parameters["output_bias"],
    }


def _check(weight: Array, held: NDArray[np.bool_]) -> None:
    for rows, what in ((~held, "train on"), (held, "stop by")):
        if not weight[rows].sum() > 0:
            raise ValueError(
                f"X: got no pairs of bins to {what}, wanted some; lower validation_fraction or record longer"
            )
