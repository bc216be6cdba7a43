"""The verdict: do the data ask for nonlinear dynamics? Four words, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nwb_lrrnn.attributes import as_list
from nwb_lrrnn.compare.baselines import PER_UNIT, REFERENCE
from nwb_lrrnn.compare.power import detectable_difference, trials_needed
from nwb_lrrnn.compare.wording import difference_text, listed, named_row, named_units, still_rising

WORDS = SUPPORTED, NOT_SUPPORTED, UNDECIDED, CANNOT = "supported", "not supported", "undecided", "cannot be judged"

# Of differences between trials, a few trials may hold nearly all. Where single trials are as skewed as an exponential
# or a log-normal draw, a 95 % interval lies wholly on the wrong side, in one direction, in 11 or 18 % of samples of 5,
# in 10 or 17 % of 8, in 8 or 13 % of 20, where it should in 2.5 %. There is no sharp number, but below 5 a single odd
# one cannot be told. Windows depend on their neighbours, and how far that reaches cannot be seen in fewer than 8.
FEWEST = 5  # independent trials or blocks
FEWEST_WINDOWS = 8
_NEGLIGIBLE = 0.1  # of the smallest gain that counts: certainly less supports nothing


def judge_nonlinearity(table: pd.DataFrame, *, smallest_gain: float = 0.02) -> dict[str, Any]:
    """Return the word, `nonlinear`, and the `verdict` in a few sentences; nothing where the model is itself linear.

    - "supported": the model scores above every linear model of the table and above what single units do by themselves
      (`autoregression per unit`), each by a 95 % paired interval that excludes 0, and by more than surely a tenth of
      the smallest gain.
    - "not supported": the upper end of the interval of the model minus the best of those is below the smallest gain,
      and the model is not above it by more than a standard error.
    - "undecided": neither. The verdict says which difference these data could have shown, and how many held-out trials
      about would decide.
    - "cannot be judged": the data do not allow the question, and the verdict says which units, bins or trials are why;
      or no model of latents is above the mean rate; or a noise variance or rate of the models that decide is at its
      floor.

    Parameters
    ----------
    table : DataFrame
        From `tabulate` or `compare_baselines`; the last row is the model.
    smallest_gain : float
        The smallest difference that counts, as a share of what the best linear model gains over the mean rate.

    Returns
    -------
    dict
        `nonlinear` and `verdict` (str); `smallest_gain`, the difference that it comes to, and `detectable`, the one
        that would have been seen in 80 % of such data sets (nats per bin); `n_needed`, where undecided (trials). Or
        empty.

    Examples
    --------
    >>> rows = {"model_above": [0.3, 0.0], "standard_error": [0.05, 0.0], "low": [0.2, 0.0], "high": [0.4, 0.0]}
    >>> table = pd.DataFrame(rows, index=["linear state space (rank 4)", "LowRankRNN (rank 2)"])
    >>> table["vs_mean_rate"], table["gain_low"], table["gain_high"] = [1.0, 1.3], [0.9, 1.2], [1.1, 1.4]
    >>> table["is_linear"], table["has_latents"], table["interval_holds"] = [True, False], True, True
    >>> table["is_outdone"], table["at_floor"], table["n_blocks"] = False, "", 20
    >>> table.attrs = {"rank": 2, "n_units": 20, "linear_ranks": [4], "interval_over": "trials", "n_trials": 20}
    >>> judge_nonlinearity(table)["nonlinear"]
    'supported'
    """
    if not (np.isfinite(smallest_gain) and smallest_gain >= 0):
        raise ValueError(f"smallest_gain: got {smallest_gain!r}, wanted a share >= 0, such as 0.02")
    if table["is_linear"].iloc[-1]:
        return {}
    evidence = _Evidence.of(table, smallest_gain)
    word, why = _first_answer(evidence)
    said: dict[str, Any] = {"nonlinear": word, "verdict": f"nonlinear dynamics {word}: {why}{_asides(evidence)}"}
    said |= {"smallest_gain": evidence.limit, "detectable": evidence.detectable}
    if word == UNDECIDED and evidence.n_needed is not None:
        said["n_needed"] = evidence.n_needed
    return said


class Row(NamedTuple):
    """A linear model: the model's score minus its own, with the interval of that."""

    name: str
    difference: float
    low: float
    high: float
    standard_error: float
    n_blocks: int
    gain: float  # over the mean rate
    at_floor: str
    is_outdone: bool


