"""Datasets and data frames as tables of core NWB types, and back."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.io.writing.columns import as_column, as_table, clean_text, read_column, storable

# What a column is stands in its description, so that a table reads back as it was and can be read by eye.
_DESCRIBED = re.compile(r"^(Variable|Coordinate|Index) (.*?) ?\(([^()]*)\)(?:, (real|imaginary) part)?$")
_NOT_STATED = "unknown"
_INVENTED = "Not stated by the source"


def dataset_columns(argument: str, data: xr.Dataset, row_dim: str) -> list[Any]:
    """Return a column for each variable and coordinate along `row_dim`, two for complex variables.

    ValueError if a variable has another first dim.
    """
    columns = []
    for name, variable in data.variables.items():
        if variable.dims[:1] == (row_dim,):
            role = "Coordinate" if name in data.coords else "Variable"
            columns += described_columns(role, str(name), variable.dims, variable.values)
        elif name not in data.coords:
            raise ValueError(
                f"{argument}[{name!r}]: got dims {variable.dims}, wanted {row_dim!r} first as in the other variables; "
                "put what has other dims into a table of its own"
            )
    return columns


def described_columns(role: str, name: str, dims: Sequence[Any], values: Any) -> list[Any]:
    """Return the one or two columns of a variable, with role (Variable, Coordinate, Index) and dims described."""
    from hdmf.common import DynamicTable

    described = f"{role} {name} ({', '.join(map(str, dims))})"
    column = name.replace("/", "_")
    if hasattr(DynamicTable, column):  # a table's own word, such as `description`: the name above is read back
        column += "_"
    array: Any = np.asarray(values)
    if array.dtype.kind == "c":
        return [
            as_column(f"{column}_real", f"{described}, real part", array.real),
            as_column(f"{column}_imag", f"{described}, imaginary part", array.imag),
        ]
    return [as_column(column, described, array)]


def dataset_table(name: str, data: xr.Dataset | pd.DataFrame) -> Any:
    """Return a Dataset or DataFrame with at least one row as a table.

    ValueError if its variables do not share their first dim, or there are none.
    """
    argument = f"tables[{name!r}]"
    if isinstance(data, pd.DataFrame):
        columns = []
        if not isinstance(data.index, pd.RangeIndex):
            index_name = str(data.index.name or "index")
            columns += described_columns("Index", index_name, ["row"], data.index.to_numpy())
        for column in data.columns:
            columns += described_columns("Variable", str(column), ["row"], data[column].to_numpy())
        return as_table(name, f"Data frame {name}", columns)
    row_dim = table_dim(name, data)
    return as_table(name, f"Dataset {name}, one row for each {row_dim}", dataset_columns(argument, data, row_dim))


def table_dim(name: str, data: xr.Dataset) -> str:
    """Return the dim of a Dataset that becomes the rows: the first dim of its first variable."""
    dims = next((variable.dims for variable in data.data_vars.values()), ())
    if not dims:
        raise ValueError(f"tables[{name!r}]: got a Dataset without a variable that has a dim, wanted one row an entry")
    return str(dims[0])


def read_table(group: Any) -> Any:
    """Return a table in an open file as the Dataset or DataFrame that was written.

    Coordinates that do not lie along the rows, and attrs, are not in the table.
    """
    found = read_described(group)
    variables = {name: (dims, values) for (role, name), (dims, values) in found.items() if role == "Variable"}
    if str(group.attrs["description"]).startswith("Data frame"):
        frame = pd.DataFrame({name: values for name, (_, values) in variables.items()})
        for (role, name), (_, values) in found.items():
            if role == "Index":
                frame.index = pd.Index(values, name=None if name == "index" else name)
        return frame
    coords = {name: pair for (role, name), pair in found.items() if role == "Coordinate"}
    return xr.Dataset(variables, coords=coords)


def read_described(group: Any) -> dict[tuple[str, str], tuple[tuple[str, ...], np.ndarray]]:
    """Return dims and values of each described column by (role, name)."""
    found: dict[tuple[str, str], tuple[tuple[str, ...], Any]] = {}
    for column in group.attrs["colnames"]:
        match = _DESCRIBED.match(str(group[column].attrs["description"]))
        if match is None:
            continue
        role, name, dims, part = match.groups()
        values: Any = read_column(group, column)
        if part == "imaginary":
            values = found[role, name][1] + 1j * values
        found[role, name] = (tuple(dims.split(", ")), values)
    return found


def unit_tables(loadings: xr.Dataset, elsewhere: Any = None, rows: Any = None) -> list[Any]:
    """Return the table of loadings, each row pointing to its unit, and the table that it points to if it is new.

    `rows` (unit,) are the rows of the units in `elsewhere`, a table that is there already; what is known of them lies
    beside the loadings then. By default that gets a table of its own, `unit_reference`. ValueError if a variable has
    another first dim than `unit`.
    """
    from hdmf.common import DynamicTableRegion

    n_units = loadings.sizes["unit"]
    known = []
    for name, coord in loadings.coords.items():
        if coord.dims == ("unit",):
            column = "unit_id" if name == "unit" else str(name)
            known += described_columns("Coordinate", column, ["unit"], coord.values)
    columns = dataset_columns("loadings", loadings.drop_vars(unit_coords(loadings)), "unit")
    if elsewhere is not None:
        text = "The unit, as a row of the table that the recording has of them"
        region = DynamicTableRegion(name="unit", description=text, data=np.asarray(rows, dtype=int), table=elsewhere)
        return [as_table("unit_loadings", "Loadings of the units on the latents", [region, *known, *columns])]
    if "location" not in loadings.coords:  # validators need one column of text to follow a reference to the rows
        known.append(as_column("location", _INVENTED, [_NOT_STATED] * n_units))
    reference = as_table("unit_reference", "The units of the source that the model was fitted to", known)
    region = DynamicTableRegion(
        name="unit", description="The unit, as a row of unit_reference", data=np.arange(n_units), table=reference
    )
    return [reference, as_table("unit_loadings", "Loadings of the units on the latents", [region, *columns])]


def unit_coords(loadings: xr.Dataset) -> list[str]:
    """Return the names of the coordinates that have one value a unit."""
    return [str(name) for name, coord in loadings.coords.items() if coord.dims == ("unit",)]


def read_unit_tables(module: Any) -> xr.Dataset:
    """Return the loadings with what is known of the units as coordinates."""
    data = read_table(module["unit_loadings"])
    described = read_described(module["unit_reference"]) if "unit_reference" in module else {}
    known = {name: pair for (role, name), pair in described.items() if role == "Coordinate"}
    known |= {str(name): (coord.dims, coord.values) for name, coord in data.coords.items() if coord.dims == ("unit",)}
    return data.reset_coords(drop=True).assign_coords(
        {"unit" if name == "unit_id" else name: pair for name, pair in known.items()}
    )


def as_stored(data: xr.Dataset) -> xr.Dataset:
    """Return a Dataset whose text and other values are as a table gives them back; addresses without secrets."""
    stored = {}
    for name, variable in data.variables.items():
        kept = variable.dtype.kind in "fiubc" and variable.dtype != np.float16
        stored[name] = (variable.dims, variable.values if kept else clean_text(storable(variable.values)))
    coords = {name: pair for name, pair in stored.items() if name in data.coords}
    return xr.Dataset({n: p for n, p in stored.items() if n not in data.coords}, coords=coords, attrs=data.attrs)


def as_stored_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a DataFrame with one level of columns as `read_table` gives it back; addresses without secrets."""
    stored = pd.DataFrame({str(name): clean_text(storable(frame[name].to_numpy())) for name in frame.columns})
    if not isinstance(frame.index, pd.RangeIndex):
        stored.index = pd.Index(clean_text(storable(frame.index.to_numpy())), name=frame.index.name)
    return stored
