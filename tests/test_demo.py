"""The demo: what is planted is found again, through the same path as a user's file."""

import matplotlib.image
import numpy as np
import pytest

from nwb_lrrnn.demo import cycle_frequency, planted_network, run_demo
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.results import read_results


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the report of the quick demo and what it said."""
    said = []
    return run_demo(tmp_path_factory.mktemp("demo") / "out", quick=True, say=said.append), "\n".join(said)


def test_the_planted_dynamics_are_found(demo):
    report, _ = demo
    assert report.r2 > 0.95
    assert abs(report.frequency / report.true_frequency - 1) < 0.03
    assert 0.9 < report.share_explained < 1.02  # 1 up to the noise of 5 held-out trials
    assert report.loads_equal


def test_the_model_beats_what_has_no_dynamics(demo):
    table = demo[0].comparison
    assert (table.loc[["mean rate", "factor analysis (rank 2)", "VAR(1)"], "low"] > 0).all()


def test_it_says_where_everything_is(demo):
    report, said = demo
    for path in (report.recording, report.results, report.figure):
        assert path.exists()
        assert str(path) in said
    assert f"R2 = {report.r2:.3f}" in said
    assert "the same latents to the last bit" in said
    assert matplotlib.image.imread(report.figure).std() > 0.05  # something is drawn


def test_the_recording_is_a_realistic_nwb_file(demo):
    from nwbinspector import Importance, inspect_nwbfile
    from pynwb import validate

    report, _ = demo
    assert validate(path=str(report.recording)) == []
    found = list(inspect_nwbfile(nwbfile_path=str(report.recording)))
    assert [m for m in found if m.importance.value > Importance.BEST_PRACTICE_SUGGESTION.value] == []
    recording = open_nwb(report.recording)
    assert {"location", "quality"} <= set(recording.spikes(0.02).coords)
    assert {"go_cue_time", "block"} <= set(recording.trials)


def test_the_result_tells_held_out_trials(demo):
    latents = read_results(demo[0].results)["trials/latents"]
    assert latents.shape == (20, 80, 2)
    assert latents["held_out"].sum() == 5


def test_frequency_of_known_cycles():
    dt = 0.01
    turn = 2 * np.pi * 1.5 * dt
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    m = np.random.default_rng(0).standard_normal((30, 2))
    target = np.linalg.solve(m.T @ m / 30, rotation.T)  # identity neurons, alpha = 1: z_{t+1} = rotation z_t
    circle = LowRankDynamics(m, m @ target, dt=dt, tau=dt, nonlinearity="identity")
    assert cycle_frequency(circle) == pytest.approx(1.5, rel=1e-6)
    rest = LowRankDynamics(m, 0.1 * m, dt=dt, tau=0.1)
    assert cycle_frequency(rest) == 0.0


def test_the_planted_network_cycles_at_about_one_hertz():
    assert cycle_frequency(planted_network(5, seed=3)) == pytest.approx(1.0, abs=0.1)


def test_without_matplotlib_there_is_no_figure(demo, tmp_path, monkeypatch):
    import nwb_lrrnn.demo as module

    report, _ = demo
    monkeypatch.setattr("nwb_lrrnn.plotting.plot_summary", _refuse)
    said = []
    z = np.random.default_rng(0).normal(size=(4, 10, 2))
    held = np.array([True, False, True, False])
    assert module._draw(tmp_path / "a.png", planted_network(5, 0), z, z, z, held, report.comparison) is None
    module._tell(module.DemoReport(**{**vars(report), "figure": None, "loads_equal": False}), said.append)
    assert any("matplotlib is not installed" in line for line in said)
    assert any("OTHER latents" in line for line in said)


def _refuse(*given, **options):
    raise ImportError("no matplotlib")
