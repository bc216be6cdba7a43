"""Which units a fit can speak for, and models that leave out the others and still have the shapes of all units.

A unit that never changes in the training data has no scale: its likelihood is without bound, and what a model says of
it is what its floor happens to be. It is left out of the likelihood of every model by one rule, on the training data
alone. A model of the same class is fitted to the other units, so that the rest is as if the unit had never been
recorded; around it stands the model that the user has, with a row for every unit.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.selection import select_units, with_constant_units

if TYPE_CHECKING:
    from nwb_lrrnn.dynamics import LowRankDynamics
    from nwb_lrrnn.trials import LazyTrials, Trials

Mask = NDArray[np.bool_]

_SIZES = (1e-100, 1e100)  # squares of values beyond are no numbers
_NAMED = 8  # units in a sentence


class UnscoredUnitsWarning(UserWarning):
    """Units that never change in the training data are left out of the likelihood."""


def scored_units(trials: Trials | LazyTrials) -> Mask:
    """Return which units (unit,) change in the training data; refuse data in which none does, or of absurd size."""
    told = trials.summary
    kept = ~told.is_constant
    for k in np.flatnonzero((told.largest > _SIZES[1]) | ((told.largest < _SIZES[0]) & (told.largest > 0))):
        raise ValueError(
            f"X: unit {trials.unit_ids[k]} has values of about {told.largest[k]:.3g}, wanted sizes between "
            f"{_SIZES[0]:g} and {_SIZES[1]:g}, whose squares are numbers; express X in another unit of measure"
        )
    if not kept.any():
        raise ValueError(
            f"X: got units that are all constant ({_described(trials, ~kept)}), wanted some that change; check what "
            "was selected, and subtract an offset that is 1e10 times larger than what changes"
        )
    return kept


def left_out(trials: Trials | LazyTrials, kept: Mask) -> str:
    """Return the sentence that names the units that are left out."""
    n = int((~kept).sum())
    return (
        f"{n} of {len(kept)} units {'does' if n == 1 else 'do'} not change in the training data and "
        f"{'is' if n == 1 else 'are'} left out of the likelihood (see scored_units_): {_described(trials, ~kept)}"
    )


def _described(trials: Trials | LazyTrials, which: Mask) -> str:
    told, names = trials.summary, []
    for k in np.flatnonzero(which)[:_NAMED]:
        state = f"always {told.mean[k]:.6g}" if told.n_observed[k] else "never observed"
        names.append(f"unit {trials.unit_ids[k]} is {state}")
    more = int(which.sum()) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


class KeepsUnitShapes:
    """What a `LatentModel` does about units that it does not score.

    `scored_units_` (unit,) says which it scores. Where that is not all of them, what the verbs stand on is asked of
    `_scored_model`, which knows the scored units only.
    """

    scored_units_: Mask
    unit_ids_: NDArray
    n_features_in_: int
    dynamics_: LowRankDynamics
    readout_network_: LowRankDynamics
    get_params: Any

    @property
    def _scored(self) -> Any:
        """The model of the scored units, with the parameters that this one has now; itself where it scores all."""
        inner = vars(self).get("_scored_model")
        if inner is None:
            return self
        for name, value in self.get_params(deep=False).items():
            setattr(inner, name, value)
        return inner

    def _unfitted(self, kept: Mask) -> Any:
        """Return the model that is to be fitted to some units: for a warm start the one that was fitted to them."""
        inner = vars(self).get("_scored_model")
        before = vars(self).get("scored_units_")
        if getattr(self, "warm_start", False) and before is not None and not np.array_equal(before, kept):
            raise ValueError(
                f"warm_start: the fitted network has {int(before.sum())} units that changed in its training data, "
                f"X has {int(kept.sum())}, wanted the same units; pass the same units, or set warm_start=False"
            )
        if kept.all():
            vars(self).pop("_scored_model", None)
            return self
        warm = getattr(self, "warm_start", False) and inner is not None
        return self._scored if warm else type(self)(**self.get_params(deep=False))

    def _stand_around(self, inner: Any, means: NDArray[np.floating]) -> None:
        """Take what a fitted model of the scored units is, with a row for every unit; `means` (unit,) of the others."""
        own = ("unit_ids_", "n_features_in_", "feature_names_in_", "scored_units_", *self.get_params(deep=False))
        for name, value in vars(inner).items():
            if name not in own:
                vars(self)[name] = value
        self._scored_model = inner
        self._widen(inner, means)

    def _widen(self, inner: Any, means: NDArray[np.floating]) -> None:
        """Set what has a row for every unit; a model without a network has its own."""
        network = with_constant_units(inner.readout_network_, self.scored_units_, means, self.unit_ids_)
        self.dynamics_ = network
        self.units_at_floor_ = widened(inner.units_at_floor_, (0,), self.scored_units_)

    def _around(self, inner: Any) -> Any:
        """Return a model like this one that stands around another model of the scored units."""
        other, network = copy.copy(self), self.readout_network_
        other._stand_around(inner, network.expected(np.zeros(network.rank)))
        return other


def widened(array: NDArray, axes: tuple[int, ...], kept: Mask) -> NDArray:
    """Return an array of the scored units as one of all units along some axes, 0 where the others are."""
    for axis in axes:
        wide = np.zeros((*array.shape[:axis], len(kept), *array.shape[axis + 1 :]), dtype=array.dtype)
        wide[(slice(None),) * axis + (kept,)] = array
        array = wide
    return array


def widened_state(state: dict[str, tuple], kept: Mask, dims: tuple[str, ...]) -> dict[str, tuple]:
    """Return the variables (dims, array) of a model of the scored units with all units along `dims`."""
    if kept.all():
        return state
    found = {}
    for name, (of, array) in state.items():
        axes = tuple(k for k, dim in enumerate(of) if dim in dims)
        found[name] = (of, widened(np.asarray(array), axes, kept))
    return found


def narrowed(dataset: xr.Dataset, network: LowRankDynamics) -> xr.Dataset:
    """Return the Dataset of a model that has rows for units it does not score as that of the model that it scores with.

    Parameters
    ----------
    dataset : Dataset
        With `is_scored` (unit,).
    network : LowRankDynamics
        The one stored in it.
    """
    kept = dataset["is_scored"].values.astype(bool)
    dims = ["unit"] if network.readout == "latents" else ["unit", "neuron"]
    rest = dataset.drop_vars("is_scored").isel({dim: kept for dim in dims if dim in dataset.dims})
    return rest.assign(select_units(network, kept).to_dataset().data_vars)
