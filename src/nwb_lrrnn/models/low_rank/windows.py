"""Trials cut into shooting windows: the tensors on which deterministic trajectories are fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.networks.cells import filtered
from nwb_lrrnn.models.networks.scan import Drive
from nwb_lrrnn.models.observation.readouts import Data
from nwb_lrrnn.trials import Trials


@dataclass(frozen=True)
class Windows:
    """W windows of B trials, in order: each starts at a node; all but a trial's last predict the next node.

    A window of L observed bins that has a successor is run for L + 1 steps, the last being its prediction of the
    next node. T is the longest run.
    """

    data: Data
    lengths: Tensor  # (window,), steps to run
    inputs: Tensor  # u (window, T, input)
    first: Tensor  # (window,), bool: the window starts its trial
    has_next: Tensor  # (window,), bool
    table: Tensor  # (trial, node), int64: window of each node; absent nodes repeat the trial's first
    present: Tensor  # (trial, node), bool
    bins: Tensor  # (window,), observed time bins
    trial: Tensor  # (window,), int64
    time: Tensor  # (window, T), int64: bin of each step in its trial
    trial_inputs: Tensor  # u (trial, time, input)
    spans: np.ndarray  # (window, 3): trial, first bin, one past the last bin

    def take(self, index: Tensor) -> Windows:
        """Return some windows for a gradient step (without the table of nodes, which needs whole trials)."""
        per_window = ("lengths", "inputs", "first", "has_next", "bins", "trial", "time")
        chosen = {name: getattr(self, name)[index] for name in per_window}
        return replace(
            self,
            data=Data(*(part[index] for part in self.data)),
            table=self.table[:0],
            present=self.present[:0],
            spans=self.spans[:0],
            **chosen,
        )

    def drive(self, alpha: Tensor | None = None) -> Drive:
        """Return what drives the windows: v = u, or u filtered over each whole trial with the given alpha (S,)."""
        if alpha is None or not self.inputs.shape[-1]:
            return Drive(self.lengths, self.inputs[None], self.inputs)
        v = filtered(alpha, self.trial_inputs)  # (S, trial, time, input)
        return Drive(self.lengths, v[:, self.trial[:, None], self.time], self.inputs)

    def per_trial(self, values: Tensor) -> Tensor:
        """Return the sums over each trial's windows, (S, trial), of values (S, window), in a fixed order."""
        return (values[:, self.table] * self.present).sum(-1)


def cut(
    trials: Trials, window_bins: int | None, *, likelihood: Likelihood, dtype: torch.dtype, device: torch.device | str
) -> Windows:
    """Return trials cut into windows of at most `window_bins` bins (None: one window a trial), for a likelihood."""
    longest = int(trials.lengths.max())
    size = longest if window_bins is None else min(window_bins, longest)
    spans = np.array(
        [(k, a, min(a + size, n)) for k, n in enumerate(trials.lengths) for a in range(0, int(n), size)], dtype=np.int64
    )
    trial, begin, end = spans.T
    has_next = end < trials.lengths[trial]
    lengths = end - begin + has_next
    steps = int(lengths.max())
    n_inputs = 0 if trials.inputs is None else trials.inputs.shape[2]
    bins = trials.bins
    by_unit = trials.observed is not None and not (trials.observed == bins[:, :, None]).all()
    y = np.zeros((len(spans), steps, trials.values.shape[2]))
    seen = np.zeros((len(spans), steps, y.shape[2] if by_unit else 1))
    inputs = np.zeros((len(spans), steps, n_inputs))
    for w, (k, a, b) in enumerate(spans):
        y[w, : b - a] = trials.values[k, a:b]
        seen[w, : b - a] = trials.observed[k, a:b] if by_unit else bins[k, a:b, None]  # type: ignore[index]
        if trials.inputs is not None:
            inputs[w, : b - a] = trials.inputs[k, a:b]
    constants = (likelihood.family.of_values(y) * seen).sum((1, 2))
    n_nodes = np.bincount(trial, minlength=len(trials.lengths))
    starts = np.concatenate([[0], np.cumsum(n_nodes)[:-1]])
    node = np.arange(int(n_nodes.max()))
    present = node[None, :] < n_nodes[:, None]
    table = np.where(present, starts[:, None] + node[None, :], starts[:, None])

    def tensor(array: np.ndarray, kind: torch.dtype) -> Tensor:
        return torch.tensor(array, dtype=kind, device=device)

    def own(array: np.ndarray) -> Tensor:
        """Return an array made here as a tensor, not copied where it need not be: `y` is as large as the trials."""
        return torch.as_tensor(array, dtype=dtype, device=device)

    return Windows(
        Data(own(y), own(seen), own(constants)),
        tensor(lengths, torch.int64),
        tensor(inputs, dtype),
        tensor(begin == 0, torch.bool),
        tensor(has_next, torch.bool),
        tensor(table, torch.int64),
        tensor(present, torch.bool),
        tensor(seen.any(2).sum(1), dtype),
        tensor(trial, torch.int64),
        tensor(np.minimum(begin[:, None] + np.arange(steps), longest - 1), torch.int64),
        tensor(np.zeros((len(n_nodes), longest, 0)) if trials.inputs is None else trials.inputs, dtype),
        spans,
    )


def join(values: np.ndarray, windows: Windows, shape: tuple[int, ...]) -> np.ndarray:
    """Return per-step values (window, T, k) of windows as (trial, time, k), the predictions of next nodes left out.

    `shape` is (trial, time).
    """
    out = np.zeros((*shape[:2], values.shape[2]))
    for w, (k, a, b) in enumerate(windows.spans):
        out[k, a:b] = values[w, : b - a]
    return out
