"""Linear state-space models and the baselines that every nonlinear model must beat.

The estimator is `LinearStateSpace`. What other models build on, without an estimator:

``em.fit(trials, rank, *, max_iter=100, tol=1e-4, dynamic=True, inputs=None) -> EMFit``
    EM on `Trials` taken as Gaussian values. `EMFit.system` is a `LinearSystem` (transition, drive, noise,
    initial_mean, initial_covariance, loadings, offset, variance, input_weights, initial_input_weights) in the units of
    X and the canonical gauge (latents of mean 0 and covariance I over the training bins); `EMFit.moments` are the
    `Moments` of the training trials; `latent_mean`, `latent_covariance`, `log_likelihood` (iteration,).
``counts.fit(trials, rank, *, likelihood, link, max_iter, tol, dynamic=True, inputs=None) -> EMFit``
    The same by Laplace-EM for counts; eta = C z + d in spikes/s (per bin where the bin size is unknown).
``smoothing.smooth(system, trials, inputs=None) -> Moments``
    `means` (trial, time, latent), `covariances` (trial, time, latent, latent), `filtered`, `predicted`,
    `log_likelihood` (trial,).
    `laplace.smooth(system, trials, inputs, likelihood, link, bin_size)` is the same for counts.
``system.to_dynamics``, ``system.from_dynamics``
    `LinearSystem` <-> `LowRankDynamics`.
"""

from nwb_lrrnn.models.linear.autoregression import VectorAutoregression
from nwb_lrrnn.models.linear.baselines import FactorAnalysis, MeanRate
from nwb_lrrnn.models.linear.state_space import LinearStateSpace
from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.models.linear.unit_autoregression import UnitAutoregression

__all__ = [
    "FactorAnalysis",
    "LinearStateSpace",
    "LinearSystem",
    "MeanRate",
    "UnitAutoregression",
    "VectorAutoregression",
]
