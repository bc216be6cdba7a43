"""What a dandiset holds, in one request per thousand files."""

from urllib.parse import quote

import dandi.dandiapi  # noqa: F401 - takes a second, which belongs to no test
import pytest

from nwb_lrrnn.io.errors import AddressError, MissingRemoteFileError, UnreachableError
from nwb_lrrnn.io.files.dandi.listing import list_assets
from nwb_lrrnn.io.files.locate import locate
from small_archive import TOKEN, SmallArchive

UNITS = [{"schemaKey": "PropertyValue", "value": "Units"}, {"schemaKey": "PropertyValue", "value": "LFP"}]


pytestmark = pytest.mark.usefixtures("no_accounts")


@pytest.fixture
def archive():
    with SmallArchive() as archive, archive.known_as("dandi"):
        archive.add("000140", "sub-2/b.nwb", b"22")
        archive.add("000140", "sub-1/a.nwb", b"1", variableMeasured=UNITS)
        archive.publish("000140", "0.220113.0408")
        archive.add("000140", "sub-10/c.NWB", b"10")
        archive.add("000140", "sub-1/deep/d+e.nwb", b"1", digest={"dandi:dandi-etag": "0123-1"})
        archive.add("000140", "dataset_description.json", b"{}")
        archive.add_zarr("000140", "sub-1/z.nwb.zarr", {".zgroup": b"{}"})
        archive.add_dandiset("000007", is_embargoed=True)
        archive.add("000007", "e.nwb", b"embargoed")
        yield archive


def paths(uri, **options):
    return [asset.path for asset in list_assets(uri, **options)]


def test_the_newest_published_version_is_listed_by_path(archive):
    first, second = list_assets("dandi://000140")
    assert len(archive.requests) == 2  # its version, its files
    assert (first.path, first.size, first.version, first.dandiset_id) == ("sub-1/a.nwb", 1, "0.220113.0408", "000140")
    assert first.uri == "dandi://dandi/000140@0.220113.0408/sub-1/a.nwb"
    assert first.variables_measured == ("Units", "LFP")
    assert (second.path, second.variables_measured) == ("sub-2/b.nwb", ())
    assert (first.is_embargoed, first.is_zarr) == (False, False)
    assert {first: 1}[first] == 1  # hashable, as keys of tables are


def test_what_is_listed_is_what_is_located(archive):
    for asset in list_assets("dandi://000140@draft", glob="*"):
        location = locate(asset.uri)
        assert (location.uri, location.size, location.digest) == (asset.uri, asset.size, asset.digest)
        assert (location.asset_id, location.is_zarr, location.path) == (asset.asset_id, asset.is_zarr, asset.path)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("DANDI:000140/0.220113.0408", ["sub-1/a.nwb", "sub-2/b.nwb"]),
        ("dandi://000140@draft", ["sub-1/a.nwb", "sub-1/deep/d+e.nwb", "sub-10/c.NWB", "sub-2/b.nwb"]),
        ("dandi://000140@draft/sub-1/", ["sub-1/a.nwb", "sub-1/deep/d+e.nwb"]),
        ("dandi://000140@draft/sub-1", ["sub-1/a.nwb", "sub-1/deep/d+e.nwb"]),
        ("dandi://000140@draft/sub-1/a.nwb", ["sub-1/a.nwb"]),
        ("dandi://000140@draft/sub-1/z.nwb.zarr", ["sub-1/z.nwb.zarr"]),
        ("https://dandiarchive.org/dandiset/000140", ["sub-1/a.nwb", "sub-2/b.nwb"]),
        ("https://dandiarchive.org/dandiset/000140/draft/files?location=sub-1%2Fdeep", ["sub-1/deep/d+e.nwb"]),
        ("https://api.dandiarchive.org/api/dandisets/000140/versions/draft/assets/?path=sub-2", ["sub-2/b.nwb"]),
    ],
)
def test_dandisets_folders_and_pages_are_listed(archive, uri, expected):
    assert paths(uri) == expected


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.json", ["dataset_description.json"]),
        ("sub-1/*", ["sub-1/a.nwb", "sub-1/deep/d+e.nwb", "sub-1/z.nwb.zarr"]),
        ("*.zarr", ["sub-1/z.nwb.zarr"]),
        ("*d+e*", ["sub-1/deep/d+e.nwb"]),
        ("*.txt", []),
    ],
)
def test_patterns_choose(archive, glob, expected):
    assert paths("dandi://000140@draft", glob=glob) == expected


