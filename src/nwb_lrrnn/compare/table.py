"""The table of a comparison: scores, gains, and paired differences from the model with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.attributes import as_list
from nwb_lrrnn.compare.baselines import REFERENCE, state_space_name
from nwb_lrrnn.compare.comparison import Comparison
from nwb_lrrnn.compare.intervals import Paired, paired_over_blocks, paired_over_windows
from nwb_lrrnn.compare.scores import scores_on
from nwb_lrrnn.compare.split import split
from nwb_lrrnn.compare.verdict import UNDECIDED, judge_nonlinearity
from nwb_lrrnn.compare.wording import named_row

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
    smallest_gain: float = 0.02,
    random_state: int | None = 0,
) -> Comparison:
    """Return a table of held-out log-likelihoods: simple models, linear state spaces and the model.

    The simple ones are the mean rate, what each unit does by itself (autoregression per unit), factor analysis and VAR.
    All have the likelihood and the link of the model and see the same trials. Differences are paired over trials; where
    the trials are windows of one recording, over blocks of neighbouring windows. `attrs["nonlinear"]` says whether the
    data ask for nonlinear dynamics: "supported", "not supported", "undecided" or "cannot be judged"; `attrs["verdict"]`
    says why.

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
        Length of the windows of a 2-D recording, seconds (bins where the bin size is unknown); default a fiftieth, or
        as long as two periods or autocorrelation times of the population, where that is longer.
    larger_ranks : tuple of int, optional
        Ranks of further linear state spaces; None: 2, 4, ... times the model's rank until the held-out score does not
        rise, at most the number of units or 64.
    others : dict of name -> estimator, optional
        More models for the same table, fitted like the model.
    smallest_gain : float
        The smallest difference that counts, as a share of what the best linear model gains over the mean rate: what is
        surely less than that is "not supported".
    random_state : int or None
        Seed of the folds (trials are shuffled, windows of one recording are not) and of particle noise.

    Returns
    -------
    Comparison
        A DataFrame that prints whole and ends in its verdict. One row a model, the compared one last: `log_likelihood`
        (nats per observed bin), `vs_mean_rate` with `gain_low` and `gain_high` (its 95 % interval), for counts
        `bits_per_spike` (over mean rate), `model_above` (the model minus this row, nats per bin: positive where the
        model is better) with `standard_error`, `low` and `high` (its 95 % interval), `n_blocks` (trials or blocks that
        the interval rests on), `interval_holds` (False for windows too few or too dependent), `scored_by` (the
        estimator: linear state spaces are scored by that of the model where it has `with_dynamics`, so that a bound is
        held against the same bound), `is_linear`, `has_latents`, `at_floor` (units whose noise or rate sits at its
        floor, as a text) and `is_outdone` (a linear state space clearly below one of smaller rank).
        `attrs` hold likelihood, link, rank, n_units, n_trials (distinct ones), n_copies (trials equal to another one,
        which count as one with it), n_bins, linear_ranks (of the linear state spaces), interval_over ("trials",
        "blocks" or "windows"), n_blocks (the fewest of a row), block_length (the most of a row, windows), left_out
        (units in no score, because training cannot speak for them), forbidden (what in the data allows no verdict),
        notes (what is to be known besides), for counts spikes_per_bin and, unless the model is itself linear, what
        `judge_nonlinearity` returns: `nonlinear`, `verdict`, `smallest_gain`, `detectable` and `n_needed`.

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
    >>> list(table.index[:4])
    ['mean rate', 'autoregression per unit (1 lag)', 'factor analysis (rank 2)', 'VAR(1)']
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
    scores = scores_on(held_out, model, larger_ranks, others, random_state)
    return tabulate(scores, smallest_gain=smallest_gain)


