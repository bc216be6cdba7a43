"""`LowRankRNN` on planted networks, and what users do with it."""

import logging
import pickle
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from nwb_lrrnn.align import aligned_r2, canonicalize
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.linear import MeanRate
from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.models.training.splitting import hold_out
from nwb_lrrnn.trials import as_trials
from planted import attractor, cycle_frequency, lorenz, oscillator


@pytest.fixture(scope="module", params=["gaussian", pytest.param("poisson", marks=pytest.mark.slow)])
def planted(request):
    """Return a planted oscillator, its model fitted to 16 trials, those and 16 held-out ones, with true latents."""
    true = oscillator(request.param)
    simulated = true.simulate(32, 150, random_state=5)
    X, z = simulated.observations, simulated.latents.values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all is found long before the score stands still
        model = LowRankRNN(rank=2, n_neurons=20, max_epochs=15, random_state=0).fit(X[:16])
    return true, model, (X[:16], z[:16]), (X[16:], z[16:])


def test_latents_of_the_planted_oscillator_are_found(planted):
    _, model, (X, z), (X_test, z_test) = planted
    r2 = aligned_r2(model.transform(X), z, test_source=model.transform(X_test), test_target=z_test)
    assert r2 >= 0.95


def test_frequency_of_the_planted_cycle_is_found(planted):
    true, model, *_ = planted
    assert cycle_frequency(model.dynamics_) == pytest.approx(cycle_frequency(true), rel=0.03)


def test_held_out_score_is_within_one_percent_of_the_truths_advantage(planted):
    true, model, (X, _), (X_test, _) = planted
    truth = LowRankRNN.from_dataset(true.to_dataset()).score(X_test)
    gained = truth - MeanRate().fit(X).score(X_test)
    assert truth - model.score(X_test) <= 0.01 * gained


def test_what_is_kept_is_canonical_and_labelled(planted):
    _, model, (X, _), _ = planted
    again, gauge = canonicalize(model.dynamics_)
    np.testing.assert_allclose(again.loadings, model.loadings_, atol=1e-9)
    np.testing.assert_allclose(gauge.matrix, np.eye(2), atol=1e-9)
    latents = model.transform(X)
    assert latents.dims == ("trial", "time", "latent")
    np.testing.assert_array_equal(latents.time, X.time)
    assert model.left_vectors_.shape == model.right_vectors_.shape == (20, 2)
    assert {"log_evidence", "log_likelihood", "validation", "largest_jump"} <= set(model.history_)
    assert model.n_iter_ == model.history_.sizes["epoch"]
    assert model.largest_jump_ == 0.0  # one window a trial
    shown = model.inverse_transform(latents)
    assert shown.dims == ("trial", "time", "unit")
    # of a unit's variance the signal is a half (Gaussian) or a fifth (Poisson)
    assert aligned_r2(shown, X) > (0.45 if model.likelihood_ == "gaussian" else 0.17)


@pytest.mark.slow
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_planted_chaos_is_found_in_windows(nonlinearity):
    net, path, exponent = lorenz(nonlinearity)
    assert exponent > 0.5
    start = path[np.random.default_rng(3).integers(len(path), size=80)]
    simulated = net.simulate(80, 200, initial_latents=start, random_state=5)
    X, z = simulated.observations, simulated.latents.values
    model = LowRankRNN(rank=3, nonlinearity=nonlinearity, random_state=0, max_epochs=400)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[:40])
    r2 = aligned_r2(model.transform(X[:40]), z[:40], test_source=model.transform(X[40:]), test_target=z[40:])
    assert r2 >= 0.9
    assert model.largest_jump_ < 1.0
    assert attractor(model.dynamics_, model.dynamics_.latent_mean + 0.1)[1] > 0.3


# --- small fits ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def waves():
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, size=(8, 1))
    z = np.stack([np.cos(0.2 * np.arange(40) + phase), np.sin(0.2 * np.arange(40) + phase)], -1)
    return z @ rng.standard_normal((2, 6)) + 0.3 * rng.standard_normal((8, 40, 6))


def small(**parameters):
    return LowRankRNN(**{"rank": 2, "n_neurons": 20, "max_epochs": 4, "random_state": 0, **parameters})


@pytest.fixture(autouse=True)
def _few_epochs_do_not_converge():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def test_the_same_seed_gives_the_same_model_bit_for_bit(waves):
    a, b = small().fit(waves), small().fit(waves)
    np.testing.assert_array_equal(a.left_vectors_, b.left_vectors_)
    np.testing.assert_array_equal(a.transform(waves), b.transform(waves))
    assert not np.array_equal(a.left_vectors_, small(random_state=1).fit(waves).left_vectors_)


