"""The tables of a recording: trials, other intervals, and units, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nwb_lrrnn.showing import printable_errors

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from nwb_lrrnn.io.files.source import Source
    from nwb_lrrnn.io.reading.catalog import Catalog


class RecordingTables:
    """The part of `Recording` that reads tables."""

    if TYPE_CHECKING:
        source: Source
        catalog: Catalog

        def _check_open(self) -> None: ...

    @property
    @printable_errors()
    def trials(self) -> xr.Dataset:
        """The trial table as a Dataset over `trial`; rows that make no trial are in `dropped_trials`.

        Where there is no table of that name, the only table of intervals; one without rows is none. A column that is
        called `trial`, as the ids are, becomes `trial_trial`, in `to_datatree` and in queries too; attrs["left_out"]
        names the columns that are not read (lists of lists, rows of other tables, references), with the reason.

        Raises
        ------
        ValueError
            If there is no table of intervals, or there are several and none is called trials.
        """
        from nwb_lrrnn.io.reading.intervals import choose_intervals, intervals_dataset

        self._check_open()
        return intervals_dataset(self.source, choose_intervals(self.catalog, None))

    @property
    @printable_errors()
    def units(self) -> pd.DataFrame:
        """The units table by unit id: its columns, those of each unit's electrode, n_spikes and rate; read when asked.

        `rate` are its spikes in observed time over that time, in spikes/s. Columns of those names in the file
        are called `unit_n_spikes` and `unit_rate`. `spikes(..., units=recording.units["rate"] > 1)` takes a choice of
        them.

        Raises
        ------
        ValueError
            If there is no units table with spikes, or there are several and none is /units.
        """
        from nwb_lrrnn.io.reading.units import choose_units, unit_frame

        self._check_open()
        return unit_frame(self.source, self.catalog, choose_units(self.catalog, None))

    @property
    @printable_errors()
    def intervals(self) -> Mapping[str, xr.Dataset]:
        """Every table of intervals with rows, each a Dataset over `trial`, read when it is asked for.

        By name, by path where several share the name; see `trials` for the columns.
        """
        from nwb_lrrnn.io.reading.intervals import IntervalTables

        self._check_open()
        return IntervalTables(self.source, self.catalog)

    @property
    def dropped_trials(self) -> pd.DataFrame:
        """The rows of the interval tables that make no trial, with columns intervals, trial and reason."""
        import pandas as pd

        from nwb_lrrnn.io.reading.intervals import interval_tables, read_intervals

        self._check_open()
        dropped = [
            (table.name, id_, reason)
            for table in interval_tables(self.catalog)
            for id_, reason in read_intervals(self.source, table).dropped
        ]
        return pd.DataFrame(dropped, columns=["intervals", "trial", "reason"])
