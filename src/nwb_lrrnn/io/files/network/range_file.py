"""A file of a network as a file object that h5py reads from."""

from __future__ import annotations

import io
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T", bound=Any)


class RangeFile(io.RawIOBase):
    """A read-only binary file over a function that takes offset and size and returns exactly these bytes, or raises.

    `failure` is what reading raised last, also after later reads went well: HDF5 says only that it could not read, or
    that a group is not there; this says why. `name` is shown and holds nothing secret.
    """

    def __init__(self, read_range: Callable[[int, int], bytes], size: int, name: str = ""):
        super().__init__()
        self._read_range = read_range
        self._size = size
        self._place = 0
        self.name = name
        self.failure: BaseException | None = None
        self._is_late = False

    def __repr__(self) -> str:
        return f"<RangeFile {self.name!r}, {self._size} bytes>"

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        self._check_open()
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to another place, which may lie behind the end, and return it; as `io.IOBase.seek`."""
        self._check_open()
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise ValueError(f"whence: got {whence!r}, wanted 0, 1 or 2")
        place = offset + (0, self._place, self._size)[whence]
        if place < 0:
            raise ValueError(f"offset: got {offset}, which lies before the beginning of the file")
        self._place = place
        return place

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, fewer than `size` only at the end; all that follow where it is negative or None."""
        self._check_open()
        left = max(self._size - self._place, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted == 0:
            return b""
        data = self._late(wanted) if self._is_late else self._early(wanted)
        self._place += wanted
        return data

    def opened_by(self, open_with: Callable[[RangeFile], T]) -> T:
        """Return what opens this file, such as `lambda raw: h5py.File(raw, "r")`; every h5py.File needs this.

        Frames of an h5py.File that fails to open hold a copy of this file that Python cannot see. Where an exception
        keeps them until Python exits, as every uncaught one does, Python crashes. So none leaves with a traceback of
        h5py, and reading raises nothing while HDF5 opens: it gives bytes without meaning, which HDF5 refuses. What
        reading raised is raised afterwards, else what `open_with` raised.
        """
        self.failure, self._is_late = None, True
        opened, refusal = None, None
        try:
            opened = open_with(self)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            refusal = error.with_traceback(None)
        finally:
            self._is_late = False
        if opened is not None and self.failure is None:
            return opened
        if opened is not None:
            opened.close()
        raise self.failure or refusal or ValueError("open_with: got None from it, wanted an open file")

    def readall(self) -> bytes:
        """Return all bytes up to the end."""
        return self.read(-1)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into a buffer and return the number of bytes, fewer than it holds only at the end of the file."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _early(self, wanted: int) -> bytes:
        """Return the next bytes or raise."""
        try:
            return self._read_range(self._place, wanted)
        except (OSError, ValueError) as error:
            self.failure = copy(error)  # without its traceback, which holds everything that reads this file
            raise

    def _late(self, wanted: int) -> bytes:
        """Return the next bytes, or bytes of no meaning once reading has failed."""
        if self.failure is None:
            try:
                return self._read_range(self._place, wanted)
            except (OSError, ValueError, KeyboardInterrupt) as error:
                self.failure = copy(error)
        return b"\xff" * wanted

    def _check_open(self) -> None:
        """Refuse a closed file."""
        if self.closed:
            raise ValueError(f"{self.name}: the file is closed")