def test_the_order_of_trials_and_of_units_does_not_matter(waves):
    # the same trials are held out in whatever order they come
    trials, units = np.random.default_rng(1).permutation(8), np.random.default_rng(2).permutation(6)
    fitted = small(max_epochs=10).fit(waves)
    other = small(max_epochs=10).fit(100.0 + 7.0 * waves[trials][..., units])
    np.testing.assert_allclose(
        other.score(100.0 + 7.0 * waves[..., units]) + 6 * np.log(7), fitted.score(waves), atol=1e-6
    )


def test_another_unit_does_not_change_which_trials_judge_a_fit(waves):
    more = np.concatenate([waves, np.random.default_rng(3).standard_normal((8, 40, 1))], axis=-1)
    one, other = (hold_out(as_trials(X), 0.25, np.random.default_rng(0))[1] for X in (waves, more))
    np.testing.assert_array_equal(other.values[..., :6], one.values)


def test_fit_leaves_torch_as_it_was(waves):
    threads, dtype, state = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
    small().fit(waves).score(waves)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_pickles_clones_and_goes_through_a_dataset(waves):
    model = small(shooting_window=10).fit(waves)
    for copy in (pickle.loads(pickle.dumps(model)), LowRankRNN.from_dataset(model.to_dataset())):
        np.testing.assert_array_equal(copy.transform(waves), model.transform(waves))
        assert copy.score(waves) == model.score(waves)
        assert copy.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).transform(waves)


def test_warm_start_goes_on_where_the_fit_ended(waves):
    model = small(warm_start=True, max_epochs=30).fit(waves)
    before, epochs = model.score(waves), model.n_iter_
    model.set_params(max_epochs=epochs).fit(waves)
    assert model.history_.log_evidence[0] > before - 0.1
    assert model.score(waves) > before - 0.05
    with pytest.raises(ValueError, match="warm_start: the fitted network has rank 2, 20 neurons, 6 units"):
        model.set_params(n_neurons=21).fit(waves)


def test_restarts_run_side_by_side_and_the_best_is_kept(waves):
    model = small(n_init=3, max_epochs=10).fit(waves)
    assert model.restart_scores_.shape == (3,)
    assert model.history_.validation.max() == model.restart_scores_.max()


SLOW_ONES = [pytest.param(name, marks=pytest.mark.slow) for name in ("erf", "clipped_relu", "softplus")]


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity", *SLOW_ONES])
def test_every_nonlinearity_fits(waves, nonlinearity):
    model = small(nonlinearity=nonlinearity, max_epochs=8).fit(waves)
    assert model.score(waves) > MeanRate().fit(waves).score(waves)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_every_count_likelihood_fits(likelihood, link):
    rng = np.random.default_rng(0)
    rate = 2 + 1.5 * np.cos(0.3 * np.arange(50) + rng.uniform(0, 6, (10, 1)))
    spread = rng.gamma(4.0, 0.25, size=(10, 50, 8)) if likelihood == "negative_binomial" else 1.0
    counts = rng.poisson(rate[..., None] * rng.uniform(0.5, 1.5, 8) * spread)
    model = small(likelihood=likelihood, link=link, max_epochs=8).fit(counts)
    assert model.score(counts) > MeanRate(likelihood=likelihood).fit(counts).score(counts)
    assert (np.asarray(model.rates(model.transform(counts))) >= 0).all()


def test_inputs_drive_the_network():
    # z follows a leaky sum of a known input: with the input the model must explain what without it is noise
    rng = np.random.default_rng(0)
    u = rng.choice([-1.0, 1.0], size=(12, 60, 1)).repeat(5, axis=1)[:, :60]
    z = np.zeros((12, 60, 1))
    for t in range(59):
        z[:, t + 1] = 0.8 * z[:, t] + 0.4 * u[:, t]
    X = z @ rng.standard_normal((1, 5)) + 0.1 * rng.standard_normal((12, 60, 5))
    without = small(rank=1, max_epochs=60).fit(X).score(X)
    for filter_inputs in (False, True):
        model = small(rank=1, max_epochs=60, filter_inputs=filter_inputs).fit(X, inputs=u)
        assert model.score(X, inputs=u) > without + 1.0
    with pytest.raises(ValueError, match=r"inputs: got None, wanted 1 inputs.*enable_metadata_routing=True"):
        model.score(X)


def test_a_filtered_input_says_nothing_of_the_first_latent(waves):
    u = np.random.default_rng(0).standard_normal((8, 40, 1)) + 5.0
    model = small(filter_inputs=True).fit(waves, inputs=u)
    # v_1 = 0: the mean of z_1 is that of the trials themselves, whatever u_1 was
    first = model.transform(waves, inputs=u)[:, 0].mean(0)
    np.testing.assert_allclose(
        model.dynamics_.initial_mean, first, atol=0.05 * np.abs(model.transform(waves, inputs=u)).max()
    )
    np.testing.assert_array_equal(model.dynamics_.initial_input_weights, 0)


