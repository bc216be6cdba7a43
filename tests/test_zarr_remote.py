"""Zarr stores in a network: the same values, few requests side by side, and failures that are said or overcome."""

import json
import logging
import pickle

import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.io.errors import (
    AccessDeniedError,
    ChangedFileError,
    MissingRemoteFileError,
    NotNWBError,
    TruncatedFileError,
    UnreachableError,
    UnreadableZarrError,
)
from nwb_lrrnn.io.files.network import ranges
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.files.zarr import store as zarr_store
from nwb_lrrnn.io.reading.recording import open_nwb
from small_archive import SmallArchive
from small_server import RangeServer, schedule
from small_zarr import KNOWN, STORE, objects, unpack

LFP = "processing/ecephys/LFP/lfp/data"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("zarr"))


@pytest.fixture(autouse=True)
def _afresh(monkeypatch):
    """Begin without stores of other tests, and wait for nothing."""
    monkeypatch.setattr(zarr_store, "_stores", {})
    monkeypatch.setattr(ranges, "sleep", lambda _: None)


@pytest.fixture
def server(store):
    with RangeServer({f"lab/{STORE}/{key}": content for key, content in objects(store).items()}) as server:
        yield server


@pytest.fixture
def url(server):
    return server.url(f"lab/{STORE}")


def test_the_same_recording_as_in_the_folder(store, server, url):
    near, far = open_nwb(store), open_nwb(url)
    assert far.catalog == near.catalog
    assert repr(far).startswith(f"NWB recording {STORE} (NWB 2.")  # no size, which nobody tells
    a, b = near.to_datatree(), far.to_datatree()
    for here, there in zip(a.subtree, b.subtree, strict=True):
        assert here.path == there.path
        xr.testing.assert_equal(here.to_dataset(), there.to_dataset())


def test_requests_are_few_and_side_by_side(server, url):
    server.latency = 0.02
    recording = open_nwb(url)
    n_scalars = server.counts.requests - 1
    assert server.counts.log[0].path.endswith("/.zmetadata")
    assert 1 < n_scalars <= 12
    assert 1 < server.counts.at_once <= 8
    server.reset()
    open_nwb(url)
    assert server.counts.requests <= 1 + n_scalars
    server.reset()
    X = recording.series("lfp")
    server.reset()
    np.testing.assert_array_equal(X[:, 0], KNOWN["lfp"]()[:, 0] * np.float32(1e-6) + np.float32(0.25))
    # only the chunks of that channel
    assert sorted(request.path[-3:] for request in server.counts.log) == [f"{row}.0" for row in range(4)]
    assert 1 < server.counts.at_once <= 8


@pytest.mark.parametrize("name", ["zarr/0123-4567", f"lab/{STORE}/"])
def test_stores_by_other_names(store, name):
    files = {f"{name.rstrip('/')}/{key}": content for key, content in objects(store).items()}
    with RangeServer(files) as server:
        recording = open_nwb(server.url(name))
        assert recording.source.is_zarr
        assert recording.source.name == name.rstrip("/").rsplit("/", 1)[-1]
        assert len(recording.trials["trial"]) == 6


def test_an_odd_array_harms_no_other(server, url):
    key = f"lab/{STORE}/.zmetadata"
    metadata = json.loads(server.files[key])
    metadata["metadata"]["units/odd/.zarray"] = {"shape": "odd"}
    server.files[key] = json.dumps(metadata).encode()
    with resolve(url).open() as file:
        assert file["identifier"][()] == "zarr-1"
        assert file["units/id"][()].tolist() == [0, 1, 2, 3, 4]
        with pytest.raises(UnreadableZarrError, match="/units/odd: its metadata are not those of an array"):
            file["units/odd"]


def test_what_is_no_store_is_said_in_one_sentence(server, url):
    del server.files[f"lab/{STORE}/.zmetadata"]
    with pytest.raises(
        UnreadableZarrError, match=r"there is no \.zmetadata, wanted a Zarr store of format 2 with cons"
    ):
        open_nwb(url)
    with pytest.raises(MissingRemoteFileError, match=r"b\.nwb: the server has no such file"):
        open_nwb(server.url("lab/b.nwb"))
    server.files[f"lab/{STORE}/.zmetadata"] = b"<html>"
    with pytest.raises(TruncatedFileError, match=r"\.zmetadata: this is no valid JSON"):
        open_nwb(url)
    server.files[f"lab/{STORE}/.zmetadata"] = b'{"metadata": {}}'
    with pytest.raises(NotNWBError, match="this is a Zarr store but not NWB"):
        open_nwb(url)


