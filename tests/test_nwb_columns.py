"""Columns of tables as the file means them: 0 and 1, names of ids, codes with labels, lists, electrodes, rates."""

import h5py
import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_region, add_table, add_trials, add_units, new_nwb

TRAINS = [np.arange(0.05, 60, 0.5 + 0.1 * k) for k in range(4)]


@pytest.fixture
def make(tmp_path):
    """Return a function that opens the file which another function fills."""

    def made(fill, name="a.nwb"):
        with new_nwb(tmp_path / name) as file:
            fill(file)
        return open_nwb(tmp_path / name)

    return made


@pytest.mark.parametrize("dtype", ["u1", "i1", "f4", "f8"])
def test_columns_of_0_and_1_are_conditions(make, dtype):
    def fill(file):
        add_units(file, TRAINS, accepted=np.array([0, 0, 1, 1], dtype=dtype))
        add_trials(
            file, np.arange(6.0) * 10, np.arange(6.0) * 10 + 5, correct=np.array([1, 0, 0, 1, 1, 0], dtype=dtype)
        )

    recording = make(fill)
    assert recording.spikes(0.5, trials="correct").trial.values.tolist() == [0, 3, 4]
    assert recording.spikes(0.5, trials="not correct").trial.values.tolist() == [1, 2, 5]
    assert recording.spikes(0.5, units="accepted").unit.values.tolist() == [2, 3]
    with pytest.raises(ValueError, match="trials: the query 'start_time' gives values of type float64"):
        recording.spikes(0.5, trials="start_time")


def test_columns_that_are_named_as_the_ids(make):
    def fill(file):
        add_units(file, TRAINS, ids=[5, 6, 7, 8], unit=[40, 39, 38, 37])
        start = np.arange(8.0) * 5
        licks = [np.array([k]) for k in start]
        add_trials(file, start, start + 2, trial=np.arange(8, 0, -1), time=np.arange(8) / 10, trial_unit=licks)
        file.move("intervals/trials/trial_unit", "intervals/trials/unit")
        file.move("intervals/trials/trial_unit_index", "intervals/trials/unit_index")
        file["intervals/trials"].attrs["colnames"] = ["start_time", "stop_time", "trial", "time", "unit"]

    recording = make(fill)
    for argument, query in (("trials", "trial <= 2"), ("units", "unit < 39")):
        with pytest.raises(ValueError, match="which is both the ids and a column of the table; write (.*)_\\1"):
            recording.spikes(0.5, **{argument: query})
    X = recording.spikes(0.5, trials="trial_trial <= 2", units="unit_unit < 39")
    assert X.trial.values.tolist() == [6, 7]
    assert X.unit.values.tolist() == [7, 8]
    assert X.trial_trial.values.tolist() == [2, 1]
    assert X.unit_unit.values.tolist() == [38, 37]
    assert recording.spikes(0.5, trials="time > 0.55").trial.values.tolist() == [6, 7]
    trials, tree = recording.trials, recording.to_datatree()
    for table in (trials, recording.intervals["trials"], tree["intervals/trials"]):
        assert table.sizes["trial"] == 8
        assert table["trial"].values.tolist() == list(range(8))
        assert table["trial_trial"].values.tolist() == list(range(8, 0, -1))
        assert table["unit"].values.tolist() == [[k] for k in np.arange(8.0) * 5]
    assert tree["units"]["unit_unit"].values.tolist() == [40, 39, 38, 37]
    assert recording.units["unit_unit"].tolist() == [40, 39, 38, 37]
    assert recording.units.index.tolist() == [5, 6, 7, 8]


