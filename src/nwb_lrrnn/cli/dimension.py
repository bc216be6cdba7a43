"""The command `nwb-lrrnn dimension`: read, say, and where asked for write and draw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nwb_lrrnn.cli.fit import ids_or_query, result_path
from nwb_lrrnn.cli.output import json_line, say
from nwb_lrrnn.pipeline.population import described
from nwb_lrrnn.pipeline.population import population as activity

if TYPE_CHECKING:
    from nwb_lrrnn.analysis.dimension.result import RecordedDimension

_NAMES = {
    "dimension": "dimension",
    "z_scored_dimension": "dimension, z-scored",
    "effective_rank": "effective rank",
    "z_scored_effective_rank": "effective rank, z-scored",
    "dimension_of_population": "dimension of the population",
    "z_scored_dimension_of_population": "dimension of the population, z-scored",
    "half_time": "half-time, single units",
    "half_time_of_components": "half-time, leading components",
}


def say_dimension(
    uri: str,
    *,
    bin_size: float | None,
    align: str | None,
    window: tuple[float, float] | None,
    intervals: str | None,
    trials: str | None,
    series: str | None,
    table: str | None,
    binning: int | None,
    units: str | None,
    time_scale: float,
    population: float | None,
    private: str,
    seed: int,
    as_json: bool,
    output: Path | None,
    picture: Path | None,
    overwrite: bool,
    follow_links: bool,
) -> None:
    """Print the dimension of a recording; the options are those of `nwb-lrrnn dimension`."""
    if table is not None and series is not None:
        raise click.UsageError("--table: names units, and --series a series; pass one of them")
    target = None if output is None else result_path(output, uri, overwrite)
    if picture is not None and not picture.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"--picture: the folder {str(picture.absolute().parent)!r} does not exist; make it first"
        )
    from nwb_lrrnn.analysis.dimension import dimension_of_recording
    from nwb_lrrnn.io.reading.recording import open_nwb

    with open_nwb(uri, follow_links=follow_links) as recording:
        select = {"align": align, "window": window, "intervals": intervals, "trials": ids_or_query(trials)}
        X = activity(recording, series, table, bin_size, ids_or_query(units), select, time_scale, binning)
        found = dimension_of_recording(X, n_population=population, private=private, random_state=seed)  # type: ignore[arg-type]
        say(_as_json(found) if as_json else f"Data: {described(X)} of {recording.source.name}\n\n{_as_text(found)}")
        if target is not None:
            from nwb_lrrnn.results import write_results

            write_results(target, dimension=found, source=recording, overwrite=overwrite)
    if picture is not None:
        from nwb_lrrnn.plotting import plot_dimension, save

        save(plot_dimension(found), picture)
    if not as_json:
        if target is not None:
            say(f"\nResult: {target} (nwb_lrrnn.read_results gives the tables)")
        if picture is not None:
            say(f"Picture: {picture}")


def _rows(found: RecordedDimension) -> dict[str, tuple[float, float, float]]:
    return {name: found.values_of(name) for name in _NAMES if name in found}


def _as_text(found: RecordedDimension) -> str:
    """Return the paragraph and a table of numbers below it."""
    from nwb_lrrnn.analysis.dimension.result import number

    unit = found.attrs["time_unit"]
    lines = [repr(found), ""]
    for name, values in _rows(found).items():
        if values[0] == values[0]:
            value, low, high = map(number, values)
            after = f" {unit}" if name.startswith("half_time") else ""
            lines.append(f"  {_NAMES[name]:<38}{value:>8}  [{low}, {high}]{after}")
    return "\n".join(lines).rstrip()


def _as_json(found: RecordedDimension) -> str:
    """Return numbers with their intervals and what is known of them; what is not a number or endless is null."""
    numbers = {name: dict(zip(("value", "low", "high"), values, strict=True)) for name, values in _rows(found).items()}
    return json_line(numbers | found.attrs)
