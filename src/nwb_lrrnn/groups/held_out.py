"""One part of a recording to fit groups to, and the rest to test them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.independence import DependenceTest, dependence
from nwb_lrrnn.analysis.independence.autonomy import Autonomy, autonomy
from nwb_lrrnn.analysis.independence.presence import Presence, presence
from nwb_lrrnn.analysis.independence.surrogates import without_time_in_trial
from nwb_lrrnn.compare.split import take
from nwb_lrrnn.trials import as_trials

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOut:
    """What is fitted and what is tested.

    Attributes
    ----------
    X_train, inputs_train : like X and inputs of `fit`
    seen : array (trial, time), bool
        Of all of X.
    trained, tested : arrays (trial, time), bool
    held : array (trial,), int, or None
        The trials that are tested; None: the end of a single recording is.
    conditions : array (trial,) or None
    """

    X_train: Any
    inputs_train: Any
    seen: Mask
    trained: Mask
    tested: Mask
    held: NDArray[np.int64] | None
    conditions: NDArray | None

    def test(self, latents: NDArray[np.floating], group_ranks: Sequence[int], **options: Any) -> DependenceTest:
        """Return the test of groups of latents (trial, time, latent) of all of X on the tested bins.

        Of trials, bins without a bin before them are left out: what is inferred of them follows another law.
        """
        if self.held is None:
            null = "auto" if self.seen.all() else "shift"
            return dependence(latents, self.seen, group_ranks, tested=self.tested, null=null, **options)
        conditions = None if self.conditions is None else self.conditions[self.held]
        settled = _after_another(self.seen[self.held])
        return dependence(latents[self.held], settled, group_ranks, conditions=conditions, **options)

    def autonomy(self, latents: NDArray[np.floating], matrix: NDArray, group_ranks: Sequence[int]) -> Autonomy:
        """Return how well groups of `latents @ matrix` go on by themselves, of the bins that are tested as above."""
        if self.held is None:
            return autonomy(latents, matrix, group_ranks, self.trained, self.tested)
        z, settled = self._without_time_in_trial(latents), _after_another(self.seen)
        return autonomy(z, matrix, group_ranks, self.trained & settled, self.tested & settled)

    def presence(self, values: NDArray, delayed: NDArray, inputs: NDArray | None = None) -> Presence:
        """Return what delayed latents (trial, time, latent) of all of X foretell of the tested bins."""
        y, z = self._without_time_in_trial(values), self._without_time_in_trial(delayed)
        return presence(y, z, self.trained, self.tested, inputs)

    def _without_time_in_trial(self, values: NDArray) -> NDArray:
        """Return values (trial, time, ...) less what the time in the trial and its condition foretell, in each part."""
        if self.held is None:
            return values
        conditions = np.zeros(len(self.seen)) if self.conditions is None else self.conditions.astype(str)
        strata, out = np.unique(conditions, return_inverse=True)[1], values.copy()
        for rows in (self.held, np.setdiff1d(np.arange(len(self.seen)), self.held)):
            out[rows] = without_time_in_trial(values[rows], self.seen[rows], strata[rows])
        return out

    @property
    def seen_in_training(self) -> Mask:
        """Which bins of what is fitted are seen, (trial, time)."""
        rows = slice(None) if self.held is None else np.setdiff1d(np.arange(len(self.seen)), self.held)
        trained = self.trained[rows]
        return trained[:, : int(np.flatnonzero(trained.any(axis=0)).max()) + 1]

    def score(self, model: DisRNN, X: Any, inputs: Any) -> float:
        """Return the log-likelihood of the tested bins of X, nats per bin."""
        if self.held is None:
            begin = int(np.flatnonzero(self.tested[0]).min())
            return model.score(_since(X, begin), inputs=_since(inputs, begin))
        return model.score(take(X, self.held), inputs=take(inputs, self.held))


def hold_out(
    X: Any, inputs: Any, conditions: ArrayLike | None, test_fraction: float, random_state: int | None
) -> HeldOut:
    """Return a share of the trials for the test, drawn at random, or the end of a single recording.

    Neighbours of the tested bins of a single recording are in neither part.

    Raises
    ------
    ValueError
        If `test_fraction` is not between 0 and 1, there are too few trials for both parts, or not one condition each.
    """
    check_share("test_fraction", test_fraction)
    seen = np.asarray(as_trials(X, inputs=inputs).bins, dtype=bool)
    n_trials, n_bins = seen.shape
    strata = None if conditions is None else np.asarray(conditions)
    if strata is not None and strata.shape != (n_trials,):
        raise ValueError(f"conditions: got shape {strata.shape}, wanted one per trial, ({n_trials},)")
    if n_trials == 1:
        held = int(round(test_fraction * n_bins))
        end = n_bins - held - min(held // 4, n_bins // 20)
        time = np.arange(n_bins)
        trained, tested = seen & (time < end), seen & (time >= n_bins - held)
        return HeldOut(_until(X, end), _until(inputs, end), seen, trained, tested, None, strata)
    n_held = int(round(test_fraction * n_trials))
    if not 2 <= n_held <= n_trials - 2:
        raise ValueError(
            f"test_fraction: got {test_fraction} of {n_trials} trials, wanted at least two trials in each part"
        )
    order = np.random.default_rng(random_state).permutation(n_trials)
    fitted, held = np.sort(order[n_held:]), np.sort(order[:n_held])
    trained, tested = seen.copy(), seen.copy()
    trained[held], tested[fitted] = False, False
    return HeldOut(take(X, fitted), take(inputs, fitted), seen, trained, tested, held, strata)


def check_share(name: str, value: float) -> None:
    """Raise unless a number is between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name}: got {value!r}, wanted a number between 0 and 1")


def _after_another(seen: Mask) -> Mask:
    """Return bins (trial, time) that follow on a bin that is seen, (trial, time)."""
    out = seen.copy()
    out[:, 0] = False
    out[:, 1:] &= seen[:, :-1]
    return out


def _until(X: Any, stop: int) -> Any:
    """Return the first bins of a single recording, in the kind of X."""
    return _cut(X, slice(stop))


def _since(X: Any, start: int) -> Any:
    """Return the last bins of a single recording, in the kind of X."""
    return _cut(X, slice(start, None))


def _cut(X: Any, bins: slice) -> Any:
    if X is None:
        return None
    if hasattr(X, "isel"):
        return X.isel(time=bins)
    if isinstance(X, pd.DataFrame):
        return X.iloc[bins]
    if isinstance(X, list) and len(X) == 1 and np.ndim(X[0]) == 2:
        return [_cut(X[0], bins)]
    return np.asarray(X)[:, bins] if np.ndim(X) == 3 else np.asarray(X)[bins]
