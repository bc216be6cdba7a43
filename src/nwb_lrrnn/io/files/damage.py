"""What h5py, numpy and the system say about a damaged file, as one sentence with the file and the place in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from nwb_lrrnn.io.errors import TruncatedFileError
from nwb_lrrnn.io.files.hdf5 import low_h5py
from nwb_lrrnn.io.files.memory import free_memory

# Never the fault of a few lines of ours that read a healthy file; the last two by lengths and numbers of the file.
_ALWAYS = (RecursionError, MemoryError, OverflowError)
_WORTH_A_LOOK = 2**26  # bytes; what is free is not asked for less
_LONGEST = 300


def damage(uri: str, error: BaseException) -> TruncatedFileError | None:
    """Return what is raised instead of an error that a library raised on reading a file; None for any other error.

    A library's is what was raised inside of h5py: our own sentences, and our own mistakes, stay what they are.
    """
    place, is_of_library = _seen(error.__traceback__)
    # a plain OSError is HDF5's, whoever raises it anew; its subclasses come from somewhere else
    if not is_of_library and type(error) is not OSError and not isinstance(error, _ALWAYS):
        return None
    return TruncatedFileError(
        f"{uri} is damaged at {place or '/'}: {_said(error)}; copy or download it again and compare its size with the "
        "original"
    )


@contextmanager
def told_damage(uri: str) -> Iterator[None]:
    """Raise what `damage` returns for an error in the block."""
    try:
        yield
    except Exception as error:
        told = damage(uri, error)
        if told is None:
            raise
        raise told from error


def check_size(shape: tuple[int, ...], itemsize: int, path: str) -> None:
    """Raise MemoryError, before anything is allocated, where values take more memory than is free."""
    n_bytes = math.prod(shape) * itemsize
    if n_bytes < _WORTH_A_LOOK:
        return
    free = free_memory()
    if free is not None and n_bytes > free:
        raise MemoryError(
            f"{path} says that it has the shape {shape}, {n_bytes / 2**30:.3g} GiB to be read at once, of which "
            f"{free / 2**30:.3g} GiB are free"
        )


def taken_shape(key: Any, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of a slice of an array; lists and masks, which have memory of their own, count as one."""
    parts: list[Any] = list(key) if isinstance(key, tuple) else [key]
    places = list(shape or ())
    for k, part in enumerate(parts):
        if part is Ellipsis:
            parts[k : k + 1] = [slice(None)] * (len(places) - len(parts) + 1)
            break
    taken = []
    for size, part in zip(places, parts, strict=False):
        taken.append(len(range(*part.indices(size))) if isinstance(part, slice) else 1)
    return (*taken, *places[len(taken) :])


def _said(error: BaseException) -> str:
    """Return what a library said in a few words."""
    if isinstance(error, RecursionError):
        return "its parts contain each other"
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if isinstance(error, MemoryError):
        return text or "it asks for more memory than there is"
    return text[:_LONGEST] or type(error).__name__


def _seen(traceback: TracebackType | None) -> tuple[str, bool]:
    """Return the last path in the file that the way of an error tells, and whether it ends within h5py."""
    place, is_of_library = "", False
    while traceback is not None:
        frame = traceback.tb_frame
        parts = frame.f_code.co_filename.replace("\\", "/").split("/")
        if "nwb_lrrnn" in parts:
            is_of_library = False
        elif "h5py" in parts:
            is_of_library = True
        place = _place(frame.f_locals) or place
        traceback = traceback.tb_next
    return place, is_of_library


def _place(names: dict[str, Any]) -> str:
    """Return the path of the object that a function was at work on by its local names; empty where there is none."""
    h5py = low_h5py()
    owner: Any = names.get("self")
    owner = getattr(owner, "_owner", owner)  # of attributes
    identifier = getattr(owner, "id", getattr(owner, "_id", None))
    if not isinstance(identifier, h5py.h5g.GroupID | h5py.h5d.DatasetID):
        return ""
    try:
        here = (h5py.h5i.get_name(identifier) or b"").decode("utf-8", "replace")
    except (RuntimeError, ValueError):  # closed meanwhile
        return ""
    part = names.get("name", names.get("part", ""))
    part = part.decode("utf-8", "replace") if isinstance(part, bytes) else part
    if not isinstance(part, str) or not part:
        return here
    return part if part.startswith("/") else f"{here.rstrip('/')}/{part}"
