"""What addresses name, told from their text alone; what is secret in them stays out of sight."""

import copy
import logging
import pickle
import subprocess
import sys

import pytest

from nwb_lrrnn.io.errors import AccessDeniedError, AddressError
from nwb_lrrnn.io.files.dandi.address import ArchiveAddress, parse
from nwb_lrrnn.io.files.locate import inner_address, locate

ASSET = "0a1b2c3d-0000-4000-8000-000000000001"
API = "https://api.dandiarchive.org/api"


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://lab.org/a/b.nwb", "https://lab.org/a/b.nwb"),
        ("http://lab.org:8080/b.nwb?download=1&v=2", "http://lab.org:8080/b.nwb?download=1&v=2"),
        ("HTTPS://lab.org/my file é.nwb#part", "https://lab.org/my%20file%20%C3%A9.nwb"),
        ("https://lab.org/my%20file%2B.nwb", "https://lab.org/my%20file%2B.nwb"),
        ("https:/lab.org/b.nwb", "https://lab.org/b.nwb"),  # as pathlib leaves it
        ("s3://bucket/a/b+c d%.nwb", "https://bucket.s3.amazonaws.com/a/b%2Bc%20d%25.nwb"),
        ("s3://bucket/b.nwb?versionId=x.Y/1", "https://bucket.s3.amazonaws.com/b.nwb?versionId=x.Y%2F1"),
        ("s3://bucket/what?#.nwb", "https://bucket.s3.amazonaws.com/what%3F%23.nwb"),
        ("s3://my.bucket/b.nwb", "https://s3.amazonaws.com/my.bucket/b.nwb"),
        (
            "https://dandiarchive.s3.amazonaws.com/blobs/f0a/4f2/x",
            "https://dandiarchive.s3.amazonaws.com/blobs/f0a/4f2/x",
        ),
        ("https://lab.org/dandiset/000140", "https://lab.org/dandiset/000140"),  # a folder of somebody's server
        ("https://lab.org/assets/0a1b2c3d-0000-4000-8000-000000000001", f"https://lab.org/assets/{ASSET}"),
    ],
)
def test_web_and_s3_addresses_lead_to_a_url(uri, url, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    location = locate(uri)
    assert location.url() == url
    assert not location.is_signed
    assert (location.size, location.digest, location.is_zarr) == (None, None, False)
    assert locate(location.uri).url() == url  # its own name leads to it again
    assert pickle.loads(pickle.dumps(location)).url() == url


def test_object_stores_of_labs_are_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://minio.lab.org:9000/")
    assert locate("s3://bucket/a b.nwb").url() == "https://minio.lab.org:9000/bucket/a%20b.nwb"


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://lab.org/a.nwb?X-Amz-Signature=SECRET&X-Amz-Credential=SECRET&download=1", "?download=1"),
        ("https://lab.org/a.nwb?x-amz-security-token=SECRET", ""),
        ("https://lab.org/a.nwb?sv=2024&sig=SECRET&page=2", "?sv=2024&page=2"),
        ("https://lab.org/a.nwb?AWSAccessKeyId=SECRET&Signature=SECRET&Expires=1", ""),
        ("https://lab.org/a.nwb?access_token=SECRET", ""),
        ("https://lab.org/a.nwb?v=1;token=SECRET", "?v=1"),
        ("https://lab.org/a.nwb?%74oken=SECRET", ""),
        ("https://lab.org/a.nwb?key=SECRET&KEY=SECRET&apiKey=SECRET&api_key=SECRET", ""),
        ("https://me:SECRET@lab.org/a.nwb", ""),
    ],
)
def test_secrets_stay_in_the_location(uri, kept, caplog):
    caplog.set_level(logging.DEBUG)
    location = locate(uri)
    assert location.url() == uri
    assert location.is_signed
    assert location.uri == f"https://lab.org/a.nwb{kept}"
    assert location.name == "a.nwb"
    with pytest.raises(AccessDeniedError, match="wrong or has expired; open a fresh address") as refused:
        location.renew(uri)
    pickled = pickle.dumps(location)
    for text in (repr(location), str(location), str(refused.value), caplog.text, pickled.decode("latin-1")):
        assert "SECRET" not in text


