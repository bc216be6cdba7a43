"""`split_trials`: whole trials for training and for testing."""

from __future__ import annotations

import numbers
from typing import Any, overload

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

from nwb_lrrnn.trials import is_list_of_trials
from nwb_lrrnn.trials.same_kind import SameKind


@overload
def split_trials(
    X: SameKind, test_fraction: float = 0.25, *, groups: Any = None, random_state: Any = None
) -> tuple[SameKind, SameKind]: ...
@overload
def split_trials(
    X: Any, test_fraction: float = 0.25, *, groups: Any = None, random_state: Any = None
) -> tuple[Any, Any]: ...
def split_trials(
    X: Any, test_fraction: float = 0.25, *, groups: Any = None, random_state: Any = None
) -> tuple[Any, Any]:
    """Return (train, test): X split by whole trials drawn at random, both in the kind of X and in its order of trials.

    Parameters
    ----------
    X : DataArray (trial, time, unit), 3-D array, or list of 2-D trials
        `chop` makes trials of one long recording. Coordinates of trials go with them; lazy arrays stay lazy.
    test_fraction : float
        Rectangle of the trials (with `groups`: of the groups) in the test set, in (0, 1), rounded up.
    groups : array-like (trial,) or str, optional
        Trials of one group stay together, for instance those of a block or a reach target; text is the name of a
        coordinate of X along trials.
    random_state : int, RandomState or None
        The same seed gives the same split, also of inputs that have the same trials.

    Raises
    ------
    TypeError, ValueError
        If X has no trials or fewer than two (groups), or an argument is not as described.

    Examples
    --------
    >>> train, test = split_trials(np.zeros((8, 50, 3)), random_state=0)
    >>> train.shape, test.shape
    ((6, 50, 3), (2, 50, 3))
    """
    n_trials = _n_trials(X)
    if not isinstance(test_fraction, numbers.Real) or isinstance(test_fraction, bool) or not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: got {test_fraction!r}, wanted a fraction in (0, 1), e.g. test_fraction=0.25")
    labels = None if groups is None else _labels(X, groups, n_trials)
    n = n_trials if labels is None else len(np.unique(labels))
    what = "trials" if labels is None else "groups"
    if n < 2:
        raise ValueError(f"X: got {n} {what[:-1]}, wanted at least 2 {what}, one for each side of the split")
    n_test = min(int(np.ceil(test_fraction * n - 1e-9)), n - 1)
    splitter = ShuffleSplit if labels is None else GroupShuffleSplit
    split = splitter(1, test_size=n_test, train_size=n - n_test, random_state=random_state)
    train, test = next(split.split(np.zeros(n_trials), groups=labels))
    return _take(X, np.sort(train)), _take(X, np.sort(test))


def _n_trials(X: Any) -> int:
    if is_list_of_trials(X):
        return len(X)
    if isinstance(X, xr.Dataset):
        raise TypeError(f"X: got a Dataset of {list(X.data_vars)}, wanted one DataArray; pass X['name']")
    ndim = getattr(X, "ndim", None)
    if isinstance(X, xr.DataArray):
        if ndim == 3 and X.dims[0] == "trial":
            return X.sizes["trial"]
        raise ValueError(f"X: got dims {X.dims}, wanted ('trial', 'time', 'unit'); chop(X, duration) makes trials")
    if ndim == 3:
        return X.shape[0]
    shape = getattr(X, "shape", None) or np.shape(X)
    raise ValueError(f"X: got shape {shape}, wanted (trial, time, unit) or a list; chop(X, duration) makes trials")


def _labels(X: Any, groups: Any, n_trials: int) -> NDArray:
    """Return the group of each trial."""
    if isinstance(groups, str):
        coords = X.coords if isinstance(X, xr.DataArray) else {}
        known = [str(name) for name, c in coords.items() if c.dims == ("trial",)]
        if groups not in known:
            listed = ", ".join(map(repr, known)) or "none: X has no such coordinates; pass one value for each trial"
            raise ValueError(f"groups: got {groups!r}, wanted a coordinate along trials: {listed}")
        groups = X[groups].values
    labels = np.asarray(groups)
    if labels.shape != (n_trials,):
        raise ValueError(f"groups: got shape {labels.shape}, wanted ({n_trials},), one value for each trial")
    return np.unique(labels, return_inverse=True)[1]


def _take(X: Any, index: NDArray[np.intp]) -> Any:
    if isinstance(X, xr.DataArray):
        return X.isel(trial=index)
    if is_list_of_trials(X):
        return [X[k] for k in index]
    return X[index]
