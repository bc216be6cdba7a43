"""Bytes of one chunk of an HDF5 dataset become an array: filters undone, checksum compared, length checked."""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The numbers that HDF5 gives to its filters.
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
_TILE = 2**14  # elements that are put together at once, so that their bytes stay in the cache of the processor
_FLETCHER_WORDS = 2**16  # so that sums of 16-bit words weighted by up to 2**16 stay far below 2**64


class DamagedChunkError(ValueError):
    """The bytes of a chunk are not what its filters once wrote."""


@dataclass(frozen=True)
class ChunkFilter:
    """One step of a dataset's filter pipeline: the filter's number and the bytes of an element (shuffle only)."""

    number: int
    element_size: int = 1


def decode_chunk(
    data: bytes | bytearray | memoryview,
    filters: tuple[ChunkFilter, ...],
    filter_mask: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> NDArray[Any]:
    """Return a chunk of shape `shape` as it was before HDF5 wrote it; a view of `data` where no filter was applied.

    `filters` are in the order in which they were applied; bit k of `filter_mask` is set where this chunk was stored
    without filter k. DamagedChunkError says that the bytes cannot be decompressed, or have another checksum or length.

    >>> decode_chunk(zlib.compress(b"spikes"), (ChunkFilter(DEFLATE),), 0, np.dtype("S3"), (2,)).tolist()
    [b'spi', b'kes']
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    for k, step in reversed(list(enumerate(filters))):
        if filter_mask >> k & 1:
            continue
        if step.number == FLETCHER32:
            data = _checked(data)
        elif step.number == DEFLATE:
            data = _inflated(data, n_bytes + 4 * len(filters))  # with a checksum that was there before
        else:
            data = _unshuffled(data, step.element_size)
    if len(data) != n_bytes:
        raise DamagedChunkError(f"it holds {len(data)} bytes, wanted {n_bytes}")
    return np.frombuffer(data, dtype).reshape(shape)


def fletcher32(data: bytes | bytearray | memoryview) -> int:
    """Return HDF5's Fletcher checksum of bytes, each half modulo 65535.

    The lower half is the sum of the 16-bit big-endian words, the upper one that of their running sums.

    >>> hex(fletcher32(bytes([0, 1, 0, 2])))
    '0x40003'
    """
    padded = data if len(data) % 2 == 0 else bytes(data) + b"\x00"
    words = np.frombuffer(padded, ">u2")
    total = running = 0
    for first in range(0, len(words), _FLETCHER_WORDS):
        block = words[first : first + _FLETCHER_WORDS].astype(np.uint64)
        weights = np.arange(len(block), 0, -1, dtype=np.uint64)
        running = (running + len(block) * total + int(np.dot(block, weights))) % 65535
        total = (total + int(block.sum())) % 65535
    return running << 16 | total


def _checked(data: bytes | bytearray | memoryview) -> memoryview:
    """Return the bytes before their checksum, or raise where it is another."""
    body, stored = memoryview(data)[:-4], int.from_bytes(data[-4:], "little")
    if len(data) < 4:
        raise DamagedChunkError(f"it holds {len(data)} bytes, wanted at least the 4 of its checksum")
    # HDF5 up to 1.6.2 swapped the bytes of each half on little-endian machines; its readers take both ever since.
    swapped = (stored & 0x00FF00FF) << 8 | (stored & 0xFF00FF00) >> 8
    if fletcher32(body) not in (_modulo(stored), _modulo(swapped)):
        raise DamagedChunkError("its Fletcher checksum is another than the stored one")
    return body


def _modulo(checksum: int) -> int:
    """Return a checksum with each half modulo 65535, since 0 may be stored as 65535."""
    return (checksum >> 16) % 65535 << 16 | (checksum & 0xFFFF) % 65535


def _inflated(data: bytes | bytearray | memoryview, n_bytes: int) -> bytes:
    """Return decompressed bytes, at most `n_bytes`: a small chunk can hold gigabytes of nothing."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, n_bytes + 1)
    except zlib.error as error:
        raise DamagedChunkError(f"zlib cannot decompress it ({error})") from error
    if len(out) > n_bytes:
        raise DamagedChunkError(f"it holds more than {n_bytes} bytes")
    if not stream.eof:
        raise DamagedChunkError("zlib cannot decompress it (it ends before its stream does)")
    return out


def _unshuffled(data: bytes | bytearray | memoryview, size: int) -> bytes | bytearray | memoryview:
    """Return elements whose first bytes, then whose second bytes, ... were stored together."""
    n_elements = len(data) // size
    if size == 1 or n_elements <= 1:
        return data
    stored = np.frombuffer(data, np.uint8)
    planes = stored[: n_elements * size].reshape(size, n_elements)
    out = np.empty(len(stored), dtype=np.uint8)
    out[n_elements * size :] = stored[n_elements * size :]  # a rest shorter than one element stays as it is
    elements = out[: n_elements * size].reshape(n_elements, size)
    for first in range(0, n_elements, _TILE):
        for k in range(size):
            elements[first : first + _TILE, k] = planes[k, first : first + _TILE]
    return out.data
