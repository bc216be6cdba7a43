"""Attributes of xarray objects that every engine writes: numbers, texts, and lists of one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def storable(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes as netCDF and Zarr take them: flags as 0 and 1, what has no form there as JSON text.

    >>> storable({"rank": np.int64(2), "is_stable": True, "tau": None, "ranks": (1, 2), "odd": [1, "a"]})
    {'rank': 2, 'is_stable': 1, 'tau': 'null', 'ranks': [1, 2], 'odd': '[1, "a"]'}
    """
    return {str(name): _storable(value) for name, value in attrs.items()}


def as_list(attr: Any) -> list[Any]:
    """Return an attribute that was a list: netCDF gives a list of one back as that one, and numbers as an array.

    >>> as_list("Smooth(sd=0.05)"), as_list(np.arange(2)), as_list(np.int64(3)), as_list([])
    (['Smooth(sd=0.05)'], [0, 1], [3], [])
    """
    plain = attr.tolist() if isinstance(attr, (np.ndarray, np.generic)) else attr
    return list(plain) if isinstance(plain, (list, tuple)) else [plain]


def _storable(value: Any) -> Any:
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    entries = list(plain) if isinstance(plain, (list, tuple)) else [plain]
    entries = [int(entry) if isinstance(entry, bool) else entry for entry in entries]
    if all(isinstance(entry, str) for entry in entries) or all(isinstance(entry, (int, float)) for entry in entries):
        return entries if isinstance(plain, (list, tuple)) else entries[0]
    return json.dumps(plain, default=str)
