"""Connectivity of planted networks, its error bars, and whether the noise of the units feeds back."""

from types import SimpleNamespace

import numpy as np
import pytest

import planted_groups as planted
from nwb_lrrnn import DisRNN
from nwb_lrrnn.align import slices
from nwb_lrrnn.models.dis.connectivity import Steps, bootstrap, expected_rates, regress, standard_errors, steps_of
from nwb_lrrnn.models.dis.gauge import group_gauge
from nwb_lrrnn.trials import as_trials
from scores_of_groups import matching


@pytest.fixture(scope="module")
def fitted():
    """Return recordings of one network with both kinds of noise, and models fitted to them."""
    net = planted.network()
    recordings = {"recurrent": planted.recurrent(net, 10, 120), "readout": planted.readout(net, 10, 120)}
    return {name: (r, DisRNN(4, random_state=0).fit(r.observations)) for name, r in recordings.items()}


def in_units_of_values(model, connectivity):
    """Return connectivity of currents as one of what units show: y = scale x + center."""
    scale = np.asarray(model.dynamics_.loadings)
    return scale[:, None] * connectivity / scale


@pytest.mark.parametrize("noise", ["recurrent", "readout"])
def test_whether_noise_feeds_back_is_seen_in_the_data(fitted, noise):
    _, model = fitted[noise]
    assert model.noise_ == noise
    assert (model.dynamics_.private_noise is None) == (noise == "readout")
    assert (model.dynamics_.observation_variance is None) == (noise == "recurrent")


@pytest.mark.parametrize("noise", ["recurrent", "readout"])
def test_planted_connectivity_and_that_of_each_group_are_found(fitted, noise):
    recording, model = fitted[noise]
    net = recording.network
    wanted, found = net.left_vectors @ net.right_vectors, in_units_of_values(model, model.connectivity().values)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95
    order = matching(recording.latents, model.transform(recording.observations), (2, 2))[1]
    for group, own in enumerate(order):
        wanted, found = net.sub_connectivity(group), in_units_of_values(model, model.sub_connectivity(own).values)
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.95


def test_the_noise_of_units_is_found(fitted):
    recording, model = fitted["readout"]
    np.testing.assert_allclose(model.dynamics_.observation_variance, 0.2**2, rtol=0.3)  # 1200 bins, 2 of 16 lost
    recording, model = fitted["recurrent"]
    np.testing.assert_allclose(
        np.asarray(model.dynamics_.loadings) ** 2 * model.dynamics_.private_noise, 0.2**2, rtol=0.3
    )


def test_groups_add_up_to_the_whole(fitted):
    for _, model in fitted.values():
        parts = sum(model.sub_connectivity(g).values for g in range(2))
        np.testing.assert_allclose(parts, model.connectivity().values, atol=1e-12)
        np.testing.assert_allclose(model.dynamics_.connectivity(), model.connectivity(), atol=1e-12)
        assert model.connectivity().dims == ("target", "source")


def test_error_bars_are_as_wide_as_errors():
    squares = []
    for seed in range(3):
        recording = planted.recurrent(planted.network(seed=seed), 1, 800, seed=seed)
        model = DisRNN(4, noise="recurrent", scaling="given", random_state=0).fit(recording.observations)
        found = model.connectivity()
        error = found.values - recording.network.left_vectors @ recording.network.right_vectors
        squares.append((error / found.standard_error.values) ** 2)
    # z-scores of 3 x 256 entries, far from independent: 1 up to what the ridge and fixed latents change
    assert 0.7 < np.sqrt(np.mean(squares)) < 1.5


def cycle(noise, seed, n_bins=3000, n_units=15):
    """Return activity (time, unit) of a limit cycle and its connectivity; right vectors lie where the activity goes."""
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(n_units, 2))
    turn = 1.6 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    right = np.linalg.pinv(left).T @ turn.T
    activity, z = np.zeros((n_bins, n_units)), np.zeros(2)
    for t in range(n_bins):
        clean = left @ z
        activity[t] = clean + 0.3 * rng.normal(size=n_units)
        z = right.T @ np.tanh(activity[t] if noise == "recurrent" else clean) + 0.3 * rng.normal(size=2)
    return activity, left @ right.T


@pytest.mark.parametrize(("noise", "least"), [("recurrent", 0.88), ("readout", 0.8)])
def test_intervals_hold_the_truth_and_nothing_is_attenuated(noise, least):
    held, slopes = [], []
    for seed in range(4):
        activity, wanted = cycle(noise, seed)
        found = DisRNN(2, n_groups=1, scaling="given", random_state=0).fit(activity).connectivity()
        held.append(np.mean(np.abs(found - wanted) < 1.96 * found.standard_error))
        slopes.append(float((found * wanted).sum()) / (wanted**2).sum())
    assert least < np.mean(held) < 0.985
    np.testing.assert_allclose(np.mean(slopes), 1.0, atol=0.03)