def tabulate(scores: xr.Dataset, *, smallest_gain: float = 0.02) -> Comparison:
    """Return the table of `compare_baselines` from the scores of `held_out_scores`."""
    scores = _with_numbers(scores)
    table = rows_of(scores)
    table.attrs.update(judge_nonlinearity(table, smallest_gain=smallest_gain))
    table = resting_on_one_bin(table, scores, smallest_gain)
    shown = Comparison(table)
    shown.attrs = table.attrs
    return shown


def resting_on_one_bin(table: pd.DataFrame, scores: xr.Dataset, smallest_gain: float) -> pd.DataFrame:
    """Return the table; where trials of an enormous bin carry the word or the numbers in it, nothing is judged."""
    kept = scores.isel(trial=_kept(scores))
    texts = kept["extreme"].values.astype(str) if "extreme" in kept.coords else np.zeros(0, dtype=str)
    odd = texts != ""
    if not odd.any():
        return table
    reason = _carried(table, None if odd.all() else rows_of(kept.isel(trial=~odd)), smallest_gain)
    if reason:
        places = "; ".join(sorted(set(texts[odd])))
        reason = f"the answer rests on one enormous bin ({places}), {reason}; mark that bin as unobserved"
        table.attrs["forbidden"] = [*as_list(table.attrs.get("forbidden", [])), reason]
        table.attrs.pop("n_needed", None)
        table.attrs.update(judge_nonlinearity(table, smallest_gain=smallest_gain))
    return table


def _carried(table: pd.DataFrame, without: pd.DataFrame | None, smallest_gain: float) -> str:
    """Return what the table would say without the trials of an enormous bin; empty where it would say the same."""
    if without is None:
        word = UNDECIDED
        return f"without whose trial it would be {word!r}" if table.attrs.get("nonlinear", word) != word else ""
    said = judge_nonlinearity(without, smallest_gain=smallest_gain)  # nothing where the model is itself linear
    if said.get("nonlinear") != table.attrs.get("nonlinear"):
        return f"without whose trial it would be {said['nonlinear']!r}"
    # the differences themselves: what is beyond their error, and more than counts, is of that bin
    linear = without.index[without["is_linear"].to_numpy(bool)]
    rows, others = table.loc[linear], without.loc[linear]
    moved = (rows["model_above"] - others["model_above"]).abs()
    far = moved > np.maximum(said.get("smallest_gain", 0.0), 2 * others["standard_error"])
    if not far.any():
        return ""
    name = moved.where(far).idxmax()
    change = f"{others['model_above'][name]:+.3g} instead of {rows['model_above'][name]:+.3g}"
    return f"without whose trial the model would score {change} nats per bin from {named_row(str(name))}"


def _kept(scores: xr.Dataset) -> np.ndarray:
    """Return which trials were held out for every model, and observed."""
    values = scores["log_likelihood"].transpose("model", "trial").values
    keep = np.isfinite(values).all(axis=0) & (scores["n_bins"].values > 0)
    if not keep.any():
        raise ValueError("cv: no trial was held out for every model; check the folds")
    return keep


def _with_numbers(scores: xr.Dataset) -> xr.Dataset:
    """Return the scores without linear models that give no held-out trial a number: they forbid a verdict."""
    numbers = np.isfinite(scores["log_likelihood"].transpose("model", "trial").values).any(axis=1)
    needed = numbers | ~scores["is_linear"].values.astype(bool) | (scores["model"].values == REFERENCE)
    if needed.all():
        return scores
    names = [str(name) for name in scores["model"].values[~needed]]
    reasons = as_list(scores.attrs.get("forbidden", []))
    reasons.append(f"{', '.join(names)} gave no held-out trial a finite score")
    ranks = [rank for rank in as_list(scores.attrs.get("linear_ranks", [])) if state_space_name(rank) not in names]
    return scores.isel(model=needed).assign_attrs(forbidden=reasons, linear_ranks=ranks)


