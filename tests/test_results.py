"""A fitted model to an NWB file and back."""

import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.exceptions import NotFittedError

from nwb_lrrnn.analysis.fixed_points import find_fixed_points
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.io.files.secrets import without_secrets
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.io.writing.processing_module import write_module
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.results import load_model, read_results, write_results
from small_results import aligned, counts, make_recording, quick


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return make_recording(tmp_path_factory.mktemp("recording") / "session.nwb")


@pytest.fixture(scope="module")
def X(recording):
    return aligned(recording)


@pytest.fixture(scope="module")
def model(X):
    return quick(X)


@pytest.fixture(scope="module")
def fixed_points(model):
    return find_fixed_points(model)


@pytest.fixture(scope="module")
def result(tmp_path_factory, recording, X, model, fixed_points):
    latents = model.transform(X)
    return write_results(
        tmp_path_factory.mktemp("result") / "session_lrrnn.nwb",
        model,
        latents=latents.assign_attrs(preprocessing=["Smooth(sd=0.05)", "ZScore()"], nwb_path="/units"),
        rates=model.rates(latents),
        fixed_points=fixed_points,
        metrics=pd.DataFrame({"model": ["this", "mean rate"], "score": [-1.5, -2.0]}),
        source=recording,
    )


def test_loaded_model_gives_the_same_numbers(result, model, X):
    loaded = load_model(result)
    assert type(loaded) is LowRankRNN
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))  # to the last bit
    assert loaded.score(X) == model.score(X)
    assert loaded.history_.equals(model.history_)
    assert loaded.n_iter_ == model.n_iter_
    assert loaded.likelihood_ == "poisson"


@pytest.mark.slow
def test_loads_in_another_process(tmp_path, result, model, X):
    np.save(tmp_path / "x.npy", X.values)
    code = (
        "import sys, numpy as np, nwb_lrrnn as lr\n"
        "model = lr.load_model(sys.argv[1])\n"
        "np.save(sys.argv[3], model.transform(np.load(sys.argv[2])))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(result), str(tmp_path / "x.npy"), str(tmp_path / "z.npy")], check=True
    )
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), model.transform(X))


def test_results_hold_every_table(result, model, X, fixed_points):
    results = read_results(result)
    tables = ["trials", "units", "fixed_points", "history", "metrics", "model"]
    assert list(results.children) == [*tables, "parameters", "provenance", "versions", "source", "preprocessing"]
    latents = results["trials/latents"]
    np.testing.assert_array_equal(latents, model.transform(X))
    for name in ("trial", "time", "align_time", "choice"):
        np.testing.assert_array_equal(latents[name], X[name])
    np.testing.assert_array_equal(results["trials/rates"], model.rates(model.transform(X)))
    np.testing.assert_array_equal(results["units/loadings"], model.loadings_)
    np.testing.assert_array_equal(results["units/unit"], X["unit"])
    np.testing.assert_array_equal(results["units/source_row"], np.arange(5))
    assert set(results["units/location"].values) == {"MOs"}
    xr.testing.assert_equal(results["fixed_points"].to_dataset(), fixed_points)
    assert list(results["metrics/score"].values) == [-1.5, -2.0]
    network = LowRankDynamics.from_dataset(results["model"].to_dataset())
    np.testing.assert_array_equal(network.left_vectors, model.left_vectors_)
    assert "latents" in repr(results)


def test_provenance(result, recording):
    results = read_results(result)
    assert results["model"].attrs["estimator"] == "LowRankRNN"
    assert results["parameters"].attrs["rank"] == 2
    assert results["provenance"].attrs["seed"] == 3
    assert results["provenance"].attrs["device"] == "cpu"
    assert results["provenance"].attrs["software"].startswith("nwb_lrrnn ")
    assert results["provenance"].attrs["date"].endswith("+00:00")
    assert {"numpy", "torch", "pynwb"} <= set(results["versions"].attrs)
    place = Path(recording.uri)
    source = results["source"].attrs
    assert (result.parent / source["uri"]).resolve() == place.resolve()
    assert not Path(source["uri"]).is_absolute()
    assert str(place.parent).encode() not in result.read_bytes()  # tells of users and machines
    content = place.read_bytes()
    ends = content if len(content) <= 2**21 else content[: 2**20] + content[-(2**20) :]
    assert source["sha256_of_first_and_last_MiB"] == hashlib.sha256(ends).hexdigest()
    assert (source["name"], source["size_in_bytes"]) == (place.name, len(content))
    assert results["source"].attrs["version_tag"] == recording.version_tag
    assert results["source"].attrs["identifier"] == recording.session["identifier"]
    assert results["source"].attrs["nwb_path"] == "/units"
    assert results["preprocessing"].attrs == {"step_1": "Smooth(sd=0.05)", "step_2": "ZScore()"}


