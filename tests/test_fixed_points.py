"""Fixed points of planted networks, by multi-start Newton."""

import numpy as np
import pytest

from nwb_lrrnn.analysis.fixed_points import find_fixed_points
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis import DisRNN


def rank_one(overlap, n_neurons=100, nonlinearity="tanh"):
    m = np.random.default_rng(0).standard_normal((n_neurons, 1))
    return LowRankDynamics(m, overlap * m / (m**2).mean(), dt=0.02, tau=0.1, nonlinearity=nonlinearity)


@pytest.mark.parametrize("nonlinearity", ["tanh", "erf"])
def test_a_bistable_network_has_two_stable_points_and_a_saddle_between(nonlinearity):
    net = rank_one(2.0, nonlinearity=nonlinearity)
    points = find_fixed_points(net)
    assert points.sizes["fixed_point"] == 3
    np.testing.assert_array_equal(points.stable, [True, True, False])
    low, high, middle = points.latents.values.ravel()
    assert abs(middle) < 1e-8
    np.testing.assert_allclose(low, -high, rtol=1e-8)
    # z = n^T phi(m z) / N at the stable ones
    np.testing.assert_allclose(net.right_vectors[:, 0] @ net.rates([high]) / 100, high, rtol=1e-9)
    # at 0 every slope is 1: lambda = 1 - alpha + alpha * overlap
    np.testing.assert_allclose(points.eigenvalue_real.values[2, 0], 1 - 0.2 + 0.2 * 2.0, rtol=1e-9)
    np.testing.assert_allclose(points.time_constant.values[2, 0], -0.02 / np.log(1.2), rtol=1e-9)


def test_below_the_bifurcation_there_is_one_stable_point():
    points = find_fixed_points(rank_one(0.8))
    assert points.sizes["fixed_point"] == 1
    assert bool(points.stable[0])


def test_a_spiral_shows_its_frequency():
    # an identity network: z_{t+1} = 0.98 R(w dt) z_t
    angle, shrink = 2 * np.pi * 1.5 * 0.02, 0.98
    rotation = shrink * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    net = LowRankDynamics(np.eye(2), 2 * rotation.T, dt=0.02, tau=0.02, nonlinearity="identity")
    points = find_fixed_points(net)
    assert points.sizes["fixed_point"] == 1
    np.testing.assert_allclose(points.frequency.values, 1.5, rtol=1e-9)
    np.testing.assert_allclose(points.time_constant.values, -0.02 / np.log(shrink), rtol=1e-9)


def test_constant_inputs_tilt_the_landscape():
    net = rank_one(2.0).replace(latent_input_weights=[[1.0]])
    assert find_fixed_points(net, inputs=[0.0]).sizes["fixed_point"] == 3
    points = find_fixed_points(net, inputs=[2.0])
    assert points.sizes["fixed_point"] == 1
    assert points.latents.values[0, 0] > 1


def test_points_inside_the_data_come_first_with_their_distance_in_standard_deviations():
    net = rank_one(2.0)
    low, high, middle = find_fixed_points(net).latents.values.ravel()
    for name in ("distance", "inside"):
        assert name not in find_fixed_points(net)  # a network that was fitted to nothing
    # data about the upper point: it is at 0, the others are 10 standard deviations times their share of the way
    sd = (high - low) / 10
    points = find_fixed_points(net.replace(latent_mean=[high], latent_covariance=[[sd**2]]))
    np.testing.assert_allclose(points.latents.values.ravel(), [high, low, middle], atol=1e-8)
    np.testing.assert_allclose(points.distance, [0, 10, 5], atol=1e-6)
    np.testing.assert_array_equal(points.inside, [True, False, False])
    wide = find_fixed_points(net.replace(latent_mean=[high], latent_covariance=[[(4 * sd) ** 2]]))
    assert wide.inside.all()
    np.testing.assert_array_equal(wide.stable, [True, True, False])


def test_distances_do_not_depend_on_the_basis():
    turn = 1.3 * np.array([[0.8, -0.6], [0.6, 0.8]])
    net = LowRankDynamics(np.eye(2), 2 * turn.T, dt=1.0, tau=1.0, latent_mean=[1.0, 0.0], latent_covariance=np.eye(2))
    mix = np.array([[2.0, 0.3], [-0.5, 0.7]])
    back = np.linalg.inv(mix)
    other = net.replace(
        left_vectors=net.left_vectors @ back, right_vectors=net.right_vectors @ mix.T,
        latent_mean=mix @ net.latent_mean, latent_covariance=mix @ mix.T,
    )  # fmt: skip
    np.testing.assert_allclose(find_fixed_points(other).distance[0], 1.0, rtol=1e-9)
    np.testing.assert_allclose(find_fixed_points(net).distance[0], 1.0, rtol=1e-9)


def test_modes_that_change_sign_from_bin_to_bin_are_named():
    def named(*values):
        net = LowRankDynamics(np.eye(2), 2 * np.diag(values), dt=0.02, tau=0.02, nonlinearity="identity")
        return find_fixed_points(net).nyquist.values.tolist()

    assert named(0.9, -0.8) == [True]
    assert named(1.3, -1.1) == [True]
    assert named(0.9, -0.2) == [False]  # gone within a bin
    assert named(0.9, 0.8) == [False]


def test_the_same_seed_gives_the_same_points():
    net = rank_one(2.0)
    assert find_fixed_points(net, random_state=3).identical(find_fixed_points(net, random_state=3))


def test_an_unfitted_model_is_refused():
    with pytest.raises(TypeError, match="call fit first"):
        find_fixed_points(object())


def test_a_recorded_network_is_a_map_whose_noise_is_averaged_over():
    m = np.random.default_rng(0).standard_normal((40, 1))
    net = LowRankDynamics(
        m, 2.0 * m / (m**2).mean(), dt=0.1, tau=0.1, nonlinearity="erf", readout="currents", loadings=np.ones(40),
        private_noise=np.full(40, 0.5), latent_noise=[[0.1]],
    )  # fmt: skip
    points = find_fixed_points(DisRNN.from_dataset(net.to_dataset()))
    assert points.sizes["fixed_point"] == 3
    # E erf(sqrt(pi) e / 2) has slope 1 / sqrt(1 + pi var / 2) where its mean is 0
    np.testing.assert_allclose(points.eigenvalue_real.values[2, 0], 2.0 / np.sqrt(1 + np.pi / 4), rtol=1e-9)
    z = points.latents.values
    np.testing.assert_allclose(net.step(z), z, atol=1e-9)


def test_a_model_without_dynamics_says_why():
    X = np.random.default_rng(0).standard_normal((3, 30, 4))
    with pytest.raises(TypeError, match="model: this model has no LowRankDynamics: with encoder='mlp' or n_lags > 1"):
        find_fixed_points(DisRNN(2, n_lags=2, random_state=0).fit(X))
    with pytest.raises(TypeError, match="model: dynamics_: call fit first"):
        find_fixed_points(DisRNN(2))
