"""Writing results into a large recording: time and memory, beside a plain copy of the file.

Makes a recording of the size asked for (noise in chunks of 1 MB) in a temporary directory, writes a module with
latents, loadings and model arrays into it, in processes of their own so that the peak of their memory is theirs.

    python benchmarks/into.py               1 GB
    python benchmarks/into.py --quick       0.1 GB
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SAMPLES = 4096  # a chunk of 128 channels of int16 is 1 MB


def make_recording(path: Path, n_bytes: int) -> None:
    import h5py

    from nwb_lrrnn.io.writing.recording_file import write_recording

    rng = np.random.default_rng(0)
    write_recording(path, rng.poisson(1.0, (20, 100, 50)), bin_size=0.02, random_state=0)
    block = rng.integers(-1000, 1000, (SAMPLES, 128), dtype=np.int16)
    with h5py.File(path, "a") as file:
        series = file["acquisition"].create_group("raw")
        series.attrs.update(neurodata_type="TimeSeries", namespace="core", object_id="raw", description="noise")
        n_blocks = max(1, n_bytes // block.nbytes)
        data = series.create_dataset("data", (n_blocks * SAMPLES, 128), block.dtype, chunks=block.shape)
        data.attrs.update(unit="V", conversion=1.0, resolution=-1.0)
        for k in range(n_blocks):
            data[k * SAMPLES : (k + 1) * SAMPLES] = block
        series["starting_time"] = 0.0
        series["starting_time"].attrs.update(rate=30_000.0, unit="seconds")


def copy_and_flush(path: Path) -> None:
    target = path.with_suffix(".copy")
    shutil.copyfile(path, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    target.unlink()


def write_into(path: Path) -> None:
    import xarray as xr

    from nwb_lrrnn.io.writing.module_into import write_module_into

    latents = xr.DataArray(np.zeros((20, 100, 4)), dims=("trial", "time", "latent"), attrs={"bin_size": 0.02})
    state = {"left_vectors": np.ones((200, 4)), "right_vectors": np.ones((200, 4))}
    write_module_into(path, latents=latents, state=state, info=[("model", "rank", 4)], if_exists="replace")


def only_import(path: Path) -> None:
    import pynwb  # noqa: F401

    from nwb_lrrnn.io.writing import module_into  # noqa: F401


def measured(task: Callable[[Path], None], path: Path, pipe) -> None:
    only_import(path)
    begin = time.perf_counter()
    task(path)
    seconds = time.perf_counter() - begin
    pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def run(task: Callable[[Path], None], path: Path) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=measured, args=(task, path, theirs))
    process.start()
    figures = ours.recv()
    process.join()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--folder", help="where to put the recording; by default the system's temporary directory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder) / "session.nwb"
        make_recording(path, 10**8 if asked.quick else 10**9)
        print(f"{path.stat().st_size / 1e9:.2f} GB recording; seconds and peak memory of the process (median of 3)\n")
        print(f"{'':36}{'s':>8}{'MB':>8}{'of the copy':>14}")
        reference = None
        tasks = {
            "imports alone": only_import,
            "plain copy, flushed": copy_and_flush,
            "write_results(into=)": write_into,
        }
        for name, task in tasks.items():
            seconds, megabytes = np.median([run(task, path) for _ in range(3)], axis=0)
            reference = seconds if task is copy_and_flush else reference
            ratio = "" if reference is None else f"{seconds / reference:>14.2f}"
            print(f"{name:36}{seconds:>8.2f}{megabytes:>8.0f}{ratio}")


if __name__ == "__main__":
    main()
