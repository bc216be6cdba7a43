"""A file appears whole or not at all."""

import pytest

from nwb_lrrnn.io.writing.atomic import replacing


def test_the_file_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "a.nwb"
    with replacing(path, overwrite=False) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".nwb"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def write(path, text):
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text(text)


def break_off(path, error):
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.nwb"
    path.write_text("old")
    with pytest.raises(error):
        break_off(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_rename_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.nwb"
    path.write_text("old")

    def refuse(*args):
        raise PermissionError("read-only")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(PermissionError, match="read-only"):
        write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    path = tmp_path / "a.nwb"
    path.write_text("old")
    with pytest.raises(FileExistsError, match="which exists; choose another name, or pass overwrite=True"):
        replacing(path, overwrite=False).__enter__()
    assert path.read_text() == "old"


def test_a_place_that_cannot_be_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="the directory '.*missing' does not exist"):
        replacing(tmp_path / "missing" / "a.nwb", overwrite=True).__enter__()
    (tmp_path / "d.nwb").mkdir()
    with pytest.raises(FileExistsError, match="which is a directory"):
        replacing(tmp_path / "d.nwb", overwrite=True).__enter__()
    with pytest.raises(ValueError, match="wanted a name that ends in .nwb"):
        replacing(tmp_path / "a.h5", overwrite=True).__enter__()
