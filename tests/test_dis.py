"""`DisRNN`: its verbs, what its parameters do, what it finds in planted groups, and what it refuses."""

import pickle

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_limits

import planted_groups as planted
from nwb_lrrnn import DisRNN
from scores_of_groups import group_r2, r2

POSTERIORS = ("smoothed", "filtered", "delayed")


def fit(X, rank=4, inputs=None, **parameters):
    return DisRNN(rank, **{"random_state": 0, "n_bootstraps": 0, **parameters}).fit(X, inputs=inputs)


@pytest.fixture(scope="module")
def recording():
    return planted.readout(planted.network(n_units=12), 6, 80)


@pytest.fixture(scope="module")
def model(recording):
    return DisRNN(4, random_state=0, n_bootstraps=5).fit(recording.observations)


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["recurrent", "readout"])
@pytest.mark.parametrize("ranks", [(2, 2), (2, 1), (1, 2), (2, 2, 1)], ids=str)
def test_planted_groups_are_found(ranks, noise):
    make = getattr(planted, noise)
    recording = make(planted.network(ranks, n_units=8 * len(ranks)), 1, 1500)
    model = fit(recording.observations, sum(ranks), group_ranks=ranks)
    assert model.group_ranks_ == ranks
    np.testing.assert_array_equal(model.latent_groups_, np.repeat(np.arange(len(ranks)), ranks))
    # noise of 0.2 on 8 units of a group against latents of order 1; delayed: less the shocks that no bin before tells
    for posterior, least in zip(POSTERIORS, (0.95, 0.95, 0.75), strict=True):
        found = model.transform(recording.observations, posterior=posterior)
        assert group_r2(recording.latents, found, ranks) > least
    parts = np.split(recording.latents, np.cumsum(ranks)[:-1], axis=-1)
    assert group_r2(recording.latents, found, ranks) > min(r2(part, found) for part in parts) - 0.01


def test_groups_of_ragged_trials_and_of_readouts_that_are_not_orthogonal_are_found():
    recording = planted.oblique(planted.network(), 20, 80)
    lengths = 40 + 2 * np.arange(20)
    model = fit(recording.ragged(lengths))
    found = model.transform(recording.ragged(lengths))
    assert [len(z) for z in found] == lengths.tolist()
    latents = np.concatenate([z[:n] for z, n in zip(recording.latents, lengths, strict=True)])
    assert group_r2(latents, np.concatenate(found), (2, 2)) > 0.95


def test_the_more_bins_a_posterior_sees_the_better_it_is():
    recording = planted.oblique(planted.network(), 1, 2000, sd=0.5)
    model = fit(recording.observations)
    assert model.noise_ == "readout"
    scores = [r2(recording.latents, model.transform(recording.observations, posterior=p)) for p in POSTERIORS]
    assert scores[0] > scores[1] > scores[2]
    np.testing.assert_array_equal(
        model.transform(recording.observations), model.transform(recording.observations, posterior="smoothed")
    )
    delayed = fit(recording.observations, posterior="delayed").transform(recording.observations)
    np.testing.assert_array_equal(delayed, model.transform(recording.observations, posterior="delayed"))


def test_of_recurrent_noise_the_bins_around_tell_nothing_more():
    recording = planted.recurrent(planted.network(), 1, 1000)
    model = fit(recording.observations)
    assert model.noise_ == "recurrent"
    smoothed, filtered = (model.transform(recording.observations, posterior=p) for p in ("smoothed", "filtered"))
    np.testing.assert_array_equal(smoothed, filtered)


@pytest.mark.parametrize("noise", ["recurrent", "readout"])
def test_the_network_runs_freely_as_the_planted_one_does(noise):
    recording = getattr(planted, noise)(planted.network(), 1, 1500)
    model = fit(recording.observations)
    simulated = model.simulate(6, 300, random_state=0)
    spread = model.transform(recording.observations).std((0, 1))
    # cycles of 14 and 37 bins, 1800 bins of each
    np.testing.assert_allclose(simulated.latents.std(("trial", "time")), spread, rtol=0.1)
    np.testing.assert_allclose(
        simulated.observations.std(("trial", "time")), recording.observations.std((0, 1)), rtol=0.15
    )
    again = model.simulate(6, 300, random_state=0)
    xr.testing.assert_identical(simulated, again)


