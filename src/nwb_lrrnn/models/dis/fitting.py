"""How a network is fitted in closed form, from top to bottom: scaling, likelihood, groups, gauge, recurrence.

    choose_scaling    X -> currents in the better scaling, pairs of bins, the ridge of the encoder
    fit               -> the likeliest network (`of_values`, `of_counts`) -> latents in independent groups
    in_gauge          -> latents in the canonical gauge of their groups
    recurrence        -> how the latents drive themselves, and its error bars

`paper` trains networks by gradients instead; it begins and ends with the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from nwb_lrrnn.models.dis import connectivity, counts, neighbours, regression
from nwb_lrrnn.models.dis.gauge import group_gauge
from nwb_lrrnn.models.dis.network import GroupNetwork, Reader, Start, given_inputs
from nwb_lrrnn.models.dis.pairs import Pairs, history, pairs_of, whole_bins
from nwb_lrrnn.models.dis.regression import Linear
from nwb_lrrnn.models.dis.separation import separate, whitened
from nwb_lrrnn.models.dis.settings import GroupModel
from nwb_lrrnn.models.dis.units import Units, units_of
from nwb_lrrnn.models.linear.observations import moments_of_units
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]
Seed = np.random.SeedSequence

_START_LAGS = 4  # bins before that the start of a count model reads: one holds few spikes
_COUNT_ROUNDS = 2


@dataclass(frozen=True)
class Choice:
    """Units in the better scaling, their pairs, and the ridge of the encoder."""

    units: Units
    pairs: Pairs
    ridge: float


@dataclass(frozen=True)
class Fit:
    """A network in groups of latents, and how it came about."""

    network: GroupNetwork
    ending: Ending
    ridge: float | None  # of the encoder; None where gradients found it


def choose_scaling(model: GroupModel, trials: Trials, rank: int) -> Choice:
    """Return the scaling whose regression predicts held-out bins best, in the units of X; as given where all do.

    Small currents are tried too, so that a linear recording is read linearly in whatever units of measure it comes.
    """
    likelihood, is_gaussian = model.likelihood_, model.likelihood_ == "gaussian"
    link = model.link or ("identity" if is_gaussian else "softplus")
    candidates = ("given", "unit", "small") if model.scaling == "auto" and is_gaussian else (model.scaling,)
    best, lowest = None, np.inf
    for scaling in candidates:
        units = units_of(trials, likelihood, link, model.nonlinearity, scaling)
        pairs = pairs_in(trials, units, model.n_lags)
        units = _with_floor(units, pairs, trials)
        ridge, loss = regression.best_ridge(pairs, min(rank, len(pairs.trial)), units.floor)
        loss = loss + 2 * len(pairs.trial) * np.log(units.scale).sum() if is_gaussian else loss
        if best is None or loss < lowest - 1e-6 * len(pairs.trial):
            best, lowest = Choice(units, pairs, ridge), loss
    assert best is not None  # noqa: S101
    return best


def _with_floor(units: Units, pairs: Pairs, trials: Trials) -> Units:
    """Return the units with all of its own variance as the least noise of a unit that changes in no pair.

    What it did in bins without a history, the first ones of trials, is then all that is known of it; to take it for
    constant would make bins impossible in which it does so again.
    """
    own = moments_of_units(trials).variance / (units.exposure if units.are_counts else units.scale) ** 2
    is_still = pairs.targets.var(axis=0) <= 1e-9 * own
    return replace(units, floor=np.where(is_still, own, units.floor))


def pairs_in(trials: Trials, units: Units, n_lags: int) -> Pairs:
    """Return the pairs of trials in scaled units."""
    known = whole_bins(trials)
    before, complete = history(units.features(trials.values), known, n_lags)
    return pairs_of(before, complete, units.scaled(trials.values), known, trials.inputs)


def fit(model: GroupModel, trials: Trials, choice: Choice, ranks: tuple[int, ...], seed: Seed) -> Fit:
    """Return the likeliest network, its latents turned into groups as independent as can be, in the order of ranks."""
    if model.likelihood_ == "gaussian":
        network, values = of_values(trials, choice, sum(ranks), model.n_lags)
    else:
        network, values = of_counts(trials, choice, sum(ranks), model.n_lags, model.likelihood_)
    matrix, white = whitened(network.smoothed(trials), trials.bins)
    rotation = separate(white, trials.bins, ranks, int(seed.generate_state(1)[0]))[0]
    ending = Ending(history_of({"log_likelihood": values}), np.zeros(0), (), "")
    return Fit(network.mixed(rotation.T @ matrix), ending, choice.ridge)


def history_of(terms: dict[str, Array]) -> xr.Dataset:
    """Return terms, (epoch,) each, as a history."""
    n = len(next(iter(terms.values())))
    return xr.Dataset({name: ("epoch", np.asarray(v)) for name, v in terms.items()}, {"epoch": np.arange(n)})


# --- Gaussian values -------------------------------------------------------------------------------------------------


def of_values(trials: Trials, choice: Choice, rank: int, n_lags: int) -> tuple[GroupNetwork, Array]:
    """Return the maximum-likelihood network of Gaussian values, in whatever latents, and its history (epoch,), nats."""
    linear, values = regression.fit(choice.pairs, rank, choice.units.floor, ridge=choice.ridge)
    return around(trials, choice.units, linear, n_lags), values - np.log(choice.units.scale).sum()


def around(trials: Trials, units: Units, linear: Linear, n_lags: int, mlp: Mapping | None = None) -> GroupNetwork:
    """Return the network of Gaussian values with a given linear model, all that stands around it learnt."""
    network = with_laws(trials, _bare(trials, units, linear, n_lags, mlp))
    return _with_neighbours(trials, network, linear)


def _bare(trials: Trials, units: Units, linear: Linear, n_lags: int, mlp: Mapping | None = None) -> GroupNetwork:
    """Return the network without what is learnt around its linear model; bins without a history have a white law."""
    rank = linear.decoder.shape[1]
    white = Start(np.zeros(rank), np.zeros((rank, trials.n_inputs)), np.eye(rank))
    return GroupNetwork(units, linear, n_lags, white, white, mlp=mlp)


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


def _with_neighbours(trials: Trials, network: GroupNetwork, linear: Linear) -> GroupNetwork:
    """Return the network that reads bins as `linear` shows them, g = A z + c + F v, and what their neighbours tell."""
    weighted = linear.decoder / linear.noise[:, None]
    precision = linear.decoder.T @ weighted
    noise = np.linalg.inv(precision + 1e-9 * np.trace(precision) / len(precision) * np.eye(len(precision)))
    network = replace(network, reader=Reader(noise @ weighted.T, linear.offset, linear.input_weights))
    return _learnt(trials, network, noise)


def _learnt(trials: Trials, network: GroupNetwork, noise: Array) -> GroupNetwork:
    """Return the network with what neighbours tell learnt anew, given the noise of one bin's estimate."""
    return replace(network, neighbours=neighbours.learn(*network.estimates(trials), noise))


