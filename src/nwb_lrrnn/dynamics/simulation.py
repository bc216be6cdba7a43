"""Simulation of a `LowRankDynamics`: latents and observations, trial by trial, from one seed."""

from __future__ import annotations

import numbers

import numpy as np
import xarray as xr

from nwb_lrrnn.dynamics import fields, nonlinearity, observation


def simulate(net, n_trials, n_steps, inputs=None, initial_latents=None, random_state=None) -> xr.Dataset:
    """Return a Dataset of latents and observations (see `LowRankDynamics.simulate`)."""
    n_trials, n_steps = _whole("n_trials", n_trials), _whole("n_steps", n_steps)
    rng = np.random.default_rng(random_state)
    raw = _inputs(net, inputs, n_trials, n_steps)
    v = None if raw is None else net.filtered_inputs(raw)
    latents = np.empty((n_trials, n_steps, net.rank))
    latents[:, 0] = _initial(net, initial_latents, v, n_trials, rng)
    private = _private_noise(net, n_trials, n_steps, rng)
    noise_root = None if net.latent_noise is None else covariance_root(net.latent_noise)
    for t in range(n_steps - 1):
        v_t, u_t = (None, None) if v is None or raw is None else (v[:, t], raw[:, t])
        z = latents[:, t]
        if private is None:
            latents[:, t + 1] = net.step(z, v_t, u_t)
        else:
            x = net.currents(z, v_t) + private[:, t]
            rates = nonlinearity.phi(net.nonlinearity, x, net.thresholds)
            latents[:, t + 1] = (1 - net.alpha) * z + net.alpha * net._target(rates, v_t, u_t)
        if noise_root is not None:
            latents[:, t + 1] += rng.standard_normal((n_trials, net.rank)) @ noise_root.T
    variables = {"latents": (("trial", "time", "latent"), latents)}
    if net.loadings is not None:
        variables["observations"] = (("trial", "time", "unit"), observation.draw(net, latents, v, rng, private))
    time = (np.arange(n_steps) + 0.5) * net.dt
    coords: dict = {"trial": np.arange(n_trials), "time": time, "latent": np.arange(net.rank)}
    if net.unit_ids is not None:
        coords["unit"] = net.unit_ids
    dataset = xr.Dataset(variables, coords=coords)
    said = {"latents": {"long_name": "latents", "units": "a.u."}, "observations": {"long_name": "observations"}}
    if net.likelihood != "gaussian":
        said["observations"]["units"] = "counts"
    for name, variable in dataset.data_vars.items():
        variable.attrs = {"bin_size": net.dt, **said[str(name)]}
    dataset["time"].attrs = {"long_name": "time", "units": "bins" if net.dt == 1.0 else "s"}
    return dataset


def _whole(name: str, value: object) -> int:
    if isinstance(value, numbers.Real) and float(value) >= 1 and float(value).is_integer():
        return int(float(value))
    raise ValueError(f"{name}: got {value!r}, wanted a whole number of at least 1")


def _inputs(net, inputs, n_trials: int, n_steps: int):
    if inputs is None:
        if net.n_inputs:
            raise ValueError(
                f"inputs: got None, wanted (trial, time, {net.n_inputs}): this network is driven by inputs"
            )
        return None
    u = fields.checked_inputs(net, inputs)
    if u.shape[-2:-1] != (n_steps,) or u.ndim not in (2, 3) or (u.ndim == 3 and len(u) != n_trials):
        raise ValueError(f"inputs: got shape {u.shape}, wanted ({n_trials}, {n_steps}, {net.n_inputs})")
    if not np.isfinite(u).all():
        raise ValueError("inputs: got values that are not finite, wanted finite numbers; fill the gaps first")
    return np.broadcast_to(u, (n_trials, n_steps, net.n_inputs))


def _initial(net, initial_latents, v, n_trials: int, rng: np.random.Generator) -> np.ndarray:
    if initial_latents is not None:
        z = fields.checked_latents(net, initial_latents)
        if z.shape not in ((net.rank,), (n_trials, net.rank)):
            raise ValueError(f"initial_latents: got shape {z.shape}, wanted ({n_trials}, {net.rank})")
        return np.broadcast_to(z, (n_trials, net.rank))
    mean = np.zeros(net.rank) if net.initial_mean is None else net.initial_mean
    if v is not None and net.initial_input_weights is not None:
        mean = mean + v[:, 0] @ net.initial_input_weights.T
    root = np.eye(net.rank) if net.initial_covariance is None else covariance_root(net.initial_covariance)
    return mean + rng.standard_normal((n_trials, net.rank)) @ root.T


def _private_noise(net, n_trials: int, n_steps: int, rng: np.random.Generator) -> np.ndarray | None:
    """Return e (trial, time, neuron), a stationary AR(1) with decay 1 - alpha (white where alpha = 1)."""
    if net.private_noise is None:
        return None
    decay = 1.0 - net.alpha
    e = rng.standard_normal((n_trials, n_steps, net.n_neurons)) * np.sqrt(net.private_noise)
    fresh = np.sqrt(1.0 - decay**2)
    for t in range(1, n_steps):
        e[:, t] = decay * e[:, t - 1] + fresh * e[:, t]
    return e


def covariance_root(covariance: np.ndarray) -> np.ndarray:
    """Return L with L L^T = covariance, also for a singular one."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))
