"""What a field asks of a network, which samples tell most, what a trajectory leaves open, drift and diffusion."""

import numpy as np
import pytest

from nwb_lrrnn import LowRankDynamics
from nwb_lrrnn.models.least_squares.active import suggest_samples
from nwb_lrrnn.models.least_squares.along import drive_along, gain_along
from nwb_lrrnn.models.least_squares.expressivity import expressivity_report
from nwb_lrrnn.models.least_squares.features import draw_features
from nwb_lrrnn.models.least_squares.field import fit_field_samples
from nwb_lrrnn.models.least_squares.sde import fit_sde
from planted_fields import BISTABLE, VAN_DER_POL, error_of, lorenz, on_lorenz, runge_kutta, samples, van_der_pol


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_symmetries_of_a_field_are_told_and_what_they_cost():
    z = on_lorenz(500, 3)
    z = np.concatenate([z, -z])
    report = expressivity_report(z, lorenz(z), tau=0.1, g=lorenz, rng=_rng())
    even = (lorenz(z) + lorenz(-z)) / 2
    floor = (even**2).sum() / ((lorenz(z) - lorenz(z).mean(0)) ** 2).sum()
    np.testing.assert_allclose(report["even"], floor, rtol=1e-12)
    np.testing.assert_allclose(report["floor_odd"], floor, rtol=1e-3)
    assert f"without biases tanh neurons miss {float(report['floor_odd']):.2g}" in report.attrs["advice"]
    z, dz = samples(BISTABLE, 1500, 0)
    report = expressivity_report(z, dz, tau=1.0, g=BISTABLE.velocity, rng=_rng())
    assert report["even"] < 1e-20
    assert "the field is odd" in report.attrs["advice"]
    np.testing.assert_allclose(report["floor_homogeneous"], 0.6082, rtol=0.05)
    z = _rng().uniform(0.5, 1.5, (400, 2))  # never on the other side: what is there is not known
    assert "only 0% of the samples" in expressivity_report(z, z**2, tau=1.0, rng=_rng()).attrs["advice"]


def test_noise_of_the_rates_is_foretold():
    z, dz = samples(VAN_DER_POL, 800, 0)
    quiet, loud = (
        float(expressivity_report(z, dz, tau=1.0, rate_noise=sd, rng=_rng())["noise_error"]) for sd in (0.001, 0.1)
    )
    field = fit_field_samples(z, dz, tau=1.0, n_neurons=100, rate_noise=0.1, rng=_rng())
    noise = 0.1 * _rng(1).standard_normal((800, 100))
    measured = ((noise @ field.weights) ** 2).sum() / ((dz - dz.mean(0)) ** 2).sum()
    np.testing.assert_allclose(loud, measured, rtol=0.2)
    assert quiet < loud


def test_networks_share_a_path_and_answer_a_push_differently():
    path = runge_kutta(van_der_pol, np.array([1.4, 0.0]), 0.01, 4000)[-667:]
    z, dz = samples(VAN_DER_POL, 800, 0)
    cycle = fit_field_samples(z, dz, tau=1.0, n_neurons=60, rng=_rng()).to_dynamics(0.01)
    silent = np.zeros((2, 2))
    leak = LowRankDynamics(np.eye(2), silent, dt=0.01, tau=1.0, nonlinearity="identity")
    growing = leak.replace(right_vectors=2 * 1.5 * np.eye(2))  # dz/dt = z / 2
    for network, gain in ((cycle, None), (leak, np.exp(-6.66)), (growing, np.exp(3.33))):
        driven, inputs = drive_along(network, path)
        followed = driven.simulate(1, 667, inputs=inputs, initial_latents=path[0], random_state=0)["latents"][0]
        np.testing.assert_allclose(followed, path, atol=1e-8)
        found = gain_along(driven, path)
        if gain is not None:
            np.testing.assert_allclose(found, gain * np.eye(2), rtol=0.05, atol=1e-12)
        push = 1e-6 * np.array([0.6, 0.8])
        pushed = driven.simulate(1, 667, inputs=inputs, initial_latents=path[0] + push, random_state=0)["latents"][0]
        np.testing.assert_allclose((pushed - path)[-1], found @ push, rtol=1e-3, atol=1e-11)
    assert np.linalg.svd(gain_along(cycle, path), compute_uv=False)[-1] < 0.1  # the cycle takes back what is across
    with pytest.raises(ValueError, match="network: got one with 2 inputs"):
        drive_along(driven, path)
    with pytest.raises(ValueError, match="path: got shape"):
        drive_along(leak, path[:1])