class _Evidence(NamedTuple):
    """What the verdict rests on: the rows that have a vote, the closest first, and what else the table says."""

    rows: list[Row]
    outdone: list[Row]
    table: pd.DataFrame
    attrs: Mapping[Any, Any]
    limit: float
    detectable: float
    n_needed: int | None

    @classmethod
    def of(cls, table: pd.DataFrame, smallest_gain: float) -> _Evidence:
        linear: Any = table[table["is_linear"].to_numpy(bool)]
        columns = ["model_above", "low", "high", "standard_error", "n_blocks", "vs_mean_rate", "at_floor", "is_outdone"]
        rows = [
            Row(str(name), d, low, high, error, int(n), gain, str(floor), bool(outdone))
            for name, d, low, high, error, n, gain, floor, outdone in linear[columns].itertuples(name=None)
        ]
        # A larger linear model that is clearly below its smaller sibling, which it contains, is overfitted or badly
        # fitted: it explains nothing that the sibling does not, and has no vote. Clearly, by an interval of its own,
        # and not by its score alone: a larger one that is in truth as good as the model must not lose its vote by bad
        # luck. As it is, a false "supported" takes one of two intervals of 2.5 % on one side to be wrong.
        voters = sorted((row for row in rows if not row.is_outdone), key=lambda row: row.difference)
        closest = voters[0]
        limit = smallest_gain * max(closest.gain, 0.0)
        detectable = detectable_difference(closest.standard_error, closest.n_blocks)
        needed = trials_needed(table.attrs["n_trials"], detectable, closest.difference, limit)
        return cls(voters, [r for r in rows if r.is_outdone], table, table.attrs, limit, detectable, needed)

    @property
    def closest(self) -> Row:
        """The linear model, or the baseline of single units, that scores highest."""
        return self.rows[0]

    @property
    def fewest(self) -> int:
        """How many trials or windows must be held out."""
        return FEWEST_WINDOWS if self.nouns == "windows" else FEWEST

    @property
    def nouns(self) -> str:
        """What is held out: trials or windows."""
        return "windows" if self.attrs["interval_over"] == "windows" else "trials"


def _first_answer(evidence: _Evidence) -> tuple[str, str]:
    """Return the word and why, from the first of the questions, in this order, that has an answer."""
    for question in (_what_data_forbid, _too_few, _no_latents, _with_intervals):
        answer = question(evidence)
        if answer is not None:
            return answer
    return UNDECIDED, _undecided(evidence)


def _what_data_forbid(evidence: _Evidence) -> tuple[str, str] | None:
    reasons = as_list(evidence.attrs.get("forbidden", []))
    return (CANNOT, f"{'; '.join(reasons)}.") if reasons else None


def _too_few(evidence: _Evidence) -> tuple[str, str] | None:
    attrs, nouns = evidence.attrs, evidence.nouns
    n_trials, n_blocks = attrs["n_trials"], evidence.closest.n_blocks
    if n_trials >= evidence.fewest and n_blocks >= FEWEST:
        return None
    what, wanted = (f"{n_trials} held-out {nouns}", evidence.fewest)
    if n_trials >= evidence.fewest:
        what, wanted = f"{n_blocks} independent blocks of held-out {nouns}", FEWEST
    what = what if max(n_trials, n_blocks) > 1 else what.replace(nouns, nouns[:-1])
    return UNDECIDED, f"{what}, and fewer than {wanted} decide nothing; hold out more.{_measured(evidence)}"


def _no_latents(evidence: _Evidence) -> tuple[str, str] | None:
    """Say so where there is nothing that could have dynamics of any kind.

    "Not supported" would be a statement on dynamics, and that linear dynamics suffice is as little shown.
    """
    table = evidence.table
    seen = table["has_latents"].to_numpy(bool) & (table["gain_low"].to_numpy(float) > 0)
    if seen.any():
        return None
    return CANNOT, (
        f"no latents: no model of latents scores above the {REFERENCE} by an interval that excludes 0. The units share "
        "nothing that holds on new trials, or too few were held out to see it."
    )


def _with_intervals(evidence: _Evidence) -> tuple[str, str] | None:
    # Supported asks that every linear model be beaten, each by its own interval: an intersection-union test (Berger
    # 1982), whose chance of a false yes is at most that of one interval, so that nothing is corrected for their number.
    above_all = all(row.low > 0 for row in evidence.rows)
    # What is certainly less than counts, and yet may well be above, is no "no": between a yes, two standard errors
    # above, and a no there is room, so that nothing harmless leads from one to the other. A fit that stayed at its
    # linear start can have no yes.
    hints = evidence.closest.difference > evidence.closest.standard_error and not evidence.attrs.get("stayed_linear")
    below_limit = evidence.closest.high < (_NEGLIGIBLE if hints else 1.0) * evidence.limit
    # what is above by so little, be it certain, is the noise of a bound or a linear fit that has not quite converged
    beyond = evidence.limit if evidence.attrs.get("stayed_linear") else _NEGLIGIBLE * evidence.limit
    above_all &= evidence.closest.high >= beyond
    if not (above_all or below_limit):
        return None
    if not evidence.table["interval_holds"].to_numpy(bool)[evidence.table["is_linear"].to_numpy(bool)].all():
        return UNDECIDED, (
            f"the held-out windows of one recording are too few, or too dependent on each other, for an interval; hold "
            f"out more, or cut shorter ones.{_measured(evidence)}"
        )
    floors = _floors(evidence)
    if floors:
        return CANNOT, floors
    return _supported(evidence) if above_all else (NOT_SUPPORTED, _not_supported(evidence))


