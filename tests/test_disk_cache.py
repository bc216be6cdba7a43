"""Blocks on the disk: found again, never believed when damaged, capped, closed to others, and never in the way."""

import logging
import os
import stat
import threading
import time

import pytest

from nwb_lrrnn.io.files.network import disk_cache
from nwb_lrrnn.io.files.network.disk_cache import DiskCache, key_of, shelf_of

posix = pytest.mark.skipif(os.name != "posix", reason="other rules for the rights of files")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (disk_cache.FOLDER, disk_cache.GIGABYTES, disk_cache.EMBARGOED):
        monkeypatch.delenv(name, raising=False)


def blocks_in(folder):
    return {path.name: path for path in (folder / "nwb_lrrnn-blocks").iterdir()}


def test_a_block_is_found_again_also_by_another_process(tmp_path):
    DiskCache(tmp_path, 10**6).put("name", b"content")
    cache = DiskCache(tmp_path, 10**6)
    assert cache.get("name", 7) == b"content"
    assert cache.get("other", 7) is None
    assert cache.get("name", 8) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:10],
        lambda content: b"",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: bytes([content[0] ^ 1]) + content[1:],
    ],
)
def test_a_damaged_block_is_not_believed_and_removed(tmp_path, damage):
    cache = DiskCache(tmp_path, 10**6)
    cache.put("name", b"content")
    path = blocks_in(tmp_path)["name"]
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("name", 7) is None
    assert not path.exists()


def test_a_block_under_the_name_of_another_is_not_believed(tmp_path):
    cache = DiskCache(tmp_path, 10**6)
    cache.put("one", b"content")
    blocks_in(tmp_path)["one"].rename(tmp_path / "nwb_lrrnn-blocks" / "two")
    assert cache.get("two", 7) is None


def test_least_recently_used_blocks_go_first(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    for number in range(7):
        cache.put(f"{number}", bytes(100))
        os.utime(blocks_in(tmp_path)[f"{number}"], ns=(number, number))
    assert cache.get("0", 100) == bytes(100)  # used just now
    cache.put("8", bytes(100))
    cache.put("9", bytes(100))
    left = blocks_in(tmp_path)
    assert {"0", "8", "9"} <= set(left)
    assert "1" not in left
    assert sum(path.stat().st_size for path in left.values()) <= 1000


def test_cap_counts_what_other_processes_wrote(tmp_path):
    caches = [DiskCache(tmp_path, 10_000) for _ in range(5)]
    for number in range(60):
        caches[number % 5].put(f"{number}", bytes(1000))
    assert sum(path.stat().st_size for path in blocks_in(tmp_path).values()) < 10_000 + 5 * 1100
    DiskCache(tmp_path, 2000)
    assert sum(path.stat().st_size for path in blocks_in(tmp_path).values()) <= 2000


def test_files_that_a_killed_process_left_are_removed(tmp_path):
    DiskCache(tmp_path, 1000)
    old, new = (tmp_path / "nwb_lrrnn-blocks" / name for name in (f".{32 * 'a'}.tmp", f".{32 * 'b'}.tmp"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    DiskCache(tmp_path, 1000)
    assert (old.exists(), new.exists()) == (False, True)


def test_many_threads(tmp_path):
    caches, wrong = [DiskCache(tmp_path, 5000) for _ in range(2)], []

    def work(place):
        for number in range(100):
            name = f"{(number * 7 + place) % 23}"
            caches[place % 2].put(name, name.encode() * 100)
            found = caches[1 - place % 2].get(name, len(name) * 100)
            if found not in (None, name.encode() * 100):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@posix
def test_folder_is_closed_to_others(tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "new"
    DiskCache(folder, 1000)
    own = folder / "nwb_lrrnn-blocks"
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    own.chmod(0o777)
    DiskCache(folder, 1000)
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@posix
def test_folder_of_another_user_is_not_used(tmp_path, monkeypatch, caplog):
    DiskCache(tmp_path, 1000).put("name", b"content")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    cache = DiskCache(tmp_path, 1000)
    cache.put("other", b"content")
    assert cache.get("name", 7) is None
    assert set(blocks_in(tmp_path)) == {"name"}
    assert "it belongs to another user" in caplog.text


def test_full_disk_is_said_once_and_otherwise_ignored(tmp_path, monkeypatch, caplog):
    cache = DiskCache(tmp_path, 1000)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for number in range(3):
        cache.put(f"{number}", b"content")
    assert cache.get("0", 7) is None
    assert not blocks_in(tmp_path)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "(No space left on device); files are read without it" in caplog.text


def test_folder_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = DiskCache(tmp_path / "file", 1000)
    cache.put("name", b"content")
    assert cache.get("name", 7) is None
    assert "cannot be used as it should (FileExistsError)" in caplog.text


def test_off_unless_asked_for(tmp_path, monkeypatch):
    assert shelf_of("https://a.org/a.nwb", 7, "sha256:00") is None
    monkeypatch.setenv(disk_cache.FOLDER, str(tmp_path))
    shelf = shelf_of("https://a.org/a.nwb", 7, "sha256:00")
    assert shelf is not None
    shelf.put(0, b"content")
    assert shelf.get(0, 7) == b"content"
    assert shelf.get(1, 7) is None
    again = shelf_of("https://b.org/moved.nwb", 7, "sha256:00")
    assert again is not None
    assert again.get(0, 7) == b"content"
    (name,) = blocks_in(tmp_path)
    assert name == f"{key_of('', 7, 'sha256:00')}-0"


@pytest.mark.parametrize("tag", ["modified:Mon, 01 Jan 2024 00:00:00 GMT|7", "size:7"])
def test_not_for_files_whose_version_is_not_certain(tmp_path, monkeypatch, tag):
    monkeypatch.setenv(disk_cache.FOLDER, str(tmp_path))
    assert shelf_of("https://a.org/a.nwb", 7, tag) is None


def test_embargoed_files_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv(disk_cache.FOLDER, str(tmp_path))
    assert shelf_of("dandi://000001/a.nwb", 7, "sha256:00", is_embargoed=True) is not None
    monkeypatch.setenv(disk_cache.EMBARGOED, "0")
    assert shelf_of("dandi://000001/a.nwb", 7, "sha256:00", is_embargoed=True) is None
    assert shelf_of("dandi://000001/a.nwb", 7, "sha256:00") is not None


@pytest.mark.parametrize("text", ["many", "0", "-1", "inf", "nan"])
def test_cap_that_is_no_number(tmp_path, monkeypatch, text):
    monkeypatch.setenv(disk_cache.FOLDER, str(tmp_path))
    monkeypatch.setenv(disk_cache.GIGABYTES, text)
    with pytest.raises(ValueError, match=f"NWB_LRRNN_CACHE_GB: got '{text}', wanted a positive number of gigabytes"):
        shelf_of("https://a.org/a.nwb", 7, "sha256:00")


def test_keys_differ_with_size_tag_and_for_etags_address():
    keys = {
        key_of(uri, size, tag)
        for uri in ("https://a.org/a", "https://b.org/a")
        for size in (7, 8)
        for tag in ('etag:"1"', 'etag:"2"', "sha256:1")
    }
    assert len(keys) == 2 * 2 * 2 + 2
    assert all(len(key) == 40 and int(key, 16) for key in keys)


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path, caplog):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_bytes(b"x" * 2000)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "nwb_lrrnn-blocks").symlink_to(tmp_path / "mine")
    cache = DiskCache(tmp_path / "shared", 1000)
    cache.put("name", b"content")
    assert cache.get("name", 7) is None
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis"]
    assert "link" in caplog.text
