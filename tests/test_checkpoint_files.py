"""The file of a checkpoint: where it may lie, what damages it, what it holds, and how often it is written."""

import json
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from nwb_lrrnn.models.training import checkpoints
from nwb_lrrnn.models.training.checkpoints import Checkpoint, fingerprint
from nwb_lrrnn.trials import blocks
from small_checkpoints import low_rank, make_waves

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs


@pytest.fixture(scope="module")
def waves():
    return make_waves()


def test_paths_that_cannot_be_a_checkpoint_are_refused(waves, tmp_path):
    for wrong in (tmp_path / "fit.h5", "fit", 5):
        with pytest.raises(ValueError, match=r"checkpoint: got .*, wanted None or a path that ends in \.npz"):
            low_rank(checkpoint=wrong).fit(waves)
    with pytest.raises(FileNotFoundError, match=r"the directory '.*nowhere' does not exist; make it first"):
        low_rank(checkpoint=tmp_path / "nowhere" / "fit.npz").fit(waves)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FileExistsError, match=r"folder\.npz', which is a directory"):
        low_rank(checkpoint=tmp_path / "folder.npz").fit(waves)


def test_a_file_of_another_kind_is_never_overwritten(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, x=np.arange(3))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"mine\.npz' exists and is not a checkpoint of nwb_lrrnn; give another"):
        Checkpoint(path)
    assert path.read_bytes() == before


def filled(path):
    """Return the bytes of a small checkpoint."""
    with Checkpoint(path, {"parameters": {"rank": 1}, "data": {}}) as log:
        log.step("a", lambda: "key").store(lambda: {"x": np.arange(1000.0)})
    return path.read_bytes()


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text"])
def test_a_damaged_file_is_told_in_one_sentence(tmp_path, damage):
    path = tmp_path / "fit.npz"
    whole = filled(path)
    middle = len(whole) // 2
    spoilt = {
        "empty": b"",
        "truncated": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "text": b"notes of mine",
    }[damage]
    path.write_bytes(spoilt)
    with pytest.raises(ValueError, match="cannot be read: it is truncated, damaged or of another kind; give another"):
        Checkpoint(path)
    assert path.read_bytes() == spoilt


def change_header(path, **changes):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays["nwb_lrrnn_checkpoint"])) | changes
    arrays["nwb_lrrnn_checkpoint"] = np.array(json.dumps(header))
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "changes",
    [
        {"entropy": -1},
        {"entropy": "x"},
        {"steps": [1]},
        {"identity": {"parameters": 3}},
        {"arrays": None},
        {"digests": {"a/x": "another"}},
        {"digests": {"gone": ""}},
        {"digests": 3},
    ],
)
def test_a_file_that_was_changed_is_told_in_one_sentence(tmp_path, changes):
    filled(tmp_path / "fit.npz")
    change_header(tmp_path / "fit.npz", **changes)
    with pytest.raises(ValueError, match="cannot be read: it is truncated, damaged or of another kind; give another"):
        Checkpoint(tmp_path / "fit.npz")


def test_arrays_are_those_that_were_written(tmp_path):
    path = tmp_path / "fit.npz"
    filled(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["a/x"][3] = np.inf
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="cannot be read"):
        Checkpoint(path, {"parameters": {"rank": 1}, "data": {}})
    with np.load(path) as file:  # as files of before, which note no digests
        header = json.loads(str(file["nwb_lrrnn_checkpoint"]))
    del header["digests"]
    np.savez(path, **(arrays | {"nwb_lrrnn_checkpoint": np.array(json.dumps(header))}))
    Checkpoint(path, {"parameters": {"rank": 1}, "data": {}})


def test_another_layout_is_refused(tmp_path, monkeypatch):
    filled(tmp_path / "fit.npz")
    monkeypatch.setattr(checkpoints, "LAYOUT", 2)
    with pytest.raises(ValueError, match="the layout of the file is 1, wanted 2"):
        Checkpoint(tmp_path / "fit.npz")


