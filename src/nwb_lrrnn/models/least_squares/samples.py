"""What smoothed latents say of the field that moves them: weighted samples of z_t and of where it went from there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.smoothing import Moments
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_CERTAIN = 1e-6  # variance of a latent given the data, in its own: below it the mean says it all
_MOST = 8_000  # samples that a regression is given, evenly spaced in the trials


class FieldSamples(NamedTuple):
    """z (sample, R), dz/dt there, inputs, the trial of each; and how far latents stray from where they are sent."""

    latents: Array
    velocity: Array  # (z_{t+1} - z_t) / dt: where the network, which moves in the same steps, has to go
    inputs: Array | None
    trial: NDArray[np.int64]
    spread: Array  # mean of Cov(z_{t+1} | z_t, Y), (R, R)


def field_samples(moments: Moments, trials: Trials, most: int = _MOST) -> FieldSamples:
    """Return samples that stand for the posterior of z_t and z_{t+1} of every pair of bins of the trials.

    A mean given the data is too near the middle, and a regression on it too steep. So z_t is a mean plus or minus root
    R standard deviations along each axis of its covariance, 2 R points of equal weight, and z_{t+1} its expected value
    given that: what is quadratic in them has its expectation exactly, as in the M-step of a linear model.
    """
    n_trials, n_steps, rank = moments.smoothed.shape
    trial, time = np.nonzero(np.arange(1, n_steps) < trials.lengths[:, None])
    covariances = moments.covariances
    now, then = moments.smoothed[trial, time], moments.smoothed[trial, time + 1]
    own = covariances[trial, time]
    is_certain = bool((own.trace(axis1=1, axis2=2) <= _CERTAIN * max(now.var(axis=0).sum(), 1e-300)).all())
    per_pair = 1 if is_certain else 2 * rank
    if len(trial) * per_pair > most:
        kept = np.linspace(0, len(trial) - 1, max(1, most // per_pair)).round().astype(np.int64)
        trial, time, now, then, own = trial[kept], time[kept], now[kept], then[kept], own[kept]
    inputs = None if trials.inputs is None else trials.inputs[trial, time]
    spread = np.zeros((rank, rank))
    if not is_certain and len(trial):
        cross = moments.pattern_cross[moments.pattern][trial, time]  # Cov(z_{t+1}, z_t)
        values, axes = np.linalg.eigh(own)
        least = 1e-14 * np.maximum(values[:, -1:], 1e-300)
        values = np.where(values > least, values, 0.0)
        root = axes * np.sqrt(values)[:, None]  # (pair, R, R)
        inverse = np.where(values > 0, 1.0 / np.sqrt(np.where(values > 0, values, 1.0)), 0.0)
        carried = cross @ (axes * inverse[:, None])  # what one standard deviation of z_t does to z_{t+1}
        spread = (covariances[trial, time + 1] - carried @ carried.transpose(0, 2, 1)).mean(axis=0)
        far = np.sqrt(rank)
        now = np.concatenate([now[:, None] + sign * far * root.transpose(0, 2, 1) for sign in (1, -1)], axis=1)
        then = np.concatenate([then[:, None] + sign * far * carried.transpose(0, 2, 1) for sign in (1, -1)], axis=1)
        now, then = now.reshape(-1, rank), then.reshape(-1, rank)
        trial = np.repeat(trial, per_pair)
        inputs = None if inputs is None else np.repeat(inputs, per_pair, axis=0)
    return FieldSamples(now, (then - now) / trials.bin_size, inputs, trial, spread)
