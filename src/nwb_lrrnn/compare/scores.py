"""Held-out scores: each model fitted to the training trials of each fold and scored on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.compare import baselines
from nwb_lrrnn.compare.judgeable import Findings, findings, units_at_floor
from nwb_lrrnn.compare.split import Split, split
from nwb_lrrnn.models.failures import NotFiniteError
from nwb_lrrnn.models.linear import LinearStateSpace

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel


def held_out_scores(
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
) -> xr.Dataset:
    """Return `log_likelihood` (model, trial) of every held-out trial in nats, `n_bins` and `n_spikes` (trial,).

    The arguments are those of `compare_baselines`, which makes a table of this. Coordinates of the models: `scored_by`
    (which estimator), `is_linear`, `has_latents` and `at_floor` (units whose noise or rate sits at its floor, as a
    text); of the trials: `copy`, a number that copies of one trial share, `extreme`, the enormous bin that a trial has
    (empty: none), and `block`, the given blocks or groups, or `position` in the session, counted in windows, of windows
    of one recording. Attrs: `forbidden`, what in the data allows no verdict, `notes`, `left_out`, units in no score.

    Raises
    ------
    ValueError
        As `compare_baselines`.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((6, 20, 4)).cumsum(axis=1)
    >>> scores = held_out_scores(LinearStateSpace(rank=1, tol=1e-1), X, cv=2, larger_ranks=())
    >>> dict(scores.sizes)
    {'model': 5, 'trial': 6}
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
    return scores_on(held_out, model, larger_ranks, others, random_state)


def scores_on(
    held_out: Split,
    model: LatentModel,
    larger_ranks: Sequence[int] | None,
    others: Mapping[str, LatentModel] | None,
    random_state: int | None,
) -> xr.Dataset:
    """Return what `held_out_scores` returns, of a split already made; the seed is that of particle noise."""
    if held_out.folds is None:
        check_is_fitted(model)
    fitted = [model] if held_out.folds is None else held_out.fit(model)
    scores = _Scores(held_out, fitted, findings(held_out, fitted))
    own = held_out.score(fitted)
    _score_baselines(scores, own, larger_ranks, random_state)
    for name, other in (others or {}).items():
        scores.add_other(name, other)
    scores.add(baselines.label(fitted[0]), fitted, fitted, own)
    return scores.to_dataset()


class _Scores:
    """The rows of the table so far: a score for each trial, and who gave it."""

    def __init__(self, held_out: Split, fitted: list[LatentModel], found: Findings):
        self.held_out = held_out
        self.found = found
        self.fitted = fitted  # the compared model, once for each fold
        self.rows: dict[str, np.ndarray] = {}
        self.scored_by: list[str] = []
        self.is_linear: list[bool] = []
        self.has_latents: list[bool] = []
        self.at_floor: list[str] = []
        self.linear_ranks: list[int] = []
        self.linear_fits: dict[int, list[LatentModel]] = {}  # rank -> once for each fold

    def add(self, name: str, models: list[LatentModel], scorers: list[LatentModel], row: np.ndarray) -> None:
        """Add the row of fitted models that the scorers gave."""
        self.rows[name] = row
        self.scored_by.append(baselines.scorer_name(scorers[0]))
        self.is_linear.append(all(map(baselines.is_linear, models)))
        self.has_latents.append(baselines.has_latents(models[0]))
        self.at_floor.append(units_at_floor(models))

    def add_baseline(self, name: str, unfitted: LatentModel) -> float:
        """Fit and add a baseline; return the sum of its scores."""
        try:
            with baselines.convergence_in_the_log(name):
                models = self.held_out.fit(unfitted, self._contained(unfitted))
        except (np.linalg.LinAlgError, ValueError) as error:
            if not self.found.forbidden:
                raise
            reasons = "; ".join(self.found.forbidden)
            raise ValueError(f"X: {name} cannot be fitted, and nothing could be judged: {reasons}") from error
        scorers = models
        if type(unfitted) is LinearStateSpace:
            scorers = [baselines.scorer_of(*pair) for pair in zip(models, self.fitted, strict=True)]
            self.linear_ranks.append(int(unfitted.rank))
            self.linear_fits[int(unfitted.rank)] = models
        try:
            row = self.held_out.score(scorers)
        except NotFiniteError:
            if not self.found.forbidden:
                raise
            row = np.full(len(self.held_out.X), np.nan)
        self.add(baselines.fitted_name(name, models), models, scorers, row)
        return float(np.nansum(row))

    def _contained(self, unfitted: LatentModel) -> list[LatentModel] | None:
        """Return the fitted linear state spaces of the next smaller rank, from which a larger one starts.

        Where the compared model is one itself, it is the smallest.
        """
        if type(unfitted) is not LinearStateSpace:
            return None
        fits = dict(self.linear_fits)
        if type(self.fitted[0]) is LinearStateSpace:
            fits[int(self.fitted[0].rank)] = self.fitted
        smaller = [rank for rank in fits if rank < unfitted.rank]
        return fits[max(smaller)] if smaller else None

    def add_other(self, name: str, other: LatentModel) -> None:
        """Fit and add a model that the user gave."""
        if name in self.rows or name == baselines.label(self.fitted[0]):
            raise ValueError(f"others: the name {name!r} is in the table already; give the other model another name")
        models = self.held_out.fit(other)
        for fitted, model in zip(models, self.fitted, strict=True):
            baselines.check_comparable(name, fitted, model)
        self.add(name, models, models, self.held_out.score(models))

    def to_dataset(self) -> xr.Dataset:
        """Return what `held_out_scores` returns."""
        X, model = self.held_out.X, self.fitted[0]
        found = self.found
        named = isinstance(X, xr.DataArray) and "trial" in X.coords
        variables: dict[str, Any] = {
            "log_likelihood": (("model", "trial"), np.stack(list(self.rows.values())), {"units": "nats"}),
            "n_bins": ("trial", found.n_bins),
        }
        if model.likelihood_ != "gaussian":
            variables["n_spikes"] = ("trial", found.n_spikes)
        coords: dict[str, Any] = {
            "model": list(self.rows),
            "trial": X["trial"].values if named else np.arange(len(X)),
            "scored_by": ("model", self.scored_by),
            "is_linear": ("model", self.is_linear),
            "has_latents": ("model", self.has_latents),
            "at_floor": ("model", self.at_floor),
            "copy": ("trial", found.copies),
            "extreme": ("trial", found.extreme.astype(str)),
        }
        if self.held_out.blocks is not None:
            coords["block"] = ("trial", self.held_out.blocks)
        elif self.held_out.positions is not None:
            coords["position"] = ("trial", self.held_out.positions)
        attrs = {
            "likelihood": model.likelihood_,
            "link": baselines.link_of(model),
            "bin_size": float(model.bin_size_),
            "rank": baselines.rank_of(model),
            "n_units": baselines.n_scored(model),
            "linear_ranks": self.linear_ranks,
            "forbidden": found.forbidden,
            "notes": found.notes,
            "left_out": found.left_out,
            "stayed_linear": int(all(getattr(model, "stayed_linear_", False) for model in self.fitted)),
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
