"""Numbers and attributes as a Dataset that every engine of xarray saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nwb_lrrnn.analysis.dimension.result import RecordedDimension
from nwb_lrrnn.attributes import storable

_LONG_NAMES = {
    "dimension": "dimension of the activity",
    "z_scored_dimension": "dimension of the activity, every unit of unit variance",
    "effective_rank": "dimension of ever more such units",
    "z_scored_effective_rank": "dimension of ever more such units, each of unit variance",
    "dimension_of_population": "dimension of a population of such units",
    "z_scored_dimension_of_population": "dimension of a population of such units, each of unit variance",
    "half_time": "half-time of the autocorrelation of single units",
    "half_time_of_components": "half-time of the covariances between units",
}


def as_table(
    numbers: Mapping[str, Any], attrs: Mapping[str, Any], lags: np.ndarray, is_known: bool
) -> RecordedDimension:
    """Return the Dataset; numbers are (value, low, high), times in bins, or arrays over lags or components."""
    unit = "s" if is_known else "bins"
    step = lags[1] - lags[0] if len(lags) > 1 else 1.0
    variables: dict[str, Any] = {}
    for name, long_name in _LONG_NAMES.items():
        if name not in numbers:
            continue
        is_time = name.startswith("half_time")
        scale = step if is_time else 1.0
        for end, text, value in zip(
            ("", "_low", "_high"), ("", ", lower end", ", upper end"), numbers[name], strict=True
        ):
            about = {"long_name": long_name + text, "units": unit if is_time else "1"}
            variables[name + end] = ((), scale * float(value), about)
    for name, long_name in (
        ("autocorrelation", "autocorrelation of single units"),
        ("component_autocorrelation", "lagged covariances between units"),
    ):
        variables[name] = ("lag", np.asarray(numbers[name]), {"long_name": long_name, "units": "1"})
    about = {"long_name": "share of the variance, in the other half of the recording", "units": "1"}
    variables["spectrum"] = ("component", np.asarray(numbers["spectrum"]), about)
    coords: dict[str, Any] = {
        "lag": ("lag", np.asarray(lags, dtype=float), {"long_name": "lag", "units": unit}),
        "component": ("component", np.arange(1, len(numbers["spectrum"]) + 1), {"long_name": "component"}),
    }
    return RecordedDimension(variables, coords, storable({**attrs, "time_unit": unit}))
