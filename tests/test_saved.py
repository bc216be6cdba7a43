"""What is returned can be saved by every engine of xarray, comes back the same, and says what its axes are."""

import importlib.util

import numpy as np
import pytest
import xarray as xr

import nwb_lrrnn as lr
from nwb_lrrnn.analysis import metrics
from nwb_lrrnn.compare import held_out_scores, tabulate
from small_results import BIN, aligned, counts, make_recording, quick, unstorable

MODELS = (lr.LinearStateSpace, lr.DisRNN, lr.LowRankRNN, lr.SMCLowRankRNN)
HOMES = {"h5netcdf": "h5netcdf", "netcdf4": "netCDF4", "zarr": "zarr"}
ENGINES = [engine for engine, home in HOMES.items() if importlib.util.find_spec(home)]
UNSTABLE = "ignore:The data type .* does not have a Zarr V3 specification"  # texts, as zarr says of its own dtype


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return make_recording(tmp_path_factory.mktemp("saved") / "recording.nwb")


@pytest.fixture(scope="module")
def X(recording):
    return aligned(recording)


@pytest.fixture(scope="module")
def models(X):
    return {cls.__name__: quick(X, cls) for cls in MODELS}


@pytest.fixture(scope="module")
def results(recording, X, models, tmp_path_factory):
    """Return the paths of files with everything that can be written, by the name of the model."""
    folder, paths = tmp_path_factory.mktemp("results"), {}
    for name, model in models.items():
        latents = model.transform(X)
        more = {"rates": model.rates(latents), "fixed_points": lr.find_fixed_points(model)}
        if name == "LinearStateSpace":
            more["metrics"] = compared(model, X)
        else:
            more["metrics"] = {"score": -1.5}
        paths[name] = lr.write_results(folder / f"{name}.nwb", model, latents=latents, source=recording, **more)
    return paths


def compared(model, X):
    return lr.compare_baselines(model, X[4:], cv="prefit", X_train=X[:4], larger_ranks=())


def returned(recording, X, models, results):
    """Return everything of xarray that public functions and methods return, by name."""
    linear, dis, smc = (models[name] for name in ("LinearStateSpace", "DisRNN", "SMCLowRankRNN"))
    out = {
        "spikes": X,
        "lazy spikes": recording.spikes(BIN),
        "events": recording.events("go_cue_time", like=X),
        "trials": recording.trials,
        "datatree": recording.to_datatree(),
        "opened": xr.open_dataset(recording.uri, engine="nwb"),
        "chopped": lr.chop(X[0], 0.1),
        "smoothed": lr.Smooth(sd=0.04).fit_transform(X),
        "resampled": lr.Resample(rate=25.0).fit_transform(X),
        "modes": linear.modes(),
        "connectivity": dis.connectivity(),
        "sub-connectivity": dis.sub_connectivity(0),
        "trajectories": smc.trajectories(X[:2], n_draws=2),
        "generation_scores": metrics.generation_scores(linear, X, n_generations=2),
        "co_smoothing": metrics.co_smoothing(linear, X, X, [7, 8]),
        "forecast_scores": metrics.forecast_scores(linear, X, [1, 2]),
        "compare_activity": metrics.compare_activity(X, X),
        "state_space_divergence": metrics.state_space_divergence(X, X),
        "phase_surrogate": metrics.phase_surrogate(X),
        "held_out_scores": held_out_scores(linear, X[4:], cv="prefit", X_train=X[:4], larger_ranks=()),
        "comparison": compared(linear, X).to_xarray(),
    }
    for name, model in models.items():
        latents = model.transform(X)
        out |= {
            f"{name}.transform": latents,
            f"{name}.inverse_transform": model.inverse_transform(latents),
            f"{name}.rates": model.rates(latents),
            f"{name}.score_trials": model.score_trials(X),
            f"{name}.simulate": model.simulate(2, 5, random_state=0),
            f"{name}.history_": model.history_,
            f"{name}.to_dataset": model.to_dataset(),
            f"{name}.dynamics_": model.dynamics_.to_dataset(),
            f"{name}.dynamics_.connectivity": model.dynamics_.connectivity(),
            f"find_fixed_points({name})": lr.find_fixed_points(model),
            f"read_results({name})": lr.read_results(results[name]),
        }
    return out


def save(data, path, engine):
    if engine == "zarr":
        data.to_zarr(path, consolidated=False)
    else:
        data.to_netcdf(path, engine=engine)


@pytest.mark.slow
@pytest.mark.filterwarnings(UNSTABLE)
def test_everything_returned_can_be_saved(recording, X, models, results, tmp_path):
    given = returned(recording, X, models, results)
    assert {name: wrong for name, data in given.items() if (wrong := unstorable(data))} == {}
    for engine in ENGINES[:1]:
        for k, (name, data) in enumerate(given.items()):
            if "RNN" not in name:  # the same kinds as those of the linear model
                save(data, tmp_path / str(k), engine)


