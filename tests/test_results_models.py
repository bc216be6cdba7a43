"""Every estimator comes back from its file: parameters, fitted state, latents and score to the last bit."""

import numpy as np
import pytest

from nwb_lrrnn.models.dis import DisRNN
from nwb_lrrnn.models.least_squares import LeastSquaresRNN
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.models.smc import SMCLowRankRNN
from nwb_lrrnn.results import load_model, read_results, write_results
from small_results import aligned, make_recording, quick


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return make_recording(tmp_path_factory.mktemp("recording") / "session.nwb")


@pytest.fixture(scope="module")
def X(recording):
    return aligned(recording)


@pytest.mark.parametrize(
    ("cls", "n_inputs"),
    [
        *((cls, n) for cls in (LowRankRNN, LinearStateSpace, LeastSquaresRNN) for n in (0, 2)),
        (SMCLowRankRNN, 2),
    ],
)
def test_arrays_gaussian_and_inputs(tmp_path, cls, n_inputs):
    rng = np.random.default_rng(1)
    Y = rng.normal(size=(4, 25, 3)).cumsum(axis=1)
    inputs = rng.normal(size=(4, 25, n_inputs)) if n_inputs else None
    model = quick(Y, cls, inputs=inputs)
    latents = model.transform(Y, inputs=inputs)
    path = write_results(tmp_path / "a.nwb", model, latents=latents)
    loaded = load_model(path)
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.transform(Y, inputs=inputs), latents)
    assert loaded.score(Y, inputs=inputs) == model.score(Y, inputs=inputs)
    np.testing.assert_array_equal(read_results(path)["trials/latents"], latents)


def test_parameters_of_a_linear_model_come_back(tmp_path, X):
    model = quick(X, LinearStateSpace, posterior="filtered", n_particles=8, random_state=5)
    loaded = load_model(write_results(tmp_path / "a.nwb", model))
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    assert loaded.score(X) == model.score(X)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_a_stochastic_model_of_counts_comes_back(tmp_path, X, likelihood):
    model = quick(X, SMCLowRankRNN, likelihood=likelihood)
    latents = model.transform(X)
    path = write_results(tmp_path / "a.nwb", model, latents=latents)
    loaded = load_model(path)
    assert type(loaded) is SMCLowRankRNN
    assert loaded.get_params() == model.get_params()
    assert (loaded.n_particles_, loaded.n_iter_, loaded.likelihood_) == (8, model.n_iter_, likelihood)
    assert loaded.history_.equals(model.history_)
    np.testing.assert_array_equal(loaded.transform(X), latents)  # to the last bit
    assert loaded.score(X) == model.score(X)
    np.testing.assert_array_equal(loaded.dynamics_.latent_noise, model.dynamics_.latent_noise)


@pytest.mark.parametrize("readout", ["currents", "rates"])
def test_a_stochastic_model_whose_units_are_its_neurons_comes_back(tmp_path, readout):
    Y = np.random.default_rng(1).normal(size=(4, 25, 3)).cumsum(axis=1)
    model = quick(Y, SMCLowRankRNN, readout=readout, n_neurons=None)
    loaded = load_model(write_results(tmp_path / "a.nwb", model))
    np.testing.assert_array_equal(loaded.transform(Y), model.transform(Y))
    assert loaded.score(Y) == model.score(Y)
    assert loaded.loadings_.shape == (3,)


