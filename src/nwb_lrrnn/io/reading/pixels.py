"""Movies of one- and two-photon and voltage imaging, as a population of pixels or of blocks of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.chunks.slices import read_dataset
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.assembly import object_id_of, origin
from nwb_lrrnn.io.reading.catalog import Catalog
from nwb_lrrnn.io.reading.clock import clock_problems
from nwb_lrrnn.io.reading.entries import InFile, SeriesEntry
from nwb_lrrnn.io.reading.intervals import Request
from nwb_lrrnn.io.reading.kinds import Content, Extent, Population
from nwb_lrrnn.io.reading.lazy import as_dask, ranges, some
from nwb_lrrnn.io.reading.selection import select_rows
from nwb_lrrnn.io.reading.series import read_series
from nwb_lrrnn.io.reading.series_columns import working_dtype
from nwb_lrrnn.io.reading.series_kinds import series_kind, why_no_pixels
from nwb_lrrnn.io.reading.tables import Rows

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

_READ_BYTES = 64 * 2**20  # of frames that are held at once
_MANY = 1024  # units above which the call that is shown makes blocks


@dataclass(frozen=True, eq=False)
class PixelSeries:
    """Means (time, block) of blocks of pixels of a movie (time, x, y[, z]) in its unit of measure, not read yet.

    `mask` (x, y[, z]) says which pixels count, None for all. `blocks` are the numbers of the blocks that are wanted,
    row by row on the grid of blocks.
    """

    source: Source
    path: str
    stored_shape: tuple[int, ...]
    stored_chunks: tuple[int, ...] | None
    dtype: np.dtype[Any]
    gain: float
    offset: float
    binning: int
    blocks: NDArray[np.intp]
    mask: NDArray[np.bool_] | None = None

    ndim = 2

    @property
    def shape(self) -> tuple[int, int]:
        """(time, block)."""
        return self.stored_shape[0], len(self.blocks)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        identity = (self.source.uri, self.source.version_tag, self.path)
        return ("PixelSeries", *identity, self.gain, self.offset, self.binning, self.blocks, self.mask, str(self.dtype))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        (samples, columns), squeeze = ranges(key, self.shape)
        ends = sorted((samples[0], samples[-1])) if len(samples) else (0, -1)
        values = self.between_blocks(columns).read(ends[0], ends[1] + 1)
        return some(values[:: abs(samples.step)][:: 1 if samples.step > 0 else -1], squeeze)

    def between_blocks(self, columns: range) -> PixelSeries:
        """Return the series of some of its blocks."""
        return replace(self, blocks=self.blocks[np.asarray(columns, dtype=np.intp)])

    def between(self, first: int, stop: int) -> PixelSeries:
        """Return the series of blocks `first` to `stop`."""
        return self.between_blocks(range(first, stop))

    def read(self, first: int, stop: int) -> NDArray[Any]:
        """Return frames `first` to `stop`, shape (time, block), from a few frames at a time."""
        stop = min(stop, self.shape[0])
        out = np.zeros((max(0, stop - first), len(self.blocks)), dtype=self.dtype)
        if not out.size:
            return out
        places = np.stack(
            np.unravel_index(self.blocks, grid_shape(self.stored_shape[1:], self.binning))
        )  # (dim, block)
        low, high = places.min(axis=1), places.max(axis=1) + 1
        size = self.binning
        box = [slice(a * size, min(b * size, n)) for a, b, n in zip(low, high, self.stored_shape[1:], strict=True)]
        mask = np.ones([part.stop - part.start for part in box], bool) if self.mask is None else self.mask[tuple(box)]
        number = _sums(mask[None].astype(np.float64), size)[0]
        wanted = tuple(places - low[:, None])
        for begin in range(first, stop, step := self._n_at_once(mask.size)):
            end = min(begin + step, stop)
            frames = read_dataset(self.source, self.path, (slice(begin, end), *box), shape=self.stored_shape)
            frames = frames.astype(self.dtype, copy=False)
            means = _sums(frames if self.mask is None else np.where(mask, frames, 0), size)[:, *wanted] / number[wanted]
            out[begin - first : end - first] = means * self.gain + self.offset
        return out

    def dask(self) -> da.Array:
        """Return the blocks as a dask array (time, block) whose chunks are whole chunks of frames."""
        n_frames = self.shape[0]
        long = (self.stored_chunks or (1,))[0]
        long *= max(1, self._n_at_once(math.prod(self.stored_shape[1:])) // long)
        return as_dask(self, (max(1, min(long, n_frames)), max(1, len(self.blocks))))

    def _n_at_once(self, n_pixels: int) -> int:
        """Return how many frames of so many pixels are held at once."""
        return max(1, _READ_BYTES // max(1, n_pixels * self.dtype.itemsize))


def _sums(frames: NDArray[Any], size: int) -> NDArray[Any]:
    """Return sums over blocks of a size along all dims but the first; those at the far edges may be smaller."""
    for axis in range(1, frames.ndim) if size > 1 else ():
        frames = np.add.reduceat(frames, np.arange(0, frames.shape[axis], size), axis=axis)
    return frames


def grid_shape(frame: tuple[int, ...], binning: int) -> tuple[int, ...]:
    """Return how many blocks a frame has along each of its dims.

    >>> grid_shape((512, 510), 100)
    (6, 6)
    """
    return tuple(-(-n // binning) for n in frame)


def _sampled(
    binning: int | None, mask: Any, source: Source, entry: SeriesEntry, units: Any
) -> tuple[PixelSeries, Rows, dict[str, Any]]:
    """Return the blocks of a movie that are asked for, where each lies, and attributes."""
    shape = entry.shape or ()
    size = _checked_binning(binning, shape[1:])
    kept = None if mask is None else _checked_mask(mask, shape[1:])
    grid = grid_shape(shape[1:], size)
    number = _sums((np.ones(shape[1:]) if kept is None else kept.astype(np.float64))[None], size)[0]
    blocks = np.flatnonzero(number)
    columns: dict[str, NDArray[Any]] = {}
    for name, place, n in zip("xyz", np.unravel_index(blocks, grid), shape[1:], strict=False):
        columns[name] = (place * size + np.minimum(place * size + size, n) - 1) / 2  # the middle of the block
    columns["n_pixels"] = number.ravel()[blocks].astype(np.int64)
    rows = Rows(blocks, columns)
    index = select_rows(rows, units, "unit")
    with source.open() as file:
        group = file[entry.path]
        data, object_id = group["data"], object_id_of(group)
        chunks, dtype = data.chunks, working_dtype(data.dtype)
    path = f"{entry.path}/data"
    series = PixelSeries(
        source, path, shape, chunks, dtype, entry.conversion, entry.offset, size, blocks[index], kept
    )  # fmt: skip
    attrs = {**origin(source, entry, object_id, entry.units), "frame_shape": list(grid), "binning": size}
    return series, rows.take(index), attrs


def _checked_binning(binning: int | None, frame: tuple[int, ...]) -> int:
    """Return the side of a block in pixels, or raise where it is none."""
    if binning is None:
        return 1
    if isinstance(binning, bool) or not isinstance(binning, int | np.integer) or not 1 <= binning <= max(frame):
        raise ValueError(
            f"binning: got {binning!r}, wanted the side of a block in pixels, a whole number from 1 to {max(frame)}"
        )
    return int(binning)


def _checked_mask(mask: Any, frame: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which pixels count, or raise where a mask does not fit the frames."""
    kept = np.asarray(mask)
    if kept.shape != frame or kept.dtype.kind not in "bui" or not ((kept == 0) | (kept == 1)).all():
        raise ValueError(
            f"mask: got {kept.dtype} of shape {kept.shape}, wanted a boolean array of shape {frame}, True where a "
            "pixel counts"
        )
    if not kept.any():
        raise ValueError(f"mask: no pixel of {frame} is True, wanted at least one")
    return kept.astype(bool)


