"""A fit that was interrupted goes on from its checkpoint and ends bit-equal; a file of another fit is refused."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.models.linear import network_start as linear_start
from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.models.low_rank.objective import ShootingObjective
from nwb_lrrnn.models.smc.climb import ParticleEM
from nwb_lrrnn.models.smc.objective import FilterObjective
from nwb_lrrnn.models.training import checkpoints
from small_checkpoints import MODELS, low_rank, make_waves, smc

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs


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


ONCE_MORE = ("low_rank, first epoch", "smc, first round")  # later ones go on from more


@pytest.mark.parametrize(
    "place", [pytest.param(name, marks=pytest.mark.slow if name in ONCE_MORE else []) for name in PLACES]
)
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


@pytest.mark.parametrize("name", ["low_rank", "smc"])
@pytest.mark.slow
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
