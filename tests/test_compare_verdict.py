"""The verdict on nonlinear dynamics: "supported" only where every linear model is beaten beyond doubt."""

import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.compare import compare_baselines, held_out_scores, judge_nonlinearity, tabulate
from nwb_lrrnn.compare.power import detectable_difference, trials_needed
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis import DisRNN
from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace
from nwb_lrrnn.models.low_rank import LowRankRNN
from test_linear import oscillator, simulate

LDS = "linear state space (rank {})"
ALONE = "autoregression per unit (3 lags)"


def table_of(rows, *, model_is_linear=False, gain=1.0, model_gain=(1.9, 2.1), floors=None, outdone=(), **attrs):
    """Return a table of linear models: {name: (difference from the model, low, high)}.

    The mean rate is 2 nats per bin below the model; `gain` is what the lower ends of gains over it are multiplied by.
    """
    n_trials = attrs.get("n_trials", 20)
    ranks = [int(name.rpartition(" ")[2][:-1]) for name in rows if name.startswith("linear")]
    numbers = np.array([*rows.values(), (0.0, 0.0, 0.0)], dtype=float)
    table = pd.DataFrame(numbers, columns=["vs_model", "low", "high"], index=[*rows, "LowRankRNN (rank 2)"])
    table["standard_error"] = (table["high"] - table["low"]) / 2 / stats.t.ppf(0.975, max(n_trials - 1, 1))
    table["vs_mean_rate"] = 2.0 + table["vs_model"]
    has_latents = [name.startswith(("linear", "factor", "LowRank")) for name in table.index]
    table["gain_low"] = gain * (table["vs_mean_rate"] - 0.1)
    table["gain_high"] = table["vs_mean_rate"] + 0.1
    table.loc[table.index[-1], ["gain_low", "gain_high"]] = model_gain
    table["is_linear"] = [True] * len(rows) + [model_is_linear]
    table["has_latents"] = has_latents
    table["interval_holds"] = attrs.pop("holds", True)
    table["n_blocks"] = attrs.pop("n_blocks", n_trials)
    table["at_floor"] = [(floors or {}).get(name, "") for name in table.index]
    table["is_outdone"] = [name in outdone for name in table.index]
    given = {"rank": 2, "n_units": 20, "linear_ranks": ranks, "interval_over": "trials", "n_trials": n_trials}
    table.attrs = given | attrs
    return table


WORSE = {
    "mean rate": (-2.0, -2.2, -1.8),
    ALONE: (-0.6, -0.7, -0.5),
    "factor analysis (rank 2)": (-1.0, -1.1, -0.9),
    "VAR(1)": (-0.5, -0.6, -0.4),
    LDS.format(2): (-0.032, -0.041, -0.022),
    LDS.format(4): (-0.045, -0.057, -0.034),
}


def judged(rows=None, *, smallest_gain=0.02, **options):
    """Return the word and the rest of the sentence for a table in which these rows are other than in WORSE."""
    said = judge_nonlinearity(table_of(WORSE | (rows or {}), **options), smallest_gain=smallest_gain)
    begin = f"nonlinear dynamics {said['nonlinear']}: "
    assert said["verdict"].startswith(begin)
    return said["nonlinear"], said["verdict"].removeprefix(begin)


# --- the four words ---------------------------------------------------------------------------------------------------


def test_supported_where_every_linear_model_is_beaten():
    assert judged() == (
        "supported",
        "the model scores above every linear model, linear state spaces of rank 2 and 4 among them. The closest, a "
        "linear state space of rank 2, scores 0.032 [0.022, 0.041] nats per bin below.",
    )


def test_a_fit_that_stayed_at_its_linear_start_supports_nothing():
    word, why = judged(stayed_linear=True)
    assert word == "undecided"
    assert "its own fit stayed at its linear start" in why
    assert judged({LDS.format(8): (0.12, 0.03, 0.21)}, stayed_linear=True)[0] == "not supported"
    little = {LDS.format(2): (-0.002, -0.003, -0.001)}  # above, and less than counts
    assert judged(little)[0] == "supported"
    assert judged(little, stayed_linear=True)[0] == "not supported"


def test_not_supported_where_a_linear_model_is_better():
    word, why = judged({LDS.format(8): (0.12, 0.03, 0.21)})
    assert word == "not supported"
    assert why == "a linear state space of rank 8 scores +0.12 [0.03, 0.21] nats per bin above."


def test_not_supported_where_what_could_be_gained_is_too_little_to_count():
    # the linear model gains 1.99 over the mean rate, of which 2 % are 0.0398
    word, why = judged({LDS.format(2): (-0.01, -0.039, 0.019)})
    assert word == "not supported"
    assert why == (
        "a linear state space of rank 2 explains as much: the model scores +0.010 [-0.019, 0.039] nats per bin from "
        "it, and less than 0.04 does not count."
    )
    assert judged({LDS.format(2): (-0.01, -0.041, 0.021)})[0] == "undecided"
    assert judged({LDS.format(2): (-0.01, -0.041, 0.021)}, smallest_gain=0.03)[0] == "not supported"
    assert judged({LDS.format(2): (-0.01, -0.039, 0.019)}, smallest_gain=0.0)[0] == "undecided"


