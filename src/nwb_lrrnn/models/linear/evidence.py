"""ln p(counts) by a particle filter: the logarithm of an unbiased estimate of p(Y), a lower bound in expectation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.dynamics.simulation import covariance_root
from nwb_lrrnn.models.linear import laplace
from nwb_lrrnn.models.linear.system import LinearSystem
from nwb_lrrnn.models.particles import noise_of_trial, seed_of
from nwb_lrrnn.models.training.threads import over_ranges
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]


def particle_bound(
    system: LinearSystem,
    trials: Trials,
    inputs: Array | None,
    likelihood: str,
    link: str,
    bin_size: float,
    *,
    n_particles: int = 64,
    random_state: int | np.random.Generator | None = None,
) -> Array:
    """Return ln of an unbiased estimate of p(Y) of each trial, (trial,), in nats, constants included.

    A particle filter (Gordon et al. 1993) whose particles move by Laplace approximations of N(A z + c, Q) p(y_t | z)
    (Doucet et al. 2000) times what the later bins say, by the Gaussian smoother (Guarniero et al. 2017): look-ahead
    makes 16 particles as tight as a thousand without. The noise of a trial depends on the seed and on its own counts
    alone, so a trial scores the same alone, in a batch, in any order, and errors of different trials are independent.

    Parameters
    ----------
    system : LinearSystem
        Its eta in spikes/s.
    trials : Trials
        Counts.
    inputs : array (trial, time, input) or None
        Known inputs.
    likelihood, link : str
        Names as in `LowRankDynamics`.
    bin_size : float
        Seconds (1.0: rates are per bin).
    n_particles : int
        K; the bound tightens as K grows.
    random_state : int, Generator or None
        Seed; None is 0.
    """
    from nwb_lrrnn.models.kernels import laplace_particles as kernels

    model = Likelihood(likelihood, link, bin_size)
    n_trials, n_steps, _ = trials.values.shape
    centers = laplace.smooth(system, trials, inputs, likelihood, link, bin_size).smoothed
    drive, initial = system.drives(inputs, n_trials, n_steps)
    seen, dispersion = laplace.seen_entries(trials), laplace.spread_of(system)
    offsets = np.array(system.offsets(inputs), ndmin=3)
    loadings, transition = np.array(system.loadings), np.array(system.transition)
    covariances = (system.noise, system.initial_covariance)
    noise_root, initial_root = (np.ascontiguousarray(covariance_root(c)) for c in covariances)
    seed = seed_of(random_state)
    bound = np.zeros(n_trials)

    def run(first: int, last: int) -> None:
        for k in range(first, last):
            n = trials.lengths[k]
            moves, picks = noise_of_trial(seed, trials.values[k, :n], seen[k, :n], 2)
            bound[k] = kernels.particle_filter(
                model.code, trials.values[k, :n], seen[k, :n], loadings, offsets[k if len(offsets) > 1 else 0],
                bin_size, dispersion, transition, noise_root, drive[k, :n], initial[k], initial_root,
                centers[k, :n], moves.standard_normal((n, n_particles, system.rank)), picks.uniform(size=n),
            )  # fmt: skip

    over_ranges(run, n_trials, trials.values.size * n_particles)
    return bound + laplace.constants_of(model, trials.values, seen, system)
