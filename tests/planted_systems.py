"""Recordings of planted systems, linear ones and limit cycles, for which the right word on their dynamics is known."""

import numpy as np
import xarray as xr

BIN = 0.02  # seconds
N_UNITS = 8


def recording(system, likelihood, seed, n_trials, n_bins=40):
    """Return (trial, time, unit) of a planted system; counts are Poisson, their rates softplus of an affine map."""
    rng = np.random.default_rng(seed)
    latents = LATENTS[system](rng, n_trials, n_bins)
    loadings = rng.normal(size=(N_UNITS, 2))
    signal = latents @ loadings.T  # (trial, time, unit)
    if likelihood == "gaussian":
        return labelled(signal + NOISE[system] * rng.normal(size=signal.shape))
    offset, gain = COUNTS[system]
    return labelled(rng.poisson(np.logaddexp(0, offset + gain * signal)))


def labelled(values):
    """Return (trial, time, unit) with bin centres in seconds and units that have names."""
    coords = {"time": (np.arange(values.shape[1]) + 0.5) * BIN, "unit": [f"u{k}" for k in range(values.shape[2])]}
    return xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": BIN})


def rotation(rng, n_trials, n_bins):
    """Return latents (trial, time, 2) of a damped rotation with noise: nothing nonlinear."""
    turn = 0.95 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    z, path = rng.normal(size=(n_trials, 2)), []
    for _ in range(n_bins):
        z = z @ turn.T + 0.3 * rng.normal(size=z.shape)
        path.append(z)
    return np.stack(path, axis=1)


def relaxation_cycle(rng, n_trials, n_bins, stiffness=1.5, step=0.3, n_substeps=6):
    """Return latents (trial, time, 2) of a van der Pol oscillator with little noise, begun on, inside or outside.

    dx/dt = stiffness (x - x^3 / 3 - y), dy/dt = x / stiffness: two turns in 40 bins, slow along its sides.
    """
    angle, radius = rng.uniform(0, 2 * np.pi, n_trials), rng.uniform(0.3, 2.0, n_trials)
    z, path = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), []
    for _ in range(n_bins):
        path.append(z)
        for _ in range(n_substeps):
            x, y = z.T
            flow = np.stack([stiffness * (x - x**3 / 3 - y), x / stiffness], axis=1)
            z = z + step / n_substeps * flow + 0.02 / np.sqrt(n_substeps) * rng.normal(size=z.shape)
    return np.stack(path, axis=1)


def noisy_cycle(rng, n_trials, n_bins, noise=0.3):
    """Return latents (trial, time, 2) that turn and are drawn to a circle of radius 1 in one bin, with much noise.

    z_{t+1} = R z_t tanh(2 |z_t|) / |z_t| + w_t: noise is forgotten across the circle, and never along it.
    """
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    z, path = rng.normal(size=(n_trials, 2)), []
    for _ in range(n_bins):
        path.append(z)
        size = np.linalg.norm(z, axis=1, keepdims=True)
        z = z @ turn.T * np.tanh(2 * size) / size + noise * rng.normal(size=z.shape)
    return np.stack(path, axis=1)


LATENTS = {"linear": rotation, "cycle": relaxation_cycle, "noisy cycle": noisy_cycle}
NOISE = {"linear": 0.5, "cycle": 0.1, "noisy cycle": 0.1}  # s.d. of the readout where values are Gaussian
COUNTS = {
    "linear": (1.0, 1.0),
    "cycle": (2.0, 3.0),
    "noisy cycle": (2.0, 3.0),
}  # offset and gain of the signal, inside the softplus, per bin
