"""Objects of an open HDF5 file by h5py's low level, whose upper one costs ten times as much as the reading itself.

A catalogue asks thousands of small questions: which links a group has, what an attribute says, what shape a dataset
has. The classes here answer just these, with the names and the meaning that h5py's have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nwb_lrrnn.io.errors import ElsewhereError
from nwb_lrrnn.io.files.hdf5 import H5, low_h5py
from nwb_lrrnn.io.files.links import Reach, check_storage, check_way, lies_in


def low_level(group: H5) -> H5:
    """Return a group of an HDF5 file read by h5py's low level; a group of a Zarr store as it is."""
    import h5py

    if not isinstance(group, h5py.Group):
        return group
    return LowLevelGroup(group.id, getattr(group, "reach", None) or Reach(group.file.filename))


class LowLevelAttributes:
    """Attributes of a group or dataset, read one by one."""

    def __init__(self, owner: LowLevelGroup | LowLevelDataset):
        self._owner = owner

    def __contains__(self, name: str) -> bool:
        return low_h5py().h5a.exists(self._owner.id, _bytes(name))

    def __getitem__(self, name: str) -> Any:
        import h5py

        single = _single(low_h5py().h5a.open(self._owner.id, _bytes(name)))
        return h5py.AttributeManager(self._owner)[name] if single is None else single

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, `default` where there is none."""
        try:  # not `name in self` first: what is asked for is nearly always there
            return self[name]
        except KeyError:
            return default


def _single(attribute: Any) -> Any:
    """Return the one text or floating-point number of an attribute, None where it holds anything else.

    These are nearly all; numpy's type of an attribute, which they need not, takes longer than all the rest.
    """
    import h5py

    stored = attribute.get_type()
    kind = stored.get_class()
    try:
        if attribute.get_storage_size() != stored.get_size():
            return None
    except RuntimeError:  # it holds nothing
        return None
    if kind == h5py.h5t.FLOAT:
        value = np.zeros((), dtype=np.float64)
        attribute.read(value, mtype=h5py.h5t.NATIVE_DOUBLE)
        return value[()]
    if kind == h5py.h5t.STRING and stored.is_variable_str():
        text = np.zeros((), dtype=_text_type(stored.get_cset()))
        attribute.read(text, mtype=stored)
        return text[()]
    return None


@functools.cache
def _text_type(character_set: int) -> np.dtype[Any]:
    """Return numpy's type of texts by HDF5's number of their character set."""
    import h5py

    return h5py.string_dtype(("ascii", "utf-8")[character_set])


class LowLevelDataset:
    """A dataset: its shape, type and attributes; its values are read through h5py.

    `elsewhere` names the other file that it lies in where a link leads there, None where it is in this one.
    """

    def __init__(self, identifier: Any, reach: Reach, *, may_lie_elsewhere: bool = False):
        self.id = identifier
        self.attrs = LowLevelAttributes(self)
        self.elsewhere = lies_in(identifier, reach) if may_lie_elsewhere else None

    @functools.cached_property
    def shape(self) -> tuple[int, ...] | None:
        """Lengths of the dims; () for a single value, None where there is not even that."""
        return self.id.shape

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape or ())

    @property
    def size(self) -> int | None:
        """Number of values."""
        return None if self.shape is None else math.prod(self.shape)

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as stored."""
        return _number_type(self.id.get_type()) or self.id.dtype

    def __getitem__(self, key: Any) -> Any:
        import h5py

        from nwb_lrrnn.io.files.guarded import MeasuredDataset

        if key == () and self.shape == () and self.dtype.kind == "f":
            value = np.zeros((), dtype=self.dtype)
            self.id.read(h5py.h5s.ALL, h5py.h5s.ALL, value)
            return value[()]
        return MeasuredDataset(self.id)[key]


def _number_type(stored: Any) -> np.dtype[Any] | None:
    """Return numpy's type of plain numbers, None of anything else; h5py takes five times as long to tell."""
    import h5py

    kind, size = stored.get_class(), stored.get_size()
    if kind not in (h5py.h5t.FLOAT, h5py.h5t.INTEGER) or size not in (1, 2, 4, 8):
        return None
    if kind == h5py.h5t.FLOAT:
        letter = "f"
    else:
        letter = "u" if stored.get_sign() == h5py.h5t.SGN_NONE else "i"
    if letter + str(size) == "f1":
        return None
    return np.dtype(f"{'>' if stored.get_order() == h5py.h5t.ORDER_BE else '<'}{letter}{size}")


class LowLevelGroup:
    """A group: its links by name."""

    def __init__(self, identifier: Any, reach: Reach, *, may_lie_elsewhere: bool = False):
        self.id = identifier
        self.reach = reach
        self.elsewhere = lies_in(identifier, reach) if may_lie_elsewhere else None
        self.attrs = LowLevelAttributes(self)
        self._names: dict[str, None] | None = None

    def keys(self) -> dict[str, None]:
        """Return the names of all links, in the order of the file."""
        if self._names is None:
            self._names = {name.decode("utf-8", "surrogateescape"): None for name in self.id}
        return self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LowLevelGroup) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __getitem__(self, name: str) -> LowLevelGroup | LowLevelDataset:
        found = self._open(name)
        if found is None:
            raise KeyError(f"{name}: neither a group nor a dataset")
        return found

    def get(self, name: str, default: Any = None, *, getclass: bool = False, getlink: bool = False) -> Any:
        """Return an object, its class or its link, as h5py.Group.get does."""
        import h5py

        if name not in self.keys():
            return default
        if getlink:
            return self._link(_bytes(name))
        try:
            found = self._open(name)
        except KeyError as error:
            if self.id.links.get_info(_bytes(name)).type != low_h5py().h5l.TYPE_HARD:
                return default  # a link that leads nowhere
            raise OSError(f"{name}: {error.args[0]}") from error
        if found is None:
            return default
        if getclass:
            return h5py.Group if isinstance(found, LowLevelGroup) else h5py.Dataset
        return found

    def _open(self, name: str) -> LowLevelGroup | LowLevelDataset | None:
        """Return an object, None where it is neither a group nor a dataset."""
        h5py = low_h5py()
        try:
            is_linked = check_way(self.id, name, self.reach)
            found = h5py.h5o.open(self.id, _bytes(name))
            if isinstance(found, h5py.h5g.GroupID):
                return LowLevelGroup(found, self.reach, may_lie_elsewhere=is_linked)
            if not isinstance(found, h5py.h5d.DatasetID):
                return None
            is_virtual = check_storage(found, self.reach)
        except ElsewhereError as error:
            raise ElsewhereError(f"{name} {error}") from error
        return LowLevelDataset(found, self.reach, may_lie_elsewhere=is_linked or is_virtual)

    def _link(self, name: bytes) -> Any:
        """Return the link of that name as h5py describes it."""
        h5py = low_h5py()
        kind = self.id.links.get_info(name).type
        if kind == h5py.h5l.TYPE_HARD:
            return h5py.HardLink()
        value = self.id.links.get_val(name)
        if kind == h5py.h5l.TYPE_SOFT:
            return h5py.SoftLink(value.decode("utf-8", "surrogateescape"))
        file, path = value
        return h5py.ExternalLink(file.decode("utf-8", "surrogateescape"), path.decode("utf-8", "surrogateescape"))


def _bytes(name: str) -> bytes:
    """Return a name as HDF5 keeps it."""
    return name.encode("utf-8", "surrogateescape")
