"""Are the groups real? The verdict on a model's groups, tested on bins that its fit never saw."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from nwb_lrrnn.analysis.independence import DependenceTest
from nwb_lrrnn.groups.evidence import COUPLING, ENOUGH_POWER, Grouping, evidence, without_latents
from nwb_lrrnn.groups.held_out import check_share

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

FACTORISABLE = {"factorisable": True, "not factorisable": False}


@dataclass(frozen=True)
class GroupVerdict:
    """Whether the latents fall into independent groups.

    Attributes
    ----------
    word : {"factorisable", "not factorisable", "undecided", "no latents to group"}
        "undecided": the data are too few to see a coupling of 0.5. "no latents to group": the latents foretell no more
        of held-out bins than single units do by themselves.
    verdict : str
        In a sentence.
    group_ranks : tuple of int
    p_value : float
        Of signs of dependence as strong by chance where groups are independent; NaN where they are not asked about.
    test : DependenceTest or None
        None where it was not asked: there is a single group, there are no latents, or what goes on in one group is
        foretold by another already.
    n_latents : int
        How many latents foretell more than single units do.
    """

    word: str
    verdict: str
    group_ranks: tuple[int, ...]
    p_value: float
    test: DependenceTest | None
    n_latents: int

    @property
    def factorisable(self) -> bool | None:
        """Whether the word is "factorisable" (True) or "not factorisable" (False); None for the other two."""
        return FACTORISABLE.get(self.word)

    def __repr__(self) -> str:
        return "\n".join(textwrap.wrap(f"GroupVerdict: {self.verdict}", 110))

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
    never sees the bins in which its groups are tested. First it is asked whether there are latents: each must foretell
    of held-out bins what the own past of single units does not. Then, whether the other groups add to what a group's
    own past foretells of it, and whether groups depend on each other (`analysis.independence.dependence`).

    Parameters
    ----------
    model : DisRNN
        Fitted or not; it is left as it is.
    X, inputs : like X and inputs of `fit`
    conditions : array (trial,), optional
        What the condition of a trial and the time in it explain does not count.
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
    check_share("level", level)
    options = {"inputs": inputs, "conditions": conditions}
    found = evidence(model, X, test_fraction=test_fraction, random_state=random_state, **options)
    ranks, n_latents = tuple(int(rank) for rank in found.fitted.group_ranks_), found.presence.number(level)
    if missing := without_latents(found.presence, level):
        return GroupVerdict(*missing, ranks, float("nan"), None, n_latents)
    if len(ranks) == 1:
        verdict = f"not factorisable: there is one group, of rank {ranks[0]}."
        return GroupVerdict("not factorisable", verdict, ranks, float("nan"), None, n_latents)
    told = found.grouping(np.eye(sum(ranks)), ranks, level=level, n_surrogates=n_surrogates, random_state=random_state)
    return GroupVerdict(*judge_grouping(told, ranks, level=level), ranks, told.p_value, told.test, n_latents)


def judge_grouping(found: Grouping, ranks: tuple[int, ...], *, level: float = 0.01) -> tuple[str, str]:
    """Return the word and the sentence that the evidence on groups of latents gives."""
    p, test = found.p_value, found.test
    if p < level:
        names = _who_depends(found, ranks)
        return "not factorisable", f"not factorisable: {names} in held-out bins (p = {p:.2g})."
    assert test is not None  # noqa: S101  it is left out only where the gain rejects
    if not test.power >= ENOUGH_POWER:
        return "undecided", (
            f"undecided: no dependence is seen (p = {p:.2g}), but of couplings with a correlation of {COUPLING} only "
            f"{100 * test.power:.0f} % would be; hold out more, or record longer."
        )
    shown = " + ".join(map(str, ranks))
    return "factorisable", (
        f"factorisable into groups of rank {shown}: no dependence in held-out bins (p = {p:.2g}); "
        f"{100 * test.power:.0f} % of couplings of {COUPLING} would be seen."
    )


def _who_depends(found: Grouping, ranks: tuple[int, ...]) -> str:
    test = found.test
    if test is None or found.gain < test.p_value:
        group = int(np.argmin(found.autonomy.p_values))
        rest = "the other group" if len(ranks) == 2 else "the other groups"
        return f"{rest} foretell{'s' * (len(ranks) == 2)} what group {group} does"
    first, second = test.pairs[int(np.argmin(test.pair_p_values))]
    return f"groups {first} and {second} depend on each other" if len(ranks) > 2 else "the groups depend on each other"