@pytest.mark.parametrize("changes", [{}, {"latents": "units", "likelihood": "gaussian"}, {"validation_fraction": 0.0}])
def test_a_model_by_least_squares_comes_back(tmp_path, X, changes):
    model = quick(X, LeastSquaresRNN, **changes)
    latents = model.transform(X)
    loaded = load_model(write_results(tmp_path / "a.nwb", model, latents=latents))
    assert type(loaded) is LeastSquaresRNN
    assert loaded.get_params() == model.get_params()
    for name in ("stayed_linear_", "penalty_", "n_iter_", "likelihood_"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.history_.equals(model.history_)
    np.testing.assert_array_equal(loaded.transform(X), latents)  # to the last bit
    assert loaded.score(X) == model.score(X)


OF_GROUPS = {
    "recurrent": {"noise": "recurrent"},
    "readout": {"noise": "readout", "likelihood": "gaussian"},
    "poisson": {},
    "negative binomial": {"likelihood": "negative_binomial", "link": "exp"},
    "unequal groups": {"rank": 3, "group_ranks": (1, 2)},
    "no error bars": {"n_bootstraps": 0, "posterior": "filtered"},
    "mlp": {"encoder": "mlp", "max_epochs": 3},
    "lags": {"n_lags": 2, "likelihood": "gaussian"},
    "lags of counts": {"n_lags": 2},
    "paper": {"objective": "paper", "max_epochs": 2, "likelihood": "gaussian"},
}


SLOWER = ("unequal groups", "lags", "negative binomial", "readout")  # what the others store too


@pytest.mark.parametrize(
    ("case", "n_inputs"),
    [
        *(pytest.param(case, 1, marks=pytest.mark.slow if case in SLOWER else []) for case in OF_GROUPS),
        ("recurrent", 0),
        pytest.param("poisson", 0, marks=pytest.mark.slow),
    ],
)
def test_a_model_of_groups_comes_back(tmp_path, X, case, n_inputs):
    data = X + 0.5 if case == "recurrent" else X
    inputs = np.random.default_rng(1).normal(size=(*X.shape[:2], n_inputs)) if n_inputs else None
    model = quick(data, DisRNN, inputs=inputs, **OF_GROUPS[case])
    latents = model.transform(data, inputs=inputs)
    path = write_results(tmp_path / "a.nwb", model, latents=latents)
    loaded = load_model(path)
    assert type(loaded) is DisRNN
    assert loaded.get_params() == model.get_params()
    fitted = ("group_ranks_", "noise_", "likelihood_", "n_iter_", "is_linear_")
    assert [getattr(loaded, name) for name in fitted] == [getattr(model, name) for name in fitted]
    assert loaded.history_.equals(model.history_)
    for posterior in ("smoothed", "filtered", "delayed"):
        again, before = (one.transform(data, inputs=inputs, posterior=posterior) for one in (loaded, model))
        np.testing.assert_array_equal(again, before)  # to the last bit
    assert loaded.score(data, inputs=inputs) == model.score(data, inputs=inputs)
    np.testing.assert_array_equal(loaded.inverse_transform(latents, inputs=inputs), model.inverse_transform(
        latents, inputs=inputs))  # fmt: skip
    results = read_results(path)
    np.testing.assert_array_equal(results["units/loadings"], model.loadings_)
    np.testing.assert_array_equal(results["units/offset"], model.offset_)
    for table in ("trials/latents", "units/loadings"):
        np.testing.assert_array_equal(results[table]["latent_group"], model.latent_groups_)
    if case in ("mlp", "lags", "lags of counts"):
        for one in (model, loaded):
            with pytest.raises(AttributeError, match="this model has no LowRankDynamics: with encoder='mlp' or n_lags"):
                one.connectivity()
        return
    assert loaded.connectivity().identical(model.connectivity())
    assert ("standard_error" in loaded.connectivity().coords) == (model.n_bootstraps > 0)
    for group in range(len(model.group_ranks_)):
        assert loaded.sub_connectivity(group).identical(model.sub_connectivity(group))


@pytest.mark.slow
def test_validators_accept_a_model_of_groups(tmp_path, recording, X):
    from pynwb import validate

    model = quick(X, DisRNN, n_lags=2)
    latents = model.transform(X)
    path = write_results(tmp_path / "a.nwb", model, latents=latents, rates=model.rates(latents), source=recording)
    assert validate(path=str(path)) == []