def test_codes_come_as_their_labels(make):
    def fill(file):
        add_units(file, TRAINS, quality=np.array([1, 0, 1, 7], dtype=np.uint8))
        start = np.arange(2.0) * 10
        trials = add_trials(file, start, start + 5, side=np.array([1, 0], dtype=np.uint8), turns=[np.array([0, 1])] * 2)
        labels = {"side": ["left", "right"], "turns": ["in", "out"]}
        for group, names in ((trials, labels), (file["units"], {"quality": ["mua", "good"]})):
            for name, values in names.items():
                group[f"{name}_elements"] = np.array(values, dtype=h5py.string_dtype())
                group[name].attrs["neurodata_type"] = "EnumData"
                if name != "turns":  # without the reference, the name tells
                    group[name].attrs["elements"] = group[f"{name}_elements"].ref

    recording = make(fill)
    trials = recording.trials
    assert trials["side"].values.tolist() == ["right", "left"]
    assert trials["turns"].values.tolist() == [["in", "out"]] * 2
    assert "side_elements" not in trials  # as long as the table, and no column
    assert recording.to_datatree()["intervals/trials"]["side"].values.tolist() == ["right", "left"]
    assert recording.spikes(0.5, trials="side == 'left'").trial.values.tolist() == [1]
    assert recording.units["quality"].tolist() == ["good", "mua", "good", ""]  # a code without a label


def with_electrodes(file, rows, index=None, bad=None):
    electrodes = add_table(
        file,
        "general/extracellular_ephys/electrodes",
        "DynamicTable",
        [10, 11, 12],
        location=["CA1", "CA1", "V1"],
        x=[1.0, 2.0, 3.0],
        shank=[0, 0, 1],
    )
    units = add_units(file, TRAINS)
    add_region(units, "electrodes", rows, electrodes)
    if index is not None:
        units["electrodes_index"] = index


def test_a_unit_without_electrodes_takes_nothing_from_the_others(make):
    recording = make(lambda file: with_electrodes(file, [0, 1, 2, 0], np.array([1, 3, 3, 4])))
    X = recording.spikes(1.0)
    assert X.location.values.tolist() == ["CA1", "CA1", "", "CA1"]
    np.testing.assert_array_equal(X.x, [1, 2, np.nan, 1])
    np.testing.assert_array_equal(X.shank, [0, 0, np.nan, 0])
    assert recording.spikes(1.0, units="location == 'CA1'").unit.values.tolist() == [0, 1, 3]
    assert recording.to_datatree()["units"]["location"].values.tolist() == ["CA1", "CA1", "", "CA1"]
    assert sum("1 of 4 units name no electrode of the table" in text for text in recording.problems) == 1


def test_electrodes_that_are_not_there_or_cannot_be_told(make):
    recording = make(lambda file: with_electrodes(file, [0, 7, -1, 2]))
    assert recording.spikes(1.0).location.values.tolist() == ["CA1", "", "", "V1"]
    assert any("2 of 4 units name no electrode" in text for text in recording.problems)
    recording = make(lambda file: with_electrodes(file, [0, 1, 2, 0], np.array([1, 9, 9, 9])), "b.nwb")
    assert "location" not in recording.spikes(1.0).coords
    assert any("electrodes_index: got 4 ends up to 9" in text for text in recording.problems)
    recording = make(lambda file: with_electrodes(file, [0, 1, 2, 0], np.arange(1, 5)), "c.nwb")
    assert recording.spikes(1.0).shank.dtype.kind == "i"
    assert recording.problems == []


def test_units_as_a_table(make):
    def fill(file):
        observed = [np.array([[0.0, 10.0], [20.0, 40.0]])] * 2 + [np.zeros((0, 2)), np.array([[0.0, 60.0]])]
        add_units(file, TRAINS, ids=[3, 5, 7, 9], quality=["good", "mua", "good", "good"], rate=[1.0, 2.0, 3.0, 4.0])
        file["units/obs_intervals"] = np.concatenate(observed)
        file["units/obs_intervals_index"] = np.cumsum([len(part) for part in observed])

    recording = make(fill)
    units = recording.units
    assert (units.index.name, units.index.tolist()) == ("unit", [3, 5, 7, 9])
    assert units["n_spikes"].tolist() == [len(train) for train in TRAINS]
    seen = [np.sum((t < 10) | (t >= 20) & (t < 40)) if k < 2 else len(t) for k, t in enumerate(map(np.asarray, TRAINS))]
    np.testing.assert_allclose(units["rate"], np.array(seen) / [30, 30, 60, 60])
    assert units["unit_rate"].tolist() == [1.0, 2.0, 3.0, 4.0]  # the column of the file
    chosen = units[(units["quality"] == "good") & (units["rate"] < 2)]
    X = recording.spikes(1.0, window=(0, 5), units=chosen.index)
    assert X.unit.values.tolist() == chosen.index.tolist() == [7, 9]
    backwards = units.iloc[::-1]["quality"] == "good"  # by id, not by place
    assert recording.spikes(1.0, window=(0, 5), units=backwards).unit.values.tolist() == [9, 7, 3]
    with pytest.raises(ValueError, match="holds no units table"):
        _ = make(lambda file: None, "b.nwb").units


