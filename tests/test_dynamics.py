"""The network as mathematics: one step, its derivatives, its law, and its round trip through a Dataset."""

import pickle

import numpy as np
import pytest
from scipy.stats import nbinom, norm, poisson

from nwb_lrrnn.dynamics import NONLINEARITIES, LowRankDynamics
from nwb_lrrnn.dynamics.fields import ATTRS, DIMS
from nwb_lrrnn.dynamics.nonlinearity import phi

# --- one step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_step_is_the_equation(make_network, rng, name):
    net = make_network(name)
    z, v, u = rng.normal(size=2), rng.normal(size=2), rng.normal(size=2)
    expected = np.zeros(2)
    for r in range(2):
        recurrent = 0.0
        for i in range(12):
            x = sum(net.left_vectors[i, k] * z[k] + net.input_weights[i, k] * v[k] for k in range(2)) + net.bias[i]
            h = None if net.thresholds is None else net.thresholds[i]
            recurrent += net.right_vectors[i, r] * phi(name, np.array(x), h) / 12
        through = sum(net.latent_input_weights[r, k] * u[k] for k in range(2))
        expected[r] = 0.8 * z[r] + 0.2 * (recurrent + net.drive[r] + through)
    np.testing.assert_allclose(net.step(z, v, u), expected, atol=1e-14)
    assert net.alpha == pytest.approx(0.2)


@pytest.mark.parametrize("private", [None, np.linspace(0.0, 3.0, 12)], ids=["quiet", "private noise"])
@pytest.mark.parametrize("name", NONLINEARITIES)
def test_jacobian_is_the_derivative_of_step(make_network, rng, name, private):
    net = make_network(name, private_noise=private)
    z, u, small = rng.normal(size=(7, 2)), rng.normal(size=(7, 2)), 1e-6
    numeric = np.stack(
        [(net.step(z + small * e, u) - net.step(z - small * e, u)) / (2 * small) for e in np.eye(2)], axis=-1
    )
    np.testing.assert_allclose(net.jacobian(z, u), numeric, atol=1e-8)  # rounding / small; no kink within small
    assert net.jacobian(z[0], u[0]).shape == (2, 2)


def test_velocity_times_dt_is_the_step(make_network, rng):
    net = make_network("softplus", private_noise=np.full(12, 0.3))
    z, v, u = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 2))
    np.testing.assert_allclose(z + net.dt * net.velocity(z, v, u), net.step(z, v, u), atol=1e-14)


def test_connectivity_and_overlap(make_network):
    net = make_network()
    connectivity = net.connectivity()
    assert connectivity.dims == ("target", "source")
    np.testing.assert_allclose(connectivity, net.left_vectors @ net.right_vectors.T / 12)
    np.testing.assert_allclose(net.overlap(), net.right_vectors.T @ net.left_vectors / 12)
    linear = net.replace(nonlinearity="identity")
    np.testing.assert_allclose(linear.jacobian(np.zeros(2)), 0.8 * np.eye(2) + 0.2 * net.overlap(), atol=1e-14)


def test_filtered_inputs_are_the_leaky_filter(make_network, rng):
    net = make_network(filter_inputs=True)
    u = rng.normal(size=(3, 6, 2))
    v = net.filtered_inputs(u)
    np.testing.assert_array_equal(v[:, 0], 0)
    for t in range(5):  # alpha = 0.2: v_t = sum over k of 0.2 * 0.8^k u_{t-1-k}
        np.testing.assert_allclose(v[:, t + 1], sum(0.2 * 0.8**k * u[:, t - k] for k in range(t + 1)), atol=1e-14)
    np.testing.assert_allclose(net.filtered_inputs(u[0]), v[0])
    np.testing.assert_array_equal(net.replace(filter_inputs=False).filtered_inputs(u), u)


# --- another time step -----------------------------------------------------------------------------------------------


def test_with_dt_keeps_the_continuous_network(rng):
    net = LowRankDynamics(
        rng.normal(size=(50, 2)), 3 * rng.normal(size=(50, 2)), dt=0.1, tau=0.5, latent_noise=np.eye(2)
    )

    def at_one_second(dt):
        fine = net.with_dt(dt).replace(latent_noise=None)
        steps = round(1.0 / dt)
        return fine.simulate(1, steps + 1, initial_latents=[1.0, -1.0], random_state=0).latents.values[0, -1]

    limit = at_one_second(1e-4)
    errors = [np.abs(at_one_second(dt) - limit).max() for dt in (0.02, 0.01, 0.005)]
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.1)  # Euler is of first order
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.1)
    assert net.with_dt(0.05).alpha == pytest.approx(0.1)
    np.testing.assert_allclose(net.with_dt(0.05).latent_noise, 0.5 * np.eye(2))
    z = rng.normal(size=(4, 2))
    np.testing.assert_allclose(net.with_dt(0.025).velocity(z), net.velocity(z))


