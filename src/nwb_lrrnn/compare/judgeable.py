"""What about the data forbids the question: units, bins and trials that would turn any comparison, each by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.compare.copies import copy_groups
from nwb_lrrnn.compare.dependence import OWN_VARIANCE, dependent_units
from nwb_lrrnn.compare.extremes import enormous_bins, extreme_trials
from nwb_lrrnn.compare.silence import padded_bins
from nwb_lrrnn.compare.wording import named, named_units
from nwb_lrrnn.trials import Packed, as_packed, blocks

if TYPE_CHECKING:
    from nwb_lrrnn.compare.split import Split
    from nwb_lrrnn.models.base import LatentModel


@dataclass(frozen=True)
class Findings:
    """What was found in the data, before any score.

    Attributes
    ----------
    forbidden : list of str
        Reasons why nothing can be judged, whatever the scores are.
    notes : list of str
        What is to be known besides, in sentences.
    left_out : list of str
        Units that training cannot speak for, in no score.
    copies : array (trial,), int
        Held-out trials that are copies of each other share a number.
    extreme : array (trial,) of str
        Which enormous bin a held-out trial has; empty where it has none.
    n_bins, n_spikes : arrays (trial,)
        Observed bins of each held-out trial, and the sum of its scored units.
    """

    forbidden: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    copies: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    extreme: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, dtype=str))
    n_bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    n_spikes: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def findings(held_out: Split, fitted: list[LatentModel]) -> Findings:
    """Return what the training data, and the trials beside them, say about what may be asked of them.

    Units and bins are judged by the training data alone: all of X, where it is held out fold by fold.
    """
    model = fitted[0]
    test = as_packed(held_out.X)
    train = test if held_out.folds is not None else as_packed(held_out.X_train, most=blocks.KEPT_BYTES)
    scored = scored_units(fitted)
    left_out = [str(unit) for unit in model.unit_ids_[~scored]]
    n_bins = test.per_trial(test.bins).astype(np.int64)
    n_spikes = test.per_trial(test.values[:, scored].sum(axis=1))
    if not scored.any():
        reason = "no unit is left: training cannot speak for any of them"
        own = np.arange(len(test.lengths))
        return Findings([reason], [], left_out, own, _blank(test), n_bins, n_spikes)
    are_counts = model.likelihood_ != "gaussian"
    enormous, scale = enormous_bins(train, scored, are_counts)
    extreme = {} if train is test else extreme_trials(test, scored, scale)
    groups = copy_groups([test] if train is test else [test, train], scored)
    padded = [(part, padded_bins(part, scored)) for part in ([test] if train is test else [train, test])]
    reasons = [
        _of_units(train, scored),
        _of_bins(train, enormous),
        _of_padding(padded),
        _of_copies(held_out, test, groups) or _of_training_copies(train, groups),
    ]
    texts = _blank(test)
    for row, place in extreme.items():
        texts[row] = test.place(*place)
    forbidden = [reason for reason in reasons if reason]
    return Findings(forbidden, _notes(groups[0]), left_out, groups[0], texts, n_bins, n_spikes)


def scored_units(fitted: list[LatentModel]) -> NDArray[np.bool_]:
    """Return the units (unit,) that the fitted models of all folds score."""
    return np.logical_and.reduce([model.scored_units_ for model in fitted])


def units_at_floor(fitted: list[LatentModel]) -> str:
    """Return which units sit at a floor of the fitted models of some fold, as a text; empty where none does."""
    ids = fitted[0].unit_ids_
    floors = np.logical_or.reduce([model.units_at_floor_ for model in fitted])
    floors &= scored_units(fitted)
    return named_units(list(ids[floors])) if floors.any() else ""


def _blank(trials: Packed) -> NDArray[Any]:
    return np.full(len(trials.lengths), "", dtype=object)


def _notes(own: NDArray[np.int64]) -> list[str]:
    """Return how many held-out trials are given more than once."""
    n = len(own) - len(np.unique(own))
    if n == 0:
        return []
    return [
        f"{n} held-out trials are copies of others, and count as one with them."
        if n > 1
        else "1 held-out trial is a copy of another, and counts as one with it."
    ]


def _of_units(train: Packed, scored: NDArray[np.bool_]) -> str:
    whole = train.seen[:, scored].all(axis=1)
    dependent = dependent_units(train.values[whole][:, scored])
    if not dependent.any():
        return ""
    ids = list(train.unit_ids[scored][dependent])
    return (
        f"{named_units(ids)} {'are copies or sums' if len(ids) > 1 else 'is a copy or a sum'} of other units, which "
        f"predict all but {OWN_VARIANCE:g} of the variance in the training data; leave out what repeats others"
    )


def _of_bins(train: Packed, enormous: list[tuple[int, int]]) -> str:
    if not enormous:
        return ""
    places = "; ".join(train.place(*place) for place in enormous[:3])
    more = f" and {len(enormous) - 3} more" if len(enormous) > 3 else ""
    return (
        f"one enormous bin carries a unit in the training data ({places}{more}); mark such a bin as unobserved, or "
        "leave out its trial"
    )


def _of_padding(padded: list[tuple[Packed, NDArray[np.bool_]]]) -> str:
    for trials, flagged in padded:
        if flagged.any():
            rows = np.unique(trials.trial[flagged])
            here = trials.of_trial(int(rows[0]))
            at = here.start + np.flatnonzero(flagged[here])
            begin, end = (trials.place(int(t), 0).rpartition(", unit")[0] for t in (at[0], at[-1]))
            n = len(rows)
            others = f", and such bins in {n - 1} more trials" if n > 1 else ""
            return (
                f"every unit is exactly zero from {begin} to {end.partition(', ')[2]}{others}, as in padding; cut "
                "these bins off, or mark them as unobserved"
            )
    return ""


def _of_copies(held_out: Split, test: Packed, groups: list[NDArray[np.int64]]) -> str:
    """Return which held-out trials were fitted as well, in some fold."""
    own = groups[0]
    if held_out.folds is None:
        leaked = np.isin(own, groups[1])
    else:
        leaked = np.zeros(len(own), dtype=bool)
        for train, held in held_out.folds:
            leaked[held] |= np.isin(own[held], own[train])
    if not leaked.any():
        return ""
    ids = [test.name_of_trial(int(row)) for row in np.flatnonzero(leaked)]
    verb = "are copies of trials" if len(ids) > 1 else "is a copy of a trial"
    return f"held-out {named('trial', ids)} {verb} that the models were fitted to; give each trial once"


def _of_training_copies(train: Packed, groups: list[NDArray[np.int64]]) -> str:
    """Return which training trials are copies of others: fits take them for new evidence, inside and out."""
    ids, counts = np.unique(groups[-1], return_counts=True)
    if len(groups) == 1 or not (counts > 1).any():
        return ""
    rows = np.flatnonzero(np.isin(groups[-1], ids[counts > 1]))
    names = [train.name_of_trial(int(row)) for row in rows]
    return f"training {named('trial', names)} are copies of each other; give each trial once"
