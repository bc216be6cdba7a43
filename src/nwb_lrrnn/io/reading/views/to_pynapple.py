"""A recording as objects of pynapple, each read into memory when it is asked for."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.binning import clean_spike_times
from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, choose
from nwb_lrrnn.io.reading.contents import contents
from nwb_lrrnn.io.reading.event_times import read_event_times
from nwb_lrrnn.io.reading.intervals import Request, intervals_dataset
from nwb_lrrnn.io.reading.kinds import Content
from nwb_lrrnn.io.reading.populations import reader_of
from nwb_lrrnn.io.reading.views.tree import one_dataset

_HOLDERS = {
    "behaviour": "TsdFrame",
    "stimulus": "TsdFrame",
    "input": "TsdFrame",
    "events": "Ts",
    "intervals": "IntervalSet",
}


class PynappleObjects(Mapping[str, Any]):
    """Objects of pynapple by name, as `Recording.to_pynapple` describes them; ImportError where it is not installed."""

    def __init__(self, source: Source, catalog: Catalog):
        _pynapple()
        found = [content for content in contents(catalog) if content.call and _holder(content)]
        names = [content.name for content in found]
        self._source, self._catalog = source, catalog
        self._found = {c.name if names.count(c.name) == 1 else c.path: c for c in found}

    def __getitem__(self, name: str) -> Any:
        try:
            content = choose(tuple(self._found.values()), name, "name", "objects")
        except ValueError as error:
            raise KeyError(str(error)) from error
        return _object(self._source, self._catalog, content)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        rows = [f"  {name}: {_holder(content)} of {content.path}" for name, content in self._found.items()]
        return "\n".join(["pynapple objects, read when they are asked for:", *(rows or ["  none"])])


def _pynapple() -> Any:
    """Return the package, or raise one sentence that says how to install it."""
    try:
        import pynapple
    except ImportError as error:
        raise ImportError(
            "to_pynapple needs pynapple, which is not installed: pip install 'nwb-lrrnn[pynapple]'"
        ) from error
    return pynapple


def _holder(content: Content) -> str | None:
    """Return the class that holds a content, None where none does."""
    holder = _HOLDERS.get(content.kind) if content.population is None else content.population.holder
    return "Tsd" if holder == "TsdFrame" and content.n_units == 1 else holder


def _object(source: Source, catalog: Catalog, content: Content) -> Any:
    """Return a content as an object of pynapple."""
    nap = _pynapple()
    holder = _holder(content)
    if holder == "TsGroup":
        return _ts_group(nap, one_dataset(source, catalog, content.path))
    if holder == "IntervalSet":
        return _interval_set(nap, intervals_dataset(source, content.entry), content.path)
    if holder == "Ts":
        times = read_event_times(source, content.entry).times
        times = np.sort(times[np.isfinite(times)])
        return nap.Ts(t=times, time_support=_support(nap, times, 1.0))
    read = reader_of(content.entry)
    array, _ = read(source, catalog, content.entry, Request(), bin_size=None, units=None, max_gap=None, repair=None)
    times = array["time"].values
    support = _support(nap, times, array.attrs.get("bin_size", 1.0))
    if array.sizes["unit"] == 1:
        return nap.Tsd(t=times, d=array.values[:, 0], time_support=support)
    columns = {str(name): c.values for name, c in array.coords.items() if c.dims == ("unit",) and name != "unit"}
    metadata = _metadata(nap.TsdFrame, columns, "unit", array["unit"].values)
    ids = array["unit"].values
    return nap.TsdFrame(t=times, d=array.values, time_support=support, columns=ids, metadata=metadata)


def _support(nap: Any, times: np.ndarray, step: float) -> Any:
    """Return None, for pynapple's own stretch from first to last; around a single time, which has none, one step."""
    return nap.IntervalSet(times[0], times[0] + step) if len(times) and times[0] == times[-1] else None


def _ts_group(nap: Any, units: xr.Dataset) -> Any:
    """Return the spike times of units, cleaned, with the scalar columns of their table."""
    if "spike_times" not in units:
        raise ValueError(units.attrs["reason"])
    ids = units["unit"].values
    ends = units["spike_index"].values
    parts = np.split(units["spike_times"].values[: ends[-1]], ends[:-1])
    columns = {}
    if ids.dtype.kind not in "iu":  # pynapple takes whole numbers alone
        ids, columns = np.arange(len(ids)), {"unit_id": ids}
    times = {id_: clean_spike_times(part)[0] for id_, part in zip(ids.tolist(), parts, strict=True)}
    observed = units["obs_intervals"].values if "obs_intervals" in units else np.zeros(0)
    every = np.concatenate([*times.values(), observed[np.isfinite(observed)]])
    if not len(every) or every.min() == every.max():
        path = units.attrs["nwb_path"]
        raise ValueError(f"{path}: too few spikes to tell how long the recording is, wanted two different times")
    support = nap.IntervalSet(every.min(), every.max())  # not from 0 on: what was not recorded is no silence
    skipped = ("spike_index", "obs_index")
    columns |= {str(name): v.values for name, v in units.items() if v.dims == ("unit",) and name not in skipped}
    group = {id_: nap.Ts(t=spikes, time_support=support) for id_, spikes in times.items()}
    return nap.TsGroup(group, time_support=support, metadata=_metadata(nap.TsGroup, columns, "unit", ids))


def _interval_set(nap: Any, table: xr.Dataset, path: str) -> Any:
    """Return intervals in order of start with the scalar columns of their table, or raise where they overlap."""
    if not {"start_time", "stop_time"} <= set(table) or not table.sizes["trial"]:
        raise ValueError(f"{path}: the table has no rows with a start and a stop, so there are no intervals")
    table = table.sortby("start_time")
    start, stop = table["start_time"].values, table["stop_time"].values
    if not (stop > start).all():
        raise ValueError(f"{path}: the rows are instants, not intervals; read them with recording.intervals")
    if (start[1:] < stop[:-1]).any():
        n_overlaps = int((start[1:] < stop[:-1]).sum())
        raise ValueError(
            f"{path}: {n_overlaps} of {len(start)} intervals overlap the next one, which pynapple would join into one; "
            "read them with recording.intervals"
        )
    columns = {"trial": table["trial"].values}
    columns |= {str(name): v.values for name, v in table.items() if name not in ("start_time", "stop_time")}
    stop = np.where(np.append(stop[:-1] == start[1:], False), stop - 1e-6, stop)  # pynapple's own rule, said loudly
    return nap.IntervalSet(start, stop, metadata=_metadata(nap.IntervalSet, columns, "trial", np.arange(len(start))))


def _metadata(kind: type, columns: dict[str, np.ndarray], prefix: str, index: np.ndarray) -> pd.DataFrame:
    """Return columns under names that pynapple takes: letters and digits, and none that it uses itself."""
    own = {"rate", "start", "end", "index", "values", "columns", "time_support", "nap_class"}
    named = {}
    for name, values in columns.items():
        name = re.sub(r"\W", "_", name)
        named[f"{prefix}_{name}" if name in own or hasattr(kind, name) or name[0].isdigit() else name] = values
    return pd.DataFrame(named, index=index)
