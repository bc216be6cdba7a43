"""scikit-learn's splits, searches and pipelines on every estimator and kind of X with trials, beside fits by hand."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import sklearn
import xarray as xr
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline

import nwb_lrrnn as lr
from small_models import BIN, GRIDS, KINDS, MODELS, N_BINS, NETWORKS, drive, ragged, recording

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ONE = ShuffleSplit(1, test_size=2, random_state=0)  # one split, its rows in no order
# scikit-learn cuts X in the same way for all: two models take every kind, the others one each of arrays, dask and lists
ALL_KINDS, SOME_KINDS = ("LinearStateSpace", "MeanRate"), ("labelled", "lazy", "list of arrays")
TRAINED = ["LowRankRNN", "SMCLowRankRNN", "DisRNN"]
QUICK = [name for name in MODELS if name not in TRAINED]
# kinds differ in how their sums are rounded (blocks of dask, lists): far below what gradients turn it into
CLOSE = {"rtol": 0, "atol": 1e-6}


def of_kinds(names):
    """Return the pairs of models and kinds of X that tests try."""
    pairs = [
        pytest.param(name, kind, marks=[] if name in ALL_KINDS or kind == "lazy" else pytest.mark.slow)
        for name in names
        for kind in (KINDS if name in ALL_KINDS else SOME_KINDS)
    ]
    return pytest.mark.parametrize(("name", "kind"), pairs)


@pytest.fixture
def X():
    return recording()


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def rows_of(X, rows):
    return [X[k] for k in rows] if isinstance(X, list) else X[rows]


def by_hand(model, X, cv, groups=None, inputs=None):
    """Return the score of each split, fitted and scored in plain sight, on labelled trials or lists of them."""
    scores = []
    for train, test in cv.split(np.zeros(len(X)), groups=groups):
        known = [{} if inputs is None else {"inputs": rows_of(inputs, rows)} for rows in (train, test)]
        scores.append(clone(model).fit(rows_of(X, train), **known[0]).score(rows_of(X, test), **known[1]))
    return scores


@cache
def expected(name, is_ragged, with_inputs=False):
    X = recording()
    cut = ragged if is_ragged else KINDS["labelled"]
    return by_hand(MODELS[name], cut(X), ONE, inputs=cut(drive(X)) if with_inputs else None)


@cache
def expected_of_grid(name, is_ragged):
    X, ((parameter, values),) = KINDS["labelled"](recording()), GRIDS[name].items()
    models = [clone(MODELS[name]).set_params(**{parameter: value}) for value in values]
    return [np.mean(by_hand(model, ragged(X) if is_ragged else X, KFold(2))) for model in models]


# --- every kind of X -------------------------------------------------------------------------------------------------


@of_kinds(MODELS)
def test_cross_validation_gives_the_scores_of_fits_by_hand(name, kind, X):
    scores = cross_val_score(MODELS[name], KINDS[kind](X), cv=ONE, error_score="raise")
    np.testing.assert_allclose(scores, expected(name, kind.startswith("list")), **CLOSE)


@of_kinds(QUICK)
def test_a_search_on_every_kind_finds_the_same_and_refits_on_all(name, kind, X):
    data = KINDS[kind](X)
    search = GridSearchCV(MODELS[name], GRIDS[name], cv=KFold(2), error_score="raise").fit(data)
    (parameter, values), found = *GRIDS[name].items(), search.cv_results_["mean_test_score"]
    wanted = expected_of_grid(name, kind.startswith("list"))
    np.testing.assert_allclose(found, wanted, **CLOSE)
    assert search.best_params_ == {parameter: values[int(np.argmax(wanted))]}
    best = clone(MODELS[name]).set_params(**search.best_params_).fit(data)
    assert search.best_estimator_.score(data) == search.score(data) == best.score(data)


@pytest.mark.parametrize("name", TRAINED)
def test_the_best_network_of_a_search_is_the_one_fitted_by_hand(name, X):
    search = GridSearchCV(MODELS[name], GRIDS[name], cv=ONE, error_score="raise").fit(X)
    best = clone(MODELS[name]).set_params(**search.best_params_).fit(X)
    np.testing.assert_array_equal(search.best_estimator_.dynamics_.loadings, best.dynamics_.loadings)
    latents = search.transform(X)
    assert latents.identical(best.transform(X))
    assert search.inverse_transform(latents).dims == ("trial", "time", "unit")
    at = search.cv_results_["params"].index({"rank": 1})
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][at], expected(name, False)[0], rtol=1e-12)


def test_splits_keep_the_labels_and_the_lists_of_the_user(X):
    seen = []

    class Spy(lr.LinearStateSpace, auto_wrap_output_keys=None):
        def fit(self, X, y=None, *, inputs=None):
            seen.append(X)
            return super().fit(X, y, inputs=inputs)

    for kind in KINDS:
        cross_val_score(Spy(1, max_iter=1, bin_size=BIN), KINDS[kind](X), cv=ONE, error_score="raise")
        whole, (got,) = KINDS[kind](X), [seen.pop()]
        assert type(got) is type(whole), kind
        assert len(got) == 4
        if isinstance(whole, list):
            assert {type(trial) for trial in got} == {type(whole[0])}
    cross_val_score(Spy(1, max_iter=1), X.chunk(trial=2), cv=ONE, error_score="raise")
    assert seen[0].chunks is not None  # still unread
    train, _ = next(ONE.split(X))
    assert seen[0]["trial"].values.tolist() == (10 + train).tolist()
    assert seen[0]["block"].values.tolist() == X["block"].values[train].tolist()


# --- groups and chopped recordings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_the_trials_keeps_groups_together(kind, X):
    model, labelled = MODELS["LinearStateSpace"], ragged(X) if kind.startswith("list") else X
    for groups, cv in ((X["block"], LeaveOneGroupOut()), (X["block"].values, GroupKFold(2))):
        wanted = by_hand(model, labelled, cv, X["block"].values)
        scores = cross_val_score(model, KINDS[kind](X), cv=cv, groups=groups, error_score="raise")
        np.testing.assert_allclose(scores, wanted, **CLOSE)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*(("LinearStateSpace", kind) for kind in ("labelled", "array", "frame")), *((name, "lazy") for name in MODELS)],
)
def test_a_long_recording_is_cross_validated_once_chopped(name, kind, X):
    flat = X.values.reshape(-1, 3)
    long = xr.DataArray(
        flat, dims=("time", "unit"), coords={"time": (np.arange(len(flat)) + 0.5) * BIN}, attrs={"bin_size": BIN}
    )
    frame = pd.DataFrame(flat, index=long["time"].values, columns=list("abc"))
    whole = {"labelled": long, "lazy": long.chunk(time=20), "array": flat, "frame": frame}[kind]
    step = 1.0 if kind == "array" else BIN  # an array counts in bins; the model's own bin size holds
    windows = lr.chop(whole, N_BINS * step)
    assert windows.dims == ("trial", "time", "unit")
    groups = np.floor(windows["align_time"].values / (2 * N_BINS * step) + 0.01).astype(int)
    assert groups.tolist() == [0, 0, 1, 1, 2, 2]
    scores = cross_val_score(MODELS[name], windows, cv=ONE, error_score="raise")
    np.testing.assert_allclose(scores, expected(name, False), **CLOSE)
    if name in QUICK:
        search = GridSearchCV(MODELS[name], GRIDS[name], cv=GroupKFold(3), error_score="raise")
        assert np.isfinite(search.fit(windows, groups=groups).cv_results_["mean_test_score"]).all()


def test_a_long_recording_that_was_not_chopped_is_refused_by_its_time(X):
    long = X.stack(t=("trial", "time")).transpose("t", "unit").values
    recording_ = xr.DataArray(long, dims=("time", "unit"), coords={"time": BIN * np.arange(len(long))})
    with pytest.raises(ValueError, match="the time coordinate is uneven: step"):
        cross_val_score(MODELS["MeanRate"], recording_, cv=KFold(3), error_score="raise")


# --- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("routing")
@of_kinds(NETWORKS)
def test_inputs_of_every_kind_are_split_with_their_trials(name, kind, X):
    data, inputs = KINDS[kind](X), KINDS[kind](drive(X))
    scores = cross_val_score(MODELS[name], data, cv=ONE, params={"inputs": inputs}, error_score="raise")
    np.testing.assert_allclose(scores, expected(name, kind.startswith("list"), True), **CLOSE)
    assert abs(scores - expected(name, kind.startswith("list"))).max() > 1e-4  # they do matter


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_and_groups_go_through_a_search_over_steps(name, X):
    inputs = drive(X)
    steps = [lr.SelectUnits("unit != 'c'"), lr.Smooth(sd=0.1), lr.ZScore()]
    model = make_pipeline(*steps, MODELS[name])
    split = LeaveOneGroupOut() if name in QUICK else GroupShuffleSplit(1, test_size=1, random_state=0)
    grid = {"smooth__sd": [0.05, 0.2]} if name in QUICK else {"smooth__sd": [0.2]}
    search = GridSearchCV(model, grid, cv=split, error_score="raise")
    search.fit(X, inputs=inputs, groups=X["block"])
    by_step = X
    for step in (steps[0], lr.Smooth(sd=search.best_params_["smooth__sd"]), steps[2]):
        by_step = clone(step).fit_transform(by_step)
    hand = clone(MODELS[name]).fit(by_step, inputs=inputs)
    best = search.best_estimator_
    assert best[-1].input_ids_.tolist() == ["light"]
    assert best[-1].unit_ids_.tolist() == ["a", "b"]
    assert best.transform(X, inputs=inputs).equals(hand.transform(by_step, inputs=inputs))
    assert search.score(X, inputs=inputs) == hand.score(by_step, inputs=inputs)


@pytest.mark.usefixtures("routing")
def test_fit_transform_and_inverse_transform_take_inputs_too(X):
    inputs = drive(X)
    model = make_pipeline(lr.ZScore(), clone(MODELS["LinearStateSpace"]))
    latents = model.fit_transform(X, inputs=inputs)
    assert latents.equals(model.transform(X, inputs=inputs))
    direct = clone(model[-1]).fit_transform(lr.ZScore().fit_transform(X), inputs=inputs)
    assert direct.equals(latents)
    back = model.inverse_transform(latents, inputs=inputs)
    assert back.dims == ("trial", "time", "unit")
    np.testing.assert_allclose(
        back, model[0].inverse_transform(model[-1].inverse_transform(latents, inputs=inputs)), rtol=1e-12
    )


def test_a_search_that_loses_the_inputs_says_how_to_route_them(X):
    search = GridSearchCV(MODELS["LinearStateSpace"], {"rank": [1]}, cv=ONE, error_score="raise")
    with pytest.raises(ValueError, match=r"inputs: got None.*call sklearn.set_config\(enable_metadata_routing=True\)"):
        search.fit(X, inputs=drive(X))


@pytest.mark.usefixtures("routing")
def test_inputs_of_other_bins_than_the_steps_leave_are_refused(X):
    model = make_pipeline(
        lr.Resample(rate=5.0, how="mean"), clone(MODELS["LinearStateSpace"]).set_params(bin_size=None)
    )
    with pytest.raises(ValueError, match=r"inputs: got shape \(12, 1\) in trial 0, wanted \(6, 1\)"):
        model.fit(X, inputs=drive(X))
