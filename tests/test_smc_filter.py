"""The fused particle filter: against the torch loop, a plain filter, finite differences, and on other devices."""

import numpy as np
import pytest
import torch

from nwb_lrrnn.dynamics import NONLINEARITIES
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.kernels.particle_types import NEVER, Noise
from nwb_lrrnn.models.networks.cells import Cell
from nwb_lrrnn.models.observation.readouts import Readout
from nwb_lrrnn.models.smc import bound, filtering
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.data import trial_data
from nwb_lrrnn.models.smc.filtering import Law
from nwb_lrrnn.models.smc.network import InitialLaw, ParticleNetwork
from nwb_lrrnn.models.training.devices import one_thread
from nwb_lrrnn.trials import as_trials
from plain_filter import draw_network, plain_filter
from small_filter import (
    filter_parts,
    gradients,
    parts_of,
    small_data,
    small_network,
    small_noise,
    with_leaves,
    with_parts,
)

READINGS = [  # likelihood, link, readout, proposal
    ("gaussian", None, "latents", "optimal"),
    ("gaussian", None, "currents", "optimal"),
    ("gaussian", None, "rates", "laplace"),
    ("gaussian", None, "latents", "bootstrap"),
    ("poisson", "softplus", "latents", "laplace"),
    ("poisson", "exp", "currents", "laplace"),
    ("poisson", "softplus", "rates", "bootstrap"),
    ("negative_binomial", "softplus", "latents", "bootstrap"),
    ("negative_binomial", "exp", "latents", "laplace"),
    ("negative_binomial", "softplus", "rates", "laplace"),
    ("bernoulli", "logit", "latents", "laplace"),
    ("bernoulli", "logit", "rates", "bootstrap"),
]
WHEN = ["every_step", "low_ess", "before_step", "never"]


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    """Let a plan say that particles are never resampled, which no user can choose; torch keeps to one thread."""
    monkeypatch.setitem(bound.WHEN, "never", NEVER)
    with one_thread():
        yield


def close(ours, wanted, tolerance=1e-9):
    """Assert that arrays by name differ by at most this share of the norm."""
    for name, value in wanted.items():
        norm = max(1.0, float(value.norm()))
        assert float((ours[name].to(value) - value).norm()) <= tolerance * norm, name


# --- kernels against torch -------------------------------------------------------------------------------------------


def compare_with_torch(net, data, plan, noise):
    tolerance = 1e-9
    results = []
    for kernels in (True, False):
        ours, leaves = with_leaves(net)
        increments, record = bound.run(ours, data, plan, noise, kernels=kernels)
        results.append((increments.detach(), gradients(increments, leaves), record))
    (fused, fused_grads, a), (plain, plain_grads, b) = results
    assert (fused[:, 1, 3:] == 0).all()  # beyond the end of a trial
    torch.testing.assert_close(fused, plain, rtol=tolerance, atol=tolerance)
    close(fused_grads, plain_grads, tolerance)
    inside = np.arange(data.y.shape[1]) < data.lengths.numpy()[:, None]
    for name in ("moved", "drawn", "weights", "resampled"):
        np.testing.assert_allclose(
            getattr(a, name)[:, inside], getattr(b, name)[:, inside], rtol=tolerance, atol=tolerance
        )
    again = np.asarray(a.resampled)
    np.testing.assert_array_equal(np.asarray(a.ancestors)[again], np.asarray(b.ancestors)[again])
    return a


