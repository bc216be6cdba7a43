"""What a batch will take, before it is run: fits, bytes, memory and time, from a fit of one of its recordings."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nwb_lrrnn.batch.folder import FitFolder
from nwb_lrrnn.batch.launch import run_child
from nwb_lrrnn.batch.plan import Fit
from nwb_lrrnn.batch.recordings import BatchRecording, Identities
from nwb_lrrnn.batch.study import Study

_PROBE = 120.0  # seconds that the trial fit may take


@dataclass(frozen=True)
class Estimate:
    """What a batch will take.

    Parameters
    ----------
    n_recordings, n_fits, n_done : int
        Recordings, fits, and those of them that are complete.
    n_bytes : int
        Of the recordings whose size is known.
    seconds_of_fit : float or None
        Of one fit, the start of its process included; None where nothing tells.
    is_more : bool
        Whether the trial fit did not end, and a fit takes longer than that.
    memory : int or None
        Bytes of one process at its largest.
    basis : str
        What that was taken from.
    """

    n_recordings: int
    n_fits: int
    n_done: int
    n_bytes: int
    seconds_of_fit: float | None
    is_more: bool
    memory: int | None
    basis: str

    def seconds(self, n_workers: int) -> float | None:
        """Return the wall time of what is to do, with so many fits at once."""
        return None if self.seconds_of_fit is None else self.seconds_of_fit * (self.n_fits - self.n_done) / n_workers


def estimated(recordings: Sequence[BatchRecording], fits: Sequence[Fit], study: Study, out: Path) -> Estimate:
    """Return what a batch will take, from its complete fits, or from a trial fit of the recording of median size."""
    done = _done(fits, study, out)
    known = [found["seconds_of_process"] for found in done if found.get("seconds_of_process")]
    common: dict[str, Any] = {
        "n_recordings": len(recordings),
        "n_fits": len(fits),
        "n_done": len(done),
        "n_bytes": sum(one.size or 0 for one in recordings),
    }
    if known:
        basis = f"the median of {len(known)} fits that are done"
        return Estimate(**common, seconds_of_fit=median(known), is_more=False, memory=None, basis=basis)
    if not fits:
        return Estimate(**common, seconds_of_fit=None, is_more=False, memory=None, basis="nothing to fit")
    by_size = sorted(fits, key=lambda fit: fit.recording.size or 0)
    return _probe(by_size[len(by_size) // 2], study, common)


def _done(fits: Sequence[Fit], study: Study, out: Path) -> list[dict[str, Any]]:
    """Return the numbers of fits that are complete."""
    if not (out / "runs").is_dir():
        return []
    found, identities = [], Identities()
    for fit in fits:
        try:
            task = fit.task(study, out, *identities.of(fit.recording))
        except Exception:  # noqa: BLE001 - said when it is fitted
            continue
        numbers = FitFolder(task["runs"], task["key"]).metrics()
        if numbers is not None:
            found.append(numbers)
    return found


def _probe(fit: Fit, study: Study, common: dict[str, Any]) -> Estimate:
    """Fit one recording in a folder that is removed again."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            task = fit.task(study, Path(folder), *fit.recording.identified())
        except Exception as error:  # noqa: BLE001 - said as the reason why there is no estimate
            basis = f"no trial fit: {fit.recording.name} cannot be opened: {' '.join(str(error).split())}"
            return Estimate(**common, seconds_of_fit=None, is_more=False, memory=None, basis=basis)
        task["seconds"] = min(_PROBE, task["seconds"] or _PROBE)
        began = time.monotonic()
        outcome = run_child(task)
        took = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    basis = f"a trial fit of {fit.label}"
    if outcome["state"] == "failed" and outcome["class"] != "timeout":
        basis += f", which failed: {outcome['sentence']}"
        return Estimate(**common, seconds_of_fit=None, is_more=False, memory=memory, basis=basis)
    return Estimate(**common, seconds_of_fit=took, is_more=outcome["state"] == "failed", memory=memory, basis=basis)
