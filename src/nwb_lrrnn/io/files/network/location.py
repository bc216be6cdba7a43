"""What an address names: a Location that knows the URL under which a file can be read now."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True)
class Location(ABC):
    """A file in a network. Neither its representation nor its pickle holds a key, a token or a signature.

    `locate` finds the file again by its `uri`, in any process, unless the address was worth something only with its
    signature (`is_signed`).
    """

    uri: str  # without secrets
    size: int | None = None  # bytes, where the archive says
    digest: str | None = None  # algorithm and value, such as "sha256:0123...", where the archive says
    is_zarr: bool = False  # `url()` is then that of its root, without a slash at its end
    is_signed: bool = False  # it came with a signature, token or password, which `uri` no longer has

    @property
    def name(self) -> str:
        """The last part of the address."""
        return re.split(r"[?#]", self.uri, maxsplit=1)[0].rstrip("/").rsplit("/", 1)[-1]

    @abstractmethod
    def url(self) -> str:
        """Return a URL that works now; it may hold a signature, so it must never be logged, stored or shown."""

    @abstractmethod
    def renew(self, refused: str = "") -> str:
        """Return another URL, after the server refused one with status 403; AccessDeniedError where there is no other.

        Several threads that come with the same `refused` URL have a new one signed once.
        """

    def forked(self) -> None:  # noqa: B027 - most have nothing to forget
        """Forget, in a forked child, what threads of the parent may hold."""


def parameters(query: str) -> dict[str, str]:
    """Return the parameters of a query by name.

    A "+" means itself: files are called so, and addresses are pasted as people read them.

    >>> parameters("location=sub-1%2Fa_behavior+ecephys.nwb&page=2")
    {'location': 'sub-1/a_behavior+ecephys.nwb', 'page': '2'}
    """
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return {unquote(name): unquote(value) for name, _, value in pairs}
