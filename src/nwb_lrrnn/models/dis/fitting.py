"""The closed-form fit: regression, noise, neighbours, rotation into groups, and the laws of bins without a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from nwb_lrrnn.models.dis import counts, neighbours, regression
from nwb_lrrnn.models.dis.network import GroupNetwork, Reader, Start, given_inputs
from nwb_lrrnn.models.dis.pairs import Pairs, history, pairs_of, whole_bins
from nwb_lrrnn.models.dis.regression import Linear
from nwb_lrrnn.models.dis.separation import separate
from nwb_lrrnn.models.dis.units import Units, units_of
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

_START_LAGS = 4  # bins before that the start of a count model reads: one holds few spikes
_COUNT_ROUNDS = 2


def pairs_in(trials: Trials, units: Units, n_lags: int) -> Pairs:
    """Return the pairs of trials in scaled units."""
    known = whole_bins(trials)
    before, complete = history(units.features(trials.values), known, n_lags)
    return pairs_of(before, complete, units.scaled(trials.values), known, trials.inputs)


@dataclass(frozen=True)
class Choice:
    """Units in the better scaling, their pairs, and the ridge of the encoder."""

    units: Units
    pairs: Pairs
    ridge: float


def choose_scaling(trials: Trials, rank: int, likelihood: str, link: str, nonlinearity: str, scaling: str, n_lags: int):
    """Return the `Choice` whose regression predicts held-out bins best, in the units of X; as given where both do."""
    candidates = ("given", "unit") if scaling == "auto" and likelihood == "gaussian" else (scaling,)
    best, lowest = None, np.inf
    for name in candidates:
        units = units_of(trials, likelihood, link, nonlinearity, name)
        pairs = pairs_in(trials, units, n_lags)
        ridge, loss = regression.best_ridge(pairs, min(rank, len(pairs.trial)), units.floor)
        loss = loss + 2 * len(pairs.trial) * np.log(units.scale).sum() if likelihood == "gaussian" else loss
        if best is None or loss < lowest - 1e-6 * len(pairs.trial):
            best, lowest = Choice(units, pairs, ridge), loss
    assert best is not None  # noqa: S101
    return best


def fit_gaussian(trials: Trials, choice: Choice, rank: int, n_lags: int) -> tuple[GroupNetwork, Array]:
    """Return the maximum-likelihood network of Gaussian values, in whatever latents, and its history (epoch,), nats."""
    linear, values = regression.fit(choice.pairs, rank, choice.units.floor, ridge=choice.ridge)
    return around(trials, choice.units, linear, n_lags), values - np.log(choice.units.scale).sum()


def around(trials: Trials, units: Units, linear: Linear, n_lags: int, mlp=None) -> GroupNetwork:
    """Return the network of Gaussian values with a given linear model, all that stands around it learnt."""
    rest = Start(np.zeros(linear.decoder.shape[1]), np.zeros((linear.decoder.shape[1], trials.n_inputs)), np.eye(1))
    network = GroupNetwork(units, linear, n_lags, rest, rest, mlp=mlp)
    network = with_laws(trials, network)
    weighted = linear.decoder / linear.noise[:, None]
    return with_neighbours(trials, network, linear.decoder, linear.offset, linear.input_weights, weighted)


def with_neighbours(trials: Trials, network: GroupNetwork, decoder, offset, input_weights, weighted) -> GroupNetwork:
    """Return the network with the reader of bins g = A z + g_0 + F v, weights R^-1 A, and what neighbours tell."""
    precision = decoder.T @ weighted
    noise = np.linalg.inv(precision + 1e-9 * np.trace(precision) / len(precision) * np.eye(len(precision)))
    network = replace(network, reader=Reader(noise @ weighted.T, offset, input_weights))
    return _learnt(trials, network, noise)


def _learnt(trials: Trials, network: GroupNetwork, noise: Array | None = None) -> GroupNetwork:
    """Return the network with what neighbours tell learnt anew, the noise of one bin's estimate given or as before."""
    if noise is None:
        assert network.neighbours is not None  # noqa: S101
        noise = network.neighbours.noise
    return replace(network, neighbours=neighbours.learn(*network.estimates(trials), noise))


