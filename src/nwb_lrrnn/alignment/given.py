"""What the user gives as fits: paths of result files, fitted estimators, or the table of a batch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.analysis.fixed_points import dynamics_of
from nwb_lrrnn.results import load_model, read_results

if TYPE_CHECKING:
    from nwb_lrrnn.dynamics import LowRankDynamics

# columns of the table of a batch, the status of what finished, and the columns that tell populations apart
PATH, STATUS, DONE = "results", "status", "done"
RECORDING, OF_ONE = "recording", ("recording", "series")


class Fit(NamedTuple):
    """One of the fits to compare."""

    name: str
    network: LowRankDynamics
    path: str | None  # of its result file


class Given(NamedTuple):
    """All of them, and what else the table says about each."""

    fits: list[Fit]
    labels: pd.DataFrame  # (fit,), as many columns as there are labels
    n_left_out: int  # rows that are not done
    recordings: NDArray[np.int64]  # (fit,), which recording each is of: 0, 1, ...

    @property
    def n_recordings(self) -> int:
        """How many recordings there are."""
        return int(self.recordings.max()) + 1


def as_fits(fits: Any, recordings: Sequence[object] | None) -> Given:
    """Return the fits that were given, at least two, and which are of one recording."""
    labels, n_left_out = pd.DataFrame(), 0
    if isinstance(fits, pd.DataFrame):
        paths, labels, n_left_out = _of_table(fits)
        items: list[Any] = paths
    elif isinstance(fits, str | os.PathLike) or not isinstance(fits, Iterable):
        raise TypeError(
            f"fits: got a {type(fits).__name__}, wanted a list of result files or fitted models, or a DataFrame"
        )
    else:
        items = list(fits)
    if len(items) < 2:
        left = f" ({n_left_out} rows are not {DONE!r})" if n_left_out else ""
        raise ValueError(f"fits: got {len(items)}{left}, wanted at least 2 to compare")
    found = [_fit(k, item) for k, item in enumerate(items)]
    names = _distinct(list(map(str, labels[RECORDING])) if RECORDING in labels else [fit.name for fit in found])
    found = [fit._replace(name=name) for fit, name in zip(found, names, strict=True)]
    if not len(labels.columns):
        labels = pd.DataFrame(index=range(len(found)))
    return Given(found, labels, n_left_out, _codes(recordings, labels, len(found)))


def _codes(recordings: Sequence[object] | None, labels: pd.DataFrame, n: int) -> NDArray[np.int64]:
    """Return which recording each fit is of, (fit,): as given, else as the table says, else each of its own."""
    if recordings is not None:
        if len(recordings) != n:
            raise ValueError(f"recordings: got {len(recordings)} names, wanted one for each of the {n} fits")
        named = [str(name) for name in recordings]
    elif RECORDING in labels:
        columns = [map(str, labels[name]) for name in OF_ONE if name in labels]
        named = ["\n".join(row) for row in zip(*columns, strict=True)]
    else:
        return np.arange(n)
    return pd.factorize(np.array(named, dtype=object))[0].astype(np.int64)


def latents_of(given: Given, latents: Sequence[Any] | None) -> list[xr.DataArray | None]:
    """Return the latents (trial, time, latent) of each fit: those given, or those in its file; None where absent."""
    if latents is not None:
        if len(latents) != len(given.fits):
            raise ValueError(f"latents: got {len(latents)}, wanted one for each of the {len(given.fits)} fits")
        for k, z in enumerate(latents):
            if z is not None and not (isinstance(z, xr.DataArray) and {"trial", "time", "latent"} == set(z.dims)):
                raise ValueError(
                    f"latents: number {k} is a {type(z).__name__}{getattr(z, 'dims', '')}, wanted a DataArray "
                    "(trial, time, latent): what model.transform makes of a labelled recording"
                )
        return list(latents)
    return [None if fit.path is None else _stored_latents(fit.path) for fit in given.fits]


def _of_table(table: pd.DataFrame) -> tuple[list[Any], pd.DataFrame, int]:
    if PATH not in table:
        raise ValueError(
            f"fits: the table has the columns {', '.join(map(str, table.columns))}, wanted {PATH!r} with the path of "
            "the result file of each fit"
        )
    done = np.ones(len(table), dtype=bool) if STATUS not in table else np.array([v == DONE for v in table[STATUS]])
    rows = table.iloc[np.flatnonzero(done)]
    paths = list(rows[PATH])
    for row, path in zip(rows.index, paths, strict=True):
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ValueError(
                f"fits: row {row!r} has no path in {PATH!r}, wanted the result file of the fit; drop the row"
            )
    labels = rows.drop(columns=[name for name in (PATH, STATUS) if name in rows]).reset_index(drop=True)
    return paths, labels, len(table) - len(rows)


def _fit(k: int, item: Any) -> Fit:
    if isinstance(item, str | os.PathLike):
        path = os.fspath(item)
        try:
            return Fit(Path(path).stem, dynamics_of(load_model(path)), path)
        except TypeError as error:
            raise TypeError(f"fits: {path}: {error}") from error
    try:
        return Fit(f"fit{k}", dynamics_of(item), None)
    except TypeError as error:
        raise TypeError(f"fits: number {k}: {error}; or pass the path of a result file") from error


def _stored_latents(path: str) -> xr.DataArray | None:
    tree = read_results(path)
    if "trials" not in tree.children or "latents" not in tree["trials"]:
        return None
    latents = tree["trials/latents"]
    return latents.load() if set(latents.dims) == {"trial", "time", "latent"} else None  # type: ignore[union-attr, return-value]


def _distinct(names: list[str]) -> list[str]:
    """Return names of which no two are equal: files of one name in many folders get their number."""
    counts = Counter(names)
    return [f"{name}#{k}" if counts[name] > 1 else name for k, name in enumerate(names)]


def as_labels(column: Any) -> np.ndarray:
    """Return the values of a label as numbers, or else as texts: a Dataset of them can be stored."""
    values = np.asarray(column)
    if values.dtype.kind in "biufM":
        return values
    texts = ["" if value is None else str(value) for value in values.tolist()]
    return np.array(["" if text in ("nan", "NaT", "<NA>") else text for text in texts], dtype=object)