@pytest.mark.parametrize("reading", range(len(READINGS)), ids=lambda k: "-".join(filter(None, READINGS[k])))
@pytest.mark.parametrize("code", range(6), ids=lambda k: NONLINEARITIES[k])
def test_fused_filter_and_gradients_equal_torch(code, reading):
    # when, masks, ranks and schemes go round so that every reading and every nonlinearity meets all of them
    likelihood, link, readout, proposal = READINGS[reading]
    rank = (2, 5, 1, 3)[(code + 2 * reading) % 4]
    net = small_network(NONLINEARITIES[code], likelihood, readout, link=link, rank=rank, seed=code)
    data = small_data(net, ("units", "bins", "none")[(code + reading) % 3], seed=reading)
    plan = Plan(proposal, 7, ("systematic", "stratified", "multinomial")[code % 3], WHEN[(code + reading) % 4])
    compare_with_torch(net, data, plan, small_noise(net, data, 7, plan.scheme))


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("nonlinearity", ["relu", "clipped_relu", "tanh"])
def test_fused_filter_of_rank_above_four_equals_torch(nonlinearity, when):
    net = small_network(nonlinearity, rank=6, filter_inputs=False)
    data = small_data(net)
    compare_with_torch(net, data, Plan("optimal", 7, when=when), small_noise(net, data))


def test_low_ess_resamples_here_and_there_only():
    net = small_network()
    data = small_data(net)
    record = compare_with_torch(net, data, Plan("bootstrap", 7, when="low_ess"), small_noise(net, data))
    inside = np.arange(data.y.shape[1]) < data.lengths.numpy()[:, None]
    share = np.asarray(record.resampled)[:, inside].mean()
    assert 0.0 < share < 1.0


@pytest.mark.parametrize("when", WHEN)
def test_one_particle_needs_no_resampling(when):
    net = small_network()
    data = small_data(net)
    record = compare_with_torch(net, data, Plan("optimal", 1, when=when), small_noise(net, data, 1))
    assert not np.asarray(record.resampled).any()


@pytest.mark.parametrize("when", ["every_step", "before_step", "never"])
@pytest.mark.parametrize(("nonlinearity", "reading"), [("clipped_relu", 0), ("tanh", 0), ("softplus", 4), ("erf", 9)])
def test_float32_filter_is_close_to_float64(nonlinearity, reading, when):
    likelihood, link, readout, proposal = READINGS[reading]
    net = small_network(nonlinearity, likelihood, readout, link=link, rank=3)
    data = small_data(net)
    plan = Plan(proposal, 16, when=when)
    noise = small_noise(net, data, 16)
    single, leaves = with_leaves(net, torch.float32)
    low = noise._replace(normals=noise.normals.float())
    increments, record = bound.run(single, data, plan, low)
    ours = gradients(increments, leaves)
    double, leaves = with_leaves(net)
    given = low._replace(normals=low.normals.double(), ancestors=torch.as_tensor(record.ancestors))
    exact, _ = bound.run(double, data, plan, given, kernels=False)
    assert record.drawn.dtype == np.float32
    assert abs(float(((increments.sum() - exact.sum()) / exact.sum()).detach())) < 1e-5
    for name, wanted in gradients(exact, leaves).items():
        assert float((ours[name] - wanted).norm()) <= 1e-4 * float(wanted.norm()) + 1e-12, name


# --- against the plain filter ----------------------------------------------------------------------------------------


def as_network(plain, nonlinearity, likelihood, readout, filter_inputs):
    """Return the same network in our layout; differentiable."""
    latent_last = lambda a: a.mT[None]  # noqa: E731
    cell = Cell(
        latent_last(plain.left_vectors), latent_last(plain.right_vectors), plain.bias[None], plain.thresholds[None],
        latent_last(plain.input_weights), plain.drive[None], plain.latent_input_weights[None], plain.alpha[None],
    )  # fmt: skip
    return ParticleNetwork(
        nonlinearity,
        Likelihood(likelihood, "identity" if likelihood == "gaussian" else "softplus", 0.5),
        cell,
        Readout(plain.loadings[None], plain.offset[None], plain.variance[None]),
        filter_inputs,
        readout,
        InitialLaw(plain.initial_mean[None], plain.initial_input_weights[None]),
        Law(plain.initial_root[None], plain.noise_root[None]),
    )


