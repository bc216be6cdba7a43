"""Networks whose units are all recorded: the planted one is found, its rank too, and noise has none."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from nwb_lrrnn import LowRankDynamics
from nwb_lrrnn.models.least_squares.recorded import fit_recorded
from planted_gate import conditions, gated_integrator

N = 40


def network(seed=0):
    rng = np.random.default_rng(seed)
    m = rng.standard_normal((N, 2))
    n = m @ np.array([[2.2, 0.9], [-0.9, 2.2]]) + rng.standard_normal((N, 2))
    return LowRankDynamics(
        m, n, dt=0.02, tau=0.1, bias=0.3 * rng.standard_normal(N), input_weights=rng.standard_normal((N, 1)),
        filter_inputs=True, readout="currents", loadings=np.ones(N),
    )  # fmt: skip


def recorded(net, noise=0.0, n_trials=15, seed=0):
    rng = np.random.default_rng(seed)
    u = np.repeat(rng.standard_normal((n_trials, 10, 1)), 5, axis=1)
    z = net.simulate(n_trials, u.shape[1], inputs=u, random_state=seed).latents.values
    x = net.currents(z, net.filtered_inputs(u))
    return list(x + noise * rng.standard_normal(x.shape)), list(u)


def cosines(a, b):
    return np.linalg.svd(np.linalg.qr(a)[0].T @ np.linalg.qr(b)[0])[1]


def test_the_regression_finds_what_is_identified():
    net = network()
    x, u = recorded(net)
    found = fit_recorded(x, 0.02, 2, tau=0.1, inputs=u, method="rrr", ridge=1e-8)
    assert found.r2 > 0.99999
    assert_allclose(cosines(net.left_vectors, found.dynamics.left_vectors), 1.0, atol=1e-6)
    assert_allclose(found.dynamics.input_weights, net.input_weights, atol=1e-3)
    known = np.column_stack([net.left_vectors, net.input_weights, net.bias])
    axes = np.linalg.qr(known)[0]
    planted = net.left_vectors @ (axes @ (axes.T @ net.right_vectors)).T
    assert_allclose(found.dynamics.left_vectors @ found.identified_right_vectors.T, planted, atol=0.02 * N)
    assert_allclose(found.residual_variance, 0.0, atol=1e-8)


def test_rates_are_inverted_and_a_rate_that_no_current_has_is_refused():
    net = network()
    calm = net.replace(left_vectors=0.3 * net.left_vectors, input_weights=0.3 * net.input_weights)
    x, u = recorded(calm)
    rates = [np.tanh(trial) for trial in x]
    found = fit_recorded(rates, 0.02, 2, tau=0.1, inputs=u, method="rrr", observed="rates")
    assert found.r2 > 0.98
    assert found.dynamics.readout == "rates"
    with pytest.raises(ValueError, match="which no current has under tanh"):
        fit_recorded([9.0 * trial for trial in x], 0.02, 2, tau=0.1, inputs=u, observed="rates")


def test_held_out_conditions_choose_the_rank_under_noise_of_observation():
    x, u = recorded(network(), noise=0.05)
    found = fit_recorded(x, 0.02, "cv", tau=0.1, inputs=u, method="rrr", max_rank=4)
    assert found.dynamics.rank == 2
    assert found.rank_path.attrs["has_structure"] == 1
    assert np.argmin(found.rank_path["step_error"].values) > 2  # why the error of a step does not choose


def test_noise_has_no_rank():
    x = list(np.random.default_rng(0).standard_normal((10, 40, 8)))
    found = fit_recorded(x, 0.1, "cv", tau=0.1, method="rrr", max_rank=3)
    assert found.rank_path.attrs["has_structure"] == 0
    assert found.r2 < 0.05


def test_the_gradient_helps_where_the_rank_is_too_small():
    x, u = recorded(network())
    options = {"tau": 0.1, "inputs": u, "random_state": 0, "max_epochs": 25, "learning_rate": 1e-2}
    start = fit_recorded(x, 0.02, 1, method="rrr", **options)
    after = fit_recorded(x, 0.02, 1, **options)
    assert after.r2 > start.r2
    assert after.history.sizes["epoch"] == 25
    assert np.isnan(start.held_out_r2)


def test_repeats_of_a_condition_tell_the_ceiling():
    net = network()
    clean, u = recorded(net, n_trials=6)
    rng = np.random.default_rng(0)
    signal = np.concatenate(clean).var(0).sum()
    x = [trial + np.sqrt(0.1 * signal / N) * rng.standard_normal(trial.shape) for trial in clean * 3]
    found = fit_recorded(x, 0.02, 2, tau=0.1, inputs=u * 3, conditions=np.tile(np.arange(6), 3), method="rrr")
    assert_allclose(found.noise_ceiling, 1 / 1.1, atol=0.01)


def test_a_gated_integrator_whose_units_are_noisy_is_found_again():
    net, inputs = gated_integrator(120), conditions(levels=(0.1, 0.5))
    z = net.simulate(len(inputs), inputs.shape[1], inputs=inputs, initial_latents=[0.0]).latents.values
    x = net.currents(z, net.filtered_inputs(inputs))
    x = x + 0.02 * np.random.default_rng(0).standard_normal(x.shape)
    found = fit_recorded(list(x), net.dt, 1, tau=net.tau, inputs=list(inputs), method="rrr")
    assert found.r2 > 0.99
    assert cosines(net.left_vectors, found.dynamics.left_vectors)[0] > 0.99


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": []}, "X: got no trials"),
        ({"X": [np.ones((1, 3))]}, "X: got shape"),
        ({"X": [np.full((5, 3), np.nan)]}, "X: got values that are not finite"),
        ({"tau": 0.01}, "tau: got 0.01"),
        ({"ridge": 0.0}, "ridge: got 0"),
        ({"rank": 9}, "rank: got 9"),
        ({"method": "lint"}, "method: got 'lint'"),
        ({"inputs": [np.ones((4, 1))]}, "inputs: got other numbers"),
        ({"conditions": [1, 2, 3]}, "conditions: got shape"),
        ({"rank": "cv"}, "rank: got 'cv' with trials of one condition"),
        ({"observed": "rates", "nonlinearity": "relu"}, "cannot be inverted"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    options = {"X": [np.random.default_rng(0).standard_normal((20, 3))], "dt": 0.1, "rank": 1, "tau": 0.2, **change}
    with pytest.raises(ValueError, match=message):
        fit_recorded(options.pop("X"), options.pop("dt"), options.pop("rank"), **options)
