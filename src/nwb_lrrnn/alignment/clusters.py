"""How many kinds there are: the cut of a tree that separates, or one kind where no cut does so for sure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

# calibrated on fits of planted networks (benchmarks/compare_fits.py): five of six kinds are split in at most 2 of 40
# draws of 12 to 36 fits; fits of two stable states, some of which find one state only, in up to a quarter
ENOUGH, CHANCE, N_NULL = 0.75, 0.05, 59
FEWEST = 3  # fits of a kind, below which it may as well be a pair of fits that failed
_MOST = 8  # kinds looked for


class Kinds(NamedTuple):
    """The chosen cut."""

    labels: NDArray[np.int64]  # (fit,), 0 the largest kind
    n_kinds: int
    silhouette: float  # of the best cut, chosen or not; NaN: there was none
    p_value: float  # how often one Gaussian kind has a cut as good; NaN: not asked


def kinds_of(points: Array, rng: np.random.Generator) -> Kinds:
    """Return the kinds among points (fit, feature): the best cut of their tree, if it is good and no chance.

    Trees are of average linkage, and cuts are judged by the mean silhouette (Rousseeuw 1987), from -1 to 1. The null is
    one Gaussian with the covariance of the points (Liu et al. 2008), which has the best of its cuts too.
    """
    n = len(points)
    one = np.zeros(n, dtype=np.int64)
    fewest = max(FEWEST, int(np.ceil(n / 20)))
    axes = np.linalg.svd(points - points.mean(0), compute_uv=False)
    if n < 2 * fewest or axes[0] <= 1e-9 * max(1.0, float(np.abs(points).max())):
        return Kinds(one, 1, np.nan, np.nan)
    labels, found = _best_cut(points, fewest)
    if found < ENOUGH:
        return Kinds(one, 1, found, np.nan)
    scales = axes[axes > 1e-6 * axes[0]] / np.sqrt(n - 1)
    null = [_best_cut(rng.standard_normal((n, len(scales))) * scales, fewest)[1] for _ in range(N_NULL)]
    p_value = (1 + sum(value >= found for value in null)) / (1 + N_NULL)
    if p_value > CHANCE:
        return Kinds(one, 1, found, p_value)
    return Kinds(labels, int(labels.max()) + 1, found, p_value)


def _best_cut(points: Array, fewest: int) -> tuple[NDArray[np.int64], float]:
    """Return labels and the mean silhouette of the best cut; fits of cuts that are too small go to the nearest kind."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform

    condensed = pdist(points)
    tree, distance = linkage(condensed, "average"), squareform(condensed)
    best = np.zeros(len(points), dtype=np.int64), -1.0
    seen: set[tuple[int, ...]] = set()
    for k in range(2, min(_MOST + 4, len(points) - 1) + 1):
        cut = fcluster(tree, k, "maxclust")
        large = [members for label in np.unique(cut) if len(members := np.flatnonzero(cut == label)) >= fewest]
        sizes = tuple(map(len, large))
        if not 2 <= len(large) <= _MOST or sizes in seen:
            continue
        seen.add(sizes)
        large.sort(key=lambda members: (-len(members), members[0]))
        labels = np.argmin([distance[:, members].mean(1) for members in large], axis=0)
        for kind, members in enumerate(large):
            labels[members] = kind
        value = _silhouette(distance, labels)
        if value > best[1]:
            best = labels.astype(np.int64), value
    return best


def _silhouette(distance: Array, labels: NDArray[np.intp]) -> float:
    """Return the mean silhouette, as `sklearn.metrics.silhouette_score` does without its 3 ms of checks a call."""
    kinds = labels[:, None] == np.arange(labels.max() + 1)
    sums, sizes = distance @ kinds, kinds.sum(0)
    inside = sums[kinds] / (sizes[labels] - 1)
    outside = np.where(kinds, np.inf, sums / sizes).min(1)
    return float(np.mean((outside - inside) / np.maximum(np.maximum(inside, outside), 1e-300)))


def medoids(distance: Array, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fit of each kind that is nearest to all others of it, (kind,)."""
    chosen = []
    for kind in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == kind)
        chosen.append(members[np.argmin(distance[np.ix_(members, members)].sum(1))])
    return np.array(chosen)
