"""One fit to a part of a recording, and what the rest says of latents and of groups of them.

Are there latents, and are groups of them independent? `judge_groups` and `select_groups` ask both questions here, so
that they have one test and one account of its power.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.independence import DependenceTest
from nwb_lrrnn.analysis.independence.autonomy import Autonomy
from nwb_lrrnn.analysis.independence.presence import Presence
from nwb_lrrnn.groups.held_out import HeldOut, hold_out
from nwb_lrrnn.groups.padding import padded
from nwb_lrrnn.trials import as_trials

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

Array = NDArray[np.float64]
Ranks = tuple[int, ...]

COUPLING = 0.5  # a correlation that the test must be able to see before it calls groups independent
ENOUGH_POWER = 0.5
_PERHAPS = 0.1  # chance of gains, from which on there are no latents; noise, whose gains are losses, is far above it


class Grouping(NamedTuple):
    """What held-out bins say of groups of latents.

    Attributes
    ----------
    autonomy : Autonomy
        How well each group goes on by itself, and what the others add.
    test : DependenceTest or None
        None where the groups' own past already says that they depend on each other, and the test is not asked.
    """

    autonomy: Autonomy
    test: DependenceTest | None

    @property
    def gain(self) -> float:
        """Probability of gains by other groups as large by chance, of all groups together."""
        p = self.autonomy.p_values
        return min(1.0, float(p.min()) * len(p)) if len(p) else 1.0

    @property
    def p_value(self) -> float:
        """Probability of signs of dependence as strong by chance: of the gain and the test together."""
        dependence = 1.0 if self.test is None else self.test.p_value
        return min(1.0, 2.0 * min(self.gain, dependence))

    @property
    def power(self) -> float:
        """Share of couplings with a correlation of `COUPLING` that the test finds; NaN where it is not asked."""
        return float("nan") if self.test is None else self.test.power


@dataclass(frozen=True)
class Evidence:
    """A network fitted to one part, and its latents in all of X.

    Attributes
    ----------
    fitted : DisRNN
    held : HeldOut
    presence : Presence
    smoothed, filtered : arrays (trial, time, latent)
    """

    fitted: DisRNN
    held: HeldOut
    presence: Presence
    smoothed: Array
    filtered: Array

    def turned(self, matrix: Array) -> Evidence:
        """Return the same with latents, less their mean, times a matrix (latent, latent)."""
        mean, seen = self.smoothed[self.held.trained].mean(axis=0), self.held.seen[..., None]
        smoothed, filtered = (np.where(seen, (z - mean) @ matrix, 0.0) for z in (self.smoothed, self.filtered))
        return replace(self, smoothed=smoothed, filtered=filtered)

    def grouping(
        self,
        matrix: Array,
        ranks: Ranks,
        *,
        level: float,
        n_surrogates: int,
        random_state: int | None,
        is_hopeless: Callable[[Autonomy], bool] | None = None,
    ) -> Grouping:
        """Return what held-out bins say of the groups of `latents @ matrix`; the costly test is not asked in vain."""
        held = self.held
        found = Grouping(held.autonomy(self.filtered, matrix, ranks), None)
        if len(ranks) == 1 or found.p_value < level or (is_hopeless is not None and is_hopeless(found.autonomy)):
            return found
        options = {"n_surrogates": n_surrogates, "random_state": random_state, "power_at": COUPLING}
        return found._replace(test=held.test(self.smoothed @ matrix, ranks, level=level / 2, **options))


def evidence(
    model: DisRNN,
    X: Any,
    *,
    inputs: Any = None,
    conditions: ArrayLike | None = None,
    test_fraction: float = 0.4,
    random_state: int | None = 0,
    **changed: Any,
) -> Evidence:
    """Return a clone of the model, with changed parameters, fitted to one part of X, and its latents in all of it."""
    from sklearn.base import clone

    held = hold_out(X, inputs, conditions, test_fraction, random_state)
    fitted = cast("DisRNN", clone(model)).set_params(**changed)
    fitted.fit(held.X_train, inputs=held.inputs_train)
    smoothed, filtered, delayed = (
        padded(fitted.transform(X, inputs=inputs, posterior=posterior), held.seen.shape)
        for posterior in ("smoothed", "filtered", "delayed")
    )
    trials = as_trials(X, inputs=inputs)
    values = np.asarray(trials.values, dtype=np.float64)
    if fitted.likelihood_ != "gaussian":
        values = 2.0 * np.sqrt(values + 0.375)  # Anscombe (1948): counts whose noise has one variance
    return Evidence(fitted, held, held.presence(values, delayed, trials.inputs), smoothed, filtered)


def without_latents(found: Presence, level: float) -> tuple[str, str] | None:
    """Return the word and the sentence where latents are missing, so that nothing can be said of groups."""
    n, rank = found.number(level), found.rank
    if n >= rank:
        return None
    if n == 0 and found.p_value < _PERHAPS:
        said = "latents seem to foretell more of held-out bins than single units do, but that may be chance"
        return "undecided", f"undecided: {said} (p = {found.p_value:.2g}); hold out more, or record longer."
    if n == 0:
        who = "the latent foretells" if rank == 1 else f"{rank} latents foretell"
        said = f"{who} no more of held-out bins than the past of single units does"
        return "no latents to group", f"no latents to group: {said} (p = {found.p_value:.2g})."
    said = f"only {n} of {rank} latents foretell{'s' * (n == 1)} more of held-out bins than single units do"
    end = f"the next adds nothing (p = {found.p_values[n]:.2g})"
    if n == 1:
        return "no latents to group", f"no latents to group: {said}, {end}."
    return "undecided", f"undecided: {said}, {end}; fit with rank={n}."
