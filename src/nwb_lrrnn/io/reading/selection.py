"""Which trials or units a user means: ids, a boolean array or a pandas query become row numbers."""

import difflib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.reading.catalog import listed
from nwb_lrrnn.io.reading.tables import Rows
from nwb_lrrnn.queries import fulfilled, names_in


def select_rows(rows: Rows, wanted: Any, dim: str) -> NDArray[np.intp]:
    """Return the row numbers (row,) that a selection of trials or units (`dim`) means, in the order asked for.

    None takes all rows. Ids may come in any order; a boolean array has one value per row (a DataArray or Series with
    ids is matched by id); text is a pandas query over the columns and the ids, which are called `dim`. A column of that
    name is called `<dim>_<dim>`. What is unknown, ambiguous, given twice or leaves nothing is refused.

    >>> rows = Rows(np.array([10, 11, 12]), {"correct": np.array([True, False, True])})
    >>> select_rows(rows, "correct", "trial")
    array([0, 2])
    >>> select_rows(rows, [12, 10], "trial")
    array([2, 0])
    """
    argument = f"{dim}s"
    if wanted is None:
        return np.arange(len(rows))
    if isinstance(wanted, str):
        index = _query(rows, wanted, dim)
    else:
        if hasattr(wanted, "coords") and dim in wanted.coords and wanted.dtype == bool:
            wanted = wanted[dim].values[wanted.values]
        elif getattr(getattr(wanted, "index", None), "name", None) == dim and wanted.dtype == bool:
            wanted = wanted.index.values[wanted.values]
        array = np.atleast_1d(np.asarray(wanted))
        if array.ndim != 1:
            raise ValueError(f"{argument}: got shape {array.shape}, wanted ids, a boolean array or a query as text")
        index = _mask(rows, array, argument) if array.dtype == bool else _ids(rows, array, argument)
    if not len(index):
        what = f"the query {wanted!r}" if isinstance(wanted, str) else "the selection"
        raise ValueError(f"{argument}: {what} leaves none of {len(rows)} {argument}; wanted at least one")
    return index


def _mask(rows: Rows, mask: NDArray[np.bool_], argument: str) -> NDArray[np.intp]:
    """Return the row numbers where a boolean array, one value per row, is True."""
    if len(mask) == len(rows):
        return np.flatnonzero(mask)
    raise ValueError(
        f"{argument}: got a boolean array of {len(mask)}, wanted {len(rows)}, one value per row"
        + (f" (the {len(rows.dropped)} dropped rows do not count)" if rows.dropped else "")
    )


def _ids(rows: Rows, ids: NDArray[Any], argument: str) -> NDArray[np.intp]:
    """Return the row numbers of ids."""
    place = {id_: k for k, id_ in enumerate(rows.ids.tolist())}
    asked = ids.tolist()
    unknown = [id_ for id_ in asked if id_ not in place]
    if unknown:
        reasons = dict(rows.dropped)
        gone = [f"{id_} ({reasons[id_]})" for id_ in unknown if id_ in reasons]
        close = difflib.get_close_matches(str(unknown[0]), [str(id_) for id_ in place], n=1)
        raise ValueError(
            f"{argument}: got unknown ids {listed(unknown)}, wanted ids among {listed(list(place))}"
            + (f"; dropped from the table: {listed(gone)}" if gone else f"; the closest is {close[0]}" if close else "")
        )
    if len(set(asked)) < len(asked):
        twice = sorted({id_ for id_ in asked if asked.count(id_) > 1})
        raise ValueError(f"{argument}: got ids {listed(twice)} more than once, wanted each id once")
    return np.array([place[id_] for id_ in asked], dtype=np.intp)


def _query(rows: Rows, query: str, dim: str) -> NDArray[np.intp]:
    """Return the row numbers that fulfil a pandas query; refuse one in which the name of the ids is ambiguous."""
    told = f"{dim}s: the query {query!r}"
    if dim in rows.columns and dim in names_in(query):
        raise ValueError(
            f"{told} names {dim!r}, which is both the ids and a column of the table; write {dim}_{dim} for the column, "
            f"or pass ids as a list, such as {dim}s={rows.ids[:2].tolist()}"
        )
    return np.flatnonzero(fulfilled(query, rows.frame(dim), told, dim))
