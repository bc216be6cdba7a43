"""A network whose latents obey a given stochastic differential equation, by one ridge regression.

    dz = F(z) dt + Gamma(z) dW;    tau dx = (-x + U (Vᵀ phi(x + b) + s)) dt + tau U Gamma(z) dW

Started within the span of U the currents stay there, x = U z, whatever the noise, and z obeys its equation wherever
Vᵀ phi(U z + b) + s = z + tau F(z): a regression. Noise must come in along U: noise of every neuron for itself reaches
the latents as a part in N of what it is, and drives all other directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.field import FittedField, fit_field_samples
from nwb_lrrnn.models.least_squares.fields_from import box as points_in_box
from nwb_lrrnn.models.least_squares.penalty import choose_penalty
from nwb_lrrnn.models.least_squares.ridge import ridge as solve_ridge
from nwb_lrrnn.parameters import positive, whole_number

Array = NDArray[np.floating]
Drift = Callable[[Array], Array]
Diffusion = Callable[[Array], Array] | ArrayLike

_N_PATHS, _N_STEPS = 200, 1000  # of the drift, run to see whether it stays in the box


@dataclass(frozen=True)
class DriftDiffusionNetwork:
    """A network that drifts and diffuses as it was told, inside a box.

    `drift_r2` and `diffusion_error` (largest error over the root mean square of Gamma) are of points that the fit did
    not see; `norm` is the Frobenius norm of the connectivity, which grows as neurons and penalty become few.
    """

    fitted: FittedField = field(repr=False)
    root_weights: Array | None = field(repr=False)  # of Gamma, (N, R K); None: it is constant
    root_offset: Array = field(repr=False)  # (R, K)
    target: tuple[Drift, Drift] = field(repr=False)  # F and Gamma as functions of latents (T, R)
    low: Array
    high: Array
    drift_r2: float
    diffusion_error: float
    norm: float

    @property
    def n_neurons(self) -> int:
        """Number of neurons N."""
        return self.fitted.n_neurons

    def drift(self, latents: ArrayLike) -> Array:
        """Return the network's F at latents (..., latent), per second."""
        return self.fitted.velocity(np.asarray(latents, dtype=float))

    def diffusion(self, latents: ArrayLike) -> Array:
        """Return the network's Gamma (..., latent, noise) at latents (..., latent), per square root of a second."""
        z = np.asarray(latents, dtype=float)
        shape = (*z.shape[:-1], *self.root_offset.shape)
        if self.root_weights is None:
            return np.broadcast_to(self.root_offset, shape)
        return (self.fitted.features(z) @ self.root_weights).reshape(shape) + self.root_offset

    def currents(self, latents: ArrayLike) -> Array:
        """Return x = U z (..., neuron), without the biases."""
        return np.asarray(latents, dtype=float) @ self.fitted.features.encoders.T

    def connectivity(self) -> xr.DataArray:
        """Return J = U Vᵀ with dims (target, source)."""
        return xr.DataArray(self.fitted.features.encoders @ self.fitted.weights.T, dims=("target", "source"))

    def to_dynamics(self, dt: float) -> LowRankDynamics:
        """Return the network at time step `dt` (s), where Gamma is constant.

        Raises
        ------
        ValueError
            If Gamma depends on the latents, which `LowRankDynamics` has no place for.
        """
        if self.root_weights is not None:
            raise ValueError("to_dynamics: the diffusion depends on the latents here; use simulate of this network")
        return self.fitted.to_dynamics(dt, latent_noise=dt * self.root_offset @ self.root_offset.T)

    def simulate(
        self, n_trials: int, duration: float, step: float, *, start: ArrayLike | None = None, random_state: int = 0
    ) -> xr.Dataset:
        """Return `latents` (trial, time, latent) of the network, and the share of time `outside` the box.

        Parameters
        ----------
        n_trials : int
            Paths.
        duration, step : float
            Length and step (Euler-Maruyama), seconds.
        start : array (latent,) or (trial, latent), optional
            First points; the middle of the box by default.
        random_state : int
            Seed of the noise; `simulate_target` with the same seed is driven by the same noise.
        """
        return self._run(self.drift, self.diffusion, n_trials, duration, step, start, random_state)

    def simulate_target(
        self, n_trials: int, duration: float, step: float, *, start: ArrayLike | None = None, random_state: int = 0
    ) -> xr.Dataset:
        """Return the same of the equation itself."""
        return self._run(*self.target, n_trials, duration, step, start, random_state)

    def _run(
        self,
        drift: Drift,
        root: Drift,
        n_trials: int,
        duration: float,
        step: float,
        start: ArrayLike | None,
        random_state: int,
    ) -> xr.Dataset:
        n_trials, step = whole_number("n_trials", n_trials), positive("step", step, hint=" seconds")
        n_steps = max(1, round(positive("duration", duration, hint=" seconds") / step))
        middle = 0.5 * (self.low + self.high) if start is None else np.asarray(start, dtype=float)
        z = np.broadcast_to(middle, (n_trials, len(self.low))).copy()
        rng = np.random.default_rng(random_state)
        path = np.empty((n_trials, n_steps, len(self.low)))
        for t in range(n_steps):
            path[:, t] = z
            kick = rng.standard_normal((n_trials, self.root_offset.shape[1]))
            z = z + step * drift(z) + np.sqrt(step) * np.einsum("tij,tj->ti", root(z), kick)
        outside = float(np.mean(((path < self.low) | (path > self.high)).any(axis=-1)))
        latents = xr.DataArray(path, dims=("trial", "time", "latent"), coords={"time": step * np.arange(n_steps)})
        return xr.Dataset({"latents": latents, "outside": outside})


