"""Second moments of every grain, and products at lags: what two passes over a recording leave of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.dimension.grains import Grains
from nwb_lrrnn.analysis.dimension.reading import Recorded

Array = NDArray[np.floating]

_HISTORY_BYTES = 64 * 2**20
_N_LAGS = 40
_SUMMED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Products:
    """Of units less their means; moments of those that were drawn, the rest of all that count.

    Attributes
    ----------
    n_seen : array (grain,)
        Observed bins.
    moments : array (grain, unit, unit), float32
        Mean products, the diagonal 0.
    variances : array (grain, unit)
        Diagonal of the same; of what units share, where the private part is out.
    means : array (grain, unit)
    lags : array (lag,), int
    autocovariance : array (grain, lag)
        Sum over units; at lag 0 as `variances` says.
    n_pairs : array (grain, lag)
        Pairs of bins of each.
    """

    n_seen: Array
    moments: NDArray[np.float32]
    variances: Array
    means: Array
    lags: NDArray[np.integer]
    autocovariance: Array
    n_pairs: Array


@dataclass(frozen=True)
class Course:
    """Units that count, less their means, as they come: pieces with what came before them in the same trial."""

    recorded: Recorded
    units: NDArray[np.integer]
    drawn: NDArray[np.integer]  # those of `units`, by position, whose products are taken
    mean: Array
    trials: NDArray[np.bool_]
    history: int

    def __iter__(self) -> Iterator[tuple[int, int, int, Array, Array | None]]:
        """Yield trial, first bin, bins of history before it, values and what is seen of them (history and bins)."""
        past: tuple[int, int, Array, Array | None] | None = None
        for piece in self.recorded.pieces():
            if not self.trials[piece.trial]:
                continue
            y = piece.values[:, self.units] - self.mean
            seen = None if piece.seen is None else piece.seen[:, self.units].astype(float)
            if seen is not None:
                y *= seen
            n_past = 0
            if past is not None and past[0] == piece.trial and past[1] == piece.begin:
                n_past = len(past[2])
                if seen is not None or past[3] is not None:
                    before = np.ones_like(past[2]) if past[3] is None else past[3]
                    seen = np.concatenate([before, np.ones_like(y) if seen is None else seen])
                y = np.concatenate([past[2], y])
            end = piece.begin + len(piece.values)
            yield piece.trial, piece.begin, n_past, y, seen
            tail = y[max(0, len(y) - self.history) :].copy()
            past = piece.trial, end, tail, None if seen is None else seen[max(0, len(y) - self.history) :].copy()


def lags_of(lengths: NDArray[np.integer], n_units: int) -> NDArray[np.integer]:
    """Return lags in bins, ever wider apart, up to half of the longest trial as far as memory goes."""
    most = min(int(lengths.max()) // 2, _HISTORY_BYTES // (8 * n_units))
    if most <= _N_LAGS:
        return np.arange(most + 1)
    wide = np.geomspace(8, most, _N_LAGS - 8).round().astype(int)
    return np.unique(np.concatenate([np.arange(8), wide]))


def products_of(course: Course, grains: Grains, lags: NDArray[np.integer], counts_mean: Array | None) -> Products:
    """Return the products of all grains. With `counts_mean` (unit,) the Poisson part is out of the diagonal.

    A count N thinned into two halves has E[half times other half] = E[N (N - 1)] / 4, of which the mean over all ways
    to thin is taken: what is left of the variance of N is that of its rate.
    """
    n_grains, n_units, drawn = len(grains), len(course.units), course.drawn
    moments = np.zeros((n_grains, len(drawn), len(drawn)), dtype=np.float32)
    variances, means = np.zeros((n_grains, n_units)), np.zeros((n_grains, n_units))
    n_seen, of_unit = np.zeros(n_grains), np.zeros(n_units)
    auto, n_pairs = np.zeros((n_grains, len(lags))), np.zeros((n_grains, len(lags)))
    missing = np.zeros((len(drawn), len(drawn)))  # bins in which two units are not both observed, though any is
    for k, rows, y, seen in _parts(course, grains):
        part, shown = y[rows], None if seen is None else seen[rows]
        chosen = part if len(drawn) == n_units else part[:, drawn]
        moments[k] += (chosen.T @ chosen).astype(np.float32)
        own, total = (part**2).sum(axis=0), part.sum(axis=0)
        bins = np.full(n_units, float(len(part))) if shown is None else shown.sum(axis=0)
        if counts_mean is not None:
            own = own - total - counts_mean * bins
        variances[k] += own
        means[k] += total
        n_any = len(part) if shown is None else int(shown.any(axis=1).sum())
        n_seen[k] += n_any
        of_unit += bins
        if shown is not None:
            missing += n_any - shown[:, drawn].T @ shown[:, drawn]
        auto[k, 0] += own.sum()
        n_pairs[k, 0] += bins.mean()
        for at, now, then in _at_lags(rows, lags):
            auto[k, at] += np.vdot(y[now], y[then])
            n_pairs[k, at] += now.stop - now.start if seen is None else np.vdot(seen[now], seen[then]) / n_units
    share = 1.0 - missing / n_seen.sum()
    share = np.where(share > 1e-9, share, np.inf)  # never seen together: nothing is known, and 0 stands for it
    for k in range(n_grains):
        moments[k] /= max(n_seen[k], 1.0) * share
        np.fill_diagonal(moments[k], 0.0)
    bins = np.maximum(n_seen, 1.0)[:, None] * np.maximum(of_unit / n_seen.sum(), 1e-9)
    return Products(n_seen, moments, variances / bins, means / bins, lags, auto, n_pairs)


def lagged_products(course: Course, grains: Grains, products: Products, apart: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return sum_ij C_ij(lag) C_ij(0), i != j, as sums over bins (grain, lag), and their numbers of bins.

    C(lag) is that of the grain and C(0) that of all grains apart from it: Psi(lag, 0) of Eq. 24 of Clark, Marschall,
    van Meegen & Litwin-Kumar 2025 between units, which private noise has no part in.
    """
    lags = products.lags
    sums, n_bins = np.zeros((len(grains), len(lags))), np.zeros((len(grains), len(lags)))
    flat = products.moments.reshape(len(grains), -1)
    last, partner = -1, np.zeros(0)
    for k, rows, y, seen in _parts(course, grains):
        weights = np.where(apart[k], products.n_seen, 0.0)
        if not weights.any():
            continue
        if k != last:
            last = k
            weights = (weights / weights.sum()).astype(np.float32)
            partner = (weights @ flat).reshape(products.moments.shape[1:]).astype(float)
        chosen = y if len(course.drawn) == y.shape[1] else y[:, course.drawn]
        turned = chosen[rows] @ partner
        for at, now, then in _at_lags(rows, lags, with_zero=True):
            sums[k, at] += np.vdot(turned[now.start - rows.start :], chosen[then])
            is_seen = None if seen is None else seen[now].any(axis=1) & seen[then].any(axis=1)
            n_bins[k, at] += now.stop - now.start if is_seen is None else is_seen.sum()
    return sums, n_bins


