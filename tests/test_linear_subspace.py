"""Subspace identification against known lagged covariances, and the oscillations that EM misses without it."""

import numpy as np
import pytest

from nwb_lrrnn.models.linear import LinearStateSpace, counts, em, subspace
from nwb_lrrnn.models.linear.em_runs import EMRun, race
from nwb_lrrnn.models.linear.factor_start import start_from_factors
from nwb_lrrnn.models.linear.observations import prepare
from nwb_lrrnn.models.linear.smoothing import Moments
from nwb_lrrnn.trials import as_trials

MODULUS, ANGLE = 0.98, 0.3


def turn(modulus=MODULUS, angle=ANGLE):
    return modulus * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def one_phase(n_trials=30, n_steps=60, n_units=8, seed=0, inputs=None):
    """Return what all units see of a noisy rotation: the first of its two latents, (trial, time, unit)."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_trials, 2))
    seen = np.empty((n_trials, n_steps))
    for t in range(n_steps):
        seen[:, t] = z[:, 0]
        z = z @ turn().T + np.sqrt(1 - MODULUS**2) * rng.standard_normal(z.shape)
        if inputs is not None:
            z[:, 0] += inputs[:, t, 0]
    return seen[..., None] * rng.uniform(0.5, 1.0, n_units), rng


def gaussian(**options):
    seen, rng = one_phase(**options)
    return seen + rng.standard_normal(seen.shape)


def poisson(**options):
    seen, rng = one_phase(**options)
    return rng.poisson(np.logaddexp(0, 1.5 + 1.5 * seen))


def overdispersed_cosine():
    rng = np.random.default_rng(0)
    rate = 2 + 1.5 * np.cos(0.3 * np.arange(50) + rng.uniform(0, 6, (10, 1)))
    spread = rng.gamma(4.0, 0.25, size=(10, 50, 8))
    return rng.poisson(rate[..., None] * rng.uniform(0.5, 1.5, 8) * spread)


def check_oscillation(transition, modulus):
    value = np.linalg.eigvals(transition)
    value = value[np.argmax(value.imag)]
    assert abs(np.angle(value) / ANGLE - 1) < 0.03
    assert abs(abs(value) - modulus) < 0.02


# --- the realisation -------------------------------------------------------------------------------------------------


def exact_lags(loadings, transition, noise, n_lags):
    """Return Lambda_l of latents of stationary covariance I."""
    powers = [np.linalg.matrix_power(transition, lag) for lag in range(n_lags)]
    lags = np.stack([loadings @ power @ loadings.T for power in powers])
    lags[0] += noise * np.eye(len(loadings))
    return lags


@pytest.mark.parametrize("floor", subspace._WHITENING_FLOORS)
@pytest.mark.parametrize("hidden", [False, True])
def test_realisation_of_exact_covariances_is_exact(floor, hidden):
    transition = np.zeros((3, 3))
    transition[:2, :2], transition[2, 2] = turn(), -0.6
    loadings = np.random.default_rng(3).standard_normal((4, 3))
    if hidden:
        loadings[:, 1] = 0.0
    lags = exact_lags(loadings, transition, 2.0, 10)
    modes = subspace._modes(*subspace._realise(lags, 5, 3, floor))
    found, shown, strength = subspace._explained(modes, lags)
    wanted = np.sort_complex(np.linalg.eigvals(transition))
    np.testing.assert_allclose(np.sort_complex(np.linalg.eigvals(found)), wanted, atol=1e-8)
    for lag in range(1, 15):  # extrapolated as well
        power = np.linalg.matrix_power(found, lag)
        wanted = loadings @ np.linalg.matrix_power(transition, lag) @ loadings.T
        np.testing.assert_allclose(shown @ power @ shown.T, wanted, atol=1e-7)
    assert strength.min() > 0.1
    np.testing.assert_allclose(found @ found.T, np.diag(np.diag(found @ found.T)), atol=1e-12)  # normal


def test_eigenvalues_beyond_the_unit_circle_shrink_into_it():
    lags = exact_lags(np.ones((2, 2)) + np.eye(2), turn(1.05), 1.0, 8)
    (mode,) = subspace._modes(*subspace._realise(lags, 4, 2, 5.0))
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(mode[0])), 0.999, rtol=1e-12)


@pytest.mark.parametrize("case", ["ragged", "entries"])
def test_lagged_covariances_pool_the_observed_pairs_of_bins(case):
    rng = np.random.default_rng(0)
    if case == "ragged":
        x = [rng.standard_normal((n, 3)) for n in (9, 5, 7)]
    else:
        x = rng.standard_normal((3, 9, 3))
        x[rng.uniform(size=x.shape) < 0.3] = np.nan
    data = prepare(as_trials(x, allow_nan=True), None)
    basis = rng.standard_normal((3, 2))
    got = subspace._lagged_covariances(data.values, data.weights, basis, 3)
    weights = np.broadcast_to(data.weights if case == "entries" else data.weights[..., None], data.values.shape)
    for lag in range(3):
        wanted = np.zeros((3, 3))
        for i in range(3):
            for j in range(3):
                pairs = [
                    data.values[k, t + lag, i] * data.values[k, t, j]
                    for k in range(3)
                    for t in range(9 - lag)
                    if weights[k, t + lag, i] and weights[k, t, j]
                ]
                wanted[i, j] = np.mean(pairs)
        np.testing.assert_allclose(got[lag], basis.T @ wanted @ basis, atol=1e-12)


# --- what EM finds ---------------------------------------------------------------------------------------------------


def test_gaussian_oscillation_seen_at_one_phase_is_found():
    fitted = em.fit(as_trials(gaussian()), 2)
    check_oscillation(fitted.system.transition, MODULUS)
    data = prepare(as_trials(gaussian()), None)
    system = start_from_factors(data, 2)  # the start of before, which ends on two real eigenvalues
    for _ in range(30):
        system = em.maximise(system, em.expect(system, data), data, 0.0)
    alone = em.expect(system, data).log_likelihood.sum() + data.log_jacobian()
    assert fitted.log_likelihood[-1] > alone / data.n_bins + 0.1


def test_poisson_oscillation_seen_at_one_phase_is_found():
    check_oscillation(counts.fit(as_trials(poisson()), 2).system.transition, MODULUS)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_oscillation_in_overdispersed_counts_is_found(likelihood):
    model = LinearStateSpace(2, likelihood=likelihood).fit(overdispersed_cosine())
    check_oscillation(model.transition_matrix(), 0.99)


def test_oscillation_is_found_in_ragged_trials_with_missing_entries():
    values = gaussian(n_trials=40)
    rng = np.random.default_rng(1)
    values[rng.uniform(size=values.shape) < 0.1] = np.nan
    ragged = [trial[:n] for trial, n in zip(values, rng.integers(20, 61, 40), strict=True)]
    check_oscillation(em.fit(as_trials(ragged, allow_nan=True), 2).system.transition, MODULUS)


def test_oscillation_is_found_beside_a_rhythm_of_the_inputs():
    rng = np.random.default_rng(0)
    inputs = 0.5 * np.cos(0.9 * np.arange(60)[:, None] + rng.uniform(0, 6, (30, 1, 1)))
    values = gaussian(inputs=inputs)
    data = prepare(as_trials(values), inputs)
    for start in subspace.starts_from_subspace(data, 2):
        assert abs(np.angle(np.linalg.eigvals(start.transition)[0])) < 0.5
    check_oscillation(em.fit(as_trials(values, inputs=inputs), 2).system.transition, MODULUS)


def test_many_units_are_projected():
    seen, rng = one_phase(n_units=150)
    values = seen + 4.0 * rng.standard_normal(seen.shape)
    check_oscillation(em.fit(as_trials(values), 2, max_iter=20).system.transition, MODULUS)


# --- where there is little to go by ----------------------------------------------------------------------------------


def awkward(case):
    values = gaussian(n_trials=12, n_steps=20, n_units=5)
    if case == "constant units":
        values[..., 1] = 3.0
        values[..., 3] = 0.0
    elif case == "all constant":
        values = np.broadcast_to(np.arange(5.0), values.shape)
    elif case == "short":
        values = values[:, :4]
    elif case == "one trial":
        values = values[:1]
    elif case == "no noise":
        values = np.cos(0.3 * np.arange(20))[None, :, None] * np.ones((12, 1, 5))
    elif case == "unit never seen together":
        values[:, ::2, 0] = np.nan
        values[:, 1::2, 1] = np.nan
    elif case == "one unit":
        values = values[..., :1]
    return values


CASES = ["whole", "constant units", "all constant", "short", "one trial", "no noise", "unit never seen together"]


@pytest.mark.parametrize("case", [*CASES, "one unit"])
def test_starts_are_proper_systems_of_the_rank_asked_for(case):
    values = awkward(case)
    rank = values.shape[2]  # as many latents as units: more than the Hankel matrix has
    data = prepare(as_trials(values, allow_nan=True), None)
    starts = subspace.starts_from_subspace(data, rank)
    assert starts
    for start in starts:
        assert start.loadings.shape == (rank, rank)
        assert np.abs(np.linalg.eigvals(start.transition)).max() <= 0.999 + 1e-12
        assert np.linalg.eigvalsh(start.noise)[0] > 0
        assert (np.asarray(start.variance) > 0).all()
        assert np.isfinite(em.expect(start, data).log_likelihood).all()
    fitted = em.fit(as_trials(values, allow_nan=True), rank, max_iter=15)
    assert np.isfinite(fitted.objective).all()


def test_trials_of_three_bins_and_factor_analysis_have_one_start():
    assert subspace.starts_from_subspace(prepare(as_trials(gaussian(n_steps=3)), None), 2) == []
    values = gaussian(n_trials=5)
    static = em.fit(as_trials(values), 2, dynamic=False, max_iter=5, tol=0.0)
    assert (static.log_likelihood[0] - static.log_likelihood).max() < 1e-9
    assert em.fit_each(as_trials(values), 2, max_iter=5, tol=0.0, dynamic=False)[1:] == []


def test_latents_that_no_mode_needs_still_start_with_loadings():
    data = prepare(as_trials(gaussian(n_units=6)), None)
    silent = subspace._system(data, 0.5 * np.eye(3), np.zeros((6, 3)), np.zeros(3))
    assert ((silent.loadings**2).sum(axis=0) > 1e-3).all()
    pair = np.eye(6)[:, :2] * [1.0, 0.0]
    kept = subspace._system(data, turn(), pair, np.ones(2))  # the unseen phase of an oscillation stays unseen
    np.testing.assert_array_equal(kept.loadings, pair)


def test_fit_is_deterministic():
    first, second = (em.fit(as_trials(gaussian()), 2, max_iter=12) for _ in range(2))
    np.testing.assert_array_equal(first.system.transition, second.system.transition)


# --- the race --------------------------------------------------------------------------------------------------------


def run_of(heights):
    """Return a run whose objective takes the given values, and counts its E-steps."""
    system = start_from_factors(prepare(as_trials(gaussian(n_trials=2)), None), 1)
    steps = iter(heights)
    empty = np.zeros((1, 1, 1))

    def expect(system, before):
        return Moments(empty, empty, empty, np.zeros(1, int), empty, empty, np.array([next(steps)]))

    return EMRun(system, expect, lambda system, moments: system, lambda system: 0.0, 0.0, 1.0)


def test_race_goes_on_with_the_higher_run_and_gives_up_a_distant_one():
    slow, fast = run_of(100.0 + np.arange(50)), run_of(105.0 + 2 * np.arange(50))
    assert race([slow, fast], 30, 0.0) is fast
    assert (len(slow.objectives), len(fast.objectives)) == (5, 30)
    close = run_of(100.0 + np.arange(50)), run_of(100.1 + np.arange(50))
    assert race(close, 30, 0.0) is close[1]
    assert [len(run.objectives) for run in close] == [10, 30]


def test_race_of_equal_runs_keeps_the_first_and_the_limit_holds_in_it():
    pair = run_of(100.0 + np.arange(50)), run_of(100.0 + np.arange(50))
    assert race(pair, 3, 0.0) is pair[0]
    assert [len(run.objectives) for run in pair] == [3, 3]
