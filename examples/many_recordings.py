"""All recordings of a folder, twice: as a batch that survives anything, and as a plain loop of your own.

Run it with `python examples/many_recordings.py [FOLDER]`; without a folder it makes two recordings of its own.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import nwb_lrrnn as lr

STUDY = {
    "reading": {"bin_size": 0.05},
    "estimator": {"model": "linear", "rank": 2},
    "evaluation": {"compare": False},
}


def make_recordings(folder: Path) -> None:
    """Write spikes of 10 units that turn at 1 Hz and at 2 Hz."""
    for frequency in (1, 2):
        rng = np.random.default_rng(frequency)
        time = (np.arange(40) + 0.5) * 0.05  # s
        phase = rng.uniform(0, 2 * np.pi, (16, 1, 1)) + 2 * np.pi * frequency * time[:, None]
        rate = 12 * (1 + 0.8 * np.cos(phase + rng.uniform(0, 2 * np.pi, 10)))  # spikes/s
        about = {"subject_id": f"mouse-{frequency}", "species": "Mus musculus"}
        lr.write_recording(
            folder / f"turns_{frequency}.nwb",
            rng.poisson(rate * 0.05),
            bin_size=0.05,
            unit_kind="unit",
            subject=about,
        )


def as_batch(folder: Path, out: Path) -> pd.DataFrame:
    """Return a row for each recording and rank; started again it goes on where it was ended."""
    return lr.run_batch(folder, STUDY, out=out, resume=True)


def as_loop(folder: Path) -> pd.DataFrame:
    """Return a row for each recording; what goes wrong is yours to catch."""
    rows = []
    for path in sorted(folder.glob("*.nwb")):
        with lr.open_nwb(path) as recording:
            X = recording.spikes(bin_size=0.05, intervals="/intervals/trials").load()
            train, test = X[: 3 * len(X) // 4], X[3 * len(X) // 4 :]
            model = lr.LinearStateSpace(rank=2, random_state=0).fit(train)
            rows.append({"recording": path.name, "score": model.score(test), "is_stable": model.is_stable_})
    return pd.DataFrame(rows)


def main(folder: Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    with tempfile.TemporaryDirectory() as temporary:
        if folder is None:
            folder = Path(temporary) / "recordings"
            folder.mkdir()
            make_recordings(folder)
        batch, loop = as_batch(folder, Path(temporary) / "batch"), as_loop(folder)
    print(batch[["status", "recording", "subject", "rank", "score"]].to_string(index=False), end="\n\n")
    print(loop.to_string(index=False))
    return batch, loop


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