def rows_of(scores: xr.Dataset) -> pd.DataFrame:
    """Return the table without its verdict."""
    scores = scores.isel(trial=_kept(scores))
    values, bins, over = _independent(scores)
    names = [str(name) for name in scores["model"].values]
    per_bin = values.sum(axis=1) / bins.sum()
    table = pd.DataFrame({"log_likelihood": per_bin}, index=pd.Index(names, name="model"))
    reference = names.index(REFERENCE)
    table["vs_mean_rate"] = per_bin - per_bin[reference]
    gains = [over.paired(row) for row in values - values[reference]]
    table["gain_low"], table["gain_high"] = [gain.low for gain in gains], [gain.high for gain in gains]
    attrs: dict[str, Any] = {str(key): value for key, value in scores.attrs.items()} | {
        "n_trials": len(bins),
        "n_bins": int(bins.sum()),
    }
    attrs["n_copies"] = scores.sizes["trial"] - len(bins)
    if "n_spikes" in scores:
        spikes = float(scores["n_spikes"].values.sum()) / bins.sum()
        table["bits_per_spike"] = table["vs_mean_rate"] / (np.log(2) * spikes) if spikes > 0 else np.nan
        attrs["spikes_per_bin"] = spikes
    paired = [over.paired(row) for row in values[-1] - values]
    for column, numbers in zip(
        ("model_above", "standard_error", "low", "high"), zip(*(p.numbers for p in paired), strict=True), strict=True
    ):
        table[column] = numbers
    table["n_blocks"] = [p.n_blocks for p in paired]
    table["interval_holds"] = [p.interval_holds for p in paired]
    for column in ("scored_by", "is_linear", "has_latents", "at_floor"):
        table[column] = scores[column].values.tolist()
    table["is_outdone"] = _outdone(names, values, over, as_list(attrs["linear_ranks"]))
    attrs["interval_over"] = over.kind
    attrs["n_blocks"] = min(p.n_blocks for p in paired)
    attrs["block_length"] = max(p.block_length for p in paired)
    table.attrs.update(attrs)
    return table


@dataclass(frozen=True)
class _Over:
    """What intervals are over: "trials", "blocks" with their ids, or "windows" with their positions."""

    kind: str
    places: np.ndarray | None
    bins: np.ndarray

    def paired(self, difference: np.ndarray) -> Paired:
        """Return a paired difference (trial,) per bin with its interval."""
        if self.kind == "windows" and self.places is not None:
            return paired_over_windows(difference, self.bins, self.places)
        return paired_over_blocks(difference, self.bins, self.places)


def _independent(scores: xr.Dataset) -> tuple[np.ndarray, np.ndarray, _Over]:
    """Return scores (model, trial) and bins (trial,), and what intervals are over.

    Copies of a trial are summed into one, at the place of the first: they tell what one of them tells.
    """
    values = scores["log_likelihood"].transpose("model", "trial").values
    ids = scores["copy"].values if "copy" in scores.coords else np.arange(values.shape[1])
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first, kind="stable"))[which.ravel()]  # in the order of the trials
    values = np.stack([np.bincount(order, row) for row in values])
    bins = np.bincount(order, scores["n_bins"].values.astype(float))
    for kind, coordinate in (("windows", "position"), ("blocks", "block")):
        if coordinate in scores.coords:
            return values, bins, _Over(kind, scores[coordinate].values[np.sort(first)], bins)
    return values, bins, _Over("trials", None, bins)


def _outdone(names: list[str], values: np.ndarray, over: _Over, ranks: list[int]) -> list[bool]:
    """Return which rows are linear state spaces clearly below one of smaller rank, by an interval wholly below 0."""
    row_of = {rank: names.index(state_space_name(rank)) for rank in sorted(set(ranks))}
    outdone = [False] * len(names)
    for rank, row in row_of.items():
        smaller = [values[other] for r, other in row_of.items() if r < rank]
        outdone[row] = any(over.paired(values[row] - sibling).high < 0 for sibling in smaller)
    return outdone
