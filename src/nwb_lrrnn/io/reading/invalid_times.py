"""What a file calls invalid: intervals of the session whose bins were not observed, of everything or of some series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.hdf5 import H5, is_dataset
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog
from nwb_lrrnn.io.reading.column_values import referred
from nwb_lrrnn.io.reading.entries import TableEntry
from nwb_lrrnn.io.reading.ragged import read_ends
from nwb_lrrnn.io.reading.tables import read_rows


@dataclass(frozen=True, eq=False)
class InvalidTimes:
    """Invalid intervals (interval, 2) in s, and what was made of rows that say it in an odd way."""

    intervals: NDArray[np.float64]
    oddities: tuple[str, ...] = ()


def invalid_table(catalog: Catalog) -> TableEntry | None:
    """Return the table of invalid times, None where there is none with rows."""
    tables = (table for table in catalog.of_type("TimeIntervals") if table.name == "invalid_times" and table.n_rows)
    return next(tables, None)


def invalid_times(source: Source, catalog: Catalog, path: str) -> NDArray[np.float64] | None:
    """Return the intervals (interval, 2) in which what lies at `path` is invalid, None where there are none.

    Those that name series are invalid for these alone, all others for everything; one without stop lasts to the end.
    """
    entry = invalid_table(catalog)
    if entry is None:
        return None
    intervals = read_invalid_times(source, entry, path).intervals
    return intervals if len(intervals) else None


def read_invalid_times(source: Source, entry: TableEntry, path: str | None = None) -> InvalidTimes:
    """Return the intervals of a table of invalid times that concern what lies at `path`; all of them where it is None.

    Columns other than start, stop and series (tags among them) are not asked.
    """
    with source.open() as file:
        columns = read_rows(file, entry).columns
        start = columns.get("start_time")
        if start is None or start.dtype.kind not in "fiu":
            return InvalidTimes(np.empty((0, 2)), (f"{entry.path}: no start_time, so that nothing is invalid",))
        stop = columns.get("stop_time", np.full(len(start), np.nan))
        concerned, oddity = _concerned(file, entry, path)
    start, stop = start.astype(np.float64), stop.astype(np.float64)
    is_open, is_lost = np.isnan(stop), ~np.isfinite(start) | (stop < start)
    oddities = [oddity] if oddity else []
    if (is_open & ~is_lost).any():
        n_open = int((is_open & ~is_lost).sum())
        oddities.append(f"{entry.path}: {n_open} of {len(start)} intervals have no stop_time; they last to the end")
    if is_lost.any():
        why = "no start_time, or a stop_time before it"
        oddities.append(f"{entry.path}: {int(is_lost.sum())} of {len(start)} intervals have {why}; they hide nothing")
    intervals = np.stack([start, np.where(is_open, np.inf, stop)], axis=1)
    return InvalidTimes(intervals[~is_lost & concerned], tuple(oddities))


def _concerned(file: H5, entry: TableEntry, path: str | None) -> tuple[NDArray[np.bool_], str | None]:
    """Return which intervals concern what lies at `path` (interval,), and why all do where that cannot be read."""
    every, group = np.ones(entry.n_rows, dtype=bool), file[entry.path]
    if path is None or "timeseries" not in group:
        return every, None
    try:
        ends, oddity = read_ends(file, entry.path, "timeseries", entry.n_rows)
        references = _references(group["timeseries"])
    except ValueError as error:
        return every, f"{error}; every interval hides everything"
    begins, wanted = np.append(0, ends[:-1]), file.get(path)
    found = [reference and referred(file, reference) == wanted for reference in references[: ends[-1]]]
    names_it = [any(found[begin:end]) for begin, end in zip(begins, ends, strict=True)]
    return np.array(names_it, dtype=bool) | (ends == begins), oddity


def _references(dataset: H5) -> list[H5]:
    """Return the references to series in a column `timeseries`, whose values are (idx_start, count, timeseries)."""
    fields = dataset.dtype.names if is_dataset(dataset) and dataset.ndim == 1 else None
    if not fields or "timeseries" not in fields:
        raise ValueError(f"{dataset.name}: got {dataset.dtype} of shape {dataset.shape}, wanted references to series")
    return dataset[()]["timeseries"].tolist() if dataset.shape[0] else []
