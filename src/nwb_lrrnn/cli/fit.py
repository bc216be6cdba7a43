"""The command `nwb-lrrnn fit`, step by step: select, hold out, fit, compare, write."""

import ast
import difflib
import inspect
import re
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nwb_lrrnn import models
from nwb_lrrnn.cli.output import say
from nwb_lrrnn.io.files.secrets import is_address

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from nwb_lrrnn.io.reading.kinds import Content
    from nwb_lrrnn.io.reading.recording import Recording
    from nwb_lrrnn.models.base import LatentModel

_MODELS = {entry.word: name for name, entry in models.ESTIMATORS.items() if entry.word}
_N_WINDOWS = 40  # a recording without trials is cut into this many, if they are long enough for its dynamics


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
) -> None:
    """Fit a model to a recording and write the result; the options are those of `nwb-lrrnn fit`."""
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
            f"--bin-size: {' x '.join(f'{size} {dim}s' for dim, size in X.sizes.items())}",
            "pass a larger --bin-size, a shorter --window, fewer --units or --trials, or the right --time-scale",
        )
        u = _inputs(recording, inputs, X)
        is_cut = X.ndim == 2
        X, u, shortage = trials_of(X, u, chop, test_fraction)
        X = X.load()  # everything below needs all of it, several times
        _check(estimator, X, u)
        say(f"Data: {described(X)} of {recording.source.name}")
        held = None if no_compare else held_out(X, test_fraction, seed, is_cut)
        estimator = _fitted(estimator, X, u, held, is_cut)
        scores = None if held is None else _compared(estimator, X, u, held, seed, shortage)
        _write(output, estimator, X, u, held, scores, recording, overwrite)
    say(f"Result: {output} (nwb_lrrnn.load_model gives the model, nwb_lrrnn.read_results the latents)")


def models_text() -> str:
    """Return the models that can be fitted, for the help: lowrank (deterministic), and so on."""
    hints = ((word, models.ESTIMATORS[name].hint) for word, name in _MODELS.items())
    return ", ".join(f"{word} ({hint})" if hint else word for word, hint in hints) + "."


# --- what the options say -------------------------------------------------------------------------------------------


def _estimator(
    name: str, *, rank: int | None, max_epochs: int | None, seed: int, device: str | None, assignments: Sequence[str]
) -> "LatentModel":
    """Return the unfitted model that the options describe."""
    words = list(_MODELS)
    if name not in words:
        raise click.UsageError(
            f"--model: got {name!r}, wanted {', '.join(words[:-1])} or {words[-1]}{_closest(name, words)}"
        )
    cls = getattr(models, _MODELS[name])
    known = [key for key in inspect.signature(cls).parameters if key != "self"]
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
                f"--set: {cls.__name__} has no parameter {key!r}, it has {', '.join(known)}{_closest(key, known)}"
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


def _closest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


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


# --- the data -------------------------------------------------------------------------------------------------------


def population(
    recording: "Recording",
    series: str | None,
    table: str | None,
    bin_size: float | None,
    units: Any,
    select: dict[str, Any],
    time_scale: float = 1.0,
    binning: int | None = None,
) -> "xr.DataArray":
    """Return what is fitted: the series that is named, else the spikes, else the only series."""
    if recording.reason:
        raise ValueError(f"{recording.source.name}: nothing can be fitted: {recording.reason}")
    from nwb_lrrnn.io.reading.populations import choose_series, population_of

    each_trial: dict[str, Any] = select  # from its start to its stop
    if all(value is None for value in select.values()) and "/intervals/trials" in recording.intervals:
        each_trial = select | {"intervals": "/intervals/trials"}  # where several are called trials, those of the file
    if table is not None or (series is None and any(content.method == "spikes" for content in recording.fittable)):
        width = 0.02 if bin_size is None else bin_size
        return recording.spikes(width, units=units, table=table, time_scale=time_scale, **each_trial)
    fittable = [content for content in recording.fittable if content.kind != "pixels"] or recording.fittable
    names = [series_name(recording, content) for content in fittable]
    if series is None and len(names) > 1:
        such_as = shlex.quote(names[0])
        raise ValueError(f"--series: the file holds {', '.join(names)}; say which, such as --series {such_as}")
    kind = population_of(choose_series(recording.catalog, series))
    in_trials = kind is not None and kind.in_trials
    return recording.series(series, bin_size, units=units, binning=binning, **(select if in_trials else each_trial))


def series_name(recording: "Recording", content: "Content") -> str:
    """Return what a series is called, by its path where several share the name."""
    names = [entry.name for entry in recording.catalog.series]
    return content.name if names.count(content.name) == 1 else content.path


def _inputs(recording: "Recording", names: Sequence[str], X: "xr.DataArray") -> "xr.DataArray | None":
    """Return the named series and events at the trials and bins of X, side by side."""
    import xarray as xr

    events = [content.path for content in recording.contents if content.kind == "events"]
    columns = {name for content in recording.contents if content.kind == "intervals" for name in content.entry.columns}
    parts = []
    for name in names:
        is_event = name in columns or any(f"/{path}".endswith(f"/{name.strip('/')}") for path in events)
        part = recording.events(name, like=X) if is_event else recording.series(name, like=X)
        ids = part["input"].values if "input" in part.coords else range(part.sizes["input"])
        parts.append(part.assign_coords(input=[f"{name}.{id_}" for id_ in ids]))
    if not parts:
        return None
    joined: Any = xr.concat(parts, "input", coords="minimal", compat="override", join="override")
    return joined


