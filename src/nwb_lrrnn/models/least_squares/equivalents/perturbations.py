"""`suggest_perturbations`: which experiment would tell the networks of an ensemble apart best, and by how much."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.equivalents.members import networks_of
from nwb_lrrnn.parameters import choose, positive

Array = NDArray[np.floating]

KINDS = ("push", "start", "input")
_TOLD = 4.0  # of d', the distance in standard deviations of the noise: 2 % of pairs mistaken
_FARTHEST = 1e6  # standard deviations of the noise: what runs away is told apart, and no farther


def suggest_perturbations(
    ensemble: xr.Dataset,
    candidates: ArrayLike | None = None,
    *,
    kind: str = "push",
    noise: float | ArrayLike | None = None,
) -> xr.Dataset:
    r"""Return candidate experiments, the one that tells the networks of an ensemble apart best first, and by how much.

    Each network runs along the path under the input it needs for that, and what an experiment adds. Two are
    :math:`d^2 = \sum_t |(z_t - z'_t) / \sigma|^2` apart; what the experiment tells of which network it is, in nats, is
    at least :math:`-\sum_i \ln (\sum_j e^{-d_{ij}^2 / 8} / K) / K` (Kolchinsky & Tracey 2017), at most ln K.

    Parameters
    ----------
    ensemble : Dataset
        Of `equivalent_networks`.
    candidates : array (candidate, latent), or (candidate, time, latent) of kind "input"
        Pushes of the latents at the start of the path; starts instead of that of the path; or inputs to the latents,
        dz/dt times tau, in its bins. By default a standard deviation up and down each principal axis of the latents,
        as a push, or a start that far from their mean, or an input that is held.
    kind : {"push", "start", "input"}
    noise : float or array (latent,), optional
        Standard deviation with which the experiment sees latents in a bin; by default that of the ensemble: of the
        units' noise and of the latents' own, or a hundredth of their size where nothing tells.

    Returns
    -------
    experiments : Dataset over `candidate`
        In order of `information` (nats): the `perturbation` itself; `distance` (candidate, network, with_network), d;
        `told_apart`, the share of pairs with d > 4 (2 in 100 taken for the other); `best_time` (s), when the networks
        are farthest apart; `number`, that of the candidate as it was given. `passive_information` is what the path
        alone tells, `most_information` ln K. attrs["verdict"] says it in words.

    Raises
    ------
    ValueError
        If the ensemble is not one, or candidates do not fit it.

    Examples
    --------
    >>> from nwb_lrrnn import LeastSquaresRNN, equivalent_networks
    >>> z = np.linspace(-1.5, 1.5, 200)[:, None]
    >>> model = LeastSquaresRNN(1, n_neurons=30, tau=1.0, random_state=0).fit_samples(z, z - z**3)
    >>> best = suggest_perturbations(equivalent_networks(model, n_networks=2, random_state=0)).isel(candidate=0)
    >>> bool(best["information"] > best["passive_information"])
    True
    """
    choose("kind", kind, KINDS)
    if not isinstance(ensemble, xr.Dataset) or not {"left_vectors", "path", "input"} <= set(ensemble.variables):
        raise ValueError(f"ensemble: got a {type(ensemble).__name__}, wanted a Dataset of equivalent_networks")
    path = ensemble["path"].values
    given = _candidates(ensemble, candidates, kind)
    sigma = _noise(ensemble, noise)
    networks = networks_of(ensemble)
    start, added = _experiments(path, given, kind)
    runs = np.stack([_run(net, ensemble, k, start, added) for k, net in enumerate(networks)], axis=1)
    apart = _distances(runs / sigma)  # (1 + candidate, time, network, network), squared, of each bin
    totals = apart.sum(axis=1)
    information = np.array([_information(total) for total in totals])
    pairs = np.triu_indices(len(networks), 1)
    nearest = totals[:, pairs[0], pairs[1]].min(axis=1, initial=np.inf)  # decides where all is told that there is
    order = 1 + np.lexsort((-nearest[1:], -information[1:].round(9)))
    told = (np.sqrt(totals[:, pairs[0], pairs[1]]) > _TOLD).mean(axis=1)
    when = apart[:, :, pairs[0], pairs[1]].mean(axis=2).argmax(axis=1) * ensemble.attrs["dt"]
    dims = ("candidate", "time", "latent") if kind == "input" else ("candidate", "latent")
    table = xr.Dataset(
        {
            "perturbation": (dims, given[order - 1]),
            "information": ("candidate", information[order]),
            "told_apart": ("candidate", told[order]),
            "best_time": ("candidate", when[order]),
            "distance": (("candidate", "network", "with_network"), np.sqrt(totals[order])),
            "number": ("candidate", order - 1),
            "passive_information": ((), information[0]),
            "passive_told_apart": ((), told[0]),
            "most_information": ((), np.log(len(networks))),
        },
        coords={"name": ("network", ensemble["name"].values)},
        attrs={"kind": kind},
    )
    return table.assign_attrs(verdict=_sentence(table, kind))


def _candidates(ensemble: xr.Dataset, candidates: ArrayLike | None, kind: str) -> Array:
    n_steps, rank = ensemble["path"].shape
    wanted = f"(candidate, {n_steps}, {rank})" if kind == "input" else f"(candidate, {rank})"
    if candidates is not None:
        given = np.asarray(candidates, dtype=float)
        if given.ndim != 2 + (kind == "input") or given.shape[1:] != ((n_steps, rank) if kind == "input" else (rank,)):
            raise ValueError(f"candidates: got shape {given.shape}, wanted {wanted} of kind {kind!r}")
        if not len(given) or not np.isfinite(given).all():
            raise ValueError(f"candidates: got {len(given)}, some not finite or none at all, wanted finite {wanted}")
        return given
    values, axes = np.linalg.eigh(ensemble["latent_covariance"].values)
    steps = (axes * np.sqrt(np.maximum(values, 0.0))).T  # a standard deviation along each axis
    both = np.concatenate([steps, -steps])
    if kind == "start":
        return ensemble["latent_mean"].values + both
    return np.repeat(both[:, None], n_steps, axis=1) if kind == "input" else both


def _noise(ensemble: xr.Dataset, noise: float | ArrayLike | None) -> Array:
    sigma = ensemble["noise"].values if noise is None else np.asarray(noise, dtype=float)
    rank = ensemble.sizes["latent"]
    if sigma.shape not in ((), (rank,)):
        raise ValueError(f"noise: got shape {sigma.shape}, wanted a number or ({rank},)")
    for value in np.atleast_1d(sigma):
        positive("noise", float(value), hint=": without noise any two networks are told apart by anything")
    return np.broadcast_to(sigma, (rank,))


def _experiments(path: Array, given: Array, kind: str) -> tuple[Array, Array | None]:
    """Return starts (1 + C, R) and, of kind "input", what is added (time, 1 + C, R); the first is nothing at all."""
    n = len(given)
    start = np.tile(path[0], (n + 1, 1))
    if kind == "push":
        start[1:] += given
    elif kind == "start":
        start[1:] = given
    if kind != "input":
        return start, None
    added = np.concatenate([np.zeros((1, *path.shape)), given])
    return start, added.swapaxes(0, 1)


def _run(network: LowRankDynamics, ensemble: xr.Dataset, number: int, start: Array, added: Array | None) -> Array:
    """Return (1 + C, time, R): where a network goes from each start."""
    pushes = ensemble["input"].values[number]
    raw = ensemble["path_inputs"].values if "path_inputs" in ensemble else None
    inside = None if raw is None else network.filtered_inputs(raw)
    run = np.empty((len(start), *pushes.shape))
    z = start
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(len(pushes)):
            run[:, t] = z
            if raw is None or inside is None:
                z = network.step(z)
            else:
                here = np.broadcast_to(inside[t], (len(z), raw.shape[1]))
                z = network.step(z, here, np.broadcast_to(raw[t], here.shape))
            z = z + network.alpha * (pushes[t] if added is None else pushes[t] + added[t])
    return run


def _distances(runs: Array) -> Array:
    """Return squared distances of every bin (C, time, K, K) of runs (C, K, time, R) in units of the noise."""
    n, K, n_steps, _ = runs.shape
    apart = np.empty((n, n_steps, K, K))
    for k in range(K):
        with np.errstate(over="ignore", invalid="ignore"):
            squared = ((runs - runs[:, k : k + 1]) ** 2).sum(axis=-1)  # (C, K, time)
        squared = np.where(np.isfinite(squared), np.minimum(squared, _FARTHEST**2), _FARTHEST**2)
        squared[:, k] = 0.0
        apart[:, :, k] = squared.swapaxes(1, 2)
    return apart


def _information(squared: Array) -> float:
    """Return nats told of which network it is, at least, from squared distances (K, K) of Gaussian laws."""
    return float(np.maximum(-np.log(np.exp(-squared / 8).mean(axis=1)), 0.0).mean())


def _sentence(table: xr.Dataset, kind: str) -> str:
    best = table.isel(candidate=0)
    most, gained = float(table["most_information"]), float(best["information"])
    passive = float(table["passive_information"])
    what = np.array2string(np.atleast_1d(best["perturbation"].values[..., :]), precision=3) if kind != "input" else (
        f"number {int(best['number'])}"
    )  # fmt: skip
    if gained - passive < 0.01 * most:
        return (
            f"No {kind} of these tells the networks apart better than the path alone: {gained:.3g} of {most:.3g} nats "
            f"against {passive:.3g}."
        )
    told, before = (100 * float(share) for share in (best["told_apart"], table["passive_told_apart"]))
    return (
        f"The {kind} {what} tells most, {gained:.3g} of {most:.3g} nats, the path alone {passive:.3g}; "
        f"{told:.0f} % of pairs are told apart, before {before:.0f} %."
    )
