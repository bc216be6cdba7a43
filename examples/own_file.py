"""Your own NWB file: look what is in it, choose, fit, write the result.

    python examples/own_file.py session.nwb --align go_cue_time --window -0.2 0.8

For anything beyond this there is the command `nwb-lrrnn fit`, which has an option for every choice made here.
"""

import argparse
from pathlib import Path

import nwb_lrrnn as lr


def main(path: Path, align: str, window: tuple[float, float], rank: int, max_epochs: int) -> Path:
    with lr.open_nwb(path) as recording:
        print(recording)  # what can be fitted, and how to read it
        for problem in recording.problems:
            print("problem:", problem)

        # Units that hardly fire cost time and tell nothing; a pandas query over the columns of the table works too.
        X = recording.spikes(bin_size=0.02, align=align, window=window, min_rate=0.5)
        print(f"{X.sizes['trial']} trials, {X.sizes['time']} bins, {X.sizes['unit']} units")

        model = lr.LowRankRNN(rank=rank, max_epochs=max_epochs, random_state=0).fit(X)
        latents = model.transform(X)  # (trial, time, latent), with the coordinates of X
        return lr.write_results(
            path.with_name(f"{path.stem}_lrrnn.nwb"), model, latents=latents, source=recording, overwrite=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit a low-rank network to your own NWB file.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--align", default="start_time", help="column of the trial table")
    parser.add_argument("--window", type=float, nargs=2, default=(0.0, 1.0), help="s, relative to it")
    parser.add_argument("--rank", type=int, default=2)
    parser.add_argument("--max-epochs", type=int, default=1000)
    given = parser.parse_args()
    print("result:", main(given.path, given.align, tuple(given.window), given.rank, given.max_epochs))
