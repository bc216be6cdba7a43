"""Fixed points of a low-rank network by Newton's method from many starts, with their stability."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.distance import distance_from_data, reach_of_data

Array = NDArray[np.floating]

_NYQUIST, _LASTING = 0.9, 0.5  # of the highest frequency, and what is left of a mode after a bin, from here on


def find_fixed_points(
    model: object,
    *,
    inputs: ArrayLike | None = None,
    n_starts: int = 256,
    tol: float = 1e-10,
    merge: float = 1e-4,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return the fixed points z = F(z) that Newton's method finds from many starts (it cannot prove there are no more).

    Starts are drawn about where the network lives (`latent_mean`, `latent_covariance`, three times as wide) and along
    trajectories of its own, run with the inputs held.

    Parameters
    ----------
    model : LowRankDynamics or fitted estimator
    inputs : array (input,), optional
        Inputs v held constant; None: zero.
    n_starts : int
        Newton runs.
    tol : float
        Largest |F(z) - z| of a fixed point, in standard deviations of the latents.
    merge : float
        Fixed points closer than this, in the same unit, are one.
    random_state : int or None
        Seed of the starts.

    Returns
    -------
    Dataset
        Over `fixed_point`, those inside the data first, then stable ones: `latents` (fixed_point, latent), `stable`
        (one-step eigenvalues inside the unit circle), `n_unstable`, `speed` (|F(z) - z|), `found` (how many starts
        ended there), and per `eigenvalue`: `eigenvalue_real`, `eigenvalue_imag` of the one-step map, `time_constant`
        in s (-dt / ln |lambda|, negative: growing) and `frequency` in Hz (arg lambda / (2 pi dt)).
        Where the network knows the moments of its latents over data: `distance` (fixed_point,) from the data in
        standard deviations of the latents (Mahalanobis), and `inside`, whether that is where 99.73 % of a Gaussian
        cloud are (3 standard deviations of one latent): a point that is not is the model's and was never seen.
        `nyquist` marks points with a lasting mode (|lambda| > 0.5) at the highest frequency that bins can show, or
        nearly (0.9 of it): it changes sign from bin to bin, which few data do.

    Raises
    ------
    TypeError
        If `model` is neither a network nor a fitted estimator.

    Examples
    --------
    >>> bistable = LowRankDynamics([[1.0], [1.0]], [[2.0], [2.0]], dt=0.1, tau=1.0)
    >>> points = find_fixed_points(bistable)
    >>> points.latents.values.round(3).ravel(), points.stable.values
    (array([-1.915,  1.915,  0.   ]), array([ True,  True, False]))
    """
    net = dynamics_of(model)
    held = np.zeros(net.n_inputs) if inputs is None else np.asarray(inputs, dtype=float)
    v = held if net.n_inputs else None
    rng = np.random.default_rng(random_state)
    scale = np.sqrt(np.diag(_spread(net))) + 1e-300
    ends = _newton(net, v, _starts(net, v, n_starts, rng), scale)
    speed = np.abs((net.step(ends, v) - ends) / scale).max(1)
    ends = ends[np.isfinite(speed) & (speed < tol)]
    points, found = _distinct(ends, scale, merge)
    return _describe(net, v, points, found)


def dynamics_of(model: object) -> LowRankDynamics:
    """Return the network of a fitted estimator, or the network itself."""
    net = getattr(model, "dynamics_", model)
    if not isinstance(net, LowRankDynamics):
        if isinstance(getattr(type(model), "dynamics_", None), property):  # which says why there is none
            try:
                return model.dynamics_  # type: ignore[attr-defined]
            except AttributeError as error:
                raise TypeError(f"model: {error}") from None
        raise TypeError(
            f"model: got a {type(model).__name__}, wanted a LowRankDynamics or a fitted estimator; call fit first"
        )
    return net


def _spread(net: LowRankDynamics) -> Array:
    spread = net.latent_covariance if net.latent_covariance is not None else net.initial_covariance
    return np.eye(net.rank) if spread is None else np.asarray(spread)


