"""Does a model beat the simple ones? Held-out log-likelihoods of a model and its baselines on the same trials."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace, MeanRate, VectorAutoregression
from nwb_lrrnn.preprocessing import chop
from nwb_lrrnn.trials import as_trials

logger = logging.getLogger("nwb_lrrnn")

REFERENCE = "mean rate"
_WINDOWS = 50  # a 2-D recording without a window length is cut into this many


def compare_baselines(
    model: Any,
    X: Any,
    *,
    cv: Any = 5,
    inputs: Any = None,
    groups: Any = None,
    X_train: Any = None,
    inputs_train: Any = None,
    window: float | None = None,
    larger_ranks: Sequence[int] | None = None,
    others: Mapping[str, Any] | None = None,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Return a table of held-out log-likelihoods: mean rate, factor analysis, VAR, linear state spaces and the model.

    All have the likelihood and the link of the model and see the same trials. Differences are paired over trials.

    Parameters
    ----------
    model : estimator
        Cloned and fitted on the training trials of each fold; with `cv="prefit"`, fitted already and taken as it is.
    X : like X of `fit`
        Trials; one long recording (2-D) is cut into windows first, and blocks of neighbouring windows are held out.
    cv : int, splitter, iterable of (train, test), or "prefit"
        Folds over trials. "prefit": X is held out, and the baselines are fitted to `X_train`.
    inputs, inputs_train : like X with `input` in place of `unit`, optional
        Inputs of X and X_train; mean rate, factor analysis and VAR do not use them.
    groups : array (trial,), optional
        Trials of one group stay in one fold.
    X_train : like X, optional
        Where `cv="prefit"`: what the model was fitted to.
    window : float, optional
        Length of the windows of a 2-D recording, seconds (bins where the bin size is unknown); default a fiftieth.
    larger_ranks : tuple of int, optional
        Ranks of further linear state-space models; None: twice the model's rank, where there are units enough.
    others : dict of name -> estimator, optional
        More models for the same table, fitted like the model.
    random_state : int or None
        Seed of the folds (trials are shuffled, windows of one recording are not) and of particle noise.

    Returns
    -------
    DataFrame
        One row a model: `log_likelihood` (nats per observed bin), `vs_mean_rate`, for counts `bits_per_spike` (over
        mean rate), `vs_model` (this row minus the model, nats per bin) with `standard_error`, `low` and `high` (its
        95 % interval over trials). `attrs` hold likelihood, link, n_trials, n_bins and, for counts, spikes_per_bin.

    Raises
    ------
    ValueError
        If another model has another likelihood, if trials are too few for the folds, or if `cv="prefit"` lacks its
        training data or its fitted model.

    Examples
    --------
    >>> X = np.random.default_rng(0).standard_normal((20, 30, 5)).cumsum(axis=1)
    >>> table = compare_baselines(LinearStateSpace(rank=2, tol=1e-2), X, cv=2, larger_ranks=())
    >>> list(table.index[:3])
    ['mean rate', 'factor analysis (rank 2)', 'VAR(1)']
    """
    scores = held_out_scores(
        model,
        X,
        cv=cv,
        inputs=inputs,
        groups=groups,
        X_train=X_train,
        inputs_train=inputs_train,
        window=window,
        larger_ranks=larger_ranks,
        others=others,
        random_state=random_state,
    )
    return tabulate(scores)


