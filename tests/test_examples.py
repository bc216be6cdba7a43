"""The examples run, small."""

import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

FOLDER = Path(__file__).parent.parent / "examples"


def load(name):
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def test_quickstart(capsys):
    load("quickstart")["main"](16)
    out = capsys.readouterr().out
    assert "15 units" in out
    assert "mean rate" in out
    assert "same latents from the file: True" in out


def test_own_file(tmp_path, capsys):
    load("quickstart")["make_recording"](tmp_path / "session.nwb", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = load("own_file")["main"](tmp_path / "session.nwb", "go_cue_time", (0.0, 1.0), 1, 3)
    assert path == tmp_path / "session_lrrnn.nwb"
    assert path.is_file()
    assert "6 trials, 50 bins, 15 units" in capsys.readouterr().out


def test_compare_models():
    table = load("compare_models")["main"](12, 5, 2)
    assert table.index[-1] == "LowRankRNN (rank 1)"
    assert np.isfinite(table["log_likelihood"]).all()
    assert {"mean rate", "VAR(1)", "linear state space (rank 1)", "LowRankRNN (rank 2)"} <= set(table.index)


def test_independent_groups(capsys):
    table = load("independent_groups")["main"](300, 20)
    assert table.loc["DisRNN", "group_r2"] > 0.95
    out = capsys.readouterr().out
    assert out.startswith("rank 4\nsearch: factorisable into groups of rank 2 + 2;")
    assert "two groups: factorisable into groups of rank 2 + 2" in out


@pytest.mark.slow
def test_smallest_network(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("NWB_LRRNN_DATA", raising=False)
    path = load("smallest_network")["main"](8, 3, 1, tmp_path / "flow.png")
    assert path["r2"].max() > 0.8
    assert (tmp_path / "flow.png").stat().st_size > 10_000
    assert "nats per bin on held-out trials" in capsys.readouterr().out


@pytest.mark.slow
def test_connectivity_and_dimension(tmp_path, capsys):
    page = load("connectivity_and_dimension")["main"](tmp_path / "page.png", None, 40, 1, 14.0, 1, 19)
    assert page.stat().st_size > 20_000
    assert "planted counts:\nSynapse counts" in capsys.readouterr().out.replace("were dropped. ", "").replace(
        "\n\n", "\n"
    )


def test_many_recordings(tmp_path):
    example = load("many_recordings")
    example["make_recordings"](tmp_path)
    (tmp_path / "turns_1.nwb").unlink()
    batch, loop = example["main"](tmp_path)
    assert list(batch["subject"]) == ["mouse-2"]
    assert batch["score"][0] > loop["score"][0] - 2.0
    assert (tmp_path / "turns_2.nwb").exists()


@pytest.mark.slow
def test_datajoint_make(tmp_path):
    """A table of the example inserts what its fit found, and finds it again after a rollback."""
    make = runpy.run_path(str(FOLDER / "pipelines" / "datajoint_make.py"))["LatentDynamicsMake"]
    load("many_recordings")["make_recordings"](tmp_path)
    study = '[reading]\nbin_size = 0.05\n[estimator]\nmodel = "linear"\nmax_iter = 5\n[evaluation]\ncompare = false'

    class Table(make):
        store, rows = tmp_path / "fits", []

        def fetch_source(self, key):
            return str(tmp_path / "turns_1.nwb"), study

        def insert1(self, row):
            self.rows.append(row)

    for _ in range(2):
        Table().make({"recording": 1, "parameters": 2})
    first, again = Table.rows
    assert first == again
    assert first["recording"] == 1
    assert len(first["run_key"]) == 16
    assert Path(first["results"]).is_file()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_is_run_here(path):
    assert f'load("{path.stem}")' in Path(__file__).read_text()
