"""A module into a recording: what is never touched, what is refused, and what happens when two come at once."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import ChangedFileError, OldNWBError, RecordingInUseError, UnwritableRecordingError
from nwb_lrrnn.io.writing import append, module_into, writable
from nwb_lrrnn.io.writing.lock import lock_of, locked
from nwb_lrrnn.io.writing.module_into import write_module_into
from nwb_lrrnn.io.writing.processing_module import read_module
from nwb_lrrnn.io.writing.recording_file import write_recording
from nwb_lrrnn.io.writing.untouched import check_untouched
from small_module import INFO, make_latents, make_loadings, make_state
from small_nwb import new_nwb


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "session.nwb"
    return write_recording(path, np.random.default_rng(0).poisson(1.0, (4, 50, 6)), bin_size=0.02, random_state=0)


@pytest.fixture
def path(tmp_path, original):
    return Path(shutil.copy(original, tmp_path / "session.nwb"))


def only(path):
    """Return whether nothing lies beside a file."""
    return list(path.parent.iterdir()) == [path]


def test_everything_else_stays_as_it_was(path, original):
    path.chmod(0o640)
    assert write_module_into(path, latents=make_latents(), state=make_state(), info=INFO) == "lrrnn"
    check_untouched(original, path, "processing/lrrnn")
    with h5py.File(original) as old, h5py.File(path) as new:
        for name in ("units/spike_times", "intervals/trials/start_time"):
            np.testing.assert_array_equal(new[name], old[name])
        assert list(new) == sorted({*old, "processing"})
        assert new["file_create_date"].shape == old["file_create_date"].shape
    assert path.stat().st_mode & 0o777 == 0o640
    assert only(path)


def test_a_module_of_that_name(path):
    write_module_into(path, info=INFO)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="has a processing module 'lrrnn' already; pass if_exists='replace'"):
        write_module_into(path, info=INFO)
    assert path.read_bytes() == before
    assert write_module_into(path, info=[("model", "rank", 3)], if_exists="replace") == "lrrnn"
    assert read_module(path)["info"]["model"] == {"rank": 3}
    assert write_module_into(path, info=[("model", "rank", 4)], if_exists="new") == "lrrnn_2"
    assert write_module_into(path, info=[("model", "rank", 5)], if_exists="new") == "lrrnn_3"
    assert [read_module(path, name)["info"]["model"]["rank"] for name in ("lrrnn", "lrrnn_2", "lrrnn_3")] == [3, 4, 5]
    with pytest.raises(ValueError, match="holds 3 results: lrrnn, lrrnn_2, lrrnn_3; say which, module='lrrnn_3'"):
        read_module(path)


def test_replacing_again_and_again_does_not_let_the_file_grow(path):
    write_module_into(path, latents=make_latents(), state=make_state(), info=INFO)
    first = path.stat().st_size
    for _ in range(4):
        write_module_into(path, latents=make_latents(), state=make_state(), info=INFO, if_exists="replace")
    assert path.stat().st_size < 1.5 * first  # not five modules


def test_a_module_of_somebody_else_is_never_replaced(path):
    with h5py.File(path, "a") as file:
        file.create_group("processing/behavior")
    with pytest.raises(FileExistsError, match="nwb_lrrnn did not write that one"):
        write_module_into(path, info=INFO, module="behavior", if_exists="replace")
    with pytest.raises(ValueError, match="if_exists: got 'append', wanted one of error, replace, new"):
        write_module_into(path, info=INFO, if_exists="append")
    for name in ("../units", "", "a/b", ".."):
        with pytest.raises(ValueError, match="module: got .* wanted a name without /"):
            write_module_into(path, info=INFO, module=name)


def test_modules_that_lie_in_another_file_are_left_alone(tmp_path, path):
    other = tmp_path / "other" / "other.nwb"
    other.parent.mkdir()
    with h5py.File(other, "w") as file:
        file.create_group("processing")
    before = other.read_bytes()
    with h5py.File(path, "a") as file:
        del file["processing"]
        file["processing"] = h5py.ExternalLink(str(other), "processing")
    with pytest.raises(UnwritableRecordingError, match="its processing modules lie in another place"):
        write_module_into(path, info=INFO)
    assert other.read_bytes() == before


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path, path):
    link = tmp_path / "links" / "a.nwb"
    link.parent.mkdir()
    link.symlink_to(path)
    write_module_into(link, info=INFO)
    assert link.is_symlink()
    assert read_module(path)["info"]["model"]["rank"] == 2


def test_files_of_git_annex_are_refused(tmp_path, path):
    store = tmp_path / ".git" / "annex" / "objects" / "key.nwb"
    store.parent.mkdir(parents=True)
    path.rename(store)
    path.symlink_to(store)
    with pytest.raises(UnwritableRecordingError, match=r"git-annex or DataLad.*`datalad unlock`.*stand-alone file"):
        write_module_into(path, info=INFO)


def test_read_only_files_and_directories_are_refused(path, monkeypatch):
    path.chmod(0o444)
    with pytest.raises(UnwritableRecordingError, match="it is read-only; write a stand-alone file"):
        write_module_into(path, info=INFO)
    path.chmod(0o644)
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != path.parent)
    with pytest.raises(UnwritableRecordingError, match="its directory .* is read-only"):
        write_module_into(path, info=INFO)


def test_a_nearly_full_disk_is_refused(path, monkeypatch):
    monkeypatch.setattr(append, "_clone", lambda target, copy: False)
    monkeypatch.setattr(writable.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UnwritableRecordingError, match=r"its disk has 1e-09 GB free, and a copy of it needs"):
        write_module_into(path, info=INFO)
    assert only(path)


def test_what_is_no_local_nwb_file_is_refused(tmp_path, path):
    with pytest.raises(UnwritableRecordingError, match="https://host/a.nwb is not written into") as refusal:
        write_module_into("https://me:pw@host/a.nwb?token=secret", info=INFO)
    assert "secret" not in str(refusal.value)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        write_module_into(tmp_path / "none.nwb", info=INFO)
    with new_nwb(tmp_path / "old.nwb", version="1.0.6"):
        pass
    with pytest.raises(OldNWBError, match="this is NWB 1"):
        write_module_into(tmp_path / "old.nwb", info=INFO)
    with new_nwb(tmp_path / "two.nwb", version="2.1.0") as file:
        file.create_group("specifications/core/2.1.0")
    with pytest.raises(UnwritableRecordingError, match=r"it follows NWB 2\.1\.0"):
        write_module_into(tmp_path / "two.nwb", info=INFO)
    with h5py.File(path, "a"), pytest.raises(UnwritableRecordingError, match="has it open for writing; close it"):
        write_module_into(path, info=INFO)


def test_a_reader_that_is_open_does_not_matter(path):
    with h5py.File(path) as file:
        write_module_into(path, info=INFO)
        assert "lrrnn" not in file["processing"]  # it holds the old file
    assert read_module(path)["info"]["model"]["rank"] == 2


def test_another_program_that_writes_is_noticed(path):
    program = "import h5py, sys; file = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(UnwritableRecordingError, match="another program has it open for writing"):
            write_module_into(path, info=INFO)
        writer.communicate("")


def test_two_writers_at_once(path):
    before = path.read_bytes()
    with locked(path), pytest.raises(RecordingInUseError, match=f"process {os.getpid()} on .* writes into it since"):
        write_module_into(path, info=INFO)
    assert path.read_bytes() == before
    assert only(path)
    lock_of(path).write_text("another-host\n1\nyesterday\n")
    with pytest.raises(RecordingInUseError, match="on another-host writes into it since yesterday.*or delete"):
        write_module_into(path, info=INFO)
    lock_of(path).write_text("")
    with pytest.raises(RecordingInUseError, match="exists, so another process writes"):
        write_module_into(path, info=INFO)


def test_a_killed_writer_leaves_nothing_for_long(path, caplog):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock_of(path).write_text(f"{socket.gethostname()}\n{ended.pid}\nyesterday\n")
    left = [".session.01234567.into.tmp.nwb", "session.nwb.lrrnn.lock.89abcdef"]
    others = [".session.nwb", ".other.01234567.into.tmp.nwb", "session.nwb.lrrnn.lock.txt"]
    for name in left + others:
        (path.parent / name).touch()
    write_module_into(path, info=INFO)
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, *others}
    assert "removed the lock of a process that was ended" in caplog.text


def test_a_recording_that_changes_meanwhile_wins(path, monkeypatch):
    honest = append.check_untouched

    def while_another_writes(*arguments):
        honest(*arguments)
        with h5py.File(path, "a") as file:
            file["units"].attrs["note"] = "new"

    monkeypatch.setattr(append, "check_untouched", while_another_writes)
    with pytest.raises(ChangedFileError, match="another program changed the recording"):
        write_module_into(path, info=INFO)
    with h5py.File(path) as file:
        assert file["units"].attrs["note"] == "new"
        assert "lrrnn" not in file["processing"]
    assert only(path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda file: file["units/spike_times"].write_direct(np.array([-1.0]), dest_sel=np.s_[3:4]), "/units/spike_t"),
        (lambda file: file["units"].attrs.update(description="other"), "/units of the copy differs"),
        (lambda file: file["units"].move("id", "ids"), "/units/id of the copy differs"),
        (lambda file: file["intervals/trials/start_time"].attrs.update(unit="h"), "/intervals/trials/start_time of"),
        (lambda file: file["session_description"].write_direct(np.array("x", dtype=object)), "/session_description of"),
        (lambda file: file.create_group("units/more"), "/units/more of the copy differs"),
    ],
)
def test_any_other_change_of_the_copy_is_noticed(path, monkeypatch, damage, told):
    honest = append._insert

    def and_more(copy, *arguments):
        honest(copy, *arguments)
        with h5py.File(copy, "r+") as file:
            damage(file)

    monkeypatch.setattr(append, "_insert", and_more)
    before = path.read_bytes()
    with pytest.raises(OSError, match=f"{told}.*nothing was stored"):
        write_module_into(path, info=INFO)
    assert path.read_bytes() == before
    assert only(path)


def test_a_module_that_reads_back_otherwise_is_not_stored(path, monkeypatch):
    before = path.read_bytes()
    honest = append.graft

    def forgetful(origin, parent, name, elsewhere):
        honest(origin, parent, name, elsewhere)
        del parent[name]["fit_info"].attrs["description"]

    monkeypatch.setattr(append, "graft", forgetful)
    with pytest.raises(OSError, match="processing/lrrnn/fit_info read back differs"):
        write_module_into(path, loadings=make_loadings(), info=INFO)
    monkeypatch.setattr(append, "graft", honest)
    monkeypatch.setattr(module_into, "read_module", lambda copy, name: {**read_module(copy, name), "info": {}})
    with pytest.raises(OSError, match="info read back differs"):
        write_module_into(path, info=INFO)
    assert path.read_bytes() == before
    assert only(path)


def test_odd_things_in_a_file_are_kept_and_compared(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        group = file.create_group("acquisition")
        group["chunked"] = np.arange(10.0)
        group.create_dataset("compressed", data=np.arange(1000).reshape(100, 10), chunks=(7, 3), compression="gzip")
        group.create_dataset("text", data=["a", "bé", ""], dtype=h5py.string_dtype())
        group.create_dataset("ragged", (2,), dtype=h5py.vlen_dtype(np.int32))
        group.create_dataset("references", data=np.array([group.ref], dtype=h5py.ref_dtype))
        group["nothing"] = h5py.Empty("f")
        group["itself"] = group
        group["gone"] = h5py.SoftLink("/nowhere")
        group["abroad"] = h5py.ExternalLink("none.nwb", "/units")
        group["kind"] = np.dtype("f8")
        group.attrs["to"] = group["text"].ref
        layout = h5py.VirtualLayout((10,), dtype=float)
        layout[:] = h5py.VirtualSource(group["chunked"])
        group.create_virtual_dataset("virtual", layout)
    shutil.copy(tmp_path / "a.nwb", tmp_path / "b.nwb")
    assert write_module_into(tmp_path / "b.nwb", info=INFO) == "lrrnn"
    check_untouched(tmp_path / "a.nwb", tmp_path / "b.nwb", "processing/lrrnn")
