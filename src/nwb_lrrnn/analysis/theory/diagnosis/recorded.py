"""The dimension of a recording, beside that of a network."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import xarray as xr

_NAMES = {
    "recorded_dimension": "dimension",
    "recorded_low": "dimension_low",
    "recorded_high": "dimension_high",
    "recorded_z_scored_dimension": "z_scored_dimension",
    "recorded_half_time": "half_time",
    "recorded_leading_half_time": "half_time_of_components",
}


def recorded_dimension(recording: Any) -> dict[str, float]:
    """Return the dimension of a recording, and its interval where it has one; a number is taken as it is."""
    if isinstance(recording, (int, float)):
        return {"recorded_dimension": float(recording)}
    if not isinstance(recording, xr.Dataset):
        recording = import_module("nwb_lrrnn.analysis.dimension").dimension_of_recording(recording)
    return {name: float(np.asarray(recording[key])) for name, key in _NAMES.items() if key in recording}
