"""Ragged columns of a table: where the values of each row end, also where the index is an old or a damaged one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.hdf5 import H5, is_dataset, low_h5py
from nwb_lrrnn.io.reading.column_values import column_values


def read_ragged(file: H5, path: str, name: str, n_rows: int) -> list[NDArray[Any]] | None:
    """Return one array per row of a ragged column of the table at `path`; None where it has no such column.

    They are views of one flat array, which is read at once: row by row would decompress a chunk once per row. Raises
    where the index does not fit the column.
    """
    group = file[path]
    if name not in group:
        return None
    flat = column_values(file, group, name)
    ends, _ = read_ends(file, path, name, n_rows)
    return np.split(flat[: ends[-1]] if n_rows else flat, ends[:-1])


def read_ends(file: H5, path: str, name: str, n_rows: int) -> tuple[NDArray[np.int64], str | None]:
    """Return where the values of each row of a ragged column end (row,), and what is odd about it in words, or None.

    Row k holds the values from `ends[k - 1]` (0 for the first) up to and without `ends[k]`. An index of region
    references (NWB 2.0b) is resolved; one that certainly holds where rows begin is read so. Raises where it does not
    fit the column.
    """
    group = file[path]
    n_values = (group[name].shape or (0,))[0]
    if f"{name}_index" not in group:
        if n_rows == 1:
            return np.array([n_values]), None
        raise ValueError(
            f"{path}/{name}: the column has no {name}_index, wanted the end of each row; it cannot be divided among "
            f"{n_rows} rows: repair the file with pynwb"
        )
    ends = _stored_ends(group, path, name)
    if len(ends) != n_rows or (n_rows and (ends[-1] > n_values or (np.diff(ends, prepend=0) < 0).any())):
        raise ValueError(
            f"{path}/{name}_index: got {len(ends)} ends up to {ends.max(initial=0)} for {n_rows} rows and {n_values} "
            "values, wanted ascending ends, one per row; the table is damaged: repair the file with pynwb"
        )
    if not n_rows or ends[-1] == n_values:
        return ends, None
    if group[f"{name}_index"].dtype.kind in "iuf" and _holds_starts(group[name], ends):
        odd = "holds where each row begins, wanted where it ends; it is read as what it holds: repair the file"
        return np.append(ends[1:], n_values), f"{path}/{name}_index: the index {odd}"
    what, row = ("spike times", "unit") if name == "spike_times" else ("values", "row")
    return ends, (
        f"{path}/{name}: {n_values - ends[-1]} of {n_values} {what} belong to no {row} and are lost, as {name}_index "
        f"ends at {ends[-1]}; the table is damaged: repair the file with pynwb"
    )


def _stored_ends(group: H5, path: str, name: str) -> NDArray[np.int64]:
    """Return the index of a ragged column as whole numbers (row,), or raise where it holds anything else."""
    import h5py

    index = group[f"{name}_index"]
    if not is_dataset(index):
        raise ValueError(
            f"{path}/{name}_index: this is a group, wanted the end of each row; repair the file with pynwb"
        )
    if index.ndim == 1 and h5py.check_ref_dtype(index.dtype) is h5py.RegionReference:
        return _ends_of_regions(group[name], index, f"{path}/{name}_index")
    stored = index[()] if index.ndim == 1 and index.dtype.kind in "iuf" else None
    if stored is None or not (np.isfinite(stored) & (stored == np.floor(stored))).all():
        raise ValueError(
            f"{path}/{name}_index: got {index.dtype} of shape {index.shape}, wanted whole numbers, the end of each "
            "row; repair the file with pynwb"
        )
    return stored.astype(np.int64)


def _ends_of_regions(column: H5, index: H5, path: str) -> NDArray[np.int64]:
    """Return where regions of a column end (row,), or raise where they do not lie one after another."""
    h5r = low_h5py().h5r
    ends: list[int] = []
    for row, reference in enumerate(index[()]):
        at = ends[-1] if ends else 0
        if not reference:
            ends.append(at)
            continue
        try:
            is_of_column = h5r.dereference(reference, index.id) == column.id
            space = h5r.get_region(reference, index.id)
            n_values = int(space.get_select_npoints())
            first, last = (int(bound[0]) for bound in space.get_select_bounds()) if n_values else (at, at - 1)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: the region of row {row} leads to nothing ({error}); repair the file") from error
        if not is_of_column or first != at or last - first + 1 != n_values:
            raise ValueError(
                f"{path}: the region of row {row} does not lie after that of the row before it, wanted regions of "
                f"{column.name} one after another; repair the file"
            )
        ends.append(last + 1)
    return np.array(ends, dtype=np.int64)


def _holds_starts(column: H5, index: NDArray[np.int64]) -> bool:
    """Return whether an index that ends early holds where rows begin: what it leaves over is one more ascending row."""
    at = int(index[-1])
    if index[0] != 0 or column.ndim != 1 or column.dtype.kind not in "fiu" or (at == 0 and len(index) > 1):
        return False
    rest = column[max(at - 1, 0) :]
    ascends = bool((np.diff(rest[1 if at else 0 :]) >= 0).all()) and bool(np.isfinite(rest).all())
    return ascends and (at == 0 or bool(rest[1] < rest[0]))
