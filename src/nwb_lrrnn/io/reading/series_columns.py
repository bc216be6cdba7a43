"""What a file says of the columns of a series: conversion, unit of measure, and the ROIs or electrodes they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import MisreadValuesError
from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.files.zarr.file import ZarrDataset
from nwb_lrrnn.io.reading.assembly import object_id_of, origin
from nwb_lrrnn.io.reading.catalog import Catalog, listed
from nwb_lrrnn.io.reading.clock import read_clock
from nwb_lrrnn.io.reading.entries import SeriesEntry, find_dataset
from nwb_lrrnn.io.reading.lazy import SampledSeries
from nwb_lrrnn.io.reading.series_kinds import layout
from nwb_lrrnn.io.reading.tables import Rows, region_columns


def describe(
    source: Source, file: H5, entry: SeriesEntry, known: dict[H5, Rows] | None = None
) -> tuple[SampledSeries, Rows, dict[str, Any]]:
    """Return a series (time, column) with conversion and offset, not read yet, a row for each column, and attributes.

    The series can be read (see `why_not_read`); `file` is `source`, open; tables of the columns are added to `known`.
    """
    shape = layout(entry)
    group = file[entry.path]
    data = group["data"]
    gain = _gain(group, entry, shape.n_columns)
    rows = _column_rows(file, group, entry, shape.n_columns, known)
    path, dtype = f"{entry.path}/data", working_dtype(data.dtype)
    series = SampledSeries(
        source, path, entry.shape or (), data.chunks, dtype, gain, entry.offset, transposed=shape.transposed
    )
    return series, rows, origin(source, entry, object_id_of(group), entry.units)


def value_problems(source: Source, entry: SeriesEntry, n_columns: int) -> list[str]:
    """Return what is wrong with the values of a series beside its attributes: gains, resolution, lost chunks."""
    with source.open() as file:
        group = file[entry.path]
        try:
            _gain(group, entry, n_columns)
        except MisreadValuesError as error:
            return [str(error)]
        problems = []
        data = group["data"]
        resolution = plain(data.attrs.get("resolution"))
        if resolution is not None and not isinstance(resolution, int | float):
            problems.append(f"{entry.path}: `resolution` is {resolution!r}, wanted one number; no value depends on it")
        lost = data.lost_chunks() if isinstance(data, ZarrDataset) else []
    if lost:
        said = listed(lost, at_most=3)
        problems.append(f"{entry.path}/data: {len(lost)} chunks of the store are missing ({said}); copy it again")
    return problems


def _gain(group: H5, entry: SeriesEntry, n_columns: int) -> NDArray[np.float64] | float:
    """Return conversion times channel_conversion: a number, or one per column; raise where they are not."""
    per_channel, why = find_dataset(group, "channel_conversion")
    if per_channel is None and why is None:
        return entry.conversion
    path = f"{entry.path}/channel_conversion"
    if per_channel is None:
        raise MisreadValuesError(f"{path}: {why}; repair the file")
    if per_channel.dtype.kind not in "fiu":
        raise MisreadValuesError(f"{path}: got dtype {per_channel.dtype}, wanted numbers; repair the file")
    values = np.asarray(per_channel[()], dtype=np.float64).reshape(-1)
    if len(values) != n_columns:
        raise MisreadValuesError(
            f"{path}: got {len(values)} values for {n_columns} columns of data, wanted one a column; repair the file"
        )
    bad = np.flatnonzero(~np.isfinite(values) | (values == 0))
    if len(bad):
        raise MisreadValuesError(
            f"{path}: got {values[bad[0]]:g} for column {bad[0]}, wanted finite numbers other than 0; repair the file"
        )
    return entry.conversion * values


def _column_rows(file: H5, group: H5, entry: SeriesEntry, n_columns: int, known: dict[H5, Rows] | None = None) -> Rows:
    """Return ids and metadata of the columns: those of their ROIs or electrodes, else their numbers."""
    numbers = np.arange(n_columns)
    if not entry.region or entry.n_region != n_columns:
        return Rows(numbers, {})
    region = group[entry.region]
    ids, columns, table = region_columns(file, region, np.asarray(region[()]), known)
    if ids is None:
        return Rows(numbers, {})
    if entry.region == "rois":
        columns |= _plane(table, n_columns)
    if len(np.unique(ids)) < len(ids):
        return Rows(numbers, {**columns, "id": ids}, ids_fail=True)
    return Rows(ids, columns)


def _plane(table: H5, n_columns: int) -> dict[str, NDArray[Any]]:
    """Return the imaging plane's location and indicator as columns, where the segmentation names its plane."""
    plane = table.get("imaging_plane")
    if plane is None:
        return {}
    columns = {}
    for name in ("location", "indicator"):
        if name in plane:
            columns[f"plane_{name}"] = np.full(n_columns, str(plain(plane[name][()])))
    return columns


def working_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of converted samples: float32 where it holds the stored numbers, else float64."""
    small = stored.kind == "b" or (stored.kind in "iu" and stored.itemsize <= 2)
    return np.dtype(np.float32 if small or (stored.kind == "f" and stored.itemsize <= 4) else np.float64)


def column_table(source: Source, catalog: Catalog, entry: SeriesEntry) -> tuple[Rows, str, NDArray[np.intp]]:
    """Return ids and metadata of the columns, the path of the table that the series names for them, and their rows.

    Without such a table, or where rows are missing in it, the path is "". Raises where the samples have no times.
    """
    read_clock(source, entry, layout(entry).n_samples)
    with source.open() as file:
        _, rows, _ = describe(source, file, entry)
        nothing = rows, "", np.empty(0, dtype=np.intp)
        if entry.region is None or entry.n_region != len(rows) or entry.elsewhere:
            return nothing
        region = file[entry.path][entry.region]
        reference = region.attrs.get("table")
        table = file[reference] if reference else None
        places = region[()].astype(np.intp)
        if table is None or "id" not in table or not ((places >= 0) & (places < table["id"].shape[0])).all():
            return nothing
        return rows, str(table.name), places