def drift_diffusion_network(
    drift: Drift,
    diffusion: Diffusion,
    n_neurons: int,
    box: tuple[Sequence[float], Sequence[float]],
    *,
    tau: float = 1.0,
    nonlinearity: str = "tanh",
    ridge: str | float = "cv",
    n_samples: int = 4000,
    random_state: int | None = 0,
) -> DriftDiffusionNetwork:
    """Return a network whose latents obey dz = F(z) dt + Gamma(z) dW (Ito) within a box.

    Parameters
    ----------
    drift : callable
        F, from latents (sample, latent) to (sample, latent), per second.
    diffusion : callable, array or float
        Gamma: from latents to (sample, latent, noise); or constant, (latent, noise) or a standard deviation for all,
        per square root of a second.
    n_neurons : int
        N.
    box : (low, high), each (latent,)
        Where latents may be; the drift must not lead out of it.
    tau : float
        Time constant of the neurons, seconds.
    nonlinearity : str
        phi.
    ridge : {"cv", "evidence", "noise"} or float
        Penalty of the regression; "cv" has the least held-out error.
    n_samples : int
        Points in the box, and as many again to judge by.
    random_state : int or None
        Seed of neurons and points.

    Raises
    ------
    ValueError
        If shapes do not fit or the drift leaves the box.

    Notes
    -----
    The aim is that of Nartallo-Kaluarachchi, Lambiotte & Goriely (2026, arXiv 2602.14885), who train such networks by
    gradients; here drift and diffusion are two readouts of the same neurons, found at once.

    Examples
    --------
    >>> well = drift_diffusion_network(lambda z: z - z**3, 0.5, 50, ([-2.0], [2.0]))
    >>> bool(well.drift_r2 > 0.9999)
    True
    """
    low, high = (np.atleast_1d(np.asarray(end, dtype=float)) for end in box)
    draw = points_in_box(list(low), list(high))
    rng = np.random.default_rng(random_state)
    tau, count = positive("tau", tau, hint=" seconds"), whole_number("n_samples", n_samples, 50)
    root = _as_function(diffusion, len(low))
    _check_stays(drift, low, high, rng)
    z, unseen = draw(count, rng), draw(count, rng)
    fitted = fit_field_samples(
        z, _field_at(drift, z), tau=tau, n_neurons=n_neurons, nonlinearity=nonlinearity, ridge=ridge, rng=rng
    )
    weights, offset = _fitted_root(fitted, z, root(z), ridge)
    wanted = _field_at(drift, unseen)
    missed = np.sum((fitted.velocity(unseen) - wanted) ** 2) / np.sum((wanted - wanted.mean(axis=0)) ** 2)
    norm = float(np.linalg.norm(fitted.features.encoders @ fitted.weights.T))
    network = DriftDiffusionNetwork(
        fitted, weights, offset, (drift, root), low, high, 1.0 - float(missed), np.nan, norm
    )
    gamma = root(unseen)
    scale = max(float(np.sqrt(np.mean(gamma**2))), 1e-300)
    return replace(network, diffusion_error=float(np.abs(network.diffusion(unseen) - gamma).max()) / scale)


