"""What an address in a DANDI archive names, told from its text alone: archive, dandiset, version, path or asset."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from nwb_lrrnn.io.errors import AddressError
from nwb_lrrnn.io.files.network.location import parameters

_ID = r"\d{6}"
_VERSION = r"draft|\d+\.\d+\.\d+"
_ASSET = r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}"
_DANDI = re.compile(
    rf"dandi://(?:(?P<server>[-\w.]*[^\W\d][-\w.]*)/)?(?P<id>{_ID})(?:@(?P<version>[^/]+))?(?:/(?P<path>.*))?",
    re.DOTALL | re.IGNORECASE,
)
_IDENTIFIER = re.compile(
    rf"(?P<server>[A-Za-z][-\w.]*):(?P<id>{_ID})(?:/(?P<version>{_VERSION}))?(?:/(?P<path>.*))?", re.DOTALL
)
_RESOLVER = re.compile(rf"https?://(?:www\.)?identifiers\.org/(?:[Dd][Aa][Nn][Dd][Ii])[:/](?P<rest>{_ID}.*)", re.S)
_DOI = re.compile(rf"https?://(?:dx\.)?doi\.org/10\.48324/dandi\.(?P<rest>{_ID}(?:/[\d.]+)?)/?", re.I)
_PAGE = re.compile(rf"/dandiset/(?P<id>{_ID})(?:/(?P<version>{_VERSION}))?(?:/(?P<files>files))?/?")
_API_DANDISET = re.compile(
    rf"(?P<base>(?:/[^/]+)*?)/dandisets/(?P<id>{_ID})(?:/versions(?:/(?P<version>{_VERSION})"
    rf"(?:/(?:info|assets(?:/(?P<asset>{_ASSET})(?:/(?:info|download))?)?))?)?)?/?"
)
_API_ASSET = re.compile(rf"(?P<base>(?:/[^/]+)*?)/assets/(?P<asset>{_ASSET})(?:/(?:info|download))?/?")
_USER = re.compile(r"//[^/@]*:[^/@]*@")  # and a password, which no such address has
# Hosts that lead to an archive's own.
_ALIASES = {"gui.dandiarchive.org": "dandi", "www.dandiarchive.org": "dandi"}


@dataclass(frozen=True)
class ArchiveAddress:
    """What an address names in an archive."""

    server: str  # "dandi" or another name that the client knows, or the URL of an API or of an archive's page
    dandiset_id: str = ""  # six digits; "" where only the asset is named
    version: str = ""  # "draft", a published one, or "" for the newest published one, else the draft
    path: str = ""  # of the asset, with "/" at the end for a folder; "" for the whole dandiset
    asset_id: str = ""  # "" where the path names the asset
    is_api: bool = False  # whether a server that is a URL is that of the API: it ends in "/api", or where that begins

    def __str__(self) -> str:
        if self.asset_id:
            return f"asset {self.asset_id} of {replace(self, asset_id='') if self.dandiset_id else self.server}"
        if self.is_api:
            within = f"versions/{self.version}/assets/" if self.version else ""
            path = f"?path={_quoted(self.path)}" if self.path else ""
            return f"{self.server}/dandisets/{self.dandiset_id}/{within}{path}"
        if "://" in self.server:
            version = f"/{self.version}" if self.version else ""
            return f"{self.server}/dandiset/{self.dandiset_id}{version}/files?location={_quoted(self.path)}"
        version, path = f"@{self.version}" if self.version else "", f"/{self.path}" if self.path else ""
        return f"dandi://{self.server}/{self.dandiset_id}{version}{path}"

    @property
    def dandiset(self) -> ArchiveAddress:
        """The address of the whole dandiset."""
        return replace(self, path="", asset_id="")


def parse(uri: str) -> ArchiveAddress | None:
    """Return what an address names in a DANDI archive, without asking anyone; None where it is none of an archive.

    AddressError says that it begins as an address of an archive but does not go on as one.

    >>> parse("DANDI:000140/0.220113.0408/sub-Jenkins/a.nwb").path
    'sub-Jenkins/a.nwb'
    >>> parse("https://lab.org/data/a.nwb") is None
    True
    """
    for pattern in (_RESOLVER, _DOI):
        if found := pattern.fullmatch(uri):
            return parse("DANDI:" + found["rest"])
    if uri[:5].lower() == "http:" or uri[:6].lower() == "https:":
        return _parse_web(uri)
    if uri[:8].lower() == "dandi://":
        found = _DANDI.fullmatch(uri)
        if found is None or not re.fullmatch(_VERSION, found["version"] or "draft"):
            shown = _USER.sub("//", uri)
            raise AddressError(
                f"uri: got {shown!r}, wanted dandi://[instance/]ID[@version]/path with an ID of six digits and a "
                "version such as 0.220113.0408 or draft"
            )
    elif (found := _IDENTIFIER.fullmatch(uri)) is None:
        return None
    server = _known_name(found["server"] or "dandi")
    return ArchiveAddress(server, found["id"], found["version"] or "", _tidy(unquote(found["path"] or "")))


def _known_name(name: str) -> str:
    """Return an instance's name as the client spells it."""
    import difflib

    from dandi.consts import known_instances

    if name.lower() in known_instances:
        return name.lower()
    close = difflib.get_close_matches(name.lower(), known_instances, n=1, cutoff=0.5)
    raise AddressError(
        f"uri: got the archive {name!r}, wanted one of {', '.join(sorted(known_instances))}, or an address that begins "
        "with https:// for any other archive" + (f"; did you mean {close[0]!r}?" if close else "")
    )


