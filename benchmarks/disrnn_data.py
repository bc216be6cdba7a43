"""Data with two known groups of latents for `disrnn.py`: Lorenz and Thomas, seen through a fitted network.

The generator of Li et al. (2025, arXiv 2511.13899): z = (Lorenz, Thomas), Runge-Kutta with dt = 0.1, z-scored; a
decoder D (6 -> units) and an encoder E (units -> 6), both affine, minimise |z[t+1] - E(tanh(D z[t]) + u[t])|^2; a
recording is x = D z + 0.1 noise. The truth is A = D.weight and B = E.weight. Here noise, trajectory and weights have
seeds of their own, and there are variants that the paper does not have.
"""

from __future__ import annotations

import hashlib
import math
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from planted import _spiking  # noqa: E402

Array = NDArray[np.floating]
STEP = 0.1  # time units of both attractors per bin
GROUPS = (3, 3)
N_UNITS, N_BINS, NOISE = 20, 2000, 0.1
BURN_IN = 3000  # bins; Thomas' attractor turns over in about 60
MEAN_RATE, BIN_SIZE = 10.0, 0.02  # spikes/s and seconds of the Poisson version


@dataclass(frozen=True)
class Planted:
    """A recording and the network and latents that it comes from."""

    observations: Array  # (time, unit)
    latents: Array  # (time, latent)
    left_vectors: Array  # A (unit, latent)
    right_vectors: Array  # B (latent, unit): z[t+1] = B tanh(x[t]) + d
    bias: Array  # c (unit,)
    drive: Array  # d (latent,)
    group_ranks: tuple[int, ...] = GROUPS
    bin_size: float | None = None  # seconds, of counts

    def sub_connectivity(self) -> list[Array]:
        """Return A_g B_g (unit, unit) of every group."""
        return [self.left_vectors[:, s] @ self.right_vectors[s] for s in columns_of(self.group_ranks)]

    def units(self, chosen: NDArray[np.integer]) -> Planted:
        """Return the recording of some of the units; their connectivity is a part of the whole network's."""
        return replace(
            self,
            observations=self.observations[:, chosen],
            left_vectors=self.left_vectors[chosen],
            right_vectors=self.right_vectors[:, chosen],
            bias=self.bias[chosen],
        )


def columns_of(group_ranks: tuple[int, ...]) -> list[slice]:
    """Return the columns of every group."""
    ends = np.cumsum(group_ranks)
    return [slice(int(e) - r, int(e)) for e, r in zip(ends, group_ranks, strict=True)]


# --- trajectories ----------------------------------------------------------------------------------------------------


def _velocity(q: list[float], b: float, k: float, clock: float) -> list[float]:
    """Return d(Lorenz, Thomas[, Roessler])/dt; k times Lorenz' x in units of its s.d. (7.9) drives Thomas' first.

    Thomas: u' = sin v - b u and cyclic, `clock` times as fast; b = 0 stands for the paper's
    u' = -sin v, v' = sin w, w' = sin u.
    """
    x, y, z, u, v, w = q[:6]
    sign = -1.0 if b == 0 else 1.0
    slopes = [
        10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z,
        clock * (sign * math.sin(v) - b * u + k * x / 7.9),
        clock * (math.sin(w) - b * v), clock * (math.sin(u) - b * w),
    ]  # fmt: skip
    if len(q) > 6:
        x, y, z = q[6:]
        slopes += [2.0 * (-y - z), 2.0 * (x + 0.2 * y), 2.0 * (0.2 + z * (x - 5.7))]  # a turn in about 30 bins
    return slopes


