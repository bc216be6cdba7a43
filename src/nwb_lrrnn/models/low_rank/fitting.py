"""The fit of `LowRankRNN` in stages: short windows first, where gradients are tame, then longer ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.models.low_rank import encoder
from nwb_lrrnn.models.low_rank.inference import FINE, cut_like, infer
from nwb_lrrnn.models.low_rank.network import ShootingForm
from nwb_lrrnn.models.low_rank.objective import ShootingObjective, select, update_prior, with_prior
from nwb_lrrnn.models.low_rank.regression import regress
from nwb_lrrnn.models.low_rank.shooting import Posterior, Prior, ShootingNetwork, posterior
from nwb_lrrnn.models.low_rank.start import LinearStart, WarmStart
from nwb_lrrnn.models.low_rank.windows import Windows
from nwb_lrrnn.models.observation.constant import constant_log_density
from nwb_lrrnn.models.training.checkpoints import NO_CHECKPOINT, Checkpoint
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.models.training.loop import Schedule, train
from nwb_lrrnn.progress import Progress
from nwb_lrrnn.trials import Trials

SHORT = 5  # bins of the shortest windows: the latents follow the data almost freely
WHOLE = 250  # bins: trials up to this long may be one window
LONG = 100  # bins of the windows of longer ones
_NO_EPOCHS_LEFT = "no epochs were left for longer windows. Raise max_epochs"
_JUDGED = 30  # trials that candidates for a start are judged on


@dataclass(frozen=True)
class ShootingFit:
    """The best restart after training, and how it came about."""

    net: ShootingNetwork  # one network
    path: NDArray  # its latents of the training trials (trial, time, latent)
    window_bins: int
    ending: Ending


@dataclass(frozen=True)
class _Stage:
    """All restarts after training with windows of one length."""

    window_bins: int
    flat: Tensor
    prior: Prior
    path: NDArray  # latents of the training trials (S, trial, time, latent)
    held_path: NDArray | None
    validation: NDArray  # (S,)
    not_converged: str = ""

    @property
    def best(self) -> float:
        return float(np.nanmax(self.validation))


class Stages:
    """Training in stages: each takes over the networks of another and shares one budget of epochs."""

    def __init__(
        self,
        form: ShootingForm,
        train_trials: Trials,
        held_trials: Trials | None,
        schedule: Schedule,
        batch_size: int | None,
        rng: np.random.Generator,
        progress: Progress,
        log: Checkpoint = NO_CHECKPOINT,
    ):
        self.form, self.train_trials, self.held_trials = form, train_trials, held_trials
        self.schedule, self.batch_size, self.rng = schedule, batch_size, rng
        self.progress, self.log = progress, log
        self.baseline = constant_log_density(train_trials, held_trials or train_trials, form.likelihood)
        self.epochs_left = schedule.max_epochs
        self.histories: list[xr.Dataset] = []
        self.not_finite: list[str] = []

    def run(self, window_bins: int, before: _Stage, *, last: bool, prepares: bool = False) -> _Stage:
        """Return the stage with windows of so many bins; one that only prepares ends on its first plateau."""
        n_nets = len(before.flat)
        train_set = on_path(self.form, self.train_trials, window_bins, before.path, n_nets)
        held_set = None
        if self.held_trials is not None and before.held_path is not None:
            held_set = on_path(self.form, self.held_trials, window_bins, before.held_path, n_nets)
        objective = ShootingObjective(
            self.form, before.flat.clone(), before.prior, train_set, held_set, self.batch_size, self.baseline
        )
        epochs = self.epochs_left if last else max(1, self.epochs_left // 2)
        schedule = replace(self.schedule, max_epochs=epochs, n_plateaus=1 if prepares else self.schedule.n_plateaus)
        windows = f"windows of {window_bins} bins"
        step = {"log": self.log, "name": f"stage {len(self.histories) + 1}"}
        outcome = train(objective, schedule, self.rng, progress=self.progress, what=f", {windows}", **step)
        if outcome.not_finite:
            self.not_finite.append(f"in {windows}, {outcome.not_finite}")
        self.epochs_left -= outcome.n_epochs
        self.histories.append(outcome.history.assign(shooting_bins=("epoch", np.full(outcome.n_epochs, window_bins))))
        prior = Prior(*(outcome.state[name] for name in Prior._fields))
        path, held_path = objective.paths()
        flat = outcome.parameters.detach()
        return _Stage(window_bins, flat, prior, path, held_path, outcome.validation, outcome.not_converged)

    def given(self, window_bins: int, start: _Stage) -> _Stage:
        """Return the fit with windows of the length that the user asked for, prepared on short ones."""
        longest = min(int(self.train_trials.lengths.max()), window_bins)
        if longest > 2 * FINE and self.epochs_left > 1:
            start = self.run(FINE, start, last=False, prepares=True)
        return self.run(window_bins, start, last=True)

    def chosen(self, start: _Stage) -> _Stage:
        """Return the fit with windows of the length that the held-out evidence prefers.

        From short windows to whole trials, each stage beginning with the best so far, until longer ones lose: the
        noisier the dynamics, the sooner a deterministic trajectory must be allowed to jump.
        """
        longest = int(self.train_trials.lengths.max())
        lengths = [bins for bins in (SHORT, FINE) if longest > 1.5 * bins] + [WHOLE if longest <= WHOLE else LONG]
        best = start
        for bins in lengths:
            stage = self.run(bins, best, last=bins == lengths[-1], prepares=bins != lengths[-1])
            if not stage.best > best.best:
                break
            best = stage
            if not self.epochs_left:
                break
        if best.window_bins == lengths[-1]:
            return best
        if not self.epochs_left:
            return replace(best, not_converged=best.not_converged or _NO_EPOCHS_LEFT)
        again = self.run(best.window_bins, best, last=True)
        return again if again.best > best.best else replace(best, not_converged=again.not_converged)


def run(
    stages: Stages, start: LinearStart | WarmStart, window_bins: int | None, seeds: list[np.random.SeedSequence]
) -> ShootingFit:
    """Return the best of the restarts, one a seed, trained side by side; `window_bins` None: chosen by evidence."""
    form, trials = stages.form, stages.train_trials
    path = start.smoothed(trials, form)[None]
    held_path = None if stages.held_trials is None else start.smoothed(stages.held_trials, form)[None]
    flat = torch.cat([_best_start(form, start, trials, window_bins or SHORT, path, seed) for seed in seeds])
    first = _Stage(0, flat, start.prior(len(flat), form, flat), path, held_path, np.full(len(flat), -np.inf))
    stage = stages.chosen(first) if window_bins is None else stages.given(window_bins, first)
    best = int(np.nanargmax(stage.validation))
    net = select(form.network(form.layout(), stage.flat, stage.prior), best)
    history = end_to_end(stages.histories).isel(restart=best, drop=True)
    ending = Ending(history, stage.validation, tuple(stages.not_finite), stage.not_converged)
    return ShootingFit(net, stage.path[best], stage.window_bins, ending)


def again(fit: ShootingFit, train_trials: Trials) -> WarmStart:
    """Return a fit, with encoders made of its training trials, as the start of another."""
    encoders = encoder.fit_encoders(fit.net, train_trials, fit.path, FINE)
    rank = fit.path.shape[2]
    spread = np.cov(fit.path.reshape(-1, rank).T).reshape(rank, rank)
    return WarmStart(fit.net, encoders, spread, fit.window_bins)


def settle(fit: ShootingFit, train_trials: Trials, trials: Trials) -> tuple[ShootingNetwork, Posterior, Windows]:
    """Return the network with the laws of its nodes estimated on all trials, the posterior there, and the windows."""
    start, net = again(fit, train_trials), fit.net
    post, windows = infer(net, start.encoders, trials, fit.window_bins, start.spread)
    for _ in range(3):
        net = with_prior(net, update_prior(net, windows, post))
        post = posterior(net, windows, [post.nodes])
    return net, post, windows


def _best_start(
    form: ShootingForm,
    start: LinearStart | WarmStart,
    trials: Trials,
    window_bins: int,
    path: NDArray,
    seed: np.random.SeedSequence,
) -> Tensor:
    """Return the flat parameters (1, size) of the candidate whose short trajectories explain the recording best."""
    candidates = start.candidates(form, np.random.default_rng(seed))
    flat = flat_of(form, candidates)
    if len(candidates) == 1:
        return flat
    few = trials.take(np.arange(min(len(trials.lengths), _JUDGED)))
    windows, nodes = on_path(form, few, min(FINE, window_bins), path, len(flat))

    prior = start.prior(len(flat), form, flat)
    net = form.network(form.layout(), flat, prior._replace(node_covariance=0.1 * prior.node_covariance))
    post = posterior(net, windows, [nodes], max_steps=4, approximate=True)
    evidence = torch.nan_to_num(post.log_evidence.sum(1) / windows.bins.sum(), nan=-torch.inf)
    best = int(evidence.argmax())
    chosen = flat[best : best + 1]
    if float(evidence[best]) > constant_log_density(few, few, form.likelihood):
        return chosen
    # worse than constant rates: the linear model's readout, made for latents that move freely, misleads; regress anew
    readout = regress(form.likelihood, select(net, best).readout, post.latents[best : best + 1], windows.data)
    return form.with_readout(chosen, readout)


def flat_of(form: ShootingForm, networks: list[dict[str, NDArray]]) -> Tensor:
    """Return the parameters of all restarts as one flat tensor (S, size)."""
    layout, like = form.layout(), form.scale
    parts = {name: np.stack([np.asarray(p[name], dtype=float) for p in networks]) for name in layout.shapes}
    return layout.pack({name: torch.tensor(a, dtype=like.dtype, device=like.device) for name, a in parts.items()})


def on_path(form: ShootingForm, trials: Trials, bins: int, path: NDArray, n_nets: int) -> tuple[Windows, Tensor]:
    """Return trials cut into windows, and nodes (S, window, latent) on given trajectories (S, trial, time, latent)."""
    windows = cut_like(form.scale, form.likelihood, trials, bins)
    at = path[:, windows.spans[:, 0], windows.spans[:, 1]]
    nodes = torch.tensor(at, dtype=form.scale.dtype, device=form.scale.device)
    return windows, nodes.expand(n_nets, -1, -1).clone()


def end_to_end(histories: list[xr.Dataset]) -> xr.Dataset:
    """Return the histories of all stages in one, epochs counted through."""
    names = list(histories[0].data_vars)
    joined = {name: (histories[0][name].dims, np.concatenate([h[name].values for h in histories])) for name in names}
    n_epochs = sum(history.sizes["epoch"] for history in histories)
    coords = {name: coord for name, coord in histories[0].coords.items() if name != "epoch"}
    return xr.Dataset(joined, coords=coords | {"epoch": np.arange(1, n_epochs + 1)})
