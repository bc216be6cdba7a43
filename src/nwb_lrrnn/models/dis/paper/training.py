"""How the paper's objective is minimised: AdamW on shuffled batches for a fixed number of epochs, as in the paper.

Nothing is judged on the way, so this is not the loop of `models.training`: an epoch is one call of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.models.dis.paper import objective as paper
from nwb_lrrnn.models.dis.paper.objective import TERMS, Form, Settings
from nwb_lrrnn.models.training.devices import one_thread, resolve
from nwb_lrrnn.models.training.threads import over_ranges
from nwb_lrrnn.parameters import choose
from nwb_lrrnn.progress import Progress

Array = NDArray[np.floating]


@dataclass(frozen=True)
class PaperFit:
    """S restarts: their parameters, how well each does on pairs it was not trained on, and how it came there."""

    form: Form
    parameters: dict[str, Array]  # (S, ...) by the names of `Form.layout`
    posterior_log_sd: float  # log s, the same for all
    log_likelihood: Array  # (S,) nats a pair at z = posterior mean: of the held-out pairs, of all where there are none
    history: dict[str, Array]  # (epoch, S) by the names of TERMS, means over an epoch's batches; nan once stopped
    not_finite: str  # what the user should know of restarts whose loss was not finite; "" where there are none

    @property
    def best(self) -> int:
        """Return the restart whose log-likelihood is highest: restarts that end in a poor optimum lie far below."""
        return int(np.nanargmax(self.log_likelihood))

    def of(self, restart: int) -> dict[str, Array]:
        """Return the parameters of one restart by name."""
        return {name: values[restart] for name, values in self.parameters.items()}


def train(
    u: Array,
    y: Array,
    group_ranks: Sequence[int],
    settings: Settings | None = None,
    *,
    given: Array | None = None,
    held_out: NDArray[np.bool_] | None = None,
    start: Mapping[str, Array] | None = None,
    n_init: int = 1,
    random_state: int | np.random.SeedSequence | None = None,
    device: str = "cpu",
    dtype: str = "float64",
    kernels: bool | None = None,
) -> PaperFit:
    """Return S = `n_init` networks trained by the paper's objective, side by side.

    Every restart has its own start, order of pairs and noise, from its own seed; the first is what `n_init=1` gives.
    A restart whose loss is not finite stops at its last good parameters, the others go on.

    Parameters
    ----------
    u, y : arrays (pair, feature), (pair, unit)
        What the encoder sees of the bins before, and the bins it predicts, in units of order 1.
    given : array (pair, unit), optional
        A known part of the mean of y.
    held_out : bool array (pair,), optional
        Pairs that are not trained on and judge the restarts.
    start : mapping, optional
        Where to begin, by the names of `Form.layout`, without the axis of restarts (`settings=paper.FINE_TUNING`).
        `log_sd` may be missing: then the residuals and the noise of the posterior give it.
    dtype : str
        Arithmetic of the torch path; the kernels of the CPU compute in float64.
    kernels : bool, optional
        Overrides the choice between kernels (CPU) and torch (elsewhere).

    Raises
    ------
    FloatingPointError
        Where no restart has a finite log-likelihood.
    """
    settings = Settings() if settings is None else settings
    choose("encoder", settings.encoder, ("linear", "mlp"))
    choose("schedule", settings.schedule, ("constant", "cosine"))
    y = y if given is None else y - given
    form = Form(u.shape[1], y.shape[1], tuple(group_ranks), settings.n_hidden if settings.encoder == "mlp" else 0)
    _check(form, settings, len(u) if held_out is None else int((~held_out).sum()))
    u, y = (np.ascontiguousarray(a, dtype=np.float64) for a in (u, y))
    inside = slice(None) if held_out is None else ~held_out
    seeds = (
        np.random.SeedSequence(random_state) if not isinstance(random_state, np.random.SeedSequence) else random_state
    )
    generators = [_generator(seeds, restart) for restart in range(n_init)]
    with one_thread():
        run = Run(form, settings, u[inside], y[inside], generators, start, device, dtype, kernels)
        history, broken_at = run.train()
        parameters = {name: values.numpy() for name, values in form.layout.unpack(run.final()).items()}
        judged = slice(None) if held_out is None else held_out
        value = conditional_log_likelihood(parameters, u[judged], y[judged])
    return PaperFit(form, parameters, run.log_sd, value, history, _said(broken_at, value))


def conditional_log_likelihood(parameters: Mapping[str, Array], u: Array, y: Array) -> Array:
    """Return log p(y | z = posterior mean) (S,) summed over units, the mean over pairs."""
    parts = {name: torch.as_tensor(np.asarray(values, dtype=np.float64)) for name, values in parameters.items()}
    features, targets = torch.as_tensor(u)[None], torch.as_tensor(y)[None]
    return paper.log_likelihood(parts, paper.posterior_mean(parts, features), targets).numpy()


class Run:
    """All that changes while S restarts are trained."""

    def __init__(
        self,
        form: Form,
        settings: Settings,
        u: Array,
        y: Array,
        generators: Sequence[np.random.Generator],
        start: Mapping[str, Array] | None = None,
        device: str = "cpu",
        dtype: str = "float64",
        kernels: bool | None = None,
    ):
        self.form, self.settings, self.u, self.y, self.generators = form, settings, u, y, generators
        self.device, self.dtype = resolve(device), getattr(torch, dtype)
        self.kernels = self.device.type == "cpu" if kernels is None else kernels
        self.n_total = len(u) if settings.n_total is None else settings.n_total
        self.log_sd = paper.posterior_log_sd(self.n_total, form.rank)
        n = len(u)
        self.batch = n if settings.batch_size is None else min(settings.batch_size, n)
        self.n_steps = -(-n // self.batch) - (n % self.batch == 1)  # a last batch of one pair shows no density
        random = paper.initial(form, generators)  # drawn in any case, so that the seeds mean the same with a start
        self.flat = random if start is None else self._given(start, len(generators))
        self.order = np.empty((len(generators), n), dtype=np.int64)
        self.noise = np.empty((len(generators), n, form.rank))
        self.running = np.ones(len(generators), dtype=bool)

    def train(self) -> tuple[dict[str, Array], NDArray[np.int64]]:
        """Return the history of every term (epoch, S), and the epochs (S,) of a loss that was not finite, 0: none."""
        epochs, restarts = self.settings.max_epochs, len(self.generators)
        records, broken_at = np.full((epochs, restarts, len(TERMS)), np.nan), np.zeros(restarts, dtype=np.int64)
        one_epoch = self._by_kernels() if self.kernels else self._by_torch()
        with Progress(epochs, "paper's objective") as progress:
            for epoch in range(epochs):
                self._draw()
                records[epoch] = next(one_epoch)
                records[epoch, ~self.running] = np.nan
                broken_at[~self.running & (broken_at == 0)] = epoch + 1
                progress.advance(1)
                if not self.running.any():
                    break
        return {name: records[: progress.done, :, at] for at, name in enumerate(TERMS)}, broken_at

    def final(self) -> Tensor:
        """Return the parameters (S, P) in float64, on the CPU."""
        return self.flat.detach().to("cpu", torch.float64)

    def _draw(self) -> None:
        for s, generator in enumerate(self.generators):  # numpy's normals take a quarter of the time of torch's
            self.order[s] = generator.permutation(len(self.u))
            generator.standard_normal(out=self.noise[s])

    def _rates(self) -> Iterator[Array]:
        """Yield every epoch's learning rates (step,)."""
        settings, steps = self.settings, np.arange(self.n_steps)
        for epoch in range(settings.max_epochs):
            done = (epoch * self.n_steps + steps) / (settings.max_epochs * self.n_steps)
            falling = 0.5 * (1 + np.cos(math.pi * done)) if settings.schedule == "cosine" else np.ones(self.n_steps)
            yield settings.learning_rate * falling

    def _by_kernels(self) -> Iterator[Array]:
        """Train an epoch at every turn, yield its terms (S, term)."""
        from nwb_lrrnn.models.kernels import paper_objective as kernels

        form, settings = self.form, self.settings
        sizes = kernels.Sizes(form.n_features, form.n_units, form.rank, form.n_hidden)
        weights = kernels.Weights(
            math.exp(self.log_sd), float(settings.penalty), float(settings.block_penalty),
            float(not settings.leave_one_out), float(self.n_total),
        )  # fmt: skip
        flat = self.flat.numpy()
        good, first, second = flat.copy(), np.zeros_like(flat), np.zeros_like(flat)
        fixed = (sizes, weights, form.edges, self.u, self.y, self.order, self.noise, self.batch)
        state = (float(settings.weight_decay), flat, good, first, second, self.running)
        for epoch, rates in enumerate(self._rates()):
            sums = np.empty((len(flat), kernels.N_TERMS))
            made = epoch * self.n_steps
            varied = made, rates, *state, sums
            over_ranges(lambda a, b: kernels.epoch(a, b, *fixed, *varied), len(flat), len(flat) * self.u.size)  # noqa: B023
            yield sums

    def _by_torch(self) -> Iterator[Array]:
        """Train an epoch at every turn, yield its terms (S, term)."""
        settings, to = self.settings, {"device": self.device, "dtype": self.dtype}
        u, y = torch.as_tensor(self.u).to(**to), torch.as_tensor(self.y).to(**to)
        self.flat = flat = self.flat.to(**to).clone().requires_grad_()
        good, first, second = flat.detach().clone(), torch.zeros_like(flat), torch.zeros_like(flat)
        running = torch.ones(len(flat), dtype=torch.bool, device=self.device)
        made = 0
        for rates in self._rates():
            order, noise = torch.as_tensor(self.order).to(self.device), torch.as_tensor(self.noise).to(**to)
            sums = torch.zeros(len(flat), len(TERMS), **to)
            for step, rate in enumerate(rates):
                rows = slice(step * self.batch, (step + 1) * self.batch)
                picked = order[:, rows]
                values = paper.terms(
                    flat, self.form, settings, self.log_sd, self.n_total, u[picked], y[picked], noise[:, rows]
                )
                (grad,) = torch.autograd.grad(values[:, 0].sum(), flat)
                made += 1
                with torch.no_grad():
                    running &= torch.isfinite(values[:, 0]) & torch.isfinite(grad.sum(1))
                    sums += values * (picked.shape[1] / len(u))
                    good = torch.where(running[:, None], flat, good)
                    grad = torch.where(running[:, None], grad, 0.0)
                    first.lerp_(grad, 0.1)
                    second.lerp_(grad**2, 0.001)
                    move = first / (1 - 0.9**made) / (torch.sqrt(second / (1 - 0.999**made)) + 1e-8)
                    flat.copy_(
                        torch.where(running[:, None], flat * (1 - rate * settings.weight_decay) - rate * move, good)
                    )
            self.running[:] = running.cpu().numpy()
            yield sums.cpu().double().numpy()

    def _given(self, start: Mapping[str, Array], n_init: int) -> Tensor:
        """Return the start (S, P), the same for all restarts."""
        parts = {name: torch.as_tensor(np.array(values, dtype=np.float64))[None] for name, values in start.items()}
        if "log_sd" not in parts:
            mean = paper.posterior_mean(parts, torch.as_tensor(self.u)[None])
            residual = torch.as_tensor(self.y) - mean @ parts["loadings"].mT - parts["offset"][:, None]
            blurred = math.exp(2 * self.log_sd) * (parts["loadings"] ** 2).sum(-1)
            parts["log_sd"] = 0.5 * torch.log((residual**2).mean(1) + blurred)
        return self.form.layout.pack(parts).repeat(n_init, 1)


