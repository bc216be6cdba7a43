"""scikit-learn's own checks on every estimator, in full."""

import warnings

import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
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