def test_the_check_finds_what_cannot_be_saved():
    data = xr.Dataset({"a": ("x", [1j])}, attrs={"flag": True, "none": None, "dict": {}, "fine": [1, 2.5]})
    assert unstorable(data) == [": flag=True", ": none=None", ": dict={}", "a is complex128"]


@pytest.mark.filterwarnings(UNSTABLE)
@pytest.mark.parametrize(
    ("name", "engine"),
    [*((cls.__name__, engine) for cls in MODELS for engine in ENGINES[:1]), *(("DisRNN", e) for e in ENGINES[1:])],
)
def test_models_and_results_come_back(name, engine, X, models, results, tmp_path):
    model, tree = models[name], lr.read_results(results[name])
    options = {"consolidated": False} if engine == "zarr" else {}
    save(model.to_dataset(), tmp_path / "model", engine)
    again = type(model).from_dataset(xr.load_dataset(tmp_path / "model", engine=engine, **options))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.unit_ids_, model.unit_ids_)
    assert again.get_params() == lr.load_model(results[name]).get_params()
    assert again.bin_size_is_known_ is True
    assert again.is_stable_ is model.is_stable_
    assert again.dynamics_.filter_inputs is model.dynamics_.filter_inputs
    assert type(again.n_iter_) is int
    save(tree, tmp_path / "tree", engine)
    with xr.open_datatree(tmp_path / "tree", engine=engine, **options) as back:
        assert set(back.groups) == set(tree.groups)
        np.testing.assert_array_equal(back["trials/latents"], tree["trials/latents"])
        assert back["source"].attrs["uri"] == tree["source"].attrs["uri"]
        from_tree = type(model).from_dataset(back["model"].to_dataset().load())
    np.testing.assert_array_equal(from_tree.transform(X), model.transform(X))


def test_a_model_is_saved_as_netcdf_3_too(X, models, tmp_path):
    model = models["LinearStateSpace"]
    model.to_dataset().to_netcdf(tmp_path / "model.nc", engine="scipy")
    again = lr.LinearStateSpace.from_dataset(xr.load_dataset(tmp_path / "model.nc", engine="scipy"))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


@pytest.mark.skipif("h5netcdf" not in ENGINES, reason="h5netcdf is not installed")
def test_a_table_is_made_of_scores_that_were_saved(X, models, tmp_path):
    scores = held_out_scores(models["LinearStateSpace"], X[4:], cv="prefit", X_train=X[:4], larger_ranks=[3])
    scores.attrs["notes"] = ["One note."]  # netCDF gives a list of one back as that one
    scores.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    assert repr(tabulate(xr.load_dataset(tmp_path / "scores.nc"))) == repr(tabulate(scores))


def test_latents_and_rates_say_what_they_are(X, models, results):
    model = models["LinearStateSpace"]
    latents = model.transform(X)
    rates, expected = model.rates(latents), model.inverse_transform(latents)
    stored = lr.read_results(results["LinearStateSpace"])["trials"]
    for trials in (xr.Dataset({"latents": latents, "rates": rates}), stored):
        assert trials["latents"].coords["latent"].values.tolist() == [0, 1]
        assert trials["latents"].attrs["units"] == "a.u."
        assert trials["latents"].attrs["long_name"] == "latents"
        assert trials["rates"].attrs["units"] == "spikes/s"
        assert trials["time"].attrs["units"] == "s"
    assert (expected.name, expected.attrs["units"]) == ("expected", "counts")
    drawn = model.simulate(2, 5, random_state=0)
    assert [drawn[name].attrs["units"] for name in ("latents", "observations", "time")] == ["a.u.", "counts", "s"]


def test_without_a_bin_size_rates_are_per_bin_and_time_counts_in_bins(X):
    model = quick(X.drop_vars("time").drop_attrs(), lr.LinearStateSpace)
    assert model.rates(model.transform(X.drop_vars("time").drop_attrs())).attrs["units"] == "spikes per bin"
    assert model.simulate(1, 3, random_state=0)["time"].attrs["units"] == "bins"


def test_plots_of_xarray_are_labelled(X, models, results):
    pytest.importorskip("matplotlib")
    from matplotlib import pyplot as plt

    model = models["LinearStateSpace"]
    latents = model.transform(X)
    shown = {"latents": latents[0, :, 0], "rates": model.rates(latents)[0, :, 0]}
    labels = {}
    for name, data in shown.items():
        figure, axes = plt.subplots()
        data.plot(ax=axes)
        labels[name] = axes.get_xlabel(), axes.get_ylabel()
        plt.close(figure)
    assert labels == {"latents": ("time [s]", "latents [a.u.]"), "rates": ("time [s]", "rates [spikes/s]")}


def test_the_numbers_of_a_mapping_and_of_where_it_came_from_are_attributes(results):
    tree = lr.read_results(results["DisRNN"])
    assert tree["metrics"].attrs == {"score": -1.5}
    assert tree["parameters"].attrs["rank"] == 2
    assert tree["parameters"].attrs["bin_size"] == "null"  # netCDF has no None
    assert tree.attrs == {"layout": 1}
    assert counts().sizes["unit"] == tree["units"].sizes["unit"]
