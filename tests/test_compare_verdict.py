"""The verdict on nonlinear dynamics: "supported" only where every linear model is beaten beyond doubt."""

import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.compare import compare_baselines, held_out_scores, judge_nonlinearity, tabulate
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis import DisRNN
from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace
from nwb_lrrnn.models.low_rank import LowRankRNN
from test_linear import oscillator, simulate

LDS = "linear state space (rank {})"


def table_of(rows, *, holds=True, rank=2, n_units=20, over="trials", model_is_linear=False):
    """Return a table of linear models: {name: (difference from the model, low, high)}."""
    ranks = [int(name.rpartition(" ")[2][:-1]) for name in rows if name.startswith("linear")]
    table = pd.DataFrame([*rows.values(), (0.0, 0.0, 0.0)], columns=["vs_model", "low", "high"])
    table.index = pd.Index([*rows, "LowRankRNN (rank 2)"])
    table["is_linear"] = [True] * len(rows) + [model_is_linear]
    table["interval_holds"] = holds
    table.attrs = {"rank": rank, "n_units": n_units, "linear_ranks": ranks, "interval_over": over}
    return table


WORSE = {
    "mean rate": (-2.0, -2.2, -1.8),
    "factor analysis (rank 2)": (-1.0, -1.1, -0.9),
    "VAR(1)": (-0.5, -0.6, -0.4),
    LDS.format(2): (-0.032, -0.041, -0.022),
    LDS.format(4): (-0.045, -0.057, -0.034),
}


def judged(**changes):
    options = {key: changes.pop(key) for key in ("holds", "rank", "n_units", "over") if key in changes}
    verdict = judge_nonlinearity(table_of(WORSE | changes.pop("rows", {}), **options))
    return verdict["nonlinear_supported"], verdict["verdict"]


def test_supported_where_every_linear_model_is_beaten():
    assert judged() == (
        True,
        "nonlinear dynamics supported: the model scores above every linear model, linear state spaces of rank 2 and 4 "
        "among them. The closest, a linear state space of rank 2, scores 0.032 [0.022, 0.041] nats per bin below.",
    )


def test_a_better_linear_model_is_named():
    assert judged(rows={LDS.format(8): (0.12, 0.03, 0.21)}) == (
        False,
        "nonlinear dynamics not supported: a linear state space of rank 8 scores +0.12 [0.03, 0.21] nats per bin "
        "above.",
    )
    # the same rank beats it too, and a still better one cannot be told apart: the best that is clearly better is named
    rows = {LDS.format(2): (0.05, 0.01, 0.09), LDS.format(8): (0.2, -0.1, 0.5)}
    assert "a linear state space of rank 2 scores +0.050 [0.010, 0.090]" in judged(rows=rows)[1]


@pytest.mark.parametrize("name", [LDS.format(2), LDS.format(4)])
def test_an_interval_that_includes_0_supports_nothing(name):
    supported, verdict = judged(rows={name: (-0.02, -0.05, 0.01)})
    assert not supported
    assert verdict == (
        f"nonlinear dynamics not supported: a linear state space of rank {name[-2]} explains as much, "
        "-0.020 [-0.050, 0.010] nats per bin from the model, and that interval includes 0."
    )
    assert not judged(rows={name: (0.0, 0.0, 0.0)})[0]  # equal to the last bit


def test_a_var_that_explains_as_much_supports_nothing():
    supported, verdict = judged(rows={"VAR(1)": (0.1, 0.05, 0.15)})
    assert not supported
    assert verdict.endswith("VAR(1) scores +0.10 [0.05, 0.15] nats per bin above.")
    assert judged(rows={"VAR(1)": (-0.1, -0.25, 0.05)})[1].startswith(
        "nonlinear dynamics not supported: VAR(1) explains as much, -0.10 [-0.25, 0.05]"
    )


@pytest.mark.parametrize("over", ["trials", "blocks", "windows"])
def test_without_an_interval_nothing_is_judged(over):
    alone = {name: (numbers[0], np.nan, np.nan) for name, numbers in WORSE.items()}
    supported, verdict = judged(rows=alone, over=over)
    assert not supported
    assert verdict == (
        f"nonlinear dynamics cannot be judged: a single held-out {over[:-1]} gives no interval; hold out more."
    )


def test_windows_too_few_can_say_no_but_not_yes():
    supported, verdict = judged(holds=False, over="windows")
    assert not supported
    assert "cannot be judged: the model scores above every linear model, but the held-out windows" in verdict
    supported, verdict = judged(holds=False, rows={LDS.format(4): (0.1, 0.05, 0.15)})
    assert "not supported: a linear state space of rank 4 scores" in verdict


