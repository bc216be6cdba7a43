"""The command that `inspect` suggests: it works as it stands, or there is none and a reason."""

import os
import shlex
from pathlib import Path

import numpy as np
import pytest

from nwb_lrrnn.cli import main
from small_nwb import add_series, add_trials, add_units, new_nwb

MARK, REASON = "To fit a model: ", "No command fits this as it is: "
QUICK = ["--max-epochs", "3", "--no-compare", "--overwrite"]


def run(*args):
    """Return the exit code of the command."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return stop.value.code


def trains(n_units=4, seconds=60.0, rate=8.0):
    rng = np.random.default_rng(0)
    return [np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds))) for _ in range(n_units)]


def waves(n_samples=900, n_columns=4):
    rng = np.random.default_rng(1)
    time = np.arange(n_samples)[:, None]
    return np.sin(0.2 * time + np.arange(n_columns)) + 0.3 * rng.normal(size=(n_samples, n_columns))


def plain(file):
    add_units(file, trains())
    add_trials(file, 2.0 * np.arange(28), 2.0 * np.arange(28) + 1.5)


def same_names(file):
    for place in ("acquisition", "processing/ecephys"):
        add_series(file, f"{place}/wave", waves(), kind="ElectricalSeries", rate=100.0)


def name_with_spaces(file):
    add_series(file, "acquisition/raw voltage", waves(), kind="ElectricalSeries", rate=100.0)
    add_series(file, "acquisition/it's another", waves(), kind="ElectricalSeries", rate=100.0)


def uneven_timestamps(file):
    times = np.cumsum(np.random.default_rng(2).uniform(0.01, 0.03, 900))
    add_series(file, "acquisition/traces", waves(), kind="ElectricalSeries", timestamps=times)


def one_that_fires(file):
    add_units(file, [trains()[0], [], []])


def silent(file):
    add_units(file, [*trains(3), [], []])
    add_trials(file, 2.0 * np.arange(28), 2.0 * np.arange(28) + 1.5)


def no_stop(file):
    plain(file)
    del file["intervals/trials/stop_time"]
    file["intervals/trials"].attrs["colnames"] = ["start_time"]


def two_trials(file):
    add_units(file, trains())
    add_trials(file, [0.0, 30.0], [10.0, 40.0])


def too_short(file):
    add_units(file, [np.array([0.01, 0.02]), np.array([0.015])])


MAKERS = (
    plain,
    same_names,
    name_with_spaces,
    uneven_timestamps,
    one_that_fires,
    silent,
    no_stop,
    two_trials,
    too_short,
)


def made(maker, folder):
    """Return a file of a kind."""
    path = folder / f"{maker.__name__}.nwb"
    with new_nwb(path) as file:
        maker(file)
    return path


def told(path, capsys):
    """Return the suggested words, None without a suggestion, and everything that `inspect` printed."""
    assert run("inspect", path) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    return (shlex.split(lines[0].removeprefix(MARK))[1:] if lines else None), text


@pytest.mark.parametrize(
    ("maker", "has"),
    [
        (plain, ["--rank", "2", "--bin-size", "0.02"]),
        (same_names, ["--series", "/acquisition/wave"]),
        (name_with_spaces, ["--series", "it's another"]),
        (uneven_timestamps, ["--bin-size", "0.04"]),
        (no_stop, ["--align", "start_time", "--window", "0", "1"]),
        (silent, ["--rank", "2"]),
    ],
)
def test_the_suggestion_says_what_the_file_needs(maker, has, tmp_path, capsys):
    words, text = told(made(maker, tmp_path), capsys)
    assert words is not None, text
    joined = " ".join(words)
    assert " ".join(has) in joined, joined


@pytest.mark.parametrize(
    ("maker", "reason"),
    [(one_that_fires, "1 of 3 units change"), (two_trials, "too few trials"), (too_short, "")],
)
def test_where_no_fit_goes_through_there_is_a_reason(maker, reason, tmp_path, capsys):
    words, text = told(made(maker, tmp_path), capsys)
    assert words is None
    assert REASON in text or "Nothing to fit: " in text
    assert reason in text


def test_a_folder_with_a_space_and_a_dollar_is_quoted_for_the_shell(tmp_path, capsys):
    folder = tmp_path / "my $HOME files"
    folder.mkdir()
    path = made(plain, folder)
    words, _ = told(path, capsys)
    assert words[1] == str(path)


def test_errors_name_options_on_the_command_line(tmp_path, capsys):
    path = made(no_stop, tmp_path)
    assert run("fit", path, "--bin-size", "0.02") == 1
    said = capsys.readouterr().err
    assert "--window" in said
    assert "window=" not in said


def corpus():
    root = os.environ.get("NWB_LRRNN_DATA")
    return sorted(Path(root).rglob("*.nwb")) if root else []


def works(path, folder, capsys, *, is_real=False):
    if is_real and run("inspect", path) == 1:  # no file that can be read: one sentence
        assert capsys.readouterr().err.startswith("Error: ")
        return
    words, text = told(path, capsys)
    if words is None:
        assert REASON in text or "Nothing to fit: " in text
        return
    code = run(*words, *QUICK, "-o", folder / "result.nwb")
    assert code == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_each_suggestion_works(maker, tmp_path, capsys):
    works(made(maker, tmp_path), tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_each_suggestion_for_a_real_recording_works(path, tmp_path, capsys):
    if path.stat().st_size > 100e6:
        pytest.skip("takes too long")
    works(path, tmp_path, capsys, is_real=True)
