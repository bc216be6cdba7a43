"""How far a fit is: epochs that are counted once and never too many, bars that fill once, lines where none is seen."""

import io
import logging
import re
import sys
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

from nwb_lrrnn import DisRNN, LowRankRNN, SMCLowRankRNN, progress
from nwb_lrrnn.models.kernels.compiling import LISTENER
from nwb_lrrnn.progress import Progress
from small_lazy import hold

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TRAINED = {
    "LowRankRNN": LowRankRNN(rank=1, n_neurons=6, random_state=0),
    "LowRankRNN, given windows": LowRankRNN(rank=1, n_neurons=6, shooting_window=50, random_state=0),
    "SMCLowRankRNN": SMCLowRankRNN(rank=1, n_neurons=6, n_particles=8, n_trajectories=4, random_state=0),
    "DisRNN": DisRNN(rank=2, n_groups=2, objective="paper", n_bootstraps=0, random_state=0),
}


@pytest.fixture(scope="module")
def waves():
    """Return trials of units that read a rotation with noise, (trial, time, unit)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, (8, 1)) + 0.3 * np.arange(60)
    z = np.stack([np.cos(phase), np.sin(phase)], -1)
    return z @ rng.standard_normal((2, 4)) + 0.3 * rng.standard_normal((8, 60, 4))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("most", [1, pytest.param(2, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("name", TRAINED)
def test_no_fit_has_more_epochs_than_it_may(name, most, waves):
    model = clone(TRAINED[name]).set_params(max_epochs=most).fit(waves)
    assert 1 <= model.n_iter_ <= most
    assert model.n_iter_ == model.history_.sizes["epoch"]


@pytest.mark.parametrize("most", [1, 4])
def test_blocks_and_their_sample_share_the_epochs(most, waves, monkeypatch):
    import dask.array as da

    hold(monkeypatch, waves, 4)
    model = LowRankRNN(rank=1, n_neurons=6, shooting_window=100, max_epochs=most, random_state=0)
    model.fit(da.from_array(waves, chunks=(2, 60, 4)))
    assert model.n_iter_ == model.history_.sizes["epoch"] <= most
    assert np.isfinite(model.score(waves))


def test_the_bar_of_a_fit_in_stages_fills_once_and_never_steps_back(waves, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    model = clone(TRAINED["LowRankRNN"]).set_params(max_epochs=9).fit(waves)
    shown = [(int(a), int(b)) for a, b in re.findall(r"(\d+)/(\d+) \[", sys.stderr.getvalue())]
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    assert {most for _, most in shown[:-1]} <= {9, model.n_iter_}
    assert shown[-1] == (model.n_iter_, model.n_iter_)


def test_without_a_terminal_lines_with_the_time_are_logged(monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, "nwb_lrrnn"), Progress(5, "Model") as shown:
        shown.advance(1, ", short windows", -1.5)
        shown.advance(2)
    lines = [record.getMessage() for record in caplog.records]
    assert all(re.match(r"\d\d:\d\d:\d\d Model", line) for line in lines)
    assert "Model, short windows: epoch 1 of at most 5, -1.5000 nats/bin" in lines[0]
    assert lines[1].endswith("epoch 3 of at most 5")
    assert lines[2].endswith("ended after 3 epochs")


def test_lines_do_not_come_with_every_epoch(caplog):
    with caplog.at_level(logging.INFO, "nwb_lrrnn"), Progress(1000, "Model") as shown:
        for _ in range(1000):
            shown.advance(1)
    assert len(caplog.records) < 10


def test_a_notebook_without_a_terminal_shows_the_bar_and_keeps_it(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    kernel = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel, version_info=(9,)))
    with Progress(4, "Model") as shown:
        shown.advance(3)
    assert "Model: 100%" in sys.stderr.getvalue()
    assert sys.stderr.getvalue().endswith("\n")  # it stays


def test_a_fit_that_fails_leaves_a_bar_that_is_not_full(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with suppress(ValueError), Progress(4, "Model") as shown:
        shown.advance(1)
        raise ValueError("no")
    assert "100%" not in sys.stderr.getvalue()


def test_whoever_waits_for_the_compiler_is_told_once(monkeypatch, caplog):
    def of(module):
        function = SimpleNamespace(__module__=module)
        return SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=function)})

    monkeypatch.setattr(LISTENER, "has_told", False)
    with caplog.at_level(logging.INFO, "nwb_lrrnn"):
        LISTENER.on_start(of("somebody.else"))
        assert not caplog.records
        LISTENER.on_start(of("nwb_lrrnn.models.kernels.kalman"))
        LISTENER.on_start(of("nwb_lrrnn.models.kernels.kalman"))
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "nwb_lrrnn: compiling what this fit needs"
    ]
