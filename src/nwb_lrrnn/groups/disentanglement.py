"""`compare_disentanglement`: independent groups beside the other ways to choose the latents of a low-rank network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nwb_lrrnn.align import affine_map, match_groups, slices
from nwb_lrrnn.groups import other_latents
from nwb_lrrnn.groups.held_out import HeldOut, hold_out
from nwb_lrrnn.groups.padding import padded

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

PAPER_EPOCHS = 5000


def compare_disentanglement(
    X: Any,
    rank: int,
    n_groups: int = 2,
    *,
    group_ranks: Sequence[int] | None = None,
    inputs: Any = None,
    conditions: ArrayLike | None = None,
    latents: Any = None,
    latent_ranks: Sequence[int] | None = None,
    test_fraction: float = 0.4,
    max_epochs: int = PAPER_EPOCHS,
    n_surrogates: int = 199,
    random_state: int | None = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Return how independent, and how likely, groups of latents are that different methods find in the same X.

    All are fitted to one part of X and judged on the rest.

    - "DisRNN": groups as independent as can be.
    - "lrRNN": the same network in its latents by variance, cut into groups in that order.
    - "lrRNN + ICA": in independent components (FastICA), in their best grouping.
    - "LINT": in the singular vectors of its connectivity, in their best grouping.
    - "fully disentangled": every latent a group of its own, in their best grouping.
    - "block-diagonal": the paper's objective with a penalty on the recurrence between groups, in place of dependence
      (Gaussian values; trained by gradients).

    Parameters
    ----------
    X, inputs : like X and inputs of `fit`
    rank, n_groups, group_ranks
        As of `DisRNN`.
    conditions, test_fraction, n_surrogates, random_state
        As of `judge_groups`.
    latents : like X, with latents in place of units, optional
        The true latents, of a simulation: adds the columns of R2.
    latent_ranks : sequence of int, optional
        Sizes of the true groups, where they are not `group_ranks`.
    max_epochs : int
        Of the block-diagonal network; 0 leaves it out.
    **settings
        Further parameters of `DisRNN`.

    Returns
    -------
    DataFrame
        A row per method; columns `log_likelihood` (held-out, nats per bin: equal where only the latents are turned),
        `dependence` (between groups, beyond chance, nats), `p_value` (of independence), and with `latents` `group_r2`
        (affine R2 of true groups by their matched groups) and `r2` (by all latents), on held-out bins.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = np.stack([np.cos(0.3 * np.arange(600)), np.sin(0.7 * np.arange(600))], axis=1)
    >>> X = z @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(600, 6))
    >>> table = compare_disentanglement(X, rank=2, max_epochs=0, n_surrogates=20)
    >>> list(table.index)
    ['DisRNN', 'lrRNN', 'lrRNN + ICA', 'LINT', 'fully disentangled']

    Raises
    ------
    ValueError
        As of `judge_groups`, or if `latents` do not have the shape of X, or `latent_ranks` not their number as sum.
    """
    from nwb_lrrnn.models.dis import DisRNN
    from nwb_lrrnn.models.dis.settings import group_ranks_of

    ranks = group_ranks_of(rank, n_groups, group_ranks)
    held = hold_out(X, inputs, conditions, test_fraction, random_state)
    settings = {"random_state": random_state, "n_bootstraps": 0} | settings
    true_ranks = ranks if latent_ranks is None else tuple(latent_ranks)
    truth = None if latents is None else _truth(latents, held.seen.shape, true_ranks)[held.tested]

    def fit(**more: Any) -> DisRNN:
        return DisRNN(rank, **settings | more).fit(held.X_train, inputs=held.inputs_train)

    one, single = fit(n_groups=1), fit(n_groups=rank)
    found = {"DisRNN": fit(group_ranks=ranks), **_turned(one, held, ranks, random_state)}
    found["fully disentangled"] = other_latents.grouped(single, *_in_training(single, held), ranks)
    if max_epochs and one.likelihood_ == "gaussian":
        gradients = {"objective": "paper", "penalty": 0.0, "block_penalty": 1.0, "max_epochs": max_epochs}
        found["block-diagonal"] = fit(group_ranks=ranks, **gradients)
    rows = {}
    for name, model in found.items():
        z = padded(model.transform(X, inputs=inputs), held.seen.shape)
        rows[name] = {"log_likelihood": held.score(model, X, inputs)}
        if len(ranks) > 1:
            test = held.test(z, ranks, n_surrogates=n_surrogates, random_state=random_state)
            rows[name] |= {"dependence": test.score, "p_value": test.p_value}
        if truth is not None:
            rows[name] |= _r2(z[held.tested], truth, ranks, true_ranks)
    return pd.DataFrame(rows).T.rename_axis("method")


def _truth(latents: Any, shape: tuple[int, ...], ranks: Sequence[int]) -> np.ndarray:
    found, wanted = padded(latents, shape), (*shape, sum(ranks))
    if found.shape != wanted:
        raise ValueError(
            f"latents: got shape {found.shape}, wanted {wanted} like X and groups of {tuple(ranks)}; pass latent_ranks "
            "where the true groups have other sizes"
        )
    return found


def _turned(one: DisRNN, held: HeldOut, ranks: tuple[int, ...], random_state: int | None) -> dict[str, DisRNN]:
    """Return the network in the latents of other methods."""
    z, seen = _in_training(one, held)
    found = {"lrRNN": other_latents.principal(one, ranks)}
    found["lrRNN + ICA"] = other_latents.independent_components(one, z, seen, ranks, random_state)
    if one.network_.n_lags == 1 and one.network_.mlp is None:
        found["LINT"] = other_latents.singular_vectors(one, z, seen, ranks)
    return found


def _in_training(model: DisRNN, held: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Return the latents of what was fitted (trial, time, latent), and where it is seen (trial, time)."""
    seen = held.seen_in_training
    return padded(model.transform(held.X_train, inputs=held.inputs_train), seen.shape), seen


def _r2(z: np.ndarray, truth: np.ndarray, ranks: Sequence[int], true_ranks: Sequence[int]) -> dict[str, float]:
    """Return R2 of true latents by their groups and by all latents, the mean over true latents."""

    def by_column(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        rest = wanted - affine_map(found, wanted)(found)
        return 1.0 - (rest**2).sum(axis=0) / ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)

    whole = {"r2": float(by_column(z, truth).mean())}
    if len(ranks) != len(true_ranks):
        return whole
    groups = [[values[:, part] for part in slices(sizes)] for values, sizes in ((z, ranks), (truth, true_ranks))]
    order = match_groups(*groups).order
    matched = [by_column(groups[0][k], wanted) for k, wanted in zip(order, groups[1], strict=True)]
    return {"group_r2": float(np.concatenate(matched).mean())} | whole
