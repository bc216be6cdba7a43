"""Columns of the tables of an NWB file: units, trials, electrodes, ROIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.guarded import root_of
from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.reading.entries import TableEntry, table_entry

if TYPE_CHECKING:
    import pandas as pd

# Long, or read by functions of their own.
_NEVER_METADATA = ("spike_times", "obs_intervals", "waveforms", "waveform_mean", "waveform_sd", "timeseries")
ELECTRODES = "/general/extracellular_ephys/electrodes"
_MOST_COMPONENTS = 3  # a column of up to three numbers a row (a centroid, iscell with its probability) is split


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table: their ids and one array per scalar column.

    `ids` are those of the file where they are unique, else row numbers, with the file's ids in the column `id`.
    `dropped` says which rows were left out and why.
    """

    ids: NDArray[Any]
    columns: dict[str, NDArray[Any]]
    dropped: tuple[tuple[Any, str], ...] = ()
    ids_repeat: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: NDArray[Any], dropped: Sequence[tuple[Any, str]] = ()) -> Rows:
        """Return the rows at `index` (integers or booleans), with `dropped` added to the reasons."""
        columns = {name: values[index] for name, values in self.columns.items()}
        return replace(self, ids=self.ids[index], columns=columns, dropped=(*self.dropped, *dropped))

    def frame(self, dim: str) -> pd.DataFrame:
        """Return the rows as a DataFrame with the ids in the column `dim`."""
        import pandas as pd

        return pd.DataFrame({**self.columns, dim: self.ids})


def repeated_ids(path: str, rows: Rows) -> list[str]:
    """Return the problem that the ids of a table repeat, where they do."""
    return [f"{path}: ids repeat; rows go by their numbers instead"] if rows.ids_repeat else []


def read_rows(file: H5, entry: TableEntry) -> Rows:
    """Return ids and scalar columns of all rows of a table in file order.

    Ragged columns and long ones are left out; a column of two or three numbers a row becomes `name_0`, `name_1`, ...;
    references become the names of what they refer to. Raises ChangedFileError where the table is no longer there.
    """
    group = file.get(entry.path)
    if group is None:
        raise ChangedFileError(f"{file.filename}: {entry.path} is gone since the file was opened; open it again")
    return _rows(file, group, entry)


def _rows(file: H5, group: H5, entry: TableEntry) -> Rows:
    """Return ids and scalar columns of the table in a group; see `read_rows`."""
    columns: dict[str, NDArray[Any]] = {}
    for name in entry.columns:
        if name in _NEVER_METADATA or f"{name}_index" in group or group[name].ndim > 2:
            continue
        columns.update(_column(file, group[name], name, entry.n_rows))
    ids = group["id"][()] if "id" in group else np.arange(entry.n_rows)
    if len(ids) != entry.n_rows:
        raise ChangedFileError(
            f"{file.filename}: {entry.path} has {len(ids)} rows, {entry.n_rows} when the file was opened; open it again"
        )
    if len(np.unique(ids)) == len(ids):
        return Rows(ids, columns)
    return Rows(np.arange(len(ids)), {**columns, "id": ids}, ids_repeat=True)


def read_ragged(file: H5, path: str, name: str, n_rows: int) -> list[NDArray[Any]] | None:
    """Return one array per row of a ragged column of the table at `path`; None where it has no such column.

    They are views of one flat array, which is read at once: row by row would decompress a chunk once per row. Raises
    where the index does not fit the column.
    """
    group = file[path]
    if name not in group:
        return None
    flat = read_values(file, group[name])
    ends = read_ends(file, path, name, n_rows)
    return np.split(flat[: ends[-1]] if n_rows else flat, ends[:-1])


def read_ends(file: H5, path: str, name: str, n_rows: int) -> NDArray[np.int64]:
    """Return where the values of each row of a ragged column end (row,), or raise where its index does not fit.

    Row k holds the values from `ends[k - 1]` (0 for the first) up to and without `ends[k]`.
    """
    group = file[path]
    n_values = (group[name].shape or (0,))[0]
    if f"{name}_index" not in group:
        if n_rows == 1:
            return np.array([n_values])
        raise ValueError(
            f"{path}/{name}: the column has no {name}_index, wanted the end of each row; it cannot be divided among "
            f"{n_rows} rows: repair the file with pynwb"
        )
    ends = group[f"{name}_index"][()].astype(np.int64)
    if len(ends) != n_rows or (n_rows and (ends[-1] > n_values or (np.diff(ends, prepend=0) < 0).any())):
        raise ValueError(
            f"{path}/{name}_index: got {len(ends)} ends up to {ends.max(initial=0)} for {n_rows} rows and {n_values} "
            "values, wanted ascending ends, one per row; the table is damaged: repair the file with pynwb"
        )
    return ends


