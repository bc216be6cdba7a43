"""Folders of recordings: listed by `inspect`, named by the error of `open_nwb`."""

import pytest

from nwb_lrrnn.cli import main
from nwb_lrrnn.io.errors import NotHDF5Error
from nwb_lrrnn.io.files.folder import recordings_in
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_units, new_nwb


@pytest.fixture
def dandiset(tmp_path):
    """Make the folder of a downloaded dandiset: three recordings, one of them damaged, and other files."""
    for name in ("sub-1/sub-1_ses-1.nwb", "sub-2/sub-2_ses-1.nwb"):
        (tmp_path / name).parent.mkdir()
        with new_nwb(tmp_path / name) as file:
            if "sub-1" in name:
                add_units(file, [[0.1, 0.5], [0.2]])
    (tmp_path / "sub-2" / "sub-2_ses-2.NWB").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "dandiset.yaml").write_text("identifier: DANDI:000001\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden.nwb").write_text("no recording")
    return tmp_path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_inspect_lists_what_each_recording_holds(dandiset, capsys):
    code, out, _ = run(capsys, "inspect", dandiset)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"{dandiset}: 3 recordings"
    assert lines[1].startswith("  sub-1/sub-1_ses-1.nwb  units (2 units, 3 spikes")
    assert lines[2].startswith("  sub-2/sub-2_ses-1.nwb  nothing to fit: the file holds no units")
    assert lines[3].startswith("  sub-2/sub-2_ses-2.NWB  not read: the HDF5 file is truncated or damaged")
    assert "hidden" not in out


def test_the_error_of_opening_a_folder_names_its_recordings(dandiset):
    text = r"this is a folder.*; it holds 3 recordings: sub-1/sub-1_ses-1.nwb, sub-2/sub-2_ses-1.nwb, sub-2/sub-2_ses"
    with pytest.raises(NotHDF5Error, match=text):
        open_nwb(dandiset)
    with pytest.raises(NotHDF5Error, match="it holds 1 recording: sub-1_ses-1.nwb"):
        open_nwb(dandiset / "sub-1")


def test_of_many_recordings_the_first_are_named(tmp_path):
    for k in range(9):
        (tmp_path / f"{k}.nwb").touch()
    with pytest.raises(NotHDF5Error, match=r"it holds 9 recordings: 0.nwb, .*, 5.nwb and 3 more$"):
        open_nwb(tmp_path)


def test_a_folder_without_recordings(tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert recordings_in(tmp_path) == []
    code, _, err = run(capsys, "inspect", tmp_path)
    assert code == 1
    assert "the folder holds no recordings, no file that ends in .nwb" in err
    with pytest.raises(NotHDF5Error, match="it holds no recordings"):
        open_nwb(tmp_path)
