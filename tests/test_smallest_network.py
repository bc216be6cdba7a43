"""`smallest_network`: sizes that were planted are found, noise has none, and coordinates do not matter."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

import nwb_lrrnn as lr
from nwb_lrrnn import LowRankDynamics, smallest_network
from nwb_lrrnn.models.least_squares.smallest.dictionary import METHODS, draw_candidates, greedy_path
from nwb_lrrnn.models.least_squares.smallest.problem import Neurons, Samples, regress
from nwb_lrrnn.models.least_squares.smallest.projection import Projection, refine
from nwb_lrrnn.models.least_squares.smallest.shooting import Runs, Shooting
from planted import oscillator
from planted_fields import WILSON_COWAN, lorenz, on_lorenz, runge_kutta, van_der_pol
from planted_gate import conditions, gated_integrator

QUICK = {"n_init": 1, "n_candidates": 200, "random_state": 0}


def samples_of(field, z, tau=1.0):
    g = tau * field(z)
    return Samples(z, z + g, np.ones((len(z), 1)), float(g.var(0).sum()))


def box(n, half, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, len(half))) * half


def teacher(n_neurons=5, seed=0):
    """Return a network of rank 2 whose neurons are all needed."""
    rng = np.random.default_rng(seed)
    return LowRankDynamics(
        1.2 * rng.standard_normal((n_neurons, 2)), n_neurons * 1.5 * rng.standard_normal((n_neurons, 2)), dt=0.05,
        tau=1.0, bias=0.8 * rng.standard_normal(n_neurons),
    )  # fmt: skip


# --- greedy choice ---------------------------------------------------------------------------------------------------


def test_every_size_of_a_greedy_path_is_better_and_orthogonal_choice_beats_matching_pursuit():
    z = on_lorenz(400, 0, noise=0.2)
    train = samples_of(lorenz, z, 0.1)
    candidates = draw_candidates(z, 300, "tanh", np.random.default_rng(0))
    error = {}
    for method in METHODS:
        path = greedy_path(candidates, train, 20, method=method, ridge=1e-10)
        assert (np.diff(path.objective) <= 1e-12).all()
        assert len(set(path.order)) == 20
        sizes = 10, 20
        error[method] = [regress(Neurons(candidates.theta[path.order[:d]], "tanh"), train, 1e-10).error for d in sizes]
    assert error["ols"][0] < error["omp"][0]
    assert error["ols"][1] < error["omp"][1] / 2
    assert_allclose(error["ridge-ols"], error["ols"], rtol=0.5)


def test_what_a_greedy_path_says_is_left_is_what_the_regression_leaves():
    train = samples_of(van_der_pol, box(200, [1.8, 2.4]))
    candidates = draw_candidates(train.points, 100, "tanh", np.random.default_rng(0))
    path = greedy_path(candidates, train, 6, ridge=1e-3)
    fit = regress(Neurons(candidates.theta[path.order], "tanh"), train, 1e-3)
    left = fit.error * train.variance + 1e-3 * (fit.outgoing**2).sum()
    assert_allclose(path.objective[-1], left, rtol=1e-9)


def test_a_greedy_path_ends_where_candidates_are_combinations_of_those_chosen():
    z = np.linspace(-1.6, 1.6, 300)[:, None]
    candidates = draw_candidates(z, 300, "tanh", np.random.default_rng(0))
    path = greedy_path(candidates, samples_of(lambda z: z - z**3, z), 100, method="ols")
    assert path.is_exhausted
    assert 10 < len(path.order) < 60


# --- variable projection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "softplus"])
def test_gradient_of_the_projection_is_exact(nonlinearity):
    train = samples_of(van_der_pol, box(150, [1.8, 2.4]))
    theta = np.random.default_rng(1).standard_normal((4, 3)).ravel()
    problem = Projection(train, 4, nonlinearity, 1e-3)
    gradient = problem.jacobian(theta).T @ problem.residual(theta)
    hessian, same = problem.normal(theta)
    step = 1e-6 if nonlinearity == "relu" else 1e-5  # short of the kinks
    numeric = [(problem.cost(theta + step * e) - problem.cost(theta - step * e)) / (2 * step) for e in np.eye(12)]
    assert_allclose(gradient, numeric, atol=1e-8 * np.abs(gradient).max() + 1e-9)
    assert_allclose(same, gradient, atol=1e-12)
    assert_allclose(hessian, problem.jacobian(theta).T @ problem.jacobian(theta), atol=1e-12)


def test_ten_refined_neurons_draw_lorenz():
    z, far = on_lorenz(600, 0, noise=0.2), on_lorenz(600, 9)
    train, test = samples_of(lorenz, z, 0.1), samples_of(lorenz, far, 0.1)
    candidates = draw_candidates(z, 400, "tanh", np.random.default_rng(0))
    order = greedy_path(candidates, train, 10, ridge=1e-6).order
    fit = refine(Neurons(candidates.theta[order], "tanh"), train, 1e-6)
    assert fit.squared_errors(test).mean() / test.variance < 5e-4
    theta = fit.neurons.theta
    starts, n_steps = far[::30], int(2 / 0.9056 / 0.02)  # two Lyapunov times
    truth, run = (
        runge_kutta(velocity, starts, 0.02, n_steps)
        for velocity in (
            lorenz,
            lambda z: (np.tanh(z @ theta[:, :3].T + theta[:, 3]) @ fit.outgoing + fit.free[0] - z) / 0.1,
        )
    )
    missed = np.linalg.norm(run - truth, axis=-1).max(axis=0) / np.sqrt((truth**2).sum(-1).mean())
    assert np.median(missed) < 0.4


def test_scale_of_a_relu_neuron_does_not_drift():
    train = samples_of(van_der_pol, box(200, [1.8, 2.4]))
    candidates = draw_candidates(train.points, 100, "relu", np.random.default_rng(0))
    fit = refine(Neurons(candidates.theta[greedy_path(candidates, train, 4).order], "relu"), train, 1e-6)
    assert np.abs(fit.neurons.theta).max() < 100


# --- shooting --------------------------------------------------------------------------------------------------------


def test_gradient_of_free_runs_is_exact():
    rng = np.random.default_rng(0)
    runs = Runs(rng.standard_normal((3, 7, 2)), rng.standard_normal((3, 6, 1)), rng.standard_normal((3, 6, 2)))
    problem = Shooting(runs, 3, "tanh", 0.3, 1e-3)
    at = 0.5 * rng.standard_normal(problem.parts[-1])
    numeric = [(problem.cost(at + 1e-5 * e) - problem.cost(at - 1e-5 * e)) / 2e-5 for e in np.eye(len(at))]
    assert_allclose(problem.normal(at)[1], numeric, atol=1e-8)


# --- known sizes -----------------------------------------------------------------------------------------------------


def test_wilson_cowan_is_three_neurons_or_two_and_a_drive():
    z = box(300, [1.8, 1.8])
    found = smallest_network(
        (z, WILSON_COWAN.velocity(z)), tau=1.0, drive=False, random_state=0, max_size=3, n_candidates=300
    )
    assert found.path.attrs["size"] == 3
    assert found.path["error"].sel(size=3) < 1e-15
    assert found.path["error"].sel(size=2) > 0.05
    assert found.network.drive is None
    with_drive = smallest_network((z, WILSON_COWAN.velocity(z)), tau=1.0, max_size=4, **QUICK)
    assert with_drive.path.attrs["size"] == 2
    assert with_drive.path["error"].sel(size=2) < 1e-15


def test_a_network_of_five_neurons_is_found_with_its_parameters():
    net, z = teacher(), box(300, [2.0, 2.0])
    network, path = smallest_network(net.velocity, sampler=z, tau=1.0, max_size=6, random_state=0, n_init=2)
    assert path.attrs["size"] == 5
    assert path["error"].sel(size=5) < 1e-15
    assert path["error"].sel(size=4) > 1e-5
    found, planted = (np.abs(n.right_vectors) for n in (network, net))  # a neuron's sign is free
    assert_allclose(found[np.argsort(found[:, 0])], planted[np.argsort(planted[:, 0])], atol=1e-6)
    assert_allclose(np.sort(np.abs(network.bias)), np.sort(np.abs(net.bias)), atol=1e-6)
    assert path.attrs["has_gain"] == 1


def test_turning_shifting_and_scaling_latents_changes_no_size():
    net, z = teacher(3), box(400, [2.0, 2.0])
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    sizes, errors = [], []
    for matrix, shift in ((np.eye(2), 0.0), (turn, 0.0), (1e3 * np.eye(2), 0.0), (1e-2 * turn, 7.0)):
        moved, velocity = z @ matrix + shift, net.velocity(z) @ matrix
        network, path = smallest_network((moved, velocity), tau=1.0, max_size=4, **QUICK)
        sizes.append(path.attrs["size"])
        errors.append(path["error"].values[:2])
        assert_allclose(network.velocity(moved), velocity, atol=1e-6 * np.abs(velocity).max())
    assert sizes == [3] * 4
    assert_allclose(errors, np.tile(errors[0], (4, 1)), rtol=1e-3)


def test_weights_stay_within_their_budget():
    z = box(200, [1.8, 2.4])
    narrow = smallest_network((z, van_der_pol(z)), tau=1.0, max_size=3, max_weight=3.0, **QUICK).path
    wide = smallest_network((z, van_der_pol(z)), tau=1.0, max_size=3, max_weight=1e4, **QUICK).path
    assert (narrow["largest_weight"] <= 3.0).all()
    assert wide["largest_weight"].max() > 100
    assert wide["error"].min() < narrow["error"].min() / 10


def test_noise_has_no_size_and_a_tolerance_ends_the_path():
    z = box(200, [1.8, 1.8])
    noise = np.random.default_rng(1).standard_normal(z.shape)
    with pytest.warns(UserWarning, match="nothing for a network to express"):
        found = smallest_network((z, noise), max_size=2, **QUICK)
    assert found.path.attrs["has_gain"] == 0
    path = smallest_network((z, van_der_pol(z)), tau=1.0, tolerance=0.5, **QUICK).path
    assert path["error"].values[-1] <= 0.5
    assert path.attrs["size"] == path["size"].values[-1] < 5


def test_inputs_of_samples_enter_the_neurons_or_the_latents():
    rng = np.random.default_rng(0)
    z, u = rng.uniform(-2, 2, (400, 1)), rng.uniform(-3, 1, (400, 1))
    inside = -z + 2.0 * np.tanh(1.5 * z + 0.7 * u + 0.3)
    beside = -z + 2.0 * np.tanh(1.5 * z + 0.3) + 4.0 * u
    for velocity, mode in ((inside, "neuron"), (beside, "latent")):
        network, path = smallest_network((z, velocity, u), tau=1.0, input_mode=mode, max_size=2, **QUICK)
        assert path.attrs["size"] == 1
        assert_allclose(network.velocity(z, u), velocity, atol=1e-6)
        assert (network.input_weights is None) == (mode == "latent")


# --- distilled -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_gated_integrator_of_many_neurons_needs_few():
    net, inputs = gated_integrator(80), conditions(levels=(0.1, 0.5), steps=(8, 16, 4))
    options = {"inputs": inputs, "n_candidates": 200, "n_init": 1, "n_samples": 800, "random_state": 0}
    by_field = smallest_network(net, objective="field", max_size=15, tolerance=0.006, **options).path
    assert by_field["r2"].max() >= 0.99
    network, path = smallest_network(net, max_size=4, tolerance=0.08, **options)
    assert path["r2"].sel(size=slice(1, 4)).max() >= 0.9
    assert path["r2"].sel(size=1) < 0.9
    run, like = (
        n.simulate(len(inputs), inputs.shape[1], inputs=inputs, initial_latents=[0.0]).latents.values
        for n in (net, network)
    )
    assert 1 - ((run - like) ** 2).sum() / ((run - run.mean()) ** 2).sum() > 0.9


def test_a_fitted_model_becomes_a_model_of_few_neurons_that_is_written_and_read(tmp_path):
    truth = oscillator(n_neurons=60, n_units=12)
    model = lr.SMCLowRankRNN.from_dataset(truth.to_dataset())
    latents = truth.simulate(6, 100, random_state=1).latents
    network, path = smallest_network(model, latents=latents, n_steps=25, max_size=4, n_samples=400, **QUICK)
    assert path["r2"].values.max() > 0.98
    assert network.n_neurons <= 4
    assert_allclose(network.loadings, truth.loadings)
    small = lr.LeastSquaresRNN.from_dataset(network.to_dataset())
    file = lr.write_results(tmp_path / "small.nwb", small, metrics=path)
    assert np.array_equal(lr.load_model(file).dynamics_.right_vectors, network.right_vectors)
    assert_allclose(lr.read_results(file)["metrics"]["r2"], path["r2"])


@pytest.mark.parametrize("model", [lr.LinearStateSpace(2, max_iter=10), lr.DisRNN(2, n_groups=2, n_bootstraps=0)])
def test_linear_models_and_networks_of_the_units_are_reduced_too(model):
    X = oscillator(n_neurons=60, n_units=12).simulate(8, 60, random_state=5).observations
    model.fit(X)
    latents = model.transform(X)
    network, path = smallest_network(model, latents=latents, n_steps=25, max_size=4, n_samples=400, **QUICK)
    assert path["r2"].sel(size=network.n_neurons) > 0.99
    assert_allclose(network.expected(latents), model.inverse_transform(latents), atol=1e-9)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (np.tanh, {}, "sampler: got None"),
        ("lorenz", {}, "source: got a str"),
        ((np.ones((30, 1)), np.ones((30, 1))), {}, "latents that never change"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {}, "the same everywhere"),
        ((np.arange(30.0)[:, None], np.full((30, 1), np.nan)), {}, "velocity: got nan"),
        ((np.arange(30.0)[:, None], np.ones((29, 1))), {}, "velocity: got shape"),
        ((np.arange(30.0),), {}, "source: got 1 arrays"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {"sampler": np.ones(3)}, "sampler: got one with samples"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {"objective": "trajectory"}, "which cannot run"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {"max_weight": 0}, "max_weight: got 0"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {"ridge": 0}, "ridge: got 0"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {"held_out": 0.0}, "held_out: got 0"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {"nonlinearity": "identity"}, "nonlinearity: got 'identity'"),
        ((np.arange(30.0)[:, None], np.ones((30, 1))), {"inputs": np.ones((1, 30, 1))}, "inputs: belongs to a network"),
        ((np.arange(30.0)[:, None], np.sin(np.arange(30.0))[:, None]), {"tau": 1.0, "dt": 2.0}, "dt: got 2 s"),
    ],
)
def test_wrong_sources_and_parameters_are_refused(source, options, message):
    kind = TypeError if isinstance(source, str) else ValueError
    with pytest.raises(kind, match=message):
        smallest_network(source, **options)


def test_networks_and_models_that_lack_something_are_refused():
    net = gated_integrator(10)
    with pytest.raises(ValueError, match="inputs: got None"):
        smallest_network(net)
    with pytest.raises(ValueError, match="pieces of"):
        smallest_network(oscillator(), latents=np.zeros((1, 50, 2)), n_steps=20)
    with pytest.raises(ValueError, match="others than the network's own"):
        smallest_network(oscillator(), tau=3.0, n_steps=10)
    with pytest.raises(NotFittedError):
        smallest_network(lr.SMCLowRankRNN())