def test_session_is_that_of_the_source(result, recording):
    copy = open_nwb(result).session
    for name in ("institution", "lab", "experimenter", "session_start_time", "subject_id", "subject_species"):
        assert copy[name] == recording.session[name]
    assert copy["identifier"] != recording.session["identifier"]


def test_validators_and_pynapple_accept_the_file(result):
    import pynapple as nap
    from nwbinspector import Importance, inspect_nwbfile
    from pynwb import validate

    assert validate(path=str(result)) == []
    found = list(inspect_nwbfile(nwbfile_path=str(result)))
    assert [m for m in found if m.importance.value > Importance.BEST_PRACTICE_SUGGESTION.value] == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynapple's own
        data = nap.load_file(str(result))
    assert data["latents"].shape == (180, 2)


def test_one_trial_and_data_frames(tmp_path):
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(60, 3)).cumsum(axis=0), index=np.arange(60) * 0.1 + 5, columns=list("abc"))
    model = quick(frame, LinearStateSpace, bin_size=0.1)
    latents = model.transform(frame)
    path = write_results(tmp_path / "a.nwb", model, latents=latents)
    stored = read_results(path)["trials/latents"]
    assert stored.dims == ("time", "latent")
    np.testing.assert_array_equal(stored, latents)
    np.testing.assert_allclose(stored["time"], frame.index)
    np.testing.assert_array_equal(load_model(path).transform(frame), latents)


def test_bins_of_one_second_are_known_as_such(tmp_path):
    X = counts().astype(float)
    X = X.assign_coords(time=np.arange(X.sizes["time"]) + 0.5).assign_attrs(bin_size=1.0)
    model = quick(X, LinearStateSpace)
    latents = model.transform(X)
    path = write_results(tmp_path / "a.nwb", model, latents=latents)
    assert model.bin_size_is_known_
    assert load_model(path).bin_size_is_known_ is True
    stretched = latents.assign_coords(time=2 * latents["time"]).drop_attrs()
    with pytest.raises(ValueError, match=r"latents: got times that step by 2 s with a bin_size of 1 s"):
        write_results(tmp_path / "b.nwb", model, latents=stretched)
    # where nobody knows the width of the bins, times may be any
    model = quick(X.values, LinearStateSpace)
    path = write_results(tmp_path / "b.nwb", model, latents=stretched)
    assert (model.bin_size_, model.bin_size_is_known_) == (1.0, False)
    assert load_model(path).bin_size_is_known_ is False


def test_ragged_trials_come_back_padded(tmp_path):
    rng = np.random.default_rng(3)
    trials = [rng.normal(size=(n, 3)).cumsum(axis=0) for n in (20, 30, 14)]
    model = quick(trials, LinearStateSpace)
    latents = model.transform(trials)
    stored = read_results(write_results(tmp_path / "a.nwb", model, latents=latents))["trials/latents"]
    assert stored.shape == (3, 30, 2)
    for k, trial in enumerate(latents):
        np.testing.assert_array_equal(stored[k, : len(trial)], trial)
        assert np.isnan(stored[k, len(trial) :]).all()


def test_ragged_trials_keep_their_session_times(tmp_path, X):
    stretches = [X[0].assign_coords(time=X["time"] + 5.2), X[1, :20].assign_coords(time=X["time"][:20] + 1.2)]
    stretches = [stretch.drop_vars("align_time") for stretch in stretches]
    model = quick(stretches, LinearStateSpace)
    path = write_results(tmp_path / "a.nwb", model, latents=model.transform(stretches))
    stored = read_results(path)["trials/latents"]
    np.testing.assert_allclose(stored["align_time"] + stored["time"][0], [5.01, 1.01])
    np.testing.assert_array_equal(stored["trial"], [10, 11])
    with h5py.File(path) as file:  # rows lie in the order of the session
        np.testing.assert_allclose(file["processing/lrrnn/latent_trials/start_time"][()], [1.0, 5.0])


