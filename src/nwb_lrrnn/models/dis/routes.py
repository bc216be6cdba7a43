"""The ways to a fitted network: closed form, the paper's objective, an MLP, fine-tuning; and its recurrence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.models.dis import connectivity, fitting, regression
from nwb_lrrnn.models.dis.network import GroupNetwork
from nwb_lrrnn.models.dis.pairs import Pairs, folds, whole_bins
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]


def fit(model: Any, trials: Trials, ranks: tuple[int, ...], seeds) -> tuple[GroupNetwork, Ending, float]:
    """Return the network of a model's settings in groups of latents, how it came about, and its encoder's ridge."""
    link = model.link or ("identity" if model.likelihood_ == "gaussian" else "softplus")
    form = (model.likelihood_, link, model.nonlinearity, model.scaling, model.n_lags)
    choice = fitting.choose_scaling(trials, sum(ranks), *form)
    if model.objective == "paper":
        return *_by_gradients(model, trials, choice, ranks, seeds[1]), 0.0
    if model.likelihood_ == "gaussian":
        network, history = fitting.fit_gaussian(trials, choice, sum(ranks), model.n_lags)
    else:
        network, history = fitting.fit_counts(trials, choice, sum(ranks), model.n_lags, model.likelihood_)
    network = fitting.into_groups(trials, network, ranks, int(seeds[0].generate_state(1)[0]))
    ending = Ending(_history({"log_likelihood": history}), np.zeros(0), (), "")
    if model.encoder == "mlp":
        network, ending = _with_mlp(model, trials, choice, network, ending, seeds[1])
    if model.fine_tune_epochs:
        return *_fine_tuned(model, trials, choice, network, ranks, seeds[1]), 0.0
    return network, ending, choice.ridge


def _history(terms: dict[str, Array]) -> xr.Dataset:
    n = len(next(iter(terms.values())))
    return xr.Dataset({name: ("epoch", np.asarray(v)) for name, v in terms.items()}, {"epoch": np.arange(n)})


def _held_out(pairs: Pairs, n_init: int) -> NDArray[np.bool_] | None:
    """Return the pairs that judge restarts: the last fifth of the trials or bins; None where there is one restart."""
    if n_init == 1:
        return None
    held = np.zeros(len(pairs.trial), dtype=bool)
    held[folds(pairs)[-1]] = True
    return held


def _given(network_inputs: Array, pairs: Pairs) -> Array | None:
    return None if not pairs.inputs.shape[1] else pairs.inputs @ network_inputs.T


def _by_gradients(model: Any, trials: Trials, choice, ranks, seed) -> tuple[GroupNetwork, Ending]:
    """Return the network of the paper's objective; its noise is the maximum likelihood of its residuals."""
    from nwb_lrrnn.models.dis.paper import objective as paper
    from nwb_lrrnn.models.dis.paper import training

    pairs = choice.pairs
    given = None
    if pairs.inputs.shape[1]:  # the paper has inputs of known weights: those of the closed form
        linear, _ = regression.fit(pairs, sum(ranks), choice.units.floor, ridge=choice.ridge)
        given = _given(linear.input_weights, pairs)
    settings = paper.Settings(
        penalty=float(model.penalty), block_penalty=float(model.block_penalty), encoder=model.encoder,
        max_epochs=model.max_epochs, batch_size=model.batch_size, learning_rate=float(model.learning_rate),
    )  # fmt: skip
    found = training.train(
        pairs.features, pairs.targets, ranks, settings, given=given, held_out=_held_out(pairs, model.n_init),
        n_init=model.n_init, random_state=seed, device=model.device, dtype=model.dtype,
    )  # fmt: skip
    return _from_training(model, trials, choice, found)


def _from_training(model: Any, trials: Trials, choice, found) -> tuple[GroupNetwork, Ending]:
    """Return the best restart as a network, and the ending that tells of all."""
    best = int(np.nanargmax(found.log_likelihood))
    parameters = {name: values[best] for name, values in found.parameters.items()}
    mlp, pairs, encoder = None, choice.pairs, parameters.get("encoder_weights")
    if encoder is None:
        mlp = {name: parameters[name] for name in ("hidden_weights", "hidden_bias", "output_weights", "output_bias")}
        pairs, encoder = _encoded(mlp, pairs), np.eye(found.form.rank)
    linear = regression.with_noise(pairs, parameters["loadings"], encoder, choice.units.floor)
    network = fitting.around(trials, choice.units, linear, model.n_lags, mlp)
    history = {name: values[:, best] for name, values in found.history.items()}
    said = (found.not_finite,) if found.not_finite else ()
    return network, Ending(_history(history), np.asarray(found.log_likelihood), said, "")


def _encoded(mlp, pairs: Pairs) -> Pairs:
    from nwb_lrrnn.models.dis.paper.mlp import encode

    return replace(pairs, features=encode(mlp, pairs.features))


