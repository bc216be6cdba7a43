"""The command line where something is wrong: one sentence on stderr, and the exit code."""

import re

import h5py
import numpy as np
import pytest

from nwb_lrrnn.cli import main
from small_cli import fill, run, sentence
from small_nwb import add_series, new_nwb


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of recordings, and of what is none."""
    return fill(tmp_path_factory.mktemp("cli"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text.nwb", "this is a text file that begins with 'subject,age'"),
        ("truncated.nwb", "truncated or damaged"),
        ("none.nwb", "there is no such file"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "fit"])
def test_files_that_are_none(folder, tmp_path, monkeypatch, capsys, command, name, expected):
    monkeypatch.chdir(tmp_path)
    assert expected in sentence(capsys, command, folder / name)


def test_a_folder_is_not_fitted(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "this is a folder" in sentence(capsys, "fit", folder)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--align", "go_cue"], "'go_cue' is no column of the table.*did you mean 'go_cue_time'"),
        (["--units", "3,4,99"], "unknown ids? 99"),
        (["--units", "rate > 3"], "wanted a pandas query over the columns"),
        (["--trials", "side == 'up'"], "leaves none of 8 trials"),
        (["--intervals", "epochs"], "epochs"),
        (["--rank", "6"], "rank: got 6, wanted at most .* 5"),
        (["--rank", "0"], "rank: got 0, wanted a whole number >= 1"),
        (["--series", "LFP"], "name: got 'LFP'"),
        (["--inputs", "speed"], "name: got 'speed'"),
        (["--window", "5", "1"], "window: got .5, 1., wanted .start, stop. in seconds with start < stop"),
        (["--set", "nonlinearity=tanhh"], "did you mean 'tanh'"),
        (["--set", "tau=0.001"], "tau: got 0.001 s, shorter than the bins"),
        (["--trials", "0,1"], r"too few trials to hold some out \(2\)"),
        (["--device", "tpu"], "device"),
        (["-o", "none/a.nwb"], "does not exist; make it first"),
    ],
)
def test_selections_that_cannot_be(folder, tmp_path, monkeypatch, capsys, args, expected):
    monkeypatch.chdir(tmp_path)
    assert re.search(expected, sentence(capsys, "fit", folder / "spikes.nwb", *args))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--model", "lowrnk"], "wanted lowrank, smc, dis, leastsquares or linear; did you mean 'lowrank'"),
        (["--set", "n_neuron=3"], "LowRankRNN has no parameter 'n_neuron', it has rank, .*did you mean 'n_neurons'"),
        (["--set", "n_neurons"], "wanted NAME=VALUE"),
        (["--set", "rank=3", "--rank", "2"], "rank is given twice"),
        (["--model", "linear", "--device", "cpu"], "LinearStateSpace has no device"),
        (["--model", "dis", "--set", "n_group=3"], "DisRNN has no parameter 'n_group', .*did you mean 'n_groups'"),
        (["--test-fraction", "1.5"], "wanted a share between 0 and 1"),
        (["--chop", "1"], "the recording has trials; drop --chop"),
        (["-o", "a.h5"], r"wanted a name that ends in \.nwb"),
        (["--bin-sise", "1"], "No such option"),
        (["--bin-size", "0"], "0.0 is not in the range x>0"),
        (["--rank", "two"], "'two' is not a valid integer"),
    ],
)
def test_wrong_use_exits_with_2(folder, tmp_path, monkeypatch, capsys, args, expected):
    monkeypatch.chdir(tmp_path)
    assert re.search(expected, sentence(capsys, "fit", folder / "spikes.nwb", *args, code=2))


def test_nothing_to_fit(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "nothing can be fitted: the file holds no units" in sentence(capsys, "fit", folder / "empty.nwb")
    text = sentence(capsys, "fit", folder / "channels.nwb", "--align", "go_cue_time", "--window", "0", "1")
    assert "no table of trials" in text


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (["--rank", "3"], "n_groups: got 2 for --rank 3, which does not split equally; pass group_ranks"),
        (["--set", "group_ranks=3,2"], r"group_ranks: got \(3, 2\), which sum to 5, wanted the rank, 2; pass --rank 5"),
        (["--set", "group_ranks=2+1"], "group_ranks: got '2.1', wanted a rank for each group"),
        (["--set", "n_groups=many"], "n_groups: got 'many', wanted a whole number"),
    ],
)
def test_groups_that_cannot_be(folder, tmp_path, capsys, parameters, expected):
    options = ["--model", "dis", *parameters, "--no-compare", "-o", tmp_path / "a.nwb"]
    assert re.search(expected, sentence(capsys, "fit", folder / "spikes.nwb", *options))


def test_nan_is_found_before_the_fit(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "nan.nwb"
    path.write_bytes((folder / "channels.nwb").read_bytes())
    with h5py.File(path, "r+") as file:
        file["acquisition/ElectricalSeries/data"][7, 1] = np.nan
    text = sentence(capsys, "fit", path)
    assert "X: NaN at trial 0, time 0.075, unit 1" in text


def test_several_series_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(size=(400, 3))
    with new_nwb(tmp_path / "two.nwb") as file:
        for name in ("left", "right"):
            add_series(file, f"acquisition/{name}", noise, kind="ElectricalSeries", rate=100.0)
    assert "--series: the file holds left, right; say which" in sentence(capsys, "fit", tmp_path / "two.nwb")
    assert run("inspect", tmp_path / "two.nwb") == 0
    assert "--series left" in capsys.readouterr().out


def test_debug_shows_the_traceback(folder):
    with pytest.raises(ValueError, match="text file"):
        main(["inspect", str(folder / "text.nwb"), "--debug"])


def test_interruption_is_clean(folder, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("nwb_lrrnn.io.reading.recording.open_nwb", interrupted)
    assert run("inspect", folder / "spikes.nwb") == 130
    assert capsys.readouterr().err.strip() == "Stopped."
