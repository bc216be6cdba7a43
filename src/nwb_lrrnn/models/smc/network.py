"""The parameters of `SMCLowRankRNN` as one flat vector per restart, and the networks that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.kernels.particle_types import Moves
from nwb_lrrnn.models.networks.cells import Cell, cell_of, filtered
from nwb_lrrnn.models.observation.readouts import Readout
from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.encoder import Design, Encoder, encoder_of, parts_of
from nwb_lrrnn.models.smc.filtering import Law
from nwb_lrrnn.models.training.loop import Layout

SMALLEST = 1e-4  # s.d. of the latents' noise, in units of the latents at the start of a fit


class Start(NamedTuple):
    """The law of z_1: N(mean + input_weights v_1, root root^T)."""

    mean: Tensor  # mu_1 (S, R)
    input_weights: Tensor  # K (S, R, I)


@dataclass(frozen=True)
class Network:
    """S networks side by side, ready to be filtered."""

    nonlinearity: str
    likelihood: Likelihood
    readout_of: str  # latents, currents or rates
    cell: Cell
    readout: Readout  # loadings C (S, unit, R), or c (S, N) for currents and rates
    start: Start
    law: Law
    filter_inputs: bool
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
class Form:
    """What is fixed while the parameters are fitted: sizes, functions, and the scale of every unit."""

    rank: int
    n_neurons: int
    n_units: int
    n_inputs: int
    nonlinearity: str
    likelihood: Likelihood
    readout: str
    latent_noise: str  # full or diagonal
    alpha: float | None  # None: fitted
    filter_inputs: bool
    scale: Tensor  # (unit,): loadings and offsets are fitted in this unit, so that they are of order 1
    centre: Tensor  # (unit,)
    encoder: Design | None = None

    def layout(self) -> Layout:
        """Return the flat vector's layout."""
        rank, neurons, units = self.rank, self.n_neurons, self.n_units
        shapes: dict[str, tuple[int, ...]] = {
            "left_vectors": (rank, neurons),
            "right_vectors": (rank, neurons),
            "bias": (neurons,),
            "input_weights": (self.n_inputs, neurons),
            "drive": (rank,),
            "loadings": (units, rank) if self.readout == "latents" else (units,),
            "offset": (units,),
            "noise": (rank, rank) if self.latent_noise == "full" else (rank,),
            "initial_noise": (rank, rank),
            "initial_mean": (rank,),
            "initial_input_weights": (rank, self.n_inputs),
        }
        if self.nonlinearity == "clipped_relu":
            shapes["log_thresholds"] = (neurons,)
        if self.likelihood.has_spread:
            shapes["log_spread"] = (units,)
        if self.alpha is None:
            shapes["logit_alpha"] = ()
        if self.encoder is not None:
            shapes |= self.encoder.shapes()
        return Layout(shapes)

    def network(self, layout: Layout, flat: Tensor) -> Network:
        """Return the S networks of flat parameters (S, size)."""
        p = layout.unpack(flat)
        bias = p["bias"]
        cell = Cell(
            p["left_vectors"],
            p["right_vectors"],
            bias,
            torch.exp(p["log_thresholds"]) if "log_thresholds" in p else torch.zeros_like(bias),
            p["input_weights"],
            p["drive"],
            p["drive"].new_zeros((*p["drive"].shape, 0)),
            torch.sigmoid(p["logit_alpha"]) if "logit_alpha" in p else torch.full_like(bias[:, 0], self.alpha or 0.5),
        )
        spread = torch.exp(p["log_spread"]) if "log_spread" in p else torch.ones_like(p["offset"])
        spread = spread * self.likelihood.spread_unit(self.scale)
        scale = self.scale[:, None] if self.readout == "latents" else self.scale
        readout = Readout(p["loadings"] * scale, p["offset"] * self.scale + self.centre, spread)
        start = Start(p["initial_mean"], p["initial_input_weights"])
        law = Law(root_of(p["initial_noise"]), root_of(p["noise"]))
        encoder = None if self.encoder is None else encoder_of(self.encoder, p)
        return Network(
            self.nonlinearity, self.likelihood, self.readout, cell, readout, start, law, self.filter_inputs, encoder
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
    root = torch.linalg.cholesky(covariance + SMALLEST**2 * eye)
    return torch.tril(root, -1) + torch.diag_embed(torch.log(root.diagonal(dim1=1, dim2=2)))


def to_dynamics(net: Network, row: int, bin_size: float, unit_ids, moments) -> LowRankDynamics:
    """Return one of the S networks as a `LowRankDynamics`; moments are its latents' mean and covariance."""

    def array(tensor: Tensor):
        return tensor[row].detach().cpu().double().numpy()

    left, right, bias, thresholds, weights, drive, _, alpha = (array(t) for t in net.cell)
    loadings, offset, spread = (array(t) for t in net.readout)
    initial_root, noise_root = (array(t) for t in net.law)
    driven = bool(weights.shape[0])
    return LowRankDynamics(
        left.T,
        right.T,
        dt=bin_size,
        tau=bin_size / float(alpha),
        nonlinearity=net.nonlinearity,
        bias=bias,
        thresholds=thresholds if net.nonlinearity == "clipped_relu" else None,
        input_weights=weights.T if driven else None,
        drive=drive,
        filter_inputs=net.filter_inputs,
        latent_noise=noise_root @ noise_root.T,
        initial_mean=array(net.start.mean),
        initial_covariance=initial_root @ initial_root.T,
        initial_input_weights=array(net.start.input_weights) if driven else None,
        readout=net.readout_of,
        loadings=loadings,
        offset=offset,
        likelihood=net.likelihood.name,
        link=net.likelihood.link,
        **net.likelihood.fields(spread),
        latent_mean=moments[0],
        latent_covariance=moments[1],
        unit_ids=unit_ids,
    )


def from_dynamics(dynamics: LowRankDynamics, *, dtype: torch.dtype, device) -> Network:
    """Return a `LowRankDynamics` as one network, ready to be filtered."""

    def tensor(array, *shape: int, kept: torch.dtype = dtype) -> Tensor:
        if array is None:
            return torch.zeros((1, *shape), dtype=kept, device=device)
        return torch.tensor(array, dtype=kept, device=device)[None]

    rank, inputs, units = dynamics.rank, dynamics.n_inputs, dynamics.n_units
    cell = cell_of(dynamics, dtype=dtype, device=device)
    wide = torch.float64  # what is not of the size of the neurons loses nothing
    likelihood = Likelihood(dynamics.likelihood, str(dynamics.link), dynamics.dt)
    spread = likelihood.spread_of(dynamics)
    readout = Readout(
        tensor(dynamics.loadings, kept=wide),
        tensor(dynamics.offset, units, kept=wide),
        torch.ones((1, units), dtype=wide, device=device) if spread is None else tensor(spread, kept=wide),
    )
    start = Start(tensor(dynamics.initial_mean, rank), tensor(dynamics.initial_input_weights, rank, inputs))
    eye = torch.eye(rank, dtype=wide, device=device)
    roots = []
    for covariance in (dynamics.initial_covariance, dynamics.latent_noise):
        if covariance is None:  # mu_1 has a law of its own by default, the latents no noise
            roots.append(eye[None] if not roots else 1e-6 * eye[None])
            continue
        c = torch.tensor(covariance, dtype=wide, device=device)
        lift = 1e-12 * torch.clamp(c.diagonal().mean(), min=1e-12)
        roots.append(torch.linalg.cholesky(c + lift * eye)[None])
    return Network(
        dynamics.nonlinearity, likelihood, dynamics.readout, cell, readout, start, Law(*roots), dynamics.filter_inputs
    )


def flat_of(net: Network, form: Form) -> Tensor:
    """Return the parameters (size,) in the scales of `form` of one network, float64 on the CPU.

    Raises
    ------
    ValueError
        If the network has other sizes than `form` wants.
    """
    left, right, bias, thresholds, weights, drive, _, alpha = (t[0].double() for t in net.cell)
    loadings, offset, spread = (t[0].double() for t in net.readout)
    got = (len(left), left.shape[1], len(offset), len(weights), net.readout_of)
    wanted = (form.rank, form.n_neurons, form.n_units, form.n_inputs, form.readout)
    if got != wanted:
        raise ValueError(
            f"warm_start: the fitted network has rank, neurons, units, inputs, readout {got}, wanted {wanted}; "
            "set warm_start=False to start afresh"
        )
    scale, centre = form.scale.double().cpu(), form.centre.double().cpu()
    alpha = alpha.clamp(1e-6, 1 - 1e-6)
    roots = [root.double() @ root.double().mT for root in net.law]
    parts = {
        "left_vectors": left,
        "right_vectors": right,
        "bias": bias,
        "input_weights": weights,
        "drive": drive,
        "loadings": loadings / (scale[:, None] if form.readout == "latents" else scale),
        "offset": (offset - centre) / scale,
        "noise": free_numbers(roots[1], form.latent_noise)[0],
        "initial_noise": free_numbers(roots[0], "full")[0],
        "initial_mean": net.start.mean[0].double(),
        "initial_input_weights": net.start.input_weights[0].double(),
        "log_thresholds": torch.log(thresholds.clamp(min=1e-12)),
        "log_spread": torch.log(spread / form.likelihood.spread_unit(scale)),
        "logit_alpha": torch.log(alpha / (1 - alpha)),
    }
    if net.encoder is not None:
        parts |= {name: value[0].double() for name, value in parts_of(net.encoder).items()}
    layout = form.layout()
    return layout.pack({name: parts[name][None] for name in layout.shapes})[0]
