"""One pool of HTTP connections a process: at most eight requests at once, and no signature in any log."""

import atexit
import functools
import logging
import os
import socket
import ssl
import sys
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers, parse_url

CONNECT_TIMEOUT = 10.0  # s
READ_TIMEOUT = 30.0  # s without a byte
HEADERS_TIMEOUT = 60.0  # s until the headers of an answer are complete: a byte now and then ends no silence
LEAST_BYTES, WINDOW = 1000, 30.0  # of a body in so many s: a server that trickles is taken as silent
AT_ONCE = 8

# No proxy can reach the loopback of this machine.
_OWN_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")
_LOGGERS = ("urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry")
_thread = threading.local()


class _Shared:
    """What the threads of one process share."""

    def __init__(self) -> None:
        self.turns = threading.BoundedSemaphore(AT_ONCE)
        self.lock = threading.Lock()
        self.pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}
        self.workers: ThreadPoolExecutor | None = None
        self.sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self.has_ended = threading.Event()


_shared = _Shared()
# Sockets and threads of the parent belong to it alone: a forked child keeps them untouched and makes its own.
_of_the_parent: list[_Shared] = []


@contextmanager
def answer(url: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
    """Yield the answer to one GET request, whose body is not read yet; redirects are not followed.

    The request waits for its turn: `AT_ONCE` are under way at most in a process. A body that the block does not read to
    its end costs the connection. Bytes are those of the wire, never decompressed. urllib3's HTTPError says that the
    connection fails, is refused or is silent for too long.
    """
    own = {"User-Agent": _user_agent(), "Accept-Encoding": "identity"}
    parsed = parse_url(url)
    if parsed.auth:  # user and password go to the host of this very address, and urllib3 would leave them out
        own["Authorization"] = make_headers(basic_auth=unquote(parsed.auth))["authorization"]
        url = parsed._replace(auth=None).url
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT)
    with _shared.turns, _without_queries_in_logs():
        if _shared.has_ended.is_set():
            raise HTTPError("Python ends")
        response = _pool_for(url).request(
            "GET",
            url,
            headers=own | headers,
            timeout=timeout,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            yield response
        finally:
            response.close()  # a body read to its end has given its connection back already


class TooSlowError(HTTPError):
    """A server sends so little that the file would never arrive."""


def body(response: urllib3.BaseHTTPResponse, size: int) -> bytes:
    """Return up to `size` bytes of a body; TooSlowError where fewer than `LEAST_BYTES` come in `WINDOW` seconds."""
    parts: list[bytes] = []
    n_bytes, n_before, since = 0, 0, time.monotonic()
    while n_bytes < size and (part := response.read1(size - n_bytes)):
        if parts and (now := time.monotonic()) - since >= WINDOW:
            if n_bytes - n_before < LEAST_BYTES:
                raise TooSlowError(f"fewer than {LEAST_BYTES} bytes in {WINDOW:g} s")
            n_before, since = n_bytes, now
        parts.append(part)
        n_bytes += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def in_parallel(function: Callable[..., Any], items: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return what a function gives for each tuple of arguments; the first that fails ends it.

    The calls share the process's threads for requests, so that the function must not itself wait for calls there. This
    thread takes one: most callers have no more.
    """
    futures = [_submitted(function, *item) for item in items[1:]]
    try:
        return [function(*item) for item in items[:1]] + [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def _submitted(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Return the future of a call in one of the process's threads for requests."""
    with _shared.lock:
        if _shared.workers is None:
            _shared.workers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nwb_lrrnn-ranges")
        workers = _shared.workers
    try:
        return workers.submit(function, *arguments)
    except RuntimeError:  # Python ends, and begins no more threads; a thread of the user still reads
        here: Future[Any] = Future()
        here.set_result(function(*arguments))
        return here


def close() -> None:
    """Close the connections that are kept open for the next request."""
    with _shared.lock:
        for pool in _shared.pools.values():
            pool.clear()


def pause(seconds: float) -> None:
    """Wait, but no longer than until `end`."""
    _shared.has_ended.wait(seconds)


def end() -> None:
    """Cut off the requests that are under way, and let none begin any more.

    Python waits for its threads before it ends, and a silent server would keep them for minutes after a Ctrl-C.
    """
    _shared.has_ended.set()
    with _shared.lock:
        sockets = list(_shared.sockets)
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it, which closing would not
        except OSError:
            pass  # it is closed already


def _end_if_interrupted() -> None:
    """End after a Ctrl-C that nobody caught; else threads of the user may still read."""
    if issubclass(getattr(sys, "last_type", None) or object, KeyboardInterrupt):
        end()


class _NotedConnection(HTTPConnection):
    """A connection that `end` finds, and whose answers have a time limit."""

    def connect(self) -> None:
        super().connect()
        _note(self.sock)

    def getresponse(self) -> Any:
        with _cut_off_later(self.sock):
            return super().getresponse()


class _NotedSafeConnection(HTTPSConnection):
    """The same, encrypted."""

    def connect(self) -> None:
        super().connect()
        _note(self.sock)

    def getresponse(self) -> Any:
        with _cut_off_later(self.sock):
            return super().getresponse()


class _NotedPool(urllib3.HTTPConnectionPool):
    """Connections to one host."""

    ConnectionCls = _NotedConnection  # pyright: ignore[reportAssignmentType]


class _NotedSafePool(urllib3.HTTPSConnectionPool):
    """The same, encrypted."""

    ConnectionCls = _NotedSafeConnection  # pyright: ignore[reportAssignmentType]


@contextmanager
def _cut_off_later(one: socket.socket | None) -> Iterator[None]:
    """Let what reads from a socket within the block come to an end after `HEADERS_TIMEOUT`."""

    def cut() -> None:
        with suppress(OSError):
            if one is not None:
                one.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(HEADERS_TIMEOUT, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _note(one: socket.socket | None) -> None:
    """Remember an open socket."""
    if one is not None:
        with _shared.lock:
            _shared.sockets.add(one)


@functools.cache
def _user_agent() -> str:
    """Return who asks, as servers log it."""
    return f"nwb_lrrnn/{version('nwb-lrrnn')}"


def _pool_for(url: str) -> urllib3.PoolManager:
    """Return the connections that lead to a URL: direct, or through the proxy that the environment names."""
    parsed = parse_url(url)
    host = parsed.host or ""
    proxies = urllib.request.getproxies()
    proxy = None
    if proxies and host not in _OWN_HOSTS and not urllib.request.proxy_bypass(host):
        proxy = proxies.get(parsed.scheme or "") or proxies.get("all")
    key = (proxy, parsed.scheme == "https")
    with _shared.lock:
        if key not in _shared.pools:
            _shared.pools[key] = _new_pool(proxy, _trusted() if parsed.scheme == "https" else None)
        return _shared.pools[key]


def _trusted() -> ssl.SSLContext:
    """Return the certificates of the machine and, where it is installed, of certifi."""
    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        pass
    else:
        context.load_verify_locations(certifi.where())  # Python on macOS knows no certificates of its own
    return context


def _new_pool(proxy: str | None, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Return a pool of connections, direct or through a proxy."""
    if proxy is None:
        pool = urllib3.PoolManager(maxsize=AT_ONCE, ssl_context=context)
    else:
        pool = _proxy_pool(proxy, context)
    pool.pool_classes_by_scheme = {"http": _NotedPool, "https": _NotedSafePool}
    return pool


def _proxy_pool(proxy: str, context: ssl.SSLContext | None) -> urllib3.ProxyManager:
    """Return a pool of connections through a proxy, whose password is in no address."""
    parsed = parse_url(proxy if "://" in proxy else f"http://{proxy}")
    headers = make_headers(proxy_basic_auth=parsed.auth) if parsed.auth else None
    address = parsed._replace(auth=None).url
    return urllib3.ProxyManager(address, maxsize=AT_ONCE, ssl_context=context, proxy_headers=headers)


class _WithoutQueries(logging.Filter):
    """Takes signatures out of what urllib3 logs about our requests, and leaves those of other packages alone."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_thread, "is_asking", False) and isinstance(record.args, tuple):
            record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
        return True


@contextmanager
def _without_queries_in_logs() -> Iterator[None]:
    """Mark this thread as asking for us."""
    _thread.is_asking = True
    try:
        yield
    finally:
        _thread.is_asking = False


def _begin_anew() -> None:
    """Give a forked child connections, threads and turns of its own."""
    global _shared
    _of_the_parent.append(_shared)
    _shared = _Shared()


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_WithoutQueries())
# Before Python waits for its threads, as concurrent.futures does it; what `atexit` calls comes after.
getattr(threading, "_register_atexit", atexit.register)(_end_if_interrupted)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
