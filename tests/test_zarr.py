"""A recording that hdmf-zarr wrote reads like one in HDF5, and one clear sentence for every store that is none."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.binning import count_spikes
from nwb_lrrnn.io.errors import (
    ChangedFileError,
    NotHDF5Error,
    NotNWBError,
    OldNWBError,
    TruncatedFileError,
    UnreadableZarrError,
)
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.reading.recording import open_nwb
from small_zarr import KNOWN, STORE, array, nwb, unpack, write


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("zarr"))


@pytest.fixture
def store(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / STORE)


@pytest.fixture(scope="module")
def recording(packed):
    return open_nwb(packed)


def test_prints_what_is_in_it(recording):
    text = repr(recording)
    assert text.startswith(f"NWB recording {STORE} (")
    assert "2024-01-02T03:04:05+00:00 rat-7 Rattus norvegicus" in text
    assert {content.name: content.kind for content in recording.contents} == {
        "units": "units", "dff": "roi", "lfp": "channel", "position": "behaviour", "trials": "intervals",
    }  # fmt: skip
    assert recording.session["experimenter"] == ["Doe, Jane", "Roe, Richard"]
    assert recording.session["identifier"] == "zarr-1"
    assert recording.problems == ["/units: 1 of 5 units have no spikes: 4"]


def test_trials(recording):
    cues = KNOWN["go_cues"]()
    expected = xr.Dataset(
        {
            "start_time": ("trial", cues - 0.5),
            "stop_time": ("trial", cues + 1.5),
            "go_cue": ("trial", cues),
            "correct": ("trial", np.arange(len(cues)) % 2 == 1),
        },
        coords={"trial": np.arange(len(cues))},
    )
    xr.testing.assert_equal(recording.trials, expected)


def test_spikes_with_the_columns_of_units_and_electrodes(recording):
    X = recording.spikes(0.1, align="go_cue", window=(-0.2, 1.0))
    np.testing.assert_array_equal(X, count_spikes(KNOWN["spikes"](), 0.1, KNOWN["go_cues"]() - 0.2, 12))
    assert X["quality"].values.tolist() == ["good", "mua", "good", "mua", "good"]
    assert X["electrode_group"].values.tolist() == ["shank"] * 5  # references, which hdmf-zarr pickles
    assert X["location"].values.tolist() == ["CA1", "CA3", "CA1", "CA3", "CA1"]
    assert X["label"].values.tolist() == ["é0", "é1", "é2", "é3", "é0"]


def test_a_series_of_several_chunks(recording):
    X = recording.series("lfp")
    expected = KNOWN["lfp"]().astype(np.float32) * np.float32(1e-6) + np.float32(0.25)
    np.testing.assert_array_equal(X, expected)
    assert X["label"].values.tolist() == ["é0", "é2", "é3"]
    np.testing.assert_allclose(X["time"], 0.5 + np.arange(1000) / 50.0, rtol=1e-12)
    np.testing.assert_array_equal(X[290:610:7, 1:], expected[290:610:7, 1:])
    assert X.data.chunksize[0] % 300 == 0 or X.data.numblocks[0] == 1


def test_regions_and_links(recording):
    times, values = KNOWN["fluorescence"]()
    X = recording.series("dff")
    np.testing.assert_array_equal(X, values)
    np.testing.assert_array_equal(X["time"], times)
    assert X["unit"].values.tolist() == [0, 2]  # rows of the table that a reference names
    assert X["plane_location"].values.tolist() == ["V1", "V1"]  # the table's plane is a link
    tree = recording.to_datatree()
    position = tree["processing/behavior/Position/position"].to_dataset()
    np.testing.assert_array_equal(position["position"], KNOWN["position"]())
    np.testing.assert_array_equal(position["time"], times)  # a link to those of the fluorescence


def test_the_tree_holds_the_spike_times_as_stored(recording):
    units = recording.to_datatree()["units"]
    spikes = KNOWN["spikes"]()
    np.testing.assert_array_equal(units["spike_times"], np.concatenate(spikes))
    np.testing.assert_array_equal(units["spike_index"], np.cumsum([len(times) for times in spikes]))


def test_metadata_need_not_be_consolidated(recording, store):
    (store / ".zmetadata").unlink()
    assert open_nwb(store).catalog == recording.catalog


def test_sources_and_arrays_travel(store):
    source = resolve(store)
    assert source.is_zarr
    assert source.size == sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert pickle.loads(pickle.dumps(source)) == source == resolve(f"{store}/")
    X = open_nwb(store).series("lfp")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(X)), X)


def test_version_tag_and_names_of_arrays_change_with_any_chunk(store):
    before, X = resolve(store), open_nwb(store).series("lfp")
    chunk = store / "processing/ecephys/LFP/lfp/data/0.0"
    chunk.write_bytes(chunk.read_bytes())
    assert resolve(store).version_tag != before.version_tag
    assert open_nwb(store).series("lfp").data.name != X.data.name


def test_a_store_that_changed_or_went_is_not_read(store):
    X = open_nwb(store).series("lfp")
    metadata = json.loads((store / ".zmetadata").read_text())
    metadata["metadata"]["processing/ecephys/LFP/lfp/data/.zarray"]["shape"] = [900, 3]
    (store / ".zmetadata").write_text(json.dumps(metadata))
    with pytest.raises(ChangedFileError, match="lfp/data has another shape than when the file was opened"):
        X.compute()
    shutil.rmtree(store)
    with pytest.raises(FileNotFoundError, match=f"{STORE}: there is no such Zarr store any more"):
        X.compute()


def test_chunks_that_are_lost_are_said_and_never_zeros(store):
    (store / "processing/ecephys/LFP/lfp/data/1.0").unlink()
    recording = open_nwb(store)
    assert any("lfp/data: 1 chunks of the store are missing (1.0)" in problem for problem in recording.problems)
    X = recording.series("lfp")
    with pytest.raises(
        TruncatedFileError, match=r"lfp/data: the chunk 1\.0 is missing, and hdmf-zarr writes every chunk"
    ):
        X.compute()
    with resolve(store).open() as file:
        data = file["processing/ecephys/LFP/lfp/data"]
        np.testing.assert_array_equal(data[600:], KNOWN["lfp"]()[600:])


@pytest.mark.parametrize(
    "column", ["units/spike_times/0", "units/spike_times_index/0", "intervals/trials/start_time/0"]
)
def test_columns_that_are_lost_are_said(store, column):
    (store / column).unlink()
    recording = open_nwb(store)
    name = column.rsplit("/", 1)[0]
    assert any(f"/{name}: the chunk 0 is missing" in problem for problem in recording.problems)
    with pytest.raises(TruncatedFileError, match=f"{name}: the chunk 0 is missing"):
        recording.spikes(0.1, intervals="trials")


def test_chunks_of_other_writers_that_were_never_written_hold_the_fill_value(store):
    folder = store / "processing/ecephys/LFP/lfp/data"
    (folder / "1.0").unlink()
    (store / ".zmetadata").unlink()
    attributes = json.loads((folder / ".zattrs").read_text())
    del attributes["zarr_dtype"]
    (folder / ".zattrs").write_text(json.dumps(attributes))
    expected = KNOWN["lfp"]()
    expected[300:600, :2] = 0
    with resolve(store).open() as file:
        np.testing.assert_array_equal(file["processing/ecephys/LFP/lfp/data"][()], expected)


def test_chunks_whose_content_was_not_fetched_are_not_taken_for_empty(store):
    chunk = store / "processing/ecephys/LFP/lfp/data/1.0"
    chunk.unlink()
    chunk.symlink_to(store / ".git/annex/objects/0123")
    X = open_nwb(store).series("lfp")
    with pytest.raises(
        FileNotFoundError, match=r"data/1\.0: .* it is a link to .*0123, which is missing; fetch its con"
    ):
        X.compute()
    (store / ".zmetadata").unlink()
    (store / ".zmetadata").symlink_to(store / ".git/annex/objects/4567")
    with pytest.raises(FileNotFoundError, match=r"\.zmetadata: there is no such file: it is a link to .*datalad get"):
        open_nwb(store)


def test_an_array_that_went_is_not_taken_for_empty(store):
    X = open_nwb(store).series("lfp")
    shutil.rmtree(store / "processing/ecephys/LFP/lfp/data")
    with pytest.raises(ChangedFileError, match="/processing/ecephys/LFP/lfp/data is gone since the store was opened"):
        X.compute()


def test_a_damaged_chunk_is_named(store):
    chunk = store / "processing/ecephys/LFP/lfp/data/1.0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    X = open_nwb(store).series("lfp")
    with pytest.raises(TruncatedFileError, match=rf"{STORE}: /processing/ecephys/LFP/lfp/data: the chunk 1.0 is dam"):
        X.compute()


def test_links_out_of_the_store_and_in_circles(tmp_path):
    series = {"neurodata_type": "TimeSeries"}
    links = [{"name": "timestamps", "path": "/times", "source": "../other.nwb.zarr"}]
    circle = [{"name": name, "path": f"/a/{other}", "source": "."} for name, other in ("xy", "yx")]
    files = nwb(
        {
            "acquisition/.zgroup": {"zarr_format": 2},
            "acquisition/one/.zgroup": {"zarr_format": 2},
            "acquisition/one/.zattrs": {**series, "zarr_link": links},
            "acquisition/one/data/.zarray": array((4,), (4,), "<f8"),
            "a/.zgroup": {"zarr_format": 2},
            "a/.zattrs": {"zarr_link": circle},
        }
    )
    recording = open_nwb(write(tmp_path / "odd.zarr", files))
    assert [content.reason for content in recording.contents] == [
        "/acquisition/one: `timestamps` lies in another file, ../other.nwb.zarr, which is missing"
    ]
    with recording.source.open() as file:
        assert file.get("a/x") is None
        assert "x" in file["a"].keys()
        with pytest.raises(KeyError, match="there is no '.' in /a but a link"):
            file["a/x"]


def test_references_by_the_name_of_an_older_place_of_the_store(tmp_path):
    def meant(**more):
        return {"zarr_dtype": "object", "value": {"path": "/units", **more}}

    attributes = {
        "moved": meant(source="/home/someone/old.nwb.zarr", source_object_id="own"),
        "other": meant(source="/home/someone/old.nwb.zarr", source_object_id="another"),
        "older": {"_DTYPE": "object", "value": {"path": "/units"}},
        "nothing": {"zarr_dtype": "object", "value": {"path": "/none", "source": "."}},
    }
    folder = write(tmp_path / "moved.zarr", nwb({"units/.zgroup": {"zarr_format": 2}}, **attributes))
    with resolve(folder).open() as file:
        assert {name: bool(file.attrs[name]) for name in attributes} == {
            "moved": True, "other": False, "older": True, "nothing": False,
        }  # fmt: skip
        assert file[file.attrs["moved"]].name == "/units"
        with pytest.raises(KeyError, match="leads to nothing"):
            file[file.attrs["other"]]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        (
            {"a.txt": b"x"},
            NotHDF5Error,
            "this is a folder, wanted one NWB file in HDF5 format, or the folder of a Zarr",
        ),
        (
            {"zarr.json": {"zarr_format": 3}},
            UnreadableZarrError,
            "of format 3, wanted format 2, which hdmf-zarr writes",
        ),
        (
            {".zgroup": {"zarr_format": 2}},
            NotNWBError,
            "this is a Zarr store but not NWB .no `nwb_version`; it holds no",
        ),
        (nwb(nwb_version="NWB-1.0.6"), OldNWBError, "this is NWB NWB-1.0.6"),
        ({".zmetadata": b'{"metadata'}, TruncatedFileError, r"\.zmetadata: this is no valid JSON"),
        ({".zmetadata": b"[]"}, TruncatedFileError, "the metadata are damaged, wanted those of Zarr format 2"),
        ({".zmetadata": {"metadata": {".zgroup": 3}}}, TruncatedFileError, "the metadata are damaged"),
        ({".zmetadata": {"metadata": {"a/../../b/.zarray": {}}}}, TruncatedFileError, "which is outside of the store"),
        (nwb({"identifier/.zarray": {}}), UnreadableZarrError, "/identifier: its metadata are not those of an array"),
    ],
)
def test_one_sentence_for_what_is_no_recording(tmp_path, files, error, message):
    with pytest.raises(error, match=message):
        open_nwb(write(tmp_path / "odd.zarr", files))


def test_packed_stores_are_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(".zgroup", "{}")
    with pytest.raises(NotHDF5Error, match="this is a zip archive, wanted NWB in HDF5 format; unpack it"):
        open_nwb(tmp_path / "a.zip")