def test_patterns_are_within_the_folder(archive):
    assert paths("dandi://000140@draft/sub-1/", glob="a*") == ["sub-1/a.nwb"]
    assert paths("dandi://000140@draft/sub-1/", glob="*.txt") == []


def test_assets_are_listed_by_their_id(archive):
    (asset,) = list_assets("dandi://000140/sub-1/a.nwb")
    api = "https://api.dandiarchive.org/api"
    assert list_assets(f"{api}/dandisets/000140/versions/0.220113.0408/assets/{asset.asset_id}/") == [asset]
    (bare,) = list_assets(f"{api}/assets/{asset.asset_id}/download/")
    assert (bare.path, bare.dandiset_id, bare.version) == ("sub-1/a.nwb", "", "")
    assert locate(bare.uri).asset_id == asset.asset_id


def test_a_thousand_files_take_one_request(archive):
    for number in range(2001):
        archive.add("000008", f"sub-{number:04d}/a.nwb", b"x")
    archive.requests.clear()
    listed = list_assets("dandi://000008@draft")
    assert len(archive.requests) == 3
    assert {one.query["page_size"] for one in archive.requests} == {"1000"}
    assert [asset.path for asset in listed] == sorted(asset.path for asset in listed)
    assert len({asset.asset_id for asset in listed}) == 2001


def test_embargoed_files_are_listed_for_their_owners(archive, monkeypatch):
    monkeypatch.setenv("DANDI_API_KEY", TOKEN)
    (asset,) = list_assets("dandi://000007")
    assert asset.is_embargoed
    assert asset.uri == "dandi://dandi/000007@draft/e.nwb"


def test_archives_without_a_name_are_listed():
    with SmallArchive() as archive:
        asset_id = archive.add("000140", "sub 1/a.nwb", b"x")
        (asset,) = list_assets(f"{archive.api_url}/dandisets/000140/versions/draft/")
        assert asset.uri == f"{archive.api_url}/dandisets/000140/versions/draft/assets/{asset_id}"
        assert len(archive.requests) == 1
        assert list_assets(f"{archive.api.url}/dandiset/000140/files?location={quote('sub 1')}") == [asset]
        assert locate(asset.uri).path == "sub 1/a.nwb"


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        (
            "https://lab.org/a.nwb?token=SECRET",
            AddressError,
            "got 'https://lab.org/a.nwb', wanted the address of a",
        ),
        ("sub-1/a.nwb", AddressError, r"got 'sub-1/a.nwb', wanted the address of a dandiset: dandi://\[instance/\]ID"),
        ("dandi://000999", MissingRemoteFileError, "the archive 'dandi' has no dandiset 000999"),
        ("dandi://000140@0.1.2", MissingRemoteFileError, "has no version 0.1.2, wanted one of draft, 0.220113.0408"),
        (
            "dandi://000140/sub-3",
            MissingRemoteFileError,
            r"no folder and no file 'sub-3'; list_assets\('dandi://dandi/0",
        ),
        ("dandi://000140/sub-3/", MissingRemoteFileError, "no folder and no file 'sub-3/'"),
    ],
)
def test_what_cannot_be_listed_is_said(archive, uri, error, message):
    with pytest.raises(error, match=message):
        list_assets(uri)


def test_only_text_is_an_address():
    with pytest.raises(TypeError, match="uri: got int, wanted the address of a dandiset as text"):
        list_assets(140)


def test_archives_that_are_not_reached(archive):
    archive.api.close()
    with pytest.raises(UnreachableError, match="dandi://dandi/000140: no connection to the archive at http://127"):
        list_assets("dandi://000140")