def _with_mlp(model: Any, trials: Trials, choice, network: GroupNetwork, ending: Ending, seed):
    """Return the network with an MLP that predicts its smoothed latents from the bins before."""
    from nwb_lrrnn.models.dis.paper.mlp import fit_mlp

    pairs = choice.pairs
    latents = network.smoothed(trials)[pairs.trial, pairs.time]
    held = np.zeros(len(pairs.trial), dtype=bool)
    held[folds(pairs)[-1]] = True
    held = held if not held.all() else None
    found = fit_mlp(
        pairs.features, latents, held_out=held, n_init=model.n_init, batch_size=model.batch_size, random_state=seed,
        max_epochs=model.max_epochs, device=model.device, dtype=model.dtype,
    )  # fmt: skip
    said = (found.not_finite,) if found.not_finite else ()
    if found.not_converged:  # `Ending` counts the epochs of the closed form
        said += (f"the MLP encoder has not converged after {found.n_epochs} epochs; raise max_epochs",)
    ending = replace(ending, not_finite=said)
    encoded = _encoded(found.parameters, pairs)
    if model.likelihood_ == "gaussian":
        decoder = network.linear.decoder
        linear = regression.with_noise(encoded, decoder, np.eye(network.rank), choice.units.floor)
        return fitting.around(trials, choice.units, linear, model.n_lags, found.parameters), ending
    return fitting.with_encoder_of_counts(trials, network, found.parameters, encoded, latents), ending


def _fine_tuned(model: Any, trials: Trials, choice, network: GroupNetwork, ranks, seed):
    """Return the network after epochs of the paper's objective from where the closed form ended."""
    from nwb_lrrnn.models.dis.paper import objective as paper
    from nwb_lrrnn.models.dis.paper import training

    pairs, linear = choice.pairs, network.linear
    weights = {"penalty": float(model.penalty), "block_penalty": float(model.block_penalty)}
    settings = replace(paper.FINE_TUNING, max_epochs=model.fine_tune_epochs, **weights)
    start = {
        "encoder_weights": linear.encoder,
        "encoder_bias": linear.encoder_offset,
        "loadings": linear.decoder,
        "offset": linear.offset,
    }
    found = training.train(
        pairs.features, pairs.targets, ranks, settings, given=_given(linear.input_weights, pairs), start=start,
        held_out=_held_out(pairs, model.n_init), n_init=model.n_init, random_state=seed, device=model.device,
        dtype=model.dtype,
    )  # fmt: skip
    return _from_training(model, trials, choice, found)


# --- how the latents drive themselves --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """The recurrence of a fitted network."""

    noise: str  # recurrent or readout
    weights: Array  # nᵀ / N (latent, neuron)
    drive: Array  # (latent,)
    latent_noise: Array  # (latent, latent)
    bootstraps: tuple[Array, Array] | None


def recurrence(model: Any, trials: Trials, network: GroupNetwork, latents: Array, ridge: float, seed) -> Found:
    """Return the right vectors, and whether the noise of the units feeds back.

    `latents` are the smoothed ones, `ridge` is that of the encoder.

    Recurrent noise: the encoder is the recurrence. Readout noise and counts: ridge regression of latents on phi of the
    de-noised currents of the bin before.
    """
    linear, rank = network.linear, network.rank
    if network.mlp is not None or network.n_lags > 1:  # no recurrence of one network
        zero = np.zeros((rank, trials.n_units))
        return Found("readout", zero, np.zeros(rank), linear.latent_noise, None)
    # what neighbours add has errors that last for several bins; of counts the bins before alone tell too little
    clean = latents if network.units.are_counts else network.filtered(trials)
    noise = "readout" if network.units.are_counts else model.noise
    noise = _better_noise(trials, network, clean) if noise == "auto" else noise
    known = whole_bins(trials) if noise == "recurrent" else trials.bins
    if noise == "recurrent":
        weights, drive, spread = linear.encoder, linear.encoder_offset, linear.latent_noise
        # what single bins tell, unbiased, errs about the encoder as maximum likelihood does; posterior means would
        # shrink to the encoder's own predictions, and so would the error bars
        single = network.estimates(trials)[0]
        steps = connectivity.steps_of(trials, connectivity.shown_rates(network, trials), single, known)
    else:
        steps = connectivity.steps_of(trials, connectivity.denoised_rates(network, trials, clean), clean, known)
        found = connectivity.regress(steps)
        weights, drive = found.weights, found.drive
        smooth = connectivity.steps_of(trials, connectivity.denoised_rates(network, trials, latents), latents, known)
        rest = smooth.latents - smooth.regressors @ weights.T - drive
        spread = rest.T @ rest / len(rest)
    bootstraps = None
    if model.n_bootstraps > 1:
        rng = np.random.default_rng(seed)
        axes, ridges = (
            connectivity.ridges_of_encoder(linear, ridge) if noise == "recurrent" else (np.eye(rank), found.ridge)
        )
        bootstraps = connectivity.bootstrap(trials, network, steps, known, model.n_bootstraps, rng, ridges, axes)
    return Found(noise, weights, drive, spread, bootstraps)


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
