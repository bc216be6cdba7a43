"""Slices of datasets by byte ranges: what is fetched, by how many threads, and what is left to HDF5."""

import os
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.files.chunks import slices as chunks
from nwb_lrrnn.io.files.chunks.slices import dataset_map, read_dataset, read_slices
from nwb_lrrnn.io.files.source import resolve
from remote_stand_in import Remote

MB = 2**20


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the dataset `x` and returns the path of its file."""

    def write(data=None, **made):
        with h5py.File(tmp_path / "a.h5", "w", **made.pop("file", {})) as file:
            file.create_dataset("x", data=data, **made)
        return tmp_path / "a.h5"

    return write


def counting(*shape, dtype="<i4"):
    """Return an array that counts up."""
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


# --- which datasets --------------------------------------------------------------------------------------------------

GZIP = {"chunks": (30, 7), "compression": "gzip"}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    "made",
    [
        {},
        {"chunks": (30, 7)},
        GZIP,
        {**GZIP, "shuffle": True},
        {**GZIP, "fletcher32": True},
        {**GZIP, "maxshape": (None, 20)},
        {**GZIP, "maxshape": (None, None)},
        {"chunks": (100, 20), "compression": "gzip"},
    ],
)
def test_reads_without_hdf5_once_the_places_are_known(write, made, libver):
    x = counting(100, 20, dtype=">i4")
    source = Remote(write(x, file={"libver": libver}, **made))
    for key in [(), (slice(5, 80, 7), slice(3, 9)), (slice(None), 4), 99, (-1, -1)]:
        got = read_dataset(source, "/x", key)
        assert got.dtype == x[key].dtype  # a number has the byte order of the machine
        np.testing.assert_array_equal(got, x[key])
    assert source.opened == 1
    assert source.fetched


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
    layout[:] = h5py.VirtualSource(file["plain"])
    file.create_virtual_dataset("x", layout)


def _compact(file):
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((4,)), created)
    file["x"][:] = 3.0


def _space_padded(file):
    text = h5py.h5t.C_S1.copy()
    text.set_size(6)
    text.set_strpad(h5py.h5t.STR_SPACEPAD)
    h5py.h5d.create(file.id, b"x", text, h5py.h5s.create_simple((2,)))
    file["x"][:] = np.array([b"ab", b"abcdef"])


def _never_filled(file):
    file.create_dataset("x", shape=(9,), chunks=(3,), dtype="f8", fill_time="never")
    file["x"][:3] = 1.0


def _unfiltered_edge(file):
    # What HDF5 writes where it is told not to filter chunks beyond the edge.
    file.create_dataset("x", data=np.arange(4.0), chunks=(4,), maxshape=(None,), compression="gzip")
    file["x"].resize((3,))
    file["x"].id.write_direct_chunk((0,), np.arange(4.0).tobytes(), filter_mask=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda file: file.create_dataset("x", data=["a", "bcd"], dtype=h5py.string_dtype()),
        lambda file: file.create_dataset("x", data=np.arange(9.0), chunks=(4,), compression="lzf"),
        lambda file: file.create_dataset("x", data=np.arange(9), chunks=(4,), scaleoffset=0),
        lambda file: file.create_dataset("x", data=np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])),
        lambda file: file.create_dataset("x", data=np.zeros(3, dtype="c16")),
        lambda file: file.create_dataset("x", shape=(3,), dtype=np.dtype((np.float64, (2,)))),
        lambda file: file.create_dataset("x", data=[1, 0], dtype=h5py.enum_dtype({"go": 1, "stop": 0})),
        lambda file: file.create_dataset("x", data=3.5),
        lambda file: file.create_dataset("x", data=counting(2, 9), chunks=(1, 4), maxshape=(2, None)),
        _virtual,
        _compact,
        _space_padded,
        _never_filled,
    ],
)
def test_what_only_hdf5_can_read_is_read_by_hdf5(tmp_path, monkeypatch, build):
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["plain"] = np.arange(4.0)
        build(file)
    source = Remote(tmp_path / "a.h5")
    got = read_dataset(source, "x")
    with h5py.File("a.h5") as file:
        np.testing.assert_array_equal(got, file["x"][()])
    assert dataset_map(source, "x") is None
    assert not source.fetched


def test_chunks_beyond_the_edge_that_may_be_unfiltered_are_left_to_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        _unfiltered_edge(file)
    assert dataset_map(resolve(tmp_path / "a.h5"), "x") is None


@pytest.mark.parametrize("made", [{}, {"chunks": (4,)}])
def test_links_to_another_file_are_left_to_hdf5(tmp_path, made):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("there", data=np.arange(9.0), **made)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["here"] = -np.arange(9.0)
        file["soft"] = h5py.SoftLink("/here")
        file["x"] = h5py.ExternalLink("other.h5", "/there")
    source = resolve(tmp_path / "a.h5")
    np.testing.assert_array_equal(read_dataset(source, "x"), np.arange(9.0))
    assert dataset_map(source, "x") is None
    assert dataset_map(source, "soft") is not None
    np.testing.assert_array_equal(read_dataset(source, "soft"), -np.arange(9.0))


def test_references_and_nothing_at_all(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["empty"] = h5py.Empty("f4")
        file.create_dataset("to", data=[file.ref, file["empty"].ref], dtype=h5py.ref_dtype)
    source = resolve(tmp_path / "a.h5")
    assert read_dataset(source, "empty") == h5py.Empty("f4")
    assert all(read_dataset(source, "to"))


@pytest.mark.parametrize("chunked", [None, (40,)])
def test_user_block_is_left_to_hdf5(write, chunked):
    path = write(np.arange(100.0), chunks=chunked, file={"userblock_size": 512})
    assert dataset_map(resolve(path), "x") is None
    np.testing.assert_array_equal(read_dataset(resolve(path), "x", slice(3, 50)), np.arange(3.0, 50))


@pytest.mark.parametrize("chunked", [None, (40,)])
def test_bytes_before_the_hdf5_file_are_allowed_for(write, chunked):
    path = write(np.arange(100.0), chunks=chunked)
    path.write_bytes(bytes(1024) + path.read_bytes())
    np.testing.assert_array_equal(read_dataset(resolve(path), "x", slice(3, 50)), np.arange(3.0, 50))


def test_filters_that_a_chunk_was_stored_without(write):
    x = counting(8)
    path = write(x, chunks=(4,), compression="gzip", shuffle=True)
    with h5py.File(path, "r+") as file:
        file["x"].id.write_direct_chunk((4,), x[4:].tobytes()[::-1], filter_mask=0b11)
        file["x"].id.write_direct_chunk((0,), zlib.compress(x[:4].tobytes()), filter_mask=0b01)
    source = Remote(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(read_dataset(source, "x"), file["x"][()])
    assert source.fetched


def test_the_map_travels_to_another_process(write):
    x = counting(100, 20)
    source = resolve(write(x, **GZIP))
    found = pickle.loads(pickle.dumps(dataset_map(source, "x")))
    assert (found.path, found.shape, found.chunks) == ("/x", (100, 20), (30, 7))
    np.testing.assert_array_equal(read_slices(source, found, slice(50, 90)), x[50:90])


# --- what is fetched -------------------------------------------------------------------------------------------------


def test_only_chunks_that_overlap_are_fetched(write):
    source = Remote(write(counting(4000, 64), chunks=(1000, 16)))
    read_dataset(source, "x", (slice(1000, 2000), slice(16, 32)))
    assert source.n_bytes == 1000 * 16 * 4


def test_chunks_that_adjoin_are_fetched_together(write):
    path = write(counting(4000, 16), chunks=(100, 16))
    source = Remote(path)
    read_dataset(source, "x")
    assert source.n_bytes < 4000 * 16 * 4 * 1.25
    assert len(source.fetched) <= 2  # index blocks of HDF5 lie between
    source.fetched.clear()
    read_dataset(source, "x", slice(None, None, 1000))
    assert len(source.fetched) == 4  # every tenth chunk: fetching all would be waste
    assert source.n_bytes == 4 * 100 * 16 * 4


def test_large_datasets_are_fetched_in_requests_of_bounded_size(write):
    source = Remote(write(counting(3 * MB, dtype="<u8")))
    read_dataset(source, "x")
    assert len(source.fetched) == 8
    assert source.n_bytes == 24 * MB


@pytest.mark.parametrize(
    ("shape", "key", "most_bytes", "most_requests"),
    [
        ((4000, 16), slice(100, 200), 6400, 1),  # rows of a (time, column) array
        ((4000, 16), (slice(100, 200), 3), 6400, 1),  # one column of them: rows are so short that they are fetched
        ((3, 100_000), (slice(None), slice(50, 60)), 120, 3),  # a stretch of a (column, time) array
        ((5, 100_000), (slice(None, None, 2), slice(50, 60)), 120, 3),
        ((600_000,), slice(0, None, 200_000), 12, 3),  # samples far apart
        ((40, 100, 256), (slice(3, 5), slice(20, 40)), 2 * 20 * 1024, 2),  # a part of two planes
    ],
)
def test_of_contiguous_data_only_what_is_wanted(write, shape, key, most_bytes, most_requests):
    x = counting(*shape)
    source = Remote(write(x))
    np.testing.assert_array_equal(read_dataset(source, "x", key), x[key])
    assert source.n_bytes <= most_bytes
    assert len(source.fetched) <= most_requests


def test_nothing_is_fetched_of_what_was_never_written(write):
    source = Remote(write(shape=(100, 10), dtype="f4", chunks=(10, 10), fillvalue=2.5))
    np.testing.assert_array_equal(read_dataset(source, "x"), np.full((100, 10), 2.5))
    assert not source.fetched


def test_at_most_eight_requests_at_once_and_not_one_after_the_other(write):
    source = Remote(write(counting(32 * MB // 4), chunks=(MB // 4,)), delay=0.01)
    read_dataset(source, "x")
    assert 1 < source.most <= 8


def test_small_readings_start_no_thread(write, monkeypatch):
    monkeypatch.setattr(chunks, "_pool", None)
    x = counting(1000, 10)
    path = write(x, chunks=(10, 10), compression="gzip")
    np.testing.assert_array_equal(read_dataset(resolve(path), "x"), x)


def test_memory_holds_the_result_and_few_chunks(write):
    x = np.tile(counting(MB // 8, dtype="<u8"), 24)  # 24 MiB; 8 more would be a second copy
    source = resolve(write(x, chunks=(MB // 8,), compression="gzip", shuffle=True))
    dataset_map(source, "x")
    tracemalloc.start()
    try:
        got = read_dataset(source, "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(got, x)
    assert peak < x.nbytes + 8 * 3 * MB  # stored, inflated and put together in each of at most eight threads


# --- threads and processes -------------------------------------------------------------------------------------------


def test_many_threads_read_at_once_and_make_the_map_once(write):
    x = counting(MB)
    source = Remote(write(x, chunks=(MB // 16,), compression="gzip", compression_opts=1), delay=0.001)
    with ThreadPoolExecutor(12) as threads:
        parts = list(threads.map(lambda k: read_dataset(source, "x", slice(k * MB // 8, (k + 1) * MB // 8)), range(8)))
    np.testing.assert_array_equal(np.concatenate(parts), x)
    assert source.opened == 1


def test_reading_inside_of_the_reading_threads_does_not_wait_for_itself(write):
    x = counting(MB)
    source = Remote(write(x, chunks=(MB // 4,)))
    busy = [chunks._pool(os.getpid()).submit(read_dataset, source, "x") for _ in range(10)]
    for reading in busy:
        np.testing.assert_array_equal(reading.result(timeout=120), x)


def test_a_failure_stops_the_other_threads(write):
    source = Remote(write(counting(16 * MB), chunks=(MB // 4,)), delay=0.01)
    fetch, failed = source.fetch, []

    def failing(offset, size):
        failed.append(offset)
        if len(failed) == 3:
            raise ConnectionError("the network is gone")
        return fetch(offset, size)

    source.__dict__["fetch"] = failing
    with pytest.raises(ConnectionError, match="the network is gone"):
        read_dataset(source, "x")
    assert len(failed) <= 3 + 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_reads_with_threads_of_its_own(write):
    path = write(counting(4 * MB), chunks=(MB // 4,))
    code = (
        "import os, sys\n"
        "from nwb_lrrnn.io.files.chunks import slices as chunks\n"
        "from nwb_lrrnn.io.files.source import resolve\n"
        "os.cpu_count = lambda: 4\n"
        f"source = resolve({str(path)!r})\n"
        "total = chunks.read_dataset(source, 'x').sum()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if chunks.read_dataset(source, 'x').sum() == total else 1)\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "0\n"


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (slice(None, None, -1), ValueError, "key: got the step -1 along axis 0, wanted a positive one"),
        ((0, 0, 0), IndexError, "key: got 3 indices, wanted at most 2, one per axis"),
        ((0, 5), IndexError, "key: got 5 for axis 1, wanted an integer from -5 to 4"),
        ([1, 2], TypeError, "key: got list for axis 0, wanted a slice or an integer"),
        (True, TypeError, "key: got bool for axis 0, wanted a slice or an integer"),
    ],
)
def test_keys_that_are_no_slices(write, key, error, message):
    with pytest.raises(error, match=message):
        read_dataset(resolve(write(counting(10, 5))), "x", key)
