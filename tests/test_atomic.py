"""A file appears whole or not at all."""

import os
import sys
import time

import numpy as np
import pytest

from nwb_lrrnn import LinearStateSpace, write_recording, write_results
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


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are those of Unix")
def test_nothing_but_a_regular_file_is_replaced(tmp_path):
    (tmp_path / "kept.nwb").write_text("kept")
    (tmp_path / "link.nwb").symlink_to(tmp_path / "kept.nwb")
    (tmp_path / "nowhere.nwb").symlink_to(tmp_path / "none.nwb")
    os.mkfifo(tmp_path / "pipe.nwb")
    for name in ("link", "nowhere", "pipe"):
        with pytest.raises(FileExistsError, match="a link, pipe or device, wanted a regular file"):
            write(tmp_path / f"{name}.nwb", "new")
    assert (tmp_path / "kept.nwb").read_text() == "kept"
    assert (tmp_path / "link.nwb").is_symlink()


def test_what_killed_processes_left_goes_with_the_next_writing(tmp_path):
    old = tmp_path / ".a.0123abcd.tmp.nwb"
    others = [tmp_path / ".a.89ab0123.tmp.nwb", tmp_path / ".b.0123abcd.tmp.nwb", tmp_path / ".a.note.nwb"]
    for path in (old, *others):
        path.write_text("half")
    for path in (old, *others[1:]):
        os.utime(path, (time.time() - 7200,) * 2)
    write(tmp_path / "a.nwb", "new")
    assert not old.exists()
    assert all(path.exists() for path in others)  # one is being written now, one is of another file, one is no draft


@pytest.mark.skipif(sys.platform == "win32", reason="limits are those of Unix")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("limit", [0, 4_000, 60_000])
def test_a_full_disk_is_one_sentence_and_the_model_lives_on(tmp_path, limit):
    import resource

    X = np.random.default_rng(0).normal(size=(6, 20, 4))
    model = LinearStateSpace(1, max_iter=5).fit(X)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # no file may become larger
    try:
        for call in (
            lambda: write_results(tmp_path / "r.nwb", model),
            lambda: write_recording(tmp_path / "r.nwb", X, bin_size=0.02),
        ):
            with pytest.raises(OSError, match=r"has no room for a file of .* MB, .* nothing was written: free some"):
                call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    assert write_results(tmp_path / "r.nwb", model).exists()
