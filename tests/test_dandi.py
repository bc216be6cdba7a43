"""Files of a DANDI archive: which one, in which version, under which URL, with whose key, and in how many requests."""

import hashlib
import threading
from types import SimpleNamespace

import dandi.dandiapi
import pytest
import urllib3

import nwb_lrrnn.io.files.dandi.client
from nwb_lrrnn.io.errors import AccessDeniedError, AddressError, MissingRemoteFileError, UnreachableError
from nwb_lrrnn.io.files.locate import locate
from small_archive import SmallArchive
from small_bucket import Reply

PATH = "sub-Jenkins/sub-Jenkins_ses-small_behavior+ecephys.nwb"
GONE = "0a1b2c3d-0000-4000-8000-000000000001"


pytestmark = pytest.mark.usefixtures("no_accounts")


@pytest.fixture
def archive():
    """Yield an archive that the client knows as dandi, ember-dandi and linc, with two versions of dandiset 000140."""
    with SmallArchive() as archive, archive.known_as("dandi", "ember-dandi", "linc"):
        archive.add("000140", PATH, b"published" * 100)
        archive.publish("000140", "0.220112.0408")
        archive.publish("000140", "0.220113.0408")
        archive.add("000140", PATH, b"draft" * 100)
        archive.add("000140", "sub-Nitschke/a.nwb", b"new")
        yield archive


def fetch(url, **headers):
    with urllib3.PoolManager() as pool:
        response = pool.request("GET", url, headers=headers, redirect=False)
        return response.status, response.data


def asked(archive):
    """Return what was asked since the last time: host and last parts of the path."""
    seen = [(one.host, one.path.removeprefix("/api/dandisets/")) for one in archive.requests]
    archive.requests.clear()
    return seen


def test_the_newest_published_version_is_found_with_two_requests(archive):
    location = locate(f"dandi://000140/{PATH}")
    assert asked(archive) == [("api", "000140/"), ("api", "000140/versions/0.220113.0408/assets/")]
    assert location.uri == f"dandi://dandi/000140@0.220113.0408/{PATH}"
    assert location.name == "sub-Jenkins_ses-small_behavior+ecephys.nwb"
    assert (location.size, location.version, location.dandiset_id, location.path) == (
        900,
        "0.220113.0408",
        "000140",
        PATH,
    )
    assert location.digest == "sha256:" + hashlib.sha256(b"published" * 100).hexdigest()
    assert (location.is_embargoed, location.is_zarr, location.is_signed) == (False, False, False)
    assert fetch(location.url(), Range="bytes=2-4") == (206, b"bli")
    assert [host for host, _ in asked(archive)] == ["s3"]


def test_a_version_that_is_given_takes_one_request(archive):
    location = locate(f"dandi://dandi/000140@draft/{PATH}")
    assert asked(archive) == [("api", "000140/versions/draft/assets/")]
    assert (location.uri, location.size) == (f"dandi://dandi/000140@draft/{PATH}", 500)
    again = locate(location.uri)
    assert again == location
    assert locate(f"dandi://000140@0.220112.0408/{PATH}").version == "0.220112.0408"


@pytest.mark.parametrize(
    "uri",
    [
        f"DANDI:000140/draft/{PATH}",
        f"https://dandiarchive.org/dandiset/000140/draft/files?location={PATH.replace('/', '%2F').replace('+', '%2B')}",
        f"https://gui.dandiarchive.org/#/dandiset/000140/draft/files?location={PATH.replace('+', '%2B')}",
        "https://api.dandiarchive.org/api/dandisets/000140/versions/draft/assets/{asset}/",
        "https://api.dandiarchive.org/api/dandisets/000140/versions/draft/assets/{asset}/download/",
        "https://neurosift.app/?p=/nwb&url=https://api.dandiarchive.org/api/assets/{asset}/download/"
        "&dandisetId=000140&dandisetVersion=draft",
    ],
)
def test_all_addresses_of_a_file_lead_to_one_location(archive, uri):
    expected = locate(f"dandi://000140@draft/{PATH}")
    asked(archive)
    assert locate(uri.format(asset=expected.asset_id)) == expected
    assert len(archive.requests) == 1


def test_an_asset_without_its_dandiset(archive):
    expected = locate(f"dandi://000140@draft/{PATH}")
    location = locate(f"https://api.dandiarchive.org/api/assets/{expected.asset_id}/download/")
    assert (location.path, location.size, location.digest) == (PATH, 500, expected.digest)
    assert (location.dandiset_id, location.version) == ("", "")
    assert location.url() == expected.url()
    assert locate(location.uri).url() == expected.url()


