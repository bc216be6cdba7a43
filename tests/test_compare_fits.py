"""The verdict on real fits: what networks, linear data, smooth units and noise are said to be."""

import warnings

import numpy as np
import pytest
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.compare import compare_baselines, held_out_scores, tabulate
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis import DisRNN
from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace
from nwb_lrrnn.models.low_rank import LowRankRNN
from test_linear import oscillator, simulate

LDS = "linear state space (rank {})"


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
    assert supported.attrs["nonlinear"] == "supported"
    assert supported.attrs["verdict"].startswith("nonlinear dynamics supported")
    assert supported.attrs["linear_ranks"][:2] == [1, 2]


def test_verdict_and_table_are_stored_with_the_results(supported, tmp_path):
    from nwb_lrrnn.results import read_results, write_results

    model = LowRankRNN.from_dataset(two_states().to_dataset())
    stored = read_results(write_results(tmp_path / "a.nwb", model, metrics=supported))["metrics"]
    assert stored.attrs["verdict"] == supported.attrs["verdict"]
    assert stored.attrs["nonlinear"] == "supported"
    assert stored.attrs["linear_ranks"] == supported.attrs["linear_ranks"]
    assert stored["scored_by"].values.tolist() == supported["scored_by"].tolist()
    np.testing.assert_array_equal(stored["is_linear"], supported["is_linear"])


class CalledNonlinear(LinearStateSpace, auto_wrap_output_keys=None):
    """A linear state space that says it is none."""

    is_linear_ = False


def test_linear_data_do_not_support_what_is_as_good_as_linear():
    X = simulate(oscillator(8), 30, 20)
    model = CalledNonlinear(3, tol=1e-2).fit(X[:15])
    table = compare_baselines(model, X[15:], cv="prefit", X_train=X[:15])
    assert abs(table.loc[LDS.format(3), "model_above"]) < 1e-2  # fitted a little longer
    assert table.attrs["nonlinear"] == "not supported"
    assert table.attrs["verdict"].startswith("nonlinear dynamics not supported: ")
    assert table.attrs["smallest_gain"] == pytest.approx(0.02 * table.loc[LDS.format(3), "vs_mean_rate"])


def test_a_model_that_learned_nothing_is_said_to_be_useless():
    X = simulate(oscillator(8), 30, 20)
    linear = LinearStateSpace(3, tol=1e-2).fit(X[:15]).dynamics_
    wrong = LowRankRNN.from_dataset(linear.replace(nonlinearity="tanh").to_dataset())
    table = compare_baselines(wrong, X[15:], cv="prefit", X_train=X[:15], larger_ranks=())
    assert table.attrs["nonlinear"] == "not supported"
    assert "its fit is useless" in table.attrs["verdict"]


def test_smooth_single_units_leave_nothing_to_latents():
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((20, 60, 6)).cumsum(axis=1)  # independent units
    X = np.stack([np.convolve(unit, np.ones(5) / 5, "same") for unit in steps.transpose(0, 2, 1).reshape(-1, 60)])
    X = X.reshape(20, 6, 60).transpose(0, 2, 1)
    table = compare_baselines(CalledNonlinear(2, max_iter=10, tol=0.1), X, cv=2, larger_ranks=(4,))
    assert table.attrs["nonlinear"] == "not supported"
    assert "autoregression per unit (2 lags) scores +" in table.attrs["verdict"]
    assert "Single units are smooth by themselves" in table.attrs["verdict"]


@pytest.mark.parametrize("seed", range(3))
def test_noise_supports_nothing(seed):
    X = np.random.default_rng(seed).standard_normal((24, 30, 6))
    table = compare_baselines(CalledNonlinear(2, max_iter=10, tol=0.1), X, cv=2, larger_ranks=(4,))
    assert table.attrs["nonlinear"] == "cannot be judged"
    assert "no latents" in table.attrs["verdict"]


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
    assert names[4:] == [LDS.format(1), LDS.format(3), LDS.format(2), "FactorAnalysis (rank 1)"]


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
    assert table["scored_by"].tolist()[3:] == [
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