def learnt_again(trials: Trials, network: GroupNetwork) -> GroupNetwork:
    """Return the network with what neighbours tell learnt anew, the noise of one bin's estimate being as before."""
    assert network.neighbours is not None  # noqa: S101
    return _learnt(trials, network, network.neighbours.noise)


# --- counts ----------------------------------------------------------------------------------------------------------


def of_counts(trials: Trials, choice: Choice, rank: int, n_lags: int, likelihood: str) -> tuple[GroupNetwork, Array]:
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
    network = _with_neighbours(trials, _bare(trials, units, start, lags), start)
    centre = 0.0 if units.link == "exp" else float(np.log(np.expm1(1.0)))  # where the link is 1, and its slope there
    slope = 1.0 if units.link == "exp" else expit(np.log(np.expm1(1.0)))
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
    linear = encoder_of(linear, pairs.features, latents[pairs.trial, pairs.time], spread.mean(axis=0), ridge)
    return learnt_again(trials, replace(network, linear=linear, dispersion=dispersion, n_lags=n_lags))


def encoder_of(linear: Linear, u: Array, z: Array, spread: Array, ridge: float) -> Linear:
    """Return the linear model with the encoder that best predicts posterior latents z of covariance `spread` from u."""
    u_mean, z_mean = u.mean(axis=0), z.mean(axis=0)
    uu = (u - u_mean).T @ (u - u_mean) / len(u)
    size = max(float(np.trace(uu)) / len(uu), 1e-300)
    uz = (u - u_mean).T @ (z - z_mean) / len(u)
    encoder = np.linalg.solve(uu + (ridge + 1e-9) * size * np.eye(len(uu)), uz).T
    rest = z - z_mean - (u - u_mean) @ encoder.T
    noise = rest.T @ rest / len(u) + spread
    return replace(linear, encoder=encoder, encoder_offset=z_mean - encoder @ u_mean, latent_noise=noise)


# --- the gauge, and how the latents drive themselves -----------------------------------------------------------------