def test_with_dt_keeps_the_diffusion():
    # dz = -z dt / tau + sqrt(q) dW: the stationary variance tends to q tau / 2 whatever the step
    net = LowRankDynamics([[0.0]], [[0.0]], dt=0.1, tau=1.0, latent_noise=[[0.2]])
    for dt in (0.01, 0.001):
        fine = net.with_dt(dt)
        variance = fine.latent_noise.item() / (1 - (1 - fine.alpha) ** 2)
        assert variance == pytest.approx(0.2 / 0.1 * 1.0 / 2, rel=dt)


@pytest.mark.parametrize(
    ("dt", "tau", "new", "message"),
    [
        (1.0, 1.0, 0.5, r"dt: this network is a map \(alpha = 1\)"),
        (0.1 + 0.2, 0.3, 0.1, r"dt: this network is a map \(alpha = 1\)"),  # 0.1 + 0.2 > 0.3 by rounding alone
        (0.1, 1.0, 1.5, "dt: got 1.5, wanted 0 < dt <= tau = 1.0 s; choose a smaller step"),
        (0.1, 1.0, 0.0, "dt: got 0.0, wanted 0 < dt <= tau"),
        (0.1, 1.0, float("nan"), "dt: got nan, wanted 0 < dt <= tau"),
    ],
)
def test_with_dt_refuses(dt, tau, new, message):
    net = LowRankDynamics([[1.0]], [[1.0]], dt=dt, tau=tau)
    assert net.alpha <= 1.0
    with pytest.raises(ValueError, match=message):
        net.with_dt(new)


# --- observations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["latents", "currents", "rates"])
def test_expected_is_the_readout(make_network, rng, readout):
    net = make_network("relu", readout=readout)
    z, v = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    x = z @ net.left_vectors.T + v @ net.input_weights.T + net.bias
    signal = {
        "latents": lambda: z @ net.loadings.T,
        "currents": lambda: net.loadings * x,
        "rates": lambda: net.loadings * np.maximum(x, 0),
    }[readout]()
    np.testing.assert_allclose(net.expected(z, v), signal + v @ net.readout_input_weights.T + net.offset, atol=1e-13)


COUNTS = {"observation_variance": None, "dt": 0.02}


