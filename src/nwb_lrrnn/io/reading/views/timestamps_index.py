"""An index of xarray over timestamps that stay in the file until something is selected by time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Self

import pandas as pd
import xarray as xr
from xarray.core import indexing
from xarray.indexes import PandasIndex

from nwb_lrrnn.io.reading.clock import read_timestamps
from nwb_lrrnn.io.reading.lazy import SampledSeries
from nwb_lrrnn.io.reading.views.lazy_variables import StoredArray


class TimestampsIndex(xr.Index):
    """The index that xarray makes of a coordinate of times, made when it is needed.

    xarray reads every coordinate with an index when a file is opened. Here opening reads nothing: the first selection
    by time, or alignment, reads the timestamps (time, 1) and makes the usual index of them, or of some `samples`.
    """

    def __init__(self, times: SampledSeries, dim: Hashable, samples: range | None = None):
        self.times = times
        self.dim = dim
        self.samples = range(times.shape[0]) if samples is None else samples

    @property
    def loaded(self) -> PandasIndex:
        """The usual index of xarray over these times."""
        return PandasIndex(read_timestamps(self.times.source, self.times.path)[_slice(self.samples)], self.dim)

    def create_variables(self, variables: Mapping[Any, xr.Variable] | None = None) -> dict[Hashable, xr.Variable]:
        """Return the coordinate, which is read when it is used."""
        lazy = indexing.LazilyIndexedArray(StoredArray(self.times))
        data = lazy[indexing.BasicIndexer((_slice(self.samples), 0))]
        given = (variables or {}).get(self.dim)
        return {self.dim: xr.Variable((self.dim,), data, {"units": "s"} if given is None else given.attrs)}

    def isel(self, indexers: Mapping[Any, Any]) -> TimestampsIndex | PandasIndex | None:  # pyright: ignore
        """Return the index of a part: of a slice without reading."""
        part = indexers[self.dim]
        if isinstance(part, slice):
            return type(self)(self.times, self.dim, self.samples[part])
        return self.loaded.isel(indexers)

    def sel(self, labels: dict[Any, Any], method: Any = None, tolerance: Any = None) -> Any:
        """Return the positions of times, as xarray's own index does."""
        return self.loaded.sel(labels, method=method, tolerance=tolerance)

    def equals(self, other: xr.Index, **kwargs: Any) -> bool:
        """Return whether the times are the same."""
        if not isinstance(other, TimestampsIndex):
            return False
        same = self.times.source == other.times.source and self.times.path == other.times.path
        return (same and self.samples == other.samples) or self.loaded.equals(other.loaded, **kwargs)

    def join(self, other: TimestampsIndex, how: Any = "inner") -> PandasIndex:  # pyright: ignore
        """Return the index of the times of both, which are read."""
        return self.loaded.join(other.loaded, how=how)

    def reindex_like(self, other: xr.Index, **kwargs: Any) -> dict[Hashable, Any]:
        """Return the positions of the times of another index."""
        loaded = other.loaded if isinstance(other, TimestampsIndex) else other
        return self.loaded.reindex_like(loaded, **kwargs)  # pyright: ignore[reportArgumentType]

    @classmethod
    def concat(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, indexes: Sequence[TimestampsIndex], dim: Hashable, positions: Iterable[Iterable[int]] | None = None
    ) -> PandasIndex:
        """Return the index of times one after the other, which are read."""
        return PandasIndex.concat([index.loaded for index in indexes], dim, positions)

    def rename(self, name_dict: Mapping[Any, Hashable], dims_dict: Mapping[Any, Hashable]) -> Self:
        """Return the index under another name; its dim and coordinate are renamed together."""
        if name_dict.get(self.dim, self.dim) == dims_dict.get(self.dim, self.dim):
            return type(self)(self.times, dims_dict.get(self.dim, self.dim), self.samples)
        return self.loaded.rename(name_dict, dims_dict)  # pyright: ignore[reportReturnType]

    def to_pandas_index(self) -> pd.Index:
        """Return the times as an index of pandas, which reads them."""
        return self.loaded.to_pandas_index()

    def _repr_inline_(self, max_width: int) -> str:
        return f"{type(self).__name__} ({len(self.samples)} times in the file)"[:max_width]


def _slice(samples: range) -> slice:
    """Return the slice that takes these samples."""
    if not samples:
        return slice(0, 0)
    stop = samples.stop if samples.stop >= 0 else None  # a range that counts down ends before 0
    return slice(samples.start, stop, samples.step)
