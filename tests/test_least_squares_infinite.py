"""Networks of infinitely many neurons: closed forms, error bars, laws of neurons, files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

import nwb_lrrnn as lr
from nwb_lrrnn.dynamics.nonlinearity import phi
from nwb_lrrnn.models.least_squares import limits
from planted_fields import VAN_DER_POL, error_of, lorenz, on_lorenz, samples


@pytest.mark.parametrize("name", limits.KERNELS)
def test_kernels_are_means_over_many_neurons(name):
    rng = np.random.default_rng(0)
    points, a, c = rng.standard_normal((4, 2)), np.array([1.3, 0.6]), 0.8
    x = points @ (a * rng.standard_normal((400_000, 2))).T + c * rng.standard_normal(400_000)
    sampled = phi(name, x) @ phi(name, x).T / 400_000
    closed = limits.kernel(name, points, points, a, c)
    np.testing.assert_allclose(closed, sampled, atol=5e-3 * max(1.0, np.diag(closed).max()))
    np.testing.assert_allclose(limits.own_kernel(name, points, a, c), np.diag(closed), rtol=1e-7)
    if name == "relu":
        np.testing.assert_allclose(np.diag(closed), (points**2 @ a**2 + c**2) / 2, rtol=1e-7)


def test_the_gradient_of_the_likelihood_finds_its_maximum():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((80, 2))
    cover = limits.kernel("erf", points, points, np.array([1.0, 0.3]), 0.5)
    drawn = np.linalg.cholesky(cover + 1e-10 * np.eye(80)) @ rng.standard_normal((80, 2))
    law = limits.most_likely("erf", points, drawn + 0.1 * rng.standard_normal((80, 2)))
    assert law.encoder_scale[0] > 1.5 * law.encoder_scale[1]
    np.testing.assert_allclose(law.noise, 0.1, rtol=0.5)
    null = limits.most_likely("erf", points, rng.standard_normal((80, 1)))
    assert null.noise[0] > 0.7  # nothing but noise


@pytest.fixture(scope="module")
def tuned():
    z = on_lorenz(600, 1, noise=0.2)
    return {tune: lr.InfiniteRNN(tau=0.1, tune=tune, n_neurons=60).fit(z, lorenz(z)) for tune in ("evidence", "none")}


def test_neurons_of_the_law_found_need_be_fewer_and_pay_with_weights(tuned):
    z = on_lorenz(800, 2)
    errors = {}
    for tune, model in tuned.items():
        fields = [model.finite_network(20, ridge=1e-8, random_state=seed) for seed in range(3)]
        errors[tune] = np.median([error_of(field.velocity(z), lorenz(z)) for field in fields])
        assert any("weights reach" in text for text in fields[0].warnings) == (tune == "evidence")
    assert errors["evidence"] < errors["none"] / 30
    tanh = tuned["evidence"].finite_network(20, nonlinearity="tanh", ridge=1e-8)
    assert error_of(tanh.velocity(z), lorenz(z)) < errors["none"] / 10


def test_error_bars_cover_the_field_and_open_where_it_was_not_seen():
    z, dz = samples(VAN_DER_POL, 150, 0)
    noisy = dz + 0.1 * np.random.default_rng(1).standard_normal(dz.shape)
    model = lr.InfiniteRNN(tau=1.0, tune="likelihood").fit(z, noisy)
    at, truth = samples(VAN_DER_POL, 400, 1)
    velocity, error = model.predict(at, return_std=True)
    assert error_of(velocity, truth) < 5e-3
    assert 0.8 < np.mean(np.abs(velocity - truth) < 2 * error) <= 1.0
    _, far = model.predict(10 * at[:5], return_std=True)
    assert (far > 5 * np.median(error)).all()
    drawn = np.array([field.velocity(at) for field in model.sample_networks(30, 300)])
    np.testing.assert_allclose(np.median(drawn.std(0) / error), 1.0, rtol=0.3)
    assert error_of(drawn.mean(0), velocity) < 2e-3


def test_units_and_order_of_samples_do_not_matter():
    z, dz = samples(VAN_DER_POL, 60, 0)
    one = lr.InfiniteRNN(tau=1.0, tune="none").fit(z, dz)
    other = lr.InfiniteRNN(tau=1.0, tune="none").fit(5 + 3 * z[::-1], 3 * dz[::-1])
    np.testing.assert_allclose(3 * one.predict(z), other.predict(5 + 3 * z), atol=1e-7)


@pytest.mark.parametrize("with_inputs", [False, True])
def test_a_file_gives_the_same_numbers(tmp_path, with_inputs):
    z, dz = samples(VAN_DER_POL, 50, 0)
    u = np.random.default_rng(0).standard_normal((50, 1)) if with_inputs else None
    model = lr.InfiniteRNN("relu", tau=0.5, n_neurons=10).fit(z, dz if u is None else dz + u, u)
    loaded = lr.load_model(lr.write_results(tmp_path / "field.nwb", model))
    for one, other in zip(model.predict(z, u, return_std=True), loaded.predict(z, u, return_std=True), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.get_params() == model.get_params()
    if with_inputs:
        with pytest.raises(ValueError, match="inputs: got None"):
            model.predict(z)


def test_a_file_of_version_0_1_opens(tmp_path):
    kept = Path(__file__).parent / "fixtures" / "fields_0_1"
    (tmp_path / "field.nwb").write_bytes(gzip.decompress((kept / "infinite.nwb.gz").read_bytes()))
    said = np.load(kept / "infinite.npz")
    model = lr.load_model(tmp_path / "field.nwb")
    velocity, error = model.predict(said["latents"], return_std=True)
    np.testing.assert_allclose(velocity, said["velocity"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(error, said["error"], rtol=1e-5, atol=1e-6)
    network = model.finite_network(30).to_dynamics(0.01)
    np.testing.assert_allclose(network.velocity(said["latents"]), said["network"], rtol=1e-4, atol=1e-4)


def test_refusals():
    z, dz = samples(VAN_DER_POL, 60, 0)
    with pytest.raises(ValueError, match="tune: 'likelihood' moves the kinks of relu out of the data"):
        lr.InfiniteRNN("relu", tune="likelihood").fit(z, dz)
    with pytest.raises(ValueError, match="nonlinearity: got 'tanh'"):
        lr.InfiniteRNN("tanh").fit(z, dz)
    with pytest.raises(ValueError, match="tune: got 'ml'"):
        lr.InfiniteRNN(tune="ml").fit(z, dz)
    with pytest.raises(ValueError, match="latents: got shape"):
        lr.InfiniteRNN(tune="none").fit(z, dz).predict(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="dataset: got that of a LowRankRNN"):
        lr.InfiniteRNN.from_dataset(
            lr.InfiniteRNN(tune="none").fit(z, dz).to_dataset().assign_attrs(estimator="LowRankRNN")
        )
