"""What is fitted and what is held out: trials or windows of one recording, in folds or as a whole.

A comparison makes one `Split` and hands it on: it fits models to what each fold leaves, and scores them on the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from nwb_lrrnn.preprocessing import choose_window, chop
from nwb_lrrnn.trials import as_trials

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel

logger = logging.getLogger(__name__)

_WINDOWS = 50  # a 2-D recording without a window length is cut into this many, if they are long enough for its dynamics
_WANTED = "wanted a number of folds, a splitter, (train, test) pairs, or 'prefit'"


@dataclass(frozen=True)
class Split:
    """The trials, and which of them are fitted and held out in each fold.

    Attributes
    ----------
    X, inputs : like X of `fit`
        The trials that are held out in some fold.
    X_train, inputs_train : like X of `fit`, or None
        What is fitted where X is held out as a whole.
    folds : list of (train, test), or None
        None: X is held out as a whole.
    positions : array (trial,), int, or None
        Where windows of one recording lie in the session, counted in windows; None for trials.
    blocks : array (trial,), int, or None
        Ids of the blocks over which intervals are taken, where any are given.
    """

    X: Any
    inputs: Any
    X_train: Any
    inputs_train: Any
    folds: list[Any] | None
    positions: np.ndarray | None
    blocks: np.ndarray | None

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return 1 if self.folds is None else len(self.folds)

    def train(self, fold: int) -> tuple[Any, Any]:
        """Return what a model is fitted to, and its inputs."""
        if self.folds is None:
            return self.X_train, self.inputs_train
        return take(self.X, self.folds[fold][0]), take(self.inputs, self.folds[fold][0])

    def test(self, fold: int) -> tuple[Any, Any]:
        """Return what a model is scored on, and its inputs."""
        return take(self.X, self.held_out(fold)), take(self.inputs, self.held_out(fold))

    def held_out(self, fold: int) -> Any:
        """Return the index of the trials that are held out."""
        return slice(None) if self.folds is None else self.folds[fold][1]

    def fit(self, unfitted: LatentModel, smaller: Sequence[Any] | None = None) -> list[LatentModel]:
        """Return clones of a model, each fitted to what one fold leaves; from smaller ones, where they are given."""
        fitted = []
        for fold in range(self.n_folds):
            X, inputs = self.train(fold)
            model: Any = clone(unfitted)
            if smaller is not None:
                model.start_from(smaller[fold])
            fitted.append(model.fit(X, **_inputs_as_keyword(inputs)))
        return fitted

    def score(self, fitted: Sequence[LatentModel]) -> np.ndarray:
        """Return ln p of the held-out trials (trial,) under fitted models, one for each fold; NaN of the others."""
        row = np.full(len(self.X), np.nan)
        for fold, model in enumerate(fitted):
            X, inputs = self.test(fold)
            row[self.held_out(fold)] = model.score_trials(X, **_inputs_as_keyword(inputs)).values
        return row


def split(
    X: Any,
    inputs: Any = None,
    *,
    cv: Any = 5,
    groups: Any = None,
    blocks: Any = None,
    X_train: Any = None,
    inputs_train: Any = None,
    window: float | None = None,
    random_state: int | None = 0,
) -> Split:
    """Return the split that arguments described at `compare_baselines` ask for."""
    is_cut = getattr(X, "ndim", None) == 2
    if (
        isinstance(cv, str) and window is None and getattr(X_train, "ndim", None) == 2
    ):  # windows of one length, chosen where the fit sees them
        window = window_of(X_train)
    X, inputs = as_windows(X, inputs, window)
    n_trials = len(X)
    positions = np.arange(n_trials) if is_cut else session_positions(X)
    folds = None
    if isinstance(cv, str):
        _check_prefit(cv, X_train)
        X_train, inputs_train = as_windows(X_train, inputs_train, window)
    else:
        folds, X_train, inputs_train = folds_of(cv, n_trials, groups, positions, random_state), None, None
    return Split(X, inputs, X_train, inputs_train, folds, positions, _block_ids(n_trials, blocks, groups))


def as_windows(X: Any, inputs: Any, window: float | None) -> tuple[Any, Any]:
    """Return X and inputs as trials: a 2-D recording is cut into windows, everything else stays."""
    if getattr(X, "ndim", None) != 2:
        return X, inputs
    window = window_of(X) if window is None else window
    cut = chop(X, window)
    return cut, None if inputs is None else chop(inputs, window)


def window_of(X: Any) -> float:
    """Return the length of windows that a 2-D recording is cut into, seconds (bins where that is unknown)."""
    trials = as_trials(X[:2], allow_nan=True)
    choice = choose_window(X, _WINDOWS)
    size, unit = (trials.bin_size, "s") if trials.bin_size_is_known else (1.0, "bins")
    logger.info("windows of %.4g %s: %s", choice.length * size, unit, choice.reason(size, unit))
    return choice.length * size


def session_positions(X: Any) -> np.ndarray | None:
    """Return where the trials lie in the session, counted in windows, if they are windows of one recording; else None.

    Windows are what `chop` made, and trials most of which begin where (within a bin), or before, the last one ends. A
    gap counts as the windows that would fit.

    Parameters
    ----------
    X : like X of `fit`
        Only a DataArray with the coordinate `align_time` (trial) can tell.

    Examples
    --------
    >>> windows = chop(np.zeros((60, 3)), 10)
    >>> session_positions(windows)
    array([0, 1, 2, 3, 4, 5])
    >>> session_positions(windows[[4, 0, 1]])
    array([4, 0, 1])
    """
    if not (isinstance(X, xr.DataArray) and X.dims[:2] == ("trial", "time") and "align_time" in X.coords):
        return None
    if X["align_time"].dims != ("trial",):
        return None
    step = _bin_size(X)
    starts = np.asarray(X["align_time"].values, dtype=np.float64)
    if not np.isfinite(starts).all():
        return None
    duration = X.sizes["time"] * step
    order = np.argsort(starts, kind="stable")
    steps = np.diff(starts[order])
    abut = (steps > 0) & (steps <= duration + step * (1 + 1e-6))  # trials that all begin at 0 tell nothing
    if "dropped_bins" not in X.attrs and not (len(steps) and abut.mean() > 0.5):  # `chop` leaves the first
        return None
    moves = np.maximum(1, np.round(steps / duration)).astype(np.int64)
    positions = np.empty(len(starts), dtype=np.int64)
    positions[order] = np.concatenate([[0], np.cumsum(moves)])
    return positions


def _bin_size(X: xr.DataArray) -> float:
    """Return seconds a bin, without a look at the values, which may lie on a disk; 1 where nothing says."""
    if "bin_size" in X.attrs:
        return float(X.attrs["bin_size"])
    if "time" in X.coords and X.sizes["time"] > 1:
        return float(np.median(np.diff(X["time"].values)))
    return 1.0


def take(X: Any, index: Any) -> Any:
    """Return some trials of X, in the kind of X."""
    if X is None or isinstance(index, slice):
        return X
    if isinstance(X, xr.DataArray):
        return X.isel(trial=index)
    return [X[k] for k in index] if isinstance(X, (list, tuple)) else np.asarray(X)[index]


def folds_of(cv: Any, n_trials: int, groups: Any, positions: np.ndarray | None, random_state: int | None) -> list[Any]:
    """Return the (train, test) pairs; windows of one recording are held out in stretches, because neighbours leak."""
    from sklearn.model_selection import GroupKFold, KFold

    splitter: Any = cv
    order = np.arange(n_trials)
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        if not 2 <= cv <= n_trials:
            raise ValueError(
                f"cv: got {cv} folds for {n_trials} trials, wanted 2 to {n_trials}; chop a long recording into trials"
            )
        if groups is not None:
            splitter = GroupKFold(int(cv))
        elif positions is not None:
            splitter, order = KFold(int(cv)), np.argsort(positions, kind="stable")
        else:
            splitter = KFold(int(cv), shuffle=True, random_state=random_state)
    if hasattr(splitter, "split"):
        pairs = splitter.split(np.zeros(n_trials), groups=groups)
        return [(order[train], order[test]) for train, test in pairs]
    if not isinstance(cv, Iterable) or not (cv := list(cv)):
        raise ValueError(f"cv: got {cv!r}, {_WANTED}")
    return cv


def _block_ids(n_trials: int, blocks: Any, groups: Any) -> np.ndarray | None:
    """Return the ids of the blocks over which intervals are taken, or None where none are given."""
    name, ids = ("blocks", blocks) if blocks is not None else ("groups", groups)
    if ids is None:
        return None
    ids = np.asarray(ids)
    if ids.shape != (n_trials,):
        raise ValueError(f"{name}: got shape {ids.shape}, wanted ({n_trials},), one id for each trial of X")
    return np.unique(ids, return_inverse=True)[1]


def _inputs_as_keyword(inputs: Any) -> dict[str, Any]:
    """Return the keyword for inputs; none where there are none."""
    return {} if inputs is None else {"inputs": inputs}


def _check_prefit(cv: str, X_train: Any) -> None:
    if cv != "prefit":
        raise ValueError(f"cv: got {cv!r}, {_WANTED}")
    if X_train is None:
        raise ValueError("X_train: got None with cv='prefit', wanted the data the model was fitted to")