def region_columns(
    file: H5, region: H5, rows: NDArray[Any], known: dict[H5, Rows] | None = None
) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]], H5 | None]:
    """Return ids (unit,) and scalar columns of the table rows that a DynamicTableRegion points to, and the table.

    Ids are None where the table cannot be found or is shorter than the row numbers; columns without a single value are
    left out. A table that is read is added to `known`, so that regions of one table read it once.
    """
    reference = region.attrs.get("table")
    own = root_of(region, file)
    group = _referred(own, reference) if reference else own.get(ELECTRODES)
    if group is None or "colnames" not in group.attrs:
        return None, {}, None
    known = {} if known is None else known
    if group not in known:
        # Never ask what a reference leads to for its name: HDF5 searches the whole file for it.
        known[group] = _rows(own, group, table_entry(group, "", ""))
    table = known[group]
    if len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
        return None, {}, group
    taken = table.take(rows)
    columns = {name: values for name, values in taken.columns.items() if not _is_empty(values)}
    return taken.ids, columns, group


def unit_electrodes(file: H5, entry: TableEntry) -> dict[str, NDArray[Any]]:
    """Return the scalar electrode columns (unit,) of each unit: those of the first electrode that the unit names.

    Empty where some unit names none.
    """
    if "electrodes" not in entry.columns:
        return {}
    group = file[entry.path]
    region = group["electrodes"]
    rows = region[()]
    if "electrodes_index" in group:
        ends = group["electrodes_index"][()].astype(np.int64)
        firsts = np.concatenate([[0], ends[:-1]])
        if (ends <= firsts).any() or ends.max(initial=0) > len(rows):
            return {}
        rows = rows[firsts]
    if rows.shape != (entry.n_rows,):
        return {}
    return region_columns(file, region, rows)[1]


def trial_rows(rows: Rows) -> Rows:
    """Return the rows of a TimeIntervals table that make trials; the others are in `dropped` with a reason.

    Those without a start or stop, without duration, or that stop before they start make none. Where every row is an
    instant (stop missing or equal to start), the table holds events and all of them stay. Ids stay those of the file.
    """
    start = rows.columns.get("start_time")
    if start is None or start.dtype.kind not in "fiu":
        return rows.take(np.zeros(0, dtype=int), [(id_, "the table has no start_time") for id_ in rows.ids.tolist()])
    stop = rows.columns.get("stop_time", np.full(len(rows), np.nan))
    instants = bool((np.isnan(stop) | (stop == start)).all())
    reasons: list[tuple[NDArray[np.bool_], str]] = [(~np.isfinite(start), "start_time is NaN")]
    if not instants:
        reasons.append((~np.isfinite(stop), "stop_time is NaN"))
        reasons.append((stop < start, "stop_time lies before start_time"))
        reasons.append((stop == start, "stop_time equals start_time"))
    keep = np.ones(len(rows), dtype=bool)
    dropped: list[tuple[Any, str]] = []
    for bad, reason in reasons:
        dropped += [(id_, reason) for id_ in rows.ids[bad & keep].tolist()]
        keep &= ~bad
    return rows.take(keep, dropped)


def _column(file: H5, dataset: H5, name: str, n_rows: int) -> dict[str, NDArray[Any]]:
    """Return a column as {name: values}, as name_0, name_1, ... where it holds a few numbers a row, or as nothing."""
    kind = plain(dataset.attrs.get("neurodata_type"))
    if not dataset.ndim or dataset.shape[0] != n_rows or dataset.dtype.names or kind == "DynamicTableRegion":
        return {}
    if dataset.ndim == 1:
        values = read_values(file, dataset)
        return {name: values} if values.dtype != object else {}
    if dataset.shape[1] > _MOST_COMPONENTS or dataset.dtype.kind not in "fiub":
        return {}
    values = read_values(file, dataset)
    return {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}


def read_values(file: H5, dataset: H5, key: Any = ()) -> NDArray[Any]:
    """Return a part of a dataset (anything but compound) as a native numpy array.

    Text is decoded, references become the names of what they refer to, float16 and big-endian are converted.
    """
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr(errors="replace")[key], dtype=np.str_)
    if h5py.check_ref_dtype(dataset.dtype) is h5py.Reference:
        return np.asarray(_names(root_of(dataset, file), np.asarray(dataset[key])), dtype=np.str_)
    values = dataset[key]
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _names(file: H5, references: NDArray[Any]) -> list[str]:
    """Return the names of what references lead to; empty where one leads to nothing."""
    names: dict[H5, str] = {None: ""}  # HDF5 searches the whole file for each name, so ask once for each object
    found = [_referred(file, reference) if reference else None for reference in references.reshape(-1)]
    for target in found:
        if target is not None and target not in names:
            names[target] = (target.name or "").rsplit("/", 1)[-1]
    return [names[target] for target in found]


def _referred(file: H5, reference: H5) -> H5 | None:
    """Return what a reference leads to, None where that is gone."""
    try:
        return file[reference]
    except (KeyError, ValueError, RuntimeError):
        return None


def _is_empty(values: NDArray[Any]) -> bool:
    """Return whether a column says nothing: all NaN or all empty text."""
    if values.dtype.kind == "f":
        return bool(np.isnan(values).all())
    return values.dtype.kind == "U" and bool((values == "").all())
