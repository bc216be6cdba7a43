"""The command `nwb-lrrnn fit`, step by step: select, hold out, fit, compare, write."""

import ast
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nwb_lrrnn import models
from nwb_lrrnn.cli.output import json_line, say
from nwb_lrrnn.io.files.secrets import is_address
from nwb_lrrnn.pipeline.estimators import WORDS, closest, estimator_class, parameters_of
from nwb_lrrnn.pipeline.held_out import check_trials, held_out, trials_of
from nwb_lrrnn.pipeline.outcome import held_out_table, part_of, write_fit
from nwb_lrrnn.pipeline.population import described, driving_inputs, population

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from nwb_lrrnn.models.base import LatentModel


def fit_recording(
    uri: str,
    *,
    model: str,
    rank: int | None,
    bin_size: float | None,
    align: str | None,
    window: tuple[float, float] | None,
    intervals: str | None,
    trials: str | None,
    series: str | None,
    table: str | None,
    units: str | None,
    inputs: Sequence[str],
    chop: float | None,
    time_scale: float,
    test_fraction: float,
    no_compare: bool,
    max_epochs: int | None,
    seed: int,
    device: str | None,
    assignments: Sequence[str],
    output: Path | None,
    overwrite: bool,
    follow_links: bool = False,
    binning: int | None = None,
    as_json: bool = False,
) -> None:
    """Fit a model to a recording and write the result; the options are those of `nwb-lrrnn fit`."""
    tell = _nothing if as_json else say
    if not 0 < test_fraction < 1:
        raise click.UsageError(f"--test-fraction: got {test_fraction:g}, wanted a share between 0 and 1, such as 0.25")
    if table is not None and series is not None:
        raise click.UsageError("--table: names units, and --series a series; pass one of them")
    estimator = _estimator(model, rank=rank, max_epochs=max_epochs, seed=seed, device=device, assignments=assignments)
    output = result_path(output, uri, overwrite)

    from nwb_lrrnn.io.files.memory import check_memory
    from nwb_lrrnn.io.reading.recording import open_nwb

    with open_nwb(uri, follow_links=follow_links) as recording:
        select = {"align": align, "window": window, "intervals": intervals, "trials": ids_or_query(trials)}
        X = population(recording, series, table, bin_size, ids_or_query(units), select, time_scale, binning)
        check_memory(
            X.size * 8,  # the fit needs it as float64
            f"bin_size: {' x '.join(f'{size} {dim}s' for dim, size in X.sizes.items())}",
            "pass a larger --bin-size, a shorter --window, fewer --units or --trials, or the right --time-scale",
        )
        u = driving_inputs(recording, inputs, X)
        is_cut = X.ndim == 2
        if not is_cut and chop is not None:
            raise click.UsageError("--chop: the recording has trials; drop --chop, or select a stretch with --window")
        X, u, shortage = trials_of(X, u, chop, test_fraction, lambda text: tell(text.replace("chop=", "--chop")))
        X = X.load()  # everything below needs all of it, several times
        check_trials(estimator, X, u)
        tell(f"Data: {described(X)} of {recording.source.name}")
        held = None if no_compare else held_out(X, test_fraction, seed, is_cut)
        estimator = _fitted(estimator, X, u, held, is_cut, tell)
        scores = None if held is None else _compared(estimator, X, u, held, seed, shortage, tell)
        write_fit(output, estimator, X, u, held, scores, recording, overwrite)
        if as_json:
            say(json_line(_as_event(output, estimator, X, held, scores, recording)))
    tell(f"Result: {output} (nwb_lrrnn.load_model gives the model, nwb_lrrnn.read_results the latents)")


def models_text() -> str:
    """Return the models that can be fitted, for the help: lowrank (deterministic), and so on."""
    hints = ((word, models.ESTIMATORS[name].hint) for word, name in WORDS.items())
    return ", ".join(f"{word} ({hint})" if hint else word for word, hint in hints) + "."


# --- what the options say -------------------------------------------------------------------------------------------


