"""The parameters of `LowRankRNN` as one flat vector per restart, and as the network that they make."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.low_rank.shooting import Network, Prior
from nwb_lrrnn.models.networks.cells import Cell, cell_of
from nwb_lrrnn.models.observation.readouts import Readout
from nwb_lrrnn.models.training.loop import Layout


@dataclass(frozen=True)
class Form:
    """What is fixed while the parameters are fitted: sizes, functions, and the scale of every unit."""

    rank: int
    n_neurons: int
    n_units: int
    n_inputs: int
    nonlinearity: str
    likelihood: Likelihood
    alpha: float | None  # None: fitted
    filter_inputs: bool
    scale: Tensor  # (unit,): loadings and offsets are fitted in this unit, so that they are of order 1
    centre: Tensor  # (unit,)

    def layout(self) -> Layout:
        """Return the flat vector's layout."""
        rank, neurons, units = self.rank, self.n_neurons, self.n_units
        shapes = {
            "left_vectors": (rank, neurons),
            "right_vectors": (rank, neurons),
            "bias": (neurons,),
            "input_weights": (self.n_inputs, neurons),
            "drive": (rank,),
            "loadings": (units, rank),
            "offset": (units,),
        }
        if self.nonlinearity == "clipped_relu":
            shapes["log_thresholds"] = (neurons,)
        if self.likelihood.has_spread:
            shapes["log_spread"] = (units,)
        if self.alpha is None:
            shapes["logit_alpha"] = ()
        return Layout(shapes)

    def network(self, layout: Layout, flat: Tensor, prior: Prior) -> Network:
        """Return the S networks of flat parameters (S, size)."""
        p = layout.unpack(flat)
        bias = p["bias"]
        fixed = torch.full_like(bias[:, 0], self.alpha or 0.5)
        cell = Cell(
            p["left_vectors"],
            p["right_vectors"],
            bias,
            torch.exp(p["log_thresholds"]) if "log_thresholds" in p else torch.zeros_like(bias),
            p["input_weights"],
            p["drive"],
            p["drive"].new_zeros((*p["drive"].shape, self.n_inputs)),
            torch.sigmoid(p["logit_alpha"]) if "logit_alpha" in p else fixed,
        )
        spread = torch.exp(p["log_spread"]) if "log_spread" in p else torch.ones_like(p["offset"])
        spread = spread * self.likelihood.spread_unit(self.scale)
        readout = Readout(p["loadings"] * self.scale[:, None], p["offset"] * self.scale + self.centre, spread)
        return Network(self.nonlinearity, cell, readout, self.likelihood, prior, self.filter_inputs)

    def with_readout(self, flat: Tensor, readout: Readout) -> Tensor:
        """Return flat parameters (S, size) with another readout, given in the units of X."""
        layout = self.layout()
        parts = layout.unpack(flat)
        parts["loadings"] = readout.loadings / self.scale[:, None]
        parts["offset"] = (readout.offset - self.centre) / self.scale
        if "log_spread" in parts:
            parts["log_spread"] = torch.log(readout.spread / self.likelihood.spread_unit(self.scale))
        return layout.pack(parts)


def to_dynamics(net: Network, row: int, bin_size: float, unit_ids, moments) -> LowRankDynamics:
    """Return one of the S networks as a `LowRankDynamics`; moments are its latents' mean and covariance."""
    cell = [t[row].detach().cpu().double().numpy() for t in net.cell]
    loadings, offset, spread = (t[row].detach().cpu().double().numpy() for t in net.readout)
    mean, input_weights, covariance, _ = (t[row].detach().cpu().double().numpy() for t in net.prior)
    left, right, bias, thresholds, weights, drive, _, alpha = cell
    with_inputs = bool(weights.shape[0])
    return LowRankDynamics(
        left.T,
        right.T,
        dt=bin_size,
        tau=bin_size / float(alpha),
        nonlinearity=net.nonlinearity,
        bias=bias,
        thresholds=thresholds if net.nonlinearity == "clipped_relu" else None,
        input_weights=weights.T if with_inputs else None,
        drive=drive,
        filter_inputs=net.filter_inputs,
        initial_mean=mean,
        initial_covariance=covariance,
        initial_input_weights=input_weights if with_inputs else None,
        loadings=loadings,
        offset=offset,
        likelihood=net.likelihood.name,
        link=net.likelihood.link,
        **net.likelihood.fields(spread),
        latent_mean=moments[0],
        latent_covariance=moments[1],
        unit_ids=unit_ids,
    )


def from_dynamics(dynamics: LowRankDynamics, node_covariance, *, dtype: torch.dtype, device) -> Network:
    """Return a fitted `LowRankDynamics` (readout of latents) as a network of one, ready for inference."""

    def tensor(array, *shape: int) -> Tensor:
        if array is None:
            return torch.zeros((1, *shape), dtype=dtype, device=device)
        return torch.tensor(array, dtype=dtype, device=device)[None]

    rank, inputs, units = dynamics.rank, dynamics.n_inputs, dynamics.n_units

    cell = cell_of(dynamics, dtype=dtype, device=device)
    likelihood = Likelihood(dynamics.likelihood, str(dynamics.link), dynamics.dt)
    spread = likelihood.spread_of(dynamics)
    readout = Readout(
        tensor(dynamics.loadings),
        tensor(dynamics.offset, units),
        tensor(spread) if spread is not None else torch.ones((1, units), dtype=dtype, device=device),
    )
    covariance = dynamics.initial_covariance
    eye = torch.eye(rank, dtype=dtype, device=device)[None]
    prior = Prior(
        tensor(dynamics.initial_mean, rank),
        tensor(dynamics.initial_input_weights, rank, inputs),
        eye if covariance is None else tensor(covariance),
        tensor(node_covariance),
    )
    return Network(dynamics.nonlinearity, cell, readout, likelihood, prior, dynamics.filter_inputs)