def _generator(seeds: np.random.SeedSequence, restart: int) -> np.random.Generator:
    child = np.random.SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, restart))  # `spawn` would change `seeds`
    return np.random.default_rng(child)


def _check(form: Form, settings: Settings, n_pairs: int) -> None:
    if n_pairs < 2:
        raise ValueError(f"X: got {n_pairs} pairs of bins to train on, wanted at least 2; record longer")
    if settings.batch_size is not None and settings.batch_size < 2:
        raise ValueError(
            f"batch_size: got {settings.batch_size}, wanted at least 2: densities need neighbours; raise it"
        )
    if settings.block_penalty and (form.n_hidden or form.n_features != form.n_units):
        raise ValueError(
            f"block_penalty: got {settings.block_penalty}, wanted 0 with encoder='mlp' or several lags, where there is "
            "no B A to be penalised; use encoder='linear' and n_lags=1"
        )


def _said(broken_at: NDArray[np.int64], value: Array) -> str:
    """Return what to say of restarts that stopped, "" where none did; raise where none is of use."""
    if not broken_at.any():
        return ""
    at = broken_at[broken_at > 0].min()
    if not np.isfinite(value).any():
        raise FloatingPointError(
            f"paper's objective: the loss was not finite from epoch {at}; X may be scaled extremely or the learning "
            "rate too high: rescale X or lower learning_rate"
        )
    return (
        f"the loss of {int((broken_at > 0).sum())} of {len(broken_at)} restarts was not finite, first in epoch {at} "
        "(likely a learning rate too high); the last good state was kept. Lower learning_rate"
    )
