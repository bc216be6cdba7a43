"""What is printed of results is a few lines, and tables are printed whole with the sentence that they lead to."""

import numpy as np
import pandas as pd
import pytest

from nwb_lrrnn import DisRNN, LinearStateSpace
from nwb_lrrnn.align import canonicalize, match_groups
from nwb_lrrnn.analysis.independence import DependenceTest
from nwb_lrrnn.compare.rank import choose_rank
from nwb_lrrnn.groups import GroupSearch, GroupVerdict
from nwb_lrrnn.showing import table_text
from small_models import recording

TEST = DependenceTest(0.1, 0.3, 0.2, "shift", 399, 99.0, ((0, 1),), (0.3,), (0.3,), (0.4,), 0.98)
SAID = "factorisable into groups of rank 1 + 1: no dependence in held-out bins (p = 0.3)."


@pytest.fixture(scope="module")
def dis():
    return DisRNN(2, n_groups=2, n_bootstraps=2, random_state=0).fit(recording())


def search(n_rows):
    ranks = [(1,) * k for k in range(n_rows)]
    table = pd.DataFrame({"group_ranks": ranks, "p_value": np.arange(n_rows) / 7, "accepted": False})
    return GroupSearch("factorisable", (1, 1), table, SAID)


def test_fitted_things_are_shown_in_a_few_lines(dis):
    z = np.random.default_rng(0).standard_normal((50, 2))
    gauge = canonicalize(dis.dynamics_)[1]
    moments = LinearStateSpace(1, max_iter=2, tol=1e9).fit(recording()).moments(recording())
    for thing in (dis.network_, dis.network_.linear, dis.dynamics_, gauge, moments, match_groups([z], [z])):
        shown = repr(thing)
        assert shown.startswith(type(thing).__name__)
        assert len(shown.splitlines()) <= 6
        assert max(map(len, shown.splitlines())) <= 110
    assert "matrix (2, 2)" in repr(gauge)
    assert "n_lags 1" in repr(dis.network_)


def test_a_verdict_on_groups_is_its_sentence():
    shown = repr(GroupVerdict("factorisable", SAID, (1, 1), 0.3, TEST, 2))
    assert shown == f"GroupVerdict: {SAID}"


def test_a_search_shows_its_verdict_and_every_factorisation():
    for n_rows in (3, 80):  # pandas would leave out the middle of 80
        found = search(n_rows)
        assert " ".join(repr(found).split()).startswith(f"GroupSearch: {SAID}")
        assert len(repr(found).splitlines()) == 2 + 2 + n_rows
        html = found._repr_html_()
        assert SAID in html
        assert html.count("<tr") - html.count('<tr style="text-align: right') - 1 == n_rows
        assert str(found) == SAID


def test_a_choice_of_rank_shows_why():
    choice = choose_rank([1, 2, 3], np.array([[1.0, 1.2], [2.0, 2.1], [2.0, 2.11]]), np.zeros(2))
    rank, table = choice  # still a pair
    assert (rank, list(table.index)) == (2, [1, 2, 3])
    why = "rank 2 of 1, 2, 3: the smallest within a standard error of the best, 3 on held-out trials (nats per bin)."
    assert choice.verdict == why
    assert " ".join(repr(choice).split()).startswith(f"RankChoice: {why}")
    assert "2.055" in repr(choice)
    assert why in choice._repr_html_()
    best = choose_rank([1, 2], np.array([[1.0, 1.2], [2.0, 2.1]]), np.zeros(2))
    assert "rank 2 of 1, 2: the best" in best.verdict


def test_text_in_html_is_text():
    found = GroupSearch("undecided", (1,), pd.DataFrame({"group_ranks": []}), "undecided: p < 0.1 & more.")
    assert "p &lt; 0.1 &amp; more." in found._repr_html_()
    assert table_text("said", pd.DataFrame()) == "said"
