"""Slices of an HDF5 dataset read by byte ranges, several at once.

HDF5 reads with one lock per process: one request after the other where the file is remote, one core that decompresses
where it is local. The places of the chunks are asked of HDF5 once; their bytes are then fetched and decoded in threads.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import ChangedFileError, TruncatedFileError
from nwb_lrrnn.io.files.chunks.dataset_map import MOST_CHUNKS, DatasetMap, map_dataset
from nwb_lrrnn.io.files.chunks.decode import DamagedChunkError, decode_chunk
from nwb_lrrnn.io.files.chunks.pieces import Pieces, pieces_of, selection
from nwb_lrrnn.io.files.damage import check_size, told_damage
from nwb_lrrnn.io.files.hdf5 import H5, low_h5py
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.locks import ThreadLock

# In a remote file their index is scattered over it: HDF5 finds the few it needs with fewer requests than all.
_MOST_REMOTE_CHUNKS = 2**13
_N_AT_ONCE = 8
_WORTH_A_THREAD = 2**18  # bytes of a local file that take longer to read and decode than to hand to a thread


def dataset_map(source: Source, path: str) -> DatasetMap | None:
    """Return where the values of a dataset lie; None where only HDF5 can read it.

    The map is kept, so that the file is opened once for many slices. `source` is the file in the version it has now
    (`source.current()`); ChangedFileError says that it has no such dataset any more.
    """
    if source.is_zarr:
        return None
    with _mapping(os.getpid(), source, path):  # threads that need the same map make it once
        return _mapped(source, path)


def read_dataset(source: Source, path: str, key: Any = (), *, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Return a slice of a dataset, as `file[path][key]` of h5py does; () stands for all, steps are positive.

    dtype and byte order are those of the file. ChangedFileError says that the dataset is gone or its shape is not
    `shape`, TruncatedFileError that a chunk is missing or damaged, and names it.
    """
    source = source.current()
    found = dataset_map(source, path)
    if found is not None:
        _check_shape(source, path, found.shape, shape)
        return read_slices(source, found, key)
    with source.open() as file:
        dataset = _dataset(file, source, path)
        _check_shape(source, path, dataset.shape, shape)
        return dataset[key]


def read_slices(source: Source, found: DatasetMap, key: Any) -> NDArray[Any]:
    """Return a slice of a dataset whose map is known, as stored; as `read_dataset`, which looks the map up.

    Only chunks that overlap with the slice are fetched, at most eight ranges of up to 8 MiB at once.
    """
    taken, squeeze = selection(key, found.shape)
    shape = tuple(len(positions) for positions in taken)
    with told_damage(source.uri):
        check_size(shape, found.dtype.itemsize, found.path)
    out = np.empty(shape, dtype=found.dtype)
    if out.size:
        if (found.offsets < 0).all():
            out[...] = found.fill_value
        else:
            pieces = pieces_of(found, taken)
            if (pieces.offsets < 0).any():
                out[...] = found.fill_value
            _Reading(source, found, pieces, out).run()
    return out[squeeze]