def test_ragged_trials_on_one_axis(tmp_path, X):
    stretches = [X[1], X[0, :20]]
    model = quick(stretches, LinearStateSpace)
    stored = read_results(write_results(tmp_path / "a.nwb", model, latents=model.transform(stretches)))
    np.testing.assert_allclose(stored["trials/time"], X["time"])
    np.testing.assert_array_equal(stored["trials/align_time"], X["align_time"][[1, 0]])


def test_model_alone_and_metrics_as_numbers(tmp_path, model):
    path = write_results(tmp_path / "a.nwb", model, metrics={"score": -1.5})
    results = read_results(path)
    assert "trials" not in results.children
    assert results["metrics"].attrs == {"score": -1.5}
    assert "source" not in results.children


def test_addresses_are_noted_without_their_secrets(tmp_path, model, X):
    secret = "https://me:password@host.org/a.nwb?X-Amz-Signature=0123"
    latents = model.transform(X).assign_attrs(source=secret)
    path = write_results(tmp_path / "a.nwb", model, latents=latents, source=secret)
    assert read_results(path)["source"].attrs["uri"] == "https://host.org/a.nwb"
    assert read_results(path)["trials/latents"].attrs["source"] == "https://host.org/a.nwb"
    assert b"password" not in path.read_bytes()
    assert b"Signature" not in path.read_bytes()
    assert without_secrets("s3://bucket/a.nwb?versionId=1") == "s3://bucket/a.nwb"


def test_source_may_be_a_path(tmp_path, model, recording):
    path = write_results(tmp_path / "a.nwb", model, source=recording.uri)
    assert read_results(path)["source"].attrs["version_tag"] == recording.version_tag


def test_nothing_is_replaced_unasked(tmp_path, model, result, recording):
    path = write_results(tmp_path / "a.nwb", model)
    with pytest.raises(FileExistsError, match="which exists"):
        write_results(path, model)
    assert write_results(path, model, overwrite=True) == path
    before = Path(recording.uri).read_bytes()
    with pytest.raises(FileExistsError, match="a recording is never replaced"):
        write_results(recording.uri, model, overwrite=True)
    assert Path(recording.uri).read_bytes() == before


def test_refusals(tmp_path, model, X):
    from sklearn.decomposition import PCA

    with pytest.raises(TypeError, match="model: got a PCA, wanted a fitted LowRankRNN or"):
        write_results(tmp_path / "a.nwb", PCA())
    with pytest.raises(NotFittedError):
        write_results(tmp_path / "a.nwb", LowRankRNN())
    with pytest.raises(ValueError, match="latents: got dims .* with 2 latents"):
        write_results(tmp_path / "a.nwb", model, latents=X)
    with pytest.raises(ValueError, match="latents: got dims .* with 2 latents"):
        write_results(tmp_path / "a.nwb", model, latents=np.zeros((2, 10, 3)))
    with pytest.raises(TypeError, match="latents: got str"):
        write_results(tmp_path / "a.nwb", model, latents="latents")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        write_results(tmp_path / "a.nwb", model, source=tmp_path / "none.nwb")
    assert list(tmp_path.iterdir()) == []


def test_only_known_estimators_are_made(tmp_path, recording):
    path = write_module(
        tmp_path / "a.nwb", info=[("model", "estimator", "os.system"), ("dims", "coordinates", [])], state={"x": 1.0}
    )
    with pytest.raises(ValueError, match=r"kind 'os.system', but this version .* knows LowRankRNN"):
        load_model(path)
    with pytest.raises(ValueError, match="wanted one written by nwb_lrrnn"):
        load_model(recording.uri)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_results(tmp_path / "none.nwb")


def test_everything_in_the_file_is_plain(result):
    with h5py.File(result) as file:
        values = [text.decode() for text in file["processing/lrrnn/fit_info/value"][()]]
    assert all(not isinstance(json.loads(value), dict) for value in values)
