"""Do the groups come back? Groups of refits to resampled data, or from other seeds, matched with those of the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from nwb_lrrnn.align import match_groups, slices
from nwb_lrrnn.compare.split import as_windows, take
from nwb_lrrnn.groups.padding import padded
from nwb_lrrnn.trials import as_trials

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN


def group_stability(
    model: DisRNN,
    X: Any,
    *,
    inputs: Any = None,
    n_bootstraps: int = 7,
    seeds: Sequence[int] = (0,),
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Return how well the groups of refits predict those of a first fit: a row for each refit, a column for each group.

    The first fit is to all of X with the first of `seeds`; refits are to all of X with the other seeds, and to
    bootstraps of the trials (of windows of a single recording) with the first. Groups are matched one to one and
    compared in all bins of X by affine R2, in which 1 says that a refit has the same group.

    Parameters
    ----------
    model : DisRNN
        Clones of it are fitted.
    X, inputs : like X and inputs of `fit`
    n_bootstraps : int
    seeds : sequence of int
        Values of the model's `random_state`. The closed-form fit is all but the same for each: other trials tell what
        of it is chance, other seeds only where gradients are followed (`objective="paper"`, `encoder="mlp"`).
    random_state : int, optional
        Of the bootstraps.

    Returns
    -------
    DataFrame
        Index (resampling: "seed" or "bootstrap", number); columns group0, group1, ... of the first fit.

    Raises
    ------
    ValueError
        If there is nothing to refit: no bootstraps, and fewer than two seeds.
    """
    from sklearn.base import clone

    if n_bootstraps < 1 and len(seeds) < 2:
        raise ValueError(f"n_bootstraps: got {n_bootstraps} and {len(seeds)} seeds, wanted a bootstrap or two seeds")
    cut, cut_inputs = as_windows(X, inputs, None)
    seen = np.asarray(as_trials(X, inputs=inputs).bins, dtype=bool)
    rng = np.random.default_rng(random_state)

    def fresh(seed: int) -> DisRNN:
        return cast("DisRNN", clone(model)).set_params(random_state=seed)

    def groups(fitted: DisRNN) -> list[np.ndarray]:
        latents = padded(fitted.transform(X, inputs=inputs), seen.shape)[seen]
        return [latents[:, part] for part in slices(fitted.group_ranks_)]

    first = groups(fresh(seeds[0]).fit(X, inputs=inputs))
    rows = {}
    for seed in seeds[1:]:
        refit = fresh(seed).fit(X, inputs=inputs)
        rows["seed", seed] = match_groups(groups(refit), first).r2
    for number in range(n_bootstraps):
        drawn = np.sort(rng.integers(len(cut), size=len(cut)))
        refit = fresh(seeds[0]).fit(take(cut, drawn), inputs=take(cut_inputs, drawn))
        rows["bootstrap", number] = match_groups(groups(refit), first).r2
    index = pd.MultiIndex.from_tuples(list(rows), names=["resampling", "number"])
    return pd.DataFrame(list(rows.values()), index=index, columns=[f"group{g}" for g in range(len(first))])
