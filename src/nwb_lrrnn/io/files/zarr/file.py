"""A Zarr store, as hdmf-zarr writes it, with the part of h5py's interface that the readers use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import TruncatedFileError, UnreadableZarrError
from nwb_lrrnn.io.files.chunks.dataset_map import DatasetMap
from nwb_lrrnn.io.files.chunks.pieces import pieces_of, selection
from nwb_lrrnn.io.files.damage import check_size
from nwb_lrrnn.io.files.network import web
from nwb_lrrnn.io.files.zarr.array_format import ArrayFormat
from nwb_lrrnn.io.files.zarr.metadata import Reference
from nwb_lrrnn.io.files.zarr.store import ZarrStore

_MOST_AHEAD = 2000  # scalars that are fetched before they are asked for
_RARELY_READ = ("general/", "specifications/")  # but for what lies directly in them
_SMALL = 2**12  # values
_WORTH_THREADS = 2**18  # bytes of a local store that take longer to decode than to hand to a thread


class _Node:
    """What groups and arrays share: the store, the path in it without a slash at either end, and attributes."""

    def __init__(self, file: ZarrFile, path: str):
        self.file = file
        self._path = path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Node) and other.file is self.file and other._path == self._path

    def __hash__(self) -> int:
        return hash((id(self.file), self._path))

    @property
    def name(self) -> str:
        """The path in the store."""
        return f"/{self._path}"

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes; references among them as `Reference`."""
        return self.file.tree.attributes(self._path)


class ZarrGroup(_Node):
    """A group, as `h5py.Group` for reading."""

    def keys(self) -> list[str]:
        """Return the names of what is in the group, links included, in h5py's order."""
        tree = self.file.tree
        return sorted({*tree.children.get(self._path, ()), *tree.links(self._path)})

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, path: str) -> bool:
        return self.get(path, getclass=True) is not None

    def __getitem__(self, key: str | Reference) -> ZarrGroup | ZarrDataset:
        tree = self.file.tree
        if isinstance(key, Reference):
            if key.path is None:
                raise KeyError("the reference leads to nothing in this store")
            path = key.path
        else:
            path = tree.find(self._path, key)
        return ZarrDataset(self.file, path) if path in tree.arrays else ZarrGroup(self.file, path)

    def get(self, path: str, default: Any = None, *, getclass: bool = False, getlink: bool = False) -> Any:
        """Return what lies at a path, or its class or link in h5py's terms; the default where there is nothing."""
        import h5py

        tree = self.file.tree
        if getlink:
            link = tree.links(self._path).get(path)
            if link is not None:
                return h5py.ExternalLink(link.store, link.path) if link.store else h5py.SoftLink(f"/{link.path}")
            return h5py.HardLink() if path in tree.children.get(self._path, ()) else default
        try:
            if getclass:
                return h5py.Dataset if tree.find(self._path, path) in tree.arrays else h5py.Group
            return self[path]
        except KeyError:
            return default


class ZarrFile(ZarrGroup):
    """A store, as `h5py.File` for reading; nothing has to be closed."""

    kind = "a Zarr store"

    def __init__(self, store: ZarrStore):
        super().__init__(self, "")
        self.store = store
        self.tree = store.tree
        self.filename = store.uri

    def get_ahead(self, path: str) -> None:
        """Fetch once what is likely to be asked for after a small array: scalars, or short columns of its group."""
        arrays, most = self.tree.arrays, _SMALL
        group = f"{path.rpartition('/')[0]}/"
        if math.prod(arrays[path]["shape"]) == 1:
            group, most = "", 1
        if group in self.store.ahead:
            return
        self.store.ahead.add(group)
        near = [f"{group}{name}" for name in self.tree.children.get(group.rstrip("/"), ())] if group else list(arrays)
        keys = []
        for other in near:
            if other not in arrays or (other.count("/") > 2 and other.startswith(_RARELY_READ) and not group):
                continue
            with suppress(UnreadableZarrError):  # said where it is asked for
                stored = ArrayFormat(other, arrays[other])
                if math.prod(stored.grid) == 1 and math.prod(stored.shape) <= most:
                    keys.append(f"{other}/{stored.key((0,) * len(stored.shape))}")
        self.store.get_ahead(keys[:_MOST_AHEAD])