def test_a_larger_rank_must_have_been_tried_where_there_is_one():
    same = {name: numbers for name, numbers in WORSE.items() if name != LDS.format(4)}
    judge = lambda **options: judge_nonlinearity(table_of(same, **options))  # noqa: E731
    assert not judge()["nonlinear_supported"]
    assert "no linear state space of larger rank was tried; leave larger_ranks=None" in judge()["verdict"]
    assert judge(n_units=2)["nonlinear_supported"]


def test_a_score_that_still_rises_is_said():
    rows = {LDS.format(4): (-0.03, -0.04, -0.02)}
    assert judged(rows=rows)[1].endswith(
        "Rank 4 is the largest tried, and the score of linear state spaces still rose."
    )
    assert "still rose" not in judged(rows=rows, n_units=4)[1]
    assert "still rose" not in judged()[1]


def test_a_linear_model_gets_no_verdict():
    assert judge_nonlinearity(table_of(WORSE, model_is_linear=True)) == {}
    X = simulate(oscillator(6), 8, 15)
    quick = {"n_neurons": 10, "max_epochs": 1, "random_state": 0}
    for model in (LinearStateSpace(1, tol=1e-1), FactorAnalysis(1), LowRankRNN(1, nonlinearity="identity", **quick)):
        with pytest.warns() if isinstance(model, LowRankRNN) else nullcontext():
            table = compare_baselines(model, X, cv=[(np.arange(6), [6, 7])], larger_ranks=(2,))
        assert not {"verdict", "nonlinear_supported"} & set(table.attrs)


# --- on data ----------------------------------------------------------------------------------------------------------


def two_states():
    """Return a rank-1 network that settles in one of two states, which no linear model can have."""
    m = np.random.default_rng(0).standard_normal((100, 1))
    return LowRankDynamics(
        m,
        2.5 * m,
        dt=0.02,
        tau=0.1,
        initial_covariance=np.array([[0.5]]),
        loadings=np.random.default_rng(1).standard_normal((8, 1)),
        offset=np.zeros(8),
        observation_variance=np.full(8, 0.5),
    )


@pytest.fixture(scope="module")
def supported():
    X = two_states().simulate(30, 30, random_state=1)["observations"]
    return compare_baselines(LowRankRNN.from_dataset(two_states().to_dataset()), X[15:], cv="prefit", X_train=X[:15])


def test_a_network_of_two_states_is_nonlinear(supported):
    assert supported.attrs["nonlinear_supported"] is True
    assert supported.attrs["verdict"].startswith("nonlinear dynamics supported")
    assert supported.attrs["linear_ranks"][:2] == [1, 2]


def test_verdict_and_table_are_stored_with_the_results(supported, tmp_path):
    from nwb_lrrnn.results import read_results, write_results

    model = LowRankRNN.from_dataset(two_states().to_dataset())
    stored = read_results(write_results(tmp_path / "a.nwb", model, metrics=supported))["metrics"]
    assert stored.attrs["verdict"] == supported.attrs["verdict"]
    assert stored.attrs["nonlinear_supported"] == 1
    assert stored.attrs["linear_ranks"] == supported.attrs["linear_ranks"]
    assert stored["scored_by"].values.tolist() == supported["scored_by"].tolist()
    np.testing.assert_array_equal(stored["is_linear"], supported["is_linear"])


def test_linear_data_support_nothing():
    X = simulate(oscillator(8), 30, 20)
    linear = LinearStateSpace(3, tol=1e-2).fit(X[:15]).dynamics_
    wrong = LowRankRNN.from_dataset(linear.replace(nonlinearity="tanh").to_dataset())
    table = compare_baselines(wrong, X[15:], cv="prefit", X_train=X[:15])
    assert table.attrs["nonlinear_supported"] is False
    assert table.attrs["verdict"].startswith("nonlinear dynamics not supported: ")


# --- larger ranks -----------------------------------------------------------------------------------------------------


def test_ranks_are_doubled_until_the_score_stops_rising():
    truth = oscillator(12)  # of rank 3
    X = simulate(truth, 30, 20)
    scores = held_out_scores(LinearStateSpace(1, tol=1e-3), X, cv=[(np.arange(20), np.arange(20, 30))])
    names = [str(name) for name in scores["model"].values if str(name).startswith("linear")]
    totals = scores["log_likelihood"].sel(model=names).sum("trial", skipna=True).values
    own = float(scores["log_likelihood"][-1].sum(skipna=True))
    assert names[:2] == [LDS.format(2), LDS.format(4)]
    assert scores.attrs["linear_ranks"] == [2, 4, 8][: len(names)]
    rises = np.diff([own, *totals]) > 0
    assert rises[:2].all()
    assert rises[:-1].all()
    assert not rises[-1]


