"""What is no dynamics must not turn the verdict: every change of `metamorphic.py`, for an estimator that can fail it.

The other way as well: a planted limit cycle stays "supported" under what is harmless, is never "not supported" under
what is dubious, and its bins in a random order are supported no more.
"""

import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

from metamorphic import CHANGES, EXTRA
from nwb_lrrnn import DisRNN, LeastSquaresRNN, LowRankRNN, SMCLowRankRNN, compare_baselines
from planted_systems import recording

SMALLEST = 0.02  # nats per bin: by more than this no difference may move
# Twice the s.d. of the difference between model seeds on the unchanged data, where that is more.
SEEDS = {"DisRNN": 0.0, "SMCLowRankRNN": 0.02, "LowRankRNN": 0.035, "LeastSquaresRNN": 0.01}
N_TRAIN, N_HELD = 18, 10

# Every change of Gaussian data is tried with DisRNN, whose fit takes a tenth of a second; units without variance of
# their own with SMC as well, which they once turned by 8 nats per bin. Counts take seconds: with LowRankRNN, and only
# what they have of their own, which is rates at a floor and more spikes in a bin than a rate can explain.
WITHOUT_VARIANCE = ("constant unit", "unit of zeros", "constant after ZScore", "constant in training", "copy of a unit")
REGRESSED_COUNTS = ("silent in training", "silent in test", "one enormous bin")
REGRESSED = ("constant unit", "units permuted", "units scaled and shifted", "copy of a unit", "one enormous bin")
COUNTS = ("silent in training", "silent in test", "zero-padded times", "one enormous bin in test")


class Said(NamedTuple):
    """What is said of a model: the word, linear model minus it with its interval, the sentence, units left out."""

    word: str
    difference: float
    low: float
    high: float
    verdict: str
    left_out: list


def estimator(name):
    trained = {"n_neurons": 12, "patience": 5, "random_state": 0}
    return {
        "DisRNN": DisRNN(2, n_groups=1, n_bootstraps=2, random_state=0),
        "SMCLowRankRNN": SMCLowRankRNN(2, n_particles=16, max_epochs=5, **trained),
        "LowRankRNN": LowRankRNN(2, max_epochs=8, **trained),
        "LeastSquaresRNN": LeastSquaresRNN(2, n_neurons=30, max_epochs=2, random_state=0),
    }[name]


def said(name, train, held):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = estimator(name).fit(train)
        ranks = (4,) if model.likelihood_ == "gaussian" else ()  # of linear models for counts, each takes a second
        table = compare_baselines(model, held, cv="prefit", X_train=train, larger_ranks=ranks)
    row = table.loc["linear state space (rank 2)"]
    left_out = model.unit_ids_[~model.scored_units_].tolist()
    return Said(table.attrs["nonlinear"], row["model_above"], row["low"], row["high"], table.attrs["verdict"], left_out)


@cache
def data(system, likelihood):
    X = recording(system, likelihood, 1, N_TRAIN + N_HELD, n_bins=30)
    return X[:N_TRAIN], X[N_TRAIN:]


@cache
def unchanged(system, likelihood, name):
    return said(name, *data(system, likelihood))


def changed(system, likelihood, name, change):
    """Return what is said of changed data, or the sentence with which they are refused."""
    train, held = CHANGES[change].apply(*data(system, likelihood), np.random.default_rng(0))
    if CHANGES[change].duty == "harmless":
        return said(name, train, held)
    try:
        return said(name, train, held)
    except ValueError as error:
        return Said("cannot be judged", np.nan, np.nan, np.nan, str(error), [])


def cases(duty):
    """Return likelihood, estimator and name of every change of that duty."""
    found = [("gaussian", "DisRNN", change) for change, about in CHANGES.items() if "gaussian" in about.likelihoods]
    found += [("gaussian", "SMCLowRankRNN", change) for change in WITHOUT_VARIANCE]
    found += [("gaussian", "LeastSquaresRNN", change) for change in REGRESSED]
    found += [("poisson", "LowRankRNN", change) for change in COUNTS]
    found += [("poisson", "LeastSquaresRNN", change) for change in REGRESSED_COUNTS]
    return [pytest.param(*case, id="-".join(case)) for case in found if CHANGES[case[-1]].duty == duty]


@pytest.mark.parametrize(("likelihood", "name", "change"), cases("harmless"))
def test_harmless_changes_of_a_linear_system_move_nothing(likelihood, name, change):
    before, after = unchanged("linear", likelihood, name), changed("linear", likelihood, name, change)
    assert before.word == "not supported"
    assert after.word == before.word, after.verdict
    assert after.difference == pytest.approx(before.difference, abs=max(SMALLEST, SEEDS[name]))


@pytest.mark.parametrize(("likelihood", "name", "change"), cases("dubious"))
def test_dubious_changes_of_a_linear_system_move_nothing_or_are_named(likelihood, name, change):
    before, after = unchanged("linear", likelihood, name), changed("linear", likelihood, name, change)
    if after.word == "cannot be judged":
        assert any(word in after.verdict for word in CHANGES[change].named), after.verdict
        return
    assert after.word == before.word, after.verdict
    assert after.difference == pytest.approx(before.difference, abs=max(SMALLEST, SEEDS[name]))


@pytest.mark.parametrize(("likelihood", "name", "change"), cases("void"))
def test_trials_given_twice_are_no_new_evidence(likelihood, name, change):
    before, after = unchanged("linear", likelihood, name), changed("linear", likelihood, name, change)
    if after.word == "cannot be judged":
        assert "trial" in after.verdict
        return
    assert after.high - after.low > 0.95 * (before.high - before.low)  # without care, 0.7 of it


CYCLES = [name for name, change in CHANGES.items() if "gaussian" in change.likelihoods and change.duty != "void"]


@pytest.mark.parametrize("change", CYCLES)
def test_a_limit_cycle_stays_supported(change):
    assert unchanged("noisy cycle", "gaussian", "DisRNN").word == "supported"
    after = changed("noisy cycle", "gaussian", "DisRNN", change)
    if CHANGES[change].duty == "harmless":
        assert after.word == "supported", after.verdict
    assert after.word != "not supported", after.verdict


def test_a_limit_cycle_is_supported_by_regression_too():
    assert unchanged("noisy cycle", "gaussian", "LeastSquaresRNN").word == "supported"


def test_a_change_of_the_dynamics_does_turn_the_word():
    words = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        shuffled = []
        for X in data("noisy cycle", "gaussian"):
            bins = [trial[rng.permutation(len(trial))] for trial in X.values]
            shuffled.append(X.copy(data=np.stack(bins)))
        words.append(said("DisRNN", *shuffled).word)
    assert words.count("supported") <= 1, words  # chance alone supports one in forty


@pytest.mark.parametrize(
    "change", ["constant unit", "unit of zeros", "constant in training", "silent in training", "constant after ZScore"]
)
def test_a_unit_that_training_cannot_speak_for_is_left_out_of_the_scores(change):
    assert unchanged("linear", "gaussian", "DisRNN").left_out == []
    assert changed("linear", "gaussian", "DisRNN", change).left_out == [EXTRA]
