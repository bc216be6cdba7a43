"""Recording.spikes, .trials, .intervals and .events: known answers on small files, and every odd file's behaviour."""

import logging
import os
import pickle

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.nwb import Recording, open_nwb
from small_nwb import add_region, add_series, add_table, add_trials, add_units, new_nwb

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
    assert X.dtype == np.uint8
    assert X.values.T.tolist() == [[3, 0, 1], [0, 1, 1], [0, 0, 0]]  # the last bin, up to 1.95 s, is not whole
    assert X.time.values.tolist() == [0.25, 0.75, 1.25]
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


def test_trials_of_unequal_length_are_padded_with_unobserved_zeros(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 0.9, 1.1, 1.4]])
        add_trials(file, [0.0, 1.0], [1.0, 1.35], cue=[0.5, 1.1])
    recording = open_nwb(tmp_path / "a.nwb")
    X = recording.spikes(0.25, intervals="trials")
    assert X.observed.dims == ("trial", "time")
    assert X.observed.values.tolist() == [[True] * 4, [True, False, False, False]]  # 1.25 to 1.35 is not a whole bin
    assert X.values[..., 0].tolist() == [[1, 0, 0, 1], [1, 0, 0, 0]]
    Y = recording.spikes(0.25, align="cue")  # from start to stop, with the cue at 0
    np.testing.assert_allclose(Y.time, [-0.375, -0.125, 0.125, 0.375])
    assert Y.observed.values.tolist() == [[True] * 4, [False, False, True, False]]
    assert Y.values[..., 0].tolist() == [[1, 0, 0, 1], [0, 0, 1, 0]]


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
        ({"units": "qualiti == 'good'"}, r"units: the query .* fails \(.*qualiti.*wanted .* quality, depth"),
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


def test_interval_table_is_asked_for_when_ambiguous(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 3.0]])
        add_trials(file, [0.0], [1.0], path="intervals/left")
        add_trials(file, [2.0], [4.0], path="intervals/right")
        add_trials(file, [2.0], [4.0], path="intervals/invalid_times")
    recording = open_nwb(tmp_path / "a.nwb")
    with pytest.raises(ValueError, match=r"2 interval tables: /intervals/left, /intervals/right.*intervals='left'"):
        recording.spikes(0.5, align="start_time", window=(0, 1))
    assert recording.spikes(0.5, intervals="left").shape == (1, 2, 1)
    with pytest.raises(ValueError, match="no bin of it was observed"):
        recording.spikes(0.5, intervals="right")
    assert list(recording.intervals) == ["left", "right"]


def test_no_trials(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 3.0]])
    recording = open_nwb(tmp_path / "a.nwb")
    with pytest.raises(ValueError, match="holds no table of trials .* leave align=, intervals= and trials= out"):
        recording.spikes(0.5, align="go_cue", window=(0, 1))
    with pytest.raises(ValueError, match="the file holds no table of trials"):
        _ = recording.trials
    with new_nwb(tmp_path / "b.nwb") as file:
        add_units(file, [[0.1, 3.0]])
        add_trials(file, [], [])
    with pytest.raises(ValueError, match="no trial is left, the table has no rows"):
        open_nwb(tmp_path / "b.nwb").spikes(0.5, align="start_time", window=(0, 1))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda file: None, "the file holds no units table"),
        (lambda file: add_units(file, []), "/units: the units table has no rows"),
        (
            lambda file: add_table(file, "units", "Units", [0], depth=[1.0]),
            r"/units: the units have no spikes \(no column spike_times\); available columns: depth",
        ),
        (
            lambda file: (add_units(file, [[1.0]], "processing/a/good"), add_units(file, [[1.0]], "processing/a/mua")),
            "table: the file holds several units tables: /processing/a/good, /processing/a/mua; say which",
        ),
    ],
)
def test_no_spikes(tmp_path, build, text):
    with new_nwb(tmp_path / "a.nwb") as file:
        build(file)
    with pytest.raises(ValueError, match=text):
        open_nwb(tmp_path / "a.nwb").spikes(0.1)


def test_units_without_any_spike(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[], []])
        add_trials(file, [0.0], [1.0])
    recording = open_nwb(tmp_path / "a.nwb")
    with pytest.raises(ValueError, match="too short for one bin"):
        recording.spikes(0.1)
    assert recording.spikes(0.5, intervals="trials").values.tolist() == [[[0, 0], [0, 0]]]
    assert any("2 of 2 units have no spikes: 0, 1" in text for text in recording.problems)


