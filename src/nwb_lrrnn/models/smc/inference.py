"""What a fitted network says of trials: bounds, posterior means, trajectories. Noise is drawn per trial."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.simulation import covariance_root
from nwb_lrrnn.models.kernels.particle_types import Noise
from nwb_lrrnn.models.particles import log_mean_exp, noise_of_trial, systematic_resample
from nwb_lrrnn.models.smc import bound, smoothing
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.data import TrialData, trial_data
from nwb_lrrnn.models.smc.network import ParticleNetwork
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_AT_ONCE = 1_500_000  # particles times bins of one run: what bounds memory


@torch.no_grad()
def log_evidence(net: ParticleNetwork, trials: Trials, plan: Plan, seed: int) -> Array:
    """Return the bound of each bin, (trial, time): ln of the estimate of p(y_t | y_<t)."""
    out = np.zeros(trials.values.shape[:2])
    for rows, data, noise, _ in _runs(net, trials, plan, seed):
        increments, _ = bound.run(net, data, plan, noise)
        out[rows, : increments.shape[2]] = increments[0].cpu().numpy()
    return out


@torch.no_grad()
def posterior_means(
    net: ParticleNetwork, trials: Trials, plan: Plan, seed: int, kind: str, n_trajectories: int
) -> Array:
    """Return posterior means (trial, time, latent), `kind` smoothed, filtered or delayed."""
    out = np.zeros((*trials.values.shape[:2], net.cell.left_vectors.shape[1]))
    for rows, data, noise, points in _runs(net, trials, plan, seed, n_trajectories):
        _, record = bound.run(net, data, plan, noise)
        if kind == "smoothed":
            means = smoothing.smooth(record, data.lengths, net.law.noise_root, points).means.cpu().numpy()
        else:
            means = (smoothing.filtered if kind == "filtered" else smoothing.delayed)(record)
        out[rows, : means.shape[2]] = means[0]
    return out


@torch.no_grad()
def trajectories(net: ParticleNetwork, trials: Trials, plan: Plan, seed: int, n_trajectories: int) -> Array:
    """Return draws from the posterior of whole trajectories, (draw, trial, time, latent)."""
    out = np.zeros((n_trajectories, *trials.values.shape[:2], net.cell.left_vectors.shape[1]))
    for rows, data, noise, points in _runs(net, trials, plan, seed, n_trajectories):
        _, record = bound.run(net, data, plan, noise)
        draws = smoothing.smooth(record, data.lengths, net.law.noise_root, points).draws[0].cpu().numpy()
        out[:, rows, : draws.shape[1]] = np.moveaxis(draws, 2, 0)
    return out


@torch.no_grad()
def marginal_forecasts(
    net: ParticleNetwork, dynamics: LowRankDynamics, trials: Trials, plan: Plan, seed: int, n: int
) -> Array:
    """Return sum_t ln mean_k p(y_t | z_t^k) of each trial's last n bins (trial,), particles moving blindly.

    The particles of the bin before them are propagated without being weighed or resampled.
    """
    out = np.zeros(len(trials.lengths))
    v = None if trials.inputs is None else dynamics.filtered_inputs(trials.inputs)
    noise = dynamics.latent_noise
    root = np.zeros((dynamics.rank, dynamics.rank)) if noise is None else covariance_root(noise)
    seen = trials.seen
    for rows, data, drawn, _ in _runs(net, trials, plan, seed):
        _, record = bound.run(net, data, plan, drawn)
        weights, particles = (np.asarray(torch.as_tensor(a).cpu())[0] for a in (record.weights, record.drawn))
        for b, trial in enumerate(range(rows.start, rows.stop)):
            end = int(trials.lengths[trial])
            rng = noise_of_trial(seed, trials.values[trial, :end], seen[trial, :end], 4)[3]
            at = systematic_resample(np.log(weights[b, end - n - 1] + 1e-300), rng.uniform())
            z = particles[b, end - n - 1, at].astype(np.float64)
            for t in range(end - n, end):
                before = (None, None) if v is None else (v[trial, t - 1], trials.inputs[trial, t - 1])  # type: ignore[index]
                z = dynamics.step(z, *(None if u is None else np.broadcast_to(u, (len(z), len(u))) for u in before))
                z = z + rng.standard_normal(z.shape) @ root.T
                now = None if v is None else np.broadcast_to(v[trial, t], (len(z), v.shape[2]))
                log_p = dynamics.log_likelihood(trials.values[trial, t], z, now)
                out[trial] += log_mean_exp((log_p * seen[trial, t]).sum(1))
    return out


def _runs(
    net: ParticleNetwork, trials: Trials, plan: Plan, seed: int, n_trajectories: int = 0
) -> Iterator[tuple[slice, TrialData, Noise, torch.Tensor]]:
    """Yield slices of trials that fit the memory, with their data, noise and points of trajectories."""
    longest = max(1, int(trials.lengths.max()))
    size = max(1, _AT_ONCE // (longest * plan.n_particles))
    for first in range(0, len(trials.lengths), size):
        rows = slice(first, min(first + size, len(trials.lengths)))
        part = trials.take(np.arange(rows.start, rows.stop))
        noise, points = _noise(net, part, plan, seed, n_trajectories)
        yield rows, trial_data(part, net.cell.left_vectors.device), noise, points


def _noise(
    net: ParticleNetwork, trials: Trials, plan: Plan, seed: int, n_trajectories: int
) -> tuple[Noise, torch.Tensor]:
    """Return noise that depends on the seed and on each trial's own content: alone or in a batch it is the same."""
    n_trials, n_steps, _ = trials.values.shape
    rank, kept = net.cell.left_vectors.shape[1], net.cell.left_vectors
    n_uniform = 1 if plan.scheme == "systematic" else plan.n_particles
    normals = np.zeros((n_trials, n_steps, plan.n_particles, rank))
    uniforms = np.zeros((n_trials, n_steps, n_uniform))
    points = np.zeros((n_trials, n_steps, n_trajectories))
    seen = trials.seen
    for b, n in enumerate(trials.lengths):
        moves, picks, draws = noise_of_trial(seed, trials.values[b, :n], seen[b, :n], 3)
        normals[b, :n] = moves.standard_normal((n, plan.n_particles, rank))
        uniforms[b, :n] = picks.uniform(size=(n, n_uniform))
        points[b, :n] = draws.uniform(size=(n, n_trajectories))
    device = kept.device
    sorted_points = bound.points_of(plan.scheme, torch.tensor(uniforms, device=device), plan.n_particles)
    nothing = torch.empty((1, n_trials, n_steps, 0), device=device)
    noise = Noise(torch.tensor(normals, dtype=kept.dtype, device=device), sorted_points, nothing)
    return noise, torch.tensor(points, device=device)
