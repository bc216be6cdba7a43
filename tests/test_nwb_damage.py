"""Tables whose index, invalid times or trials are old, damaged or one and the same: said, and read where certain."""

import h5py
import numpy as np
import pytest

from nwb_lrrnn.compare.copies import copy_groups
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.trials import as_packed
from small_nwb import add_series, add_trials, add_units, new_nwb

SPIKES = [np.sort(np.random.default_rng(k).uniform(0, 100, 50)) for k in range(3)]
COUNTS = np.array([50, 50, 50])


def indexed(path, index):
    """Return a recording of three units of 50 spikes whose index is replaced; a function makes it from the column."""
    with new_nwb(path) as file:
        add_units(file, SPIKES)
        add_trials(file, [0.0, 50.0], [10.0, 60.0])
        units = file["units"]
        del units["spike_times_index"]
        if callable(index):
            index(units)
        else:
            units["spike_times_index"] = index
    return open_nwb(path)


def sums(recording):
    return recording.spikes(0.5, window=(0, 100)).sum("time").values.tolist()


@pytest.mark.parametrize("dtype", ["u1", "i8", "f8"])
def test_a_sound_index_says_nothing(tmp_path, dtype):
    recording = indexed(tmp_path / "a.nwb", np.array([50, 100, 150], dtype=dtype))
    assert sums(recording) == [50, 50, 50]
    assert recording.problems == []


def test_an_index_that_ends_early_says_how_many_spikes_are_lost(tmp_path):
    recording = indexed(tmp_path / "a.nwb", [50, 100, 140])
    said = "/units/spike_times: 10 of 150 spike times belong to no unit and are lost, as spike_times_index ends at 140"
    with pytest.warns(UserWarning, match=said):
        assert sums(recording) == [50, 50, 40]
    assert any(said in text for text in recording.problems)
    assert said in recording.to_datatree()["units"].attrs["reason"]


def test_an_index_of_starts_is_read_as_such_where_that_is_certain(tmp_path):
    recording = indexed(tmp_path / "a.nwb", [0, 50, 100])
    with pytest.warns(UserWarning, match="holds where each row begins, wanted where it ends"):
        assert sums(recording) == [50, 50, 50]
    assert recording.units["n_spikes"].tolist() == [50, 50, 50]
    assert any("holds where each row begins" in text for text in recording.problems)
    # a first unit without spikes, and a rest that is no train of its own
    recording = indexed(tmp_path / "b.nwb", [0, 50, 80])
    with pytest.warns(UserWarning, match="70 of 150 spike times belong to no unit"):
        assert sums(recording) == [0, 50, 30]
    recording = indexed(tmp_path / "c.nwb", [0, 0, 0])  # never written
    with pytest.warns(UserWarning, match="150 of 150 spike times belong to no unit"):
        recording.spikes(0.5, window=(0, 100))


def regions(bounds):
    def write(units):
        times = units["spike_times"]
        index = units.create_dataset("spike_times_index", (len(bounds),), dtype=h5py.regionref_dtype)
        for row, bound in enumerate(bounds):
            if bound is not None:
                index[row] = times.regionref[slice(*bound)]

    return write


def test_an_index_of_region_references_is_resolved(tmp_path):
    recording = indexed(tmp_path / "a.nwb", regions([(0, 50), (50, 100), (100, 150)]))
    assert sums(recording) == [50, 50, 50]
    assert recording.problems == []
    assert recording.to_datatree()["units"]["spike_index"].values.tolist() == [50, 100, 150]
    recording = indexed(tmp_path / "b.nwb", regions([None, (0, 50), (50, 100)]))  # a unit that refers to nothing
    with pytest.warns(UserWarning, match="50 of 150 spike times belong to no unit"):
        assert sums(recording) == [0, 50, 50]


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (regions([(0, 50), (100, 150), (50, 100)]), "the region of row 1 does not lie after that of the row before"),
        (regions([(0, 50, 2), (50, 100), (100, 150)]), "the region of row 0 does not lie after"),
        (np.array([50, 40, 150]), "got 3 ends up to 150 .* wanted ascending ends"),
        (np.array([50, 100, 900]), "got 3 ends up to 900"),
        (np.array([50, 150]), "got 2 ends up to 150 for 3 rows"),
        (np.array([50.0, np.nan, 150.0]), "wanted whole numbers, the end of each row"),
        (np.array(["a", "b", "c"], dtype=h5py.string_dtype()), "wanted whole numbers, the end of each row"),
        (np.array([[50], [100], [150]]), "wanted whole numbers, the end of each row"),
    ],
)
def test_an_index_that_means_nothing_is_a_problem_and_the_rest_is_read(tmp_path, index, said):
    recording = indexed(tmp_path / "a.nwb", index)
    with pytest.raises(ValueError, match=said):
        recording.spikes(0.5)
    assert [text for text in recording.problems if "spike_times_index" in text]
    assert "3 units" in repr(recording)
    assert recording.trials.sizes["trial"] == 2
    assert "spike_times" not in recording.to_datatree()["units"]


