"""What gradients add to the closed form: the paper's objective from a random start or from its end, or an MLP encoder.

`fit_by_gradients` is all that the estimator calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.dis import fitting, regression
from nwb_lrrnn.models.dis.fitting import Choice, Fit, Seed
from nwb_lrrnn.models.dis.network import GroupNetwork, encode
from nwb_lrrnn.models.dis.pairs import Pairs, folds
from nwb_lrrnn.models.dis.paper import training
from nwb_lrrnn.models.dis.paper.mlp import fit_mlp
from nwb_lrrnn.models.dis.paper.objective import FINE_TUNING, Settings
from nwb_lrrnn.models.dis.settings import GroupModel
from nwb_lrrnn.models.training.ending import Ending
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]


def fit_by_gradients(
    model: GroupModel, trials: Trials, choice: Choice, ranks: tuple[int, ...], of_groups: Seed, of_gradients: Seed
) -> Fit:
    """Return the network of `objective="paper"`, `encoder="mlp"` or `fine_tune_epochs`, in groups of latents."""
    if model.objective == "paper":
        return _from_random(model, trials, choice, ranks, of_gradients)
    closed = fitting.fit(model, trials, choice, ranks, of_groups)
    if model.encoder == "mlp":
        return _with_mlp(model, trials, choice, closed, of_gradients)
    return _fine_tuned(model, trials, choice, closed.network, ranks, of_gradients)


def _from_random(model: GroupModel, trials: Trials, choice: Choice, ranks: tuple[int, ...], seed: Seed) -> Fit:
    """Return the network of the paper's objective."""
    settings = Settings(
        penalty=float(model.penalty), block_penalty=float(model.block_penalty), encoder=model.encoder,
        max_epochs=model.max_epochs, batch_size=model.batch_size, learning_rate=float(model.learning_rate),
    )  # fmt: skip
    weights = None
    if choice.pairs.inputs.shape[1]:  # the paper has inputs of known weights: those of the closed form
        linear, _ = regression.fit(choice.pairs, sum(ranks), choice.units.floor, ridge=choice.ridge)
        weights = linear.input_weights
    return _trained(model, trials, choice, ranks, seed, settings, weights)


def _fine_tuned(
    model: GroupModel, trials: Trials, choice: Choice, network: GroupNetwork, ranks: tuple[int, ...], seed: Seed
) -> Fit:
    """Return the network after epochs of the paper's objective from where the closed form ended."""
    linear = network.linear
    settings = replace(
        FINE_TUNING, max_epochs=model.fine_tune_epochs, penalty=float(model.penalty),
        block_penalty=float(model.block_penalty),
    )  # fmt: skip
    start = {
        "encoder_weights": linear.encoder,
        "encoder_bias": linear.encoder_offset,
        "loadings": linear.decoder,
        "offset": linear.offset,
    }
    return _trained(model, trials, choice, ranks, seed, settings, linear.input_weights, start)


def _trained(
    model: GroupModel, trials: Trials, choice: Choice, ranks: tuple[int, ...], seed: Seed, settings: Settings,
    input_weights: Array | None, start: Mapping[str, Array] | None = None,
) -> Fit:  # fmt: skip
    """Return the best restart as a network, its noise at the maximum likelihood of its residuals."""
    pairs = choice.pairs
    found = training.train(
        pairs.features, pairs.targets, ranks, settings, start=start,
        given=pairs.inputs @ input_weights.T if input_weights is not None and pairs.inputs.shape[1] else None,
        held_out=_last_fold(pairs) if model.n_init > 1 else None, n_init=model.n_init, random_state=seed,
        device=model.device, dtype=model.dtype,
    )  # fmt: skip
    parameters, mlp, encoder = found.of(found.best), None, None
    if settings.encoder == "mlp":
        mlp = {name: parameters[name] for name in ("hidden_weights", "hidden_bias", "output_weights", "output_bias")}
        pairs, encoder = _encoded(mlp, pairs), np.eye(found.form.rank)
    else:
        encoder = parameters["encoder_weights"]
    linear = regression.with_noise(pairs, parameters["loadings"], encoder, choice.units.floor)
    network = fitting.around(trials, choice.units, linear, model.n_lags, mlp)
    history = fitting.history_of({name: values[:, found.best] for name, values in found.history.items()})
    said = (found.not_finite,) if found.not_finite else ()
    return Fit(network, Ending(history, np.asarray(found.log_likelihood), said, ""), ridge=None)


def _last_fold(pairs: Pairs) -> NDArray[np.bool_]:
    """Return the last fifth of the trials or bins, as pairs (pair,)."""
    held = np.zeros(len(pairs.trial), dtype=bool)
    held[folds(pairs)[-1]] = True
    return held


def _encoded(mlp: Mapping[str, Array], pairs: Pairs) -> Pairs:
    return replace(pairs, features=encode(mlp, pairs.features))


def _with_mlp(model: GroupModel, trials: Trials, choice: Choice, closed: Fit, seed: Seed) -> Fit:
    """Return the network with an MLP that predicts its smoothed latents from the bins before."""
    pairs, network = choice.pairs, closed.network
    latents = network.smoothed(trials)[pairs.trial, pairs.time]
    held = _last_fold(pairs)
    found = fit_mlp(
        pairs.features, latents, held_out=None if held.all() else held, n_init=model.n_init,
        batch_size=model.batch_size, random_state=seed, max_epochs=model.max_epochs, device=model.device,
        dtype=model.dtype,
    )  # fmt: skip
    said = (found.not_finite,) if found.not_finite else ()
    if found.not_converged:  # `Ending` counts the epochs of the closed form
        said += (f"the MLP encoder has not converged after {found.n_epochs} epochs; raise max_epochs",)
    encoded = _encoded(found.parameters, pairs)
    if model.likelihood_ == "gaussian":
        linear = regression.with_noise(encoded, network.linear.decoder, np.eye(network.rank), choice.units.floor)
        network = fitting.around(trials, choice.units, linear, model.n_lags, found.parameters)
    else:
        spread = network.smoothed_moments(trials)[1][trials.bins.reshape(-1)].mean(axis=0)
        linear = fitting.encoder_of(network.linear, encoded.features, latents, spread, ridge=0.0)
        network = fitting.with_laws(trials, replace(network, linear=linear, mlp=found.parameters))
        network = fitting.learnt_again(trials, network)
    return Fit(network, replace(closed.ending, not_finite=said), ridge=None)
