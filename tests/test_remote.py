"""Connections: found again by threads and processes, and right through every fault."""

import logging
import os
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import AccessDeniedError, ChangedFileError, RemoteError, TruncatedFileError
from nwb_lrrnn.io.files import connection as remote
from nwb_lrrnn.io.files.connection import connect, probe
from nwb_lrrnn.io.files.locate import WebLocation, locate
from nwb_lrrnn.io.files.network import block_cache, disk_cache, ranges, web
from small_server import Place, RangeServer, hasten, schedule

BLOCK = 64


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    monkeypatch.delenv(disk_cache.FOLDER, raising=False)
    monkeypatch.setattr(block_cache, "BLOCK", BLOCK)
    monkeypatch.setattr(remote, "BLOCK", BLOCK)
    monkeypatch.setattr(remote, "_LARGE", 8 * BLOCK)
    yield hasten(monkeypatch)
    remote.forget()


@pytest.fixture
def content(rng):
    return rng.bytes(100 * BLOCK + 17)


@pytest.fixture
def server(content):
    with RangeServer({"a.nwb": content}) as server:
        yield server


def asked(server):
    """Return the blocks of each request: the first, and how many."""
    return [(request.range[0] // BLOCK, -(-request.range[1] // BLOCK)) for request in server.counts.log]


def test_probe_needs_one_request_which_is_the_first_block_too(server, content):
    connection = probe(Place(server, "a.nwb"))
    assert connection.size == len(content)
    assert connection.file().read(BLOCK) == content[:BLOCK]
    assert server.counts.requests == 1


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_short_files(server, content, size):
    server.files["a.nwb"] = content[:size]
    connection = probe(Place(server, "a.nwb"))
    assert connection.size == size
    assert connection.file().read() == content[:size]
    assert connection.fetch(0, size) == content[:size]
    assert server.counts.requests == 1 + (size > BLOCK)


@pytest.mark.parametrize(
    ("headers", "digest", "tag"),
    [
        ({}, "sha256:00", "sha256:00"),
        ({}, None, "etag:"),
        ({"etag": False}, None, "modified:Tue, 14 Nov 2023 22:13:20 GMT|6417"),
        ({"etag": False, "modified": False}, None, "size:6417"),
    ],
)
def test_version_tag_says_what_it_knows(content, headers, digest, tag):
    with RangeServer({"a.nwb": content}, **headers) as server:
        found = probe(Place(server, "a.nwb", digest=digest)).version_tag
        assert found == (tag if tag != "etag:" else f"etag:{server.version('a.nwb')[0]}")


def test_weak_etag_is_no_version(server, monkeypatch):
    monkeypatch.setattr(server, "version", lambda name: ('W/"1"', "Tue, 14 Nov 2023 22:13:20 GMT"))
    assert probe(Place(server, "a.nwb")).version_tag.startswith("modified:")


def test_size_that_the_archive_does_not_know(server):
    with pytest.raises(ChangedFileError, match="has 6417 bytes, wanted 6418"):
        probe(Place(server, "a.nwb", size=6418))


def test_data_are_fetched_exactly_and_not_kept(server, content):
    connection = probe(Place(server, "a.nwb"))
    for _ in range(2):
        assert connection.fetch(70, 1000) == content[70:1070]
    assert [request.range for request in server.counts.log[1:]] == [(70, 1000)] * 2
    assert connection.fetch(3, 50) == content[3:53]  # lies in the first block, which is there
    assert server.counts.requests == 3


def test_range_behind_the_end(server, content):
    connection = probe(Place(server, "a.nwb"))
    with pytest.raises(TruncatedFileError, match="the file ends at 6417"):
        connection.fetch(len(content) - 1, 2)


def test_file_keeps_blocks_and_fetches_neighbours_in_one_request(server, content):
    connection = probe(Place(server, "a.nwb"))
    file = connection.file()
    file.seek(20 * BLOCK + 5)
    assert file.read(4 * BLOCK) == content[20 * BLOCK + 5 : 24 * BLOCK + 5]
    file.seek(22 * BLOCK)
    assert file.read(10) == content[22 * BLOCK : 22 * BLOCK + 10]
    assert asked(server) == [(0, 1), (20, 5)]


def test_large_reads_of_a_file_are_not_kept(server, content):
    file = probe(Place(server, "a.nwb")).file()
    assert file.read() == content
    file.seek(0)
    assert file.read() == content
    assert server.counts.requests == 3


def test_blocks_around_are_fetched_along_where_metadata_cluster(server):
    file = probe(Place(server, "a.nwb")).file()
    for number in (50, 57, 58, 60, 54, 30, 3):
        file.seek(number * BLOCK)
        file.read(1)
    assert asked(server) == [(0, 1), (50, 1), (53, 8), (30, 1), (1, 6)]


def test_connections_are_found_again(server):
    connection = probe(Place(server, "a.nwb"))
    assert connect(connection.uri, connection.size, connection.version_tag) is connection
    assert probe(Place(server, "a.nwb")) is connection
    assert pickle.loads(pickle.dumps(connection)) is connection


def test_forgotten_connection_is_made_anew_at_its_old_place(server, content):
    server.signed = True
    connection = probe(Place(server, "a.nwb"))
    remote.forget()
    again = connect(connection.uri, connection.size, connection.version_tag)
    assert again is not connection
    assert again.fetch(100, 10) == content[100:110]
    assert server.counts.requests == 2


def test_number_of_connections_is_bounded(server, content, monkeypatch):
    monkeypatch.setattr(remote, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(remote, "_MOST_LOCATIONS", 3)
    for number in range(5):
        probe(Place(server, "a.nwb", uri=f"http://lab.org/{number}.nwb"))
    assert [uri for uri, _ in remote._registry.connections] == ["http://lab.org/3.nwb", "http://lab.org/4.nwb"]
    assert len(remote._registry.locations) == 3


def test_file_replaced_between_opening_and_reading(server, content):
    connection = probe(Place(server, "a.nwb"))
    remote.forget()
    server.replace("a.nwb", content[::-1])
    again = connect(connection.uri, connection.size, connection.version_tag)
    with pytest.raises(ChangedFileError, match="another version than the one that was opened"):
        again.fetch(100, 10)


def test_file_that_the_archive_replaced(server, monkeypatch):
    place = Place(server, "a.nwb", size=6417, digest="sha256:00")
    monkeypatch.setattr(remote, "locate", lambda uri: place)
    assert connect(place.uri, 6417, "sha256:00").size == 6417
    with pytest.raises(
        ChangedFileError, match=r"has another version now \(6417 bytes, sha256:00; wanted 6417 bytes, sha"
    ):
        connect(place.uri, 6417, "sha256:01")
    with pytest.raises(ChangedFileError, match=r"wanted 6418 bytes, sha256:01.; open it again"):
        connect(place.uri, 6418, "sha256:01")


@pytest.mark.parametrize("etag", [True, False])
def test_version_is_known_from_the_tag_alone(server, content, etag):
    server.etag = etag
    connection = probe(WebLocation(server.url("a.nwb")))
    remote.forget()
    remote._registry.locations.clear()
    server.replace("a.nwb", content[::-1])
    with pytest.raises(ChangedFileError, match="another version"):
        connect(connection.uri, connection.size, connection.version_tag).fetch(0, 10)


def test_signed_address_stays_in_its_process(server, content):
    server.signed = True
    connection = probe(locate(server.sign("a.nwb")))
    assert connection.fetch(100, 10) == content[100:110]
    assert b"SECRET" not in pickle.dumps(connection)
    assert "SECRET" not in f"{connection!r} {connection.uri} {connection.version_tag} {connection.file()!r}"
    remote.forget()
    remote._registry.locations.clear()  # as in another process
    with pytest.raises(AccessDeniedError, match="refuses to give this file.*signature or token"):
        connect(connection.uri, connection.size, connection.version_tag).fetch(100, 10)


PROGRAM = r"""
import os, sys
from nwb_lrrnn.io.files.connection import connect
uri, size, tag = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def show(data):
    os.write(1, f"{data.hex()}\n".encode())  # in one piece: parent and child write at once
show(connect(uri, size, tag).fetch(100, 5))
child = os.fork()
show(connect(uri, size, tag).file().read(5))
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
show(connect(uri, size, tag).fetch(200, 5))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_other_processes_and_their_forks_connect_by_themselves(server, content):
    connection = probe(WebLocation(server.url("a.nwb")))
    server.reset()
    arguments = [connection.uri, str(connection.size), connection.version_tag]
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, *arguments],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    places = (100, 0, 0, 200)
    assert done.stdout.split() == [content[place : place + 5].hex() for place in places]
    assert server.counts.connections == 2


def test_disk_cache_serves_the_next_process(server, content, tmp_path, monkeypatch):
    monkeypatch.setenv(disk_cache.FOLDER, str(tmp_path))
    connection = probe(Place(server, "a.nwb"))
    assert connection.fetch(1000, 3000) == content[1000:4000]
    assert connection.file().read(10) == content[:10]
    remote.forget()
    server.reset()
    again = connect(connection.uri, connection.size, connection.version_tag)
    assert again.fetch(1100, 2000) == content[1100:3100]
    assert again.file().read(10) == content[:10]
    assert server.counts.requests == 0
    names = " ".join(path.name for path in tmp_path.rglob("*"))
    assert not any(text in names for text in ("SECRET", "127", "a.nwb", server.version("a.nwb")[0].strip('"')))
    for path in tmp_path.rglob("*-*[0-9]"):
        path.write_bytes(b"damaged") if path.is_file() else None
    assert again.fetch(1100, 2000) == content[1100:3100]
    assert server.counts.requests == 1


def test_disk_that_is_full_breaks_nothing(server, content, tmp_path, monkeypatch, caplog):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv(disk_cache.FOLDER, str(tmp_path))
    monkeypatch.setattr(os, "replace", full)
    connection = probe(Place(server, "a.nwb"))
    assert connection.fetch(1000, 3000) == content[1000:4000]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


FATAL = ["404", "whole", "total", "etag"]
PASSING = ["drop", "503", ("429", "1"), "short", "shorter", "shifted", "no range", "403", ("stall", 0.25)]


@pytest.mark.parametrize("on_disk", [False, True])
def test_two_hundred_reads_through_every_fault(server, content, tmp_path, monkeypatch, on_disk):
    if on_disk:
        monkeypatch.setenv(disk_cache.FOLDER, str(tmp_path))
        monkeypatch.setenv(disk_cache.GIGABYTES, "5e-6")  # less than the file
    monkeypatch.setattr(block_cache, "BLOCK", 4 * BLOCK)
    monkeypatch.setattr(block_cache, "CAPACITY", 40 * BLOCK)
    monkeypatch.setattr(ranges, "PIECE", 30 * BLOCK)
    monkeypatch.setattr(web, "READ_TIMEOUT", 0.2)  # a busy machine lets good answers wait for a while too
    server.signed = True

    def fault(request):
        drawn = random.Random(request.number)  # by its number: threads come in any order
        if drawn.random() < 0.02:
            server.expire()
        return drawn.choices([None, drawn.choice(PASSING), drawn.choice(FATAL)], [0.7, 0.22, 0.08])[0]

    def read(place):
        offset, size = place
        if offset % 2:  # data, the others are metadata
            return connection.fetch(offset, size)
        file = connection.file()
        file.seek(offset)
        return file.read(size)

    reads = random.Random(0)
    begins = [reads.randrange(len(content) - 1) for _ in range(200)]
    wanted = [(begin, min(reads.choice([1, 30, 300, 2500]), len(content) - begin)) for begin in begins]
    expected = [content[begin : begin + size] for begin, size in wanted]
    connection = probe(Place(server, "a.nwb"))
    server.faults = fault
    with ThreadPoolExecutor(4) as pool:
        ran = [pool.submit(read, place) for place in wanted]
    n_errors = 0
    for future, data in zip(ran, expected, strict=True):
        error = future.exception()
        assert isinstance(error, RemoteError | ChangedFileError) or future.result() == data
        assert "SECRET" not in str(error)
        n_errors += error is not None
    assert 0 < n_errors < 100
    server.faults = None
    steps = [(offset, min(6 * BLOCK, len(content) - offset)) for offset in range(0, len(content), 6 * BLOCK)]
    assert b"".join(read(step) for step in steps) == content  # whatever is kept in memory is right
    remote.forget()
    connection = connect(connection.uri, connection.size, connection.version_tag)
    assert b"".join(read(step) for step in steps) == content  # and what is kept on the disk


def test_file_replaced_under_a_reader(server, content):
    connection = probe(Place(server, "a.nwb"))
    file = connection.file()
    server.replace("a.nwb", content[::-1])
    file.seek(50 * BLOCK)
    with pytest.raises(ChangedFileError, match="another version"):
        file.read(10)
    assert isinstance(file.failure, ChangedFileError)
    server.replace("a.nwb", content)
    server.modified = False
    assert file.read(10) == content[50 * BLOCK : 50 * BLOCK + 10]  # nothing of the other version was kept


def test_h5py_reads_a_file_through_a_bad_network(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(block_cache, "BLOCK", 2048)
    monkeypatch.setattr(remote, "BLOCK", 2048)
    values = rng.normal(size=(500, 20))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a/b", data=values, chunks=(100, 5), compression="gzip")
    with RangeServer({"a.h5": tmp_path / "a.h5"}, faults=schedule("503", None, "drop", None, "short")) as server:
        with probe(Place(server, "a.h5")).file() as raw, h5py.File(raw, "r") as file:
            np.testing.assert_array_equal(file["a/b"][:], values)
        assert server.counts.requests > 5


def test_a_fresh_signature_takes_the_place_of_an_expired_one():
    content = random.Random(0).randbytes(2**20)
    with RangeServer({"a": content}, signed=True) as server:
        first = probe(locate(server.sign("a")))
        server.expire()
        again = probe(locate(server.sign("a")))
        assert again is first
        assert first.fetch(900_000, 5) == content[900_000:900_005]
