"""How well groups of latents were found, and how well they could be: the scores and the ceilings of `disrnn.py`.

Group latent R2 (Li et al. 2025): an affine map from every found group to every true group, fitted and judged on the
same bins, R2 averaged over the columns (not pooled), the one-to-one match of groups that is best in total. A ceiling
is a supervised affine map to the true latents from what the posterior of that name may see.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from disrnn_data import Planted, columns_of
from nwb_lrrnn.align import affine_map

Array = NDArray[np.floating]
REACH = 8  # bins to either side that the smoothed ceiling sees
ODD = slice(1, None, 2)  # the bins on which the paper reports


def column_r2(predicted: Array, target: Array) -> Array:
    """Return 1 - SSE / SST of every column."""
    return 1 - ((target - predicted) ** 2).sum(0) / ((target - target.mean(0)) ** 2).sum(0)


def ungrouped_r2(found: Array, truth: Array) -> float:
    """Return the mean R2 of the true latents explained by an affine map of all found ones."""
    return float(column_r2(affine_map(found, truth)(found), truth).mean())


def group_r2(found: Array, truth: Array, found_ranks: tuple[int, ...], true_ranks: tuple[int, ...]) -> float:
    """Return the mean R2 over all true latents, each group explained by the found group that goes with it.

    A true group without a partner counts as 0.
    """
    sums = np.array(
        [
            [
                column_r2(affine_map(found[:, f], truth[:, t])(found[:, f]), truth[:, t]).sum()
                for f in columns_of(found_ranks)
            ]
            for t in columns_of(true_ranks)
        ]
    )
    ranks = np.array(true_ranks)
    rows, columns = linear_sum_assignment(-(sums / ranks[:, None]))
    return float(sums[rows, columns].sum() / ranks.sum())


def best_partition_r2(found: Array, truth: Array, true_ranks: tuple[int, ...]) -> float:
    """Return the best `group_r2` over all ways to share the found columns out to two groups."""
    columns = set(range(found.shape[1]))
    scores = []
    for first in combinations(sorted(columns), true_ranks[0]):
        order = [*first, *sorted(columns - set(first))]
        scores.append(group_r2(found[:, order], truth, true_ranks, true_ranks))
    return max(scores)


def sub_connectivity_correlation(found: list[Array], truth: list[Array]) -> float:
    """Return the correlation of all entries of A_g B_g, the found groups in the order of least absolute error."""
    errors = np.array([[np.abs(f - t).mean() for f in found] for t in truth])
    rows, columns = linear_sum_assignment(errors)
    ours, true = (np.concatenate([m[i].ravel() for i in order]) for m, order in ((found, columns), (truth, rows)))
    return float(np.corrcoef(ours, true)[0, 1])


# --- ceilings --------------------------------------------------------------------------------------------------------


def visible(observations: Array, posterior: str) -> Array:
    """Return what a linear map may see in every bin (time, feature); bin 0 has nothing before it and is not judged."""
    x = np.asarray(observations, dtype=float)
    before = np.tanh(np.concatenate([np.zeros((1, x.shape[1])), x[:-1]]))
    if posterior == "delayed":
        return before
    if posterior == "filtered":
        return np.concatenate([x, before], axis=1)
    padded = np.pad(x, ((REACH, REACH), (0, 0)), mode="edge")
    return np.concatenate([padded[i : i + len(x)] for i in range(2 * REACH + 1)], axis=1)


def _ridge(features: Array, target: Array, penalty: float) -> tuple[Array, Array]:
    mean, height = features.mean(0), target.mean(0)
    centred = features - mean
    gram = centred.T @ centred
    scale = penalty * np.trace(gram) / len(gram)
    weights = np.linalg.solve(gram + scale * np.eye(len(gram)), centred.T @ (target - height))
    return weights, height - mean @ weights


PENALTIES = tuple(10.0**k for k in range(-7, 4))  # relative to the mean variance of a feature


def ceiling(data: Planted, posterior: str, split: str = "odd") -> float:
    """Return the mean R2 of the true latents explained by a supervised affine map of `visible`, on other bins.

    split : "odd" fits on the even bins and judges on the odd ones, as the paper does; "blocks" fits on four fifths of
    the recording and judges on the fifth, in turn, `REACH` bins apart. Ridge penalties of `PENALTIES`, the same for all
    latents: the best on the judged bins, so that it errs on the high side (a ceiling).
    """
    features, truth = visible(data.observations, posterior), data.latents
    n = len(truth)
    if split == "odd":
        folds = [(np.arange(2, n, 2), np.arange(1, n, 2))]
    else:
        bins, edges = np.arange(1, n), np.linspace(1, n, 6).astype(int)
        folds = [
            (bins[(bins < a - REACH) | (bins >= b + REACH)], np.arange(a, b))
            for a, b in zip(edges, edges[1:], strict=False)
        ]
    judged = np.concatenate([test for _, test in folds])
    scores = []
    for penalty in PENALTIES:
        maps = [(_ridge(features[train], truth[train], penalty), test) for train, test in folds]
        predicted = np.concatenate([features[test] @ weights + offset for (weights, offset), test in maps])
        scores.append(column_r2(predicted, truth[judged]).mean())
    return float(max(scores))