def test_drafts_are_read_where_nothing_is_published(archive, caplog):
    archive.add("000001", "a.nwb", b"draft")
    assert locate("dandi://000001/a.nwb").uri == "dandi://dandi/000001@draft/a.nwb"
    assert "dandiset 000001 is not published: its draft is read, which may change" in caplog.text
    caplog.clear()
    locate("dandi://000001@draft/a.nwb")
    assert "its draft is read" not in caplog.text


@pytest.mark.parametrize("path", ["50% a b.nwb", "what?#.nwb", "é/@home/x=1&y.nwb", "sub-1/a%20b.nwb"])
def test_odd_paths_survive_in_the_address(archive, path):
    archive.add("000002", path, b"odd")
    listed = locate("dandi://000002/" + path.replace("%", "%25"))
    assert listed.path == path
    assert locate(listed.uri) == listed
    assert not set(listed.uri) & set(" ?#")


def test_other_instances_have_their_own_names_and_keys(archive):
    assert locate(f"dandi://ember-dandi/000140/{PATH}").uri.startswith("dandi://ember-dandi/000140@0.220113.0408/")
    assert locate(f"LINC:000140/{PATH}").uri.startswith("dandi://linc/000140@0.220113.0408/")
    location = locate("https://dandi.emberarchive.org/dandiset/000140/draft/files?location=sub-Nitschke/a.nwb")
    assert location.uri == "dandi://ember-dandi/000140@draft/sub-Nitschke/a.nwb"


def test_archives_without_a_name_are_read_too():
    with SmallArchive() as archive:
        asset = archive.add("000140", PATH, b"draft" * 100)
        location = locate(f"{archive.api_url}/dandisets/000140/versions/draft/assets/?path={PATH}")
        assert location.uri == f"{archive.api_url}/dandisets/000140/versions/draft/assets/{asset}"
        assert location.name == PATH.split("/")[1]
        assert locate(location.uri) == location
        assert len(archive.requests) == 2
        archive.requests.clear()
        page = locate(f"{archive.api.url}/dandiset/000140/draft/files?location={PATH}")
        assert page == location  # its page was asked where its API is
        assert locate(f"{archive.api_url}/assets/{asset}/").uri == f"{archive.api_url}/assets/{asset}"
        assert fetch(location.renew()) == (200, b"draft" * 100)


def test_zarr_stores_have_the_url_of_their_root(archive):
    archive.add_zarr("000003", "sub-1/a.nwb.zarr", {".zgroup": b"{}", "units/.zgroup": b"{}"})
    location = locate("dandi://000003/sub-1/a.nwb.zarr")
    assert location.is_zarr
    assert location.size == 4
    assert location.digest.startswith("dandi-zarr-checksum:")
    assert fetch(location.url() + "/units/.zgroup") == (200, b"{}")
    assert not location.url().endswith("/")
    with pytest.raises(AccessDeniedError, match="this Zarr store is not open to everybody"):
        location.renew()


def test_digests_fall_back_to_the_etag(archive):
    archive.add("000004", "a.nwb", b"x", digest={"dandi:dandi-etag": "0123-1"})
    archive.add("000004", "b.nwb", b"x", digest={})
    assert locate("dandi://000004/a.nwb").digest == "dandi-etag:0123-1"
    assert locate("dandi://000004/b.nwb").digest is None


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "dandi://000140@draft",
            r"this is a whole dandiset, wanted one file of it, such as 'sub-Jenkins/.*', '",
        ),
        ("dandi://000140@draft/sub-Nitschke", "'sub-Nitschke' is a folder of dandiset 000140, wanted one file of it"),
        ("dandi://000140@draft/sub-Nitschke/", r"list_assets\('dandi://dandi/000140@draft/sub-Nitschke/'\) lists them"),
        ("https://dandiarchive.org/dandiset/000140", r"list_assets\('dandi://dandi/000140'\) lists them all"),
        (
            "dandi://000005/sub-1",
            "'sub-1' is a folder of dandiset 000005, wanted one .* such as 'sub-1/a.nwb'",
        ),
    ],
)
def test_dandisets_and_folders_are_no_files(archive, uri, message):
    for name in [*(f"sub-1-{number}/a.nwb" for number in range(12)), "sub-1/a.nwb"]:
        archive.add("000005", name, b"x")
    with pytest.raises(AddressError, match=message):
        locate(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "dandi://000140/" + PATH.replace("ses-small", "ses-smal"),
            f"no such file in version 0.22.*; did you mean '{PATH}'",
        ),
        (
            "dandi://000140/sub-Jenkins_ses-small_behavior+ecephys.nwb",
            "did you mean 'sub-Jenkins/sub-Jenkins_ses-small",
        ),
        ("dandi://000140/" + PATH.upper(), "did you mean 'sub-Jenkins/sub-Jenkins_ses-small"),
        ("dandi://000140/zzz", r"no such file .*; list_assets\('dandi://dandi/000140'\) lists all files"),
        ("dandi://000999/a.nwb", "the archive 'dandi' has no dandiset 000999; check the number"),
        ("dandi://000999@draft/a.nwb", "the archive 'dandi' has no dandiset 000999"),
        ("dandi://000140@0.1.2/a.nwb", "has no version 0.1.2, wanted one of draft, 0.220112.0408, 0.220113.0408"),
        ("dandi://000006", "version draft of dandiset 000006 has no files"),
        (f"https://api.dandiarchive.org/api/assets/{GONE}/", "there is no such asset; check its id"),
        (
            f"https://api.dandiarchive.org/api/dandisets/000140/versions/draft/assets/{GONE}/",
            "has no such asset in its version draft; it was replaced or removed: give the path of the file instead",
        ),
    ],
)
def test_what_is_not_there_is_said(archive, uri, message):
    archive.add_dandiset("000006")
    with pytest.raises(MissingRemoteFileError, match=message.replace("+", r"\+")) as missing:
        locate(uri)
    assert isinstance(missing.value, FileNotFoundError)


