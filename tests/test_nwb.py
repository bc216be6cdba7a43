"""Recording.spikes, .trials, .intervals and .events of a well-made file: known answers, selections, laziness."""

import os
import pickle

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.reading.recording import Recording, open_nwb
from small_nwb import add_region, add_table, add_trials, add_units, new_nwb

SPIKES = [[0.05, 0.15, 0.16, 1.05, 1.95], [0.95, 1.25], []]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "session.nwb"
    with new_nwb(path) as file:
        electrodes = add_table(
            file,
            "general/extracellular_ephys/electrodes",
            "DynamicTable",
            [7, 8, 9],
            location=["V1", "V1", "M1"],
            x=[1.0, 2.0, 3.0],
            imp=[np.nan] * 3,
        )
        units = add_units(file, SPIKES, ids=[10, 11, 12], quality=["good", "mua", "good"], depth=[0.1, 0.2, 0.3])
        add_region(units, "electrodes", [2, 0, 1], electrodes)
        units["electrodes_index"] = np.array([1, 2, 3], dtype=np.uint8)
        add_trials(
            file,
            [0.0, 1.0],
            [0.5, 1.5],
            ids=[4, 5],
            go_cue=[0.1, 1.2],
            correct=[True, False],
            side=["left", "right"],
            tags=[np.array([1, 2]), np.array([3])],
        )
    return path


def test_whole_recording(path):
    X = open_nwb(path).spikes(bin_size=0.5)
    assert X.dims == ("time", "unit")
    assert X.dtype == np.int16
    assert X.values.T.tolist() == [[3, 0, 1], [0, 1, 1], [0, 0, 0]]  # the last bin, up to 1.95 s, is not whole
    assert X.time.values.tolist() == [0.3, 0.8, 1.3]  # from the first spike on, at 0.05 s
    assert X.unit.values.tolist() == [10, 11, 12]
    assert float(X.align_time) == 0.0
    assert str(X.unit_kind.values) == "unit"
    assert "observed" not in X.coords


def test_window_of_the_session(path):
    X = open_nwb(path).spikes(0.1, window=(1.0, 1.3))
    assert X.dims == ("time", "unit")
    assert X.values.T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(X.time, [1.05, 1.15, 1.25])


def test_aligned_trials(path):
    X = open_nwb(path).spikes(bin_size=0.05, align="go_cue", window=(-0.1, 0.1))
    assert X.dims == ("trial", "time", "unit")
    assert X.sel(trial=4, unit=10).values.tolist() == [0, 1, 0, 2]
    assert X.sel(trial=5, unit=11).values.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(X.time, [-0.075, -0.025, 0.025, 0.075])
    assert X.align_time.values.tolist() == [0.1, 1.2]
    assert X.side.values.tolist() == ["left", "right"]
    assert X.correct.values.tolist() == [True, False]
    assert "tags" not in X.coords
    assert X.quality.values.tolist() == ["good", "mua", "good"]
    assert X.location.values.tolist() == ["M1", "V1", "V1"]
    assert X.x.values.tolist() == [3.0, 1.0, 2.0]
    assert "imp" not in X.coords  # nothing but NaN
    assert X.attrs["bin_size"] == 0.05
    assert X.attrs["source"] == path.as_posix()
    assert X.attrs["units"] == "counts"


def test_unaligned_trials_run_from_start_to_stop(path):
    recording = open_nwb(path)
    X = recording.spikes(0.25, intervals="trials")
    assert X.shape == (2, 2, 3)
    assert X.time.values.tolist() == [0.125, 0.375]
    assert X.sel(unit=10).values.tolist() == [[3, 0], [1, 0]]
    assert X.align_time.values.tolist() == [0.0, 1.0]
    assert recording.spikes(0.25, trials=[5]).identical(X.isel(trial=[1]))
    window = recording.spikes(0.25, intervals="trials", window=(0.0, 0.25))
    assert window.sel(unit=10).values.tolist() == [[3], [1]]


def test_align_takes_session_times_by_trial_id(path):
    recording = open_nwb(path)
    times = recording.trials["start_time"] + 0.1
    X = recording.spikes(0.1, align=times[::-1], window=(0.0, 0.1))
    assert X.align_time.values.tolist() == [0.1, 1.1]
    with pytest.raises(TypeError, match="align: got list, wanted the name of a column, or a DataArray"):
        recording.spikes(0.1, align=[0.1, 0.2], window=(0.0, 0.1))


