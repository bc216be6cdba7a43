"""The command `nwb-lrrnn`: demo, inspect, fit, batch, dimension. Every command imports what it needs when it runs."""

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nwb_lrrnn.cli.fit import fit_recording, models_text
from nwb_lrrnn.cli.output import json_line, say
from nwb_lrrnn.cli.suggestion import suggested
from nwb_lrrnn.showing import PrintableFormatter

# What users cause, with a message of one sentence; anything else is a bug, and its traceback is wanted.
_USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError, MemoryError)

_NO_MEMORY = "the memory does not suffice; take fewer trials, fewer units or larger bins"

_POSITIVE = click.FloatRange(min=0, min_open=True)


class _PositiveFraction(click.ParamType):
    """A positive number that may be written as a fraction, such as 1/30000."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it as a float."""
        from fractions import Fraction

        try:
            number = float(Fraction(str(value)))
        except (ValueError, ZeroDivisionError):
            number = 0.0
        if not number > 0:
            self.fail(f"got {value!r}, wanted a positive number, such as 0.001 or 1/30000", param, ctx)
        return number


@dataclass
class SharedOptions:
    """What the options that every command has say."""

    debug: bool = False
    verbose: bool = False


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and exit with 0 (done), 1 (failed, one sentence on stderr), 2 (wrong use) or 130 (Ctrl-C).

    Parameters
    ----------
    args : sequence of str, optional
        By default those of the process.
    """
    settings = SharedOptions()
    try:
        with _plain_warnings():
            # click exits on its own only for --help and --version, whose code it returns here
            code = cli.main(args=args, prog_name="nwb-lrrnn", obj=settings, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()  # nothing was asked for: the help
        code = error.exit_code
    except click.ClickException as error:
        say(f"Error: {' '.join(error.format_message().split())}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("Stopped.", err=True)
        sys.last_type = KeyboardInterrupt  # as Python notes what nobody caught; a silent server then delays no exit
        code = 130
    except _USER_ERRORS as error:
        if settings.debug:
            raise
        if isinstance(error, MemoryError):
            say(f"Error: {_NO_MEMORY} ({_one_sentence(error)})", err=True)
        else:
            say(f"Error: {_in_options(_one_sentence(error))}", err=True)
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _one_sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _in_options(text: str) -> str:
    """Return a message that names arguments of Python with the options of `fit` in their place."""
    for parameter in fit.params:
        name, option = str(parameter.name), max(parameter.opts, key=len)
        if option.startswith("--"):
            text = re.sub(rf"^{name}: ", f"{option}: ", text)
            text = re.sub(rf"(?<![\w.]){name}=\(start, stop\)", f"{option} START STOP", text)
            text = re.sub(rf"(?<![\w.]){name}=(\.\.\.)?(?=[\s,;.]|$)", option, text)
            text = re.sub(rf"(?<![\w.(]){name}=(?=['\"\d(\[])", f"{option} ", text)
    return text


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show the warnings meant for users as one line each, and no others."""

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        say(f"Warning: {_in_options(' '.join(str(message).split()))}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning)
        warnings.showwarning = show
        yield


def common_options(command: Callable) -> Callable:
    """Return the command with --verbose and --debug."""

    def set_to_true(name: str) -> Callable:
        def callback(context: click.Context, parameter: click.Parameter, value: bool) -> None:
            if value:
                setattr(context.ensure_object(SharedOptions), name, True)

        return callback

    verbose = click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=set_to_true("verbose"), help="Say what is done."
    )
    debug = click.option(
        "--debug", is_flag=True, expose_value=False, callback=set_to_true("debug"), help="Show the traceback of errors."
    )
    return verbose(debug(command))


