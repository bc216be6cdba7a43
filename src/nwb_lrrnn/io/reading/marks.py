"""What NWB writes upon groups and datasets, where it is what NWB writes there."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.io.files.hdf5 import H5, plain


def type_of(item: H5) -> str:
    """Return the neurodata_type of a group or dataset; empty where it has none, or what stands there is no text."""
    kind = plain(item.attrs.get("neurodata_type"))
    return kind if isinstance(kind, str) else ""


def column_names(table: H5) -> list[str]:
    """Return the columns of a table in their order, as far as it names them."""
    names = np.atleast_1d(np.asarray(table.attrs["colnames"], dtype=object)).reshape(-1)
    return [name for name in map(plain, names) if isinstance(name, str)]
