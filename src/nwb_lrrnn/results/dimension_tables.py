"""A RecordedDimension as tables of a result file."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr


def dimension_tables(table: Any) -> dict[str, xr.Dataset]:
    """Return the numbers with their intervals (quantity), the autocorrelations (lag) and the spectrum (component)."""
    if not isinstance(table, xr.Dataset) or not {"dimension", "effective_rank", "text"} <= {
        *table.data_vars,
        *table.attrs,
    }:
        raise TypeError(f"dimension: got {type(table).__name__}, wanted what dimension_of_recording returns")
    names = [str(name) for name in table.data_vars if f"{name}_low" in table]
    columns: dict[str, Any] = {
        column: ("quantity", np.array([float(table[f"{name}{end}"]) for name in names]))
        for column, end in (("value", ""), ("low", "_low"), ("high", "_high"))
    }
    columns["meaning"] = ("quantity", [str(table[name].attrs.get("long_name", "")) for name in names])
    columns["units"] = ("quantity", [str(table[name].attrs.get("units", "")) for name in names])
    tables = {"dimension": xr.Dataset(columns, {"quantity": names}, dict(table.attrs))}
    for dim, key in (("lag", "dimension_lags"), ("component", "dimension_spectrum")):
        along = {str(name): (dim, v.values) for name, v in table.data_vars.items() if v.dims == (dim,)}
        if along:
            tables[key] = xr.Dataset(along, {dim: table[dim].values}, {"units": table[dim].attrs.get("units", "1")})
    return tables
