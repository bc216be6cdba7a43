"""`GroupNetwork`: all that a fitted DisRNN infers latents with, and the three posteriors it offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.dis.counts import laplace_update
from nwb_lrrnn.models.dis.neighbours import Neighbours
from nwb_lrrnn.models.dis.pairs import history, whole_bins
from nwb_lrrnn.models.dis.regression import Linear
from nwb_lrrnn.models.dis.units import Units
from nwb_lrrnn.models.dis.updates import Update, gaussian_update
from nwb_lrrnn.showing import in_short
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

HISTORY, FIRST, ALONE = 0, 1, 2  # which prior a bin has: its encoder's, that of the first bin, or that of any bin


@dataclass(frozen=True)
class Start:
    """The law of the latents where no history is known: N(mean + K v, covariance)."""

    mean: Array  # (latent,)
    input_weights: Array  # (latent, input)
    covariance: Array  # (latent, latent)

    __repr__ = in_short

    def mixed(self, matrix: Array) -> Start:
        """Return the same law of latents z' = M z."""
        return Start(matrix @ self.mean, matrix @ self.input_weights, matrix @ self.covariance @ matrix.T)


@dataclass(frozen=True)
class Reader:
    """Unbiased estimates of the latents from single bins: E (g - g_0 - F v), g the scaled values.

    Attributes
    ----------
    weights : array (latent, unit)
    offset : array (unit,)
    input_weights : array (unit, input)
    """

    weights: Array
    offset: Array
    input_weights: Array

    __repr__ = in_short