def test_other_processes_find_the_store_by_its_name(url, monkeypatch):
    X = open_nwb(url).series("lfp")
    expected = X.values
    monkeypatch.setattr(zarr_store, "_stores", {})
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(X)), expected)


def test_another_version_is_refused(server, url, monkeypatch):
    X = open_nwb(url).series("lfp")
    key = f"lab/{STORE}/.zmetadata"
    metadata = json.loads(server.files[key])
    metadata["metadata"][".zattrs"]["more"] = 1
    server.replace(key, json.dumps(metadata).encode())
    assert open_nwb(url).version_tag != X.attrs["version_tag"]
    monkeypatch.setattr(zarr_store, "_stores", {})
    with pytest.raises(ChangedFileError, match=f"{STORE}: the Zarr store has another version now"):
        X.compute()


@pytest.mark.parametrize("fault", ["503", "429", "drop", "short", "shifted", "no range", "total"])
def test_faults_are_overcome(server, url, fault):
    recording = open_nwb(url)
    server.reset()
    server.faults = schedule(fault, None, fault)
    expected = KNOWN["lfp"]().astype(np.float32) * np.float32(1e-6) + np.float32(0.25)
    np.testing.assert_array_equal(recording.series("lfp"), expected)


def test_servers_without_ranges_will_do(server, url):
    server.faults = lambda request: "whole"
    np.testing.assert_array_equal(open_nwb(url).trials["go_cue"], KNOWN["go_cues"]())


def test_a_server_that_fails_for_long_is_said(server, url):
    recording = open_nwb(url)
    server.faults = lambda request: "503" if request.path.endswith("data/2.1") else None
    with pytest.raises(UnreachableError, match=f"{STORE}/{LFP}/2.1: .* could not be read in 6 tries"):
        recording.series("lfp").compute()


def test_chunks_that_are_lost(server, url):
    del server.files[f"lab/{STORE}/{LFP}/1.0"]
    X = open_nwb(url).series("lfp")
    with pytest.raises(TruncatedFileError, match="the chunk 1.0 is missing"):
        X[300:600, :2].compute()
    np.testing.assert_array_equal(X[600:, 2], KNOWN["lfp"]()[600:, 2] * np.float32(1e-6) + np.float32(0.25))


def test_signatures_go_to_every_object_and_to_nothing_else(server, caplog):
    server.signed = True
    caplog.set_level(logging.DEBUG)
    recording = open_nwb(server.sign(f"lab/{STORE}"))
    X = recording.series("lfp")
    assert np.isfinite(X).all()
    told = [caplog.text, repr(recording), repr(recording.source), str(X.attrs), str(pickle.dumps(X))]
    assert not any("SECRET" in text for text in told)
    server.expire()
    with pytest.raises(AccessDeniedError, match="the signature, token or password of the address") as refused:
        recording.series("dff").compute()
    assert "SECRET" not in str(refused.value)


def test_stores_of_dandi(store):
    with SmallArchive() as archive, archive.known_as("dandi"):
        archive.add_zarr("000003", f"sub-1/{STORE}", objects(store))
        recording = open_nwb(f"dandi://000003/sub-1/{STORE}")
        assert recording.source.is_zarr
        assert recording.source.size == sum(map(len, objects(store).values()))
        assert recording.version_tag.startswith("dandi-zarr-checksum:")
        assert repr(recording).startswith(f"NWB recording {STORE} (0.")
        np.testing.assert_array_equal(recording.trials["go_cue"], KNOWN["go_cues"]())
        source = resolve(recording.uri)
        assert source == recording.source


def test_a_store_that_was_moved_away_is_no_store_of_fill_values(server, url):
    lfp = open_nwb(url).series("lfp")
    server.files = {name: content for name, content in server.files.items() if not name.startswith("lab/")}
    with pytest.raises(ChangedFileError, match=f"{LFP} is gone since the store was opened; open it again"):
        lfp.values  # noqa: B018
