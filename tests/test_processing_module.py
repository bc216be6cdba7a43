"""The pieces of a fit in an NWB file and back."""

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.io.writing.processing_module import read_module, write_module
from small_module import BIN, INFO, everything, make_latents, make_loadings, make_rates, make_state


def test_every_piece_comes_back(tmp_path):
    path, pieces = everything(tmp_path / "a.nwb")
    read = read_module(path)
    xr.testing.assert_identical(read["latents"], pieces["latents"])
    xr.testing.assert_identical(read["rates"], pieces["rates"])
    xr.testing.assert_identical(read["loadings"], pieces["loadings"])
    xr.testing.assert_identical(read["tables"]["fixed_points"], pieces["tables"]["fixed_points"])
    pd.testing.assert_frame_equal(read["tables"]["metrics"], pieces["tables"]["metrics"])
    assert read["info"]["model"] == {"name": "LowRankRNN", "rank": 2}
    assert read["info"]["data"]["note"] == 'a "text" with {braces: yes}'
    assert np.isnan(read["info"]["data"]["loss"])
    assert read["info"]["module"] == {"layout": 1}


def test_state_is_equal_to_the_last_bit(tmp_path):
    state = make_state()
    read = read_module(write_module(tmp_path / "a.nwb", state=state, info=INFO))["state"]
    assert list(read) == list(state)
    for name, array in state.items():
        assert read[name].dtype == array.dtype
        assert read[name].shape == array.shape
        assert read[name].tobytes() == array.tobytes()


def test_rows_lie_in_the_order_of_time(tmp_path):
    path, pieces = everything(tmp_path / "a.nwb")
    with h5py.File(path) as file:
        module = file["processing/lrrnn"]
        times = module["latents/timestamps"][()]
        assert (np.diff(times) > 0).all()
        assert module["latents/data"].dtype == np.float64
        trials = module["latent_trials"]
        np.testing.assert_array_equal(trials["trial_id"][()], [8, 10, 9, 11, 7])
        np.testing.assert_array_equal(trials["trial_order"][()], [1, 3, 2, 4, 0])
        np.testing.assert_array_equal(trials["start_index"][()], np.arange(5) * 20)
        np.testing.assert_array_equal(trials["count"][()], [20] * 5)
        np.testing.assert_allclose(trials["start_time"][()], np.array([10, 20, 30, 40, 50]) - 0.1)
        np.testing.assert_allclose(trials["stop_time"][()], np.array([10, 20, 30, 40, 50]) + 0.3)
        assert set(trials["series"].asstr()[()]) == {"latents"}
        first = trials["start_index"][()][2]
        np.testing.assert_array_equal(module["latents/data"][first : first + 20], pieces["latents"].sel(trial=9))
        np.testing.assert_allclose(times[first : first + 20], 30 + pieces["latents"]["time"].values)
        np.testing.assert_array_equal(module["unit_reference/unit_id"][()], [3, 4, 5, 6])


def test_a_regular_stretch_has_a_rate(tmp_path):
    latents = make_latents(align=10 + 0.4 * np.arange(5)[::-1])  # windows of 0.4 s that touch
    path = write_module(tmp_path / "a.nwb", latents=latents)
    with h5py.File(path) as file:
        series = file["processing/lrrnn/latents"]
        assert "timestamps" not in series
        assert series["starting_time"].attrs["rate"] == 50
        assert series["starting_time"][()] == pytest.approx(9.91)
    xr.testing.assert_identical(read_module(path)["latents"], latents)


def test_trials_without_times_follow_each_other_from_zero(tmp_path):
    latents = make_latents().drop_vars(["align_time", "time", "trial"])
    path = write_module(tmp_path / "a.nwb", latents=latents)
    with h5py.File(path) as file:
        assert file["processing/lrrnn/latents/starting_time"][()] == BIN / 2
        np.testing.assert_allclose(file["processing/lrrnn/latent_trials/start_time"][()], np.arange(5) * 0.4)
    xr.testing.assert_identical(read_module(path)["latents"], latents)


def test_one_long_recording(tmp_path):
    latents = make_latents(n_trials=1, n_bins=500)[0].drop_vars(["align_time", "trial", "choice", "start_time"])
    path = write_module(tmp_path / "a.nwb", latents=latents, rates=make_rates(latents))
    read = read_module(path)
    xr.testing.assert_identical(read["latents"], latents)
    assert read["rates"].dims == ("time", "unit")
    with h5py.File(path) as file:
        assert file["processing/lrrnn/latents/starting_time"][()] == pytest.approx(-0.09)