def _floors(evidence: _Evidence) -> str:
    """Return that a model which decides owes its score to units at a floor; empty where none does."""
    name, units = str(evidence.table.index[-1]), str(evidence.table["at_floor"].iloc[-1])
    if not units:
        name, units = evidence.closest.name, evidence.closest.at_floor
    if not units:
        return ""
    return (
        f"{units} {'are' if units.startswith('units') else 'is'} predicted by the {name} as exactly as its floor of "
        "noise allows, and the score rests on where that floor is; leave such units out."
    )


def _supported(evidence: _Evidence) -> tuple[str, str]:
    attrs, closest = evidence.attrs, evidence.closest
    if attrs.get("stayed_linear"):
        return UNDECIDED, (
            "the model scores above the linear ones, but its own fit stayed at its linear start: the trials that it "
            f"held out wanted no more.{_power(evidence)}"
        )
    ranks = sorted(as_list(attrs["linear_ranks"]))
    if max(ranks) <= attrs["rank"] < attrs["n_units"]:
        return UNDECIDED, (
            "the model scores above the linear models, but no linear state space of larger rank was tried; leave "
            "larger_ranks=None."
        )
    return SUPPORTED, (
        f"the model scores above every linear model, linear state spaces of rank {listed(ranks)} among them. The "
        f"closest, {named_row(closest.name)}, scores {difference_text(*closest[1:4], sign=False)} nats per bin below."
        f"{still_rising(closest.name, max(ranks), attrs['n_units'])}"
    )


def _not_supported(evidence: _Evidence) -> str:
    closest = evidence.closest
    if closest.high < 0:
        above = difference_text(-closest.difference, -closest.high, -closest.low)
        text = f"{named_row(closest.name)} scores {above} nats per bin above."
    else:
        text = (
            f"{named_row(closest.name)} explains as much: the model scores "
            f"{difference_text(*closest[1:4])} nats per bin from it, and less than {evidence.limit:.2g} does not count."
        )
    return text + _of_single_units(closest) + _useless(evidence)


def _useless(evidence: _Evidence) -> str:
    """Return that the model has learned nothing, where it is below the mean rate: another fit may find more."""
    last = evidence.table.iloc[-1]
    low, high = last["gain_low"], last["gain_high"]
    if not high < 0:
        return ""
    shown = difference_text(last["vs_mean_rate"], low, high)
    return f" The model scores {shown} nats per bin from the {REFERENCE}, below it: its fit is useless."


def _undecided(evidence: _Evidence) -> str:
    # named is what stands in the way: the closest, or one further below whose interval is wider
    closest = max(evidence.rows, key=lambda row: -row.low) if evidence.closest.low > 0 else evidence.closest
    return (
        f"{named_row(closest.name)} is too close: the model scores {difference_text(*closest[1:4])} nats per bin from "
        f"it, where less than {evidence.limit:.2g} does not count.{_power(evidence)}{_of_single_units(closest)}"
    )


def _measured(evidence: _Evidence) -> str:
    """Return how far the model is from the closest linear model, for what it is worth."""
    closest = evidence.closest
    if not np.isfinite(closest.low):
        return ""
    shown = difference_text(*closest[1:4])
    return f" The model scores {shown} nats per bin from {named_row(closest.name)}, the closest.{_power(evidence)}"


def _power(evidence: _Evidence) -> str:
    n_trials, nouns = evidence.attrs["n_trials"], evidence.nouns
    needed = "" if evidence.n_needed is None else f"; about {max(evidence.n_needed, evidence.fewest)} would decide"
    return (
        f" These {n_trials} held-out {nouns} would show a difference of {evidence.detectable:.2g} in 4 of 5 cases"
        f"{needed}."
    )


def _of_single_units(row: Row) -> str:
    if not row.name.startswith(PER_UNIT):
        return ""
    return (
        " Single units are smooth by themselves: what each has just done predicts it best, and no model of latents is "
        "supported here."
    )


def _asides(evidence: _Evidence) -> str:
    """Return what else must be known: who has no vote, and which units are in no score."""
    text = ""
    if evidence.outdone:
        names = listed([named_row(row.name) for row in evidence.outdone])
        text += f" Without a vote: {names}, clearly below a smaller one that it contains."
    text += "".join(f" {note}" for note in as_list(evidence.attrs.get("notes", [])))
    left_out = as_list(evidence.attrs.get("left_out", []))
    if left_out:
        are, them = ("are", "them") if len(left_out) > 1 else ("is", "it")
        text += f" Left out of every score {are} {named_units(left_out)}: training cannot speak for {them}."
    return text