@pytest.mark.parametrize("name", [LDS.format(2), LDS.format(4), "VAR(1)", ALONE, "factor analysis (rank 2)"])
def test_one_interval_that_includes_0_is_enough_to_leave_it_undecided(name):
    assert judged({name: (-0.02, -0.09, 0.05)})[0] == "undecided"
    assert judged({name: (0.0, -0.09, 0.09)})[0] == "undecided"


def test_undecided_says_what_could_have_been_seen_and_how_many_trials_would_do():
    said = judge_nonlinearity(table_of(WORSE | {LDS.format(2): (-0.02, -0.06, 0.02)}))
    error = 0.04 / stats.t.ppf(0.975, 19)
    wanted = (stats.t.ppf(0.975, 19) + stats.t.ppf(0.8, 19)) * error
    assert said["detectable"] == pytest.approx(wanted)
    assert said["smallest_gain"] == pytest.approx(0.02 * 1.98)
    # 0.02 is to be told from 0, or from 0.0396: about the same distance
    assert said["n_needed"] == int(np.ceil(20 * (wanted / 0.02) ** 2))
    assert said["verdict"].endswith(
        f"These 20 held-out trials would show a difference of {wanted:.2g} in 4 of 5 cases; about {said['n_needed']} "
        "would decide."
    )


def test_models_equal_to_the_last_bit_are_not_supported():
    assert judged({LDS.format(2): (0.0, 0.0, 0.0)})[0] == "not supported"


def test_a_clearly_better_model_that_gains_less_than_counts_is_supported_all_the_same():
    # both hold: above all by intervals that exclude 0, and by less than 2 %; what is there counts first
    assert judged({LDS.format(2): (-0.02, -0.03, -0.01)})[0] == "supported"


def test_smallest_gain_is_checked():
    for wrong in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="smallest_gain: got .*, wanted a share >= 0, such as 0.02"):
            judge_nonlinearity(table_of(WORSE), smallest_gain=wrong)


# --- single units -----------------------------------------------------------------------------------------------------


def test_what_single_units_do_by_themselves_is_named_where_it_decides():
    word, why = judged({ALONE: (35.0, 30.0, 40.0)})
    assert word == "not supported"
    assert why.startswith("autoregression per unit (3 lags) scores +35.00 [30.00, 40.00] nats per bin above.")
    assert "Single units are smooth by themselves" in why
    assert "Single units" not in judged()[1]


# --- too little data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("rows", [{}, {LDS.format(8): (0.12, 0.03, 0.21)}])
def test_few_trials_decide_nothing(n, rows):
    word, why = judged(rows, n_trials=n)
    assert word == "undecided"
    assert why.startswith(f"{n} held-out trials, and fewer than 5 decide nothing; hold out more.")
    assert judged(rows, n_trials=5)[0] in ("supported", "not supported")
    word, why = judged(rows, n_trials=7, interval_over="windows")
    assert word == "undecided"
    assert why.startswith("7 held-out windows, and fewer than 8 decide nothing")


@pytest.mark.parametrize("over", ["trials", "blocks", "windows"])
def test_without_an_interval_nothing_is_judged(over):
    alone = {name: (numbers[0], np.nan, np.nan) for name, numbers in WORSE.items()}
    word, why = judged(alone, interval_over=over, n_trials=1)
    assert word == "undecided"
    noun, fewest = ("window", 8) if over == "windows" else ("trial", 5)
    assert why == f"1 held-out {noun}, and fewer than {fewest} decide nothing; hold out more."


def test_few_blocks_of_many_trials_decide_nothing():
    word, why = judged(n_blocks=4, interval_over="blocks")
    assert (word, why[:54]) == ("undecided", "4 independent blocks of held-out trials, and fewer tha")


def test_windows_too_dependent_decide_nothing():
    word, why = judged(holds=False, interval_over="windows")
    assert word == "undecided"
    assert why.startswith("the held-out windows of one recording are too few, or too dependent on each other")
    assert judged({LDS.format(4): (0.1, 0.05, 0.15)}, holds=False, interval_over="windows")[0] == "undecided"


# --- what cannot be judged --------------------------------------------------------------------------------------------


def test_what_the_data_forbid_comes_first_and_is_said():
    word, why = judged(forbidden=["units 0 and 8 are copies", "trial 3 is enormous"], n_trials=3)
    assert (word, why) == ("cannot be judged", "units 0 and 8 are copies; trial 3 is enormous.")


