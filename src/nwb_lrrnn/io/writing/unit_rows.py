"""The units of a model as rows of a table of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwb_lrrnn.io.reading.catalog import listed

if TYPE_CHECKING:
    from nwb_lrrnn.io.reading.recording import Recording


@dataclass(frozen=True, eq=False)
class UnitRows:
    """The units of a population in a recording."""

    known: pd.DataFrame  # what the recording says of each unit, by id; `source_row` is its place in the population
    table: str  # path of the table with a row for each unit; "" where there is none
    rows: NDArray[np.intp]  # (unit,): rows in that table
    n_population: int  # units of the whole population

    def of(self, ids: Sequence[Any]) -> UnitRows:
        """Return the units with these ids, in this order."""
        known = self.known.loc[list(ids)]
        rows = self.rows[known["source_row"].to_numpy()] if self.table else self.rows
        return UnitRows(known, self.table, rows, self.n_population)


def find_units(recording: Recording, ids: Sequence[Any], nwb_path: str | None = None) -> UnitRows | None:
    """Return the units with these ids in the one population of a recording that has them all, in the order of `ids`.

    None where several populations with tables of their own have such ids, ValueError where none has them all.
    `nwb_path` says which population is looked at; by default all are.
    """
    populations = [content for content in recording.fittable if nwb_path in (None, content.path)]
    # The numbers of pixels are those of nearly all units of anything else.
    populations = [content for content in populations if content.kind != "pixels"] or populations
    found = []
    for content in populations:
        with suppress(ValueError):  # a population that cannot be read: nothing was fitted to it
            found.append(_population(recording, content))
    having = [units.of(ids) for units in found if set(ids) <= set(units.known.index)]
    if not having:
        lacking = [set(ids) - set(units.known.index) for units in found]
        missing = listed(sorted(min(lacking, key=len), key=str), at_most=5) if lacking else listed(list(ids), at_most=5)
        raise ValueError(
            f"the units {missing} of the model are in no population of {recording.source.name}; pass the recording "
            "that the model was fitted to"
        )
    first = having[0]
    if any(units.table != first.table or not np.array_equal(units.rows, first.rows) for units in having[1:]):
        return None
    return first if first.table or len(having) == 1 else None


def _population(recording: Recording, content: Any) -> UnitRows:
    """Return every unit of one population."""
    rows, table, places = content.population.unit_table(recording.source, recording.catalog, content.entry)
    frame = pd.DataFrame(rows.columns, index=pd.Index(rows.ids))
    return UnitRows(frame.assign(source_row=np.arange(len(frame))), table, places, len(frame))
