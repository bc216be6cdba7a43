"""Byte ranges from a server that fails in every way we know of: the right bytes, or a typed error that says why."""

import logging
import socket
import ssl
import sys
import threading
import traceback
from base64 import b64encode

import pytest
import urllib3

from nwb_lrrnn.io.errors import (
    AccessDeniedError,
    AddressError,
    ChangedFileError,
    MissingRemoteFileError,
    NoRangesError,
    RemoteError,
    TruncatedFileError,
    UnreachableError,
)
from nwb_lrrnn.io.files.locate import WebLocation, locate
from nwb_lrrnn.io.files.network import ranges, web
from nwb_lrrnn.io.files.network.ranges import Ranges, ServedVersion
from small_server import Place, RangeServer, hasten, schedule

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    return hasten(monkeypatch)


@pytest.fixture
def server():
    with RangeServer({"a.nwb": CONTENT}) as server:
        yield server


def opened(server, **options):
    return Ranges(Place(server, "a.nwb", **options), len(CONTENT))


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (300, 1000), (len(CONTENT) - 7, 7), (0, len(CONTENT)), (5, 0)])
def test_a_range_is_exactly_what_was_asked_for(server, offset, size):
    assert opened(server).read(offset, size) == CONTENT[offset : offset + size]
    assert server.counts.requests == (size > 0)


def test_request_says_who_asks_and_wants_plain_bytes_and_brings_no_credentials(server):
    opened(server).read(3, 4)
    headers = server.counts.log[0].headers
    assert headers["User-Agent"].startswith("nwb_lrrnn/")
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Range"] == "bytes=3-6"
    assert not {"Authorization", "Cookie"} & set(headers)


def test_user_and_password_go_to_the_host_of_the_address_alone(server):
    with RangeServer({"a.nwb": CONTENT}) as other:
        address = server.url("a.nwb").replace("://", "://me:p%40ss@")
        location = locate(address)
        assert "p%40ss" not in location.uri
        assert "ss" not in repr(location)
        assert Ranges(location, len(CONTENT)).read(3, 4) == CONTENT[3:7]
        assert server.counts.log[0].headers["Authorization"] == "Basic " + b64encode(b"me:p@ss").decode()
        server.redirects["a.nwb"] = lambda: other.url("a.nwb")
        assert Ranges(location, len(CONTENT)).read(3, 4) == CONTENT[3:7]
        assert "Authorization" not in other.counts.log[0].headers


def test_a_password_is_not_sent_unencrypted():
    with pytest.raises(AddressError, match="'http://lab.org/a.nwb' with a user or password, .* wanted https://"):
        locate("http://me:pw@lab.org/a.nwb")
    assert locate("https://me:pw@lab.org/a.nwb").uri == "https://lab.org/a.nwb"


def test_connection_is_kept(server):
    file = opened(server)
    for offset in range(5):
        file.read(offset, 10)
    assert (server.counts.requests, server.counts.connections) == (5, 1)


def test_first_answer_tells_size_and_version(server):
    file = Ranges(Place(server, "a.nwb"))
    assert file.first(100) == CONTENT[:100]
    assert (file.size, file.seen) == (len(CONTENT), ServedVersion(*server.version("a.nwb")))
    assert Ranges(Place(server, "a.nwb")).first(10**6) == CONTENT


@pytest.mark.parametrize("fault", [None, "whole"])
def test_empty_file(server, fault):
    server.files["a.nwb"], server.faults = b"", schedule(fault)
    file = Ranges(Place(server, "a.nwb"))
    assert (file.first(100), file.size) == (b"", 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("drop", "the connection failed, ProtocolError"),
        ("stall", "no byte for 0.05 s"),
        ("503", "status 503"),
        ("500", "status 500"),
        ("408", "status 408"),
        ("429", "status 429"),
        ("416", "the server says that the file has no such bytes"),
        ("short", "the answer was cut off|bytes came, wanted 1000|ProtocolError"),
        ("shorter", "500 bytes came, wanted 1000"),
        ("shifted", "bytes 301-1300 came, wanted 300-1299"),
        ("no range", "an answer without a valid Content-Range"),
    ],
)
def test_faults_that_pass_are_survived_and_those_that_stay_are_told(server, pauses, fault, reason, caplog, monkeypatch):
    monkeypatch.setattr(web, "READ_TIMEOUT", 0.05 if fault == "stall" else 30.0)
    server.faults = schedule(fault, fault)
    with caplog.at_level(logging.INFO, "nwb_lrrnn"):
        assert opened(server).read(300, 1000) == CONTENT[300:1300]
    assert server.counts.requests == len(pauses) + 1
    assert len(pauses) == 2 or (fault == "stall" and len(pauses) > 2)  # a busy machine stalls good answers too
    assert "try 2 of 6 failed" in caplog.text
    server.faults = lambda request: fault
    server.reset()
    with pytest.raises(
        UnreachableError, match=rf"a\.nwb: 1000 bytes at 300 .* 6 tries; the last one: .*({reason}).*check the network"
    ):
        opened(server).read(300, 1000)
    assert server.counts.requests == 6


