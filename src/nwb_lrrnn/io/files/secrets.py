"""Addresses without what may be secret in them: users, passwords, signatures and tokens."""

import os
import re
from ipaddress import ip_address
from urllib.parse import urlsplit

# pathlib makes "https:/host" of "https://host"; one letter is a drive of Windows.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z-]+:\d{6}(/|$)")  # DANDI:000140/0.220113.0408/sub-1/a.nwb
_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s\"'<>]+")


def is_address(uri: str | os.PathLike[str]) -> bool:
    """Return whether a text names something in a network and not a file of this machine.

    >>> is_address("s3://bucket/a.nwb"), is_address("C:/data/a.nwb"), is_address("file:///data/a.nwb")
    (True, False, False)
    >>> is_address("DANDI:000140/0.220113.0408/sub-1/a.nwb")
    True
    """
    text = os.fspath(uri)
    found = _ADDRESS.match(text)
    return found[1].lower() != "file" if found else _IDENTIFIER.match(text) is not None


def may_carry_secrets(url: str) -> bool:
    """Return whether a secret may go to a URL: it is encrypted on the way, or does not leave this machine.

    >>> may_carry_secrets("https://host.org/a"), may_carry_secrets("http://host.org"), may_carry_secrets("http://[::1]/a")
    (True, False, True)
    >>> may_carry_secrets("http://127.0.0.1.host.org/a")
    False
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return True
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def without_secrets(uri: str | os.PathLike[str]) -> str:
    """Return an address without user, password, query and fragment, where signatures and tokens stand; a path as it is.

    >>> without_secrets("https://me:pw@host.org:8080/a/b.nwb?X-Amz-Signature=0123#here")
    'https://host.org:8080/a/b.nwb'
    >>> without_secrets("/data/what?.nwb")
    '/data/what?.nwb'
    """
    found = _ADDRESS.match(os.fspath(uri))
    if found is None:
        return os.fspath(uri)
    # Not urlsplit: it refuses some malformed addresses, whose secrets are as secret.
    authority, slash, path = os.fspath(uri)[found.end() :].lstrip("/").partition("/")
    host = authority.rpartition("@")[2]
    kept = re.split(r"[?#]", f"{host}{slash}{path}", maxsplit=1)[0]
    return f"{found[1]}://{kept}"


def texts_without_secrets(text: str) -> str:
    """Return a text in which every address has lost what may be secret in it.

    >>> texts_without_secrets("from https://me:pw@host.org/a.nwb?token=1 on Monday")
    'from https://host.org/a.nwb on Monday'
    """
    return _ADDRESS_IN_TEXT.sub(lambda found: without_secrets(found[0]), text)
