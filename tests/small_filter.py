"""Small networks and trials for the tests of the particle filter."""

import dataclasses

import numpy as np
import torch

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.kernels.particle_types import Noise, Seen
from nwb_lrrnn.models.networks.cells import Cell
from nwb_lrrnn.models.observation.readouts import Readout
from nwb_lrrnn.models.smc import bound
from nwb_lrrnn.models.smc.data import TrialData, trial_data
from nwb_lrrnn.models.smc.filtering import Law
from nwb_lrrnn.models.smc.network import InitialLaw, ParticleNetwork
from nwb_lrrnn.models.smc.steps import Options
from nwb_lrrnn.trials import as_trials

LENGTHS = (6, 3, 5)
KINDS = {"cell": Cell, "readout": Readout, "start": InitialLaw, "law": Law}


def small_network(
    nonlinearity="tanh", likelihood="gaussian", readout="latents", *, link=None, rank=2, nets=2, seed=0,
    filter_inputs=True,
) -> ParticleNetwork:  # fmt: skip
    """Return S networks of 9 neurons, 4 units (or one per neuron) and 2 inputs, every parameter drawn."""
    rng = np.random.default_rng(seed)
    neurons, inputs = 9, 2
    units = 4 if readout == "latents" else neurons
    shape = (units, rank) if readout == "latents" else (units,)
    size = 0.3 if link == "exp" else 1.0  # counts of a usual size

    def draw(*shape):
        return torch.tensor(rng.standard_normal((nets, *shape)))

    # only clipped neurons have thresholds
    thresholds = draw(neurons).abs() * (nonlinearity == "clipped_relu")

    def root(sd):
        return sd * (torch.tril(0.2 * draw(rank, rank)) + torch.eye(rank))

    return ParticleNetwork(
        nonlinearity,
        Likelihood(likelihood, link or ("identity" if likelihood == "gaussian" else "softplus"), 0.5),
        Cell(
            draw(rank, neurons), draw(rank, neurons), 0.3 * draw(neurons), thresholds,
            0.5 * draw(inputs, neurons), 0.3 * draw(rank), 0.3 * draw(rank, inputs),
            torch.linspace(0.3, 0.6, nets, dtype=torch.float64),
        ),
        Readout(size * draw(*shape), 0.5 * draw(units), torch.exp(0.3 * draw(units))),
        filter_inputs,
        readout,
        InitialLaw(draw(rank), 0.5 * draw(rank, inputs)),
        Law(root(1.0), root(0.4)),
    )  # fmt: skip


def small_data(net: ParticleNetwork, mask="units", seed=0, device="cpu") -> TrialData:
    """Return three trials of unequal length; `mask` hides single entries ("units"), a whole bin ("bins") or none."""
    rng = np.random.default_rng([1, seed])
    units, inputs = net.readout.offset.shape[1], net.cell.input_weights.shape[1]
    counts = net.likelihood.name != "gaussian"
    trials = [
        rng.poisson(1.0, (n, units)).astype(float) if counts else 1.5 * rng.standard_normal((n, units)) for n in LENGTHS
    ]
    if net.likelihood.name == "bernoulli":
        trials = [np.minimum(y, 1.0) for y in trials]
    if mask == "units":
        for y in trials:
            y[rng.random(y.shape) < 0.2] = np.nan
    if mask != "none":
        trials[0][2] = np.nan
    given = [rng.standard_normal((n, inputs)) for n in LENGTHS] if inputs else None
    return trial_data(as_trials(trials, inputs=given, bin_size=0.5, allow_nan=True), device)


def small_noise(net: ParticleNetwork, data: TrialData, n_particles=7, scheme="systematic", seed=0) -> Noise:
    """Return the noise of a filter, in the type of the network."""
    generator = torch.Generator().manual_seed(seed)
    like = net.cell.left_vectors.detach()
    return bound.draw_noise(scheme, data.y.shape[:2], n_particles, like.shape[1], like, generator)


def parts_of(net: ParticleNetwork) -> dict[str, torch.Tensor]:
    """Return every parameter array by name."""
    return {f"{kind}.{name}": t for kind in KINDS for name, t in getattr(net, kind)._asdict().items()}


def with_parts(net: ParticleNetwork, parts: dict[str, torch.Tensor]) -> ParticleNetwork:
    """Return the network with other parameter arrays."""
    fields = {
        kind: maker(*(parts[f"{kind}.{name}"] for name in maker._fields))  # type: ignore[attr-defined]
        for kind, maker in KINDS.items()
    }
    return dataclasses.replace(net, **fields)


def with_leaves(
    net: ParticleNetwork, dtype=torch.float64, device="cpu"
) -> tuple[ParticleNetwork, dict[str, torch.Tensor]]:
    """Return the network made of leaves that want gradients, and these; readout and law stay in float64."""
    leaves = {
        name: t.to(device, torch.float64 if name.startswith(("readout", "law")) else dtype).clone().requires_grad_()
        for name, t in parts_of(net).items()
    }
    return with_parts(net, leaves), leaves


def filter_parts(net, data, plan):
    """Return what `filtering.run` takes before the sites, the sites' constant, and the observations; any proposal."""
    moves = net.moves(data)
    loadings, offset, spread = net.observation(moves.inputs)
    readout = "rates" if net.readout_of == "rates" else "latents"
    options = Options(net.nonlinearity, net.likelihood, readout, bound.WHEN[plan.when], plan.threshold, plan.n_newton)
    seen = Seen(data.y, data.mask, loadings, offset, spread)
    return (options, data.lengths, moves, net.law), bound.constants(net, data, spread), seen


def gradients(increments: torch.Tensor, leaves: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the gradients of an uneven sum of the increments, zeros where nothing depends on a leaf."""
    weights = torch.linspace(0.5, 1.5, increments.numel(), dtype=torch.float64).reshape(increments.shape)
    total = (increments * weights.to(increments.device)).sum()
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if g is None else g
        for (name, leaf), g in zip(leaves.items(), grads, strict=True)
    }  # fmt: skip


def linear_dynamics(likelihood="gaussian", readout="latents", *, inputs=0, filter_inputs=False, **changes):
    """Return a network of identity neurons: Kalman's filter says what is exact."""
    rng = np.random.default_rng(5)
    neurons, rank = 6, 2
    units = 4 if readout == "latents" else neurons
    driven = {
        "input_weights": rng.standard_normal((neurons, inputs)),
        "initial_input_weights": rng.standard_normal((rank, inputs)),
        "filter_inputs": filter_inputs,
    }
    fields = {
        "left_vectors": rng.standard_normal((neurons, rank)),
        "right_vectors": 1.5 * rng.standard_normal((neurons, rank)), "dt": 0.1, "tau": 0.4,
        "nonlinearity": "identity", "bias": 0.3 * rng.standard_normal(neurons),
        "drive": [0.3, -0.2], "latent_noise": [[0.2, 0.05], [0.05, 0.1]], "initial_mean": [0.5, -1.0],
        "initial_covariance": [[1.0, 0.3], [0.3, 0.5]], "readout": readout,
        "loadings": rng.standard_normal((units, rank) if readout == "latents" else units),
        "offset": rng.standard_normal(units), "likelihood": likelihood,
        "observation_variance": rng.uniform(0.5, 1.5, units) if likelihood == "gaussian" else None,
    }  # fmt: skip
    return LowRankDynamics(**(fields | (driven if inputs else {}) | changes))
