"""Alignment: latents of one model onto another's, groups onto groups, and every network into one gauge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from nwb_lrrnn.dynamics import HOMOGENEOUS, ODD, LowRankDynamics
from nwb_lrrnn.showing import in_short

Array = NDArray[np.floating]


@dataclass(frozen=True)
class AffineMap:
    """z -> z weights + offset, from the last axis of one array of latents to that of another."""

    weights: Array  # (source latent, target latent)
    offset: Array  # (target latent,)

    __repr__ = in_short

    def __call__(self, latents: ArrayLike) -> Array:
        """Return the mapped latents, (..., target latent)."""
        return np.asarray(latents, dtype=float) @ self.weights + self.offset


def affine_map(source: ArrayLike, target: ArrayLike) -> AffineMap:
    """Return the least-squares affine map from source (..., latent) onto target (..., latent).

    >>> z = np.random.default_rng(0).normal(size=(50, 2))
    >>> affine_map(z, 3 * z + 1).offset.round(6)
    array([1., 1.])
    """
    x, y = _flat(source, target)
    x_mean, y_mean = x.mean(0), y.mean(0)  # centred first: far from 0 the constant would drown the latents
    weights = np.linalg.lstsq(x - x_mean, y - y_mean, rcond=None)[0]
    return AffineMap(weights, y_mean - x_mean @ weights)


def aligned_r2(
    source: ArrayLike,
    target: ArrayLike,
    *,
    test_source: ArrayLike | None = None,
    test_target: ArrayLike | None = None,
) -> float:
    """Return R2 of target explained by the affine map from source, both (..., latent).

    The map is fitted on (source, target) and judged on (test_source, test_target), or on the same where those are
    absent. R2 pools the latents: 1 - residual sum of squares / sum of squares about the mean; it is 0 where the
    target is constant, for then there is nothing to explain.

    >>> z = np.random.default_rng(0).normal(size=(50, 2))
    >>> aligned_r2(z, z @ [[1.0, 2.0], [0.0, 3.0]] - 5.0)
    1.0
    """
    if (test_source is None) != (test_target is None):
        raise ValueError("test_source: got one of test_source and test_target, wanted both or neither")
    mapping = affine_map(source, target)
    x, y = _flat(source, target) if test_source is None or test_target is None else _flat(test_source, test_target)
    total = ((y - y.mean(0)) ** 2).sum()
    if total <= 1e-24 * (y**2).sum():  # rounding of a constant
        return 0.0
    return float(1.0 - ((y - mapping(x)) ** 2).sum() / total)


class GroupMatch(NamedTuple):
    """Which source group goes with each target group, and how well."""

    order: NDArray[np.int64]  # (target group,)
    r2: Array  # (target group,)

    __repr__ = in_short


def match_groups(source: Sequence[ArrayLike], target: Sequence[ArrayLike]) -> GroupMatch:
    """Return the one-to-one match of groups of latents (each (..., latent)) that maximises the summed affine R2.

    Hungarian assignment; groups may have unequal ranks.
    """
    if len(source) != len(target):
        raise ValueError(f"source: got {len(source)} groups, wanted {len(target)} like target")
    r2 = np.array([[aligned_r2(a, b) for a in source] for b in target])
    rows, order = linear_sum_assignment(-r2)
    return GroupMatch(order, r2[rows, order])


def _flat(source: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    for name, z in (("source", x), ("target", y)):
        if z.ndim < 2 or z.size == 0:
            raise ValueError(f"{name}: got shape {z.shape}, wanted (..., latent) with at least one row")
        if not np.isfinite(z).all():
            raise ValueError(f"{name}: got NaN or infinity, wanted finite latents; select the bins to compare first")
    if x.shape[:-1] != y.shape[:-1]:
        raise ValueError(f"source: got shape {x.shape}, wanted the leading axes of target, {y.shape[:-1]}")
    return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])


# --- gauge -----------------------------------------------------------------------------------------------------------


class Gauge(NamedTuple):
    """A change of latent coordinates, z = A z' + c, that leaves everything observable as it is."""

    matrix: Array  # A (latent, latent)
    shift: Array  # c (latent,)

    __repr__ = in_short

    def latents(self, latents: ArrayLike) -> Array:
        """Return z' = A^-1 (z - c)."""
        return np.linalg.solve(self.matrix, (np.asarray(latents, dtype=float) - self.shift)[..., None])[..., 0]

    def covariance(self, covariance: ArrayLike) -> Array:
        """Return A^-1 Sigma A^-T."""
        inverse = np.linalg.inv(self.matrix)
        moved = inverse @ np.asarray(covariance, dtype=float) @ inverse.T
        return 0.5 * (moved + moved.T)


