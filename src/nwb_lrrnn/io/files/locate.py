"""Where the one file lies that an address names: on a web server, in a bucket, or in an archive."""

import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from nwb_lrrnn.io.errors import AccessDeniedError, AddressError
from nwb_lrrnn.io.files.dandi.address import parse
from nwb_lrrnn.io.files.network.location import Location, parameters
from nwb_lrrnn.io.files.secrets import is_address, may_carry_secrets, without_secrets

_ACCEPTED = (
    "https://, http://, s3://bucket/key, dandi://[instance/]ID[@version]/path, DANDI:ID[/version]/path "
    "or the address of a page of a DANDI archive"
)
# Values of these parameters open doors; the others of a signature say nothing without it.
_SECRET_NAME = re.compile(
    r"x-(amz|goog|ms)-.*|.*(signature|token|secret|password|passwd|credential|jwt|api[-_]?key).*"
    r"|sig|key|auth|authorization|awsaccesskeyid|googleaccessid|key-pair-id|policy|expires",
    re.IGNORECASE,
)
_SAFE_IN_PATH = "/%:@!$&'()*+,;=~"
_VERSION_OF_S3 = re.compile(r"(.+)\?versionId=([^?&#]+)", re.DOTALL)


@dataclass(frozen=True)
class WebLocation(Location):
    """A file that a web server or a public S3 bucket gives by an address that stays the same."""

    def __post_init__(self) -> None:
        vars(self)["_given"] = ""  # the address with its secrets; no field: those are shown, compared and pickled

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_given": ""}

    def url(self) -> str:
        """Return the address as it was given; once it was pickled, without what was secret in it."""
        return vars(self)["_given"] or _url_of(self.uri)

    def renew(self, refused: str = "") -> str:
        """Raise AccessDeniedError: a web server's signatures come from somewhere else."""
        if vars(self)["_given"]:
            why = "the signature, token or password of the address is wrong or has expired; open a fresh address"
        else:
            why = (
                "it is not public; open its address with the signature or token in this process (they are not passed "
                "on to other processes), or use a dandi:// address"
            )
        raise AccessDeniedError(f"{self.uri}: the server refuses to give this file: {why}")


def locate(uri: str) -> Location:
    """Return where the one file lies that an address names, with size and digest where an archive says.

    A web server is not asked for anything yet. AddressError says that the text is no address of one file: another
    scheme, no host, a whole dandiset or a folder of it. Of an archive, see `resolve_asset`.

    >>> locate("s3://dandiarchive/blobs/f0a/4f2/some file.nwb").url()
    'https://dandiarchive.s3.amazonaws.com/blobs/f0a/4f2/some%20file.nwb'
    >>> signed = locate("https://lab.org/a.nwb?X-Amz-Signature=0123&download=1")
    >>> signed.uri, signed.is_signed
    ('https://lab.org/a.nwb?download=1', True)
    """
    if not isinstance(uri, str):
        raise TypeError(f"uri: got {type(uri).__name__}, wanted an address as text: {_ACCEPTED}")
    # pathlib makes "https:/host" of "https://host"
    text = inner_address(re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)", r"\1://", uri.strip()))
    scheme = text.partition(":")[0].lower()
    if not is_address(text):
        shown = text.partition("?")[0]  # https:// may just have been forgotten
        raise AddressError(f"uri: got {shown!r}, which is no address, wanted {_ACCEPTED}")
    if scheme not in ("http", "https"):
        text = _without_secret_pairs(text)
    if scheme == "s3":
        _split_s3(text)
        return WebLocation(text)
    address = parse(text)
    if address is not None:
        from nwb_lrrnn.io.files.dandi.asset import resolve_asset

        return resolve_asset(address)
    if scheme in ("http", "https"):
        return _locate_web(text)
    raise AddressError(f"uri: got {without_secrets(text)!r}, whose scheme is not read, wanted {_ACCEPTED}")


