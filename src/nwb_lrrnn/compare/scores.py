"""Held-out scores: each model fitted to the training trials of each fold and scored on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from nwb_lrrnn.compare import baselines
from nwb_lrrnn.compare.split import Split, split
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.trials import as_trials


def held_out_scores(
    model: Any,
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
    others: Mapping[str, Any] | None = None,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return `log_likelihood` (model, trial) of every held-out trial in nats, `n_bins` and `n_spikes` (trial,).

    The arguments are those of `compare_baselines`, which makes a table of this. Coordinates of the models: `scored_by`
    (which estimator) and `is_linear`; of the trials: `block`, the given blocks or groups, or `position` in the session,
    counted in windows, of windows of one recording.

    Raises
    ------
    ValueError
        As `compare_baselines`.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((6, 20, 4)).cumsum(axis=1)
    >>> scores = held_out_scores(LinearStateSpace(rank=1, tol=1e-1), X, cv=2, larger_ranks=())
    >>> dict(scores.sizes)
    {'model': 4, 'trial': 6}
    """
    parts = split(
        model,
        X,
        inputs,
        cv=cv,
        groups=groups,
        X_train=X_train,
        inputs_train=inputs_train,
        window=window,
        random_state=random_state,
    )
    block = _blocks(len(parts.X), blocks, groups)
    if parts.folds is None:
        fitted = [model]
    else:
        fitted = [baselines.fit(clone(model), *parts.train(k)) for k in range(parts.n_folds)]
    scores = _Scores(parts, fitted)
    own = scores.of(fitted)
    _score_baselines(scores, own, larger_ranks, random_state)
    for name, other in (others or {}).items():
        scores.add_other(name, other)
    scores.add(baselines.label(fitted[0]), fitted, fitted, own)
    return scores.to_dataset(block)


class _Scores:
    """The rows of the table so far: a score for each trial, and who gave it."""

    def __init__(self, parts: Split, fitted: list[Any]):
        self.parts = parts
        self.fitted = fitted  # the compared model, once for each fold
        self.rows: dict[str, np.ndarray] = {}
        self.scored_by: list[str] = []
        self.is_linear: list[bool] = []
        self.linear_ranks: list[int] = []

    def of(self, scorers: list[Any]) -> np.ndarray:
        """Return the scores (trial,) of fitted estimators, one for each fold."""
        row = np.full(len(self.parts.X), np.nan)
        for k, scorer in enumerate(scorers):
            held, inputs = self.parts.test(k)
            row[self.parts.held_out(k)] = scorer.score_trials(held, **baselines.inputs_as_keyword(inputs)).values
        return row

    def add(self, name: str, models: list[Any], scorers: list[Any], row: np.ndarray) -> None:
        """Add the row of fitted models that the scorers gave."""
        self.rows[name] = row
        self.scored_by.append(baselines.scorer_name(scorers[0]))
        self.is_linear.append(all(map(baselines.is_linear, models)))

    def add_baseline(self, name: str, unfitted: Any) -> float:
        """Fit and add a baseline; return the sum of its scores."""
        models = [baselines.fit_quietly(name, clone(unfitted), *self.parts.train(k)) for k in range(self.parts.n_folds)]
        scorers = models
        if type(unfitted) is LinearStateSpace:
            scorers = [baselines.scorer_of(*pair) for pair in zip(models, self.fitted, strict=True)]
            self.linear_ranks.append(int(unfitted.rank))
        self.add(name, models, scorers, self.of(scorers))
        return float(np.nansum(self.rows[name]))

    def add_other(self, name: str, other: Any) -> None:
        """Fit and add a model that the user gave."""
        if name in self.rows or name == baselines.label(self.fitted[0]):
            raise ValueError(f"others: the name {name!r} is in the table already; give the other model another name")
        models = [baselines.fit(clone(other), *self.parts.train(k)) for k in range(self.parts.n_folds)]
        for fitted, model in zip(models, self.fitted, strict=True):
            baselines.check_comparable(name, fitted, model)
        self.add(name, models, models, self.of(models))

    def to_dataset(self, block: np.ndarray | None) -> xr.Dataset:
        """Return what `held_out_scores` returns."""
        X, model = self.parts.X, self.fitted[0]
        trials = as_trials(X, allow_nan=True)
        named = isinstance(X, xr.DataArray) and "trial" in X.coords
        variables: dict[str, Any] = {
            "log_likelihood": (("model", "trial"), np.stack(list(self.rows.values())), {"units": "nats"}),
            "n_bins": ("trial", trials.bins.sum(axis=1)),
        }
        if model.likelihood_ != "gaussian":
            variables["n_spikes"] = ("trial", trials.values.sum(axis=(1, 2)))
        coords: dict[str, Any] = {
            "model": list(self.rows),
            "trial": X["trial"].values if named else np.arange(len(X)),
            "scored_by": ("model", self.scored_by),
            "is_linear": ("model", self.is_linear),
        }
        if block is not None:
            coords["block"] = ("trial", block)
        elif self.parts.positions is not None:
            coords["position"] = ("trial", self.parts.positions)
        attrs = {
            "likelihood": model.likelihood_,
            "link": baselines.link_of(model),
            "bin_size": float(model.bin_size_),
            "rank": baselines.rank_of(model),
            "n_units": len(model.unit_ids_),
            "linear_ranks": self.linear_ranks,
        }
        return xr.Dataset(variables, coords, attrs)


def _score_baselines(
    scores: _Scores, own: np.ndarray, larger_ranks: Sequence[int] | None, random_state: int | None
) -> None:
    """Add the baselines; without given ranks, linear state spaces of twice the rank until their score does not rise."""
    model = scores.fitted[0]
    totals = {
        name: scores.add_baseline(name, baseline)
        for name, baseline in baselines.baselines_of(model, larger_ranks, random_state).items()
    }
    if larger_ranks is not None:
        return
    rank = baselines.same_rank(model)
    best = totals.get(
        baselines.state_space_name(rank), float(np.nansum(own))
    )  # without one, the model is itself linear
    while (larger := baselines.next_rank(rank, model)) is not None:
        rank = larger
        baseline = baselines.state_space_of(model, rank, random_state)
        total = scores.add_baseline(baselines.state_space_name(rank), baseline)
        if not total > best:
            break
        best = total


def _blocks(n_trials: int, blocks: Any, groups: Any) -> np.ndarray | None:
    """Return the ids of the blocks over which intervals are taken, or None where none are given."""
    name, ids = ("blocks", blocks) if blocks is not None else ("groups", groups)
    if ids is None:
        return None
    ids = np.asarray(ids)
    if ids.shape != (n_trials,):
        raise ValueError(f"{name}: got shape {ids.shape}, wanted ({n_trials},), one id for each trial of X")
    return np.unique(ids, return_inverse=True)[1]
