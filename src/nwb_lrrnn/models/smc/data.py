"""Trials as the tensors that a particle filter reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.models.smc.proposals import Masks, masks_of
from nwb_lrrnn.trials import LazyTrials, Trials


@dataclass(frozen=True)
class TrialData:
    """B trials of at most T bins; observations in float64, whatever the type of the particles."""

    y: Tensor  # (B, T, D), 0 where unobserved
    mask: Tensor  # (B, T, D), or (B, T, 1) where whole bins are observed or not; 1.0 where observed
    masks: Masks
    lengths: Tensor  # (B,), int64
    inputs: Tensor  # u (B, T, I)
    n_bins: Tensor  # (B,), observed bins

    def take(self, index: Tensor) -> TrialData:
        """Return some trials, cut to the longest of them."""
        lengths = self.lengths[index]
        n = int(lengths.max()) if lengths.device.type == "cpu" else self.y.shape[1]  # no sync on other devices
        return TrialData(
            self.y[index, :n],
            self.mask[index, :n],
            Masks(self.masks.patterns, self.masks.index[index, :n], self.masks.complete),
            lengths,
            self.inputs[index, :n],
            self.n_bins[index],
        )


class Batches(Protocol):
    """Where training takes its trials from."""

    def shuffled(self, rng: np.random.Generator, size: int) -> Iterator[tuple[NDArray[np.int64], TrialData]]:
        """Yield all trials once and which they are, at most `size` at a time, in an order drawn from `rng`."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Batches of trials in memory."""

    data: TrialData

    def shuffled(self, rng: np.random.Generator, size: int) -> Iterator[tuple[NDArray[np.int64], TrialData]]:
        """Yield all trials once, shuffled."""
        order = rng.permutation(len(self.data.lengths))
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            yield batch, self.data.take(torch.as_tensor(batch, device=self.data.y.device))


@dataclass(frozen=True)
class BlockWise:
    """Batches of trials that are read block by block: shuffled within a block, the blocks shuffled too."""

    trials: LazyTrials
    device: torch.device

    def shuffled(self, rng: np.random.Generator, size: int) -> Iterator[tuple[NDArray[np.int64], TrialData]]:
        """Yield all trials once, block by block."""
        for rows, block in self.trials.blocks(rng):
            for batch, data in InMemory(trial_data(block, self.device)).shuffled(rng, size):
                yield rows[batch], data


def trial_data(trials: Trials, device: torch.device | str) -> TrialData:
    """Return trials as tensors on a device."""
    bins = trials.bins
    seen = bins[:, :, None]
    if trials.observed is not None and (trials.observed.all(2) != trials.observed.any(2)).any():
        seen = trials.observed
    mask = torch.tensor(np.asarray(seen), dtype=torch.float64)
    values = np.where(seen, trials.values, 0.0)
    inputs = np.zeros((*bins.shape, 0)) if trials.inputs is None else trials.inputs
    lengths = torch.tensor(np.asarray(trials.lengths), dtype=torch.int64)
    data = TrialData(
        torch.tensor(values, dtype=torch.float64),
        mask,
        masks_of(mask),
        lengths,
        torch.tensor(inputs, dtype=torch.float64),
        torch.tensor(bins.sum(1), dtype=torch.float64),
    )
    moved = {name: getattr(data, name).to(device) for name in ("y", "mask", "lengths", "inputs", "n_bins")}
    return TrialData(
        masks=Masks(data.masks.patterns.to(device), data.masks.index.to(device), data.masks.complete), **moved
    )
