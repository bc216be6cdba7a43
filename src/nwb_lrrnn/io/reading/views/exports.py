"""What else a recording can be: a tree of xarray, objects of pynwb, objects of pynapple."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.showing import printable_errors

if TYPE_CHECKING:
    import pynwb
    import xarray as xr

    from nwb_lrrnn.io.files.source import Source
    from nwb_lrrnn.io.reading.catalog import Catalog


class Exports:
    """The part of `Recording` that hands the file to other packages."""

    if TYPE_CHECKING:
        source: Source
        catalog: Catalog

        def _check_open(self) -> None: ...

    @printable_errors()
    def to_datatree(self) -> xr.DataTree:
        """Return everything in the recording as one tree, at the paths of the file.

        Tables are read, samples, spike times and timestamps are not: those are dask arrays and lazy coordinates. What
        cannot be read is an empty node whose attrs["reason"] says why. `xr.open_datatree(uri, engine="nwb")` opens
        the same tree, by xarray's own convention on dask only where it gets `chunks={}`.

        Returns
        -------
        tree : DataTree
            The root has the fields of the session as attributes. Below it, by neurodata_type:

            Units
                Columns over `unit`, electrodes resolved; `spike_times` (spike) of all units in s, one unit after the
                other, and `spike_index` (unit), where those of each unit end: those of unit k are
                `spike_times[spike_index[k - 1]:spike_index[k]]`, from 0 on for the first. As stored: neither sorted
                nor cleaned. Likewise `obs_intervals` (obs_interval, bound) and `obs_index`. Waveforms are left out.
            TimeIntervals
                Columns over `trial`, all rows of the file; attrs["dropped"] says which rows make no trial, so that
                `trials` leaves them out.
            other tables
                Columns over `row` (`electrode` in the table of electrodes).
            series
                One variable (time, unit) by the name of the series, in its unit of measure, with the columns of its
                ROIs or electrodes as coordinates. `time` is a RangeIndex at a fixed rate, else a TimestampsIndex, which
                selects like any index of xarray and reads the timestamps when it first does.
            events
                `time` (event), and the data of the series over `event`.
            results of earlier fits
                Empty, with a reason: `nwb_lrrnn.read_results` reads them.

        Raises
        ------
        ChangedFileError
            If a table has changed since the file was opened.

        Examples
        --------
        >>> tree = recording.to_datatree()  # doctest: +SKIP
        >>> tree["processing/ecephys/LFP/lfp"]["lfp"].sel(time=slice(10, 20), unit=3)  # doctest: +SKIP
        >>> units = tree["units"]  # doctest: +SKIP
        >>> np.split(units["spike_times"].values, units["spike_index"].values[:-1])  # doctest: +SKIP
        """
        from nwb_lrrnn.io.reading.views.tree import datatree

        self._check_open()
        return datatree(self.source, self.catalog)

    def as_pynwb(self) -> AbstractContextManager[pynwb.NWBFile]:
        """Return a context manager that yields the file as pynwb's object, for all that this package does not read.

        The file is open inside the block alone, so read there what is needed. pynwb builds every object of a file:
        0.1 s for small ones, 10 s for a thousand series. Types of extensions that are not installed are built from
        the schema in the file.

        Returns
        -------
        nwbfile : context manager of pynwb.NWBFile
            Local or streamed, read only.

        Raises
        ------
        NotBuiltError
            On entering, if pynwb cannot build the objects of this file, such as those of an extension whose schema is
            missing.

        Examples
        --------
        >>> with recording.as_pynwb() as nwbfile:  # doctest: +SKIP
        ...     devices = list(nwbfile.devices)
        """
        from nwb_lrrnn.io.reading.views.as_pynwb import pynwb_file

        self._check_open()
        return pynwb_file(self.source)

    @printable_errors()
    def to_pynapple(self) -> Mapping[str, Any]:
        """Return the recording as pynapple objects by name, each read into memory when it is asked for.

        Units become a TsGroup (by id, with the columns of the table), tables of intervals an IntervalSet (rows that
        make a trial, in order of start, with ids and columns), events a Ts, series a Tsd or TsdFrame. Series are in
        their unit of measure: conversion, channel_conversion and offset are applied. `pynapple.load_file` ignores them
        and gives the numbers that are stored.

        Returns
        -------
        objects : mapping
            Keys are names, or full paths where a name is not the only one of its kind.

        Raises
        ------
        ImportError
            If pynapple is not installed.
        ValueError
            On asking for an object that cannot be read, or that pynapple cannot hold, such as intervals that overlap.

        Examples
        --------
        >>> objects = recording.to_pynapple()  # doctest: +SKIP
        >>> objects["units"].count(0.02, objects["trials"])  # doctest: +SKIP
        """
        from nwb_lrrnn.io.reading.views.to_pynapple import PynappleObjects

        self._check_open()
        return PynappleObjects(self.source, self.catalog)
