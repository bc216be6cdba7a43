"""Chunks of a Zarr array of format 2: what its metadata say of them, and their bytes as values.

The layout is simple and stands still, the interface of the package zarr does not: numcodecs is all that is needed.
"""

import base64
import io
import lzma
import math
import pickle
import struct
import zlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import TruncatedFileError, UnreadableZarrError
from nwb_lrrnn.io.files.zarr.bounded import bounded

# What numcodecs and the libraries below it raise on bytes that they did not write.
_DAMAGED = (
    ValueError,
    TypeError,
    RuntimeError,
    OSError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    AttributeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    pickle.UnpicklingError,
)
_MOST_OF_OBJECTS = 2**28  # bytes
_COUNTED = ("vlen-utf8", "vlen-bytes", "vlen-array")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class ArrayFormat:
    """How the values of an array are stored, as its `.zarray` says; UnreadableZarrError where that is not format 2.

    `where` is the store and the path of the array, for messages. `shape` and `chunks` are those of the array and of
    each chunk; `dtype` is object for text and references.
    """

    def __init__(self, where: str, metadata: dict[str, Any]):
        self.where = where
        try:
            self.shape = tuple(int(size) for size in metadata["shape"])
            self.chunks = tuple(max(1, int(size)) for size in metadata["chunks"])
            described = metadata["dtype"]
            self.dtype: np.dtype[Any] = np.dtype(described if isinstance(described, str) else _fields(described))
            self._order: Any = metadata.get("order", "C")
            self._separator = str(metadata.get("dimension_separator", "."))
            self._fill = metadata.get("fill_value")
            self._codecs = [*(metadata.get("filters") or ()), *filter(None, [metadata.get("compressor")])]
            well_formed = len(self.shape) == len(self.chunks) and metadata.get("zarr_format") == 2
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UnreadableZarrError(f"{where}: its metadata are not those of an array ({error!r})") from error
        if not well_formed:
            raise UnreadableZarrError(f"{where}: its metadata are not those of an array of Zarr format 2")

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each axis."""
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))

    def key(self, chunk: tuple[int, ...]) -> str:
        """Return the name of a chunk, given its place on the grid."""
        return self._separator.join(map(str, chunk)) or "0"

    @property
    def has_fill_value(self) -> bool:
        """Whether the array names a value for chunks that were never written; text has the empty one."""
        return self._fill is not None or self.dtype.kind == "O"

    @cached_property
    def fill_value(self) -> Any:
        """What stands in chunks that were never written."""
        if self.dtype.kind == "O":
            return self._fill if isinstance(self._fill, str) else ""
        if self._fill is None:
            return np.zeros((), dtype=self.dtype)[()]
        if isinstance(self._fill, str) and self.dtype.kind in "SV":
            return np.frombuffer(base64.b64decode(self._fill), dtype=self.dtype)[0]
        fill = _NOT_FINITE.get(self._fill, self._fill) if isinstance(self._fill, str) else self._fill
        return np.array(fill).astype(self.dtype)[()]

    @cached_property
    def decoders(self) -> list[Any]:
        """The codecs in the order in which they are undone."""
        try:
            import numcodecs
        except ImportError as error:
            raise ImportError("Zarr stores need numcodecs: pip install numcodecs") from error
        found = []
        for config in reversed(self._codecs):
            name = config.get("id") if isinstance(config, dict) else config
            try:
                # numcodecs would let a pickle run any code, and newer ones read none
                found.append(PickledObjects() if name == "pickle" else numcodecs.get_codec(dict(config)))
            except (ValueError, TypeError, ImportError) as error:
                raise UnreadableZarrError(
                    f"{self.where}: it is stored with the codec {name!r}, which numcodecs does not have; install the "
                    "package that has it, or export the store to HDF5 with hdmf-zarr"
                ) from error
        return found

    def decode(self, data: bytes, chunk: tuple[int, ...]) -> NDArray[Any]:
        """Return one chunk as an array of the shape `chunks`; its place on the grid is for the message.

        TruncatedFileError says that the bytes are not what the codecs once wrote, UnreadableZarrError that a codec is
        missing.
        """
        decoders, values = self.decoders, data
        try:
            for decoder in decoders:
                if decoder.codec_id in _COUNTED and len(values) > 3:
                    self._check_count(values)
                values = bounded(decoder, values, self._most_bytes)
            if self.dtype.hasobject:
                array = np.asarray(values, dtype=self.dtype)
            else:
                array = _bytes_of(values).view(self.dtype)
            return array.reshape(self.chunks, order=self._order)
        except _DAMAGED as error:
            raise TruncatedFileError(
                f"{self.where}: the chunk {self.key(chunk)} is damaged ({error}); copy or download the store again"
            ) from error

    @property
    def _most_bytes(self) -> int:
        """How many bytes a chunk can have before any of its codecs; filters may keep wider numbers than its own."""
        if self.dtype.hasobject:  # texts and references of any length
            return _MOST_OF_OBJECTS
        width = max(self.dtype.itemsize, 16) if len(self._codecs) > 1 else self.dtype.itemsize
        return math.prod(self.chunks) * width

    def _check_count(self, values: Any) -> None:
        """Raise where damaged bytes make numcodecs fill the memory: they begin with the number of what follows."""
        (count,) = struct.unpack_from("<I", values)
        if count != math.prod(self.chunks):
            raise ValueError(f"it says that it holds {count} values, wanted {math.prod(self.chunks)}")


class PickledObjects:
    """Undoes numcodecs' codec "pickle", with which hdmf-zarr stores references and older versions of it text.

    A pickle may name any function to call. Only what pickled arrays of text, numbers and dicts name is known here, and
    what stands for it calls nothing.
    """

    codec_id = "pickle"

    def decode(self, data: Any) -> NDArray[Any]:
        """Return the pickled array as an object array of one axis; UnpicklingError if it is anything else."""
        found = _Unpickler(io.BytesIO(bytes(data))).load()
        items = found.items if isinstance(found, _Array) else found
        if not isinstance(items, list):
            raise pickle.UnpicklingError("this is no array of objects")
        array = np.empty(len(items), dtype=object)
        array[:] = items
        return array


class _Array:
    """Stands for the array that is unpickled."""

    items: list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        self.items = state[-1]


class _Type:
    """Stands for the dtype of an array; that of text is asked for its name."""

    def __init__(self, name: Any = "", *_: Any):
        self.name = str(name)

    def __setstate__(self, state: Any) -> None:
        pass


class _PickledReference(dict[str, Any]):
    """Stands for hdmf-zarr's reference, which is a dict."""


def _new_array(*_: Any) -> _Array:
    """Stand for what makes an array without values."""
    return _Array()


def _text(dtype: Any, data: Any) -> str:
    """Return the text that numpy holds as a scalar."""
    if not isinstance(dtype, _Type) or not dtype.name.startswith("U") or not isinstance(data, bytes):
        raise pickle.UnpicklingError("it holds scalars other than text")
    return data.decode("utf-32-le").rstrip("\x00")


_KNOWN = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("hdmf_zarr.utils", "ZarrReference"): _PickledReference,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _new_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _text for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    """Knows nothing but `_KNOWN`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in a pickle."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not called")
        return _KNOWN[module, name]


def _fields(described: Any) -> list[Any]:
    """Return the fields of a compound type, which JSON holds as lists."""
    return [
        (str(name), kind if isinstance(kind, str) else _fields(kind), *(tuple(size) for size in shape))
        for name, kind, *shape in described
    ]


def _bytes_of(values: Any) -> NDArray[np.uint8]:
    """Return what a codec gave as bytes."""
    if isinstance(values, np.ndarray):
        return values.reshape(-1, order="A").view(np.uint8)
    return np.frombuffer(values, dtype=np.uint8)
