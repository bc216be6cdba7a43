"""Which pieces of a file a slice of a dataset needs, where their values go, and which of them are fetched together."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nwb_lrrnn.io.files.chunks.dataset_map import DatasetMap

# A request costs a round trip: what lies this near is fetched along, as long as not more than a quarter is waste.
_GAP_BYTES = 64 * 2**10
_MOST_WASTE = 0.25
# Eight requests at once, none so large that memory or a dropped connection hurts, none so small that latency rules.
_LEAST_REQUEST, _MOST_REQUEST = 2**20, 8 * 2**20
_N_REQUESTS = 8


@dataclass(frozen=True, eq=False)
class Axis:
    """What a slice takes of the blocks along one axis; one number per block that it touches.

    `blocks` are their numbers, `first` and `last` the first and the last position inside of each, and `spans` are both
    once more, with where they begin and stop in what is read; positions are taken each `step`.
    """

    blocks: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    spans: list[tuple[int, int, int, int]]  # plain numbers: a piece is made of one of each axis
    step: int


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of a file in the order of the grid of blocks that a slice touches: place, stored size, skipped filters.

    `shape` is that of one block. Where `trims` names an axis, pieces of a contiguous dataset hold along it only the
    positions from the first to the last that is wanted.
    """

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    filter_masks: NDArray[np.int64]
    trims: int | None = None

    def places(self, piece: int) -> tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]:
        """Return the shape of a piece, what is taken of it, and where in the result that goes."""
        shape, taken, into = list(self.shape), [], []
        for number in range(len(shape) - 1, -1, -1):  # the last axis runs fastest
            axis = self.axes[number]
            piece, k = divmod(piece, len(axis.spans))
            first, last, begin, stop = axis.spans[k]
            if number == self.trims:
                shape[number], first, last = last - first + 1, 0, last - first
            taken.append(slice(first, last + 1, axis.step))
            into.append(slice(begin, stop))
        return tuple(shape), tuple(taken[::-1]), tuple(into[::-1])

    def requests(self) -> list[list[int]]:
        """Return the pieces by request: those together that lie together in the file; without those never written."""
        stored = np.flatnonzero(self.offsets >= 0)
        stored = stored[np.argsort(self.offsets[stored], kind="stable")]
        most = request_bytes(int(self.sizes[stored].sum()))
        requests: list[list[int]] = []
        begin = end = wanted = 0
        places = zip(stored.tolist(), self.offsets[stored].tolist(), self.sizes[stored].tolist(), strict=True)
        for piece, offset, size in places:
            length = max(end, offset + size) - begin
            near = requests and offset - end <= _GAP_BYTES and length <= most
            if near and wanted + size >= (1 - _MOST_WASTE) * length:
                requests[-1].append(piece)
                end, wanted = max(end, offset + size), wanted + size
            else:
                requests.append([piece])
                begin, end, wanted = offset, offset + size, size
        return requests


