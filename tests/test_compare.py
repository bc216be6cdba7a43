"""The table of held-out scores: the right model wins, the intervals are paired, and nothing unequal is compared."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.model_selection import KFold

from nwb_lrrnn.compare import compare_baselines, held_out_scores, tabulate
from nwb_lrrnn.compare.baselines import convergence_in_the_log
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models import stability
from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace, MeanRate
from nwb_lrrnn.preprocessing import choose_window
from test_linear import oscillator, simulate

FA, VAR, LDS6, MODEL = (
    "factor analysis (rank 3)",
    "VAR(1)",
    "linear state space (rank 6)",
    "LinearStateSpace (rank 3)",
)


def model(**changes):
    return LinearStateSpace(**({"rank": 3, "tol": 1e-3} | changes))


def test_on_linear_data_the_state_space_model_of_the_true_rank_wins():
    table = compare_baselines(model(), simulate(oscillator(12), 40, 30), cv=3)
    names = list(table.index)
    alone = names.pop(1)
    assert alone.startswith("autoregression per unit (")
    assert names == ["mean rate", FA, VAR, LDS6, MODEL]
    L = table["log_likelihood"]
    assert L[MODEL] > L[VAR] > max(L[FA], L[alone]) > L["mean rate"]
    assert L[alone] > L["mean rate"] + 0.1
    assert L[MODEL] > L[LDS6]
    assert (table["low"].drop([MODEL, LDS6]) > 0).all()  # clearly; three latents too many cost little
    assert (table["gain_low"].drop("mean rate") > 0).all()
    assert (table["gain_low"] <= table["vs_mean_rate"]).all()
    assert table.loc["mean rate", ["gain_low", "gain_high"]].tolist() == [0, 0]
    assert table["has_latents"].tolist() == [False, False, True, False, True, True]
    assert table["vs_mean_rate"]["mean rate"] == 0
    assert table["model_above"][MODEL] == 0
    assert table.attrs["n_trials"] == 40
    assert table.attrs["n_bins"] == 1200


def test_on_independent_bins_factor_analysis_and_state_space_are_alike():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 30, 3)) @ rng.standard_normal((3, 10)) + rng.standard_normal((40, 30, 10))
    table = compare_baselines(model(), X, cv=2, larger_ranks=())
    assert LDS6 not in table.index
    # a 3 x 3 transition matrix that should be 0 costs about 9 / 2 nats of 1200 bins, and half of it twice again
    assert abs(table["model_above"][FA]) < 0.02
    assert table["log_likelihood"][MODEL] > table["log_likelihood"]["mean rate"] + 1


def test_on_counts_all_have_a_count_likelihood_and_bits_per_spike():
    eta = simulate(oscillator(10, noise=1e-12).replace(offset=np.full(10, 1.5)), 30, 30)
    X = np.random.default_rng(0).poisson(np.logaddexp(0, eta))
    table = compare_baselines(model(tol=1e-2), X, cv=2, larger_ranks=())
    L = table["log_likelihood"]
    assert L[MODEL] > max(L[VAR], L[FA]) > L["mean rate"]
    spikes = table.attrs["spikes_per_bin"]
    np.testing.assert_allclose(spikes, X.sum() / 900)
    np.testing.assert_allclose(table["bits_per_spike"], table["vs_mean_rate"] / (np.log(2) * spikes))
    assert table.attrs["likelihood"] == "poisson"
    assert table.attrs["link"] == "softplus"


def test_scores_are_those_of_models_fitted_to_the_other_folds():
    X = simulate(oscillator(6), 12, 20)
    scores = held_out_scores(model(tol=1e-2), X, cv=KFold(3), larger_ranks=())
    wanted = MeanRate().fit(X[4:]).score_trials(X[:4])
    np.testing.assert_allclose(scores["log_likelihood"].sel(model="mean rate")[:4], wanted)
    assert scores["log_likelihood"].dims == ("model", "trial")
    wanted = LinearStateSpace(3, tol=1e-2).fit(X[:8]).score_trials(X[8:])
    np.testing.assert_allclose(scores["log_likelihood"].sel(model=MODEL)[8:], wanted)


def test_the_table_is_that_of_the_scores():
    X = simulate(oscillator(6), 12, 20)
    given = {"cv": 2, "blocks": np.arange(12) // 3, "larger_ranks": (2,), "others": {"other": model(tol=1e-1)}}
    table, scores = (call(model(tol=1e-2), X, **given) for call in (compare_baselines, held_out_scores))
    again = tabulate(scores)
    pd.testing.assert_frame_equal(table, again)
    assert table.attrs == again.attrs


def test_groups_stay_together_and_ragged_lists_work():
    X = [trial[: 10 + k % 5] for k, trial in enumerate(simulate(oscillator(6), 12, 20))]
    table = compare_baselines(model(tol=1e-2), X, cv=3, groups=np.repeat([0, 1, 2], 4), larger_ranks=(4,))
    assert "linear state space (rank 4)" in table.index
    assert table.attrs["n_bins"] == sum(map(len, X))


def test_a_fitted_model_is_compared_on_held_out_trials():
    X = simulate(oscillator(8), 30, 20)
    fitted = FactorAnalysis(3).fit(X[:20])
    table = compare_baselines(fitted, X[20:], cv="prefit", X_train=X[:20])
    assert table.index[-1] == "FactorAnalysis (rank 3)"
    np.testing.assert_allclose(table["log_likelihood"].iloc[-1], fitted.score(X[20:]))
    assert table["model_above"]["linear state space (rank 3)"] < 0
    assert table.attrs["n_trials"] == 10


def test_one_long_recording_is_cut_into_windows_and_inputs_with_it():
    rng = np.random.default_rng(0)
    truth = oscillator(6).replace(input_weights=np.ones((3, 1)))
    u = rng.standard_normal((1, 410, 1))
    y = simulate(truth, 1, 410, 3, u)[0]
    X = xr.DataArray(y, dims=("time", "unit"), coords={"time": 0.05 * np.arange(410)})
    U = xr.DataArray(u[0], dims=("time", "input"), coords={"time": 0.05 * np.arange(410)})
    table = compare_baselines(model(tol=1e-2), X, inputs=U, cv=2, window=1.0, larger_ranks=())
    assert table.attrs["n_trials"] == 20
    assert table.attrs["bin_size"] == pytest.approx(0.05)
    assert table["log_likelihood"].idxmax() == MODEL
    # by themselves, windows are as long as the dynamics ask
    length = choose_window(y, 50).length
    assert length > 8
    assert compare_baselines(model(tol=1e-2), y, cv=2, larger_ranks=()).attrs["n_trials"] == 410 // length


def test_other_models_join_the_table_if_their_likelihood_is_the_same():
    X = np.random.default_rng(0).poisson(2.0, (8, 10, 4))
    few = {"rank": 1, "tol": 1e-1}
    table = compare_baselines(model(**few), X, cv=2, larger_ranks=(), others={"exp link": model(**few, link="exp")})
    assert "exp link" in table.index
    with pytest.raises(ValueError, match="'g' is gaussian and the model poisson; their scores do not compare"):
        compare_baselines(model(**few), X, cv=2, larger_ranks=(), others={"g": model(**few, likelihood="gaussian")})
    with pytest.raises(ValueError, match="has bins of 0.5 s and the model 1 s"):
        compare_baselines(
            model(**few, bin_size=1.0), X, cv=2, larger_ranks=(), others={"b": model(**few, bin_size=0.5)}
        )


def test_data_of_other_bins_are_refused():
    X = xr.DataArray(simulate(oscillator(6), 12, 20), dims=("trial", "time", "unit"), attrs={"bin_size": 0.02})
    fitted = model(tol=1e-2).fit(X)
    with pytest.raises(ValueError, match=r"got bins of 0.02 s, wanted 0.04 s"):
        compare_baselines(fitted, X, cv="prefit", X_train=X.assign_attrs(bin_size=0.04))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cv": 20}, "cv: got 20 folds for 12 trials"),
        ({"cv": "loo"}, "cv: got 'loo', wanted a number of folds"),
        ({"cv": 2.5}, "cv: got 2.5, wanted a number of folds"),
        ({"cv": []}, r"cv: got \[\], wanted a number of folds"),
        ({"cv": "prefit"}, "X_train: got None with cv='prefit'"),
    ],
)
def test_bad_folds_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compare_baselines(model(tol=1e-2), simulate(oscillator(6), 12, 20), **options)


def test_scores_of_no_trial_make_no_table():
    scores = held_out_scores(model(tol=1e-2), simulate(oscillator(6), 12, 20), cv=2, larger_ranks=())
    with pytest.raises(ValueError, match="cv: no trial was held out for every model; check the folds"):
        tabulate(scores.where(False, np.nan).assign(n_bins=scores["n_bins"]))


def test_a_baseline_whose_latents_grow_is_no_matter_of_the_user(caplog):
    network = LowRankDynamics([[1.0]], [[1.5]], dt=1.0, tau=1.0, nonlinearity="identity")  # z grows by half a bin
    with convergence_in_the_log("linear"):
        stability.tell(SimpleNamespace(dynamics_=network))
    assert not caplog.records
    stability.tell(SimpleNamespace(dynamics_=network))
    assert "its latents grow" in caplog.text
