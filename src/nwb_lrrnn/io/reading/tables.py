"""Columns of the tables of an NWB file: units, trials, electrodes, ROIs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.guarded import root_of
from nwb_lrrnn.io.files.hdf5 import H5, is_dataset, is_text
from nwb_lrrnn.io.reading.column_values import column_values, read_values, referred
from nwb_lrrnn.io.reading.entries import TableEntry, table_entry
from nwb_lrrnn.io.reading.marks import type_of
from nwb_lrrnn.io.reading.ragged import read_ends

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
    ids_fail: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: NDArray[Any], dropped: Sequence[tuple[Any, str]] = ()) -> Rows:
        """Return the rows at `index` (integers or booleans), with `dropped` added to the reasons."""
        columns = {name: values[index] for name, values in self.columns.items()}
        return replace(self, ids=self.ids[index], columns=columns, dropped=(*self.dropped, *dropped))

    def frame(self, dim: str) -> pd.DataFrame:
        """Return the rows as a DataFrame with the ids in the column `dim`; see `free_names`."""
        import pandas as pd

        columns = zip(free_names(self.columns, dim, {dim}), self.columns.values(), strict=True)
        return pd.DataFrame({**dict(columns), dim: self.ids})


def free_names(names: Iterable[str], dim: str, taken: Set[str]) -> list[str]:
    """Return under which names the columns of a table over `dim` are known: `<dim>_<name>` where a name is taken.

    >>> free_names(["side", "trial"], "trial", {"trial"})
    ['side', 'trial_trial']
    """
    free: list[str] = []
    wanted = list(names)
    for name in wanted:
        fresh = name
        while fresh in taken or fresh in free or (fresh != name and fresh in wanted):
            fresh = f"{dim}_{fresh}"
        free.append(fresh)
    return free


def repeated_ids(path: str, rows: Rows) -> list[str]:
    """Return the problem that the ids of a table are none, where it is so."""
    return [f"{path}: ids repeat or are no numbers; rows go by their own numbers instead"] if rows.ids_fail else []


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
        columns.update(_column(file, group, name, entry.n_rows))
    stored = group["id"] if "id" in group else None
    if stored is not None and not is_dataset(stored):
        return Rows(np.arange(entry.n_rows), columns, ids_fail=True)
    if stored is not None and (stored.ndim != 1 or not (stored.dtype.kind in "iufbSU" or is_text(stored))):
        return Rows(np.arange(entry.n_rows), columns, ids_fail=True)
    ids = np.arange(entry.n_rows) if stored is None else stored[()]
    if len(ids) != entry.n_rows:
        raise ChangedFileError(
            f"{file.filename}: {entry.path} has {len(ids)} rows, {entry.n_rows} when the file was opened; open it again"
        )
    if len(np.unique(ids)) == len(ids):
        return Rows(ids, columns)
    return Rows(np.arange(len(ids)), {**columns, "id": ids}, ids_fail=True)


def region_columns(
    file: H5, region: H5, rows: NDArray[Any], known: dict[H5, Rows] | None = None
) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]], H5 | None]:
    """Return ids (unit,) and scalar columns of the table rows that a DynamicTableRegion points to, and the table.

    Ids are None where the table cannot be found or is shorter than the row numbers; columns without a single value are
    left out. A table that is read is added to `known`, so that regions of one table read it once.
    """
    table, group = _region_table(file, region, {} if known is None else known)
    if table is None:
        return None, {}, None
    if rows.dtype.kind not in "iu":
        return None, {}, group
    if len(rows) and (rows.min() < 0 or rows.max() >= len(table)):
        return None, {}, group
    taken = table.take(rows)
    columns = {name: values for name, values in taken.columns.items() if not _is_empty(values)}
    return taken.ids, columns, group


def _region_table(file: H5, region: H5, known: dict[H5, Rows]) -> tuple[Rows | None, H5 | None]:
    """Return the table that a DynamicTableRegion points to and its group; None, None where there is none."""
    reference = region.attrs.get("table")
    own = root_of(region, file)
    group = referred(own, reference) if reference else own.get(ELECTRODES)
    if group is None or "colnames" not in group.attrs:
        return None, None
    if group not in known:
        # Never ask what a reference leads to for its name: HDF5 searches the whole file for it.
        known[group] = _rows(own, group, table_entry(group, "", ""))
    return known[group], group


def unit_electrodes(file: H5, entry: TableEntry) -> tuple[dict[str, NDArray[Any]], str | None]:
    """Return the scalar electrode columns (unit,) of each unit, and what is wrong with them in words, or None.

    They are those of the first electrode that a unit names. A unit that names none, or one that is not there, has empty
    text and NaN.
    """
    if "electrodes" not in entry.columns:
        return {}, None
    path, group = f"{entry.path}/electrodes", file[entry.path]
    region = group["electrodes"]
    if region.ndim != 1 or region.dtype.kind not in "iu":
        return {}, f"{path}: got {region.dtype} of shape {region.shape}, wanted row numbers; electrodes are left out"
    stored = region[()].astype(np.int64)
    if "electrodes_index" in group or stored.shape != (entry.n_rows,):
        try:
            ends, oddity = read_ends(file, entry.path, "electrodes", entry.n_rows)
        except ValueError as error:
            return {}, f"{error}; electrodes are left out"
        firsts = np.append(0, ends[:-1]).astype(np.int64)[: len(ends)]
        rows = np.full(entry.n_rows, -1)
        rows[ends > firsts] = stored[firsts[ends > firsts]]
    else:
        rows, oddity = stored, None
    table, _ = _region_table(file, region, {})
    if table is None:
        return {}, f"{path}: the units name electrodes, but the file holds no table of them"
    there = (rows >= 0) & (rows < len(table))
    if not there.all():
        oddity = (
            f"{path}: {int((~there).sum())} of {len(rows)} units name no electrode of the table; what it says of "
            "electrodes (location, group, ...) is empty for them"
        )
    taken = {name: values[rows[there]] for name, values in table.columns.items()}
    return {name: _filled(values, there) for name, values in taken.items() if not _is_empty(values)}, oddity


def _filled(values: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[Any]:
    """Return values for all rows (row,), empty text or NaN where `there` (row,) is False."""
    if there.all():
        return values
    if values.dtype.kind == "U":
        filled = np.full(len(there), "", dtype=values.dtype)
    else:
        filled = np.full(len(there), np.nan, dtype=np.float32 if values.dtype == np.float32 else np.float64)
    filled[there] = values
    return filled


def trial_rows(rows: Rows) -> Rows:
    """Return the rows of a TimeIntervals table that make trials; the others are in `dropped` with a reason.

    Those without a start or stop, without duration, or that stop before they start make none. Where every row is an
    instant (stop missing or equal to start), the table holds events and all of them stay. Ids stay those of the file.
    """
    start = rows.columns.get("start_time")
    if start is None or start.dtype.kind not in "fiu":
        return _no_trials(rows, "the table has no start_time")
    stop = rows.columns.get("stop_time", np.full(len(rows), np.nan))
    if stop.dtype.kind not in "fiu":
        return _no_trials(rows, "stop_time is no number")
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


def _no_trials(rows: Rows, reason: str) -> Rows:
    """Return no rows, all dropped for one reason; whatever stood for their times are no times."""
    columns = {
        name: np.full(len(rows), np.nan) if name in ("start_time", "stop_time") else values
        for name, values in rows.columns.items()
    }
    none = replace(rows, columns=columns)
    return none.take(np.zeros(0, dtype=int), [(id_, reason) for id_ in rows.ids.tolist()])


def _column(file: H5, group: H5, name: str, n_rows: int) -> dict[str, NDArray[Any]]:
    """Return a column as {name: values}, as name_0, name_1, ... where it holds a few numbers a row, or as nothing."""
    dataset = group[name]
    kind = type_of(dataset)
    if not dataset.ndim or dataset.shape[0] != n_rows or dataset.dtype.names or kind == "DynamicTableRegion":
        return {}
    if dataset.ndim == 1:
        values = column_values(file, group, name)
        return {name: values} if values.dtype != object else {}
    if not is_split(dataset):
        return {}
    values = read_values(file, dataset)
    return {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}


def is_split(dataset: H5) -> bool:
    """Return whether a column of several numbers a row is read, as one column for each."""
    return dataset.ndim == 2 and dataset.shape[1] <= _MOST_COMPONENTS and dataset.dtype.kind in "fiub"


def _is_empty(values: NDArray[Any]) -> bool:
    """Return whether a column says nothing: all NaN or all empty text."""
    if values.dtype.kind == "f":
        return bool(np.isnan(values).all())
    return values.dtype.kind == "U" and bool((values == "").all())