def test_selections(path):
    recording = open_nwb(path)
    kwargs = {"align": "go_cue", "window": (0.0, 0.2)}
    assert recording.spikes(0.1, units=[12, 10]).unit.values.tolist() == [12, 10]
    assert recording.spikes(0.1, units="quality == 'good' and depth < 0.2").unit.values.tolist() == [10]
    assert recording.spikes(0.1, units=np.array([False, True, False])).unit.values.tolist() == [11]
    assert recording.spikes(0.1, trials="correct", **kwargs).trial.values.tolist() == [4]
    assert recording.spikes(0.1, trials=recording.trials.side == "right", **kwargs).trial.values.tolist() == [5]
    assert recording.spikes(0.1, trials=5, **kwargs).trial.values.tolist() == [5]
    assert recording.spikes(0.5, min_rate=0.5).unit.values.tolist() == [10, 11]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"units": [10, 99]}, r"units: got unknown ids 99, wanted ids among 10, 11, 12"),
        ({"units": [10, 10]}, "units: got ids 10 more than once"),
        ({"units": [True, False]}, "units: got a boolean array of 2, wanted 3"),
        ({"units": "quality == 'bad'"}, r"units: the query .* leaves none of 3 units"),
        ({"units": "qualiti == 'good'"}, r"units: the query .* fails \(.*qualiti.*wanted .* depth, location, quality"),
        ({"units": [[10]]}, r"units: got shape \(1, 1\)"),
        ({"align": "go_cu", "window": (0, 1)}, "align: 'go_cu' is no column .*wanted one of .*did you mean 'go_cue'"),
        ({"align": "side", "window": (0, 1)}, "align: 'side' is no column of times"),
        ({"align": "go_cue", "window": (1, 0)}, r"window: got \(1, 0\), wanted .start, stop. in seconds"),
        ({"align": "go_cue", "window": (0, 0.01)}, "shorter than one bin"),
        ({"intervals": "trails"}, "intervals: got 'trails', wanted one of /intervals/trials; did you mean"),
        ({"trials": [6]}, "trials: got unknown ids 6, wanted ids among 4, 5"),
        ({"on_bad_spikes": "ignore"}, "on_bad_spikes: got 'ignore', wanted one of sort, raise"),
        ({"table": "unit"}, "table: got 'unit', wanted one of /units; did you mean '/units'"),
        ({"min_rate": 100.0}, "min_rate: no unit reaches 100.0 spikes/s"),
        ({"bin_size": 0.0}, "bin_size: got 0.0, wanted a positive number"),
        ({"bin_size": 50.0}, "shorter than one bin"),
    ],
)
def test_errors_name_argument_and_fix(path, arguments, text):
    with pytest.raises(ValueError, match=text):
        open_nwb(path).spikes(**{"bin_size": 0.1, **arguments})


def test_trials_dataset(path):
    trials = open_nwb(path).trials
    assert trials.trial.values.tolist() == [4, 5]
    assert trials["go_cue"].values.tolist() == [0.1, 1.2]
    assert trials["tags"].values.tolist() == [[1, 2], [3]]
    intervals = open_nwb(path).intervals
    assert list(intervals) == ["trials"]
    assert intervals["trials"].identical(trials)
    assert intervals["/intervals/trials"].identical(trials)
    assert "trials: 2 rows" in repr(intervals)
    with pytest.raises(KeyError, match="did you mean"):
        intervals["trial"]


def test_events(path):
    recording = open_nwb(path)
    X = recording.spikes(0.1, align="go_cue", window=(-0.1, 0.2))
    cue = recording.events("go_cue", like=X)
    assert cue.dims == ("trial", "time", "input")
    assert cue.input.values.tolist() == ["go_cue"]
    assert cue.values[..., 0].tolist() == [[0, 1, 0], [0, 1, 0]]
    whole = recording.events("go_cue", like=recording.spikes(0.5))
    assert whole.dims == ("time", "input")
    assert whole.values[:, 0].tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="name: got 'go_que', wanted a column .*did you mean 'go_cue'"):
        recording.events("go_que", like=X)
    with pytest.raises(ValueError, match="the column 'side' .* holds no times"):
        recording.events("side", like=X)
    with pytest.raises(TypeError, match="like: got ndarray, wanted a DataArray"):
        recording.events("go_cue", like=X.values)
    with pytest.raises(ValueError, match="like: X has no coordinate 'align_time'"):
        recording.events("go_cue", like=X.drop_vars("align_time"))