def test_signatures_do_not_travel():
    travelled = pickle.loads(pickle.dumps(locate("https://lab.org/a.nwb?sig=SECRET")))
    assert travelled == copy.copy(travelled) == locate("https://lab.org/a.nwb?sig=OTHER")
    assert travelled.is_signed
    assert travelled.url() == "https://lab.org/a.nwb"
    with pytest.raises(AccessDeniedError, match=r"a\.nwb: the server refuses .* are not passed on to other processes"):
        travelled.renew()


def test_public_addresses_have_no_other_url():
    with pytest.raises(AccessDeniedError, match="s3://bucket/a.nwb: .* it is not public; open its address with"):
        locate("s3://bucket/a.nwb").renew()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("a/b.nwb", "got 'a/b.nwb', which is no address, wanted https://"),
        ("lab.org/b.nwb?token=SECRET", "got 'lab.org/b.nwb', which is no address"),
        ("https://neurosift.app/nwb?url=ftp://lab.org/a.nwb", "got 'ftp://lab.org/a.nwb', whose scheme is not read"),
        ("file:///data/a.nwb", "is no address"),
        ("ftp://me:SECRET@lab.org/a.nwb", "got 'ftp://lab.org/a.nwb', whose scheme is not read, wanted https://"),
        ("https:///a.nwb", "names no host"),
        ("https://me:SEC[RET@lab.org/a.nwb", "got 'https://lab.org/a.nwb', which names no host"),
        ("https://me:SECRET@lab.org:port/a.nwb", "names no host"),
        ("s3://bucket", "wanted s3://bucket/key with the key of one file"),
        ("s3:///a.nwb", "wanted s3://bucket/key"),
        ("s3://AKIA:SECRET@bucket/a.nwb", "got 's3://bucket/a.nwb', wanted s3://bucket/key"),
        ("dandi://me:SECRET@000140/a.nwb", r"got 'dandi://000140/a.nwb', wanted dandi://"),
        ("dandi://140/a.nwb", r"got 'dandi://140/a.nwb', wanted dandi://\[instance/\]ID.* with an ID of six digits"),
        ("dandi://000140@newest/a.nwb", "a version such as 0.220113.0408 or draft"),
        ("dandi://ember/000140/a.nwb", "got the archive 'ember', wanted one of .*; did you mean 'ember-dandi'?"),
        ("XNAT:000140/a.nwb", "got the archive 'XNAT', wanted one of dandi, "),
        ("https://dandiarchive.org/about?x=SECRET", "got https://dandiarchive.org/about, a page .* names no file"),
    ],
)
def test_other_texts_are_refused(uri, message):
    with pytest.raises(AddressError, match=message) as refused:
        locate(uri)
    assert "SECRET" not in str(refused.value)


