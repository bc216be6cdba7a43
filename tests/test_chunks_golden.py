"""The chunk reader gives what h5py gives: any layout, filters, type and slice."""

import itertools

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nwb_lrrnn.io.files.chunks import pieces
from nwb_lrrnn.io.files.chunks import slices as chunks
from nwb_lrrnn.io.files.chunks.slices import dataset_map, read_dataset
from nwb_lrrnn.io.files.source import resolve

NUMBERS = ["<i2", ">i2", "u1", "<u8", ">u4", "<f2", ">f2", "<f4", ">f8", "?", "S5"]
_count = itertools.count()


@pytest.fixture(autouse=True, params=["small requests", "large requests"])
def requests(request, monkeypatch):
    """Let requests be as they are, or so small that every reading takes many of them in many threads."""
    if request.param == "small requests":
        monkeypatch.setattr(pieces, "_LEAST_REQUEST", 40)
        monkeypatch.setattr(pieces, "_MOST_REQUEST", 40)
        monkeypatch.setattr(pieces, "_GAP_BYTES", 16)
        monkeypatch.setattr(chunks, "_WORTH_A_THREAD", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("golden")


@st.composite
def layouts(draw):
    """Return how a dataset is made: shape, type, storage and filters, and which part of it is written."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    if draw(st.integers(0, 9)) == 0:
        shape = (0, *shape[1:])
    made = {"shape": shape, "dtype": draw(st.sampled_from(NUMBERS))}
    if draw(st.booleans()):
        made["fillvalue"] = b"no" if made["dtype"] == "S5" else 1
    if draw(st.integers(0, 3)):
        made["chunks"] = tuple(draw(st.integers(1, max(1, size))) for size in shape)
        made["maxshape"] = tuple(draw(st.sampled_from([size or None, size + 3, None])) for size in shape)
        made["compression"] = draw(st.sampled_from([None, 0, 1, 9]))
        made["shuffle"] = draw(st.booleans())
        made["fletcher32"] = draw(st.booleans())
        made["before"] = tuple(draw(st.integers(0, 3)) for _ in shape)
    written = tuple(slice(draw(st.integers(0, 2)), draw(st.sampled_from([None, size // 2 + 1]))) for size in shape)
    return made, None if draw(st.integers(0, 5)) == 0 else written


@st.composite
def keys(draw, shape):
    """Return an index of slices and integers of an array of this shape."""
    key = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        if size and draw(st.integers(0, 4)) == 0:
            key.append(draw(st.integers(-size, size - 1)))
        else:
            ends = st.none() | st.integers(-size - 1, size + 1)
            key.append(slice(draw(ends), draw(ends), draw(st.none() | st.integers(1, size + 1))))
    return tuple(key)


def write(path, layout, libver, early):
    """Write one dataset of random values that have more than one byte, and return h5py's own reading."""
    made, written = dict(layout[0]), layout[1]
    shape, before = made["shape"], made.pop("before", None)
    if before is not None:  # once of another size: what was written beyond the edge is gone
        made["shape"] = tuple(
            n + k if m is None else n for n, k, m in zip(shape, before, made["maxshape"], strict=True)
        )
    rng = np.random.default_rng(0)
    with h5py.File(path, "w", libver=libver) as file:
        given_up = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        given_up.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY if early else h5py.h5d.ALLOC_TIME_DEFAULT)
        dataset = file.create_dataset("x", **made, dcpl=given_up) if early else file.create_dataset("x", **made)
        if written is not None:
            written_shape = np.empty(made["shape"])[written].shape
            values = rng.integers(0, 2 if made["dtype"] == "?" else 120, written_shape)
            dataset[written] = (values * (257 if "8" in made["dtype"] else 1)).astype(made["dtype"])
        if before is not None:
            dataset.resize(shape)
    with h5py.File(path) as file:
        return file["x"][()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_slice_of_any_dataset(folder, data):
    layout = data.draw(layouts())
    libver = data.draw(st.sampled_from(["earliest", "latest"]))
    path = folder / f"{next(_count)}.h5"
    early = data.draw(st.booleans())
    expected = write(path, layout, libver, early)
    source = resolve(path)
    assert dataset_map(source, "x") is not None or "chunks" in layout[0]  # some chunks are left to HDF5
    for _ in range(2):
        key = data.draw(keys(layout[0]["shape"]))
        wanted, got = expected[key], read_dataset(source, "x", key)
        assert got.dtype == wanted.dtype
        assert np.shape(got) == np.shape(wanted)
        np.testing.assert_array_equal(got, wanted)
    path.unlink()