def _run(start: list[float], n_steps: int, *about: float) -> Array:
    """Return the path (time, latent) by the classical Runge-Kutta method, from `start` on."""
    q, path, h = list(start), [], STEP
    for _ in range(n_steps):
        path.append(q)
        k1 = _velocity(q, *about)
        k2 = _velocity([a + 0.5 * h * s for a, s in zip(q, k1, strict=True)], *about)
        k3 = _velocity([a + 0.5 * h * s for a, s in zip(q, k2, strict=True)], *about)
        k4 = _velocity([a + h * s for a, s in zip(q, k3, strict=True)], *about)
        slopes = zip(q, k1, k2, k3, k4, strict=True)
        q = [a + h / 6.0 * (s1 + 2 * s2 + 2 * s3 + s4) for a, s1, s2, s3, s4 in slopes]
    return np.array(path)


def trajectory(
    seed: int | None = None, n_bins: int = N_BINS, coupling: float = 0.0, clock: float = 1.0, n_groups: int = 2
) -> Array:
    """Return z-scored latents (time, 3 per group): the paper's (seed None), or b = 0.2 from a random start.

    The third group is a Roessler system.
    """
    if seed is None:
        path = _run([1.0, 1.0, 1.0, 0.1, 1.0, 1.0], n_bins, 0.0, coupling, clock)
    else:
        rng = np.random.default_rng([seed, 1])
        start = [
            *([0, 0, 25] + 5 * rng.standard_normal(3)),
            *(2 * rng.standard_normal(3)),
            *(0.5 * rng.standard_normal(3)),
        ]
        path = _run(start[: 3 * n_groups], BURN_IN + n_bins, 0.2, coupling, clock)[BURN_IN:]
    return (path - path.mean(0)) / path.std(0)


def canonical_correlations(a: Array, b: Array) -> Array:
    """Return the canonical correlations of two groups of columns, the largest first."""
    qa, qb = (np.linalg.qr(z - z.mean(0))[0] for z in (a, b))
    return np.clip(np.linalg.svd(qa.T @ qb, compute_uv=False), 0, 1)


def largest_correlation(latents: Array) -> float:
    """Return the largest canonical correlation between Lorenz and Thomas."""
    return float(canonical_correlations(latents[:, :3], latents[:, 3:])[0])


COUPLINGS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
FAST = 4.0  # Thomas' clock where Lorenz drives it: at 1 no coupling correlates them by more than about 0.4


def coupling_for(seed: int, wanted: float = 0.5, clock: float = FAST, n_bins: int = N_BINS) -> float:
    """Return the least of `COUPLINGS` at which the groups' largest canonical correlation is at least `wanted`.

    Thomas' first equation integrates its drive with a leak of `clock` * 0.2, slower than Lorenz forgets; so there is
    a ceiling to the correlation, however large the drive, that rises with the clock.
    """
    for k in COUPLINGS:
        if largest_correlation(trajectory(seed, n_bins, k, clock)) >= wanted:
            return k
    raise ValueError(f"wanted: got {wanted}, which no coupling up to {COUPLINGS[-1]} reaches for seed {seed}")


# --- the network -----------------------------------------------------------------------------------------------------


def fit_network(
    latents: Array, seed: int, n_units: int = N_UNITS, inputs: Array | None = None, n_iter: int = 10_000
) -> tuple[Array, Array, Array, Array, float]:
    """Return D, c, E, d and the final mean squared error, by full-batch AdamW (1e-3, decay 0.01) as in the paper.

    Written with its gradient by hand; takes some seconds, so results are kept in the temporary folder.
    """
    key = hashlib.sha256(latents.tobytes() + (b"" if inputs is None else inputs.tobytes()))
    key.update(f"{seed} {n_units} {n_iter}".encode())
    path = Path(tempfile.gettempdir()) / "nwb_lrrnn_disrnn" / f"{key.hexdigest()[:24]}.npz"
    if path.exists():
        with np.load(path) as kept:
            return kept["D"], kept["c"], kept["E"], kept["d"], float(kept["error"])
    found = _adamw(latents, seed, n_units, inputs, n_iter)
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(f".{seed}.part.npz")  # whole or not at all: two benchmarks may run at once
    np.savez(part, **dict(zip(("D", "c", "E", "d", "error"), found, strict=True)))
    part.replace(path)
    return found


