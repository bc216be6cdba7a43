"""`SameKind`: the kinds of X that a verb gives back, for those who check types."""

from __future__ import annotations

from typing import Any, TypeVar

import pandas as pd
import xarray as xr
from numpy.typing import NDArray

SameKind = TypeVar(
    "SameKind",
    xr.DataArray,
    pd.DataFrame,
    NDArray[Any],
    list[xr.DataArray],
    list[pd.DataFrame],
    list[NDArray[Any]],
)