class ZarrDataset(_Node):
    """An array, as `h5py.Dataset` for reading.

    `shape` is () for what hdmf-zarr marks as a scalar. `dtype` is as h5py gives it: text and references are objects
    whose dtype says which.
    """

    def __init__(self, file: ZarrFile, path: str):
        super().__init__(file, path)
        self._stored = ArrayFormat(f"{file.filename}: {self.name}", file.tree.arrays[path])
        self._kind = self.attrs.get("zarr_dtype")
        self._is_scalar = self._kind == "scalar" and math.prod(self._stored.shape) == 1
        self.shape: tuple[int, ...] = () if self._is_scalar else self._stored.shape
        self.chunks = None if self._is_scalar else self._stored.chunks
        self.dtype = self._dtype()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return what a slice, an integer or a tuple of them takes; () takes all."""
        if self._is_scalar:
            key = (0,) * len(self._stored.shape)
        values = self._values(key)
        if self._kind == "object" and self.dtype.hasobject:
            reference = self.file.tree.reference
            return np.frompyfunc(reference, 1, 1)(values)
        return values

    def asstr(self, encoding: str | None = None, errors: str = "strict") -> _Text:
        """Return the array as text: an index gives str."""
        return _Text(self, encoding or "utf-8", errors)

    def _dtype(self) -> np.dtype[Any]:
        """Return the dtype in h5py's terms."""
        import h5py

        stored = self._stored.dtype
        if stored.kind != "O":
            return stored
        if isinstance(self._kind, list):  # a compound type with text or references among its fields
            return np.dtype([(str(field["name"]), object) for field in self._kind])
        return h5py.ref_dtype if self._kind == "object" else h5py.string_dtype()

    def _values(self, key: Any) -> Any:
        """Return a slice of the stored values."""
        stored = self._stored
        if self.dtype.names and self.dtype.hasobject:
            raise UnreadableZarrError(f"{stored.where}: compound values with text or references are not read")
        taken, squeeze = selection(() if key is Ellipsis else key, stored.shape)
        shape = tuple(len(positions) for positions in taken)
        check_size(shape, stored.dtype.itemsize, self.name)
        out = np.empty(shape, dtype=stored.dtype)
        if out.size:
            self._read(taken, out)
        return out[squeeze]

    def _read(self, taken: list[range], out: NDArray[Any]) -> None:
        """Fetch and decode the chunks that hold what is taken, and put it where it belongs."""
        stored, store = self._stored, self.file.store
        if math.prod(stored.grid) == 1:
            if store.is_remote and math.prod(stored.shape) <= _SMALL:
                self.file.get_ahead(self._path)
            inside = tuple(slice(positions.start, positions.stop, positions.step) for positions in taken)
            self._put(out, (0,) * len(taken), inside, (...,))
            return
        places = np.broadcast_to(np.int64(0), stored.grid), np.broadcast_to(np.uint32(0), stored.grid)  # of no use here
        whole = DatasetMap(self.name, stored.shape, stored.dtype, stored.chunks, *places)
        pieces = pieces_of(whole, taken)
        counts = [len(axis.blocks) for axis in pieces.axes]

        def read(piece: int) -> None:
            where = np.unravel_index(piece, counts)
            chunk = tuple(int(axis.blocks[k]) for axis, k in zip(pieces.axes, where, strict=True))
            _, inside, into = pieces.places(piece)
            self._put(out, chunk, inside, into)

        if store.is_remote or out.nbytes >= _WORTH_THREADS:
            web.in_parallel(read, [(piece,) for piece in range(math.prod(counts))])
        else:
            for piece in range(math.prod(counts)):
                read(piece)

    def _put(self, out: NDArray[Any], chunk: tuple[int, ...], inside: tuple[slice, ...], into: tuple[Any, ...]) -> None:
        """Put what is taken of one chunk where it belongs."""
        store, stored, key = self.file.store, self._stored, self._stored.key(chunk)
        data = store.get(f"{self._path}/{key}")
        if data is None:
            store.check_lacks(self._path)
            self._check_never_written(key)
        out[into] = stored.fill_value if data is None else stored.decode(data, chunk)[inside]

    def _check_never_written(self, key: str) -> None:
        """Raise where a chunk that is missing was lost, and not just never written."""
        if self._kind is not None:
            why = "hdmf-zarr writes every chunk"
        elif not self._stored.has_fill_value:
            why = "the array names no value that would stand for it"
        else:
            return
        raise TruncatedFileError(
            f"{self._stored.where}: the chunk {key} is missing, and {why}: it was lost when the store was copied, or "
            "the writing broke off; copy or download the store again"
        )

    def lost_chunks(self) -> list[str]:
        """Return the names of chunks that cannot be read since they are missing; of a store in a network, none."""
        store, stored = self.file.store, self._stored
        if store.is_remote or (self._kind is None and stored.has_fill_value):
            return []
        keys = (stored.key(chunk) for chunk in np.ndindex(*stored.grid))
        return [key for key in keys if not os.path.lexists(f"{store.uri}/{self._path}/{key}")]


class _Text:
    """An array as text, as h5py's `Dataset.asstr` gives it."""

    def __init__(self, dataset: ZarrDataset, encoding: str, errors: str):
        self._dataset, self._encoding, self._errors = dataset, encoding, errors

    def __getitem__(self, key: Any) -> Any:
        values = self._dataset[key]
        return np.frompyfunc(self._decoded, 1, 1)(values) if isinstance(values, np.ndarray) else self._decoded(values)

    def _decoded(self, value: Any) -> str:
        """Return one value as text; what numcodecs has for nothing (None, 0) is empty."""
        if isinstance(value, bytes):
            return value.decode(self._encoding, self._errors)
        return value if isinstance(value, str) else ""
