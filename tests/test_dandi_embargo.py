"""Embargoed files: the key goes to the archive alone and only if it has to, signatures are renewed, nothing leaks."""

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor

import dandi.dandiapi  # noqa: F401 - takes a second, which belongs to no test
import keyring.backend
import keyring.errors
import pytest
import urllib3

import nwb_lrrnn.io.files.dandi.asset
from nwb_lrrnn.io.errors import AccessDeniedError, MissingRemoteFileError
from nwb_lrrnn.io.files.dandi import keys
from nwb_lrrnn.io.files.dandi.listing import list_assets
from nwb_lrrnn.io.files.locate import locate
from small_archive import STRANGER, TOKEN, SmallArchive

CONTENT = b"embargoed" * 1000


class Clock:
    """Stands for the module `time`: it goes only when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return 1.7e9 + self.now


class KeyringOfATest(keyring.backend.KeyringBackend):
    """Holds the key of the owner for one archive, and cannot be opened for the others."""

    priority = -1  # never chosen by itself

    def get_password(self, service, username):
        if (service, username) != ("dandi-api-ember-dandi", "key"):
            raise keyring.errors.KeyringLocked
        return TOKEN

    def set_password(self, service, username, password):
        raise AssertionError("nothing is to be saved")

    def delete_password(self, service, username):
        raise AssertionError("nothing is to be deleted")


pytestmark = pytest.mark.usefixtures("no_accounts")


@pytest.fixture
def archive():
    with SmallArchive() as archive, archive.known_as("dandi", "ember-dandi"):
        archive.add_dandiset("000007", is_embargoed=True)
        archive.add("000007", "sub-1/a.nwb", CONTENT)
        archive.add("000140", "sub-1/a.nwb", b"open")
        yield archive


@pytest.fixture
def owner(monkeypatch):
    monkeypatch.setenv("DANDI_API_KEY", TOKEN)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(nwb_lrrnn.io.files.dandi.asset, "time", clock)
    return clock


def fetch(url, **headers):
    with urllib3.PoolManager() as pool:
        response = pool.request("GET", url, headers=headers, redirect=False)
        return response.status, response.data


def test_owners_read_embargoed_files(archive, owner):
    location = locate("dandi://000007/sub-1/a.nwb")
    assert location.is_embargoed
    assert (location.uri, location.size) == ("dandi://dandi/000007@draft/sub-1/a.nwb", len(CONTENT))
    assert fetch(location.url(), Range="bytes=9-11") == (206, b"emb")
    # refused to a visitor, then with the key: dandiset, file, signature; at last the read
    assert [one.host for one in archive.requests] == ["api"] * 4 + ["s3"]
    assert [one.authorization for one in archive.requests] == ["", *[f"token {TOKEN}"] * 3, ""]
    assert fetch(location.content_url) == (403, b"<Error><Code>AccessDenied</Code></Error>")


def test_open_files_are_read_without_the_key(archive, owner):
    location = locate("dandi://000140/sub-1/a.nwb")
    assert fetch(location.url()) == (200, b"open")
    assert fetch(location.renew()) == (200, b"open")
    assert not location.is_embargoed
    assert not any(one.authorization for one in archive.requests)


def test_signatures_are_kept_for_half_of_their_lifetime(archive, owner, clock):
    location = locate("dandi://000007@draft/sub-1/a.nwb")
    first = location.url()
    n_requests = len(archive.requests)
    clock.now += 1799
    assert location.url() == first
    assert len(archive.requests) == n_requests
    clock.now += 2
    second = location.url()
    assert second != first
    assert fetch(second) == (200, CONTENT)


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("X-Amz-Expires=60&X-Amz-Signature=s", 60),
        ("Expires=1700001100&Signature=s", 100),
        ("Expires=1", 0),
        ("s=1", 600),
    ],
)
def test_lifetime_of_signatures(clock, query, seconds):
    assert nwb_lrrnn.io.files.dandi.asset._lifetime(f"https://bucket.org/key?{query}") == seconds


def test_expired_signatures_are_renewed_once_for_all_threads(archive, owner):
    archive.lifetime = -1  # for once: over before it begins
    location = locate("dandi://000007@draft/sub-1/a.nwb")
    refused = location.url()
    assert fetch(refused)[0] == 403
    archive.lifetime = 3600
    archive.requests.clear()
    with ThreadPoolExecutor(8) as pool:
        renewed = set(pool.map(location.renew, [refused] * 8))
    assert len(renewed) == len(archive.requests) == 1
    assert fetch(renewed.pop()) == (200, CONTENT)
    assert fetch(location.url()) == (200, CONTENT)
    assert location.renew() != location.renew()  # without saying what was refused, it is signed each time


def test_files_that_have_become_private_are_signed(archive):
    location = locate("dandi://000140/sub-1/a.nwb")
    archive.bucket.private.update(archive.bucket.objects)
    assert fetch(location.url())[0] == 403
    assert fetch(location.renew(location.url())) == (200, b"open")
    assert fetch(location.url()) == (200, b"open")


@pytest.mark.parametrize("read", [locate, list_assets])
def test_visitors_are_told_which_variable_holds_the_key(archive, monkeypatch, read):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    with pytest.raises(AccessDeniedError, match="to its owners only .* set the environment variable DANDI_API_KEY"):
        read("dandi://000007/sub-1/a.nwb")
    with pytest.raises(AccessDeniedError, match="environment variable EMBER_DANDI_API_KEY"):
        read("dandi://ember-dandi/000007/sub-1/a.nwb")


def test_a_host_that_is_named_like_an_archive_gets_no_key(owner, monkeypatch):
    for api in ("http://dandi/api", "https://api.dandiarchive.org.evil.org/api", "http://api.dandiarchive.org/api"):
        with pytest.raises(AccessDeniedError, match=f"the archive at {api} .* none whose key is known .* api_key="):
            keys.key_for(api, "dandi", "a.nwb")
    assert keys.key_for("https://API.dandiarchive.org/api/", "", "a.nwb") == (TOKEN, "DANDI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "of-others")
    with pytest.raises(AccessDeniedError, match="none whose key is known by name"):
        keys.key_for("https://openai/api", "openai", "a.nwb")


def test_an_unknown_archive_gets_the_key_that_was_named_for_it(owner, monkeypatch):
    with SmallArchive() as unknown:
        unknown.add_dandiset("000007", is_embargoed=True)
        unknown.add("000007", "sub-1/a.nwb", CONTENT)
        asset = f"{unknown.api_url}/dandisets/000007"
        with pytest.raises(AccessDeniedError, match="none whose key is known by name"):
            list_assets(asset)
        monkeypatch.setenv("NWB_LRRNN_API_KEY", TOKEN)
        with pytest.raises(AccessDeniedError, match=f"set NWB_LRRNN_API_KEY_FOR to {unknown.api_url}"):
            list_assets(asset)
        monkeypatch.setenv("NWB_LRRNN_API_KEY_FOR", unknown.api_url + "/")
        assert [found.path for found in list_assets(asset)] == ["sub-1/a.nwb"]


def test_a_key_may_be_given_and_stays_with_its_archive(monkeypatch):
    monkeypatch.setattr(keys, "_kept", {})
    with SmallArchive() as one, SmallArchive() as other:
        for archive in (one, other):
            archive.add_dandiset("000007", is_embargoed=True)
            archive.add("000007", "sub-1/a.nwb", CONTENT)
        (found,) = list_assets(f"{one.api_url}/dandisets/000007", api_key=TOKEN)
        assert locate(found.uri).url()  # without it, later
        with pytest.raises(AccessDeniedError, match="pass api_key="):
            list_assets(f"{other.api_url}/dandisets/000007")
        for nothing in ("", " ", 3):
            with pytest.raises(ValueError, match="api_key: got no text"):
                list_assets(f"{one.api_url}/dandisets/000007", api_key=nothing)


def test_no_key_goes_unencrypted_to_another_machine():
    with keys.given(TOKEN), pytest.raises(AccessDeniedError, match="would get the API key unencrypted"):
        keys.key_for("http://lab.org/api", "", "a.nwb")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("wrong-key-of-somebody", r"does not accept the API key \(status 401\); set DANDI_API_KEY to the key"),
        (STRANGER, r"refuses access \(status 403\); it is embargoed: ask an owner of the dandiset to add your account"),
        ("two words of a key", "DANDI_API_KEY: got a text with spaces or other characters that no API key has"),
        ("kéy-of-nobody", "DANDI_API_KEY: got a text with spaces or other characters"),
    ],
)
def test_keys_that_do_not_open(archive, monkeypatch, key, message):
    monkeypatch.setenv("DANDI_API_KEY", key)
    with pytest.raises(AccessDeniedError, match=message) as refused:
        locate("dandi://000007/sub-1/a.nwb")
    assert isinstance(refused.value, PermissionError)
    assert key not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None  # requests keeps the key in its exceptions


def test_keys_belong_to_one_instance(archive, owner, monkeypatch):
    with pytest.raises(AccessDeniedError, match="EMBER_DANDI_API_KEY"):
        locate("dandi://ember-dandi/000007/sub-1/a.nwb")
    monkeypatch.setenv("EMBER_DANDI_API_KEY", f" {TOKEN}\n")
    assert locate("dandi://ember-dandi/000007/sub-1/a.nwb").is_embargoed


def test_the_keyring_is_used_unless_it_asks(archive, monkeypatch):
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", f"{__name__}.KeyringOfATest")
    assert locate("dandi://ember-dandi/000007/sub-1/a.nwb").is_embargoed
    with pytest.raises(AccessDeniedError, match="no API key was found; set the environment variable DANDI_API_KEY"):
        locate("dandi://dandi/000007/sub-1/a.nwb")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyrings.alt.file.EncryptedKeyring")
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("the user was asked"))
    with pytest.raises(AccessDeniedError, match="no API key was found"):
        locate("dandi://ember-dandi/000007/sub-1/a.nwb")


def test_nothing_secret_is_shown_or_stored(archive, owner, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("dandi", "urllib3", "requests", "nwb_lrrnn"):
        caplog.set_level(logging.DEBUG, logger=name)
    location = locate("dandi://000007/sub-1/a.nwb")
    signed = location.url()
    location.renew()
    (asset,) = list_assets("dandi://000007")
    with pytest.raises(MissingRemoteFileError) as missing:
        locate("dandi://000007/sub-1/b.nwb")
    assert "signature" in signed.lower()
    assert caplog.records
    texts = [caplog.text, repr(location), str(missing.value), repr(asset), repr(vars(asset)), location.uri]
    texts += [pickle.dumps(one).decode("latin-1") for one in (location, asset, missing.value)]
    for text in texts:
        assert TOKEN not in text
        assert "X-Amz-" not in text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING and record.name == "dandi"]


def test_errors_of_others_stay_in_the_log(archive, caplog):
    with pytest.raises(AccessDeniedError):
        locate("dandi://000007/sub-1/a.nwb")
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    logging.getLogger("dandi").error("of somebody else")
    assert "of somebody else" in caplog.text


def test_pickled_locations_sign_by_themselves(archive, owner):
    location = locate("dandi://000007@draft/sub-1/a.nwb")
    location.url()
    travelled = pickle.loads(pickle.dumps(location))
    assert travelled == location
    assert fetch(travelled.url()) == (200, CONTENT)


def test_embargoed_zarr_stores_are_refused_in_one_sentence(archive, owner):
    archive.add_zarr("000007", "b.zarr", {".zgroup": b"{}"})
    with pytest.raises(AccessDeniedError, match="this Zarr store is not open to everybody"):
        locate("dandi://000007/b.zarr").url()
