"""Decompressors that never give more than was declared: a chunk of some kilobytes could otherwise fill the memory."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from typing import Any

_ANY_HEADER = 47  # of zlib: that of zlib or gzip, whichever is there


def bounded(decoder: Any, data: Any, most: int) -> Any:
    """Return what a codec of numcodecs gives for the bytes of a chunk; ValueError where that is more than `most` bytes.

    Streams are cut off there; codecs that write down how much they hold are asked before anything is allocated. Other
    codecs (filters, and whatever is installed besides) are not compressors, or not known, and are called as they are.
    """
    name = decoder.codec_id
    if name in ("zlib", "gzip"):
        return _stream(zlib.decompressobj(_ANY_HEADER), data, most)
    if name == "bz2":
        return _stream(bz2.BZ2Decompressor(), data, most)
    if name == "lzma":
        return _stream(lzma.LZMADecompressor(format=decoder.format, filters=decoder.filters), data, most)
    told = _told_size(name, data)
    if told is not None and told > most:
        raise ValueError(f"it says that it holds {told} bytes, wanted at most {most}")
    return decoder.decode(data)


def _stream(decompressor: Any, data: Any, most: int) -> bytes:
    """Return the whole of a compressed stream, some bytes at most."""
    out = decompressor.decompress(bytes(data), most + 1)
    if len(out) > most:
        raise ValueError(f"it holds more than {most} bytes")
    if not decompressor.eof:
        raise ValueError("it ends before its stream does")
    return out


def _told_size(name: str, data: Any) -> int | None:
    """Return how many bytes compressed data say that they hold, None where they do not say, or are cut off."""
    try:
        if name == "blosc":
            return struct.unpack_from("<I", data, 4)[0]
        if name == "lz4":
            return struct.unpack_from("<I", data, 0)[0]
        return _size_of_zstd(data) if name == "zstd" else None
    except struct.error:
        return None


def _size_of_zstd(data: Any) -> int | None:
    """Return the content size in the header of a frame (RFC 8878, 3.1.1.1)."""
    magic, described = struct.unpack_from("<IB", data, 0)
    if magic != 0xFD2FB528:
        return None
    is_single = described >> 5 & 1
    place = 5 + (not is_single) + (0, 1, 2, 4)[described & 3]
    kind = described >> 6
    if kind == 0:
        return struct.unpack_from("<B", data, place)[0] if is_single else None
    size = struct.unpack_from(("<H", "<I", "<Q")[kind - 1], data, place)[0]
    return size + 256 if kind == 1 else size