# --- what the table of populations says of them -----------------------------------------------------------------------


def suggested_binning(entry: SeriesEntry) -> int:
    """Return the side of blocks that leave about a thousand of them, 1 where there are no more pixels."""
    frame, size = (entry.shape or ())[1:], 1
    while math.prod(grid_shape(frame, size)) > _MANY:
        size *= 2
    return size


def _matches(entry: InFile) -> bool:
    """Return whether an entry is a movie of photons."""
    return isinstance(entry, SeriesEntry) and series_kind(entry) == "pixels"


def _call(entry: SeriesEntry, name: str) -> str:
    """Return how a user reads it: in blocks where there are many pixels."""
    size = suggested_binning(entry)
    options = ("" if entry.rate else ", bin_size=...") + (f", binning={size}" if size > 1 else "")
    return f'recording.series("{name}"{options})'


def _extent(entry: SeriesEntry) -> Extent:
    """Return how large it is."""
    if why_no_pixels(entry) is not None:
        return Extent(entry.shape, None, entry.units, entry.rate)
    shape = entry.shape or (0,)
    duration = shape[0] / entry.rate if entry.rate and entry.rate > 0 else None
    return Extent(shape, math.prod(shape[1:]), entry.units, entry.rate, duration)


def _size(catalog: Catalog, content: Content) -> str:
    """Return how large it is in words."""
    if content.n_units is None or content.shape is None:
        return "" if content.shape is None else f"shape {content.shape}"
    n_bytes = math.prod(content.shape) * np.dtype(content.entry.dtype).itemsize
    parts = [f"{' x '.join(map(str, content.shape[1:]))} pixels", f"{content.shape[0]} frames"]
    parts += [f"{content.rate:.6g} Hz"] if content.rate else []
    parts += [f"{content.duration:.4g} s"] if content.duration else []
    return ", ".join([*parts, f"{n_bytes / 1e6:.3g} MB", content.units])


def _read(
    source: Source,
    catalog: Catalog,
    entry: SeriesEntry,
    request: Request,
    *,
    binning: int | None = None,
    mask: Any = None,
    **options: Any,
) -> tuple[xr.DataArray, list[str]]:
    """Return the blocks of pixels (trial, time, unit) or (time, unit) as `Recording.series` says, and warnings."""
    return read_series(source, catalog, entry, request, sampled=partial(_sampled, binning, mask), **options)


def _unit_table(source: Source, catalog: Catalog, entry: SeriesEntry) -> tuple[Rows, str, NDArray[np.intp]]:
    """Return the numbers of all pixels, of which those of blocks are the first; no table holds them."""
    return Rows(np.arange(math.prod((entry.shape or (0,))[1:])), {}), "", np.empty(0, dtype=np.intp)


def _problems(source: Source, catalog: Catalog, entry: SeriesEntry) -> list[str]:
    """Return what is wrong with a movie; its frames are not read."""
    reason = why_no_pixels(entry)
    if reason is not None:
        return [reason]
    return clock_problems(source, entry, (entry.shape or (0,))[0])


PIXELS = Population(
    kind="pixels",
    method="series",
    noun="pixels",
    unit_kind="pixel",
    holder=None,
    matches=_matches,
    why_not=why_no_pixels,
    call=_call,
    extent=_extent,
    size=_size,
    read=_read,
    unit_table=_unit_table,
    problems=_problems,
)
