"""The search for groups: its path through fake tests, and what it finds in planted data."""

import numpy as np
import pytest
from scipy.signal import lfilter

import planted_groups as planted
from nwb_lrrnn import DisRNN
from nwb_lrrnn.analysis.independence.autonomy import Autonomy
from nwb_lrrnn.groups.search import Trial, search_groups, select_groups

COLUMNS = ["group_ranks", "log_likelihood", "p_loss", "p_value", "power", "accepted"]


class Verdicts:
    """Tests that know which factorisations stand, and how likely each is: the finer the more, where nothing is said."""

    def __init__(self, standing, values=None, blind=(), **p_values):
        self.standing, self.values, self.blind = set(standing), values or {}, set(blind)
        self.rejected = {"loss": 0.5, "p_value": 1.0, "power": 1.0, "lost": 1.0} | p_values
        self.tried, self.against = [], {}

    def __call__(self, ranks, coarse):
        self.tried.append(ranks)
        self.against[ranks] = None if coarse is None else float(coarse.log_likelihood[0])
        found = Autonomy(np.full(4, self.values.get(ranks, float(len(ranks)))), np.zeros((0, 4)))
        if ranks in self.standing:
            return Trial(found, 0.5, 0.5, 0.1 if ranks in self.blind else 0.9)
        return Trial(found, **self.rejected)


def test_the_path_leads_to_the_groups():
    tests = Verdicts([(5, 1), (4, 2), (3, 3), (3, 2, 1)], loss=1e-3)  # {0, 1, 2}, {3, 4}, {5}: all unions of them stand
    found = search_groups(tests, 6)
    assert found.group_ranks == (3, 2, 1)
    assert str(found) == "factorisable into groups of rank 3 + 2 + 1; every finer one tried is rejected."
    assert len(tests.tried) == len(set(tests.tried))
    assert found.table.columns.tolist() == COLUMNS
    assert found.table.loc[found.table.accepted, "group_ranks"].tolist() == [(5, 1), (4, 2), (3, 3), (3, 2, 1)]


def test_a_split_that_misleads_is_not_the_end():
    likelier = {(5, 4): 2.0, (6, 3): 1.0, (3, 3, 3): 3.0}
    tests = Verdicts(likelier, likelier, loss=1e-3)  # (3, 3, 3) is no split of (5, 4)
    assert search_groups(tests, 9).group_ranks == (3, 3, 3)


def test_only_the_likeliest_are_split_further():
    values = {(5, 1): 3.0, (4, 2): 2.0, (3, 3): 1.5}
    tests = Verdicts(values, values, loss=1e-3)
    assert search_groups(tests, 6).group_ranks == (5, 1)
    assert (3, 2, 1) in tests.tried  # of (5, 1), of (4, 2)
    assert (2, 2, 2) in tests.tried  # of (4, 2)
    apart = Verdicts(values, {(5, 1): 3.0, (3, 3): 2.0, (4, 2): 1.5}, loss=1e-3)
    search_groups(apart, 6)
    assert (2, 2, 2) not in apart.tried


def test_a_split_that_foretells_less_is_not_chosen():
    found = search_groups(Verdicts([(2, 1)], {(3,): 2.0, (2, 1): 1.9}, loss=1e-3), 3)
    assert (found.word, found.group_ranks) == ("undecided", (3,))
    assert str(found).startswith("undecided: no way of splitting 3 latents foretells them as well as one group does")
    finer = Verdicts([(2, 2), (2, 1, 1)], {(2, 2): 2.0, (2, 1, 1): 1.9}, loss=1e-3)
    assert str(search_groups(finer, 4)) == "factorisable into groups of rank 2 + 2; no finer one foretells more."


def test_of_those_that_foretell_alike_the_finest_is_chosen():
    values = {(2,): 2.0, (1, 1): 1.995}
    assert search_groups(Verdicts(values, values), 2).group_ranks == (1, 1)
    values[1, 1] = 1.985
    assert search_groups(Verdicts(values, values), 2).group_ranks == (2,)


def test_a_split_without_power_is_undecided():
    found = search_groups(Verdicts([(2, 1)], blind=[(2, 1)], loss=1e-3), 3)
    assert (found.word, found.group_ranks, found.factorisable) == ("undecided", (3,), None)
    assert "nothing rejects groups of rank 2 + 1, but only 10 % of couplings with a correlation of 0.5" in str(found)
    assert not found.table["accepted"].any()
    finer = search_groups(Verdicts([(2, 2), (2, 1, 1)], blind=[(2, 1, 1)], loss=1e-3), 4)
    assert (finer.word, finer.group_ranks) == ("factorisable", (2, 2))
    assert "whether they fall into 2 + 1 + 1 is undecided" in str(finer)
    likelier = search_groups(Verdicts([(3, 1), (2, 2)], {(3, 1): 2.0, (2, 2): 3.0}, blind=[(2, 2)], loss=1e-3), 4)
    assert (likelier.word, likelier.group_ranks) == ("undecided", (4,))  # 3 + 1 is clear, but less likely