def test_inputs_are_learnt_and_score_only_with_the_model_that_knows_them():
    recording = planted.readout(planted.network(n_units=8), 4, 100)
    rng = np.random.default_rng(1)
    inputs, weights = rng.standard_normal((4, 100, 2)), rng.standard_normal((8, 2))
    X = recording.observations + inputs @ weights.T
    model = fit(X, inputs=inputs)
    found = np.asarray(model.dynamics_.loadings)[:, None] * model.dynamics_.input_weights
    np.testing.assert_allclose(found, weights, atol=0.1)  # sd 0.2 and 400 bins, history apart
    assert group_r2(recording.latents, model.transform(X, inputs=inputs), (2, 2)) > 0.9
    assert model.score(X, inputs=inputs) > fit(X).score(X) + 1
    rest = X - model.inverse_transform(model.transform(X, inputs=inputs), inputs=inputs)
    assert rest.std() < 0.25
    with pytest.raises(ValueError, match="inputs: got None, wanted 2 inputs as in fit"):
        model.score(X)


# --- trials ----------------------------------------------------------------------------------------------------------


def test_the_order_of_trials_changes_nothing_and_their_borders_do(recording):
    X = recording.ragged([80, 60, 70, 50, 80, 65])
    form = {"scaling": "unit", "noise": "readout"}
    model, turned = fit(X, **form), fit(X[::-1], **form)
    # sums in another order, and folds of other trials: the same fit up to the choice of a ridge
    assert turned.score(X[::-1]) == pytest.approx(model.score(X), abs=0.02)
    found = np.concatenate(model.transform(X))
    assert r2(found, np.concatenate(turned.transform(X))) > 0.999
    alone = [model.transform([one])[0] for one in X]
    np.testing.assert_allclose(np.concatenate(alone), found, atol=1e-9)
    joined = model.transform([np.concatenate(X)])[0]
    inside, edge = np.r_[20:50, 100:120], np.r_[80, 140]
    np.testing.assert_allclose(joined[inside], found[inside], atol=1e-6)
    assert np.abs(joined[edge] - found[edge]).max() > 1e-3


def test_no_bin_sees_itself_in_the_score(recording, model):
    X = recording.observations[:1, :20]
    moved = X.copy()
    moved[0, 10] += 1.0
    delayed, other = (model.transform(x, posterior="delayed")[0] for x in (X, moved))
    np.testing.assert_array_equal(np.flatnonzero((delayed != other).any(1)), [11])


# --- the file, and the same again ------------------------------------------------------------------------------------


def test_a_fit_is_the_same_again_whatever_the_threads_and_through_files_and_pickles(recording, model):
    X = recording.observations
    again = DisRNN(4, random_state=0, n_bootstraps=5).fit(X)
    with threadpool_limits(2):
        threads = DisRNN(4, random_state=0, n_bootstraps=5).fit(X)
    copies = [again, threads, pickle.loads(pickle.dumps(model)), DisRNN.from_dataset(model.to_dataset())]
    for copy in copies:
        assert copy.score(X) == model.score(X)
        for posterior in POSTERIORS:
            np.testing.assert_array_equal(
                copy.transform(X, posterior=posterior), model.transform(X, posterior=posterior)
            )
        xr.testing.assert_identical(copy.connectivity(), model.connectivity())
        assert copy.group_ranks_ == model.group_ranks_
        assert copy.noise_ == model.noise_
    xr.testing.assert_identical(copies[-1].to_dataset(), model.to_dataset())


def test_the_latents_that_are_stored_are_in_the_gauge_of_their_groups(recording, model):
    latents = model.transform(recording.observations).reshape(-1, 4)
    covariance = np.asarray(model.dynamics_.latent_covariance)
    np.testing.assert_allclose(np.cov(latents.T, bias=True), covariance, rtol=1e-9, atol=1e-12)
    for part in (slice(0, 2), slice(2, 4)):
        own = model.loadings_[:, part]
        np.testing.assert_allclose(own.T @ own, np.eye(2), atol=1e-9)
        assert covariance[part, part][0, 1] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(model.inverse_transform(np.zeros((1, 1, 4)))[0, 0], model.offset_, atol=1e-12)


