"""How many groups, and of what rank? A search from one group to finer ones, on bins that the fit never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from numpy.typing import ArrayLike

from nwb_lrrnn.analysis.independence.autonomy import Autonomy, loss_p_value
from nwb_lrrnn.groups.evidence import COUPLING, ENOUGH_POWER, Ranks, evidence, without_latents
from nwb_lrrnn.groups.held_out import check_share
from nwb_lrrnn.groups.verdict import FACTORISABLE
from nwb_lrrnn.models.dis.separation import separate, whitened
from nwb_lrrnn.showing import table_html, table_text

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

_NO_LOSS = 0.05
# Nats per bin. What two filtered latents lose whose errors correlate by 0.14, as those of any latents that the same
# units show: with bins enough it is certain, and no sign that the one drives the other.
_SLIGHT = 0.01
_CERTAIN = 0.001
_DOUBT = 0.2  # of the level: what rejects a split that certainly foretells more must itself be as certain
_BEAM = 2  # factorisations that are split further
_COLUMNS = ["group_ranks", "log_likelihood", "p_loss", "p_value", "power", "accepted"]


class Trial(NamedTuple):
    """What is known of one factorisation."""

    autonomy: Autonomy
    loss: float  # p-value of a loss of likelihood against the coarser one
    p_value: float  # of the test that `judge_groups` makes
    power: float  # of that test; NaN where it was rejected already
    lost: float = 0.0  # log-likelihood lost against the coarser one, nats per bin

    @property
    def value(self) -> float:
        """Mean log-likelihood of held-out latents given their own group's past."""
        return float(self.autonomy.log_likelihood.mean())

    def stands(self, level: float) -> bool:
        """Return whether nothing rejects it; a loss need not be certain: groups that are there gain by a split."""
        strict = _DOUBT if self.loss > 1.0 - _CERTAIN else 1.0
        return not _is_lost(self.loss, self.lost) and self.p_value >= strict * level

    @property
    def is_clear(self) -> bool:
        """Whether the test would have found a coupling."""
        return self.power >= ENOUGH_POWER


@dataclass(frozen=True)
class GroupSearch:
    """The groups found, and every factorisation tried.

    Attributes
    ----------
    word : {"factorisable", "not factorisable", "undecided", "no latents to group"}
        As of `GroupVerdict`.
    group_ranks : tuple of int
        (rank,) where no factorisation was accepted.
    table : DataFrame
        A row for each factorisation tried: group_ranks, log_likelihood (of held-out latents given their own group's
        past, nats per bin), p-value of a loss of likelihood, p-value and power of the test that `judge_groups` makes,
        and whether it is accepted: not rejected, by a test with power.
    verdict : str
        In a sentence.
    """

    word: str
    group_ranks: Ranks
    table: pd.DataFrame
    verdict: str

    @property
    def factorisable(self) -> bool | None:
        """Whether the word is "factorisable" (True) or "not factorisable" (False); None for the other two."""
        return FACTORISABLE.get(self.word)

    def __repr__(self) -> str:
        return table_text(f"GroupSearch: {self.verdict}", self.table.set_index("group_ranks"))

    def _repr_html_(self) -> str:
        return table_html(self.verdict, self.table.set_index("group_ranks"))

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

    The network is fitted once, to one part of X, and as in `judge_groups` each of its latents must foretell what single
    units do not. Each factorisation then turns the latents anew. One group is split step by step: a split stands where
    held-out latents are foretold as well by their own groups as before, and the test of `judge_groups` does not reject
    it. The likeliest that stand are split further. The likeliest of all is accepted only where the test has the power
    to see that groups depend on each other; where it has not, the answer is "undecided".

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
    check_share("level", level)
    _check_most(max_groups)
    part = {"inputs": inputs, "conditions": conditions, "test_fraction": test_fraction, "random_state": random_state}
    found = evidence(model, X, n_groups=1, group_ranks=None, **part)
    rank, held = int(found.fitted.rank), found.held
    if missing := without_latents(found.presence, level):
        return GroupSearch(missing[0], (rank,), pd.DataFrame(columns=_COLUMNS), missing[1])
    options = {"level": level, "n_surrogates": n_surrogates, "random_state": random_state}
    found = found.turned(whitened(found.smoothed, held.trained)[0].T)

    def attempt(ranks: Ranks, coarse: Autonomy | None) -> Trial:
        matrix = separate(found.smoothed, held.trained, ranks, random_state)[0]

        def loss(fine: Autonomy) -> tuple[float, float]:
            if coarse is None:
                return 1.0, 0.0
            return loss_p_value(coarse, fine), float((coarse.log_likelihood - fine.log_likelihood).mean())

        told = found.grouping(matrix, ranks, is_hopeless=lambda fine: _is_lost(*loss(fine)), **options)
        p_loss, lost = loss(told.autonomy)
        return Trial(told.autonomy, p_loss, told.p_value, told.power, lost)

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
    _check_most(max_groups)
    most = min(rank, max_groups or rank)
    standing: dict[Ranks, Trial] = {(rank,): attempt((rank,), None)}
    everything, coarser, rows = dict(standing), {}, []
    while len(next(iter(standing))) < most:
        parents: dict[Ranks, Ranks] = {}
        for ranks in standing:  # the likeliest first: a split is held against the best it comes from
            for finer in _splits(ranks):
                parents.setdefault(finer, ranks)
        tried = {ranks: attempt(ranks, standing[parents[ranks]].autonomy) for ranks in sorted(parents, reverse=True)}
        stood = [ranks for ranks, trial in tried.items() if trial.stands(level)]
        rows += [
            (ranks, trial.value, trial.loss, trial.p_value, trial.power, ranks in stood and trial.is_clear)
            for ranks, trial in tried.items()
        ]
        if not stood:
            break
        standing = {ranks: tried[ranks] for ranks in sorted(stood, key=lambda ranks: -tried[ranks].value)[:_BEAM]}
        coarser |= {ranks: parents[ranks] for ranks in standing}
        everything |= standing
    word, chosen, verdict = _answer(everything, coarser, rank, max_groups)
    return GroupSearch(word, chosen, pd.DataFrame(rows, columns=_COLUMNS), verdict)


