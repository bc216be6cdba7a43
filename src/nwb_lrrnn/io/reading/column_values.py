"""Values of one column of a table: text decoded, codes as their labels, references as names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.guarded import root_of
from nwb_lrrnn.io.files.hdf5 import H5, is_dataset
from nwb_lrrnn.io.reading.marks import type_of


def column_values(file: H5, group: H5, name: str) -> NDArray[Any]:
    """Return a column of the table in a group as a native numpy array; that of an EnumData holds its labels."""
    dataset = group[name]
    values = read_values(file, dataset)
    if values.dtype.kind not in "iu" or type_of(dataset) != "EnumData":
        return values
    reference = dataset.attrs.get("elements")
    elements = referred(root_of(dataset, file), reference) if reference else None
    elements = group.get(f"{name}_elements") if elements is None else elements
    if not is_dataset(elements) or elements.ndim != 1:
        return values
    labels = read_values(file, elements)
    known = (values >= 0) & (values < len(labels))
    if known.all():
        return labels[values]
    return np.append(labels.astype(np.str_), "")[np.where(known, values, len(labels))]


def read_values(file: H5, dataset: H5, key: Any = ()) -> NDArray[Any]:
    """Return a part of a dataset (anything but compound) as a native numpy array.

    Text is decoded, references become the names of what they refer to, float16 and big-endian are converted.
    """
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr(errors="replace")[key], dtype=np.str_)
    if h5py.check_ref_dtype(dataset.dtype) is h5py.Reference:
        return np.asarray(_names(root_of(dataset, file), np.asarray(dataset[key])), dtype=np.str_)
    values = dataset[key]
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def referred(file: H5, reference: H5) -> H5 | None:
    """Return what a reference leads to, None where that is gone."""
    try:
        return file[reference]
    except (KeyError, ValueError, RuntimeError):
        return None


def _names(file: H5, references: NDArray[Any]) -> list[str]:
    """Return the names of what references lead to; empty where one leads to nothing."""
    names: dict[H5, str] = {None: ""}  # HDF5 searches the whole file for each name, so ask once for each object
    found = [referred(file, reference) if reference else None for reference in references.reshape(-1)]
    for target in found:
        if target is not None and target not in names:
            names[target] = (target.name or "").rsplit("/", 1)[-1]
    return [names[target] for target in found]
