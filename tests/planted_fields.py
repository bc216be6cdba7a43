"""Known fields for the regression: latents of standard deviation about 1, tau, samples to train and to test on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Target(NamedTuple):
    """A field g(z), its time constant, and where it is sampled."""

    velocity: Callable
    tau: float
    rank: int
    box: tuple[float, ...]  # half-widths that samples are drawn from uniformly


def van_der_pol(z):
    q = 1.435 * z
    return np.stack([q[..., 1], (1 - q[..., 0] ** 2) * q[..., 1] - q[..., 0]], axis=-1) / 1.435


def bistable(z):
    return z - z**3


def _sigmoid(x, gain, threshold):
    return 1 / (1 + np.exp(-gain * (x - threshold)))


def wilson_cowan(z):
    q = 0.16 + np.array([0.11, 0.15]) * z
    excitatory, inhibitory = q[..., 0], q[..., 1]
    e = -excitatory + _sigmoid(16 * excitatory - 12 * inhibitory + 1.5, 1.3, 4)
    i = -inhibitory + _sigmoid(15 * excitatory - 3 * inhibitory, 2, 3.7)
    return np.stack([e, i], axis=-1) / np.array([0.11, 0.15])


VAN_DER_POL = Target(van_der_pol, 1.0, 2, (1.82, 2.43))
BISTABLE = Target(bistable, 1.0, 1, (1.6,))
WILSON_COWAN = Target(wilson_cowan, 1.0, 2, (2.0, 2.0))
_LORENZ_CENTRE, _LORENZ_SCALE = np.array([0.0, 0.0, 23.5]), np.array([7.9, 9.0, 8.6])


def lorenz(z):
    x, y, w = np.moveaxis(_LORENZ_CENTRE + _LORENZ_SCALE * z, -1, 0)
    return np.stack([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w], axis=-1) / _LORENZ_SCALE


def on_lorenz(n, seed, noise=0.0):
    """Return n points of the attractor (n, 3), in runs of 100 that are 0.05 apart, with Gaussian noise."""
    rng = np.random.default_rng(seed)
    n_paths = max(1, n // 100)
    z = runge_kutta(lorenz, 0.5 * rng.standard_normal((n_paths, 3)), 0.01, 1000)[-1]
    path = runge_kutta(lorenz, z, 0.0125, 4 * -(-n // n_paths))[::4]
    points = path.reshape(-1, 3)[:n]
    return points + noise * rng.standard_normal(points.shape)


def runge_kutta(velocity, start, step, n_steps):
    """Return the trajectory (n_steps, ..., R) from `start`, which is its first point."""
    path = np.empty((n_steps, *np.shape(start)))
    path[0] = start
    for t in range(n_steps - 1):
        z = path[t]
        k1 = velocity(z)
        k2 = velocity(z + step / 2 * k1)
        k3 = velocity(z + step / 2 * k2)
        k4 = velocity(z + step * k3)
        path[t + 1] = z + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return path


def samples(target, n, seed):
    """Return n points (n, R) drawn uniformly from the box of a target, and their velocity."""
    box = np.array(target.box)
    z = np.random.default_rng(seed).uniform(-box, box, (n, target.rank))
    return z, target.velocity(z)


def error_of(velocity, truth):
    """Return the mean squared error over the variance of the truth."""
    return float(((velocity - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())
