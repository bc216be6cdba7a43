"""The networks of one restart: one for every fold, trained on the other trials and judged by its own, and one for all.

All go the same way, step by step; the held-out trials of the folds, together every trial once, say how far. The last
network has seen all trials by then, and it is the one that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nwb_lrrnn.models.smc.data import Batches, TrialData, trial_data
from nwb_lrrnn.models.training.splitting import folds, hold_out
from nwb_lrrnn.trials import Trials


class Part(NamedTuple):
    """The trials of one network."""

    train: Trials
    held: Trials | None  # None: nothing judges it


class Parts(NamedTuple):
    """The trials of all networks of a restart, the one for all trials last."""

    parts: list[Part]
    folds: list[NDArray[np.int64]]  # which trials each but the last holds out; empty where none is a whole trial


def parts_of(trials: Trials, fraction: float, rng: np.random.Generator) -> Parts:
    """Return the parts of trials; of a single trial its end is held out, and where nothing is, all judge themselves."""
    held_out = folds(trials, fraction, rng)
    whole = Part(trials, None)
    if held_out:
        everything = np.arange(len(trials.lengths))
        shares = [Part(trials.take(np.setdiff1d(everything, rows)), trials.take(rows)) for rows in held_out]
        return Parts([*shares, whole], held_out)
    train, held = hold_out(trials, fraction, rng)
    return Parts([Part(trials, trials)] if held is None else [Part(train, held), whole], [])


class Member(NamedTuple):
    """What one network is trained on, and what judges it."""

    train: TrialData
    held: TrialData | None


def members_of(parts: Parts, device: torch.device) -> list[Member]:
    """Return parts as tensors."""
    made = []
    for train, held in parts.parts:
        data = trial_data(train, device)
        made.append(Member(data, data if held is train else None if held is None else trial_data(held, device)))
    return made


class Stream:
    """Batches for every network of every restart, from one pass over all trials."""

    def __init__(self, source: Batches, fold_of: list[NDArray[np.int64]], n_networks: int):
        self.source = source
        self.fold_of = fold_of  # (trial,) of each restart: the network that does not see the trial; -1: none
        self.n_networks = n_networks

    def shuffled(self, rng: np.random.Generator, size: int) -> Iterator[list[list[TrialData | None]]]:
        """Yield each network's share of a batch, by restart and network; None where it has none."""
        for rows, data in self.source.shuffled(rng, size):
            yield [[_share(data, fold[rows] != k) for k in range(self.n_networks)] for fold in self.fold_of]


class Pieces:
    """All there is as one batch: the pieces of a single trial, of which a network may see but a part."""

    def __init__(self, members: list[list[Member]]):
        self.members = members

    def shuffled(self, rng: np.random.Generator, size: int) -> Iterator[list[list[TrialData | None]]]:
        """Yield what each network is trained on."""
        yield [[member.train for member in restart] for restart in self.members]


def _share(data: TrialData, taken: NDArray[np.bool_]) -> TrialData | None:
    if taken.all():
        return data
    return data.take(torch.as_tensor(np.flatnonzero(taken), device=data.y.device)) if taken.any() else None
