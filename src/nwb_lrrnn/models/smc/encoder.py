"""The convolutional encoder of Pals et al. (2024) as a proposal: what it reads, its Gaussians, the sites they make.

Two convolutions over time with GELU and a third to the heads give every bin a diagonal Gaussian N(e_t, s_t^2) of the
latents; a particle moves by the product of its transition with that Gaussian. In the words of `proposals` that is a
site with I = diag(1 / s_t^2) and p = e_t / s_t^2. A change of latents z_e = A z + c moves the site, not the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.proposals import Sites, own_sites

PADDINGS = ("centred", "causal")
N_LAYERS = 3
NAMES = tuple(f"encoder_{part}_{k}" for k in range(1, N_LAYERS + 1) for part in ("weight", "bias"))
_LOG_VARIANCES = (math.log(1e-8), math.log(100.0))  # of the Gaussians, in units of the latents at the start of a fit
_SMALL_HEAD = 0.1  # of the usual size of the last layer's weights: the Gaussians start near N(0, 1)
_STEP = 0.1  # of a weight, in units of 1 / sqrt(fan in), a learning rate: ten times as much overshoots


class Design(NamedTuple):
    """What of an encoder is fixed while its weights are fitted."""

    kernels: tuple[int, ...]  # bins that each layer sees,
    lead: tuple[int, ...]  # as many of them before the current one
    channels: tuple[int, ...]  # of the two hidden layers
    takes_roots: bool  # counts are read as their square roots
    centre: Tensor  # (unit,), of what is read
    scale: Tensor  # (unit,)
    matrix: Tensor  # A (R, R), float64: the Gaussians are those of z_e = A z + c
    shift: Tensor  # c (R,), float64

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights (out, in, lag) and biases (out,), by name."""
        # one channel more than units: the share of them that is observed
        sizes = (len(self.centre) + 1, *self.channels, 2 * len(self.shift))
        shapes: dict[str, tuple[int, ...]] = {}
        for k, lags in enumerate(self.kernels):
            shapes[f"encoder_weight_{k + 1}"] = (sizes[k + 1], sizes[k], lags)
            shapes[f"encoder_bias_{k + 1}"] = (sizes[k + 1],)
        return shapes


class Encoder(NamedTuple):
    """S encoders side by side."""

    design: Design
    weights: tuple[Tensor, ...]  # of each layer (S, out, in, lag)
    biases: tuple[Tensor, ...]  # of each layer (S, out)