def with_laws(trials: Trials, network: GroupNetwork, n_iter: int = 3) -> GroupNetwork:
    """Return the network with the laws of a bin after a gap, and of the first bins of trials.

    The law of any bin is that of the delayed means plus their noise. That of first bins begins there and is improved by
    expectation maximisation, one imaginary trial of the law of any bin steadying it.
    """
    rank, linear = network.rank, network.linear
    before, complete = network.features(trials)
    delayed = linear.encode(before[complete])
    spread = np.cov(delayed.T, bias=True).reshape(rank, rank) if len(delayed) > 1 else np.zeros((rank, rank))
    alone = Start(delayed.mean(axis=0), np.zeros((rank, trials.n_inputs)), linear.latent_noise + spread)
    network = replace(network, alone=alone, first=alone)
    begin = trials.cut(0, 1)
    seen = begin.bins[:, 0]
    if not seen.any():
        return network
    begin = begin.take(np.flatnonzero(seen))
    given, n = given_inputs(begin)[:, 0], int(seen.sum())
    measure = counts.sizes(given)
    given = given / measure
    for _ in range(n_iter):
        prior, kind = network.prior(begin)
        found, spreads = network.update(begin, prior, network.covariances, kind)
        first = network.first
        if network.units.are_counts:
            left = spreads.sum(axis=0)
        else:
            weighted = linear.decoder / linear.noise[:, None]
            left = n * np.linalg.inv(np.linalg.inv(first.covariance) + linear.decoder.T @ weighted)
        v_mean = given.mean(axis=0)
        mean = (found.means.sum(axis=0) + alone.mean) / (n + 1)
        dv, dm = given - v_mean, found.means - mean
        size = np.trace(dv.T @ dv) / max(dv.shape[1], 1)
        weights = np.linalg.solve(dv.T @ dv + (size + 1e-12) * np.eye(dv.shape[1]), dv.T @ dm).T
        rest = dm - dv @ weights.T
        covariance = (rest.T @ rest + left + alone.covariance) / (n + 1)
        network = replace(network, first=Start(mean - weights @ v_mean, weights / measure, covariance))
    return network


def fit_counts(trials: Trials, choice: Choice, rank: int, n_lags: int, likelihood: str) -> tuple[GroupNetwork, Array]:
    """Return the network of counts, in whatever latents, and its evidence per bin in every round (epoch,), nats.

    The start is the Gaussian regression of scaled counts. Then, in rounds, the latents of each bin are inferred from
    its counts and its neighbours (Laplace), loadings, offsets and dispersions follow by Newton steps on the expected
    log-likelihood, and the encoder by regression of the latents on the bins before.
    """
    units = choice.units
    lags, pairs = n_lags, choice.pairs
    for more in range(n_lags + 1, min(_START_LAGS, int(trials.lengths.max()) - 1) + 1):
        longer = pairs_in(trials, units, more)
        if 2 * len(longer.trial) >= len(choice.pairs.trial):  # else trials are too short, or gaps too many
            lags, pairs = more, longer
    start, _ = regression.fit(pairs, rank, units.floor)
    rest = Start(np.zeros(rank), np.zeros((rank, trials.n_inputs)), np.eye(rank))
    slope = expit(np.log(np.expm1(1.0)))  # of softplus where it is 1
    slope = 1.0 if units.link == "exp" else slope
    network = GroupNetwork(units, start, lags, rest, rest)
    weighted = start.decoder / start.noise[:, None]
    network = with_neighbours(trials, network, start.decoder, start.offset, start.input_weights, weighted)
    centre = 0.0 if units.link == "exp" else float(np.log(np.expm1(1.0)))
    linear = replace(
        start,
        decoder=start.decoder / slope,
        offset=np.full(len(start.offset), centre),
        input_weights=start.input_weights / slope,
    )
    dispersion = np.full(trials.n_units, 10.0) if likelihood == "negative_binomial" else None
    network = replace(network, linear=linear, dispersion=dispersion)
    history = []
    for _ in range(_COUNT_ROUNDS):
        network = with_laws(trials, _count_round(trials, network, n_lags, choice.ridge))
        history.append(network.evidence(trials).sum() / trials.n_observed_bins)
    return network, np.array(history)


