"""What in the data forbids a verdict is found and named, and ordinary recordings are let through."""

import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.compare import compare_baselines, tabulate
from nwb_lrrnn.compare.copies import copy_groups
from nwb_lrrnn.compare.dependence import dependent_units
from nwb_lrrnn.compare.extremes import enormous_bins, extreme_trials
from nwb_lrrnn.compare.judgeable import findings, scored_units, units_at_floor
from nwb_lrrnn.compare.silence import padded_bins
from nwb_lrrnn.compare.split import split
from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace
from nwb_lrrnn.models.scored_units import UnscoredUnitsWarning
from nwb_lrrnn.trials import as_packed

N_TRAIN = 18


def values(seed=1, n_trials=24, n_bins=40, n_units=8):
    """Return a damped rotation of two latents with noise, read out with noise."""
    rng = np.random.default_rng(seed)
    turn = 0.95 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    loadings, z, out = rng.normal(size=(n_units, 2)), rng.normal(size=(n_trials, 2)), []
    for _ in range(n_bins):
        z = z @ turn.T + 0.3 * rng.normal(size=z.shape)
        out.append(z @ loadings.T + 0.5 * rng.normal(size=(n_trials, n_units)))
    return np.stack(out, 1)


def counts(seed=1, rate=0.5, **sizes):
    return np.random.default_rng(seed + 100).poisson(np.exp(0.3 * values(seed, **sizes)) * rate).astype(float)


def found(X, model=None, n_train=N_TRAIN):
    """Return the findings for trials of which the first ones are fitted."""
    X = X if isinstance(X, xr.DataArray) else xr.DataArray(X, dims=("trial", "time", "unit"))
    model = model or FactorAnalysis(1, max_iter=2, tol=1.0)
    likelihood = "poisson" if (X.values == np.round(X.values)).all() else "gaussian"
    fitted = model.set_params(likelihood=likelihood).fit(X[:n_train])
    return findings(split(X[n_train:], cv="prefit", X_train=X[:n_train]), [fitted])


