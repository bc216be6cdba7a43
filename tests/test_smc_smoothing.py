"""Latents of the particle filter: against Kalman's filter and smoother, kernels against torch, alone and in a batch."""

import numpy as np
import pytest
import torch

from nwb_lrrnn.models.linear.smoothing import smooth
from nwb_lrrnn.models.linear.system import from_dynamics
from nwb_lrrnn.models.smc import SMCLowRankRNN, bound, inference, smoothing
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.training.devices import one_thread
from nwb_lrrnn.trials import as_trials
from small_filter import linear_dynamics, small_data, small_network, small_noise

RUNS, DRAWS, LENGTHS = 40, 32, (8, 5)


@pytest.fixture(autouse=True)
def calm():
    with one_thread():
        yield


def model_of(dynamics, n_particles=500, **parameters):
    dataset = dynamics.to_dataset().assign_attrs(n_particles_=n_particles)
    return SMCLowRankRNN.from_dataset(dataset).set_params(dtype="float64", bin_size=0.1, **parameters)


def observed(dynamics, lengths=LENGTHS):
    """Return trials of unequal length with a bin and a unit missing, and inputs where the network has them."""
    n, steps = len(lengths), max(lengths)
    u = np.random.default_rng(2).standard_normal((n, steps, dynamics.n_inputs)) if dynamics.n_inputs else None
    y = dynamics.simulate(n, steps, inputs=u, random_state=0)["observations"].values.astype(np.float64)
    X = [trial[:k].copy() for trial, k in zip(y, lengths, strict=True)]
    X[0][3] = np.nan
    X[1][1, 0] = np.nan
    return X, None if u is None else [trial[:k] for trial, k in zip(u, lengths, strict=True)]


def within_errors(runs, exact):
    """Assert that the mean of runs (run, ...) is exact to 4 standard errors, and that these are small."""
    error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
    assert error.max() < 0.05
    assert (np.abs(runs.mean(axis=0) - exact) < 4 * error + 1e-12).all()


@pytest.mark.parametrize("kind", ["smoothed", "filtered", "delayed"])
@pytest.mark.parametrize(
    ("proposal", "when"),
    [("optimal", "low_ess"), ("optimal", "before_step"), ("bootstrap", "every_step"), ("laplace", "low_ess")],
)
def test_latents_of_a_linear_network_are_those_of_kalman(proposal, when, kind):
    dynamics = linear_dynamics(inputs=1)
    X, u = observed(dynamics)
    moments = smooth(from_dynamics(dynamics), as_trials(X, inputs=u, allow_nan=True))
    exact = {"smoothed": moments.smoothed, "filtered": moments.filtered, "delayed": moments.predicted}[kind]
    model = model_of(dynamics, proposal=proposal, resample_when=when, n_trajectories=16)
    runs = [model.set_params(random_state=k).transform(X, inputs=u, posterior=kind) for k in range(RUNS)]
    for b, n in enumerate(LENGTHS):
        ours = np.stack([run[b] for run in runs])
        first = int(kind == "delayed")  # before the first bin there is only the prior mean
        if first:
            np.testing.assert_allclose(ours[:, 0], np.broadcast_to(exact[b, 0], ours[:, 0].shape), atol=1e-12)
        within_errors(ours[:, first:], exact[b, first:n])


@pytest.mark.parametrize(
    ("proposal", "when"), [("optimal", "low_ess"), ("optimal", "before_step"), ("bootstrap", "every_step")]
)
def test_trajectories_have_the_moments_of_the_rauch_tung_striebel_smoother(proposal, when):
    dynamics = linear_dynamics()
    X, _ = observed(dynamics)
    moments = smooth(from_dynamics(dynamics), as_trials(X, allow_nan=True))
    model = model_of(dynamics, proposal=proposal, resample_when=when)
    runs = [model.set_params(random_state=k).trajectories(X, n_draws=DRAWS) for k in range(RUNS)]
    assert runs[0].dims == ("draw", "trial", "time", "latent")
    z = np.stack(runs)  # (run, draw, trial, time, latent)
    assert (z[:, :, 1, LENGTHS[1] :] == 0).all()
    for b, n in enumerate(LENGTHS):
        within_errors(z[:, :, b, :n].mean(1), moments.means[b, :n])
        gap = z[:, :, b, :n] - moments.means[b, :n]
        within_errors(np.einsum("kdtr,kdts->ktrs", gap, gap) / DRAWS, moments.covariances[b, :n])
        cross = np.einsum("kdtr,kdts->ktrs", gap[:, :, 1:], gap[:, :, :-1]) / DRAWS
        within_errors(cross, moments.pattern_cross[moments.pattern[b], : n - 1])