def _is_lost(p_value: float, lost: float) -> bool:
    """Return whether a split loses likelihood that it cannot spare, nats per bin."""
    return p_value < _NO_LOSS and lost > _SLIGHT


def _check_most(max_groups: int | None) -> None:
    if max_groups is not None and max_groups < 1:
        raise ValueError(f"max_groups: got {max_groups}, wanted at least 1, or None for no limit")


def _answer(
    standing: dict[Ranks, Trial], coarser: dict[Ranks, Ranks], rank: int, max_groups: int | None
) -> tuple[str, Ranks, str]:
    """Return the word, the groups and the sentence that the factorisations which no test rejects lead to.

    `coarser` is the factorisation that each was split from.
    """
    whole = (rank,)
    if rank == 1:
        return "not factorisable", whole, "not factorisable: there is one latent."
    if max_groups == 1:
        return "undecided", whole, "undecided: max_groups=1 allows no split."
    best = _finest_of_the_best(standing)
    if best == whole and len(standing) == 1:
        said = f"not factorisable: every way of splitting {rank} latents leaves groups that depend on each other."
        return "not factorisable", whole, said
    if best == whole:
        said = f"undecided: no way of splitting {rank} latents foretells them as well as one group does, but not all "
        return "undecided", whole, said + "leave groups that are seen to depend on each other."
    chosen = best
    while chosen != whole and not standing[chosen].is_clear:
        chosen = coarser[chosen]
    power = f"{100 * standing[best].power:.0f} % of couplings with a correlation of {COUPLING}"
    shown = " + ".join(map(str, best))
    if chosen == whole:
        said = f"undecided: nothing rejects groups of rank {shown}, but only {power} would be seen; record longer."
        return "undecided", whole, said
    end = _end(chosen, best, shown, power, standing, min(rank, max_groups or rank))
    return "factorisable", chosen, f"factorisable into groups of rank {' + '.join(map(str, chosen))}; {end}."


def _finest_of_the_best(standing: dict[Ranks, Trial]) -> Ranks:
    """Return the factorisation into most groups of those that foretell as much as the likeliest, but for a trifle."""
    most = max(trial.value for trial in standing.values())
    good = [ranks for ranks, trial in standing.items() if trial.value >= most - _SLIGHT]
    return max(good, key=lambda ranks: (len(ranks), standing[ranks].value))


def _end(chosen: Ranks, best: Ranks, shown: str, power: str, standing: dict[Ranks, Trial], most: int) -> str:
    if chosen != best:
        return f"whether they fall into {shown} is undecided, where only {power} would be seen"
    if any(len(ranks) > len(best) for ranks in standing):
        return "no finer one foretells more"
    return "every finer one tried is rejected" if len(best) < most else "no finer one was tried"


def _splits(ranks: Ranks) -> Iterator[Ranks]:
    """Yield the factorisations with one group more, largest first."""
    for k, size in enumerate(ranks):
        for part in range(1, size // 2 + 1):
            yield tuple(sorted((*ranks[:k], size - part, part, *ranks[k + 1 :]), reverse=True))
