"""What a step works on: X as rectangular parts, in memory or on dask, each computed on in blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwb_lrrnn.preprocessing.dask_stretches import Stretch, of_new_bins, on_stretches, with_neighbours
from nwb_lrrnn.trials import entry_name

# (values, valid, place) -> values; `valid` is False where unobserved or NaN, and `values` are 0 there
BlockFunction = Callable[[NDArray, NDArray, "BlockPlace"], NDArray]
# The same with `bins`, the range of new bins to make
ResizingFunction = Callable[..., NDArray]

_FAR = 4  # an entry that matters in more than this part of the time to each side matters everywhere


@dataclass(frozen=True)
class BlockPlace:
    """Where a block begins in its part, and how its trials, bins and units are called.

    Attributes
    ----------
    trial, time, unit : int
        First trial, bin and unit of the block.
    asked : (int, int or None)
        First bin and end of what is asked for of the block; the others are neighbours that it sees.
    trial_ids, unit_ids : array
    times : pandas Index or None
        Names of the bins in memory; on dask they are `first_time + bin * step`, so that tasks stay small.
    first_time, step : float
    """

    trial_ids: NDArray
    unit_ids: NDArray
    times: pd.Index | None = None
    first_time: float = 0.0
    step: float = 1.0
    trial: int = 0
    time: int = 0
    unit: int = 0
    asked: tuple[int, int | None] = (0, None)

    def at(self, trial: int, time: int, unit: int, asked: tuple[int, int | None] = (0, None)) -> BlockPlace:
        """Return the place of the block that begins there."""
        return replace(self, trial=trial, time=time, unit=unit, asked=asked)

    def units(self, n: int) -> slice:
        """Return which of all units the `n` units of the block are."""
        return slice(self.unit, self.unit + n)

    def of(self, trial: int, time: int, unit: int) -> str:
        """Return where an entry of the block is, in the user's coordinates: 'trial 3, time 0.25, unit 17'."""
        bin_ = self.time + time
        when: Any = self.first_time + bin_ * self.step if self.times is None else self.times[bin_]
        return entry_name(self.trial_ids[self.trial + trial], when, self.unit_ids[self.unit + unit])


@dataclass(frozen=True)
class Rectangle:
    """One rectangle of X: all of it, or one trial of a list.

    Attributes
    ----------
    source : object
        X, or the trial, as the user gave it.
    values : array (trial, time, unit)
        numpy (float64) or dask; unobserved entries as they came.
    observed : bool array or None
        Axes (trial, time, unit), of length 1 where it is the same for all; numpy or dask. NaN is not in it.
    place : BlockPlace
    """

    source: Any
    values: Any
    observed: Any
    place: BlockPlace

    @property
    def is_lazy(self) -> bool:
        """Whether the values are on dask."""
        return not isinstance(self.values, np.ndarray)

    def map(
        self,
        function: BlockFunction,
        *,
        along_time: bool = False,
        reach: int | None = None,
        across_units: bool = False,
    ) -> Any:
        """Return `function` of every block, unobserved entries as they were; lazy where the part is.

        Parameters
        ----------
        function : callable
            (values, valid, place) -> values of the same shape.
        along_time : bool
            Whether a block must hold all bins of its trials.
        reach : int, optional
            With `along_time`: how many bins away an entry can matter, where that is not all of them. Then long
            recordings are worked on in stretches that see so many bins of their neighbours, and units one by one.
        across_units : bool
            Whether a block must hold all units of its bins.
        """
        if not self.is_lazy:
            return _block(self.values, self.observed, function=function, place=self.place)
        array = self.values
        if along_time and array.numblocks[1] > 1:
            if reach is not None and _FAR * reach < array.shape[1]:
                near = partial(_of_neighbours, function=function, place=self.place)
                stretches = with_neighbours(array, reach)
                return on_stretches(array, self.mask_like(array), stretches, near, (function, self.place))
            array = whole_trials(array)
        if across_units:
            array = array.rechunk({2: -1})
        return self._blockwise(array, _block, array.chunks, function)

    def resize(self, function: ResizingFunction, n_bins: int, *, ratio: float, reach: float) -> Any:
        """Return `function` of blocks, which makes `n_bins` of their bins; lazy where the part is.

        Parameters
        ----------
        function : callable
            (values, valid, place, bins=range) -> values of those new bins; works on units one by one.
        n_bins : int
        ratio : float
            Old bins in a new one.
        reach : float
            How many old bins outside of a new one can matter for it.
        """
        every = partial(function, bins=range(n_bins))
        if not self.is_lazy:
            return _resized(self.values, self.observed, function=every, place=self.place)
        array = self.values
        if array.numblocks[1] > 1 and _FAR * (reach + ratio) < array.shape[1]:
            stretches = of_new_bins(array, n_bins, ratio, int(np.ceil(reach)) + 1)  # 1: an edge rounded away
            new = partial(_of_old_bins, function=function, place=self.place)
            return on_stretches(array, self.mask_like(array), stretches, new, (function, self.place))
        array = whole_trials(array)
        return self._blockwise(array, _resized, (array.chunks[0], (n_bins,), array.chunks[2]), every)

    def _blockwise(self, array: Any, block: Callable, chunks: tuple, function: BlockFunction) -> Any:
        import dask.array as da

        return da.map_blocks(
            block,
            *self._with_mask(array),
            function=function,
            place=self.place,
            dtype=np.float64,
            chunks=chunks,
            meta=np.empty((0, 0, 0)),
        )

    def _with_mask(self, array: Any) -> list[Any]:
        mask = self.mask_like(array)
        return [array] if mask is None else [array, mask]

    def mask_like(self, array: Any) -> Any:
        """Return `observed` in the shape and chunks of a dask array, None where everything is observed."""
        import dask.array as da

        if self.observed is None:
            return None
        own = [c if n > 1 else (1,) for c, n in zip(array.chunks, self.observed.shape, strict=True)]
        mask = da.asarray(self.observed).rechunk(tuple(own))
        return da.broadcast_to(mask, array.shape, chunks=array.chunks)


