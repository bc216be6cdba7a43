"""How well the filtered past and future of one group predict another, beyond what a leak between them explains.

With z_g whitened and f_g the same latents under leaky integrators, forwards and backwards in time, whitened together,
the statistic of two groups is, but for a leak, the mean square of
  V = { <f_g z_h^T>, <z_g f_h^T> } / (standard deviation over surrogates),
two Pillai traces. A matrix of separation that is a little wrong leaves z_g + E z_h in place of z_g. To first order that
moves V along directions P that follow from the groups' own covariances. With entries of E of size tau the moments have
covariance I + tau^2 P P^T; the statistic is V^T (I + tau^2 P P^T)^-1 V / moments, in surrogates too, so that a leak is
no alarm. A group that drives another through dynamics leaves the span of P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from nwb_lrrnn.analysis.independence.surrogates import Index, Mask, Surrogates

Array = NDArray[np.floating]

_RIDGE = 1e-3  # of a feature's variance: neighbouring filters are nearly collinear
_LIKELY_LEAK = 0.2  # size of an entry of E; a free one would let much of a true dependence pass for a leak
_MOST_LEAK = 0.25  # largest singular value of E that is taken out beforehand
_STEPS = 2  # the directions of a leak are computed from groups that still have it


def whiten(z: Array, tested: Mask) -> Array:
    """Return latents (trial, time, latent) of mean 0 and covariance I over the tested bins.

    Directions without variance become 0.
    """
    flat = z[tested]
    mean = flat.mean(0)
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(flat.T, bias=True)))
    scale = np.where(values > 1e-10 * values[-1], 1.0 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    return (z - mean) @ (axes * scale)


def filter_bank(z: Array, times: Sequence[float]) -> Array:
    """Return z and its leaky integrals over `times` bins, past and future: (trial, time, filter, latent).

    Examples
    --------
    >>> filter_bank(np.ones((1, 3, 1)), [2.0]).shape
    (1, 3, 3, 1)
    """
    out = [z]
    for time in times:
        decay = np.exp(-1.0 / time)
        gain = np.sqrt(1 - decay**2)
        out.append(np.asarray(lfilter([gain], [1.0, -decay], z, axis=1)))
        out.append(np.asarray(lfilter([gain], [1.0, -decay], z[:, ::-1], axis=1))[:, ::-1])
    return np.stack(out, axis=2)


@dataclass(frozen=True)
class Group:
    """A group's latents and their filtered copies, centred and whitened in some bins.

    Attributes
    ----------
    plain : ndarray (bin, latent)
    bank : ndarray (bin, filter * latent)
        Not whitened.
    root : ndarray (feature, filter * latent)
        Features are root @ bank.
    """

    plain: Array
    bank: Array
    root: Array

    @classmethod
    def at(cls, plain: Array, bank: Array, bins: Index) -> Group:
        """Return the group at some bins; where there is none (the number of bins), it is 0."""
        present = bins < len(plain)
        where = bins[present]
        parts = [_white(plain[where])[0], *_white(bank[where], whole=False)]
        if not present.all():
            for k in (0, 1):
                padded = np.zeros((len(bins), parts[k].shape[1]))
                padded[present] = parts[k]
                parts[k] = padded
        return cls(*parts)

    @property
    def rank(self) -> int:
        """How many latents it has."""
        return self.plain.shape[1]


def _white(x: Array, *, whole: bool = True) -> tuple[Array, Array]:
    """Return x centred, whitened if `whole`, and the matrix that whitens it."""
    x = x - x.mean(0)
    covariance = x.T @ x / len(x)
    root = np.linalg.inv(np.linalg.cholesky(covariance + np.diag(_RIDGE * np.diag(covariance) + 1e-12)))
    return (x @ root.T if whole else x), root


@dataclass(frozen=True)
class Pair:
    """Moments of two groups: as they are, in surrogates, and where a leak moves them.

    Attributes
    ----------
    observed : ndarray (moment,)
    null : ndarray (surrogate, moment)
    leak : ndarray (moment, 2 * rank * rank)
        Columns: E[a, b] of the first group from the second, then of the second from the first.
    spread : ndarray (moment,)
        Standard deviations over surrogates, by which all of these are divided.
    """

    observed: Array
    null: Array
    leak: Array
    spread: Array

    @classmethod
    def of(cls, first: tuple[Array, Array], second: tuple[Array, Array], tested: Index, surrogates: Surrogates) -> Pair:
        """Return the moments of two groups, each given as (plain, bank) at all seen bins."""
        groups = Group.at(*first, tested), Group.at(*second, tested)
        null = np.empty((len(surrogates), len(_moments(*groups))))
        fixed = surrogates.kind != "window"  # only windows change what a group is: whiten the others once
        for k, (left, right) in enumerate(zip(surrogates.left, surrogates.right, strict=True)):
            if fixed:
                null[k] = _moments(groups[0], _taken(groups[1], right))
            else:
                null[k] = _moments(Group.at(*first, left), Group.at(*second, right))
        spread = null.std(0)
        spread = np.where(spread > 0, spread, 1.0)
        leak = _leak_directions(*groups) / spread[:, None]
        return cls(_moments(*groups) / spread, null / spread, leak, spread)

    def off_leak(self) -> tuple[float, Array]:
        """Return the statistic, and that of each surrogate (surrogate,), off the directions of a leak."""
        values = self._statistic(np.vstack([self.observed, self.null]))
        return float(values[0]), values[1:]

    def of_others(self, first: Group, second: Group) -> float:
        """Return the statistic of two other groups, of the same filters and with the leak of these."""
        return float(self._statistic(_moments(first, second)[None] / self.spread)[0])

    def _statistic(self, moments: Array) -> Array:
        axes, sizes, _ = np.linalg.svd(self.leak, full_matrices=False)
        along = (moments @ axes) ** 2
        weights = 1 - 1 / (1 + (_LIKELY_LEAK * sizes) ** 2)  # of what is taken away
        return ((moments**2).sum(1) - along @ weights) / moments.shape[1]


def _taken(group: Group, bins: Index) -> Group:
    present = (bins < len(group.plain))[:, None]
    bins = np.minimum(bins, len(group.plain) - 1)
    return Group(np.where(present, group.plain[bins], 0.0), np.where(present, group.bank[bins], 0.0), group.root)


def _moments(first: Group, second: Group) -> Array:
    """Return V (moment,) before it is divided by its spread."""
    forth = first.root @ (first.bank.T @ second.plain)
    back = (first.plain.T @ second.bank) @ second.root.T
    n = max(1, int(np.count_nonzero(second.plain.any(1))))
    return np.concatenate([forth.ravel(), back.ravel()]) / np.sqrt(n)


def _leak_directions(first: Group, second: Group) -> Array:
    """Return how the moments move with each entry of E, first group from second, then second from first."""
    forth, back = _leak(first, second)
    into_first = np.concatenate([forth.reshape(len(forth), -1), back.reshape(len(back), -1)], axis=1)
    back, forth = (part.transpose(0, 2, 1) for part in _leak(second, first))
    into_second = np.concatenate([forth.reshape(len(forth), -1), back.reshape(len(back), -1)], axis=1)
    return np.concatenate([into_first, into_second]).T


def _leak(into: Group, source: Group) -> tuple[Array, Array]:
    """Return slopes of <f_into z_source> (entry, feature, latent), of <z_into f_source> (entry, latent, feature)."""
    d, e = into.rank, source.rank
    root_n = np.sqrt(len(source.plain))
    own = (source.bank.T @ source.plain / root_n).reshape(-1, e, e)  # filter, filtered latent, latent
    root = into.root.reshape(len(into.root), -1, d)  # feature, filter, latent
    filtered = np.einsum("ika,kbj->abij", root, own).reshape(d * e, len(into.root), e)
    features = source.plain.T @ source.bank @ source.root.T / root_n  # latent, feature
    plain = np.einsum("ac,bi->abci", np.eye(d), features).reshape(d * e, d, -1)
    return filtered, plain


def banks(parts: Sequence[Array], used: Mask, times: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return each group's latents and filtered latents at the used bins: (bin, latent), (bin, filter * latent)."""
    n_bins = int(used.sum())
    return [(part[used], filter_bank(part, times)[used].reshape(n_bins, -1)) for part in parts]


def without_leak(
    parts: Sequence[Array], tested: Mask, used: Mask, times: Sequence[float], surrogates: Surrogates, index: Index
) -> list[Array]:
    """Return the whitened groups less what small leaks between them explain of their moments."""
    out = [whiten(part, tested) for part in parts]
    for _ in range(_STEPS):
        seen = banks(out, used, times)
        cleaned = [part.copy() for part in out]
        for g in range(len(out)):
            for h in range(g + 1, len(out)):
                pair = Pair.of(seen[g], seen[h], index, surrogates)
                entries = np.linalg.lstsq(pair.leak, pair.observed, rcond=1e-3)[0]
                d, e = out[g].shape[-1], out[h].shape[-1]
                into_first, into_second = np.split(entries, 2)
                cleaned[g] -= out[h] @ _bounded(into_first.reshape(d, e)).T
                cleaned[h] -= out[g] @ _bounded(into_second.reshape(e, d)).T
        out = [whiten(part, tested) for part in cleaned]
    return out


def _bounded(leak: Array) -> Array:
    size = np.linalg.norm(leak, 2)
    return leak * min(1.0, _MOST_LEAK / size) if size > 0 else leak
