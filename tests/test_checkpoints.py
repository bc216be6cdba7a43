"""A fit that was interrupted goes on from its checkpoint and ends bit-equal; a file of another fit is refused."""

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.models.linear import network_start as linear_start
from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.models.low_rank.objective import ShootingObjective
from nwb_lrrnn.models.smc import SMCLowRankRNN
from nwb_lrrnn.models.smc.climb import ParticleEM
from nwb_lrrnn.models.smc.objective import FilterObjective
from nwb_lrrnn.models.training import checkpoints
from nwb_lrrnn.models.training.checkpoints import Checkpoint, fingerprint
from nwb_lrrnn.trials import blocks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs


def low_rank(**parameters):
    return LowRankRNN(**{"rank": 2, "n_neurons": 10, "max_epochs": 12, "n_init": 2, "random_state": 0, **parameters})


def smc(**parameters):
    few = {"n_neurons": 8, "n_particles": 8, "n_trajectories": 8, "max_epochs": 4, "batch_size": 3}
    return SMCLowRankRNN(**{"rank": 2, "random_state": 0, **few, **parameters})


MODELS = {"low_rank": low_rank, "smc": smc}
# every epoch of training, and what is expensive beside it: class, method and which call of it is interrupted
PLACES = {
    "low_rank, first epoch": (low_rank, ShootingObjective, "judge", 1),
    "low_rank, short windows": (low_rank, ShootingObjective, "judge", 4),
    "low_rank, inside an epoch of the last windows": (low_rank, ShootingObjective, "loss", 11),
    "smc, first round": (smc, ParticleEM, "_round", 0),
    "smc, later round": (smc, ParticleEM, "_round", 2),
    "smc, inside an epoch": (smc, FilterObjective, "loss", 7),
}


@pytest.fixture(scope="module")
def waves():
    return make_waves()


