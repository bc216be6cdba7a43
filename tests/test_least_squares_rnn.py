"""`LeastSquaresRNN`: planted networks found again, linear systems left alone, and what it is told by mistake."""

import logging
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn import LeastSquaresRNN, LinearStateSpace
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.least_squares.filtering import smooth
from nwb_lrrnn.models.least_squares.rounds import Plan, learn, regress
from nwb_lrrnn.models.least_squares.samples import field_samples
from nwb_lrrnn.models.least_squares.streaming import regress_all
from nwb_lrrnn.trials import as_lazy_trials, as_trials, blocks
from planted import cycle_frequency, oscillator

BIN = 0.02


@pytest.fixture(scope="module")
def cycle():
    """Return the planted oscillator, trials of it, and others."""
    net = oscillator()
    return net, *(net.simulate(24, 60, random_state=seed).observations for seed in (5, 6))


@pytest.fixture(scope="module")
def fitted(cycle):
    return LeastSquaresRNN(2, random_state=0).fit(cycle[1])


def turning(seed, n_trials=20):
    """Return trials of a linear system that turns."""
    rng = np.random.default_rng(seed)
    turn = 0.97 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    net = LowRankDynamics(
        np.eye(2), 2 * turn.T, dt=BIN, tau=BIN, nonlinearity="identity", latent_noise=0.06 * np.eye(2),
        loadings=rng.standard_normal((12, 2)), observation_variance=np.full(12, 2.0),
    )  # fmt: skip
    return net.simulate(n_trials, 50, random_state=seed).observations


def test_a_planted_cycle_is_found(cycle, fitted):
    net, _, held = cycle
    assert not fitted.stayed_linear_
    assert cycle_frequency(fitted.dynamics_) == pytest.approx(cycle_frequency(net), rel=0.03)
    linear = LinearStateSpace(2, max_iter=30, tol=1e-4).fit(cycle[1]).score(held)
    best = smooth(net, as_trials(held)).log_likelihood.sum() / (24 * 60)
    assert fitted.score(held) > linear + 0.5 * (best - linear)
    assert fitted.history_["validation"][-1] > fitted.history_["validation"][0] + 0.05
    assert fitted.is_stable_


def test_linear_systems_are_left_alone(caplog):
    caplog.set_level(logging.INFO, "nwb_lrrnn")
    for seed in range(3):
        X = turning(seed)
        model = LeastSquaresRNN(2, n_neurons=50, max_epochs=1, random_state=seed).fit(X[:14])
        assert model.stayed_linear_
        assert "stayed at its linear start" in caplog.text
        linear = LinearStateSpace(2, max_iter=30, tol=1e-4).fit(X[:14])
        assert model.score(X[14:]) == pytest.approx(linear.score(X[14:]), abs=2e-3)


def test_samples_carry_the_moments_of_the_posterior(cycle):
    net, _, held = cycle
    trials = as_trials(held[:2, :8])
    moments = smooth(net.replace(latent_noise=0.1 * np.eye(2)), trials)
    samples = field_samples(moments, trials)
    z, step = samples.latents, samples.latents + trials.bin_size * samples.velocity
    now, then = moments.smoothed[:, :-1].reshape(-1, 2), moments.smoothed[:, 1:].reshape(-1, 2)
    cross = then.T @ now / len(now) + moments.pattern_cross.reshape(-1, 2, 2).mean(0)
    np.testing.assert_allclose(step.T @ z / len(z), cross, atol=1e-10)  # E z_{t+1} z_t^T
    both = then.T @ then / len(now) + moments.covariances[:, 1:].reshape(-1, 2, 2).mean(0)
    np.testing.assert_allclose(step.T @ step / len(z) + samples.spread, both, atol=1e-10)


def test_latents_may_be_given(cycle, fitted):
    net, X, held = cycle
    told = net.simulate(24, 60, random_state=5)
    known = LeastSquaresRNN(2, latents=told.latents.values, tau=5 * BIN, random_state=0).fit(told.observations)
    assert cycle_frequency(known.dynamics_) == pytest.approx(cycle_frequency(net), rel=0.03)
    assert known.score(held) > fitted.score(held) - 0.1
    of_model = LeastSquaresRNN(2, latents=fitted, random_state=0).fit(X)
    assert of_model.score(held) > fitted.score(held) - 0.2
    again = LeastSquaresRNN.from_dataset(known.to_dataset())
    assert again.score(held) == known.score(held)
    with pytest.raises(ValueError, match="latents: got 'given'.*pass them again"):
        again.fit(X)


