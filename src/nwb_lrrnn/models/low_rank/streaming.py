"""What `LowRankRNN` maximises on a recording that is not in memory: the same evidence, its trials read block by block.

Each epoch visits every block once, in a new order: the nodes of its trials make a Newton step to their mode, and the
parameters climb the log joint density there before the next block comes. The laws of the nodes are set to their
optimum over all blocks when the epoch is over. Only nodes are kept: rank numbers a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.low_rank.fitting import ShootingFit, Stages, end_to_end, flat_of, on_path
from nwb_lrrnn.models.low_rank.inference import cut_like, infer, nodes_on
from nwb_lrrnn.models.low_rank.network import ShootingForm
from nwb_lrrnn.models.low_rank.objective import judged, negative_joint, select, update_prior
from nwb_lrrnn.models.low_rank.shooting import Prior, ShootingNetwork, posterior
from nwb_lrrnn.models.low_rank.start import WarmStart
from nwb_lrrnn.models.low_rank.windows import Windows, join
from nwb_lrrnn.models.training.checkpoints import Checkpoint
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.models.training.loop import train
from nwb_lrrnn.trials import LazyTrials, Trials


def go_on(fit: ShootingFit, start: WarmStart, stages: Stages, trials: LazyTrials, log: Checkpoint) -> ShootingFit:
    """Return the fit of a sample after training on all trials, block by block; held-out trials say where it ends.

    `stages` is what trained on the sample; `trials` are all but the held-out ones.
    """
    if not stages.epochs_left:
        left_out = "no epochs were left for trials outside of the sample. Raise max_epochs"
        return replace(fit, ending=replace(fit.ending, not_converged=left_out))
    form, judges, held = stages.form, stages.held_trials, None
    if judges is not None:
        held = on_path(form, judges, fit.window_bins, start.smoothed(judges, form)[None], 1)
    objective = BlockObjective(form, start, trials, held, fit.window_bins, stages.batch_size, stages.baseline)
    schedule = replace(stages.schedule, max_epochs=stages.epochs_left)
    how = {"progress": stages.progress, "what": ", all blocks", "log": log, "name": "blocks"}
    outcome = train(objective, schedule, stages.rng, **how)
    prior = Prior(*(outcome.state[name] for name in Prior._fields))
    net = select(form.network(form.layout(), outcome.parameters.detach(), prior), 0)
    post, windows = infer(net, start.encoders, stages.train_trials, fit.window_bins, start.spread)
    path = join(post.latents[0].cpu().double().numpy(), windows, stages.train_trials.values.shape[:2])
    history = outcome.history.isel(restart=0, drop=True)
    history = history.assign(shooting_bins=("epoch", np.full(outcome.n_epochs, fit.window_bins)))
    said = (*fit.ending.not_finite, *([f"on blocks, {outcome.not_finite}"] if outcome.not_finite else []))
    ending = Ending(end_to_end([fit.ending.history, history]), fit.ending.restart_scores, said, outcome.not_converged)
    return ShootingFit(net, path, fit.window_bins, ending)


class _Batch(NamedTuple):
    """Windows of one block, with the nodes where they start and where the next ones do, (S, window, R)."""

    windows: Windows
    nodes: Tensor
    following: Tensor
    has_next: bool


@dataclass
class _Sums:
    """What the laws of the nodes are pooled from: those of every block, weighted by its trials."""

    priors: list[Prior]
    n_trials: list[int]
    evidence: Tensor
    log_likelihood: Tensor
    n_bins: Tensor

    def prior(self) -> Prior:
        """Return the laws over all blocks; Sigma_1 has the spread of the blocks' means in it."""
        weights = torch.tensor(self.n_trials, dtype=self.evidence.dtype, device=self.evidence.device)
        weights = weights / weights.sum()
        stacked = [torch.stack(parts) for parts in zip(*self.priors, strict=True)]  # (block, S, ...)
        mean, inputs, covariance, node = (torch.einsum("b,b...->...", weights, parts) for parts in stacked)
        apart = stacked[0] - mean
        covariance = covariance + torch.einsum("b,bsr,bsq->srq", weights, apart, apart)
        return Prior(mean, inputs, covariance, node)