def _estimator(
    name: str, *, rank: int | None, max_epochs: int | None, seed: int, device: str | None, assignments: Sequence[str]
) -> "LatentModel":
    """Return the unfitted model that the options describe."""
    try:
        cls = estimator_class(name)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    known = parameters_of(cls)
    steps = "max_epochs" if "max_epochs" in known else "max_iter"
    given = {"rank": rank, steps: max_epochs, "device": device}
    parameters = {key: value for key, value in given.items() if value is not None}
    for key in parameters:
        if key not in known:
            raise click.UsageError(f"--{key}: {cls.__name__} has no {key}; drop it")
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"--set: got {assignment!r}, wanted NAME=VALUE, such as n_neurons=200")
        if key not in known:
            raise click.UsageError(
                f"--set: {cls.__name__} has no parameter {key!r}, it has {', '.join(known)}{closest(key, known)}"
            )
        if key in parameters:
            raise click.UsageError(f"--set: {key} is given twice; give it once")
        parameters[key] = _literal(value)
    parameters.setdefault("random_state", seed)
    return cls(**parameters)


def _literal(text: str) -> Any:
    """Return a number, True, None, ... where the text is one in Python's notation, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def ids_or_query(text: str | None) -> Any:
    """Return ids such as 3,4,5 as a list; any other text is a query."""
    if text is None:
        return None
    value = _literal(text)
    if isinstance(value, (tuple, list)):
        return list(value)
    return [value] if isinstance(value, int) else text


def result_path(output: Path | None, uri: str, overwrite: bool) -> Path:
    """Return where the result goes; what is wrong with that is said before the fit, not after it."""
    name = re.split(r"[?#]", uri)[0] if is_address(uri) else uri
    path = Path(f"{Path(name).stem}_lrrnn.nwb") if output is None else output
    if path.suffix != ".nwb":
        raise click.UsageError(f"--output: got {str(path)!r}, wanted a name that ends in .nwb")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--output: the folder {str(path.absolute().parent)!r} does not exist; make it first")
    if path.exists() and not overwrite:
        raise FileExistsError(f"--output: {str(path)!r} exists; choose another name with -o, or pass --overwrite")
    from nwb_lrrnn.io.writing.own_files import is_result_file

    if path.exists() and not is_result_file(path):
        raise FileExistsError(
            f"--output: {str(path)!r} is no result of nwb-lrrnn and is not replaced; choose another name"
        )
    return path


# --- fit, compare, write --------------------------------------------------------------------------------------------


def _fitted(
    estimator: "LatentModel", X: "xr.DataArray", inputs: Any, held: Any, is_cut: bool, tell: Callable[[str], None]
) -> "LatentModel":
    """Return the model fitted to the trials that are not held out."""
    train = None if held is None else ~held
    name = f"{type(estimator).__name__} (rank {estimator.get_params()['rank']})"
    noun, which = ("windows", "the last ") if is_cut else ("trials", "")
    split = f"all {noun}" if held is None else f"{int((~held).sum())} {noun}, {which}{int(held.sum())} held out"
    tell(f"Fit: {name} to {split}")
    begin = time.perf_counter()
    estimator.fit(part_of(X, train), inputs=part_of(inputs, train))
    tell(f"     {estimator.likelihood_} likelihood, {estimator.n_iter_} iterations, {_took(begin)}")
    return estimator


def _nothing(_: object = "") -> None:
    """Say nothing, where a machine listens."""


def _as_event(
    output: Path, estimator: "LatentModel", X: "xr.DataArray", held: Any, table: "pd.DataFrame | None", recording: Any
) -> dict[str, Any]:
    """Return what a fit found, for machines."""
    found: dict[str, Any] = {
        "event": "fit",
        "uri": recording.uri,
        "result": str(output),
        "model": type(estimator).__name__,
        "rank": estimator.get_params()["rank"],
        "likelihood": estimator.likelihood_,
        "n_iter": estimator.n_iter_,
        "sizes": dict(X.sizes),
        "held_out": [] if held is None else X["trial"].values[held],
    }
    if table is not None:
        found |= {key: table.attrs.get(key) for key in ("nonlinear", "verdict")}
        found["scores"] = [{"model": str(name), **row} for name, row in table.to_dict("index").items()]
    return found


def _took(begin: float) -> str:
    return f"{time.perf_counter() - begin:.3g} s"


def _compared(
    estimator: "LatentModel",
    X: "xr.DataArray",
    inputs: Any,
    held: Any,
    seed: int,
    shortage: str,
    tell: Callable[[str], None],
) -> "pd.DataFrame":
    """Return the table of held-out scores, after printing it."""
    from nwb_lrrnn.compare import table_text

    begin = time.perf_counter()
    table = held_out_table(estimator, X, inputs, held, seed, shortage)
    tell(f"Compared with baselines on what was held out, {_took(begin)}\n")
    tell(f"{table_text(table)}\n")
    return table
