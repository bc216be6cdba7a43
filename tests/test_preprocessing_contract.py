"""scikit-learn's own checks on every preprocessing step, in full, and the steps inside its pipelines and searches."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

import nwb_lrrnn as lr
from nwb_lrrnn.models.linear import FactorAnalysis

ORDER = {
    "check_methods_sample_order_invariance": "time bins are not exchangeable",
    "check_methods_subset_invariance": "time bins are not independent of each other",
}
STEPS = [
    (lr.Smooth(sd=1.0), ORDER),
    (lr.Smooth(sd=1.0, causal=True), ORDER),
    (lr.SquareRoot(), {}),
    (lr.ZScore(), {}),
    (lr.SoftNormalise(offset=1.0), {}),
    (lr.Filter(high=0.2, order=1), ORDER),
    (lr.Resample(rate=1.0, how="mean"), {}),
    (lr.DeltaFOverF(percentile=100.0), {}),
    (lr.DeltaFOverF(percentile=100.0, window=15), ORDER),
    (lr.PCADenoise(rank=1), {}),
    (lr.SelectUnits(), {}),
]


def checks():
    for step, failing in STEPS:
        for instance, check in estimator_checks_generator(step, expected_failed_checks=None, mark=None):
            name = check.func.__name__
            marks = [pytest.mark.xfail(reason=failing[name], strict=True)] if name in failing else []
            yield pytest.param(instance, check, marks=marks, id=f"{step!r}-{name}")


@pytest.mark.parametrize(("step", "check"), list(checks()))
def test_sklearn_check(step, check):
    check(step)


@pytest.fixture
def X(rng):
    """Return six trials of three units that share an oscillation."""
    z = np.cos(0.4 * np.arange(20) + rng.uniform(0, 6, size=(6, 1)))
    values = 3.0 + z[..., None] * [1.0, -1.0, 0.5] + 0.1 * rng.standard_normal((6, 20, 3))
    coords = {"trial": np.arange(6), "time": 0.1 * np.arange(20), "unit": ["a", "b", "c"]}
    return xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": 0.1})


@pytest.fixture(autouse=True)
def _few_steps_do_not_converge():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("step", [step for step, _ in STEPS], ids=repr)
def test_steps_pickle_clone_and_name_their_units(step, X):
    fitted = clone(step).set_params(**({"sd": 0.1} if hasattr(step, "sd") else {})).fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    assert again.transform(X).identical(fitted.transform(X))
    lazy = pickle.loads(pickle.dumps(fitted.transform(X.chunk(trial=2))))
    np.testing.assert_allclose(lazy.values, fitted.transform(X).values, rtol=1e-12, atol=1e-12)
    assert not hasattr(clone(fitted), "unit_ids_")
    assert fitted.get_feature_names_out().tolist() == ["x0", "x1", "x2"]
    assert not hasattr(fitted, "set_output")
    with pytest.raises(NotFittedError):
        clone(step).transform(X)


def test_a_pipeline_hands_on_units_bins_and_the_names_of_its_steps(X):
    model = make_pipeline(lr.SelectUnits("unit != 'c'"), lr.Smooth(sd=0.1), lr.ZScore(), FactorAnalysis(rank=1))
    latents = model.fit(X).transform(X)
    assert model[-1].unit_ids_.tolist() == ["a", "b"]
    assert model[-1].bin_size_ == 0.1
    assert latents.attrs["preprocessing"] == ["SelectUnits(query=\"unit != 'c'\")", "Smooth(sd=0.1)", "ZScore()"]
    by_hand = X.sel(unit=["a", "b"])
    for step in (lr.Smooth(sd=0.1), lr.ZScore()):
        by_hand = step.fit_transform(by_hand)
    np.testing.assert_allclose(latents, FactorAnalysis(rank=1).fit_transform(by_hand), rtol=1e-12)
    assert np.isfinite(model.score(X))
    assert model[1:-1].fit(X).get_feature_names_out().tolist() == ["x0", "x1", "x2"]


def test_statistics_are_fitted_inside_each_fold(X):
    seen = []

    class Spy(lr.ZScore, auto_wrap_output_keys=None):
        def fit(self, X, y=None):
            seen.append(X["trial"].values.tolist())
            return super().fit(X, y)

    cross_val_score(make_pipeline(Spy(), FactorAnalysis(rank=1)), X, cv=3)
    assert seen == [[2, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 3]]


@pytest.mark.parametrize("kind", ["trials", "list", "lazy"])
def test_searches_run_over_the_parameters_of_steps(X, kind):
    X = {"trials": X, "list": list(X), "lazy": X.chunk(trial=2)}[kind]
    model = make_pipeline(lr.Smooth(sd=0.1), lr.PCADenoise(rank=1), lr.ZScore(), lr.LinearStateSpace(1, max_iter=2))
    grid = {"smooth__sd": [0.05, 0.2], "pcadenoise__rank": [2, 3]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert cross_val_score(model, X, cv=3).shape == (3,)


def test_inputs_pass_the_steps_by(X, rng):
    inputs = rng.standard_normal((6, 20, 1))
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_pipeline(lr.Smooth(sd=0.1), lr.ZScore(), lr.LinearStateSpace(1, max_iter=2))
        model.fit(X, inputs=inputs)
        assert model[-1].n_inputs_ == 1
        assert model.transform(X, inputs=inputs).shape == (6, 20, 1)
        assert np.isfinite(model.score(X, inputs=inputs))
        search = GridSearchCV(model, {"smooth__sd": [0.05, 0.2]}, cv=2).fit(X, inputs=inputs)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_network_is_fitted_to_what_the_steps_leave(X):
    network = lr.LowRankRNN(rank=1, n_neurons=5, max_epochs=2, validation_fraction=0.0, random_state=0)
    model = make_pipeline(lr.Smooth(sd=0.1), lr.ZScore(), network).fit(X)
    assert model.transform(X).dims == ("trial", "time", "latent")
    assert np.isfinite(model.score(X))
