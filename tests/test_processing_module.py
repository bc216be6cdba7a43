"""The pieces of a fit in an NWB file and back."""

import logging
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.io.processing_module import is_result_file, read_module, write_module
from nwb_lrrnn.io.recording_file import write_recording

BIN = 0.02
INFO = [("model", "name", "LowRankRNN"), ("model", "rank", 2)]
SESSION = {
    "session_description": "A monkey reaches",
    "session_start_time": "2020-01-02T03:04:05+00:00",
    "identifier": "source-1",
    "experimenter": ["Doe, Jane"],
    "institution": "I",
    "subject": {"subject_id": "m1", "species": "Macaca mulatta", "sex": "M", "age": "P5Y"},
}


def make_latents(n_trials=5, n_bins=20, align=None, rank=2, **coords):
    rng = np.random.default_rng(0)
    align = np.array([50.0, 10.0, 30.0, 20.0, 40.0])[:n_trials] if align is None else np.asarray(align)
    return xr.DataArray(
        rng.normal(size=(n_trials, n_bins, rank)),
        dims=("trial", "time", "latent"),
        coords={
            "trial": np.arange(n_trials) + 7,
            "time": -0.1 + (np.arange(n_bins) + 0.5) * BIN,
            "align_time": ("trial", align),
            "choice": ("trial", ["left", "right", "left", "left", "right"][:n_trials]),
            "start_time": ("trial", align - 0.5),
            **coords,
        },
        attrs={"bin_size": BIN, "source": "file.nwb"},
        name="latents",
    )


def make_loadings(n_units=4):
    rng = np.random.default_rng(1)
    return xr.Dataset(
        {"loading": (("unit", "latent"), rng.normal(size=(n_units, 2))), "offset": ("unit", rng.normal(size=n_units))},
        coords={
            "unit": np.arange(n_units) + 3,
            "source_row": ("unit", np.arange(n_units)),
            "depth": ("unit", np.linspace(0, 1, n_units)),
            "latent": [0, 1],
        },
    )


def make_state():
    return {
        "left_vectors": np.random.default_rng(2).normal(size=(30, 2)),
        "odd": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1]),
        "empty": np.zeros((0, 3)),
        "steps": np.arange(6, dtype=np.int64).reshape(2, 3),
        "seed": np.array(2**63 - 1),
        "mask": np.array([True, False]),
        "single": np.float32([1.5, np.pi]),
        "eigenvalues": np.array([1 + 2j, 3 - 4j]),
        "likelihood": np.array("poisson"),
        "unit_ids": np.array(["a", "bé", ""]),
        "tau": np.array(0.1),
    }


def make_rates(latents):
    values = np.random.default_rng(3).random((*latents.shape[:-1], 4))
    coords = {name: c for name, c in latents.coords.items() if "latent" not in c.dims}
    return xr.DataArray(values, dims=(*latents.dims[:-1], "unit"), coords=coords, attrs={"units": "1/s"}, name="rates")


def make_tables():
    points = xr.Dataset(
        {
            "latents": (("point", "latent"), np.arange(6.0).reshape(3, 2)),
            "eigenvalue": (("point", "latent"), np.array([[1 + 1j, 1 - 1j]] * 3)),
            "jacobian": (("point", "target", "source"), np.arange(12.0).reshape(3, 2, 2)),
            "is_stable": ("point", [True, False, True]),
            "kind": ("point", ["node", "saddle", "focus"]),
        },
        coords={"latent": [0, 1], "temperature": 3.0},
        attrs={"tolerance": 1e-9, "seeds": [1, 2]},
    )
    metrics = pd.DataFrame({"score": [1.5, np.nan], "model": ["rnn", "mean"]}, index=["a", "b"])
    return {"fixed_points": points, "metrics": metrics}


def everything(path, **changes):
    latents = make_latents(observed=(("trial", "time"), np.arange(100).reshape(5, 20) % 7 > 0))
    pieces = {
        "session": SESSION,
        "latents": latents,
        "state": make_state(),
        "info": [*INFO, ("data", "note", 'a "text" with {braces: yes}'), ("data", "loss", float("nan"))],
        "loadings": make_loadings(),
        "rates": make_rates(latents),
        "tables": make_tables(),
    }
    return write_module(path, **{**pieces, **changes}), pieces


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