def test_what_is_left_out_is_said(make):
    def fill(file):
        units = add_units(file, TRAINS)
        start = np.arange(2.0) * 10
        licks = [np.array([1.0]), np.array([2.0, 3.0])]
        trials = add_trials(file, start, start + 5, lists=licks, image=np.zeros((2, 4, 4)), odd=licks)
        del trials["lists_index"]
        trials["lists_index"] = np.array([1, 2, 3])
        trials["lists_index_index"] = np.array([1, 3])
        trials["odd_index"][:] = [9, 9]
        add_region(trials, "cell", [0, 1], units)
        add_table(file, "processing/behavior/bouts", "DynamicTable", [0], start_time=[0.0], stop_time=[1.0])
        add_table(file, "processing/behavior/names", "DynamicTable", [0], subject=["a"])
        add_trials(file, [1.0], [2.0], path="intervals/invalid_times")

    recording = make(fill)
    left_out = recording.trials.attrs["left_out"]
    assert [text.partition(":")[0] for text in left_out] == ["lists", "image", "cell", "odd"]
    assert recording.to_datatree()["intervals/trials"].attrs["left_out"] == left_out
    assert set(recording.trials) == {"start_time", "stop_time"}
    assert len(recording.problems) == 1
    assert "/intervals/trials: odd_index: got 2 ends up to 9" in recording.problems[0]
    reasons = {content.path: content.reason for content in recording.contents}
    assert "a plain DynamicTable and no TimeIntervals" in reasons["/processing/behavior/bouts"]
    assert "bins inside them are unobserved" in reasons["/intervals/invalid_times"]
    assert "/processing/behavior/names" not in reasons
    shown = repr(recording)
    assert (
        "recording.trials (not read: lists, lists of lists; image, arrays of shape (4, 4) in each row; cell, rows of"
        in shown
    )
    assert "recording.to_datatree()['/processing/behavior/bouts'] reads it" in shown
    assert recording.to_datatree()["/processing/behavior/bouts"]["stop_time"].values.tolist() == [1.0]
    assert list(recording.intervals) == ["trials"]


def test_tables_of_one_name_go_by_their_path(make):
    def fill(file):
        for path in ("processing/a/units_x", "processing/b/units_x"):
            add_units(file, TRAINS, path=path)
        for k, path in enumerate(("intervals/trials", "processing/a/trials", "processing/b/laps")):
            add_trials(file, np.arange(k + 2.0), np.arange(k + 2.0) + 0.5, path=path)

    recording = make(fill)
    assert list(recording.intervals) == ["/intervals/trials", "/processing/a/trials", "laps"]
    shown = repr(recording)
    calls = [content.call for content in recording.contents]
    assert all(call in shown for call in calls)
    found = [eval(call, {"recording": recording}) for call in calls]  # every call that is printed works
    assert [X.sizes["unit"] for X in found if isinstance(X, xr.DataArray)] == [4, 4]
    assert [table.sizes["trial"] for table in found if isinstance(table, xr.Dataset)] == [2, 3, 4]
    assert "/processing/a/trials" in recording.intervals
    assert "trials" not in recording.intervals  # it names two
    with pytest.raises(KeyError, match="'trials' names 2 interval tables"):
        recording.intervals["trials"]
