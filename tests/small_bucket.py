"""A server that answers by a function, and on it an object store such as archives have."""

import hashlib
import hmac
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from small_http import LoopbackServer


@dataclass(frozen=True)
class Request:
    """What a server was asked for, and the status that it gave."""

    host: str
    method: str
    path: str
    query: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict, repr=False)
    status: int = 0
    n_bytes: int = 0

    @property
    def authorization(self):
        return self.headers.get("authorization", "")

    @property
    def range(self):
        return self.headers.get("range", "")


@dataclass
class Reply:
    """What a server answers; status 0 drops the connection."""

    status: int
    body: bytes = b""
    headers: dict = field(default_factory=dict)


class SmallServer:
    """Answers each request by `answer(request) -> Reply` until it is closed, and keeps a list of all requests."""

    def __init__(self, host, answer, log=None):
        self.host, self.answer = host, answer
        self.log = [] if log is None else log
        self.faults = []
        self._lock = threading.Lock()
        self._server = LoopbackServer(self._handler())
        self.url = self._server.url

    def fail(self, status, times=1, path="", headers=None):
        """Answer the next requests whose path matches with a status instead; 0 drops the connection."""
        self.faults.append([status, times, re.compile(path), headers or {}])

    def close(self):
        self._server.end()

    def _fault(self, request):
        with self._lock:
            for fault in self.faults:
                status, times, path, headers = fault
                if times and path.search(request.path):
                    fault[1] -= 1
                    return Reply(status, b"injected", headers)
        return None

    def _handler(owner):  # noqa: N805 - `self` is the connection below
        class Connection(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do_GET(self):
                owner._handle(self)

            do_HEAD = do_GET

        return Connection

    def _handle(self, connection):
        parts = urlsplit(connection.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in connection.headers.items()}
        asked = Request(self.host, connection.command, unquote(parts.path), query, headers)
        reply = self._fault(asked) or self.answer(asked)
        body = b"" if asked.method == "HEAD" else reply.body
        seen = Request(asked.host, asked.method, asked.path, query, headers, reply.status, len(body))
        with self._lock:
            self.log.append(seen)
        if reply.status == 0:
            connection.close_connection = True
            return
        connection.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            connection.send_header(name, value)
        connection.end_headers()
        connection.wfile.write(body)


class SmallBucket:
    """An object store: byte ranges, ETags, private objects, and signed URLs that expire and are good for GET only."""

    def __init__(self, log=None):
        self._secret = b"of the bucket"
        self.objects, self.private = {}, set()
        self.server = SmallServer("s3", self._answer, log)

    def url_of(self, key):
        return f"{self.server.url}/{quote(key)}"

    def signed(self, key, lifetime, now=None):
        """Return a URL of an object that is valid for `lifetime` seconds from now on."""
        names = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": "AKIAEXAMPLE/20250601/us-east-2/s3/aws4_request",
            "X-Amz-Date": f"{time.time() if now is None else now:.6f}",
            "X-Amz-Expires": str(lifetime),
            "X-Amz-SignedHeaders": "host",
        }
        return f"{self.url_of(key)}?{urlencode(names | {'X-Amz-Signature': self._signature(key, names)})}"

    def _signature(self, key, names):
        text = "\n".join([key, names["X-Amz-Date"], names["X-Amz-Expires"]])
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def _answer(self, request):
        key = request.path.lstrip("/")
        if request.authorization:  # S3 takes a token of somebody else for a wrong signature
            return _refusal(400, "InvalidArgument")
        if "X-Amz-Signature" in request.query:
            names = request.query
            if request.method != "GET" or names["X-Amz-Signature"] != self._signature(key, names):
                return _refusal(403, "SignatureDoesNotMatch")
            if time.time() > float(names["X-Amz-Date"]) + float(names["X-Amz-Expires"]):
                return _refusal(403, "AccessDenied")
        elif key in self.private:
            return _refusal(403, "AccessDenied")
        if key not in self.objects:
            return _refusal(404, "NoSuchKey")
        return _content(self.objects[key], request.range)


def _content(content, wanted):
    """Return the reply with an object, or with the range of it that is wanted."""
    tag = hashlib.md5(content, usedforsecurity=False).hexdigest()
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{tag}"', "Content-Type": "application/octet-stream"}
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
    if found is None:
        return Reply(200, content, headers)
    if found[1]:
        begin, end = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
    else:
        begin, end = max(0, len(content) - int(found[2])), len(content) - 1
    if begin > end:
        return Reply(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
    return Reply(206, content[begin : end + 1], headers | {"Content-Range": f"bytes {begin}-{end}/{len(content)}"})


def _refusal(status, code):
    return Reply(status, f"<Error><Code>{code}</Code></Error>".encode(), {"Content-Type": "application/xml"})