KINDS = {
    "values": values,
    "counts": counts,
    "sparse counts": lambda: counts(rate=0.02),
    "one unit": lambda: values(n_units=1),
    "more units than bins": lambda: np.random.default_rng(0).normal(size=(24, 3, 200)),
    "deconvolved": lambda: np.maximum(values() - 1.5, 0.0) * np.random.default_rng(0).exponential(size=(24, 40, 8)),
    "heavy tails": lambda: np.random.default_rng(0).standard_t(3, size=(24, 40, 8)),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_recordings_are_let_through(kind):
    what = found(KINDS[kind]())
    assert what.forbidden == []
    assert what.left_out == []
    assert (what.extreme == "").all()
    assert len(np.unique(what.copies)) == len(what.copies)


# --- units ------------------------------------------------------------------------------------------------------------


def with_unit(X, unit):
    return np.concatenate([X, unit[..., None]], axis=2)


def referenced(X):
    return X - X.mean(axis=2, keepdims=True)


DEPENDENT = {
    "a copy": (lambda: with_unit(values(), 2 * values()[..., 3] + 1), [3, 8]),
    "a copy with noise": (
        lambda: with_unit(values(), values()[..., 3] + 1e-6 * np.random.default_rng(0).normal(size=(24, 40))),
        [3, 8],
    ),
    "a sum of two": (lambda: with_unit(values(), values()[..., 0] + values()[..., 5]), [0, 5, 8]),
    "a common reference": (lambda: referenced(values()), list(range(8))),
    "a copy of counts": (lambda: with_unit(counts(), counts()[..., 3]), [3, 8]),
    "a sum of counts": (lambda: with_unit(counts(), counts()[..., 0] + counts()[..., 5]), [0, 5, 8]),
}


@pytest.mark.parametrize("kind", DEPENDENT)
def test_units_made_of_others_are_found(kind):
    make, wanted = DEPENDENT[kind]
    X = make()[:N_TRAIN].reshape(N_TRAIN * 40, -1)
    assert np.flatnonzero(dependent_units(X)).tolist() == wanted
    shuffled = np.random.default_rng(0).permutation(X.shape[1])
    np.testing.assert_array_equal(dependent_units(1e6 * X[:, shuffled] - 3), dependent_units(X)[shuffled])


def test_a_unit_of_a_signal_to_noise_ratio_of_a_hundred_is_a_unit():
    X = values()
    near = X[..., 3] + 1e-2 * X[..., 3].std() * np.random.default_rng(0).normal(size=(24, 40))
    assert not dependent_units(with_unit(X, near).reshape(-1, 9)).any()
    assert not dependent_units(np.zeros((10, 3))).any()  # constant ones are no business of this


def test_copies_among_more_units_than_bins_are_found_in_pairs():
    X = np.random.default_rng(0).normal(size=(50, 200))
    assert not dependent_units(X).any()
    X[:, 7] = -X[:, 11]
    assert np.flatnonzero(dependent_units(X)).tolist() == [7, 11]


def test_dependent_units_are_named():
    X = xr.DataArray(
        with_unit(values(), values()[..., 3]), dims=("trial", "time", "unit"), coords={"unit": list("abcdefghi")}
    )
    (reason,) = found(X).forbidden
    assert reason.startswith("units d and i are copies or sums of other units")


# --- bins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [values, counts])
def test_one_enormous_bin_of_the_training_data_is_named(make):
    X = make()
    X[2, 5, 3] = 3000
    (reason,) = found(X).forbidden
    assert reason.startswith("one enormous bin carries a unit in the training data (trial 2, time 5, unit 3)")


def test_an_artefact_of_a_few_bins_is_one_too():
    X = values()
    X[2, 5:9, 3] += 500
    packed = as_packed(X)
    ((at, unit),) = enormous_bins(packed, np.ones(8, bool), False)[0]
    assert (packed.trial[at], unit) == (2, 3)


def test_bins_that_are_only_rare_are_not_enormous():
    X = counts(rate=0.02)
    X[..., 2] = 0
    X[2, 5, 2] = 1  # one spike in all
    X[3, 7, 4] += 12  # a burst
    assert enormous_bins(as_packed(X), np.ones(8, bool), True)[0] == []
    Y = values()
    Y[2, 5, 3] += 15 * Y.std()
    assert enormous_bins(as_packed(Y), np.ones(8, bool), False)[0] == []


def test_an_enormous_bin_of_a_held_out_trial_is_noted_with_its_trial():
    X = values()
    X[20, 5, 3] = 3000
    what = found(X)
    assert what.forbidden == []
    assert what.extreme.tolist() == ["", "", "trial 2, time 5, unit 3", "", "", ""]  # the third that is held out
    _, scale = enormous_bins(as_packed(X[:N_TRAIN]), np.ones(8, bool), False)
    many = X[N_TRAIN:].copy()
    many[:, 0, 0] = 3000
    assert extreme_trials(as_packed(many), np.ones(8, bool), scale) == {}  # all of them: not one bin


def scores_of(differences, extreme=None, copy=None):
    """Return scores of the model, of a linear one that is `differences` below, and of the mean rate, 1 below."""
    n = len(differences)
    own = np.random.default_rng(0).normal(size=n)
    rows = np.stack([own - 10, own - np.asarray(differences), own - np.asarray(differences) - 1, own])
    return xr.Dataset(
        {"log_likelihood": (("model", "trial"), rows), "n_bins": ("trial", np.full(n, 10))},
        {
            "model": ["mean rate", "linear state space (rank 1)", "linear state space (rank 2)", "LowRankRNN (rank 1)"],
            "trial": np.arange(n),
            "scored_by": ("model", ["a"] * 4),
            "is_linear": ("model", [True, True, True, False]),
            "has_latents": ("model", [False, True, True, True]),
            "at_floor": ("model", [""] * 4),
            "copy": ("trial", np.arange(n) if copy is None else copy),
            "extreme": ("trial", [""] * n if extreme is None else extreme),
        },
        {"likelihood": "gaussian", "rank": 1, "n_units": 8, "linear_ranks": [1, 2], "forbidden": [], "left_out": []},
    )


def test_an_answer_that_rests_on_one_bin_is_none():
    n = 20
    noise = np.random.default_rng(1).normal(size=n)
    named = [""] * n
    named[4] = "trial 4, time 5, unit 3"
    carried = noise - 3.0  # the linear model is better
    assert tabulate(scores_of(carried)).attrs["nonlinear"] == "not supported"
    assert tabulate(scores_of(carried, named)).attrs["nonlinear"] == "not supported"  # without that trial too
    carried = 0.1 * noise + 0.5
    carried[4] = -40.0
    without = tabulate(scores_of(carried, named))
    assert tabulate(scores_of(carried)).attrs["nonlinear"] != "supported"
    assert without.attrs["nonlinear"] == "cannot be judged"
    assert "rests on one enormous bin (trial 4, time 5, unit 3), without whose trial" in without.attrs["verdict"]


# --- zero-padded time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [values, counts])
def test_padding_is_found_where_it_is(make):
    every_unit = np.ones(8, bool)
    X = make()
    X[:, 30:] = 0
    assert padded_bins(as_packed(X), every_unit).reshape(24, 40).sum(axis=0).tolist() == [0] * 30 + [24] * 10
    Y = make()
    Y[3, 25:], Y[7] = 0, 0
    flagged = padded_bins(as_packed(Y), every_unit).reshape(24, 40)
    assert (flagged.sum(), flagged[3, 25:].sum(), flagged[7].sum()) == (55, 15, 40)
    (reason,) = found(Y).forbidden
    assert reason.startswith(
        "every unit is exactly zero from trial 3, time 25 to time 39, and such bins in 1 more trial"
    )


def test_silence_that_comes_and_goes_is_no_padding():
    every_unit = np.ones(8, bool)
    rng = np.random.default_rng(0)
    X = rng.poisson(1.0, (24, 200, 8)).astype(float)
    for trial in range(24):  # down states, some of them at the ends of trials
        for begin in rng.integers(0, 200, 4):
            X[trial, begin : begin + rng.integers(5, 15)] = 0
    assert not padded_bins(as_packed(X), every_unit).any()
    assert not padded_bins(as_packed(counts(rate=0.02)), every_unit).any()
    assert not padded_bins(as_packed(np.zeros((5, 10, 8))), every_unit).any()


# --- copies of trials -------------------------------------------------------------------------------------------------


def test_copies_of_trials_share_a_number():
    X = values(n_trials=6)
    both = as_packed(np.concatenate([X, X[[1, 4]]]))
    (groups,) = copy_groups([both], np.ones(8, bool))
    assert groups.tolist() == [0, 1, 2, 3, 4, 5, 1, 4]
    test, train = copy_groups([as_packed(X[:2]), as_packed(X[1:])], np.ones(8, bool))
    assert test.tolist() == [0, 1]
    assert train.tolist() == [1, 2, 3, 4, 5]
    ragged = as_packed([X[0], X[0][:20], X[0][:20], X[1]])
    assert copy_groups([ragged], np.ones(8, bool))[0].tolist() == [0, 1, 1, 2]


def test_short_trials_of_few_spikes_are_equal_by_chance():
    X = np.random.default_rng(0).poisson(0.01, (40, 5, 4)).astype(float)
    assert len(np.unique(copy_groups([as_packed(X)], np.ones(4, bool))[0])) == 40


def test_trials_given_twice_are_no_more_data():
    rng = np.random.default_rng(1)
    d = rng.normal(0.5, 1.0, 20)
    once = tabulate(scores_of(d))
    scores = scores_of(np.concatenate([d, d]), copy=np.tile(np.arange(20), 2))
    scores["log_likelihood"] = scores["log_likelihood"].copy(data=np.tile(scores_of(d)["log_likelihood"].values, 2))
    twice = tabulate(scores)
    for column in ("model_above", "low", "high", "gain_low", "n_blocks"):
        np.testing.assert_allclose(twice[column], once[column])
    assert (twice.attrs["n_trials"], twice.attrs["n_copies"]) == (20, 20)
    assert twice.attrs["nonlinear"] == once.attrs["nonlinear"]


def test_held_out_trials_that_were_fitted_are_named():
    X = values()
    (reason,) = found(np.concatenate([X[:N_TRAIN], X[[2, 20, 21, 22]]])).forbidden
    assert reason.startswith("held-out trial 0 is a copy of a trial that the models were fitted to")
    assert found(np.concatenate([X[:N_TRAIN], X[[2, 20, 21, 22]]])).notes == []
    doubled = found(np.concatenate([X[: N_TRAIN - 1], X[:1], X[[20, 21, 20, 21]]]))
    assert doubled.notes == ["2 held-out trials are copies of others, and count as one with them."]
    assert doubled.forbidden == ["training trials 0 and 17 are copies of each other; give each trial once"]
    twice = np.concatenate([X, X])
    fitted = FactorAnalysis(1, max_iter=2, tol=1.0).fit(X)
    (reason,) = findings(split(twice, cv=4), [fitted]).forbidden
    assert "are copies of trials that the models were fitted to; give each trial once" in reason


# --- units that are in no score, and floors ---------------------------------------------------------------------------


def test_units_that_models_leave_out_are_in_no_finding():
    X = with_unit(with_unit(values(), values()[..., 3]), np.zeros((24, 40)))
    with pytest.warns(UnscoredUnitsWarning):
        model = FactorAnalysis(1, max_iter=2, tol=1.0, likelihood="gaussian").fit(X[:N_TRAIN])
    model.scored_units_ = np.arange(10) < 8
    held = split(X[N_TRAIN:], cv="prefit", X_train=X[:N_TRAIN])
    what = findings(held, [model])
    assert what.left_out == ["8", "9"]
    assert what.forbidden == []
    model.scored_units_ = np.zeros(10, bool)
    assert findings(held, [model]).forbidden == ["no unit is left: training cannot speak for any of them"]
    assert scored_units([model]).sum() == 0


def test_units_at_the_floor_of_some_fold_are_named():
    X = values()
    models = [FactorAnalysis(1, max_iter=2, tol=1.0).fit(X) for _ in range(2)]
    models[1].units_at_floor_ = np.arange(8) == 3
    assert units_at_floor(models[:1]) == ""
    assert units_at_floor(models) == "unit 3"


def test_what_cannot_be_fitted_is_said_with_the_reason(monkeypatch):
    def fails(self, trials):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    X = values()
    model = FactorAnalysis(1, max_iter=2, tol=1.0).fit(X[:N_TRAIN])
    given = {"cv": "prefit", "X_train": X[:N_TRAIN]}
    monkeypatch.setattr("nwb_lrrnn.models.linear.VectorAutoregression._fit_trials", fails)
    with pytest.raises(
        ValueError, match="X: the fit of VectorAutoregression did not stay finite"
    ):  # nothing explains it
        compare_baselines(model, X[N_TRAIN:], **given)
    X[2, 5, 3] = 3000
    with pytest.raises(ValueError, match=r"X: VAR\(1\) cannot be fitted, and nothing could be judged: one"):
        compare_baselines(model, X[N_TRAIN:], **given)


# --- from end to end --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_copy_of_a_unit_cannot_be_judged():
    class Nonlinear(LinearStateSpace, auto_wrap_output_keys=None):
        is_linear_ = False

    X = with_unit(values(n_units=4), values(n_units=4)[..., 1])
    model = Nonlinear(1, max_iter=5).fit(X[:N_TRAIN])
    table = compare_baselines(model, X[N_TRAIN:], cv="prefit", X_train=X[:N_TRAIN], larger_ranks=(2,))
    assert table.attrs["nonlinear"] == "cannot be judged"
    assert "units 1 and 4 are copies or sums of other units" in table.attrs["verdict"]


def test_a_linear_model_without_a_finite_score_forbids_the_verdict():
    scores = scores_of(np.full(20, 1.0))
    row = scores["log_likelihood"].copy()
    linear = str(scores["model"].values[scores["is_linear"].values][-1])
    row.loc[{"model": linear}] = np.nan
    table = tabulate(scores.assign(log_likelihood=row))
    assert table.attrs["nonlinear"] == "cannot be judged"
    assert f"{linear} gave no held-out trial a finite score" in table.attrs["verdict"]
    assert linear not in table.index


def test_an_enormous_held_out_bin_is_named_though_the_word_stays():
    extreme = [""] * 19 + ["trial 19, time 5, unit 3"]
    differences = np.append(np.linspace(0.8, 1.2, 19), -300.0)  # "not supported" by one trial or by all
    table = tabulate(scores_of(differences, extreme))
    assert table.attrs["nonlinear"] == "cannot be judged"
    assert "one enormous bin (trial 19, time 5, unit 3)" in table.attrs["verdict"]
    assert tabulate(scores_of(np.append(np.linspace(0.8, 1.2, 19), 1.1), extreme)).attrs["nonlinear"] == "supported"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_forbids_a_comparison_is_said_of_a_linear_model_too():
    X = with_unit(values(n_units=4), values(n_units=4)[..., 1])
    model = LinearStateSpace(1, max_iter=5).fit(X[:N_TRAIN])
    table = compare_baselines(model, X[N_TRAIN:], cv="prefit", X_train=X[:N_TRAIN], larger_ranks=(2,))
    assert "nonlinear" not in table.attrs
    assert "allow no comparison: units 1 and 4 are copies" in " ".join(repr(table).split())