def test_lazy_pickles_and_names_follow_the_file(path):
    recording = open_nwb(path)
    X = recording.spikes(0.1, align="go_cue", window=(0.0, 0.2))
    assert X.chunks is not None
    again = pickle.loads(pickle.dumps(recording)).spikes(0.1, align="go_cue", window=(0.0, 0.2))
    assert isinstance(recording, Recording)
    assert again.data.name == X.data.name
    assert pickle.loads(pickle.dumps(X)).identical(X)
    assert recording.spikes(0.1, align="go_cue", window=(0.0, 0.1)).data.name != X.data.name
    os.utime(path, ns=(1, 1))
    changed = open_nwb(path).spikes(0.1, align="go_cue", window=(0.0, 0.2))
    assert changed.data.name != X.data.name
    assert changed.drop_attrs().equals(X.drop_attrs())


def test_no_handle_stays_open(path):
    with open_nwb(path) as recording:
        X = recording.spikes(0.5)
        X.compute()
        with h5py.File(path, "a") as file:  # would fail while another handle is open for reading
            file["scratch/note"] = "written while the recording lives"
        assert recording.spikes(0.5).equals(X)
    with pytest.raises(ValueError, match="this Recording of session.nwb is closed; open it again"):
        recording.spikes(0.5)
    assert X.sum() == 6  # what was given stays good


def test_chunking_changes_nothing(path, monkeypatch):
    recording = open_nwb(path)
    trials = recording.spikes(0.05, align="go_cue", window=(-0.1, 0.3)).compute()
    whole = recording.spikes(0.05).compute()
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy._BLOCK_BYTES", 20)
    small = recording.spikes(0.05, align="go_cue", window=(-0.1, 0.3))
    assert small.chunks[0] == (1, 1)
    assert small.compute().equals(trials)
    small = recording.spikes(0.05)
    assert len(small.chunks[0]) > 3
    assert small.compute().equals(whole)
    assert small[3:9, 1:].compute().equals(whole[3:9, 1:])
    assert small[[5, 2], 0].compute().equals(whole[[5, 2], 0])


def test_a_file_written_by_pynwb(tmp_path):
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    nwbfile = pynwb.NWBFile("a session", "id", datetime(2024, 1, 1, tzinfo=UTC))
    device = nwbfile.create_device("probe")
    group = nwbfile.create_electrode_group("shank", "d", "CA1", device)
    for k in range(3):
        nwbfile.add_electrode(group=group, location=f"area {k}", x=float(k), y=0.0, z=0.0)
    nwbfile.add_unit_column("quality", "q")
    for k in range(2):
        times = np.arange(1, 11) * 0.1 * (k + 1)
        nwbfile.add_unit(spike_times=times, quality="good", electrodes=[k + 1], obs_intervals=[[0.0, 2.0]])
    nwbfile.add_trial_column("cue", "c")
    for k in range(2):
        nwbfile.add_trial(start_time=float(k), stop_time=k + 1.0, cue=k + 0.5)
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(nwbfile)
    X = open_nwb(tmp_path / "a.nwb").spikes(0.25, align="cue", window=(-0.25, 0.25))
    assert X.values.tolist() == [[[2, 1], [3, 1]], [[0, 1], [0, 1]]]
    assert X.location.values.tolist() == ["area 1", "area 2"]
    assert X.group_name.values.tolist() == ["shank", "shank"]


@pytest.mark.parametrize("bin_size", [0, -1.0, "a", float("nan")])
@pytest.mark.parametrize("intervals", [None, "trials"])
def test_a_bin_size_that_is_none_is_refused_everywhere(path, bin_size, intervals):
    with pytest.raises(ValueError, match=r"bin_size: got .* wanted a positive number of seconds"):
        open_nwb(path).spikes(bin_size, intervals=intervals)