def test_bad_spike_times_are_repaired_with_a_warning_or_refused(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 0.6], [0.7, 0.2], [0.3, np.nan, 0.8], [-0.4, 0.3, 0.3, 1.2]], ids=[1, 2, 3, 4])
    recording = open_nwb(tmp_path / "a.nwb")
    with pytest.warns(UserWarning, match=r"2 of 4 units were repaired: unit 2: not in asc.*unit 3: 1 of 3") as said:
        X = recording.spikes(0.5, window=(-0.5, 1.5))
    assert said[0].filename == __file__
    assert X.values.T.tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [1, 2, 0, 1]]
    with pytest.raises(ValueError, match="spike times of 2 units are bad: unit 2.*on_bad_spikes='sort'"):
        recording.spikes(0.5, on_bad_spikes="raise")
    assert recording.spikes(0.5, units=[1, 4], on_bad_spikes="raise").time[0] == pytest.approx(-0.15)
    problems = " | ".join(recording.problems)
    for text in ("unit 2: not in ascending", "unit 3: 1 of 3", "spikes before time 0: 4", "at the same time twice: 4"):
        assert text in problems


def test_spike_times_in_ms_are_suspected(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [np.arange(50) * 200.0, np.arange(50) * 100.0])  # 5 and 10 spikes/s, if these are ms
        add_trials(file, [0.0, 5.0], [5.0, 10.0])
    recording = open_nwb(tmp_path / "a.nwb")
    with pytest.warns(UserWarning, match="may be in ms; if so, pass time_scale=0.001"):
        recording.spikes(0.1, intervals="trials")
    X = recording.spikes(1.0, intervals="trials", time_scale=0.001)
    assert X.values[..., 0].tolist() == [[5] * 5, [5] * 5]
    assert any("may be in ms" in text for text in recording.problems)


def test_session_clock_that_does_not_start_at_zero(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[1e6, 1e6 + 0.5, 1e6 + 3.0]])
    X = open_nwb(tmp_path / "a.nwb").spikes(1.0)
    assert X.time.values.tolist() == [1e6 + 0.5, 1e6 + 1.5, 1e6 + 2.5]
    assert X.values[:, 0].tolist() == [2, 0, 0]


def test_observation_intervals_of_all_units_alike(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        one = np.array([[0.5, 1.5], [2.0, 3.0]])
        add_units(file, [[0.6, 2.4], [1.2]], obs_intervals=[one, one])
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5)
    assert X.time.values.tolist() == [0.75, 1.25, 1.75, 2.25, 2.75]
    assert X.observed.dims == ("time",)
    assert X.observed.values.tolist() == [True, True, False, True, True]
    assert X.dtype == np.uint8


def test_observation_intervals_that_differ_between_units(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        nothing = np.zeros((0, 2))
        intervals = [np.array([[0.0, 2.0]]), np.array([[0.0, 1.0]]), nothing]
        add_units(file, [[0.6], [0.2], [1.2]], obs_intervals=intervals)
        add_trials(file, [0.0, 1.0, 5.0], [1.0, 2.0, 6.0])
    X = open_nwb(tmp_path / "a.nwb").spikes(1.0, trials=[0, 1])
    assert X.observed.dims == ("trial", "time", "unit")
    assert X.observed.values[:, 0].tolist() == [[True, True, True], [True, False, True]]
    assert "observed" not in open_nwb(tmp_path / "a.nwb").spikes(1.0, trials=[0]).coords


def test_invalid_times_are_unobserved(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 2.0]])
        add_trials(file, [0.6], [0.9], path="intervals/invalid_times")
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5)
    assert X.observed.values.tolist() == [True, False, True, True]