def test_log_likelihood_gaussian(make_network, rng):
    net = make_network()
    z, u, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)), rng.normal(size=(4, 5))
    expected = norm.logpdf(y, net.expected(z, u), np.sqrt(net.observation_variance))
    np.testing.assert_allclose(net.log_likelihood(y, z, u), expected, rtol=1e-12)


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_log_likelihood_poisson(make_network, rng, link):
    net = make_network(likelihood="poisson", link=link, **COUNTS)
    z, u, y = rng.normal(size=(200, 2)), rng.normal(size=(200, 2)), rng.poisson(3.0, size=(200, 5))
    eta = net.replace(likelihood="gaussian", link="identity").expected(z, u)
    mean = 0.02 * (np.log1p(np.exp(eta)) if link == "softplus" else np.exp(eta))
    np.testing.assert_allclose(net.expected(z, u), mean, rtol=1e-12)
    np.testing.assert_allclose(net.log_likelihood(y, z, u), poisson.logpmf(y, mean), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_log_likelihood_negative_binomial(make_network, rng, link):
    r = rng.uniform(0.3, 5.0, size=5)
    net = make_network(likelihood="negative_binomial", link=link, dispersion=r, **COUNTS)
    z, u, y = rng.normal(size=(200, 2)), rng.normal(size=(200, 2)), rng.poisson(3.0, size=(200, 5))
    expected = nbinom.logpmf(y, r, r / (r + net.expected(z, u)))
    np.testing.assert_allclose(net.log_likelihood(y, z, u), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_a_gain_of_the_link_multiplies_the_mean(make_network, rng, link):
    gain = rng.uniform(0.1, 20.0, size=5)
    r = rng.uniform(0.3, 5.0, size=5)
    z, u, y = rng.normal(size=(200, 2)), rng.normal(size=(200, 2)), rng.poisson(3.0, size=(200, 5))
    net = make_network(likelihood="poisson", link=link, **COUNTS)
    mean = gain * net.expected(z, u)
    net = net.replace(link_gain=gain)
    np.testing.assert_allclose(net.expected(z, u), mean, rtol=1e-14)
    np.testing.assert_allclose(net.log_likelihood(y, z, u), poisson.logpmf(y, mean), rtol=1e-10, atol=1e-12)
    net = net.replace(likelihood="negative_binomial", dispersion=r)
    np.testing.assert_allclose(net.log_likelihood(y, z, u), nbinom.logpmf(y, r, r / (r + mean)), rtol=1e-9, atol=1e-10)


def test_negative_binomial_of_large_dispersion_is_poisson(make_network, rng):
    counts = make_network(likelihood="poisson", **COUNTS)
    near = counts.replace(likelihood="negative_binomial", dispersion=np.full(5, 1e12))
    z, u, y = rng.normal(size=(50, 2)), rng.normal(size=(50, 2)), rng.poisson(3.0, size=(50, 5))
    # they differ by (y^2 + mean^2) / r, about 1e-10; differences of gammaln(1e12) would err by 1e-3
    np.testing.assert_allclose(near.log_likelihood(y, z, u), counts.log_likelihood(y, z, u), atol=1e-9)


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_log_likelihood_of_counts_at_vanishing_rates(link):
    net = LowRankDynamics(
        [[1.0]], [[1.0]], dt=0.5, tau=1.0, loadings=[[1.0]], likelihood="poisson", link=link, bias=[0.0]
    )
    z = np.array([[-2000.0], [-800.0], [-37.5], [-36.5]])
    # a softplus or exp of eta <= -36.5 is e^eta to double precision: log p(2) = 2 (eta + log dt) - log 2
    np.testing.assert_allclose(net.log_likelihood(2.0, z), 2 * (z + np.log(0.5)) - np.log(2), rtol=1e-13)
    np.testing.assert_allclose(net.log_likelihood(0.0, z), 0.0, atol=1e-15)


def test_log_likelihood_of_currents_holds_the_private_noise_that_they_show(make_network, rng):
    net = make_network(readout="currents", private_noise=rng.uniform(0.1, 1.0, size=12))
    z, u, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)), rng.normal(size=(4, 12))
    sd = np.sqrt(net.loadings**2 * net.private_noise + net.observation_variance)
    np.testing.assert_allclose(net.log_likelihood(y, z, u), norm.logpdf(y, net.expected(z, u), sd), rtol=1e-12)
    alone = net.replace(observation_variance=None).log_likelihood(y, z, u)
    expected = norm.logpdf(y, net.expected(z, u), np.abs(net.loadings) * np.sqrt(net.private_noise))
    np.testing.assert_allclose(alone, expected, rtol=1e-12)


def test_log_likelihood_passes_nan_of_unobserved_units_on(make_network):
    net = make_network()
    got = net.log_likelihood([0.0, np.nan, 0.0, 0.0, 0.0], np.zeros(2))
    np.testing.assert_array_equal(np.isnan(got), [False, True, False, False, False])


# --- the object ------------------------------------------------------------------------------------------------------


