"""How strongly weights are held down: by the noise of the rates, by held-out blocks, or by the evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.least_squares.ridge import shares
from nwb_lrrnn.parameters import closest, positive

Array = NDArray[np.floating]

RULES = ("noise", "cv", "evidence")
_GRID = np.logspace(-12, 2, 57)
_FOLDS = 5


def choose_penalty(
    rule: str | float,
    features: Array | None = None,
    targets: Array | None = None,
    *,
    rate_noise: float = 0.01,
    weight: Array | None = None,
    groups: NDArray | None = None,
    intercept: bool = True,
    n_free: int = 0,
) -> float:
    """Return the penalty > 0 of a ridge regression.

    rule "noise": rate_noise², exactly the loss under private noise of that standard deviation in every rate; "cv": the
    least error of held-out `groups` (T,), say trials, else of 5 blocks in order; "evidence": the most probable one of
    the Bayesian regression (weights N(0, s²), noise of its own for each target); a number: that. The last two look at
    features (T, N), the last `n_free` of which are not penalised, and targets (T, K).
    """
    check_rule(rule)
    if not isinstance(rule, str):
        return float(rule)
    if rule == "noise":
        return positive("rate_noise", rate_noise, hint=", the standard deviation of the noise of a rate") ** 2
    if features is None or targets is None:
        raise ValueError(f"ridge: got {rule!r} without samples to choose by, wanted 'noise' or a number")
    share = shares(weight, len(features))
    if rule == "evidence":
        return _most_probable(*_partialled(features, targets, share, intercept, n_free), len(features))
    if groups is None:
        groups = np.arange(len(features)) * _FOLDS // len(features)
    return _least_error(features, targets, share, np.asarray(groups), intercept, n_free)


def check_rule(rule: str | float) -> None:
    """Refuse a rule that is none: 0 and less, or a word that is not known."""
    if isinstance(rule, str):
        if rule not in RULES:
            wanted = "wanted 'noise', 'cv', 'evidence' or a number > 0"
            raise ValueError(f"ridge: got {rule!r}, {wanted}{closest(rule, RULES)}")
        return
    positive("ridge", rule, hint=": without a penalty weights grow until any noise of the rates swamps them")


def _partialled(features: Array, targets: Array, share: Array, intercept: bool, n_free: int) -> tuple[Array, Array]:
    """Return penalised features and targets, rows times the root of their share, without what is not penalised."""
    root = np.sqrt(share)[:, None]
    held = features.shape[1] - n_free
    free = features[:, held:]
    if intercept:
        free = np.concatenate([free, np.ones((len(features), 1))], axis=1)
    rows, wanted = root * features[:, :held], root * targets
    if free.shape[1]:
        axes, sizes, _ = np.linalg.svd(root * free, full_matrices=False)
        axes = axes[:, sizes > 1e-12 * max(sizes[0], 1e-300)]
        rows, wanted = rows - axes @ (axes.T @ rows), wanted - axes @ (axes.T @ wanted)
    return rows, wanted


def _most_probable(rows: Array, wanted: Array, n_samples: int) -> float:
    """Return the penalty of the greatest evidence; a target's noise variance is at its best for each penalty.

    With singular values s of the rows, c = Uᵀ y: ln p = -T/2 ln(q / T) - sum ln(1 + s² / penalty) / 2 + const,
    q = |y|² - |c|² + sum c² / (1 + s² / penalty), rows and targets being scaled by 1 / sqrt(T).
    """
    axes, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    along = axes.T @ wanted  # (N, K)
    rest = np.maximum((wanted**2).sum(0) - (along**2).sum(0), 0.0)
    floor = 1e-24 * np.maximum((wanted**2).sum(0), 1e-300)  # of exact fits, whose evidence has no bound
    best, found = -np.inf, float(_GRID[0])
    for penalty in _GRID:
        spread = 1.0 + sizes**2 / penalty
        q = np.maximum(rest + (along**2 / spread[:, None]).sum(0), floor)
        evidence = -0.5 * n_samples * np.log(q).sum() - 0.5 * wanted.shape[1] * np.log(spread).sum()
        if evidence > best:
            best, found = evidence, float(penalty)
    return found


def _least_error(features: Array, targets: Array, share: Array, groups: NDArray, intercept: bool, n_free: int) -> float:
    """Return the penalty of the least error of held-out groups."""
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError("ridge: got 'cv' with one group of samples, wanted two or more; use 'noise' or 'evidence'")
    fold_of = {name: i % _FOLDS for i, name in enumerate(names)}
    folds = np.array([fold_of[name] for name in groups])
    error = np.zeros(len(_GRID))
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if not share[train].sum() > 0:
            continue
        error += _errors(features, targets, share, train, test, intercept, n_free)
    return float(_GRID[int(np.argmin(error))])


def _errors(features, targets, share, train, test, intercept: bool, n_free: int) -> Array:
    """Return the summed squared error of the test samples for every penalty of the grid."""
    part = share[train] / share[train].sum()
    held = features.shape[1] - n_free
    free = [features[:, held:]] + ([np.ones((len(features), 1))] if intercept else [])
    free = np.concatenate(free, axis=1)
    solve_free = np.linalg.pinv(np.sqrt(part)[:, None] * free[train]) * np.sqrt(part)  # (free, train)
    rows = features[:, :held] - free @ (solve_free @ features[train, :held])
    wanted = targets - free @ (solve_free @ targets[train])
    root = np.sqrt(part)[:, None]
    axes, sizes, directions = np.linalg.svd(root * rows[train], full_matrices=False)
    along, seen = axes.T @ (root * wanted[train]), rows[test] @ directions.T
    scale = np.maximum((root * wanted[train]) ** 2, 0.0).sum(0) + 1e-300  # every target counts alike
    errors = np.empty(len(_GRID))
    for i, penalty in enumerate(_GRID):
        missed = wanted[test] - seen @ (along * (sizes / (sizes**2 + penalty))[:, None])
        errors[i] = (share[test] @ (missed**2 / scale)).sum()
    return errors