def test_units_that_are_the_network():
    rng = np.random.default_rng(0)
    m = rng.standard_normal((30, 1))
    net = LowRankDynamics(
        m, 2.5 * m, dt=0.1, tau=0.5, loadings=np.full(30, 3.0), offset=np.full(30, 2.0), readout="currents",
        observation_variance=np.full(30, 0.05), latent_noise=[[0.02]], bias=0.3 * rng.standard_normal(30),
    )  # fmt: skip
    X = net.simulate(10, 50, random_state=1).observations
    model = LeastSquaresRNN(1, latents="units", tau=0.5).fit(X)
    assert model.dynamics_.n_neurons == 30
    assert model.dynamics_.loadings.shape == (30,)
    shown = model.loadings_
    cosine = np.abs(shown[:, 0] @ m[:, 0]) / np.linalg.norm(shown) / np.linalg.norm(m)
    assert cosine > 0.98
    held = net.simulate(10, 50, random_state=2).observations
    best = smooth(net, as_trials(held)).log_likelihood.sum() / 500
    constant = -0.5 * (1 + np.log(2 * np.pi * np.asarray(held).var((0, 1)))).sum()
    assert model.score(held) > constant + 0.8 * (best - constant)
    with pytest.raises(ValueError, match="latents: got 'units' with likelihood='poisson'"):
        LeastSquaresRNN(1, latents="units").fit(rng.poisson(1.0, (4, 12, 3)))


@pytest.mark.parametrize("mode", ["latent", "neuron"])
def test_inputs_move_the_latents(mode):
    rng = np.random.default_rng(1)
    u = rng.standard_normal((16, 40, 1))
    m = rng.standard_normal((20, 1))
    net = LowRankDynamics(
        m, 1.5 * m, dt=0.1, tau=0.4, latent_input_weights=[[1.5]], latent_noise=[[0.01]],
        loadings=rng.standard_normal((6, 1)), observation_variance=np.full(6, 0.1),
    )  # fmt: skip
    X = net.simulate(16, 40, inputs=u, random_state=0).observations.values
    settings = {"n_neurons": 40, "bin_size": 0.1, "max_epochs": 2, "random_state": 0}
    driven = LeastSquaresRNN(1, input_mode=mode, validation_fraction=0.0, **settings).fit(X[:12], inputs=u[:12])
    alone = LeastSquaresRNN(1, **settings).fit(X[:12])
    assert driven.score(X[12:], inputs=u[12:]) > alone.score(X[12:]) + 0.3
    assert (driven.dynamics_.input_weights is None) == (mode == "latent")


def test_a_seed_repeats_and_another_changes_digits(cycle):
    X, held = cycle[1][:12, :40], cycle[2]
    one, two, other = (LeastSquaresRNN(2, n_neurons=60, max_epochs=1, random_state=seed).fit(X) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.transform(held), two.transform(held))
    assert one.score(held) == two.score(held) != other.score(held)
    assert one.score(held) == pytest.approx(other.score(held), abs=0.05)


def test_noise_alone_is_no_network():
    X = np.random.default_rng(0).standard_normal((12, 30, 5))
    assert LeastSquaresRNN(1, n_neurons=40, max_epochs=1, bin_size=BIN, random_state=0).fit(X).stayed_linear_


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"ridge": 0.0}, "ridge: got 0.0, wanted a finite number > 0"),
        ({"ridge": "none"}, "ridge: got 'none', wanted 'noise', 'cv', 'evidence'"),
        ({"tau": 0.01}, "tau: got 0.01 s, shorter than the bins of 0.02 s"),
        ({"rank": 4}, "rank: got 4, wanted at most the number of units, 3"),
        ({"latents": "smooth"}, "latents: got 'smooth', wanted one of 'smoothed'.*did you mean 'smoothed'"),
        ({"latents": 3}, "latents: got 3, wanted 'smoothed'.*array"),
        ({"latents": np.zeros((4, 11, 2))}, "latents: got 4 trials of 11 bins at most"),
        ({"latents": np.zeros((4, 12, 1))}, "latents: got 1 of them, wanted rank=2; pass rank=1"),
        ({"basis": "nfe"}, "basis: got 'nfe'.*did you mean 'nef'"),
        ({"input_mode": "both"}, "input_mode: got 'both'"),
    ],
)
def test_mistakes_are_said_in_a_sentence(parameters, expected):
    X = np.random.default_rng(0).standard_normal((4, 12, 3))
    with pytest.raises(ValueError, match=expected):
        LeastSquaresRNN(**{"bin_size": BIN, "n_neurons": 5} | parameters).fit(X)