def change_gauge(dynamics: LowRankDynamics, gauge: Gauge) -> LowRankDynamics:
    """Return the same network in latents z' = A^-1 (z - c); c must be 0 for a network without a drive s."""
    a, c = np.asarray(gauge.matrix, dtype=float), np.asarray(gauge.shift, dtype=float)
    if a.shape != (dynamics.rank, dynamics.rank) or c.shape != (dynamics.rank,):
        raise ValueError(f"gauge: got matrix {a.shape} and shift {c.shape}, wanted those of {dynamics.rank} latents")
    if np.linalg.matrix_rank(a, tol=0.0) < dynamics.rank:
        raise ValueError("gauge: got a singular matrix, wanted an invertible one: latents may be mixed, not lost")
    if dynamics.drive is None and np.any(c != 0):
        raise ValueError("gauge: a shift needs a constant drive s to absorb it; this network has none (drive=None)")
    inverse = np.linalg.inv(a)
    changes: dict[str, object] = {
        "left_vectors": dynamics.left_vectors @ a,
        "right_vectors": dynamics.right_vectors @ inverse.T,
    }
    if np.any(c != 0):
        bias = np.zeros(dynamics.n_neurons) if dynamics.bias is None else dynamics.bias
        changes["bias"] = bias + dynamics.left_vectors @ c
    if dynamics.drive is not None:
        changes["drive"] = inverse @ (dynamics.drive - c)
    for name in ("latent_input_weights", "initial_input_weights"):
        if (value := getattr(dynamics, name)) is not None:
            changes[name] = inverse @ value
    for name in ("latent_noise", "initial_covariance", "latent_covariance"):
        value = getattr(dynamics, name)
        if value is None and name == "initial_covariance":
            value = np.eye(dynamics.rank)  # what an absent one means
        if value is not None:
            changes[name] = gauge.covariance(value)
    for name in ("initial_mean", "latent_mean"):
        value = getattr(dynamics, name)
        if value is None and name == "initial_mean" and np.any(c != 0):
            value = np.zeros(dynamics.rank)
        if value is not None:
            changes[name] = gauge.latents(value)
    if dynamics.loadings is not None and dynamics.readout == "latents":
        changes["loadings"] = dynamics.loadings @ a
        if np.any(c != 0):
            offset = np.zeros(dynamics.n_units) if dynamics.offset is None else dynamics.offset
            changes["offset"] = offset + dynamics.loadings @ c
    return dynamics.replace(**changes)


def canonicalize(dynamics: LowRankDynamics) -> tuple[LowRankDynamics, Gauge]:
    """Return the network in the canonical gauge, and the change of latents that leads there.

    Latents are centred (where a drive allows it) and uncorrelated where the network lives (`latent_mean` and
    `latent_covariance`, or mu_1 and Sigma_1 where those are absent) and ordered by variance, in coordinates in which
    the loadings are orthonormal; without a readout of latents (or with one that misses a latent) the left vectors
    are, m^T m = N, those of relu, clipped relu and identity neurons being taken as long as gives each neuron's
    current unit variance. The largest loading of each latent is positive. Neurons of an odd phi have their largest
    left entry positive, those of relu, clipped relu and identity a left vector of unit length, and neurons come in
    order of |m_i| |n_i|; recorded neurons stay as they are. Doing it twice changes nothing.
    """
    gauge = _latent_gauge(dynamics)
    return _neuron_gauge(change_gauge(dynamics, gauge)), gauge


_TIE = 1e-9  # numbers closer than this (relative) are equal: rounding must not choose an order or an axis