def test_no_pickle_is_stored_and_none_is_loaded(tmp_path):
    path = tmp_path / "fit.npz"
    filled(path)
    with np.load(path, allow_pickle=False) as file:
        assert all(not file[name].dtype.hasobject for name in file.files)
        assert json.loads(str(file["nwb_lrrnn_checkpoint"]))["layout"] == 1
    np.savez(path, nwb_lrrnn_checkpoint=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="cannot be read"):
        Checkpoint(path)


def test_a_step_made_from_something_else_is_not_used(tmp_path):
    filled(tmp_path / "fit.npz")
    log = Checkpoint(tmp_path / "fit.npz", {"parameters": {"rank": 1}, "data": {}})
    np.testing.assert_array_equal(log.step("a", lambda: "key").recall()["x"], np.arange(1000.0))
    assert log.step("a", lambda: "other").recall() is None
    assert log.step("b", lambda: "key").recall() is None


def test_a_write_that_fails_leaves_the_last_file(tmp_path, monkeypatch):
    path = tmp_path / "fit.npz"
    before = filled(path)
    log = Checkpoint(path, {"parameters": {"rank": 1}, "data": {}})
    log.step("b").store(lambda: {"x": np.ones(3)})
    monkeypatch.setattr(checkpoints.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"), log:
        pass
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["fit.npz"]


def test_writing_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    log = Checkpoint(tmp_path / "fit.npz")
    n_writes, original = [], log._write
    monkeypatch.setattr(log, "_write", lambda: (n_writes.append(1), original()))
    for _ in range(100):
        now[0] += 1.0
        log.step("a").store(lambda: {"x": np.ones(3)})
    assert len(n_writes) == 10


def test_fingerprints_tell_kinds_shapes_and_bits_apart():
    parts = [0, 0.0, -0.0, "0", [0], [[0]], np.float32(0), None, ("a", "bc"), ("ab", "c")]
    assert len({fingerprint(part) for part in parts}) == len(parts)
    assert fingerprint(1, 2) != fingerprint([1, 2])


@pytest.mark.parametrize("kept", [1, 2**30], ids=["in blocks", "in memory"])
def test_every_bit_of_a_recording_on_dask_counts(waves, tmp_path, monkeypatch, kept):
    monkeypatch.setattr(blocks, "KEPT_BYTES", kept)
    inputs = np.random.default_rng(0).standard_normal((8, 24, 1))
    X, turned = da.from_array(waves, chunks=(3, 24, 5)), waves.copy()
    turned[3] = turned[3, ::-1]

    def fit(X, inputs):
        return low_rank(checkpoint=tmp_path / "fit.npz", max_epochs=2).fit(X, inputs=inputs)

    score = fit(X, inputs).score(X, inputs=inputs)
    assert fit(da.from_array(waves, chunks=(4, 12, 5)), inputs).score(X, inputs=inputs) == score
    with pytest.raises(ValueError, match=r"the data differ \(values of inputs\)"):
        fit(X, -inputs)
    with pytest.raises(ValueError, match=r"the data differ \(values\)"):
        fit(da.from_array(turned, chunks=(3, 24, 5)), inputs)


@pytest.mark.parametrize("lost", ["layout", "steps", "an array"])
def test_a_file_that_lacks_a_part_is_damaged(waves, tmp_path, lost):
    path = tmp_path / "fit.npz"
    low_rank(checkpoint=path, max_epochs=1).fit(waves)
    with np.load(path) as file:
        arrays = dict(file)
    if lost == "an array":
        arrays.pop(next(name for name in arrays if "/" in name))
    else:
        header = json.loads(str(arrays["nwb_lrrnn_checkpoint"]))
        header.pop(lost)
        arrays["nwb_lrrnn_checkpoint"] = np.array(json.dumps(header))
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="truncated, damaged or of another kind"):
        low_rank(checkpoint=path, max_epochs=1).fit(waves)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="wants a directory in which nobody can write")
def test_a_place_that_cannot_be_written_is_named(waves):
    with pytest.raises(OSError, match=r"checkpoint: '/proc/fit.npz' cannot be written .*; give another path"):
        low_rank(checkpoint="/proc/fit.npz", max_epochs=1).fit(waves)
