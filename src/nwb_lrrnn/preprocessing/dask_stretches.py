"""Stretches of time: each task makes a few bins of the result from the blocks of X that lie around them.

A long recording is never whole in memory: a task holds the block that it mostly lies in, the edges of the blocks beside
it, its result, and one group of units.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESULT_BYTES = 128 * 2**20  # of float64: chunks are merged up to this size, and results split above it
_GROUP_BYTES = 8 * 2**20  # of float64: the units of a stretch that are worked on together


@dataclass(frozen=True)
class Stretch:
    """The bins `begin` to `end` of a result, and the bins `first` to `stop` of X that they are made from."""

    begin: int
    end: int
    first: int
    stop: int


def on_stretches(
    array: Any, mask: Any, stretches: Sequence[Stretch], function: Callable[..., NDArray], token: Any
) -> Any:
    """Return a dask array (trial, time, unit) whose chunks along time are stretches.

    Parameters
    ----------
    array : dask array (trial, time, unit)
    mask : dask array of bool or None
        In the shape and chunks of `array`.
    stretches : list of Stretch
        In order, without holes between them.
    function : callable
        (values, observed, trial, unit, stretch) -> result (trial, bins of the stretch, unit), where values and observed
        are the bins of X that the stretch is made from, and trial and unit where the block begins.
    token : object
        What the name of the result depends on besides the arrays.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    name = f"stretches-{tokenize(array.name, getattr(mask, 'name', None), list(stretches), token)}"
    edges = np.concatenate([[0], np.cumsum(array.chunks[1])]).tolist()
    trials, units = (np.cumsum((0, *array.chunks[axis][:-1])).tolist() for axis in (0, 2))
    graph: dict[Any, Any] = {}
    for j, stretch in enumerate(stretches):
        spans = _spans(edges, stretch)
        cuts = [slice(None) if span.is_edge else slice(span.low, span.high) for span in spans]
        for i, trial in enumerate(trials):
            for k, unit in enumerate(units):
                pieces, masks = (_pieces(graph, name, source, spans, i, k) for source in (array, mask))
                graph[name, i, j, k] = (_of_pieces, pieces, masks, cuts, stretch, function, trial, unit)
    sources = [array] if mask is None else [array, mask]
    chunks = (array.chunks[0], tuple(s.end - s.begin for s in stretches), array.chunks[2])
    whole = HighLevelGraph.from_collections(name, graph, dependencies=sources)
    kind: Any = da.Array
    return kind(whole, name, chunks, meta=np.empty((0, 0, 0)))


def with_neighbours(array: Any, reach: int) -> list[Stretch]:
    """Return stretches of whole chunks that see `reach` bins to each side, chunks merged while those are most of it."""
    n_bins = array.shape[1]
    ends = np.cumsum(_at_least(array.chunks[1], 2 * reach, _most_bins(array))).tolist()
    begins = [0, *ends[:-1]]
    return [Stretch(a, b, max(0, a - reach), min(n_bins, b + reach)) for a, b in zip(begins, ends, strict=True)]


def of_new_bins(array: Any, n_bins: int, ratio: float, reach: int) -> list[Stretch]:
    """Return stretches of `n_bins` new bins of `ratio` old ones each, which see `reach` old bins more to each side.

    A chunk is made into new bins by itself, and let go; the few bins that need two chunks are stretches of their own.
    """
    n_old = array.shape[1]
    ends = np.cumsum(_at_least(array.chunks[1], 2 * reach, _most_bins(array)))[:-1]
    before, after = np.floor((ends - reach - 1) / ratio), np.ceil((ends + reach + 1) / ratio)
    edges = np.unique(np.clip(np.concatenate([[0, n_bins], before, after]), 0, n_bins).astype(np.int64))
    stretches = []
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        step = -(-(end - begin) // -(-(end - begin) // _most_bins(array)))
        for a in range(begin, end, step):
            b = min(a + step, end)
            first, stop = int(np.floor(a * ratio)) - reach, int(np.ceil(b * ratio)) + reach
            stretches.append(Stretch(a, b, min(max(0, first), n_old - 1), min(n_old, stop)))
    return stretches


@dataclass(frozen=True)
class _Span:
    """What a stretch needs of a block: its bins `low` to `high`; most of it, or an edge."""

    block: int
    low: int
    high: int
    is_edge: bool


def _spans(edges: list[int], stretch: Stretch) -> list[_Span]:
    """Return what a stretch needs of the blocks between `edges`."""
    spans = []
    for block in range(bisect_right(edges, stretch.first) - 1, bisect_left(edges, stretch.stop)):
        begin, end = edges[block], edges[block + 1]
        low, high = max(stretch.first, begin) - begin, min(stretch.stop, end) - begin
        spans.append(_Span(block, low, high, 2 * (high - low) < end - begin))
    return spans


def _pieces(graph: dict[Any, Any], name: str, source: Any, spans: list[_Span], trial: int, unit: int) -> Any:
    """Return keys of what a stretch needs of a dask array, edges being copies so that their blocks can go."""
    if source is None:
        return None
    keys = []
    for span in spans:
        key = (source.name, trial, span.block, unit)
        if span.is_edge:
            edge = (f"edge-{name}-{source.name}", trial, span.block, unit, span.low, span.high)
            graph[edge] = (_edge, key, span.low, span.high)
            key = edge
        keys.append(key)
    return keys


def _edge(block: NDArray, low: int, high: int) -> NDArray:
    """Return a copy of some bins of a block."""
    return block[:, low:high].copy()


def _of_pieces(
    pieces: list[NDArray],
    masks: list[NDArray] | None,
    cuts: list[slice],
    stretch: Stretch,
    function: Callable[..., NDArray],
    trial: int,
    unit: int,
) -> NDArray:
    """Return `function` of a stretch made of the bins `cuts` of some pieces."""
    n_trials, n_units = pieces[0].shape[0], pieces[0].shape[2]
    result = np.empty((n_trials, stretch.end - stretch.begin, n_units))
    size = max(1, _GROUP_BYTES // (8 * max(1, n_trials) * (stretch.stop - stretch.first)))
    for at in range(0, n_units, size):
        units = slice(at, at + size)
        values = _joined(pieces, cuts, units)
        observed = None if masks is None else _joined(masks, cuts, units)
        result[:, :, units] = function(values, observed, trial, unit + at, stretch)
    return result


def _joined(pieces: list[NDArray], cuts: list[slice], units: slice) -> NDArray:
    """Return some units of the cut pieces, end to end."""
    parts = [piece[:, cut, units] for piece, cut in zip(pieces, cuts, strict=True)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _most_bins(array: Any) -> int:
    """Return how many bins of a block's trials and units make the largest result of one task."""
    return max(1, _RESULT_BYTES // (8 * max(1, max(array.chunks[0])) * max(1, max(array.chunks[2]))))


def _at_least(chunks: tuple[int, ...], size: int, most: int) -> list[int]:
    """Return chunks merged with those after them until each has at least `size` bins, but not above `most`."""
    merged: list[int] = []
    for chunk in chunks:
        if merged and merged[-1] < size and merged[-1] + chunk <= most:
            merged[-1] += chunk
        else:
            merged.append(chunk)
    return merged