def test_a_split_is_held_against_the_likeliest_that_it_comes_from():
    tests = Verdicts([(3, 1), (2, 2)], {(4,): 0.0, (3, 1): 1.0, (2, 2): 2.0})
    search_groups(tests, 4)
    assert tests.against == {(4,): None, (3, 1): 0.0, (2, 2): 0.0, (2, 1, 1): 2.0} | {
        ranks: tests.against[ranks] for ranks in tests.against if len(ranks) > 3
    }


@pytest.mark.parametrize(
    ("p_values", "stands"),
    [
        ({"loss": 0.04}, False),  # a loss need not be certain
        ({"loss": 0.06}, True),
        ({"loss": 1e-9, "lost": 0.009}, True),  # what is certain may be nothing
        ({"loss": 1e-9, "lost": 0.011}, False),
        ({"p_value": 0.009}, False),
        ({"p_value": 0.011}, True),
        ({"p_value": 0.009, "loss": 1 - 1e-6}, True),  # what certainly foretells more is rejected by certainty only
        ({"p_value": 0.0019, "loss": 1 - 1e-6}, False),
        ({"power": 0.4}, False),
        ({"power": float("nan")}, False),
    ],
)
def test_every_test_can_reject(p_values, stands):
    found = search_groups(Verdicts([], **p_values), 2, level=0.01)
    assert found.group_ranks == ((1, 1) if stands else (2,))


def test_nothing_stands():
    found = search_groups(Verdicts([], loss=1e-3), 3)
    assert (found.word, found.group_ranks) == ("not factorisable", (3,))
    assert str(found) == "not factorisable: every way of splitting 3 latents leaves groups that depend on each other."
    assert found.table["group_ranks"].tolist() == [(2, 1)]


def test_one_latent_is_one_group():
    found = search_groups(Verdicts([]), 1)
    assert found.group_ranks == (1,)
    assert found.verdict == "not factorisable: there is one latent."
    assert found.table.columns.tolist() == COLUMNS
    assert found.table.empty


def test_max_groups_ends_the_search():
    tests = Verdicts([])
    found = search_groups(tests, 4, max_groups=2)
    assert len(found.group_ranks) == 2
    assert found.verdict.endswith("no finer one was tried.")
    assert max(map(len, tests.tried)) == 2
    assert search_groups(Verdicts([]), 4).group_ranks == (1, 1, 1, 1)
    assert search_groups(Verdicts([]), 4, max_groups=1).verdict == "undecided: max_groups=1 allows no split."
    with pytest.raises(ValueError, match="max_groups: got 0, wanted at least 1"):
        search_groups(Verdicts([]), 4, max_groups=0)


def test_planted_groups_are_found():
    X = planted.oblique(planted.network(n_units=10), n_steps=500).observations[0]
    model = DisRNN(4, n_groups=2, **planted.QUICK)
    found = select_groups(model, X, n_surrogates=40)
    assert found.group_ranks == (2, 2)
    assert set(found.table["group_ranks"]) == {(3, 1), (2, 2), (2, 1, 1)}
    assert not hasattr(model, "group_ranks_")
    assert model.n_groups == 2


def test_planted_groups_are_found_in_ragged_trials():
    recording = planted.oblique(planted.network(n_units=10), n_trials=24, n_steps=40)
    X = recording.ragged([30 + k % 11 for k in range(24)])
    assert select_groups(DisRNN(4, **planted.QUICK), X, n_surrogates=40).group_ranks == (2, 2)


def test_a_cycle_is_one_group():
    X = planted.oblique(planted.network((2,), 8), n_steps=500).observations[0]
    found = select_groups(DisRNN(2, **planted.QUICK), X, n_surrogates=40)
    assert found.group_ranks == (2,)
    assert found.verdict.startswith("not factorisable")


def test_more_bins_do_not_tie_independent_latents_together():
    # errors of filtered latents correlate, since the same units show them: certain with 6000 bins, and a trifle
    rng = np.random.default_rng(3)
    z = [lfilter([1], [1, -pole], rng.normal(size=(120, 50)), axis=1) for pole in (0.9, 0.5)]
    X = np.stack(z, -1) @ rng.normal(size=(2, 12)) + 0.5 * rng.normal(size=(120, 50, 12))
    found = select_groups(DisRNN(2, random_state=0), X, n_surrogates=40)
    assert found.table["p_loss"].iloc[0] < 0.01
    assert (found.word, found.group_ranks) == ("factorisable", (1, 1))


def test_too_few_bins_to_search_in():
    X = planted.oblique(planted.network((2,), 8), n_steps=60).observations[0]
    with pytest.raises(ValueError, match="to learn from and"):
        select_groups(DisRNN(2, **planted.QUICK), X, n_surrogates=20)
    with pytest.raises(ValueError, match="level: got 2"):
        select_groups(DisRNN(2, **planted.QUICK), X, level=2)
