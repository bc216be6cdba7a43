"""What the constructor of `DisRNN` says, checked against the trials."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from nwb_lrrnn import parameters as check
from nwb_lrrnn.models.dis.pairs import history
from nwb_lrrnn.models.posteriors import POSTERIORS
from nwb_lrrnn.trials import Trials

NOISES = ("auto", "recurrent", "readout")
ENCODERS = ("linear", "mlp")
OBJECTIVES = ("likelihood", "paper")
SCALINGS = ("auto", "given", "unit")
NONLINEARITIES = ("tanh", "erf", "relu", "softplus", "identity")


def group_ranks_of(rank: int, n_groups: Any, group_ranks: Any) -> tuple[int, ...]:
    """Return the number of latents of each group: those given, or equal ones.

    Examples
    --------
    >>> group_ranks_of(6, 2, None)
    (3, 3)
    """
    if group_ranks is None:
        n = check.whole_number("n_groups", n_groups)
        if rank % n:
            raise ValueError(
                f"n_groups: got {n} for rank={rank}, which does not split equally; pass group_ranks, e.g. "
                f"group_ranks={_nearly_equal(rank, n) if n <= rank else (rank,)}"
            )
        return (rank // n,) * n
    if isinstance(group_ranks, numbers.Number) or isinstance(group_ranks, str):
        raise ValueError(f"group_ranks: got {group_ranks!r}, wanted a rank for each group, e.g. group_ranks=({rank},)")
    ranks = tuple(check.whole_number("group_ranks", one) for one in group_ranks)
    if sum(ranks) != rank:
        raise ValueError(
            f"group_ranks: got {ranks}, which sum to {sum(ranks)}, wanted the rank, {rank}; pass rank={sum(ranks)}"
        )
    return ranks


class GroupModel(Protocol):
    """What is read of an estimator of groups of latents."""

    rank: int
    n_groups: int
    group_ranks: Sequence[int] | None
    nonlinearity: str
    link: str | None
    noise: str
    encoder: str
    n_lags: int
    objective: str
    scaling: str
    fine_tune_epochs: int
    penalty: float
    block_penalty: float
    max_epochs: int
    batch_size: int
    learning_rate: float
    n_init: int
    n_bootstraps: int
    dtype: str
    device: str
    random_state: int | None
    likelihood_: str


def _nearly_equal(rank: int, n: int) -> tuple[int, ...]:
    return tuple(rank // n + (k < rank % n) for k in range(n))


def check_parameters(model: GroupModel, trials: Trials) -> tuple[int, ...]:
    """Return the group ranks after checking every parameter of the constructor.

    Raises
    ------
    ValueError
        Naming the argument, what came, what is wanted and the fix.
    """
    n_units, lags = trials.n_units, check.whole_number("n_lags", model.n_lags)
    rank = check.whole_number("rank", model.rank, most=n_units, hint=", the number of units of X; lower rank")
    ranks = group_ranks_of(rank, model.n_groups, model.group_ranks)
    for name, valid in (
        ("noise", NOISES), ("encoder", ENCODERS), ("objective", OBJECTIVES), ("scaling", SCALINGS),
        ("posterior", POSTERIORS), ("nonlinearity", NONLINEARITIES), ("dtype", ("float64", "float32")),
    ):  # fmt: skip
        check.choose(name, getattr(model, name), valid)
    for name in ("max_epochs", "n_init", "batch_size"):
        check.whole_number(name, getattr(model, name))
    for name in ("fine_tune_epochs", "n_bootstraps"):
        check.whole_number(name, getattr(model, name), 0)
    check.whole_number("random_state", model.random_state, 0, optional=True)
    check.positive("learning_rate", model.learning_rate)
    check.positive("penalty", model.penalty, zero=True)
    if check.positive("block_penalty", model.block_penalty, zero=True) and (lags > 1 or model.encoder == "mlp"):
        raise ValueError("block_penalty: got > 0 with n_lags > 1 or encoder='mlp', which have no recurrence; pass 0")
    if trials.lengths.max() <= lags:
        raise ValueError(
            f"X: got trials of at most {int(trials.lengths.max())} bins, wanted more than n_lags={lags}, so that some "
            "bin has a history; bin more finely or lower n_lags"
        )
    _check_counts(model)
    _check_pairs(model, trials, rank, lags)
    return ranks


def _check_pairs(model: GroupModel, trials: Trials, rank: int, n_lags: int) -> None:
    """Raise unless enough bins, and all before them that the encoder reads, are observed in all units and change."""
    seen = trials.seen
    known = np.asarray(seen.all(axis=2))
    rows = known & history(np.zeros((*known.shape, 0)), known, n_lags)[1]
    n, needed = int(rows.sum()), rank + 2 + trials.n_inputs
    if model.encoder == "mlp":
        needed = max(needed, 10)  # a fifth of them is held out
    if n < needed:
        inputs = f" with {trials.n_inputs} inputs" if trials.n_inputs else ""
        raise ValueError(
            f"X: got {n} bins that are observed in all units like the {n_lags} before them, wanted at least {needed} "
            f"for rank={rank}{inputs}; give more or longer trials, fill gaps, or drop units with gaps"
        )
    if not np.ptp(trials.values[rows], axis=0).any():
        raise ValueError("X: got units that are all constant, wanted some that change: there are no latents in them")


def _check_counts(model: GroupModel) -> None:
    if model.likelihood_ == "gaussian":
        check.choose("link", "identity" if model.link is None else model.link, ("identity",))
    else:
        check.choose("link", "softplus" if model.link is None else model.link, ("softplus", "exp"))
        if model.noise == "recurrent":
            raise ValueError("noise: got 'recurrent' for counts, whose noise never feeds back; pass noise='auto'")
        if model.objective == "paper" or model.fine_tune_epochs:
            name = "objective='paper'" if model.objective == "paper" else "fine_tune_epochs"
            raise ValueError(
                f"objective: {name} is a Gaussian objective, and X holds counts; pass objective='likelihood' and "
                "fine_tune_epochs=0, or likelihood='gaussian' on smoothed square roots"
            )
    if model.encoder == "mlp" and model.fine_tune_epochs:
        raise ValueError("fine_tune_epochs: got > 0 with encoder='mlp', which has no fine-tuning; pass 0")