def _parse_web(uri: str) -> ArchiveAddress | None:
    """Return what a page or an address of an API names."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None  # the caller says what is wrong with it
    path, query = parts.path, parts.query
    if parts.fragment.startswith("/dandiset/"):  # https://gui.dandiarchive.org/#/dandiset/000140
        path, _, query = parts.fragment.partition("?")
    names = parameters(query)
    host = parts.netloc.rpartition("@")[2].lower()
    known = _hosts().get(host, "")
    if found := _PAGE.fullmatch(path):
        location = names.get("location", "") if found["files"] else ""
        server = known or f"{parts.scheme}://{host}"
        # An unknown host may have a folder of that name, but hardly the whole page.
        if known or found["files"]:
            return ArchiveAddress(server, found["id"], found["version"] or "", _tidy(location))
    if found := _API_DANDISET.fullmatch(path):
        address = ArchiveAddress("", found["id"], found["version"] or "", "", found["asset"] or "")
        address = replace(address, path=_tidy(names.get("path", "")))
        if known or found["base"].endswith("/api") or found["asset"]:
            return _on(address, known, f"{parts.scheme}://{host}{found['base']}")
    if (found := _API_ASSET.fullmatch(path)) and (known or found["base"].endswith("/api")):
        return _on(ArchiveAddress("", asset_id=found["asset"]), known, f"{parts.scheme}://{host}{found['base']}")
    if known:
        raise AddressError(
            f"uri: got {parts.scheme}://{host}{parts.path}, a page of the archive {known!r} that names no file, wanted "
            f"dandi://{known}/ID/path, or the address of the page that shows the file"
        )
    return None


def _on(address: ArchiveAddress, known: str, api: str) -> ArchiveAddress:
    """Return an address of an API on the instance that is known by its host, or else at that URL."""
    return replace(address, server=known) if known else replace(address, server=api, is_api=True)


def _hosts() -> dict[str, str]:
    """Return the instance of each host that the client knows."""
    from dandi.consts import known_instances

    hosts = {urlsplit(url).netloc.lower(): name for name, one in known_instances.items() for url in one.urls()}
    return hosts | _ALIASES


def _quoted(path: str) -> str:
    """Return a path as the value of a parameter."""
    return quote(path, safe="/+=,:@~!$*;() ")


def _tidy(path: str) -> str:
    """Return a path without slashes at its begin, doubled ones and dots."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/".join(parts) + ("/" if parts and path.endswith("/") else "")
