"""What data leave open: networks on one path that differ beside it, what tells them apart, what all agree on."""

import numpy as np
import pytest

from nwb_lrrnn import (
    LeastSquaresRNN,
    LinearStateSpace,
    LowRankDynamics,
    equivalent_networks,
    suggest_perturbations,
)
from nwb_lrrnn.models.least_squares.equivalents import network_of
from nwb_lrrnn.models.least_squares.equivalents.known import noise_of_a_bin
from planted_fields import VAN_DER_POL, bistable, runge_kutta, samples, van_der_pol

STEP, PERIOD = 0.01, 667


@pytest.fixture(scope="module")
def path():
    """Return one period of the Van der Pol cycle."""
    return runge_kutta(van_der_pol, np.array([1.4, 0.0]), STEP, 4000)[-PERIOD:]


def regressed(z, velocity, inputs=None, **options):
    options = {"n_neurons": 60, "tau": 1.0, "bin_size": STEP, "random_state": 0} | options
    return LeastSquaresRNN(z.shape[1], **options).fit_samples(z, velocity, inputs)


@pytest.fixture(scope="module")
def pair(path):
    """Return the network of the field, and another that grows away from the path but for an input."""
    model = regressed(*samples(VAN_DER_POL, 2000, 0))
    rivals = {"growing": lambda z: 0.5 * z}
    ensemble = equivalent_networks(model, path=path, rivals=rivals, n_networks=2, random_state=0)
    return ensemble.isel(network=[0, -1])


def test_what_one_path_cannot_tell_apart_a_push_does(pair, path):
    along = van_der_pol(path[0])
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    gains = [float(across @ pair["propagator"].values[k] @ across) for k in (0, 1)]
    assert gains[0] == pytest.approx(0.018, abs=0.03)
    assert gains[1] == pytest.approx(28.1, rel=0.05)
    pushes = np.array([1e-3 * across, 0.05 * across])
    suggested = suggest_perturbations(pair, pushes, noise=0.02)
    assert suggested["number"].values.tolist() == [1, 0]
    assert suggested["passive_information"] < 1e-12
    assert suggested["passive_told_apart"] == 0
    best = suggested.isel(candidate=0)
    assert best["information"] == pytest.approx(np.log(2), rel=1e-3)
    assert best["told_apart"] == 1
    assert float(best["best_time"]) > 0.9 * PERIOD * STEP
    assert "0.693 of 0.693 nats, the path alone 0" in suggested.attrs["verdict"]
    # and so they are: whichever made the data, it is the one that they are nearer to; without the push neither is
    rng = np.random.default_rng(0)
    for push, is_told in ((np.zeros(2), False), (best["perturbation"].values, True)):
        runs = [run(pair, k, path[0] + push) for k in (0, 1)]
        for truth in (0, 1):
            seen = runs[truth] + 0.02 * rng.standard_normal(path.shape)
            log_odds = (((seen - runs[1 - truth]) ** 2).sum() - ((seen - runs[truth]) ** 2).sum()) / (2 * 0.02**2)
            assert (log_odds > 10) == is_told
            assert is_told or abs(log_odds) < 1e-3


def run(ensemble, number, start):
    """Return where a network goes from a start under the input it has along the path."""
    network, pushes = network_of(ensemble, number), ensemble["input"].values[number]
    found = [start]
    for push in pushes[:-1]:
        found.append(network.step(found[-1]) + network.alpha * push)
    return np.array(found)


def test_a_network_that_the_data_determine_is_the_same_in_all():
    rng = np.random.default_rng(1)
    z = rng.uniform(-3, 3, (1000, 2))
    planted = regressed(z, van_der_pol(z), n_neurons=15)
    again = regressed(z, planted.dynamics_.velocity(z), n_neurons=15, ridge=1e-10)
    ensemble = equivalent_networks(again, neurons="same", rivals=None, n_networks=8, random_state=0)
    assert ensemble["may_be_believed"].all()
    assert ensemble.attrs["verdict"].startswith("If no input is unknown, the networks agree in all that was asked")
    overlap = ensemble["overlap_interval"].sel(among="all")
    np.testing.assert_allclose(overlap.isel(bound=0), planted.dynamics_.overlap(), rtol=1e-4)
    np.testing.assert_allclose(overlap.isel(bound=1), planted.dynamics_.overlap(), rtol=1e-4)
    told = suggest_perturbations(ensemble)
    assert told["information"].max() < 1e-3  # but for the model's own penalty they are one network
    assert told.attrs["verdict"].startswith("No push of these tells the networks apart")
    # other neurons make the same field and rest at the same points; how they are connected was a draw
    model = regressed(*samples(VAN_DER_POL, 1000, 0), ridge=1e-8, bin_size=0.05)
    others = equivalent_networks(model, n_networks=4, random_state=0)["may_be_believed"].sel(among="without inputs")
    assert others.sel(quantity=["velocity", "jacobian", "fixed_point"]).all()
    assert not others.sel(quantity="overlap")


