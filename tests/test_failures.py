"""Where numbers leave what can be computed, one sentence names the odd entry of X."""

import numpy as np
import pytest

from nwb_lrrnn import LowRankRNN
from nwb_lrrnn.models.failures import in_a_sentence, refuse_nan
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.parameters import positive
from nwb_lrrnn.trials import as_trials

COUNTS = np.random.default_rng(0).poisson(1.0, (6, 12, 3)).astype(float)


def with_burst():
    X = COUNTS.copy()
    X[2, 5, 1] = 1e6
    return X


@pytest.mark.parametrize(
    "error",
    [np.linalg.LinAlgError("Singular matrix"), ValueError("Input X contains NaN."), FloatingPointError("overflow")],
)
def test_texts_of_linear_algebra_become_a_sentence(error):
    wanted = "X: the fit did not stay finite; 1e.06 at trial 2, time 5, unit 1 is 1e.06 times what this unit typically"
    with pytest.raises(ValueError, match=wanted), in_a_sentence("the fit", as_trials(with_burst())):
        raise error
    with pytest.raises(ValueError, match="there are 3 units in 6 trials"), in_a_sentence("the fit", as_trials(COUNTS)):
        raise error


@pytest.mark.parametrize("error", [ValueError("rank: got 4"), ZeroDivisionError("division by zero"), TypeError("inf")])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error), match=str(error)), in_a_sentence("the fit", as_trials(COUNTS)):
        raise error


def test_a_result_that_is_no_number_is_an_error():
    refuse_nan("the score", np.array([1.0, -np.inf]), as_trials(COUNTS))
    with pytest.raises(ValueError, match="X: the score did not stay finite; 1e.06 at trial 2, time 5, unit 1"):
        refuse_nan("the score", np.array([1.0, np.nan]), as_trials(with_burst()))


def test_a_sentence_of_the_package_is_not_another_one():
    with pytest.raises(ValueError, match="learning_rate: got nan"), in_a_sentence("the fit", as_trials(COUNTS)):
        positive("learning_rate", np.nan)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("model", [LinearStateSpace(1, max_iter=30), LowRankRNN(1, n_neurons=4, max_epochs=2)])
def test_one_enormous_bin_is_fitted_or_named(model):
    score, said = 0.0, "at trial 2, time 5, unit 1"
    try:
        score = model.fit(with_burst()).score(COUNTS)
    except ValueError as error:
        said = str(error)
    assert np.isfinite(score)
    assert "at trial 2, time 5, unit 1" in said
