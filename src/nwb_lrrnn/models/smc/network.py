"""The parameters of `SMCLowRankRNN` as one flat vector per restart, and the networks that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.kernels.particle_types import Moves
from nwb_lrrnn.models.networks import form as forms
from nwb_lrrnn.models.networks.cells import filtered, stacked
from nwb_lrrnn.models.networks.form import Array, NetworkForm, StackedNetwork
from nwb_lrrnn.models.observation.readouts import Readout
from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.encoder import Design, Encoder, encoder_of, parts_of
from nwb_lrrnn.models.smc.filtering import Law
from nwb_lrrnn.models.training.loop import Layout

SMALLEST = 1e-4  # s.d. of the latents' noise, in units of the latents at the start of a fit


class InitialLaw(NamedTuple):
    """The law of z_1: N(mean + input_weights v_1, root root^T)."""

    mean: Tensor  # mu_1 (S, R)
    input_weights: Tensor  # K (S, R, I)


@dataclass(frozen=True)
class ParticleNetwork(StackedNetwork):
    """S networks side by side, ready to be filtered."""

    readout_of: str  # latents, currents or rates
    start: InitialLaw
    law: Law
    encoder: Encoder | None = None  # the proposal's, where it has one

    def moves(self, data: TrialData) -> Moves:
        """Return what moves the particles through these trials."""
        cell = self.cell
        kept, u = cell.left_vectors.dtype, data.inputs
        alpha = cell.alpha.double()
        v = filtered(alpha, u) if self.filter_inputs and u.shape[-1] else u[None]
        first = self.start.mean[:, None].expand(-1, len(u), -1)
        if u.shape[-1]:
            first = first + torch.matmul(v[:, :, 0].to(kept), self.start.input_weights.mT)
        push = cell.alpha[:, None] * cell.drive
        push = push[:, None, None]
        if u.shape[-1] and cell.latent_input_weights.shape[-1]:
            raw = torch.matmul(u[None].to(kept), cell.latent_input_weights[:, None].mT)
            push = push + cell.alpha[:, None, None, None] * raw
        scale = (cell.alpha / cell.left_vectors.shape[-1])[:, None, None]
        return Moves(
            1.0 - cell.alpha, cell.left_vectors, cell.right_vectors * scale, cell.bias, cell.thresholds,
            cell.input_weights, push, v.to(kept), first,
        )  # fmt: skip

    def observation(self, v: Tensor) -> Readout:
        """Return C (S, D, R), or c (S, N) of rates, d (S, B or 1, T or 1, D) and spread, in float64.

        Currents are linear in the latents: they are read through c m, with c (B v + b) in the offset.
        """
        loadings, offset, spread = (t.double() for t in self.readout)
        offset = offset[:, None, None]
        if self.readout_of != "currents":
            return Readout(loadings, offset, spread)
        x = self.cell.bias.double()[:, None, None]
        if v.shape[-1]:
            x = x + torch.matmul(v.double(), self.cell.input_weights.double()[:, None])
        gains = loadings
        loadings = gains[..., None] * self.cell.left_vectors.double().mT
        return Readout(loadings, gains[:, None, None] * x + offset, spread)


@dataclass(frozen=True)
class ParticleForm(NetworkForm):
    """The form of networks whose latents have noise, whose initial law is fitted, and that may have an encoder."""

    latent_noise: str = "full"  # or diagonal
    encoder: Design | None = None

    def layout(self) -> Layout:
        """Return the flat vector's layout, an encoder's weights last."""
        shared = super().layout()
        return shared if self.encoder is None else Layout(shared.shapes | self.encoder.shapes())

    def _shapes_of_laws(self) -> dict[str, tuple[int, ...]]:
        rank = self.rank
        return {
            "noise": (rank, rank) if self.latent_noise == "full" else (rank,),
            "initial_noise": (rank, rank),
            "initial_mean": (rank,),
            "initial_input_weights": (rank, self.n_inputs),
        }

    def network(self, layout: Layout, flat: Tensor) -> ParticleNetwork:
        """Return the S networks of flat parameters (S, size)."""
        p = layout.unpack(flat)
        return ParticleNetwork(
            **self.shared(p),
            readout_of=self.readout,
            start=InitialLaw(p["initial_mean"], p["initial_input_weights"]),
            law=Law(root_of(p["initial_noise"]), root_of(p["noise"])),
            encoder=None if self.encoder is None else encoder_of(self.encoder, p),
        )


def root_of(theta: Tensor) -> Tensor:
    """Return the root L (S, R, R) of a covariance from free numbers (S, R, R), or (S, R) of a diagonal one.

    L = strict_lower(theta) + diag(exp(theta_ii)), the diagonal at least `SMALLEST`.
    """
    floor = torch.log(theta.new_tensor(SMALLEST))
    if theta.ndim == 2:
        return torch.diag_embed(torch.exp(torch.maximum(theta, floor)))
    diagonal = torch.exp(torch.maximum(theta.diagonal(dim1=1, dim2=2), floor))
    return torch.tril(theta, -1) + torch.diag_embed(diagonal)


def free_numbers(covariance: Tensor, kind: str) -> Tensor:
    """Return the numbers from which `root_of` makes a root of covariances (S, R, R), or of their diagonals."""
    rank = covariance.shape[-1]
    if kind == "diagonal":
        return 0.5 * torch.log(covariance.diagonal(dim1=1, dim2=2).clamp(min=SMALLEST**2))
    eye = torch.eye(rank, dtype=covariance.dtype, device=covariance.device)
    root = torch.linalg.cholesky_ex(covariance + SMALLEST**2 * eye)[0]  # of what is no number, no error
    return torch.tril(root, -1) + torch.diag_embed(torch.log(root.diagonal(dim1=1, dim2=2)))


def to_dynamics(
    net: ParticleNetwork, row: int, bin_size: float, unit_ids: NDArray, moments: tuple[Array, Array]
) -> LowRankDynamics:
    """Return one of the S networks as a `LowRankDynamics`; moments are its latents' mean and covariance."""
    mean, input_weights, initial, noise = forms.arrays_of(row, *net.start, *net.law)
    laws = {
        "initial_mean": mean,
        "initial_input_weights": input_weights,
        "initial_covariance": initial @ initial.T,
        "latent_noise": noise @ noise.T,
    }
    return forms.to_dynamics(net, row, bin_size, unit_ids, moments, laws, net.readout_of)