def _parts(course: Course, grains: Grains) -> Iterator[tuple[int, slice, Array, Array | None]]:
    """Yield grain, its rows, and the values and what is seen of them in which these rows lie."""
    for trial, begin, n_past, y, seen in course:
        for k, a, b in grains.cut(trial, begin, begin + len(y) - n_past):
            yield k, slice(a - begin + n_past, b - begin + n_past), y, seen


def _at_lags(
    rows: slice, lags: NDArray[np.integer], with_zero: bool = False
) -> Iterator[tuple[int, slice, slice]]:
    """Yield the place of each lag, the rows that have one so long before them, and those."""
    for at, lag in enumerate(lags):
        first = max(rows.start, int(lag))
        if first < rows.stop and (lag > 0 or with_zero):
            yield at, slice(first, rows.stop), slice(first - int(lag), rows.stop - int(lag))


def between(products: Products, scale: Array) -> Array:
    """Return sum_ij of C_ij of one grain times that of another (grain, grain), i != j, units divided by `scale`."""
    n_grains, n_units = products.variances.shape
    out = np.zeros((n_grains, n_grains))
    size = max(1, _SUMMED_BYTES // (8 * n_grains * n_units))
    for begin in range(0, n_units, size):
        rows = slice(begin, begin + size)
        part = products.moments[:, rows].astype(float) / (scale[rows, None] * scale[None])
        part = part.reshape(n_grains, -1)
        out += part @ part.T
    return out