def make_waves():
    """Return trials of units that read a rotation with noise, (trial, time, unit)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, size=(8, 1))
    z = np.stack([np.cos(0.3 * np.arange(24) + phase), np.sin(0.3 * np.arange(24) + phase)], -1)
    return z @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((8, 24, 5))


@pytest.fixture(scope="module")
def uninterrupted(waves):
    """Return models by name, each fitted without a checkpoint, when a test first asks for it."""

    class Fits(dict):
        n_calls = {}  # of each method that is interrupted elsewhere, in the whole fit

        def __missing__(self, name):
            watched = {(owner, method) for make, owner, method, _ in PLACES.values() if make is MODELS[name]}
            with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
                warnings.simplefilter("ignore", ConvergenceWarning)
                calls = {what: interrupt(patch, *what, -2) for what in watched}
                fitted = self.setdefault(name, MODELS[name]().fit(waves))
            self.n_calls |= {what: len(made) for what, made in calls.items()}
            return fitted

    return Fits()


def same(a, b, rtol=0.0):
    """Assert that two fits are equal, bit for bit by default, and came about in the same way."""
    ours, theirs = a.to_dataset(), b.to_dataset()
    assert set(ours) == set(theirs)
    for name in ours:
        assert_equal(ours[name].values, theirs[name].values, rtol, name)
    assert a.n_iter_ == b.n_iter_
    assert_equal(a.restart_scores_, b.restart_scores_, rtol, "restart_scores_")
    for name in a.history_:
        assert_equal(a.history_[name], b.history_[name], rtol, name)


def assert_equal(a, b, rtol, name):
    if rtol:
        np.testing.assert_allclose(a, b, rtol=rtol, err_msg=str(name))
    else:
        np.testing.assert_array_equal(a, b, err_msg=str(name))


def interrupt(monkeypatch, owner, method, after, error=KeyboardInterrupt):
    """Let a method raise once it has been called so often; return how often it was called in all."""
    original, calls = getattr(owner, method), []

    def stopped(*arguments, **options):
        calls.append(1)
        if len(calls) == after + 1:
            raise error
        return original(*arguments, **options)

    monkeypatch.setattr(owner, method, stopped)
    return calls


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupted_fit_goes_on_and_ends_bit_equal(place, waves, uninterrupted, tmp_path, monkeypatch):
    make, owner, method, after = PLACES[place]
    path, expected = tmp_path / "fit.npz", uninterrupted[make.__name__]
    with monkeypatch.context() as patch:
        interrupt(patch, owner, method, after)
        with pytest.raises(KeyboardInterrupt):
            make(checkpoint=path).fit(waves)
    calls = interrupt(monkeypatch, owner, method, -2)
    same(make(checkpoint=path).fit(waves), expected)
    assert (
        len(calls) <= uninterrupted.n_calls[owner, method] - after + 3
    )  # at most one epoch of three batches is done again
    assert [file.name for file in tmp_path.iterdir()] == ["fit.npz"]


def test_a_finished_fit_is_taken_from_the_file(waves, uninterrupted, tmp_path, monkeypatch):
    for name, make in MODELS.items():
        path = tmp_path / f"{name}.npz"
        same(make(checkpoint=path).fit(waves), uninterrupted[name])  # storing changes nothing
        before = path.stat().st_mtime_ns
        with monkeypatch.context() as patch:
            for owner in (ShootingObjective, FilterObjective):
                patch.setattr(owner, "judge", lambda self: pytest.fail("trained again"))
            patch.setattr(ParticleEM, "_round", lambda *_: pytest.fail("climbed again"))
            patch.setattr(linear_start.em, "fit", lambda *_, **__: pytest.fail("started again"))
            same(make(checkpoint=str(path)).fit(waves), uninterrupted[name])
        assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", MODELS)
def test_more_epochs_go_on_from_an_end_without_convergence(name, waves, uninterrupted, tmp_path, monkeypatch):
    make, path = MODELS[name], tmp_path / "fit.npz"
    full = uninterrupted[name].get_params()["max_epochs"]
    make(checkpoint=path, max_epochs=full // 2).fit(waves)
    objective = ShootingObjective if name == "low_rank" else FilterObjective
    calls = interrupt(monkeypatch, objective, "judge", -2)
    same(make(checkpoint=path, max_epochs=full).fit(waves), uninterrupted[name])
    assert len(calls) < full
    with pytest.raises(ValueError, match=rf"another fit: max_epochs is {full - 1}, was {full}\."):
        make(checkpoint=path, max_epochs=full - 1).fit(waves)


@pytest.mark.parametrize("name", MODELS)
def test_a_killed_process_loses_the_last_seconds_only(name, waves, uninterrupted, tmp_path):
    path, owner = tmp_path / "fit.npz", "ShootingObjective" if name == "low_rank" else "FilterObjective"
    code = (
        "import os, signal, test_checkpoints as t\n"
        "t.checkpoints.INTERVAL = t.checkpoints._SHARE = 0\n"
        f"original, calls = t.{owner}.judge, []\n"
        "def judge(self):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(self)\n"
        f"t.{owner}.judge = judge\n"
        f"t.{name}(checkpoint={str(path)!r}).fit(t.make_waves())\n"
    )
    places = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    killed = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with np.load(path) as file:
        assert [int(file[key]) for key in file.files if key.endswith("/epoch")] == [2]  # the third was under way
    # On a fresh machine, this process compiled the kernels and that one loaded them: their last bits may differ.
    same(MODELS[name](checkpoint=path).fit(waves), uninterrupted[name], rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_without_a_seed_the_same_fit_goes_on(name, waves, tmp_path, monkeypatch):
    path, make = tmp_path / "fit.npz", MODELS[name]
    fitted = make(checkpoint=path, random_state=None).fit(waves)
    same(make(checkpoint=path, random_state=None).fit(waves), fitted)
    with pytest.raises(ValueError, match=r"random_state is 0, was None\. Give each fit a path of its own"):
        make(checkpoint=path).fit(waves)


def test_what_does_not_shape_the_fit_may_change(waves, tmp_path):
    path = tmp_path / "fit.npz"
    smc(checkpoint=path).fit(waves)
    again = smc(checkpoint=path, posterior="filtered", bin_size=1.0, likelihood="gaussian").fit(waves)
    assert again.get_params()["posterior"] == "filtered"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"learning_rate": 0.02}, r"fit\.npz' holds another fit: learning_rate is 0\.02, was 0\.01\. Give each fit"),
        ({"n_init": 1, "patience": 3}, r"another fit: n_init is 1, was 2; patience is 3, was 40\."),
    ],
)
def test_other_parameters_are_refused_by_name(waves, tmp_path, change, text):
    path = tmp_path / "fit.npz"
    low_rank(checkpoint=path, max_epochs=1).fit(waves)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=text):
        low_rank(checkpoint=path, max_epochs=1, **change).fit(waves)
    assert path.read_bytes() == before


def test_other_data_and_models_are_refused_by_name(waves, tmp_path):
    path = tmp_path / "fit.npz"
    low_rank(checkpoint=path, max_epochs=1).fit(waves)
    with pytest.raises(ValueError, match=r"another fit: the data differ \(values\)\. Give each fit a path"):
        low_rank(checkpoint=path, max_epochs=1).fit(waves + 1e-12)
    with pytest.raises(ValueError, match=r"the data differ \(trials, lengths of trials, values, observed bins\)"):
        low_rank(checkpoint=path, max_epochs=1).fit(waves[:5])
    with pytest.raises(ValueError, match=r"the data differ \(inputs, values of inputs\)"):
        low_rank(checkpoint=path, max_epochs=1).fit(waves, inputs=np.ones((8, 24, 1)))
    with pytest.raises(ValueError, match="estimator is 'SMCLowRankRNN', was 'LowRankRNN'"):
        smc(checkpoint=path).fit(waves)


def test_data_are_the_same_however_they_are_padded(waves, tmp_path):
    ragged = [waves[0], waves[1][:15], waves[2]]
    first, short = (low_rank(validation_fraction=0.0)._gate(X, None, reset=True) for X in (ragged, ragged[1:2]))
    alone, padded = (checkpoints._data_identity(trials) for trials in (short, first.take([1])))
    assert alone == padded


@pytest.mark.parametrize("name", MODELS)
def test_a_warm_start_is_part_of_the_fit(name, waves, tmp_path):
    path, make = tmp_path / "fit.npz", MODELS[name]
    start = make(max_epochs=2).fit(waves)
    other = make(max_epochs=2, random_state=1).fit(waves)

    def going_on(model):
        copy = type(model).from_dataset(model.to_dataset())
        return copy.set_params(warm_start=True, checkpoint=path, random_state=0, max_epochs=3)

    fitted = going_on(start).fit(waves)
    same(going_on(start).fit(waves), fitted)
    text = "with warm_start=True, the fit that this one goes on from is another"
    with pytest.raises(ValueError, match=text):
        going_on(other).fit(waves)
    with pytest.raises(ValueError, match=text):  # a second call goes on from the end of the first: another fit
        fitted.fit(waves)


def test_a_model_with_a_checkpoint_goes_through_a_dataset(waves, tmp_path):
    model = low_rank(checkpoint=tmp_path / "fit.npz", max_epochs=1).fit(waves)
    copy = LowRankRNN.from_dataset(model.to_dataset())
    np.testing.assert_array_equal(copy.transform(waves), model.transform(waves))
    same(copy.fit(waves), model)


# --- the file --------------------------------------------------------------------------------------------------------


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
