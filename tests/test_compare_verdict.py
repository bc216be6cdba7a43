"""The verdict on nonlinear dynamics: "supported" only where every linear model is beaten beyond doubt."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nwb_lrrnn.compare import compare_baselines, judge_nonlinearity
from nwb_lrrnn.compare.power import detectable_difference, trials_needed
from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace
from nwb_lrrnn.models.low_rank import LowRankRNN
from test_linear import oscillator, simulate

LDS = "linear state space (rank {})"
ALONE = "autoregression per unit (3 lags)"


def table_of(rows, *, model_is_linear=False, gain=1.0, model_gain=(1.9, 2.1), floors=None, outdone=(), **attrs):
    """Return a table of linear models: {name: (its difference from the model, low, high)}.

    The mean rate is 2 nats per bin below the model; `gain` is what the lower ends of gains over it are multiplied by.
    """
    n_trials = attrs.get("n_trials", 20)
    ranks = [int(name.rpartition(" ")[2][:-1]) for name in rows if name.startswith("linear")]
    numbers = np.array([*rows.values(), (0.0, 0.0, 0.0)], dtype=float)
    numbers = -numbers[:, [0, 2, 1]]  # what the model is above
    table = pd.DataFrame(numbers, columns=["model_above", "low", "high"], index=[*rows, "LowRankRNN (rank 2)"])
    table["standard_error"] = (table["high"] - table["low"]) / 2 / stats.t.ppf(0.975, max(n_trials - 1, 1))
    table["vs_mean_rate"] = 2.0 - table["model_above"]
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
    little = {LDS.format(2): (-0.008, -0.009, -0.007)}  # above, and less than counts
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


@pytest.mark.parametrize(
    ("difference", "word"), [(0.008, "not supported"), (0.012, "undecided"), (0.019, "undecided"), (0.021, "supported")]
)
def test_no_step_leads_from_yes_to_no(difference, word):
    row = (-difference, -difference - 0.02, -difference + 0.02)  # a standard error of 0.01, where 0.1 counts or so
    assert judged({LDS.format(2): row}, smallest_gain=0.05)[0] == word


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


def test_undecided_names_the_model_that_stands_in_the_way():
    rows = {"linear state space (rank 2)": (-1.0, -1.2, -0.8), "linear state space (rank 8)": (-3.0, -6.2, 0.2)}
    said = judge_nonlinearity(table_of(rows))
    assert said["nonlinear"] == "undecided"
    assert "a linear state space of rank 8 is too close: the model scores +3.00 [-0.2" in said["verdict"]


@pytest.mark.parametrize(("high", "word"), [(0.0035, "not supported"), (0.0045, "supported")])
def test_a_gain_that_is_certain_and_next_to_nothing_supports_nothing(high, word):
    # the linear model gains 2 - 0.003 over the mean rate: 2 % of it are 0.04, and a tenth of that 0.004
    said = judge_nonlinearity(table_of({"linear state space (rank 4)": (-0.003, -high, -0.0025)}))
    assert said["nonlinear"] == word