class _Reading:
    """Pieces that threads fetch, decode and write into one array, each taking the next until none is left."""

    def __init__(self, source: Source, found: DatasetMap, pieces: Pieces, out: NDArray[Any]):
        self.source, self.found, self.pieces, self.out = source, found, pieces, out
        self.requests = deque(pieces.requests())

    def run(self) -> None:
        """Read all pieces; the calling thread takes part, so that it never waits for a pool that waits for it."""
        most = _N_AT_ONCE
        if not self.source.is_remote:
            most = min(most, os.cpu_count() or 1, 1 + int(self.pieces.sizes.sum()) // _WORTH_A_THREAD)
        n_helpers = min(most, len(self.requests)) - 1
        helpers = self.helpers(n_helpers)
        is_waiting = True
        try:
            self.work()
        except KeyboardInterrupt:
            is_waiting = False  # whoever stops this does not want to wait for a server that is silent
            raise
        finally:
            # Those that the pool has not begun are not waited for: it may be busy with others for long.
            begun = [helper for helper in helpers if not helper.cancel()]
            if is_waiting:
                wait(begun)
        for helper in begun:
            helper.result()

    def helpers(self, number: int) -> list[Future[None]]:
        """Return threads that read too; none when Python ends, while a thread of the user still reads."""
        try:
            return [_pool(os.getpid()).submit(self.work) for _ in range(number)]
        except RuntimeError:
            return []

    def work(self) -> None:
        """Read one request after the other until none is left."""
        while self.requests:
            try:
                request = self.requests.popleft()
            except IndexError:  # another thread took the last
                return
            done = False
            try:
                self.read(request)
                done = True
            finally:
                if not done:  # the others need not go on
                    self.requests.clear()

    def read(self, request: list[int]) -> None:
        """Fetch pieces that lie together, and put their values where they belong."""
        pieces = self.pieces
        begin = int(pieces.offsets[request[0]])
        size = int((pieces.offsets[request] + pieces.sizes[request]).max()) - begin
        data = memoryview(self.source.fetch(begin, size))
        if len(data) != size:
            raise TruncatedFileError(
                f"{self.source.uri}: got {len(data)} bytes from byte {begin} on, wanted {size} of {self.found.path}; "
                "the file is cut off: copy or download it again"
            )
        for piece in request:
            first, shape_taken_into = int(pieces.offsets[piece]) - begin, pieces.places(piece)
            self.put(data[first : first + int(pieces.sizes[piece])], piece, *shape_taken_into)

    def put(
        self,
        data: memoryview,
        piece: int,
        shape: tuple[int, ...],
        taken: tuple[slice, ...],
        into: tuple[slice, ...],
    ) -> None:
        """Decode one piece into its place."""
        found = self.found
        try:
            values = decode_chunk(data, found.filters, int(self.pieces.filter_masks[piece]), found.dtype, shape)
        except DamagedChunkError as error:
            places = ", ".join(f"{part.start}:{part.stop}" for part in into)
            raise TruncatedFileError(
                f"{self.source.uri}: a part of this HDF5 file cannot be read: the chunk of {found.path} at byte "
                f"{int(self.pieces.offsets[piece])} (values [{places}] of what is read) is damaged: {error}; copy or "
                "download the file again"
            ) from error
        self.out[into] = values[taken]


@functools.lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process: a forked one has none of its parent's."""
    return ThreadPoolExecutor(_N_AT_ONCE - 1, thread_name_prefix="nwb_lrrnn-read")


@functools.lru_cache(maxsize=256)
def _mapping(process: int, source: Source, path: str) -> ThreadLock:
    """Return the lock of one map in this process."""
    return ThreadLock()


@functools.lru_cache(maxsize=64)
def _mapped(source: Source, path: str) -> DatasetMap | None:
    """Return what `dataset_map` returns."""
    with source.open() as file:
        dataset = _dataset(file, source, path)
        if _number_of_file(dataset) != _number_of_file(file):
            return None  # an external link: the places are those of another file
        return map_dataset(dataset, most_chunks=_MOST_REMOTE_CHUNKS if source.is_remote else MOST_CHUNKS)


def _number_of_file(item: H5) -> int:
    """Return what HDF5 calls the open file that a group or dataset lies in."""
    return low_h5py().h5o.get_info(item.id).fileno


def _dataset(file: H5, source: Source, path: str) -> H5:
    """Return a dataset of an open file, or raise where there is none."""
    dataset = file.get(path)
    if dataset is None or not hasattr(dataset, "chunks"):
        raise ChangedFileError(
            f"{source.uri}: {path} is gone since the file was opened; the file was written anew: open it again"
        )
    return dataset


def _check_shape(source: Source, path: str, shape: Any, wanted: tuple[int, ...] | None) -> None:
    """Raise where the shape of a dataset is not the one wanted."""
    if wanted is not None and shape != wanted:
        raise ChangedFileError(
            f"{source.uri}: {path} has another shape than when the file was opened ({shape}, not {wanted}); the file "
            "was written anew: open it again with open_nwb"
        )