def _adamw(latents, seed, n_units, inputs, n_iter):
    rng = np.random.default_rng([seed, 2])
    k = latents.shape[1]
    shapes = [(n_units, k), (n_units,), (k, n_units), (k,)]
    bounds = [k**-0.5, k**-0.5, n_units**-0.5, n_units**-0.5]  # of torch.nn.Linear
    sizes = np.cumsum([0] + [math.prod(s) for s in shapes])
    values = np.concatenate([rng.uniform(-b, b, math.prod(s)) for s, b in zip(shapes, bounds, strict=True)])
    values = values.astype(np.float32)

    def views(flat):
        return [flat[a:b].reshape(s) for a, b, s in zip(sizes, sizes[1:], shapes, strict=False)]

    decoder, c, encoder, d = views(values)
    gradient = np.zeros_like(values)
    g_decoder, g_c, g_encoder, g_d = views(gradient)
    z, after = latents[:-1].astype(np.float32), latents[1:].astype(np.float32)
    u = np.zeros((1, 1), np.float32) if inputs is None else inputs[:-1].astype(np.float32)
    first, second, error = np.zeros_like(values), np.zeros_like(values), 0.0
    for i in range(1, n_iter + 1):
        rates = np.tanh(z @ decoder.T + c)
        residual = (rates + u) @ encoder.T + d - after
        error = float(np.mean(residual**2))
        slope = residual * (2.0 / residual.size)
        back = (slope @ encoder) * (1 - rates**2)
        g_encoder[...], g_d[...] = slope.T @ (rates + u), slope.sum(0)
        g_decoder[...], g_c[...] = back.T @ z, back.sum(0)
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient**2 - second)
        values *= 1 - 1e-3 * 0.01
        values -= 1e-3 / (1 - 0.9**i) * first / (np.sqrt(second / (1 - 0.999**i)) + 1e-8)
    decoder, c, encoder, d = (v.astype(float) for v in views(values))
    return decoder, c, encoder, d, error


def encoder_of(latents: Array, decoder: Array, c: Array, ridge: float = 1e-4) -> tuple[Array, Array]:
    """Return E and d by ridge regression of z[t+1] on tanh(D z[t] + c); `ridge` is relative to the largest variance."""
    rates, after = np.tanh(latents[:-1] @ decoder.T + c), latents[1:]
    centred = rates - rates.mean(0)
    gram = centred.T @ centred
    penalty = ridge * np.linalg.eigvalsh(gram)[-1] * np.eye(len(gram))
    encoder = np.linalg.solve(gram + penalty, centred.T @ (after - after.mean(0))).T
    return encoder, after.mean(0) - encoder @ rates.mean(0)


def largest_cosine(decoder: Array) -> float:
    """Return the largest cosine between the column spaces of the first two groups of D."""
    return float(
        np.linalg.svd(np.linalg.qr(decoder[:, :3])[0].T @ np.linalg.qr(decoder[:, 3:6])[0], compute_uv=False)[0]
    )


# --- recordings ------------------------------------------------------------------------------------------------------


def _noise(seed: int, shape: tuple[int, ...]) -> Array:
    return np.random.default_rng([seed, 3]).standard_normal(shape)


def _readout(latents, network, seed, sd, n_bins) -> Planted:
    decoder, c, encoder, d = network
    noise = _noise(seed, (len(latents), len(c)))
    return Planted((latents @ decoder.T + c + sd * noise)[:n_bins], latents[:n_bins], decoder, encoder, c, d)


def standard(seed: int, sd: float = NOISE, n_bins: int = N_BINS) -> Planted:
    """Return the paper's data: its trajectory (Thomas' b = 0), D and E fitted with a small input u of s.d. 0.005.

    u is drawn independently of the noise (in the authors' file u is the noise over 20), and is not part of x.
    """
    z = trajectory()
    u = 0.005 * np.random.default_rng([seed, 4]).standard_normal((len(z), N_UNITS))
    return _readout(z, fit_network(z, seed, inputs=u)[:4], seed, sd, n_bins)


