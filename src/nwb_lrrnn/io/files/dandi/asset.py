"""One file of a DANDI archive: found with one or two requests, and readable by a URL that is signed again in time."""

import difflib
import itertools
import logging
import posixpath
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

from nwb_lrrnn.io.errors import AccessDeniedError, AddressError, MissingRemoteFileError, UnreachableError
from nwb_lrrnn.io.files.dandi.address import ArchiveAddress
from nwb_lrrnn.io.files.dandi.client import Archive, connected
from nwb_lrrnn.io.files.network.location import Location
from nwb_lrrnn.locks import ThreadLock

logger = logging.getLogger(__name__)

MOST_OF_A_PAGE = 1000  # the most that an archive lists in one answer
_FEW = 10  # files that are enough to tell a file from a folder
_SHOWN = 5
_CONTENT = r"amazonaws|/blobs/|/zarr/"
_DIGESTS = {
    "dandi:sha2-256": "sha256",
    "dandi:dandi-zarr-checksum": "dandi-zarr-checksum",
    "dandi:dandi-etag": "dandi-etag",
}
_LIFETIME = 600.0  # s, of a signature that does not say how long it is valid


class _Signed:
    """The signed URL of this moment; never pickled."""

    def __init__(self) -> None:
        self.lock = ThreadLock()
        self.url = ""
        self.until = 0.0  # s of the monotonic clock


