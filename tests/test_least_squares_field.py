"""Fields turned into networks by regression: known answers, the floors of symmetry, penalties, guards."""

import numpy as np
import pytest

from nwb_lrrnn.models.least_squares.field import fit_field_samples
from nwb_lrrnn.models.least_squares.penalty import choose_penalty
from nwb_lrrnn.models.least_squares.ridge import NormalEquations, ridge
from planted_fields import BISTABLE, VAN_DER_POL, WILSON_COWAN, error_of, lorenz, on_lorenz, samples


def _fit(target, n_neurons=100, n=1500, seed=0, **options):
    z, dz = samples(target, n, seed)
    options = {"ridge": 1e-8, "rng": np.random.default_rng(seed)} | options
    return fit_field_samples(z, dz, tau=target.tau, n_neurons=n_neurons, **options)


def _error(fitted, target):
    z, dz = samples(target, 2000, 999)
    return error_of(fitted.velocity(z), dz)


def test_known_fields_are_embedded():
    cycle = [_error(_fit(VAN_DER_POL, seed=seed, basis="gaussian"), VAN_DER_POL) for seed in range(3)]
    assert np.median(cycle) <= 4e-5
    wells = [_error(_fit(BISTABLE, nonlinearity="relu", seed=seed), BISTABLE) for seed in range(3)]
    assert np.median(wells) <= 4e-4
    z, test = on_lorenz(2000, 1, noise=0.2), on_lorenz(1000, 2)
    network = fit_field_samples(
        z, lorenz(z), tau=0.1, n_neurons=200, basis="gaussian", ridge=1e-8, rng=np.random.default_rng(0)
    )
    assert error_of(network.velocity(test), lorenz(test)) <= 1e-4


def test_the_network_is_the_field():
    z, dz = samples(VAN_DER_POL, 600, 0)
    fitted = fit_field_samples(3 + 5 * z, 5 * dz, tau=0.5, n_neurons=80, ridge=1e-7, rng=np.random.default_rng(0))
    network = fitted.to_dynamics(0.01)
    at = 3 + 5 * samples(VAN_DER_POL, 50, 1)[0]
    np.testing.assert_allclose(network.velocity(at), fitted.velocity(at), atol=1e-11)
    np.testing.assert_allclose(fitted.velocity(at), 5 * VAN_DER_POL.velocity((at - 3) / 5), atol=0.3)
    same = fit_field_samples(
        z, dz, tau=0.5, n_neurons=80, ridge=1e-7, rng=np.random.default_rng(0)
    )  # units do not matter
    np.testing.assert_allclose(same.velocity((at - 3) / 5), fitted.velocity(at) / 5, atol=1e-7)


def test_odd_neurons_make_odd_fields_and_homogeneous_ones_homogeneous_fields():
    z = on_lorenz(700, 3)
    z = np.concatenate([z, -z])
    dz = lorenz(z)
    even = (dz + lorenz(-z)) / 2
    floor = (even**2).sum() / ((dz - dz.mean(0)) ** 2).sum()
    rng = np.random.default_rng(0)
    without = fit_field_samples(z, dz, tau=0.1, n_neurons=2, rng=rng, intercept=False)
    odd = without.features.__class__(rng.standard_normal((300, 3)), np.zeros(300), np.zeros((300, 0)), "tanh")
    fitted = fit_field_samples(z, dz, tau=0.1, n_neurons=300, features=odd, intercept=False, ridge=1e-12, rng=rng)
    np.testing.assert_allclose(error_of(fitted.velocity(z), dz), floor, rtol=1e-6)
    assert not fitted.drive.any()
    z, dz = samples(BISTABLE, 2000, 0)
    rays = odd.__class__(np.array([[1.0], [-1.0]]), np.zeros(2), np.zeros((2, 0)), "relu")
    fitted = fit_field_samples(z, dz, tau=1.0, n_neurons=2, features=rays, intercept=False, ridge=1e-10, rng=rng)
    np.testing.assert_allclose(error_of(fitted.velocity(z), dz), 0.6082, rtol=0.05)


def test_sums_over_blocks_say_what_all_samples_say():
    rng = np.random.default_rng(0)
    rates, wanted, weight = rng.standard_normal((500, 30)), rng.standard_normal((500, 2)), rng.uniform(size=500)
    rates[:, -1] += 100.0  # a free column far from 0
    equations = NormalEquations(n_free=1)
    parts = [
        NormalEquations(n_free=1).add(rates[i : i + 77], wanted[i : i + 77], weight[i : i + 77])
        for i in range(0, 500, 77)
    ]
    for part in parts:
        equations.merge(part)
    for intercept in (True, False):
        direct = ridge(rates, wanted, 1e-8, weight=weight, n_free=1, intercept=intercept)
        for one, other in zip(equations.solve(1e-8, intercept=intercept), direct, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * max(1, np.abs(other).max()))
    missed = wanted - direct[1] - rates @ direct[0]
    weights, offset = equations.solve(1e-8)
    missed = wanted - offset - rates @ weights
    np.testing.assert_allclose(equations.residual(weights), (weight[:, None] * missed).T @ missed / weight.sum())


