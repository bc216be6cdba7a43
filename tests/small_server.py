"""A web server in this process that serves byte ranges, as slow and as faulty as a test or a benchmark wants it.

A fault is a text, or a text and a value:

    "drop"          the connection is closed without an answer
    "stall"         nothing is sent for `value` seconds (default 2), or until the server closes
    "status"        this status, such as ("status", 503); "503", "429" and so on are short for it
    "429"           with the header Retry-After, whose value is `value` (default "0")
    "expired token" the status 400 with which S3 refuses temporary keys that have expired
    "short"         half of the body, then the connection is closed
    "shorter"       half of the body, and a Content-Length that agrees with it
    "shifted"       the right headers of the next byte's range, and its bytes
    "total"         a Content-Range whose length of the file is one too large
    "etag"          the ETag of another version
    "no range"      206 without Content-Range
    "whole"         200 and the whole file, as servers do that know no ranges
    "trickle"       a byte of the body, and then another one every 0.02 seconds
    "slow headers"  a byte of the headers every `value` seconds (default 0.02), until the server closes
    "gzip"          206 with a Content-Encoding
"""

import contextlib
import functools
import io
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from nwb_lrrnn.io.errors import AccessDeniedError
from nwb_lrrnn.io.files.network.location import Location
from small_http import LoopbackServer

PIECE = 256 * 1024


@dataclass(frozen=True)
class Request:
    """What came in: `number` counts from 0, `range` is (first byte, number of bytes) or None."""

    number: int
    path: str
    query: str
    range: tuple[int, int] | None
    headers: dict[str, str]


@dataclass
class Counts:
    """What the server did since `reset`."""

    requests: int = 0
    connections: int = 0
    bytes: int = 0
    at_once: int = 0
    log: list[Request] = field(default_factory=list)


def schedule(*faults):
    """Return faults for the first requests, one each and None for none; later requests are served well."""
    return lambda request: faults[request.number] if request.number < len(faults) else None


class RangeServer:
    """Serve files (bytes, or paths of local files) by name until the `with` block ends.

    Parameters
    ----------
    files : dict of str to bytes or Path
        By their path on the server, without the first slash.
    latency, handshake : float
        Seconds per request, and more per connection.
    bandwidth : float
        Bytes per second and connection.
    faults : callable
        Takes a Request and returns a fault or None.
    etag, modified : bool
        Whether these headers are sent.
    signed : bool
        Whether a request needs the signature of now, which `sign` puts into a URL.
    redirects : dict of str to callable
        A path, and the function that gives the URL it leads to.
    """

    def __init__(
        self,
        files,
        *,
        latency=0.0,
        handshake=0.0,
        bandwidth=None,
        faults=None,
        etag=True,
        modified=True,
        signed=False,
        redirects=None,
    ):
        self.files = dict(files)
        self.latency, self.handshake, self.bandwidth = latency, handshake, bandwidth
        self.faults = faults
        self.etag, self.modified, self.signed = etag, modified, signed
        self.redirects = dict(redirects or {})
        self.counts = Counts()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._n_signatures = 0
        self._n_under_way = 0
        self._times = {name: 1.7e9 for name in self.files}

    def __enter__(self):
        self._server = LoopbackServer(functools.partial(_Handler, self))
        self.address = self._server.url
        return self

    def __exit__(self, *_):
        self.closing.set()
        self._server.end()

    def url(self, name):
        """Return the URL of a file, without a signature."""
        return f"{self.address}/{name}"

    def sign(self, name):
        """Return the URL of a file with the signature of now."""
        return f"{self.url(name)}?X-Amz-Signature={self.signature}"

    @property
    def signature(self):
        """The one that is valid now."""
        return f"SECRET{self._n_signatures}"

    def expire(self):
        """Make all signatures invalid."""
        self._n_signatures += 1

    def reset(self):
        """Count from 0 again."""
        self.counts = Counts()

    def replace(self, name, content):
        """Put another file in place of one."""
        self.files[name] = content
        self._times[name] += 60.0

    def version(self, name):
        """Return the ETag and Last-Modified of a file."""
        content = self.files[name]
        told = content if isinstance(content, bytes) else f"{content}{content.stat().st_mtime_ns}".encode()
        return f'"{blake2b(told, digest_size=8).hexdigest()}"', formatdate(self._times[name], usegmt=True)

    def began(self, request):
        """Count a request."""
        with self.lock:
            self.counts.requests += 1
            self.counts.log.append(request)
            self._n_under_way += 1
            self.counts.at_once = max(self.counts.at_once, self._n_under_way)

    def ended(self, n_bytes):
        """Count what was sent."""
        with self.lock:
            self.counts.bytes += n_bytes
            self._n_under_way -= 1


