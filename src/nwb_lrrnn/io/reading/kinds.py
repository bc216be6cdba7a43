"""What is said of a thing in a file, and what a kind of population has to say of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

    from nwb_lrrnn.io.files.source import Source
    from nwb_lrrnn.io.reading.catalog import Catalog
    from nwb_lrrnn.io.reading.entries import InFile
    from nwb_lrrnn.io.reading.tables import Rows


class Extent(NamedTuple):
    """How large a thing is: shape in the file, number of units, unit of measure, rate in Hz, duration in s.

    `n_units` is None where it cannot be read, the others where the file does not say.
    """

    shape: tuple[int, ...] | None
    n_units: int | None
    units: str
    rate: float | None = None
    duration: float | None = None


@dataclass(frozen=True)
class Population:
    """A kind of population: how it is known in a file, shown, read and checked.

    All functions take the entry of the catalogue that `matches`; they are functions of a module, so that contents can
    be pickled.

    Attributes
    ----------
    kind : str
        Its name, as in `Content.kind`.
    method : {"spikes", "series"}
        The method of `Recording` that reads it.
    noun, unit_kind : str
        Its units in words, such as "ROIs"; what one of them is: unit, roi or channel.
    holder : str or None
        The class of pynapple that holds it.
    matches : entry -> bool
        Whether an entry is one; of several kinds in the table, the first that matches.
    why_not : entry -> str or None
        The sentence why it cannot be read, None where it can.
    call : entry, name -> str
        How a user reads it, given the name that tells it from others; "" where it is the only one.
    extent : entry -> Extent
        How large it is.
    size : catalog, content -> str
        That in words.
    read : source, catalog, entry, request, **options -> DataArray, list of str
        The population (trial, time, unit) or (time, unit), and warnings for the caller of `Recording`, whose method
        hands its own keyword arguments on as options.
    unit_table : source, catalog, entry -> Rows, str, ndarray of int (unit,)
        Ids and metadata of all units; path of the table with a row for each ("" where there is none), and that row.
    problems : source, catalog, entry -> list of str
        What is wrong with it, one sentence each; may read it.
    needs_several : bool
        Whether one unit alone is not fitted.
    in_trials : bool
        Whether the file holds it in trials, so that none are cut out of it.
    """

    kind: str
    method: str
    noun: str
    unit_kind: str
    holder: str | None
    matches: Callable[[InFile], bool]
    why_not: Callable[[Any], str | None]
    call: Callable[[Any, str], str]
    extent: Callable[[Any], Extent]
    size: Callable[[Catalog, Content], str]
    read: Callable[..., tuple[xr.DataArray, list[str]]]
    unit_table: Callable[[Source, Catalog, Any], tuple[Rows, str, NDArray[np.intp]]]
    problems: Callable[[Source, Catalog, Any], list[str]]
    needs_several: bool = True
    in_trials: bool = False


@dataclass(frozen=True)
class Content:
    """One thing in a file. `call` is how to read it, None where it cannot be read; `reason` why it is not fitted.

    `kind` is that of a population (units, roi, channel, series, ...), or behaviour, stimulus, input (a single channel),
    events, intervals, results (of earlier fits), or other. `fittable` is True for populations.
    """

    name: str
    path: str
    kind: str
    neurodata_type: str
    shape: tuple[int, ...] | None
    n_units: int | None
    units: str
    rate: float | None
    duration: float | None
    call: str | None
    reason: str | None
    entry: Any = field(repr=False, compare=False)  # of the catalogue: SeriesEntry, TableEntry or ResultEntry
    population: Population | None = field(default=None, repr=False, compare=False)

    @property
    def fittable(self) -> bool:
        """Whether a model can be fitted to it."""
        return self.population is not None and self.reason is None

    @property
    def method(self) -> str | None:
        """The method of `Recording` that reads it as a population: spikes or series; None where it is none."""
        return None if self.population is None else self.population.method