def test_what_is_forgotten_weighs_less():
    rng = np.random.default_rng(0)
    rates, wanted = rng.standard_normal((300, 10)), rng.standard_normal((300, 2))
    equations = NormalEquations().add(rates[:200], wanted[:200]).forget(0.3).add(rates[200:], wanted[200:])
    direct = ridge(rates, wanted, 1e-3, weight=np.repeat([0.3, 1.0], [200, 100]))
    for one, other in zip(equations.solve(1e-3), direct, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    with pytest.raises(ValueError, match="kept: got 2"):
        equations.forget(2)


def test_a_shift_is_taken_by_what_is_not_penalised():
    rng = np.random.default_rng(0)
    rates, wanted = rng.standard_normal((200, 10)), rng.standard_normal((200, 2))
    weights, offset = ridge(rates, wanted, 10.0)
    shifted, further = ridge(rates + 3.0, wanted + 5.0, 10.0)
    np.testing.assert_allclose(shifted, weights, atol=1e-12)
    np.testing.assert_allclose(further, offset + 5.0 - 3.0 * weights.sum(0), atol=1e-12)


def test_the_best_penalty_is_the_variance_of_the_noise_of_rates():
    z, dz = samples(WILSON_COWAN, 1500, 0)
    at, truth = samples(WILSON_COWAN, 1000, 1)
    noise = 0.01 * np.random.default_rng(2).standard_normal((1000, 150))
    errors = {}
    for penalty in 10.0 ** np.arange(-8, 1):
        fitted = fit_field_samples(
            z, dz, tau=1.0, n_neurons=150, ridge=penalty, basis="gaussian", rng=np.random.default_rng(0)
        )
        errors[penalty] = error_of(fitted.velocity(at) + noise @ fitted.weights, truth)
    assert 1e-5 <= min(errors, key=errors.__getitem__) <= 1e-3


def test_penalties_chosen_by_data_grow_with_the_noise_of_the_targets():
    z, dz = samples(VAN_DER_POL, 300, 0)
    rates = np.tanh(z @ np.random.default_rng(1).standard_normal((2, 60)) + np.linspace(-1, 1, 60))
    noise = np.random.default_rng(2).standard_normal(dz.shape)
    for rule in ("cv", "evidence"):
        chosen = [choose_penalty(rule, rates, z + dz + sd * noise) for sd in (0.01, 0.3)]
        assert chosen[0] < chosen[1] / 10, rule
    null = choose_penalty("evidence", rates, noise)
    assert null > 1e-2  # nothing to be found: weights are held to 0
    assert choose_penalty("noise", rate_noise=0.02) == pytest.approx(4e-4)


@pytest.mark.parametrize("mode", ["latent", "neuron"])
def test_inputs_enter_the_latents_or_the_neurons(mode):
    rng = np.random.default_rng(0)
    z, u = rng.standard_normal((800, 1)), 3.0 + rng.standard_normal((800, 1))
    dz = -z + (0.7 * u if mode == "latent" else np.tanh(z + u - 3.0))
    fitted = fit_field_samples(
        z, dz, tau=1.0, n_neurons=60, ridge=1e-8, inputs=u, input_mode=mode, rng=np.random.default_rng(1)
    )
    assert error_of(fitted.velocity(z, u), dz) < 2e-4
    np.testing.assert_allclose(fitted.to_dynamics(0.1).velocity(z, u), fitted.velocity(z, u), atol=1e-9)
    if mode == "latent":
        np.testing.assert_allclose(fitted.latent_input_weights, [[0.7]], atol=1e-4)


def test_where_the_field_was_never_seen_is_said():
    fitted = _fit(VAN_DER_POL, n_neurons=50)
    assert list(fitted.is_extrapolating(np.array([[0.0, 0.0], [30.0, 0.0]]))) == [False, True]
    assert "fewer than 3 for each" in _fit(VAN_DER_POL, n_neurons=50, n=100).warnings[0]
    assert not _fit(VAN_DER_POL, n_neurons=30, n=100).warnings


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ridge": 0}, "ridge: got 0, wanted a finite number > 0: without a penalty"),
        ({"ridge": "loo"}, "wanted 'noise', 'cv', 'evidence' or a number"),
        ({"basis": "nengo"}, "basis: got 'nengo'"),
        ({"tau": -1.0}, "tau: got -1.0"),
        ({"input_mode": "both"}, "input_mode"),
        ({"weight": -np.ones(9)}, "weight: got shape"),
        ({"inputs": np.ones((3, 1))}, "inputs: got 3 samples, wanted 9"),
        ({"latents": np.full((9, 2), np.nan)}, "latents: got nan at sample 0, column 0"),
        ({"velocity": np.zeros((9, 3))}, "velocity: got shape"),
        ({"rate_noise": 0.0}, "rate_noise: got 0.0"),
    ],
)
def test_refusals(change, text):
    given = {"latents": np.eye(9)[:, :2], "velocity": np.zeros((9, 2)), "tau": 1.0, "n_neurons": 3}
    given |= {"rng": np.random.default_rng(0)} | change
    with pytest.raises(ValueError, match=text.replace("(", r"\(")):
        fit_field_samples(given.pop("latents"), given.pop("velocity"), **given)
