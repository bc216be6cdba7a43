"""Arrays of Zarr format 2 are read as the package zarr reads them, and pickles in them call nothing."""

import itertools
import json
import pickle
import warnings

import numcodecs
import numpy as np
import pytest
import zarr

from nwb_lrrnn.io.errors import TruncatedFileError, UnreadableZarrError
from nwb_lrrnn.io.files.zarr.array_format import ArrayFormat, PickledObjects
from nwb_lrrnn.io.files.zarr.file import ZarrFile
from nwb_lrrnn.io.files.zarr.store import local_store
from small_zarr import array, nwb, write

FORMAT = {"zarr_format": 2} if int(zarr.__version__.split(".")[0]) > 2 else {}


def written(folder, values, **how):
    """Write values with the package zarr and return them as this package reads them."""
    store = write(folder / "a.zarr", {".zgroup": {"zarr_format": 2}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what zarr says of codecs and of itself
        made = zarr.create(
            shape=values.shape,
            dtype=values.dtype,
            store=str(store),
            path="values",
            **{"chunks": (3, 2)} | how,
            **FORMAT,
        )
        made[...] = values
    return ZarrFile(local_store(str(store)))["values"]


def counted(dtype, shape=(7, 5)):
    return np.arange(1, np.prod(shape) + 1).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    "dtype", ["<i2", ">i4", "<u8", "<f4", ">f8", "<f2", "|b1", "|u1", "|S4", "<U3", "<c8", "<M8[s]"]
)
def test_types(tmp_path, dtype):
    values = counted("i4").astype(str).astype(dtype) if dtype[1] in "SU" else counted("i8").astype(dtype)
    read = written(tmp_path, values)
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read[()], values)


@pytest.mark.parametrize(
    "how",
    [
        {"compressor": None},
        {"compressor": numcodecs.Zlib(1)},
        {"compressor": numcodecs.Zstd(1)},
        {"compressor": numcodecs.LZ4()},
        {"compressor": numcodecs.GZip()},
        {"compressor": numcodecs.Blosc("zlib", shuffle=numcodecs.Blosc.BITSHUFFLE)},
        {"filters": [numcodecs.Delta("<i4"), numcodecs.Shuffle(4)], "compressor": numcodecs.BZ2(1)},
        {"filters": [numcodecs.Zlib(1)], "compressor": numcodecs.Blosc()},  # what an export of gzip from HDF5 becomes
        {"filters": [numcodecs.FixedScaleOffset(0, 2, "<i4", "<i2")], "compressor": numcodecs.LZMA()},
        {"order": "F"},
        {"dimension_separator": "/"},
        {"chunks": (7, 5)},
        {"chunks": (100, 1)},
    ],
    ids=str,
)
def test_codecs_and_layouts(tmp_path, how):
    values = counted("<i4")
    read = written(tmp_path, values, **how)
    np.testing.assert_array_equal(read[()], values)
    np.testing.assert_array_equal(read[1:6:3, -2], values[1:6:3, -2])


def test_slices(tmp_path):
    values = counted("<f8", (7, 5, 3))
    read = written(tmp_path, values, chunks=(3, 2, 2))
    parts = [slice(None), slice(2, 6), slice(1, 7, 2), slice(4, 4), 0, -1]
    for key in itertools.product(parts, parts[:5]):
        np.testing.assert_array_equal(read[key], values[key])
        assert np.shape(read[key]) == values[key].shape
    assert (read.ndim, read.size, len(read), read.chunks) == (3, 105, 7, (3, 2, 2))


@pytest.mark.parametrize("shape", [(0,), (0, 4), ()])
def test_empty_and_without_axes(tmp_path, shape):
    values = np.full(shape, 3.0)
    read = written(tmp_path, values, chunks=(2,) * len(shape))
    np.testing.assert_array_equal(read[()], values)
    assert read.shape == shape


def test_many_chunks_are_read_side_by_side(tmp_path):
    values = np.random.default_rng(0).normal(size=(400, 100))
    read = written(tmp_path, values, chunks=(50, 100))
    np.testing.assert_array_equal(read[10:395], values[10:395])


@pytest.mark.parametrize(
    ("dtype", "fill", "expected"),
    [
        ("<f8", "NaN", np.nan),
        ("<f4", "-Infinity", -np.inf),
        ("<i2", 7, 7),
        ("|b1", True, True),
        ("|S3", "YWJj", b"abc"),
        ([["x", "<u2"], ["y", "<u2"]], "AQACAA==", (1, 2)),
    ],
)
def test_fill_values(tmp_path, dtype, fill, expected):
    folder = write(tmp_path / "a.zarr", nwb({"values/.zarray": array((2,), (1,), dtype, fill_value=fill)}))
    read = ZarrFile(local_store(str(folder)))["values"]
    np.testing.assert_array_equal(read[()], np.full(2, expected, dtype=read.dtype) if dtype[0] != ["x", "<u2"] else
                                  np.array([expected] * 2, dtype=read.dtype))  # fmt: skip


