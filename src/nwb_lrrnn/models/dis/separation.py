"""The change of basis that makes groups of latents independent: of each other at one time, and in how they go on.

With z whitened, u_g = z M_g and C_g = M_gᵀ M_g, the criterion is, in nats per bin,
  J(M) = sum_g [ ln det S_g / 2c + w H_g ] + (1 + w) T,   T = sum_g ln det C_g / 2 - ln |det M|
S_g: residual covariance of the whitened group at c later bins, regressed on its own monomials now and its own past;
H_g: entropy of the whitened group from a kernel density;   T: what is left of linear dependence at one time.
J cannot see M_g -> M_g A. The first term is the likelihood of groups that evolve by themselves, and has as many samples
as there are bins; the second, the partial correlation of the paper, has only as many as there are autocorrelation
times, whence its weight w (one for bins that are independent, where the first term says nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm, expm_frechet
from scipy.optimize import minimize

from nwb_lrrnn.align import slices
from nwb_lrrnn.models.dis.grouping import best_partitions
from nwb_lrrnn.models.dis.lagged import (
    LaggedWindows,
    evenly,
    independent_components,
    joint_diagonal,
    lagged_covariances,
    windows,
)
from nwb_lrrnn.models.kernels.group_density import entropy

Array = NDArray[np.float64]

_DYNAMIC_POINTS, _STATIC_POINTS = 2000, 500  # the cost of a kernel density grows with the square of its points
_COARSE_POINTS, _COARSE_STATIC_POINTS = 500, 300  # for the search among starts
_MOST_FEATURES = 40
_SMALL = 1e-6  # ridge and least residual variance, in units of a white latent
_CORRELATION_LAGS = 30
_SOBI_LAGS = (1, 2, 3, 5, 8, 12)
_N_GROUPINGS = 3  # per start
_FIRST_STEPS, _COARSE_STEPS, _FINE_STEPS = 10, 30, 50
_SAME, _HOPEFUL = 1e-3, 0.3  # nats by which an end is another one, and by which it may yet become the best
_CLOSE = 0.1  # nats by which an end of the coarse criterion may yet win by the fine one
_N_FINE = 3


@dataclass(frozen=True)
class Criterion:
    """What J is computed from.

    Attributes
    ----------
    windows : LaggedWindows
        Latents at bins (point, latent) now, before and after.
    points : ndarray (point, latent)
        Where the kernel density is taken.
    weight : float
        w: of the entropies.
    """

    windows: LaggedWindows
    points: Array
    weight: float

    def group(self, basis: Array) -> tuple[float, Array]:
        """Return one group's term of J for `basis` (K, d) with orthonormal columns, and its slope (K, d)."""
        slope = np.zeros_like(basis)
        value = 0.0
        if self.windows.after:
            value, slope = _autonomy(self.windows, basis)
        if self.weight > 0:
            u = np.ascontiguousarray((self.points @ basis).T)
            pull = np.empty_like(u)
            # Scott's rule; the own kernel stays, since ln p of a lonely point would rule the mean without it
            bandwidth = u.shape[1] ** (-1.0 / (u.shape[0] + 4))
            value += self.weight * entropy(u, bandwidth, 1.0, pull)
            slope = slope + self.weight * (self.points.T @ pull.T)
        return value, slope

    def value(self, matrix: Array, ranks: Sequence[int]) -> tuple[float, Array]:
        """Return J and its slope (K, K) at `matrix`."""
        scale = self.weight + (1.0 if self.windows.after else 0.0)
        slope = -scale * np.linalg.inv(matrix).T
        value = -scale * float(np.linalg.slogdet(matrix)[1])
        for columns in slices(ranks):
            part = matrix[:, columns]
            lower = np.linalg.cholesky(part.T @ part)
            inverse = np.linalg.inv(lower)
            basis = part @ inverse.T
            term, pull = self.group(basis)
            value += term + scale * float(np.log(np.diag(lower)).sum())
            slope[:, columns] += (pull - basis @ (basis.T @ pull) + scale * basis) @ inverse
        return value, np.asarray(slope, dtype=float)


