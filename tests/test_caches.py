"""A read-only home and package: compiled code and schemas find a temporary place, said once."""

import builtins
import logging
import os
import stat
import sys
import tempfile
from types import SimpleNamespace

import pytest

from nwb_lrrnn import caches
from nwb_lrrnn.io.schemas import import_pynwb


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Make the temporary folder one of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caches.private_folder.cache_clear()
    yield tmp_path
    caches.private_folder.cache_clear()


def numba_that(finds):
    """Return a stand-in for numba that finds a place for compiled code, or none."""

    def decorated(function):
        if not finds:
            raise RuntimeError(f"cannot cache function {function.__name__!r}: no locator available")
        return function

    return SimpleNamespace(njit=lambda cache: decorated, config=SimpleNamespace(CACHE_DIR=""))


def test_where_numba_finds_a_place_nothing_changes(temporary, caplog):
    numba = numba_that(finds=True)
    caches.find_numba_cache(numba)
    assert numba.config.CACHE_DIR == ""
    assert not caplog.text
    assert not list(temporary.iterdir())


def test_where_numba_finds_none_it_gets_a_temporary_one_that_is_named(temporary, caplog):
    numba = numba_that(finds=False)
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        caches.find_numba_cache(numba)
    assert numba.config.CACHE_DIR.startswith(str(temporary))
    assert "NUMBA_CACHE_DIR" in caplog.text
    assert numba.config.CACHE_DIR in caplog.text


def test_the_temporary_folder_is_the_same_for_all_processes_and_private(temporary):
    path = caches.private_folder()
    caches.private_folder.cache_clear()
    assert caches.private_folder() == path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
@pytest.mark.parametrize("kind", ["open to all", "a link"])
def test_a_folder_that_somebody_else_may_have_made_is_not_trusted(kind, temporary):
    taken = temporary / f"nwb_lrrnn_{os.getuid()}"
    if kind == "a link":
        (temporary / "other").mkdir(mode=0o700)
        taken.symlink_to(temporary / "other")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    assert caches.private_folder() != str(taken)


def test_pynwb_is_imported_where_it_cannot_make_its_cache(temporary, monkeypatch):
    seen = []
    real = builtins.__import__

    def only_in_temporary(name, *args, **kwargs):
        if name == "pynwb":
            seen.append(os.environ.get("XDG_CACHE_HOME", ""))
            if not seen[-1].startswith(str(temporary)):
                raise OSError(30, "Read-only file system")
            return SimpleNamespace()
        return real(name, *args, **kwargs)

    monkeypatch.setenv("XDG_CACHE_HOME", "/read-only")
    monkeypatch.delitem(sys.modules, "pynwb", raising=False)
    monkeypatch.setattr(builtins, "__import__", only_in_temporary)
    import_pynwb()
    assert [path.startswith(str(temporary)) for path in seen] == [False, True]
    assert os.environ["XDG_CACHE_HOME"] == "/read-only"
