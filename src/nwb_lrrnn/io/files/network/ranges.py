"""Exactly the bytes that were asked for, from a server that may fail, lie or change the file; or a typed error."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    InvalidHeader,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from nwb_lrrnn.io.errors import (
    AccessDeniedError,
    ChangedFileError,
    MissingRemoteFileError,
    NoRangesError,
    RemoteError,
    TruncatedFileError,
    UnreachableError,
)
from nwb_lrrnn.io.files.network import web
from nwb_lrrnn.io.files.network.location import Location
from nwb_lrrnn.io.files.secrets import texts_without_secrets, without_secrets
from nwb_lrrnn.locks import ThreadLock

TRIES = 6
LEAST_TRIES, PATIENCE = 3, 60.0  # s; a server that is silent or busy for so long is not asked again
FIRST_PAUSE = 0.25  # s; doubled after every try
LONGEST_PAUSE = 8.0  # s
LONGEST_RETRY_AFTER = 60.0  # s, whatever the server wishes
PIECE = 8 * 2**20  # bytes; one connection alone does not fill a fast network

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_READ_FROM_REFUSALS = 2**16  # bytes; so short a body is read, and its connection kept
_CONTENT_RANGE = re.compile(r"\s*bytes\s+(?:(\d+)\s*-\s*(\d+)|\*)\s*/\s*(\d+|\*)\s*", re.IGNORECASE)

logger = logging.getLogger(__name__)
sleep = web.pause
_random = random.Random()  # not the global one, whose state belongs to the user


class ServedVersion(NamedTuple):
    """What a server says of a file's version: both texts are empty where it says nothing."""

    etag: str = ""
    modified: str = ""

    def differs(self, other: ServedVersion) -> bool:
        """Return whether the two are certainly of different versions."""
        if self.etag and other.etag:
            return self.etag != other.etag
        return bool(self.modified and other.modified and self.modified != other.modified)


