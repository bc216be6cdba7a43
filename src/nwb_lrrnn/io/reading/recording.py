"""A recording opened for reading: metadata at once, everything else lazily and on request."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from nwb_lrrnn.io.files.source import Source, resolve
from nwb_lrrnn.io.reading.catalog import Catalog, read_catalog
from nwb_lrrnn.io.reading.contents import contents, why_nothing
from nwb_lrrnn.io.reading.kinds import Content
from nwb_lrrnn.io.reading.recording_tables import RecordingTables
from nwb_lrrnn.io.reading.views.exports import Exports
from nwb_lrrnn.showing import printable, printable_errors

if TYPE_CHECKING:
    import xarray as xr


@printable_errors()
def open_nwb(uri: str | os.PathLike[str], *, follow_links: bool = False, api_key: str | None = None) -> Recording:
    """Return an NWB file as a Recording: what is in it, and lazy arrays of it on request.

    Only metadata is read. No file handle stays open between readings, so that the same path can be written while the
    recording lives; of a file in a network, blocks of metadata stay in memory.

    Parameters
    ----------
    uri : str or path
        Path of a local NWB 2 file in HDF5 format or of the folder of a Zarr store; or an address: `https://`,
        `s3://bucket/key` (public), `dandi://[instance/]ID[@version]/path`, `DANDI:ID/version/path`, or what a browser
        shows for a file of a DANDI archive.
    follow_links : bool
        Parts of a local file may lie in other files (external links, virtual datasets). Those in its folder or below
        are read, all others only where this is True. A file on a server leads to no other files.
    api_key : str, optional
        Your key of the DANDI archive that `uri` names, for an embargoed dandiset; it stays in this process. Without it,
        that of a known archive is taken from `<ARCHIVE>_API_KEY` (such as `DANDI_API_KEY`) or the keyring, that of any
        other from `NWB_LRRNN_API_KEY` where `NWB_LRRNN_API_KEY_FOR` is the address of its API.

    Returns
    -------
    recording : Recording
        Prints as a table of what the file holds and what can be fitted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `uri` is neither text nor a path.
    OSError
        If a file in a network cannot be had: UnreachableError, AccessDeniedError, MissingRemoteFileError (a
        FileNotFoundError) or NoRangesError, all of them in `nwb_lrrnn.io.errors`.
    ValueError
        If `uri` names no single file (AddressError), or the file cannot be read: NotHDF5Error (another format),
        TruncatedFileError (a part is missing), NotNWBError (HDF5, but not NWB), OldNWBError (NWB 1.x) or
        UnreadableZarrError, all of them in `nwb_lrrnn.io.errors`.

    Examples
    --------
    >>> recording = open_nwb("session.nwb")  # doctest: +SKIP
    >>> recording = open_nwb("dandi://000140/sub-Jenkins/sub-Jenkins_ses-small_behavior+ecephys.nwb")  # doctest: +SKIP
    >>> X = recording.spikes(bin_size=0.02, align="go_cue", window=(-0.25, 0.45))  # doctest: +SKIP
    """
    source = replace(resolve(uri, api_key), follow_links=follow_links)
    return Recording(source, read_catalog(source))


class Recording(RecordingTables, Exports):
    """What an NWB file holds, and lazy arrays of it on request.

    Open one with `open_nwb`. It can be used in a `with` block, pickled and sent to other processes.
    """

    def __init__(self, source: Source, catalog: Catalog):
        self.source = source
        self.catalog = catalog
        self._closed = False

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the use of the recording; arrays that it gave can still be computed."""
        self._closed = True

    def __repr__(self) -> str:
        from nwb_lrrnn.io.reading.show import as_text

        return as_text(self.catalog, self.contents)

    def _repr_html_(self) -> str:
        from nwb_lrrnn.io.reading.show import as_html

        return as_html(self.catalog, self.contents)

    @property
    def uri(self) -> str:
        """Where the file lies."""
        return self.source.uri

    @property
    def version_tag(self) -> str:
        """A text that changes when the file changes."""
        return self.source.version_tag

    @property
    def nwb_version(self) -> str:
        """Version of the NWB schema that the file was written with."""
        return self.catalog.nwb_version

    @property
    def session(self) -> dict[str, Any]:
        """Session and subject fields of the file: identifier, session_description, subject_id, ..."""
        return dict(self.catalog.session)

    @cached_property
    def contents(self) -> list[Content]:
        """Everything in the file, with how to read it, or why it is not read or fitted."""
        return contents(self.catalog)

    @property
    def fittable(self) -> list[Content]:
        """The populations in the file, which a model can be fitted to, with the call that reads each."""
        return [content for content in self.contents if content.fittable]

    @property
    def reason(self) -> str | None:
        """The one sentence why nothing in the file can be fitted; None where something can."""
        return why_nothing(self.contents)

    @cached_property
    def problems(self) -> list[str]:
        """What is wrong with the file, one sentence each; spike times, trials and timestamps are read for it."""
        from nwb_lrrnn.io.reading.problems import find_problems

        return [printable(problem) for problem in find_problems(self.source, self.catalog)]

    @printable_errors()
    def spikes(
        self,
        bin_size: float,
        align: str | xr.DataArray | None = None,
        window: tuple[float, float] | None = None,
        intervals: str | None = None,
        trials: Any = None,
        units: Any = None,
        *,
        on_bad_spikes: Literal["sort", "raise"] = "sort",
        min_rate: float | None = None,
        time_scale: float = 1.0,
        table: str | None = None,
    ) -> xr.DataArray:
        """Return spike counts (trial, time, unit), or (time, unit) of the whole recording without trials.

        `align` and `window` cut a window around an event of every trial. `intervals` or `trials` alone cut every trial
        from its start to its stop; shorter trials are padded with unobserved bins. `window` alone cuts one stretch of
        the session. Without any of them the recording runs over the obs_intervals of the units table, else from the
        first to the last spike of any unit: what lies before or after may not have been recorded. A last bin that does
        not fit whole is dropped.

        Parameters
        ----------
        bin_size : float
            Width of a bin in s.
        align : str or DataArray (trial,), optional
            Column of the interval table with session times, where `time` is 0; or such times by trial id. The name of
            events (as for `events`) makes a trial of each of them, which takes a `window`; with `intervals` or
            `trials`, `time` is 0 at the first event inside each trial, and trials without one are dropped.
        window : (float, float), optional
            In s relative to `align` (or to start_time where only trials are asked for); in session time without trials.
        intervals : str, optional
            Name of the interval table; by default trials, else the only one.
        trials, units : ids, boolean array or str, optional
            Which ones; text is a pandas query over the columns of the table, such as "correct and side == 'left'". A
            column of 0 and 1 is a condition, missing values fulfil nothing. `trial` (or `unit`) are the ids; a column
            of that name is called `trial_trial` (`unit_unit`), and the bare name is then refused.
        on_bad_spikes : {"sort", "raise"}
            Whether NaN and unsorted spike times are repaired with a warning, or refused.
        min_rate : float, optional
            Leave out units with fewer spikes/s in the time in which they were observed: that of their obs_intervals
            where they have any, else all, without invalid_times. By default units without spikes stay, as zeros.
        time_scale : float
            s per unit of the file's spike times: 0.001 where they are in ms, 1/30000 where they are sample indices at
            30 kHz. A warning says where rates and length make another unit than s likely.
        table : str, optional
            Name of the units table, needed only where there are several.

        Returns
        -------
        counts : DataArray, dask-backed, int16 (int32 where a bin may hold more than 32767 spikes)
            With the columns of the trial and unit tables as coordinates, electrodes resolved; `observed` where some bin
            was not observed (obs_intervals, invalid_times, padding; invalid times without stop last to the end, those
            that name series concern these alone); attrs bin_size, source and dropped_trials.

        Raises
        ------
        ValueError
            If there are no spikes, a name, id or column is unknown or ambiguous, no trial is left, spike times are bad
            and `on_bad_spikes` is "raise", or the bins' times and masks would take more than a quarter of the free
            memory.

        Examples
        --------
        >>> X = recording.spikes(0.02, align="go_cue", window=(-0.25, 0.45))  # doctest: +SKIP
        >>> X = recording.spikes(0.02, trials="correct", units="quality == 'good'")  # doctest: +SKIP
        """
        from nwb_lrrnn.io.reading.intervals import Request
        from nwb_lrrnn.io.reading.populations import reader_of
        from nwb_lrrnn.io.reading.units import choose_units

        self._check_open()
        entry = choose_units(self.catalog, table)
        array, said = reader_of(entry)(
            self.source,
            self.catalog,
            entry,
            Request(align, window, intervals, trials),
            bin_size=bin_size,
            units=units,
            on_bad_spikes=on_bad_spikes,
            min_rate=min_rate,
            time_scale=time_scale,
        )
        for text in said:
            warnings.warn(text, UserWarning, stacklevel=3)
        return array

    @printable_errors()
    def series(
        self,
        name: str | None = None,
        bin_size: float | None = None,
        align: str | xr.DataArray | None = None,
        window: tuple[float, float] | None = None,
        intervals: str | None = None,
        trials: Any = None,
        units: Any = None,
        like: xr.DataArray | None = None,
        *,
        max_gap: float | None = None,
        repair: Literal["sort"] | None = None,
        binning: int | None = None,
        mask: Any = None,
    ) -> xr.DataArray:
        """Return a sampled series: a population (trial, time, unit) or (time, unit), or an input at the bins of `like`.

        Without `bin_size` at the series' own rate, else averaged into bins. Timestamps within a quarter of a step of
        an even grid are taken for regular there, and the log says so; `bin_size` averages at their own times. Values
        are in the series' unit of measure: conversion, channel_conversion and offset are applied. Gaps in the
        timestamps are never bridged: trials whose window crosses one are dropped and reported, bins of a long stretch
        in one are unobserved.

        Counts that the file holds around events (BinnedAlignedSpikes) come as (trial, time, unit), signed integers in
        the bins and trials of the file: leave `bin_size`, `align`, `window` and `intervals` out. `trials` are numbers
        of events, or a query such as "condition == 'left'".

        Movies (OnePhotonSeries, TwoPhotonSeries, voltage imaging) come as a population of pixels, or of the means of
        blocks of them: unit ids count row by row over attrs["frame_shape"], `x`, `y` and `z` are the middles in pixels.

        Parameters
        ----------
        name : str, optional
            Full path, or its end where no other series ends so; by default the only population.
        bin_size : float, optional
            Width of a bin in s.
        align, window, intervals, trials, units : optional
            As for `spikes`; units are ROIs, electrodes or columns.
        like : DataArray, optional
            From `spikes` or `series`: the result has its trials and bins, and dim `input` in place of `unit`; bins
            without samples are NaN. `bin_size`, `align`, `window`, `intervals` and `trials` are then those of `like`.
        max_gap : float, optional
            Widest distance in s between samples to interpolate across in bins without samples; by default 1.5 steps of
            the series, or one bin where that is wider.
        repair : {None, "sort"}
            "sort" accepts timestamps that do not ascend: samples are sorted, and those of repeated times or none left
            out, which the log says. Refused where these are more than a third.

        binning : int, optional
            Of movies: the side of the blocks in pixels whose means are read, by default 1.
        mask : array of bool (x, y) or (x, y, z), optional
            Of movies: the pixels that count; blocks without one are left out.

        Returns
        -------
        series : DataArray, dask-backed
            float32 or float64; the same coordinates and attributes as `spikes`. Time is a RangeIndex at a fixed rate;
            `segment` numbers the stretches between gaps.

        Raises
        ------
        ValueError
            If the name is unknown or ambiguous, the series cannot be read, or the bins' times and masks would take more
            than a quarter of the free memory; InvalidTimestampsError (`nwb_lrrnn.io.errors`) if its times are no
            ascending sequence, MisreadValuesError if its channel_conversion is not that of its columns.

        Examples
        --------
        >>> X = recording.series("DfOverF", bin_size=0.1)  # doctest: +SKIP
        >>> inputs = recording.series("hand_velocity", like=X)  # doctest: +SKIP
        """
        from nwb_lrrnn.io.reading.intervals import Request
        from nwb_lrrnn.io.reading.pixels import PIXELS
        from nwb_lrrnn.io.reading.populations import choose_series, population_of, reader_of
        from nwb_lrrnn.io.reading.series import read_inputs

        self._check_open()
        if like is not None:
            given = {"bin_size": bin_size, "align": align, "window": window, "intervals": intervals, "trials": trials}
            twice = [argument for argument, value in given.items() if value is not None]
            if twice:
                raise ValueError(f"like: got {', '.join(twice)} too, but like= already says trials and bins; drop them")
            return read_inputs(self.source, self.catalog, name, like, units=units, max_gap=max_gap, repair=repair)
        entry = choose_series(self.catalog, name)
        frames = {key: value for key, value in {"binning": binning, "mask": mask}.items() if value is not None}
        if frames and population_of(entry) is not PIXELS:
            raise ValueError(f"{next(iter(frames))}: {entry.path} is no movie and has no pixels; leave it out")
        array, said = reader_of(entry)(
            self.source,
            self.catalog,
            entry,
            Request(align, window, intervals, trials),
            bin_size=bin_size,
            units=units,
            max_gap=max_gap,
            repair=repair,
            **frames,
        )
        for text in said:
            warnings.warn(text, UserWarning, stacklevel=3)
        return array

    @printable_errors()
    def events(self, name: str, like: xr.DataArray, intervals: str | None = None) -> xr.DataArray:
        """Return an indicator (trial, time, input): 1.0 in the bins of `like` that hold an event, 0.0 elsewhere.

        Parameters
        ----------
        name : str
            A column of an interval table with session times, one or a list of them a row; or what holds events: a
            series of them, a table of events. "NAME/LABEL" takes those of one label.
        like : DataArray
            From `spikes` or `series`.
        intervals : str, optional
            Name of the interval table, needed only where several have such a column.

        Returns
        -------
        events : DataArray (trial, time, input) or (time, input)
            One input, or NAME_LABEL for each label that occurs; the events of the whole session, also those of
            neighbouring trials.

        Raises
        ------
        ValueError
            If there are no events of that name.

        Examples
        --------
        >>> cue = recording.events("go_cue", like=X)  # doctest: +SKIP
        """
        from nwb_lrrnn.io.reading.events import read_events

        self._check_open()
        array, said = read_events(self.source, self.catalog, name, like, intervals)
        for text in said:
            warnings.warn(text, UserWarning, stacklevel=3)
        return array

    def _check_open(self) -> None:
        """Raise if the recording was closed."""
        if self._closed:
            raise ValueError(f"this Recording of {self.source.name} is closed; open it again with open_nwb")
