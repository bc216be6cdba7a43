"""Free numbers in which the bound is about equally curved: what the optimiser moves instead of the parameters.

Adam moves every number by about the same amount; a readout of precise recordings tolerates steps a hundred times
smaller than a bias, and the right vectors of neurons that fire together are nearly collinear. Here the right vectors
are those of decorrelated rates, and every number is counted in units of its own information (the diagonal of the
empirical Fisher information per bin), at most 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nwb_lrrnn.models.smc import encoder
from nwb_lrrnn.models.training.loop import Layout

_FLOOR = 1e-3  # relative to the mean variance of the rates: directions below it count as this large
_FREE = 100  # numbers that may wander at once at no great loss; more take smaller steps each


@dataclass(frozen=True)
class Coordinates:
    """parameters = origin + unit * free, the right vectors mixed and the drive keeping the mean step."""

    layout: Layout
    origin: Tensor  # (S, size)
    unit: Tensor  # (S, size)
    mix: Tensor  # (S, N, N)
    mean_rates: Tensor  # (S, N), divided by N

    def parameters(self, free: Tensor) -> Tensor:
        """Return parameters (S, size) of free numbers (S, size); differentiable."""
        moved = self.layout.unpack(free * self.unit)
        right = torch.matmul(moved["right_vectors"], self.mix)
        moved["right_vectors"] = right
        moved["drive"] = moved["drive"] - torch.matmul(right, self.mean_rates[..., None])[..., 0]
        return self.origin + self.layout.pack(moved)

    def in_units(self, information: Tensor) -> Coordinates:
        """Return the coordinates in units of the information per bin (S, size) of the present ones.

        The weights of an encoder, which are many and none of the model's, have units of their own, and the others do
        not move less because of them.
        """
        unit = 1.0 / torch.sqrt(information.clamp(min=1.0))
        steps = encoder.steps(self.layout.shapes)
        n_free = sum(math.prod(shape) for name, shape in self.layout.shapes.items() if name not in steps)
        unit = unit * min(1.0, (_FREE / n_free) ** 0.5)
        if steps:
            parts = self.layout.unpack(unit)
            parts |= {name: torch.full_like(parts[name], step) for name, step in steps.items()}
            unit = self.layout.pack(parts)
        return Coordinates(self.layout, self.origin, unit, self.mix, self.mean_rates)

    def around(self, origins: Tensor) -> Coordinates:
        """Return the coordinates of one network for several (M, size), each around its own origin."""

        def repeated(tensor: Tensor) -> Tensor:
            return tensor.expand(len(origins), *tensor.shape[1:])

        unit, mix, mean_rates = map(repeated, (self.unit, self.mix, self.mean_rates))
        return Coordinates(self.layout, origins, unit, mix, mean_rates)


def side_by_side(found: list[Coordinates]) -> Coordinates:
    """Return the coordinates of all networks of several."""
    names = ("origin", "unit", "mix", "mean_rates")
    return Coordinates(found[0].layout, *(torch.cat([getattr(one, name) for one in found]) for name in names))


def decorrelated(layout: Layout, origin: Tensor, rates: Tensor) -> Coordinates:
    """Return coordinates around `origin` in which the rates (S, bin, N) are decorrelated."""
    neurons = rates.shape[2]
    mean = rates.mean(1)
    centred = rates - mean[:, None]
    values, vectors = torch.linalg.eigh(centred.mT @ centred / rates.shape[1])
    values = values.clamp(min=0.0) + _FLOOR * values.clamp(min=0.0).mean(1, keepdim=True) + 1e-12
    mix = (vectors * values.rsqrt()[:, None]) @ vectors.mT * neurons**0.5
    kept = origin.dtype
    return Coordinates(layout, origin, torch.ones_like(origin), mix.to(kept), (mean / neurons).to(kept))
