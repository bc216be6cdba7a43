"""The archive of the tests behaves as the real client expects, so that what is tested against it holds elsewhere."""

import gc
import threading

import dandi.dandiapi
import pytest
import requests
from dandi.consts import known_instances
from dandi.dandiarchive import navigate_url

from small_archive import TOKEN, SmallArchive

CONTENT = bytes(range(256)) * 8


pytestmark = pytest.mark.usefixtures("no_accounts")


@pytest.fixture
def archive():
    with SmallArchive(page_size=2) as archive, archive.known_as("dandi"):
        for name in "abcde":
            archive.add("000140", f"sub-1/{name}.nwb", CONTENT)
        archive.publish("000140", "0.220113.0408")
        archive.add_dandiset("000007", is_embargoed=True)
        archive.add("000007", "e.nwb", CONTENT)
        yield archive


def test_the_client_finds_lists_and_downloads(archive, tmp_path):
    with dandi.dandiapi.DandiAPIClient.for_dandi_instance("dandi") as client:
        dandiset = client.get_dandiset("000140")
        assert dandiset.version_id == "0.220113.0408"
        assert [version.identifier for version in dandiset.get_versions()] == ["draft", "0.220113.0408"]
        assert len(list(dandiset.get_assets())) == 5  # three pages, two of them at once
        asset = dandiset.get_asset_by_path("sub-1/c.nwb")
        asset.download(tmp_path / "c.nwb")
        assert (tmp_path / "c.nwb").read_bytes() == CONTENT
        assert asset.get_content_url(regex="/blobs/") == asset.get_raw_metadata()["contentUrl"][1]
        assert [one.path for one in dandiset.get_assets_by_glob("*D.nwb")] == ["sub-1/d.nwb"]
        with pytest.raises(dandi.dandiapi.NotFoundError):
            dandiset.get_asset("0a1b2c3d-0000-4000-8000-000000000001")


def test_the_client_navigates_with_the_key(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("DANDI_API_KEY", TOKEN)
    with navigate_url("dandi://dandi/000007@draft/e.nwb", strict=True) as (_, _, assets):
        (asset,) = assets
        asset.download(tmp_path / "e.nwb")
    assert (tmp_path / "e.nwb").read_bytes() == CONTENT
    assert not archive.requests[-1].authorization  # the bucket refuses a token of somebody else


def test_buckets_give_what_signatures_allow(archive):
    (key,) = archive.bucket.private
    signed = archive.bucket.signed(key, 60)
    with requests.Session() as session:
        assert session.get(signed).content == CONTENT
        assert session.get(signed, headers={"Range": "bytes=-2"}).content == CONTENT[-2:]
        assert session.get(signed, headers={"Range": "bytes=9999-"}).status_code == 416
        assert session.head(signed).status_code == 403  # signed for GET
        assert session.get(signed, headers={"Authorization": "token x"}).status_code == 400
        assert session.get(signed.replace("Signature=", "Signature=0")).status_code == 403
        assert session.get(archive.bucket.signed(key, -1)).status_code == 403
        assert session.get(archive.bucket.url_of(key)).status_code == 403
        assert session.get(archive.bucket.url_of("nothing")).status_code == 404


def test_faults_come_as_often_as_they_are_wanted(archive):
    url = f"{archive.api_url}/info/"
    archive.api.fail(503, times=2, path="info", headers={"Retry-After": "1"})
    archive.api.fail(0, path="info")
    with requests.Session() as session:
        assert [session.get(url).status_code for _ in range(2)] == [503, 503]
        with pytest.raises(requests.ConnectionError):
            session.get(url)
        assert session.get(url).ok


def test_nothing_is_left_behind():
    threads, known = threading.active_count(), dict(known_instances)
    session = requests.Session()
    with SmallArchive() as archive, archive.known_as("dandi", "of-my-lab"):
        assert known_instances["of-my-lab"].api == archive.api_url
        assert session.get(f"{archive.api_url}/info/").ok  # a connection that stays open
    assert known_instances == known
    assert threading.active_count() == threads
    session.close()
    gc.collect()  # sockets that were not closed would warn now
