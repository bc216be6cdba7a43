"""One table of a batch: a row for each fit, with what its recording is, what it found, or why it failed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.batch.folder import LOG, RESULT

if TYPE_CHECKING:
    import pandas as pd

    from nwb_lrrnn.batch.driver import Outcome

NAMES = ("summary.parquet", "summary.csv")
WHICH = ("recording", "subject", "species", "session", "areas", "series")
FIRST = (
    "status",
    *WHICH,
    "model",
    "fold",
    "seed",
    "score",
    "above_mean_rate",
    "nonlinear",
    "verdict",
    "error",
    "sentence",
)
# of files, not of what was found
_LEFT_OUT = ("label", "state")
_KEPT_OF_FAILURES = ("error", "sentence", "class")


def summary_of(outcomes: Iterable[Outcome], model: str, out: Path) -> pd.DataFrame:
    """Return the table of a batch, in the order of its fits."""
    import pandas as pd

    rows = [_row(one, model, out) for one in sorted(outcomes, key=lambda one: one.fit.index)]
    table = pd.DataFrame(rows)
    first = [name for name in FIRST if name in table]
    return table.reindex(columns=[*first, *(name for name in table if name not in first)] if rows else [*FIRST])


def _row(one: Outcome, model: str, out: Path) -> dict[str, Any]:
    recording = one.fit.recording
    row: dict[str, Any] = {
        "status": one.state,
        "recording": recording.name,
        "series": one.fit.series,
        "model": model,
        "fold": one.fit.fold,
        "seed": one.fit.seed,
        "uri": recording.uri,
        "size": recording.size,
        "key": one.key,
    }
    row |= {name: value for name, value in recording.metadata.items() if name not in row}
    row |= {name: _plain(value) for name, value in one.fit.point.items()}
    if one.state == "done":
        row |= {name: value for name, value in one.found.items() if name not in (*_LEFT_OUT, "key")}
        row |= {"results": _within(out, one.key, RESULT), "log": _within(out, one.key, LOG)}
    else:
        row |= {name: one.found[name] for name in _KEPT_OF_FAILURES if name in one.found}
        if one.key:
            row["log"] = f"runs/{one.key}.partial/{LOG}"
    return row


def _within(out: Path, key: str, name: str) -> str | None:
    return f"runs/{key}/{name}" if (out / "runs" / key / name).exists() else None


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def write_summary(table: pd.DataFrame, out: Path) -> Path:
    """Write the table as Parquet, or as CSV where nothing here writes Parquet; the other kind is removed."""
    import pandas as pd

    draft = out / f".summary.{os.getpid()}"
    try:
        name = NAMES[0]
        table.to_parquet(draft)
    except ImportError:
        name = NAMES[1]
        table.to_csv(draft, index=False)
    except (TypeError, ValueError, pd.errors.ParserError):  # a column of several kinds
        table.astype({column: str for column in table.select_dtypes("object")}).to_parquet(draft)
    os.replace(draft, out / name)
    for other in NAMES:
        if other != name:
            (out / other).unlink(missing_ok=True)
    return out / name


def read_batch(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the table of a batch: a row for each fit, by the summary that its run has written at the end.

    Parameters
    ----------
    out : path-like
        The folder of the batch, or its summary.

    Returns
    -------
    table : DataFrame
        Columns as `run_batch` returns them; `results` holds paths that can be opened from here.

    Raises
    ------
    FileNotFoundError
        If there is no summary.
    """
    import pandas as pd

    path = Path(out).expanduser()
    folder = path if path.is_dir() else path.parent
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(
            f"out: {str(folder)!r} holds no {NAMES[0]} and no {NAMES[1]}; run the batch to its end, or name its folder"
        )
    table = pd.read_parquet(found[0]) if found[0].suffix == ".parquet" else pd.read_csv(found[0])
    return absolute(table, folder)


def absolute(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return a table whose paths can be opened from anywhere."""
    table = table.copy()
    for name in ("results", "log"):
        if name in table:
            table[name] = [str(folder / text) if isinstance(text, str) else None for text in table[name]]
    return table
