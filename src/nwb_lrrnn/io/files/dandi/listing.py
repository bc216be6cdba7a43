"""What a dandiset holds: all its files with one request per thousand."""

from dataclasses import dataclass
from typing import Any

from nwb_lrrnn.io.errors import AddressError, MissingRemoteFileError
from nwb_lrrnn.io.files.dandi import keys
from nwb_lrrnn.io.files.dandi.address import ArchiveAddress, parse
from nwb_lrrnn.io.files.dandi.asset import MOST_OF_A_PAGE, asset_of_id, assets_of, location_of, what_is_missing
from nwb_lrrnn.io.files.dandi.client import Archive, connected
from nwb_lrrnn.io.files.locate import inner_address
from nwb_lrrnn.io.files.secrets import without_secrets


@dataclass(frozen=True)
class Asset:
    """A file of a dandiset.

    Parameters
    ----------
    path : str
        In the dandiset.
    size : int
        Bytes.
    uri : str
        Its address, which names the version and holds no secret.
    asset_id : str
        Of this content: another content of the same path has another one.
    digest : str or None
        Algorithm and value, such as "sha256:0123...".
    dandiset_id, version : str
        Where it was listed.
    variables_measured : tuple of str
        What its metadata say is in it, such as "Units". Not all types are noted there, so that a missing one says
        nothing.
    is_embargoed : bool
        Whether it is read with the API key of an owner.
    is_zarr : bool
        Whether it is a Zarr store.
    """

    path: str
    size: int
    uri: str
    asset_id: str
    digest: str | None
    dandiset_id: str
    version: str
    variables_measured: tuple[str, ...] = ()
    is_embargoed: bool = False
    is_zarr: bool = False


def list_assets(uri: str, *, glob: str = "*.nwb", api_key: str | None = None) -> list[Asset]:
    """Return the files of a dandiset or of a folder of it, sorted by path.

    Parameters
    ----------
    uri : str
        `dandi://[instance/]ID[@version][/folder/]`, `DANDI:ID[/version]`, or the address of a page of an archive.
    glob : str
        Which files, within the folder: "*" stands for anything, slashes included; upper and lower case are equal.
    api_key : str, optional
        Your key of that archive, as in `open_nwb`.

    Returns
    -------
    assets : list of Asset
        Empty where no file of the dandiset matches. The version is the one given, else the newest published one,
        else the draft.

    Raises
    ------
    AddressError
        If the text is no address of an archive. This error and those below are of `nwb_lrrnn.io.errors`.
    MissingRemoteFileError
        If there is no such dandiset, version or folder.
    AccessDeniedError
        If it is embargoed and the API key is missing or not accepted.
    UnreachableError
        If the archive does not answer.

    Examples
    --------
    >>> for asset in list_assets("dandi://000140"):  # doctest: +SKIP
    ...     recording = open_nwb(asset.uri)
    """
    if not isinstance(uri, str):
        raise TypeError(f"uri: got {type(uri).__name__}, wanted the address of a dandiset as text")
    address = parse(inner_address(uri.strip()))
    if address is None:
        raise AddressError(
            f"uri: got {without_secrets(uri)!r}, wanted the address of a dandiset: dandi://[instance/]ID[@version], "
            "DANDI:ID[/version], or a page of an archive"
        )
    with keys.given(api_key), connected(address) as archive:
        try:
            found = _found(archive, address, glob)
        except MissingRemoteFileError:
            raise what_is_missing(archive, address) from None
        if not found and address.path and not _has_files(archive, address):
            raise MissingRemoteFileError(
                f"{address}: dandiset {address.dandiset_id} has no folder and no file {address.path!r}; "
                f"list_assets({str(address.dandiset)!r}) lists all files"
            )
        return sorted((_asset(archive, address, one) for one in found), key=lambda asset: asset.path)


def _found(archive: Archive, address: ArchiveAddress, glob: str) -> list[Any]:
    """Return the client's assets that an address and a pattern name."""
    if address.asset_id:
        return [archive.ask(lambda client: asset_of_id(client, address))]
    folder = address.path.rstrip("/")
    if not folder:
        return _listed(archive, address, glob=glob)
    found = _listed(archive, address, glob=f"{folder}/{glob}")
    if not found and not address.path.endswith("/"):
        found = [asset for asset in _listed(archive, address, path=folder) if asset.path == folder]
    return found


def _listed(archive: Archive, address: ArchiveAddress, **which: str) -> list[Any]:
    """Return the client's assets for which the archive's own filters hold, metadata included."""

    def question(client: Any) -> list[Any]:
        dandiset = client.get_dandiset(address.dandiset_id, address.version or None)
        return list(assets_of(client, dandiset, MOST_OF_A_PAGE, **which))

    return archive.ask(question)


def _has_files(archive: Archive, address: ArchiveAddress) -> bool:
    """Return whether a folder has any files."""
    return bool(_listed(archive, address, glob=address.path.rstrip("/") + "/*"))


def _asset(archive: Archive, address: ArchiveAddress, asset: Any) -> Asset:
    """Return an asset of the client as one of ours."""
    where = location_of(archive, address, asset)
    measured = asset.get_raw_metadata().get("variableMeasured") or []
    names = tuple(str(one.get("value", "")) if isinstance(one, dict) else str(one) for one in measured)
    return Asset(
        path=where.path,
        size=asset.size,
        uri=where.uri,
        asset_id=where.asset_id,
        digest=where.digest,
        dandiset_id=where.dandiset_id,
        version=where.version,
        variables_measured=names,
        is_embargoed=where.is_embargoed,
        is_zarr=where.is_zarr,
    )
