"""Recording.spikes of odd units: none, silent, badly timed, observed in part, with odd columns or electrodes."""

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_region, add_table, add_trials, add_units, new_nwb


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
    assert X.dtype == np.int16


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
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5, window=(0.0, 2.0))
    assert X.observed.values.tolist() == [True, False, True, True]


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


@pytest.mark.parametrize(
    ("rows", "ends", "locations"),
    [([0, 1], [1, 1], ["a", ""]), ([0, 1], [1, 5], None), ([0], None, None), ([0, 9], None, ["a", ""])],
)
def test_electrodes_that_do_not_fit_the_units_are_left_out(tmp_path, rows, ends, locations):
    with new_nwb(tmp_path / "a.nwb") as file:
        table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [0, 1], location=["a", "b"])
        units = add_units(file, [[0.1, 1.0], [0.3]])
        add_region(units, "electrodes", rows, table)
        if ends is not None:
            units["electrodes_index"] = np.array(ends, dtype=np.uint8)
    recording = open_nwb(tmp_path / "a.nwb")
    X = recording.spikes(0.5)
    assert (X["location"].values.tolist() if "location" in X.coords else None) == locations
    assert any("/units/electrodes" in text for text in recording.problems)


def test_electrodes_without_index(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [0, 1], location=["a", "b"])
        add_region(add_units(file, [[0.1, 1.0], [0.3]], location=["own", "own"]), "electrodes", [1, 0], table)
    X = open_nwb(tmp_path / "a.nwb").spikes(0.5)
    assert X.location.values.tolist() == ["own", "own"]  # the unit's own column wins


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


def test_counts_are_signed_and_as_wide_as_they_need(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [np.arange(40_000) * 1e-5, [0.4]])
    X = open_nwb(tmp_path / "a.nwb").spikes(0.2)
    assert X.dtype == np.int16
    assert (X - 1).values.tolist() == [[19_999, -1], [19_999, -1]]
    assert X.diff("time").values.tolist() == [[0, 0]]
    assert np.sqrt(X).dtype == np.float32
    X = open_nwb(tmp_path / "a.nwb").spikes(0.4)
    assert X.dtype == np.int32
    assert X.values.tolist() == [[40_000, 0]]
