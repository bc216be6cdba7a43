"""What a fitted model is made of: it crosses processes, copies, hashes and warm-starts, and keeps names of units."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, cross_val_score

import nwb_lrrnn as lr
from small_models import GRIDS, MODELS, WITH_LATENTS, recording

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TRAINED = ["LowRankRNN", "SMCLowRankRNN"]
ONE = ShuffleSplit(1, test_size=2, random_state=0)
PLAIN = (type(None), bool, int, float, str, bytes, np.generic)


@pytest.fixture(scope="module")
def X():
    return recording()


@pytest.fixture(scope="module")
def fitted(X):
    """Return every model by name, fitted; tests leave them as they are."""
    return {name: clone(model).fit(X) for name, model in MODELS.items()}


def answers(models, X):
    """Return what models say of X, by name: the score of every trial, latents and their expected values."""
    said = {}
    for name, model in models.items():
        said[name] = [model.score(X), model.score_trials(X)]
        if name in WITH_LATENTS:
            latents = model.transform(X)
            said[name] += [latents, model.inverse_transform(latents)]
    return said


def assert_identical(one, other):
    assert one.keys() == other.keys()
    for name in one:
        for a, b in zip(one[name], other[name], strict=True):
            assert a.identical(b) if isinstance(a, xr.DataArray) else a == b, name


# --- processes -------------------------------------------------------------------------------------------------------


def test_fitted_models_say_the_same_in_a_new_process(fitted, X):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(answers, fitted, X)
        assert_identical(there.result(timeout=120), answers(fitted, X))


def test_searches_in_several_processes_find_what_one_finds(X):
    model, grid = MODELS["LinearStateSpace"], GRIDS["LinearStateSpace"]
    found = [GridSearchCV(model, grid, cv=KFold(2), n_jobs=n, error_score="raise") for n in (1, 2)]
    here, there = (search.fit(X.chunk(trial=2)) for search in found)
    for key in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(here.cv_results_[key], there.cv_results_[key])
    assert here.best_params_ == there.best_params_
    said = [answers({"LinearStateSpace": search.best_estimator_}, X) for search in (here, there)]
    assert_identical(*said)


@pytest.mark.parametrize("name", MODELS)
def test_read_only_memory_of_a_worker_will_do(name, X, fitted):
    values = X.values.copy()
    values.flags.writeable = False  # as joblib hands large arrays to its workers
    counts = np.random.default_rng(0).poisson(2.0, values.shape)
    counts.flags.writeable = False
    model = clone(MODELS[name]).fit(X.copy(data=values))
    assert_identical(answers({name: model}, X.copy(data=values)), answers({name: fitted[name]}, X))
    assert clone(MODELS[name]).fit(counts).likelihood_ == "poisson"


# --- copies ----------------------------------------------------------------------------------------------------------


def parts_of(thing, path, seen):
    """Yield all that an object holds, however deep, with its path."""
    if id(thing) in seen or isinstance(thing, PLAIN):
        return
    seen.add(id(thing))
    yield path, thing
    inside = {}
    if isinstance(thing, (np.ndarray, xr.DataArray, xr.Dataset)):
        inside = {"data": thing.variables} if isinstance(thing, xr.Dataset) else {}
    elif isinstance(thing, dict):
        inside = thing
    elif isinstance(thing, (list, tuple, set)):
        inside = dict(enumerate(thing))
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        inside = vars(thing)
    for key, part in inside.items():
        yield from parts_of(part, f"{path}.{key}", seen)


@pytest.mark.parametrize("name", MODELS)
def test_fitted_state_is_arrays_of_numpy(name, fitted):
    parts = list(parts_of(fitted[name], name, set()))
    assert sum(isinstance(part, np.ndarray) for _, part in parts) >= 2
    for path, part in parts:
        assert not type(part).__module__.startswith("torch"), path
        assert not (isinstance(part, np.ndarray) and part.dtype.hasobject and part.ndim == 0), path
    assert b"torch" not in pickle.dumps(fitted[name])


def test_torch_inside_a_model_would_be_found(fitted):
    model = copy.deepcopy(fitted["FactorAnalysis"])
    model.history_ = {"a": [torch.zeros(2)]}
    assert any(isinstance(part, torch.Tensor) for _, part in parts_of(model, "", set()))


@pytest.mark.parametrize("name", MODELS)
def test_copies_are_the_same_and_clones_are_unfitted(name, fitted, X):
    model = fitted[name]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_identical(answers({name: other}, X), answers({name: model}, X))
        assert other.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).score(X)
    assert set(vars(clone(model))) == set(model.get_params())


@pytest.mark.parametrize("name", MODELS)
def test_equal_models_have_equal_hashes_and_verbs_change_nothing(name, fitted, X):
    assert joblib.hash(clone(fitted[name])) == joblib.hash(MODELS[name])
    twin = clone(MODELS[name]).fit(X)
    state = {key: value for key, value in vars(twin).items() if key != "history_"}  # xarray fills in its own as asked
    before, history = (
        {key: joblib.hash(value) for key, value in state.items()},
        copy.deepcopy(vars(twin).get("history_")),
    )
    answers({name: twin}, X)
    assert {key: joblib.hash(vars(twin)[key]) for key in state} == before
    assert before == {key: joblib.hash(vars(fitted[name])[key]) for key in state}  # the same fit, bit for bit
    assert history is None or history.identical(twin.history_)
    assert set(vars(twin)) == set(vars(fitted[name]))


@pytest.mark.parametrize("name", WITH_LATENTS)
def test_parameters_set_after_a_fit_wait_for_the_next(name, fitted, X):
    model = copy.deepcopy(fitted[name]).set_params(rank=2)
    assert model.transform(X).sizes["latent"] == 1
    assert model.score(X) == fitted[name].score(X)
    assert model.fit(X).transform(X).sizes["latent"] == 2


# --- warm start and checkpoint ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINED)
def test_folds_never_start_warm(name, X):
    warm = clone(MODELS[name]).set_params(warm_start=True).fit(X)
    scores = cross_val_score(warm, X, cv=ONE, error_score="raise")
    np.testing.assert_array_equal(scores, cross_val_score(MODELS[name], X, cv=ONE, error_score="raise"))


@pytest.mark.parametrize("name", TRAINED)
def test_one_checkpoint_for_all_folds_is_refused(name, X, tmp_path):
    model = clone(MODELS[name]).set_params(checkpoint=tmp_path / "fit.npz")
    other = r"fit\.npz' holds another fit: .*the data differ \(.*Give each fit a path of its own"
    with pytest.raises(ValueError, match=other):
        cross_val_score(model, X, cv=KFold(2), error_score="raise")
    first = (tmp_path / "fit.npz").read_bytes()
    with pytest.warns(FitFailedWarning, match=other):  # what scikit-learn makes of errors by default
        scores = cross_val_score(model, X, cv=KFold(2))
    assert np.isfinite(scores).tolist() == [True, False]
    assert (tmp_path / "fit.npz").read_bytes() == first  # the first fold was taken from it, and nothing overwritten


def test_a_search_with_one_checkpoint_is_refused_at_the_second_fit(X, tmp_path):
    model = clone(MODELS["LowRankRNN"]).set_params(checkpoint=tmp_path / "fit.npz")
    with pytest.raises(ValueError, match=r"holds another fit: rank is 2, was 1\. Give each fit a path of its own"):
        GridSearchCV(model, {"rank": [1, 2]}, cv=ONE, error_score="raise").fit(X)


@pytest.mark.parametrize("name", TRAINED)
def test_a_stored_model_carries_no_checkpoint(name, X, tmp_path):
    model = clone(MODELS[name]).set_params(checkpoint=tmp_path / "fit.npz").fit(X)
    lr.write_results(tmp_path / "model.nwb", model)
    for loaded in (type(model).from_dataset(model.to_dataset()), lr.load_model(tmp_path / "model.nwb")):
        assert loaded.get_params() == {**model.get_params(), "checkpoint": None}
        assert_identical(answers({name: loaded}, X), answers({name: model}, X))


# --- names of units --------------------------------------------------------------------------------------------------


@pytest.fixture
def frame(X):
    return pd.DataFrame(X[0].values, index=X["time"].values, columns=["a", "b", "c"])


@pytest.mark.parametrize("name", MODELS)
def test_names_of_a_data_frame_are_kept_and_compared(name, frame):
    model = clone(MODELS[name])
    for data in (frame, [frame, frame[:7]]):
        model.fit(data)
        assert model.feature_names_in_.tolist() == model.unit_ids_.tolist() == ["a", "b", "c"]
        assert model.n_features_in_ == 3
        for wrong in (frame.rename(columns={"a": "z"}), [frame.rename(columns={"a": "z"})]):
            with pytest.raises(ValueError, match=r"(?s)feature names should match.*unseen at fit time:\n- z"):
                model.score(wrong)
        with pytest.raises(ValueError, match=r"must be in the same order as they were in fit"):
            model.score(frame[["b", "a", "c"]])
        with pytest.warns(UserWarning, match="X does not have valid feature names, but"):
            model.score(frame.to_numpy())


def test_frames_and_labelled_arrays_know_each_others_names(X, frame):
    by_array, by_frame = (clone(MODELS["LinearStateSpace"]).fit(data) for data in (X[0], frame))  # warnings are errors
    for model in (by_array, by_frame):
        scores = [model.score(data) for data in (X[0], list(X[:1]), X[:1].chunk())]
        np.testing.assert_allclose(scores, model.score(frame), rtol=1e-9)
        other = X[0].assign_coords(unit=["a", "b", "z"])
        with pytest.raises(ValueError, match="unit 'z' was not in the data the model was fitted to"):
            model.score(other)
    with pytest.raises(ValueError, match="unit 'z' was not in the data the model was fitted to"):
        by_array.score(frame.rename(columns={"a": "z"}))
    step = lr.ZScore().fit(frame.reset_index(drop=True))
    assert step.transform(X[0].drop_vars("time").drop_attrs()).shape == X[0].shape