def held_out_scores(
    model: Any,
    X: Any,
    *,
    cv: Any = 5,
    inputs: Any = None,
    groups: Any = None,
    X_train: Any = None,
    inputs_train: Any = None,
    window: float | None = None,
    larger_ranks: Sequence[int] | None = None,
    others: Mapping[str, Any] | None = None,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return `log_likelihood` (model, trial) of every held-out trial in nats, `n_bins` and `n_spikes` (trial,).

    The arguments are those of `compare_baselines`, which makes a table of this.
    """
    blocks = getattr(X, "ndim", None) == 2
    X, inputs = _as_windows(X, inputs, window)
    n_trials = _count(X)
    prefit = isinstance(cv, str)
    if prefit:
        folds = _prefit(cv, model, X_train)
        X_train, inputs_train = _as_windows(X_train, inputs_train, window)
    else:
        folds = _folds(cv, n_trials, groups, blocks, random_state)
    scores: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {}
    for train, test in folds:
        seen, held = (X_train, X) if prefit else (_take(X, train), _take(X, test))
        u_seen, u_held = (inputs_train, inputs) if prefit else (_take(inputs, train), _take(inputs, test))
        fitted = model if prefit else _fit(clone(model), seen, u_seen)
        about = {"likelihood": fitted.likelihood_, "link": _link(fitted), "bin_size": float(fitted.bin_size_)}
        models = baselines_of(fitted, larger_ranks, random_state)
        models = {name: _fit_quietly(name, other, seen, u_seen) for name, other in models.items()}
        for name, other in (others or {}).items():
            models[name] = _fit(clone(other), seen, u_seen)
            _check_likelihood(name, models[name], fitted)
        models[_label(fitted)] = fitted
        for name, other in models.items():
            row = scores.setdefault(name, np.full(n_trials, np.nan))
            row[slice(None) if prefit else test] = other.score_trials(held, **_inputs(other, u_held)).values
    return _dataset(scores, X, about)


def baselines_of(model: Any, larger_ranks: Sequence[int] | None = None, random_state: int | None = 0) -> dict[str, Any]:
    """Return the unfitted baselines of a fitted model by name, with its likelihood, link, rank and bin size."""
    rank, n_units = int(model.dynamics_.rank), len(model.unit_ids_)
    shared: dict[str, Any] = {"likelihood": model.likelihood_, "bin_size": float(model.bin_size_)}
    linked: dict[str, Any] = shared | {"link": _link(model)}
    largest = min(rank, n_units)
    ranks = (2 * rank,) if larger_ranks is None else tuple(larger_ranks)
    ranks = [r for r in ranks if r <= n_units] if larger_ranks is None else list(ranks)
    models: dict[str, Any] = {REFERENCE: MeanRate(**shared)}
    models[f"factor analysis (rank {largest})"] = FactorAnalysis(largest, **linked, random_state=random_state)
    models["VAR(1)"] = VectorAutoregression(1, **linked)
    if type(model) is not LinearStateSpace:
        ranks = [largest, *ranks]
    for r in ranks:
        models[f"linear state space (rank {r})"] = LinearStateSpace(r, **linked, random_state=random_state)
    return models


def tabulate(scores: xr.Dataset) -> pd.DataFrame:
    """Return the table of `compare_baselines` from per-trial scores."""
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
    paired = [paired_difference(row, values[-1], bins) for row in values]
    for column, numbers in zip(("vs_model", "standard_error", "low", "high"), zip(*paired, strict=True), strict=True):
        table[column] = numbers
    table.attrs.update(attrs)
    return table


def paired_difference(a: np.ndarray, b: np.ndarray, n_bins: np.ndarray) -> tuple[float, float, float, float]:
    """Return the difference a - b per bin, its standard error and 95 % interval, paired over trials.

    Parameters
    ----------
    a, b : arrays (trial,)
        ln p of each trial under two models, nats.
    n_bins : array (trial,)
        Bins of each trial: the difference is a ratio of sums, its error that of a ratio estimator (Cochran 1977).
    """
    difference = a - b
    n, total = len(difference), n_bins.sum()
    ratio = float(difference.sum() / total)
    if n < 2:
        return ratio, np.nan, np.nan, np.nan
    residual = difference - ratio * n_bins
    error = float(np.sqrt(n / (n - 1) * (residual**2).sum()) / total)
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    return ratio, error, ratio - reach, ratio + reach


# --- data ------------------------------------------------------------------------------------------------------------


def _as_windows(X: Any, inputs: Any, window: float | None) -> tuple[Any, Any]:
    """Return X and inputs as trials: a 2-D recording is cut into windows, everything else stays."""
    if getattr(X, "ndim", None) != 2:
        return X, inputs
    trials = as_trials(X, allow_nan=True)
    size = trials.bin_size if trials.bin_size_is_known else 1.0
    if window is None:
        window = max(2, len(trials.values[0]) // _WINDOWS) * size
    cut = chop(X, window)
    return cut, None if inputs is None else chop(inputs, window)


def _count(X: Any) -> int:
    return len(X)


def _take(X: Any, index: np.ndarray) -> Any:
    """Return some trials of X, in the kind of X."""
    if X is None:
        return None
    if isinstance(X, xr.DataArray):
        return X.isel(trial=index)
    return [X[k] for k in index] if isinstance(X, (list, tuple)) else np.asarray(X)[index]


def _folds(cv: Any, n_trials: int, groups: Any, blocks: bool, random_state: int | None) -> Iterable:
    from sklearn.model_selection import GroupKFold, KFold

    splitter: Any = cv
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        if not 2 <= cv <= n_trials:
            raise ValueError(
                f"cv: got {cv} folds for {n_trials} trials, wanted 2 to {n_trials}; chop a long recording into trials"
            )
        in_order = KFold(int(cv)) if blocks else KFold(int(cv), shuffle=True, random_state=random_state)
        splitter = in_order if groups is None else GroupKFold(int(cv))
    if hasattr(splitter, "split"):
        return list(splitter.split(np.zeros(n_trials), groups=groups))
    if not isinstance(cv, Iterable):
        raise ValueError(f"cv: got {cv!r}, wanted a number of folds, a splitter, (train, test) pairs, or 'prefit'")
    return list(cv)


def _prefit(cv: str, model: Any, X_train: Any) -> Iterable:
    from sklearn.utils.validation import check_is_fitted

    if cv != "prefit":
        raise ValueError(f"cv: got {cv!r}, wanted a number of folds, a splitter, (train, test) pairs, or 'prefit'")
    if X_train is None:
        raise ValueError("X_train: got None with cv='prefit', wanted the data the model was fitted to")
    check_is_fitted(model)
    return [(None, None)]


# --- models ----------------------------------------------------------------------------------------------------------


def _fit(model: Any, X: Any, inputs: Any) -> Any:
    return model.fit(X, **_inputs(model, inputs))


def _fit_quietly(name: str, model: Any, X: Any, inputs: Any) -> Any:
    """Return the fitted baseline; that its EM ran out of iterations goes to the log: the user fits another model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = _fit(model, X, inputs)
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            logger.info("%s: %s", name, warning.message)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return model


def _inputs(model: Any, inputs: Any) -> dict[str, Any]:
    return {} if inputs is None else {"inputs": inputs}


def _link(model: Any) -> str:
    return str(model.dynamics_.link) if hasattr(model, "dynamics_") else str(getattr(model, "link_", "identity"))


def _label(model: Any) -> str:
    return f"{type(model).__name__} (rank {int(model.dynamics_.rank)})"


def _check_likelihood(name: str, other: Any, model: Any) -> None:
    if other.likelihood_ != model.likelihood_:
        raise ValueError(
            f"others: {name!r} is {other.likelihood_} and the model {model.likelihood_}; their scores do not compare; "
            f"give both likelihood={model.likelihood_!r}"
        )
    if abs(other.bin_size_ - model.bin_size_) > 1e-9 * model.bin_size_:
        raise ValueError(
            f"others: {name!r} has bins of {other.bin_size_:g} s and the model {model.bin_size_:g} s; their scores do "
            "not compare; bin once"
        )


def _dataset(scores: dict[str, np.ndarray], X: Any, about: dict[str, Any]) -> xr.Dataset:
    trials = as_trials(X, allow_nan=True)
    ids = X["trial"].values if isinstance(X, xr.DataArray) and "trial" in X.coords else np.arange(len(trials.lengths))
    variables: dict[str, Any] = {
        "log_likelihood": (("model", "trial"), np.stack(list(scores.values())), {"units": "nats"}),
        "n_bins": ("trial", trials.bins.sum(axis=1)),
    }
    if about["likelihood"] != "gaussian":
        variables["n_spikes"] = ("trial", trials.values.sum(axis=(1, 2)))
    return xr.Dataset(variables, coords={"model": list(scores), "trial": ids}, attrs=about)
