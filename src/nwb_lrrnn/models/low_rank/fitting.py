"""The fit of `LowRankRNN` in stages: short windows first, where gradients are tame, then the windows of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.models.likelihoods import constant_log_density
from nwb_lrrnn.models.low_rank import encoder
from nwb_lrrnn.models.low_rank.inference import FINE, cut_like, infer
from nwb_lrrnn.models.low_rank.network import Form
from nwb_lrrnn.models.low_rank.objective import ShootingObjective, select, update_prior, with_prior
from nwb_lrrnn.models.low_rank.regression import regress
from nwb_lrrnn.models.low_rank.start import LinearStart, WarmStart
from nwb_lrrnn.models.shooting import Network, Posterior, Prior, posterior
from nwb_lrrnn.models.training import Schedule, train
from nwb_lrrnn.models.windows import Windows
from nwb_lrrnn.trials import Trials

_JUDGED = 30  # trials that candidates for a start are judged on


@dataclass(frozen=True)
class Fit:
    """The best restart after training, and how it came about."""

    net: Network  # one network
    path: NDArray  # its latents of the training trials (trial, time, latent)
    history: xr.Dataset  # over epoch, of the restart kept
    restart_scores: NDArray  # (restart,)


def run(
    form: Form,
    start: LinearStart | WarmStart,
    train_trials: Trials,
    held_trials: Trials | None,
    window_bins: int,
    schedule: Schedule,
    batch_size: int | None,
    seeds: list[np.random.SeedSequence],
    label: str,
) -> Fit:
    """Return the best of the restarts seeded by seeds[1:], trained side by side; seeds[0] shuffles batches."""
    rng = np.random.default_rng(seeds[0])
    baseline = constant_log_density(train_trials, held_trials or train_trials, form.likelihood)
    path = start.smoothed(train_trials, form)[None]
    flat = torch.cat([_best_start(form, start, train_trials, window_bins, path, seed) for seed in seeds[1:]])
    prior = start.prior(len(flat), form, flat)
    held_path = None if held_trials is None else start.smoothed(held_trials, form)[None]
    stages = [window_bins]
    if min(int(train_trials.lengths.max()), window_bins) > 2 * FINE:
        stages.insert(0, FINE)
    histories, epochs_left = [], schedule.max_epochs
    for bins in stages:
        train_set = _on_path(form, train_trials, bins, path, len(flat))
        held_set = (
            None
            if held_trials is None or held_path is None
            else _on_path(form, held_trials, bins, held_path, len(flat))
        )
        objective = ShootingObjective(form, flat.clone(), prior, train_set, held_set, batch_size, baseline)
        last = bins == stages[-1]
        outcome = train(
            objective, schedule.stage(epochs_left if last else (epochs_left + 1) // 2, last), rng, label=label
        )
        flat, prior = outcome.parameters, Prior(*(outcome.state[name] for name in Prior._fields))
        path, held_path = objective.paths()
        epochs_left = max(1, epochs_left - outcome.n_epochs)
        histories.append(outcome.history.assign(shooting_bins=("epoch", np.full(outcome.n_epochs, bins))))
    best = int(np.nanargmax(outcome.validation))
    net = select(form.network(form.layout(), flat, prior), best)
    return Fit(net, path[best], _end_to_end(histories).isel(restart=best, drop=True), outcome.validation)


def settle(fit: Fit, train_trials: Trials, trials: Trials, window_bins: int) -> tuple[Network, Posterior, Windows]:
    """Return the network with the laws of its nodes estimated on all trials, the posterior there, and the windows."""
    encoders = encoder.fit_encoders(fit.net, train_trials, fit.path, FINE)
    rank = fit.path.shape[2]
    spread = np.cov(fit.path.reshape(-1, rank).T).reshape(rank, rank)
    net = fit.net
    post, windows = infer(net, encoders, trials, window_bins, spread)
    for _ in range(3):
        net = with_prior(net, update_prior(net.prior, windows, post))
        post = posterior(net, windows, [post.nodes])
    return net, post, windows


def _best_start(form: Form, start, trials: Trials, window_bins: int, path: NDArray, seed) -> Tensor:
    """Return the flat parameters (1, size) of the candidate whose short trajectories explain the recording best."""
    candidates = start.candidates(form, np.random.default_rng(seed))
    if len(candidates) == 1:
        return _flat(form, candidates)
    flat = _flat(form, candidates)
    few = trials.take(np.arange(min(len(trials.lengths), _JUDGED)))
    windows, nodes = _on_path(form, few, min(FINE, window_bins), path, len(candidates))
    prior = start.prior(len(candidates), form, flat)
    prior = prior._replace(node_covariance=0.1 * prior.node_covariance)
    net = form.network(form.layout(), flat, prior)
    post = posterior(net, windows, [nodes], max_steps=4, approximate=True)
    best = int(torch.nan_to_num(post.log_evidence.sum(1), nan=-torch.inf).argmax())
    readout = regress(form.likelihood, select(net, best).readout, post.latents[best : best + 1], windows.data)
    return form.with_readout(flat[best : best + 1], readout)


def _flat(form: Form, networks: list[dict[str, NDArray]]) -> Tensor:
    """Return the parameters of all restarts as one flat tensor (S, size)."""
    layout, like = form.layout(), form.scale
    parts = {name: np.stack([np.asarray(p[name], dtype=float) for p in networks]) for name in layout.shapes}
    return layout.pack({name: torch.tensor(a, dtype=like.dtype, device=like.device) for name, a in parts.items()})


def _on_path(form: Form, trials: Trials, bins: int, path: NDArray, n_nets: int) -> tuple[Windows, Tensor]:
    """Return trials cut into windows, and nodes (S, window, latent) on given trajectories (S, trial, time, latent)."""
    windows = cut_like(form.scale, form.likelihood, trials, bins)
    at = path[:, windows.spans[:, 0], windows.spans[:, 1]]
    nodes = torch.tensor(at, dtype=form.scale.dtype, device=form.scale.device)
    return windows, nodes.expand(n_nets, -1, -1).clone()


def _end_to_end(histories: list[xr.Dataset]) -> xr.Dataset:
    """Return the histories of all stages in one, epochs counted through."""
    names = list(histories[0].data_vars)
    joined = {name: (histories[0][name].dims, np.concatenate([h[name].values for h in histories])) for name in names}
    n_epochs = sum(history.sizes["epoch"] for history in histories)
    return xr.Dataset(joined, coords={"epoch": np.arange(1, n_epochs + 1), "restart": histories[0].restart})