@pytest.mark.parametrize(
    ("fault", "reason"), [("trickle", "fewer than 1000 bytes in 0.2 s"), ("slow headers", "the connection failed")]
)
def test_a_server_that_trickles_is_one_that_is_silent(pauses, monkeypatch, fault, reason):
    monkeypatch.setattr(web, "WINDOW", 0.2)
    monkeypatch.setattr(web, "HEADERS_TIMEOUT", 0.3)
    with RangeServer({"a.nwb": CONTENT}, faults=schedule(fault)) as server:
        assert opened(server).read(3, 4000) == CONTENT[3:4003]  # at the second try
        server.faults = lambda request: fault
        with pytest.raises(UnreachableError, match=reason):
            opened(server).read(3, 4000)


def test_absurd_headers_are_a_failed_connection(pauses):
    with RangeServer({"a.nwb": CONTENT}, faults=lambda request: ("429", "x" * 100_000)) as server:
        with pytest.raises(UnreachableError, match="the connection failed"):
            opened(server).read(3, 4)


def test_pauses_grow_at_random_up_to_a_cap(server, pauses):
    server.faults = lambda request: "503"
    for _ in range(20):
        with pytest.raises(UnreachableError):
            opened(server).read(0, 1)
    for place in range(5):
        caps = min(ranges.FIRST_PAUSE * 2**place, ranges.LONGEST_PAUSE)
        found = pauses[place::5]
        assert len(found) == 20
        assert all(0.0 <= pause <= caps for pause in found)
        assert max(found) - min(found) > caps / 4


@pytest.mark.parametrize(
    ("text", "least", "most"), [("3", 3, 3.25), ("9999", 60, 60.25), ("soon", 0, 0.25), ("-5", 0, 0.25)]
)
def test_server_is_left_alone_for_as_long_as_it_wishes(server, pauses, text, least, most):
    server.faults = schedule(("429", text))
    opened(server).read(0, 1)
    assert least <= pauses[0] <= most


def test_nobody_listens(pauses):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/a.nwb"
        with pytest.raises(UnreachableError, match="in 6 tries; the last one: .*nobody listens there"):
            Ranges(WebLocation(address), 10).read(0, 10)
    assert len(pauses) == 5


