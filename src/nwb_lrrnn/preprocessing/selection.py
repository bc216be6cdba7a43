"""`SelectUnits`: the units that a question about them leaves, chosen on training data."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.parameters import positive
from nwb_lrrnn.preprocessing.base import RecordingStep, described
from nwb_lrrnn.preprocessing.step_gate import Parts, remembered
from nwb_lrrnn.preprocessing.unit_statistics import merge_moments, moments, one_pass
from nwb_lrrnn.queries import fulfilled
from nwb_lrrnn.trials import is_list_of_trials, is_pynapple


class SelectUnits(RecordingStep, auto_wrap_output_keys=None):
    """The units that fulfil a query and fire between two rates in the training data; `transform` takes them by id.

    Parameters
    ----------
    query : str, optional
        A pandas query over `unit` (the ids), every coordinate of X along units, and `rate` (see `rates_`; it hides a
        coordinate of that name), for instance "quality == 'good' and rate > 1". A coordinate of 0 and 1 is a condition
        of its own, such as "accepted"; missing values fulfil nothing.
    min_rate, max_rate : float, optional
        Limits of `rate`, both included.

    Attributes
    ----------
    selected_ : array
        Ids of the units kept, in the order of X.
    support_ : array (unit,), bool
    rates_ : array (unit,) or None
        Mean over the observed training bins: in 1/s where X has a bin size (`X.attrs["bin_size"]` or a time
        coordinate), else per bin; NaN for a unit never observed. None where nothing asked for it: then `fit` does not
        touch the data; otherwise it passes over them once.
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If a limit is no number, the query fails or is no condition, or no unit is left.

    Examples
    --------
    >>> X = xr.DataArray(np.ones((5, 3)), dims=("time", "unit"), coords={"area": ("unit", ["M1", "PMd", "M1"])})
    >>> SelectUnits("area == 'M1'").fit_transform(X).shape
    (5, 2)
    """

    selected_: NDArray
    support_: NDArray[np.bool_]
    rates_: NDArray[np.float64] | None

    def __init__(self, query: str | None = None, min_rate: float | None = None, max_rate: float | None = None):
        self.query = query
        self.min_rate = min_rate
        self.max_rate = max_rate

    def _check(self, parts: Parts) -> None:
        if self.query is not None and not isinstance(self.query, str):
            raise ValueError(f"query: got {self.query!r}, wanted text, e.g. query=\"quality == 'good'\"")
        for name in ("min_rate", "max_rate"):
            value = getattr(self, name)
            if value is not None:
                positive(name, value, zero=True)

    def _learn(self, parts: Parts) -> None:
        keep = np.ones(len(parts.unit_ids), dtype=bool)
        asked = self.min_rate is not None or self.max_rate is not None
        asked |= self.query is not None and re.search(r"\brate\b", self.query) is not None
        self.rates_ = _rates(parts) if asked else None
        if self.rates_ is not None:
            keep &= self.min_rate is None or self.rates_ >= float(self.min_rate)
            keep &= self.max_rate is None or self.rates_ <= float(self.max_rate)
        if self.query is not None:
            table, told = _table(parts, self.rates_), f"query: {self.query!r}"
            keep &= fulfilled(self.query, table, told, "unit", more=("rate",))
        if not keep.any():
            raise ValueError(self._none_left())
        self.support_, self.selected_ = keep, np.asarray(parts.unit_ids)[keep]

    def _none_left(self) -> str:
        found = ""
        if self.rates_ is not None and np.isfinite(self.rates_).any():
            found = f"; rates go from {np.nanmin(self.rates_):.4g} to {np.nanmax(self.rates_):.4g}"
        asked, n = described(self), self.n_features_in_
        return f"{asked} leaves none of {n} units, wanted at least one; widen the selection{found}"

    def _restored(self, parts: Parts) -> Any:
        index = np.flatnonzero(self.support_)
        back = [_taken(part.source, index, described(self)) for part in parts.parts]
        return back if is_list_of_trials(parts.source) else back[0]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray:
        """Return the names of the units kept, those of `feature_names_in_` or x0, x1, ... where they have none."""
        return np.asarray(super().get_feature_names_out(input_features))[self.support_]


def _rates(parts: Parts) -> NDArray[np.float64]:
    n, mean, _, size = one_pass(parts.parts, moments, merge_moments)
    return np.where(n > 0, mean * size, np.nan) / parts.bin_size


def _table(parts: Parts, rates: NDArray | None) -> pd.DataFrame:
    """Return what a query may ask of each unit."""
    first = parts.parts[0].source
    columns: dict[str, Any] = {}
    if isinstance(first, xr.DataArray):
        columns = {str(name): c.values for name, c in first.coords.items() if c.dims == ("unit",)}
    return pd.DataFrame(columns | {"unit": parts.unit_ids} | ({} if rates is None else {"rate": rates}))


def _taken(source: Any, index: NDArray[np.intp], step: str) -> Any:
    """Return some units of a trial or a recording, numbers and types as they are."""
    if isinstance(source, xr.DataArray):
        result = source.isel(unit=index)
    elif isinstance(source, pd.DataFrame):
        result = source.iloc[:, index]
    elif is_pynapple(source):
        return source[:, index]
    else:
        return (source if hasattr(source, "ndim") else np.asarray(source))[..., index]
    result.attrs = remembered(source.attrs, step)
    return result
