"""Small NWB files for the tests of reading, written with h5py so that they can be as odd as files in the wild are."""

from contextlib import contextmanager

import h5py
import numpy as np


@contextmanager
def new_nwb(path, version="2.7.0"):
    """Yield an open file with the marks of NWB 2."""
    with h5py.File(path, "w") as file:
        file.attrs.update(nwb_version=version, neurodata_type="NWBFile", namespace="core")
        file["identifier"] = "small"
        file["session_description"] = "made by a test"
        file["session_start_time"] = "2024-01-02T03:04:05+00:00"
        file["general/subject/subject_id"] = "rat-7"
        file["general/subject/species"] = "Rattus norvegicus"
        yield file


def add_table(file, path, kind, ids, **columns):
    """Add a DynamicTable; a column that is a list of arrays becomes ragged."""
    group = file.create_group(path)
    names = list(columns)
    group.attrs.update(neurodata_type=kind, namespace="core", colnames=np.array(names, dtype=h5py.string_dtype()))
    group["id"] = np.asarray(ids, dtype=np.int64)
    for name, values in columns.items():
        if isinstance(values, list) and values and isinstance(values[0], np.ndarray):
            group[f"{name}_index"] = np.cumsum([len(value) for value in values]).astype(np.uint32)
            values = np.concatenate(values)
        values = np.asarray(values)
        group[name] = values.astype(h5py.string_dtype()) if values.dtype.kind in "US" else values
    return group


def add_units(file, spikes, path="units", ids=None, **columns):
    """Add a Units table with the spike times of each unit."""
    spikes = [np.asarray(times, dtype=np.float64) for times in spikes]
    return add_table(file, path, "Units", range(len(spikes)) if ids is None else ids, spike_times=spikes, **columns)


def add_trials(file, start, stop, path="intervals/trials", ids=None, **columns):
    """Add a TimeIntervals table."""
    start, stop = np.asarray(start, dtype=np.float64), np.asarray(stop, dtype=np.float64)
    ids = range(len(start)) if ids is None else ids
    return add_table(file, path, "TimeIntervals", ids, start_time=start, stop_time=stop, **columns)


def add_series(file, path, data, kind="TimeSeries", rate=None, start=0.0, timestamps=None, units="V", **attributes):
    """Add a time series with a rate or timestamps; `attributes` are those of its data."""
    group = file.create_group(path)
    group.attrs.update(neurodata_type=kind, namespace="core")
    group["data"] = data
    group["data"].attrs.update(unit=units, **attributes)
    if timestamps is not None:
        group["timestamps"] = timestamps
    if rate is not None:
        group["starting_time"] = start
        group["starting_time"].attrs["rate"] = float(rate)
    return group


def add_region(group, name, rows, table):
    """Add a DynamicTableRegion to a series or table."""
    group[name] = np.asarray(rows, dtype=np.int64)
    group[name].attrs.update(neurodata_type="DynamicTableRegion", table=table.ref)
    if "colnames" in group.attrs:
        names = [*group.attrs["colnames"], name]
        group.attrs["colnames"] = np.array(names, dtype=h5py.string_dtype())


def ramp(n_samples, n_columns=2):
    """Return samples that count up, and ten times that in the next column."""
    return np.arange(float(n_samples))[:, None] * 10.0 ** np.arange(n_columns)