def request_bytes(total: int) -> int:
    """Return how many bytes one request may have, given how many are wanted: an eighth of them, from 1 to 8 MiB.

    >>> [request_bytes(n * 2**20) // 2**20 for n in (1, 32, 1000)]
    [1, 4, 8]
    """
    return min(_MOST_REQUEST, max(_LEAST_REQUEST, total // _N_REQUESTS))


def selection(key: Any, shape: tuple[int, ...]) -> tuple[list[range], tuple[Any, ...]]:
    """Return the positions that a key takes along each axis, and the key that drops the axes indexed by integers.

    The key holds slices with positive steps and integers; axes that it does not name are taken whole.

    >>> selection((slice(2, None, 3), -1), (10, 4))
    ([range(2, 10, 3), range(3, 4)], (slice(None, None, None), 0))
    """
    keys = key if isinstance(key, tuple) else (key,)
    if len(keys) > len(shape):
        raise IndexError(f"key: got {len(keys)} indices, wanted at most {len(shape)}, one per axis")
    taken: list[range] = []
    squeeze: list[Any] = []
    for axis, size in enumerate(shape):
        part = keys[axis] if axis < len(keys) else slice(None)
        if isinstance(part, slice):
            taken.append(range(size)[part])
            squeeze.append(slice(None))
            if taken[-1].step < 1:
                raise ValueError(f"key: got the step {part.step} along axis {axis}, wanted a positive one")
            continue
        if isinstance(part, bool | np.bool_) or not hasattr(part, "__index__"):
            raise TypeError(f"key: got {type(part).__name__} for axis {axis}, wanted a slice or an integer")
        place = operator.index(part)
        if not -size <= place < size:
            raise IndexError(f"key: got {place} for axis {axis}, wanted an integer from {-size} to {size - 1}")
        taken.append(range(size)[place : place + 1 or None])
        squeeze.append(0)
    return taken, tuple(squeeze)


def pieces_of(found: DatasetMap, taken: list[range]) -> Pieces:
    """Return the pieces of a file that hold what is taken of a dataset: at least one position along each axis."""
    if found.chunks is None:
        return _stretches(found, taken)
    axes = tuple(_axis(positions, size) for positions, size in zip(taken, found.chunks, strict=True))
    grid = np.ix_(*(axis.blocks for axis in axes))
    offsets, sizes = found.offsets[grid].ravel(), found.sizes[grid].ravel().astype(np.int64)
    masks = np.zeros_like(sizes) if found.filter_masks is None else found.filter_masks[grid].ravel().astype(np.int64)
    return Pieces(axes, found.chunks, offsets, sizes, masks)


def _stretches(found: DatasetMap, taken: list[range]) -> Pieces:
    """Return the stretches of a contiguous dataset that hold what is taken of it."""
    shape = found.shape
    strides = [math.prod(shape[k + 1 :]) * found.dtype.itemsize for k in range(len(shape))]
    spans = [positions[-1] - positions[0] + 1 for positions in taken]
    most = request_bytes(math.prod(spans) * found.dtype.itemsize)
    # The axis that is cut: along those before it a stretch holds one position, along those after it all of them.
    cut = next(k for k, stride in enumerate(strides) if stride <= most or k == len(shape) - 1)
    while cut + 1 < len(shape) and (shape[cut + 1] - spans[cut + 1]) * strides[cut + 1] > _GAP_BYTES:
        cut += 1
    rows = max(1, most // strides[cut])
    if (taken[cut].step - 1) * strides[cut] > _GAP_BYTES:
        rows = 1  # what lies between two positions is not worth fetching; near ones are put together again
    block = (*(1,) * cut, min(rows, shape[cut]), *shape[cut + 1 :])
    axes = tuple(_axis(positions, size) for positions, size in zip(taken, block, strict=True))
    offsets = np.full((1,) * len(shape), int(found.offsets), dtype=np.int64)
    for k, axis in enumerate(axes[: cut + 1]):
        begins = (axis.blocks * block[k] + axis.first) * strides[k]
        offsets = offsets + begins.reshape(*(1,) * k, -1, *(1,) * (len(shape) - k - 1))
    lengths = (axes[cut].last - axes[cut].first + 1) * strides[cut]
    sizes = np.broadcast_to(lengths.reshape(-1, *(1,) * (len(shape) - cut - 1)), offsets.shape).ravel()
    return Pieces(axes, block, offsets.ravel(), sizes, np.zeros_like(sizes), trims=cut)


def _axis(taken: range, block: int) -> Axis:
    """Return what positions along one axis take of blocks of so many positions."""
    start, step = taken.start, taken.step
    if step < block:
        blocks = np.arange(start // block, taken[-1] // block + 1, dtype=np.int64)
    else:
        blocks = np.unique(np.arange(start, taken[-1] + 1, step, dtype=np.int64) // block)
    begins = blocks * block
    into = np.maximum(0, -((start - begins) // step))  # the first that does not lie before the block
    after = np.minimum(len(taken), -((start - begins - block) // step))
    first, last = start + into * step - begins, start + (after - 1) * step - begins
    spans = list(zip(first.tolist(), last.tolist(), into.tolist(), after.tolist(), strict=True))
    return Axis(blocks, first, last, spans, step)
