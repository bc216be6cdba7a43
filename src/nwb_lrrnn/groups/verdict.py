"""Are the groups real? The verdict on a model's groups, tested on bins that its fit never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from nwb_lrrnn.analysis.independence import DependenceTest
from nwb_lrrnn.groups.held_out import check_share, hold_out
from nwb_lrrnn.groups.padding import padded

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

_COUPLING = 0.5  # a correlation that the test must be able to see before it calls groups independent
_ENOUGH_POWER = 0.5


@dataclass(frozen=True)
class GroupVerdict:
    """Whether the latents fall into independent groups.

    Attributes
    ----------
    factorisable : bool or None
        None: undecided, the data are too few to see a coupling of 0.5.
    verdict : str
        In a sentence.
    group_ranks : tuple of int
    test : DependenceTest or None
        None for a single group.
    """

    factorisable: bool | None
    verdict: str
    group_ranks: tuple[int, ...]
    test: DependenceTest | None

    def __str__(self) -> str:
        return self.verdict


def judge_groups(
    model: DisRNN,
    X: Any,
    *,
    inputs: Any = None,
    conditions: ArrayLike | None = None,
    level: float = 0.01,
    test_fraction: float = 0.4,
    n_surrogates: int = 399,
    random_state: int | None = 0,
) -> GroupVerdict:
    """Return whether the groups that `model` finds in one part of X are independent in the rest.

    A clone of the model is fitted to the first part of a single recording, or to a random share of the trials, and
    never sees the bins in which its groups are tested. The test is `analysis.independence.dependence`.

    Parameters
    ----------
    model : DisRNN
        Fitted or not; it is left as it is.
    X, inputs : like X and inputs of `fit`
    conditions : array (trial,), optional
        Dependence that the condition of a trial explains does not count.
    level : float
        Chance of calling independent groups dependent.
    test_fraction : float
        Of the bins or trials, what is held out.
    n_surrogates : int
    random_state : int, optional

    Raises
    ------
    ValueError
        If `level` or `test_fraction` are not between 0 and 1, or there are too few bins or trials for both parts.
    """
    from sklearn.base import clone

    check_share("level", level)
    ranks = _ranks_of(model)
    if ranks is not None and len(ranks) == 1:
        return judge_dependence(None, ranks, level=level)
    held = hold_out(X, inputs, conditions, test_fraction, random_state)
    fitted = cast("DisRNN", clone(model)).fit(held.X_train, inputs=held.inputs_train)
    latents, ranks = padded(fitted.transform(X, inputs=inputs), held.seen.shape), tuple(fitted.group_ranks_)
    options = {"level": level, "n_surrogates": n_surrogates, "random_state": random_state, "power_at": _COUPLING}
    return judge_dependence(held.test(latents, ranks, **options), ranks, level=level)


def judge_dependence(test: DependenceTest | None, group_ranks: Sequence[int], *, level: float = 0.01) -> GroupVerdict:
    """Return the verdict that a test of dependence gives; without a test there is one group."""
    ranks = tuple(int(rank) for rank in group_ranks)
    if test is None:
        verdict = f"not factorisable: there is one group, of rank {ranks[0]}."
        return GroupVerdict(False, verdict, ranks, None)
    if test.p_value < level:
        worst = test.pairs[int(np.argmin(test.pair_p_values))]
        names = f"groups {worst[0]} and {worst[1]}" if len(ranks) > 2 else "the groups"
        verdict = f"not factorisable: {names} depend on each other in held-out bins (p = {test.p_value:.2g})."
        return GroupVerdict(False, verdict, ranks, test)
    if test.power < _ENOUGH_POWER:  # False where it is NaN: not asked for
        verdict = (
            f"undecided: no dependence is seen (p = {test.p_value:.2g}), but of couplings with a correlation of "
            f"{_COUPLING} only {100 * test.power:.0f} % would be; hold out more, or record longer."
        )
        return GroupVerdict(None, verdict, ranks, test)
    shown = " + ".join(map(str, ranks))
    verdict = f"factorisable into groups of rank {shown}: no dependence in held-out bins (p = {test.p_value:.2g})"
    seen = "" if np.isnan(test.power) else f"; {100 * test.power:.0f} % of couplings of {_COUPLING} would be seen"
    return GroupVerdict(True, f"{verdict}{seen}.", ranks, test)


def _ranks_of(model: DisRNN) -> tuple[int, ...] | None:
    """Return the sizes of the groups that the parameters of a model ask for."""
    parameters = model.get_params(deep=False)
    if parameters.get("group_ranks") is not None:
        return tuple(parameters["group_ranks"])
    n_groups = parameters.get("n_groups", 1)
    return (int(parameters["rank"]),) if n_groups == 1 else None
