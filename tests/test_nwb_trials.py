"""Recording.spikes, .trials and .events of odd tables of trials: several, none, damaged, overlapping, repeated ids."""

import logging

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_series, add_trials, add_units, new_nwb


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
    recording = open_nwb(tmp_path / "b.nwb")  # a table without rows is none
    with pytest.raises(ValueError, match=r"no table of trials .* with rows \(empty: /intervals/trials\)"):
        recording.spikes(0.5, align="start_time", window=(0, 1))
    with pytest.raises(ValueError, match="intervals: the table 'trials' has no rows; leave intervals= out"):
        recording.spikes(0.5, intervals="trials")
    assert list(recording.intervals) == []
    assert [content.reason for content in recording.contents if content.kind == "intervals"] == [
        "/intervals/trials: the table has no rows"
    ]
    assert recording.problems == ["/intervals/trials: the table has no rows"]
    with h5py.File(tmp_path / "b.nwb", "a") as file:
        add_trials(file, [1.0, 2.0], [2.0, 3.0], path="intervals/epochs")
    assert open_nwb(tmp_path / "b.nwb").trials["start_time"].values.tolist() == [1.0, 2.0]


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
    assert sum("ids repeat or" in text for text in recording.problems) == 2


def test_columns_whose_names_are_taken(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1]], side=["left"], time=[3.0])
        add_trials(file, [0.0], [0.5], side=["right"], unit=[1])
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5, intervals="trials")
    assert X.side.values.tolist() == ["right"]
    assert X.unit_side.values.tolist() == ["left"]
    assert X.unit_time.values.tolist() == [3.0]
    assert X.trial_unit.values.tolist() == [1]


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


def test_events_of_series_and_ambiguous_columns(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 2.0]])
        add_series(file, "processing/behavior/BehavioralEvents/lick", np.ones(2), timestamps=[0.6, 1.9])
        add_series(file, "acquisition/lights", np.array([1, -1, 1]), "IntervalSeries", timestamps=[0.1, 0.6, 1.6])
        add_trials(file, [0.0], [1.0], path="intervals/a", cue=[0.2])
        add_trials(file, [0.0], [1.0], path="intervals/b", cue=[0.7])
    recording = open_nwb(tmp_path / "a.nwb")
    X = recording.spikes(0.5, window=(0.0, 2.0))
    assert recording.events("lick", like=X).values[:, 0].tolist() == [0, 1, 0, 1]
    assert recording.events("lights", like=X).values[:, 0].tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match="'cue' is a column of 2 interval tables.*intervals='a'"):
        recording.events("cue", like=X)
    assert recording.events("cue", like=X, intervals="b").values[:, 0].tolist() == [0, 1, 0, 0]