def test_a_result_is_replaced_on_request_only(tmp_path):
    path = write_module(tmp_path / "a.nwb", info=INFO)
    assert is_result_file(path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_module(path, info=INFO)
    write_module(path, info=[("model", "rank", 3)], overwrite=True)
    assert read_module(path)["info"]["model"] == {"rank": 3}
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_is_never_replaced(tmp_path):
    recording = write_recording(tmp_path / "rec.nwb", np.ones((2, 5, 3)), bin_size=0.1)
    assert not is_result_file(recording)
    before = recording.read_bytes()
    with pytest.raises(FileExistsError, match="a recording is never replaced"):
        write_module(recording, info=INFO, overwrite=True)
    assert recording.read_bytes() == before
    mixed = tmp_path / "mixed.nwb"  # a recording that has a module of ours
    shutil.copy(recording, mixed)
    with h5py.File(write_module(tmp_path / "a.nwb", info=INFO)) as source, h5py.File(mixed, "a") as target:
        source.copy("processing/lrrnn", target["processing"])
    assert not is_result_file(mixed)
    text = tmp_path / "text.nwb"
    text.write_text("precious")
    with pytest.raises(FileExistsError, match="not a result file"):
        write_module(text, info=INFO, overwrite=True)


def test_an_interrupted_write_leaves_the_old_result(tmp_path, monkeypatch):
    path = write_module(tmp_path / "a.nwb", info=INFO)
    before = path.read_bytes()

    def refuse(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_module(path, info=[("model", "rank", 3)], overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("piece", ["latents", "state", "loadings", "tables", "info"])
def test_what_reads_back_otherwise_is_not_stored(tmp_path, monkeypatch, piece):
    from nwb_lrrnn.io import processing_module

    honest = processing_module.read_module

    def damaged(path, module):
        read = honest(path, module)
        if piece == "state":
            read["state"]["tau"] = np.nextafter(read["state"]["tau"], 1)
        elif piece == "tables":
            read["tables"]["metrics"].loc["a", "score"] = 0.0
        elif piece == "info":
            read["info"]["model"]["rank"] = 3
        else:
            read[piece] = read[piece] + 1e-12
        return read

    monkeypatch.setattr(processing_module, "read_module", damaged)
    with pytest.raises(OSError, match=f"{piece}.* read back differs from what was written"):
        everything(tmp_path / "a.nwb")
    assert list(tmp_path.iterdir()) == []


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


def test_what_cannot_be_stored_is_said(tmp_path, caplog):
    latents = make_latents()
    latents.attrs.update(steps=[{"a": 1}], shape=(1, 2))
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        path = write_module(tmp_path / "a.nwb", latents=latents, tables={"empty": pd.DataFrame({"a": []})})
    assert "attrs['steps'] of latents is not a number" in caplog.text
    assert "table 'empty' has no rows" in caplog.text
    read = read_module(path)
    assert read["latents"].attrs == {"bin_size": BIN, "source": "file.nwb", "shape": [1, 2]}
    assert read["tables"] == {}


@pytest.mark.parametrize(
    ("pieces", "error", "text"),
    [
        ({"latents": make_latents().T}, ValueError, r"latents: got dims .* wanted \('trial', 'time', 'latent'\)"),
        ({"latents": make_latents()[:0]}, ValueError, r"latents: got shape \(0, 20, 2\), wanted at least one"),
        ({"latents": make_latents().astype(str)}, TypeError, "latents: got dtype <U32, wanted real numbers"),
        ({"rates": make_rates(make_latents())}, ValueError, "rates: got rates without latents"),
        (
            {"latents": make_latents(), "rates": make_rates(make_latents())[:2]},
            ValueError,
            r"rates: got shape \(2, 20, 4\), wanted the trials and bins of latents \(5, 20, 2\)",
        ),
        ({"loadings": xr.Dataset({"a": ("neuron", [1.0])})}, ValueError, r"loadings: got dims .* the dim 'unit'"),
        (
            {"loadings": make_loadings().transpose("latent", "unit")},
            ValueError,
            r"loadings\['loading'\]: got dims \('latent', 'unit'\), wanted 'unit' first",
        ),
        ({"tables": {"fit_info": pd.DataFrame({"a": [1]})}}, ValueError, "tables: got the name 'fit_info'"),
        ({"tables": {"a": xr.Dataset({"b": 1.0})}}, ValueError, r"tables\['a'\]: got a Dataset without a variable"),
        ({"state": {"a": {"b": 1}}}, TypeError, r"state\['a'\]: got dict of dtype object, wanted numbers, booleans"),
        ({"state": {"a": '{"b": 1}'}}, ValueError, r"state\['a'\]: got a text with a dictionary in it"),
        ({"info": [("a", "b", {"c": 1})]}, TypeError, "info: got a.b = {'c': 1}, wanted a number, text, boolean, None"),
        ({"info": [("a", "b", 1), ("a", "b", 2)]}, ValueError, "info: got a.b twice, wanted each key once"),
        ({"session": {"lab_name": "x"}}, ValueError, "session: got the field 'lab_name', wanted any of"),
    ],
)
def test_pieces_of_another_form_are_refused(tmp_path, pieces, error, text):
    with pytest.raises(error, match=text):
        write_module(tmp_path / "a.nwb", **pieces)
    assert list(tmp_path.iterdir()) == []


def test_bad_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_module(tmp_path / "no" / "a.nwb", info=INFO)
    with pytest.raises(FileNotFoundError):
        read_module(tmp_path / "a.nwb")
    (tmp_path / "a.nwb").write_text("text")
    with pytest.raises(ValueError, match="a text file"):
        read_module(tmp_path / "a.nwb")
    recording = write_recording(tmp_path / "rec.nwb", np.ones((2, 5, 3)) / 2, bin_size=0.1, unit_kind="roi")
    with pytest.raises(ValueError, match=r"module: got 'lrrnn', but .* has the processing modules ophys"):
        read_module(recording)
    with pytest.raises(ValueError, match="module: got 'ophys', which nwb_lrrnn did not write"):
        read_module(recording, "ophys")


def test_another_name_of_the_module(tmp_path):
    path = write_module(tmp_path / "a.nwb", info=INFO, module="behavior")
    assert read_module(path, module="behavior")["info"]["model"]["rank"] == 2
    with pytest.raises(ValueError, match="did you mean 'behavior'"):
        read_module(path, module="behaviour")


def test_one_trial_and_nested_lists(tmp_path):
    latents = make_latents()[:1].drop_vars("align_time")
    path = write_module(
        tmp_path / "a.nwb", latents=latents, info=[("model", "group_ranks", np.array([[1, 2], [3, 4]]))]
    )
    read = read_module(path)
    xr.testing.assert_identical(read["latents"], latents)
    assert read["info"]["model"]["group_ranks"] == [[1, 2], [3, 4]]
