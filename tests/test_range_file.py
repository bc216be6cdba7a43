"""The file object behaves as a local file opened for reading, for Python and for h5py."""

import io
import itertools
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lrrnn.io.errors import UnreachableError
from nwb_lrrnn.io.files.network.range_file import RangeFile

CONTENT = bytes(range(200))


def opened(content=CONTENT):
    return RangeFile(lambda offset, size: content[offset : offset + size], len(content), "https://lab.org/a.nwb")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 300)),
        st.tuples(st.just("readinto"), st.integers(0, 300)),
        st.tuples(st.just("seek"), st.integers(0, 300), st.just(io.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(0, 50), st.just(io.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-200, 10), st.just(io.SEEK_END)),
        st.tuples(st.just("readline")),
    ),
    max_size=15,
)


@settings(deadline=None, max_examples=60)
@given(steps)
def test_every_step_as_with_a_file_in_memory(steps):
    file, memory = opened(), io.BytesIO(CONTENT)
    for name, *arguments in steps:
        if name == "readinto":
            mine, theirs = bytearray(arguments[0]), bytearray(arguments[0])
            assert file.readinto(mine) == memory.readinto(theirs)
            assert mine == theirs
        else:
            assert getattr(file, name)(*arguments) == getattr(memory, name)(*arguments)
        assert file.tell() == memory.tell()


def test_it_is_for_reading_only():
    with opened() as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert file.read(None) == CONTENT
        file.seek(190)
        assert file.readall() == CONTENT[190:]
        assert io.BufferedReader(opened()).read(3) == CONTENT[:3]


@pytest.mark.parametrize("use", [lambda file: file.read(1), lambda file: file.seek(0), lambda file: file.tell()])
def test_closed_file(use):
    file = opened()
    file.close()
    with pytest.raises(ValueError, match=r"https://lab.org/a\.nwb: the file is closed"):
        use(file)


def test_places_that_are_none():
    with opened() as file:
        with pytest.raises(ValueError, match="offset: got -1, which lies before the beginning"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence: got 7, wanted 0, 1 or 2"):
            file.seek(0, 7)
        assert file.tell() == 0


def test_representation():
    assert repr(opened()) == "<RangeFile 'https://lab.org/a.nwb', 200 bytes>"


def test_h5py_reads_through_it(rng):
    memory, values = io.BytesIO(), rng.normal(size=(300, 7))
    with h5py.File(memory, "w") as file:
        file.create_dataset("a/b", data=values, chunks=(50, 7), compression="gzip")
        file["a"].attrs["text"] = "é"
    with opened(memory.getvalue()) as raw, h5py.File(raw, "r") as file:
        np.testing.assert_array_equal(file["a/b"][:], values)
        assert file["a"].attrs["text"] == "é"


def test_why_reading_failed_is_kept_for_who_hears_of_it_from_hdf5_only():
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file["a"] = np.arange(1000)
    content, is_broken = memory.getvalue(), False

    def read(offset, size):
        if is_broken:
            raise UnreachableError("the server is down")
        return content[offset : offset + size]

    with RangeFile(read, len(content)) as raw, h5py.File(raw, "r") as file:
        assert raw.failure is None
        is_broken = True
        with pytest.raises(OSError, match="server is down|[Cc]an't"):
            file["a"][:]
        assert isinstance(raw.failure, UnreachableError)
        is_broken = False
        assert file["a"][999] == 999


@pytest.mark.parametrize("error", [UnreachableError("the server is down"), ValueError("changed"), KeyboardInterrupt()])
@pytest.mark.parametrize("n_good", [0, 1, 2])
def test_failures_while_hdf5_opens_are_raised_afterwards(error, n_good):
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file["a/b"] = 1.0
    content, n_reads = memory.getvalue(), itertools.count()

    def read(offset, size):
        if next(n_reads) >= n_good:
            raise error
        return content[offset : offset + size]

    with RangeFile(read, len(content)) as raw:
        with pytest.raises(type(error), match=str(error) or None):
            raw.opened_by(lambda raw: h5py.File(raw, "r"))
        assert next(n_reads) == n_good + 1  # once it has failed nothing is asked for any more
        with pytest.raises(type(error)):
            raw.read(1)


def test_file_that_opens_although_reading_failed_is_closed_again():
    def read(offset, size):
        raise UnreachableError("down")

    memory = io.BytesIO()
    with RangeFile(read, 10) as raw, pytest.raises(UnreachableError, match="down"):
        raw.opened_by(lambda raw: raw.read(3) and memory)
    assert memory.closed


def test_what_opens_is_returned_and_what_hdf5_itself_refuses_stays_its_error():
    with opened() as raw:
        with pytest.raises(OSError, match="signature not found"):
            raw.opened_by(lambda raw: h5py.File(raw, "r"))
        assert raw.opened_by(lambda raw: raw) is raw
        with pytest.raises(ValueError, match="open_with: got None from it, wanted an open file"):
            raw.opened_by(lambda raw: None)


PROGRAM = """
import h5py
from nwb_lrrnn.io.files.network.range_file import RangeFile
def read(offset, size):
    if READS:
        return bytes(size)
    raise OSError("down")
try:
    with RangeFile(read, 1000) as raw:
        raw.opened_by(lambda raw: h5py.File(raw, "r"))
except OSError as error:
    held = error  # as sys.last_value holds it
    print(error)
"""


@pytest.mark.parametrize(("reads", "text"), [(True, "signature not found"), (False, "down")])
def test_python_exits_in_peace_while_an_error_is_held(reads, text):
    program = f"READS = {reads}{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert text in done.stdout
