"""Writing a population as an NWB recording: what an experiment would have left on the disk."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from nwb_lrrnn.io.schemas import import_pynwb
from nwb_lrrnn.io.writing.atomic import replacing
from nwb_lrrnn.io.writing.columns import as_column, as_ragged_column, compressed
from nwb_lrrnn.io.writing.own_files import check_own
from nwb_lrrnn.io.writing.recording_layout import (
    RecordingLayout,
    clock_step,
    draw_spike_times,
    lay_out,
    observed_intervals,
)
from nwb_lrrnn.io.writing.session import new_nwbfile
from nwb_lrrnn.io.writing.whole_file import write_file

_UNIT_KINDS = ("unit", "roi", "channel")
_DEFAULTS = {
    "session_description": "A population written by nwb_lrrnn",
    "session_start_time": datetime(2025, 1, 1),
    "session_id": "lrrnn-01",
    "experimenter": ["Unknown, Unknown"],
    "experiment_description": "A simulated population, or one taken from another recording, as an NWB recording",
    "institution": "Unknown",
    "keywords": ["low-rank RNN", "latent dynamics"],
}
# Columns with a meaning and a type of their own in NWB, which a coordinate of this name need not have.
_RESERVED = {
    "spike_times",
    "obs_intervals",
    "electrodes",
    "electrode_group",
    "waveforms",
    "waveform_mean",
    "waveform_sd",
}


def write_recording(
    path: str | os.PathLike[str],
    X: Any,
    *,
    bin_size: float | None = None,
    unit_kind: str | None = None,
    inputs: Any = None,
    trials: Mapping[str, ArrayLike] | pd.DataFrame | None = None,
    align_column: str = "go_cue_time",
    gap: float = 1.0,
    session_description: str | None = None,
    session_start_time: datetime | str | None = None,
    subject: Mapping[str, Any] | None = None,
    session: Mapping[str, Any] | None = None,
    random_state: Any = None,
    overwrite: bool = False,
) -> Path:
    """Return the path of a new NWB recording that holds a population.

    Counts become spike times, drawn uniformly inside their bins; counted again with the same bins and alignment they
    give the same counts. Other values become a RoiResponseSeries (`unit_kind` "roi") or an ElectricalSeries with a
    sample at each bin centre. The trials table holds the window of each trial, the time of its time = 0 in
    `align_column`, and every scalar trial coordinate of X.

    Parameters
    ----------
    path : path-like
        The file to write. It appears whole or not at all.
    X : DataArray or ndarray, (trial, time, unit) or (time, unit)
        The population. Trials lie at their `align_time` where X has it, and else follow each other. Scalar unit
        coordinates (location, quality, ...) become columns. Bins where `observed` is False have no spikes and are
        left out of obs_intervals.
    bin_size : float, optional
        Seconds. By default X.attrs["bin_size"], else the step of X.time.
    unit_kind : {"unit", "roi", "channel"}, optional
        What the units are. By default the coordinate `unit_kind` of X, else "unit".
    inputs : DataArray or ndarray, (trial, time, input), optional
        Written as the TimeSeries `inputs` of the module `behavior`.
    trials : DataFrame or mapping, optional
        More columns of the trials table, one value a trial.
    align_column : str
        Column with the session time of time = 0.
    gap : float
        Seconds between trials that have no `align_time`.
    session_description, session_start_time : optional
        Metadata; times may be ISO 8601 text.
    subject, session : mapping, optional
        More metadata under NWB's names (subject_id, species, sex, age, ...; experimenter, institution, lab, ...). What
        is not given is written as unknown.
    random_state : int, SeedSequence or Generator, optional
        Seed of the spike times.
    overwrite : bool
        Replace a file that this package wrote; one that anything else wrote is never replaced.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False, or it was not written by this package.
    FileNotFoundError
        If its directory does not exist.
    TypeError
        If X is not numbers.
    ValueError
        If dims, shapes, bins or trials of X, `inputs` or `trials` do not fit each other, or a choice is unknown.
    """
    kind = _kind(X, unit_kind)
    layout = lay_out(X, bin_size=bin_size, align_column=align_column, trials=trials, gap=gap)
    driven = None if inputs is None else _as_inputs(inputs, layout)
    metadata = dict(session or {})
    for name, value in (
        ("session_description", session_description),
        ("session_start_time", session_start_time),
        ("subject", subject),
    ):
        if value is not None:
            metadata[name] = value
    if overwrite:
        check_own(Path(path))
    with replacing(path, overwrite=overwrite) as temporary:
        import_pynwb()
        nwbfile = new_nwbfile(metadata, _DEFAULTS)
        _add_trials(nwbfile, layout, align_column)
        if kind == "roi":
            _add_rois(nwbfile, layout)
        else:
            _add_electrodes(nwbfile, layout)
            (_add_spikes(nwbfile, layout, random_state) if _is_counts(kind, layout) else _add_channels(nwbfile, layout))
        if driven is not None:
            _add_inputs(nwbfile, layout, driven)
        write_file(nwbfile, temporary, getattr(X, "nbytes", 0))
    return Path(path)


def _kind(X: Any, unit_kind: str | None) -> str:
    """Return what the units are, or raise."""
    if unit_kind is None:
        kinds = (
            np.unique(X["unit_kind"].values) if isinstance(X, xr.DataArray) and "unit_kind" in X.coords else ["unit"]
        )
        if len(kinds) != 1:
            raise ValueError(
                f"X: got units of the kinds {', '.join(map(str, kinds))}, wanted one kind; write one file for each, or "
                "pass unit_kind="
            )
        unit_kind = str(kinds[0])
    if unit_kind not in _UNIT_KINDS:
        raise ValueError(f"unit_kind: got {unit_kind!r}, wanted one of {', '.join(_UNIT_KINDS)}")
    return unit_kind


def _is_counts(kind: str, layout: RecordingLayout) -> bool:
    values = layout.values
    return kind == "unit" and bool((values >= 0).all() and (values == np.floor(values)).all())


def _as_inputs(inputs: Any, layout: RecordingLayout) -> xr.DataArray:
    """Return inputs as a DataArray (trial, time, input), or raise."""
    n_trials, n_bins, _ = layout.values.shape
    if not isinstance(inputs, xr.DataArray):
        array = np.asarray(inputs)
        inputs = xr.DataArray(array, dims=("trial", "time", "input")[max(0, 3 - array.ndim) :][: array.ndim])
    if inputs.dims == ("time", "input"):
        inputs = inputs.expand_dims("trial")
    if inputs.dims != ("trial", "time", "input") or inputs.shape[:2] != (n_trials, n_bins):
        raise ValueError(
            f"inputs: got dims {inputs.dims} and shape {inputs.shape}, wanted (trial, time, input) with "
            f"{n_trials} trials and {n_bins} bins as in X"
        )
    return inputs


def _add_trials(nwbfile: Any, layout: RecordingLayout, align_column: str) -> None:
    from pynwb.epoch import TimeIntervals

    described = {
        "start_time": "Start of the trial (s)",
        "stop_time": "End of the trial (s)",
        align_column: "The event that trials are aligned to (s)",
    }
    table = layout.trials.sort_values("start_time", kind="stable")  # NWB wants start times in ascending order
    columns = [
        as_column(str(name), described.get(str(name), f"{name} of the trial"), table[name].to_numpy()) for name in table
    ]
    nwbfile.trials = TimeIntervals(
        name="trials", description="Trials of the experiment", id=table.index.tolist(), columns=columns
    )


def _add_electrodes(nwbfile: Any, layout: RecordingLayout) -> None:
    device = nwbfile.create_device("probe", description="The probe; nothing more is known about it")
    location = layout.units["location"].astype(str) if "location" in layout.units else ["unknown"] * len(layout.units)
    group = nwbfile.create_electrode_group(
        "probe", description="All electrodes", location=", ".join(dict.fromkeys(location)), device=device
    )
    for place in location:
        nwbfile.add_electrode(location=place or "unknown", group=group)


def _add_spikes(nwbfile: Any, layout: RecordingLayout, random_state: Any) -> None:
    from hdmf.common import DynamicTableRegion, VectorIndex
    from pynwb.misc import Units

    n_units = len(layout.units)
    electrodes = DynamicTableRegion(
        name="electrodes", description="Electrode of the unit", data=np.arange(n_units), table=nwbfile.electrodes
    )
    columns = [
        *as_ragged_column("spike_times", "Spike times (s)", draw_spike_times(layout, random_state)),
        *as_ragged_column("obs_intervals", "When the unit was observed (s)", observed_intervals(layout)),
        electrodes,
        VectorIndex(name="electrodes_index", data=np.arange(1, n_units + 1), target=electrodes),
    ]
    for name in layout.units.columns.difference(list(_RESERVED), sort=False):
        columns.append(as_column(str(name), f"{name} of the unit", layout.units[name].to_numpy()))
    nwbfile.units = Units(
        name="units",
        description="Units of the population",
        id=layout.units.index.tolist(),
        columns=columns,
        resolution=clock_step(layout.bin_size),
    )


def _add_channels(nwbfile: Any, layout: RecordingLayout) -> None:
    from pynwb.ecephys import ElectricalSeries

    for name in layout.units.columns.difference([*_RESERVED, "location", "group", "group_name"], sort=False):
        nwbfile.add_electrode_column(str(name), f"{name} of the channel", data=layout.units[name].tolist())
    region = nwbfile.create_electrode_table_region(list(range(len(layout.units))), "The channels of the data")
    series = ElectricalSeries(
        name="ElectricalSeries",
        description="Samples at the centres of the bins",
        data=compressed(_rows(layout, layout.values).astype(np.float64)),
        electrodes=region,
        **_timing(layout),
    )
    nwbfile.add_acquisition(series)


def _add_rois(nwbfile: Any, layout: RecordingLayout) -> None:
    from pynwb.ophys import Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries

    device = nwbfile.create_device("microscope", description="The microscope; nothing more is known about it")
    location = (
        ", ".join(dict.fromkeys(layout.units["location"].astype(str))) if "location" in layout.units else "unknown"
    )
    plane = nwbfile.create_imaging_plane(
        name="ImagingPlane",
        optical_channel=OpticalChannel(name="green", description="Emission of the indicator", emission_lambda=510.0),
        description="The plane of all ROIs",
        device=device,
        excitation_lambda=920.0,
        indicator="unknown",
        location=location,
        imaging_rate=1 / layout.bin_size,
    )
    module = nwbfile.create_processing_module("ophys", "Optical physiology")
    segmentation: Any = ImageSegmentation(name="ImageSegmentation")
    module.add(segmentation)
    rois = segmentation.create_plane_segmentation(
        name="PlaneSegmentation", description="One pixel a ROI: true shapes are not known", imaging_plane=plane
    )
    side = int(np.ceil(np.sqrt(len(layout.units))))
    for k, identity in enumerate(layout.units.index):
        rois.add_roi(id=int(identity), pixel_mask=[(k % side, k // side, 1.0)])
    for name in layout.units.columns.difference(["pixel_mask", "image_mask", "voxel_mask"], sort=False):
        rois.add_column(str(name), f"{name} of the ROI", data=layout.units[name].tolist())
    region = rois.create_roi_table_region(description="The ROIs of the data", region=list(range(len(layout.units))))
    fluorescence: Any = Fluorescence(name="Fluorescence")
    module.add(fluorescence)
    fluorescence.add_roi_response_series(
        RoiResponseSeries(
            name="RoiResponseSeries",
            description="Samples at the centres of the bins",
            data=compressed(_rows(layout, layout.values).astype(np.float64)),
            unit="n.a.",
            rois=region,
            **_timing(layout),
        )
    )


def _add_inputs(nwbfile: Any, layout: RecordingLayout, inputs: xr.DataArray) -> None:
    from pynwb import TimeSeries

    names = (
        ", ".join(map(str, inputs["input"].values)) if "input" in inputs.coords else f"{inputs.sizes['input']} inputs"
    )
    module = nwbfile.create_processing_module("behavior", "Behaviour and stimuli")
    module.add(
        TimeSeries(
            name="inputs",
            description=f"Inputs at the centres of the bins; columns: {names}",
            data=compressed(_rows(layout, inputs.values).astype(np.float64)),
            unit="a.u.",
            **_timing(layout),
        )
    )


def _rows(layout: RecordingLayout, values: np.ndarray) -> np.ndarray:
    """Return values (trial, time, k) as rows in the order of session time, (row, k)."""
    return values[np.argsort(layout.starts)].reshape(-1, values.shape[-1])


def _timing(layout: RecordingLayout) -> dict[str, Any]:
    """Return start and rate where all trials touch, else timestamps."""
    times = layout.centres[np.argsort(layout.starts)].reshape(-1)
    if times.size > 1 and np.allclose(np.diff(times), layout.bin_size, rtol=1e-6, atol=0):
        return {"starting_time": float(times[0]), "rate": 1 / layout.bin_size}
    return {"timestamps": compressed(times)}
