"""Whether a fitted network grows when it runs freely, and that it is said."""

import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn import DisRNN, LinearStateSpace
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models import stability

TURN = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])


def map_of(step, nonlinearity="identity", **changes):
    """Return the network z -> step phi(z)."""
    fields = {"latent_mean": np.zeros(2), "latent_covariance": np.eye(2)} | changes
    return LowRankDynamics(np.eye(2), 2 * step.T, dt=1.0, tau=1.0, nonlinearity=nonlinearity, **fields)


def test_a_linear_network_is_stable_where_its_eigenvalues_are():
    assert stability.growth(map_of(0.99 * TURN)).is_stable
    grown = stability.growth(map_of(1.01 * TURN))
    assert not grown.is_stable
    assert "the largest eigenvalue of its step is 1.01" in grown.says
    assert "by a factor e in 100 bins" in grown.says  # 1 / ln 1.01 = 100.5
    # a turn keeps distances: the farthest of the starts, times 1.01^500
    start = stability.growth(map_of(TURN)).distance
    np.testing.assert_allclose(grown.distance, start * 1.01**500, rtol=1e-9)
    assert stability.growth(map_of(1e3 * TURN)).distance == np.inf


def test_a_cycle_is_stable_and_a_network_that_leaves_the_data_is_not():
    assert stability.growth(map_of(1.5 * TURN, "tanh")).is_stable
    away = stability.growth(map_of(np.diag([1.2, 0.5]), "relu"))
    assert not away.is_stable
    assert "run freely, its latents leave those of the data" in away.says
    # tanh cannot grow without end, but its points may be far from the data: z = 40 tanh(z), the data at 0 +- 0.1
    far = stability.growth(map_of(np.diag([40.0, 0.5]), "tanh", latent_covariance=0.01 * np.eye(2)))
    np.testing.assert_allclose(far.distance, 400, rtol=1e-9)
    assert not far.is_stable
    assert "400 standard deviations of them away" in far.says


def test_a_step_that_overflows_is_said_to():
    net = map_of(TURN)
    found = stability.growth(
        net.replace(left_vectors=1e200 * net.left_vectors, right_vectors=1e200 * net.right_vectors)
    )
    assert not found.is_stable
    assert found.distance == np.inf
    assert "beyond all numbers" in found.says


def test_growth_does_not_depend_on_the_basis():
    mix = np.array([[2.0, 0.3], [-0.5, 0.7]])
    net = map_of(1.5 * TURN, "tanh")
    other = net.replace(
        left_vectors=net.left_vectors @ np.linalg.inv(mix), right_vectors=net.right_vectors @ mix.T,
        latent_covariance=mix @ mix.T,
    )  # fmt: skip
    first, second = stability.growth(net), stability.growth(other)
    assert first.is_stable
    assert second.is_stable
    np.testing.assert_allclose(second.distance, first.distance, rtol=0.2)  # other starts on the same cycle


def growing(rate, rng, n_trials=20, n_bins=40):
    """Return trials (trial, time, unit) of two latents that turn and grow by a rate per bin."""
    z = [rng.standard_normal((n_trials, 2))]
    for _ in range(n_bins - 1):
        z.append(rate * z[-1] @ TURN.T + 0.05 * rng.standard_normal((n_trials, 2)))
    return np.stack(z, axis=1) @ rng.standard_normal((2, 6)) + 0.1 * rng.standard_normal((n_trials, n_bins, 6))


@pytest.mark.parametrize(("rate", "is_stable"), [(0.95, True), (1.05, False)])
def test_a_fit_says_whether_its_latents_grow_and_the_file_remembers(rate, is_stable, rng, caplog):
    model = LinearStateSpace(2).fit(growing(rate, rng))
    assert model.is_stable_ is is_stable
    assert ("LinearStateSpace: its latents grow" in caplog.text) is not is_stable
    again = LinearStateSpace.from_dataset(model.to_dataset())
    assert again.is_stable_ is is_stable
    assert again.growth_ == model.growth_


def test_a_disentangled_model_says_it_where_it_has_dynamics(rng):
    X = xr.DataArray(growing(0.95, rng), dims=("trial", "time", "unit"))
    model = DisRNN(2, random_state=0).fit(X)
    assert model.is_stable_
    assert 0 <= model.growth_ < stability.FAR
    assert not hasattr(DisRNN(2, n_lags=2, random_state=0).fit(X), "is_stable_")
