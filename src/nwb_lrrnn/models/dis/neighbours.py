"""What the bins around a bin tell about its latents: regression on neighbours, outside the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.showing import in_short

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

N_NEIGHBOURS = 8  # bins on each side
RIDGES = 10.0 ** np.arange(-2.5, 2.0, 0.5)  # of the mean noise variance of one bin's estimate


@dataclass(frozen=True)
class Neighbours:
    """Second moments of unbiased estimates of the latents in a window of bins, and of the delayed means.

    Estimates of single bins have noise that is independent from bin to bin, so that their covariance with the bins
    around is that of the latents themselves (the idea of noise2self, Batson & Royer 2019).

    Attributes
    ----------
    covariance : array (window * latent, window * latent)
        Of estimates of bins t - L ... t + L and, last, the delayed mean of t, in which row blocks are bins.
    noise : array (latent, latent)
        Covariance of the noise of one estimate.
    ridge : float
        How much of `metric` is added to the covariance of what is regressed on.
    metric : array (latent, latent)
        A multiple of the identity in the latents that this was learnt in, so that no other latents change anything.
    """

    covariance: Array
    noise: Array
    ridge: float
    metric: Array

    __repr__ = in_short

    @property
    def rank(self) -> int:
        """Number of latents."""
        return len(self.noise)

    @property
    def reach(self) -> int:
        """Bins on each side, L."""
        return len(self.covariance) // self.rank // 2 - 1

    def mixed(self, matrix: Array) -> Neighbours:
        """Return the same moments of latents z' = M z."""
        whole = np.kron(np.eye(2 * self.reach + 2), matrix)
        return replace(
            self, covariance=whole @ self.covariance @ whole.T, noise=matrix @ self.noise @ matrix.T,
            metric=matrix @ self.metric @ matrix.T,
        )  # fmt: skip

    def predict(
        self, estimates: Array, known: Mask, delayed: Array, has_history: Mask
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Return the mean of each bin's latents given the bins around it, and the covariance of what it misses.

        Parameters
        ----------
        estimates, known : arrays (trial, time, latent), (trial, time)
            Estimates of single bins, and which bins have one; 0 elsewhere.
        delayed, has_history : arrays (trial, time, latent), (trial, time)
            Delayed means, and which bins have one.

        Returns
        -------
        means : array (trial, time, latent)
        covariances : array (kind, latent, latent)
        kind : array (trial, time), int
            Which covariance each bin has: bins with the same neighbours share one.
        """
        shown, patterns = self._windows(estimates, known, delayed, has_history)
        which, kind = np.unique(patterns.reshape(-1, patterns.shape[-1]), axis=0, return_inverse=True)
        kind = np.asarray(kind, dtype=np.int64).reshape(-1)
        rows = shown.reshape(len(kind), -1)
        means, covariances = np.zeros((len(kind), self.rank)), np.zeros((len(which), self.rank, self.rank))
        order = np.argsort(kind, kind="stable")
        for k, part in enumerate(np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)):
            weights, covariances[k], columns = self._weights(which[k])
            means[part] = rows[np.ix_(part, columns)] @ weights.T
        return means.reshape(estimates.shape), covariances, kind.reshape(known.shape)

    def _windows(self, estimates: Array, known: Mask, delayed: Array, has_history: Mask) -> tuple[Array, Mask]:
        """Return what stands around each bin (trial, time, window, latent) and what of it there is (..., window)."""
        reach = self.reach
        wide = np.pad(np.where(known[..., None], estimates, 0.0), ((0, 0), (reach, reach), (0, 0)))
        there = np.pad(known, ((0, 0), (reach, reach)))
        n_bins = known.shape[1]
        around = [wide[:, k : k + n_bins] for k in range(2 * reach + 1)] + [delayed]
        exists = [there[:, k : k + n_bins] for k in range(2 * reach + 1)] + [has_history]
        exists[reach] = np.zeros_like(known)  # never the bin itself
        return np.stack(around, axis=2), np.stack(exists, axis=2)

    def _weights(self, pattern: Mask) -> tuple[Array, Array, NDArray[np.int64]]:
        """Return W, the covariance that is left, and the columns that W reads, for one pattern of known neighbours."""
        rank, reach = self.rank, self.reach
        centre = np.arange(reach * rank, (reach + 1) * rank)
        columns = (np.flatnonzero(pattern)[:, None] * rank + np.arange(rank)).ravel()
        own = self._positive(self.covariance[np.ix_(centre, centre)] - self.noise)
        if not len(columns):
            return np.zeros((rank, 0)), own, columns
        cross = self.covariance[np.ix_(centre, columns)]
        penalty = self.ridge * np.kron(np.eye(int(pattern.sum())), self.metric)
        inner = self.covariance[np.ix_(columns, columns)] + penalty
        weights = np.linalg.solve(inner, cross.T).T
        return weights, self._positive(own - weights @ cross.T, 1e-4 * own), columns

    def _positive(self, matrix: Array, least: Array | None = None) -> Array:
        """Return the nearest covariance >= the mean variance of `least` (0 without), where `metric` is round."""
        values, vectors = np.linalg.eigh(self.metric)
        root = vectors * np.sqrt(np.maximum(values, 1e-12 * values[-1]))
        back = np.linalg.inv(root)
        floor = 0.0 if least is None else float(np.trace(back @ least @ back.T)) / self.rank
        return root @ _positive(back @ matrix @ back.T, floor) @ root.T


def learn(estimates: Array, known: Mask, delayed: Array, has_history: Mask, noise: Array) -> Neighbours:
    """Return what neighbours tell, learnt from the estimates of a recording; the ridge is chosen by cross-validation.

    Parameters
    ----------
    estimates, known : arrays (trial, time, latent), (trial, time)
    delayed, has_history : arrays (trial, time, latent), (trial, time)
    noise : array (latent, latent)
    """
    longest = int(known.sum(axis=1).max(initial=1))
    reach = max(1, min(N_NEIGHBOURS, longest - 1))
    whole = _window_covariance(estimates, known, delayed, has_history, reach)
    metric = np.trace(noise) / len(noise) * np.eye(len(noise))
    found = Neighbours(whole, noise, 1.0, metric)
    fold = _folds(known)
    if fold is None:
        return found
    shown, patterns = found._windows(estimates, known, delayed, has_history)
    usual, rows = _most_frequent(patterns, known)
    shown = shown[rows].reshape(-1, shown.shape[2] * shown.shape[3])
    targets, fold_of_row = estimates[rows], fold[rows]
    losses = np.zeros(len(RIDGES))
    for k in range(fold.max() + 1):
        kept = known & (fold != k)
        held = fold_of_row == k
        if not held.any() or not kept.any():
            continue
        part = _window_covariance(estimates, kept, delayed, has_history & kept, reach)
        for i, ridge in enumerate(RIDGES):
            weights, _, columns = Neighbours(part, noise, ridge, metric)._weights(usual)
            losses[i] += ((targets[held] - shown[np.ix_(held, columns)] @ weights.T) ** 2).sum()
    return replace(found, ridge=float(RIDGES[int(np.argmin(losses))]))


def _most_frequent(patterns: Mask, known: Mask) -> tuple[Mask, Mask]:
    """Return the most frequent pattern of neighbours (window,), and which known bins (trial, time) have it."""
    which, kind, count = np.unique(patterns[known], axis=0, return_inverse=True, return_counts=True)
    best = int(np.argmax(count))
    rows = known.copy()
    rows[known] = kind.reshape(-1) == best
    return which[best], rows


def _folds(known: Mask, n_folds: int = 3) -> NDArray[np.int64] | None:
    """Return the fold of each bin (trial, time): whole trials, or stretches of few long ones; None for too few bins."""
    if known.sum() < 50:
        return None
    n_trials = len(known)
    if n_trials >= n_folds:
        return np.broadcast_to((np.arange(n_trials) * n_folds // n_trials)[:, None], known.shape)
    position = np.cumsum(known.ravel()).reshape(known.shape) - 1
    return np.clip(position * n_folds // int(known.sum()), 0, n_folds - 1)


def _window_covariance(estimates: Array, known: Mask, delayed: Array, has_history: Mask, reach: int) -> Array:
    """Return the covariance of a window of bins, block Toeplitz, each lag over all pairs of bins that have it."""
    rank = estimates.shape[2]
    z, d = np.where(known[..., None], estimates, 0.0), np.where(has_history[..., None], delayed, 0.0)
    n_window = 2 * reach + 2
    covariance = np.zeros((n_window, rank, n_window, rank))
    n_bins = z.shape[1]

    def lagged(a: Array, b: Array, a_known: Mask, b_known: Mask, lag: int) -> Array:
        """Return the mean of a_t b_{t+lag}^T."""
        first, second = slice(max(-lag, 0), n_bins - max(lag, 0)), slice(max(lag, 0), n_bins - max(-lag, 0))
        count = (a_known[:, first] & b_known[:, second]).sum()
        return np.einsum("kti,ktj->ij", a[:, first], b[:, second]) / max(count, 1)

    for lag in range(min(2 * reach, n_bins - 1) + 1):
        block = lagged(z, z, known, known, lag)
        for k in range(2 * reach + 1 - lag):
            covariance[k, :, k + lag] = block
            covariance[k + lag, :, k] = block.T
    for k in range(2 * reach + 1):
        if abs(k - reach) < n_bins:
            block = lagged(d, z, has_history, known, k - reach)
            covariance[-1, :, k] = block
            covariance[k, :, -1] = block.T
    covariance[-1, :, -1] = lagged(d, d, has_history, has_history, 0)
    return _positive(covariance.reshape(n_window * rank, n_window * rank))


def _positive(matrix: Array, floor: float = 0.0) -> Array:
    """Return the nearest symmetric matrix with eigenvalues of at least `floor`."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * np.maximum(values, floor)) @ vectors.T