def _latent_gauge(dynamics: LowRankDynamics) -> Gauge:
    spread = dynamics.latent_covariance if dynamics.latent_covariance is not None else dynamics.initial_covariance
    spread = np.eye(dynamics.rank) if spread is None else spread
    root, rows = _frame(dynamics, spread)
    values, axes = np.linalg.eigh(root @ spread @ root.T)
    order = np.argsort(-values, kind="stable")
    values, axes = values[order], axes[:, order]
    matrix = np.linalg.solve(root, axes)  # z = root^-1 axes z'
    matrix = matrix @ _rotation_within_ties(values, rows @ matrix, matrix)
    centre = dynamics.latent_mean if dynamics.latent_mean is not None else dynamics.initial_mean
    shift = np.zeros(dynamics.rank) if centre is None or dynamics.drive is None else np.array(centre)
    if rows is not dynamics.loadings and _neurons_are_free(dynamics) and dynamics.nonlinearity in ODD:
        # a neuron's sign is as free as a latent's, so left vectors cannot fix the latter
        return Gauge(matrix * _signs_of_symmetric(change_gauge(dynamics, Gauge(matrix, shift)), matrix), shift)
    shown = rows @ matrix
    return Gauge(matrix * np.where(_show(shown), _signs(shown), _signs(matrix)), shift)


def _frame(dynamics: LowRankDynamics, spread: Array) -> tuple[Array, Array]:
    """Return R, such that R z are the latents in which the readout is orthonormal, and the rows that show latents.

    Where no rows show all latents, R whitens them; where not even their spread does, it is the identity.
    """
    left = dynamics.left_vectors / np.sqrt(dynamics.n_neurons)
    if _neurons_are_free(dynamics) and dynamics.nonlinearity in HOMOGENEOUS:
        sd = np.sqrt(np.maximum(np.einsum("ir,rs,is->i", dynamics.left_vectors, spread, dynamics.left_vectors), 0.0))
        left = np.where(sd > 0, 1.0 / np.where(sd > 0, sd, 1.0), 0.0)[:, None] * left
    candidates = [left]
    if dynamics.loadings is not None and dynamics.readout == "latents":
        candidates = [dynamics.loadings, left, np.vstack([dynamics.loadings, left])]
    for rows in candidates:
        if _has_full_rank(rows):
            return np.linalg.qr(rows)[1], rows
    variances, axes = np.linalg.eigh(spread)
    if variances[0] > 1e-12 * variances[-1]:
        return (axes / np.sqrt(variances)).T, candidates[-1]
    return np.eye(dynamics.rank), candidates[-1]


def _has_full_rank(rows: Array) -> bool:
    length = np.linalg.norm(rows, axis=0)
    if len(rows) < rows.shape[1] or not length.all():
        return False
    return bool(np.linalg.cond(rows / length) < 1e12)


def _rotation_within_ties(values: Array, shown: Array, own: Array) -> Array:
    """Return the rotation of latents of equal variance in which the rows that show them most are triangular.

    Latents that show nowhere keep as much of their own axes as they can.
    """
    rotation = np.eye(len(values))
    breaks = np.flatnonzero(-np.diff(values) > _TIE * max(abs(values[0]), 1e-300)) + 1
    for group in np.split(np.arange(len(values)), breaks):
        if len(group) == 1:
            continue
        basis = np.zeros((len(group), 0))
        for rows in (shown[:, group], own[:, group]):
            enough = _TIE * np.linalg.norm(rows)
            while basis.shape[1] < len(group):
                rest = rows - rows @ basis @ basis.T
                length = np.linalg.norm(rest, axis=1)
                if length.max() <= enough:
                    break
                axis = rest[_first_largest(length)]
                axis = axis - basis @ (basis.T @ axis)  # once more: the first leaves rounding where little was left
                basis = np.column_stack([basis, axis / np.linalg.norm(axis)])
        rotation[np.ix_(group, group)] = basis
    return rotation


def _show(shown: Array) -> NDArray[np.bool_]:
    """Return which columns are more than rounding."""
    sizes = np.abs(shown).max(0)
    return sizes > _TIE * sizes.max()


def _first_largest(sizes: Array) -> int:
    return int(np.argmax(sizes >= (1.0 - _TIE) * sizes.max()))


def _signs(shown: Array) -> Array:
    """Return the sign of the largest entry of each column."""
    largest = np.array([_first_largest(column) for column in np.abs(shown).T])
    return np.where(shown[largest, np.arange(shown.shape[1])] < 0, -1.0, 1.0)