def _field_at(drift: Drift, z: Array) -> Array:
    found = np.asarray(drift(z), dtype=float)
    if found.shape != z.shape or not np.isfinite(found).all():
        raise ValueError(f"drift: got shape {found.shape} at {len(z)} points, wanted {z.shape}, finite numbers")
    return found


def _as_function(diffusion: Diffusion, rank: int) -> Drift:
    """Return Gamma as a function from latents (T, R) to (T, R, K)."""
    if callable(diffusion):
        function = diffusion

        def root(z: Array) -> Array:
            found = np.asarray(function(z), dtype=float)
            if found.ndim != 3 or found.shape[:2] != z.shape or not np.isfinite(found).all():
                raise ValueError(
                    f"diffusion: got shape {found.shape}, wanted ({len(z)}, {rank}, noise), finite numbers"
                )
            return found

        return root
    constant = np.asarray(diffusion, dtype=float)
    constant = float(constant) * np.eye(rank) if constant.ndim == 0 else constant
    if constant.ndim != 2 or len(constant) != rank or not np.isfinite(constant).all():
        raise ValueError(f"diffusion: got shape {constant.shape}, wanted ({rank}, noise) finite numbers, or one number")
    return lambda z: np.broadcast_to(constant, (*z.shape[:-1], *constant.shape))


def _fitted_root(fitted: FittedField, z: Array, gamma: Array, ridge: str | float) -> tuple[Array | None, Array]:
    """Return weights (N, R K) and offset (R, K) of Gamma; where it is constant, no weights."""
    if np.ptp(gamma, axis=0).max() == 0.0:
        return None, gamma[0].copy()
    rates, targets = fitted.features(z), gamma.reshape(len(z), -1)
    weights, offset = solve_ridge(rates, targets, choose_penalty(ridge, rates, targets))
    return weights, offset.reshape(gamma.shape[1:])


def _check_stays(drift: Drift, low: Array, high: Array, rng: np.random.Generator) -> None:
    """Raise where paths of the drift alone end outside the box: the network is told nothing of what is there.

    They may cut its corners on the way, as whoever turns while falling to the middle does.
    """
    start = rng.uniform(low, high, (_N_PATHS, len(low)))
    size = high - low
    speed = np.median(np.linalg.norm(_field_at(drift, start) / size, axis=1))
    if speed == 0.0:
        return
    z, step = start, 0.02 / speed
    for _ in range(_N_STEPS):
        velocity = np.asarray(drift(z), dtype=float)
        share = step * np.abs(velocity / size).max(axis=1, keepdims=True)
        z = z + step * velocity / np.maximum(1.0, share / 0.05)  # no step of more than a twentieth of the box
        z = np.clip(z, low - 2.0 * size, high + 2.0 * size)  # far enough to say so
    outside = np.flatnonzero(((z < low) | (z > high)).any(axis=1))
    if len(outside):
        first = outside[0]
        shown = [np.array2string(point, precision=3) for point in (start[first], z[first])]
        raise ValueError(
            f"box: the drift leaves it: {len(outside)} of {_N_PATHS} paths, for one that from {shown[0]}, end outside "
            f"({shown[1]}); choose a box that holds what they come to"
        )