def in_gauge(trials: Trials, network: GroupNetwork, ranks: tuple[int, ...]) -> tuple[GroupNetwork, Array]:
    """Return the network in the canonical gauge of its groups, and its smoothed latents (trial, time, latent)."""
    latents, units, loadings = network.smoothed(trials), network.units, network.linear.decoder
    shown = loadings if units.are_counts else units.scale[:, None] * loadings
    matrix = group_gauge(shown, moments(latents[trials.bins])[1], ranks)
    return network.mixed(matrix), latents @ matrix.T


def moments(latents: Array) -> tuple[Array, Array]:
    """Return the mean (latent,) and covariance (latent, latent) of rows of latents."""
    rank = latents.shape[1]
    return latents.mean(axis=0), np.cov(latents.T, bias=True).reshape(rank, rank)


@dataclass(frozen=True)
class Recurrence:
    """How the latents of a fitted network drive themselves."""

    noise: str  # recurrent or readout
    weights: Array  # nᵀ / N (latent, neuron)
    drive: Array  # (latent,)
    latent_noise: Array  # (latent, latent)
    bootstraps: tuple[Array, Array] | None


def recurrence(
    model: GroupModel, trials: Trials, network: GroupNetwork, latents: Array, ridge: float | None, seed: Seed
) -> Recurrence:
    """Return the right vectors, and whether the noise of the units feeds back.

    `latents` are the smoothed ones, `ridge` is that of the encoder; None: gradients found it.

    Right vectors are the ridge regression of latents on phi a bin before: of what the units showed (recurrent noise),
    or its expectation given that bin and the one before (readout noise), or of the de-noised currents (counts). With
    Gaussian values the latents are what single bins tell of them, whose errors no other bin shares: posterior means
    would shrink to the encoder's own predictions, and so would the error bars. An encoder found by gradients is the
    recurrence itself where noise feeds back.
    """
    linear, rank = network.linear, network.rank
    if network.mlp is not None or network.n_lags > 1:  # no recurrence of one network
        zero = np.zeros((rank, trials.n_units))
        return Recurrence("readout", zero, np.zeros(rank), linear.latent_noise, None)
    # what neighbours add has errors that last for several bins; of counts the bins before alone tell too little
    clean = latents if network.units.are_counts else network.filtered(trials)
    noise = "readout" if network.units.are_counts else model.noise
    noise = _better_noise(trials, network, clean) if noise == "auto" else noise
    known = whole_bins(trials)
    targets = clean
    if not network.units.are_counts:
        targets = np.where(known[..., None], network.estimates(trials)[0], clean)
    if noise == "recurrent":
        steps = connectivity.steps_of(trials, connectivity.shown_rates(network, trials), targets, known)
    else:
        known = trials.bins
        rates = connectivity.denoised_rates if network.units.are_counts else connectivity.expected_rates
        steps = connectivity.steps_of(trials, rates(network, trials, clean), targets, known)
    found = connectivity.regress(steps)
    weights, drive, spread = found.weights, found.drive, linear.latent_noise
    if noise == "recurrent" and ridge is None:
        weights, drive = linear.encoder, linear.encoder_offset
    if noise == "readout":
        smooth = connectivity.steps_of(trials, connectivity.denoised_rates(network, trials, latents), latents, known)
        rest = smooth.latents - smooth.regressors @ weights.T - drive
        spread = rest.T @ rest / len(rest)
    bootstraps = None
    if model.n_bootstraps > 1:
        rng = np.random.default_rng(seed)
        bootstraps = connectivity.bootstrap(trials, network, steps, known, model.n_bootstraps, rng, found.ridge)
    return Recurrence(noise, weights, drive, spread, bootstraps)


def _better_noise(trials: Trials, network: GroupNetwork, filtered: Array) -> str:
    """Return which noise predicts estimates of held-out bins better from the bins before."""
    estimates, known, _, _ = network.estimates(trials)
    both = known.copy()
    both[:, 0] = False  # the filtered currents of a first bin rest on that bin alone
    targets = np.where(known[..., None], estimates, 0.0)
    trials_known = replace(trials, observed=np.broadcast_to(known[..., None], trials.values.shape))
    shown = connectivity.steps_of(trials_known, connectivity.shown_rates(network, trials), targets, both)
    denoised = connectivity.denoised_rates(network, trials, filtered)
    clean = connectivity.steps_of(trials_known, denoised, targets, both)
    if not len(shown.block):
        return "recurrent"
    return "readout" if connectivity.regress(clean).loss < connectivity.regress(shown).loss else "recurrent"
