"""No chunk gives more bytes than its dataset declares."""

import tracemalloc
import zlib

import numcodecs
import numpy as np
import pytest

from nwb_lrrnn.io.files.chunks.decode import (
    DEFLATE,
    FLETCHER32,
    ChunkFilter,
    DamagedChunkError,
    decode_chunk,
    fletcher32,
)
from nwb_lrrnn.io.files.zarr.bounded import bounded

CODECS = [
    numcodecs.Zlib(), numcodecs.GZip(), numcodecs.BZ2(), numcodecs.LZMA(), numcodecs.Blosc(), numcodecs.LZ4(),
    numcodecs.Zstd(),
]  # fmt: skip
SIZES = (1, 200, 300, 70_000, 300_000)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
@pytest.mark.parametrize("size", SIZES)
def test_what_was_declared_comes_back(codec, size):
    content = np.random.default_rng(size).integers(0, 5, size, dtype=np.uint8).tobytes()
    assert bytes(bounded(codec, codec.encode(content), size)) == content
    with pytest.raises(ValueError, match=f"holds .*{size - 1}|most {size - 1}"):
        bounded(codec, codec.encode(content), size - 1)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_a_bomb_takes_no_memory(codec):
    bomb = codec.encode(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="holds"):
        bounded(codec, bomb, 1000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20_000_000  # lzma looks back 8 MB


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_damage_is_an_error(codec):
    whole = codec.encode(bytes(range(200)) * 10)
    for part in (whole[: len(whole) // 2], whole[:3], b""):
        with pytest.raises((ValueError, RuntimeError, EOFError)):
            bounded(codec, part, 2000)


def test_chunks_of_hdf5_too():
    zeros = zlib.compress(bytes(50_000_000))
    with pytest.raises(DamagedChunkError, match="it holds more than"):
        decode_chunk(zeros, (ChunkFilter(DEFLATE),), 0, np.dtype("u1"), (1000,))
    with pytest.raises(DamagedChunkError, match="ends before its stream does"):
        decode_chunk(zlib.compress(bytes(1000))[:-6], (ChunkFilter(DEFLATE),), 0, np.dtype("u1"), (1000,))
    content = bytes(range(100))
    summed = zlib.compress(content + fletcher32(content).to_bytes(4, "little"))
    found = decode_chunk(summed, (ChunkFilter(FLETCHER32), ChunkFilter(DEFLATE)), 0, np.dtype("u1"), (100,))
    assert found.tobytes() == content
