"""`LinearStateSpace`: latents with linear dynamics, fitted by EM; exact for Gaussian data, Laplace-EM for counts."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.align import canonicalize
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import choose_link
from nwb_lrrnn.models.linear import em
from nwb_lrrnn.models.linear.larger_start import of_units
from nwb_lrrnn.models.linear.smoothing import Moments, smooth
from nwb_lrrnn.models.linear.system import LinearSystem, from_dynamics, to_dynamics
from nwb_lrrnn.models.posteriors import POSTERIORS, SeveralPosteriors
from nwb_lrrnn.parameters import LikelihoodName, Link, Posterior, choose, positive, whole_number
from nwb_lrrnn.trials import Trials


class LinearStateSpace(SeveralPosteriors, auto_wrap_output_keys=None):
    r"""Latents that follow linear dynamics with Gaussian noise, seen through Gaussian values or counts.

    .. math::

        z_{t+1} &= A z_t + c + B u_t + w_t, \quad w_t \sim N(0, Q), \quad z_1 \sim N(\mu_1 + K u_1, \Sigma_1) \\
        y_t &\sim N(C z_t + d, \mathrm{diag}\,R) \quad\text{or counts of mean}\quad \Delta\, g(C z_t + d)

    Gaussian values: expectation maximisation with the exact Kalman smoother (Shumway & Stoffer 1982). Counts:
    Laplace-EM (Smith & Brown 2003; Macke et al. 2011), g in spikes/s where the bin size Delta is known, with the
    Gaussian posterior averaged over rather than expanded at its mode (Opper & Archambeau 2009). At the end the latents
    are put into the canonical gauge: mean 0 and uncorrelated over the training data, orthonormal loadings. With fewer
    than 5 trials per parameter of the initial mean, one imaginary trial steadies Sigma_1.

    Parameters
    ----------
    rank : int
        Number of latents R, at most the number of units.
    likelihood : str
        "auto" (Poisson for whole numbers >= 0, else Gaussian), or a name in `nwb_lrrnn.dynamics.LIKELIHOODS`.
    link : str, optional
        g, in spikes/s for counts; None: the default of the likelihood (the first of its `codes` there): the identity
        for Gaussian values, softplus for counts.
    bin_size : float, optional
        Seconds, where X does not say.
    max_iter : int
        Most EM iterations.
    tol : float
        EM stops when an iteration gains less than this fraction of the advantage over constant rates.
    n_particles : int
        Particles of the bound on ln p(counts) in `score`.
    posterior : {"smoothed", "filtered", "delayed"}
        Which bins `transform` uses: all, those up to the current one, or those before it.
    random_state : int, Generator or None
        Seed of the particle noise of `score`; None is seed 0, so that a model scores the same twice.

    Attributes
    ----------
    dynamics_ : LowRankDynamics
        The fitted parameters.
    history_ : Dataset (epoch)
        `log_likelihood` per observed bin at each EM iteration (counts: its Laplace approximation) and `log_prior`.
    n_iter_ : int
        EM iterations run.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((20, 30, 5)).cumsum(axis=1)
    >>> model = LinearStateSpace(rank=2, max_iter=20, tol=1e-3).fit(X)
    >>> model.transform(X).shape
    (20, 30, 2)
    """

    _allow_nan = True
    _dynamic = True

    n_iter_: int
    history_: xr.Dataset

    def __init__(
        self,
        rank: int = 2,
        *,
        likelihood: Literal["auto"] | LikelihoodName = "auto",
        link: Link | None = None,
        bin_size: float | None = None,
        max_iter: int = 100,
        tol: float = 1e-4,
        n_particles: int = 64,
        posterior: Posterior = "smoothed",
        random_state: int | np.random.Generator | None = None,
    ):
        self.rank = rank
        self.likelihood = likelihood
        self.link = link
        self.bin_size = bin_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_particles = n_particles
        self.posterior = posterior
        self.random_state = random_state

    def moments(self, X: Any, *, inputs: Any = None) -> Moments:
        """Return the posterior moments of the latents: means, covariances and lag-one cross-covariances."""
        trials = self._in_memory(X, inputs)
        return self._scored._moments(trials)

    def transition_matrix(self) -> np.ndarray:
        """Return A (latent, latent), the one-step map of the latents."""
        check_is_fitted(self)
        return self.dynamics_.jacobian(np.zeros(self.dynamics_.rank))

    def modes(self) -> xr.Dataset:
        """Return what the eigenvalues of A say, dims (mode,), the slowest first.

        `eigenvalue_real` and `eigenvalue_imag`, `time_constant` (s), `frequency` (Hz) and `is_stable`.

        The time constant is -dt / ln|lambda| (negative where the mode grows), the frequency arg(lambda) / (2 pi dt).
        """
        values = np.asarray(np.linalg.eigvals(self.transition_matrix()), dtype=np.complex128)
        values = values[np.lexsort((-values.imag, -np.abs(values).round(12)))]
        dt = self.dynamics_.dt
        size = np.abs(values)
        with np.errstate(divide="ignore"):  # |lambda| = 0 decays at once, |lambda| = 1 never
            time_constant = -dt / np.log(size)
        frequency = np.angle(values) / (2 * np.pi * dt)
        return xr.Dataset(
            {
                "eigenvalue_real": ("mode", values.real),
                "eigenvalue_imag": ("mode", values.imag),
                "time_constant": ("mode", time_constant, {"units": "s"}),
                "frequency": ("mode", frequency, {"units": "Hz"}),
                "is_stable": ("mode", size < 1),
            }
        )

    def start_from(self, smaller: LinearStateSpace) -> LinearStateSpace:
        """Return the model, whose next fit starts from a fitted one of smaller rank as well.

        A larger model contains the smaller one; started there, it explains the trials at least as well, up to `tol`.
        """
        check_is_fitted(smaller)
        self._smaller = smaller
        return self

    def _contained(self, trials: Trials) -> LinearSystem | None:
        """Return the system of the smaller model to start from, of the units of these trials; None: there is none."""
        smaller = self.__dict__.pop("_smaller", None)
        if smaller is None or smaller.likelihood_ != self.likelihood_:
            return None
        system = from_dynamics(smaller.dynamics_)
        if len(system.offset) != trials.n_units:
            scored = getattr(smaller, "scored_units_", None)
            if scored is None or int(np.sum(scored)) != trials.n_units:
                return None
            system = of_units(system, scored)
        return system

    def _complete(self, dataset: xr.Dataset) -> None:
        from_dynamics(self.dynamics_)  # refuse what is not linear here, not at the first use
        super()._complete(dataset)

    @classmethod
    def from_dynamics(cls, dynamics: LowRankDynamics) -> LinearStateSpace:
        """Return the model with the parameters of a network of identity neurons, as if fitted.

        Raises
        ------
        ValueError
            If the network is nonlinear, unobserved or has private noise or link_gain.
        """
        from_dynamics(dynamics)  # refuse what is not linear here, not at the first use
        model = cls(rank=dynamics.rank, likelihood=dynamics.likelihood, link=dynamics.link, bin_size=float(dynamics.dt))
        model.dynamics_ = dynamics
        model.likelihood_ = dynamics.likelihood
        model.bin_size_, model.bin_size_is_known_ = float(dynamics.dt), dynamics.dt != 1.0
        model.n_inputs_ = dynamics.n_inputs
        model.n_features_in_ = dynamics.n_units
        model.unit_ids_ = np.arange(dynamics.n_units) if dynamics.unit_ids is None else dynamics.unit_ids
        model.scored_units_ = np.ones(dynamics.n_units, dtype=bool)
        model.units_at_floor_ = ~model.scored_units_
        return model

    # --- what the verbs stand on -----------------------------------------------------------------------------------

    def _fit_trials(self, trials: Trials) -> None:
        rank = self._check_parameters(trials)
        link = choose_link(self.likelihood_, self.link)
        smaller = self._contained(trials)
        steps = {"max_iter": self.max_iter, "tol": self.tol, "dynamic": self._dynamic, "smaller": smaller}
        if self.likelihood_ == "gaussian":
            fitted = em.fit(trials, rank, **steps)
        else:
            from nwb_lrrnn.models.linear import counts

            fitted = counts.fit(trials, rank, likelihood=self.likelihood_, link=link, **steps)
        network = to_dynamics(
            fitted.system,
            trials.bin_size,
            self.likelihood_,
            link,
            fitted.latent_mean,
            fitted.latent_covariance,
            trials.unit_ids,
        )
        self.dynamics_ = canonicalize(network)[0]
        self._remember(fitted)

    def _remember(self, fitted: em.EMFit) -> None:
        self.n_iter_ = len(fitted.log_likelihood)
        self.history_ = xr.Dataset(
            {
                "log_likelihood": ("epoch", fitted.log_likelihood),
                "log_prior": ("epoch", fitted.objective - fitted.log_likelihood),
            },
            coords={"epoch": np.arange(self.n_iter_)},
        )
        if not fitted.converged:
            warnings.warn(
                f"{type(self).__name__} stopped after max_iter={self.max_iter} iterations: the last one still gained "
                f"{fitted.last_gain:.2g} of the advantage over constant rates, more than tol={self.tol:g}; "
                "raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _check_parameters(self, trials: Trials) -> int:
        rank = whole_number("rank", self.rank)
        n_units = trials.values.shape[2]
        if rank is None or rank > n_units:
            raise ValueError(f"rank: got {rank}, wanted at most {n_units}, the number of units of X")
        whole_number("max_iter", self.max_iter)
        whole_number("n_particles", self.n_particles)
        positive("tol", self.tol, zero=True)
        choose("posterior", self.posterior, POSTERIORS)
        return rank

    def _system(self) -> LinearSystem:
        return from_dynamics(self.dynamics_)

    def _moments(self, trials: Trials) -> Moments:
        if self.likelihood_ == "gaussian":
            return smooth(self._system(), trials, self._driving(trials))
        from nwb_lrrnn.models.linear import laplace

        return laplace.smooth(
            self._system(), trials, self._driving(trials), self.likelihood_, str(self.dynamics_.link), self.bin_size_
        )

    def _posterior(self, trials: Trials, posterior: str) -> np.ndarray:
        if self.likelihood_ == "gaussian" or posterior == "smoothed":
            moments = self._moments(trials)
            return {"smoothed": moments.smoothed, "filtered": moments.filtered, "delayed": moments.predicted}[posterior]
        from nwb_lrrnn.models.linear import laplace

        filtered, predicted = laplace.run_filter(
            self._system(), trials, self._driving(trials), self.likelihood_, str(self.dynamics_.link), self.bin_size_
        )
        return filtered if posterior == "filtered" else predicted

    def _log_evidence(self, trials: Trials) -> np.ndarray:
        if self.likelihood_ == "gaussian":
            return self._moments(trials).log_likelihood
        from nwb_lrrnn.models.linear import evidence

        return evidence.particle_bound(
            self._system(),
            trials,
            self._driving(trials),
            self.likelihood_,
            str(self.dynamics_.link),
            self.bin_size_,
            n_particles=self.n_particles,
            random_state=self.random_state,
        )