def test_ranks_end_at_the_number_of_units():
    X = simulate(oscillator(6), 12, 15).cumsum(axis=1)
    few = [(np.arange(6), np.arange(6, 12))]
    scores = held_out_scores(LinearStateSpace(4, tol=1e-1, max_iter=5), X, cv=few)
    assert scores.attrs["linear_ranks"] == [6]
    assert held_out_scores(LinearStateSpace(6, tol=1e-1, max_iter=5), X, cv=few).attrs["linear_ranks"] == []


def test_given_ranks_are_taken_as_they_are():
    X = simulate(oscillator(6), 8, 15)
    scores = held_out_scores(FactorAnalysis(1), X, cv=2, larger_ranks=(3, 2))
    assert scores.attrs["linear_ranks"] == [1, 3, 2]
    names = scores["model"].values.tolist()
    assert names[3:] == [LDS.format(1), LDS.format(3), LDS.format(2), "FactorAnalysis (rank 1)"]


def test_other_models_need_names_of_their_own():
    X = simulate(oscillator(6), 8, 15)
    for name in ("VAR(1)", "FactorAnalysis (rank 1)"):
        with pytest.raises(
            ValueError, match="others: the name .* is in the table already; give the other model another"
        ):
            held_out_scores(FactorAnalysis(1), X, cv=2, larger_ranks=(), others={name: FactorAnalysis(2)})


# --- the same estimator -----------------------------------------------------------------------------------------------


class Bound(LinearStateSpace, auto_wrap_output_keys=None):
    """A model whose score is a bound, 5 nats a trial below the truth."""

    def with_dynamics(self, dynamics):
        other = type(self).from_dynamics(dynamics)
        return other.set_params(n_particles=self.n_particles)

    def _log_evidence(self, trials):
        return super()._log_evidence(trials) - 5.0


def test_linear_state_spaces_are_scored_by_the_bound_of_the_model():
    X = simulate(oscillator(6), 12, 20)
    folds = [(np.arange(8), np.arange(8, 12)), (np.arange(4, 12), np.arange(4))]
    given = {"cv": folds, "larger_ranks": (3,)}
    bound = held_out_scores(Bound(2, tol=1e-1, n_particles=32), X, **given)
    exact = held_out_scores(FactorAnalysis(2), X, **given)
    for rank in (2, 3):
        a, b = (s["log_likelihood"].sel(model=LDS.format(rank)) for s in (bound, exact))
        xr.testing.assert_allclose(a.drop_vars(["scored_by"]), b.drop_vars(["scored_by"]) - 5.0)
    table = tabulate(bound)
    by = table["scored_by"]
    assert by[LDS.format(2)] == by[LDS.format(3)] == by["Bound (rank 2)"] == "Bound bound, K = 32"
    assert by["VAR(1)"] == "VectorAutoregression"
    assert by["factor analysis (rank 2)"] == "FactorAnalysis"
    assert (tabulate(exact)["scored_by"][[LDS.format(2), LDS.format(3)]] == "LinearStateSpace").all()


def test_bounds_of_count_models_name_their_particles():
    X = np.random.default_rng(0).poisson(2.0, (6, 8, 3))
    table = compare_baselines(LinearStateSpace(1, tol=1e-1, n_particles=16), X, cv=2, larger_ranks=(2,))
    assert table["scored_by"].tolist()[2:] == [
        "VectorAutoregression",
        "LinearStateSpace bound, K = 64",
        "LinearStateSpace bound, K = 16",
    ]


@pytest.mark.parametrize(
    ("parameters", "is_linear"),
    [({}, False), ({"nonlinearity": "identity"}, True), ({"n_lags": 2}, False), ({"encoder": "mlp"}, False)],
)
def test_a_model_of_groups_is_judged_by_how_it_predicts(parameters, is_linear):
    X = np.random.default_rng(0).normal(size=(8, 20, 4)).cumsum(axis=1)
    model = DisRNN(2, random_state=0, max_epochs=50, **parameters)
    table = compare_baselines(model, X, cv=2, larger_ranks=())
    assert table["is_linear"].iloc[-1] == is_linear
    assert ("verdict" in table.attrs) != is_linear
    assert table.index[-1] == "DisRNN (rank 2)"
    assert table.attrs["rank"] == 2


@pytest.mark.parametrize(("parameters", "is_linear"), [({}, True), ({"encoder": "mlp"}, False)])
def test_a_linear_encoder_of_counts_predicts_linearly(parameters, is_linear):
    X = np.random.default_rng(0).poisson(2.0, size=(8, 20, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs
        table = compare_baselines(DisRNN(2, random_state=0, max_epochs=3, **parameters), X, cv=2, larger_ranks=())
    assert table["is_linear"].iloc[-1] == is_linear
    assert table.attrs["link"] == "softplus"