def trials_of(
    X: "xr.DataArray",
    inputs: "xr.DataArray | None",
    duration: float | None,
    test_fraction: float,
    say: Callable[[str], None] = say,
) -> "tuple[xr.DataArray, xr.DataArray | None, str]":
    """Return X and inputs in trials, and what a recording is too short for; what has no trials is cut into windows."""
    if X.ndim == 3:
        if duration is not None:
            raise click.UsageError("--chop: the recording has trials; drop --chop, or select a stretch with --window")
        return X, inputs, ""
    from nwb_lrrnn.preprocessing import choose_window, chop

    if "bin_size" not in X.attrs:
        raise ValueError(
            f"--bin-size: {X.name} has no steady rate, so that it cannot be cut into windows; pass --bin-size"
        )
    step, why, shortage = float(X.attrs["bin_size"]), "", ""
    if duration is None:
        choice = choose_window(X, _N_WINDOWS)
        duration, shortage = choice.length * step, choice.shortage(test_fraction)
        why = f", as {choice.reason(step, 's')}; --chop says how long they are"
    cut = chop(X, duration)
    say(f"No trials: cut into {cut.sizes['trial']} windows of {cut.sizes['time'] * cut.attrs['bin_size']:.4g} s{why}")
    if shortage:
        say(f"           {shortage}")
    return cut, None if inputs is None else chop(inputs, duration), shortage


def described(X: "xr.DataArray") -> str:
    """Return what a population is in a few words: trials, bins, units."""
    noun = {"unit": "units", "roi": "ROIs", "channel": "channels", "pixel": "pixels"}.get(
        str(X.coords["unit_kind"].item()), "units"
    )
    n_trials, n_bins = X.sizes.get("trial", 1), X.sizes["time"]
    step = f" of {X.attrs['bin_size']:.4g} s" if "bin_size" in X.attrs else ""
    trials = f"{n_trials} trial{'s' if n_trials > 1 else ''}"
    return f"{trials} of {n_bins} bins{step}, {X.sizes['unit']} {noun}"


def _check(estimator: "LatentModel", X: "xr.DataArray", inputs: Any) -> None:
    """Raise what is wrong with any trial before the fit, which sees only some of them."""
    from nwb_lrrnn.trials import LazyTrials, read_trials

    trials = read_trials(X, inputs=inputs, allow_nan=estimator.__sklearn_tags__().input_tags.allow_nan)
    if isinstance(trials, LazyTrials):
        _ = trials.summary  # reads all of them


def held_out(X: "xr.DataArray", fraction: float, seed: int, is_cut: bool) -> Any:
    """Return which trials are held out, a boolean (trial,) array: trials drawn at random, or the last windows.

    A window among windows that were fitted begins and ends with what the fit has seen, and tells little of the rest.
    """
    import numpy as np

    n = X.sizes["trial"]
    n_held = max(1, round(fraction * n))
    if n - n_held < 2:
        raise ValueError(
            f"too few trials to hold some out ({n}); select more, cut shorter windows with --chop, or pass --no-compare"
        )
    held = np.zeros(n, dtype=bool)
    if is_cut:
        held[n - n_held :] = True
        return held
    held[np.random.default_rng(seed).permutation(n)[:n_held]] = True
    return held


# --- fit, compare, write --------------------------------------------------------------------------------------------


def _part(X: Any, keep: Any) -> Any:
    return X if X is None or keep is None else X[keep]


def _fitted(estimator: "LatentModel", X: "xr.DataArray", inputs: Any, held: Any, is_cut: bool) -> "LatentModel":
    """Return the model fitted to the trials that are not held out."""
    train = None if held is None else ~held
    name = f"{type(estimator).__name__} (rank {estimator.get_params()['rank']})"
    noun, which = ("windows", "the last ") if is_cut else ("trials", "")
    split = f"all {noun}" if held is None else f"{int((~held).sum())} {noun}, {which}{int(held.sum())} held out"
    say(f"Fit: {name} to {split}")
    begin = time.perf_counter()
    estimator.fit(_part(X, train), inputs=_part(inputs, train))
    say(f"     {estimator.likelihood_} likelihood, {estimator.n_iter_} iterations, {_took(begin)}")
    return estimator


def _took(begin: float) -> str:
    return f"{time.perf_counter() - begin:.3g} s"


def _compared(
    estimator: "LatentModel", X: "xr.DataArray", inputs: Any, held: Any, seed: int, shortage: str
) -> "pd.DataFrame":
    """Return the table of held-out scores, after printing it."""
    from nwb_lrrnn.compare import compare_baselines, table_text

    begin = time.perf_counter()
    table = compare_baselines(
        estimator,
        _part(X, held),
        cv="prefit",
        inputs=_part(inputs, held),
        X_train=_part(X, ~held),
        inputs_train=_part(inputs, ~held),
        random_state=seed,
    )
    if shortage and table.attrs.get("nonlinear") == "undecided":
        table.attrs["verdict"] += f" {shortage[:1].upper()}{shortage[1:]}."
    say(f"Compared with baselines on what was held out, {_took(begin)}\n")
    say(table_text(table))
    say()
    return table


def _write(
    path: Path,
    estimator: "LatentModel",
    X: "xr.DataArray",
    inputs: Any,
    held: Any,
    table: "pd.DataFrame | None",
    recording: "Recording",
    overwrite: bool,
) -> None:
    """Write the model and the latents of all trials, which say what was held out and where they come from."""
    from nwb_lrrnn.results import write_results

    latents = estimator.transform(X, inputs=inputs)
    if held is not None:
        latents = latents.assign_coords(held_out=("trial", held))
    kept = ("nwb_path", "neurodata_type", "object_id", "preprocessing")
    latents.attrs |= {key: X.attrs[key] for key in kept if key in X.attrs}
    write_results(path, estimator, latents=latents, metrics=table, source=recording, overwrite=overwrite)