def _signs_of_symmetric(dynamics: LowRankDynamics, own: Array) -> Array:
    """Return signs of latents from what no neuron's sign touches: readout, constants, inputs, else the overlaps."""
    recur = dynamics.right_vectors.T / dynamics.n_neurons  # (latent, neuron)
    columns = [dynamics.drive, dynamics.initial_mean, dynamics.latent_input_weights, dynamics.initial_input_weights]
    columns += [None if value is None else recur @ value for value in (dynamics.bias, dynamics.input_weights)]
    if dynamics.loadings is not None and dynamics.readout == "latents":
        columns.append(dynamics.loadings.T)
    shown = np.column_stack([np.zeros(dynamics.rank), *(c for c in columns if c is not None)]).T
    known = _show(shown)
    signs = np.where(known, _signs(shown), _signs(own))
    if not known.any():
        known[0] = True  # z -> -z is a symmetry of this network: either sign is the same network
    left = dynamics.left_vectors
    lengths = np.linalg.norm(left, axis=1, keepdims=True)
    for links in (recur @ left, recur @ (left * lengths**2)):  # overlaps; where they are 0, overlaps of cubic terms
        enough = _TIE * np.abs(links).max()
        while not known.all():  # the unknown sign that is tied most closely to a known one
            pair = np.where(known[:, None] & ~known, np.maximum(np.abs(links), np.abs(links.T)), -1.0)
            source, new = np.unravel_index(_first_largest(pair.ravel()), pair.shape)
            if pair[source, new] <= enough:
                break
            forth, back = links[source, new], links[new, source]
            link = forth if abs(forth) >= (1.0 - _TIE) * abs(back) else back
            signs[new] = -signs[source] if link < 0 else signs[source]
            known[new] = True
    return signs


def _neurons_are_free(dynamics: LowRankDynamics) -> bool:
    """Return whether neurons may be renamed and rescaled; recorded ones keep their names."""
    return dynamics.readout == "latents" and dynamics.private_noise is None


def _neuron_gauge(dynamics: LowRankDynamics) -> LowRankDynamics:
    """Return the network with signs, scales and the order of its neurons fixed."""
    if not _neurons_are_free(dynamics):
        return dynamics
    left = dynamics.left_vectors
    anchor = [left]
    for name in ("input_weights", "bias", "thresholds"):  # these fix a neuron that no latent reaches
        value = getattr(dynamics, name)
        if value is not None and (name != "thresholds" or dynamics.nonlinearity == "clipped_relu"):
            anchor.append(np.where(left.any(1), 0.0, value.T).T.reshape(len(left), -1))
    anchor = np.column_stack(anchor)
    factor = np.ones(dynamics.n_neurons)
    if dynamics.nonlinearity in ODD:
        factor = _signs(anchor.T)
    if dynamics.nonlinearity in HOMOGENEOUS:
        length = np.linalg.norm(anchor, axis=1)
        factor = factor / np.where(length > 0, length, 1.0)
    changes = {"right_vectors": dynamics.right_vectors / factor[:, None]}
    for name in ("left_vectors", "input_weights", "bias", "thresholds"):
        value = getattr(dynamics, name)
        if value is not None:
            scaled = name != "thresholds" or dynamics.nonlinearity == "clipped_relu"
            changes[name] = (value.T * factor).T if scaled else value
    order = _order_of_neurons(changes)
    return dynamics.replace(**{name: value[order] for name, value in changes.items()})


def _order_of_neurons(fields: Mapping[str, Array]) -> NDArray[np.int64]:
    """Return neurons by falling |m_i| |n_i|, then by their fields: neurons equal in all of them are the same."""
    arrays = {name: value.reshape(len(value), -1) for name, value in fields.items()}
    weight = np.linalg.norm(arrays["left_vectors"], axis=1) * np.linalg.norm(arrays["right_vectors"], axis=1)
    names = ("left_vectors", "right_vectors", "input_weights", "bias", "thresholds")
    keys = [weight, *(column for name in names if name in arrays for column in arrays[name].T)]
    ranks = []
    for key in keys:
        order = np.argsort(-key, kind="stable")
        rank = np.zeros(len(key), dtype=np.int64)
        rank[order[1:]] = np.cumsum(-np.diff(key[order]) > _TIE * np.abs(key).max())
        ranks.append(rank)
    return np.lexsort(ranks[::-1])


def slices(group_ranks: Sequence[int]) -> list[slice]:
    """Return where the latents of each group are.

    Examples
    --------
    >>> slices((2, 1))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    ends = np.cumsum(group_ranks)
    return [slice(int(end - rank), int(end)) for end, rank in zip(ends, group_ranks, strict=True)]
