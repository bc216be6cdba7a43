"""Slices of datasets by byte ranges: files written anew, damaged chunks and checksums."""

import zlib

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import ChangedFileError, TruncatedFileError
from nwb_lrrnn.io.files.chunks.decode import FLETCHER32, ChunkFilter, DamagedChunkError, decode_chunk, fletcher32
from nwb_lrrnn.io.files.chunks.slices import read_dataset
from nwb_lrrnn.io.files.source import resolve
from remote_stand_in import Remote


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the dataset `x` and returns the path of its file."""

    def write(data, **made):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("x", data=data, **made)
        return tmp_path / "a.h5"

    return write


def test_a_file_written_anew_is_read_anew(write):
    source = resolve(write(np.arange(100), chunks=(30,), compression="gzip"))
    read_dataset(source, "x")
    write(np.arange(100)[::-1], chunks=(40,))
    np.testing.assert_array_equal(read_dataset(source, "x", shape=(100,)), np.arange(100)[::-1])
    write(np.arange(90), chunks=(40,))
    with pytest.raises(ChangedFileError, match=r"x has another shape .* \(\(90,\), not \(100,\)\)"):
        read_dataset(source, "x", shape=(100,))
    write(["text"], dtype=h5py.string_dtype())
    with pytest.raises(ChangedFileError, match=r"x has another shape .* \(\(1,\), not \(100,\)\)"):
        read_dataset(source, "x", shape=(100,))


def test_a_dataset_that_is_gone(write):
    source = resolve(write(np.arange(10)))
    for path in ("y", "/"):
        with pytest.raises(ChangedFileError, match="is gone since the file was opened"):
            read_dataset(source, path)


def spoil(path, piece):
    """Change one byte in the middle of a chunk."""
    with h5py.File(path) as file:
        place = file["x"].id.get_chunk_info(piece)
    data = bytearray(path.read_bytes())
    data[place.byte_offset + place.size // 2] ^= 0x55
    path.write_bytes(data)
    return place.byte_offset


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"compression": "gzip"}, "zlib cannot decompress it"),
        ({"fletcher32": True}, "Fletcher checksum is another"),
        ({"compression": "gzip", "shuffle": True, "fletcher32": True}, "Fletcher checksum is another"),
    ],
)
def test_damage_is_found_and_its_place_named(write, made, why):
    x = np.random.default_rng(0).integers(0, 1000, 1000)
    path = write(x, chunks=(300,), **made)
    offset = spoil(path, 1)
    with pytest.raises(TruncatedFileError, match=rf"the chunk of /x at byte {offset} .*\[300:600\].*{why}"):
        read_dataset(resolve(path), "x")
    np.testing.assert_array_equal(read_dataset(resolve(path), "x", slice(600, None)), x[600:])


def test_a_chunk_of_another_length(write):
    path = write(np.arange(100), chunks=(50,), compression="gzip")
    with h5py.File(path, "r+") as file:
        file["x"].id.write_direct_chunk((50,), zlib.compress(bytes(100)))
    with pytest.raises(TruncatedFileError, match="it holds 100 bytes, wanted 400"):
        read_dataset(resolve(path), "x")


def test_fewer_bytes_than_asked_for(write):
    source = Remote(write(np.arange(100)))
    source.__dict__["fetch"] = lambda offset, size: bytes(size - 1)
    with pytest.raises(TruncatedFileError, match="got 799 bytes from byte .*, wanted 800 of /x"):
        read_dataset(source, "x")


def test_checksums_by_words_are_those_by_the_book():
    data = np.random.default_rng(1).integers(0, 256, 300_001, dtype=np.uint8).tobytes()
    total = running = 0
    for high, low in zip((data + b"\x00")[::2], (data + b"\x00")[1::2], strict=True):
        total = (total + (high << 8 | low)) % 65535
        running = (running + total) % 65535
    assert fletcher32(data) == running << 16 | total


def test_checksums_of_old_files_have_their_bytes_swapped():
    stored = fletcher32(b"spikes").to_bytes(4, "little")
    swapped = bytes([stored[1], stored[0], stored[3], stored[2]])
    for checksum in (stored, swapped):
        values = decode_chunk(b"spikes" + checksum, (ChunkFilter(FLETCHER32),), 0, np.dtype("S6"), (1,))
        assert values.tolist() == [b"spikes"]
    with pytest.raises(DamagedChunkError, match="another than the stored one"):
        decode_chunk(b"spikes" + stored[::-1], (ChunkFilter(FLETCHER32),), 0, np.dtype("S6"), (1,))
    with pytest.raises(DamagedChunkError, match="at least the 4 of its checksum"):
        decode_chunk(b"s", (ChunkFilter(FLETCHER32),), 0, np.dtype("S6"), (1,))
