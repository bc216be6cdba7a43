"""Grains: short stretches of a recording, each of whose products are kept, and which of them are independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_BYTES = 256 * 2**20  # of the products of all grains, float32
_FEWEST, _MOST = 32, 128


@dataclass(frozen=True)
class Grains:
    """Grains in order; each lies in one trial, or holds several whole ones.

    Attributes
    ----------
    edges : list of arrays
        For each trial its bins at which another grain begins, from 0.
    numbers : list of arrays
        For each trial the grain that begins there.
    starts, stops : arrays (grain,)
        In bins of the session; where trials are independent, within the first trial of each.
    trial : array (grain,)
        The first trial of each.
    n_bins : array (grain,)
    """

    edges: list[NDArray[np.integer]]
    numbers: list[NDArray[np.integer]]
    starts: Array
    stops: Array
    trial: NDArray[np.integer]
    n_bins: Array
    trials_are_apart: bool

    def __len__(self) -> int:
        return len(self.n_bins)

    def cut(self, trial: int, begin: int, end: int) -> list[tuple[int, int, int]]:
        """Return grain, first bin and end of the parts of grains that lie between two bins of a trial."""
        edges = self.edges[trial]
        first = int(np.searchsorted(edges, begin, side="right")) - 1
        parts = []
        for k in range(first, len(edges)):
            if edges[k] >= end:
                break
            stop = end if k + 1 == len(edges) else min(end, int(edges[k + 1]))
            parts.append((int(self.numbers[trial][k]), max(begin, int(edges[k])), stop))
        return parts

    def apart(self, lag: float) -> NDArray[np.bool_]:
        """Return which two grains (grain, grain) have more than `lag` bins between them, or are of other trials."""
        gap = np.maximum(self.starts[:, None] - self.stops[None], self.starts[None] - self.stops[:, None])
        far = gap >= lag
        if self.trials_are_apart:
            far |= self.trial[:, None] != self.trial[None]
        np.fill_diagonal(far, False)
        return far

    def stretches(self, lag: float) -> NDArray[np.integer]:
        """Return the stretch (grain,) of each grain: neighbours together, until a stretch is longer than `lag`."""
        number, out = 0, np.zeros(len(self), dtype=int)
        begin = 0
        for k in range(1, len(self)):
            other = self.trials_are_apart and self.trial[k] != self.trial[k - 1]
            if other or self.starts[k] - self.starts[begin] >= lag:
                number, begin = number + 1, k
            out[k] = number
        long = self.stops[-1] - self.starts[begin] >= 0.7 * lag
        if number and not self.trials_are_apart and not long:  # what is left over is no stretch of its own
            out[out == number] = number - 1
        return out


def grains_of(lengths: NDArray[np.integer], starts: Array | None, trials: NDArray[np.bool_], n_units: int) -> Grains:
    """Return grains for trials of such lengths that count, as many as their products may take memory."""
    most = int(np.clip(_BYTES // (4 * n_units**2), _FEWEST, _MOST))
    counted = np.flatnonzero(trials & (lengths > 0))
    order = counted if starts is None else counted[np.argsort(starts[counted], kind="stable")]
    edges = [np.zeros(0, dtype=int) for _ in lengths]
    numbers = [np.zeros(0, dtype=int) for _ in lengths]
    begins, ends, of_trial, n_bins = [], [], [], []
    if len(order) >= most:
        groups = np.array_split(order, most)
        for k, group in enumerate(groups):
            for trial in group:
                edges[trial], numbers[trial] = np.zeros(1, dtype=int), np.array([k])
            at = np.zeros(len(group)) if starts is None else starts[group]
            begins.append(at.min())
            ends.append((at + lengths[group]).max())
            of_trial.append(group[0])
            n_bins.append(lengths[group].sum())
    else:
        total, number = lengths[order].sum(), 0
        for trial in order:
            length = int(lengths[trial])
            n = int(np.clip(round(most * length / total), 1, length))
            cuts = np.linspace(0, length, n + 1).round().astype(int)
            edges[trial], numbers[trial] = cuts[:-1], number + np.arange(n)
            at = 0.0 if starts is None else starts[trial]
            begins += list(at + cuts[:-1])
            ends += list(at + cuts[1:])
            of_trial += [trial] * n
            n_bins += list(np.diff(cuts))
            number += n
    return Grains(
        edges,
        numbers,
        np.array(begins, dtype=float),
        np.array(ends, dtype=float),
        np.array(of_trial),
        np.array(n_bins, dtype=float),
        starts is None,
    )
