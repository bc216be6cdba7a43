"""Whether a file still holds everything that another one holds: every object, attribute and byte of data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.files.hdf5 import H5, low_h5py, open_hdf5

_BLOCK = 16 * 2**20
_ROWS = 65_536


def check_untouched(before: Path, after: Path, added: str) -> None:
    """Raise if a file that began as a copy of another one has lost or changed anything of it; `added` is a new group.

    Data are compared as bytes on the disk, so that nothing is decompressed: a dataset must lie where it lay, and no
    byte there may differ. Names, links, types, attributes, text and small data are compared as values. The OSError
    names the first thing that differs.
    """
    with open_hdf5(str(before)) as old, open_hdf5(str(after)) as new:
        things, now = _outline(old, added), _outline(new, added)
        created = added.rpartition("/")[0]  # `processing`, in a file without any
        if created not in things:
            now.pop(created, None)
        if things.keys() != now.keys():
            raise _differs(sorted(things.keys() ^ now.keys())[0])
        for path, told in things.items():
            if told != now[path]:
                raise _differs(path)
        paths = [path for path, told in things.items() if told[0] == "dataset"]
        extents = {path: _extents(old[path]) for path in paths}
        for path in paths:
            if not np.array_equal(extents[path], _extents(new[path])):
                raise _differs(path)
            if _must_be_read(old[path]) and not _same_values(old[path], new[path]):
                raise _differs(path)
    _check_bytes(extents, _changed_ranges(before, after))


def outline(group: H5) -> dict[str, Any]:
    """Return what can be said of every object below a group, without its data, by the path below the group.

    That is kind, type, shape and attributes; references as paths below the group, or as the path of what lies outside.
    """
    things: dict[str, Any] = {}
    prefix = group.name.rstrip("/") + "/"

    def tell(path: str, thing: H5) -> None:
        attrs = {key: _plain_attr(group, value, prefix) for key, value in thing.attrs.items()}
        things[path] = ("group", attrs) if not hasattr(thing, "dtype") else (str(thing.dtype), thing.shape, attrs)

    group.visititems(tell)
    return things


def _differs(path: str) -> OSError:
    return OSError(
        f"/{path.lstrip('/')} of the copy differs from the recording; nothing was stored: is the disk sound?"
    )


def _outline(file: H5, added: str) -> dict[str, tuple[Any, ...]]:
    """Return kind, address, type and attributes of every object of a file by path, and where every link goes."""
    import h5py

    low = low_h5py()
    things: dict[str, tuple[Any, ...]] = {}
    seen: set[int] = set()

    def visit(group: H5, path: str) -> None:
        for name in group:
            below = f"{path}/{name}" if path else name
            if below == added:
                continue
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                things[below] = ("link", link.path, getattr(link, "filename", ""))
                continue
            thing = group[name]
            address = low.h5o.get_info(thing.id).addr
            attrs = () if address in seen else _attrs(file, thing)
            if isinstance(thing, h5py.Dataset):
                things[below] = ("dataset", address, thing.dtype.str, thing.shape, thing.maxshape, attrs)
            elif isinstance(thing, h5py.Group):
                things[below] = ("group", address, attrs)
                if address not in seen:  # groups may hold each other
                    seen.add(address)
                    visit(thing, below)
            else:
                things[below] = ("type", address, str(thing.dtype), attrs)
            seen.add(address)

    things[""] = ("group", _attrs(file, file))
    visit(file, "")
    return things


def _attrs(file: H5, thing: H5) -> tuple[tuple[str, Any], ...]:
    """Return names and values of attributes in a form that can be compared; references as addresses."""
    import h5py

    low = low_h5py()

    def comparable(value: Any) -> Any:
        if isinstance(value, h5py.Reference):
            return low.h5o.get_info(file[value].id).addr if value else None
        if isinstance(value, np.ndarray):
            if value.dtype.kind == "O":
                return value.shape, tuple(comparable(entry) for entry in value.reshape(-1))
            return value.dtype.str, value.shape, value.tobytes()
        return value.tobytes() if isinstance(value, np.generic) else repr(value)

    told = []
    for key in sorted(thing.attrs):
        try:
            told.append((key, comparable(thing.attrs[key])))
        except (OSError, TypeError, ValueError, KeyError, RuntimeError) as error:  # a type that h5py has no form for
            told.append((key, type(error).__name__))
    return tuple(told)


def _plain_attr(group: H5, value: Any, prefix: str) -> Any:
    import h5py

    if isinstance(value, h5py.Reference):
        return group.file[value].name.removeprefix(prefix)
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _extents(dataset: H5) -> NDArray[np.int64]:
    """Return where the data of a dataset lie in the file as (place, size), shape (piece, 2), in order of the chunks."""
    low = low_h5py()
    places: list[tuple[int, int]] = []
    if dataset.id.get_create_plist().get_layout() == low.h5d.CHUNKED:
        dataset.id.chunk_iter(lambda chunk: places.append((chunk.byte_offset, chunk.size)))
    elif dataset.id.get_offset() is not None:
        places.append((dataset.id.get_offset(), dataset.id.get_storage_size()))
    return np.array(places, dtype=np.int64).reshape(-1, 2)


def _must_be_read(dataset: H5) -> bool:
    """Return whether values lie elsewhere than the extents say: text of any length, and data among the metadata."""
    low = low_h5py()
    if dataset.shape is None or dataset.is_virtual or dataset.external:
        return False  # nothing, or in other files
    compact = dataset.id.get_create_plist().get_layout() == low.h5d.COMPACT
    return compact or dataset.id.get_type().detect_class(low.h5t.STRING) or _is_ragged(dataset)


def _is_ragged(dataset: H5) -> bool:
    return bool(dataset.id.get_type().detect_class(low_h5py().h5t.VLEN))


def _same_values(old: H5, new: H5) -> bool:
    if old.shape == ():
        return _key(old[()]) == _key(new[()])
    step = max(1, _ROWS // max(1, int(np.prod(old.shape[1:], dtype=np.int64))))
    return all(
        _key(old[first : first + step]) == _key(new[first : first + step]) for first in range(0, old.shape[0], step)
    )


def _key(values: Any) -> Any:
    """Return values in a form that can be compared, NaN with NaN."""
    return repr(values.tolist()) if isinstance(values, (np.ndarray, np.generic)) else repr(values)


def _check_bytes(extents: dict[str, NDArray[np.int64]], changed: NDArray[np.int64]) -> None:
    """Raise if a range of bytes that differ, (start, stop), lies in the data of a dataset."""
    owners = np.repeat(np.arange(len(extents)), [len(places) for places in extents.values()])
    places = np.concatenate([np.empty((0, 2), np.int64), *extents.values()])
    order = np.argsort(places[:, 0], kind="stable")
    starts, stops = places[order, 0], places[order].sum(axis=1)
    first = np.searchsorted(stops, changed[:, 0], side="right")  # the first piece that ends after the range begins
    inside = np.flatnonzero(first < len(starts))
    hit = inside[starts[first[inside]] < changed[inside, 1]]
    if hit.size:
        raise _differs(list(extents)[owners[order][first[hit[0]]]])


def _changed_ranges(before: Path, after: Path) -> NDArray[np.int64]:
    """Return the ranges of bytes of a file that differ in another one as (start, stop), shape (range, 2)."""
    ranges: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    for place, old, new in _blocks(before, after):
        if old == new:
            continue
        n = min(len(old), len(new))
        differ = np.ones(len(old) + 2, dtype=np.int8)
        differ[[0, -1]] = 0
        differ[1 : n + 1] = np.frombuffer(old, np.uint8, n) != np.frombuffer(new, np.uint8, n)
        ranges.append(place + np.flatnonzero(np.diff(differ)).reshape(-1, 2))
    return np.concatenate(ranges)


def _blocks(before: Path, after: Path) -> Iterator[tuple[int, bytes, bytes]]:
    with before.open("rb") as old, after.open("rb") as new:
        place = 0
        while block := old.read(_BLOCK):
            yield place, block, new.read(len(block))
            place += len(block)
