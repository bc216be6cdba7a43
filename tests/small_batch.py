"""Recordings for batches: planted ones of two kinds, and broken ones."""

import h5py
import numpy as np

from nwb_lrrnn.io.writing.recording_file import write_recording
from planted_systems import noisy_cycle
from small_nwb import new_nwb

KINDS = ("cycle", "points")


def two_points(rng, n_trials, n_bins):
    """Return (trial, time, 2): noise drives each coordinate from one stable point to the other."""
    z = np.empty((n_trials, n_bins, 2))
    z[:, 0] = rng.normal(0.0, 0.3, (n_trials, 2))
    for t in range(1, n_bins):
        z[:, t] = z[:, t - 1] + 0.1 * (z[:, t - 1] - z[:, t - 1] ** 3) + rng.normal(0.0, 0.12, (n_trials, 2))
    return z


def planted_recording(path, kind, seed, n_trials=30, n_bins=60, n_units=20, overwrite=False):
    """Write counts driven by latents of a kind through loadings of their own; return the path."""
    rng = np.random.default_rng(seed)
    z = noisy_cycle(rng, n_trials, n_bins) if kind == "cycle" else two_points(rng, n_trials, n_bins)
    z = (z - z.mean(axis=(0, 1))) / z.std(axis=(0, 1))
    loadings = rng.normal(0.0, 0.4, (z.shape[2], n_units))
    counts = rng.poisson(0.4 * np.exp(z @ loadings))
    subject = {"subject_id": f"m{seed % 5}", "species": "Mus musculus"}
    session = {"session_id": f"day-{seed}"}
    about = {"unit_kind": "unit", "subject": subject, "session": session}
    return write_recording(path, counts, bin_size=0.02, random_state=seed, overwrite=overwrite, **about)


def broken_files(folder):
    """Write files that cannot be fitted, each for a reason of its own; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = planted_recording(folder / "whole.nwb", "cycle", seed=99, n_trials=4)
    content = whole.read_bytes()
    (folder / "truncated.nwb").write_bytes(content[: len(content) // 2])
    (folder / "text.nwb").write_text("subject,age\n1,2\n")
    with h5py.File(folder / "hdf5.nwb", "w") as file:
        file["x"] = np.arange(3)
    with new_nwb(folder / "nothing.nwb"):
        pass
    (folder / "few_trials.nwb").write_bytes(planted_recording(folder / "f.nwb", "points", 98, n_trials=1).read_bytes())
    (folder / "f.nwb").unlink()
    whole.unlink()
    return sorted(folder.glob("*.nwb"))