# --- other encoders and objectives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{"encoder": "mlp"}, {"n_lags": 2}, {"encoder": "mlp", "n_lags": 2}], ids=str)
def test_encoders_that_are_no_network_have_no_dynamics_and_all_else(recording, parameters):
    X = recording.observations
    model = fit(X, **parameters)
    for ask in (
        lambda: model.dynamics_, model.connectivity, lambda: model.sub_connectivity(0), lambda: model.left_vectors_,
        lambda: model.simulate(1, 5),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match="no LowRankDynamics: with encoder='mlp' or n_lags > 1"):
            ask()
    assert not hasattr(model, "dynamics_")
    for posterior in POSTERIORS:
        assert group_r2(recording.latents, model.transform(X, posterior=posterior), (2, 2)) > 0.8
    assert np.sqrt(((model.inverse_transform(model.transform(X)) - X) ** 2).mean()) < 0.3
    again = DisRNN.from_dataset(model.to_dataset())
    assert again.score(X) == model.score(X)
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    with pytest.raises(AttributeError, match="no LowRankDynamics"):
        again.connectivity()
    moved = X.copy()
    moved[0, 20] += 1.0
    changed = (model.transform(moved, posterior="delayed") != model.transform(X, posterior="delayed"))[0].any(1)
    np.testing.assert_array_equal(np.flatnonzero(changed), 21 + np.arange(model.n_lags))


def test_two_lags_predict_better_where_the_second_tells(rng):
    z = np.zeros((2000, 1))
    for t in range(2, 2000):
        z[t] = 0.9 * z[t - 2] + 0.3 * rng.standard_normal(1)
    X = z @ rng.standard_normal((1, 5)) + 0.1 * rng.standard_normal((2000, 5))
    one, two = (fit(X, 1, n_groups=1, nonlinearity="identity", n_lags=n) for n in (1, 2))
    # the bin before tells nothing, the one before that 81 % of the variance, less what noise hides
    assert two.score(X) - one.score(X) == pytest.approx(0.5 * np.log(1 / 0.19), abs=0.1)


@pytest.mark.parametrize("n_init", [1, 2])
def test_the_objective_of_the_paper_trains_and_keeps_the_better_restart(recording, n_init):
    model = fit(recording.observations, objective="paper", max_epochs=4, n_init=n_init)
    assert model.n_iter_ == 4
    assert model.restart_scores_.shape == (n_init,)
    assert {"log_likelihood", "kl"} <= set(model.history_)
    assert np.isfinite(model.score(recording.observations))
    assert model.connectivity().shape == (12, 12)
    assert model.score(recording.observations) < fit(recording.observations).score(recording.observations)


def test_fine_tuning_begins_at_the_closed_form(recording):
    X = recording.observations
    closed, tuned = fit(X), fit(X, fine_tune_epochs=5)
    assert tuned.n_iter_ == 5
    assert tuned.score(X) != closed.score(X)
    fresh = fit(X, objective="paper", max_epochs=5)
    assert closed.score(X) > tuned.score(X) > fresh.score(X) + 1  # independence is paid for with fit, from a good start
    assert group_r2(recording.latents, tuned.transform(X), (2, 2)) > 0.9


def test_scaling_as_given_or_to_unit_variance(recording):
    X = 50.0 + 10.0 * recording.observations
    given, unit, auto = (fit(X, scaling=s) for s in ("given", "unit", "auto"))
    np.testing.assert_array_equal(given.dynamics_.loadings, 1.0)
    np.testing.assert_allclose(unit.dynamics_.loadings, X.std((0, 1)), rtol=1e-9)
    np.testing.assert_array_equal(auto.dynamics_.loadings, unit.dynamics_.loadings)  # tanh of 50 tells nothing
    assert auto.score(X) == unit.score(X) > given.score(X)
    # a score is of X as it came
    other = fit(recording.observations, scaling="unit").score(recording.observations)
    assert unit.score(X) == pytest.approx(other - 12 * np.log(10), rel=1e-6)