def test_means_have_less_noise_than_draws():
    dynamics = linear_dynamics()
    X, _ = observed(dynamics)
    model = model_of(dynamics, n_trajectories=8)
    means, draws = [], []
    for k in range(RUNS):
        model.set_params(random_state=k)
        means.append(model.transform(X)[0])
        draws.append(model.trajectories(X, n_draws=8).values[:, 0].mean(0))
    assert np.var(means, axis=0).mean() < 0.7 * np.var(draws, axis=0).mean()


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("when", ["every_step", "low_ess", "before_step"])
def test_fused_smoother_equals_torch(when, rank):
    net = small_network("clipped_relu", rank=rank)
    data = small_data(net)
    _, record = bound.run(net, data, Plan("optimal", 9, when=when), small_noise(net, data, 9))
    points = torch.rand((*data.y.shape[:2], 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fused = smoothing.smooth(record, data.lengths, net.law.noise_root, points, kernels=True)
    tensors = type(record)(*(torch.as_tensor(a) for a in record))
    plain = smoothing.smooth(tensors, data.lengths, net.law.noise_root, points, kernels=False)
    torch.testing.assert_close(fused.draws, plain.draws, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fused.means, plain.means, rtol=1e-9, atol=1e-9)
    assert (fused.draws[:, 1, 3:] == 0).all()


def test_torch_smoother_runs_on_the_meta_device_without_a_host_sync():
    net = small_network()
    data = small_data(net)
    _, record = bound.run(net, data, Plan("optimal", 9), small_noise(net, data, 9))
    there = type(record)(*(torch.as_tensor(a).to("meta") for a in record))
    points = torch.empty((*data.y.shape[:2], 6), dtype=torch.float64, device="meta")
    found = smoothing.smooth(there, data.lengths.to("meta"), net.law.noise_root.to("meta"), points)
    assert found.draws.shape == (2, 3, 6, 6, 2)


@pytest.mark.parametrize("kind", ["smoothed", "filtered", "delayed"])
@pytest.mark.parametrize("likelihood", ["gaussian", "negative_binomial"])
def test_latents_are_equal_alone_in_a_ragged_batch_in_any_order_and_in_chunks(likelihood, kind, monkeypatch):
    spread = {"dispersion": np.full(4, 2.0)} if likelihood == "negative_binomial" else {}
    dynamics = linear_dynamics(likelihood, inputs=1, nonlinearity="tanh", **spread)
    X, u = observed(dynamics, (12, 4, 9))
    model = model_of(dynamics, 32, random_state=1)
    together = model.transform(X, inputs=u, posterior=kind)
    order = [2, 0, 1]
    mixed = model.transform([X[k] for k in order], inputs=[u[k] for k in order], posterior=kind)
    for k, wanted in enumerate(together):
        assert wanted.shape == (len(X[k]), 2)
        alone = model.transform([X[k]], inputs=[u[k]], posterior=kind)[0]
        np.testing.assert_allclose(alone, wanted, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(mixed[order.index(k)], wanted, rtol=1e-6, atol=1e-6)
    paths = model.trajectories(X, n_draws=3, inputs=u)
    monkeypatch.setattr(inference, "_AT_ONCE", 500)
    for a, b in zip(model.transform(X, inputs=u, posterior=kind), together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.trajectories(X, n_draws=3, inputs=u), paths, rtol=1e-6, atol=1e-6)
