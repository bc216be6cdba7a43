"""One long trial among short ones: nothing is computed on bins that no trial has, and it is said."""

import logging

import numpy as np
import pytest
import xarray as xr

import nwb_lrrnn as lr
from nwb_lrrnn.compare.scores import held_out_scores
from nwb_lrrnn.trials import as_packed, as_trials, has_long_trials
from nwb_lrrnn.trials.ends import alike, is_mostly_padding, piece_size, pieces_of
from small_nwb import add_trials, add_units, new_nwb

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LENGTHS = [20, 300, 17, 24, 22, 19, 25, 21]


def unequal(lengths=LENGTHS, seed=0):
    """Return Gaussian trials (time, unit) of two rotating latents."""
    rng = np.random.default_rng(seed)
    found = []
    for n in lengths:
        phase = 0.4 * np.arange(n) + rng.uniform(0, 2 * np.pi)
        latents = np.stack([np.cos(phase), np.sin(phase)], axis=1)
        found.append(latents @ LOADINGS + 0.3 * rng.normal(size=(n, 4)))
    return found


LOADINGS = np.array([[1.0, 0.5, -0.5, 0.2], [0.0, 1.0, 0.4, -0.8]])


def padded(trials, filler=0.0):
    """Return trials as one DataArray whose coordinate `observed` says which bins there are."""
    n = max(map(len, trials))
    values, observed = np.full((len(trials), n, 4), filler), np.zeros((len(trials), n), dtype=bool)
    for k, trial in enumerate(trials):
        values[k, : len(trial)], observed[k, : len(trial)] = trial, True
    coords = {"trial": np.arange(10, 10 + len(trials)), "observed": (("trial", "time"), observed)}
    return xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords)


class Watched(lr.LinearStateSpace):
    """Notes the shapes that it is asked to work on."""

    def _fit_trials(self, trials):
        self.shapes_ = [trials.values.shape]
        super()._fit_trials(trials)

    def _posterior(self, trials, posterior):
        self.shapes_.append(trials.values.shape)
        return super()._posterior(trials, posterior)

    def _log_evidence(self, trials):
        self.shapes_.append(trials.values.shape)
        return super()._log_evidence(trials)


@pytest.fixture(scope="module")
def fitted():
    return Watched(rank=2, max_iter=5, random_state=0).fit(unequal())


@pytest.mark.parametrize("kind", ["array", "filled", "dask", "nan"])
def test_an_array_with_padding_gives_what_the_list_of_its_trials_gives(kind, fitted):
    trials = unequal()
    X = padded(trials, 7.0 if kind == "filled" else 0.0)
    X = X.chunk({"trial": 3}) if kind == "dask" else X
    X = X.where(X.observed).drop_vars("observed") if kind == "nan" else X
    model = Watched(rank=2, max_iter=5, random_state=0).fit(X)
    np.testing.assert_array_equal(model.loadings_, fitted.loadings_)
    latents, expected = model.transform(X), fitted.transform(trials)
    assert latents.dims == ("trial", "time", "latent")
    assert latents.shape == (8, 300, 2)
    for k, n in enumerate(LENGTHS):
        np.testing.assert_allclose(latents.values[k, :n], expected[k], atol=1e-12)
        assert not latents.values[k, n:].any()
    scores = model.score_trials(X)
    np.testing.assert_allclose(scores, fitted.score_trials(trials), rtol=1e-12)
    np.testing.assert_array_equal(scores.n_bins, LENGTHS)


def test_nothing_is_computed_on_bins_that_no_trial_has():
    X = unequal()
    model = Watched(rank=2, max_iter=2, random_state=0).fit(X)
    model.score(X)
    model.transform(X)
    n_fitted, *rest = (shape[0] * shape[1] for shape in model.shapes_)
    assert n_fitted <= 2 * sum(LENGTHS)
    assert sum(rest) <= 2 * (2 * sum(LENGTHS))  # of the score and of the latents
    assert 8 * 300 > 5 * sum(LENGTHS)  # all of them padded would be more


def test_a_comparison_asks_the_data_without_padding():
    trials = unequal()
    X = padded(trials, 7.0)
    for given in (X, X.chunk({"trial": 3}), trials, X.where(X.observed).drop_vars("observed")):
        packed = as_packed(given)
        assert packed.values.shape == (sum(LENGTHS), 4)
        np.testing.assert_array_equal(packed.values, np.concatenate(trials))
        assert packed.bins.all()
    assert as_packed(X).place(20 + 299, 2) == "trial 11, time 299, unit 2"
    make = lr.LinearStateSpace(rank=2, max_iter=2, random_state=0)
    one, other = (held_out_scores(make, given, cv=2, larger_ranks=()) for given in (X, trials))
    np.testing.assert_array_equal(one.n_bins, LENGTHS)
    np.testing.assert_allclose(one.log_likelihood, other.log_likelihood, rtol=1e-9)
    assert one.attrs["forbidden"] == other.attrs["forbidden"] == []


def test_a_trial_is_what_it_is_alone(fitted):
    trials = unequal()
    together, alone = fitted.transform(trials), [fitted.transform([trial])[0] for trial in trials]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("name", ["LowRankRNN", "SMCLowRankRNN", "DisRNN"])
