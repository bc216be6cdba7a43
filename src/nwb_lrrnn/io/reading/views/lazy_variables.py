"""Parts of a file as variables of xarray that are read when they are used: in xarray's own lazy arrays, or on dask."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.column_values import read_values
from nwb_lrrnn.io.reading.lazy import SampledSeries


class StoredArray(BackendArray):
    """A description of a part of a file, which takes integers and slices, as xarray's lazy arrays want it."""

    def __init__(self, description: Any):
        self.description = description
        self.shape = tuple(description.shape)
        self.dtype = np.dtype(description.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self.description.__getitem__
        )


@dataclass(frozen=True, eq=False)
class StoredText:
    """The text of a dataset (entry,), not read yet."""

    source: Source
    path: str
    shape: tuple[int]

    ndim = 1
    dtype = np.dtype(object)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("StoredText", self.source.uri, self.source.version_tag, self.path)

    def __getitem__(self, key: Any) -> Any:
        with self.source.open() as file:
            dataset = file.get(self.path)
            if dataset is None or dataset.shape != self.shape:
                raise ChangedFileError(f"{self.source.uri}: {self.path} is not what it was; open the file again")
            text = read_values(file, dataset, key)
        return text.astype(object) if text.ndim else plain(text)


def stored_numbers(source: Source, dataset: H5, path: str) -> SampledSeries:
    """Return a dataset (row,) or (row, column) of numbers of an open file as float64 (row, column), not read yet."""
    return SampledSeries(source, path, dataset.shape, dataset.chunks, np.dtype(np.float64))


def as_variable(
    dims: Sequence[Hashable], numbers: SampledSeries, attrs: dict[str, Any] | None = None, *, chunked: bool
) -> xr.Variable:
    """Return numbers (row, column) as a variable that reads them when they are used; one dim takes the first column.

    A variable that is not `chunked` (on dask) is a lazy array with the chunks to prefer, multiples of the file's, in
    its encoding.
    """
    if chunked:
        blocks = numbers.dask()
        return xr.Variable(dims, blocks if len(dims) == 2 else blocks[:, 0], attrs)
    lazy = indexing.LazilyIndexedArray(StoredArray(numbers))
    data = lazy if len(dims) == 2 else lazy[indexing.BasicIndexer((slice(None), 0))]
    preferred = {dim: sizes[0] for dim, sizes in zip(dims, numbers.dask().chunks, strict=False)}
    return xr.Variable(dims, data, attrs, encoding={"preferred_chunks": preferred})


def as_text_variable(dim: Hashable, text: StoredText, *, chunked: bool) -> xr.Variable:
    """Return text as a variable that reads it when it is used; see `as_variable`."""
    import dask.array as da

    if chunked:
        blocks: Any = max(1, *text.shape)
        return xr.Variable(
            (dim,), da.from_array(text, chunks=blocks, asarray=False, fancy=False, inline_array=True, meta=_NO_TEXT)
        )
    return xr.Variable((dim,), indexing.LazilyIndexedArray(StoredArray(text)))


_NO_TEXT: NDArray[Any] = np.empty(0, dtype=object)
