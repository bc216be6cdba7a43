"""Where the fit of `SMCLowRankRNN` starts: a linear state-space model, its transition re-expressed by random neurons.

Expectation maximisation finds the linear model (Laplace-EM for counts); its noise, initial law and readout are taken
over, and a ridge regression of n on its transition over the cloud of its latents makes the network move like it. The
bound of the start is then that of the linear model, up to the error of the regression.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.dynamics import nonlinearity
from nwb_lrrnn.models.linear.network_start import linear_model
from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.models.networks.random_neurons import draw_neurons, ridges, straighten
from nwb_lrrnn.models.smc import encoder
from nwb_lrrnn.models.smc.network import ParticleForm, free_numbers
from nwb_lrrnn.models.training.checkpoints import NO_CHECKPOINT, Checkpoint
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_CLOUD = 4000  # latents that the regression sees
_SPREAD = 0.5  # s.d. of what is added to them, so that the field is known around the trajectories too
_RIDGE = 1e-5
_MOST_ALIKE = 10.0  # condition of the change between two starts: above it they have other latents


class ParticleStart:
    """A linear model of the recording, its latents standardised, or turned to be those of another start."""

    def __init__(
        self,
        trials: Trials,
        form: ParticleForm,
        log: Checkpoint = NO_CHECKPOINT,
        name: str = "linear start",
        like: ParticleStart | None = None,
    ):
        system, means = linear_model(trials, form.rank, form.likelihood, log, name)
        inside = np.arange(trials.values.shape[1])[None] < trials.lengths[:, None]
        pooled = means[inside]
        self.centre, self.scale = pooled.mean(0), pooled.std(0) + 1e-12
        # z = centre + scale * z': the same model with latents of mean 0 and s.d. 1
        self.system = system.in_gauge(np.diag(self.scale), self.centre)
        self.latents = (pooled - self.centre) / self.scale  # (bin, latent)
        if like is not None:
            self._turn_to(like.system)
        self.inputs = None if trials.inputs is None else trials.inputs[inside]

    def _turn_to(self, other: LinearSystem) -> None:
        """Change the gauge so that loadings and offset are as near to another's as they get: the same neurons fit both.

        Where latents explain about as much as each other, their order and their turn are left to chance.
        """
        own = self.system
        change = np.linalg.lstsq(own.loadings, other.loadings, rcond=None)[0]
        if not np.linalg.cond(change) < _MOST_ALIKE:
            return
        shift = np.linalg.lstsq(own.loadings, other.offset - own.offset, rcond=None)[0]
        self.system = own.in_gauge(change, shift)
        self.latents = np.linalg.solve(change, (self.latents - shift).T).T

    def flat(self, form: ParticleForm, rng: np.random.Generator) -> Tensor:
        """Return the parameters (size,) of a network that moves and reads like the linear model."""
        system, scale, centre = self.system, form.scale.cpu().numpy(), form.centre.cpu().numpy()
        alpha = form.alpha
        if alpha is None:
            alpha = float(np.clip(1.0 - np.trace(system.transition) / form.rank, 0.05, 0.9))
        left, bias, thresholds, weights = draw_neurons(form.rank, form.n_neurons, form.n_inputs, self.inputs, rng)
        if form.readout == "latents":
            straighten(form.nonlinearity, left, bias, thresholds)
        loadings, offset, unread = system.loadings / scale[:, None], (system.offset - centre) / scale, 0.0
        if form.readout == "currents":  # C = m: the neurons are the units
            left, loadings, offset = loadings.T.copy(), np.ones(form.n_units), offset - bias
        elif form.readout == "rates":
            left, loadings, offset, unread = self._read_rates(form, left, bias, thresholds, loadings, offset)
        right, drive, missed = self._field(form, left, bias, thresholds, weights, alpha, rng)
        eye = np.zeros((form.rank, form.n_inputs))
        first = eye if system.initial_input_weights is None else system.initial_input_weights
        spread = system.spread
        if form.likelihood.name == "gaussian":
            spread = system.variance / scale**2 + unread
        covariances = (
            ("noise", system.noise + missed, form.latent_noise),
            ("initial_noise", system.initial_covariance, "full"),
        )
        parts = {
            "left_vectors": left,
            "right_vectors": right,
            "bias": bias,
            "input_weights": weights,
            "drive": drive,
            "loadings": loadings,
            "offset": offset,
            "initial_mean": system.initial_mean,
            "initial_input_weights": np.zeros_like(first) if form.filter_inputs else first,
            "log_thresholds": np.log(thresholds),
            "log_spread": np.zeros(1) if spread is None else np.log(spread),
            "logit_alpha": np.array(np.log(alpha / (1 - alpha))),
        }
        for name, covariance, kind in covariances:
            parts[name] = free_numbers(torch.tensor(covariance)[None], kind)[0].numpy()
        if form.encoder is not None:
            parts |= encoder.initial(form.encoder, rng)
        layout = form.layout()
        tensors = {name: torch.as_tensor(parts[name], dtype=form.scale.dtype)[None] for name in layout.shapes}
        return layout.pack(tensors)[0]

    def _field(self, form, left, bias, thresholds, weights, alpha, rng) -> tuple[Array, Array, Array]:
        """Return n (latent, neuron) and s (latent,) that make the network move as the linear model does.

        And the covariance (latent, latent) of what they miss of it along the latents: to the filter it is noise.
        """

        def rates_and_target(z: Array, u: Array | None) -> tuple[Array, Array]:
            x, moved = z @ left + bias, z @ self.system.transition.T + self.system.drive
            if u is not None:
                x = x + u @ weights
                moved = moved if self.system.input_weights is None else moved + u @ self.system.input_weights.T
            return nonlinearity.phi(form.nonlinearity, x, thresholds), (moved - (1 - alpha) * z) / alpha

        rows = rng.integers(len(self.latents), size=_CLOUD)
        cloud = self.latents[rows] + _SPREAD * rng.standard_normal((_CLOUD, form.rank))
        rates, target = rates_and_target(cloud, None if self.inputs is None else self.inputs[rows])
        [(n, drive)] = ridges(rates, [target], [_RIDGE])
        rates, target = rates_and_target(self.latents, self.inputs)
        missed = alpha * (target - rates @ n - drive)
        return n.T * form.n_neurons, drive, missed.T @ missed / len(missed)

    def _read_rates(self, form, left, bias, thresholds, loadings, offset) -> tuple[Array, Array, Array, Array]:
        """Return m, c and d with which c phi(m z + b) + d is next to C z + d of the linear model, unit by unit.

        A neuron that reads its rate has to point along its unit's loading.
        """
        size = np.linalg.norm(loadings, axis=1, keepdims=True)
        left = (loadings / np.maximum(size, 1e-6)).T * np.linalg.norm(left, axis=0).mean()
        rates = nonlinearity.phi(form.nonlinearity, self.latents @ left + bias, thresholds)
        wanted = self.latents @ loadings.T + offset
        centred = rates - rates.mean(0)
        variance = (centred**2).mean(0)
        gains = (centred * wanted).mean(0) / (variance + 1e-2 * variance.mean() + 1e-12)
        offset = wanted.mean(0) - gains * rates.mean(0)
        return left, gains, offset, ((wanted - gains * rates - offset) ** 2).mean(0)