def test_suggested_samples_tell_more_than_random_ones():
    test, truth = samples(VAN_DER_POL, 500, 999)
    gains = []
    for seed in range(3):
        pool, dz = samples(VAN_DER_POL, 400, seed)
        dz = dz + 0.01 * _rng(seed).standard_normal(dz.shape)
        features = draw_features(pool, 100, rng=_rng(seed), basis="gaussian")
        chosen = suggest_samples(features, pool, 60, penalty=60e-6, test=test)
        assert len(set(chosen)) == 60
        errors = [
            error_of(
                fit_field_samples(
                    pool[kept], dz[kept], tau=1.0, n_neurons=100, features=features, ridge=1e-6, rng=_rng()
                ).velocity(test),
                truth,
            )
            for kept in (chosen, np.arange(60))
        ]
        gains.append(errors[1] / errors[0])
    assert np.median(gains) > 2


def test_what_counts_is_where_the_density_is():
    pool = np.array([[0.0], [0.1], [50.0], [-0.1]])
    features = draw_features(np.linspace(-1, 1, 20)[:, None], 30, nonlinearity="relu", rng=_rng())
    test, near = np.array([[0.0], [50.0]]), np.array([1.0, 0.0])
    assert suggest_samples(features, pool, 1, penalty=1.0, criterion="variance")[0] == 2  # the outlier
    assert suggest_samples(features, pool, 1, penalty=1.0, test=test, density=near)[0] != 2
    paths = [np.zeros((5, 1)), np.linspace(-1, 1, 5)[:, None], np.zeros((5, 1))]
    for criterion in ("test", "variance"):
        assert suggest_samples(features, paths, 1, penalty=1e-3, criterion=criterion)[0] == 1
    # what has been seen need not be seen again
    seen = np.repeat(paths[1], 100, axis=0)
    again = suggest_samples(features, [paths[1], 3 + paths[1]], 1, penalty=1e-3, seen=seen, criterion="variance")
    assert again[0] == 1
    with pytest.raises(ValueError, match="n: got 9, wanted at most 4"):
        suggest_samples(features, pool, 9, penalty=1.0)
    with pytest.raises(ValueError, match="density: got shape"):
        suggest_samples(features, pool, 1, penalty=1.0, density=np.ones(3))


def test_drift_and_diffusion_of_a_double_well():
    rng, h = _rng(), 0.01
    z = rng.uniform(-1.5, 1.5, (300, 1))
    paths = [z]
    for _ in range(300):
        noise = 0.6 * np.sqrt(1 + 0.5 * z**2)  # it grows outwards
        z = z + h * (z - z**3) + np.sqrt(h) * noise * rng.standard_normal(z.shape)
        paths.append(z)
    trials = list(np.array(paths).swapaxes(0, 1))
    network = fit_sde(trials, h, tau=1.0, n_neurons=20, rng=_rng())
    at = np.linspace(-1.3, 1.3, 50)[:, None]
    assert error_of(network.velocity(at), at - at**3) < 0.05
    true = 0.36 * (1 + 0.5 * at[:, 0] ** 2)
    np.testing.assert_allclose(network.diffusion(at)[:, 0, 0], true, rtol=0.1)
    later = network.simulate(z, h, 100, rng=_rng(1))[-1]
    np.testing.assert_allclose(later.std(), z.std(), rtol=0.15)
