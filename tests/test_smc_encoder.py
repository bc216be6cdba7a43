"""The convolutional encoder as a proposal: gradients, padding, gauge, files, and that it learns."""

import dataclasses
import logging

import numpy as np
import pytest
import torch

from nwb_lrrnn.models.kernels.particle_types import NEVER, Noise
from nwb_lrrnn.models.smc import SMCLowRankRNN, bound, encoder, evidence, fitting
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.data import trial_data
from nwb_lrrnn.models.smc.encoder import Design, encoder_of, lead_of
from nwb_lrrnn.results import load_model, write_results
from small_filter import gradients, small_data, small_network, small_noise, with_leaves

KERNELS, CHANNELS = (3, 2, 1), (4, 3)


@pytest.fixture(autouse=True)
def never(monkeypatch):
    """Let a plan say that particles are never resampled, which no user can choose."""
    monkeypatch.setitem(bound.WHEN, "never", NEVER)


def encoded(likelihood="poisson", padding="centred", rank=2, **options):
    """Return a small network with an encoder, and the encoder's parameters as leaves."""
    net = small_network("tanh", likelihood, rank=rank, **options)
    units, nets = net.readout.offset.shape[1], len(net.readout.offset)
    rng = np.random.default_rng(3)

    def draw(*shape):
        return torch.tensor(rng.standard_normal(shape))

    design = Design(
        KERNELS, lead_of(padding, KERNELS), CHANNELS, likelihood != "gaussian", draw(units), draw(units).exp(),
        draw(rank, rank) + 2 * torch.eye(rank), draw(rank),
    )  # fmt: skip
    leaves = {name: (0.4 * draw(nets, *shape)).requires_grad_() for name, shape in design.shapes().items()}
    return dataclasses.replace(net, encoder=encoder_of(design, leaves)), leaves


def counts(n_trials=12, n_bins=20, units=5):
    rng = np.random.default_rng(0)
    phase = 0.4 * np.arange(n_bins) + rng.uniform(0, 6, (n_trials, 1))
    return rng.poisson(np.logaddexp(0.0, np.sin(phase)[..., None] * rng.standard_normal(units) * 3))


def small_model(**options):
    settings = {
        "rank": 2, "n_neurons": 10, "n_particles": 8, "max_epochs": 3, "proposal": "encoder",
        "encoder_kernels": KERNELS, "encoder_channels": CHANNELS, "n_trajectories": 4, "random_state": 0, "tau": 3.0,
    }  # fmt: skip
    return SMCLowRankRNN(**(settings | options))


@pytest.fixture(scope="module")
def fitted():
    with pytest.warns(match="not converged"):
        return small_model(dtype="float64").fit(counts())


# --- the bound and its gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["every_step", "low_ess", "before_step", "never"])
@pytest.mark.parametrize(
    ("likelihood", "padding", "mask"), [("poisson", "centred", "units"), ("gaussian", "causal", "bins")]
)
def test_fused_filter_and_gradients_equal_torch(likelihood, padding, mask, when):
    net, weights = encoded(likelihood, padding, rank=3)
    data = small_data(net, mask)
    noise = small_noise(net, data)
    results = []
    for kernels in (True, False):
        ours, leaves = with_leaves(net)
        increments, _ = bound.run(ours, data, Plan("encoder", 7, when=when), noise, kernels=kernels)
        results.append((increments.detach(), gradients(increments, leaves | weights)))
    (fused, ours), (plain, wanted) = results
    torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-9)
    for name, value in wanted.items():
        assert float((ours[name] - value).norm()) <= 1e-9 * max(1.0, float(value.norm())), name