@dataclass(frozen=True)
class DandiLocation(Location):
    """A file of a DANDI archive, as it was in one version of its dandiset.

    `uri` names the version: it says "@draft" where the version was not given and nothing is published.
    """

    server: str = ""  # name of the archive's instance, or the URL of its API
    dandiset_id: str = ""  # "" where the address named the asset alone, as in `version`
    version: str = ""
    path: str = ""  # in the dandiset
    asset_id: str = ""  # of this content: another content of the same path has another one
    is_embargoed: bool = False  # read with the API key of an owner
    content_url: str = ""  # address of the content for everybody; "" where the archive names none

    def __post_init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Sign anew, by a lock that nobody holds."""
        vars(self)["_signed"] = _Signed()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_signed"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path)

    def url(self) -> str:
        """Return a URL that works now: the public one, or one that the archive signed, for half of its lifetime."""
        signed = vars(self)["_signed"]
        if self.content_url and not self.is_embargoed and not signed.url:
            return self.content_url
        with signed.lock:
            if time.monotonic() >= signed.until:
                self._sign()
            return signed.url

    def renew(self, refused: str = "") -> str:
        """Return a URL that the archive signed just now, or the one that was signed since `refused` was.

        AccessDeniedError says that the archive signs none for this user.
        """
        signed = vars(self)["_signed"]
        with signed.lock:
            if not signed.url or refused in ("", signed.url) or time.monotonic() >= signed.until:
                self._sign()
            return signed.url

    def _sign(self) -> None:
        """Ask the archive where the content is: it redirects to a signed URL, which is not followed here."""
        if self.is_zarr:
            raise AccessDeniedError(
                f"{self.uri}: this Zarr store is not open to everybody, and archives sign URLs of single files only; "
                "download it with `dandi download` and open the folder"
            )
        address = ArchiveAddress(self.server, asset_id=self.asset_id, is_api="://" in self.server)
        with connected(address, self.uri) as archive:
            if self.is_embargoed:
                archive.show_key()
            question = f"/assets/{self.asset_id}/download/"
            answer = archive.ask(lambda client: client.get(question, json_resp=False, allow_redirects=False))
            given = answer.headers.get("Location")
        if not given:
            raise UnreachableError(
                f"{self.uri}: the archive does not say where the content is (status {answer.status_code})"
            )
        signed = vars(self)["_signed"]
        signed.url = urljoin(answer.url, given)
        # Half of the time is left for the reads that have begun, and for clocks that differ.
        signed.until = time.monotonic() + 0.5 * _lifetime(signed.url)


def resolve_asset(address: ArchiveAddress) -> DandiLocation:
    """Return where the one file lies that an address names: in its version, the newest published one, or the draft.

    AddressError says that the address is that of a dandiset or a folder; for what the archive answers see
    `Archive.ask`.
    """
    with connected(address) as archive:
        try:
            if address.asset_id:
                return location_of(archive, address, archive.ask(lambda client: asset_of_id(client, address)))
            dandiset, found = archive.ask(lambda client: _assets_at(client, address))
        except MissingRemoteFileError:
            raise what_is_missing(archive, address) from None
        version = dandiset.version_id
        if version == "draft" and not address.version:
            logger.warning("dandiset %s is not published: its draft is read, which may change", dandiset.identifier)
        exact = [asset for asset in found if asset.path == address.path]
        if exact:
            return location_of(archive, address, exact[0])
        folder = address.path.rstrip("/")
        inside = [asset.path for asset in found if not folder or asset.path.startswith(folder + "/")]
        if inside:
            raise _several_files(address, folder, inside)
        raise _no_file(archive, dandiset, address)


def location_of(archive: Archive, address: ArchiveAddress, asset: Any) -> DandiLocation:
    """Return the location of an asset that the client returned with its metadata; nothing more is asked."""
    from dandi.exceptions import NotFoundError

    try:
        content_url = asset.get_content_url(regex=_CONTENT).rstrip("/")
    except NotFoundError:
        content_url = ""
    digests = asset.get_raw_metadata().get("digest") or {}
    digest = next((f"{short}:{digests[name]}" for name, short in _DIGESTS.items() if digests.get(name)), None)
    dandiset_id, version = getattr(asset, "dandiset_id", ""), getattr(asset, "version_id", "")
    instance = archive.client.dandi_instance
    is_named = not address.is_api and "://" not in address.server
    if is_named and dandiset_id:
        # "%", "?" and "#" mean something else in addresses, and spaces end one in a text.
        uri = f"dandi://{address.server}/{dandiset_id}@{version}/{quote(asset.path, safe='/+=,:@~!$&()*;')}"
    else:
        within = f"/dandisets/{dandiset_id}/versions/{version}" if dandiset_id else ""
        uri = f"{instance.api.rstrip('/')}{within}/assets/{asset.identifier}"
    return DandiLocation(
        uri=uri,
        size=asset.size,
        digest=digest,
        is_zarr=asset.asset_type.name == "ZARR",
        server=address.server if is_named else instance.api.rstrip("/"),
        dandiset_id=dandiset_id,
        version=version,
        path=asset.path,
        asset_id=asset.identifier,
        is_embargoed=archive.has_key,  # the key is shown only where visitors are refused
        content_url=content_url,
    )


def what_is_missing(archive: Archive, address: ArchiveAddress) -> MissingRemoteFileError:
    """Return the exception that says which part of an address the archive does not have, and which versions it has."""
    if not address.dandiset_id:
        return MissingRemoteFileError(f"{address}: there is no such asset; check its id, or give dandiset and path")
    try:
        dandiset = archive.ask(lambda client: client.get_dandiset(address.dandiset_id, lazy=False))
    except MissingRemoteFileError:
        return MissingRemoteFileError(
            f"{address}: the archive {archive.name!r} has no dandiset {address.dandiset_id}; check the number"
        )
    versions = archive.ask(lambda client: [version.identifier for version in dandiset.get_versions()])
    if address.version in versions:
        return MissingRemoteFileError(
            f"{address}: dandiset {address.dandiset_id} has no such asset in its version {address.version}; it was "
            "replaced or removed: give the path of the file instead"
        )
    return MissingRemoteFileError(
        f"{address}: dandiset {address.dandiset_id} has no version {address.version}, wanted one of "
        + ", ".join(versions)
    )


def asset_of_id(client: Any, address: ArchiveAddress) -> Any:
    """Return the asset, with its metadata, that an address names by its id."""
    if not address.dandiset_id:
        return client.get_asset(address.asset_id)
    return client.get_dandiset(address.dandiset_id, address.version or None).get_asset(address.asset_id)


def _assets_at(client: Any, address: ArchiveAddress) -> tuple[Any, list[Any]]:
    """Return the dandiset and the first assets whose path begins as that of the address, the exact one first."""
    dandiset = client.get_dandiset(address.dandiset_id, address.version or None)
    return dandiset, list(itertools.islice(assets_of(client, dandiset, _FEW, path=address.path), _FEW))


def assets_of(client: Any, dandiset: Any, page_size: int, **which: str) -> Iterator[Any]:
    """Yield the client's assets for which the archive's own filters hold, in order of path.

    `which` are the archive's `path` (how paths begin) or `glob`; `metadata="false"` leaves the metadata out. The next
    page is asked for when `page_size` assets are used up.
    """
    from dandi.dandiapi import RemoteAsset

    params = {"metadata": "true", "order": "path", **which}
    for item in client.paginate(f"{dandiset.version_api_path}assets/", page_size=page_size, params=params):
        yield RemoteAsset.from_data(dandiset, item)


def _several_files(address: ArchiveAddress, folder: str, paths: list[str]) -> AddressError:
    """Return the exception for an address of a folder or a dandiset."""
    kind = f"{folder!r} is a folder of dandiset {address.dandiset_id}" if folder else "this is a whole dandiset"
    listed = ", ".join(repr(path) for path in paths[:_SHOWN]) + (", ..." if len(paths) > _SHOWN else "")
    return AddressError(
        f"{address}: {kind}, wanted one file of it, such as {listed}; list_assets({str(address)!r}) lists them all"
    )


def _no_file(archive: Archive, dandiset: Any, address: ArchiveAddress) -> MissingRemoteFileError | AddressError:
    """Return the exception for a path that is no file of the dandiset, with the closest ones."""
    version = dandiset.version_id
    if not address.path:
        return MissingRemoteFileError(f"{address}: version {version} of dandiset {dandiset.identifier} has no files")

    def question(client: Any) -> list[str]:
        first = assets_of(client, dandiset, MOST_OF_A_PAGE, metadata="false")
        return [asset.path for asset in itertools.islice(first, MOST_OF_A_PAGE)]

    paths = archive.ask(question)
    folder = address.path.rstrip("/") + "/"
    if inside := [path for path in paths if path.startswith(folder)]:
        return _several_files(address, folder[:-1], inside)
    whole = {path.lower(): path for path in paths}
    by_name = {posixpath.basename(path).lower(): path for path in paths}
    wanted = address.path.rstrip("/").lower()
    close = [whole[one] for one in difflib.get_close_matches(wanted, whole, n=2)]
    close += [by_name[one] for one in difflib.get_close_matches(posixpath.basename(wanted), by_name, n=1, cutoff=0.9)]
    listed = " or ".join(repr(path) for path in dict.fromkeys(close))
    fix = f"did you mean {listed}?" if close else f"list_assets({str(address.dandiset)!r}) lists all files"
    return MissingRemoteFileError(
        f"{address}: there is no such file in version {version} of dandiset {dandiset.identifier}; {fix}"
    )


def _lifetime(url: str) -> float:
    """Return for how many seconds a signed URL is valid from now on."""
    names = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    if re.fullmatch(r"\d+", names.get("x-amz-expires", "")):
        return float(names["x-amz-expires"])
    if re.fullmatch(r"\d+", names.get("expires", "")):  # seconds since 1970
        return max(0.0, float(names["expires"]) - time.time())
    return _LIFETIME
