"""What an address names: a Location that knows the URL under which a file can be read now."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True)
class Location(ABC):
    """A file in a network.

    Neither its representation nor its pickle holds a key, a token or a signature.

    Parameters
    ----------
    uri : str
        Its address without secrets. `locate` finds the file by it again, in any process, unless the address was
        worth something only with its signature (`is_signed`).
    size : int, optional
        Bytes, where the archive says.
    digest : str, optional
        Algorithm and value, such as "sha256:0123...", where the archive says.
    is_zarr : bool
        Whether it is a Zarr store: `url()` is then that of its root, without a slash at its end.
    is_signed : bool
        Whether the address came with a signature, token or password, which `uri` no longer has.
    """

    uri: str
    size: int | None = None
    digest: str | None = None
    is_zarr: bool = False
    is_signed: bool = False

    @property
    def name(self) -> str:
        """The last part of the address."""
        return re.split(r"[?#]", self.uri, maxsplit=1)[0].rstrip("/").rsplit("/", 1)[-1]

    @abstractmethod
    def url(self) -> str:
        """Return a URL that works now; it may hold a signature, so it must never be logged, stored or shown."""

    @abstractmethod
    def renew(self, refused: str = "") -> str:
        """Return another URL, after the server refused one with status 403.

        Parameters
        ----------
        refused : str
            The URL that was refused, so that several threads in the same case sign once.

        Raises
        ------
        AccessDeniedError
            If there is no other one.
        """

    def forked(self) -> None:  # noqa: B027 - most have nothing to forget
        """Forget, in a forked child, what threads of the parent may hold."""


def parameters(query: str) -> dict[str, str]:
    """Return the parameters of a query by name.

    Parameters
    ----------
    query : str
        What stands behind the "?" of an address.

    Returns
    -------
    parameters : dict of str
        A "+" means itself: files are called so, and addresses are pasted as people read them.

    Examples
    --------
    >>> parameters("location=sub-1%2Fa_behavior+ecephys.nwb&page=2")
    {'location': 'sub-1/a_behavior+ecephys.nwb', 'page': '2'}
    """
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return {unquote(name): unquote(value) for name, _, value in pairs}
