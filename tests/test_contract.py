"""scikit-learn's own checks on every estimator, in full, and its tools on the kinds of X with trials."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from nwb_lrrnn import models
from nwb_lrrnn.models import ESTIMATORS
from small_models import MODELS, NETWORKS

ORDER = {
    "check_methods_sample_order_invariance": "time bins are not exchangeable",
    "check_methods_subset_invariance": "time bins are not independent of each other",
}
# times count in bins; the network is fitted in one window, not in the longest of three: a fifth of the time
SMALL = {name: clone(model).set_params(bin_size=None) for name, model in MODELS.items()}
SMALL["LowRankRNN"].set_params(shooting_window=1000.0)


def test_every_estimator_has_a_small_instance():
    assert set(ESTIMATORS) <= set(SMALL)
    for name, model in SMALL.items():
        assert type(model).__name__ == name
        assert name not in ESTIMATORS or type(model) is getattr(models, name)


def checks():
    for name, estimator in SMALL.items():
        failing = ORDER if name in NETWORKS else {}
        for instance, check in estimator_checks_generator(estimator, expected_failed_checks=None, mark=None):
            reason = failing.get(check.func.__name__)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            yield pytest.param(instance, check, marks=marks, id=f"{name}-{check.func.__name__}")


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_sklearn_check(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.fixture(scope="module")
def trials():
    rng = np.random.default_rng(0)
    z = np.cos(0.4 * np.arange(20) + rng.uniform(0, 6, size=(6, 1)))
    return z[..., None] * [1.0, -1.0, 0.5] + 0.1 * rng.standard_normal((6, 20, 3))


@pytest.fixture(autouse=True)
def _few_epochs_do_not_converge():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("kind", ["array", "list"])
@pytest.mark.parametrize(
    "model",
    [SMALL[name] for name in NETWORKS],
    ids=NETWORKS,
)
def test_grid_search_and_cross_validation_run_over_trials(trials, model, kind):
    X = trials if kind == "array" else list(trials)
    search = GridSearchCV(model, {"rank": [1, 2]}, cv=2).fit(X)
    assert search.best_params_["rank"] in (1, 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert cross_val_score(model, X, cv=3).shape == (3,)


@pytest.mark.parametrize(
    "model", [SMALL[name] for name in NETWORKS if name != "LowRankRNN"], ids=lambda model: type(model).__name__
)
def test_inputs_go_through_a_pipeline_and_a_grid_search(trials, model):
    u = np.random.default_rng(1).standard_normal((6, 20, 1))
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(FunctionTransformer(np.copy), clone(model))
        pipeline.fit(trials, inputs=u)
        assert pipeline.transform(trials, inputs=u).shape == (6, 20, 1)
        assert np.isfinite(pipeline.score(trials, inputs=u))
        search = GridSearchCV(model, {"rank": [1, 2]}, cv=2).fit(trials, inputs=u)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