def _count_round(trials: Trials, network: GroupNetwork, n_lags: int, ridge: float) -> GroupNetwork:
    """Return the network after one round of inference, readout, encoder and neighbours."""
    shape = trials.values.shape
    found, spreads = network.smoothed_moments(trials)
    rows = trials.bins.reshape(-1)
    y, seen = trials.values.reshape(-1, shape[2])[rows], trials.seen.reshape(-1, shape[2])[rows]
    inputs = given_inputs(trials).reshape(len(rows), -1)[rows]
    means, spread = found.means[rows], spreads[rows]
    linear, dispersion = counts.update_readout(
        network.linear, network.units, network.dispersion, y, seen, inputs, means, spread
    )
    latents = np.zeros((len(rows), network.rank))
    latents[rows] = means
    latents = latents.reshape(*shape[:2], network.rank)
    pairs = pairs_in(trials, network.units, n_lags)
    linear = _encoder_of(linear, pairs.features, latents[pairs.trial, pairs.time], spread.mean(axis=0), ridge)
    return _learnt(trials, replace(network, linear=linear, dispersion=dispersion, n_lags=n_lags))


def _encoder_of(linear: Linear, u: Array, z: Array, spread: Array, ridge: float) -> Linear:
    """Return the linear model with the encoder that best predicts posterior latents z of covariance `spread` from u."""
    u_mean, z_mean = u.mean(axis=0), z.mean(axis=0)
    uu = (u - u_mean).T @ (u - u_mean) / len(u)
    size = max(float(np.trace(uu)) / len(uu), 1e-300)
    uz = (u - u_mean).T @ (z - z_mean) / len(u)
    encoder = np.linalg.solve(uu + (ridge + 1e-9) * size * np.eye(len(uu)), uz).T
    rest = z - z_mean - (u - u_mean) @ encoder.T
    noise = rest.T @ rest / len(u) + spread
    return replace(linear, encoder=encoder, encoder_offset=z_mean - encoder @ u_mean, latent_noise=noise)


def with_encoder_of_counts(trials: Trials, network: GroupNetwork, mlp, pairs: Pairs, latents: Array) -> GroupNetwork:
    """Return the network of counts with an MLP before its encoder.

    Parameters
    ----------
    trials : Trials
    network : GroupNetwork
        Without an MLP.
    mlp : dict of arrays
    pairs : Pairs
        Whose features the MLP made.
    latents : array (pair, latent)
        What the encoder is to predict.
    """
    spread = network.smoothed_moments(trials)[1][trials.bins.reshape(-1)].mean(axis=0)
    linear = _encoder_of(network.linear, pairs.features, latents, spread, 0.0)
    return _learnt(trials, with_laws(trials, replace(network, linear=linear, mlp=mlp)))


def into_groups(trials: Trials, network: GroupNetwork, group_ranks: Sequence[int], random_state) -> GroupNetwork:
    """Return the network in latents that fall into groups as independent as can be, in the order of `group_ranks`."""
    latents = network.smoothed(trials)
    seen = trials.bins
    matrix = whitening(latents[seen])
    white = np.where(seen[..., None], (latents - latents[seen].mean(axis=0)) @ matrix.T, 0.0)
    rotation = separate(white, seen, tuple(group_ranks), random_state)[0]
    return network.mixed(rotation.T @ matrix)


def whitening(latents: Array) -> Array:
    """Return M such that M z has unit covariance over the rows of latents (bin, latent)."""
    rank = latents.shape[1]
    values, vectors = np.linalg.eigh(np.cov(latents.T, bias=True).reshape(rank, rank))
    return vectors.T / np.sqrt(np.maximum(values, 1e-12 * max(values[-1], 1e-300)))[:, None]