@pytest.mark.parametrize("given", [False, True], ids=["points", "ancestors"])
@pytest.mark.parametrize("filter_inputs", [False, True])
@pytest.mark.parametrize(
    ("nonlinearity", "likelihood", "readout", "proposal"),
    [
        ("clipped_relu", "gaussian", "latents", "optimal"),
        ("tanh", "gaussian", "currents", "optimal"),
        ("relu", "gaussian", "latents", "bootstrap"),
        ("clipped_relu", "poisson", "latents", "bootstrap"),
    ],
)
def test_bound_and_gradients_equal_the_plain_filter(nonlinearity, likelihood, readout, proposal, filter_inputs, given):
    steps, trials, particles, neurons, rank = 8, 3, 12, 7, 2
    scheme = "multinomial" if given else "systematic"
    rng = np.random.default_rng(3)
    y = (
        rng.standard_normal((steps, trials, neurons))
        if likelihood == "gaussian"
        else rng.poisson(1.0, (steps, trials, 7))
    )
    y = torch.tensor(y, dtype=torch.float64)
    u = torch.tensor(rng.standard_normal((steps, trials, 2)))
    normals = torch.tensor(rng.standard_normal((steps, trials, particles, rank)))
    uniforms = torch.tensor(rng.uniform(size=(steps, trials, particles) if given else (steps, trials)))
    start = draw_network(neurons, rank, neurons, readout, n_inputs=2)._replace(readout_input_weights=None)
    if nonlinearity != "clipped_relu":
        start = start._replace(thresholds=torch.zeros(neurons, dtype=torch.float64))
    leaves = {k: a.clone().requires_grad_() for k, a in start._asdict().items() if a is not None}
    plain = start._replace(**leaves)
    theirs = plain_filter(
        plain, y, particles, nonlinearity=nonlinearity, readout=readout, likelihood=likelihood, bin_size=0.5,
        proposal=proposal, resampling=scheme, inputs=u, filter_inputs=filter_inputs, noise=normals, uniforms=uniforms,
    )  # fmt: skip
    wanted = gradients(theirs.increments.T[None], leaves)

    data = data_of(y, u)
    points = bound.points_of("systematic", uniforms.T[..., None], particles) if not given else uniforms.transpose(0, 1)
    ancestors = theirs.ancestors.transpose(0, 1)[None].int() if given else torch.empty((1, trials, steps, 0))
    noise = Noise(normals.transpose(0, 1), points, ancestors)
    net = as_network(plain, nonlinearity, likelihood, readout, filter_inputs)
    increments, record = bound.run(net, data, Plan(proposal, particles, when="every_step"), noise)
    torch.testing.assert_close(increments[0].T, theirs.increments, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(record.ancestors[0], theirs.ancestors.transpose(0, 1))
    np.testing.assert_allclose(record.drawn[0], theirs.particles.detach().transpose(0, 1), rtol=1e-9, atol=1e-9)
    ours = gradients(increments, leaves)
    for name in ("noise_root", "initial_root"):  # above the diagonal nothing counts
        ours[name], wanted[name] = torch.tril(ours[name]), torch.tril(wanted[name])
    close(ours, wanted)


def data_of(y, u):
    """Return arrays (time, trial, ...) as trials."""
    trials = as_trials(y.transpose(0, 1).numpy(), inputs=u.transpose(0, 1).numpy(), bin_size=0.5)
    return trial_data(trials, "cpu")


# --- finite differences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_particles", "when"), [(1, "every_step"), (5, "never")])
@pytest.mark.parametrize("nonlinearity", ["tanh", "clipped_relu"])
@pytest.mark.parametrize("reading", range(len(READINGS)), ids=lambda k: "-".join(filter(None, READINGS[k])))
def test_gradients_without_resampling_equal_finite_differences(reading, nonlinearity, n_particles, when):
    likelihood, link, readout, proposal = READINGS[reading]
    net = small_network(nonlinearity, likelihood, readout, link=link, nets=1)
    data = small_data(net)
    noise = small_noise(net, data, n_particles)
    plan = Plan(proposal, n_particles, when=when)
    start, leaves = with_leaves(net)
    increments, _ = bound.run(start, data, plan, noise)
    exact = gradients(increments, leaves)
    sites = found_sites(net, data, plan, noise) if proposal == "laplace" else None  # they count as constants
    again = increments_with(sites, net, data, plan, noise)
    torch.testing.assert_close(again, increments.detach(), rtol=1e-12, atol=1e-12)
    weights = torch.linspace(0.5, 1.5, increments.numel(), dtype=torch.float64).reshape(increments.shape)
    generator = torch.Generator().manual_seed(1)
    parts = parts_of(net)
    for name, value in parts.items():
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        direction = torch.tril(direction) if name.startswith("law") else direction
        ends = []
        for step in (1e-5, -1e-5):
            moved = with_parts(net, parts | {name: value + step * direction})
            ends.append(float((increments_with(sites, moved, data, plan, noise) * weights).sum()))
        slope = (ends[0] - ends[1]) / 2e-5
        # differences of some tens, at steps of 1e-5: 1e-9 by rounding, 1e-8 by curvature
        np.testing.assert_allclose(float((exact[name] * direction).sum()), slope, rtol=1e-6, atol=1e-6, err_msg=name)


def found_sites(net, data, plan, noise):
    """Return the sites that the Laplace proposal finds on the way."""
    fixed, constant, seen = filter_parts(net, data, plan)
    return filtering._search(*fixed, constant, seen, noise)[1]


def increments_with(sites, net, data, plan, noise):
    """Return the increments of a filter, its sites being given where a Laplace proposal would find them."""
    if sites is None:
        return bound.run(net, data, plan, noise)[0]
    fixed, constant, seen = filter_parts(net, data, plan)
    return filtering.run(*fixed, sites._replace(constant=constant), seen, noise)[0]


# --- other devices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "when"),
    [
        *(pytest.param(k, "low_ess", marks=pytest.mark.slow if k % 2 else []) for k in range(len(READINGS))),
        *((0, w) for w in WHEN if w != "low_ess"),
    ],
)
def test_torch_filter_runs_on_the_meta_device_without_a_host_sync(reading, when):
    likelihood, link, readout, proposal = READINGS[reading]
    net = small_network("clipped_relu", likelihood, readout, link=link)
    data = small_data(net, device="meta")
    noise = Noise(*(t.to("meta") for t in small_noise(net, data)))
    net, leaves = with_leaves(net, device="meta")
    increments, record = bound.run(net, data, Plan(proposal, 7, when=when, n_newton=2), noise)
    increments.sum().backward()
    assert increments.shape == (2, *data.y.shape[:2])
    assert record.drawn.shape == (2, *data.y.shape[:2], 7, 2)
    assert leaves["cell.left_vectors"].grad is not None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("reading", range(len(READINGS)), ids=lambda k: "-".join(filter(None, READINGS[k])))
def test_cuda_filter_and_gradients_equal_cpu(reading, nonlinearity, when):
    likelihood, link, readout, proposal = READINGS[reading]
    net = small_network(nonlinearity, likelihood, readout, link=link)
    data = small_data(net)
    noise, plan = small_noise(net, data), Plan(proposal, 7, when=when)
    tolerance = 1e-9
    on_cpu, leaves = with_leaves(net)
    increments, _ = bound.run(on_cpu, data, plan, noise)
    wanted = gradients(increments, leaves)
    on_gpu, leaves = with_leaves(net, device="cuda")
    noise = Noise(*(t.cuda() for t in noise))
    ours, _ = bound.run(on_gpu, small_data(net, device="cuda"), plan, noise)
    torch.testing.assert_close(ours.detach().cpu(), increments.detach(), rtol=tolerance, atol=tolerance)
    close({name: g.cpu() for name, g in gradients(ours, leaves).items()}, wanted, tolerance)