def test_every_network_takes_such_trials(name):
    X = unequal()
    parameters = {
        "LowRankRNN": {"rank": 2, "n_neurons": 10},
        "SMCLowRankRNN": {"rank": 2, "n_neurons": 10, "n_particles": 8},
        "DisRNN": {"group_ranks": (2,)},
    }
    model = getattr(lr, name)(**parameters[name], max_epochs=2, random_state=0).fit(X)
    latents = model.transform(padded(X))
    for k, n in enumerate(LENGTHS):
        assert np.isfinite(latents[k, :n]).all()
        np.testing.assert_allclose(latents[k, :n], model.transform(X)[k], atol=1e-6)


def test_inputs_go_with_their_bins():
    trials = unequal()
    inputs = [np.sin(np.arange(n))[:, None] for n in LENGTHS]
    X = padded(trials)
    u = np.zeros((8, 300, 1))
    for k, drive in enumerate(inputs):
        u[k, : len(drive)] = drive
    make = {"rank": 2, "max_iter": 3, "random_state": 0}
    one = lr.LinearStateSpace(**make).fit(trials, inputs=inputs)
    other = lr.LinearStateSpace(**make).fit(X, inputs=u)
    np.testing.assert_allclose(other.loadings_, one.loadings_, atol=1e-12)
    np.testing.assert_allclose(other.score_trials(X, inputs=u), one.score_trials(trials, inputs=inputs), rtol=1e-10)


def test_a_forecast_is_given_where_the_end_of_all_trials_is_hidden():
    X = padded(unequal([40] * 6))
    X.coords["observed"] = (("trial", "time"), np.broadcast_to(np.arange(40) < 15, (6, 40)).copy())
    assert as_trials(X).lengths.tolist() == [40] * 6
    latents = lr.LinearStateSpace(rank=2, max_iter=3, random_state=0).fit_transform(X)
    assert np.abs(latents.values[:, 15:]).max() > 1e-3


def test_trials_of_about_one_length_are_as_they_were():
    trials = unequal([20, 30, 25, 18])
    assert not has_long_trials(trials)
    assert not has_long_trials(padded(trials))
    assert as_trials(padded(trials)).lengths.tolist() == [30] * 4


def test_the_fit_says_that_it_sees_pieces(caplog):
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        lr.LinearStateSpace(rank=1, max_iter=1).fit(unequal())
    assert "trials of more than 81 bins (1 of 8, up to 300 bins)" in caplog.text
    assert "in pieces" in caplog.text


@pytest.mark.parametrize(
    "lengths", [[50_000] + [75] * 40, [58_836] + [450] * 412, [1] * 30 + [1000], [5000, 300, 20, 1]]
)
def test_groups_and_pieces_are_at_least_half_full(lengths):
    lengths = np.array(lengths)
    groups = alike(lengths)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(len(lengths)))
    assert all(lengths[rows].min() >= 0.5 * lengths[rows].max() for rows in groups)
    size = piece_size(lengths)
    spans = pieces_of(lengths, size)
    pieces = np.array([b - a for _, a, b in spans])
    assert pieces.max() <= size
    assert pieces.min() >= 1
    assert not is_mostly_padding(pieces)
    assert [sum(b - a for k, a, b in spans if k == trial) for trial in range(len(lengths))] == lengths.tolist()


def test_a_file_with_a_long_trial_says_so(tmp_path):
    path, rng = tmp_path / "long.nwb", np.random.default_rng(0)
    starts = np.concatenate([[0.0], 100.0 + 2 * np.arange(20)])
    with new_nwb(path) as file:
        add_units(file, [np.sort(rng.uniform(0, 140, 400)) for _ in range(3)])
        add_trials(file, starts, np.concatenate([[100.0], starts[1:] + 1.5]))
    recording = lr.open_nwb(path)
    assert any("trial 0 lasts 100 s, the median is 1.5 s" in problem for problem in recording.problems)
    with pytest.warns(UserWarning, match=r"all 21 trials are padded to 5000 bins, of which 6.2 % are observed"):
        recording.spikes(0.02, intervals="trials")
    few = recording.spikes(0.02, intervals="trials", trials=list(range(1, 21)))
    assert few.shape == (20, 75, 3)


def onsets(lengths, seed):
    """Return trials that all begin at about one place, and turn and forget it with noise."""
    rng = np.random.default_rng(seed)
    turn = 0.96 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    found = []
    for n in lengths:
        z, path = np.array([1.5, 0.0]) + 0.1 * rng.normal(size=2), []
        for _ in range(n):
            path.append(z)
            z = turn @ z + 0.2 * rng.normal(size=2)
        found.append(np.array(path) @ LOADINGS + 0.3 * rng.normal(size=(n, 4)))
    return found


@pytest.mark.parametrize(
    "model",
    [
        lr.LinearStateSpace(2, max_iter=50),
        lr.LowRankRNN(2, n_neurons=20, max_epochs=10, random_state=0),
        lr.SMCLowRankRNN(2, n_neurons=20, n_particles=8, max_epochs=2, random_state=0),
        lr.DisRNN(2, n_groups=1, n_bootstraps=0, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_where_pieces_begin_is_not_where_trials_begin(model, caplog):
    short, test = onsets([30] * 20, 0), onsets([30] * 10, 1)
    scores, spreads = [], []
    for X in (short + onsets([600], 2), short):
        model.fit(X)
        scores.append(model.score(test))
        spreads.append(np.trace(model.loadings_ @ model.dynamics_.initial_covariance @ model.loadings_.T))
    assert "in pieces" in caplog.text
    assert spreads[0] < 2 * spreads[1]  # ten times it where pieces have a say
    assert scores[0] > scores[1] - 0.02  # nats per bin: more data do not harm