@dataclass(frozen=True)
class GroupNetwork:
    """A linear model of bins given those before, in scaled units, and what stands around it.

    Attributes
    ----------
    units : Units
    linear : Linear
    n_lags : int
    first, alone : Start
        Of the first bin of a trial, and of a bin after a gap.
    dispersion : array (unit,) or None
    mlp : dict of arrays or None
        Turns the features of the bins before into those that `linear` reads.
    reader, neighbours : Reader, Neighbours, or None
        For the smoothed posterior; None: the model came without them.
    """

    units: Units
    linear: Linear
    n_lags: int
    first: Start
    alone: Start
    dispersion: Array | None = None
    mlp: Mapping[str, Array] | None = None
    reader: Reader | None = None
    neighbours: Neighbours | None = None

    __repr__ = in_short

    @property
    def rank(self) -> int:
        """Number of latents."""
        return self.linear.decoder.shape[1]

    def mixed(self, matrix: Array) -> GroupNetwork:
        """Return the same network in latents z' = M z."""
        reader = None if self.reader is None else replace(self.reader, weights=matrix @ self.reader.weights)
        return replace(
            self,
            linear=self.linear.mixed(matrix),
            first=self.first.mixed(matrix),
            alone=self.alone.mixed(matrix),
            reader=reader,
            neighbours=None if self.neighbours is None else self.neighbours.mixed(matrix),
        )

    # --- bins before -------------------------------------------------------------------------------------------------

    def features(self, trials: Trials) -> tuple[Array, Mask]:
        """Return what the encoder reads of the bins before each bin (trial, time, feature), and where it is known."""
        before, complete = history(self.units.features(trials.values), whole_bins(trials), self.n_lags)
        if self.mlp is not None:
            before = encode(self.mlp, before)
        return before, complete

    def prior(self, trials: Trials) -> tuple[Array, NDArray[np.int64]]:
        """Return the mean of each bin's latents given the bins before it (trial, time, latent), and which law it is."""
        before, complete = self.features(trials)
        kind = np.where(complete, HISTORY, ALONE)
        kind[:, 0] = FIRST
        means = np.where(complete[..., None], self.linear.encode(before), 0.0)
        for law, start in ((FIRST, self.first), (ALONE, self.alone)):
            rows = kind == law
            means[rows] = start.mean + given_inputs(trials)[rows] @ start.input_weights.T
        return means, kind

    @property
    def covariances(self) -> Array:
        """Covariances of the three priors, (3, latent, latent)."""
        return np.stack([self.linear.latent_noise, self.first.covariance, self.alone.covariance])

    # --- the bin itself ----------------------------------------------------------------------------------------------

    def update(self, trials: Trials, prior: Array, covariances: Array, kind: NDArray[np.int64]) -> tuple[Update, Array]:
        """Return the posterior of all bins given a prior of each: means and ln p(y_t), bins flat, and covariances.

        The covariances are (bin, latent, latent) for counts and empty for Gaussian values.
        """
        n_units, linear = trials.n_units, self.linear
        seen = trials.seen.reshape(-1, n_units)
        prior, kind = prior.reshape(-1, self.rank), kind.reshape(-1)
        shift = linear.offset + given_inputs(trials).reshape(len(seen), -1) @ linear.input_weights.T
        if self.units.are_counts:
            y = trials.values.reshape(-1, n_units)
            return laplace_update(prior, covariances, kind, y, shift, seen, linear, self.units, self.dispersion)
        residuals = self.units.scaled(trials.values).reshape(-1, n_units) - prior @ linear.decoder.T - shift
        found = gaussian_update(prior, covariances, kind, residuals, seen, linear.decoder, linear.noise)
        return found._replace(log_likelihood=found.log_likelihood + self.units.log_jacobian(seen)), np.zeros((0,))

    def evidence(self, trials: Trials) -> Array:
        """Return ln p(Y) of each trial (trial,), nats: of every bin given those before it."""
        prior, kind = self.prior(trials)
        found, _ = self.update(trials, prior, self.covariances, kind)
        return found.log_likelihood.reshape(kind.shape).sum(axis=1)

    # --- posteriors --------------------------------------------------------------------------------------------------

    def delayed(self, trials: Trials) -> Array:
        """Return latents given the bins before, (trial, time, latent)."""
        return self.prior(trials)[0]

    def filtered(self, trials: Trials) -> Array:
        """Return latents given the bins before and the bin itself, (trial, time, latent)."""
        prior, kind = self.prior(trials)
        return self.update(trials, prior, self.covariances, kind)[0].means.reshape(prior.shape)

    def smoothed(self, trials: Trials) -> Array:
        """Return latents given the bin itself and its neighbours on both sides, (trial, time, latent)."""
        return self.smoothed_moments(trials)[0].means.reshape(*trials.values.shape[:2], self.rank)

    def smoothed_moments(self, trials: Trials) -> tuple[Update, Array]:
        """Return posterior moments given the bin and its neighbours, as of `update`."""
        if self.neighbours is None:
            raise ValueError(
                "posterior: got 'smoothed', which a network made from its dynamics alone has not learnt; "
                "use posterior='filtered' or fit the model"
            )
        estimates, known, delayed, has_history = self.estimates(trials)
        return self.update(trials, *self.neighbours.predict(estimates, known, delayed, has_history))

    def estimates(self, trials: Trials) -> tuple[Array, Mask, Array, Mask]:
        """Return centred estimates from single bins and which bins have one, and centred delayed means likewise.

        Arrays (trial, time, latent) and (trial, time).
        """
        assert self.reader is not None  # noqa: S101
        known = whole_bins(trials)
        shift = self.reader.offset + given_inputs(trials) @ self.reader.input_weights.T
        estimates = (self.units.scaled(trials.values) - shift) @ self.reader.weights.T
        before, complete = self.features(trials)
        delayed = self.linear.encode(before)
        return (
            np.where(known[..., None], estimates, 0.0), known,
            np.where(complete[..., None], delayed, 0.0), complete,
        )  # fmt: skip


def given_inputs(trials: Trials) -> Array:
    """Return inputs (trial, time, input), without columns where there are none."""
    return np.zeros((*trials.values.shape[:2], 0)) if trials.inputs is None else trials.inputs


def encode(mlp: Mapping[str, Array], features: Array) -> Array:
    """Return W_2 relu(W_1 u + b_1) + b_2 of features u (..., feature), (..., code)."""
    hidden = np.maximum(features @ mlp["hidden_weights"].T + mlp["hidden_bias"], 0.0)
    return hidden @ mlp["output_weights"].T + mlp["output_bias"]
