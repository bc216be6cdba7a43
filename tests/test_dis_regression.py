"""Reduced-rank regression, its noise by expectation maximisation, and the pairs of bins that both stand on."""

import numpy as np
import pytest
from scipy import stats

from nwb_lrrnn.models.dis import regression
from nwb_lrrnn.models.dis.neighbours import N_NEIGHBOURS, learn
from nwb_lrrnn.models.dis.pairs import Pairs, folds, history, pairs_of


def planted(n=4000, rank=2, n_units=6, n_features=5, n_inputs=1, seed=0):
    """Return pairs of y = A z + c + F v + e, z = B u + d + w, and A, B, Q, R, F."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n_units, rank)), rng.standard_normal((rank, n_features))
    q = 0.3 * np.array([[1.0, 0.4], [0.4, 0.8]])[:rank, :rank]
    r, f = rng.uniform(0.1, 0.5, n_units), rng.standard_normal((n_units, n_inputs))
    v = rng.standard_normal((n, n_inputs))
    u = rng.standard_normal((n, n_features)) @ rng.standard_normal((n_features, n_features)) + 0.5
    u = u + v @ rng.standard_normal((n_inputs, n_features))  # inputs and history are correlated
    z = u @ b.T + 1.0 + rng.standard_normal((n, rank)) @ np.linalg.cholesky(q).T
    y = z @ a.T - 2.0 + v @ f.T + np.sqrt(r) * rng.standard_normal((n, n_units))
    at = np.arange(n)
    return Pairs(u, y, v, 0 * at, at), (a, b, q, r, f)


def floor(pairs):
    return np.full(pairs.targets.shape[1], 1e-9)


def log_likelihood(model, pairs):
    """Return the mean log-likelihood of pairs, with the covariance A Q A' + R written out."""
    rest = pairs.targets - model.encode(pairs.features) @ model.decoder.T - model.offset
    rest = rest - pairs.inputs @ model.input_weights.T
    covariance = model.decoder @ model.latent_noise @ model.decoder.T + np.diag(model.noise)
    return stats.multivariate_normal(np.zeros(len(covariance)), covariance).logpdf(rest).mean()


def test_the_likelihood_that_is_climbed_is_that_of_the_pairs_and_never_falls():
    pairs, _ = planted(300)
    for n_iter in (1, 3, 200):
        model, values = regression.fit(pairs, 2, floor(pairs), ridge=0.0, n_iter=n_iter)
        assert (np.diff(values) > -1e-10).all()
    assert log_likelihood(model, pairs) == pytest.approx(values[-1], abs=1e-9)
    assert len(values) > 5


def test_the_likelihood_is_stationary_where_the_climb_ends():
    pairs, _ = planted(300)
    model, _ = regression.fit(pairs, 2, floor(pairs), ridge=0.0)
    best = log_likelihood(model, pairs)
    rng = np.random.default_rng(1)
    for name in ("decoder", "encoder", "encoder_offset", "offset", "input_weights", "noise"):
        value = getattr(model, name)
        step = 1e-3 * np.abs(value).max() * rng.standard_normal(value.shape)
        both = [log_likelihood(regression.replace(model, **{name: value + s * step}), pairs) for s in (-1, 1)]
        # the climb stops below 6e-7 nats a step, where slopes are not quite 0 yet
        assert max(both) < best + 1e-5
        assert np.mean(both) < best


def test_the_planted_model_is_found_in_long_data():
    pairs, (a, b, q, r, f) = planted(40_000)
    model, _ = regression.fit(pairs, 2, floor(pairs), ridge=0.0)
    change = np.linalg.lstsq(model.decoder, a, rcond=None)[0]  # A' M = A: latents are free up to a change of basis
    model = model.mixed(np.linalg.inv(change))
    # 40,000 pairs: standard errors of some 0.005 of each
    np.testing.assert_allclose(model.decoder, a, atol=0.03)
    np.testing.assert_allclose(model.encoder, b, atol=0.03)
    np.testing.assert_allclose(model.latent_noise, q, atol=0.03)
    np.testing.assert_allclose(model.noise, r, rtol=0.05)
    np.testing.assert_allclose(model.input_weights, f, atol=0.03)


def test_the_start_is_the_best_of_its_rank_for_its_weights():
    pairs, _ = planted(500, n_inputs=0)
    data = regression._reduce(regression.moments_of(pairs))
    u, y = (x - x.mean(0) for x in (pairs.features, pairs.targets))
    decoder, encoder = regression._reduced_rank(data, 2, 0.0, floor(pairs), n_passes=1)
    sd = y.std(0)  # weights of the first pass

    def loss(a, b):
        return (((y - u @ b.T @ a.T) / sd) ** 2).mean()

    # the closed form of Izenman (1975), by numpy's own least squares and singular values
    full = u @ np.linalg.lstsq(u, y, rcond=None)[0] / sd
    left, s, right = np.linalg.svd(full, full_matrices=False)
    wanted = ((y / sd - (left[:, :2] * s[:2]) @ right[:2]) ** 2).mean()
    assert loss(decoder, encoder) == pytest.approx(wanted, rel=1e-9)
    rng = np.random.default_rng(2)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(20):
            a = decoder + size * rng.standard_normal(decoder.shape)
            assert loss(a, encoder + size * rng.standard_normal(encoder.shape)) >= wanted


