"""Writing a population as an NWB recording."""

import os
from datetime import date

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.binning import count_spikes, observed_bins
from nwb_lrrnn.io.writing.processing_module import write_module
from nwb_lrrnn.io.writing.recording_file import write_recording

BIN = 0.02


def population(n_trials=6, n_bins=30, n_units=4, **coords):
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, size=(n_trials, n_bins, n_units))
    time = -0.2 + (np.arange(n_bins) + 0.5) * BIN
    X = xr.DataArray(counts, dims=("trial", "time", "unit"), coords={"time": time}, attrs={"bin_size": BIN})
    return X.assign_coords(
        trial=np.arange(n_trials) + 100,
        unit=np.arange(n_units) + 7,
        contrast=("trial", np.linspace(0, 1, n_trials)),
        choice=("trial", ["left", "right"] * (n_trials // 2)),
        rewarded=("trial", np.arange(n_trials) % 2 == 0),
        location=("unit", ["MOs"] * n_units),
        quality=("unit", ["good"] * n_units),
        **coords,
    )


def recount(path, X, column="go_cue_time"):
    """Count the spikes of the file in the bins of X, trials by id."""
    with h5py.File(path) as file:
        ends = file["units/spike_times_index"][()].astype(int)
        units = np.split(file["units/spike_times"][()], ends[:-1])
        align = dict(zip(file["intervals/trials/id"][()], file[f"intervals/trials/{column}"][()], strict=True))
        spans = file["units/obs_intervals"][()]
    starts = np.array([align[k] for k in X["trial"].values]) + (X["time"].values[0] - BIN / 2)
    return count_spikes(units, BIN, starts, X.sizes["time"]), observed_bins(spans, BIN, starts, X.sizes["time"])


def messages_about(path):
    from nwbinspector import inspect_nwbfile
    from pynwb import validate

    assert validate(path=str(path)) == []
    return [str(message) for message in inspect_nwbfile(nwbfile_path=str(path))]


def test_counts_come_back_exactly(tmp_path):
    X = population()
    path = write_recording(tmp_path / "a.nwb", X, random_state=0)
    counts, observed = recount(path, X)
    np.testing.assert_array_equal(counts, X)
    assert observed.all()


@pytest.mark.parametrize("bin_size", [1e-4, 0.001, 0.02, 1.0, 100.0])
def test_counts_come_back_at_any_bin_size(tmp_path, bin_size):
    counts = np.random.default_rng(1).poisson(2.0, size=(3, 40, 2)).astype(float)
    path = write_recording(tmp_path / "a.nwb", counts, bin_size=bin_size, random_state=0)
    with h5py.File(path) as file:
        ends = file["units/spike_times_index"][()].astype(int)
        units = np.split(file["units/spike_times"][()], ends[:-1])
        starts = file["intervals/trials/go_cue_time"][()]
    np.testing.assert_array_equal(count_spikes(units, bin_size, starts, 40), counts)


def test_tables_hold_the_coordinates(tmp_path):
    X = population()
    path = write_recording(tmp_path / "a.nwb", X, trials={"block": np.arange(6) // 3}, random_state=0)
    with h5py.File(path) as file:
        trials, units = file["intervals/trials"], file["units"]
        np.testing.assert_array_equal(trials["id"][()], X["trial"])
        np.testing.assert_array_equal(trials["contrast"][()], X["contrast"])
        np.testing.assert_array_equal(trials["rewarded"][()], X["rewarded"])
        assert list(trials["choice"].asstr()[()]) == list(X["choice"].values)
        np.testing.assert_array_equal(trials["block"][()], [0, 0, 0, 1, 1, 1])
        np.testing.assert_allclose(trials["stop_time"][()] - trials["start_time"][()], 30 * BIN)
        np.testing.assert_allclose(trials["go_cue_time"][()] - trials["start_time"][()], 0.2)
        np.testing.assert_array_equal(units["id"][()], X["unit"])
        assert set(units["location"].asstr()[()]) == {"MOs"}
        assert set(file["general/extracellular_ephys/electrodes/location"].asstr()[()]) == {"MOs"}


def test_the_seed_decides_the_spike_times(tmp_path):
    def times(seed):
        path = write_recording(tmp_path / "a.nwb", population(), random_state=seed, overwrite=True)
        with h5py.File(path) as file:
            return file["units/spike_times"][()]

    np.testing.assert_array_equal(times(3), times(3))
    assert not np.array_equal(times(3), times(4))


def test_trials_stay_at_their_align_time(tmp_path):
    align = np.array([30.0, 10.0, 50.0, 20.0, 40.0, 10.6])  # out of order; the second and the last touch
    X = population(align_time=("trial", align), start_time=("trial", align - 1), stop_time=("trial", align + 2))
    path = write_recording(tmp_path / "a.nwb", X, align_column="cue", random_state=0)
    np.testing.assert_array_equal(recount(path, X, "cue")[0], X)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["intervals/trials/id"][()], [101, 105, 103, 100, 104, 102])
        np.testing.assert_array_equal(file["intervals/trials/start_time"][()], np.sort(align) - 1)
        assert len(file["units/obs_intervals"]) == 5 * 4


def test_unobserved_bins_are_outside_the_observed_intervals(tmp_path):
    mask = np.ones((6, 30), dtype=bool)
    mask[1, 10:20] = mask[2, :5] = mask[4] = False
    path = write_recording(tmp_path / "a.nwb", population(observed=(("trial", "time"), mask)), random_state=0)
    counts, observed = recount(path, population())
    np.testing.assert_array_equal(observed, mask)
    np.testing.assert_array_equal(counts, population().values * mask[:, :, None])  # nobody saw the others
    assert messages_about(path) == []
    by_unit = np.repeat(mask[:, :, None], 4, axis=2)
    by_unit[:, :, 0] = True
    X = population(observed=(("trial", "time", "unit"), by_unit))
    path = write_recording(tmp_path / "b.nwb", X, random_state=0)
    with h5py.File(path) as file:
        ends = file["units/obs_intervals_index"][()]
    np.testing.assert_array_equal(np.diff(ends, prepend=0), [6, 6, 6, 6])


def test_one_long_recording(tmp_path):
    X = population(n_trials=2, n_bins=500)[0].drop_vars(["trial", "contrast", "choice", "rewarded"])
    path = write_recording(tmp_path / "a.nwb", X, random_state=0)
    counts, _ = recount(path, X.expand_dims(trial=[0]))
    np.testing.assert_array_equal(counts[0], X)


def test_validator_and_inspector_are_quiet_about_spikes(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(6, 30, 2))
    path = write_recording(tmp_path / "a.nwb", population(), inputs=inputs, random_state=0)
    assert messages_about(path) == []
    with h5py.File(path) as file:
        series = file["processing/behavior/inputs"]
        np.testing.assert_array_equal(series["data"][()], inputs.reshape(-1, 2))
        starts = file["intervals/trials/start_time"][()]
        centres = starts[:, None] + (np.arange(30) + 0.5) * BIN
        np.testing.assert_allclose(series["timestamps"][()], centres.reshape(-1))


def test_rois(tmp_path):
    X = population().astype(float) + 0.25
    X = X.assign_coords(unit_kind="roi")
    path = write_recording(tmp_path / "a.nwb", X)
    assert messages_about(path) == []
    with h5py.File(path) as file:
        series = file["processing/ophys/Fluorescence/RoiResponseSeries"]
        np.testing.assert_array_equal(series["data"][()], X.values.reshape(-1, 4))
        np.testing.assert_array_equal(file["processing/ophys/ImageSegmentation/PlaneSegmentation/id"][()], X["unit"])


def test_channels_without_a_gap_have_a_rate(tmp_path):
    X = population().astype(float) - 0.25
    path = write_recording(tmp_path / "a.nwb", X, gap=0.0)
    assert messages_about(path) == []
    with h5py.File(path) as file:
        series = file["acquisition/ElectricalSeries"]
        np.testing.assert_array_equal(series["data"][()], X.values.reshape(-1, 4))
        assert series["starting_time"].attrs["rate"] == 50.0
        assert series["starting_time"][()] == pytest.approx(BIN / 2)


def test_metadata_are_written(tmp_path):
    path = write_recording(
        tmp_path / "a.nwb",
        population(),
        session_description="told",
        session_start_time="2024-02-03T04:05:06+00:00",
        subject={"subject_id": "m1", "species": "Mus musculus"},
        session={"experimenter": "Doe, Jane"},
    )
    with h5py.File(path) as file:
        assert file["session_description"].asstr()[()] == "told"
        assert file["session_start_time"].asstr()[()] == "2024-02-03T04:05:06+00:00"
        assert file["general/subject/subject_id"].asstr()[()] == "m1"
        assert list(file["general/experimenter"].asstr()[()]) == ["Doe, Jane"]


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "a.nwb").write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_recording(tmp_path / "a.nwb", population())
    assert (tmp_path / "a.nwb").read_text() == "precious"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_recording(tmp_path / "no" / "a.nwb", population())


def test_only_own_files_are_replaced(tmp_path):
    X, own = population(), tmp_path / "own.nwb"
    write_recording(own, X, random_state=0)
    write_recording(own, X, random_state=1, overwrite=True)
    write_module(tmp_path / "result.nwb", info=[("model", "rank", 2)])
    write_recording(tmp_path / "result.nwb", X, overwrite=True)
    text, labs, theirs = tmp_path / "text.nwb", tmp_path / "labs.nwb", tmp_path / "theirs.nwb"
    text.write_text("precious")
    for path, mark in ((labs, None), (theirs, [["nwb_lrrnn", "1"], ["lab", "1"]])):  # the second was worked on
        path.write_bytes(own.read_bytes())
        with h5py.File(path, "a") as file:
            del file["general/was_generated_by"]
            if mark is not None:
                file["general/was_generated_by"] = np.array(mark, dtype=object)
    for path in (text, labs, theirs):
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match="was not written by nwb_lrrnn"):
            write_recording(path, X, overwrite=True)
        assert path.read_bytes() == before
    link, pipe = tmp_path / "link.nwb", tmp_path / "pipe.nwb"
    link.symlink_to(own)
    os.mkfifo(pipe)
    for path in (link, pipe):
        with pytest.raises(FileExistsError, match="link, pipe or device"):
            write_recording(path, X, overwrite=True)
    assert link.is_symlink()
    assert pipe.is_fifo()


X3 = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("X", "keywords", "text"),
    [
        (np.zeros(3), {}, r"X: got shape \(3,\), wanted \(trial, time, unit\)"),
        (population().transpose("unit", "time", "trial"), {}, r"X.transpose\('trial', 'time', 'unit'\) reorders"),
        (np.zeros((0, 3, 4)), {}, r"X: got shape \(0, 3, 4\), wanted at least one"),
        (X3, {}, "bin_size: X carries none"),
        (X3, {"bin_size": -1}, "bin_size: got -1.0, wanted a positive number"),
        (X3, {"bin_size": 1, "gap": -1}, "gap: got -1, wanted seconds"),
        (X3, {"bin_size": 1, "unit_kind": "cell"}, "unit_kind: got 'cell', wanted one of unit, roi, channel"),
        (X3, {"bin_size": 1, "inputs": np.zeros((2, 4, 1))}, r"inputs: got dims .* and shape \(2, 4, 1\), wanted"),
        (X3, {"bin_size": 1, "trials": {"side": [1]}}, r"trials\['side'\]: got shape \(1,\), wanted \(2,\)"),
        (X3, {"bin_size": 1, "session": {"labb": "x"}}, r"session: got the field 'labb', .* did you mean 'lab'"),
        (X3, {"bin_size": 1, "subject": {"specie": "x"}}, r"session\['subject'\]: got the field 'specie'"),
        (X3, {"bin_size": 1, "session_start_time": "today"}, "session_start_time: got 'today', wanted ISO 8601"),
        (X3, {"bin_size": 1, "session_start_time": 3}, "session_start_time: got 3, wanted a datetime"),
        (
            population().assign_coords(unit_kind=("unit", ["roi"] * 3 + ["unit"])),
            {},
            "X: got units of the kinds roi, u",
        ),
        (
            population().assign_coords(align_time=("trial", np.arange(6) / 10)),
            {},
            "trials 100 and 101 whose windows over",
        ),
        (population().isel(time=[0, 1, 3]), {}, "X: got time steps of 0.04 s from index 1 to 2 where bin_size is 0.02"),
        (
            population().assign_coords(align_time=("trial", np.arange(6.0)), go_cue_time=("trial", np.arange(6.0) + 1)),
            {},
            "align_column: got 'go_cue_time', but X has a trial coordinate of this name",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_sentence(tmp_path, X, keywords, text):
    with pytest.raises(ValueError, match=text):
        write_recording(tmp_path / "a.nwb", X, **keywords)
    assert list(tmp_path.iterdir()) == []


def test_text_is_no_population(tmp_path):
    with pytest.raises(TypeError, match="X: got dtype <U1, wanted real numbers"):
        write_recording(tmp_path / "a.nwb", np.full((2, 3), "a"), bin_size=1)


def test_a_data_frame_of_trial_columns(tmp_path):
    frame = pd.DataFrame({"side": ["l", None, "r", "l", "r", "l"]})
    path = write_recording(tmp_path / "a.nwb", population(), trials=frame)
    with h5py.File(path) as file:
        assert list(file["intervals/trials/side"].asstr()[()]) == ["l", "", "r", "l", "r", "l"]


def test_units_and_trials_with_text_ids_and_inputs_of_one_trial(tmp_path):
    X = population(n_trials=2)[:1].assign_coords(trial=["first"], unit=["a", "b", "c", "d"])
    inputs = xr.DataArray(np.ones((30, 1)), dims=("time", "input"), coords={"input": ["light"]})
    path = write_recording(tmp_path / "a.nwb", X, inputs=inputs, random_state=0)
    with h5py.File(path) as file:
        assert list(file["units/unit_name"].asstr()[()]) == ["a", "b", "c", "d"]
        assert list(file["intervals/trials/trial_name"].asstr()[()]) == ["first"]
        assert "light" in file["processing/behavior/inputs"].attrs["description"]
        assert file["processing/behavior/inputs/starting_time"].attrs["rate"] == 50


def test_an_age_is_not_stated_beside_a_date_of_birth(tmp_path):
    subject = {"date_of_birth": date(2020, 1, 2), "sex": None}
    path = write_recording(tmp_path / "a.nwb", np.ones((2, 3, 1)), bin_size=0.1, subject=subject)
    with h5py.File(path) as file:
        assert file["general/subject/date_of_birth"].asstr()[()] == "2020-01-02T00:00:00+00:00"
        assert "age" not in file["general/subject"]
        assert file["general/subject/sex"].asstr()[()] == "U"


def test_no_unit_spikes_twice_at_one_time(tmp_path):
    X = xr.DataArray(np.full((4, 10, 2), 20), dims=("trial", "time", "unit"), attrs={"bin_size": 0.02})
    write_recording(tmp_path / "a.nwb", X, random_state=0)
    with h5py.File(tmp_path / "a.nwb") as file:
        times = np.split(file["units/spike_times"][:], file["units/spike_times_index"][:-1])
    assert all((np.diff(t) > 0).all() for t in times)
