"""The variational SMC bound of trials under a network: which proposal, which noise, and the run of the filter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nwb_lrrnn.models.kernels.particle_types import BEFORE, EVERY_STEP, LOW_ESS, Moves, Noise, Record, Seen
from nwb_lrrnn.models.observation import likelihoods
from nwb_lrrnn.models.smc import encoder, filtering
from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.network import ParticleNetwork
from nwb_lrrnn.models.smc.proposals import Sites, blind_sites, gaussian_sites
from nwb_lrrnn.models.smc.steps import Options

WHEN = {"every_step": EVERY_STEP, "low_ess": LOW_ESS, "before_step": BEFORE}
SCHEMES = ("systematic", "stratified", "multinomial")
PROPOSALS = ("auto", "optimal", "laplace", "bootstrap", "encoder")


class Plan(NamedTuple):
    """How a filter is run."""

    proposal: str  # optimal, laplace, bootstrap or encoder
    n_particles: int
    scheme: str = "systematic"
    when: str = "before_step"
    threshold: float = 0.5
    n_newton: int = 12


def resolve(proposal: str, likelihood: str, readout: str) -> str:
    """Return the proposal that "auto" means: the optimal one where it exists, else Laplace's."""
    exact = likelihood == "gaussian" and readout != "rates"
    if proposal == "auto":
        return "optimal" if exact else "laplace"
    if proposal == "optimal" and not exact:
        raise ValueError(
            f"proposal: got 'optimal' with likelihood={likelihood!r} and readout={readout!r}, but it exists only for "
            "Gaussian values read from latents or currents; use proposal='laplace'"
        )
    return proposal


def guide_of(plan: Plan, likelihood: str, readout: str) -> Plan:
    """Return the plan of a filter that needs no encoder: the same, or the best proposal in place of the encoder's."""
    if plan.proposal != "encoder":
        return plan
    return plan._replace(proposal=resolve("auto", likelihood, readout))


def draw_noise(
    scheme: str, bins: torch.Size, n_particles: int, rank: int, like: Tensor, generator: torch.Generator
) -> Noise:
    """Return the noise of a filter over bins (B, T), drawn on the device of `like` and in its type."""
    device = like.device
    shape = (*bins, n_particles)
    normals = torch.randn((*shape, rank), generator=generator, dtype=like.dtype, device=device)
    uniforms = torch.rand(
        shape if scheme != "systematic" else (*bins, 1), generator=generator, dtype=torch.float64, device=device
    )
    return Noise(normals, points_of(scheme, uniforms, n_particles), torch.empty((1, *bins, 0), device=device))


def points_of(scheme: str, uniforms: Tensor, n_particles: int) -> Tensor:
    """Return sorted points in [0, 1), (..., K), from uniforms (..., 1) if systematic, else (..., K)."""
    if scheme == "multinomial":
        return torch.sort(uniforms, dim=-1)[0]
    strata = torch.arange(n_particles, dtype=torch.float64, device=uniforms.device)
    return (strata + uniforms) / n_particles


def run(
    net: ParticleNetwork, data: TrialData, plan: Plan, noise: Noise, *, kernels: bool | None = None
) -> tuple[Tensor, Record]:
    """Return the increments (S, B, T) of ln p(Y) and the record of the filter."""
    moves = net.moves(data)
    loadings, offset, spread = net.observation(moves.inputs)
    readout = "rates" if net.readout_of == "rates" else "latents"
    seen = Seen(data.y, data.mask, loadings, offset, spread)
    n_newton = 0
    given: Sites | Tensor
    if plan.proposal == "optimal":
        given = gaussian_sites(data.masks, data.y, data.mask, loadings, offset, spread)
        seen = Seen(data.y[..., :0], data.mask[..., :1], loadings[:, :0], offset[..., :0], spread[:, :0])
    else:
        constant = constants(net, data, spread)
        if plan.proposal == "laplace":
            given, n_newton = constant, plan.n_newton
        elif plan.proposal == "bootstrap":
            given = blind_sites(_bins_of_latents(moves, data), constant)
        else:
            if net.encoder is None:
                raise TypeError("net: got a network without an encoder, wanted one that has it for proposal='encoder'")
            given = encoder.sites_of(net.encoder, data, constant)
    options = Options(net.nonlinearity, net.likelihood, readout, WHEN[plan.when], plan.threshold, n_newton)
    return filtering.run(options, data.lengths, moves, net.law, given, seen, noise, kernels=kernels)


def _bins_of_latents(moves: Moves, data: TrialData) -> Tensor:
    nets, trials, rank = moves.start.shape
    return data.y.new_zeros((nets, trials, data.y.shape[1], rank))


def constants(net: ParticleNetwork, data: TrialData, spread: Tensor) -> Tensor:
    """Return the terms of ln p(y | z) that do not depend on z, summed over the observed units, (S, B, T)."""
    terms = likelihoods.constants(net.likelihood, data.y[None], spread[:, None, None])
    return (terms * data.mask).sum(-1)