def test_without_latents_there_is_nothing_to_judge():
    word, why = judged(gain=-1.0, model_gain=(-0.1, 0.1))
    assert word == "cannot be judged"
    assert why.startswith("no latents: no model of latents scores above the mean rate")
    assert judged(gain=-1.0)[0] == "supported"  # the model alone sees some


def test_a_model_below_the_mean_rate_is_said_to_be_useless():
    rows = {name: (5.0, 4.8, 5.2) for name in WORSE}
    word, why = judged(rows, model_gain=(-5.2, -4.8))
    assert word == "not supported"
    assert "its fit is useless" in why


def test_a_floor_that_decides_is_named():
    word, why = judged(floors={"LowRankRNN (rank 2)": "units 3 and 7"})
    assert word == "cannot be judged"
    assert why.startswith("units 3 and 7 are predicted by the LowRankRNN (rank 2) as exactly as its floor")
    assert judged(floors={LDS.format(2): "unit 3"})[0] == "cannot be judged"  # the closest
    assert judged(floors={LDS.format(4): "unit 3"})[0] == "supported"
    assert judged({LDS.format(2): (-0.02, -0.09, 0.05)}, floors={LDS.format(2): "unit 3"})[0] == "undecided"


def test_units_left_out_are_named_once():
    assert judged(left_out=["3"])[1].endswith(" Left out of every score is unit 3: training cannot speak for it.")
    many = judged(left_out=[str(k) for k in range(9)])[1]
    assert many.endswith("are units 0, 1, 2, 3, 4, 5 and 3 more: training cannot speak for them.")


# --- larger linear models ---------------------------------------------------------------------------------------------


def test_a_larger_linear_model_below_its_smaller_sibling_has_no_vote():
    rows = {LDS.format(8): (-0.2, -0.6, 0.2)}
    assert judged(rows)[0] == "undecided"  # it may be as good as the model, for all that is known
    word, why = judged(rows, outdone=[LDS.format(8)])
    assert word == "supported"
    assert why.endswith(
        " Without a vote: a linear state space of rank 8, clearly below a smaller one that it contains."
    )


def test_a_larger_rank_must_have_been_tried_where_there_is_one():
    same = {name: numbers for name, numbers in WORSE.items() if name != LDS.format(4)}
    judge = lambda **options: judge_nonlinearity(table_of(same, **options))  # noqa: E731
    assert judge()["nonlinear"] == "undecided"
    assert "no linear state space of larger rank was tried; leave larger_ranks=None" in judge()["verdict"]
    assert judge(n_units=2)["nonlinear"] == "supported"


def test_a_score_that_still_rises_is_said():
    rows = {LDS.format(4): (-0.03, -0.04, -0.02)}
    assert judged(rows)[1].endswith("Rank 4 is the largest tried, and the score of linear state spaces still rose.")
    assert "still rose" not in judged(rows, n_units=4)[1]
    assert "still rose" not in judged()[1]


def test_a_linear_model_gets_no_verdict():
    assert judge_nonlinearity(table_of(WORSE, model_is_linear=True)) == {}
    X = simulate(oscillator(6), 8, 15)
    quick = {"n_neurons": 10, "max_epochs": 1, "random_state": 0}
    for model in (LinearStateSpace(1, tol=1e-1), FactorAnalysis(1), LowRankRNN(1, nonlinearity="identity", **quick)):
        with pytest.warns() if isinstance(model, LowRankRNN) else nullcontext():
            table = compare_baselines(model, X, cv=[(np.arange(6), [6, 7])], larger_ranks=(2,))
        assert not {"verdict", "nonlinear"} & set(table.attrs)


# --- how much data it takes -------------------------------------------------------------------------------------------


def test_the_difference_that_can_be_detected_is_seen_in_four_of_five_cases():
    rng = np.random.default_rng(0)
    n, seen = 20, 0
    true = detectable_difference(1 / np.sqrt(n), n)
    for x in rng.standard_normal((2000, n)) + true:
        seen += x.mean() > stats.t.ppf(0.975, n - 1) * x.std(ddof=1) / np.sqrt(n)
    assert abs(seen / 2000 - 0.8) < 0.03  # three standard errors; the approximation itself is good to 0.003
    assert np.isnan(detectable_difference(np.nan, 1))


def test_trials_needed_shrink_the_error_until_one_side_is_left():
    assert trials_needed(20, 0.04, 0.02, 0.01) == 80  # 0.02 is to be told from 0
    assert trials_needed(20, 0.04, 0.0, 0.02) == 80  # 0 is to be told from 0.02
    assert trials_needed(20, 0.01, 0.02, 0.01) == 21
    assert trials_needed(20, 0.04, 0.0, 0.0) is None
    assert trials_needed(1, np.nan, 0.1, 0.0) is None


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
    assert abs(table.loc[LDS.format(3), "vs_model"]) < 1e-2  # fitted a little longer
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