def test_chunks_without_a_fill_value_are_missed(tmp_path):
    folder = write(tmp_path / "a.zarr", nwb({"values/.zarray": array((2,), (1,), "<i2", fill_value=None)}))
    with pytest.raises(
        TruncatedFileError, match="the chunk 0 is missing, and the array names no value that would stand"
    ):
        ZarrFile(local_store(str(folder)))["values"][()]


@pytest.mark.parametrize("codec", [numcodecs.VLenUTF8(), numcodecs.VLenBytes(), numcodecs.JSON(), numcodecs.Pickle()])
def test_text(tmp_path, codec):
    text = ["left", "", "é" * 300]
    if isinstance(codec, numcodecs.VLenBytes):
        values = np.array([part.encode() for part in text], dtype=object)
    else:
        values = np.array(text, dtype=object)
    described = array((3,), (3,), "|O", filters=[codec.get_config()])
    folder = write(tmp_path / "a.zarr", nwb({"text/.zarray": described, "text/0": bytes(codec.encode(values))}))
    read = ZarrFile(local_store(str(folder)))["text"]
    assert read.asstr()[()].tolist() == text
    assert read.asstr()[2] == text[2]
    assert read[()].tolist() == values.tolist()
    (folder / "text/0").unlink()
    assert read.asstr()[()].tolist() == ["", "", ""]


def test_pickled_text_of_numpy_and_references():
    reference = {"source": ".", "path": "/units", "object_id": None}
    values = np.array([np.str_("é"), reference], dtype=object)
    for protocol in (3, 4, 5):
        found = PickledObjects().decode(numcodecs.Pickle(protocol).encode(values))
        assert found.tolist() == ["é", reference]


CALLED = []


def call(what):
    CALLED.append(what)


class Evil:
    def __reduce__(self):
        return call, (1,)


@pytest.mark.parametrize("content", [Evil(), np.array([Evil()], dtype=object), np.arange(3), 7, {"a": np.float64(1)}])
def test_pickles_call_nothing(tmp_path, content):
    described = array((1,), (1,), "|O", filters=[{"id": "pickle", "protocol": 5}])
    folder = write(tmp_path / "a.zarr", nwb({"a/.zarray": described, "a/0": pickle.dumps(content)}))
    with pytest.raises(TruncatedFileError, match=r"a\.zarr: /a: the chunk 0 is damaged"):
        ZarrFile(local_store(str(folder)))["a"][()]
    assert CALLED == []


def test_compound_values_with_references_are_refused(tmp_path):
    attributes = {"zarr_dtype": [{"name": "start", "dtype": "int32"}, {"name": "series", "dtype": "object"}]}
    described = array((2,), (2,), "|O", filters=[{"id": "pickle", "protocol": 5}])
    folder = write(tmp_path / "a.zarr", nwb({"a/.zarray": described, "a/.zattrs": attributes}))
    read = ZarrFile(local_store(str(folder)))["a"]
    assert read.dtype.names == ("start", "series")
    with pytest.raises(UnreadableZarrError, match="/a: compound values with text or references are not read"):
        read[()]


def test_codecs_that_are_missing_are_named(tmp_path):
    described = array((1,), (1,), "<f8", compressor={"id": "wavpack", "level": 1})
    folder = write(tmp_path / "a.zarr", nwb({"a/.zarray": described, "a/0": b"x"}))
    with pytest.raises(
        UnreadableZarrError, match="/a: it is stored with the codec 'wavpack', which numcodecs does not"
    ):
        ZarrFile(local_store(str(folder)))["a"][()]


@pytest.mark.parametrize("codec", ["blosc", "zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "vlen-utf8", "json2", None])
def test_bytes_that_no_codec_wrote(codec, rng):
    dtype = "|O" if codec in ("vlen-utf8", "json2") else "<f8"
    config = {"compressor": {"id": codec}} if dtype == "<f8" else {"filters": [{"id": codec}]}
    described = ArrayFormat("store: /a", array((4,), (4,), dtype, **config if codec else {}))
    for n_bytes in (0, 1, 7, 40):
        with pytest.raises(TruncatedFileError, match="store: /a: the chunk 0 is damaged"):
            described.decode(rng.bytes(n_bytes), (0,))


@pytest.mark.parametrize(
    "change",
    [{"shape": [3, 3]}, {"dtype": "nonsense"}, {"dtype": [["x"]]}, {"zarr_format": 3}, {"chunks": 3}, {"shape": None}],
)
def test_metadata_of_another_form(change):
    with pytest.raises(UnreadableZarrError, match="store: /a: its metadata are not those of an array"):
        ArrayFormat("store: /a", json.loads(json.dumps(array((3,), (3,), "<f8") | change)))


def test_without_numcodecs_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "numcodecs", None)
    with pytest.raises(ImportError, match="pip install numcodecs"):
        ArrayFormat("store: /a", array((3,), (3,), "<f8")).decode(b"", (0,))
