"""What the constructor parameters of `SMCLowRankRNN` mean for given data: checks, sizes, scales."""

from __future__ import annotations

from typing import Any, Protocol, get_args

import numpy as np
import torch

from nwb_lrrnn import parameters as check
from nwb_lrrnn.models.networks.checks import TrainedModel, check_network
from nwb_lrrnn.models.networks.form import form_fields
from nwb_lrrnn.models.posteriors import POSTERIORS
from nwb_lrrnn.models.smc import bound, encoder
from nwb_lrrnn.models.smc.network import ParticleForm
from nwb_lrrnn.models.training.loop import Schedule
from nwb_lrrnn.trials import Trials

READOUTS: tuple[str, ...] = get_args(check.Readout)
_NEURONS = 100  # where the user says nothing and the units are not the neurons


class ParticleModel(TrainedModel, Protocol):
    """What is read of an estimator whose particles move by its network."""

    n_neurons: int | None
    readout: str
    latent_noise: str
    proposal: str
    encoder_kernels: Any  # as given: checked below
    encoder_channels: Any
    encoder_padding: str
    n_particles: int | None
    resampling: str
    resample_when: str
    posterior: str
    n_trajectories: int


def form_of(model: ParticleModel, trials: Trials, dtype: torch.dtype, device: torch.device) -> ParticleForm:
    """Return the sizes, functions and scales that the parameters of a model and its data make."""
    return ParticleForm(
        n_neurons=trials.n_units if model.readout != "latents" else (model.n_neurons or _NEURONS),
        **form_fields(model, trials, dtype, device),
        readout=model.readout,
        latent_noise=model.latent_noise,
        encoder=_design_of(model, trials, device) if model.proposal == "encoder" else None,
    )


def _design_of(model: ParticleModel, trials: Trials, device: torch.device) -> encoder.Design:
    """Return what of the encoder is fixed: its sizes, and the mean and s.d. of what it reads, unit by unit."""
    takes_roots = model.likelihood_ != "gaussian"
    seen, values = trials.seen, trials.values  # 0 where nothing was seen
    read = np.sqrt(values) if takes_roots else values
    n = np.maximum(seen.sum((0, 1)), 1)
    centre = read.sum((0, 1)) / n
    scale = np.sqrt((((read - centre) ** 2) * seen).sum((0, 1)) / n)
    scale = np.where(scale > 1e-12 * (1 + np.abs(centre)), scale, 1.0)
    kernels = tuple(int(n) for n in model.encoder_kernels)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=device)

    return encoder.Design(
        kernels=kernels,
        lead=encoder.lead_of(model.encoder_padding, kernels),
        channels=tuple(int(n) for n in model.encoder_channels),
        takes_roots=takes_roots,
        centre=tensor(centre),
        scale=tensor(scale),
        matrix=tensor(np.eye(model.rank)),
        shift=tensor(np.zeros(model.rank)),
    )


def _check_encoder(model: ParticleModel) -> None:
    n = encoder.N_LAYERS
    for name, length, example in (("encoder_kernels", n, "(21, 11, 1)"), ("encoder_channels", n - 1, "(64, 64)")):
        got = getattr(model, name)
        if not isinstance(got, (tuple, list)) or len(got) != length:
            raise ValueError(f"{name}: got {got!r}, wanted {length} whole numbers >= 1, e.g. {name}={example}")
        for k, number in enumerate(got):
            check.whole_number(f"{name}[{k}]", number)
    check.choose("encoder_padding", model.encoder_padding, encoder.PADDINGS)


def schedule_of(model: ParticleModel, trials: Trials) -> Schedule:
    """Return the training schedule of a model, after checking all of its parameters."""
    check_network(model, trials)
    n_units = trials.values.shape[2]
    check.whole_number("n_trajectories", model.n_trajectories)
    for name in ("n_neurons", "n_particles"):
        check.whole_number(name, getattr(model, name), optional=True)
    check.choose("readout", model.readout, READOUTS)
    if model.readout != "latents" and model.n_neurons not in (None, n_units):
        raise ValueError(
            f"n_neurons: got {model.n_neurons} with readout={model.readout!r}, where the {n_units} units are the "
            "neurons; leave n_neurons=None"
        )
    check.choose("latent_noise", model.latent_noise, ("full", "diagonal"))
    check.choose("proposal", model.proposal, bound.PROPOSALS)
    check.choose("resampling", model.resampling, bound.SCHEMES)
    check.choose("resample_when", model.resample_when, tuple(bound.WHEN))
    check.choose("posterior", model.posterior, POSTERIORS)
    _check_encoder(model)
    bound.resolve(model.proposal, model.likelihood_, model.readout)
    return Schedule(model.max_epochs, model.patience, model.learning_rate)