# --- what is refused -------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).standard_normal((3, 20, 4))
COUNTS = np.random.default_rng(0).poisson(2.0, (3, 20, 4))
REFUSED = [
    ({"rank": 5}, "rank: got 5, wanted at most 4, the number of units of X; lower rank"),
    ({"rank": 0}, "rank: got 0, wanted a whole number >= 1"),
    ({"rank": 3}, "n_groups: got 2 for rank=3, which does not split equally; pass group_ranks, e.g. .*\\(2, 1\\)"),
    ({"rank": 1, "n_groups": 2}, "n_groups: got 2 for rank=1.*group_ranks=\\(1,\\)"),
    ({"n_groups": 0}, "n_groups: got 0, wanted a whole number >= 1"),
    ({"group_ranks": (2, 1)}, "group_ranks: got \\(2, 1\\), which sum to 3, wanted the rank, 2; pass rank=3"),
    ({"group_ranks": (2, 0)}, "group_ranks: got 0, wanted a whole number >= 1"),
    ({"group_ranks": 2}, "group_ranks: got 2, wanted a rank for each group, e.g. group_ranks=\\(2,\\)"),
    ({"group_ranks": "2"}, "group_ranks: got '2', wanted a rank for each group"),
    ({"noise": "recurent"}, "noise: .*'recurent'.*recurrent"),
    ({"encoder": "linaer"}, "encoder: .*'linaer'.*linear"),
    ({"objective": "papers"}, "objective: .*'papers'.*paper"),
    ({"scaling": "units"}, "scaling: .*'units'.*unit"),
    ({"posterior": "smooth"}, "posterior: .*'smooth'.*smoothed"),
    ({"nonlinearity": "clipped_relu"}, "nonlinearity: .*'clipped_relu'"),
    ({"dtype": "float16"}, "dtype: .*'float16'"),
    ({"likelihood": "normal"}, "likelihood: .*'normal'"),
    ({"link": "exp"}, "link: .*'exp'.*identity"),
    ({"n_lags": 0}, "n_lags: got 0, wanted a whole number >= 1"),
    ({"n_lags": 20}, "X: got trials of at most 20 bins, wanted more than n_lags=20.*bin more finely or lower n_lags"),
    ({"max_epochs": 0}, "max_epochs: got 0"),
    ({"n_init": 0}, "n_init: got 0"),
    ({"batch_size": 0}, "batch_size: got 0"),
    ({"fine_tune_epochs": -1}, "fine_tune_epochs: got -1, wanted a whole number >= 0"),
    ({"n_bootstraps": -1}, "n_bootstraps: got -1, wanted a whole number >= 0"),
    ({"random_state": -1}, "random_state: got -1, wanted a whole number >= 0 or None"),
    ({"learning_rate": 0.0}, "learning_rate: got 0.0, wanted a finite number > 0"),
    ({"penalty": -1.0}, "penalty: got -1.0, wanted a finite number >= 0"),
    ({"encoder": "mlp", "fine_tune_epochs": 1}, "fine_tune_epochs: got > 0 with encoder='mlp', which has no"),
]  # fmt: skip
REFUSED_OF_COUNTS = [
    ({"noise": "recurrent"}, "noise: got 'recurrent' for counts, whose noise never feeds back; pass noise='auto'"),
    ({"link": "identity"}, "link: .*'identity'.*softplus"),
    ({"objective": "paper"}, "objective: objective='paper' is a Gaussian objective, and X holds counts"),
    ({"fine_tune_epochs": 1}, "objective: fine_tune_epochs is a Gaussian objective, and X holds counts"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED, ids=lambda x: str(x)[:40])
def test_wrong_parameters_are_refused_by_name(parameters, message):
    with pytest.raises(ValueError, match=message):
        fit(X, **{"rank": 2, **parameters})


@pytest.mark.parametrize(("parameters", "message"), REFUSED_OF_COUNTS, ids=lambda x: str(x)[:40])
def test_what_counts_do_not_have_is_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        fit(COUNTS, **{"rank": 2, **parameters})


def test_groups_and_posteriors_that_do_not_exist_are_refused(recording, model):
    for group in (2, -1, 0.5, True, "0"):
        with pytest.raises(ValueError, match="wanted a whole number from 0 to 1: there are 2 groups"):
            model.sub_connectivity(group)
    with pytest.raises(ValueError, match="posterior: .*'best'.*smoothed"):
        model.transform(recording.observations, posterior="best")
    with pytest.raises(AttributeError, match="dynamics_: call fit first"):
        _ = DisRNN().dynamics_


@pytest.mark.slow
def test_a_movie_of_4096_pixels_is_fitted_in_seconds():
    rng = np.random.default_rng(0)
    t = np.arange(200)
    z = np.stack([np.cos(0.45 * t), np.sin(0.45 * t), np.cos(0.17 * t), np.sin(0.17 * t)], axis=1)
    z = z + 0.05 * rng.standard_normal(z.shape)
    movie = z @ rng.standard_normal((4, 4096)) / 2 + 0.3 * rng.standard_normal((200, 4096))
    model = fit(movie, n_bootstraps=3)
    assert group_r2(z, model.transform(movie), (2, 2)) > 0.95
    assert model.connectivity().shape == (4096, 4096)
    assert (model.connectivity().standard_error > 0).all()