def inner_address(uri: str) -> str:
    """Return the address that a page of neurosift shows; any other address as it is.

    An address of an asset gains the dandiset and version that the page names.

    >>> inner_address("https://neurosift.app/nwb?url=https%3A%2F%2Flab.org%2Fa.nwb")
    'https://lab.org/a.nwb'
    """
    found = re.match(r"https?://(?:[^/?#]*\.)?(?:neurosift\.app|neurosift\.org|github\.io/neurosift)/?([^#]*)", uri)
    names = parameters(found[1].partition("?")[2]) if found else {}
    if "url" not in names:
        return uri
    inner, dandiset, version = names["url"], names.get("dandisetId", ""), names.get("dandisetVersion", "")
    asset = re.fullmatch(r"(https?://[^/]+/api)/assets/([0-9a-fA-F-]{36})(/download)?/?", inner)
    if asset and re.fullmatch(r"\d{6}", dandiset) and re.fullmatch(r"draft|[\d.]+", version):
        return f"{asset[1]}/dandisets/{dandiset}/versions/{version}/assets/{asset[2]}/"
    return inner


def _locate_web(text: str) -> WebLocation:
    """Return the location of an address of a web server."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None  # what Python says of it may repeat a password
    if not host:
        raise AddressError(
            f"uri: got {without_secrets(text)!r}, which names no host, wanted https://host/path/file.nwb"
        )
    if "@" in parts.netloc and not may_carry_secrets(text):
        raise AddressError(
            f"uri: got {without_secrets(text)!r} with a user or password, which would be sent unencrypted, wanted "
            "https://, or the address without them"
        )
    path, authority = quote(parts.path, safe=_SAFE_IN_PATH), parts.netloc.rpartition("@")[2]
    kept = _public_pairs(parts.query)
    is_signed = "@" in parts.netloc or len(kept) < len(parts.query)
    query = kept if is_signed else parts.query
    uri = f"{parts.scheme}://{authority}{path}" + (f"?{query}" if query else "")
    location = WebLocation(uri, is_signed=is_signed)
    if is_signed:
        rest = f"?{parts.query}" if parts.query else ""
        vars(location)["_given"] = f"{parts.scheme}://{parts.netloc}{path}{rest}"
    return location


def _without_secret_pairs(uri: str) -> str:
    """Return an address without what is secret in its query; a "?" may as well be part of a key or of a path."""
    path, _, query = uri.partition("?")
    kept = _public_pairs(query)
    return uri if len(kept) == len(query) else path + (f"?{kept}" if kept else "")


def _public_pairs(query: str) -> str:
    """Return a query without its secret parameters."""
    return "&".join(pair for pair in re.split("[&;]", query) if not _is_secret(pair))


def _is_secret(pair: str) -> bool:
    """Return whether a parameter of a query is a secret by its name."""
    return _SECRET_NAME.fullmatch(unquote(pair.partition("=")[0]).strip()) is not None


def _url_of(uri: str) -> str:
    """Return the URL of an address without secrets: that of the bucket for S3."""
    if not uri.lower().startswith("s3://"):
        return uri
    bucket, key, version = _split_s3(uri)
    # Labs with object stores of their own name them where Amazon's programs look for it.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        root = f"{endpoint.rstrip('/')}/{bucket}"
    elif "." in bucket:  # certificates of the bucket's own host name cover no further dots
        root = f"https://s3.amazonaws.com/{bucket}"
    else:
        root = f"https://{bucket}.s3.amazonaws.com"
    return f"{root}/{quote(key, safe='/~')}" + (f"?versionId={quote(version, safe='')}" if version else "")


def _split_s3(uri: str) -> tuple[str, str, str]:
    """Return bucket, key and version (or "") of an address of S3."""
    bucket, _, key = uri[len("s3://") :].partition("/")
    found = _VERSION_OF_S3.fullmatch(key)
    key, version = (found[1], found[2]) if found else (key, "")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket) or not key.strip("/"):
        raise AddressError(f"uri: got {without_secrets(uri)!r}, wanted s3://bucket/key with the key of one file")
    return bucket, key, version