def test_inputs_that_are_partialled_out_are_those_of_the_joint_regression():
    pairs, _ = planted(400, rank=2, n_units=2, n_inputs=2)
    model, _ = regression.fit(pairs, 2, floor(pairs), ridge=0.0, n_iter=0)  # full rank, and not climbed
    design = np.column_stack([pairs.features, pairs.inputs, np.ones(400)])
    joint = np.linalg.lstsq(design, pairs.targets, rcond=None)[0]
    np.testing.assert_allclose((model.decoder @ model.encoder).T, joint[:5], atol=1e-9)
    np.testing.assert_allclose(model.input_weights.T, joint[5:7], atol=1e-9)
    np.testing.assert_allclose(model.decoder @ model.encoder_offset + model.offset, joint[7], atol=1e-9)


def test_the_noise_of_given_weights_is_at_its_maximum_and_leaves_them():
    pairs, (a, b, _, _, _) = planted(1000)
    model = regression.with_noise(pairs, a, b, floor(pairs))
    np.testing.assert_array_equal(model.decoder, a)
    np.testing.assert_array_equal(model.encoder, b)
    best = log_likelihood(model, pairs)
    for name, scale in (("noise", 1.05), ("noise", 0.95), ("latent_noise", 1.1), ("latent_noise", 0.9)):
        assert log_likelihood(regression.replace(model, **{name: scale * getattr(model, name)}), pairs) < best
    for name in ("offset", "input_weights"):
        assert log_likelihood(regression.replace(model, **{name: getattr(model, name) + 0.05}), pairs) < best


def test_more_features_than_bins_are_read_on_their_principal_axes():
    rng = np.random.default_rng(3)
    n, p = 60, 600
    z = np.cumsum(rng.standard_normal((n, 2)), axis=0)
    u = z @ rng.standard_normal((2, p)) + 0.5 * rng.standard_normal((n, p))
    y = z @ rng.standard_normal((2, 4)) + 0.1 * rng.standard_normal((n, 4))
    pairs = Pairs(u, y, np.zeros((n, 0)), np.zeros(n, dtype=int), np.arange(n))
    model, _ = regression.fit(pairs, 2, floor(pairs), ridge=1e-2)
    assert model.encoder.shape == (2, p)
    axes = regression.principal_axes(u, 512)
    assert axes.shape == (p, n - 1)
    np.testing.assert_allclose(axes.T @ axes, np.eye(n - 1), atol=1e-8)
    # these axes hold all that the bins hold
    centred = u - u.mean(0)
    np.testing.assert_allclose(centred @ axes @ axes.T, centred, atol=1e-8)
    held = regression.with_noise(pairs, model.decoder, model.encoder, floor(pairs))
    np.testing.assert_allclose(held.encode(u), model.encode(u), atol=1e-8)
    np.testing.assert_allclose(held.offset, model.offset, atol=1e-8)
    tall = regression.principal_axes(u.T[:, :50], 5)  # more rows than columns
    wanted = np.linalg.svd(u.T[:, :50] - u.T[:, :50].mean(0), full_matrices=False)[2][:5]
    np.testing.assert_allclose(np.abs(wanted @ tall), np.eye(5), atol=1e-6)


def test_the_ridge_is_what_predicts_held_out_stretches():
    rng = np.random.default_rng(4)
    n = 60
    u = rng.standard_normal((n, 40))
    y = u[:, :1] @ rng.standard_normal((1, 5)) + rng.standard_normal((n, 5))
    pairs = Pairs(u, y, np.zeros((n, 0)), np.zeros(n, dtype=int), np.arange(n))
    ridge, loss = regression.best_ridge(pairs, 1, floor(pairs))
    assert ridge >= 0.1  # 40 features of 48 pairs
    losses = [regression.best_ridge(pairs, 1, floor(pairs), np.array([r]))[1] for r in regression.RIDGES]
    assert loss == min(losses)


def test_histories_never_cross_trials_or_gaps():
    features = np.arange(12.0).reshape(2, 6, 1)
    known = np.ones((2, 6), dtype=bool)
    known[0, 2] = known[1, 5:] = False  # a gap, and a shorter trial
    before, complete = history(features, known, 2)
    np.testing.assert_array_equal(complete[0], [False, False, True, False, False, True])
    np.testing.assert_array_equal(complete[1], [False, False, True, True, True, True])
    np.testing.assert_array_equal(before[1, 3], [8.0, 7.0])  # the latest first
    pairs = pairs_of(before, complete, features, known, None)
    np.testing.assert_array_equal(np.column_stack([pairs.trial, pairs.time]), [[0, 5], [1, 2], [1, 3], [1, 4]])
    np.testing.assert_array_equal(pairs.targets[:, 0], [5, 8, 9, 10])


