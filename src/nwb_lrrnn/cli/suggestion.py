"""The command that `inspect` suggests: tried on the recording first, as far as a fit goes before it computes."""

import shlex
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.pipeline.held_out import held_out, trials_of
from nwb_lrrnn.pipeline.population import population, series_name

if TYPE_CHECKING:
    import xarray as xr

    from nwb_lrrnn.io.reading.kinds import Content
    from nwb_lrrnn.io.reading.recording import Recording

_RANK = 2
_MOST_BYTES = 64 * 2**20  # of counts that are read to see which units fire; a file on a server is not read for this
_TRIAL = (0.0, 1.0)  # s after the start of trials that have no end
_TEST_FRACTION = 0.25
# what a recording answers where it cannot give what was asked for
_REFUSALS = (ValueError, TypeError, KeyError, OSError, ArithmeticError)


def suggested(recording: "Recording", uri: str) -> tuple[str | None, str]:
    """Return the command that fits a recording, None where no call of `fit` goes through, and then the reason."""
    reasons = []
    for content in recording.fittable:
        for options in _candidates(recording, content):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    rank = _rank(_population(recording, content, options), uri)
            except _REFUSALS as error:
                reasons.append(" ".join(str(error).split()))
                continue
            words = [word for name, value in options.items() for word in _option(name, value)]
            return shlex.join(["nwb-lrrnn", "fit", uri, "--rank", str(rank), *words]), ""
    return None, reasons[0] if reasons else ""


def _candidates(recording: "Recording", content: "Content") -> Iterator[dict[str, Any]]:
    """Yield options of `fit` that may read a population, the plainest first."""
    if content.method == "spikes":
        choice: dict[str, Any] = {"bin_size": 0.02}
        if [found.method for found in recording.fittable].count("spikes") > 1:
            choice["table"] = content.path
        yield choice
        yield choice | {"align": "start_time", "window": _TRIAL}
        return
    choice = {} if len(recording.fittable) == 1 else {"series": series_name(recording, content)}
    if content.kind == "pixels":
        from nwb_lrrnn.io.reading.pixels import suggested_binning

        choice = choice | {"binning": suggested_binning(content.entry)}
    yield choice
    yield choice | {"align": "start_time", "window": _TRIAL}
    step = _median_step(recording, content)
    if step is not None:
        choice = choice | {"bin_size": float(f"{2 * step:.2g}")}  # two samples a bin, so that few bins are empty
        yield choice
        yield choice | {"align": "start_time", "window": _TRIAL}


def _median_step(recording: "Recording", content: "Content") -> float | None:
    """Return the median step of a population in s, None where its time cannot be read."""
    import numpy as np

    try:
        time = recording.series(content.path)["time"].values
    except _REFUSALS:
        return None
    return float(np.median(np.diff(time))) if len(time) > 1 else None


def _population(recording: "Recording", content: "Content", options: dict[str, Any]) -> "xr.DataArray":
    """Return what `fit` reads with some options; raises what it would say."""
    select = {name: options.get(name) for name in ("align", "window")} | {"intervals": None, "trials": None}
    of_series: dict[str, Any] = {"series": options.get("series"), "binning": options.get("binning")}
    return population(
        recording, table=options.get("table"), bin_size=options.get("bin_size"), units=None, select=select, **of_series
    )


def _rank(X: "xr.DataArray", uri: str) -> int:
    """Return the rank for a population, or raise what a fit of it would."""
    from nwb_lrrnn.io.files.secrets import is_address
    from nwb_lrrnn.models.scored_units import scored_units
    from nwb_lrrnn.trials import read_trials

    is_cut = X.ndim == 2
    X, _, _ = trials_of(X, None, None, _TEST_FRACTION, say=lambda _: None)
    held_out(X, _TEST_FRACTION, 0, is_cut)
    n_units = X.sizes["unit"]
    if not is_address(uri) and X.nbytes <= _MOST_BYTES:
        n_units = int(scored_units(read_trials(X.load())).sum())
    if n_units < 2:
        raise ValueError(f"{n_units} of {X.sizes['unit']} units change in the trials; a network needs several")
    return min(_RANK, n_units)


def _option(name: str, value: Any) -> list[str]:
    """Return a parameter of `fit` as words of its command."""
    values = value if isinstance(value, tuple) else (value,)
    return [f"--{name.replace('_', '-')}", *(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]
