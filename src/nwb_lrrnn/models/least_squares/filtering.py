"""The posterior of the latents of `Trials` under a low-rank network: extended Kalman filter and smoother.

The filtered mean moves by the network, the filtered covariance by its Jacobian there; a bin of Gaussian values is
conditioned on exactly, one of counts by its first two moments, integrated about its mode. For a network of identity
neurons and Gaussian values all of it is exact. ln p(y_t | bins before) is the integral of p(y_t | z) over the predicted
law, so that the score is the log-density of a model that predicts bin by bin, and no bin sees itself.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.kernels.kalman_types import Law, Network, Posterior, Readout
from nwb_lrrnn.models.linear.smoothing import Moments
from nwb_lrrnn.models.training.devices import resolve
from nwb_lrrnn.models.training.threads import over_ranges
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

# of the integral over the latents of a bin of counts
_PER_AXIS = {1: 9, 2: 5, 3: 5, 4: 4, 5: 3}  # nodes on an axis, by the number of latents: errs by 3e-3 nats per bin
_PAIRS = 64  # of opposite nodes, for more latents: 0.02 nats per bin, downwards


def smooth(
    network: LowRankDynamics,
    trials: Trials,
    *,
    device: str = "cpu",
    goes_back: bool = True,
    kernels: bool | None = None,
) -> Moments:
    """Return the posterior moments of the latents of trials, and ln p(Y) of each trial in nats and in units of X.

    Parameters
    ----------
    network : LowRankDynamics
        Its units read latents or currents; Gaussian values have a variance > 0.
    trials : Trials
        Masks, unequal lengths and inputs are respected; entries after the end of a trial are 0.
    device : str
        Where it is computed: fused kernels on the CPU, plain torch elsewhere.
    goes_back : bool
        Whether the latents are smoothed too; else only filtered and predicted means and the likelihood are filled.
    kernels : bool, optional
        Overrides the choice of path.

    Raises
    ------
    ValueError
        If the network is none that this filter knows.
    """
    check_filterable(network)
    place = resolve(device)
    parts = parts_of(network, trials)
    if place.type == "cpu" if kernels is None else kernels:
        posterior = _run_kernels(network, trials, *parts, goes_back)
    else:
        from nwb_lrrnn.models.least_squares import torch_filter

        posterior = torch_filter.run(network, trials.lengths, *parts, nodes(network.rank), place, goes_back)
    evidence = posterior.increments.sum(axis=1) + _constants(network, trials)
    return Moments(
        posterior.smoothed,
        posterior.filtered,
        posterior.predicted,
        np.arange(len(trials.lengths)),
        posterior.covariances,
        posterior.cross,
        evidence,
    )


def check_filterable(network: LowRankDynamics) -> None:
    """Refuse a network that the filter does not know."""
    if network.loadings is None:
        raise ValueError("dynamics: got a network without a readout, wanted loadings= and offset=")
    if network.readout == "rates":
        raise ValueError("dynamics: got readout='rates', wanted 'latents' or 'currents', which are linear in latents")
    for name in ("private_noise", "link_gain"):
        if getattr(network, name) is not None:
            raise ValueError(
                f"dynamics: got {name}, wanted none: a LeastSquaresRNN has no such term; drop it with "
                f"dynamics.replace({name}=None)"
            )
    if network.likelihood == "gaussian":
        variance = network.observation_variance
        if variance is None or not (variance > 0).all() or network.link != "identity":
            raise ValueError(
                "dynamics: got no observation_variance > 0 per unit or another link than 'identity', wanted them for "
                "a Gaussian readout"
            )


def parts_of(network: LowRankDynamics, trials: Trials) -> tuple[Network, Law, Readout]:
    """Return what moves the latents, their laws, and what is seen of them, as writable arrays."""
    n_trials, rank = len(trials.lengths), network.rank
    raw = trials.inputs
    v = np.zeros((1, 1, 0)) if raw is None else network.filtered_inputs(raw)
    push = np.zeros((1, 1, rank)) + (0.0 if network.drive is None else network.drive)
    if raw is not None and network.latent_input_weights is not None:
        push = push + raw @ network.latent_input_weights.T
    initial = np.zeros((n_trials, rank)) + (0.0 if network.initial_mean is None else network.initial_mean)
    if raw is not None and network.initial_input_weights is not None:
        initial = initial + v[:, 0] @ network.initial_input_weights.T
    loadings, offsets = _readout_of(network, v)
    neurons = network.n_neurons
    weights = network.input_weights
    thresholds = network.thresholds if network.nonlinearity == "clipped_relu" else None
    spread = Likelihood(network.likelihood, str(network.link), network.dt).spread_of(network)
    moves = Network(
        1.0 - network.alpha,
        _copy(network.left_vectors.T),
        _copy(network.right_vectors.T * (network.alpha / neurons)),
        _copy(np.zeros(neurons) if network.bias is None else network.bias),
        _copy(np.zeros(neurons) if thresholds is None else thresholds),
        _copy(np.zeros((v.shape[2], neurons)) if weights is None or raw is None else weights.T),
        _copy(network.alpha * push),
        _copy(v),
    )
    none = np.zeros((rank, rank))
    law = Law(
        _copy(none if network.latent_noise is None else network.latent_noise),
        _copy(initial),
        _copy(np.eye(rank) if network.initial_covariance is None else network.initial_covariance),
    )
    seen = np.ones(trials.values.shape, dtype=bool) if trials.observed is None else _copy(trials.observed)
    time = float(Likelihood(network.likelihood, str(network.link), network.dt).time)
    spread = np.ones(network.n_units) if spread is None else spread
    return moves, law, Readout(_copy(trials.values), seen, loadings, offsets, time, _copy(spread))


def nodes(rank: int) -> tuple[Array, Array]:
    """Return nodes (node, R) and weights (node,) that integrate N(0, I).

    A Gauss-Hermite grid for few latents; for more, pairs of opposite nodes on the axes of fixed random rotations, their
    squared lengths being quantiles of chi-squared.
    """
    if rank in _PER_AXIS:
        x, w = np.polynomial.hermite_e.hermegauss(_PER_AXIS[rank])
        points = np.array(list(itertools.product(x, repeat=rank)))
        return points, np.array([float(np.prod(one)) for one in itertools.product(w / w.sum(), repeat=rank)])
    rng = np.random.default_rng(0)
    n = -(-_PAIRS // rank)
    turns = np.linalg.qr(rng.standard_normal((n, rank, rank)))[0].reshape(-1, rank)
    lengths = np.sqrt(2.0 * gammaincinv(0.5 * rank, rng.permutation((np.arange(len(turns)) + 0.5) / len(turns))))
    points = lengths[:, None] * turns
    points = np.concatenate([points, -points])
    lower = np.linalg.cholesky(points.T @ points / len(points))
    return np.linalg.solve(lower, points.T).T.copy(), np.full(len(points), 1.0 / len(points))


def _readout_of(network: LowRankDynamics, v: Array) -> tuple[Array, Array]:
    """Return what units read of latents (unit, R), and what they show without them (trial or 1, time or 1, unit)."""
    driven = v.shape[2] > 0
    loadings = np.asarray(network.loadings)
    offsets = np.zeros((1, 1, network.n_units)) + (0.0 if network.offset is None else network.offset)
    if driven and network.readout_input_weights is not None:
        offsets = offsets + v @ network.readout_input_weights.T
    if network.readout == "currents":  # y reads x = m z + B v + b
        x = np.zeros((1, 1, network.n_neurons)) + (0.0 if network.bias is None else network.bias)
        if driven and network.input_weights is not None:
            x = x + v @ network.input_weights.T
        offsets, loadings = offsets + loadings * x, loadings[:, None] * network.left_vectors
    return _copy(loadings), _copy(offsets)


def _copy(array: NDArray) -> NDArray:
    """Return a writable contiguous copy, so that the kernels compile once."""
    return np.array(array, order="C")


def _run_kernels(network, trials: Trials, moves: Network, law: Law, readout: Readout, goes_back: bool) -> Posterior:
    from nwb_lrrnn.models.kernels import activations, extended_kalman

    n_trials, n_steps, _ = trials.values.shape
    rank = network.rank
    posterior = Posterior(
        np.zeros((n_trials, n_steps, rank)),
        np.zeros((n_trials, n_steps, rank)),
        np.zeros((n_trials, n_steps, rank)),
        np.zeros((n_trials, n_steps, rank, rank)),
        np.zeros((n_trials, max(n_steps - 1, 0), rank, rank)),
        np.zeros((n_trials, n_steps)),
    )
    code, kind = activations.CODES[network.nonlinearity], Likelihood(network.likelihood, str(network.link), 1.0).code
    rule, lengths = nodes(rank), np.array(trials.lengths)
    is_gaussian = network.likelihood == "gaussian"
    over_ranges(
        lambda first, last: extended_kalman.run(
            code, kind, is_gaussian, moves, law, readout, rule, lengths, posterior, goes_back, first, last
        ),
        n_trials, n_trials * n_steps * (network.n_neurons + trials.n_units) * rank,
    )  # fmt: skip
    return posterior


def _constants(network: LowRankDynamics, trials: Trials) -> Array:
    """Return the terms of ln p(Y) that the values and the spread alone make, (trial,)."""
    if network.likelihood == "gaussian":
        terms = -0.5 * np.log(2 * np.pi * np.asarray(network.observation_variance))
        return trials.seen.sum(axis=1) @ terms
    model = Likelihood(network.likelihood, str(network.link), network.dt)
    terms = model.family.constants(trials.values, model.spread_of(network), 1.0)  # the kernels have y ln(time)
    return np.where(trials.seen, terms, 0.0).sum(axis=(1, 2))
