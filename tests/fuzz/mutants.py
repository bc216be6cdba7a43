"""Recordings that were damaged or made up by a seed: bytes changed, cut and moved, or parts replaced by h5py."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import h5py
import numpy as np


def mutant(number: int) -> tuple[str, bytes]:
    """Return what was done to the recording of a number, and its bytes."""
    rng = np.random.default_rng([20250101, number])
    content = _recordings()[rng.integers(len(_recordings()))]
    if rng.random() < 0.6:
        name, change = _BY_BYTES[rng.integers(len(_BY_BYTES))]
        return f"{number}: {name}", change(bytearray(content), rng)
    done, memory = [], io.BytesIO(content)
    with h5py.File(memory, "r+") as file:
        for _ in range(rng.integers(1, 4)):
            name, replace = _BY_PARTS[rng.integers(len(_BY_PARTS))]
            try:
                done.append(f"{name} {replace(file, rng)}")
            # what an earlier part undid, or made too large
            except (KeyError, ValueError, OSError, RuntimeError, TypeError, MemoryError) as error:
                done.append(f"{name}: {error}")
    return f"{number}: {'; '.join(done)}", memory.getvalue()


@functools.cache
def _recordings() -> list[bytes]:
    """Return healthy recordings of the few ways in which HDF5 keeps data: old and new formats, chunks and none."""
    return [_recording(libver, is_chunked) for libver in ("earliest", "latest") for is_chunked in (False, True)]


def _recording(libver: str, is_chunked: bool) -> bytes:
    rng, memory, n_units = np.random.default_rng(0), io.BytesIO(), 5
    text = h5py.string_dtype()
    spikes = [np.sort(rng.uniform(0, 20, 80)) for _ in range(n_units)]
    stored = {"chunks": (64,), "compression": "gzip", "shuffle": True, "fletcher32": True} if is_chunked else {}
    with h5py.File(memory, "w", libver=libver) as file:
        file.attrs.update(nwb_version="2.7.0", neurodata_type="NWBFile", namespace="core")
        for name in ("identifier", "session_description"):
            file[name] = "a mutant"
        file["session_start_time"] = "2024-01-02T03:04:05+00:00"
        file["general/subject/subject_id"] = "rat-7"
        units = file.create_group("units")
        columns = np.array(["spike_times", "location", "quality"], dtype=text)
        units.attrs.update(neurodata_type="Units", namespace="core", colnames=columns)
        units["id"] = np.arange(n_units)
        units.create_dataset("spike_times", data=np.concatenate(spikes), **stored)
        units["spike_times"].attrs["resolution"] = 1e-4
        units["spike_times_index"] = np.cumsum([len(times) for times in spikes])
        units["location"] = np.array(["CA1", "CA3"] * 2 + ["DG"], dtype=text)
        units["quality"] = rng.uniform(size=n_units)
        trials = file.create_group("intervals/trials")
        columns = np.array(["start_time", "stop_time", "go_cue_time", "side"], dtype=text)
        trials.attrs.update(neurodata_type="TimeIntervals", namespace="core", colnames=columns)
        start = np.arange(10) * 2.0
        trials["id"] = np.arange(10)
        for name, values in (("start_time", start), ("stop_time", start + 1.5), ("go_cue_time", start + 0.5)):
            trials[name] = values
        trials["side"] = np.array(["left", "right"] * 5, dtype=text)
        series = file.create_group("processing/behavior/position")
        file["processing/behavior"].attrs.update(neurodata_type="ProcessingModule", namespace="core")
        series.attrs.update(neurodata_type="TimeSeries", namespace="core")
        chunked = stored | {"chunks": (64, 2)} if is_chunked else {}
        series.create_dataset("data", data=rng.normal(size=(500, 2)), **chunked)
        series["data"].attrs.update(unit="m", conversion=1.0)
        series["timestamps"] = np.arange(500) / 25.0
    return memory.getvalue()


def _flipped(content: bytearray, rng: np.random.Generator) -> bytes:
    for place in rng.integers(0, len(content), rng.integers(1, 30)):
        content[place] ^= 1 << int(rng.integers(8))
    return bytes(content)


def _scribbled(content: bytearray, rng: np.random.Generator) -> bytes:
    first, size = int(rng.integers(len(content))), int(rng.integers(1, 600))
    content[first : first + size] = rng.bytes(len(content[first : first + size]))
    return bytes(content)


def _zeroed(content: bytearray, rng: np.random.Generator) -> bytes:
    first, size = int(rng.integers(len(content))), int(rng.integers(1, 2000))
    content[first : first + size] = bytes(len(content[first : first + size]))
    return bytes(content)


def _cut(content: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(content[: int(rng.integers(1, len(content)))])


def _moved(content: bytearray, rng: np.random.Generator) -> bytes:
    size = int(rng.integers(8, 512))
    source, target = rng.integers(0, len(content) - size, 2)
    content[target : target + size] = content[source : source + size]
    return bytes(content)


def _extreme(content: bytearray, rng: np.random.Generator) -> bytes:
    """Put numbers that are no sizes or places where those are kept, in multiples of eight bytes or in the headers."""
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(content) // 8 - 1)) * 8
        number = int(rng.choice(np.array([0, 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1], dtype=np.uint64)))
        content[place : place + 8] = number.to_bytes(8, "little")
    return bytes(content)


def _any_dataset(file: h5py.File, rng: np.random.Generator) -> str:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return str(rng.choice(sorted(found))) if found else ""


def _another_shape(file: h5py.File, rng: np.random.Generator) -> str:
    name = _any_dataset(file, rng)
    shape = [(), (0,), (3,), (2, 3, 4), (1, 1), (2**40,), (2**20, 2**20)][rng.integers(7)]
    return _put(file, name, lambda: file.create_dataset(name, shape, dtype="f8"), str(shape))


def _another_type(file: h5py.File, rng: np.random.Generator) -> str:
    name = _any_dataset(file, rng)
    n = len(file[name]) if name and file[name].shape else 3
    choice = int(rng.integers(7))
    dtype = [
        h5py.string_dtype(),
        "c16",
        "i1",
        h5py.vlen_dtype("f8"),
        h5py.ref_dtype,
        np.dtype([("a", "f8"), ("b", "i4")]),
        "S3",
    ][choice]
    return _put(file, name, lambda: file.create_dataset(name, (n,), dtype=dtype), str(dtype))


def _odd_numbers(file: h5py.File, rng: np.random.Generator) -> str:
    name = _any_dataset(file, rng)
    if not name or file[name].dtype.kind not in "fiu" or not file[name].size:
        return name
    values = np.asarray(file[name][()])
    odd = [np.nan, np.inf, -1, 0, 1e300, 2**31, -(2**31)][rng.integers(7)]
    places = rng.random(values.shape) < rng.choice([0.05, 1.0])
    with np.errstate(invalid="ignore"):
        file[name][...] = np.where(places, odd, values).astype(values.dtype)
    return f"{name} {odd}"


def _gone(file: h5py.File, rng: np.random.Generator) -> str:
    found: list[str] = []
    file.visit(found.append)
    name = str(rng.choice(sorted(found))) if found else ""
    if name:
        del file[name]
    return name


def _another_link(file: h5py.File, rng: np.random.Generator) -> str:
    name = _any_dataset(file, rng)
    link = [h5py.SoftLink(f"/{name}"), h5py.SoftLink("/gone"), h5py.ExternalLink("gone.nwb", "/"), file["/"]]
    return _put(file, name, lambda: file.__setitem__(name, link[rng.integers(4)]), "link")


def _another_attribute(file: h5py.File, rng: np.random.Generator) -> str:
    owners: list[str] = [""]
    file.visititems(lambda name, item: owners.append(name) if len(item.attrs) else None)
    name = str(rng.choice(sorted(owners)))
    item = file[f"/{name}"]
    attribute = str(rng.choice(sorted(item.attrs))) if len(item.attrs) else "unit"
    values = ["\x1b[31mred\x07", "", 0, np.nan, np.arange(3.0), np.array(["a", "b"], dtype=h5py.string_dtype())]
    item.attrs[attribute] = [*values, h5py.Empty("f8"), b"\xff\xfe"][rng.integers(len(values) + 2)]
    return f"{name}@{attribute}"


def _odd_name(file: h5py.File, rng: np.random.Generator) -> str:
    name = _any_dataset(file, rng)
    if name:
        file.move(name, name + ["\x1b[2J", "\u202e", "/x", " "][rng.integers(4)])
    return name


def _put(file: h5py.File, name: str, make: Callable[[], object], what: str) -> str:
    """Put something in the place of a dataset, whose attributes are kept."""
    if name:
        attributes = dict(file[name].attrs)
        del file[name]
        make()
        if isinstance(file.get(name), h5py.Dataset):
            file[name].attrs.update(attributes)
    return f"{name} {what}"


_BY_BYTES = [
    ("bits flipped", _flipped),
    ("random bytes", _scribbled),
    ("zeros", _zeroed),
    ("cut off", _cut),
    ("a part elsewhere", _moved),
    ("extreme numbers", _extreme),
    ("extreme numbers", _extreme),
]
_BY_PARTS = [
    ("shape", _another_shape),
    ("type", _another_type),
    ("numbers", _odd_numbers),
    ("gone", _gone),
    ("link", _another_link),
    ("attribute", _another_attribute),
    ("name", _odd_name),
]
