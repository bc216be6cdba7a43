"""Statistics of the observed entries from one pass over the data: small results of blocks, merged pairwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.preprocessing.rectangles import Rectangle, valid_entries
from nwb_lrrnn.trials import merged_moments

Statistic = tuple[NDArray, ...]  # the last axis of each array is the unit

_AT_ONCE = 8  # statistics merged by one task
_LEAST = -1074  # exponent of the least float64 above 0


def one_pass(
    parts: Sequence[Rectangle],
    statistic: Callable[[NDArray, NDArray], Statistic],
    merge: Callable[[Statistic, Statistic], Statistic] | None = None,
    *,
    whole: tuple[int, ...] = (),
) -> Statistic:
    """Return a statistic of all observed entries; every block of the data is computed once, and let go.

    Parameters
    ----------
    parts : list of Rectangle
    statistic : callable
        (values, valid), both (row, unit), -> arrays whose last axis is the unit. Values are 0 where not valid.
    merge : callable
        Two statistics -> the statistic of both. None: one block holds all rows (`whole=(0, 1)`, one part).
    whole : tuple of int
        Axes (0 trial, 1 time, 2 unit) that a block must hold entirely; with (0, 1) units are split into small blocks.
    """
    from dask.base import compute

    pending = [_of_part(part, statistic, merge, whole) for part in parts]  # (part, chunk of units)
    found = compute(*pending) if any(part.is_lazy for part in parts) else pending
    joined = [tuple(np.concatenate(pieces, axis=-1) for pieces in zip(*of_part, strict=True)) for of_part in found]
    return _merged(merge, joined)


def _of_part(part: Rectangle, statistic: Callable, merge: Callable | None, whole: tuple[int, ...]) -> list[Any]:
    """Return the statistic of each chunk of units of a part; delayed where the part is lazy."""
    if not part.is_lazy:
        return [_of_block(statistic, part.place, part.values, part.observed)]
    from dask.delayed import delayed

    array = part.values
    if whole:
        array = array.rechunk(dict.fromkeys(whole, -1) | ({} if 2 in whole else {2: "auto"}))
    mask = part.mask_like(array)
    blocks = array.to_delayed(optimize_graph=False)
    masks = None if mask is None else mask.to_delayed(optimize_graph=False)
    begins = [np.cumsum((0, *chunks[:-1])) for chunks in array.chunks]
    of_block, of_several = delayed(_of_block, pure=False), delayed(_merged, pure=False)
    found = []
    for k in range(blocks.shape[2]):
        level = [
            of_block(
                statistic,
                part.place.at(int(begins[0][i]), int(begins[1][j]), int(begins[2][k])),
                blocks[i, j, k],
                None if masks is None else masks[i, j, k],
            )
            for i, j in np.ndindex(*blocks.shape[:2])
        ]
        while len(level) > 1:
            level = [of_several(merge, level[at : at + _AT_ONCE]) for at in range(0, len(level), _AT_ONCE)]
        found.append(level[0])
    return found


def _of_block(statistic: Callable, place: Any, values: NDArray, observed: NDArray | None) -> Statistic:
    valid = valid_entries(values, observed, place)
    rows = valid.shape[0] * valid.shape[1]
    known = values if valid.all() else np.where(valid, values, 0.0)
    return statistic(known.astype(np.float64, copy=False).reshape(rows, -1), valid.reshape(rows, -1))


def _merged(merge: Callable | None, statistics: Sequence[Statistic]) -> Statistic:
    return statistics[0] if merge is None else reduce(merge, statistics)


def moments(values: NDArray, valid: NDArray) -> Statistic:
    """Return number, mean and sum of squared deviations of each unit, and the size that the last two are relative to.

    The size is the power of two below the greatest absolute value: numbers keep their digits, and squares of very large
    or very small ones stay in range. The mean is mean * size, the sum of squares square * size^2.
    """
    n = valid.sum(axis=0).astype(np.float64)
    size = _size(np.maximum(values.max(axis=0, initial=0.0), -values.min(axis=0, initial=0.0)))
    relative = values / size
    mean = relative.sum(axis=0) / np.maximum(n, 1.0)
    residual = np.where(valid, relative - mean, 0.0)
    return n, mean, (residual**2).sum(axis=0), size


def merge_moments(one: Statistic, other: Statistic) -> Statistic:
    """Return the moments of both."""
    size = np.maximum(one[3], other[3])
    return *merged_moments(_relative_to(size, one), _relative_to(size, other)), size


def _size(greatest: NDArray) -> NDArray:
    """Return the power of two at or below each number > 0, the least there is for 0."""
    return np.ldexp(1.0, np.where(greatest > 0, np.frexp(greatest)[1] - 1, _LEAST))


def _relative_to(size: NDArray, statistic: Statistic) -> tuple[NDArray, NDArray, NDArray]:
    """Return number, mean and (co-)moments relative to another size."""
    n, mean, square, own = statistic
    ratio = own / size
    return n, mean * ratio, square * ratio**2


def extremes(values: NDArray, valid: NDArray) -> Statistic:
    """Return the least and the greatest value of each unit; inf and -inf where there is none."""
    return values.min(axis=0, initial=np.inf, where=valid), values.max(axis=0, initial=-np.inf, where=valid)


def merge_extremes(one: Statistic, other: Statistic) -> Statistic:
    """Return the extremes of both."""
    return np.minimum(one[0], other[0]), np.maximum(one[1], other[1])


def comoments(values: NDArray, valid: NDArray) -> Statistic:
    """Return number (1,), mean (unit,) and co-moments (unit, unit) of the rows observed in every unit, and size (1,).

    Mean and co-moments are relative to the size, one for all units; see `moments`.
    """
    rows = values[valid.all(axis=1)]
    n = np.array([float(len(rows))])
    size = _size(np.array([max(rows.max(initial=0.0), -rows.min(initial=0.0))]))
    rows = rows / size
    mean = rows.sum(axis=0) / np.maximum(n, 1.0)
    residual = rows - mean
    return n, mean, residual.T @ residual, size


def merge_comoments(one: Statistic, other: Statistic) -> Statistic:
    """Return the co-moments of both."""
    size = np.maximum(one[3], other[3])
    return *merged_moments(_relative_to(size, one), _relative_to(size, other), np.outer), size
