"""The rank is never chosen among scores that are useless."""

import numpy as np
import pytest

from nwb_lrrnn.compare import select_rank
from nwb_lrrnn.compare.rank import choose_rank
from nwb_lrrnn.models.linear import FactorAnalysis


class Grouped(FactorAnalysis, auto_wrap_output_keys=None):
    """Factor analysis that takes the parameters of a model of groups."""

    def set_params(self, n_groups=1, group_ranks=None, **parameters):
        return super().set_params(**parameters)


def test_useless_scores_are_never_chosen():
    scores = np.array([[-480e3, -479e3], [1.0, 1.2], [2.0, 2.1], [2.0, 2.11]])
    choice = choose_rank([1, 2, 3, 4], scores, np.array([0.5, 0.5]))
    assert choice.rank == 3
    np.testing.assert_allclose(choice.table["vs_mean_rate"], [-479500.5, 0.6, 1.55, 1.555])
    # within the error of the best, and below the mean rate all the same
    wide = np.array([[0.2, 0.4], [3.2, 0.1]])
    assert choose_rank([1, 2], wide, np.array([0.5, 0.5])).rank == 2
    assert choose_rank([1, 2], wide, np.array([0.0, 0.0])).rank == 1


def test_a_score_that_is_no_number_is_none():
    scores = np.array([[np.nan, 1.0], [1.0, 1.2]])
    assert choose_rank([1, 2], scores, np.zeros(2)).rank == 2


def test_where_nothing_is_above_the_mean_rate_there_is_no_rank():
    message = (
        "ranks: every one scores below the mean rate on held-out trials, the best, 2, by 0.2 nats per bin: the model"
    )
    with pytest.raises(ValueError, match=message):
        choose_rank([1, 2], np.array([[-1.0, -2.0], [-0.2, -0.2]]), np.zeros(2))
    with pytest.raises(ValueError, match="every one scores below"):
        choose_rank([1], np.array([[np.nan, np.nan]]), np.zeros(2))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_noise_has_no_rank_and_factors_have_theirs():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((24, 20, 8))
    with pytest.raises(ValueError, match="finds no latents in X"):
        select_rank(Grouped(max_iter=50), noise, [2, 4], cv=3)
    shared = noise + 2 * rng.standard_normal((24, 20, 2)) @ rng.standard_normal((2, 8))
    assert select_rank(Grouped(max_iter=50), shared, [1, 2, 4], cv=3).rank == 2
