"""What a model says of a trial is the same alone and in any company: a list, another order, padding, chunks of dask."""

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone

from small_models import BIN, MODELS, N_BINS, NETWORKS, WITH_LATENTS, drive, ragged, recording

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CLOSE = {"rtol": 0, "atol": 1e-6}  # sums of other lengths round differently, and Newton steps end elsewhere
ORDER = [3, 0, 5, 1, 4, 2]


@pytest.fixture(scope="module")
def X():
    return recording()


@pytest.fixture(scope="module")
def counts(X):
    return X.copy(data=np.random.default_rng(3).poisson(0.5 * np.maximum(X.values, 0.0)).astype(float))


@pytest.fixture(scope="module")
def fitted(X, counts):
    """Return models by name and kind of data, each fitted once, when a test first asks for it."""
    data = {"values": X, "counts": counts}

    class Fits(dict):
        def __missing__(self, key):
            return self.setdefault(key, clone(MODELS[key[0]]).fit(data[key[1]]))

    return Fits()


@pytest.fixture
def company(X, counts, request):
    return X if request.param == "values" else counts


def said_of(model, X, **inputs):
    """Return the log evidence (trial,) and the latents of each trial."""
    latents = list(model.transform(X, **inputs)) if hasattr(model, "transform") else []
    return np.asarray(model.score_trials(X, **inputs).values), [np.asarray(z) for z in latents]


def assert_same(one, other, order=None):
    order = range(len(other[0])) if order is None else order
    np.testing.assert_allclose(one[0], other[0][list(order)], **CLOSE)
    if other[1]:
        for z, k in zip(one[1], order, strict=True):
            np.testing.assert_allclose(z, other[1][k], **CLOSE)


both = pytest.mark.parametrize("company", ["values", "counts"], indirect=True)


def model_of(fitted, name, company):
    return fitted[name, "counts" if (company == np.round(company)).all() else "values"]


@both
@pytest.mark.parametrize("name", MODELS)
def test_alone_in_a_list_and_in_another_order(name, company, fitted):
    model, trials = model_of(fitted, name, company), ragged(company)
    together = said_of(model, trials)
    assert_same(said_of(model, [trials[k] for k in ORDER]), together, ORDER)
    scores, latents = said_of(model, [trials[1]])
    assert_same((scores, latents), together, [1])
    scores, latents = said_of(model, trials[3].drop_vars(["trial", "block"]))  # one recording (time, unit)
    assert_same((scores, [np.stack(latents)] if latents else []), together, [3])


@both
@pytest.mark.parametrize("name", MODELS)
def test_padding_up_to_a_longer_trial_is_no_data(name, company, fitted):
    model, trials = model_of(fitted, name, company), [trial.drop_vars(["trial", "block"]) for trial in ragged(company)]
    longest = xr.concat([trials[0], trials[0].assign_coords(time=trials[0]["time"] + N_BINS * BIN)], "time")
    scores, latents = said_of(model, [*trials, longest])
    assert_same((scores[:-1], latents[:-1]), said_of(model, trials))


@both
@pytest.mark.parametrize("name", MODELS)
def test_an_unobserved_end_is_no_data(name, company, fitted):
    model, trials = model_of(fitted, name, company), ragged(company)
    inside = np.arange(N_BINS) < np.array([len(trial) for trial in trials])[:, None]
    hidden = company.where(xr.DataArray(inside, dims=("trial", "time")), 5.0)  # whatever it holds
    scores, latents = said_of(model, hidden.assign_coords(observed=(("trial", "time"), inside)))
    if name == "SMCLowRankRNN":  # backward simulation begins at another bin: its noise differs, and is not here
        latents = []
    cut = [z[: len(trial)] for z, trial in zip(latents, trials, strict=bool(latents))]
    wanted = said_of(model, trials)
    assert_same((scores, cut), (wanted[0], wanted[1] if cut else []))


@pytest.mark.parametrize("chunks", [{"trial": 1}, {"trial": (1, 4, 1), "time": 5, "unit": 1}, {"time": 1, "unit": 2}])
@pytest.mark.parametrize("name", MODELS)
def test_chunks_change_nothing(name, chunks, counts, fitted):
    model = fitted[name, "counts"]
    assert_same(said_of(model, counts.chunk(chunks)), said_of(model, counts))


@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_go_with_their_trials(name, X):
    inputs = drive(X)
    model = clone(MODELS[name]).fit(X, inputs=inputs)
    together = said_of(model, X, inputs=inputs)
    assert_same(said_of(model, X[ORDER], inputs=inputs[ORDER]), together, ORDER)
    assert_same(said_of(model, X[[2]], inputs=inputs[[2]]), together, [2])
    mixed = X[ORDER].chunk(trial=4), inputs[ORDER].chunk(trial=1, time=5)
    assert_same(said_of(model, mixed[0], inputs=mixed[1]), together, ORDER)


@pytest.mark.parametrize("name", WITH_LATENTS)
def test_expected_values_are_those_of_each_trial(name, counts, fitted):
    model = fitted[name, "counts"]
    latents = model.transform(counts)
    together = model.inverse_transform(latents)
    for k in ORDER:
        np.testing.assert_allclose(model.inverse_transform(latents[k]), together[k], **CLOSE)
    lazy = model.inverse_transform(latents.chunk(trial=4))
    np.testing.assert_allclose(lazy.values, together, **CLOSE)