@contextmanager
def _logging(verbose: bool) -> Iterator[None]:
    """Show the warnings in the log of the package on stderr while a command runs, and all of it where asked for."""
    logger, handler = logging.getLogger("nwb_lrrnn"), logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s" if verbose else "Warning: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _wrong_use() -> Iterator[None]:
    """Let what is wrong with a study or a folder be wrong use: what is wrong with a recording is an outcome."""
    try:
        yield
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        raise click.UsageError(str(error)) from error


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        import nwb_lrrnn

        say(f"nwb-lrrnn {nwb_lrrnn.__version__}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Fit low-rank recurrent networks to neural recordings in NWB files."""


@cli.command(short_help="Fit a simulated recording and compare with the truth.")
@click.option("--out", default="nwb_lrrnn_demo", show_default=True, help="Folder for the files; made if missing.")
@click.option("--seed", default=0, show_default=True, help="Of the simulation and of the fit.")
@click.option("--quick", is_flag=True, help="A smaller recording and a shorter fit, for a first look.")
@common_options
@click.pass_obj
def demo(settings: SharedOptions, out: str, seed: int, quick: bool) -> None:
    """Make a recording with known dynamics, fit it, and say how well they were found.

    Needs no network and about a minute. Writes the recording, the result and a figure.
    """
    from nwb_lrrnn.demo import run_demo

    with _logging(settings.verbose):
        run_demo(out, seed=seed, quick=quick, say=say)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print a line of JSON instead, for machines.")
_follow_links = click.option(
    "--follow-links", is_flag=True, help="Read what the file holds by links to files outside of its folder too."
)


@cli.command(short_help="Show what is in a file and what can be fitted.")
@click.argument("uri")
@_follow_links
@_as_json
@common_options
@click.pass_obj
def inspect(settings: SharedOptions, uri: str, follow_links: bool, as_json: bool) -> None:
    """Show what is in an NWB file, what can be fitted, and what is wrong with it; of a folder, what its files hold."""
    from nwb_lrrnn.cli.folder import event_of, inspect_folder, is_folder
    from nwb_lrrnn.io.reading.recording import open_nwb

    if is_folder(uri):
        with _logging(settings.verbose):
            inspect_folder(uri, follow_links=follow_links, say=say, as_json=as_json)
        return
    with _logging(settings.verbose), open_nwb(uri, follow_links=follow_links) as recording:
        if as_json:
            say(
                json_line(
                    event_of(recording) | dict(zip(("command", "reason"), suggested(recording, uri), strict=True))
                )
            )
            return
        say(repr(recording))
        say("\nProblems" if recording.problems else "\nNo problems found.")
        for problem in recording.problems:
            say(f"  {problem}")
        if recording.fittable:
            command, reason = suggested(recording, uri)
            say(
                f"\nTo fit a model: {command}" if command else f"\nNo command fits this as it is: {_in_options(reason)}"
            )


@cli.command(short_help="Fit a model, compare it with baselines, write NWB.")
@click.argument("uri")
@click.option(
    "--model",
    default="lowrank",
    show_default=True,
    help=models_text(),
)
@click.option("--rank", type=int, help="Number of latents.  [default: 2]")
@click.option("--bin-size", type=_POSITIVE, help="Seconds.  [default: 0.02 for spikes, the rate of a series]")
@click.option("--align", help="Column of the trial table with session times: time 0 of each trial.")
@click.option("--window", nargs=2, type=float, help="Start and stop in s, relative to --align.")
@click.option("--intervals", help="Table of intervals that holds the trials.  [default: trials, else the only one]")
@click.option("--trials", help="Which trials: ids (3,4,5) or a query such as \"side == 'left'\".")
@click.option("--series", help="Fit this series.  [default: the spikes, else the only series]")
@click.option("--table", help="Units table to fit.  [default: /units, else the only one with spike times]")
@click.option("--binning", type=click.IntRange(min=1), metavar="PIXELS", help="Of a movie: the side of its blocks.")
@click.option("--units", help="Which units: ids (3,4,5) or a query such as \"quality == 'good'\".")
@click.option("--inputs", multiple=True, metavar="SERIES", help="A series that drives the network; may be repeated.")
@click.option("--chop", type=_POSITIVE, metavar="SECONDS", help="Window length for recordings without trials.")
@click.option("--time-scale", type=_PositiveFraction(), default=1.0, help="Seconds per unit of spike times: 1/30000.")
@click.option("--test-fraction", default=0.25, show_default=True, help="Share of the trials held out.")
@click.option("--no-compare", is_flag=True, help="Hold nothing out and compare with no baselines.")
@click.option("--max-epochs", type=int, help="Most epochs of the fit.")
@click.option("--seed", default=0, show_default=True, help="Of the fit and of which trials are held out.")
@click.option("--device", help="cpu, cuda or auto.  [default: cpu]")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any parameter of the model.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Result file.  [default: <name>_lrrnn.nwb]")
@click.option("--overwrite", is_flag=True, help="Replace a result file that is there.")
@_follow_links
@_as_json
@common_options
@click.pass_obj
def fit(settings: SharedOptions, **options: Any) -> None:
    """Fit a model to a recording, compare it with simpler ones on held-out trials, and write the result."""
    with _logging(settings.verbose):
        fit_recording(**options)


@cli.command(short_help="Dimension and time-scales of a recording, without a fit.")
@click.argument("uri")
@click.option("--bin-size", type=_POSITIVE, help="Seconds.  [default: 0.02 for spikes, the rate of a series]")
@click.option("--align", help="Column of the trial table with session times: time 0 of each trial.")
@click.option("--window", nargs=2, type=float, help="Start and stop in s, relative to --align.")
@click.option("--intervals", help="Table of intervals that holds the trials.  [default: trials, else the only one]")
@click.option("--trials", help="Which trials: ids (3,4,5) or a query such as \"side == 'left'\".")
@click.option("--series", help="Of this series.  [default: the spikes, else the only series]")
@click.option("--table", help="Units table.  [default: /units, else the only one with spike times]")
@click.option("--binning", type=click.IntRange(min=1), metavar="PIXELS", help="Of a movie: the side of its blocks.")
@click.option("--units", help="Which units: ids (3,4,5) or a query such as \"quality == 'good'\".")
@click.option("--time-scale", type=_PositiveFraction(), default=1.0, help="Seconds per unit of spike times: 1/30000.")
@click.option("--population", type=_POSITIVE, metavar="N", help="Say the dimension of N such units too.")
@click.option("--private", default="auto", show_default=True, help="Noise of each unit: auto, poisson or kept.")
@click.option("--seed", default=0, show_default=True, help="Of the intervals.")
@_as_json
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write them into this result file.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw spectrum and time-scales into this file.")
@click.option("--overwrite", is_flag=True, help="Replace a result file that is there.")
@_follow_links
@common_options
@click.pass_obj
def dimension(settings: SharedOptions, **options: Any) -> None:
    """Say how many dimensions the activity has, and how long it remembers, with 95 % intervals; fit nothing."""
    from nwb_lrrnn.cli.dimension import say_dimension

    with _logging(settings.verbose):
        say_dimension(**options)


@cli.command(short_help="Fit a study to many recordings.")
@click.argument("source")
@click.option("--config", type=click.Path(path_type=Path), required=True, help="The study, a TOML file.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="nwb_lrrnn_batch", show_default=True, help="Folder."
)
@click.option("--glob", help="Which files of a dandiset or folder.  [default: *.nwb]")
@click.option(
    "--executor",
    type=click.Choice(["local", "dask", "slurm-array", "none"]),
    default="local",
    show_default=True,
    help="Who fits; none gathers what is there.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a dask scheduler, such as tcp://node1:8786.")
@click.option("--workers", type=click.IntRange(min=1), help="Fits at once.  [default: one a core]")
@click.option("--resume", is_flag=True, help="Go on with the batch that is in the folder.")
@click.option("--retry-failed", is_flag=True, help="With --resume: try again what failed for good, too.")
@click.option("--dry-run", is_flag=True, help="Say what would be fitted, and how much memory and time it takes.")
@_as_json
@common_options
@click.pass_obj
def batch(settings: SharedOptions, **options: Any) -> int:
    """Fit a study to all recordings of a dandiset, a folder or a manifest (CSV), each fit in a process of its own.

    What is complete is never fitted again. Exits with 0 (all done), 1 (some failed), 2 (wrong use) or 75 (stopped).
    """
    from nwb_lrrnn.cli.batch import say_batch

    with _logging(settings.verbose), _wrong_use():
        return say_batch(**options)


@cli.command(name="fit-one", short_help="Run one fit of a batch, as a job of a queue does.")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("index", type=click.IntRange(min=0))
@click.option("--every", type=click.IntRange(min=1), help="Go on with every so many-th line.  [default: one fit]")
@_as_json
@common_options
@click.pass_obj
def fit_one(settings: SharedOptions, manifest: Path, index: int, every: int | None, as_json: bool) -> int:
    """Run the fit on line INDEX (from 0 on) of MANIFEST, which `nwb-lrrnn batch --executor slurm-array` writes.

    Exits with 0 (done), 1 (failed) or 75 (stopped by SIGTERM; it goes on from its checkpoint).
    """
    from nwb_lrrnn.cli.batch import say_fit_one

    with _logging(settings.verbose):
        return say_fit_one(manifest, index, every=every, as_json=as_json)
