"""Result files of every version open for ever: the same model, the same numbers, valid NWB."""

import gzip
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from pynwb import NWBHDF5IO, validate

from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.io.writing.module_info import read_info
from nwb_lrrnn.models import ESTIMATORS
from nwb_lrrnn.results import load_model, read_results
from small_results import unstorable

FOLDER = Path(__file__).parent / "fixtures"
# Groups beside trials, units, history and model.
FIXTURES = {
    "results_0_1": {
        "dis_gaussian": {"fixed_points"},
        "dis_mlp": set(),
        "dis_poisson": set(),
        "factor_analysis": set(),
        "into_recording": {"metrics"},
        "least_squares_gaussian": set(),
        "least_squares_poisson": set(),
        "least_squares_units": set(),
        "linear_gaussian": set(),
        "linear_poisson": set(),
        "low_rank_gaussian": {"fixed_points", "metrics"},
        "low_rank_negative_binomial": set(),
        "low_rank_poisson": {"metrics"},
        "smc_encoder": set(),
        "smc_gaussian": set(),
        "smc_poisson": set(),
    },
}
KNOWN = set(ESTIMATORS)
# between them every table that a file may have; pynwb takes half a second for each
WITH_ALL_TABLES = ("dis_mlp", "into_recording", "low_rank_gaussian", "low_rank_poisson", "smc_encoder")
NAMES = [f"{folder}/{name}" for folder, names in FIXTURES.items() for name in names]

PYNWB = [
    name if name.split("/")[1] in WITH_ALL_TABLES else pytest.param(name, marks=pytest.mark.slow) for name in NAMES
]

# One computation, on another processor or with another version of a library: sums in another order.
EXACT = {"rtol": 1e-6, "atol": 1e-6}
# Particles of float32 have 7 digits, of which a dozen bins may each take a few units of the last. The particle noise
# itself is drawn from the content of a trial, so that it repeats.
SINGLE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def path(name, tmp_path_factory):
    return unpacked(name, tmp_path_factory.mktemp("fixture"))


@pytest.fixture(scope="module")
def said(name):
    with np.load(FOLDER / f"{name}.npz") as kept:
        return dict(kept)


@pytest.fixture(scope="module")
def results(path):
    return read_results(path)


@pytest.fixture(scope="module")
def model(path):
    return load_model(path)


def unpacked(name, folder):
    path = folder / f"{Path(name).name}.nwb"
    path.write_bytes(gzip.decompress((FOLDER / f"{name}.nwb.gz").read_bytes()))
    return path


def asked(said):
    """Return the recording and the inputs, or None, in the kind that the model was fitted to."""
    X, inputs = said["X"], said.get("inputs")
    if "bin_size" in said:
        coords = {dim: said[dim] for dim in ("trial", "time", "unit")}
        X = xr.DataArray(X, dims=list(coords), coords=coords, attrs={"bin_size": float(said["bin_size"])})
    if "input" in said:
        coords = {"trial": said["trial"], "time": said["time"], "input": said["input"]}
        inputs = xr.DataArray(inputs, dims=list(coords), coords=coords)
    return X, inputs


def tolerance(model):
    return SINGLE if model.get_params().get("dtype") == "float32" else EXACT


def test_every_fixture_is_there():
    there = {folder.name for folder in FOLDER.glob("results_*")}
    assert there == set(FIXTURES)
    for folder, names in FIXTURES.items():
        found = sorted(file.name for file in (FOLDER / folder).iterdir())
        assert found == sorted(f"{name}{suffix}" for name in names for suffix in (".nwb.gz", ".npz"))


def test_this_version_has_fixtures():
    major, minor = version("nwb-lrrnn").split(".")[:2]
    assert f"results_{major}_{minor}" in FIXTURES, "a new version: run tests/fixtures/make.py and name its files above"


@pytest.mark.parametrize("folder", FIXTURES)
def test_every_estimator_has_a_fixture(folder, tmp_path):
    found = set()
    for name in FIXTURES[folder]:
        with h5py.File(unpacked(f"{folder}/{name}", tmp_path)) as file:
            found.add(read_info(file["processing/lrrnn/fit_info"])["model"]["estimator"])
    assert found <= KNOWN  # none of an old version is forgotten
    if folder == list(FIXTURES)[-1]:
        assert found == KNOWN


def test_results_open(name, results, said):
    more = FIXTURES[name.split("/")[0]][name.split("/")[1]]
    of_all = {"trials", "units", "history", "model", "parameters", "provenance", "versions"}
    assert set(results.children) - {"source", "preprocessing"} == of_all | more
    assert unstorable(results) == []
    assert all(results[group].sizes or results[group].attrs for group in results.children)  # none is empty
    latents = results["trials/latents"]
    np.testing.assert_array_equal(latents, said["latents"])
    for label in ("trial", "time"):
        if label in said:
            np.testing.assert_array_equal(latents[label], said[label])
    assert results["units/loadings"].sizes["unit"] == said["X"].shape[2]
    assert ("rates" in results["trials"]) == (results["model"].attrs["likelihood_"] != "gaussian")
    assert results["provenance"].attrs["software"].startswith("nwb_lrrnn ")


def test_dynamics_are_the_same_to_the_last_bit(model, said):
    loaded = model.readout_network_.to_dataset()
    names = [key.removeprefix("dynamics.") for key in said if key.startswith("dynamics.")]
    assert {"left_vectors", "right_vectors", "loadings", "offset"} <= set(names)
    for name in names:
        np.testing.assert_array_equal(loaded[name], said[f"dynamics.{name}"])


def test_whether_the_bin_size_is_known_is_known(model, said):
    assert model.bin_size_is_known_ == ("bin_size" in said)


def test_latents_and_score_are_the_same(model, said):
    X, inputs = asked(said)
    np.testing.assert_allclose(model.transform(X, inputs=inputs), said["latents"], **tolerance(model))
    np.testing.assert_allclose(model.score(X, inputs=inputs), said["score"], **tolerance(model))


def test_simulated_trials_are_the_same(model, said):
    arguments = {key.removeprefix("simulate."): int(said[key]) for key in said if key.startswith("simulate.")}
    if not arguments:
        with pytest.raises(AttributeError, match="this model has no LowRankDynamics"):
            model.simulate(1, 2)
        return
    inputs = said.get("inputs")
    if inputs is not None:
        inputs = inputs[: arguments["n_trials"], : arguments["n_steps"]]
    simulated = model.simulate(**arguments, inputs=inputs)
    for variable in ("latents", "observations"):
        np.testing.assert_allclose(simulated[variable], said[f"simulated_{variable}"], **EXACT)


@pytest.mark.parametrize("name", PYNWB, indirect=True)
def test_pynwb_opens_and_accepts_the_file(path):
    assert validate(path=str(path)) == []
    with NWBHDF5IO(str(path), "r") as io:
        module = io.read().processing["lrrnn"]
        assert {"latents", "latent_trials", "unit_loadings", "fit_info", "model_state"} <= set(module.data_interfaces)


@pytest.mark.parametrize("folder", [folder for folder, names in FIXTURES.items() if "into_recording" in names])
def test_a_recording_with_results_still_gives_its_data(folder, tmp_path):
    with np.load(FOLDER / folder / "into_recording.npz") as said:
        X, _ = asked(said)
    recording = open_nwb(unpacked(f"{folder}/into_recording", tmp_path))
    n_bins, bin_size = X.sizes["time"], X.attrs["bin_size"]
    again = recording.spikes(
        bin_size, align="go_cue_time", window=(0.0, n_bins * bin_size), units=list(X["unit"].values)
    )
    np.testing.assert_array_equal(again, X)
