"""Whether groups of latents go on by themselves: held-out prediction of a group from itself, and with the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

from nwb_lrrnn.align import slices
from nwb_lrrnn.analysis.independence.surrogates import correlation_time

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

# bins ahead, and bins before that a group is predicted from, the most telling first: errors of filtered latents last
# for two bins, so that three ahead only what drives a group tells of it
_SHAPES = ((3, (1, 2)), (2, (1,)), (1, ()))
_RIDGES = 10.0 ** np.arange(-3, 4.5)  # of the sum of squares of standardised features
_DEGREES = (3, 2, 1)
_N_FOLDS, _N_BLOCKS = 5, 16
_BLOCK = 3.0  # correlation times
FREEDOM = 4.0  # of the density of errors
FEWEST = 60  # windows to learn from


class Autonomy(NamedTuple):
    """How well groups are predicted where they were not learnt.

    Attributes
    ----------
    log_likelihood : array (block,)
        Of all latents given their own group's past, nats per bin, in blocks of bins that were not learnt from: tested
        ones, and trained ones by cross-validation, since a recording may end unlike it began.
    gains : array (group, block)
        What the other groups add to a group's own past, in blocks of tested bins; empty where not asked for.
    """

    log_likelihood: Array
    gains: Array

    @property
    def p_values(self) -> Array:
        """Probability, for each group, of a gain as large by chance where the others tell nothing (one-sided t)."""
        return np.array([chance(gain) for gain in self.gains])


def loss_p_value(coarse: Autonomy, fine: Autonomy) -> float:
    """Return the probability of a loss of likelihood as large by chance where the finer grouping is as good."""
    return chance(coarse.log_likelihood - fine.log_likelihood)


def chance(blocks: Array) -> float:
    """Return the probability of a mean of blocks as large by chance where it is 0 (one-sided t)."""
    sd = blocks.std(ddof=1)
    if not sd > 0:
        return 1.0
    return float(stats.t.sf(blocks.mean() / (sd / np.sqrt(len(blocks))), len(blocks) - 1))


def autonomy(
    latents: Array, matrix: Array, group_ranks: Sequence[int], trained: Mask, tested: Mask, *, others: bool = True
) -> Autonomy:
    """Return how well each group of `latents @ matrix` foretells itself in tested bins, learnt in trained ones.

    A group three bins ahead is regressed on monomials of itself now and on its own two bins before (ridge by
    cross-validation); what is left is regressed on the same features of the other groups and on products of both.

    Parameters
    ----------
    latents : array (trial, time, latent)
        Filtered, since smoothed latents know what comes.
    matrix : array (latent, latent)
        Its columns are latents group by group.
    group_ranks : sequence of int
    trained, tested : bool arrays (trial, time)
        No window is in both.
    others : bool
        Whether gains are asked for; without, they are empty.

    Raises
    ------
    ValueError
        If there are too few windows in either part.
    """
    z = latents @ matrix
    spread = np.sqrt(np.mean((z[trained] - z[trained].mean(axis=0)) ** 2, axis=0))
    z = (z - z[trained].mean(axis=0)) / spread
    z = np.clip(z, z[trained].min(axis=0), z[trained].max(axis=0))  # monomials of what was never seen would run away
    learn, test = _windows(z, trained, tested)
    parts = [np.arange(z.shape[2])[part] for part in slices(group_ranks)]
    change = float(np.linalg.slogdet(matrix)[1]) - float(np.log(spread).sum())
    total, gains = np.full(len(learn.later) + len(test.later), change), []
    for part in parts:
        own, given = learn.own(part), test.own(part)
        model = _Ridge.fit(own, learn.later[:, part])
        left, rest = model.cross_fitted, test.later[:, part] - model(given)
        root = np.linalg.cholesky(left.T @ left / len(left) + 1e-9 * np.eye(len(part)))
        total = total + _log_density(np.concatenate([left, rest]), root)
        other = np.setdiff1d(np.arange(z.shape[2]), part)
        if others and len(other):
            more = _Ridge.fit(learn.with_others(part, other), left)
            gains.append(_log_density(rest - more(test.with_others(part, other)), root) - _log_density(rest, root))
    slowest = float(correlation_time(latents, trained | tested).max())  # of them all: blocks of all groupings pair
    return Autonomy(in_blocks(total, slowest), np.array([in_blocks(gain, slowest) for gain in gains]))


def in_blocks(values: Array, slowest: float = 1.0) -> Array:
    """Return the means of neighbours, in blocks that are taken for independent (block,).

    They are at least three correlation times of what they tell of long, `slowest` being the longest: what a slow latent
    seems to tell of another for as long as it lasts counts once.
    """
    most = int(len(values) / (_BLOCK * slowest))
    return np.array([part.mean() for part in np.array_split(values, max(2, min(_N_BLOCKS, most)))])


class _Windows(NamedTuple):
    """Latents now, before and later, (window, latent) each."""

    now: Array
    before: tuple[Array, ...]
    later: Array
    most: int  # features of a group at most

    def own(self, part: NDArray[np.int64]) -> Array:
        """Return what a group is predicted from by itself, (window, feature)."""
        u = self.now[:, part]
        degree = next(d for d in _DEGREES if d == 1 or _count(len(part), d) <= self.most)
        powers = [np.prod(u[:, list(c)], axis=1) for d in range(2, degree + 1) for c in _products(len(part), d)]
        monomials = np.stack(powers, axis=1) if powers else np.zeros((len(u), 0))
        return np.concatenate([u, monomials, *(z[:, part] for z in self.before)], axis=1)

    def with_others(self, part: NDArray[np.int64], other: NDArray[np.int64]) -> Array:
        """Return features of the other groups, and products of both."""
        cross = (self.now[:, part][:, :, None] * self.now[:, other][:, None, :]).reshape(len(self.now), -1)
        return np.concatenate([self.own(other), cross], axis=1)


def _products(rank: int, degree: int):
    return combinations_with_replacement(range(rank), degree)


def _count(rank: int, degree: int) -> int:
    return sum(1 for d in range(1, degree + 1) for _ in _products(rank, d))


def _windows(z: Array, trained: Mask, tested: Mask) -> tuple[_Windows, _Windows]:
    """Return windows that lie within trials, and within what is learnt from or tested."""
    for ahead, back in _SHAPES:
        found = [inside(mask, ahead, max(back, default=0)) for mask in (trained, tested)]
        if min(len(found[0][0]), 3 * len(found[1][0])) >= FEWEST:
            break
    else:
        raise ValueError(
            f"X: got {len(found[0][0])} bins to learn from and {len(found[1][0])} to test, wanted at least {FEWEST} "
            f"and {FEWEST // 3}; record longer"
        )
    most = len(found[0][0]) // 10

    def at(rows: tuple[Any, Any]) -> _Windows:
        trial, time = rows
        return _Windows(z[trial, time], tuple(z[trial, time - k] for k in back), z[trial, time + ahead], most)

    return at(found[0]), at(found[1])


def inside(mask: Mask, ahead: int, back: int) -> tuple[Any, Any]:
    """Return trial and time of the bins whose window lies within a mask."""
    n = mask.shape[1]
    whole = np.zeros_like(mask)
    if n > ahead + back:
        whole[:, back : n - ahead] = True
        for shift in range(-back, ahead + 1):
            whole[:, back : n - ahead] &= mask[:, back + shift : n - ahead + shift]
    trial, time = np.nonzero(whole)
    return trial, time


class _Ridge(NamedTuple):
    """Ridge regression on standardised features."""

    weights: Array
    mean: Array
    scale: Array
    level: Array
    cross_fitted: Array  # what held-out folds of the learnt rows are missed by

    @classmethod
    def fit(cls, x: Array, y: Array) -> _Ridge:
        """Return the regression whose ridge predicts stretches left out best."""
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale = np.where(scale > 1e-12, scale, 1.0)
        rows = np.concatenate([np.ones((len(x), 1)), (x - mean) / scale], axis=1)
        whole, cross = rows.T @ rows, rows.T @ y
        penalty = np.eye(rows.shape[1])
        penalty[0, 0] = 0.0
        misses = np.zeros((len(_RIDGES), *y.shape))
        for held in np.array_split(np.arange(len(x)), _N_FOLDS):
            inner, target = whole - rows[held].T @ rows[held], cross - rows[held].T @ y[held]
            for k, ridge in enumerate(_RIDGES):
                weights = np.linalg.solve(inner + ridge * penalty, target)
                misses[k, held] = y[held] - np.dot(rows[held], weights)
        losses = [np.linalg.slogdet(np.dot(miss.T, miss) + 1e-12 * np.eye(y.shape[1]))[1] for miss in misses]
        best = int(np.argmin(losses))
        weights = np.linalg.solve(whole + _RIDGES[best] * penalty, cross)
        return cls(weights[1:], mean, scale, weights[0], misses[best])

    def __call__(self, x: Array) -> Array:
        """Return predictions (row, target)."""
        return self.level + np.dot((x - self.mean) / self.scale, self.weights)


def _log_density(rest: Array, root: Array) -> Array:
    """Return the log density of Student's t, whose tails a few bins unlike all that was learnt do not rule."""
    d = len(root)
    square = (np.linalg.solve(root, rest.T) ** 2).sum(axis=0)
    norm = gammaln((FREEDOM + d) / 2) - gammaln(FREEDOM / 2) - 0.5 * d * np.log(FREEDOM * np.pi)
    return norm - np.log(np.diag(root)).sum() - 0.5 * (FREEDOM + d) * np.log1p(square / FREEDOM)
