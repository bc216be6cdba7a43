"""`run_batch`: a study over many recordings."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.batch.driver import Driver, Outcome
from nwb_lrrnn.batch.executors import executor_of
from nwb_lrrnn.batch.ledger import LEDGER, Ledger
from nwb_lrrnn.batch.overview import write_overview
from nwb_lrrnn.batch.plan import fits_of
from nwb_lrrnn.batch.recordings import recordings_of
from nwb_lrrnn.batch.study import Study, digest_of, read_study
from nwb_lrrnn.batch.summary import absolute, summary_of, write_summary
from nwb_lrrnn.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

EXECUTORS = ("local", "dask", "none")


class BatchStopped(BaseException):
    """SIGTERM came while a batch ran; what ran has written its checkpoints."""


def run_batch(
    source: str | os.PathLike[str],
    config: Study | str | os.PathLike[str] | Mapping[str, Any],
    *,
    out: str | os.PathLike[str] = "nwb_lrrnn_batch",
    glob: str | None = None,
    executor: str = "local",
    scheduler: str | None = None,
    n_workers: int | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> pd.DataFrame:
    """Return the table of a batch: one row for each fit of a study to the recordings of a dandiset or folder.

    Each fit runs in a process of its own and has a folder of its own, `out/runs/KEY`, with `result.nwb`,
    `metrics.json`, `log.txt` and, with matplotlib, `picture.png`; the key is of the content of the recording, the
    series, the study, the fold and the seed. What is complete is never fitted again. Fits that meet a network or a
    disk that does not answer are tried up to four times, those that run out of memory once more, alone, all others
    once. `out` holds a ledger (JSON lines) of all that happened, and at the end `summary.parquet` (`summary.csv`
    without pyarrow) and `overview.html`.

    Parameters
    ----------
    source : str or path-like
        `dandi://ID[@version][/folder or pattern]`, a folder, a pattern of paths, a recording, or a CSV file with a
        column `uri`, whose other columns are kept in the table.
    config : path-like or mapping
        The study, as TOML: sections `reading` (arguments of `Recording.spikes` or `.series`), `preprocessing` (a list
        of steps), `estimator` (`model` and its parameters), `grid` (lists of values of its parameters), `evaluation`
        (`test_fraction` or `folds`, `compare`, `seeds`) and `limits` (`seconds`, `memory`) of each fit.
    out : path-like
        The folder of the batch; made where it is missing.
    glob : str, optional
        Which files of a dandiset or folder. By default all that end in .nwb.
    executor : {"local", "dask", "none"}
        Processes of this machine, the workers of a dask cluster, or nothing: then the table is of what is there.
    scheduler : str, optional
        Address of a dask scheduler, whose workers see the same `out`. By default a cluster on this machine, which a
        script starts below ``if __name__ == "__main__":``, since its processes import the script.
    n_workers : int, optional
        Fits side by side on this machine. By default as many as it has cores; each computes with its share of them.
    resume : bool
        Go on with the batch that is in `out`.
    retry_failed : bool
        With `resume`: try again what failed for good, too.
    on_outcome : callable, optional
        Called with each `Outcome` as it comes.

    Returns
    -------
    table : DataFrame
        Columns `status` ("done" or "failed"), `recording`, what is known of the session (`subject`, `species`,
        `session`, `areas`), the parameters of the grid, `fold`, `seed`, `score` (nats per observed time bin of the
        held-out trials), `nonlinear` and `verdict` of the comparison, `error` and `sentence` of what failed, and
        `results`, the path for `load_model` and `read_results`. `attrs["n_stopped"]` counts what was not ended.

    Raises
    ------
    ValueError
        If the study or the manifest is wrong, or another batch runs in `out`.
    FileExistsError
        If `out` holds a batch already and `resume` is False.
    FileNotFoundError
        If nothing matches `source`.
    ImportError
        If `executor="dask"` and distributed is missing.
    ConnectionError
        If the scheduler does not answer.

    Examples
    --------
    >>> table = run_batch("dandi://000140", "study.toml", out="maze", n_workers=8)  # doctest: +SKIP
    """
    study = read_study(config)
    _check(executor, scheduler, n_workers)
    recordings = recordings_of(source, glob=glob)
    folder = prepared(Path(out).expanduser().absolute(), resume)
    n_fits = len(recordings) * study.n_runs
    outcomes: list[Outcome] = []
    with Ledger(folder / LEDGER) as ledger, executor_of(executor, n_workers, scheduler) as where:
        ledger.note("batch", recordings=len(recordings), fits=n_fits, study=digest_of(study.steps({})))
        driver = Driver(fits_of(recordings, study), study, folder, where, ledger, retry_failed=retry_failed)
        with _stopped_by_signals(driver), Progress(n_fits, "batch", "fit") as progress:
            for outcome in driver:
                outcomes.append(outcome)
                progress.advance(1)
                if on_outcome is not None:
                    on_outcome(outcome)
        table = summary_of(outcomes, study.model, folder)
        write_summary(table, folder)
        write_overview(table, folder, study)
        ledger.note("end", done=sum(one.state == "done" for one in outcomes), fits=n_fits)
    return absolute(table, folder)


def prepared(out: Path, resume: bool) -> Path:
    """Return the folder of a batch, made where it is missing; refuse one that is in use for something else."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"out: {str(out)!r} is a file, wanted a folder; choose another name")
    if (out / LEDGER).exists():
        if not resume:
            raise FileExistsError(
                f"out: {str(out)!r} holds a batch already; go on with it with resume=True, or choose another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise FileExistsError(f"out: {str(out)!r} is not empty and holds no batch; choose another folder")
    (out / "runs").mkdir(parents=True, exist_ok=True)
    return out


def _check(executor: str, scheduler: str | None, n_workers: int | None) -> None:
    if executor not in EXECUTORS:
        raise ValueError(f"executor: got {executor!r}, wanted {' or '.join(map(repr, EXECUTORS))}")
    if scheduler is not None and executor != "dask":
        raise ValueError(f"scheduler: got {scheduler!r} with executor={executor!r}; pass executor='dask'")
    if n_workers is not None and (isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1):
        raise ValueError(f"n_workers: got {n_workers!r}, wanted a whole number from 1 on")
    if n_workers is not None and scheduler is not None:
        raise ValueError(f"n_workers: got {n_workers}, but the workers are those of the scheduler; drop one of them")


@contextmanager
def _stopped_by_signals(driver: Driver) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the fits with their checkpoints written."""

    def stop(*_: Any) -> None:
        raise BatchStopped

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield
    except BaseException:
        driver.stop()
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
