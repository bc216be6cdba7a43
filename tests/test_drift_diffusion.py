"""Networks that obey a given stochastic differential equation: drift, diffusion, stationary law, currents."""

import numpy as np
import pytest

from nwb_lrrnn import drift_diffusion_network

BOX = ([-2.2, -2.2], [2.2, 2.2])


def double_well(z):
    """Return a double well in x and a valley in y, with a drift along the level lines that no potential has."""
    x, y = z[..., 0], z[..., 1]
    downhill = np.stack([x**3 - x, y], axis=-1)
    return -downhill + np.stack([downhill[..., 1], -downhill[..., 0]], axis=-1)


def law(run, step):
    """Moments of x, x² and y, and the current that runs round: mean of x dy - y dx per unit of time."""
    z = run.latents.values[:, run.latents.shape[1] // 10 :]
    middle, move = 0.5 * (z[:, 1:] + z[:, :-1]), np.diff(z, axis=1) / step
    current = np.mean(middle[..., 0] * move[..., 1] - middle[..., 1] * move[..., 0])
    return np.array([np.mean(z[..., 0] ** 2), np.mean(z[..., 0] ** 4), np.mean(z[..., 1] ** 2), current])


def test_nonequilibrium_double_well():
    network = drift_diffusion_network(double_well, 0.5, 100, BOX)
    assert network.drift_r2 > 0.9999
    assert network.diffusion_error == 0.0
    assert network.norm == pytest.approx(float(np.linalg.norm(network.connectivity())))
    step = 0.02
    own, target = (
        law(run, step)
        for run in (
            network.simulate(40, 30.0, step, random_state=1),
            network.simulate_target(40, 30.0, step, random_state=1),
        )
    )
    np.testing.assert_allclose(own, target, rtol=0.03)
    assert own[3] < -0.1  # it runs one way, which no potential does
    dynamics = network.to_dynamics(0.01)
    z = np.array([[0.3, -0.4], [1.0, 0.5]])
    np.testing.assert_allclose(dynamics.velocity(z), network.drift(z), atol=1e-9)
    np.testing.assert_allclose(dynamics.latent_noise, 0.01 * 0.25 * np.eye(2), atol=1e-15)


def test_diffusion_that_depends_on_the_latents():
    def root(z):
        x = z[..., 0]
        return (0.3 + 0.1 * np.tanh(x))[..., None, None] * np.eye(2)

    network = drift_diffusion_network(double_well, root, 100, BOX)
    assert network.diffusion_error < 1e-3
    own, target = network.simulate(32, 10.0, 0.02), network.simulate_target(32, 10.0, 0.02)
    np.testing.assert_allclose(own.latents, target.latents, atol=0.05)
    assert float(own.outside) == 0.0
    with pytest.raises(ValueError, match="to_dynamics: the diffusion depends on the latents"):
        network.to_dynamics(0.01)


def test_currents_stay_in_the_span_of_the_left_vectors():
    network = drift_diffusion_network(lambda z: z - z**3, np.array([[0.4, 0.2]]), 30, ([-2.0], [2.0]), tau=0.1)
    run = network.simulate(3, 1.0, 0.01)
    x = network.currents(run.latents)
    u = network.fitted.features.encoders
    np.testing.assert_allclose(x - (x @ u / (u.T @ u)) @ u.T, 0.0, atol=1e-12)
    # the noise of the two sources adds up in one latent
    assert network.diffusion(np.zeros((4, 1))).shape == (4, 1, 2)
    z = np.linspace(-1.5, 1.5, 7)[:, None]
    np.testing.assert_allclose(network.drift(z), z - z**3, atol=0.02)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="box: the drift leaves it: 200 of 200 paths"):
        drift_diffusion_network(lambda z: z, 0.1, 20, ([-1.0], [1.0]))
    with pytest.raises(ValueError, match="box: the drift leaves it"):  # its wells lie at ±1
        drift_diffusion_network(lambda z: z - z**3, 0.1, 20, ([-0.5], [0.5]))
    with pytest.raises(ValueError, match="drift: got shape"):
        drift_diffusion_network(lambda z: z[:, 0], 0.1, 20, BOX)
    with pytest.raises(ValueError, match="diffusion: got shape"):
        drift_diffusion_network(double_well, np.ones(3), 20, BOX)
    with pytest.raises(ValueError, match="diffusion: got shape"):
        drift_diffusion_network(double_well, lambda z: z, 20, BOX)