def lead_of(padding: str, kernels: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many bins before the current one each layer sees: all of its kernel's, or half."""
    return tuple(n - 1 if padding == "causal" else n // 2 for n in kernels)


def encoder_of(design: Design, parts: Mapping[str, Tensor]) -> Encoder:
    """Return the encoders of named parameters, each (S, ...)."""
    layers = range(1, N_LAYERS + 1)
    weights, biases = (tuple(parts[f"encoder_{part}_{k}"] for k in layers) for part in ("weight", "bias"))
    return Encoder(design, weights, biases)


def parts_of(encoder: Encoder) -> dict[str, Tensor]:
    """Return the parameters by name, each (S, ...)."""
    layers = zip(encoder.weights, encoder.biases, strict=True)
    return dict(zip(NAMES, (tensor for layer in layers for tensor in layer), strict=True))


def initial(design: Design, rng: np.random.Generator) -> dict[str, NDArray]:
    """Return weights and biases, by name, with which the Gaussians are next to N(0, 1) in every bin."""
    parts: dict[str, NDArray] = {}
    for name, shape in design.shapes().items():
        size = math.sqrt(2.0 / math.prod(shape[1:])) if len(shape) > 1 else 0.0
        size *= _SMALL_HEAD if name == NAMES[-2] else 1.0
        parts[name] = size * rng.standard_normal(shape)
    return parts


def first(design: Design, seed: np.random.SeedSequence) -> Encoder:
    """Return one encoder before any training, float64 on the CPU."""
    parts = initial(design, np.random.default_rng(seed))
    return encoder_of(design, {name: torch.as_tensor(value)[None] for name, value in parts.items()})


def resumed(fitted: Design, wanted: Design) -> Design:
    """Return the design of a fitted encoder on the device of the wanted one.

    Raises
    ------
    ValueError
        If they differ in size or in what they see.
    """
    if fitted.shapes() != wanted.shapes() or fitted.lead != wanted.lead:
        raise ValueError(
            f"warm_start: the fitted encoder has kernels {fitted.kernels}, channels {fitted.channels} and layers that "
            f"see {fitted.lead} bins back, wanted {wanted.kernels}, {wanted.channels} and {wanted.lead}; set "
            "warm_start=False to start afresh"
        )
    moved = (t.to(wanted.centre.device) for t in (fitted.centre, fitted.scale, fitted.matrix, fitted.shift))
    return Design(fitted.kernels, fitted.lead, fitted.channels, fitted.takes_roots, *moved)


def steps(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Return how far one learning rate moves the encoder's parameters among those of the given shapes."""
    found = {}
    for k in range(1, N_LAYERS + 1):
        if (shape := shapes.get(f"encoder_weight_{k}")) is not None:
            step = _STEP / math.sqrt(math.prod(shape[1:]))
            found |= {f"encoder_weight_{k}": step, f"encoder_bias_{k}": step}
    return found


def gaussians(encoder: Encoder, data: TrialData) -> tuple[Tensor, Tensor]:
    """Return means and log variances (S, B, T, R) of z_e in every bin, in float64."""
    design, nets = encoder.design, len(encoder.biases[0])
    y = torch.sqrt(data.y) if design.takes_roots else data.y
    x = (y - design.centre) / design.scale * data.mask
    x = torch.cat([x, data.mask.mean(-1, keepdim=True)], dim=-1).mT.to(encoder.weights[0].dtype)  # (B, D + 1, T)
    inside = torch.arange(y.shape[1], device=y.device) < data.lengths[:, None]
    for k, (weight, bias) in enumerate(zip(encoder.weights, encoder.biases, strict=True)):
        if k:  # what lies behind the end of a trial reads as 0, as if it were alone
            x = functional.gelu(x) * inside[:, None]
        x = functional.pad(x, (design.lead[k], design.kernels[k] - 1 - design.lead[k]))
        x = functional.conv1d(x, weight.flatten(0, 1), bias.flatten(), groups=nets if k else 1)
    heads = x.unflatten(1, (nets, 2, -1)).permute(2, 1, 0, 4, 3).double()  # (2, S, B, T, R)
    return heads[0], heads[1].clamp(*_LOG_VARIANCES)


def sites_of(encoder: Encoder, data: TrialData, constant: Tensor) -> Sites:
    """Return the sites of the encoder's Gaussians as sites of z; constant (S, B, T)."""
    mean, log_variance = gaussians(encoder, data)
    precision, a = torch.exp(-log_variance), encoder.design.matrix
    information = torch.matmul(a.mT * precision[..., None, :], a)
    slope = torch.matmul(precision * (mean - encoder.design.shift), a)
    return own_sites(information, slope, constant)


def in_gauge(encoder: Encoder, matrix: NDArray, shift: NDArray) -> Encoder:
    """Return the same encoder for latents z' with z = matrix z' + shift."""
    design = encoder.design
    a, c = (torch.as_tensor(np.asarray(v), dtype=torch.float64, device=design.shift.device) for v in (matrix, shift))
    moved = design._replace(matrix=design.matrix @ a, shift=design.matrix @ c + design.shift)
    return encoder._replace(design=moved)


# --- plain arrays ----------------------------------------------------------------------------------------------------


def to_arrays(encoder: Encoder) -> dict[str, tuple[tuple[str, ...], NDArray]]:
    """Return the first of the encoders as named arrays with their dims."""
    outputs = ("encoder_channel_1", "encoder_channel_2", "encoder_head")
    inputs = ("encoder_input", *outputs)
    arrays: dict[str, tuple[tuple[str, ...], NDArray]] = {}
    for k, output in enumerate(outputs):
        weight, bias = (t[0].detach().cpu().double().numpy() for t in (encoder.weights[k], encoder.biases[k]))
        arrays[f"encoder_weight_{k + 1}"] = (output, inputs[k], f"encoder_lag_{k + 1}"), weight
        arrays[f"encoder_bias_{k + 1}"] = (output,), bias
    design = encoder.design
    arrays["encoder_lead"] = ("encoder_layer",), np.array(design.lead, dtype=np.int64)
    arrays["encoder_centre"] = ("encoder_unit",), design.centre.cpu().double().numpy()
    arrays["encoder_scale"] = ("encoder_unit",), design.scale.cpu().double().numpy()
    arrays["encoder_matrix"] = ("encoder_latent", "latent"), design.matrix.cpu().numpy()
    arrays["encoder_shift"] = ("encoder_latent",), design.shift.cpu().numpy()
    return arrays


def from_arrays(arrays: Mapping[Any, Any], *, takes_roots: bool, dtype: torch.dtype, device: Any) -> Encoder:
    """Return one encoder from the arrays of `to_arrays`."""

    def tensor(name: str, kept: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(np.asarray(arrays[name]), dtype=kept, device=device)

    parts = {name: tensor(name, dtype)[None] for name in NAMES}
    weights = [parts[f"encoder_weight_{k}"] for k in range(1, N_LAYERS + 1)]
    design = Design(
        kernels=tuple(w.shape[3] for w in weights),
        lead=tuple(int(n) for n in np.asarray(arrays["encoder_lead"])),
        channels=tuple(w.shape[1] for w in weights[:-1]),
        takes_roots=takes_roots,
        centre=tensor("encoder_centre"),
        scale=tensor("encoder_scale"),
        matrix=tensor("encoder_matrix"),
        shift=tensor("encoder_shift"),
    )
    return encoder_of(design, parts)