@pytest.mark.parametrize(("n_particles", "when"), [(5, "never"), (1, "every_step")])
def test_gradients_in_the_weights_equal_finite_differences(n_particles, when):
    net, weights = encoded()
    data = small_data(net)
    noise, plan = small_noise(net, data, n_particles), Plan("encoder", n_particles, when=when)

    def value(parts):
        moved = dataclasses.replace(net, encoder=encoder_of(net.encoder.design, parts))
        return bound.run(moved, data, plan, noise)[0].sum()

    grads = torch.autograd.grad(value(weights), list(weights.values()))
    rng = np.random.default_rng(1)
    for (name, leaf), grad in zip(weights.items(), grads, strict=True):
        direction = torch.tensor(rng.standard_normal(leaf.shape))
        step = 1e-5 * direction
        with torch.no_grad():
            slope = (value(weights | {name: leaf + step}) - value(weights | {name: leaf - step})) / 2e-5
        # second differences of 1e-10 relative, rounding of a bound of order 100 over 1e-5
        torch.testing.assert_close((grad * direction).sum(), slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("padding", ["centred", "causal"])
def test_a_trial_alone_and_in_a_ragged_batch_has_the_same_bound(padding):
    net, _ = encoded(padding=padding)
    data = small_data(net)
    noise, plan = small_noise(net, data), Plan("encoder", 7)
    together = bound.run(net, data, plan, noise)[0].detach()
    for b, n in enumerate(data.lengths):
        own = noise._replace(
            normals=noise.normals[b : b + 1, :n], points=noise.points[b : b + 1, :n],
            ancestors=noise.ancestors[:, b : b + 1, :n],
        )  # fmt: skip
        alone = bound.run(net, data.take(torch.tensor([b])), plan, own)[0].detach()
        torch.testing.assert_close(alone[:, 0], together[:, b, :n], rtol=1e-10, atol=1e-10)


def test_it_runs_on_the_meta_device_without_a_host_sync():
    net, weights = encoded()
    data = small_data(net, device="meta")
    noise = Noise(*(t.to("meta") for t in small_noise(net, data)))
    weights = {name: leaf.detach().to("meta").requires_grad_() for name, leaf in weights.items()}
    fixed = net.encoder.design
    design = encoder.resumed(fixed, fixed._replace(centre=fixed.centre.to("meta")))  # goes where the wanted one is
    net = dataclasses.replace(with_leaves(net, device="meta")[0], encoder=encoder_of(design, weights))
    bound.run(net, data, Plan("encoder", 7), noise)[0].sum().backward()
    assert all(leaf.grad is not None for leaf in weights.values())


def test_a_causal_encoder_does_not_look_ahead_and_a_centred_one_does():
    for padding, changes in (("causal", False), ("centred", True)):
        net, _ = encoded(padding=padding)
        data = small_data(net, "none")
        later = dataclasses.replace(data, y=data.y.clone())
        later.y[0, 3] += 4.0
        before, after = (encoder.gaussians(net.encoder, d)[0].detach()[:, 0, :3] for d in (data, later))
        assert bool((before != after).any()) == changes


def test_restarts_side_by_side_are_what_each_is_alone():
    net, weights = encoded()
    data = small_data(net)
    together = encoder.gaussians(net.encoder, data)
    for s in range(2):
        alone = encoder.gaussians(encoder_of(net.encoder.design, {k: w[s : s + 1] for k, w in weights.items()}), data)
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[s], rtol=1e-12, atol=1e-12)


def test_sites_are_the_gaussians_moved_by_the_gauge():
    net, _ = encoded(nets=1)
    data = small_data(net)
    rng = np.random.default_rng(5)
    a, c, z = rng.standard_normal((2, 2)), rng.standard_normal(2), rng.standard_normal((7, 2))
    moved = encoder.in_gauge(net.encoder, a, c)
    mean, log_variance = (t.detach().numpy()[0, 1, 2] for t in encoder.gaussians(net.encoder, data))
    sites = encoder.sites_of(moved, data, torch.zeros(1, *data.y.shape[:2]))
    row = int(sites.rows[1, 2])
    slope, information = sites.slope.detach().numpy()[0, 1, 2], sites.information.detach().numpy()[0, row]
    ours = z @ slope - 0.5 * np.einsum("ki,ij,kj->k", z, information, z)
    first, shift = (t.numpy() for t in (net.encoder.design.matrix, net.encoder.design.shift))
    wanted = -0.5 * (((z @ a.T + c) @ first.T + shift - mean) ** 2 / np.exp(log_variance)).sum(1)
    np.testing.assert_allclose(ours - ours[0], wanted - wanted[0], rtol=1e-9, atol=1e-9)


# --- the fit ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*not converged")
def test_a_fit_raises_the_held_out_bound():
    model = small_model(max_epochs=15, learning_rate=0.3, n_particles=4).fit(counts(20))
    validation = model.history_.validation.values
    assert validation.max() > validation[0] + 0.05  # nats per bin; the noise is the same in every epoch


