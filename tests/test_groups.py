"""The verdict on groups, their stability and the rank."""

import re

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.base import BaseEstimator

import planted_groups as planted
from nwb_lrrnn import DisRNN
from nwb_lrrnn.analysis.independence import dependence
from nwb_lrrnn.analysis.independence.autonomy import Autonomy
from nwb_lrrnn.compare.rank import choose_rank, select_rank
from nwb_lrrnn.groups.evidence import Grouping
from nwb_lrrnn.groups.held_out import hold_out
from nwb_lrrnn.groups.stability import group_stability
from nwb_lrrnn.groups.verdict import judge_grouping, judge_groups


class Axes(BaseEstimator):
    """A model whose latents are means of units, every `rank`-th of them, in groups as asked; one bin ago if delayed."""

    likelihood_ = "gaussian"

    def __init__(self, rank=2, *, n_groups=2, group_ranks=None, random_state=None):
        self.rank = rank
        self.n_groups = n_groups
        self.group_ranks = group_ranks
        self.random_state = random_state

    def fit(self, X, y=None, *, inputs=None):
        self.group_ranks_ = self.group_ranks or (self.rank // self.n_groups,) * self.n_groups
        self.likelihood_, self.bin_size_ = "gaussian", 1.0
        return self

    def transform(self, X, *, inputs=None, posterior="smoothed"):
        if isinstance(X, list):
            return [self.transform(x, posterior=posterior) for x in X]
        z = np.stack([np.asarray(X)[..., k :: self.rank].mean(axis=-1) for k in range(self.rank)], axis=-1)
        if posterior == "delayed":
            z = np.roll(z, 1, axis=-2)
        return z

    def score(self, X, y=None, *, inputs=None):
        return float(min(self.rank, 3) + 1e-3 * np.mean(X))


def _noise(seed, shape, decay=0.7):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(lfilter([1.0], [1.0, -decay], noise, axis=-2))


def _shown(z, seed=100):
    """Return eight units for each latent, with noise of their own: what others showed tells of a unit too."""
    units = np.tile(z, 8)
    return units + np.random.default_rng(seed).standard_normal(units.shape)


def _coupled(seed, n_bins):
    z = _noise(seed, (n_bins, 2))
    z[:, 1] += np.asarray(lfilter([0.4], [1.0, -0.9], z[:, 0]))
    return z


def test_independent_groups_are_factorisable():
    found = judge_groups(Axes(), _shown(_noise(0, (2000, 2))), n_surrogates=60)
    assert (found.word, found.factorisable, found.n_latents) == ("factorisable", True, 2)
    assert str(found).startswith("factorisable into groups of rank 1 + 1: no dependence in held-out bins (p = ")


def test_coupled_groups_are_not():
    found = judge_groups(Axes(), _shown(_coupled(0, 1500)), n_surrogates=60)
    assert (found.word, found.factorisable) == ("not factorisable", False)
    assert re.match(r"not factorisable: (the groups depend|the other group foretells)", found.verdict)


def test_a_short_recording_is_undecided():
    found = judge_groups(Axes(), _shown(_noise(1, (240, 2), 0.95)), n_surrogates=60)
    assert (found.word, found.factorisable) == ("undecided", None)
    assert "hold out more, or record longer" in found.verdict


def test_one_group_is_not_factorisable():
    found = judge_groups(Axes(n_groups=1), _shown(_noise(0, (500, 2))))
    assert found.word == "not factorisable"
    assert found.verdict == "not factorisable: there is one group, of rank 2."
    assert found.test is None


@pytest.mark.parametrize("n_groups", [1, 2])
def test_units_that_go_on_by_themselves_have_no_latents_to_group(n_groups):
    found = judge_groups(Axes(n_groups=n_groups), _noise(0, (1000, 6)), n_surrogates=60)
    assert (found.word, found.factorisable, found.n_latents) == ("no latents to group", None, 0)
    assert found.verdict.startswith("no latents to group: 2 latents foretell no more of held-out bins than the past")
    assert found.test is None


def test_a_latent_that_is_noise_is_none():
    z = _noise(0, (1000, 2))
    z[:, 1] = np.random.default_rng(1).standard_normal(1000)  # shared by its units, but nothing foretells it
    found = judge_groups(Axes(), _shown(z), n_surrogates=60)
    assert (found.word, found.n_latents) == ("no latents to group", 1)
    assert "only 1 of 2 latents foretells more of held-out bins than single units do" in found.verdict
    three = np.concatenate([_noise(0, (1000, 2)), z[:, 1:]], axis=1)
    found = judge_groups(Axes(3, group_ranks=(2, 1)), _shown(three), n_surrogates=60)
    assert (found.word, found.n_latents) == ("undecided", 2)
    assert found.verdict.endswith("fit with rank=2.")


def test_the_fit_never_sees_the_tested_bins(monkeypatch):
    shapes = []
    monkeypatch.setattr(Axes, "fit", lambda self, X, y=None, *, inputs=None: _record(self, shapes, X))
    X = _shown(_noise(2, (1000, 2)))
    judge_groups(Axes(), X, test_fraction=0.3, n_surrogates=60)
    judge_groups(Axes(), X.reshape(50, 20, 16), test_fraction=0.3, n_surrogates=60)
    assert shapes == [(650, 16), (35, 20, 16)]  # 300 bins and a gap of 50; 15 trials


def _record(model, shapes, X):
    shapes.append(np.shape(X))
    model.group_ranks_ = (1, 1)
    return model


def test_ragged_trials_and_conditions():
    z = _shown(_noise(3, (120, 25, 2), 0.6))
    X = [trial[: 15 + k % 10] for k, trial in enumerate(z)]
    found = judge_groups(Axes(), X, conditions=np.arange(120) % 2, n_surrogates=60)
    assert found.test is not None
    assert found.test.kind == "permutation"
    assert found.factorisable is True


def test_the_group_that_depends_is_named():
    z = np.concatenate([_noise(4, (1000, 1)), _coupled(5, 1000)], axis=1)
    tested = np.arange(1000)[None] >= 600
    test = dependence(z[None], None, (1, 1, 1), tested=tested, n_surrogates=60, power_at=0.5, random_state=0)
    alone = Autonomy(np.ones(4), np.array([[-1.0, -1.1, -0.9]] * 3))
    assert "groups 1 and 2 depend" in judge_grouping(Grouping(alone, test), (1, 1, 1))[1]
    told = Autonomy(np.ones(4), np.array([[-1.0, -1.1, -0.9], [1.0, 1.01, 0.99], [-1.0, -1.1, -0.9]]))
    word, said = judge_grouping(Grouping(told, None), (1, 1, 1))
    assert word == "not factorisable"
    assert "the other groups foretell what group 1 does" in said


def test_stability_of_a_model_that_never_changes():
    table = group_stability(Axes(), _noise(0, (300, 2)), n_bootstraps=2, seeds=(0, 1))
    np.testing.assert_allclose(table.to_numpy(), 1.0)
    assert table.index.tolist() == [("seed", 1), ("bootstrap", 0), ("bootstrap", 1)]
    with pytest.raises(ValueError, match="wanted a bootstrap or two seeds"):
        group_stability(Axes(), _noise(0, (300, 2)), n_bootstraps=0, seeds=(0,))


def test_the_smallest_rank_that_is_as_good_is_chosen():
    found = select_rank(Axes(), _noise(0, (400, 6)), range(1, 6), cv=4)
    assert found.rank == 3
    assert found.table.index.tolist() == [1, 2, 3, 4, 5]
    noisy = np.array([[1.0, 2.0, 3.0], [1.2, 1.9, 3.2]])
    assert choose_rank([2, 4], noisy, np.zeros(3)).rank == 2
    with pytest.raises(ValueError, match="ranks: got none"):
        select_rank(Axes(), _noise(0, (400, 6)), [])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"level": 1.0}, "level: got 1.0"), ({"test_fraction": 0.0}, "test_fraction: got 0.0")],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        judge_groups(Axes(), _noise(0, (200, 2)), **change)
    with pytest.raises(ValueError, match="at least two trials in each part"):
        judge_groups(Axes(), _noise(0, (3, 20, 2)))


