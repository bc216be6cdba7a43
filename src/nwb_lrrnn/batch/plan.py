"""`Fit`: one fit of a batch, its key and what its process is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nwb_lrrnn.batch.recordings import BatchRecording
from nwb_lrrnn.batch.study import Study, digest_of

MOST_OF_A_TASK = 10_000  # bytes: what travels to a worker is a note of what to do, never data


@dataclass(frozen=True)
class Fit:
    """One fit: a recording, a series, a point of the grid, a fold and a seed.

    Parameters
    ----------
    index : int
        Place in the batch.
    recording : BatchRecording
        What is fitted.
    series : str or None
        Which of its populations.
    point : mapping
        The parameters of the grid.
    fold, seed : int
        What is held out, and the seed of the model.
    """

    index: int
    recording: BatchRecording
    series: str | None
    point: Mapping[str, Any]
    fold: int | None
    seed: int

    @property
    def label(self) -> str:
        """What people read: the recording and what is not the same in all fits of it."""
        parts = [self.series, *(f"{key} {value}" for key, value in self.point.items())]
        parts += [None if self.fold is None else f"fold {self.fold + 1}", f"seed {self.seed}"]
        return f"{self.recording.name} ({', '.join(str(part) for part in parts if part)})"

    def task(self, study: Study, out: Path, digest: str, version_tag: str) -> dict[str, Any]:
        """Return what the process of this fit is told; JSON-able and small.

        The key is of the content, the series, the study at this point, the fold and the seed: the same fit has the
        same key wherever the file lies, and any change makes it another.
        """
        steps = study.steps(self.point)
        key = digest_of({"digest": digest, "series": self.series, "steps": steps, "fold": self.fold, "seed": self.seed})
        found = {
            "key": key,
            "label": self.label,
            "runs": str(out / "runs"),
            "uri": self.recording.uri,
            "name": self.recording.name,
            "digest": digest,
            "version_tag": version_tag,
            "series": self.series,
            "fold": self.fold,
            "seed": self.seed,
            "steps": steps,
            "seconds": study.seconds,
            "memory": study.memory,
        }
        size = len(json.dumps(found))
        if size > MOST_OF_A_TASK:
            raise ValueError(
                f"{self.label}: the note of what to do takes {size} bytes, wanted at most {MOST_OF_A_TASK}; name units "
                "and trials by a query rather than by long lists"
            )
        return found


def fits_of(recordings: Sequence[BatchRecording], study: Study) -> Iterator[Fit]:
    """Yield all fits of a batch, those of a recording together."""
    index = 0
    for recording in recordings:
        for run in study.runs():
            yield Fit(index, recording, **run)
            index += 1
