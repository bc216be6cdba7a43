"""Open HDF5 files that lead to other files only where these may be opened, whatever is read of them."""

from __future__ import annotations

from typing import Any

import h5py

from nwb_lrrnn.io.errors import ElsewhereError
from nwb_lrrnn.io.files.damage import check_size, taken_shape
from nwb_lrrnn.io.files.hdf5 import H5
from nwb_lrrnn.io.files.links import Reach, check_storage, check_way

_KINDS = (h5py.Dataset, h5py.Group, h5py.Datatype)


class MeasuredDataset(h5py.Dataset):
    """A dataset whose size is looked at before memory is taken for it."""

    def __getitem__(self, args: Any, new_dtype: Any = None) -> Any:
        if args is Ellipsis or isinstance(args, tuple | slice):  # other keys take no more than they have themselves
            check_size(taken_shape(args, self.shape), self.dtype.itemsize, str(self.name))
        return super().__getitem__(args, new_dtype)


class _Guarded:
    """The part of a group that opens what is in it: by name, path or reference."""

    reach: Reach
    id: Any

    def __getitem__(self, name: Any) -> H5:
        self._check(name)
        return self._kept(super().__getitem__(name), name)  # pyright: ignore[reportAttributeAccessIssue]

    def get(self, name: Any, default: Any = None, getclass: bool = False, getlink: bool = False, **more: Any) -> Any:
        """Return an object, its class or its link, as h5py.Group.get does; raise ElsewhereError where `[...]` does."""
        if getlink:
            return super().get(name, default, getclass, True, **more)  # pyright: ignore[reportAttributeAccessIssue]
        self._check(name)
        found = super().get(name)  # pyright: ignore[reportAttributeAccessIssue]
        if found is None:
            return default
        kept = self._kept(found, name)
        return next(kind for kind in _KINDS if isinstance(kept, kind)) if getclass else kept

    def _check(self, name: Any) -> None:
        """Raise ElsewhereError where a name or path leads into a file that is not opened."""
        if isinstance(name, str | bytes):
            path = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
            try:
                check_way(self.id, path, self.reach)
            except ElsewhereError as error:
                raise ElsewhereError(f"{path} {error}") from error

    def _kept(self, found: H5, name: Any) -> H5:
        """Return an object that was opened, guarded too; raise ElsewhereError where its values lie elsewhere."""
        if isinstance(found, h5py.Dataset):
            try:
                check_storage(found.id, self.reach)
            except ElsewhereError as error:
                raise ElsewhereError(f"{name if isinstance(name, str) else found.name} {error}") from error
        if isinstance(found, h5py.Group):
            return GuardedGroup(found.id, self.reach)
        return MeasuredDataset(found.id) if isinstance(found, h5py.Dataset) else found

    def __contains__(self, name: Any) -> bool:
        try:
            if isinstance(name, str):
                check_way(self.id, name, self.reach)
        except ElsewhereError:
            return True  # it is there, and `[...]` says why it is not opened
        return super().__contains__(name)  # pyright: ignore[reportAttributeAccessIssue]


class GuardedGroup(_Guarded, h5py.Group):
    """A group of a guarded file."""

    def __init__(self, bind: Any, reach: Reach):
        super().__init__(bind)
        self.reach = reach


class GuardedFile(_Guarded, h5py.File):
    """An open file of h5py whose links, virtual datasets and external storage are followed within `reach` alone."""

    def __init__(self, file: h5py.File, reach: Reach):
        super().__init__(file.id)
        self.reach = reach


def root_of(item: H5, file: H5) -> H5:
    """Return the root of the file that a dataset lies in, as guarded as `file`, of which it was read.

    References in a dataset are those of its own file.
    """
    if not isinstance(file, GuardedFile | GuardedGroup):
        return file
    return GuardedFile(item.file, file.reach)