class _AgainError(Exception):
    """One try failed in a way that another may not."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class _RefusedError(Exception):
    """The server wants another signature or key."""


class Ranges:
    """Byte ranges of one file of a network; the location gives the URL of every try.

    Where size or version (`seen`) are not known, the first answer tells.
    """

    def __init__(self, location: Location, size: int | None = None, seen: ServedVersion | None = None):
        self.location = location
        self.uri = location.uri
        self.size = size
        self.seen = seen or ServedVersion()
        self._lock = ThreadLock()
        self._redirected: tuple[str, str] | None = None

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes of one range; a large range is fetched in pieces side by side.

        ChangedFileError says that the file is no longer what it was, TruncatedFileError that the range ends behind its
        end, RemoteError that the server cannot be reached, refuses, has no such file any more or sends whole files
        only.
        """
        return self.read_many([(offset, size)])[0]

    def read_many(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of several ranges (offset, size), fetched side by side, in their order."""
        pieces = []
        for offset, size in wanted:
            self.check_inside(offset, size)
            pieces.append(_pieces(offset, size))
        flat = [piece for group in pieces for piece in group]
        rest = iter(web.in_parallel(self._piece, flat))
        joined = [[next(rest) for _ in group] for group in pieces]
        return [group[0] if len(group) == 1 else b"".join(group) for group in joined]

    def first(self, size: int) -> bytes:
        """Return the first bytes, at most `size`, and learn size and version of the file from the same answer."""
        return self._piece(0, size, is_first=True)

    def check_inside(self, offset: int, size: int) -> None:
        """Refuse a range that does not lie in the file."""
        if offset < 0 or size < 0:
            raise ValueError(f"offset, size: got {offset} and {size}, wanted numbers of bytes that are not negative")
        if self.size is not None and offset + size > self.size:
            raise TruncatedFileError(
                f"{self.uri}: bytes {offset} to {offset + size} are wanted but the file ends at {self.size}; "
                "it is truncated or damaged: compare it with the original"
            )

    def _piece(self, offset: int, size: int, *, is_first: bool = False) -> bytes:
        """Return one range from one request, repeated while there is hope."""
        tries, reason, may_renew, begin = 0, "", True, time.monotonic()
        goes_on = True
        while goes_on:
            tries += 1
            url = self.location.url()
            try:
                return self._once(url, offset, size, is_first)
            except _RefusedError as refused:
                if not may_renew:
                    raise AccessDeniedError(
                        f"{self.uri}: the server refuses access ({refused}) even with a new signature; set the API key "
                        "of the archive, or ask the owner of the file for access"
                    ) from None
                may_renew = False
                tries -= 1
                self.location.renew(url)  # raises AccessDeniedError where there is no other signature
            except _AgainError as again:
                reason = again.reason
                wait = again.wait + _random.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1)))
                logger.info("%s: try %d of %d failed (%s)", self.uri, tries, TRIES, reason)
                goes_on = tries < LEAST_TRIES or (tries < TRIES and time.monotonic() - begin + wait < PATIENCE)
                if goes_on:
                    sleep(wait)
        raise UnreachableError(
            f"{self.uri}: {size} bytes at {offset} could not be read in {tries} tries; the last one: {reason}; "
            "check the network and whether the server is up, and try again, or download the file"
        )

    def _once(self, url: str, offset: int, size: int, is_first: bool) -> bytes:
        """Return one range from one request, and follow its redirects."""
        remembered = self._redirected
        target = remembered[1] if remembered and remembered[0] == url else url
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                with web.answer(target, headers) as response:
                    if response.status in _REDIRECTS:
                        target = self._next(target, response)
                    elif target != url and remembered and response.status in (400, 401, 403, 404, 410):
                        target, remembered = url, None  # where it led to has expired: ask for the way again
                    else:
                        data = self._checked(response, offset, size, is_first)
                        self._redirected = (url, target)
                        return data
        except RemoteError:
            raise
        except (HTTPError, OSError) as error:
            failure = self._failure(error)
        else:
            raise UnreachableError(
                f"{self.uri}: the server redirects more than {_MOST_REDIRECTS} times; check the address"
            )
        self._redirected = None
        raise failure  # outside of the handler: what urllib3 raised holds addresses with their signatures

    def _failure(self, error: HTTPError | OSError) -> Exception:
        """Return the exception for a failed connection."""
        if isinstance(error, LocationValueError):
            return UnreachableError(f"{self.uri}: this is no valid address; check how it is written")
        if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return UnreachableError(
                f"{self.uri}: the certificate of the server is not trusted ({_said(error)}); install the certificates "
                "of your network, or name them in SSL_CERT_FILE"
            )
        return _AgainError(_said(error))

    def _next(self, target: str, response: urllib3.BaseHTTPResponse) -> str:
        """Return where a redirect leads to."""
        web.body(response, _READ_FROM_REFUSALS)
        try:
            found = urljoin(target, response.headers.get("Location", ""))
        except ValueError:
            found = ""
        if found == target:
            raise UnreachableError(f"{self.uri}: the server redirects to the same address; check the address")
        if not found.lower().startswith(("http://", "https://")):
            raise UnreachableError(
                f"{self.uri}: the server redirects to {without_secrets(found)!r}, wanted http or https; "
                "check the address"
            )
        return found

    def _checked(self, response: urllib3.BaseHTTPResponse, offset: int, size: int, is_first: bool) -> bytes:
        """Return the body of an answer that is what was asked for."""
        is_empty = response.status == 200 and response.headers.get("Content-Length") == "0"
        if response.status != 206:
            if is_first and (is_empty or _total(response) == 0):
                self._learn(response, 0)
                return b""
            self._raise_for(response)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise NoRangesError(
                f"{self.uri}: the server sends the file compressed, so that bytes cannot be found by their place; "
                "download the file and open its path"
            )
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or found[1] is None:
            raise _AgainError("an answer without a valid Content-Range")
        total = _total(response)
        if total is None and self.size is None:
            raise NoRangesError(
                f"{self.uri}: the server does not say how long the file is; download the file and open its path"
            )
        total = self.size if total is None else total
        end = min(offset + size, total or 0) if is_first else offset + size
        if (int(found[1]), int(found[2]) + 1) != (offset, end):
            raise _AgainError(f"bytes {found[1]}-{found[2]} came, wanted {offset}-{end - 1}")
        self._learn(response, total or 0)
        data = web.body(response, end - offset)
        if len(data) != end - offset or response.headers.get("Content-Length", str(len(data))) != str(len(data)):
            raise _AgainError(f"{len(data)} bytes came, wanted {end - offset}")
        return data

    def _learn(self, response: urllib3.BaseHTTPResponse, total: int) -> None:
        """Remember size and version of the file, or refuse an answer about another version."""
        seen = ServedVersion(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
        with self._lock:
            if self.size is not None and total != self.size:
                raise ChangedFileError(
                    f"{self.uri}: the file has {total} bytes, wanted {self.size}: it was replaced; open it again"
                )
            if self.seen.differs(seen):
                raise ChangedFileError(
                    f"{self.uri}: the file is another version than the one that was opened "
                    f"({seen.etag or seen.modified}, wanted {self.seen.etag or self.seen.modified}); open it again"
                )
            self.size = total
            if self.seen == ServedVersion():
                self.seen = seen

    def _raise_for(self, response: urllib3.BaseHTTPResponse) -> None:
        """Raise what an answer without the wanted bytes means."""
        status, headers = response.status, response.headers
        if status == 200:
            raise NoRangesError(
                f"{self.uri}: the server ignores ranges and sends the whole file, so that it cannot be streamed; "
                "download the file and open its path"
            )
        body = web.body(response, _READ_FROM_REFUSALS)
        if status in (401, 403) or (status == 400 and b"ExpiredToken" in body):
            raise _RefusedError(f"status {status}")
        if status in (404, 410):
            raise MissingRemoteFileError(
                f"{self.uri}: the server has no such file (status {status}); check the address"
            )
        if status == 416:
            total = _total(response)
            if total is not None:
                self._learn(response, total)  # a file that became shorter is another one
            raise _AgainError("the server says that the file has no such bytes (status 416)")
        if status in (408, 425, 429) or status >= 500:
            raise _AgainError(f"status {status}", _retry_after(headers.get("Retry-After")))
        raise UnreachableError(f"{self.uri}: the server answers with status {status}, wanted 206; check the address")


def _pieces(offset: int, size: int) -> list[tuple[int, int]]:
    """Return a range cut into pieces of nearly one size, `PIECE` at most; none of an empty one."""
    n_pieces = -(-size // PIECE)
    cuts = [offset + size * piece // max(n_pieces, 1) for piece in range(n_pieces + 1)]
    return [(begin, end - begin) for begin, end in zip(cuts[:-1], cuts[1:], strict=True)]


def _total(response: urllib3.BaseHTTPResponse) -> int | None:
    """Return the length of the file as Content-Range tells it; None where it does not."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return None if found is None or found[3] == "*" else int(found[3])


def _retry_after(text: str | None) -> float:
    """Return for how long a server wants to be left alone, in s."""
    try:
        wait = urllib3.Retry().parse_retry_after(text) if text else 0.0
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER)


def _said(error: Any) -> str:
    """Return in a few words why a connection failed, without any address."""
    if isinstance(error, NameResolutionError):
        return "the name of the server is not known"
    if isinstance(error, NewConnectionError):  # before the time-out, whose class it extends
        return "the server cannot be reached, or nobody listens there"
    if isinstance(error, ConnectTimeoutError):
        return f"no connection within {web.CONNECT_TIMEOUT:g} s"
    if isinstance(error, ReadTimeoutError):
        return f"no byte for {web.READ_TIMEOUT:g} s"
    if isinstance(error, web.TooSlowError):
        return str(error)
    if isinstance(error, IncompleteRead):
        return "the answer was cut off"
    if isinstance(error, SSLError):
        return texts_without_secrets(str(error))
    return f"the connection failed, {type(error).__name__}"