def valid_entries(values: NDArray, observed: NDArray | None, place: BlockPlace | None) -> NDArray[np.bool_]:
    """Return which entries (trial, time, unit) are observed numbers; an observed infinity is an error."""
    valid = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    if observed is not None:
        valid &= observed
    infinite = valid & np.isinf(values)
    if infinite.any():
        at = "" if place is None else f" at {place.of(*np.argwhere(infinite)[0])}"
        raise ValueError(f"X: infinity (inf){at}; wanted finite values; remove it")
    return valid


def whole_trials(array: Any) -> Any:
    """Return a dask array whose blocks hold all bins of their trials; units are split so that blocks stay small."""
    return array if array.numblocks[1] == 1 else array.rechunk({1: -1, 2: "auto"})


def _block(values: NDArray, observed: NDArray | None = None, *, function, place, block_info=None) -> NDArray:
    """Return `function` of one block where it is observed, and the block elsewhere."""
    where = _place_of_block(place, block_info)
    valid = valid_entries(values, observed, where)
    values = values.astype(np.float64, copy=False)
    if valid.all():
        return function(values, valid, where)
    return np.where(valid, function(np.where(valid, values, 0.0), valid, where), values)


def _resized(values: NDArray, observed: NDArray | None = None, *, function, place, block_info=None) -> NDArray:
    """Return `function` of one block, which changes the number of bins."""
    where = _place_of_block(place, block_info)
    valid = valid_entries(values, observed, where)
    return function(np.where(valid, values.astype(np.float64, copy=False), 0.0), valid, where)


def _of_neighbours(
    values: NDArray, observed: NDArray | None, trial: int, unit: int, stretch: Stretch, *, function, place
) -> NDArray:
    """Return `function` of the bins of a stretch, which sees those around them."""
    asked = stretch.begin - stretch.first, stretch.end - stretch.first
    where = place.at(trial, stretch.first, unit, asked)
    return _block(values, observed, function=function, place=where)[:, slice(*asked)]


def _of_old_bins(
    values: NDArray, observed: NDArray | None, trial: int, unit: int, stretch: Stretch, *, function, place
) -> NDArray:
    """Return the new bins of a stretch, made from the old ones around them."""
    new = partial(function, bins=range(stretch.begin, stretch.end))
    return _resized(values, observed, function=new, place=place.at(trial, stretch.first, unit))


def _place_of_block(place: BlockPlace | None, block_info: Any) -> BlockPlace | None:
    if place is None or not block_info:
        return place
    return place.at(*(begin for begin, _ in block_info[0]["array-location"]))
