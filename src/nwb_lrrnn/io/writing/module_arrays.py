"""Named arrays in one table of core NWB types, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.writing.columns import as_column, as_ragged_column, as_table, read_column

if TYPE_CHECKING:
    import h5py

_EXACT_INTEGER = 2**53  # every integer up to here is a float64
_DICTIONARY = re.compile(r"{.+:.+}")


@dataclass(frozen=True)
class NamedArray:
    """An array and the names of its dims (empty where it has none to tell)."""

    values: NDArray[Any]
    dims: tuple[str, ...] = ()


def as_named_arrays(argument: str, arrays: Mapping[str, Any]) -> dict[str, NamedArray]:
    """Return arrays and scalars checked for what a table can hold: numbers, booleans, text that is no dictionary.

    TypeError for other kinds, ValueError for a dictionary; `argument` is named in the message.
    """
    named = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        if not _can_be_stored(array):
            raise TypeError(
                f"{argument}[{name!r}]: got {type(value).__name__} of dtype {array.dtype}, wanted numbers, booleans or "
                "text; store what it consists of under names of its own"
            )
        if array.dtype.kind in "UO" and any(_DICTIONARY.search(text) for text in array.reshape(-1).tolist()):
            raise ValueError(
                f"{argument}[{name!r}]: got a text with a dictionary in it, wanted plain values; give each entry a "
                "name of its own"
            )
        named[str(name)] = NamedArray(array)
    return named


def array_table(name: str, description: str, arrays: Mapping[str, NamedArray]) -> Any:
    """Return a table with one row for each array: its name, shape, dtype and values, and dims where there are any.

    Numbers and booleans lie in `values` as float64. Text, and integers that no float64 is equal to, lie in `text`.
    """
    pairs = [_encode(array.values) for array in arrays.values()]
    columns = [
        # Not `name`: hdmf keeps that word for the table itself and would warn every reader of the file.
        as_column("array", "Name of the array", list(arrays)),
        as_column("shape", "Its shape; scalar for a single value", [_shape_text(a.values) for a in arrays.values()]),
        as_column("dtype", "Its type in numpy's notation", [_dtype_text(a.values) for a in arrays.values()]),
        *as_ragged_column("values", "Its numbers in C order", [numbers for numbers, _ in pairs]),
    ]
    if any(array.dims for array in arrays.values()):
        columns.append(as_column("dims", "Names of its dims", [" ".join(array.dims) for array in arrays.values()]))
    if any(text.size for _, text in pairs):
        columns += as_ragged_column("text", "Its text in C order", [text for _, text in pairs])
    return as_table(name, description, columns)


def read_array_table(group: h5py.Group) -> dict[str, NamedArray]:
    """Return the arrays of a table in an open file as they were written."""
    heads = [read_column(group, column) for column in ("array", "shape", "dtype")]
    values = read_column(group, "values")
    dims = read_column(group, "dims") if "dims" in group else [""] * len(values)
    texts = read_column(group, "text") if "text" in group else [np.empty(0, dtype=object)] * len(values)
    arrays = {}
    for name, shape, dtype, numbers, text, names in zip(*heads, values, texts, dims, strict=True):
        array = _decode(numbers, text, dtype)
        size = () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
        arrays[name] = NamedArray(array.reshape(size), tuple(names.split()))
    return arrays


def _can_be_stored(array: NDArray[Any]) -> bool:
    if array.dtype.kind == "O":
        return all(isinstance(item, str) for item in array.reshape(-1).tolist())
    return array.dtype.kind in "biuU" or array.dtype in (
        np.float16,
        np.float32,
        np.float64,
        np.complex64,
        np.complex128,
    )


def _shape_text(array: NDArray[Any]) -> str:
    return "x".join(str(n) for n in array.shape) if array.ndim else "scalar"


def _dtype_text(array: NDArray[Any]) -> str:
    return "object" if array.dtype.kind == "O" else array.dtype.newbyteorder("=").str.lstrip("<>=|")


def _encode(array: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return the numbers and the text that stand for an array; one of the two is empty."""
    flat = array.reshape(-1)
    no_numbers, no_text = np.empty(0), np.empty(0, dtype=object)
    if array.dtype.kind in "UO":
        return no_numbers, flat.astype(object)
    if array.dtype.kind == "c":
        return flat.astype(np.complex128).view(np.float64), no_text
    if array.dtype.kind in "iu" and any(
        abs(int(n)) > _EXACT_INTEGER for n in (flat.min(initial=0), flat.max(initial=0))
    ):
        return no_numbers, np.array([str(int(n)) for n in flat], dtype=object)
    return flat.astype(np.float64), no_text


def _decode(numbers: NDArray[np.float64], text: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype == "object":
        return text.astype(object)
    target = np.dtype(dtype)
    if target.kind == "U":
        return text.astype(target)
    if target.kind == "c":
        return np.ascontiguousarray(numbers).view(np.complex128).astype(target)
    if text.size:
        return np.array([int(digits) for digits in text], dtype=target)
    return numbers.astype(target)
