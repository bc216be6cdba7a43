"""Which bins two groups are given where they are independent: of another time, or of another trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Index = NDArray[np.int64]

LONG = 20  # correlation times from which a trial is long: shifts within it leave its bins independent
LONG_BINS = 100  # and at least this many bins, for the filters to have room
FEWEST_TRIALS = 5  # fewer have too few permutations
_GONE = 0.05  # a correlation between surrogates that no longer counts


@dataclass(frozen=True)
class Surrogates:
    """For each surrogate, the bins that stand for the tested ones in each of two groups.

    Attributes
    ----------
    left, right : ndarray (surrogate, tested bin)
        Positions among the seen bins; their number where no bin stands.
    runs : ndarray (surrogate,), or None
        Surrogates of one run follow each other in time and are alike; None where they are drawn independently.
    kind : str
        "window", "shift" or "permutation".
    """

    left: Index
    right: Index
    runs: Index | None
    kind: str

    def __len__(self) -> int:
        return len(self.left)

    def thinned(self, most: int) -> Surrogates:
        """Return at most about `most` of them, evenly."""
        keep = slice(None, None, max(1, len(self) // most))
        runs = None if self.runs is None else self.runs[keep]
        return Surrogates(self.left[keep], self.right[keep], runs, self.kind)


def correlation_time(latents: Array, seen: Mask) -> Array:
    """Return for each latent the lag, in bins, at which its autocorrelation falls below 1/e (latent,).

    Pairs of bins lie within trials; a latent whose correlation lasts to half of the longest trial has that length.

    Examples
    --------
    >>> correlation_time(np.sin(np.arange(500) / 10)[None, :, None], np.ones((1, 500), dtype=bool))
    array([13.])
    """
    mean = np.where(seen[..., None], latents, 0.0).sum((0, 1)) / seen.sum()
    z = np.where(seen[..., None], latents - mean, 0.0)
    longest, size = max(2, seen.shape[1] // 2), 2 * seen.shape[1]
    sums = np.fft.irfft((np.abs(np.fft.rfft(z, size, axis=1)) ** 2).sum(0), size, axis=0)[:longest]
    counts = np.fft.irfft((np.abs(np.fft.rfft(seen.astype(float), size, axis=1)) ** 2).sum(0), size)[:longest]
    correlation = sums / np.maximum(counts, 1.0)[:, None]
    below = correlation < correlation[0] / np.e
    return np.where(below.any(0), below.argmax(0), longest).astype(np.float64)


def without_mean(latents: Array, seen: Mask, strata: Index | None) -> Array:
    """Return latents less their mean: of the trial, or (with strata) of the same bin in the trials of its stratum."""
    z = np.where(seen[..., None], latents, 0.0)
    if strata is None:
        mean = z.sum(1, keepdims=True) / np.maximum(seen.sum(1), 1)[:, None, None]
        return np.where(seen[..., None], z - mean, 0.0)
    out = np.zeros_like(z)
    for stratum in np.unique(strata):
        rows = strata == stratum
        mean = z[rows].sum(0) / np.maximum(seen[rows].sum(0), 1)[:, None]
        out[rows] = np.where(seen[rows][..., None], z[rows] - mean, 0.0)
    return out


def without_time_in_trial(values: Array, seen: Mask, strata: Index) -> Array:
    """Return values (trial, time, ...) less what the time in the trial foretells, in strata of five trials or more.

    Where a stratum has fewer, the mean is over all; fewer trials than that stay as they are, since a mean of a few
    would take most of each away.
    """
    if len(values) < FEWEST_TRIALS:
        return values
    fewest = np.unique(strata, return_counts=True)[1].min()
    return without_mean(values, seen, strata if fewest >= FEWEST_TRIALS else np.zeros(len(values), dtype=np.int64))


def evened(latents: Array, seen: Mask) -> Array:
    """Return latents whose variance in no bin of the trial is more than twice that of the median bin.

    Else bins that differ from all others, such as a transient at the beginning, would speak for all. All latents of a
    bin are divided by one number: what is independent stays so, and linear changes of the latents do not matter.
    """
    n = seen.sum(0)
    flat = latents[seen]
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(flat.T, bias=True)))
    scale = np.where(values > 1e-10 * values[-1], 1.0 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    power = (np.where(seen[..., None], (latents - flat.mean(0)) @ (axes * scale), 0.0) ** 2).sum((0, 2))
    power = power / np.maximum(n, 1)
    known = n >= FEWEST_TRIALS
    if not known.any():
        return latents
    most = 2 * np.median(power[known])
    factor = np.where(known & (power > most), np.sqrt(most / np.maximum(power, 1e-300)), 1.0)
    return latents * factor[:, None]


def windows(n_bins: int, first: int, length: int, apart: int, n_surrogates: int) -> Surrogates:
    """Return pairs of windows as long as the tested one, which one group keeps and the other leaves by `apart` or more.

    Of a recording of `n_bins` the bins from `first` are tested. Nothing is wrapped around: a slow signal that is joined
    end to start loses its phase there, and surrogates would show less dependence than chance does.
    """
    starts = np.arange(n_bins - length + 1)
    starts = starts[np.abs(starts - first) >= apart]
    if len(starts) == 0:
        none = np.empty((0, length), dtype=np.int64)
        return Surrogates(none, none, none[:, 0], "window")
    half = min(len(starts), max(1, n_surrogates // 2))
    starts = starts[np.linspace(0, len(starts) - 1, half).astype(np.int64)]
    moved, kept = starts[:, None] + np.arange(length), np.broadcast_to(first + np.arange(length), (half, length))
    runs = np.repeat(np.arange(2), half)
    return Surrogates(np.concatenate([moved, kept]), np.concatenate([kept, moved]), runs, "window")


def shifts(used: Mask, apart: int, n_surrogates: int, rng: np.random.Generator) -> Surrogates:
    """Return circular shifts of the second group within each trial by `apart` bins or more, either way."""
    lengths = used.sum(1)
    ends = np.cumsum(lengths)
    right = np.empty((n_surrogates, int(ends[-1])), dtype=np.int64)
    for length, end in zip(lengths, ends, strict=True):
        if length == 0:
            continue
        least = min(apart, length // 4)
        steps = np.linspace(least, length - least, n_surrogates).astype(np.int64)
        if len(lengths) > 1:  # trials are shifted independently of each other
            steps = rng.permutation(steps)
        right[:, end - length : end] = (np.arange(length) + steps[:, None]) % length + (end - length)
    runs = np.zeros(n_surrogates, dtype=np.int64) if len(lengths) == 1 else None
    return Surrogates(np.broadcast_to(np.arange(right.shape[1]), right.shape), right, runs, "shift")


def permutations(used: Mask, strata: Index, n_surrogates: int, rng: np.random.Generator) -> Surrogates:
    """Return permutations of the second group's trials within strata; a bin that the other trial lacks is left out."""
    n_bins = int(used.sum())
    position = np.full(used.shape, n_bins, dtype=np.int64)
    position[used] = np.arange(n_bins)
    rows = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    right = np.empty((n_surrogates, n_bins), dtype=np.int64)
    order = np.arange(len(used))
    for surrogate in range(n_surrogates):
        for row in rows:
            order[row] = rng.permutation(row)
        right[surrogate] = position[order][used]
    return Surrogates(np.broadcast_to(np.arange(n_bins), right.shape), right, None, "permutation")


def effective_number(values: Array, runs: Index | None) -> float:
    """Return how many independent surrogates `values` (surrogate,) are worth, neighbours of a run being alike.

    n / (1 + 2 sum of the autocorrelation up to where it is gone), at least 2 for each run.
    """
    if runs is None:
        return float(len(values))
    total = 0.0
    for run in np.unique(runs):
        part = values[runs == run] - values[runs == run].mean()
        n = len(part)
        correlation = np.correlate(part, part, "full")[n - 1 :]
        if n < 3 or correlation[0] <= 0:
            total += min(n, 2)
            continue
        smooth = convolve1d(correlation / correlation[0], [0.25, 0.5, 0.25], mode="nearest")
        gone = np.flatnonzero(smooth < _GONE)
        last = gone[0] if len(gone) else n
        total += max(2.0, n / (1 + 2 * correlation[1:last].sum() / correlation[0]))
    return total