def test_the_encoder_follows_the_network_into_its_gauge(monkeypatch):
    kept = []
    run = fitting.run
    monkeypatch.setattr(fitting, "run", lambda *args: kept.append(run(*args)) or kept[-1])
    X = counts()
    with pytest.warns(match="not converged"):
        model = small_model(dtype="float64").fit(X)
    before, after = kept[0].net, model._ready()[0]
    data = trial_data(model._gate(X, None, reset=False), "cpu")
    # a particle that moves without noise is the same particle in every gauge, and so is its weight
    noise = small_noise(after, data, 1)
    noise = noise._replace(normals=torch.zeros_like(noise.normals))
    a, b = (bound.run(net, data, Plan("encoder", 1), noise)[0].detach() for net in (before, after))
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    # and with noise the bound is the same in law
    plan = Plan("encoder", 256)
    a, b = (
        float(evidence.trial_bounds(net, data, plan, seed=s).sum()) / X[..., 0].size
        for s, net in enumerate((before, after))
    )
    assert abs(a - b) < 0.05  # nats per bin: five standard errors of 240 bins


def test_a_stored_model_gives_the_same_latents_and_score(fitted, tmp_path):
    X = counts()
    copies = [SMCLowRankRNN.from_dataset(fitted.to_dataset()), load_model(write_results(tmp_path / "m.nwb", fitted))]
    for copy in copies:
        np.testing.assert_array_equal(copy.transform(X), fitted.transform(X))
        assert copy.score(X) == fitted.score(X)


def test_bare_dynamics_fall_back_to_a_proposal_without_weights(fitted, caplog):
    X = counts()
    other = fitted.with_dynamics(fitted.dynamics_)
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        value = other.score(X)
    assert "not fitted with one; proposal='laplace' is used" in caplog.text
    laplace = SMCLowRankRNN.from_dataset(fitted.to_dataset()).set_params(proposal="laplace")
    assert value == laplace.score(X)
    assert fitted.score(X) != value


def test_warm_start_goes_on_with_the_encoder(fitted):
    X = counts()
    model = SMCLowRankRNN.from_dataset(fitted.to_dataset()).set_params(warm_start=True, max_epochs=1)
    with pytest.warns(match="not converged"):
        model.fit(X)
    # one epoch judges the start, moves nowhere, and leaves what trajectories refit
    for name in encoder.NAMES:
        np.testing.assert_allclose(model.encoder_[name], fitted.encoder_[name], rtol=1e-12)
    model.set_params(encoder_kernels=(5, 2, 1))
    with pytest.raises(
        ValueError, match=r"warm_start: the fitted encoder has kernels \(3, 2, 1\).*set warm_start=False"
    ):
        model.fit(X)
    model.set_params(proposal="laplace", max_epochs=1)
    with pytest.warns(match="not converged"):
        model.fit(X)
    assert not hasattr(model, "encoder_")


def test_gaussian_values_with_gaps_can_be_encoded():
    rng = np.random.default_rng(0)
    X = np.sin(0.4 * np.arange(20))[None, :, None] * [1.0, -2.0, 0.5] + 0.3 * rng.standard_normal((6, 20, 3))
    X[0, 3:5, 1] = np.nan
    with pytest.warns(match="not converged"):
        model = small_model(encoder_padding="causal", n_init=2).fit(X)
    assert np.isfinite(model.score(X))
    assert model.transform(X).shape == (6, 20, 2)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"encoder_kernels": (21, 11)}, r"encoder_kernels: got \(21, 11\), wanted 3 whole numbers"),
        ({"encoder_kernels": (21, 0, 1)}, r"encoder_kernels\[1\]: got 0, wanted a whole number >= 1"),
        (
            {"encoder_channels": 64},
            r"encoder_channels: got 64, wanted 2 whole numbers >= 1, e.g. encoder_channels=\(64",
        ),
        ({"encoder_padding": "circular"}, r"encoder_padding: got 'circular'"),
    ],
)
def test_wrong_settings_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        small_model(**options).fit(counts())


def test_a_network_without_an_encoder_cannot_propose_with_it():
    net = small_network()
    data = small_data(net)
    with pytest.raises(TypeError, match="net: got a network without an encoder"):
        bound.run(net, data, Plan("encoder", 7), small_noise(net, data))
