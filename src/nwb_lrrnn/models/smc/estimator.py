"""The estimator `SMCLowRankRNN`."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.align import Gauge, canonicalize, change_gauge
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.selection import select_units
from nwb_lrrnn.models.particles import seed_of
from nwb_lrrnn.models.posteriors import SeveralPosteriors
from nwb_lrrnn.models.smc import bound, encoder, evidence, fitting, inference, members, network, settings
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.evidence import Gain
from nwb_lrrnn.models.smc.forecasts import Forecasts
from nwb_lrrnn.models.smc.members import Parts
from nwb_lrrnn.models.smc.network import ParticleForm, ParticleNetwork
from nwb_lrrnn.models.smc.start import ParticleStart
from nwb_lrrnn.models.training.checkpoints import Checkpoint, checkpoint_of
from nwb_lrrnn.models.training.devices import one_thread, resolve
from nwb_lrrnn.parameters import Device, Dtype, LikelihoodName, Link, Nonlinearity, Posterior, Readout
from nwb_lrrnn.trials import LazyTrials, Trials

logger = logging.getLogger(__name__)

_BATCH = 16  # trials per gradient step
_SHARE = 4  # of a sample of trials, one in so many: particles take more memory than trials


class SMCLowRankRNN(Forecasts, SeveralPosteriors, auto_wrap_output_keys=None):
    r"""A low-rank recurrent network with stochastic dynamics, fitted by variational sequential Monte Carlo.

    .. math::

        x_t &= m z_t + B v_t + b \\
        z_{t+1} &= (1-\alpha) z_t + \alpha [ n^T \phi(x_t; h) / N + s ] + w_t, \quad w_t \sim N(0, \Sigma_z) \\
        z_1 &\sim N(\mu_1 + K v_1, \Sigma_1), \quad y_t \sim p(y \mid g(C r_t + d))

    (Pals et al. 2024.) A particle filter estimates p(Y) without bias; the logarithm of the estimate is a lower bound
    on ln p(Y) in expectation, which `score` returns and the fit raises. For Gaussian values read from latents or
    currents the particles move by the exact conditional law of z_{t+1} given y_{t+1}, computed in R dimensions; for
    everything else by a Laplace approximation of it, in R dimensions too.

    The fit starts from a linear state-space model and never leaves it without evidence: particle expectation
    maximisation and then gradients of the bound go on while the trials, each held out in its turn, gain from it.

    Parameters
    ----------
    rank : int
        Number of latents R.
    n_neurons : int or None
        Number N of model neurons; None: 100, or the number of units where the readout is of currents or rates.
    nonlinearity : {"clipped_relu", "relu", "tanh", "erf", "softplus", "identity"}
        Networks of piecewise linear neurons are computed fastest.
    likelihood : str
        "auto" (Poisson for whole numbers >= 0, else Gaussian), or a name in `nwb_lrrnn.dynamics.LIKELIHOODS`.
    link : str, optional
        g, in spikes/s for counts; None: the default of the likelihood (the first of its `codes` there): the identity
        for Gaussian values, softplus for counts.
    readout : {"latents", "currents", "rates"}
        r_t: z_t, x_t or phi(x_t). For the last two every unit reads a neuron of its own.
    latent_noise : {"full", "diagonal"}
        Shape of Sigma_z.
    tau : float or None
        Time constant in seconds; None: fitted.
    bin_size : float or None
        Seconds; None: X.attrs["bin_size"], else its time step, else 1.0 and times count in bins.
    filter_inputs : bool
        Whether inputs pass the network's leaky filter before they reach the neurons.
    proposal : {"auto", "optimal", "laplace", "bootstrap", "encoder"}
        How particles move. auto: optimal where it exists, else laplace. encoder: a convolutional network, as in the
        paper, trained together with the model by gradients from the linear start (no expectation maximisation) and
        kept with the fit; a model made of bare dynamics has none and falls back to auto, which the log says.
    encoder_kernels : (int, int, int)
        Bins that each layer of the encoder sees.
    encoder_channels : (int, int)
        Channels of its hidden layers.
    encoder_padding : {"centred", "causal"}
        Whether a layer sees as far ahead as back, or only back.
    n_particles : int or None
        K; None: the fewest of 16, 64, 256 at which four times as many gain next to nothing (in training at most 64).
        One particle needs no resampling, and the gradient of its bound is unbiased.
    resampling : {"systematic", "stratified", "multinomial"}
    resample_when : {"before_step", "every_step", "low_ess"}
        Before every step, by how well a particle's prediction fits the next bin (fully adapted where the proposal is
        optimal); after every bin; or after bins where the effective sample size falls below half the particles.
    posterior : {"smoothed", "filtered", "delayed"}
        Which bins `transform` uses: all (backward simulation), those up to the current one, or those before it.
    n_trajectories : int
        Trajectories of the backward simulation.
    max_epochs, patience : int
        Gradient training ends when the held-out bound has stopped rising, at the latest after `max_epochs`; the rounds
        of expectation maximisation before it are no more than that either.
    batch_size : int or None
        Trials per gradient step; None: 16.
    learning_rate : float
        In units of every parameter's own information.
    validation_fraction : float
        Share of the trials held out at a time to decide how far to go, in turn, so that every trial decides: a half
        makes two networks, each judged by the trials of the other, beside the one of all trials that is kept; smaller
        shares make more. Of a single trial it is the share of its bins, at the end. 0: none; the trials of the fit
        decide themselves.
    n_init : int
        Restarts, each with neurons and held-out trials of its own; the best by the held-out bound is kept.
    warm_start : bool
        Whether `fit` goes on from the current fit (same rank, neurons, units and inputs).
    checkpoint : path-like or None
        A .npz file that `fit` keeps its progress in: called again with the same parameters and data after an
        interruption, it goes on from there and ends bit-equal; with a higher `max_epochs` also after an end without
        convergence. The file stays, and the same fit then returns at once. One path per fit, never pickled code.
    dtype : {"float32", "float64"}
        Of particles and neurons; weights are always float64.
    device : str
        "cpu", "cuda", "cuda:1", ... or "auto".
    random_state : int or None
        None: another fit each time, but scores and latents of a fit repeat.

    Attributes
    ----------
    dynamics_ : LowRankDynamics
        The fitted network, in the canonical gauge (readout and noise included) and the units of X.
    loadings_, offset_ : arrays (unit, latent) or (unit,), and (unit,)
    left_vectors_, right_vectors_ : arrays (neuron, latent)
    n_particles_ : int
        K of `score` and `transform`.
    history_ : Dataset
        Over `epoch`: elbo (of the batches as they came) and validation (of all trials, each under a network that has
        not seen it), nats per bin, of the restart kept.
    encoder_ : Dataset
        Weights of the encoder and what it reads; only with proposal="encoder".
    restart_scores_ : array (restart,)
        Held-out bound of every restart, nats per bin.
    stayed_linear_ : bool
        Whether the fit is its linear start: nothing that was tried predicted held-out trials better for sure.
    n_iter_ : int
    unit_ids_ : array (unit,)
    bin_size_ : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = np.sin(0.3 * np.arange(60))[None, :, None] * [1.0, -1.0, 0.5] + 0.1 * rng.normal(size=(8, 60, 3))
    >>> import warnings; warnings.simplefilter("ignore")  # 5 epochs do not converge
    >>> model = SMCLowRankRNN(rank=2, n_neurons=20, n_particles=16, max_epochs=5, random_state=0).fit(X)
    >>> model.transform(X).shape
    (8, 60, 2)
    """

    n_particles_: int
    encoder_: xr.Dataset
    stayed_linear_: bool

    def __init__(
        self,
        rank: int = 2,
        *,
        n_neurons: int | None = None,
        nonlinearity: Nonlinearity = "clipped_relu",
        likelihood: Literal["auto"] | LikelihoodName = "auto",
        link: Link | None = None,
        readout: Readout = "latents",
        latent_noise: Literal["full", "diagonal"] = "full",
        tau: float | None = None,
        bin_size: float | None = None,
        filter_inputs: bool = False,
        proposal: Literal["auto", "optimal", "laplace", "bootstrap", "encoder"] = "auto",
        encoder_kernels: tuple[int, int, int] = (21, 11, 1),
        encoder_channels: tuple[int, int] = (64, 64),
        encoder_padding: Literal["centred", "causal"] = "centred",
        n_particles: int | None = None,
        resampling: Literal["systematic", "stratified", "multinomial"] = "systematic",
        resample_when: Literal["before_step", "every_step", "low_ess"] = "before_step",
        posterior: Posterior = "smoothed",
        n_trajectories: int = 64,
        max_epochs: int = 500,
        patience: int = 10,
        batch_size: int | None = None,
        learning_rate: float = 0.01,
        validation_fraction: float = 0.5,
        n_init: int = 1,
        warm_start: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        dtype: Dtype = "float32",
        device: Device = "cpu",
        random_state: int | None = None,
    ):
        self.rank = rank
        self.n_neurons = n_neurons
        self.nonlinearity = nonlinearity
        self.likelihood = likelihood
        self.link = link
        self.readout = readout
        self.latent_noise = latent_noise
        self.tau = tau
        self.bin_size = bin_size
        self.filter_inputs = filter_inputs
        self.proposal = proposal
        self.encoder_kernels = encoder_kernels
        self.encoder_channels = encoder_channels
        self.encoder_padding = encoder_padding
        self.n_particles = n_particles
        self.resampling = resampling
        self.resample_when = resample_when
        self.posterior = posterior
        self.n_trajectories = n_trajectories
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

    _allow_nan = True

    # --- fit -------------------------------------------------------------------------------------------------------

    _fits_lazy_trials = True

    def _fit_trials(self, given: Trials | LazyTrials) -> None:
        """Fit trials in memory, or a sample of a whole with the gradients of all of it."""
        whole = given if isinstance(given, LazyTrials) else None
        trials = given.sample(_SHARE) if isinstance(given, LazyTrials) else given
        schedule = settings.schedule_of(self, trials)
        device = resolve(self.device)
        warm = self.warm_start and hasattr(self, "dynamics_")
        with checkpoint_of(self, whole or trials, device.type, goes_on=warm) as log, one_thread():
            seeds = log.seeds(self.random_state).spawn(self.n_init + 4)
            form = settings.form_of(self, trials, getattr(torch, self.dtype), device)
            rng = np.random.default_rng(seeds[0])
            parts = [members.parts_of(trials, self.validation_fraction, rng) for _ in range(self.n_init)]
            if warm:
                form, flat = self._goes_on(form, seeds[4])
                starts = flat.repeat(self.n_init, len(parts[0].parts), 1)
            else:
                starts = _starts(trials, parts, form, seeds[4:], log)
            task = fitting.ParticleTask(
                form=form,
                starts=starts.to(form.scale),
                trials=trials,
                parts=parts,
                whole=whole,
                sampled=None if whole is None else whole.sample_rows(_SHARE),
                plan=self._plan(self.n_particles or evidence.PARTICLES[0]),
                chooses_particles=self.n_particles is None,
                schedule=schedule,
                batch_size=min(len(trials.lengths), _BATCH if self.batch_size is None else self.batch_size),
                seeds=[int(seed.generate_state(1)[0]) for seed in seeds[1:4]],
                label=type(self).__name__,
                log=log,
            )
            fit = fitting.run(task)
            self._keep(trials, fit)
            self.stayed_linear_ = bool(fit.stayed and (not warm or getattr(self, "stayed_linear_", False)))
            if fit.stayed:
                self._tell_that_it_stayed(fit.tried, warm)
        fit.ending.tell(self)

    def _tell_that_it_stayed(self, tried: Gain, warm: bool) -> None:
        """Say in the log that the fit is where it started, and how near to leaving it was."""
        start = "the fit that it started from" if warm else "its linear start"
        logger.info(
            "%s: the fit stayed at %s: what it tried changed the bound of the trials held out by %+.4f "
            "(standard error %.4f) nats per bin, and it leaves for more than two standard errors and %.4f",
            *(type(self).__name__, start, tried.per_bin, tried.error, tried.least),
        )

    def _goes_on(self, form: ParticleForm, seed: np.random.SeedSequence) -> tuple[ParticleForm, torch.Tensor]:
        """Return the form and parameters (size,) of the current fit, an encoder's included."""
        net = self._network(torch.float64, "cpu")
        if self.latent_noise == "diagonal" and self.dynamics_.latent_noise is not None:
            # the canonical gauge mixes the latents; this one has the same model, and its noise on the diagonal
            turn = Gauge(np.linalg.eigh(self.dynamics_.latent_noise)[1], np.zeros(self.dynamics_.rank))
            turned = network.from_dynamics(change_gauge(self.dynamics_, turn), dtype=torch.float64, device="cpu")
            found = None if net.encoder is None else encoder.in_gauge(net.encoder, *turn)
            net = dataclasses.replace(turned, encoder=found)
        if form.encoder is None:
            return form, network.flat_of(net, form)
        if net.encoder is None:
            return form, network.flat_of(dataclasses.replace(net, encoder=encoder.first(form.encoder, seed)), form)
        design = encoder.resumed(net.encoder.design, form.encoder)
        return dataclasses.replace(form, encoder=design), network.flat_of(net, form)

    def _keep(self, trials: Trials, fit: fitting.ParticleFit) -> None:
        """Set the fitted attributes, in the canonical gauge and the units of X."""
        self.n_particles_ = fit.plan.n_particles
        means = inference.posterior_means(fit.net, trials, fit.plan, 0, "smoothed", self.n_trajectories)
        inside = np.arange(means.shape[1])[None] < trials.lengths[:, None]
        pooled = means[inside]
        moments = pooled.mean(0), np.cov(pooled.T, bias=True).reshape(self.rank, self.rank)
        fitted = network.to_dynamics(fit.net, 0, trials.bin_size, trials.unit_ids, moments)
        self.dynamics_, gauge = canonicalize(fitted)
        vars(self).pop("encoder_", None)
        if fit.net.encoder is not None:
            self.encoder_ = xr.Dataset(encoder.to_arrays(encoder.in_gauge(fit.net.encoder, *gauge)))

    # --- inference -------------------------------------------------------------------------------------------------

    def _plan(self, n_particles: int) -> Plan:
        proposal = bound.resolve(self.proposal, self.likelihood_, self.readout)
        return Plan(proposal, n_particles, self.resampling, self.resample_when)

    def _network(self, dtype: torch.dtype, device: Any) -> ParticleNetwork:
        net = network.from_dynamics(self.dynamics_, dtype=dtype, device=device)
        if not hasattr(self, "encoder_"):
            return net
        counts = self.likelihood_ != "gaussian"
        found = encoder.from_arrays(self.encoder_, takes_roots=counts, dtype=dtype, device=device)
        return dataclasses.replace(net, encoder=found)

    def _ready(self) -> tuple[ParticleNetwork, Plan, int]:
        net = self._network(getattr(torch, self.dtype), resolve(self.device))
        plan = self._plan(self.n_particles_)
        if plan.proposal == "encoder" and net.encoder is None:
            plan = bound.guide_of(plan, self.likelihood_, self.readout)
            logger.info("proposal='encoder': this network was not fitted with one; proposal=%r is used", plan.proposal)
        return net, plan, seed_of(self.random_state)

    def _posterior(self, trials: Trials, posterior: str) -> np.ndarray:
        net, plan, seed = self._ready()
        with one_thread():
            return inference.posterior_means(net, trials, plan, seed, posterior, self.n_trajectories)

    def _log_evidence(self, trials: Trials) -> np.ndarray:
        net, plan, seed = self._ready()
        with one_thread():
            return inference.log_evidence(net, trials, plan, seed).sum(axis=1)

    def with_dynamics(self, dynamics: LowRankDynamics) -> SMCLowRankRNN:
        """Return a model of the same settings whose network is another, as if fitted: to score it in the same way."""
        check_is_fitted(self)
        if self._scored is not self:
            return self._around(self._scored.with_dynamics(select_units(dynamics, self.scored_units_)))
        other = type(self)(**self.get_params(deep=False))
        other.dynamics_ = dynamics
        kept = ("n_particles_", "bin_size_is_known_")
        other._complete(xr.Dataset(attrs={name: getattr(self, name) for name in kept}))
        return other

    # --- the file --------------------------------------------------------------------------------------------------

    _fitted_scalars = (*SeveralPosteriors._fitted_scalars, "n_particles_", "stayed_linear_")
    _fitted_flags = (*SeveralPosteriors._fitted_flags, "stayed_linear_")

    def _state(self) -> dict[str, tuple]:
        if not hasattr(self, "encoder_"):
            return {}
        return {str(name): (variable.dims, variable.values) for name, variable in self.encoder_.items()}

    def _complete(self, dataset: xr.Dataset) -> None:
        super()._complete(dataset)
        self.set_params(readout=self.dynamics_.readout)
        for name in ("readout_input_weights", "private_noise", "link_gain"):
            if getattr(self.dynamics_, name) is not None:
                raise ValueError(
                    f"dynamics: got {name}, wanted none: an SMCLowRankRNN has no such term; drop it with "
                    f"dynamics.replace({name}=None)"
                )
        names = [str(name) for name in dataset.data_vars if str(name).startswith("encoder_")]
        if names:
            self.encoder_ = dataset[names].drop_vars(list(dataset[names].coords)).drop_attrs()
        if not hasattr(self, "n_particles_"):
            self.n_particles_ = self.n_particles or evidence.PARTICLES[2]
        self.n_particles_ = int(self.n_particles_)
        # JSON, in which parameters are stored, has no tuples
        self.encoder_kernels, self.encoder_channels = tuple(self.encoder_kernels), tuple(self.encoder_channels)


def _starts(
    trials: Trials,
    parts: list[Parts],
    form: ParticleForm,
    seeds: list[np.random.SeedSequence],
    log: Checkpoint,
) -> torch.Tensor:
    """Return the parameters (S, M, size) of one start for every part of every restart, in the latents of all trials."""
    whole = ParticleStart(trials, form, log, "linear start")
    starts = []
    for k, (restart, seed) in enumerate(zip(parts, seeds, strict=True)):
        systems = [
            whole
            if part.train is trials
            else ParticleStart(part.train, form, log, f"linear start {k + 1}.{m + 1}", whole)
            for m, part in enumerate(restart.parts)
        ]
        starts.append(torch.stack([start.flat(form, np.random.default_rng(seed)) for start in systems]))
    return torch.stack(starts)