def test_few_bins_for_many_neurons_and_fast_neurons_are_said(caplog):
    caplog.set_level(logging.INFO, "nwb_lrrnn")
    X = np.random.default_rng(0).standard_normal((4, 12, 3)).cumsum(1)
    with pytest.warns(ConvergenceWarning, match="44 pairs of bins for 20 neurons.*at most n_neurons=14"):
        LeastSquaresRNN(1, n_neurons=20, validation_fraction=0.0, max_epochs=1, tau=BIN, bin_size=BIN).fit(X)
    assert "1 bins: they forget within a bin or two" in caplog.text


def test_further_trials_are_learnt(cycle, fitted):
    _, X, held = cycle
    model = LeastSquaresRNN(2, n_neurons=60, max_epochs=2, random_state=0)
    model.partial_fit(X[:8])
    few, n = model.score(held), model._learner.field.n_samples
    for k in (8, 16):
        model.partial_fit(X[k : k + 8])
    assert model._learner.field.n_samples == 3 * n
    assert model.score(held) > few
    again = LeastSquaresRNN.from_dataset(model.to_dataset()).partial_fit(X[:8])
    assert again.score(held) == pytest.approx(model.score(held), abs=0.03)  # held where it was


def test_a_recording_on_dask_is_regressed_in_one_pass(cycle, monkeypatch):
    net, X, held = cycle
    settings = {"n_neurons": 60, "max_epochs": 2, "random_state": 0}
    sample = LeastSquaresRNN(2, **settings).fit(X[:8])
    monkeypatch.setattr(blocks, "KEPT_BYTES", 2 * X[0].nbytes * blocks.SAMPLE * 4)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * X[0].nbytes)
    lazy = LeastSquaresRNN(2, **settings).fit(X.chunk(trial=4))
    assert not lazy.stayed_linear_
    assert lazy.score(held) > sample.score(held)
    assert cycle_frequency(lazy.dynamics_) == pytest.approx(cycle_frequency(net), rel=0.05)


def test_all_blocks_together_are_all_trials(cycle):
    trials = as_trials(cycle[1])
    likelihood = Likelihood("gaussian", "identity", trials.bin_size)
    plan = Plan(2, 40, "tanh", "nef", "noise", 0.01, "latent", None, likelihood, 1, 0.0, "cpu")
    found = learn(trials, plan, np.random.SeedSequence(0))
    again = regress_all(found.network, found.field, as_lazy_trials(cycle[1].chunk(trial=5)), "cpu")
    moments = smooth(found.network, trials)
    samples = field_samples(moments, trials, most=10**9)
    at_once = regress(samples, plan, found.field.tau, found.field.features, np.random.default_rng(0))
    z = moments.smoothed.reshape(-1, 2)
    np.testing.assert_allclose(again.velocity(z), at_once.velocity(z), atol=0.02 * np.abs(again.velocity(z)).max())


def test_what_was_never_seen_is_told_apart(fitted, cycle):
    latents = fitted.transform(cycle[2]).values
    assert fitted.is_extrapolating(latents).mean() < 0.02
    assert fitted.is_extrapolating(10 * latents[:, 10]).all()


def test_known_fields_need_no_recording():
    def field(z):
        return np.stack([z[:, 1], 2.0 * (1 - z[:, 0] ** 2) * z[:, 1] - z[:, 0]], axis=1)

    rng = np.random.default_rng(0)
    z = rng.uniform(-3, 3, (900, 2))
    settings = {"n_neurons": 60, "tau": 1.0, "ridge": 1e-6, "random_state": 0}
    known = LeastSquaresRNN(**settings).fit_field(field, z)
    sampled = LeastSquaresRNN(**settings).fit_samples(z, field(z))
    online = LeastSquaresRNN(**settings)
    for part in np.array_split(z, 3):
        online.learn_samples(part, field(part))
    at = rng.uniform(-2, 2, (50, 2))
    for model in (known, sampled, online):
        assert np.abs(model.dynamics_.velocity(at) - field(at)).mean() < 0.15
        assert model.dynamics_.dt == pytest.approx(0.05)
    np.testing.assert_array_equal(known.dynamics_.right_vectors, sampled.dynamics_.right_vectors)
    with pytest.raises(ValueError, match="without a readout"):
        known.transform(np.zeros((2, 5, 3)))
    with pytest.raises(ValueError, match="tau: got None"):
        LeastSquaresRNN().fit_samples(z, field(z))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few samples
        assert LeastSquaresRNN(**settings).learn_samples(z[:5], field(z[:5])).field_.n_samples == 5
