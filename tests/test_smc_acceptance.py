"""When a fit of `SMCLowRankRNN` leaves its linear start: where all trials, held out in turn, want it, else not."""

import logging

import numpy as np
import pytest
import torch

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.models.smc import SMCLowRankRNN, estimator
from nwb_lrrnn.models.smc.evidence import gain_of
from nwb_lrrnn.models.smc.members import parts_of
from nwb_lrrnn.trials import as_trials
from planted import cycle_frequency, relu_cycle

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs

SMALL = {"n_neurons": 20, "n_particles": 16, "n_trajectories": 8, "max_epochs": 3}


def smc(**parameters):
    return SMCLowRankRNN(**{"rank": 2, "nonlinearity": "relu", "random_state": 0, **SMALL, **parameters})


def linear_data(seed, n_trials=30, n_bins=40, n_units=6):
    """Return units that read a turning linear system with noise, (trial, time, unit)."""
    rng = np.random.default_rng(seed)
    turn = 0.95 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    z = np.zeros((n_trials, n_bins, 2))
    z[:, 0] = rng.standard_normal((n_trials, 2))
    for t in range(1, n_bins):
        z[:, t] = z[:, t - 1] @ turn.T + 0.3 * rng.standard_normal((n_trials, 2))
    return z @ rng.standard_normal((2, n_units)) + 0.5 * rng.standard_normal((n_trials, n_bins, n_units))


def noisy_cycle(n_trials, noise):
    """Return a planted relu cycle behind noise of the units, and trials of it."""
    net = relu_cycle("gaussian").replace(observation_variance=np.full(20, noise**2))
    return net, net.simulate(n_trials, 75, random_state=1).observations


@pytest.mark.parametrize("seed", range(3))
def test_linear_data_keep_the_linear_start_and_the_fit_says_so(seed, caplog):
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        model = smc(random_state=seed).fit(linear_data(seed))
    assert model.stayed_linear_ is True
    assert caplog.text.count("SMCLowRankRNN: the fit stayed at its linear start: what it tried changed") == 1
    copy = SMCLowRankRNN.from_dataset(model.to_dataset())
    assert copy.stayed_linear_ is True


@pytest.mark.parametrize("seed", range(2))
def test_every_seed_finds_a_cycle(seed, caplog):
    net, X = noisy_cycle(40, 2.0)
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        model = smc(random_state=seed).fit(X)
    assert model.stayed_linear_ is False
    assert "stayed" not in caplog.text
    found, true = (cycle_frequency(one.replace(latent_noise=None)) for one in (model.dynamics_, net))
    assert found == pytest.approx(true, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("n_trials", "seed"), [(20, 2), (150, 0), (150, 1)])  # one split of the 20 misses it
def test_every_seed_finds_a_cycle_that_is_hardly_seen(n_trials, seed):
    # a linear model explains all but .03 nats per bin
    net, X = noisy_cycle(150, 8.0)
    model = SMCLowRankRNN(2, nonlinearity="relu", random_state=seed).fit(X[:n_trials])
    assert model.stayed_linear_ is False
    found, true = (cycle_frequency(one.replace(latent_noise=None)) for one in (model.dynamics_, net))
    assert found == pytest.approx(true, rel=0.03)


def test_a_warm_start_remembers_that_it_stayed():
    X = linear_data(0)
    model = smc(warm_start=True, max_epochs=1).fit(X)
    assert model.stayed_linear_
    assert model.fit(X).stayed_linear_  # one epoch judges and moves nowhere