class BlockObjective:
    """The `Objective` of the training loop on blocks of trials."""

    def __init__(
        self,
        form: ShootingForm,
        start: WarmStart,
        trials: LazyTrials,
        held_out: tuple[Windows, Tensor] | None,
        window_bins: int,
        batch_size: int | None,
        baseline: float,
    ):
        self.form, self.layout, self.start = form, form.layout(), start
        self.parameters = flat_of(form, start.candidates(form, np.random.default_rng(0))).requires_grad_()
        self.prior = start.prior(1, form, self.parameters)
        self.trials, self.window_bins = trials, window_bins
        self.held_out = held_out
        self.held_damping: Tensor | None = None
        self.batch_size, self.baseline = batch_size, baseline
        self.resolution = 0.002 * form.n_units
        self.nodes: dict[int, tuple[Tensor, Tensor]] = {}  # by the first trial of a block: nodes and damping
        self.sums = self._no_sums()

    def _no_sums(self) -> _Sums:
        zero = self.form.scale.new_zeros(1)
        return _Sums([], [], zero, zero, zero)

    def network(self, flat: Tensor) -> ShootingNetwork:
        """Return the networks of flat parameters, with the current laws of the nodes."""
        return self.form.network(self.layout, flat, self.prior)

    def begin_epoch(self, epoch: int) -> None:
        """Set the laws of the nodes to their optimum over the blocks of the last epoch."""
        if self.sums.priors:
            self.prior = self.sums.prior()

    def batches(self, rng: np.random.Generator) -> Iterator[_Batch]:
        """Yield the windows of every block, its nodes moved to their mode first."""
        self.sums = self._no_sums()
        for rows, block in self.trials.blocks(rng):
            windows, nodes = self._at_mode(int(rows[0]), block)
            del block
            n = len(windows.lengths)
            size = n if self.batch_size is None else self.batch_size
            order = torch.as_tensor(rng.permutation(n) if size < n else np.arange(n), device=nodes.device)
            following = nodes.roll(-1, dims=1)
            several = windows.present.shape[1] > 1
            for index in order.split(size):
                part = windows if len(index) == n else windows.take(index)
                yield _Batch(part, nodes[:, index], following[:, index], several)
            del windows, part  # before the next block comes

    def _at_mode(self, key: int, block: Trials) -> tuple[Windows, Tensor]:
        """Return the windows of a block and its nodes after a Newton step, and add it to the sums."""
        net = self.network(self.parameters.detach())
        path = None if key in self.nodes else self.start.smoothed(block, self.form)
        windows = cut_like(self.form.scale, self.form.likelihood, block, self.window_bins)
        if path is None:
            (nodes, damping), steps = self.nodes[key], 1
        else:
            nodes, damping, steps = nodes_on(path, windows, 1), None, 8
        post = posterior(net, windows, [nodes], max_steps=steps, damping=damping, approximate=True)
        self.nodes[key] = post.nodes, post.damping.clamp(max=1e3)
        with torch.no_grad():
            self.sums.priors.append(update_prior(net, windows, post))
        self.sums.n_trials.append(len(block.lengths))
        self.sums.evidence = self.sums.evidence + post.log_evidence.sum(1)
        self.sums.log_likelihood = self.sums.log_likelihood + post.log_likelihood.sum(1)
        self.sums.n_bins = self.sums.n_bins + windows.bins.sum()
        return windows, post.nodes

    def loss(self, batch: _Batch) -> Tensor:
        """Return minus the log joint density per observed bin (S,), at the current nodes."""
        net = self.network(self.parameters)
        return negative_joint(net, batch.windows, batch.nodes, batch.following if batch.has_next else None)

    def judge(self) -> dict[str, Tensor]:
        """Return the evidence per bin of the held-out trials, and of the blocks as they came in the last epoch.

        Where none are held out the latter decides; before the first epoch is over it stands at the baseline.
        """
        sums = self.sums
        evidence = sums.evidence / sums.n_bins
        terms = {
            "log_evidence": evidence,
            "log_likelihood": sums.log_likelihood / sums.n_bins,
            "largest_jump": torch.full_like(evidence, torch.nan),
        }
        if self.held_out is None:
            return terms | {"validation": torch.nan_to_num(evidence, nan=self.baseline)}
        windows, nodes = self.held_out
        net = self.network(self.parameters.detach())
        validation, nodes, self.held_damping = judged(net, windows, nodes, self.held_damping)
        self.held_out = windows, nodes
        return terms | {"validation": validation}

    def snapshot(self) -> dict[str, Tensor]:
        """Return the laws of the nodes and the held-out nodes; those of the blocks find back in a step or two."""
        held_out = {} if self.held_out is None else {"held_out_nodes": self.held_out[1]}
        return {**self.prior._asdict(), **held_out}

    def state(self) -> dict[str, Tensor]:
        """Return nodes, damping and laws; between epochs, when the sums are in the laws of the next."""
        if self.sums.priors:
            self.prior = self.sums.prior()
        state = self.snapshot()
        if self.held_damping is not None:
            state["held_out_damping"] = self.held_damping
        for key, (nodes, damping) in self.nodes.items():
            state |= {f"nodes_{key}": nodes, f"damping_{key}": damping}
        sums = self.sums
        return state | {"evidence": sums.evidence, "log_likelihood": sums.log_likelihood, "n_bins": sums.n_bins}

    def load(self, state: dict[str, Tensor]) -> None:
        """Become what `state` returned."""
        found = {name: tensor.to(self.parameters) for name, tensor in state.items()}
        self.prior = Prior(*(found[name] for name in Prior._fields))
        self.held_damping = found.get("held_out_damping")
        if self.held_out is not None:
            self.held_out = self.held_out[0], found["held_out_nodes"]
        keys = [name.removeprefix("nodes_") for name in found if name.startswith("nodes_")]
        self.nodes = {int(key): (found[f"nodes_{key}"], found[f"damping_{key}"]) for key in keys}
        self.sums = _Sums([], [], found["evidence"], found["log_likelihood"], found["n_bins"])
