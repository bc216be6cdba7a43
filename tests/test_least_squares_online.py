"""Learning sample by sample: the same weights as all at once, networks that stay on the cycle, FORCE beside them."""

import numpy as np
import pytest

from nwb_lrrnn.models.least_squares.features import draw_features
from nwb_lrrnn.models.least_squares.field import fit_field_samples
from nwb_lrrnn.models.least_squares.force import ForceNetwork
from nwb_lrrnn.models.least_squares.online import FieldLearner, RecursiveLeastSquares, learn_online
from nwb_lrrnn.models.least_squares.ridge import ridge
from planted_fields import VAN_DER_POL, runge_kutta, samples, van_der_pol

_STEP, _PERIOD = 0.01, 666  # steps of a period


@pytest.fixture(scope="module")
def cycle():
    """Return 8 periods of the cycle, (T, 2), from its start."""
    on_it = runge_kutta(van_der_pol, np.array([1.4, 0.0]), 0.05, 600)[-1]
    return runge_kutta(van_der_pol, on_it, _STEP, 8 * _PERIOD)


@pytest.mark.parametrize("forgetting", [1.0, 0.99])
@pytest.mark.parametrize("intercept", [True, False])
def test_sample_by_sample_is_all_at_once(forgetting, intercept):
    rng = np.random.default_rng(0)
    rates = np.tanh(rng.standard_normal((400, 3)) @ rng.standard_normal((3, 40)) + rng.standard_normal(40))
    wanted = rng.standard_normal((400, 2)) + 7.0
    kept = forgetting ** np.arange(399, -1, -1.0)
    for penalty in (1e-1, 1e-3):
        options = {"forgetting": forgetting, "intercept": intercept}
        single, blocks = (RecursiveLeastSquares(40, 2, penalty, **options) for _ in range(2))
        for row, y in zip(rates, wanted, strict=True):
            single.update(row, y)
        blocks.update(rates[:123], wanted[:123]).update(rates[123:], wanted[123:])
        left = penalty * forgetting**400 / kept.sum()  # what is left of the prior
        weights, offset = ridge(rates, wanted, left, weight=kept, intercept=intercept)
        for learnt in (single, blocks):
            np.testing.assert_allclose(learnt.weights, weights, rtol=0, atol=1e-8 * np.abs(weights).max())
            np.testing.assert_allclose(learnt.predict(rates), rates @ weights + offset, atol=1e-8)


def test_what_is_forgotten_does_not_blow_up_and_what_changed_is_learnt():
    rng = np.random.default_rng(0)
    learnt = RecursiveLeastSquares(3, 1, 1.0, forgetting=0.9)
    for _ in range(3):
        learnt.update(np.tile([1.0, 0.0, 0.0], (3000, 1)), np.ones((3000, 1)))
    assert np.isfinite(learnt.P).all()
    assert np.trace(learnt.P) <= 3e6 * (1 + 1e-9)
    rates = rng.standard_normal((300, 3))
    learnt.update(rates, rates @ [[1.0], [2.0], [3.0]] - 4.0)
    np.testing.assert_allclose(learnt.weights[:, 0], [1.0, 2.0, 3.0], atol=1e-6)
    np.testing.assert_allclose(learnt.intercept, -4.0, atol=1e-6)


def test_a_learner_of_a_field_is_its_regression():
    z, dz = samples(VAN_DER_POL, 500, 0)
    batch = fit_field_samples(z, dz, tau=1.0, n_neurons=40, ridge=1e-5, rng=np.random.default_rng(0))
    learner = FieldLearner(batch.features, 1.0, penalty=500 * 1e-5)
    learner.learn(z[:200], dz[:200]).learn(z[200:], dz[200:])
    found = learner.field
    np.testing.assert_allclose(found.velocity(z), batch.velocity(z), atol=1e-7)
    np.testing.assert_allclose(found.latent_covariance, batch.latent_covariance)
    assert (found.n_samples, found.penalty) == (500, pytest.approx(1e-5))


def _learner(cycle, n_neurons, seed):
    rng, scale = np.random.default_rng(seed), cycle.std(0)
    drawn = draw_features(cycle / scale, n_neurons, basis="gaussian", rng=rng)
    features = drawn.of_units(np.zeros(2), scale, np.zeros(0), np.zeros(0))
    return FieldLearner(features, 1.0, penalty=1e-4), rng


def _first_period(outputs, cycle):
    return np.sqrt(np.mean((outputs[:_PERIOD] - cycle[-_PERIOD:]) ** 2)) / cycle.std()


def test_one_pass_of_a_cycle_is_enough_and_force_is_behind(cycle):
    seen = cycle[:-_PERIOD:2]
    mine, forced = [], []
    for seed in range(2):
        learner, _ = _learner(cycle, 100, seed)
        learner.learn(seen, van_der_pol(seen))
        mine.append(_first_period(runge_kutta(learner.velocity, cycle[-_PERIOD], _STEP, _PERIOD), cycle))
        network = ForceNetwork(50, 2, dt=_STEP, tau=10 * _STEP, rng=np.random.default_rng(seed))
        network.train(cycle[:-_PERIOD])
        forced.append(_first_period(network.run(_PERIOD), cycle))
    assert max(mine) <= 1e-3
    assert 10 * max(mine) < min(forced) < 0.5  # and FORCE does learn


def test_disturbed_states_teach_what_happens_beside_the_cycle(cycle):
    for seed in range(2):
        learner, rng = _learner(cycle, 100, seed)
        states = cycle[::2] + 0.1 * rng.standard_normal(cycle[::2].shape)
        learner.learn(states, van_der_pol(states))
        later = runge_kutta(learner.velocity, 1.3 * cycle[0], 0.05, 700)[-150:]
        np.testing.assert_allclose(np.abs(later).max(0), np.abs(cycle).max(0), rtol=0.02)


@pytest.mark.parametrize("states", ["clamped", "perturbed", "closed"])
def test_a_running_system_is_learnt_from(states, cycle):
    learner, rng = _learner(cycle, 60, 0)
    options = {"step": 0.02, "n_steps": 700, "states": states, "rng": rng}
    fed = learn_online(learner, van_der_pol, cycle[0], **options)
    assert fed.shape == (350, 2)
    reach = np.abs(fed).max(0) / np.abs(cycle).max(0)
    assert (reach < (2.01 if states == "closed" else 1.3)).all()
    distance = np.linalg.norm(fed[:, None] - cycle[None, ::5], axis=-1).min(1)
    assert (np.median(distance) > 0.02) == (states == "perturbed")
    ahead = runge_kutta(learner.velocity, cycle[-_PERIOD], _STEP, _PERIOD)
    assert _first_period(ahead, cycle) < 0.1


def test_refusals():
    with pytest.raises(ValueError, match="ridge: got 0"):
        RecursiveLeastSquares(3, 1, 0)
    with pytest.raises(ValueError, match="forgetting: got 1.5"):
        RecursiveLeastSquares(3, 1, 1.0, forgetting=1.5)
    z = np.eye(4)[:, :2]
    learner = FieldLearner(draw_features(z, 3, rng=np.random.default_rng(0)), 1.0, penalty=1.0)
    with pytest.raises(ValueError, match="field: got no samples"):
        _ = learner.field
    with pytest.raises(ValueError, match="latents: got nan at sample 1"):
        learner.learn(np.array([[0.0, 0.0], [np.nan, 0.0]]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="states: got 'open'"):
        learn_online(learner, van_der_pol, z[0], step=0.1, n_steps=2, states="open", rng=np.random.default_rng(0))