def test_archives_that_are_not_reached(archive, monkeypatch):
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))
    archive.api.fail(503, times=100)
    with pytest.raises(UnreachableError, match="answers with status 503; try again later"):
        locate(f"dandi://000140/{PATH}")
    assert len(archive.requests) == dandi.dandiapi.REQUEST_RETRIES
    archive.api.faults.clear()
    archive.api.fail(200)
    with pytest.raises(UnreachableError, match=r"does not answer \(JSONDecodeError\)"):
        locate(f"dandi://000140@draft/{PATH}")


def test_busy_archives_are_asked_again(archive, monkeypatch):
    waited = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr("dandi.dandiapi.sleep", waited.append)
    archive.api.fail(429, headers={"Retry-After": "3"})
    archive.api.fail(503)
    archive.api.fail(0)  # the connection is dropped
    assert locate(f"dandi://000140@draft/{PATH}").size == 500
    assert waited == [3]


def test_no_connection_is_said_at_once(archive):
    with SmallArchive() as closed, closed.known_as("dandi"):
        closed.api.close()
        with pytest.raises(UnreachableError, match="no connection to the archive at http://127.0.0.1:.*; check"):
            locate(f"dandi://000140/{PATH}")
    with pytest.raises(UnreachableError, match="it does not answer as a DANDI archive does"):
        locate(f"{archive.bucket.server.url}/dandiset/000140/draft/files?location=a.nwb")


def test_silence_ends(archive, monkeypatch):
    monkeypatch.setattr(nwb_lrrnn.io.files.dandi.client, "_TIMEOUT", (120.0, 0.05))
    answer, is_over = archive.api.answer, threading.Event()
    archive.api.answer = lambda request: is_over.wait(120) and answer(request)
    with pytest.raises(UnreachableError, match=r"does not answer \(ReadTimeout\); check the network"):
        locate(f"dandi://000140/{PATH}")
    is_over.set()


@pytest.mark.parametrize("answer", [b'{"identifier": "000140"}', b'{"detail": "hello"}', b"[]"])
def test_answers_of_something_else(archive, answer):
    archive.api.answer = lambda request: Reply(200, answer, {"Content-Type": "application/json"})
    with pytest.raises(UnreachableError, match="does not answer as a DANDI archive does; check the address, or update"):
        locate(f"dandi://000140/{PATH}")


def test_old_clients_are_told_to_update():
    old = b'{"version": "9", "services": {"api": {"url": "http://lab.org/api"}}, "cli-minimal-version": "99.0.0", '
    old += b'"cli-bad-versions": []}'
    with SmallArchive() as archive:
        archive.api.answer = lambda request: Reply(200, old, {"Content-Type": "application/json"})
        with pytest.raises(UnreachableError, match=r"is too old! .* at least version 99.0.0; update the client \(`pip"):
            locate(f"{archive.api.url}/dandiset/000140/draft/files?location=a.nwb")


def test_content_without_an_address_is_asked_for(archive):
    archive.add("000009", "a.nwb", b"signed", contentUrl=[])
    location = locate("dandi://000009/a.nwb")
    assert location.content_url == ""
    assert fetch(location.url()) == (200, b"signed")
    archive.api.fail(200, path="download")
    with pytest.raises(UnreachableError, match=r"does not say where the content is \(status 200\)"):
        location.renew()
