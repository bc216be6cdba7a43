"""The populations that a model can be fitted to: one table of their kinds, and what is asked of it.

A new kind is a file that defines its `Population`, and its line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nwb_lrrnn.io.reading.binned_spikes import BINNED_SPIKES
from nwb_lrrnn.io.reading.catalog import Catalog
from nwb_lrrnn.io.reading.entries import InFile, SeriesEntry
from nwb_lrrnn.io.reading.kinds import Population
from nwb_lrrnn.io.reading.pixels import PIXELS
from nwb_lrrnn.io.reading.series import CHANNELS, COLUMNS, ROIS, named_series, read_series
from nwb_lrrnn.io.reading.series_kinds import why_not_read
from nwb_lrrnn.io.reading.spikes import UNITS

if TYPE_CHECKING:
    import xarray as xr

# In the order in which they are listed and asked: what its type tells before what its shape tells.
POPULATIONS: tuple[Population, ...] = (
    UNITS,
    BINNED_SPIKES,
    ROIS,
    CHANNELS,
    COLUMNS,
    PIXELS,
)


def population_of(entry: InFile) -> Population | None:
    """Return the kind of population that an entry is, None where it is none."""
    return next((population for population in POPULATIONS if population.matches(entry)), None)


def reader_of(entry: InFile) -> Callable[..., tuple[xr.DataArray, list[str]]]:
    """Return what reads an entry as (trial, time, unit) or (time, unit): for what is no population, as any series."""
    population = population_of(entry)
    return read_series if population is None else population.read


def choose_series(catalog: Catalog, name: str | None) -> SeriesEntry:
    """Return the series that is meant: `name`, else the only population; raise where none or several fit.

    Movies count only where there is no other. A series that cannot be read is refused with the reason.
    """
    if name is not None:
        entry = named_series(catalog, name)
        reason = _why_not(entry)
        if reason is not None:
            raise ValueError(reason)
        return entry
    populations = [entry for entry in catalog.series if population_of(entry) is not None]
    readable = [entry for entry in populations if _why_not(entry) is None]
    readable = [entry for entry in readable if population_of(entry) is not PIXELS] or readable
    if len(readable) == 1:
        return readable[0]
    if readable:
        raise ValueError(
            f"name: the file holds {len(readable)} populations: {', '.join(entry.path for entry in readable)}; say "
            f"which one is meant, such as name={readable[0].name!r}"
        )
    why = f" ({_why_not(populations[0])})" if populations else ""
    if catalog.results:
        why += f" beside the results in {', '.join(result.path for result in catalog.results)}"
    raise ValueError(
        f"name: the file holds no series that is a population{why}; recording.contents lists what there is"
    )


def _why_not(entry: SeriesEntry) -> str | None:
    """Return the sentence why a series cannot be read, None where it can."""
    population = population_of(entry)
    return why_not_read(entry) if population is None else population.why_not(entry)
