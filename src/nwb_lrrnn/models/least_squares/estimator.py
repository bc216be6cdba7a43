"""The estimator `LeastSquaresRNN`."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.align import canonicalize
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.distance import distance_from_data, reach_of_data
from nwb_lrrnn.models.least_squares import settings
from nwb_lrrnn.models.least_squares.filtering import check_filterable, smooth
from nwb_lrrnn.models.least_squares.given import learn_from
from nwb_lrrnn.models.least_squares.known_fields import FromFields
from nwb_lrrnn.models.least_squares.more_trials import LearnsMore
from nwb_lrrnn.models.least_squares.rounds import Learnt, Plan, learn, score
from nwb_lrrnn.models.least_squares.streaming import regress_all
from nwb_lrrnn.models.least_squares.units import learn_units
from nwb_lrrnn.models.linear.em import pooled_moments
from nwb_lrrnn.models.posteriors import SeveralPosteriors
from nwb_lrrnn.models.training.devices import one_thread
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.parameters import Device, LikelihoodName, Link, Nonlinearity, Posterior
from nwb_lrrnn.trials import LazyTrials, Trials

logger = logging.getLogger(__name__)


class LeastSquaresRNN(FromFields, LearnsMore, auto_wrap_output_keys=None):
    r"""A low-rank recurrent network found by regression instead of gradients.

    .. math::

        x_t &= m z_t + B v_t + b \\
        z_{t+1} &= (1-\alpha) z_t + \alpha [ n^T \phi(x_t) / N + s + S u_t ] + w_t, \quad w_t \sim N(0, \Sigma_z) \\
        z_1 &\sim N(\mu_1 + K u_1, \Sigma_1), \quad y_t \sim p(y \mid g(C z_t + d))

    Neurons (m, B and b) are drawn at random, and n, s and S are a ridge regression of where the latents go on what the
    neurons make of where they are (Arora & Pillow 2025; Eliasmith & Anderson 2003). The latents of a recording are
    those of a linear state-space model at first; the extended Kalman smoother of the network finds better ones, the
    regression a better network, and so on as long as trials that are held out become likelier. `score` and `transform`
    are of that filter and smoother: exact for identity neurons and Gaussian values, else first-order in how the
    covariance of the latents moves.

    Where the network of the rounds does not beat the linear models for sure, `fit` returns one that moves as the
    linear model of all trials does, says so in the log, and sets `stayed_linear_`.

    Parameters
    ----------
    rank : int
        Number of latents R.
    n_neurons : int
        Number N of model neurons; of units that are the network their number.
    nonlinearity : {"tanh", "erf", "relu", "clipped_relu", "softplus", "identity"}
    basis : {"nef", "gaussian", "data"}
        How neurons are drawn: with thresholds anywhere within the latents, without looking at them, or at some of them.
    ridge : {"noise", "cv", "evidence"} or float
        The penalty: `rate_noise` squared, the best for held-out trials, the most probable, or a number > 0.
    rate_noise : float
        Standard deviation of the noise that every rate may have for itself without harm; larger is smoother.
    input_mode : {"latent", "neuron"}
        Whether inputs push the latents, or enter the neurons and change the dynamics.
    latents : {"smoothed", "factor_analysis", "units"}, fitted model, or array (trial, time, latent)
        Where the latents come from; all but "smoothed" are taken as they are, and nothing is held out. "units": the
        units are the neurons (Gaussian values), and n is a reduced-rank regression (Valente et al. 2022).
    likelihood : str
        "auto" (Poisson for whole numbers >= 0, else Gaussian), or a name in `nwb_lrrnn.dynamics.LIKELIHOODS`.
    link : str, optional
        g, in spikes/s for counts; None: the default of the likelihood.
    tau : float or None
        Time constant in seconds, at least a bin; None: as slow as the linear model is, at most 20 bins.
    bin_size : float or None
        Seconds; None: X.attrs["bin_size"], else its time step, else 1.0 and times count in bins.
    posterior : {"smoothed", "filtered", "delayed"}
        Which bins `transform` uses: all, those up to the current one, or those before it.
    max_epochs : int
        Most rounds of smoothing and regression.
    validation_fraction : float
        Share of the trials held out at a time, in turn, to decide how many rounds; a half makes two networks, each
        judged by the trials of the other, beside the one of all trials that is kept. Of a single trial it is the share
        of its bins, at the end. 0: the trials of the fit decide themselves.
    device : str
        Of the filter: "cpu", "cuda", "cuda:1", ... or "auto".
    random_state : int or None
        None: another fit each time.

    Attributes
    ----------
    dynamics_ : LowRankDynamics
        The network, in the canonical gauge (readout and noise included) and the units of X.
    loadings_, offset_ : arrays (unit, latent) and (unit,)
    left_vectors_, right_vectors_ : arrays (neuron, latent)
    stayed_linear_ : bool
        Whether the network moves as the linear model does: none was better on held-out trials for sure.
    history_ : Dataset
        Over `epoch` (0: the linear model): log_likelihood of the trials and validation of held-out ones, nats per bin.
    penalty_ : float
        That of the regression, latents being in units of their standard deviation.
    n_iter_ : int
        Rounds.
    unit_ids_ : array (unit,)
    bin_size_ : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = np.stack([np.sin(0.3 * np.arange(60)), np.cos(0.3 * np.arange(60))], axis=1)
    >>> X = z @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(8, 60, 5))
    >>> model = LeastSquaresRNN(rank=2, n_neurons=50, random_state=0).fit(X)
    >>> model.transform(X).shape
    (8, 60, 2)
    """

    _allow_nan = True
    _fitted_scalars = (*SeveralPosteriors._fitted_scalars, "stayed_linear_", "penalty_")
    _fitted_flags = (*SeveralPosteriors._fitted_flags, "stayed_linear_")

    stayed_linear_: bool
    penalty_: float

    def __init__(
        self,
        rank: int = 2,
        *,
        n_neurons: int = 100,
        nonlinearity: Nonlinearity = "tanh",
        basis: Literal["nef", "gaussian", "data"] = "nef",
        ridge: Literal["noise", "cv", "evidence"] | float = "noise",
        rate_noise: float = 0.01,
        input_mode: Literal["latent", "neuron"] = "latent",
        latents: Any = "smoothed",
        likelihood: Literal["auto"] | LikelihoodName = "auto",
        link: Link | None = None,
        tau: float | None = None,
        bin_size: float | None = None,
        posterior: Posterior = "smoothed",
        max_epochs: int = 5,
        validation_fraction: float = 0.5,
        device: Device = "cpu",
        random_state: int | None = None,
    ):
        self.rank = rank
        self.n_neurons = n_neurons
        self.nonlinearity = nonlinearity
        self.basis = basis
        self.ridge = ridge
        self.rate_noise = rate_noise
        self.input_mode = input_mode
        self.latents = latents
        self.likelihood = likelihood
        self.link = link
        self.tau = tau
        self.bin_size = bin_size
        self.posterior = posterior
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    @property
    def loadings_(self) -> np.ndarray:
        """C (unit, latent); of units that are the neurons, what they show of the latents."""
        network = self.dynamics_
        own = np.asarray(network.loadings)
        return own if network.readout == "latents" else own[:, None] * network.left_vectors

    @property
    def offset_(self) -> np.ndarray:
        """The offset d (unit,): what the units show, before the link, where the latents are 0."""
        network = self.dynamics_
        offset = np.zeros(network.n_units) if network.offset is None else np.asarray(network.offset)
        if network.readout == "latents" or network.bias is None:
            return offset
        return offset + np.asarray(network.loadings) * network.bias

    # --- fit -------------------------------------------------------------------------------------------------------

    _fits_lazy_trials = True

    def _fit_trials(self, given: Trials | LazyTrials) -> None:
        """Fit trials in memory, or a sample of a whole and then its field to all of it, in one pass."""
        whole = given if isinstance(given, LazyTrials) else None
        trials = given.sample() if isinstance(given, LazyTrials) else given
        plan = settings.plan_of(self, trials)
        seed = np.random.SeedSequence(self.random_state)
        with one_thread():
            if isinstance(self.latents, str) and self.latents == "units":
                network = learn_units(trials, plan)
                self._keep(trials, plan, network)
                per_bin = float(score(network, trials, plan).sum()) / trials.n_observed_bins
                self._remember([per_bin], [], stayed=False, penalty=_penalty_of(plan))
            else:
                settings.tell_of_scarcity(self, trials)
                is_smoothed = isinstance(self.latents, str) and self.latents == "smoothed"
                found = learn(trials, plan, seed) if is_smoothed else learn_from(self.latents, trials, plan, seed)
                network = found.network
                if whole is not None and not found.stayed:
                    network = regress_all(network, found.field, whole, plan.device)
                self._keep(trials, plan, network)
                self._remember(found.train, found.validation, stayed=found.stayed, penalty=found.field.penalty)
                self._tell_how_it_went(found)
        settings.tell_of_tau(self, self.dynamics_.tau, trials.bin_size)

    def is_extrapolating(self, latents: Any) -> np.ndarray:
        """Return where latents (..., latent) are farther out than 99.73 % of those that the network was found from.

        There it goes on as its neurons happen to; such are the bins of other recordings, and fixed points, to distrust.
        """
        check_is_fitted(self)
        distance = distance_from_data(self.dynamics_, np.asarray(latents, dtype=float))
        if distance is None:
            raise ValueError("dynamics: got a network without latent_covariance, wanted one that tells where data were")
        return distance > reach_of_data(self.dynamics_.rank)

    def _keep(self, trials: Trials, plan: Plan, network: LowRankDynamics) -> None:
        """Set the network, in the gauge that its latents of the training trials make canonical."""
        moments = smooth(network, trials, device=plan.device)
        mean, covariance = pooled_moments(moments, trials.lengths)
        self.dynamics_ = canonicalize(network.replace(latent_mean=mean, latent_covariance=covariance))[0]

    def _remember(self, train: list[float], validation: list[float], *, stayed: bool, penalty: float) -> None:
        n = max(len(train), len(validation))
        rows = {
            name: ("epoch", np.concatenate([values, np.full(n - len(values), np.nan)]))
            for name, values in (("log_likelihood", train), ("validation", validation))
            if values
        }
        history = xr.Dataset(rows, coords={"epoch": np.arange(n)})
        best = np.array([max(validation, default=train[-1])])
        Ending(history, best, (), "").tell(self)
        self.stayed_linear_, self.penalty_ = bool(stayed), float(penalty)

    def _tell_how_it_went(self, found: Learnt) -> None:
        if found.tried is not None and found.stayed:
            logger.info(
                "%s: the fit stayed at its linear start: what it tried changed the log-likelihood of the trials held "
                "out by %+.4f (standard error %.4f) nats per bin, and it leaves for more than two standard errors and "
                "%.4f", type(self).__name__, *found.tried,
            )  # fmt: skip

    def _gate(self, X: Any, inputs: Any, *, reset: bool, forecasts: bool = True) -> Trials | LazyTrials:
        if reset:
            vars(self).pop("field_", None)
            self._learner = None
        elif hasattr(self, "field_"):
            check_filterable(self.dynamics_)  # of a field that is known no units show anything
        return super()._gate(X, inputs, reset=reset, forecasts=forecasts)

    # --- inference -------------------------------------------------------------------------------------------------

    def _posterior(self, trials: Trials, posterior: str) -> np.ndarray:
        with one_thread():
            moments = smooth(self.dynamics_, trials, device=self.device, goes_back=posterior == "smoothed")
        return {"smoothed": moments.smoothed, "filtered": moments.filtered, "delayed": moments.predicted}[posterior]

    def _log_evidence(self, trials: Trials) -> np.ndarray:
        with one_thread():
            return smooth(self.dynamics_, trials, device=self.device, goes_back=False).log_likelihood

    # --- the file --------------------------------------------------------------------------------------------------

    def to_dataset(self) -> xr.Dataset:
        """Return all that the fitted model is as a Dataset; latents that were passed are not in it, and it says so."""
        if isinstance(self.latents, str):
            return super().to_dataset()
        passed, self.latents = self.latents, settings.GIVEN
        try:
            return super().to_dataset()
        finally:
            self.latents = passed

    def _complete(self, dataset: xr.Dataset) -> None:
        check_filterable(self.dynamics_)  # here, not at the first use
        super()._complete(dataset)
        for name, value in (("stayed_linear_", False), ("penalty_", np.nan)):
            if not hasattr(self, name):
                setattr(self, name, value)
        self.stayed_linear_ = bool(self.stayed_linear_)  # files store flags as integers


def _penalty_of(plan: Plan) -> float:
    return plan.rate_noise**2 if isinstance(plan.ridge, str) else float(plan.ridge)