def test_a_long_recording_is_fitted_by_shooting():
    z = np.stack([np.cos(0.1 * np.arange(600)), np.sin(0.1 * np.arange(600))], -1)
    X = z @ np.random.default_rng(0).standard_normal((2, 6)) + 0.3 * np.random.default_rng(1).standard_normal((600, 6))
    model = small(max_epochs=30).fit(X)
    assert model.shooting_bins_ == 100
    assert 0 < model.largest_jump_ < 2
    assert aligned_r2(model.transform(X), z) > 0.98
    # one model everywhere: the windows belong to it, so a shorter piece is cut in the same way
    assert model.transform(X[:250]).shape == (250, 2)


def test_float32_agrees_with_float64(waves):
    a, b = small(dtype="float32").fit(waves), small().fit(waves)
    np.testing.assert_allclose(a.score(waves), b.score(waves), rtol=1e-3)  # 4 epochs apart in single precision


def test_auto_says_what_it_chose(waves, caplog):
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        model = small().fit(waves)
    assert model.likelihood_ == "gaussian"
    assert "likelihood='auto': X holds not counts: gaussian" in caplog.text


def test_not_converging_warns_with_numbers(waves):
    with pytest.warns(ConvergenceWarning, match=r"not converged after \d epochs: .* nats per bin. Raise max_epochs"):
        small().fit(waves)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"rank": 7}, "rank: got 7, wanted at most the number of units, 6"),
        ({"rank": 0}, "rank: got 0, wanted a whole number >= 1"),
        ({"rank": 1.5}, r"rank: got 1\.5, wanted a whole number"),
        ({"n_neurons": -1}, "n_neurons: got -1"),
        ({"nonlinearity": "tahn"}, "nonlinearity: got 'tahn'.*did you mean 'tanh'"),
        ({"likelihood": "possion"}, "likelihood: got 'possion'.*did you mean 'poisson'"),
        ({"likelihood": "poisson"}, r"X: negative value .* at trial .*poisson wants counts"),
        ({"link": "softplus"}, "link: got 'softplus', wanted one of 'identity'"),
        ({"tau": 0.5}, r"tau: got 0\.5 s, shorter than the bins of 1 s"),
        ({"shooting_window": 0}, "shooting_window: got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"validation_fraction": 1.0}, r"validation_fraction: got 1\.0"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
        ({"device": "gpu"}, "device: got 'gpu', wanted 'cpu', 'cuda'"),
        ({"warm_start": "yes"}, "warm_start: got 'yes', wanted True or False"),
    ],
)
def test_bad_parameters_are_named_in_one_sentence(waves, parameters, text):
    with pytest.raises(ValueError, match=text):
        small(**parameters).fit(waves)


def test_trials_of_one_bin_are_refused(waves):
    with pytest.raises(ValueError, match="X: got trials of one bin, which show no dynamics"):
        small().fit(waves[:, :1])


def test_latents_of_unobserved_bins_have_an_expected_value():
    X = xr.DataArray(np.random.default_rng(0).standard_normal((4, 12, 3)), dims=("trial", "time", "unit"))
    observed = np.ones((4, 12), bool)
    observed[0, 5] = False
    X = X.assign_coords(observed=(("trial", "time"), observed)) + 10.0
    model = small(rank=1).fit(X)
    assert (model.inverse_transform(model.transform(X)).values[0, 5] > 5).all()


def test_fractional_counts_are_refused_by_place():
    counts = np.random.default_rng(0).poisson(2.0, (2, 5, 3)).astype(float)
    counts[1, 2, 0] = 0.5
    with pytest.raises(ValueError, match=r"X: fractional value 0\.5 at trial 1, time 2, unit 0; poisson wants counts"):
        small(likelihood="poisson").fit(counts)


def test_other_units_and_bins_are_refused(waves):
    model = small().fit(waves)
    with pytest.raises(ValueError, match="X has 5 features, but LowRankRNN is expecting 6 features"):
        model.transform(waves[..., :5])


def test_a_dataset_of_another_estimator_is_refused(waves):
    dataset = small().fit(waves).to_dataset()
    with pytest.raises(ValueError, match="got a LowRankRNN, wanted a MeanRate"):
        MeanRate.from_dataset(dataset)
    bare = dataset.drop_vars("loadings").assign_attrs(estimator="LowRankRNN")
    with pytest.raises(ValueError, match="without loadings"):
        LowRankRNN.from_dataset(bare)


def test_a_network_with_a_gain_of_the_link_is_refused():
    net = LowRankDynamics(
        np.ones((4, 1)), np.ones((4, 1)), 1.0, 2.0, loadings=np.ones((3, 1)), likelihood="poisson", link_gain=np.ones(3)
    )
    with pytest.raises(ValueError, match=r"dataset: got link_gain, wanted none: .* dynamics.replace\(link_gain=None\)"):
        LowRankRNN.from_dataset(net.to_dataset())
    assert LowRankRNN.from_dataset(net.replace(link_gain=None).to_dataset()).likelihood_ == "poisson"