def test_only_text_is_an_address():
    with pytest.raises(TypeError, match="uri: got int, wanted an address as text"):
        locate(3)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("dandi://000140/sub-1/a.nwb", ("dandi", "000140", "", "sub-1/a.nwb")),
        ("dandi://dandi/000140@0.220113.0408/sub-1/a+b.nwb", ("dandi", "000140", "0.220113.0408", "sub-1/a+b.nwb")),
        ("dandi://EMBER-dandi/000123@draft//sub-1/./a%20b.nwb", ("ember-dandi", "000123", "draft", "sub-1/a b.nwb")),
        ("dandi://linc/000001/sub-1/", ("linc", "000001", "", "sub-1/")),
        ("dandi://000140", ("dandi", "000140", "", "")),
        ("DANDI:000140/0.220113.0408/sub-1/a.nwb", ("dandi", "000140", "0.220113.0408", "sub-1/a.nwb")),
        ("DANDI:000140/sub-1/a.nwb", ("dandi", "000140", "", "sub-1/a.nwb")),
        ("dandi:000140/draft", ("dandi", "000140", "draft", "")),
        ("LINC:000140/draft/a.nwb", ("linc", "000140", "draft", "a.nwb")),
        (
            "https://dandiarchive.org/dandiset/000140/draft/files?location=a_b+c.nwb",
            ("dandi", "000140", "draft", "a_b+c.nwb"),
        ),
        ("https://identifiers.org/DANDI:000140/0.220113.0408", ("dandi", "000140", "0.220113.0408", "")),
        ("https://doi.org/10.48324/dandi.000140/0.220113.0408", ("dandi", "000140", "0.220113.0408", "")),
        ("https://dandiarchive.org/dandiset/000140", ("dandi", "000140", "", "")),
        (
            "https://gui.dandiarchive.org/#/dandiset/000140/0.220113.0408/files?location=sub-1%2Fa.nwb",
            ("dandi", "000140", "0.220113.0408", "sub-1/a.nwb"),
        ),
        (
            "https://dandiarchive.org/dandiset/000140/draft/files?page=2&location=sub-1%2F&x=1",
            ("dandi", "000140", "draft", "sub-1/"),
        ),
        ("https://dandi.emberarchive.org/dandiset/000123/draft/files", ("ember-dandi", "000123", "draft", "")),
        ("https://lincbrain.org/dandiset/000001/files?location=a.nwb", ("linc", "000001", "", "a.nwb")),
        ("https://api-dandi.emberarchive.org/api/dandisets/000123/", ("ember-dandi", "000123", "", "")),
        (
            f"{API}/dandisets/000140/versions/draft/assets/?path=sub-1/a.nwb",
            ("dandi", "000140", "draft", "sub-1/a.nwb"),
        ),
        (f"{API}/dandisets/000140/versions/draft/assets/{ASSET}/", ("dandi", "000140", "draft", "", ASSET)),
        (f"{API}/dandisets/000140/versions/draft/assets/{ASSET}/download/", ("dandi", "000140", "draft", "", ASSET)),
        (f"{API}/assets/{ASSET}/", ("dandi", "", "", "", ASSET)),
        (f"{API}/assets/{ASSET}/download/", ("dandi", "", "", "", ASSET)),
        ("http://lab.org:80/#/dandiset/000001/draft/files?location=a", ("http://lab.org:80", "000001", "draft", "a")),
        (f"http://lab.org/api/assets/{ASSET}/", ("http://lab.org/api", "", "", "", ASSET, True)),
        (
            f"http://lab.org/dandisets/000001/versions/0.1.2/assets/{ASSET}",
            ("http://lab.org", "000001", "0.1.2", "", ASSET, True),
        ),
        ("http://lab.org/api/dandisets/000001", ("http://lab.org/api", "000001", "", "", "", True)),
    ],
)
def test_addresses_in_archives(uri, expected):
    assert parse(uri) == ArchiveAddress(*expected)
    if not parse(uri).asset_id:  # messages name what can be given again
        assert parse(str(parse(uri))) == parse(uri)


@pytest.mark.parametrize(
    ("page", "inner"),
    [
        ("https://neurosift.app/nwb?url=https%3A%2F%2Flab.org%2Fa%2520b.nwb&x=1", "https://lab.org/a%20b.nwb"),
        (f"https://neurosift.app/?p=/nwb&url={API}/assets/{ASSET}/download/", f"{API}/assets/{ASSET}/download/"),
        (
            f"https://neurosift.app/?p=/nwb&url={API}/assets/{ASSET}/download/&dandisetId=000140&dandisetVersion=draft",
            f"{API}/dandisets/000140/versions/draft/assets/{ASSET}/",
        ),
        ("https://flatironinstitute.github.io/neurosift/?p=/nwb&url=s3://bucket/a.nwb", "s3://bucket/a.nwb"),
        ("https://lab.org/?url=https://other.org/a.nwb", "https://lab.org/?url=https://other.org/a.nwb"),
        ("https://neurosift.app/about", "https://neurosift.app/about"),
    ],
)
def test_pages_of_neurosift_are_unwrapped(page, inner):
    assert inner_address(page) == inner


def test_unwrapped_addresses_are_located():
    assert locate("https://neurosift.app/nwb?url=https://lab.org/a.nwb").url() == "https://lab.org/a.nwb"
    assert locate("https://neurosift.app/nwb?url=s3://bucket/a.nwb") == locate("s3://bucket/a.nwb")


def test_web_addresses_need_no_dandi_client():
    code = (
        "import sys, nwb_lrrnn.io.files.locate as locate, nwb_lrrnn.io.files.dandi.listing\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'dandi']\n"
        "locate.locate('https://lab.org/a.nwb')\n"
        "assert not {'dandi.dandiapi', 'requests', 'h5py', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
