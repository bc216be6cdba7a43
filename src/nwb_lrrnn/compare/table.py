"""The table of a comparison: scores, gains, and paired differences from the model with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.compare.baselines import REFERENCE
from nwb_lrrnn.compare.intervals import Paired, paired_over_blocks, paired_over_windows
from nwb_lrrnn.compare.scores import scores_on
from nwb_lrrnn.compare.split import split
from nwb_lrrnn.compare.verdict import judge_nonlinearity

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel


def compare_baselines(
    model: LatentModel,
    X: Any,
    *,
    cv: Any = 5,
    inputs: Any = None,
    groups: Any = None,
    blocks: Any = None,
    X_train: Any = None,
    inputs_train: Any = None,
    window: float | None = None,
    larger_ranks: Sequence[int] | None = None,
    others: Mapping[str, LatentModel] | None = None,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Return a table of held-out log-likelihoods: mean rate, factor analysis, VAR, linear state spaces and the model.

    All have the likelihood and the link of the model and see the same trials. Differences are paired over trials; where
    the trials are windows of one recording, over blocks of neighbouring windows. `attrs["verdict"]` says whether the
    dynamics need to be nonlinear.

    Parameters
    ----------
    model : estimator
        Cloned and fitted on the training trials of each fold; with `cv="prefit"`, fitted already and taken as it is.
    X : like X of `fit`
        Trials; one long recording (2-D) is cut into windows first. Windows of one recording (those, what `chop` made,
        and trials most of which begin, by their coordinate `align_time`, where the last one ends) are held out in
        stretches, because neighbours leak.
    cv : int, splitter, iterable of (train, test), or "prefit"
        Folds over trials. "prefit": X is held out, and the baselines are fitted to `X_train`.
    inputs, inputs_train : like X with `input` in place of `unit`, optional
        Inputs of X and X_train; mean rate, factor analysis and VAR do not use them.
    groups : array (trial,), optional
        Trials of one group stay in one fold, and form one block.
    blocks : array (trial,), optional
        Ids; trials of one block are not independent (those of one session, or windows of one stretch), and intervals
        are over blocks. None: the groups, where given; else as X says. Folds heed groups only.
    X_train : like X, optional
        Where `cv="prefit"`: what the model was fitted to.
    window : float, optional
        Length of the windows of a 2-D recording, seconds (bins where the bin size is unknown); default a fiftieth.
    larger_ranks : tuple of int, optional
        Ranks of further linear state spaces; None: 2, 4, ... times the model's rank until the held-out score does not
        rise, at most the number of units or 64.
    others : dict of name -> estimator, optional
        More models for the same table, fitted like the model.
    random_state : int or None
        Seed of the folds (trials are shuffled, windows of one recording are not) and of particle noise.

    Returns
    -------
    DataFrame
        One row a model, the compared one last: `log_likelihood` (nats per observed bin), `vs_mean_rate`, for counts
        `bits_per_spike` (over mean rate), `vs_model` (this row minus the model, nats per bin) with `standard_error`,
        `low` and `high` (its 95 % interval), `n_blocks` (trials or blocks that the interval rests on), `interval_holds`
        (False for windows too few or too dependent), `scored_by` (the estimator: linear state spaces are scored by that
        of the model where it has `with_dynamics`, so that a bound is held against the same bound) and `is_linear`.
        `attrs` hold likelihood, link, rank, n_units, n_trials, n_bins, linear_ranks (of the linear state spaces),
        interval_over ("trials", "blocks" or "windows"), n_blocks (the fewest of a row), block_length (the most of a
        row, windows), for counts spikes_per_bin and, unless the model is itself linear, `verdict` and
        `nonlinear_supported` (see `judge_nonlinearity`).

    Raises
    ------
    ValueError
        If another model has another likelihood or a name that is taken, if trials are too few for the folds, if blocks
        or groups are not one a trial, or if `cv="prefit"` lacks its training data or its fitted model.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((20, 30, 5)).cumsum(axis=1)
    >>> from nwb_lrrnn.models.linear import LinearStateSpace
    >>> table = compare_baselines(LinearStateSpace(rank=2, tol=1e-2), X, cv=2, larger_ranks=())
    >>> list(table.index[:3])
    ['mean rate', 'factor analysis (rank 2)', 'VAR(1)']
    """
    held_out = split(
        X,
        inputs,
        cv=cv,
        groups=groups,
        blocks=blocks,
        X_train=X_train,
        inputs_train=inputs_train,
        window=window,
        random_state=random_state,
    )
    return tabulate(scores_on(held_out, model, larger_ranks, others, random_state))


def tabulate(scores: xr.Dataset) -> pd.DataFrame:
    """Return the table of `compare_baselines` from the scores of `held_out_scores`."""
    values = scores["log_likelihood"].transpose("model", "trial").values
    keep = np.isfinite(values).all(axis=0) & (scores["n_bins"].values > 0)
    if not keep.any():
        raise ValueError("cv: no trial was held out for every model; check the folds")
    values, bins = values[:, keep], scores["n_bins"].values[keep].astype(float)
    names = [str(name) for name in scores["model"].values]
    per_bin = values.sum(axis=1) / bins.sum()
    table = pd.DataFrame({"log_likelihood": per_bin}, index=pd.Index(names, name="model"))
    table["vs_mean_rate"] = per_bin - per_bin[names.index(REFERENCE)]
    attrs = dict(scores.attrs) | {"n_trials": int(keep.sum()), "n_bins": int(bins.sum())}
    if "n_spikes" in scores:
        spikes = float(scores["n_spikes"].values[keep].sum()) / bins.sum()
        table["bits_per_spike"] = table["vs_mean_rate"] / (np.log(2) * spikes) if spikes > 0 else np.nan
        attrs["spikes_per_bin"] = spikes
    over, paired = _paired(values - values[-1], bins, scores.isel(trial=keep))
    for column, numbers in zip(
        ("vs_model", "standard_error", "low", "high"), zip(*(p.numbers for p in paired), strict=True), strict=True
    ):
        table[column] = numbers
    table["n_blocks"] = [p.n_blocks for p in paired]
    table["interval_holds"] = [p.interval_holds for p in paired]
    table["scored_by"] = scores["scored_by"].values.astype(str).tolist()
    table["is_linear"] = scores["is_linear"].values
    attrs["interval_over"] = over
    attrs["n_blocks"] = min(p.n_blocks for p in paired)
    attrs["block_length"] = max(p.block_length for p in paired)
    table.attrs.update(attrs)
    table.attrs.update(judge_nonlinearity(table))
    return table


def _paired(differences: np.ndarray, bins: np.ndarray, scores: xr.Dataset) -> tuple[str, list[Paired]]:
    """Return what the intervals are over, and the paired difference of each row."""
    if "position" in scores.coords:
        positions = scores["position"].values
        return "windows", [paired_over_windows(row, bins, positions) for row in differences]
    if "block" in scores.coords:
        blocks = scores["block"].values
        return "blocks", [paired_over_blocks(row, bins, blocks) for row in differences]
    return "trials", [paired_over_blocks(row, bins) for row in differences]
