"""Which API key goes to which archive: those of known archives to exactly their API, any other as the user says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nwb_lrrnn.io.errors import AccessDeniedError
from nwb_lrrnn.io.files.secrets import may_carry_secrets, without_secrets
from nwb_lrrnn.locks import ThreadLock

KEY, KEY_FOR = "NWB_LRRNN_API_KEY", "NWB_LRRNN_API_KEY_FOR"

_given: ContextVar[str] = ContextVar("api_key", default="")
# Keys that were given as an argument, by the API that they were shown to: archives sign addresses again and again.
_kept: dict[str, str] = {}
_lock = ThreadLock()


@contextmanager
def given(api_key: str | None) -> Iterator[None]:
    """Show this key, where one is asked for within the block, and to the same archive later in this process."""
    if api_key is not None and not (isinstance(api_key, str) and api_key.strip()):
        raise ValueError("api_key: got no text, wanted the key that the archive's page shows, or None")
    token = _given.set((api_key or "").strip())
    try:
        yield
    finally:
        _given.reset(token)


def key_for(api: str, called: str, about: str) -> tuple[str, str]:
    """Return the API key for the archive at an API's address, and where it came from; `about` is for messages.

    `called` is how the archive was named: it only chooses between known archives of one address.

    In this order: the argument `api_key`; `NWB_LRRNN_API_KEY` where `NWB_LRRNN_API_KEY_FOR` is this address; the
    variable or keyring of the known archive whose address this is. A host is never enough, and nothing that a server
    says of itself. AccessDeniedError says that there is none, or that it would be sent unencrypted.
    """
    from dandi.consts import known_instances

    api = _tidy(api)
    names = [one.name for one in known_instances.values() if _tidy(one.api) == api]
    name = called if called in names else (names or [""])[0]
    variable = f"{name.upper().replace('-', '_')}_API_KEY" if name else KEY
    key, source = _given.get(), "api_key"
    if key:
        with _lock:
            _kept[api] = key
    elif api in _kept:
        key = _kept[api]
    elif _tidy(os.environ.get(KEY_FOR, "")) == api and os.environ.get(KEY, "").strip():
        key, source = os.environ[KEY].strip(), KEY
    elif name:
        key, source = os.environ.get(variable, "").strip() or _key_in_keyring(f"dandi-api-{name}"), variable
    if not key:
        raise AccessDeniedError(f"{about}: {_how_to_give(api, name, variable)}")
    if not may_carry_secrets(api):
        raise AccessDeniedError(
            f"{about}: the archive at {without_secrets(api)} would get the API key unencrypted, so that it is not "
            "sent; use an address that begins with https://"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        # requests would repeat it in its message
        raise AccessDeniedError(
            f"{source}: got a text with spaces or other characters that no API key has; copy the key again"
        )
    return key, source


def _how_to_give(api: str, name: str, variable: str) -> str:
    """Return that a key is wanted, and how it is given."""
    if name:
        return (
            f"the archive {name!r} gives it to its owners only (it is embargoed), and no API key was found; set the "
            f"environment variable {variable} to the key that the archive's page shows under your initials"
        )
    shown = without_secrets(api)
    return (
        f"the archive at {shown} gives it to its owners only, and is none whose key is known by name; pass api_key=, "
        f"or set {KEY_FOR} to {shown} and {KEY} to the key that the archive's page shows under your initials"
    )


def _tidy(address: str) -> str:
    """Return an address of an API without a slash at its end, its scheme and host in small letters."""
    scheme, mark, rest = address.strip().partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{mark}{host.lower()}{slash}{path}".rstrip("/")


def _key_in_keyring(service: str) -> str:
    """Return the key that the dandi program saved; "" where there is none, or only behind a password."""
    from keyring.core import get_keyring, load_config, load_env
    from keyring.errors import KeyringError
    from keyrings.alt.file import EncryptedKeyring

    chosen = load_env() or load_config() or get_keyring()
    for keyring in getattr(chosen, "backends", [chosen]):
        if isinstance(keyring, EncryptedKeyring):  # it asks for its password in the terminal
            continue
        try:
            key = keyring.get_password(service, "key")
        except KeyringError:
            continue
        if key:
            return key.strip()
    return ""
