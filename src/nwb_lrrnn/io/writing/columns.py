"""Arrays to columns of NWB tables and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.io.files.secrets import texts_without_secrets

if TYPE_CHECKING:
    import h5py

_COMPRESS_BYTES = 16_384  # below, a chunk's overhead outweighs what gzip saves


def storable(values: ArrayLike) -> NDArray[Any]:
    """Return values as numbers, booleans or text (object array of str, "" where it is missing); else as their text.

    >>> storable(["left", None])
    array(['left', ''], dtype=object)
    """
    array = np.asarray(values)
    if array.dtype.kind in "fiub":
        return array.astype(np.float32) if array.dtype == np.float16 else array
    if array.dtype.kind in "mM":
        array = np.where(np.isnat(array), "", array.astype(str))
    missing = np.asarray(np.frompyfunc(lambda item: item is None or item != item, 1, 1)(array), dtype=bool)
    text = np.empty(array.shape, dtype=object)
    text[...] = np.frompyfunc(lambda item: item.decode() if isinstance(item, bytes) else str(item), 1, 1)(array)
    text[missing] = ""
    return text


def clean_text(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array whose text has lost what may be secret in addresses; anything else as it is.

    >>> clean_text(np.array(["left", "https://me:pw@host.org/a.png?token=1"], dtype=object))
    array(['left', 'https://host.org/a.png'], dtype=object)
    """
    if array.dtype.kind not in "UO":
        return array
    cleaned = np.empty_like(array)
    cleaned[...] = np.frompyfunc(texts_without_secrets, 1, 1)(array)
    return cleaned


def compressed(array: NDArray[Any]) -> Any:
    """Return an array of numbers or booleans for pynwb's `data=`, gzip-compressed where that pays."""
    from hdmf.backends.hdf5.h5_utils import H5DataIO

    array = np.ascontiguousarray(array)
    if array.nbytes <= _COMPRESS_BYTES:
        return array
    return H5DataIO(
        data=array, compression="gzip", compression_opts=1, shuffle=True
    )  # higher levels: slower, no smaller


def as_column(name: str, description: str, values: ArrayLike) -> Any:
    """Return a table column of values (row, ...), one entry (a scalar or an array) in each row."""
    from hdmf.common import VectorData

    array = storable(values)
    data = array.tolist() if array.dtype == object else compressed(array)
    return VectorData(name=name, description=description, data=data)


def as_ragged_column(name: str, description: str, rows: Sequence[NDArray[Any]]) -> list[Any]:
    """Return a table column with an array (entry, ...) of any length in each row, and its index."""
    from hdmf.common import VectorIndex

    target = as_column(name, description, np.concatenate(list(rows)) if rows else np.empty(0))
    ends = np.cumsum([len(row) for row in rows], dtype=np.uint64)
    return [target, VectorIndex(name=f"{name}_index", data=ends, target=target)]


def as_table(name: str, description: str, columns: Sequence[Any]) -> Any:
    """Return a table of columns, not yet in a file."""
    from hdmf.common import DynamicTable

    return DynamicTable(name=name, description=description, columns=list(columns))


def read_column(group: h5py.Group, name: str) -> list[NDArray[Any]] | NDArray[Any]:
    """Return one column of a table in an open file: an array (row, ...), or a list with an array for each row.

    Text is an object array of str.
    """
    dataset: Any = group[name]
    values = dataset.asstr()[()] if dataset.dtype.kind == "O" else dataset[()]
    if f"{name}_index" not in group:
        return values
    ends: Any = group[f"{name}_index"]
    return np.split(values, ends[()].astype(np.intp)[:-1]) if ends.size else []
