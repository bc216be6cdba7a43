"""Lazy arrays in other processes: they read the same there, and their names tell versions of a file apart."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import dask
import numpy as np
import pytest

import nwb_lrrnn as lr
from nwb_lrrnn.io.files import connection
from nwb_lrrnn.io.reading import lazy
from small_nwb import add_series, add_trials, add_units, new_nwb
from small_server import RangeServer


@pytest.fixture
def path(tmp_path, rng):
    path = tmp_path / "a.nwb"
    with new_nwb(path) as file:
        add_units(file, [np.sort(rng.uniform(0, 20, 200)) for _ in range(3)])
        add_trials(file, np.arange(0.0, 20, 2), np.arange(1.5, 21.5, 2))
        add_series(file, "acquisition/lfp", rng.normal(size=(1000, 3)), rate=50.0)
    return path


@pytest.fixture
def server(path):
    with RangeServer({"a.nwb": path}) as server:
        yield server
    connection.forget()


def arrays(uri):
    """Return lazy arrays of every kind."""
    recording = lr.open_nwb(uri)
    trials = {"align": "start_time", "window": (0.0, 1.0)}
    lfp = recording.series("lfp")
    binned = recording.series("lfp", bin_size=0.1, **trials)
    return [recording.spikes(0.1, **trials).data, lfp.data, binned.data, lfp.chunk(time=300).data]


def names_and_values(uri):
    """Return the names of lazy arrays and their values."""
    lazy = arrays(uri)
    return [array.name for array in lazy], [np.asarray(array) for array in lazy]


def test_another_process_gives_the_same_names_and_values(path, server):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for uri in (str(path), server.url("a.nwb")):
            names, values = names_and_values(uri)
            there, others = pool.submit(names_and_values, uri).result()
            assert names == there
            for one, other in zip(values, others, strict=True):
                np.testing.assert_array_equal(one, other)
        there = dask.compute(*arrays(path), *arrays(server.url("a.nwb")), scheduler="processes", pool=pool)
        for one, other in zip((*values, *values), there, strict=True):
            np.testing.assert_array_equal(one, other)


def test_names_change_with_the_file(path, server):
    local, streamed = names_and_values(path)[0], names_and_values(server.url("a.nwb"))[0]
    assert names_and_values(path)[0] == local
    assert names_and_values(server.url("a.nwb"))[0] == streamed
    assert not set(local) & set(streamed)
    os.utime(path, ns=(1, 1))
    server.replace("a.nwb", path)
    assert not set(names_and_values(path)[0]) & set(local)
    assert not set(names_and_values(server.url("a.nwb"))[0]) & set(streamed)


def test_empty_selections_are_empty(path):
    for array in arrays(path):
        assert array[:0].compute().shape[0] == 0
        assert array[:, :0].compute().shape[1] == 0


def test_a_long_bin_series_is_read_piece_by_piece(path, monkeypatch):
    whole = lr.open_nwb(path).series("lfp", bin_size=0.5)
    expected = whole.values
    sizes, read = [], lazy.SampledSeries.read

    def watched(self, first, stop):
        sizes.append(stop - first)
        return read(self, first, stop)

    monkeypatch.setattr(lazy.SampledSeries, "read", watched)
    monkeypatch.setattr(lazy, "_CHUNK_BYTES", 8 * 3 * 100)
    np.testing.assert_array_equal(whole.values, expected)
    assert len(sizes) > 3
    assert max(sizes) <= 100
