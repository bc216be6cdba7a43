"""URIs, the version tag, and one clear sentence for every file that is not NWB 2."""

import os
import pickle

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import ChangedFileError, NotHDF5Error, NotNWBError, OldNWBError, TruncatedFileError
from nwb_lrrnn.io.files.hdf5 import plain
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_units, new_nwb


@pytest.fixture
def nwb(tmp_path):
    path = tmp_path / "session.nwb"
    with new_nwb(path) as file:
        add_units(file, [[0.1, 0.2], [0.3]])
    return path


def test_resolve_gives_absolute_path_size_and_tag(nwb, monkeypatch):
    monkeypatch.chdir(nwb.parent)
    source = resolve("session.nwb")
    assert source.uri == nwb.as_posix()
    assert source.size == nwb.stat().st_size
    assert source == resolve(nwb) == resolve(f"file://{nwb}") == pickle.loads(pickle.dumps(source))


def test_version_tag_changes_with_the_file(nwb):
    before = resolve(nwb).version_tag
    os.utime(nwb, ns=(1, 1))
    assert resolve(nwb).version_tag != before


def test_fetch_gives_bytes_of_this_version_only(nwb):
    source = resolve(nwb)
    content = nwb.read_bytes()
    assert bytes(source.fetch(3, 100)) == content[3:103]
    with pytest.raises(TruncatedFileError, match=rf"ends at byte {len(content)}, wanted 100 bytes from byte"):
        source.fetch(len(content) - 10, 100)
    os.utime(nwb, ns=(1, 1))
    with pytest.raises(ChangedFileError, match="written anew while it was read"):
        source.fetch(3, 100)
    assert bytes(source.current().fetch(3, 100)) == content[3:103]


def test_wrong_kind_of_argument():
    with pytest.raises(TypeError, match="uri: got int, wanted the path or address of an NWB file"):
        open_nwb(3)


def test_missing_file_names_the_closest(nwb):
    with pytest.raises(FileNotFoundError, match=r"sesion.nwb: there is no such file; did you mean .*session\.nwb\?"):
        open_nwb(nwb.parent / "sesion.nwb")
    with pytest.raises(FileNotFoundError, match="and no folder .*nowhere either"):
        open_nwb(nwb.parent / "nowhere" / "a.nwb")


def test_broken_link_is_named(tmp_path):
    (tmp_path / "a.nwb").symlink_to(tmp_path / "annex-object")
    with pytest.raises(FileNotFoundError, match="it is a link to .*annex-object, which is missing"):
        open_nwb(tmp_path / "a.nwb")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"trial,time\n1,2\n", "this is a text file that begins with 'trial,time', wanted NWB in HDF5 format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "this is a git-lfs pointer.*git lfs pull"),
        (b"/annex/objects/SHA256E-s1\n", "this is a git-annex pointer.*datalad get"),
        (b"\x00\x01\x02" * 100, "this is neither text nor HDF5"),
        (b"", "the file is empty"),
    ],
)
def test_not_hdf5(tmp_path, content, text):
    path = tmp_path / "notes.nwb"
    path.write_bytes(content)
    with pytest.raises(NotHDF5Error, match=text):
        open_nwb(path)


def test_folder(tmp_path):
    with pytest.raises(NotHDF5Error, match="this is a folder, wanted one NWB file"):
        open_nwb(tmp_path)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_truncated_file(nwb, fraction):
    content = nwb.read_bytes()
    nwb.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(
        TruncatedFileError, match=r"session\.nwb: the HDF5 file is truncated or damaged.*copy or download"
    ):
        open_nwb(nwb)


def test_damaged_data_are_named_when_they_are_read(tmp_path):
    path = tmp_path / "damaged.nwb"
    with new_nwb(path) as file:
        add_units(file, [[0.1]])
        del file["units/spike_times"]
        data = np.arange(4096.0)
        file["units"].create_dataset("spike_times", data=data, compression="gzip", chunks=(4096,))
        file["units/spike_times_index"][0] = 4096
        offset = file["units/spike_times"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(TruncatedFileError, match="damaged"):
        open_nwb(path).spikes(0.1)


def test_hdf5_without_nwb(tmp_path):
    with h5py.File(tmp_path / "results.h5", "w") as file:
        file["rates"] = [1.0]
    with pytest.raises(NotNWBError, match="this is an HDF5 file but not NWB .*it holds rates"):
        open_nwb(tmp_path / "results.h5")


@pytest.mark.parametrize("version", ["1.2.0", b"NWB-1.0.6"])
def test_nwb_1_stores_its_version_as_a_dataset(tmp_path, version):
    with h5py.File(tmp_path / "old.nwb", "w") as file:
        file["nwb_version"] = version
    with pytest.raises(OldNWBError, match=r"this is NWB (NWB-)?1\..*wanted NWB 2"):
        open_nwb(tmp_path / "old.nwb")


def test_file_locked_by_another_program_is_read(nwb):
    fcntl = pytest.importorskip("fcntl")
    with nwb.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert open_nwb(nwb).catalog.tables[0].n_spikes == 3


def test_three_typed_errors_are_distinct():
    assert issubclass(OldNWBError, NotNWBError)
    kinds = (NotHDF5Error, TruncatedFileError, NotNWBError)
    assert not any(issubclass(a, b) for a in kinds for b in kinds if a is not b)
    assert all(issubclass(kind, ValueError) for kind in kinds)


def test_file_written_anew_with_other_data_is_refused(nwb):
    recording = open_nwb(nwb)
    with new_nwb(nwb) as file:
        add_units(file, [[0.1, 0.2, 0.3], [0.4, 0.5]])
    with pytest.raises(ChangedFileError, match="has another shape than when the file was opened.*open it again"):
        recording.spikes(0.1)


def test_deleted_file_still_prints(nwb):
    recording = open_nwb(nwb)
    nwb.unlink()
    assert "2 units" in repr(recording)
    with pytest.raises(FileNotFoundError, match="there is no such file any more"):
        recording.spikes(0.1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(np.array([b"NWBFile"]), "NWBFile"), (np.bytes_(b"a"), "a"), (np.float64(2.0), 2.0), (None, None), ("x", "x")],
)
def test_plain(value, expected):
    assert plain(value) == expected


@pytest.mark.parametrize("uri", ["", " "])
def test_no_name_at_all_is_not_the_current_folder(uri):
    with pytest.raises(FileNotFoundError, match="uri: got an empty text, wanted the path or address"):
        resolve(uri)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.nwb")
    for path in (tmp_path / "pipe.nwb", "/dev/zero"):
        with pytest.raises(NotHDF5Error, match="a pipe, socket or device, wanted a regular file"):
            resolve(path)