@pytest.fixture(scope="module")
def recording():
    """Return two cycles that know nothing of each other, seen by the same units."""
    return planted.oblique(planted.network(n_units=10), n_steps=500).observations[0]


def test_planted_groups_are_factorisable_and_their_model_stays_as_it_is(recording):
    model = DisRNN(4, n_groups=2, **planted.QUICK)
    found = judge_groups(model, recording, n_surrogates=40)
    assert found.factorisable is True
    assert found.group_ranks == (2, 2)
    assert not hasattr(model, "group_ranks_")


def test_a_cycle_cut_in_two_is_not_factorisable():
    net = planted.network((2,), 8)
    trials = planted.oblique(net, n_trials=30, n_steps=40).observations  # cycles start anywhere
    found = judge_groups(DisRNN(2, n_groups=2, **planted.QUICK), trials, n_surrogates=40)
    assert found.factorisable is False
    # a steady rhythm shifted in time is as it was: nothing can be told of its phases, and that is said
    steady = planted.oblique(net, n_steps=500).observations[0]
    assert judge_groups(DisRNN(2, n_groups=2, **planted.QUICK), steady, n_surrogates=40).factorisable is None


def test_planted_groups_come_back(recording):
    table = group_stability(DisRNN(4, n_groups=2, **planted.QUICK), recording, n_bootstraps=2)
    assert len(table) == 2  # the closed-form fit knows no seeds: other data alone try it
    assert table.columns.tolist() == ["group0", "group1"]
    assert table.to_numpy().min() > 0.98  # of 1; the latents' own R2 by the fit is 0.998


def test_the_planted_rank_is_chosen(recording):
    found = select_rank(DisRNN(2, n_groups=2, **planted.QUICK), recording, [6, 2, 4], cv=2)
    assert found.rank == 4
    assert found.table.index.tolist() == [2, 4, 6]
    assert found.table.loc[4, "score"] > found.table.loc[2, "score"] + 1.0  # nats per bin: a cycle is missed


def test_parts_of_trials_share_nothing_and_keep_their_conditions():
    X = [np.full((5 + k % 3, 2), float(k)) for k in range(10)]
    part = hold_out(X, None, np.arange(10), 0.4, 0)
    assert part.held is not None
    assert part.conditions is not None
    assert part.conditions.tolist() == list(range(10))
    assert len(part.held) == 4
    assert {trial[0, 0] for trial in part.X_train} == set(range(10)) - set(part.held.tolist())
    assert not (part.trained & part.tested).any()
    assert ((part.trained | part.tested) == part.seen).all()


def test_conditions_are_one_for_each_trial():
    with pytest.raises(ValueError, match=r"conditions: got shape \(9,\), wanted one per trial, \(10,\)"):
        hold_out(np.zeros((10, 5, 2)), None, np.arange(9), 0.4, 0)
