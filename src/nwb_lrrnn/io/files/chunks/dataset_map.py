"""Where the values of an HDF5 dataset lie in its file, asked of HDF5 once."""

import math
from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.chunks.decode import DEFLATE, FLETCHER32, SHUFFLE, ChunkFilter
from nwb_lrrnn.io.files.hdf5 import H5

# The places of more chunks take more memory than they are worth.
MOST_CHUNKS = 2**18


@dataclass(frozen=True, eq=False)
class DatasetMap:
    """Where the values of an HDF5 dataset lie in its file; picklable."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]  # of the stored values, byte order included, as h5py gives it
    chunks: tuple[int, ...] | None  # shape of a chunk; None where the values lie in one piece
    offsets: NDArray[np.int64]  # bytes, on the grid of chunks (no dim without chunks); -1 where never written
    sizes: NDArray[np.uint32]  # stored bytes of each chunk
    filter_masks: NDArray[np.uint32] | None = None  # bit k: stored without filter k; None: no chunk was
    filters: tuple[ChunkFilter, ...] = ()  # in the order in which they were applied
    fill_value: Any = 0  # stands where nothing was written


def map_dataset(dataset: H5, *, most_chunks: int = MOST_CHUNKS) -> DatasetMap | None:
    """Return where the values of an open h5py dataset lie, or None where only HDF5 itself can read them.

    That is so for text of variable length, references, compound and converted types, filters other than deflate,
    shuffle and Fletcher32, compact, virtual and external storage, scalars, files with a user block, and more than
    `most_chunks`.
    """
    import h5py

    created = dataset.id.get_create_plist()
    layout = created.get_layout()
    if not dataset.shape or layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) or created.get_external_count():
        return None
    # A user block is rare, and what HDF5 then gives is not always a place in the file: 511 where nothing is written.
    if dataset.file.userblock_size or not _stored_as_it_is_read(dataset):
        return None
    filters = _filters(created)
    if filters is None:
        return None
    places = _contiguous(dataset) if dataset.chunks is None else _chunks(dataset, filters, most_chunks)
    if places is None:
        return None
    never_filled = created.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
    if (places[0] < 0).any() and (never_filled or created.fill_value_defined() == h5py.h5d.FILL_VALUE_UNDEFINED):
        return None
    return DatasetMap(
        dataset.name, dataset.shape, dataset.dtype, dataset.chunks, *places, filters, fill_value=dataset.fillvalue
    )


def _stored_as_it_is_read(dataset: H5) -> bool:
    """Return whether the bytes in the file are those of the array that h5py returns."""
    import h5py

    dtype = dataset.dtype
    if dtype.kind not in "iufbS" or dtype.subdtype is not None or h5py.check_enum_dtype(dtype) is not None:
        return False
    # Unequal: numbers of odd precision, enumerations that are no booleans, text padded with spaces or ended by a zero.
    return bool(dataset.id.get_type().equal(h5py.h5t.py_create(dtype)))


def _filters(created: H5) -> tuple[ChunkFilter, ...] | None:
    """Return the filters of a dataset, None where one of them is not ours to undo."""
    filters = []
    for k in range(created.get_nfilters()):
        number, _, values, _ = created.get_filter(k)
        if number not in (DEFLATE, SHUFFLE, FLETCHER32):
            return None
        filters.append(ChunkFilter(number, values[0] if number == SHUFFLE and values else 1))
    return tuple(filters)


def _contiguous(dataset: H5) -> tuple[NDArray[np.int64], NDArray[np.uint32], None] | None:
    """Return the place of a dataset that lies in one piece, -1 where it was never written."""
    size = dataset.id.get_storage_size()
    if size not in (0, math.prod(dataset.shape) * dataset.dtype.itemsize):
        return None
    offset = dataset.id.get_offset() if size else None
    return np.array(-1 if offset is None else offset, dtype=np.int64), np.zeros(0, dtype=np.uint32), None


def _chunks(
    dataset: H5, filters: tuple[ChunkFilter, ...], most: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32] | None] | None:
    """Return places, stored sizes and filter masks on the grid of chunks, None where they cannot be trusted."""
    shape, chunks = dataset.shape, dataset.chunks
    grid = tuple(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    # Where one axis alone can grow and is not the first, HDF5 mixes up the axes in the positions that it lists.
    growing = [axis for axis, size in enumerate(dataset.maxshape) if size is None]
    if math.prod(grid) > most or (len(growing) == 1 and growing != [0]):
        return None
    listed = array("q")  # a list of what h5py hands over would take ten times the memory

    def note(info: Any) -> None:
        if info.size:
            listed.extend((*info.chunk_offset, info.byte_offset, info.size, info.filter_mask))

    offsets = np.full(grid, -1, dtype=np.int64)
    sizes, masks = np.zeros(grid, dtype=np.uint32), np.zeros(grid, dtype=np.uint32)
    if math.prod(shape):
        dataset.id.chunk_iter(note)
    rows = np.frombuffer(listed, dtype=np.int64).reshape(-1, len(shape) + 3)
    begins = rows[:, : len(shape)]
    rows, begins = rows[(begins < shape).all(axis=1)], begins[(begins < shape).all(axis=1)]
    if (begins % chunks).any():
        return None  # an old HDF5 counts chunks where a newer one gives positions
    where = tuple((begins // chunks).T)
    offsets[where], sizes[where], masks[where] = rows[:, -3:].T
    if filters:
        # HDF5 can be told not to filter chunks beyond the edge, and says so in no mask: leave these to HDF5.
        beyond = (begins + chunks > shape).any(axis=1)
        whole = math.prod(chunks) * dataset.dtype.itemsize
        if (beyond & (rows[:, -2] == whole) & (rows[:, -1] == 0)).any():
            return None
    return offsets, sizes, masks if masks.any() else None