def test_trials_that_overlap_go_to_further_series(tmp_path):
    latents = make_latents(align=[10.0, 10.1, 10.2, 10.4, 11.0])  # windows of 0.4 s
    path = write_module(tmp_path / "a.nwb", latents=latents, rates=make_rates(latents))
    with h5py.File(path) as file:
        module = file["processing/lrrnn"]
        assert list(module["latent_trials/series"].asstr()[()]) == [
            "latents",
            "latents_2",
            "latents_3",
            "latents",
            "latents",
        ]
        np.testing.assert_array_equal(module["latent_trials/start_index"][()], [0, 0, 0, 20, 40])
        assert (np.diff(module["latents/timestamps"][()]) > 0).all()
        assert module["rates_3/data"].shape == (20, 4)
    xr.testing.assert_identical(read_module(path)["latents"], latents)


def test_trials_of_unequal_length(tmp_path):
    latents = make_latents()
    latents[0, 15:] = np.nan  # padding
    latents[1, 3:5] = np.nan  # a hole: stored
    latents[2] = np.nan
    latents = latents.assign_coords(observed=(("trial", "time"), ~np.isnan(latents.values).any(axis=2)))
    path = write_module(tmp_path / "a.nwb", latents=latents)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["processing/lrrnn/latent_trials/count"][()], [20, 20, 1, 20, 15])
        assert len(file["processing/lrrnn/latents/data"]) == 76
    xr.testing.assert_identical(read_module(path)["latents"], latents)


def test_validator_and_inspector(tmp_path):
    from nwbinspector import inspect_nwbfile
    from pynwb import validate

    path, _ = everything(tmp_path / "a.nwb")
    assert validate(path=str(path)) == []
    told = [message.check_function_name for message in inspect_nwbfile(nwbfile_path=str(path))]
    assert told == ["check_processing_module_name"]


@pytest.mark.slow
def test_validator_and_inspector_where_nothing_is_known_of_the_source(tmp_path):
    from nwbinspector import inspect_nwbfile
    from pynwb import validate

    path = write_module(tmp_path / "a.nwb", latents=make_latents(), info=INFO)
    assert validate(path=str(path)) == []
    messages = list(inspect_nwbfile(nwbfile_path=str(path)))
    assert {message.importance.name for message in messages} == {"BEST_PRACTICE_SUGGESTION"}


def test_pynapple_shows_latents_and_trials(tmp_path):
    nap = pytest.importorskip("pynapple")
    path, pieces = everything(tmp_path / "a.nwb")
    data = nap.load_file(str(path))
    assert isinstance(data["latents"], nap.TsdFrame)
    assert isinstance(data["latent_trials"], nap.IntervalSet)
    np.testing.assert_array_equal(data["latents"].restrict(data["latent_trials"][0]).values, pieces["latents"][1])
    data.close()


def test_pynwb_shows_the_metadata_of_the_source(tmp_path):
    from pynwb import read_nwb

    path, _ = everything(tmp_path / "a.nwb")
    nwbfile = read_nwb(str(path))
    assert nwbfile.session_description == "A monkey reaches"
    assert nwbfile.subject.species == "Macaca mulatta"
    assert nwbfile.identifier != "source-1"
    assert "source-1" in nwbfile.notes
    loadings = nwbfile.processing["lrrnn"]["unit_loadings"]
    assert loadings["unit"].table.name == "unit_reference"
    nwbfile.get_read_io().close()


def test_coordinates_that_are_no_numbers_become_text(tmp_path):
    mixed = np.array(["a", None, 3.5, np.nan, "b"], dtype=object)
    dates = np.array(["2020-01-01"] * 4 + ["NaT"], dtype="datetime64[ns]")
    latents = make_latents(mixed=("trial", mixed), date=("trial", dates), description=("trial", np.arange(5)))
    read = read_module(write_module(tmp_path / "a.nwb", latents=latents))["latents"]
    assert list(read["mixed"].values) == ["a", "", "3.5", "", "b"]
    assert read["date"].values[0].startswith("2020-01-01")
    assert read["date"].values[4] == ""
    np.testing.assert_array_equal(read["description"], np.arange(5))


def test_units_with_text_ids_and_columns_with_words_of_tables(tmp_path):
    loadings = make_loadings().drop_vars("source_row")
    loadings = loadings.assign_coords(unit=["u1", "u2", "u3", "u4"], description=("unit", ["x"] * 4))
    read = read_module(write_module(tmp_path / "a.nwb", loadings=loadings))["loadings"]
    assert list(read["unit"].values) == ["u1", "u2", "u3", "u4"]
    assert list(read["description"].values) == ["x"] * 4
    np.testing.assert_array_equal(read["source_row"], np.arange(4))
    assert "location" not in read.coords


def test_one_trial_and_nested_lists(tmp_path):
    latents = make_latents()[:1].drop_vars("align_time")
    path = write_module(
        tmp_path / "a.nwb", latents=latents, info=[("model", "group_ranks", np.array([[1, 2], [3, 4]]))]
    )
    read = read_module(path)
    xr.testing.assert_identical(read["latents"], latents)
    assert read["info"]["model"]["group_ranks"] == [[1, 2], [3, 4]]
