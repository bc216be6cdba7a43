"""Spike times of a table, kept or read in batches: the same counts, and no more read than is asked for."""

import numpy as np
import pytest

import nwb_lrrnn as lr
from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.reading import spike_table
from small_nwb import add_trials, add_units, new_nwb

SECONDS = 40.0


@pytest.fixture
def path(tmp_path, rng):
    """Return a file of seven units: one silent, one out of order with a NaN, one that fires fast for a while."""
    spikes = [np.sort(rng.uniform(0, SECONDS, n)) for n in (400, 30, 0, 250, 600, 90, 120)]
    spikes[3] = np.append(spikes[3][::-1], np.nan)
    spikes[4][:300] = np.linspace(5.0, 5.5, 300)
    spikes[4].sort()
    spikes[6][5] = spikes[6][6]
    path = tmp_path / "spikes.nwb"
    with new_nwb(path) as file:
        add_units(file, spikes, ids=np.arange(7) * 10, quality=np.array(list("ggbgbgg")))
        add_trials(file, np.arange(0.0, 36.0, 4.0), np.arange(4.0, 40.0, 4.0))
    return path


@pytest.fixture
def reads(monkeypatch):
    """Let nothing be kept and a batch hold 500 spikes; return what is read of the flat column, (first, stop)."""
    found, flat = [], spike_table._flat

    def noting(table, first, stop):
        found.append((first, stop))
        return flat(table, first, stop)

    monkeypatch.setattr(spike_table, "_flat", noting)
    _forget()
    yield found
    _forget()


def _forget():
    for cached in (spike_table._kept, spike_table._summary, spike_table._ends):
        cached.cache_clear()


def _little_memory(monkeypatch):
    monkeypatch.setattr(spike_table, "_KEPT_BYTES", 1000)
    monkeypatch.setattr(spike_table, "_BATCH_BYTES", 500 * 8)
    _forget()


REQUESTS = [
    {"bin_size": 0.05},
    {"bin_size": 1.0},  # more than 300 spikes in a bin
    {"bin_size": 0.02, "align": "start_time", "window": (-0.5, 1.0)},
    {"bin_size": 0.1, "trials": [1, 4, 5], "units": [60, 0, 40]},
    {"bin_size": 0.1, "units": "quality == 'b'"},
    {"bin_size": 0.1, "min_rate": 2.0},
    {"bin_size": 50.0, "time_scale": 1000.0},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
@pytest.mark.filterwarnings("ignore:spike times of 1 of")
def test_counts_are_the_same_read_in_batches(path, request_, monkeypatch, reads):
    kept = lr.open_nwb(path).spikes(**request_)
    expected = kept.compute()
    _little_memory(monkeypatch)
    got = lr.open_nwb(path).spikes(**request_)
    assert set(got.data.numblocks[:-1]) == {1}
    assert got.dtype == expected.dtype
    assert got.compute().identical(expected)
    some = {"unit": slice(1, None), **({"trial": [0, 2]} if "trial" in got.dims else {"time": slice(1, 3)})}
    np.testing.assert_array_equal(got.isel(some).values, expected.isel(some).values)


def test_problems_are_the_same_read_in_batches(path, monkeypatch, reads):
    expected = lr.open_nwb(path).problems
    assert "/units: unit 30: 1 of 251 times NaN or infinite (dropped), not in ascending order from index 1 on " in (
        expected[0] + " "
    ).replace("(sorted)", "")
    assert any("have no spikes: 20" in text for text in expected)
    assert any("same time twice: 60" in text for text in expected)
    _little_memory(monkeypatch)
    assert lr.open_nwb(path).problems == expected


@pytest.mark.filterwarnings("ignore:spike times of 1 of")
def test_small_tables_are_read_once_and_large_ones_once_a_pass(path, monkeypatch, reads):
    X = lr.open_nwb(path).spikes(0.05)
    X.compute(), X.compute()
    assert reads == [(0, 1491)]
    _little_memory(monkeypatch)
    reads.clear()
    X = lr.open_nwb(path).spikes(0.1)
    batches = [(0, 430), (430, 681), (681, 1281), (1281, 1491)]  # of at most 500 spikes, or of one unit
    assert reads == batches
    lr.open_nwb(path).spikes(0.2, align="start_time", window=(0, 1))
    assert reads == batches  # what was learned is kept
    assert X.chunks[-1] == (3, 1, 1, 2)
    reads.clear()
    X.compute(scheduler="synchronous")
    assert sorted(reads) == batches
    reads.clear()
    X.sel(unit=[10, 50]).compute(scheduler="synchronous")
    assert sorted(reads) == [(0, 430), (1281, 1491)]


@pytest.mark.filterwarnings("ignore:spike times of 1 of")
def test_blocks_of_units_are_small_in_counts_too(path, monkeypatch, reads):
    _little_memory(monkeypatch)
    X = lr.open_nwb(path).spikes(0.04)  # 1000 bins of two bytes: two units make 4000 bytes
    assert X.chunks[-1] == (2, 2, 1, 2)


def test_a_file_written_anew_is_noticed(path, monkeypatch, reads):
    _little_memory(monkeypatch)
    recording = lr.open_nwb(path)
    with new_nwb(path) as file:
        add_units(file, [np.arange(300.0), np.arange(5.0)], quality=np.array(["g", "b"]))
    with pytest.raises(ChangedFileError, match="open"):
        recording.spikes(0.05)
