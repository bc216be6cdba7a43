"""From a recording to its latents, a fair comparison, and a file: the shortest useful path.

Run it with `python examples/quickstart.py`; it makes its own recording in a temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

import nwb_lrrnn as lr


def make_recording(path: Path, n_trials: int) -> None:
    """Write spikes of 15 units whose rates turn at 2 Hz, each trial from a phase of its own."""
    rng = np.random.default_rng(0)
    time = (np.arange(60) + 0.5) * 0.02  # bin centres, s
    phase = rng.uniform(0, 2 * np.pi, (n_trials, 1, 1)) + 2 * np.pi * 2 * time[:, None]
    rate = 12 * (1 + 0.8 * np.cos(phase + rng.uniform(0, 2 * np.pi, 15)))  # spikes/s
    counts = xr.DataArray(
        rng.poisson(rate * 0.02), dims=("trial", "time", "unit"), coords={"time": time}, attrs={"bin_size": 0.02}
    )
    lr.write_recording(path, counts, random_state=0)


def main(n_trials: int = 24) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_recording(Path(folder) / "session.nwb", n_trials)

        recording = lr.open_nwb(Path(folder) / "session.nwb")
        print(recording, end="\n\n")

        X = recording.spikes(bin_size=0.02, align="go_cue_time", window=(0.0, 1.2))
        train, test = X[: 3 * n_trials // 4], X[3 * n_trials // 4 :]
        model = lr.LowRankRNN(rank=2, n_neurons=40, patience=10, random_state=0).fit(train)

        table = lr.compare_baselines(model, test, cv="prefit", X_train=train, larger_ranks=())
        print(table, end="\n\n")

        path = Path(folder) / "session_lrrnn.nwb"
        lr.write_results(path, model, latents=model.transform(X), metrics=table, source=recording)
        again = lr.load_model(path)
        print("same latents from the file:", np.array_equal(again.transform(test), model.transform(test)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
