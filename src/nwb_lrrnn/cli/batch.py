"""The commands `nwb-lrrnn batch` and `fit-one`: a study over many recordings, and one fit of its manifest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.cli.output import json_line, say
from nwb_lrrnn.showing import printable

if TYPE_CHECKING:
    import pandas as pd

    from nwb_lrrnn.batch.driver import Outcome

STOPPED = 75
_MOST_SHOWN = 40  # rows of the final table


def say_batch(
    source: str,
    *,
    config: Path,
    output: Path,
    glob: str | None,
    executor: str,
    scheduler: str | None,
    workers: int | None,
    resume: bool,
    retry_failed: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a batch; the options are those of `nwb-lrrnn batch`. Return 0, or 1 where some fits failed."""
    if scheduler is not None:
        executor = "dask"
    if dry_run:
        return _say_estimate(source, config, output, glob, workers, as_json)
    if executor == "slurm-array":
        return _write_script(source, config, output, glob, workers, resume, as_json)
    from nwb_lrrnn.batch.run import BatchStopped, run_batch

    began = time.monotonic()
    try:
        table = run_batch(
            source,
            config,
            out=output,
            glob=glob,
            executor=executor,
            scheduler=scheduler,
            n_workers=workers,
            resume=resume,
            retry_failed=retry_failed,
            on_outcome=_line if as_json else _teller(),
        )
    except BatchStopped:
        say(f"Stopped; go on with --resume: {output}", err=True)
        return STOPPED
    if as_json:
        _line_of({"event": "end", **_counts(table), "out": str(output)})
    else:
        _say_table(table, output, time.monotonic() - began)
    return 0 if all(status == "done" for status in table["status"]) else 1


def say_fit_one(manifest: Path, index: int, *, every: int | None, as_json: bool) -> int:
    """Run a fit of a manifest, and every so-many-th after it; return 0, 1 (some failed) or 75 (stopped)."""
    from nwb_lrrnn.batch.one import fit_one, was_stopped

    n_lines = sum(1 for _ in manifest.open("rb")) if manifest.is_file() else index + 1
    code = 0
    for number in range(index, max(n_lines, index + 1), every or max(n_lines, 1)):
        outcome = fit_one(manifest, number)
        if as_json:
            _line_of({"event": "fit", "index": number, **outcome})
        elif outcome["state"] == "done":
            say(f"{number}: done, score {outcome['numbers'].get('score', float('nan')):.6g}")
        else:
            say(f"{number}: {outcome['class']}: {outcome['sentence']}", err=True)
        if was_stopped(outcome):
            return STOPPED
        code = code or int(outcome["state"] != "done")
    return code


# --- what is said -------------------------------------------------------------------------------------------------


def _teller() -> Callable[[Outcome], None]:
    """Return what says each failure as it happens: beside the bar of a terminal, elsewhere every fit with its time."""
    is_terminal = sys.stderr.isatty()

    def told(outcome: Outcome) -> None:
        if outcome.state == "failed":
            text = printable(f"{outcome.fit.label}: failed: {outcome.found.get('sentence', '')}")
        elif is_terminal or not outcome.is_new:
            return
        else:
            text = printable(f"{outcome.fit.label}: done")
        if is_terminal:
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        else:
            say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", err=True)

    return told


def _line(outcome: Outcome) -> None:
    _line_of(
        {
            "event": "fit",
            "state": outcome.state,
            "recording": outcome.fit.recording.name,
            "series": outcome.fit.series,
            "point": dict(outcome.fit.point),
            "fold": outcome.fit.fold,
            "seed": outcome.fit.seed,
            "key": outcome.key,
            **{key: value for key, value in outcome.found.items() if key not in ("key", "label", "state")},
        }
    )


def _line_of(value: dict[str, Any]) -> None:
    say(json_line(value))


def _counts(table: pd.DataFrame) -> dict[str, int]:
    return {"fits": len(table), **{str(name): int(n) for name, n in table["status"].value_counts().items()}}


def _say_table(table: pd.DataFrame, output: Path, seconds: float) -> None:
    """Print what was found, a row a fit."""
    shown = ("recording", "series", "rank", "fold", "seed", "score", "above_mean_rate", "nonlinear", "seconds")
    done, failed = (table.loc[table["status"].eq("done") == is_done] for is_done in (True, False))
    columns = [name for name in shown if name in done and len(done[name].dropna())]
    if len(done):
        say(done[columns].iloc[:_MOST_SHOWN].to_string(index=False, float_format="{:.4g}".format))
        if len(done) > _MOST_SHOWN:
            say(f"... and {len(done) - _MOST_SHOWN} more")
    for _, row in failed.iterrows():
        say(f"{row['status']}: {row['recording']} (seed {row['seed']}): {row.get('sentence', '')}")
    say(f"\n{len(done)} of {len(table)} fits done, {len(failed)} not; {seconds:.0f} s")
    say(f"Table and overview: {output}/overview.html (nwb_lrrnn.read_batch gives the table)")


def _say_estimate(source: str, config: Path, output: Path, glob: str | None, workers: int | None, as_json: bool) -> int:
    from nwb_lrrnn.batch.estimates import estimated
    from nwb_lrrnn.batch.plan import fits_of
    from nwb_lrrnn.batch.recordings import recordings_of
    from nwb_lrrnn.batch.study import read_study
    from nwb_lrrnn.models.training.threads import n_cores

    study, recordings = read_study(config), recordings_of(source, glob=glob)
    fits = list(fits_of(recordings, study))
    found = estimated(recordings, fits, study, output)
    n = workers or n_cores()
    total = found.seconds(n)
    if as_json:
        _line_of({"event": "estimate", **vars(found), "workers": n, "seconds": total})
        return 0
    for one in recordings[:_MOST_SHOWN]:
        say(f"  {one.name}  {'' if one.size is None else f'{one.size / 1e6:.3g} MB'}")
    if len(recordings) > _MOST_SHOWN:
        say(f"  ... and {len(recordings) - _MOST_SHOWN} more")
    say(f"{found.n_recordings} recordings, {found.n_bytes / 1e6:.4g} MB")
    say(f"{found.n_fits} fits ({study.n_runs} of each recording), {found.n_done} of them done")
    if found.memory is not None:
        say(f"Memory: {found.memory / 1e6:.0f} MB a fit, {n * found.memory / 1e6:.0f} MB for {n} at once")
    if total is None:
        say("Time: not known")
    else:
        more = "more than " if found.is_more else ""
        say(f"Time: {more}{found.seconds_of_fit:.3g} s a fit, {more}{_duration(total)} with {n} at once")
    say(f"By {found.basis}")
    return 0


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _write_script(
    source: str, config: Path, output: Path, glob: str | None, workers: int | None, resume: bool, as_json: bool
) -> int:
    from nwb_lrrnn.batch.one import MANIFEST, write_slurm_array
    from nwb_lrrnn.batch.run import prepared
    from nwb_lrrnn.batch.study import read_study

    read_study(config)
    folder = prepared(output.expanduser().absolute(), resume)
    script, n_fits = write_slurm_array(source, config, folder, glob=glob, n_workers=workers)
    if as_json:
        _line_of({"event": "script", "script": str(script), "manifest": str(folder / MANIFEST), "fits": n_fits})
        return 0
    say(f"{n_fits} fits in {folder / MANIFEST}\nSubmit them with: sbatch {script}")
    say("Gather what they found, then or meanwhile, with the same command and --executor none --resume")
    return 0