def test_trials_that_are_dropped_say_why(tmp_path, caplog):
    nan = np.nan
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [np.arange(100) / 10])
        start = [0.0, nan, 2.0, 3.0, 5.0, 4.0, 6.0]
        stop = [1.0, 2.0, nan, 2.5, 5.0, 5.5, 7.0]
        add_trials(file, start, stop, ids=[9, 8, 7, 6, 5, 4, 3], cue=[0.5, 1.5, 2.5, 3.5, 5.0, nan, 6.5])
    recording = open_nwb(tmp_path / "a.nwb")
    assert recording.trials.trial.values.tolist() == [9, 4, 3]
    dropped = recording.dropped_trials
    assert dict(zip(dropped.trial, dropped.reason, strict=True)) == {
        8: "start_time is NaN",
        7: "stop_time is NaN",
        6: "stop_time lies before start_time",
        5: "stop_time equals start_time",
    }
    assert set(dropped.intervals) == {"trials"}
    with caplog.at_level(logging.WARNING):
        X = recording.spikes(0.1, align="cue", window=(0.0, 0.2))
    assert X.trial.values.tolist() == [9, 3]
    assert "4: cue is NaN" in X.attrs["dropped_trials"]
    assert "dropped 5 of 7 trials" in caplog.text
    with pytest.raises(ValueError, match=r"trials: got unknown ids 6.*dropped from the table: 6 .stop_time lies"):
        recording.spikes(0.1, trials=[6])
    assert any("4 of 7 rows make no trial" in text for text in recording.problems)


def test_overlapping_and_unsorted_trials_stay_and_are_told(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.5, 1.2, 3.0]])
        add_trials(file, [2.0, 0.0, 1.0], [4.0, 1.5, 2.0])
    recording = open_nwb(tmp_path / "a.nwb")
    X = recording.spikes(0.5, align="start_time", window=(0.0, 1.5))
    assert X.values[..., 0].tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 0]]
    problems = " | ".join(recording.problems)
    assert "not in order of start_time" in problems
    assert "1 of 3 rows overlap an earlier one" in problems


def test_a_table_of_instants_can_be_aligned_to(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.5, 1.2, 3.0]])
        add_trials(file, [0.4, 1.0], [np.nan, np.nan], path="intervals/flashes")
    recording = open_nwb(tmp_path / "a.nwb")
    assert recording.spikes(0.2, align="start_time", window=(0.0, 0.4)).shape == (2, 2, 1)
    with pytest.raises(ValueError, match="the table holds instants without stop_time, so pass window="):
        recording.spikes(0.2, intervals="flashes")


def test_event_columns_relative_to_trial_start_are_suspected(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [np.arange(100) / 10])
        add_trials(file, [1.0, 3.0], [2.0, 4.0], cue=[0.2, 0.3])
    recording = open_nwb(tmp_path / "a.nwb")
    with pytest.warns(UserWarning, match=r"align='cue' lies before start_time in 2 of 2 trials.*trials\['cue'\]"):
        recording.spikes(0.1, align="cue", window=(0, 0.2))
    fixed = recording.trials["start_time"] + recording.trials["cue"]
    assert recording.spikes(0.1, align=fixed, window=(0, 0.2)).align_time.values.tolist() == [1.2, 3.3]


def test_repeated_ids_go_by_row(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1], [0.2], [0.3, 1.0]], ids=[5, 5, 6])
        add_trials(file, [0.0, 0.5], [0.5, 1.0], ids=[1, 1])
    recording = open_nwb(tmp_path / "a.nwb")
    X = recording.spikes(0.5, intervals="trials")
    assert X.unit.values.tolist() == [0, 1, 2]
    assert X.trial.values.tolist() == [0, 1]
    assert X.unit_id.values.tolist() == [5, 5, 6]
    assert X.id.values.tolist() == [1, 1]
    assert sum("ids repeat" in text for text in recording.problems) == 2


def test_columns_whose_names_are_taken(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1]], side=["left"], time=[3.0])
        add_trials(file, [0.0], [0.5], side=["right"], unit=[1])
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5, intervals="trials")
    assert X.side.values.tolist() == ["right"]
    assert X.unit_side.values.tolist() == ["left"]
    assert X.unit_time.values.tolist() == [3.0]
    assert X.trial_unit.values.tolist() == [1]


