"""The command line for its tests: a folder of small recordings, its exit code, and its one sentence."""

import json

import h5py
import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.cli import main
from nwb_lrrnn.io.writing.recording_file import write_recording

QUICK = ["--max-epochs", "2", "--set", "n_neurons=10"]
ALIGNED = ["--align", "go_cue_time", "--window", "-0.2", "0.4"]


def counts(n_trials=8, n_bins=30, n_units=5):
    rng = np.random.default_rng(0)
    time = (np.arange(n_bins) + 0.5) * 0.02
    rate = 1.0 + 0.6 * np.sin(2 * np.pi * 2 * time[:, None] + np.arange(n_units))
    return xr.DataArray(
        rng.poisson(rate, size=(n_trials, n_bins, n_units)),
        dims=("trial", "time", "unit"),
        coords={"time": time - 0.2, "side": ("trial", ["left", "right"] * (n_trials // 2))},
        attrs={"bin_size": 0.02},
    )


def fill(folder):
    """Write recordings into a folder (spikes in trials with an input; channels without trials) and what is none."""
    X = counts()
    inputs = np.random.default_rng(1).normal(size=(8, 30, 2))
    write_recording(folder / "spikes.nwb", X, inputs=inputs, random_state=0)
    noise = np.random.default_rng(2).normal(size=(1, 401, 3))
    recordings = {"channels.nwb": noise[:, 1:] + 0.5 * noise[:, :-1], "drift.nwb": noise[:, 1:].cumsum(axis=1)}
    for name, values in recordings.items():
        write_recording(folder / name, values, bin_size=0.01, unit_kind="channel")
        with h5py.File(folder / name, "r+") as file:
            del file["intervals"]
    (folder / "text.nwb").write_text("subject,age\n")
    whole = (folder / "spikes.nwb").read_bytes()
    (folder / "truncated.nwb").write_bytes(whole[: len(whole) // 2])
    with h5py.File(folder / "empty.nwb", "w") as file:
        file.attrs.update(nwb_version="2.7.0", neurodata_type="NWBFile", namespace="core")
    return folder


def run(*args):
    """Return the exit code of the command."""
    with pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    return stop.value.code


def sentence(capsys, *args, code=1):
    """Return the one line on stderr of a command that fails."""
    assert run(*args) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


def lines_of(capsys):
    """Return the lines of JSON that a command has printed."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]