def _starts(net: LowRankDynamics, v: Array | None, n_starts: int, rng: np.random.Generator) -> Array:
    mean = net.latent_mean if net.latent_mean is not None else net.initial_mean
    mean = np.zeros(net.rank) if mean is None else mean
    values, vectors = np.linalg.eigh(_spread(net))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    cloud = mean + 3.0 * rng.standard_normal((n_starts, net.rank)) @ root.T
    moved = cloud[::2].copy()
    for _ in range(200):  # half of the starts follow the flow, to where it slows down
        moved = net.step(moved, v)
    moved = moved[np.isfinite(moved).all(1)]
    return np.concatenate([cloud[1::2], moved, mean[None]])


def _newton(net: LowRankDynamics, v: Array | None, z: Array, scale: Array, n_iter: int = 100) -> Array:
    """Return where damped Newton on F(z) - z = 0 ends from each start; a step that does not descend is halved."""
    eye = np.eye(net.rank)
    residual = net.step(z, v) - z
    size = np.linalg.norm(residual / scale, axis=1)
    for _ in range(n_iter):
        jac = net.jacobian(z, v) - eye
        damped = jac + 1e-14 * eye
        direction = -np.linalg.solve(damped, residual[..., None])[..., 0]
        fraction = np.ones(len(z))
        for _ in range(12):
            trial = z + fraction[:, None] * direction
            trial_residual = net.step(trial, v) - trial
            trial_size = np.linalg.norm(trial_residual / scale, axis=1)
            worse = ~(trial_size < size)
            if not worse.any():
                break
            fraction[worse] *= 0.5
        better = trial_size < size
        z = np.where(better[:, None], trial, z)
        residual = np.where(better[:, None], trial_residual, residual)
        size = np.where(better, trial_size, size)
        if not better.any():
            break
    return z


def _distinct(ends: Array, scale: Array, merge: float) -> tuple[Array, NDArray[np.int64]]:
    points: list[Array] = []
    found: list[int] = []
    for end in ends:
        gaps = [np.abs((end - point) / scale).max() for point in points]
        if gaps and min(gaps) < merge:
            found[int(np.argmin(gaps))] += 1
        else:
            points.append(end)
            found.append(1)
    return np.array(points).reshape(-1, len(scale)), np.array(found, dtype=np.int64)


def _describe(net: LowRankDynamics, v: Array | None, points: Array, found: NDArray[np.int64]) -> xr.Dataset:
    values = np.linalg.eigvals(net.jacobian(points, v)) if len(points) else np.zeros((0, net.rank), complex)
    values = np.take_along_axis(values, np.argsort(-np.abs(values), axis=1), axis=1)
    n_unstable = (np.abs(values) >= 1.0).sum(1)
    distance = distance_from_data(net, points)
    outside = np.zeros(len(points), dtype=bool) if distance is None else distance > reach_of_data(net.rank)
    order = np.lexsort((*np.round(points, 9).T[::-1], n_unstable, outside))
    points, values, n_unstable, found = points[order], values[order], n_unstable[order], found[order]
    with np.errstate(divide="ignore"):
        time_constant = -net.dt / np.log(np.abs(values))
    turns = (np.abs(np.angle(values)) > _NYQUIST * np.pi) & (np.abs(values) > _LASTING)
    by_value = ("fixed_point", "eigenvalue")
    where = {}
    if distance is not None:
        where["distance"] = ("fixed_point", distance[order], {"units": "standard deviations of the latents"})
        where["inside"] = ("fixed_point", ~outside[order])
    return xr.Dataset(
        {
            "latents": (("fixed_point", "latent"), points, {"long_name": "latents", "units": "a.u."}),
            "stable": ("fixed_point", n_unstable == 0),
            "n_unstable": ("fixed_point", n_unstable),
            "speed": ("fixed_point", np.abs(net.step(points, v) - points).max(1) if len(points) else np.zeros(0)),
            "found": ("fixed_point", found),
            "nyquist": ("fixed_point", turns.any(axis=1)),
            **where,
            "eigenvalue_real": (by_value, np.real(values)),
            "eigenvalue_imag": (by_value, np.imag(values)),
            "time_constant": (by_value, time_constant, {"units": "s"}),
            "frequency": (by_value, np.abs(np.angle(values)) / (2 * np.pi * net.dt), {"units": "Hz"}),
        },
        {"latent": np.arange(net.rank)},
        attrs={"method": "multi-start Newton; not certified to be complete"},
    )
