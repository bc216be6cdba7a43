"""What is to be reduced, as samples of its field and, where it can run, trajectories: `Source`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.simulation import covariance_root
from nwb_lrrnn.models.least_squares.field import checked_samples

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel

Array = NDArray[np.floating]
Field = Callable[..., ArrayLike]
Sampler = Callable[[int, np.random.Generator], "Array | tuple[Array, Array]"]

_N_RUNS = 60  # trajectories, where nothing says how many
_FARTHEST = 1e3  # standard deviations of the starts that no trajectory of a field may leave


@dataclass(frozen=True)
class Source:
    """Samples of a field and trajectories that follow it, in the user's units."""

    latents: Array  # (T, R)
    velocity: Array  # (T, R)
    inside: Array  # (T, P): inputs that enter neurons; P = 0 without
    raw: Array  # (T, P): inputs that enter latents
    groups: NDArray[np.int64]  # (T,): the run a sample is of; -1 where it is of none
    paths: Array | None = None  # (K, n + 1, R)
    path_inside: Array | None = None  # (K, n, P)
    path_raw: Array | None = None  # (K, n, P)
    network: LowRankDynamics | None = None  # whose field it is
    tau: float | None = None
    dt: float | None = None

    @property
    def rank(self) -> int:
        """Number of latents R."""
        return self.latents.shape[1]


def from_samples(samples: tuple, input_mode: str) -> Source:
    """Return the source made of (latents, velocity) or (latents, velocity, inputs)."""
    if len(samples) not in (2, 3):
        raise ValueError(
            f"source: got {len(samples)} arrays, wanted (latents, velocity) or (latents, velocity, inputs), each "
            "(sample, ...)"
        )
    z, dz, u = checked_samples(*samples)
    inside, raw = _by_mode(u, len(z), input_mode)
    return Source(z, dz, inside, raw, np.full(len(z), -1))


def from_field(
    field: Field, sampler: Sampler | ArrayLike | None, n_samples: int, input_mode: str, rng: np.random.Generator
) -> Source:
    """Return samples of a callable, dz/dt = field(z) or field(z, inputs), where the sampler puts them."""
    if sampler is None:
        raise ValueError(
            "sampler: got None, wanted where the field is to be sampled: an array (sample, latent), or a function of a "
            "number and a numpy Generator that returns one, or one and inputs (sample, input)"
        )
    drawn = sampler(n_samples, rng) if callable(sampler) else sampler
    z, u = drawn if isinstance(drawn, tuple) else (drawn, None)
    z = np.asarray(z, dtype=float)
    dz = np.asarray(field(z) if u is None else field(z, u), dtype=float)
    return from_samples((z, dz) if u is None else (z, dz, u), input_mode)


def with_runs(source: Source, field: Field, dt: float, n_steps: int, rng: np.random.Generator) -> Source:
    """Return a source that has trajectories of its field too, by Euler steps from some of its samples.

    Inputs stay at what they were at the sample.
    """
    starts = rng.choice(len(source.latents), size=min(_N_RUNS, len(source.latents)), replace=False)
    inputs = source.inside if source.inside.shape[1] else source.raw
    held, z = inputs[starts], source.latents[starts]
    paths = np.empty((len(starts), n_steps + 1, source.rank))
    for t in range(n_steps + 1):
        paths[:, t] = z
        z = z + dt * np.asarray(field(z, held) if inputs.shape[1] else field(z), dtype=float)
    limit = np.abs(source.latents).max() * _FARTHEST
    good = (np.isfinite(paths) & (np.abs(paths) < limit)).all((1, 2))
    if good.sum() < 4:
        raise ValueError(
            f"source: {int((~good).sum())} of {len(good)} trajectories of the field escape within {n_steps} steps of "
            f"{dt:.3g} s, wanted 4 that stay; pass a smaller dt or n_steps, or objective='field'"
        )
    along = [np.repeat(values[starts[good], None], n_steps, axis=1) for values in (source.inside, source.raw)]
    return Source(
        source.latents, source.velocity, source.inside, source.raw, source.groups, paths[good], *along,
        network=source.network, tau=source.tau, dt=dt,
    )  # fmt: skip


