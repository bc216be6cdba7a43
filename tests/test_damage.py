"""What libraries say about damaged files is one sentence with file and place; our own mistakes stay what they are."""

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import TruncatedFileError
from nwb_lrrnn.io.files.damage import check_size, taken_shape
from nwb_lrrnn.io.files.hdf5_low_level import low_level
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_series, add_trials, add_units, new_nwb


@pytest.fixture
def source(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.1, 0.9]])
        file.create_dataset("huge", (2**30, 2**14), dtype="f8")
        file["names"] = np.array(["a"], dtype=h5py.string_dtype())
    return resolve(tmp_path / "a.nwb")


def ask_numbers_of_text(file):
    file["names"].astype("f8")[()]


def ask_for_what_is_gone(file):
    return file["units"]["gone"]


def ask_for_an_attribute(file):
    return file["units/id"].attrs["gone"]


def ask_for_all(file):
    file["huge"][()]


def ask_for_all_below(file):
    low_level(file)["huge"][()]


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (ask_for_what_is_gone, r"a\.nwb is damaged at /units/gone: .*; copy or download it again"),
        (ask_for_an_attribute, r"a\.nwb is damaged at /units/id/gone: .*"),
        (ask_numbers_of_text, r"a\.nwb is damaged at /names: .*"),
        (ask_for_all, r"a\.nwb is damaged at /huge: /huge says that it has the shape \(1073741824, 16384\), 1.31e\+05"),
        (ask_for_all_below, r"a\.nwb is damaged at /huge: /huge says that it has the shape"),
    ],
)
def test_what_a_library_says_has_file_and_place(source, ask, text):
    with pytest.raises(TruncatedFileError, match=text), source.open() as file:
        ask(file)


def test_a_part_of_something_huge_is_read(source):
    with source.open() as file:
        assert file["huge"][5:7, 3].tolist() == [0, 0]
        assert file["huge"][..., 2:1].size == 0


def recurse(file):
    recurse(file)


@pytest.mark.parametrize(
    ("own", "error"),
    [(lambda file: {}["x"], KeyError), (lambda file: file.no, AttributeError), (lambda f: [][0], IndexError)],
)
def test_our_own_mistakes_are_no_damage(source, own, error):
    with pytest.raises(error), source.open() as file:
        own(file)
    with pytest.raises(TruncatedFileError, match="its parts contain each other"), source.open() as file:
        recurse(file)


def test_sizes_are_counted_before_memory_is_taken():
    assert taken_shape((slice(0, 3), 2), (10, 20, 5)) == (3, 1, 5)
    assert taken_shape(slice(None, None, 3), (10, 2)) == (4, 2)
    assert taken_shape((), ()) == ()
    assert taken_shape(Ellipsis, (4, 5)) == (4, 5)
    check_size((2**20,), 8, "/a")
    with pytest.raises(MemoryError, match=r"/a says that it has the shape \(1099511627776,\)"):
        check_size((2**40,), 8, "/a")


def test_odd_tables_are_read_as_well_as_they_can_be(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_trials(file, [0.0, 2.0], [1.0, 3.0])
        trials = file["intervals/trials"]
        del trials["id"], trials["stop_time"]
        trials.create_dataset("id", (2,), dtype=h5py.ref_dtype)
        trials["stop_time"] = np.array(["1", "3"], dtype=h5py.string_dtype())
        add_units(file, [[0.1, 0.9]])
        add_series(file, "acquisition/x", np.ones(4), rate=1.0)
        file["acquisition"].attrs["neurodata_type"] = ["a", "b"]
    recording = open_nwb(tmp_path / "a.nwb")
    assert "/acquisition/x" in [content.path for content in recording.contents]
    assert any("ids repeat or are no numbers" in text for text in recording.problems)
    with pytest.raises(ValueError, match="stop_time is no number"):
        recording.spikes(0.1, intervals="trials", align="start_time", window=(0, 1))
