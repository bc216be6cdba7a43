"""Questions to a DANDI archive through its client: the key only where it is needed, one sentence for each failure."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from nwb_lrrnn.io.errors import AccessDeniedError, MissingRemoteFileError, RemoteError, UnreachableError
from nwb_lrrnn.io.files.dandi.address import ArchiveAddress
from nwb_lrrnn.io.files.dandi.keys import key_for

_TIMEOUT = (10.0, 60.0)  # s to connect, s without a byte; the client itself would wait for ever
_REFUSED = (401, 403)

Answer = TypeVar("Answer")


class Archive:
    """An archive that can be asked within the block of `connected`; `address` is what is looked for, for messages."""

    def __init__(self, client: Any, address: str) -> None:
        self.client = client
        self.address = address
        self.name: str = client.dandi_instance.name
        self.has_key = False
        self._source_of_key = ""

    def ask(self, question: Callable[[Any], Answer]) -> Answer:
        """Return what a question to the client returns; it is asked again with the API key if visitors are refused.

        The question should do no more than ask, since what it raises is told as the archive's answer:
        MissingRemoteFileError (no such thing), AccessDeniedError (the key is missing, not accepted, or of somebody
        without access) or UnreachableError (no answer, or not that of an archive).
        """
        answer, problem = self._attempt(question)
        if isinstance(problem, AccessDeniedError) and not self.has_key:
            self.show_key()
            answer, problem = self._attempt(question)
        if problem is not None:
            raise problem  # outside of any `except`: the client's exceptions hold the key in their requests
        return answer

    def show_key(self) -> None:
        """Send the user's API key with every question from now on; AccessDeniedError where there is none for it."""
        key, self._source_of_key = key_for(self.client.api_url, self.name, self.address)
        # Not `client.authenticate`, which costs one more request: the archive says in its answer if the key is wrong.
        self.client.session.headers["Authorization"] = f"token {key}"
        self.has_key = True

    def _attempt(self, question: Callable[[Any], Any]) -> tuple[Any, RemoteError | None]:
        """Return the answer, or what went wrong."""
        import pydantic
        import requests
        from dandi.exceptions import HTTP404Error, NotFoundError

        try:
            with _without_errors_in_log():
                return question(self.client), None
        except (HTTP404Error, NotFoundError):
            return None, MissingRemoteFileError(f"{self.address}: the archive {self.name!r} has no such thing")
        except requests.HTTPError as error:
            return None, self._refusal(error.response.status_code if error.response is not None else 0)
        except UnreachableError as error:
            return None, UnreachableError(f"{self.address}: {error}")
        except requests.RequestException as error:
            kind = type(error).__name__
            return None, UnreachableError(
                f"{self.address}: the archive at {self.client.api_url} does not answer ({kind}); check the network, or "
                "try again later"
            )
        except (pydantic.ValidationError, KeyError, TypeError):  # something else than an archive's JSON
            return None, UnreachableError(
                f"{self.address}: {self.client.api_url} does not answer as a DANDI archive does; check the address, or "
                "update the client (`pip install -U dandi`)"
            )

    def _refusal(self, status: int) -> RemoteError:
        """Return what a status says."""
        if status not in _REFUSED:
            return UnreachableError(
                f"{self.address}: the archive at {self.client.api_url} answers with status {status}; try again later"
            )
        if status == 401 and self.has_key:
            return AccessDeniedError(
                f"{self.address}: the archive {self.name!r} does not accept the API key (status 401); set "
                f"{self._source_of_key} to the key that its page shows under your initials now"
            )
        return AccessDeniedError(
            f"{self.address}: the archive {self.name!r} refuses access (status {status}); it is embargoed: ask an "
            "owner of the dandiset to add your account"
        )


@contextmanager
def connected(address: ArchiveAddress, about: str = "") -> Iterator[Archive]:
    """Yield the archive that an address names, not asked for anything yet; its connections are closed afterwards.

    `about` says in messages what is looked for. UnreachableError: the page of an unknown archive does not say where its
    API is.
    """
    # The client asks a server of its makers for newer versions, and exits Python if it is told to.
    os.environ.setdefault("DANDI_NO_ET", "1")
    from dandi.dandiapi import DandiAPIClient

    with DandiAPIClient(dandi_instance=_instance(address)) as client:
        client.session.request = _within_time(client.session.request)
        yield Archive(client, about or str(address))


def _instance(address: ArchiveAddress) -> Any:
    """Return the instance, known by name or by the URL of its API, without asking it; a page is asked for its API."""
    from urllib.parse import urlsplit

    from dandi.consts import DandiInstance, known_instances
    from dandi.exceptions import CliVersionError
    from dandi.utils import get_instance

    if address.server in known_instances:
        return known_instances[address.server]
    if address.is_api:
        return DandiInstance(name=urlsplit(address.server).netloc, gui=None, api=address.server)
    try:
        return get_instance(address.server)
    except CliVersionError as error:
        why = f"{error}; update the client (`pip install -U dandi`)"
    except (RuntimeError, ValueError):
        why = "it does not answer as a DANDI archive does; check the address and the network"
    raise UnreachableError(f"{address}: {address.server}: {why}")


def _within_time(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return `session.request` that never waits for ever, and tells at once where there is no connection at all."""
    import requests
    from urllib3.exceptions import NewConnectionError

    def request(method: str, url: str, **options: Any) -> Any:
        options.setdefault("timeout", _TIMEOUT)
        try:
            return send(method, url, **options)
        except requests.ConnectionError as error:
            reason = getattr(error.args[0], "reason", None) if error.args else None
            if not isinstance(reason, NewConnectionError):
                raise
        # The client would try twelve times in a minute, on a machine that may just be offline.
        root = "/".join(url.split("/", 3)[:3])
        raise UnreachableError(f"no connection to the archive at {root}; check the network, or try again later")

    return request


class _OthersOnly(logging.Filter):
    """Lets through what is no error of one thread."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR or record.thread != self._thread


@contextmanager
def _without_errors_in_log() -> Iterator[None]:
    """Keep the client from logging as an error what is asked again with a key, or raised in one sentence."""
    logger, others = logging.getLogger("dandi"), _OthersOnly()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)
