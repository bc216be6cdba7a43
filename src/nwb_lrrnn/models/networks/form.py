"""What all networks trained by gradients share: parameters as one flat vector per restart, and what they make.

`NetworkForm` is what stays fixed during a fit, `StackedNetwork` the networks that flat parameters make; a model extends
both by what is its own, the laws of its latents. `LowRankDynamics` is read and written here alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood, choose_link
from nwb_lrrnn.models.networks.cells import Cell, cell_of, stacked
from nwb_lrrnn.models.networks.checks import TrainedModel
from nwb_lrrnn.models.networks.scales import scales_of
from nwb_lrrnn.models.observation.readouts import Readout
from nwb_lrrnn.models.training.loop import Layout
from nwb_lrrnn.trials import LazyTrials, Trials

Array = NDArray[np.floating]
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class StackedNetwork:
    """S networks side by side: dynamics, readout and likelihood."""

    nonlinearity: str
    likelihood: Likelihood
    cell: Cell
    readout: Readout  # loadings C (S, unit, R), or c (S, N) where currents or rates are read
    filter_inputs: bool


@dataclass(frozen=True)
class NetworkForm:
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
    readout: str = "latents"  # or currents, rates

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
        }
        shapes |= self._shapes_of_laws()
        if self.nonlinearity == "clipped_relu":
            shapes["log_thresholds"] = (neurons,)
        if self.likelihood.has_spread:
            shapes["log_spread"] = (units,)
        if self.alpha is None:
            shapes["logit_alpha"] = ()
        return Layout(shapes)

    def _shapes_of_laws(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what is fitted by gradients beside dynamics and readout."""
        return {}

    def shared(self, p: Parts, n_latent_inputs: int = 0) -> dict[str, Any]:
        """Return the fields of a `StackedNetwork` that unpacked parameters make."""
        bias = p["bias"]
        cell = Cell(
            p["left_vectors"],
            p["right_vectors"],
            bias,
            torch.exp(p["log_thresholds"]) if "log_thresholds" in p else torch.zeros_like(bias),
            p["input_weights"],
            p["drive"],
            p["drive"].new_zeros((*p["drive"].shape, n_latent_inputs)),
            torch.sigmoid(p["logit_alpha"]) if "logit_alpha" in p else torch.full_like(bias[:, 0], self.alpha or 0.5),
        )
        spread = torch.ones_like(p["offset"])
        if "log_spread" in p:
            least, most = self.likelihood.family.spread_limits
            spread = torch.exp(p["log_spread"].clamp(math.log(least), math.log(most)))
        spread = spread * self.likelihood.spread_unit(self.scale)
        readout = Readout(p["loadings"] * self._per_loading(), p["offset"] * self.scale + self.centre, spread)
        return {
            "nonlinearity": self.nonlinearity,
            "likelihood": self.likelihood,
            "cell": cell,
            "readout": readout,
            "filter_inputs": self.filter_inputs,
        }

    def parts_of_readout(self, readout: Readout) -> Parts:
        """Return the parameters that make a readout given in the units of X; the other way round than `shared`."""
        scale = self.scale
        return {
            "loadings": readout.loadings / self._per_loading(),
            "offset": (readout.offset - self.centre) / scale,
            "log_spread": torch.log(readout.spread / self.likelihood.spread_unit(scale)),
        }

    def parts_of_network(self, net: StackedNetwork) -> Parts:
        """Return the parameters (S, ...) that make networks, those of their laws aside; float64 on the CPU."""
        left, right, bias, thresholds, weights, drive, _, alpha = (t.cpu().double() for t in net.cell)
        exact = dataclasses.replace(self, scale=self.scale.cpu().double(), centre=self.centre.cpu().double())
        alpha = alpha.clamp(1e-6, 1 - 1e-6)
        return {
            "left_vectors": left,
            "right_vectors": right,
            "bias": bias,
            "input_weights": weights,
            "drive": drive,
            **exact.parts_of_readout(Readout(*(t.cpu().double() for t in net.readout))),
            "log_thresholds": torch.log(thresholds.clamp(min=1e-12)),
            "logit_alpha": torch.log(alpha / (1 - alpha)),
        }

    def _per_loading(self) -> Tensor:
        return self.scale[:, None] if self.readout == "latents" else self.scale


