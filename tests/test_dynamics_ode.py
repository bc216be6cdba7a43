"""A network is a neural ODE with one hidden layer, exactly and in both directions."""

import numpy as np
import pytest
import torch

from nwb_lrrnn import LowRankDynamics

_LAYERS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "softplus": torch.nn.Softplus, "identity": torch.nn.Identity}


def _sequential(name, rank=3, n=17):
    generator = torch.Generator().manual_seed(1)
    modules = torch.nn.Sequential(torch.nn.Linear(rank, n), _LAYERS[name](), torch.nn.Linear(n, rank)).double()
    for parameter in modules.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    first, last = modules[0], modules[2]
    arrays = (first.weight, first.bias, last.weight, last.bias)
    return modules, [a.detach().numpy() for a in arrays]


@pytest.mark.parametrize("name", list(_LAYERS))
def test_a_neural_ode_is_a_network(name):
    modules, (W_in, b, W_out, c) = _sequential(name)
    z = np.random.default_rng(0).standard_normal((50, 3))
    with torch.no_grad():
        output = modules(torch.from_numpy(z)).numpy()
    network = LowRankDynamics.from_ode(W_in, b, W_out, tau=0.3, nonlinearity=name, output_bias=c)
    np.testing.assert_allclose(network.velocity(z), -z / 0.3 + output, rtol=1e-12, atol=1e-12)
    if name != "tanh":
        free = LowRankDynamics.from_ode(W_in, b, W_out, tau=0.3, nonlinearity=name, output_bias=c, leak=False)
        np.testing.assert_allclose(free.velocity(z), output, rtol=1e-10, atol=1e-10)
        assert free.n_neurons > 17


def test_a_network_is_a_neural_ode():
    rng = np.random.default_rng(0)
    network = LowRankDynamics(
        rng.standard_normal((9, 2)), rng.standard_normal((9, 2)), dt=0.02, tau=0.5, nonlinearity="clipped_relu",
        bias=rng.standard_normal(9), thresholds=rng.uniform(1, 2, 9), input_weights=rng.standard_normal((9, 1)),
        drive=rng.standard_normal(2), latent_input_weights=rng.standard_normal((2, 1)),
    )  # fmt: skip
    again = LowRankDynamics.from_ode(**network.to_ode())
    for name in ("left_vectors", "right_vectors", "bias", "thresholds", "input_weights", "drive", "dt", "tau"):
        np.testing.assert_allclose(getattr(again, name), getattr(network, name), rtol=1e-15)
    z, v = rng.standard_normal((20, 2)), rng.standard_normal((20, 1))
    np.testing.assert_allclose(again.velocity(z, v), network.velocity(z, v), rtol=1e-13, atol=1e-13)
    layer = network.to_ode()
    x = z @ layer["W_in"].T + layer["b"] + v @ layer["input_weights"].T
    rates = np.maximum(x + layer["thresholds"], 0) - np.maximum(x, 0)
    by_hand = -z / 0.5 + rates @ layer["W_out"].T + layer["output_bias"] + v @ layer["latent_input_weights"].T
    np.testing.assert_allclose(network.velocity(z, v), by_hand, rtol=1e-13, atol=1e-13)
    plain = LowRankDynamics([[1.0]], [[1.0]], dt=0.1, tau=1.0).to_ode()
    assert LowRankDynamics.from_ode(**plain).drive is None


def test_currents_of_the_network_are_where_the_latents_are():
    # x' = -x + J phi(x + b) in the space of neurons is x = M z, and what lies beside M decays
    rng = np.random.default_rng(0)
    M, W, b = rng.standard_normal((30, 2)), rng.standard_normal((30, 2)) / 30, rng.standard_normal(30)
    network = LowRankDynamics.from_ode(M, b, W.T, tau=1.0, dt=0.01)
    z, beside = np.array([0.5, -1.0]), rng.standard_normal(30)
    beside -= M @ np.linalg.lstsq(M, beside, rcond=None)[0]
    on, off = M @ z, M @ z + 1e-6 * beside
    project = np.eye(30) - M @ np.linalg.pinv(M)
    for _ in range(500):
        z = network.step(z)
        on = on + 0.01 * (-on + M @ (W.T @ np.tanh(on + b)))
        off = off + 0.01 * (-off + M @ (W.T @ np.tanh(off + b)))
    np.testing.assert_allclose(on, M @ z, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(project @ off) / np.linalg.norm(1e-6 * beside), 0.99**500, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"b": [0.0, 1.0]}, r"b: got shape \(2,\), wanted \(1,\)"),
        ({"W_out": [[1.0, 2.0]]}, r"W_out: got shape \(1, 2\), wanted \(1, 1\)"),
        ({"tau": 0.0}, "tau: got 0.0"),
        ({"leak": False}, "leak: got False with nonlinearity='tanh'"),
        ({"W_in": [1.0]}, "W_in: got an array of shape"),
    ],
)
def test_refusals(change, text):
    given = {"W_in": [[1.0]], "b": [0.0], "W_out": [[1.0]], "tau": 1.0} | change
    with pytest.raises(ValueError, match=text):
        LowRankDynamics.from_ode(**given)
    noisy = LowRankDynamics([[1.0]], [[1.0]], dt=0.1, tau=1.0, private_noise=[1.0])
    with pytest.raises(ValueError, match="private_noise: got a network whose neurons"):
        noisy.to_ode()
