"""How many groups, and of what rank? A search from one group to finer ones, on bins that the fit never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nwb_lrrnn.analysis.independence.autonomy import Autonomy, autonomy, loss_p_value
from nwb_lrrnn.groups.held_out import check_share, hold_out
from nwb_lrrnn.groups.padding import padded
from nwb_lrrnn.models.dis.separation import separate, whitened

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

Ranks = tuple[int, ...]

_N_TESTS = 2  # of every split, beside the loss: a gain by other groups, dependence
_NO_LOSS = 0.05
_BEAM = 2  # factorisations that are split further


class Trial(NamedTuple):
    """What is known of one factorisation."""

    autonomy: Autonomy
    loss: float  # p-value of a loss of likelihood against the coarser one
    gain: float  # of what other groups add, the least of all groups times their number
    dependence: float  # of the test of dependence; NaN where an earlier test rejects


@dataclass(frozen=True)
class GroupSearch:
    """The groups found, and every factorisation tried.

    Attributes
    ----------
    group_ranks : tuple of int
        (rank,) where no factorisation was accepted.
    table : DataFrame
        A row for each factorisation tried: group_ranks, log_likelihood (of held-out latents given their own group's
        past, nats per bin), p-values of a loss of likelihood, of a gain by other groups and of dependence, accepted.
    verdict : str
    """

    group_ranks: Ranks
    table: pd.DataFrame
    verdict: str

    def __str__(self) -> str:
        return self.verdict


def select_groups(
    model: DisRNN,
    X: Any,
    *,
    inputs: Any = None,
    conditions: ArrayLike | None = None,
    level: float = 0.01,
    test_fraction: float = 0.4,
    max_groups: int | None = None,
    n_surrogates: int = 199,
    random_state: int | None = 0,
) -> GroupSearch:
    """Return the number and sizes of independent groups in X, by tests on bins that no fit saw.

    The network is fitted once, to one part of X; each factorisation turns its latents anew. One group is split step by
    step: a split stands where held-out latents are foretold as well by their own groups as before, other groups add
    nothing, and the groups show no dependence. The likeliest that stand are split further; the likeliest of all is
    returned.

    Parameters
    ----------
    model : DisRNN
        Of the wanted rank; it is left as it is.
    X, inputs : like X and inputs of `fit`
    conditions, level, test_fraction, n_surrogates, random_state
        As of `judge_groups`.
    max_groups : int, optional
        Where the search ends at the latest.

    Raises
    ------
    ValueError
        As of `judge_groups`, or if there are too few bins to learn from and to test.
    """
    from sklearn.base import clone

    check_share("level", level)
    held = hold_out(X, inputs, conditions, test_fraction, random_state)
    rank = int(model.rank)
    unfitted = cast("DisRNN", clone(model)).set_params(n_groups=1, group_ranks=None)
    fitted = unfitted.fit(held.X_train, inputs=held.inputs_train)
    smooth, filtered = (
        padded(fitted.transform(X, inputs=inputs, posterior=posterior), held.seen.shape)
        for posterior in ("smoothed", "filtered")
    )
    white, centre = whitened(smooth, held.trained)[0], smooth[held.trained].mean(axis=0)
    smooth, filtered = (np.where(held.seen[..., None], (z - centre) @ white.T, 0.0) for z in (smooth, filtered))
    options = {"n_surrogates": n_surrogates, "random_state": random_state}

    def attempt(ranks: Ranks, coarse: Autonomy | None) -> Trial:
        matrix = separate(smooth, held.trained, ranks, random_state)[0]
        found = autonomy(filtered, matrix, ranks, held.trained, held.tested, others=coarse is not None)
        if coarse is None:
            return Trial(found, 1.0, 1.0, 1.0)
        loss, gain = loss_p_value(coarse, found), min(1.0, float(found.p_values.min()) * len(ranks))
        if loss < _NO_LOSS or gain * _N_TESTS < level:
            return Trial(found, loss, gain, float("nan"))
        return Trial(found, loss, gain, held.test(smooth @ matrix, ranks, **options).p_value)

    return search_groups(attempt, rank, level=level, max_groups=max_groups)


def search_groups(
    attempt: Callable[[Ranks, Autonomy | None], Trial], rank: int, *, level: float = 0.01, max_groups: int | None = None
) -> GroupSearch:
    """Return the factorisation of `rank` latents that step-by-step splits lead to.

    Parameters
    ----------
    attempt : callable
        Takes a factorisation and the autonomy of the coarser one (None at first), and returns a `Trial`.
    rank : int
    level : float
    max_groups : int, optional

    Raises
    ------
    ValueError
        If `max_groups` is less than 1.
    """
    if max_groups is not None and max_groups < 1:
        raise ValueError(f"max_groups: got {max_groups}, wanted at least 1, or None for no limit")
    standing: dict[Ranks, Trial] = {(rank,): attempt((rank,), None)}
    everything, rows = dict(standing), []
    while len(next(iter(standing))) < (max_groups or rank):
        parents: dict[Ranks, Trial] = {}
        for ranks, trial in standing.items():  # the likeliest first: a split is held against the best it comes from
            for finer in _splits(ranks):
                parents.setdefault(finer, trial)
        tried = {ranks: attempt(ranks, parents[ranks].autonomy) for ranks in sorted(parents, reverse=True)}
        accepted = [ranks for ranks, trial in tried.items() if _stands(trial, level)]
        rows += [(ranks, _value(trial), *trial[1:], ranks in accepted) for ranks, trial in tried.items()]
        if not accepted:
            break
        accepted = sorted(accepted, key=lambda ranks: -_value(tried[ranks]))[:_BEAM]
        standing = {ranks: tried[ranks] for ranks in accepted}
        everything |= standing
    best = max(everything, key=lambda ranks: _value(everything[ranks]))
    columns = ["group_ranks", "log_likelihood", "p_loss", "p_gain", "p_dependence", "accepted"]
    finer = any(len(ranks) > len(best) for ranks in everything)
    verdict = _verdict(best, rank, max_groups, stood=finer)
    return GroupSearch(best, pd.DataFrame(rows, columns=columns), verdict)


def _verdict(best: Ranks, rank: int, max_groups: int | None, *, stood: bool) -> str:
    """Return the sentence; `stood` says whether no test rejects some finer factorisation that is less likely."""
    if rank == 1:
        return "not factorisable: there is one latent."
    if max_groups == 1:
        return "undecided: max_groups=1 allows no split."
    if len(best) == 1 and stood:
        return f"not factorisable: no way of splitting {rank} latents foretells them better than one group does."
    if len(best) == 1:
        return f"not factorisable: every way of splitting {rank} latents leaves groups that depend on each other."
    end = "every finer one tried is rejected" if len(best) < (max_groups or rank) else "no finer one was tried"
    end = "no finer one foretells more" if stood else end
    return f"factorisable into groups of rank {' + '.join(map(str, best))}; {end}."


def _value(trial: Trial) -> float:
    return float(trial.autonomy.log_likelihood.mean())


def _stands(trial: Trial, level: float) -> bool:
    """Return whether no test rejects; a loss need not be certain, since groups that are there gain by a split."""
    return trial.loss >= _NO_LOSS and all(p * _N_TESTS >= level for p in (trial.gain, trial.dependence))


def _splits(ranks: Ranks) -> Iterator[Ranks]:
    """Yield the factorisations with one group more, largest first."""
    for k, size in enumerate(ranks):
        for part in range(1, size // 2 + 1):
            yield tuple(sorted((*ranks[:k], size - part, part, *ranks[k + 1 :]), reverse=True))
