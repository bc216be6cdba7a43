"""Arrays to columns of NWB tables and back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.io.files.secrets import texts_without_secrets

if TYPE_CHECKING:
    import h5py

_COMPRESS_BYTES = 16_384  # below, a chunk's overhead outweighs what gzip saves


def storable(values: ArrayLike) -> NDArray[Any]:
    """Return values as numbers, booleans or text (object array of str); anything else as its text.

    Parameters
    ----------
    values : array-like
        Any array. Missing entries among text (None, NaN) become "".

    Returns
    -------
    array : ndarray
        Of the same shape.

    Examples
    --------
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

    Parameters
    ----------
    array : ndarray
        Numbers, booleans or text.

    Returns
    -------
    array : ndarray
        Of the same shape and dtype.

    Examples
    --------
    >>> clean_text(np.array(["left", "https://me:pw@host.org/a.png?token=1"], dtype=object))
    array(['left', 'https://host.org/a.png'], dtype=object)
    """
    if array.dtype.kind not in "UO":
        return array
    cleaned = np.empty_like(array)
    cleaned[...] = np.frompyfunc(texts_without_secrets, 1, 1)(array)
    return cleaned


def compressed(array: NDArray[Any]) -> Any:
    """Return an array for pynwb to write, gzip-compressed where that pays.

    Parameters
    ----------
    array : ndarray
        Numbers or booleans.

    Returns
    -------
    data : ndarray or H5DataIO
        What the `data` argument of a pynwb object takes.
    """
    from hdmf.backends.hdf5.h5_utils import H5DataIO

    array = np.ascontiguousarray(array)
    if array.nbytes <= _COMPRESS_BYTES:
        return array
    return H5DataIO(
        data=array, compression="gzip", compression_opts=1, shuffle=True
    )  # higher levels: slower, no smaller


def as_column(name: str, description: str, values: ArrayLike) -> Any:
    """Return a table column with one entry (a scalar or an array) in each row.

    Parameters
    ----------
    name, description : str
        As they stand in the file.
    values : array-like, shape (row, ...)
        Entries; see `storable`.

    Returns
    -------
    column : hdmf.common.VectorData
        Not yet in a table.
    """
    from hdmf.common import VectorData

    array = storable(values)
    data = array.tolist() if array.dtype == object else compressed(array)
    return VectorData(name=name, description=description, data=data)


def as_ragged_column(name: str, description: str, rows: Sequence[NDArray[Any]]) -> list[Any]:
    """Return a table column with an array of any length in each row, and its index.

    Parameters
    ----------
    name, description : str
        As they stand in the file.
    rows : sequence of ndarray, shape (entry, ...)
        All of one kind.

    Returns
    -------
    columns : list of hdmf.common.VectorData
        The entries and the index, in the order in which a table takes them.
    """
    from hdmf.common import VectorIndex

    target = as_column(name, description, np.concatenate(list(rows)) if rows else np.empty(0))
    ends = np.cumsum([len(row) for row in rows], dtype=np.uint64)
    return [target, VectorIndex(name=f"{name}_index", data=ends, target=target)]


def as_table(name: str, description: str, columns: Sequence[Any]) -> Any:
    """Return a table of columns.

    Parameters
    ----------
    name, description : str
        As they stand in the file.
    columns : sequence of hdmf.common.VectorData
        From `as_column` and `as_ragged_column`.

    Returns
    -------
    table : hdmf.common.DynamicTable
        Not yet in a file.
    """
    from hdmf.common import DynamicTable

    return DynamicTable(name=name, description=description, columns=list(columns))


def read_column(group: "h5py.Group", name: str) -> list[NDArray[Any]] | NDArray[Any]:
    """Return one column of a table in an open file: an array, or a list with an array for each row.

    Parameters
    ----------
    group : h5py.Group
        The table.
    name : str
        The column.

    Returns
    -------
    values : ndarray, shape (row, ...), or list of ndarray
        Text as an object array of str.
    """
    dataset: Any = group[name]
    values = dataset.asstr()[()] if dataset.dtype.kind == "O" else dataset[()]
    if f"{name}_index" not in group:
        return values
    ends: Any = group[f"{name}_index"]
    return np.split(values, ends[()].astype(np.intp)[:-1]) if ends.size else []