class Place(Location):
    """A location on a RangeServer; `digest` and `size` are what an archive would know."""

    def __init__(self, server, name, *, size=None, digest=None, can_renew=True, uri=None):
        super().__init__(uri or server.url(name), size, digest)
        self.__dict__.update(server=server, file=name, can_renew=can_renew, n_renewed=0, signature=server.signature)

    def __reduce__(self):
        raise TypeError("a Place does not leave its process")

    def url(self):
        return f"{self.server.url(self.file)}?X-Amz-Signature={self.signature}"

    def renew(self, refused=""):
        if not self.can_renew:
            raise AccessDeniedError(f"{self.uri}: the server refuses to give this file")
        if not refused or refused == self.url():
            self.__dict__.update(signature=self.server.signature, n_renewed=self.n_renewed + 1)
        return self.url()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, owner, *arguments):
        self.owner = owner
        super().__init__(*arguments)

    def setup(self):
        super().setup()
        with self.owner.lock:
            self.owner.counts.connections += 1
        time.sleep(self.owner.handshake)

    def log_message(self, *_):
        """Say nothing."""

    def do_GET(self):
        path, query = urlsplit(self.path).path.lstrip("/"), urlsplit(self.path).query
        request = Request(self.owner.counts.requests, path, query, self._range(), dict(self.headers))
        self.owner.began(request)
        self.n_sent = 0
        try:
            time.sleep(self.owner.latency)
            fault = self.owner.faults(request) if self.owner.faults else None
            self._answer(request, *(fault if isinstance(fault, tuple) else (fault, None)))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.owner.ended(self.n_sent)

    def do_HEAD(self):
        self.do_GET()

    def _range(self):
        """Return the first byte and the number of bytes that are asked for."""
        found = self.headers.get("Range", "").removeprefix("bytes=").split("-")
        return (int(found[0]), int(found[1]) + 1 - int(found[0])) if len(found) == 2 else None

    def _answer(self, request, fault, value):
        """Answer a request, with its fault."""
        if fault == "drop":
            self.close_connection = True
        elif fault == "stall":
            self.owner.closing.wait(value or 2.0)
            self.close_connection = True
        elif fault == "slow headers":
            with contextlib.suppress(OSError):
                while not self.owner.closing.wait(value or 0.02):
                    self.wfile.write(b"H")
            self.close_connection = True
        elif fault == "status" or (fault and fault.isdigit()):
            status = value if fault == "status" else int(fault)
            self._headers(status, 8, {"Retry-After": value or "0"} if status == 429 else {})
            self._send(b"injected")
        elif fault == "expired token":
            self._headers(400, 19)
            self._send(b"<Code>ExpiredToken<")
        elif request.path in self.owner.redirects:
            self._headers(302, 0, {"Location": self.owner.redirects[request.path]()})
        elif self.owner.signed and parse_qs(request.query).get("X-Amz-Signature") != [self.owner.signature]:
            self._headers(403, 6)
            self._send(b"<Code>")
        elif request.path not in self.owner.files:
            self._headers(404, 0)
        else:
            self._file(request, fault)

    def _file(self, request, fault):
        """Send a file or a range of it."""
        content = self.owner.files[request.path]
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        etag, modified = self.owner.version(request.path)
        headers = ({"ETag": etag} if self.owner.etag else {}) | (
            {"Last-Modified": modified} if self.owner.modified else {}
        )
        if fault == "etag":
            headers["ETag"] = '"other"'
        begin, wanted = request.range or (0, size)
        if request.range and begin >= size:
            self._headers(416, 0, headers | {"Content-Range": f"bytes */{size}"})
            return
        status = 200 if fault == "whole" or request.range is None else 206
        begin, wanted = (0, size) if status == 200 else (begin + (fault == "shifted"), min(wanted, size - begin))
        n_bytes = min(wanted, size - begin) // (2 if fault in ("short", "shorter") else 1)
        if status == 206 and fault != "no range":
            end = begin + min(wanted, size - begin) - 1
            headers["Content-Range"] = f"bytes {begin}-{end}/{size + (fault == 'total')}"
        if fault == "gzip":
            headers["Content-Encoding"] = "gzip"
        self._headers(status, wanted if fault == "short" else n_bytes, headers)
        if fault == "trickle":
            with contextlib.suppress(OSError):
                while not self.owner.closing.wait(0.02):
                    self._send(b"0")
        else:
            self._send_paced(content, begin, n_bytes)
        if fault in ("short", "trickle"):
            self.close_connection = True

    def _headers(self, status, length, headers=()):
        """Send the status and the headers."""
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, data):
        """Send bytes and count them."""
        self.wfile.write(data)
        self.n_sent += len(data)

    def _send_paced(self, content, begin, n_bytes):
        """Send a range of a file, no quicker than the bandwidth allows."""
        if self.command == "HEAD":
            return
        start = time.perf_counter()
        with _opened(content) as file:
            file.seek(begin)
            while self.n_sent < n_bytes and (data := file.read(min(PIECE, n_bytes - self.n_sent))):
                self._send(data)
                if self.owner.bandwidth:
                    time.sleep(max(0.0, start + self.n_sent / self.owner.bandwidth - time.perf_counter()))


def _opened(content):
    """Return a file object over bytes or a path."""
    return io.BytesIO(content) if isinstance(content, bytes) else Path(content).open("rb")


def hasten(monkeypatch):
    """Let no test wait: return the list that takes the pauses asked for."""
    from nwb_lrrnn.io.files.network import ranges

    pauses = []
    monkeypatch.setattr(ranges, "sleep", pauses.append)
    return pauses
