"""SampledSeries: which samples and columns are read of a file, and what they become."""

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.reading.lazy import SampledSeries
from remote_stand_in import Remote


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def series(path, data, *, source=resolve, transposed=False, **described):
    """Write samples (time, column) and return their description."""
    stored = data.T if transposed else data
    chunks = described.pop("chunks", None)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=stored, chunks=chunks)
    made = {"dtype": np.dtype("f4"), "transposed": transposed, **described}
    return SampledSeries(source(path), "data", stored.shape, chunks, **made)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("columns", [None, [4, 1, 2], [3]])
@pytest.mark.parametrize("gain", [1.0, 0.5, np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])])
def test_any_key_of_any_columns(path, transposed, columns, gain):
    data = np.arange(120, dtype="i2").reshape(20, 6)
    wanted = None if columns is None else np.array(columns)
    described = series(path, data, transposed=transposed, columns=wanted, gain=gain, offset=-3.0)
    expected = (data * gain - 3.0)[:, slice(None) if columns is None else columns].astype("f4")
    assert described.shape == expected.shape
    for key in [
        (),
        slice(2, 19, 3),
        slice(None, None, -1),
        (slice(15, 3, -4), 0),
        (3, slice(None, None, -1)),
        (-1, -1),
    ]:
        got = described[key]
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected[key])
    np.testing.assert_array_equal(described.read(17, 30), expected[17:])


@pytest.mark.parametrize("transposed", [False, True])
def test_only_chunks_of_wanted_columns_are_fetched(path, transposed):
    data = np.zeros((1000, 96), dtype="i2")
    chunks = (16, 100) if transposed else (100, 16)
    columns = np.arange(16, 32)
    described = series(path, data, source=Remote, transposed=transposed, chunks=chunks, columns=columns)
    described.read(100, 300)
    assert described.source.n_bytes == 200 * 16 * 2
    described.source.fetched.clear()
    described[:, 3]
    assert described.source.n_bytes == 1000 * 16 * 2


def test_one_column_stored_without_its_axis(path):
    described = series(path, np.arange(10.0))
    assert described[4:6].tolist() == [[4.0], [5.0]]


def test_nothing_asked_for_is_nothing_read(path):
    described = series(path, np.ones((10, 3)), source=Remote, columns=np.zeros(0, dtype=int))
    assert described.read(0, 10).shape == (10, 0)
    assert described[5:5].shape == (0, 0)
    assert not described.source.fetched


def test_a_series_of_another_shape(path):
    described = series(path, np.ones((10, 3)))
    series(path, np.ones((10, 4)))
    with pytest.raises(ChangedFileError, match=r"data has another shape .* \(\(10, 4\), not \(10, 3\)\)"):
        described.read(0, 2)


@pytest.mark.parametrize(
    ("shape", "chunks", "transposed", "columns", "wanted"),
    [
        ((9_000_000, 384), (78125, 64), False, None, (78125, 384)),
        ((9_000_000, 384), None, False, None, (43690, 384)),
        ((9_000_000, 384), (9_000_000, 1), False, None, (9_000_000, 1)),
        ((384, 9_000_000), (1, 9_000_000), True, None, (9_000_000, 1)),
        ((384, 9_000_000), (64, 16384), True, None, (32768, 384)),
        ((384, 9_000_000), None, True, None, (9_000_000, 1)),
        ((3, 90_000_000), None, True, None, (2**24, 1)),
        ((1000, 1_000_000), (100, 1000), False, None, (100, 167_000)),
        ((9_000_000, 384), (78125, 64), False, np.array([3]), (234375, 1)),
        ((9_000_000, 384), (78125, 64), False, np.array([], dtype=int), (78125, 0)),
        ((900_000_000,), (1024,), False, None, (2**24, 1)),
        ((0, 384), (100, 64), False, None, (0, 384)),
        ((10, 0), None, False, None, (10, 0)),
    ],
)
def test_blocks_of_dask_are_multiples_of_the_chunks_of_the_file_and_not_too_large(
    path, shape, chunks, transposed, columns, wanted
):
    path.write_bytes(b"x")
    described = SampledSeries(resolve(path), "data", shape, chunks, np.dtype("f4"), 1.0, 0.0, columns, transposed)
    blocks = described.dask()
    assert blocks.shape == described.shape
    assert (blocks.chunks[0][0], blocks.chunks[1][0]) == wanted


@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_of_a_few_columns_hold_what_the_file_holds(path, transposed, monkeypatch):
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy._CHUNK_BYTES", 2 * 50 * 4)
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy._MOST_CHUNK_BYTES", 4 * 50 * 4)
    data = np.arange(300, dtype="i2").reshape(50, 6)
    described = series(path, data, transposed=transposed, chunks=(1, 50) if transposed else (50, 1))
    blocks = described.dask()
    assert blocks.chunks == ((50,), (2, 2, 2))
    np.testing.assert_array_equal(blocks.compute(scheduler="synchronous"), data)


@pytest.mark.parametrize(
    ("key", "n_blocks"),
    [((slice(None), 3), 10), ((slice(100, 300), slice(16, 32)), 2), ((slice(120, 130), slice(0, 2)), 1)],
)
def test_of_a_block_of_dask_only_what_is_taken_is_fetched(path, key, n_blocks):
    data = np.arange(96_000, dtype="i4").reshape(1000, 96)
    described = series(path, data, source=Remote, chunks=(100, 16), dtype=np.dtype("f8"))
    described.source.fetched.clear()
    got = described.dask()[key].compute(scheduler="synchronous")
    np.testing.assert_array_equal(got, data[key])
    assert described.source.n_bytes == n_blocks * 100 * 16 * 4


def test_lists_along_both_dims_take_every_combination(path):
    data = np.arange(120, dtype="i2").reshape(20, 6)
    described = series(path, data)
    samples, columns = [7, 2, 2, -1], np.array([False, True, False, False, True, False])
    np.testing.assert_array_equal(described[samples, columns], data[samples][:, columns])
    assert described[[], [1]].shape == (0, 1)
    assert described[3, [4, 1]].tolist() == data[3, [4, 1]].tolist()