def test_error_bars_of_a_plain_regression_are_those_of_least_squares(rng):
    n, noise = 4000, 0.5
    u = rng.standard_normal((n, 3)) * [1.0, 2.0, 0.5]
    z = u @ rng.standard_normal((3, 2)) + noise * rng.standard_normal((n, 2))
    y = z @ rng.standard_normal((2, 4)) + 0.3 * rng.standard_normal((n, 4))
    trials = as_trials(np.concatenate([np.zeros((1, 4)), y]), bin_size=1.0)
    known = trials.bins
    network = SimpleNamespace(units=SimpleNamespace(scaled=lambda values: values))
    steps = Steps(u, z, np.arange(n) // 40)
    left, right = bootstrap(trials, network, steps, known, 400, rng, 1e-9)  # type: ignore[arg-type]
    wanted = noise * np.sqrt(np.diag(np.linalg.inv(u.T @ u)))  # (neuron,)
    np.testing.assert_allclose(right.std(axis=0), np.tile(wanted, (2, 1)), rtol=0.25)  # 100 blocks: 7 % each
    of_left = 0.3 * np.sqrt(np.diag(np.linalg.inv(z.T @ z)))
    np.testing.assert_allclose(left.std(axis=0), np.tile(of_left, (4, 1)), rtol=0.25)


def test_what_the_ridge_takes_is_regressed_once_more_and_given_back(rng):
    u = rng.standard_normal((300, 4)) * [3.0, 1.0, 0.3, 0.01]
    z = u @ rng.standard_normal((4, 2)) + rng.standard_normal((300, 2))
    found = regress(Steps(u, z, np.arange(300) // 15))
    centred, rest = u - u.mean(axis=0), z - z.mean(axis=0)
    size = found.ridge * len(u) * u.var(axis=0).mean()
    wanted = np.zeros((4, 2))
    for _ in range(2):
        more = np.linalg.solve(centred.T @ centred + size * np.eye(4), centred.T @ rest)
        wanted, rest = wanted + more, rest - centred @ more
    np.testing.assert_allclose(found.weights.T, wanted, rtol=1e-9)


def test_expected_rates_are_those_over_what_a_bin_leaves_open(fitted, rng):
    recording, model = fitted["readout"]
    network, trials = model.network_, as_trials(recording.observations, bin_size=1.0)
    latents = network.filtered(trials)
    linear = network.linear
    spread = np.linalg.inv(np.linalg.inv(linear.latent_noise) + linear.decoder.T @ (linear.decoder.T / linear.noise).T)
    draws = rng.multivariate_normal(np.zeros(4), spread, size=20_000)
    currents = (latents[0, 5] + draws) @ linear.decoder.T + linear.offset
    wanted = np.tanh(currents)
    error = wanted.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(expected_rates(network, trials, latents)[0, 5] - wanted.mean(axis=0)) < 4.5 * error).all()


def test_error_bars_shrink_with_the_recording_and_are_drawn_from_the_seed():
    recording = planted.recurrent(planted.network(n_units=8), 1, 2000)

    def fitted(n, **changes):
        model = DisRNN(4, noise="recurrent", scaling="given", **{"random_state": 0, **changes})
        return model.fit(recording.observations[0, :n])

    short, long, other = fitted(500), fitted(2000), fitted(2000, random_state=1)
    ratio = np.median(short.connectivity().standard_error / long.connectivity().standard_error)
    assert 1.4 < ratio < 2.9  # the root of 4
    assert not np.array_equal(long.connectivity().standard_error, other.connectivity().standard_error)
    none = fitted(500, n_bootstraps=0)
    assert "standard_error" not in none.connectivity().coords
    np.testing.assert_array_equal(none.connectivity().values, short.connectivity().values)


def test_standard_errors_are_the_same_in_parts(monkeypatch, rng):
    from nwb_lrrnn.models.dis import connectivity

    lefts, rights = rng.standard_normal((7, 5, 2)), rng.standard_normal((7, 2, 5))
    wanted = np.std([a @ b for a, b in zip(lefts, rights, strict=True)], axis=0, ddof=1)
    for size in (1, 100, 10_000):
        monkeypatch.setattr(connectivity, "_ERRORS_AT_ONCE", size)
        np.testing.assert_allclose(standard_errors(lefts, rights), wanted, rtol=1e-12)


def test_steps_never_cross_trials_or_gaps():
    X = [np.ones((4, 2)), np.ones((3, 2))]
    trials = as_trials(X, bin_size=1.0)
    numbers = np.arange(8.0).reshape(2, 4, 1)
    known = trials.bins.copy()
    known[0, 1] = False
    found = steps_of(trials, numbers, 10 * numbers, known)
    np.testing.assert_array_equal(found.regressors[:, 0], [0, 2, 4, 5])
    np.testing.assert_array_equal(found.latents[:, 0], [10, 30, 50, 60])


def test_the_regression_finds_planted_weights_and_more_ridge_where_there_is_less_to_see(rng):
    u = rng.standard_normal((2000, 6))
    weights, drive = rng.standard_normal((2, 6)), np.array([0.5, -1.0])
    z = u @ weights.T + drive + 0.1 * rng.standard_normal((2000, 2))
    block = np.arange(2000) // 100
    found = regress(Steps(u, z, block))
    # standard errors 0.1 / sqrt(2000); the ridge is the largest that is as good
    np.testing.assert_allclose(found.weights, weights, atol=0.05)
    np.testing.assert_allclose(found.drive, drive, atol=0.02)
    assert found.loss == pytest.approx(2 * np.log(0.01), abs=0.1)
    noise = regress(Steps(u[:200], rng.standard_normal((200, 2)), block[:200]))
    assert noise.ridge > found.ridge


def test_many_neurons_are_read_on_their_principal_axes(rng):
    z = np.cumsum(rng.standard_normal((80, 2)), axis=0)
    u = z @ rng.standard_normal((2, 520)) + 0.1 * rng.standard_normal((80, 520))
    found = regress(Steps(u[:-1], z[1:], np.arange(79) // 8))
    assert found.weights.shape == (2, 520)
    centred = u[:-1] - u[:-1].mean(0)
    rest = found.weights - found.weights @ np.linalg.pinv(centred, rcond=1e-8) @ centred
    np.testing.assert_allclose(rest, 0, atol=1e-9)  # nothing outside what the bins span
    assert np.corrcoef((u[:-1] @ found.weights.T)[:, 0], z[1:, 0])[0, 1] > 0.95


# --- the gauge -------------------------------------------------------------------------------------------------------


@pytest.fixture
def latents(rng):
    mix = np.array([[1.0, 0.4, 0.3], [0.0, 0.8, 0.2], [0.1, 0.0, 2.0]])
    return rng.standard_normal((500, 3)) @ mix.T, rng.standard_normal((7, 3))


def test_the_gauge_stays_within_groups_and_twice_changes_nothing(latents):
    z, loadings = latents
    covariance = np.cov(z.T)
    matrix = group_gauge(loadings, covariance, (2, 1))
    np.testing.assert_array_equal(matrix[:2, 2], 0)
    np.testing.assert_array_equal(matrix[2, :2], 0)
    after, spread = loadings @ np.linalg.inv(matrix), matrix @ covariance @ matrix.T
    np.testing.assert_allclose(after[:, :2].T @ after[:, :2], np.eye(2), atol=1e-12)
    assert spread[0, 1] == pytest.approx(0, abs=1e-12)
    assert spread[0, 0] > spread[1, 1]
    np.testing.assert_allclose(group_gauge(after, spread, (2, 1)), np.eye(3), atol=1e-9)


def test_the_gauge_does_not_depend_on_the_basis_or_order_that_groups_come_in(latents):
    z, loadings = latents
    loadings = np.column_stack([loadings, loadings[::-1, 0]])
    covariance = np.cov(np.column_stack([z, z[::-1, 0]]).T)
    first = group_gauge(loadings, covariance, (2, 2))
    basis = np.zeros((4, 4))
    basis[:2, 2:], basis[2:, :2] = [[0.5, 0.2], [-0.3, 2.0]], [[1.0, -1.0], [0.5, 0.7]]  # groups swapped, and mixed
    other = group_gauge(loadings @ np.linalg.inv(basis), basis @ covariance @ basis.T, (2, 2)) @ basis
    np.testing.assert_allclose(other, first, atol=1e-9)


def test_a_change_of_basis_within_groups_changes_no_sub_connectivity_and_no_score(fitted):
    recording, model = fitted["recurrent"]
    network = model.network_
    matrix = np.zeros((4, 4))
    for part in slices((2, 2)):
        matrix[part, part] = [[1.3, 0.4], [-0.2, 0.8]]
    turned = network.mixed(matrix)
    for part in slices((2, 2)):
        own = network.linear.decoder[:, part] @ network.linear.encoder[part]
        np.testing.assert_allclose(turned.linear.decoder[:, part] @ turned.linear.encoder[part], own, atol=1e-12)
    trials = as_trials(recording.observations, bin_size=1.0)
    np.testing.assert_allclose(turned.evidence(trials), network.evidence(trials), rtol=1e-10)
    for one in ("delayed", "filtered", "smoothed"):
        latents = getattr(network, one)(trials) @ matrix.T
        np.testing.assert_allclose(getattr(turned, one)(trials), latents, atol=1e-8)