def clean(
    seed: int, sd: float = NOISE, n_bins: int = N_BINS, coupling: float = 0.0, clock: float = 1.0, n_groups: int = 2
) -> Planted:
    """Return the paper's data made clean: Thomas' b = 0.2, random starts, no input; three groups have 30 units.

    Shorter recordings are the first bins of a long one, of the same network; that of longer ones is fitted to the first
    `N_BINS`.
    """
    z = trajectory(seed, max(N_BINS, n_bins), coupling, clock, n_groups)
    network = fit_network(z[:N_BINS], seed, N_UNITS if n_groups == 2 else 30)[:4]
    return replace(_readout(z, network, seed, sd, n_bins), group_ranks=(3,) * n_groups)


def oblique(seed: int, sd: float = NOISE, n_bins: int = N_BINS) -> Planted:
    """Return the clean data through a random decoder, the cosine between the groups' readouts being 0.70 to 0.86.

    The fitted decoder's groups are near-orthogonal. The random one is Gaussian, of the fitted one's mean square, drawn
    until the cosine fits; E is refitted by ridge regression.
    """
    z = trajectory(seed)
    fitted, c = fit_network(z, seed)[:2]
    rng = np.random.default_rng([seed, 5])
    draws = (np.sqrt(np.mean(fitted**2)) * rng.standard_normal(fitted.shape) for _ in range(1000))
    decoder = next(draw for draw in draws if 0.70 <= largest_cosine(draw) <= 0.86)
    return _readout(z, (decoder, c, *encoder_of(z, decoder, c)), seed, sd, n_bins)


def feedback(seed: int, sd: float = NOISE, n_bins: int = N_BINS) -> Planted:
    """Return a network that runs freely and whose noise feeds back: y = D z + c + e, z[t+1] = E tanh(y[t]) + d.

    D and E are those of `clean`. The network lives (noise of s.d. 0.1 included) close to both attractors.
    """
    decoder, c, encoder, d, _ = fit_network(trajectory(seed), seed)
    burn = 500
    noise = sd * _noise(seed, (burn + n_bins, len(c)))
    z, latents, seen = trajectory(seed)[0], [], []
    for e in noise:
        y = decoder @ z + c + e
        latents.append(z)
        seen.append(y)
        z = encoder @ np.tanh(y) + d
    return Planted(np.array(seen[burn:]), np.array(latents[burn:]), decoder, encoder, c, d)


def counts(seed: int, n_bins: int = N_BINS) -> Planted:
    """Return Poisson counts of the clean network: rate 10 softplus(a s + b) spikes/s, s = D z, in bins of 20 ms.

    a and b of every unit are such that the mean of its rate is 10 spikes/s and its s.d. as large. The network of the
    result is the one with currents x = a s + b, its E refitted to them.
    """
    z = trajectory(seed)
    decoder = fit_network(z, seed)[0]
    decoder = decoder / (z @ decoder.T).std(0)[:, None]
    gains, offsets = np.array([_spiking(z @ row, 1.0, 1.0) for row in decoder]).T
    currents = gains * (z @ decoder.T) + offsets
    rates = MEAN_RATE * np.logaddexp(0, currents)
    seen = np.random.default_rng([seed, 6]).poisson(rates * BIN_SIZE)
    scaled = gains[:, None] * decoder
    encoder = encoder_of(z, scaled, offsets)
    return Planted(seen[:n_bins], z[:n_bins], scaled, encoder[0], offsets, encoder[1], bin_size=BIN_SIZE)


def halves(data: Planted, seed: int) -> tuple[Planted, Planted]:
    """Return the recording of a random half of the units, and that of the other half."""
    order = np.random.default_rng([seed, 7]).permutation(data.observations.shape[1])
    n = len(order) // 2
    return data.units(np.sort(order[:n])), data.units(np.sort(order[n:]))