def test_folds_are_whole_trials_or_stretches():
    def pairs(trial):
        n = len(trial)
        return Pairs(np.zeros((n, 1)), np.zeros((n, 1)), np.zeros((n, 0)), np.asarray(trial), np.arange(n))

    many = pairs(np.repeat(np.arange(7), 3))
    for rows in folds(many):
        inside = set(many.trial[rows])
        assert inside.isdisjoint(np.delete(many.trial, rows))
    few = folds(pairs(np.zeros(23, dtype=int)))
    assert len(few) == 5
    np.testing.assert_array_equal(np.concatenate(few), np.arange(23))


# --- neighbours ------------------------------------------------------------------------------------------------------


def stationary(n_trials=200, n_bins=100, seed=0):
    """Return estimates of latents of a stationary rotation, their noise, and delayed means, (trial, time, latent)."""
    rng = np.random.default_rng(seed)
    turn = 0.95 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    z = np.zeros((n_trials, n_bins, 2))
    z[:, 0] = rng.standard_normal((n_trials, 2))
    for t in range(1, n_bins):
        z[:, t] = z[:, t - 1] @ turn.T + np.sqrt(1 - 0.95**2) * rng.standard_normal((n_trials, 2))
    noise = np.array([[0.5, 0.1], [0.1, 0.3]])
    estimates = z + rng.standard_normal(z.shape) @ np.linalg.cholesky(noise).T
    delayed = np.zeros_like(z)
    delayed[:, 1:] = 0.6 * estimates[:, :-1] @ turn.T
    has_history = np.ones(z.shape[:2], dtype=bool)
    has_history[:, 0] = False
    return z, estimates, np.ones(z.shape[:2], dtype=bool), delayed, has_history, noise


def test_neighbours_tell_what_gaussian_conditioning_says():
    z, estimates, known, delayed, has_history, noise = stationary()
    found = learn(estimates, known, delayed, has_history, noise)
    assert found.reach == N_NEIGHBOURS
    means, covariances, kind = found.predict(estimates, known, delayed, has_history)
    # the process is z_t = J z_{t-1} + w of unit covariance: lagged covariances are powers of J
    turn = 0.95 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    for t in (50, 1, 98):  # the middle, and both edges, where half the window is missing
        others = np.array([s for s in range(max(t - N_NEIGHBOURS, 0), min(t + N_NEIGHBOURS, 99) + 1) if s != t])

        def lagged(a, b):
            power = np.linalg.matrix_power(turn, abs(a - b))
            return power if a >= b else power.T

        cross = np.concatenate([lagged(t, s) for s in others], axis=1)
        inner = np.block([[lagged(a, b) + (noise if a == b else 0) for b in others] for a in others])
        gain = np.linalg.solve(inner, cross.T).T
        wanted = estimates[:, others].reshape(200, -1) @ gain.T
        # the delayed mean is a function of the neighbours and adds nothing; moments of 20,000 bins, and a little ridge
        assert np.sqrt(((means[:, t] - wanted) ** 2).mean()) < 0.06
        np.testing.assert_allclose(covariances[kind[0, t]], np.eye(2) - gain @ cross.T, atol=0.06)
    error = ((means - z) ** 2).mean()
    assert error < 0.6 * ((estimates - z) ** 2).mean()


def test_a_bin_is_never_its_own_neighbour_and_unknown_bins_are_none():
    _, estimates, known, delayed, has_history, noise = stationary(20)
    known = known.copy()
    known[0, 30] = False
    found = learn(estimates, known, delayed, has_history, noise)
    before = found.predict(estimates, known, delayed, has_history)[0]
    moved = estimates.copy()
    moved[0, 50] += 10.0
    after = found.predict(moved, known, delayed, has_history)[0]
    changed = np.flatnonzero((before[0] != after[0]).any(1))
    np.testing.assert_array_equal(changed, np.r_[42:50, 51:59])
    assert (before[1:] == after[1:]).all()
    moved = estimates.copy()
    moved[0, 30] = 1e6
    np.testing.assert_array_equal(found.predict(moved, known, delayed, has_history)[0], before)


def test_what_neighbours_tell_does_not_depend_on_the_basis_of_the_latents():
    _, estimates, known, delayed, has_history, noise = stationary(20)
    found = learn(estimates, known, delayed, has_history, noise)
    matrix = np.array([[2.0, 0.7], [-0.4, 0.5]])
    means, covariances, _ = found.predict(estimates, known, delayed, has_history)
    turned = found.mixed(matrix).predict(estimates @ matrix.T, known, delayed @ matrix.T, has_history)
    np.testing.assert_allclose(turned[0], means @ matrix.T, atol=1e-9)
    whole = kind_of_whole_windows(covariances)
    np.testing.assert_allclose(turned[1][whole], matrix @ covariances[whole] @ matrix.T, atol=1e-9)


def kind_of_whole_windows(covariances):
    """Return the pattern that leaves least, which is that of a whole window."""
    return int(np.argmin([np.trace(covariance) for covariance in covariances]))