def session(path, **columns):
    """Return a recording of spikes and two series of 100 s with a table of invalid times."""
    with new_nwb(path) as file:
        add_units(file, SPIKES)
        series = [add_series(file, f"acquisition/{name}", np.ones((1000, 3)), rate=10.0) for name in ("lfp", "pos")]
        n = len(columns["start"])
        table = add_trials(
            file, columns["start"], columns["stop"], path="intervals/invalid_times", tags=np.full(n, "bad")
        )
        if "named" in columns:
            kind = np.dtype([("idx_start", "i4"), ("count", "i4"), ("timeseries", h5py.ref_dtype)])
            rows = [(0, 1, series[k].ref) for named in columns["named"] for k in named]
            table.create_dataset("timeseries", data=np.array(rows, dtype=kind))
            table["timeseries_index"] = np.cumsum([len(named) for named in columns["named"]])
    return open_nwb(path)


def observed(recording):
    arrays = [recording.series(name, bin_size=0.5) for name in ("lfp", "pos")]
    arrays.append(recording.spikes(0.5, window=(0.0, 100.0)))
    return [round(float(X.observed.mean()), 3) if "observed" in X.coords else 1.0 for X in arrays]


def test_invalid_times_hide_what_they_name_and_last_to_the_end(tmp_path):
    recording = session(tmp_path / "a.nwb", start=[20.0], stop=[40.0])
    assert observed(recording) == [0.8, 0.8, 0.8]
    assert recording.problems == []
    recording = session(tmp_path / "b.nwb", start=[20.0], stop=[np.nan])
    assert observed(recording) == [0.2, 0.2, 0.2]
    assert recording.problems == ["/intervals/invalid_times: 1 of 1 intervals have no stop_time; they last to the end"]
    own = recording.series("lfp")  # at its own rate
    assert own.observed.values.tolist() == [True] * 200 + [False] * 800
    recording = session(tmp_path / "c.nwb", start=[20.0, 50.0, 60.0], stop=[40.0, 60.0, 65.0], named=[[0], [], [0, 1]])
    assert observed(recording) == [0.65, 0.85, 0.9]
    recording = session(tmp_path / "d.nwb", start=[np.nan, 50.0, 70.0], stop=[40.0, 40.0, 80.0])
    assert observed(recording) == [0.9, 0.9, 0.9]
    assert "2 of 3 intervals have no start_time, or a stop_time before it; they hide nothing" in recording.problems[0]


@pytest.mark.filterwarnings("ignore:spike times of")
def test_trials_that_are_one_window_are_told_and_not_compared(tmp_path):
    rng = np.random.default_rng(0)
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [np.concatenate([np.sort(rng.uniform(-2, 2, 40)) for _ in range(12)]) for _ in range(3)])
        add_trials(file, np.zeros(12), np.zeros(12), go=np.full(12, 0.5))
    recording = open_nwb(tmp_path / "a.nwb")
    assert any("all 12 rows are one and the same window from 0 s on, copies of one" in p for p in recording.problems)
    with pytest.warns(UserWarning, match="all 12 trials are one and the same window"):
        X = recording.spikes(0.1, align="go", window=(-1, 1), on_bad_spikes="sort").load()
    assert bool((X == X[0]).all())
    trials = as_packed(X)
    (groups,) = copy_groups([trials], np.ones(3, dtype=bool))  # what a comparison is refused by
    assert (groups == groups[0]).all()


def test_trials_with_the_times_of_others_are_counted(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, SPIKES)
        add_trials(file, [0.0, 10.0, 10.0, 20.0], [5.0, 15.0, 15.0, 25.0])
    problems = open_nwb(tmp_path / "a.nwb").problems
    assert any("1 of 4 rows are copies of earlier ones, at the same times" in text for text in problems)
