"""How many latents? The smallest rank whose held-out likelihood is within one standard error of the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from nwb_lrrnn.compare.split import split
from nwb_lrrnn.models.linear import MeanRate
from nwb_lrrnn.showing import table_html, table_text

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel


class RankChoice(NamedTuple):
    """The rank chosen and the scores it was chosen from."""

    rank: int
    # index rank; score, vs_mean_rate and standard_error: nats per bin, over folds; the last is of the gap to the best
    table: pd.DataFrame

    @property
    def verdict(self) -> str:
        """The choice in a sentence."""
        tried = ", ".join(map(str, self.table.index))
        best: Any = self.table["score"].where(self.table["vs_mean_rate"] > 0).idxmax()
        why = "the best" if int(best) == self.rank else f"the smallest within a standard error of the best, {best}"
        return f"rank {self.rank} of {tried}: {why} on held-out trials (nats per bin)."

    def __repr__(self) -> str:
        return table_text(f"RankChoice: {self.verdict}", self.table)

    def _repr_html_(self) -> str:
        return table_html(self.verdict, self.table)


def select_rank(
    model: LatentModel,
    X: Any,
    ranks: Sequence[int],
    *,
    inputs: Any = None,
    cv: Any = 5,
    window: float | None = None,
    random_state: int | None = 0,
) -> RankChoice:
    """Return the smallest of `ranks` whose held-out log-likelihood is within a standard error of the best one.

    Groups do not change the likelihood's rank, so clones of the model are fitted with one group. Folds are of trials,
    or stretches of windows of a single recording; the standard error is that of the paired difference over folds. A
    rank that scores below the mean rate has learned nothing that holds on other trials, and is not chosen.

    Raises
    ------
    ValueError
        If `ranks` is empty, or every rank scores below the mean rate.
    """
    from sklearn.base import clone

    ranks = sorted({int(rank) for rank in ranks})
    if not ranks:
        raise ValueError("ranks: got none, wanted ranks to choose from, e.g. range(1, 9)")
    parts = split(X, inputs, cv=cv, window=window, random_state=random_state)
    scores, reference = np.empty((len(ranks), parts.n_folds)), np.empty(parts.n_folds)
    for fold in range(parts.n_folds):
        train, train_inputs = parts.train(fold)
        test, test_inputs = parts.test(fold)
        for k, rank in enumerate(ranks):
            fitted: Any = clone(model)
            fitted.set_params(rank=rank, n_groups=1, group_ranks=None).fit(train, inputs=train_inputs)
            scores[k, fold] = fitted.score(test, inputs=test_inputs)
        reference[fold] = MeanRate(likelihood=fitted.likelihood_, bin_size=fitted.bin_size_).fit(train).score(test)
    return choose_rank(ranks, scores, reference)


def choose_rank(ranks: Sequence[int], scores: np.ndarray, mean_rate: np.ndarray) -> RankChoice:
    """Return the choice that scores (rank, fold), `ranks` in rising order, and those of the mean rate (fold,) lead to.

    Examples
    --------
    >>> choose_rank([1, 2, 3], np.array([[1.0, 1.2], [2.0, 2.1], [2.0, 2.11]]), np.zeros(2)).rank
    2
    """
    gains = (scores - mean_rate).mean(1)
    gains[np.isnan(gains)] = -np.inf
    useful = gains > 0
    if not useful.any():
        raise ValueError(
            f"ranks: every one scores below the mean rate on held-out trials, the best, {ranks[int(gains.argmax())]}, "
            f"by {-gains.max():.3g} nats per bin: the model finds no latents in X that hold on other trials; give it "
            "more trials, or leave out units that are hardly active"
        )
    best = int(np.argmax(np.where(useful, scores.mean(1), -np.inf)))
    gaps = scores[best] - scores
    errors = gaps.std(1, ddof=1) / np.sqrt(scores.shape[1])
    within = useful & (gaps.mean(1) <= np.maximum(errors, 1e-12))
    columns = {"score": scores.mean(1), "vs_mean_rate": gains, "standard_error": errors}
    table = pd.DataFrame(columns, index=pd.Index(list(ranks), name="rank"))
    return RankChoice(int(ranks[int(np.argmax(within))]), table)