def from_dynamics(dynamics: LowRankDynamics, *, dtype: torch.dtype, device: torch.device | str) -> ParticleNetwork:
    """Return a `LowRankDynamics` as one network, ready to be filtered."""
    rank = dynamics.rank
    wide = torch.float64  # what is not of the size of the neurons loses nothing
    eye = torch.eye(rank, dtype=wide, device=device)
    roots = []
    for covariance in (dynamics.initial_covariance, dynamics.latent_noise):
        if covariance is None:  # mu_1 has a law of its own by default, the latents no noise
            roots.append(eye[None] if not roots else 1e-6 * eye[None])
            continue
        c = torch.tensor(covariance, dtype=wide, device=device)
        lift = 1e-12 * torch.clamp(c.diagonal().mean(), min=1e-12)
        roots.append(torch.linalg.cholesky(c + lift * eye)[None])
    return ParticleNetwork(
        **forms.from_dynamics(dynamics, dtype=dtype, device=device, kept=wide),
        readout_of=dynamics.readout,
        start=InitialLaw(
            stacked(dynamics.initial_mean, rank, dtype=dtype, device=device),
            stacked(dynamics.initial_input_weights, rank, dynamics.n_inputs, dtype=dtype, device=device),
        ),
        law=Law(*roots),
    )


def flat_of(net: ParticleNetwork, form: ParticleForm) -> Tensor:
    """Return the parameters (size,) in the scales of `form` of one network, float64 on the CPU.

    Raises
    ------
    ValueError
        If the network has other sizes than `form` wants.
    """
    _, rank, neurons = net.cell.left_vectors.shape
    got = (rank, neurons, net.readout.offset.shape[1], net.cell.input_weights.shape[1], net.readout_of)
    wanted = (form.rank, form.n_neurons, form.n_units, form.n_inputs, form.readout)
    if got != wanted:
        raise ValueError(
            f"warm_start: the fitted network has rank, neurons, units, inputs, readout {got}, wanted {wanted}; "
            "set warm_start=False to start afresh"
        )
    initial, noise = (root.double() @ root.double().mT for root in net.law)
    parts = form.parts_of_network(net) | {
        "noise": free_numbers(noise, form.latent_noise),
        "initial_noise": free_numbers(initial, "full"),
        "initial_mean": net.start.mean.double(),
        "initial_input_weights": net.start.input_weights.double(),
    }
    if net.encoder is not None:
        parts |= {name: value.double() for name, value in parts_of(net.encoder).items()}
    return form.layout().pack(parts)[0]
