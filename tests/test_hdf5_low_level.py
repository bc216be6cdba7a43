"""Light groups say what h5py's say: links, attributes of every kind, shapes and types."""

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import TruncatedFileError
from nwb_lrrnn.io.files.hdf5 import plain
from nwb_lrrnn.io.files.hdf5_low_level import LowLevelDataset, LowLevelGroup, low_level
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_series, new_nwb

ATTRIBUTES = {
    "text": "Krüger",
    "ascii": np.array("abc", dtype=h5py.string_dtype("ascii")),
    "fixed": np.bytes_("abc"),
    "texts": np.array(["a", "ü"], dtype=h5py.string_dtype()),
    "one text in a list": np.array(["a"], dtype=h5py.string_dtype()),
    "double": 0.1,
    "half": np.float16(0.5),
    "big-endian": np.array(2.5, dtype=">f4"),
    "floats": np.arange(3.0),
    "integer": 3,
    "large": np.uint64(2**64 - 1),
    "flag": True,
    "nothing": h5py.Empty("f4"),
}


def assert_same(ours, theirs):
    if isinstance(theirs, h5py.Empty):
        assert isinstance(ours, h5py.Empty)
        assert plain(ours) is ours
    else:
        ours, theirs = plain(ours), plain(theirs)
        if isinstance(theirs, h5py.Reference):  # two that are alike are not equal
            ours, theirs = bool(ours), bool(theirs)
        assert np.array_equal(ours, theirs)
        assert isinstance(ours, str) == isinstance(theirs, str)


def compare(ours, theirs, depth=0):
    """Assert that a low-level object and h5py's object say the same, with all below them."""
    assert set(theirs.attrs) == {name for name in theirs.attrs if name in ours.attrs}
    for name in theirs.attrs:
        try:
            value = theirs.attrs[name]
        except (OSError, TypeError):  # types that h5py cannot read
            continue
        assert_same(ours.attrs.get(name), value)
    if isinstance(theirs, h5py.Dataset):
        assert isinstance(ours, LowLevelDataset)
        assert (ours.shape, ours.ndim, ours.size) == (theirs.shape, len(theirs.shape or ()), theirs.size)
        assert ours.dtype == theirs.dtype
        if theirs.shape == ():
            assert_same(ours[()], theirs[()])
        return
    assert isinstance(ours, LowLevelGroup)
    assert list(ours) == list(theirs)
    for name in theirs:
        link = theirs.get(name, getlink=True)
        assert type(ours.get(name, getlink=True)) is type(link)
        assert vars(ours.get(name, getlink=True)) == vars(link)
        assert (ours.get(name) is None) == (theirs.get(name) is None)
        if isinstance(link, h5py.HardLink) and not isinstance(theirs[name], h5py.Datatype) and depth < 12:
            compare(ours[name], theirs[name], depth + 1)


def test_says_what_h5py_says(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("group").attrs.update(ATTRIBUTES)
        for name, dtype in {"f8": "<f8", "i2": ">i2", "u1": "u1", "half": "f2", "flag": "?", "c": "c8"}.items():
            file.create_dataset(f"numbers/{name}", data=np.ones((2, 3), dtype=dtype))
            file.create_dataset(f"single/{name}", data=np.ones((), dtype=dtype))
        file["text"], file["nothing"] = "Krüger", h5py.Empty("f4")
        file.create_dataset("compound", data=np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]))
        file["soft"], file["broken"] = h5py.SoftLink("/group"), h5py.SoftLink("/none")
        compare(low_level(file), file)
        assert low_level(file)["group"] == low_level(file)["soft"]
        assert len({low_level(file)["group"], low_level(file)["soft"]}) == 1
        assert low_level(file)["group"].attrs.get("none", 3) == 3
        assert low_level(file).get("none") is None
        with pytest.raises(KeyError):
            low_level(file)["none"]
        file["outside"] = h5py.ExternalLink("none.h5", "/a")
        assert vars(low_level(file).get("outside", getlink=True)) == vars(file.get("outside", getlink=True))


def test_says_what_h5py_says_of_real_recordings(data_folder):
    for path in sorted((data_folder / "corpus").rglob("*.nwb"))[::3]:
        with h5py.File(path, "r") as file:
            for name in file:
                if name != "specifications" and isinstance(file.get(name), h5py.Group):
                    compare(low_level(file[name]), file[name])


def test_a_damaged_object_is_said_and_not_left_out(tmp_path):
    path = tmp_path / "a.nwb"
    with new_nwb(path) as file:
        for name in "ab":
            add_series(file, f"acquisition/{name}", np.arange(4.0), rate=10.0)
        at = h5py.h5o.get_info(file["acquisition/b"].id).addr
    with path.open("r+b") as raw:
        raw.seek(at)
        raw.write(bytes(8))
    with pytest.raises(TruncatedFileError, match="damaged"):
        open_nwb(path)