def from_model(
    model: LowRankDynamics | LatentModel,
    latents: Any,
    inputs: Any,
    *,
    n_samples: int,
    n_steps: int,
    jitter: float,
    rng: np.random.Generator,
) -> Source:
    """Return the field of a network, or of a fitted model, where its latents are, and its trajectories there.

    The points are those of the latents given (recorded ones), or else of trajectories from starts drawn by the law of
    the latents, and as many again moved by noise of `jitter` standard deviations.
    """
    if not isinstance(model, LowRankDynamics):
        check_is_fitted(model)
    net = model if isinstance(model, LowRankDynamics) else model.dynamics_
    u = None if inputs is None else _as_trials("inputs", inputs, net.n_inputs)
    if net.n_inputs and u is None:
        raise ValueError(f"inputs: got None, wanted (trial, time, {net.n_inputs}): this network is driven by inputs")
    if latents is not None:
        given = _as_trials("latents", latents, net.rank)
        if u is not None and [len(x) for x in u] != [len(z) for z in given]:
            raise ValueError(
                "inputs: got other numbers of trials or bins than the latents, wanted (trial, time, input)"
            )
        starts, v, u = _pieces(net, given, u, n_steps)
    else:
        starts, v, u = _drawn(net, u, n_steps, rng)
    paths, v, u = _run(net, starts, v, u)
    n_runs, n = len(paths), paths.shape[1] - 1
    z = paths[:, :-1].reshape(-1, net.rank)
    groups = np.repeat(np.arange(n_runs), n)
    inside, raw = v.reshape(n_runs * n, -1), u.reshape(n_runs * n, -1)
    rows = rng.permutation(len(z))[: max(n_samples // 2, 1)]
    z, inside, raw, groups = z[rows], inside[rows], raw[rows], groups[rows]
    moved = z + jitter * z.std(0) * rng.standard_normal(z.shape)
    z, groups = np.concatenate([z, moved]), np.concatenate([groups, groups])
    inside, raw = np.concatenate([inside, inside]), np.concatenate([raw, raw])
    velocity = net.velocity(z, inside if net.n_inputs else None, raw if net.n_inputs else None)
    enters, through = net.input_weights is not None, net.latent_input_weights is not None
    velocity = np.asarray(velocity, dtype=float)
    keep_inside, keep_raw = (slice(None) if there else slice(0, 0) for there in (enters, through))
    return Source(
        z, velocity, inside[:, keep_inside], raw[:, keep_raw], groups, paths, v[..., keep_inside], u[..., keep_raw],
        net, net.tau, net.dt,
    )  # fmt: skip


def _run(net: LowRankDynamics, starts: Array, v: Array, u: Array) -> tuple[Array, Array, Array]:
    """Return the trajectories (K, n + 1, R) of a network without noise, and the inputs of those that stay finite."""
    paths = np.empty((len(starts), v.shape[1] + 1, net.rank))
    z = starts
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(paths.shape[1]):
            paths[:, t] = z
            if t < v.shape[1]:
                z = net.step(z, v[:, t], u[:, t]) if net.n_inputs else net.step(z)
    spread = np.abs(starts).max() + starts.std() + 1e-300
    good = (np.isfinite(paths) & (np.abs(paths) < _FARTHEST * spread)).all((1, 2))
    if good.sum() < 4:
        raise ValueError(
            f"source: {int(good.sum())} of {len(good)} trajectories of the network stay finite, wanted at least 4: it "
            "runs away from its latents; pass a smaller n_steps"
        )
    return paths[good], v[good], u[good]


def _drawn(net: LowRankDynamics, u: list[Array] | None, n_steps: int, rng) -> tuple[Array, Array, Array]:
    """Return starts drawn by the law of the latents, or with inputs by the initial law, with v and u."""
    if u is not None:
        n = min(map(len, u))
        raw = np.stack([x[:n] for x in u])
        v = net.filtered_inputs(raw)
        starts = net.replace(latent_noise=None).simulate(len(raw), 1, inputs=raw[:, :1], random_state=rng).latents
        return starts.values[:, 0], v, raw
    none = np.zeros((_N_RUNS, n_steps, 0))
    if net.latent_mean is None or net.latent_covariance is None:
        return net.simulate(_N_RUNS, 1, random_state=rng).latents.values[:, 0], none, none
    root = covariance_root(net.latent_covariance)
    return net.latent_mean + rng.standard_normal((_N_RUNS, net.rank)) @ root.T, none, none


def _pieces(net: LowRankDynamics, latents: list[Array], u: list[Array] | None, n_steps: int):
    """Return starts on recorded latents, every n_steps bins of a trial, with v and u from there on."""
    n = min(n_steps, max(map(len, latents)) - 1)
    if n < 1:
        raise ValueError("latents: got trials of one bin, wanted two bins or more")
    starts, inside, raw = [], [], []
    for k, z in enumerate(latents):
        drive = np.zeros((len(z), 0)) if u is None else u[k]
        v = drive if u is None else net.filtered_inputs(drive)
        for s in range(0, len(z) - n, n):
            starts.append(z[s])
            inside.append(v[s : s + n])
            raw.append(drive[s : s + n])
    if len(starts) < 4:
        raise ValueError(
            f"latents: got {len(starts)} pieces of {n} bins, wanted 4 or more; pass more or longer trials, or a "
            "smaller n_steps"
        )
    return np.stack(starts), np.stack(inside), np.stack(raw)


def _as_trials(name: str, values: Any, size: int) -> list[Array]:
    """Return trials as a list of arrays (time, size); what is not finite at their ends is cut off."""
    if isinstance(values, list):
        arrays = [np.asarray(part, dtype=float) for part in values]
    else:
        array = np.asarray(values, dtype=float)
        arrays = [array] if array.ndim == 2 else list(array)
    if any(trial.ndim != 2 or trial.shape[1] != size for trial in arrays):
        raise ValueError(f"{name}: got arrays of shape {np.shape(arrays[0])}, wanted (trial, time, {size})")
    cut = []
    for k, trial in enumerate(arrays):
        good = np.isfinite(trial).all(1)
        trial = trial[: int(np.flatnonzero(good)[-1]) + 1 if good.any() else 0]
        if not np.isfinite(trial).all():
            raise ValueError(f"{name}: got values that are not finite within trial {k}, wanted finite numbers")
        cut.append(trial)
    return cut


def _by_mode(u: Array | None, n_samples: int, input_mode: str) -> tuple[Array, Array]:
    none = np.zeros((n_samples, 0))
    if u is None:
        return none, none
    return (u, none) if input_mode == "neuron" else (none, u)