def test_a_cycle_alone_does_not_tell_what_is_beside_it(path):
    model = regressed(path, van_der_pol(path))
    ensemble = equivalent_networks(model, path=path, neurons="same", n_networks=8, random_state=0)
    believed = ensemble["may_be_believed"].sel(among="without inputs")
    assert believed.sel(quantity="velocity")
    assert not believed.sel(quantity=["gain", "fixed_point", "velocity_beyond"]).any()
    assert (ensemble["path_error"][1:] < 1e-3).all()
    assert not ensemble["may_be_believed"].sel(among="all").any()
    assert ensemble["name"].values.tolist()[-2:] == ["leak", "growing"]
    leak = ensemble["gain"].values[-2]
    assert leak == pytest.approx((1 - STEP) ** (PERIOD - 1), rel=1e-6)


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        z = rng.uniform(-1.5, 1.5, (150, 1))
        model = regressed(z, bistable(z) + 0.3 * rng.standard_normal(z.shape), n_neurons=30, bin_size=0.1)
        ensemble = equivalent_networks(model, neurons="same", rivals=None, n_networks=30, random_state=seed)
        low, high = ensemble["velocity_interval"].sel(among="without inputs").transpose("bound", ...).values
        truth, seen = bistable(ensemble["probe"].values), ~ensemble["is_beyond"].values
        covered.append(((low <= truth) & (truth <= high))[seen].mean())
    assert 0.75 < np.mean(covered) < 0.99  # of 0.9


def test_units_of_the_latents_do_not_matter():
    z, dz = samples(VAN_DER_POL, 400, 0)
    widths = []
    for size in (1.0, 50.0):
        model = regressed(size * z, size * dz, n_neurons=20, bin_size=0.1)
        found = equivalent_networks(model, neurons="same", n_networks=40, rivals=None, random_state=0)
        widths.append(found["width"].sel(among="all", quantity=["velocity", "gain", "jacobian"]).values)
    np.testing.assert_allclose(widths[1], widths[0], rtol=0.5)


def test_inputs_go_with_the_path():
    rng = np.random.default_rng(0)
    z, u = rng.uniform(-1.5, 1.5, (500, 1)), rng.uniform(-1, 1, (500, 1))
    along = np.sin(0.05 * np.arange(200))[:, None]
    for mode in ("neuron", "latent"):
        model = regressed(z, bistable(z) + u, u, input_mode=mode, ridge=1e-8)
        network, path = model.dynamics_, [np.array([0.5])]
        for v in along[:-1]:
            path.append(network.step(path[-1], v))
        ensemble = equivalent_networks(model, n_networks=3, path=path, path_inputs=along, random_state=0)
        np.testing.assert_allclose(ensemble["input"].values[0], 0, atol=1e-9)
        assert ensemble["path_error"].values[1:].max() < 1e-3
        assert suggest_perturbations(ensemble)["passive_information"] < 1e-9
        with pytest.raises(ValueError, match=r"path_inputs: got None, wanted \(200, 1\)"):
            equivalent_networks(model, path=path)


def test_a_recording_says_which_of_its_dynamics_to_believe():
    rng = np.random.default_rng(0)
    z = np.stack([np.sin(0.3 * np.arange(80)), np.cos(0.3 * np.arange(80))], axis=1)
    X = z @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(8, 80, 6))
    model = LeastSquaresRNN(2, n_neurons=30, random_state=0).fit(X)
    ensemble = equivalent_networks(model, X, n_networks=6, random_state=0)
    scores = ensemble["log_likelihood"].values
    np.testing.assert_allclose(scores[:7], scores[0], atol=0.05)  # nats per bin
    assert np.isnan(scores[7:]).all()
    assert ensemble["path"].shape == (80, 2)
    assert ensemble["may_be_believed"].sel(among="without inputs", quantity="velocity")
    assert not ensemble["may_be_believed"].sel(among="all", quantity="gain")
    assert (suggest_perturbations(ensemble)["information"] > 0.1).all()
    network = model.dynamics_
    shown = np.linalg.inv((network.loadings.T / network.observation_variance) @ network.loadings)
    floor = 1e-4 * np.diag(network.latent_covariance)
    variance = np.maximum(np.diag(network.latent_noise) + np.diag(shown), floor)
    np.testing.assert_allclose(ensemble["noise"], np.sqrt(variance), rtol=1e-9)
    with pytest.raises(ValueError, match="data: got None, wanted the X that the model was fitted to"):
        equivalent_networks(model)