def form_fields(
    model: TrainedModel, trials: Trials | LazyTrials, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """Return the fields of a `NetworkForm` that a model's parameters and its data make, neurons and readout aside."""
    link = choose_link(model.likelihood_, model.link)
    scale, centre = scales_of(trials, model.likelihood_, link)
    return {
        "rank": model.rank,
        "n_units": len(scale),
        "n_inputs": model.n_inputs_,
        "nonlinearity": model.nonlinearity,
        "likelihood": Likelihood(model.likelihood_, link, trials.bin_size),
        "alpha": None if model.tau is None else trials.bin_size / model.tau,
        "filter_inputs": model.filter_inputs,
        "scale": torch.as_tensor(scale, dtype=dtype, device=device),
        "centre": torch.as_tensor(centre, dtype=dtype, device=device),
    }


def to_dynamics(
    net: StackedNetwork,
    row: int,
    bin_size: float,
    unit_ids: NDArray,
    moments: tuple[Array, Array],
    laws: Mapping[str, Array],
    readout: str = "latents",
) -> LowRankDynamics:
    """Return one of the S networks as a `LowRankDynamics`.

    Parameters
    ----------
    moments : arrays (latent,) and (latent, latent)
        Mean and covariance of its latents.
    laws : mapping of arrays
        Its initial_mean, initial_covariance, initial_input_weights and, where it has one, latent_noise.
    """
    left, right, bias, thresholds, weights, drive, _, alpha = arrays_of(row, *net.cell)
    loadings, offset, spread = arrays_of(row, *net.readout)
    driven = bool(weights.shape[0])
    of_laws: dict[str, Any] = {name: array for name, array in laws.items() if driven or name != "initial_input_weights"}
    names: dict[str, Any] = {"nonlinearity": net.nonlinearity, "readout": readout}
    names |= {"likelihood": net.likelihood.name, "link": net.likelihood.link}
    return LowRankDynamics(
        left.T,
        right.T,
        dt=bin_size,
        tau=bin_size / float(alpha),
        **names,
        bias=bias,
        thresholds=thresholds if net.nonlinearity == "clipped_relu" else None,
        input_weights=weights.T if driven else None,
        drive=drive,
        filter_inputs=net.filter_inputs,
        loadings=loadings,
        offset=offset,
        **net.likelihood.fields(spread),
        latent_mean=moments[0],
        latent_covariance=moments[1],
        unit_ids=unit_ids,
        **of_laws,
    )


def arrays_of(row: int, *tensors: Tensor) -> list[Array]:
    """Return one row of tensors (S, ...) as float64 arrays."""
    return [tensor[row].detach().cpu().double().numpy() for tensor in tensors]


def from_dynamics(
    dynamics: LowRankDynamics, *, dtype: torch.dtype, device: torch.device | str, kept: torch.dtype | None = None
) -> dict[str, Any]:
    """Return the fields of the `StackedNetwork` that a `LowRankDynamics` is; `kept` is the dtype of its readout."""
    like: dict[str, Any] = {"dtype": dtype if kept is None else kept, "device": device}
    units = dynamics.n_units
    likelihood = Likelihood(dynamics.likelihood, str(dynamics.link), dynamics.dt)
    spread = likelihood.spread_of(dynamics)
    readout = Readout(
        stacked(dynamics.loadings, **like),
        stacked(dynamics.offset, units, **like),
        torch.ones((1, units), **like) if spread is None else stacked(spread, **like),
    )
    return {
        "nonlinearity": dynamics.nonlinearity,
        "likelihood": likelihood,
        "cell": cell_of(dynamics, dtype=dtype, device=device),
        "readout": readout,
        "filter_inputs": dynamics.filter_inputs,
    }
