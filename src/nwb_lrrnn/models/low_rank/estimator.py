"""The estimator `LowRankRNN`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from nwb_lrrnn import parameters as check
from nwb_lrrnn.align import canonicalize
from nwb_lrrnn.models.base import LatentModel
from nwb_lrrnn.models.low_rank import encoder, fitting, network, streaming
from nwb_lrrnn.models.low_rank.inference import FINE, infer
from nwb_lrrnn.models.low_rank.objective import latent_moments
from nwb_lrrnn.models.low_rank.shooting import Posterior, ShootingNetwork
from nwb_lrrnn.models.low_rank.start import LinearStart, WarmStart
from nwb_lrrnn.models.low_rank.windows import Windows, join
from nwb_lrrnn.models.networks.checks import check_network
from nwb_lrrnn.models.networks.form import form_fields
from nwb_lrrnn.models.training.checkpoints import checkpoint_of
from nwb_lrrnn.models.training.devices import one_thread, resolve
from nwb_lrrnn.models.training.loop import Schedule
from nwb_lrrnn.models.training.splitting import all_but_held_out, hold_out, put_back
from nwb_lrrnn.parameters import Device, Dtype, LikelihoodName, Link, Nonlinearity
from nwb_lrrnn.progress import Progress
from nwb_lrrnn.trials import LazyTrials, Trials


class LowRankRNN(LatentModel, auto_wrap_output_keys=None):
    r"""A deterministic low-rank recurrent network fitted to a recording by gradient through time.

    .. math::

        z_{t+1} &= (1-\alpha) z_t + \alpha [ n^T \phi(m z_t + B v_t + b) / N + s ] \\
        z_1 &\sim N(\mu_1 + K v_1, \Sigma_1) \\
        y_t &\sim p(y \mid g(C z_t + d))

    (LINT: Valente, Pillow & Ostojic 2022, with an observation model.) Everything random is in where a trajectory
    starts: in trials longer than `shooting_window` later nodes z_k have the prior N(F(z_{k-1}), Sigma_node), F the
    network run through a window and Sigma_node fitted. `fit`, `transform` and `score` use this one model.

    `transform` returns the trajectories from the most probable nodes given all bins of a trial.

    Parameters
    ----------
    rank : int
        Number of latents R.
    n_neurons : int
        Number N of model neurons; they are not the recorded cells.
    nonlinearity : {"tanh", "erf", "relu", "clipped_relu", "softplus", "identity"}
    likelihood : str
        "auto" (Poisson for whole numbers >= 0, else Gaussian), or a name in `nwb_lrrnn.dynamics.LIKELIHOODS`.
    link : str, optional
        g, in spikes/s for counts; None: the default of the likelihood (the first of its `codes` there): the identity
        for Gaussian values, softplus for counts.
    tau : float or None
        Time constant in seconds; None: fitted.
    bin_size : float or None
        Seconds; None: X.attrs["bin_size"], else its time step, else 1.0 and times count in bins.
    shooting_window : float or None
        Seconds between shooting nodes. None: chosen by held-out evidence among 5 and 20 bins and whole trials (100
        bins in recordings whose trials pass 250); the noisier the dynamics, the shorter. See `shooting_bins_`.
    filter_inputs : bool
        Whether inputs pass the network's leaky filter before they reach the neurons.
    max_epochs, patience : int
        Training ends when the held-out evidence has stopped rising, at the latest after `max_epochs`.
    batch_size : int or None
        Windows per gradient step; None: all.
    learning_rate : float
    validation_fraction : float
        Share of the trials (of the bins, for a single trial) held out for early stopping; 0: none.
    n_init : int
        Restarts, trained side by side; the best by held-out evidence is kept.
    warm_start : bool
        Whether `fit` goes on from the current fit (same rank, neurons, units and inputs).
    checkpoint : path-like or None
        A .npz file that `fit` keeps its progress in: called again with the same parameters and data after an
        interruption, it goes on from there and ends bit-equal; with a higher `max_epochs` also after an end without
        convergence. The file stays, and the same fit then returns at once. One path per fit, never pickled code.
    dtype : {"float64", "float32"}
    device : str
        "cpu", "cuda", "cuda:1", ... or "auto".
    random_state : int or None

    Attributes
    ----------
    dynamics_ : LowRankDynamics
        The fitted network, in the canonical gauge and the units of X.
    loadings_, offset_ : arrays (unit, latent), (unit,)
    left_vectors_, right_vectors_ : arrays (neuron, latent)
    node_covariance_ : array (latent, latent)
        Sigma_node.
    shooting_bins_ : int
        Bins between shooting nodes.
    largest_jump_ : float
        Largest jump at a shooting node of the training data, in standard deviations of that latent.
    history_ : Dataset
        Over `epoch`: log_evidence, log_likelihood, validation (nats per bin), largest_jump, and the shooting_bins of
        the stage, of the restart kept.
    restart_scores_ : array (restart,)
        Held-out evidence of every restart, nats per bin.
    n_iter_ : int
    unit_ids_ : array (unit,)
    bin_size_ : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = np.sin(0.3 * np.arange(60))[None, :, None] * [1.0, -1.0, 0.5] + 0.1 * rng.normal(size=(4, 60, 3))
    >>> import warnings; warnings.simplefilter("ignore")  # 5 epochs do not converge
    >>> model = LowRankRNN(rank=2, n_neurons=20, max_epochs=5, random_state=0).fit(X)
    >>> model.transform(X).shape
    (4, 60, 2)
    """

    node_covariance_: np.ndarray
    shooting_bins_: int
    largest_jump_: float
    encoders_: dict[str, np.ndarray]

    def __init__(
        self,
        rank: int = 2,
        *,
        n_neurons: int = 100,
        nonlinearity: Nonlinearity = "tanh",
        likelihood: Literal["auto"] | LikelihoodName = "auto",
        link: Link | None = None,
        tau: float | None = None,
        bin_size: float | None = None,
        shooting_window: float | None = None,
        filter_inputs: bool = False,
        max_epochs: int = 1000,
        patience: int = 40,
        batch_size: int | None = None,
        learning_rate: float = 0.01,
        validation_fraction: float = 0.2,
        n_init: int = 1,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        dtype: Dtype = "float64",
        device: Device = "cpu",
        random_state: int | None = None,
    ):
        self.rank = rank
        self.n_neurons = n_neurons
        self.nonlinearity = nonlinearity
        self.likelihood = likelihood
        self.link = link
        self.tau = tau
        self.bin_size = bin_size
        self.shooting_window = shooting_window
        self.filter_inputs = filter_inputs
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.n_init = n_init
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.dtype = dtype
        self.device = device
        self.random_state = random_state

    # --- fit -------------------------------------------------------------------------------------------------------

    _fits_lazy_trials = True

    def _fit_trials(self, given: Trials | LazyTrials) -> None:
        """Fit trials in memory, or a sample of a whole and then all of it."""
        whole = given if isinstance(given, LazyTrials) else None
        trials: Trials | None = given.sample() if isinstance(given, LazyTrials) else given
        schedule = self._check_parameters(trials)
        epochs = schedule.max_epochs
        if whole is not None:  # the other half is for all blocks
            schedule = replace(schedule, max_epochs=(epochs + 1) // 2)
        device = resolve(self.device)
        warm = self.warm_start and hasattr(self, "encoders_")
        log_ = checkpoint_of(self, whole or trials, device.type, goes_on=warm)
        with log_ as log, one_thread(), Progress(epochs, type(self).__name__) as progress:
            seeds = log.seeds(self.random_state).spawn(self.n_init + 2)
            form = self._form(whole or trials, getattr(torch, self.dtype), device)
            drawn = np.random.default_rng(seeds[0])
            parts = hold_out(trials, self.validation_fraction, drawn, by_place=whole is not None)
            asked = self._asked_window(trials)
            if whole is not None and len(trials.lengths) > 1:
                trials = None  # a copy of the parts
            start = self._warm_start() if warm else LinearStart(parts[0], form, log)
            rng = np.random.default_rng(seeds[1])
            stages = fitting.Stages(form, *parts, schedule, self.batch_size, rng, progress, log)
            fit = fitting.run(stages, start, asked, seeds[2:])
            rest = all_but_held_out(whole, 1, self.validation_fraction, seeds[0])
            stages.epochs_left = epochs - fit.ending.history.sizes["epoch"]
            if rest is not None:
                fit = streaming.go_on(fit, fitting.again(fit, parts[0]), stages, rest, log)
            self.shooting_bins_ = fit.window_bins
            if trials is None:
                trials = put_back(*parts, self.validation_fraction, seeds[0])
            self._keep(trials, *fitting.settle(fit, parts[0], trials))
        fit.ending.tell(self)

    def _settle_beginnings(self, begin: Trials) -> None:
        # a trajectory explains what a window shows, and nothing after it
        super()._settle_beginnings(begin.ended(np.minimum(begin.lengths, self.shooting_bins_)))

    def _warm_start(self) -> WarmStart:
        return WarmStart(self._network(torch.float64, "cpu"), self.encoders_, self._spread(), self.shooting_bins_)

    def _keep(self, trials: Trials, net: ShootingNetwork, post: Posterior, windows: Windows) -> None:
        """Set the fitted attributes, in the canonical gauge and the units of X."""
        mean, covariance = (t[0].cpu().double().numpy() for t in latent_moments(post.latents, windows))
        fitted = network.to_dynamics(net, 0, trials.bin_size, trials.unit_ids, (mean, covariance))
        self.dynamics_, gauge = canonicalize(fitted)
        self.node_covariance_ = gauge.covariance(net.prior.node_covariance[0].cpu().double().numpy())
        path = join(post.latents[0].cpu().double().numpy(), windows, trials.values.shape[:2])
        self.encoders_ = encoder.fit_encoders(self._network(torch.float64, "cpu"), trials, gauge.latents(path), FINE)
        jumps = post.residuals[0][~windows.first].abs()
        sd = latent_moments(post.latents, windows)[1][0].diagonal().sqrt()
        self.largest_jump_ = float((jumps / sd).max()) if len(jumps) else 0.0

    def _form(self, trials: Trials | LazyTrials, dtype: torch.dtype, device: torch.device) -> network.ShootingForm:
        return network.ShootingForm(n_neurons=self.n_neurons, **form_fields(self, trials, dtype, device))

    def _check_parameters(self, trials: Trials) -> Schedule:
        check_network(self, trials)
        check.whole_number("n_neurons", self.n_neurons)
        check.positive("shooting_window", self.shooting_window, optional=True)
        return Schedule(self.max_epochs, self.patience, self.learning_rate)

    def _asked_window(self, trials: Trials) -> int | None:
        """Return `shooting_window` in bins, None where the fit shall choose."""
        return None if self.shooting_window is None else max(1, round(self.shooting_window / trials.bin_size))

    # --- the file --------------------------------------------------------------------------------------------------

    _fitted_scalars = (*LatentModel._fitted_scalars, "shooting_bins_", "largest_jump_")

    def _state(self) -> dict[str, tuple]:
        state = {"node_covariance": (("latent", "latent_"), self.node_covariance_)}
        for name, weights in self.encoders_.items():
            state[name] = ((f"{name}_feature", "latent"), weights)
        return state

    def _complete(self, dataset: xr.Dataset) -> None:
        super()._complete(dataset)
        network_ = self.dynamics_
        if network_.readout != "latents":
            raise ValueError(f"dataset: got readout={network_.readout!r}, wanted a LowRankRNN's readout of latents")
        if network_.link_gain is not None:
            raise ValueError(
                "dataset: got link_gain, wanted none: a LowRankRNN has no such term; drop it with "
                "dynamics.replace(link_gain=None)"
            )
        self.shooting_bins_ = int(dataset.attrs.get("shooting_bins_", fitting.WHOLE))
        spread = np.eye(self.rank) if network_.latent_covariance is None else network_.latent_covariance
        self.node_covariance_ = dataset["node_covariance"].values if "node_covariance" in dataset else 1e-6 * spread
        names = ("encoder_first", "encoder_later")
        self.encoders_ = {name: dataset[name].values for name in names if name in dataset}

    # --- inference -------------------------------------------------------------------------------------------------

    def _network(self, dtype: torch.dtype, device: Any) -> ShootingNetwork:
        return network.from_dynamics(self.dynamics_, self.node_covariance_, dtype=dtype, device=device)

    def _spread(self) -> np.ndarray:
        """Return the covariance of the latents where the network lives."""
        for spread in (self.dynamics_.latent_covariance, self.dynamics_.initial_covariance):
            if spread is not None:
                return np.array(spread)
        return np.eye(self.dynamics_.rank)

    def _posterior(self, trials: Trials) -> tuple[Posterior, Windows]:
        net = self._network(torch.float64, resolve(self.device))
        with one_thread():
            return infer(net, self.encoders_, trials, self.shooting_bins_, self._spread())

    def _latents(self, trials: Trials) -> np.ndarray:
        post, windows = self._posterior(trials)
        return join(post.latents[0].cpu().numpy(), windows, trials.values.shape[:2])

    def _log_evidence(self, trials: Trials) -> np.ndarray:
        return self._posterior(trials)[0].log_evidence[0].cpu().numpy()