def test_counts_show_the_latents_by_their_information():
    rng = np.random.default_rng(0)
    loadings = 0.3 * rng.standard_normal((20, 2))
    network = LowRankDynamics(
        np.eye(2), np.zeros((2, 2)), dt=0.1, tau=1.0, loadings=loadings, offset=np.full(20, 3.0),
        likelihood="poisson", link="exp", latent_noise=0.01 * np.eye(2),
    )  # fmt: skip
    path = rng.standard_normal((30, 2))
    told = network.expected(path).mean(axis=0)  # of a Poisson unit of link exp: its mean count
    wanted = 0.01 + np.diag(np.linalg.inv((loadings.T * told) @ loadings))
    np.testing.assert_allclose(noise_of_a_bin(network, path, None) ** 2, wanted, rtol=1e-9)


def test_what_is_wrong_with_an_experiment_is_said(pair):
    for candidates, kind, text in (
        (np.zeros((3, 3)), "push", r"candidates: got shape \(3, 3\), wanted \(candidate, 2\) of kind 'push'"),
        (np.zeros((3, 2)), "input", r"wanted \(candidate, 667, 2\) of kind 'input'"),
        (np.zeros((0, 2)), "start", "got 0, some not finite or none at all"),
        (None, "pulse", "kind: got 'pulse'"),
    ):
        with pytest.raises(ValueError, match=text):
            suggest_perturbations(pair, candidates, kind=kind)
    with pytest.raises(ValueError, match="noise: got 0.0"):
        suggest_perturbations(pair, noise=0.0)
    with pytest.raises(ValueError, match="ensemble: got a list"):
        suggest_perturbations([pair])
    started, held = (suggest_perturbations(pair, kind=kind) for kind in ("start", "input"))
    assert started["perturbation"].dims == ("candidate", "latent")
    assert held["perturbation"].dims == ("candidate", "time", "latent")
    twins = suggest_perturbations(pair.isel(network=[0, 0]))
    assert twins["information"].max() == 0


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"n_networks": 1}, ValueError, "n_networks: got 1"),
        ({"neurons": "old"}, ValueError, "neurons: got 'old'"),
        ({"rivals": ["shrinking"]}, ValueError, "rivals: got 'shrinking'"),
        ({"rivals": {"mine": 3}}, TypeError, r"rivals\['mine'\]: got a int"),
        ({"rivals": {"mine": lambda z: z[:, :0]}}, ValueError, r"rivals\['mine'\]: got dz/dt of shape"),
        ({"path": np.zeros((5, 2))}, ValueError, r"path: got shape \(5, 2\)"),
        ({"data": np.zeros((5, 1))}, ValueError, r"data: wanted \(latents, velocity\)"),
        ({"inputs": np.zeros((5, 1))}, ValueError, "inputs: got some beside samples"),
        ({"data": (np.zeros((5, 2)), np.zeros((5, 2)))}, ValueError, "data: got 2 latents and 0 inputs, wanted 1 and"),
    ],
)
def test_refusals(options, error, text):
    z = np.linspace(-1.5, 1.5, 100)[:, None]
    model = regressed(z, bistable(z), n_neurons=10)
    with pytest.raises(error, match=text):
        equivalent_networks(model, **options)


def test_a_network_that_runs_away_shares_no_path():
    z = np.linspace(-1, 1, 100)[:, None]
    model = regressed(z, 5 * z, n_neurons=20, nonlinearity="relu")
    with pytest.raises(ValueError, match="the network runs away from its samples"):
        equivalent_networks(model)
    assert equivalent_networks(model, path=z[::10], n_networks=2)["path"].shape == (10, 1)


def test_other_models_are_refused():
    X = np.random.default_rng(0).normal(size=(5, 40, 3))
    with pytest.raises(
        TypeError, match=r"LeastSquaresRNN\(rank, latents=model\).fit\(X\) is one that takes the latents"
    ):
        equivalent_networks(LinearStateSpace(1, max_iter=2))
    units = LeastSquaresRNN(1, latents="units", random_state=0).fit(X)
    with pytest.raises(ValueError, match="whose units are its neurons"):
        equivalent_networks(units, X)
    online = LeastSquaresRNN(1, n_neurons=10, tau=1.0, random_state=0).learn_samples(X[0, :, :1], X[0, :, 1:2])
    with pytest.raises(ValueError, match="this model learnt online"):
        equivalent_networks(online)
