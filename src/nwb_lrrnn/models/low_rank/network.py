"""What is fixed in a fit of `LowRankRNN`, and its network as a `LowRankDynamics` and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.low_rank.shooting import Prior, ShootingNetwork
from nwb_lrrnn.models.networks import form as forms
from nwb_lrrnn.models.networks.cells import stacked
from nwb_lrrnn.models.networks.form import Array, NetworkForm
from nwb_lrrnn.models.observation.readouts import Readout
from nwb_lrrnn.models.training.loop import Layout


@dataclass(frozen=True)
class ShootingForm(NetworkForm):
    """The form of networks whose laws of the nodes are no parameters: they follow from the nodes."""

    def network(self, layout: Layout, flat: Tensor, prior: Prior) -> ShootingNetwork:
        """Return the S networks of flat parameters (S, size)."""
        return ShootingNetwork(**self.shared(layout.unpack(flat), self.n_inputs), prior=prior)

    def with_readout(self, flat: Tensor, readout: Readout) -> Tensor:
        """Return flat parameters (S, size) with another readout, given in the units of X."""
        layout = self.layout()
        return layout.pack(layout.unpack(flat) | self.parts_of_readout(readout))


def to_dynamics(
    net: ShootingNetwork, row: int, bin_size: float, unit_ids: NDArray, moments: tuple[Array, Array]
) -> LowRankDynamics:
    """Return one of the S networks as a `LowRankDynamics`; moments are its latents' mean and covariance."""
    mean, input_weights, covariance, _ = forms.arrays_of(row, *net.prior)
    laws = {"initial_mean": mean, "initial_input_weights": input_weights, "initial_covariance": covariance}
    return forms.to_dynamics(net, row, bin_size, unit_ids, moments, laws)


def from_dynamics(
    dynamics: LowRankDynamics, node_covariance: Array, *, dtype: torch.dtype, device: torch.device | str
) -> ShootingNetwork:
    """Return a fitted `LowRankDynamics` (readout of latents) as a network of one, ready for inference."""
    rank, covariance = dynamics.rank, dynamics.initial_covariance
    eye = torch.eye(rank, dtype=dtype, device=device)[None]
    prior = Prior(
        stacked(dynamics.initial_mean, rank, dtype=dtype, device=device),
        stacked(dynamics.initial_input_weights, rank, dynamics.n_inputs, dtype=dtype, device=device),
        eye if covariance is None else stacked(covariance, dtype=dtype, device=device),
        stacked(node_covariance, dtype=dtype, device=device),
    )
    return ShootingNetwork(**forms.from_dynamics(dynamics, dtype=dtype, device=device), prior=prior)