def _monomials(u: Array, degree: int) -> tuple[Array, list[tuple[int, int]]]:
    """Return monomials (feature, point) of `u` (d, point) and how each is made: feature = earlier feature * column."""
    powers = [(), *(c for k in range(1, degree + 1) for c in combinations_with_replacement(range(len(u)), k))]
    place = {power: i for i, power in enumerate(powers)}
    made = [(place[power[:-1]], power[-1]) for power in powers[1:]]
    features = np.empty((len(powers), u.shape[1]))
    features[0] = 1.0
    for i, (earlier, column) in enumerate(made, start=1):
        np.multiply(features[earlier], u[column], out=features[i])
    return features, made


def _degree(rank: int, n_points: int) -> int:
    """Return the degree of the monomials of a group that its number of points can bear."""
    counts = {3: (rank + 1) * (rank + 2) * (rank + 3) // 6, 2: (rank + 1) * (rank + 2) // 2}
    return next((k for k, count in counts.items() if count <= min(_MOST_FEATURES, n_points // 10)), 1)


def _autonomy(at: LaggedWindows, basis: Array) -> tuple[float, Array]:
    """Return ln det S_g / 2c and its slope (K, d): how well a group foretells itself."""
    n, rank, c = len(at.now), basis.shape[1], len(at.after)
    u = np.ascontiguousarray((at.now @ basis).T)
    features, made = _monomials(u, _degree(rank, n))
    past = [(z @ basis).T for z in at.before]
    later = np.concatenate([(z @ basis).T for z in at.after])  # (c d, point)
    design = np.concatenate([features, *past])
    gram = design @ design.T
    gram.flat[:: len(gram) + 1] += _SMALL * n
    weights = np.linalg.solve(gram, design @ later.T)  # (feature, c d)
    left = later - weights.T @ design
    spread = (left @ left.T) / n + _SMALL * (weights.T @ weights)  # the ridge's own term keeps `weights` a minimum
    spread.flat[:: len(spread) + 1] += _SMALL
    value = 0.5 / c * float(np.linalg.slogdet(spread)[1])
    force = np.linalg.inv(spread) @ left / (n * c)  # slope in `later`
    back = -(weights @ force)  # slope in `design`: `weights` are optimal, so their change does not count
    slope = np.zeros_like(basis)
    for i, z in enumerate(at.after):
        slope += z.T @ force[i * rank : (i + 1) * rank].T
    for i, z in enumerate(at.before):
        start = len(features) + i * rank
        slope += z.T @ back[start : start + rank].T
    pull = np.zeros_like(u)
    for i in range(len(made), 0, -1):
        earlier, column = made[i - 1]
        pull[column] += back[i] * features[earlier]
        if earlier:
            back[earlier] += back[i] * u[column]
    return value, slope + at.now.T @ pull.T


def _turn(criterion: Criterion, start: Array, ranks: Sequence[int], n_steps: int) -> tuple[Array, float]:
    """Return the rotation near `start` where J is least, and J."""
    upper = np.triu_indices(len(start), 1)

    def skew(x: Array) -> Array:
        s = np.zeros_like(start)
        s[upper] = x
        return s - s.T

    def objective(x: Array) -> tuple[float, Array]:
        s = skew(x)
        value, slope = criterion.value(start @ expm(s), ranks)
        turned = np.asarray(expm_frechet(s.T, start.T @ slope, compute_expm=False))
        return value, np.asarray((turned - turned.T)[upper], dtype=float)

    x, value = _descend(objective, len(upper[0]), n_steps)
    return start @ np.asarray(expm(skew(x))), value


def _shear(criterion: Criterion, start: Array, ranks: Sequence[int], n_steps: int) -> tuple[Array, float]:
    """Return the matrix near `start` where J is least, groups free to be correlated, and J."""
    between = np.ones_like(start, dtype=bool)
    for columns in slices(ranks):
        between[columns, columns] = False

    def mixed(x: Array) -> Array:
        step = np.eye(len(start))
        step[between] = x
        return start @ step

    def objective(x: Array) -> tuple[float, Array]:
        value, slope = criterion.value(mixed(x), ranks)
        return value, (start.T @ slope)[between]

    x, value = _descend(objective, int(between.sum()), n_steps)
    matrix = mixed(x)
    for columns in slices(ranks):
        u, _, v = np.linalg.svd(matrix[:, columns], full_matrices=False)
        matrix[:, columns] = u @ v  # the closest basis of the group that is white
    return matrix, value


def _descend(objective: Callable[[Array], tuple[float, Array]], size: int, n_steps: int) -> tuple[Array, float]:
    """Return the end and the value of L-BFGS from zero."""
    found = minimize(
        objective, np.zeros(size), jac=True, method="L-BFGS-B", options={"maxiter": n_steps, "ftol": 1e-7, "gtol": 1e-5}
    )
    return found.x, float(found.fun)


def separate(
    latents: Array,
    seen: NDArray[np.bool_],
    group_ranks: Sequence[int],
    random_state: int | np.random.Generator | None = None,
    *,
    orthogonal: bool = False,
) -> tuple[Array, float]:
    """Return the matrix (K, K) that turns latents into independent groups, and the criterion J it reaches.

    Components from lagged covariances and from non-Gaussianity are put into groups, and the best of these starts are
    improved by gradient descent: module docstring.

    Parameters
    ----------
    latents : ndarray (trial, time, latent)
        White where seen: identity covariance.
    seen : ndarray (trial, time)
        Where there are latents; no pair of bins reaches from one trial into another.
    group_ranks : sequence of int
        Rank of each group, of sum K.
    random_state : int, Generator or None
        Of the start of the search for non-Gaussian components.
    orthogonal : bool
        Let only rotations be found, whose groups are uncorrelated at one time. Groups that are independent but slow are
        correlated in a recording of finite length, and a rotation cannot show them as they are.

    Returns
    -------
    matrix : ndarray (K, K)
        `latents @ matrix` has the latents of the first group first. Columns are orthonormal within a group, and between
        groups if `orthogonal`; else the way back is `inv(matrix)`, not the transpose.
    value : float
        J in nats per bin: lower is better, for fits to the same latents and `group_ranks`.

    Examples
    --------
    >>> sources = np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, size=(1, 1000, 2))
    >>> turned = sources @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    >>> matrix, _ = separate(turned, np.ones((1, 1000), dtype=bool), (1, 1), 0)
    >>> bool(np.abs(np.corrcoef((turned @ matrix)[0].T, sources[0].T)[:2, 2:]).max(axis=1).min() > 0.99)
    True
    """
    ranks = tuple(int(rank) for rank in group_ranks)
    if len(ranks) == 1:
        return np.eye(ranks[0]), 0.0
    latents = latents - latents[seen].mean(axis=0)
    lagged = lagged_covariances(latents, seen, _CORRELATION_LAGS)
    weight = _static_weight(lagged, int(seen.sum()))
    improve = _turn if orthogonal else _shear
    coarse = _criterion(latents, seen, weight, _COARSE_POINTS, _COARSE_STATIC_POINTS)
    ends = [
        improve(coarse, start, ranks, _FIRST_STEPS)
        for start in _starts(latents, seen, ranks, lagged, coarse, random_state)
    ]
    ends.sort(key=lambda end: end[1])
    best = ends[0][1]
    others = [end for end in ends[1:] if _SAME < end[1] - best < _HOPEFUL]
    fine = _criterion(latents, seen, weight, _DYNAMIC_POINTS, _STATIC_POINTS)
    ends = [improve(coarse, start, ranks, _COARSE_STEPS) for start, _ in (ends[0], *others[: _N_FINE - 1])]
    found = [improve(fine, start, ranks, _FINE_STEPS) for start, _ in _contenders(ends)]
    return min(found, key=lambda end: end[1])


def _contenders(ends: list[tuple[Array, float]]) -> list[tuple[Array, float]]:
    """Return the ends that more points may yet make the best, each once."""
    kept: list[tuple[Array, float]] = []
    for end in sorted(ends, key=lambda end: end[1]):
        if not kept or _SAME < end[1] - kept[-1][1] and end[1] - kept[0][1] < _CLOSE:
            kept.append(end)
    return kept


def whitened(latents: NDArray[np.floating], seen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return M such that M z has unit covariance where seen, and M (z - mean) (trial, time, latent), 0 elsewhere."""
    rows, rank = latents[seen], latents.shape[2]
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True).reshape(rank, rank))
    matrix = vectors.T / np.sqrt(np.maximum(values, 1e-12 * max(values[-1], 1e-300)))[:, None]
    return matrix, np.where(seen[..., None], (latents - rows.mean(axis=0)) @ matrix.T, 0.0)


def into_parts(components: Array, seen: NDArray[np.bool_], group_ranks: Sequence[int]) -> list[int]:
    """Return the order in which components fall into the best groups of these ranks, group after group.

    Parameters
    ----------
    components : ndarray (trial, time, component)
        Of unit variance where seen; they stay as they are.
    seen : ndarray (trial, time)
    group_ranks : sequence of int
    """
    lagged = lagged_covariances(components, seen, _CORRELATION_LAGS)
    weight = _static_weight(lagged, int(seen.sum()))
    criterion = _criterion(components, seen, weight, _COARSE_POINTS, _COARSE_STATIC_POINTS)
    axes = np.eye(components.shape[2])
    parts = best_partitions(len(axes), tuple(group_ranks), lambda part: criterion.group(axes[:, part])[0], 1)[0]
    return [i for part in parts for i in part]


def _static_weight(lagged: Sequence[Array], n: int) -> float:
    """Return w, the share of bins that are as good as independent: 1 / (1 + 2 sum of squared autocorrelations)."""
    chance = len(lagged[0]) / n if lagged else 0.0  # of a squared correlation of bins without any
    return 1.0 / (1.0 + 2.0 * sum(max(float((c * c).sum()) / len(c) - chance, 0.0) for c in lagged))


def _criterion(latents: Array, seen: NDArray[np.bool_], weight: float, n_dynamic: int, n_static: int) -> Criterion:
    """Return J on evenly spaced points, of the density no more than there are independent ones."""
    z = latents[seen]
    n_static = int(np.clip(2 * weight * len(z), min(n_static, 200), n_static))
    return Criterion(windows(latents, seen, n_dynamic), z[evenly(len(z), n_static)], weight)


def _starts(
    latents: Array,
    seen: NDArray[np.bool_],
    ranks: tuple[int, ...],
    lagged: Sequence[Array],
    criterion: Criterion,
    random_state: int | np.random.Generator | None,
) -> list[Array]:
    """Return rotations into components, their columns put into the groups that `criterion` likes best."""
    z = latents[seen]
    rotations = [independent_components(z[evenly(len(z), _DYNAMIC_POINTS)], np.random.default_rng(random_state))]
    if lagged:
        rotations.insert(0, joint_diagonal([lagged[lag - 1] for lag in _SOBI_LAGS if lag <= len(lagged)]))
    starts = []
    for rotation in rotations:

        def score(part: tuple[int, ...], rotation: Array = rotation) -> float:
            return criterion.group(rotation[:, part])[0]

        for parts in best_partitions(len(rotation), ranks, score, _N_GROUPINGS):
            starts.append(rotation[:, [i for part in parts for i in part]])
    return starts