# --- who judges whom -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fraction", "n"), [(0.5, 2), (0.34, 3), (0.2, 5), (0.05, 12)])
def test_every_trial_is_held_out_once_and_the_last_network_has_all(fraction, n):
    observed = np.ones((13, 5), dtype=bool)
    observed[3] = False
    values = np.arange(13.0)[:, None, None] + np.zeros((13, 5, 2))
    trials = as_trials(np.where(observed[..., None], values, np.nan), allow_nan=True)
    parts, folds = parts_of(trials, fraction, np.random.default_rng(0))
    assert len(parts) == n + 1
    assert len(folds) == n
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.delete(np.arange(13), 3))  # 3 judges nothing
    for part, rows in zip(parts, folds, strict=False):
        np.testing.assert_array_equal(part.held.values, trials.values[rows])
        np.testing.assert_array_equal(part.train.values, np.delete(trials.values, rows, axis=0))
    assert parts[-1].train is trials
    assert parts[-1].held is None


def test_nothing_is_held_out_where_nothing_can_be():
    one = as_trials(np.zeros((1, 12, 2)))
    for trials, fraction in ((as_trials(np.zeros((6, 12, 2))), 0.0), (one, 0.5)):
        [(train, held)], folds = parts_of(trials, fraction, np.random.default_rng(0))
        assert train is held is trials
        assert folds == []
    (train, held), (whole, nobody) = parts_of(as_trials(np.zeros((1, 40, 2))), 0.25, np.random.default_rng(0)).parts
    assert (train.lengths[0], held.lengths[0], whole.lengths[0], nobody) == (30, 10, 40, None)


def test_restarts_hold_out_other_trials(monkeypatch):
    tasks = []
    monkeypatch.setattr(estimator.fitting, "run", lambda task: tasks.append(task) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        smc(n_init=3).fit(linear_data(0))
    splits = [tuple(map(tuple, parts.folds)) for parts in tasks[0].parts]
    assert len(set(splits)) == 3
    # the networks of a restart differ by their trials alone, those of two restarts by their neurons
    form, starts = tasks[0].form, tasks[0].starts
    bias = form.layout().unpack(starts.flatten(0, 1))["bias"].unflatten(0, starts.shape[:2])
    assert (bias[:, :1] == bias).all()
    assert not torch.equal(bias[0], bias[1])


def test_a_gain_counts_beyond_two_standard_errors_over_trials():
    bins, before = torch.full((100,), 10.0), torch.zeros(100)
    noise = torch.as_tensor(np.random.default_rng(0).standard_normal(100))
    noise = (noise - noise.mean()) / noise.std()
    for per_bin, is_real in ((0.19, False), (0.21, True)):  # the error is 1 / sqrt(100) / 10 = 0.01 times 10
        gain = gain_of(10 * per_bin + 10 * noise, before, bins, 5)
        assert gain.error == pytest.approx(0.1)
        assert gain.per_bin == pytest.approx(per_bin)
        assert gain.is_real is is_real
    assert not gain_of(before + 10 * 0.001, before, bins, 5).is_real  # certain, and nothing


def test_rates_that_range_far_below_zero_lose_no_trial():
    # softplus of hundreds of spikes/s: Newton's steps to the mode overshoot to where counts are all but impossible
    rng = np.random.default_rng(0)
    turn = 0.99 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    net = LowRankDynamics(
        np.eye(2), 2 * turn.T, dt=0.02, tau=0.02, nonlinearity="identity", latent_noise=3600.0 * np.eye(2),
        initial_mean=np.zeros(2), initial_covariance=160_000.0 * np.eye(2), loadings=rng.standard_normal((8, 2)),
        offset=np.full(8, 130.0), likelihood="poisson", link="softplus",
    )  # fmt: skip
    X = net.simulate(20, 30, random_state=1).observations
    exact = LinearStateSpace.from_dynamics(net).set_params(n_particles=500).score_trials(X).values
    bound = SMCLowRankRNN.from_dataset(net.to_dataset()).set_params(n_particles=500, random_state=0).score_trials(X)
    # in nats of a trial: near such corners no Gaussian proposal is good, but steps that end anywhere lose thousands
    assert abs(bound.values - exact).max() < 6
    assert abs(bound.values.mean() - exact.mean()) < 2
