"""Where the fit of `LowRankRNN` starts: a linear state-space model, its field re-expressed by random neurons.

The smoothed latents of a linear model, standardised, show the recording's trajectories; random neurons m, b and a
ridge regression of n on the increments of those latents (Eq. 1.2 and 1.11 of the least-squares construction of
Arora & Pillow 2025) make a nonlinear network that already moves along them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import nonlinearity
from nwb_lrrnn.models.linear import laplace, smoothing
from nwb_lrrnn.models.linear.network_start import linear_model
from nwb_lrrnn.models.low_rank.inference import infer
from nwb_lrrnn.models.low_rank.network import ShootingForm
from nwb_lrrnn.models.low_rank.shooting import Prior, ShootingNetwork
from nwb_lrrnn.models.low_rank.windows import join
from nwb_lrrnn.models.networks.random_neurons import draw_neurons, ridges
from nwb_lrrnn.models.training.checkpoints import NO_CHECKPOINT, Checkpoint
from nwb_lrrnn.trials import Trials

ALPHA = 0.2  # where alpha is fitted, it starts here
RIDGES = (1e-2, 1e-3, 1e-5)  # of the start's right vectors, relative to the rates' mean square
N_DRAWS = 2  # of random neurons, for every start


class LinearStart:
    """Latents of a linear model of the recording, standardised, and the readout that goes with them."""

    def __init__(self, trials: Trials, form: ShootingForm, log: Checkpoint = NO_CHECKPOINT):
        self.system, self.latents = linear_model(trials, form.rank, form.likelihood, log, "linear start")
        self.trials = trials
        inside = np.arange(self.latents.shape[1])[None] < trials.lengths[:, None]
        pooled = self.latents[inside]
        self.centre, self.scale = pooled.mean(0), pooled.std(0) + 1e-12
        self.latents = (self.latents - self.centre) / self.scale

    def candidates(self, form: ShootingForm, rng: np.random.Generator) -> list[dict[str, NDArray]]:
        """Return networks to choose a start from: random neurons, their right vectors by ridge, the linear readout."""
        return [parameters for _ in range(N_DRAWS) for parameters in self._one_draw(form, rng)]

    def _one_draw(self, form: ShootingForm, rng: np.random.Generator) -> list[dict[str, NDArray]]:
        left, bias, thresholds, weights = draw_neurons(
            form.rank, form.n_neurons, form.n_inputs, self.trials.inputs, rng
        )
        alpha = ALPHA if form.alpha is None else form.alpha
        scale, centre = form.scale.cpu().numpy(), form.centre.cpu().numpy()
        loadings = self.system.loadings * self.scale
        offset = self.system.offset + self.system.loadings @ self.centre
        parts = {
            "left_vectors": left,
            "bias": bias,
            "input_weights": weights,
            "loadings": loadings / scale[:, None],
            "offset": (offset - centre) / scale,
            "log_thresholds": np.log(thresholds),
            "logit_alpha": np.array(np.log(alpha / (1 - alpha)) if alpha < 1 else 10.0),
        }
        if form.likelihood.has_spread:
            parts["log_spread"] = np.log(self.system.spread / form.likelihood.spread_unit(scale))
        fields = self._fields(form, left, bias, thresholds, weights, alpha)
        return [{**parts, "right_vectors": right, "drive": drive} for right, drive in fields]

    def _fields(
        self, form: ShootingForm, left, bias, thresholds, weights, alpha: float
    ) -> list[tuple[NDArray, NDArray]]:
        """Return pairs n (latent, neuron) and s (latent,) that make the network move as one of the targets says."""
        z = self.latents
        pair = np.arange(z.shape[1] - 1)[None] < self.trials.lengths[:, None] - 1
        now, then = z[:, :-1][pair], z[:, 1:][pair]
        u = None if self.trials.inputs is None else self.trials.inputs[:, :-1][pair]
        x = now @ left + bias if u is None else now @ left + bias + u @ weights
        rates = nonlinearity.phi(form.nonlinearity, x, thresholds)
        targets = ((moved - (1 - alpha) * now) / alpha for moved in self._targets(now, then, u))
        return [(n.T * form.n_neurons, drive) for n, drive in ridges(rates, targets, RIDGES)]

    def _targets(self, now: NDArray, then: NDArray, u: NDArray | None) -> list[NDArray]:
        """Return where the latents `now` should move in one bin, (pair, latent), by three answers.

        Where the smoothed latents did move, nonlinearly; where the linear model moves them, free of the noise of the
        smoothed latents, which makes regressed dynamics decay; and the same without any decay.
        """
        transition = self.system.transition / self.scale[:, None] * self.scale
        drive = (self.system.transition @ self.centre + self.system.drive - self.centre) / self.scale
        if u is not None and self.system.input_weights is not None:
            drive = drive + u @ (self.system.input_weights / self.scale[:, None]).T
        radius = max(np.abs(np.linalg.eigvals(transition)).max(), 1e-3)
        return [then, now @ transition.T + drive, now @ transition.T / radius + drive]

    def smoothed(self, trials: Trials, form: ShootingForm) -> np.ndarray:
        """Return the standardised latents of other trials (trial, time, latent)."""
        if form.likelihood.name == "gaussian":
            means = smoothing.smooth(self.system, trials, trials.inputs).means
        else:
            means = laplace.smooth(
                self.system, trials, trials.inputs, form.likelihood.name, form.likelihood.link, form.likelihood.bin_size
            ).means
        return (means - self.centre) / self.scale

    def prior(self, n_nets: int, form: ShootingForm, like: torch.Tensor) -> Prior:
        """Return broad laws of the nodes in standardised latents."""
        rank = form.rank
        eye = torch.eye(rank, dtype=like.dtype, device=like.device).expand(n_nets, rank, rank).clone()
        zeros = torch.zeros((n_nets, rank), dtype=like.dtype, device=like.device)
        no_inputs = torch.zeros((n_nets, rank, form.n_inputs), dtype=like.dtype, device=like.device)
        return Prior(zeros, no_inputs, eye, 0.1 * eye)


class WarmStart:
    """A fitted network as the start of another fit; all restarts begin there."""

    def __init__(self, net: ShootingNetwork, encoders: dict[str, NDArray], spread: NDArray, window_bins: int):
        self.net, self.encoders, self.spread, self.window_bins = net, encoders, spread, window_bins

    def candidates(self, form: ShootingForm, rng: np.random.Generator) -> list[dict[str, NDArray]]:
        """Return the fitted network's parameters in the scales of `form`, the one candidate; `rng` is not used."""
        self._check(form)
        return [{name: part[0].numpy() for name, part in form.parts_of_network(self.net).items()}]

    def smoothed(self, trials: Trials, form: ShootingForm) -> NDArray:
        """Return the fitted network's latents of trials (trial, time, latent)."""
        self._check(form)
        post, windows = infer(self.net, self.encoders, trials, self.window_bins, self.spread)
        return join(post.latents[0].numpy(), windows, trials.values.shape[:2])

    def prior(self, n_nets: int, form: ShootingForm, like: torch.Tensor) -> Prior:
        """Return the fitted laws of the nodes."""
        return Prior(*(t.to(like).repeat(n_nets, *([1] * (t.ndim - 1))) for t in self.net.prior))

    def _check(self, form: ShootingForm) -> None:
        rank, neurons = self.net.cell.left_vectors.shape[1:]
        got = rank, neurons, self.net.readout.offset.shape[1], self.net.cell.input_weights.shape[1]
        wanted = form.rank, form.n_neurons, form.n_units, form.n_inputs
        if got != wanted:
            raise ValueError(
                "warm_start: the fitted network has rank {}, {} neurons, {} units and {} inputs, wanted {}, {}, {} and "
                "{}; set warm_start=False to start afresh".format(*got, *wanted)
            )