def test_odd_columns(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        group = file.create_group("general/extracellular_ephys/shank1")
        units = add_units(file, [[0.1, 1.0], [0.3]], half=np.array([1.5, 2.5], np.float16), big=np.array([1, 2], ">i4"))
        references = np.empty(2, dtype=h5py.ref_dtype)
        references[0] = group.ref
        units.create_dataset("electrode_group", data=references, dtype=h5py.ref_dtype)
        units["waveform_mean"] = np.zeros((2, 40))
        units["position"] = np.arange(4.0).reshape(2, 2)
        units["kind"] = np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")])
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5)
    assert X.half.dtype == np.float32
    assert X.big.dtype == np.dtype("i4")
    assert X.electrode_group.values.tolist() == ["shank1", ""]
    assert X.position_1.values.tolist() == [1.0, 3.0]
    assert not {"waveform_mean", "kind", "spike_times"} & set(X.coords)


@pytest.mark.parametrize(("rows", "ends"), [([0, 1], [1, 1]), ([0, 1], [1, 5]), ([0], None), ([0, 9], None)])
def test_electrodes_that_do_not_fit_the_units_are_left_out(tmp_path, rows, ends):
    with new_nwb(tmp_path / "a.nwb") as file:
        table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [0, 1], location=["a", "b"])
        units = add_units(file, [[0.1, 1.0], [0.3]])
        add_region(units, "electrodes", rows, table)
        if ends is not None:
            units["electrodes_index"] = np.array(ends, dtype=np.uint8)
    assert "location" not in open_nwb(tmp_path / "a.nwb").spikes(0.5).coords


def test_electrodes_without_index(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [0, 1], location=["a", "b"])
        add_region(add_units(file, [[0.1, 1.0], [0.3]], location=["own", "own"]), "electrodes", [1, 0], table)
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5)
    assert X.location.values.tolist() == ["own", "own"]  # the unit's own column wins


def test_tables_that_changed(tmp_path):
    path = tmp_path / "a.nwb"
    with new_nwb(path) as file:
        add_units(file, [[0.1, 1.0], [0.3]])
        add_trials(file, [0.0], [1.0])
    recording = open_nwb(path)
    with h5py.File(path, "a") as file:
        del file["intervals/trials"]
    with pytest.raises(ValueError, match="/intervals/trials is gone since the file was opened; open it again"):
        _ = recording.trials
    with h5py.File(path, "a") as file:
        add_trials(file, [0.0, 1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="/intervals/trials has 2 rows, 1 when the file was opened"):
        _ = recording.trials


def test_damaged_index(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 1.0], [0.3]])
        file["units/spike_times_index"][:] = [5, 3]
    with pytest.raises(ValueError, match="wanted ascending ends, one per row; the table is damaged"):
        open_nwb(tmp_path / "a.nwb").spikes(0.5)
    with new_nwb(tmp_path / "b.nwb") as file:
        add_units(file, [[0.1, 1.0], [0.3]])
        del file["units/spike_times_index"]
    recording = open_nwb(tmp_path / "b.nwb")
    with pytest.raises(ValueError, match="the column has no spike_times_index"):
        recording.spikes(0.5)
    assert any("no spike_times_index" in text for text in recording.problems)


def test_counts_above_255(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [np.arange(300) * 1e-3, [0.5]])
    X = open_nwb(tmp_path / "a.nwb").spikes(0.25)
    assert X.dtype == np.uint8
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5)
    assert X.dtype == np.uint16
    assert X.values.tolist() == [[300, 0]]


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


def test_events_of_series_and_ambiguous_columns(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 2.0]])
        add_series(file, "processing/behavior/BehavioralEvents/lick", np.ones(2), timestamps=[0.6, 1.9])
        add_series(file, "acquisition/lights", np.array([1, -1, 1]), "IntervalSeries", timestamps=[0.1, 0.6, 1.6])
        add_trials(file, [0.0], [1.0], path="intervals/a", cue=[0.2])
        add_trials(file, [0.0], [1.0], path="intervals/b", cue=[0.7])
    recording = open_nwb(tmp_path / "a.nwb")
    X = recording.spikes(0.5)
    assert recording.events("lick", like=X).values[:, 0].tolist() == [0, 1, 0, 1]
    assert recording.events("lights", like=X).values[:, 0].tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match="'cue' is a column of 2 interval tables.*intervals='a'"):
        recording.events("cue", like=X)
    assert recording.events("cue", like=X, intervals="b").values[:, 0].tolist() == [0, 1, 0, 0]


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
    monkeypatch.setattr("nwb_lrrnn.io.lazy._BLOCK_BYTES", 20)
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
