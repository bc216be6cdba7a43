"""What of a recording is fitted, and what drives it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from nwb_lrrnn.io.reading.kinds import Content
    from nwb_lrrnn.io.reading.recording import Recording


def population(
    recording: Recording,
    series: str | None,
    table: str | None,
    bin_size: float | None,
    units: Any,
    select: dict[str, Any],
    time_scale: float = 1.0,
    binning: int | None = None,
) -> xr.DataArray:
    """Return what is fitted: the series that is named, else the spikes, else the only series."""
    if recording.reason:
        raise ValueError(f"{recording.source.name}: nothing can be fitted: {recording.reason}")
    from nwb_lrrnn.io.reading.populations import choose_series, population_of

    each_trial: dict[str, Any] = select  # from its start to its stop
    if all(value is None for value in select.values()) and "/intervals/trials" in recording.intervals:
        each_trial = select | {"intervals": "/intervals/trials"}  # where several are called trials, those of the file
    if table is not None or (series is None and any(content.method == "spikes" for content in recording.fittable)):
        width = 0.02 if bin_size is None else bin_size
        return recording.spikes(width, units=units, table=table, time_scale=time_scale, **each_trial)
    fittable = [content for content in recording.fittable if content.kind != "pixels"] or recording.fittable
    names = [series_name(recording, content) for content in fittable]
    if series is None and len(names) > 1:
        such_as = shlex.quote(names[0])
        raise ValueError(f"series: the file holds {', '.join(names)}; say which, such as series={such_as}")
    kind = population_of(choose_series(recording.catalog, series))
    in_trials = kind is not None and kind.in_trials
    return recording.series(series, bin_size, units=units, binning=binning, **(select if in_trials else each_trial))


def series_name(recording: Recording, content: Content) -> str:
    """Return what a series is called, by its path where several share the name."""
    names = [entry.name for entry in recording.catalog.series]
    return content.name if names.count(content.name) == 1 else content.path


def driving_inputs(recording: Recording, names: Sequence[str], X: xr.DataArray) -> xr.DataArray | None:
    """Return the named series and events at the trials and bins of X, side by side."""
    import xarray as xr

    events = [content.path for content in recording.contents if content.kind == "events"]
    columns = {name for content in recording.contents if content.kind == "intervals" for name in content.entry.columns}
    parts = []
    for name in names:
        is_event = name in columns or any(f"/{path}".endswith(f"/{name.strip('/')}") for path in events)
        part = recording.events(name, like=X) if is_event else recording.series(name, like=X)
        ids = part["input"].values if "input" in part.coords else range(part.sizes["input"])
        parts.append(part.assign_coords(input=[f"{name}.{id_}" for id_ in ids]))
    if not parts:
        return None
    joined: Any = xr.concat(parts, "input", coords="minimal", compat="override", join="override")
    return joined


def described(X: xr.DataArray) -> str:
    """Return what a population is in a few words: trials, bins, units."""
    noun = {"unit": "units", "roi": "ROIs", "channel": "channels", "pixel": "pixels"}.get(
        str(X.coords["unit_kind"].item()), "units"
    )
    n_trials, n_bins = X.sizes.get("trial", 1), X.sizes["time"]
    step = f" of {X.attrs['bin_size']:.4g} s" if "bin_size" in X.attrs else ""
    trials = f"{n_trials} trial{'s' if n_trials > 1 else ''}"
    return f"{trials} of {n_bins} bins{step}, {X.sizes['unit']} {noun}"