def test_name_that_no_server_has(monkeypatch):
    def no_name(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    with pytest.raises(UnreachableError, match="the last one: the name of the server is not known"):
        Ranges(WebLocation("http://nowhere.invalid/a.nwb"), 10).read(0, 10)


def test_certificate_that_is_not_trusted_is_not_asked_for_again(monkeypatch, pauses):
    def refuse(*_, **__):
        raise urllib3.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")

    monkeypatch.setattr(urllib3.PoolManager, "request", refuse)
    with pytest.raises(UnreachableError, match="certificate of the server is not trusted .*SSL_CERT_FILE"):
        Ranges(WebLocation("https://127.0.0.1/a.nwb"), 10).read(0, 10)
    assert pauses == []


@pytest.mark.parametrize("has_certifi", [True, False])
def test_certificates_are_known_with_and_without_certifi(monkeypatch, has_certifi):
    if not has_certifi:
        monkeypatch.setitem(sys.modules, "certifi", None)
    context = web._trusted()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 0 or not has_certifi


def test_server_without_ranges(server):
    server.faults = lambda request: "whole"
    with pytest.raises(NoRangesError, match="ignores ranges and sends the whole file.*download the file and open its"):
        opened(server).read(0, 10)
    assert server.counts.requests == 1


def test_compressed_answer(server):
    server.faults = lambda request: "gzip"
    with pytest.raises(NoRangesError, match="sends the file compressed.*download the file"):
        opened(server).read(0, 10)


def test_length_that_nobody_tells(server, monkeypatch):
    monkeypatch.setattr(ranges, "_total", lambda response: None)
    with pytest.raises(NoRangesError, match="does not say how long the file is; download"):
        Ranges(Place(server, "a.nwb")).first(10)
    assert opened(server).read(1, 2) == CONTENT[1:3]


def test_missing_file(server):
    with pytest.raises(
        MissingRemoteFileError, match=r"b\.nwb: the server has no such file .status 404.; check"
    ) as told:
        Ranges(Place(server, "b.nwb"), 10).read(0, 10)
    assert isinstance(told.value, FileNotFoundError)
    assert server.counts.requests == 1


def test_other_refusal(server):
    server.faults = lambda request: "405"
    with pytest.raises(UnreachableError, match="answers with status 405, wanted 206; check the address"):
        opened(server).read(0, 10)


def test_malformed_address():
    with pytest.raises(UnreachableError, match="this is no valid address"):
        Ranges(WebLocation("http://[::1/a.nwb"), 10).read(0, 10)


@pytest.mark.parametrize("grown", [True, False])
def test_file_of_another_length(server, grown):
    file = Ranges(Place(server, "a.nwb"))
    file.first(10)
    server.replace("a.nwb", CONTENT * 2 if grown else CONTENT[:50])
    with pytest.raises(ChangedFileError, match=f"the file has .* bytes, wanted {len(CONTENT)}: it was replaced; open"):
        file.read(100, 10)


@pytest.mark.parametrize("header", ["etag", "modified"])
def test_file_of_the_same_length_replaced(server, header):
    setattr(server, "modified" if header == "etag" else "etag", False)
    file = Ranges(Place(server, "a.nwb"))
    file.first(10)
    server.replace("a.nwb", CONTENT[::-1])
    with pytest.raises(ChangedFileError, match="another version than the one that was opened .*; open it again"):
        file.read(100, 10)


def test_wrong_total_is_not_believed(server):
    server.faults = lambda request: "total"
    with pytest.raises(ChangedFileError, match="10241 bytes, wanted 10240"):
        opened(server).read(0, 10)


@pytest.mark.parametrize(("offset", "size"), [(len(CONTENT), 1), (0, len(CONTENT) + 1)])
def test_range_behind_the_end_is_refused_without_asking(server, offset, size):
    with pytest.raises(TruncatedFileError, match=f"are wanted but the file ends at {len(CONTENT)}"):
        opened(server).read(offset, size)
    assert server.counts.requests == 0


def test_negative_range(server):
    with pytest.raises(ValueError, match="offset, size: got -1 and 2, wanted numbers of bytes that are not negative"):
        opened(server).read(-1, 2)


def test_expired_signature_is_renewed_once(server):
    server.signed = True
    place = Place(server, "a.nwb")
    file = Ranges(place, len(CONTENT))
    file.read(0, 10)
    server.expire()
    assert file.read(10, 10) == CONTENT[10:20]
    assert (place.n_renewed, server.counts.requests) == (1, 3)


def test_refusal_after_renewal(server, pauses):
    server.faults = lambda request: "403"
    with pytest.raises(AccessDeniedError, match="refuses access .status 403. even with a new signature; set") as told:
        opened(server).read(0, 10)
    assert isinstance(told.value, PermissionError)
    assert server.counts.requests == 2
    assert pauses == []


def test_signature_that_cannot_be_renewed(server):
    server.signed = True
    place = Place(server, "a.nwb", can_renew=False)
    server.expire()
    with pytest.raises(AccessDeniedError, match="the server refuses to give this file"):
        Ranges(place, 10).read(0, 10)


def test_expired_token_of_s3_is_a_refusal(server):
    server.faults = schedule("expired token")
    place = Place(server, "a.nwb")
    assert Ranges(place, len(CONTENT)).read(0, 10) == CONTENT[:10]
    assert place.n_renewed == 1
    server.faults = lambda request: ("status", 400)
    with pytest.raises(UnreachableError, match="answers with status 400"):
        opened(server).read(0, 10)


def test_redirect_is_followed_and_remembered_until_it_expires(server):
    server.signed = True
    server.redirects["download"] = lambda: server.sign("a.nwb")
    file = Ranges(WebLocation(server.url("download")), len(CONTENT))
    assert file.read(0, 10) == CONTENT[:10]
    assert file.read(10, 10) == CONTENT[10:20]
    assert [request.path for request in server.counts.log] == ["download", "a.nwb", "a.nwb"]
    assert all(request.range for request in server.counts.log)
    server.expire()
    assert file.read(20, 10) == CONTENT[20:30]
    assert [request.path for request in server.counts.log][3:] == ["a.nwb", "download", "a.nwb"]


def test_redirects_without_end_and_to_nowhere(server):
    server.redirects["a.nwb"] = lambda: server.url("b.nwb")
    server.redirects["b.nwb"] = lambda: server.sign("a.nwb")
    with pytest.raises(UnreachableError, match="redirects more than 5 times"):
        opened(server).read(0, 10)
    server.redirects["a.nwb"] = lambda: ""
    with pytest.raises(UnreachableError, match="redirects to the same address"):
        opened(server).read(0, 1)
    server.redirects["a.nwb"] = lambda: "http://[::1/secret"
    with pytest.raises(UnreachableError, match="redirects to '', wanted http or https"):
        opened(server).read(0, 10)
    server.redirects["a.nwb"] = lambda: "ftp://a.org/passwd?secret"
    with pytest.raises(UnreachableError, match="redirects to 'ftp://a.org/passwd', wanted http or https"):
        opened(server).read(0, 10)


def test_large_range_is_fetched_in_pieces_side_by_side(server, monkeypatch):
    monkeypatch.setattr(ranges, "PIECE", 500)
    everyone = threading.Barrier(4, timeout=120)
    server.faults = lambda request: everyone.wait() and None
    assert opened(server).read(7, 1999) == CONTENT[7:2006]
    assert sorted(request.range for request in server.counts.log) == [(7, 499), (506, 500), (1006, 500), (1506, 500)]
    assert server.counts.at_once == 4


def test_several_ranges_keep_their_order(server, monkeypatch):
    monkeypatch.setattr(ranges, "PIECE", 300)
    wanted = [(700, 650), (0, 0), (3, 4), (0, 301)]
    assert opened(server).read_many(wanted) == [CONTENT[begin : begin + size] for begin, size in wanted]


def test_eight_requests_at_once_at_most(server, monkeypatch):
    monkeypatch.setattr(ranges, "PIECE", 100)
    server.latency = 0.05
    readers = [threading.Thread(target=opened(server).read, args=(0, 1000)) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert server.counts.requests == 40
    assert server.counts.at_once <= web.AT_ONCE == 8


def test_one_failed_piece_fails_the_range(server, monkeypatch):
    monkeypatch.setattr(ranges, "PIECE", 500)
    server.faults = lambda request: "404" if request.range[0] >= 1000 else None
    with pytest.raises(MissingRemoteFileError):
        opened(server).read(0, 2000)


def test_proxy_of_the_environment_is_used_except_for_this_machine(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address.replace("http://", "http://me:pass@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert Ranges(WebLocation("http://far.example/a.nwb"), len(CONTENT)).read(0, 10) == CONTENT[:10]
    opened(server).read(0, 10)
    through, direct = [request.headers for request in server.counts.log]
    assert (through["Host"], through["proxy-authorization"]) == ("far.example", "Basic bWU6cGFzcw==")
    assert "proxy-authorization" not in direct


FAULTS = ["drop", "503", "403", "404", "405", "whole", "shifted", "gzip", "total", "short"]


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_secret_in_errors_and_logs(server, caplog, fault):
    server.faults = lambda request: fault
    file = opened(server)
    with caplog.at_level(logging.DEBUG), pytest.raises((RemoteError, ChangedFileError)) as told:
        file.read(0, 10)
    texts, error = [repr(file), "".join(traceback.format_exception(told.value))], told.value
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    assert "SECRET" in file.location.url()
    assert "SECRET" not in "".join(texts) + caplog.text
    if fault not in ("drop", "short"):
        assert "/a.nwb HTTP/1.1" in caplog.text  # urllib3 did log the request


def test_logs_of_other_packages_are_left_alone(server, caplog):
    with caplog.at_level(logging.DEBUG), urllib3.PoolManager() as pool:
        pool.request("GET", server.sign("a.nwb"))
    assert "SECRET0" in caplog.text


def test_a_busy_server_is_not_asked_for_minutes(server, pauses, monkeypatch):
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(ranges.time, "monotonic", lambda: float(next(clock)))
    server.faults = lambda request: ("429", "40")
    with pytest.raises(UnreachableError, match="could not be read in 3 tries; the last one: status 429"):
        opened(server).read(0, 1)
    assert server.counts.requests == 3
