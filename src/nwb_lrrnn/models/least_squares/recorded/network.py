"""`RecordedNetwork`: a network whose neurons are all recorded, what is known of it, and how it runs by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics import nonlinearity as nonlinearities

Array = NDArray[np.floating]
Trials = Sequence[Array]  # of (time, unit) or (time, input)


@dataclass(frozen=True)
class RecordedNetwork:
    r"""The network whose units were recorded, and how well it goes on by itself.

    .. math:: x_{t+1} = (1-\alpha) x_t + \alpha [ m n^T \phi(x_t) / N + B u_t + b ]

    The currents of `dynamics` are x = m z + B v + b, v being the inputs filtered by the same leak. Of n only the part
    in the span of m, B and b is determined by the recording (no other direction is ever visited but by noise); m, B
    and b are.

    Attributes
    ----------
    dynamics : LowRankDynamics
        Read by the units from its currents or rates.
    residual_variance : array (unit,)
        Of a step, what the network does not say of x.
    rank_path : Dataset over `rank`, or None
        Held-out errors, where the rank was chosen.
    r2 : float
        Of the units (observed as they are), free runs from the first bins against the recording.
    held_out_r2 : float
        The same of conditions held out while the gradient was followed; NaN where there were none.
    noise_ceiling : float
        The R2 that the mean of a condition's trials reaches on them; NaN without trials that repeat a condition.
    """

    dynamics: LowRankDynamics
    residual_variance: Array
    ridge: float
    method: str
    rank_path: xr.Dataset | None = None
    r2: float = np.nan
    held_out_r2: float = np.nan
    noise_ceiling: float = np.nan
    history: xr.Dataset | None = field(default=None, repr=False)

    @property
    def identified_right_vectors(self) -> Array:
        """The part of n (neuron, latent) that the recording determines: its projection on the span of m, B and b."""
        net = self.dynamics
        known = [net.left_vectors, net.input_weights, None if net.bias is None else net.bias[:, None]]
        basis = np.concatenate([part for part in known if part is not None], axis=1)
        axes, sizes, _ = np.linalg.svd(basis / (np.linalg.norm(basis, axis=0) + 1e-300), full_matrices=False)
        axes = axes[:, sizes > 1e-10 * sizes[0]]
        return axes @ (axes.T @ net.right_vectors)

    def free_run(self, starts: Trials, n_steps: Sequence[int], inputs: Trials | None = None) -> list[Array]:
        """Return currents x (time, unit) of every trial from x_1 (unit,), every unit started where it was."""
        return free_run(self.dynamics, starts, n_steps, inputs)


def free_run(net: LowRankDynamics, starts: Trials, n_steps: Sequence[int], inputs: Trials | None = None) -> list[Array]:
    """Return currents x (time, unit) of trials that start at x_1 (unit,); what is off the span of m, B, b decays."""
    n = net.n_neurons
    weights = np.zeros((n, 0)) if net.input_weights is None else net.input_weights
    bias = np.zeros(n) if net.bias is None else net.bias
    x = np.stack([np.asarray(start, dtype=float) for start in starts])
    rates = partial(nonlinearities.phi, net.nonlinearity, thresholds=net.thresholds)
    return run_freely(rates, net.left_vectors, net.right_vectors, weights, bias, net.alpha, x, n_steps, inputs)


def run_freely(
    rates: Callable[[Array], Array], left, right, weights, bias, alpha: float, starts: Array, n_steps, inputs
) -> list[Array]:
    """Return currents x (time, unit) of trials that start at x_1 (trial, unit), of a network given by its arrays."""
    drives = np.zeros((len(starts), max(n_steps), weights.shape[1]))
    if inputs is not None:
        for k, u in enumerate(inputs):
            drives[k, : len(u)] = u
    x, path = starts, np.empty((max(n_steps), *starts.shape))
    with np.errstate(over="ignore", invalid="ignore"):  # a run that escapes ends in infinity, which its error says
        for t in range(len(path)):
            path[t] = x
            latent = rates(x) @ right / len(left)
            x = (1 - alpha) * x + alpha * (latent @ left.T + drives[:, t] @ weights.T + bias)
    return [path[:length, k] for k, length in enumerate(n_steps)]


def noise_ceiling(trials: Trials, conditions: NDArray) -> float:
    """Return 1 - variance about the condition's mean / variance about the mean, (unbiased, units pooled), or NaN."""
    within, freedom, pooled = 0.0, 0, []
    for name in np.unique(conditions):
        same = [trials[int(k)] for k in np.flatnonzero(conditions == name)]
        shortest = min(map(len, same))
        stack = np.stack([trial[:shortest] for trial in same])  # (trial, time, unit)
        pooled.extend(same)
        if len(same) > 1:
            within += ((stack - stack.mean(0)) ** 2).sum()
            freedom += (len(same) - 1) * shortest
    everything = np.concatenate(pooled)
    total = ((everything - everything.mean(0)) ** 2).sum() / len(everything)
    if not freedom or total == 0:
        return np.nan
    return float(1.0 - within / freedom / total)


def r2(truth: Trials, guess: Trials) -> float:
    """Return 1 - squared error / squares about each unit's mean, all pooled; -inf of a run that escapes."""
    t, g = np.concatenate(truth), np.concatenate(guess)
    if not np.isfinite(g).all():
        return -np.inf
    return float(1.0 - ((t - g) ** 2).sum() / max(((t - t.mean(0)) ** 2).sum(), 1e-300))