def test_network_is_frozen_and_its_arrays_are_its_own(make_network):
    m = np.ones((3, 1))
    net = LowRankDynamics(m, m, dt=0.1, tau=1.0, loadings=m, unit_ids=np.array([4, 5, 6]))
    m[:] = 7
    np.testing.assert_array_equal(net.left_vectors, 1)
    for name in ("left_vectors", "unit_ids"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(net, name)[0] = 2
    with pytest.raises(AttributeError, match="cannot assign to field 'dt'"):
        net.dt = 1.0  # type: ignore[misc]
    assert (net.rank, net.n_neurons, net.n_inputs, net.n_units) == (1, 3, 0, 3)


def test_network_pickles(make_network):
    net = make_network(unit_ids=["a", "b", "c", "d", "e"])
    copy = pickle.loads(pickle.dumps(net))
    for name, value in fields_of(net).items():
        np.testing.assert_array_equal(getattr(copy, name), value, err_msg=name)


def fields_of(net):
    return {name: getattr(net, name) for name in (*DIMS, *ATTRS, "unit_ids")}


FULL = {
    "gaussian": {"nonlinearity": "clipped_relu", "unit_ids": ["a", "b", "c", "d", "e"], "filter_inputs": True},
    "recorded": {"readout": "currents", "private_noise": np.full(12, 0.5), "unit_ids": np.arange(12)},
    "counts": {
        "likelihood": "negative_binomial",
        "link": "exp",
        "dispersion": np.ones(5),
        "observation_variance": None,
    },
    "gains": {"likelihood": "poisson", "observation_variance": None, "link_gain": np.linspace(0.5, 3.0, 5)},
    "bare": dict.fromkeys(set(DIMS) - {"left_vectors", "right_vectors"}),
}


@pytest.mark.parametrize("case", FULL)
def test_round_trip_through_a_dataset(make_network, case):
    net = make_network(**FULL[case])
    dataset = net.to_dataset()
    # what a file makes of it: flags as integers, numbers as numpy scalars, names as numpy strings, company
    worn = dataset.copy().assign(elsewhere=("epoch", [1.0, 2.0]))
    worn.attrs = {
        key: np.str_(value) if isinstance(value, str) else np.asarray(value, dtype=float)[()]
        for key, value in dataset.attrs.items()
    }
    worn.attrs |= {"filter_inputs": np.int64(net.filter_inputs), "creator": "somebody"}
    for back in (LowRankDynamics.from_dataset(dataset), LowRankDynamics.from_dataset(worn)):
        for name, value in fields_of(net).items():
            np.testing.assert_array_equal(getattr(back, name), value, err_msg=name)
        assert isinstance(back.filter_inputs, bool)
        assert isinstance(back.dt, float)


def test_to_dataset_has_named_dims_and_writes_to_nothing_shared(make_network):
    net = make_network(unit_ids=np.arange(5))
    dataset = net.to_dataset()
    assert dataset["loadings"].dims == ("unit", "latent")
    assert dataset["latent_noise"].dims == ("latent", "latent_")
    dataset["loadings"].values[:] = 0
    assert np.abs(net.loadings).min() > 0


def test_from_dataset_with_dims_in_another_order(make_network):
    net = make_network(neurons=2)  # square, so that no shape gives it away
    turned = net.to_dataset().transpose()
    np.testing.assert_array_equal(LowRankDynamics.from_dataset(turned).left_vectors, net.left_vectors)


@pytest.mark.parametrize("lost", ["left_vectors", "right_vectors", "dt", "tau"])
def test_from_dataset_refuses_what_is_no_network(make_network, lost):
    dataset = make_network().to_dataset().drop_vars(lost, errors="ignore")
    dataset.attrs.pop(lost, None)
    with pytest.raises(
        ValueError, match=f"dataset: got no {lost}, wanted a Dataset made by LowRankDynamics.to_dataset"
    ):
        LowRankDynamics.from_dataset(dataset)


BAD_FIELDS = [
    ({"left_vectors": np.ones(12)}, r"left_vectors: got an array of shape \(12,\), wanted \(neuron, latent\)"),
    ({"right_vectors": np.ones((11, 2))}, "right_vectors: got 11 along neuron, wanted 12 like the fields before it"),
    ({"bias": np.full(12, np.nan)}, "bias: got values that are not finite, wanted finite numbers"),
    ({"bias": "large"}, "bias: got values that are no array of real numbers"),
    ({"bias": [[1.0], [1.0, 2.0]]}, "bias: got values that are no array of real numbers"),
    ({"drive": np.ones(3)}, "drive: got 3 along latent, wanted 2"),
    ({"input_weights": np.ones((12, 3))}, "latent_input_weights: got 2 along input, wanted 3"),
    ({"offset": np.ones(4)}, "offset: got 4 along unit, wanted 5"),
    ({"unit_ids": np.arange(4)}, "unit_ids: got 4 along unit, wanted 5"),
    ({"unit_ids": np.ones((5, 1))}, r"unit_ids: got an array of shape \(5, 1\), wanted \(unit,\)"),
    ({"observation_variance": -np.ones(5)}, "observation_variance: got negative values, wanted variances"),
    ({"private_noise": -np.ones(12)}, "private_noise: got negative values"),
    ({"latent_noise": [[1.0, 2.0], [2.0, 1.0]]}, "latent_noise: got a matrix that is no covariance"),
    ({"initial_covariance": [[1.0, 0.5], [0.0, 1.0]]}, "initial_covariance: got a matrix that is no covariance"),
    ({"latent_covariance": np.ones((2, 3))}, "latent_covariance: got 3 along latent, wanted 2"),
    ({"dt": 0.6}, "tau: got 0.5 with dt = 0.6, wanted 0 < dt <= tau, both finite"),
    ({"dt": 0.0}, "tau: got 0.5 with dt = 0.0"),
    ({"tau": np.inf}, "tau: got inf"),
    ({"tau": None}, "tau: got None, wanted a number of seconds"),
    ({"dt": "20 ms"}, "dt: got '20 ms', wanted a number of seconds"),
    ({"nonlinearity": "thanh"}, "nonlinearity: got 'thanh', wanted one of 'tanh', .*; did you mean 'tanh'?"),
    (
        {"nonlinearity": "clipped_relu", "thresholds": None},
        "thresholds: None, but nonlinearity='clipped_relu' saturates there",
    ),
    ({"readout": "voltages"}, "readout: got 'voltages', wanted one of 'latents', 'currents', 'rates'"),
    ({"readout": "rates", "loadings": np.ones((5, 2))}, r"loadings: got an array of shape \(5, 2\), wanted \(neuron\)"),
    ({"likelihood": "poison"}, "likelihood: got 'poison', .*did you mean 'poisson'?"),
    ({"likelihood": None}, "likelihood: got None, wanted one of"),
    ({"link": "log"}, "link: got 'log', wanted one of 'identity', 'softplus', 'exp'"),
    (
        {"likelihood": "poisson", "link": "identity"},
        "link: got 'identity' with likelihood='poisson', wanted 'softplus'",
    ),
    ({"likelihood": "negative_binomial"}, "dispersion: got None or 0, but likelihood='negative_binomial'"),
    ({"likelihood": "negative_binomial", "dispersion": np.zeros(5)}, "dispersion: got None or 0"),
    ({"link_gain": np.ones(5)}, "link_gain: got one for Gaussian units, wanted None"),
    ({"likelihood": "poisson", "link_gain": np.arange(5)}, "link_gain: got gains of 0 or less, wanted the factor > 0"),
    ({"likelihood": "poisson", "link_gain": np.ones(4)}, "link_gain: got 4 along unit, wanted 5"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_FIELDS)
def test_network_refuses(make_network, fields, message):
    with pytest.raises(ValueError, match=message):
        make_network(**fields)


def test_calls_refuse(make_network):
    net = make_network()
    y = np.zeros(5)
    for call, message in [
        (lambda: net.step(np.zeros(3)), r"latents: got shape \(3,\), wanted \(\.\.\., 2\), the last axis being the"),
        (lambda: net.step(0.0), r"latents: got shape \(\), wanted \(\.\.\., 2\)"),
        (lambda: net.step([0, 0], [1.0]), r"inputs: got shape \(1,\), wanted \(\.\.\., 2\)"),
        (lambda: net.expected([0, 0], [1.0]), r"inputs: got shape \(1,\), wanted \(\.\.\., 2\)"),
        (lambda: net.filtered_inputs([1.0]), r"inputs: got shape \(1,\), wanted \(\.\.\., 2\)"),
        (
            lambda: net.log_likelihood(np.zeros((3, 4)), [0, 0]),
            r"observations: got shape \(3, 4\), wanted \(\.\.\., 5\)",
        ),
        (lambda: net.replace(observation_variance=None).log_likelihood(y, [0, 0]), "observation_variance: got None or"),
        (lambda: net.replace(observation_variance=y).log_likelihood(y, [0, 0]), "observation_variance: got None or 0"),
        (lambda: LowRankDynamics([[1.0]], [[1.0]], 0.1, 1.0).expected([0.0]), "loadings: this network has no readout"),
        (lambda: LowRankDynamics([[1.0]], [[1.0]], 0.1, 1.0).step([0.0], [1.0]), r"inputs: got shape \(1,\), wanted"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="thresholds: None, but nonlinearity='clipped_relu'"):
        phi("clipped_relu", np.zeros(2))


def test_a_network_shows_what_it_is_and_not_its_numbers():
    rng = np.random.default_rng(0)
    m, n, C = (rng.standard_normal((k, 2)) for k in (300, 300, 150))
    bare = LowRankDynamics(m, n, dt=1.0, tau=4.0)
    assert repr(bare).splitlines() == [
        "LowRankDynamics: rank 2, 300 neurons, steps of 1 bin, tau 4 bin, tanh",
        "  left_vectors (300, 2), right_vectors (300, 2)",
    ]
    shown = repr(bare.replace(dt=0.02, loadings=C, offset=np.zeros(150), likelihood="poisson", link="softplus"))
    assert "150 units from its latents: poisson, link softplus" in shown
    assert "offset (150,)" in shown
    assert len(shown) < 400
