"""`Study`: what is done with every recording, as a TOML file or a mapping says it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nwb_lrrnn.pipeline.estimators import closest, estimator_class, parameters_of

READING = (
    "series",
    "table",
    "bin_size",
    "align",
    "window",
    "intervals",
    "trials",
    "units",
    "inputs",
    "chop",
    "time_scale",
    "binning",
    "follow_links",
)
EVALUATION = ("test_fraction", "folds", "compare", "seeds")
LIMITS = ("seconds", "memory")
SECTIONS = ("reading", "preprocessing", "estimator", "grid", "evaluation", "limits")
_GIVEN_BY_RUN = {"random_state": "[evaluation] seeds", "checkpoint": "the folder of the fit"}


@dataclass(frozen=True)
class Study:
    """What is done with every recording.

    Parameters
    ----------
    reading : mapping
        Arguments of `Recording.spikes` or `Recording.series`, and what `nwb-lrrnn fit` takes besides: `series` (a name
        or several, each of which is fitted), `table`, `inputs`, `chop`, `time_scale`, `binning`, `follow_links`.
    preprocessing : tuple of (name, mapping)
        Transformers of this package in order, with their parameters; fitted to what is not held out.
    model : str
        Class of the estimator.
    parameters : mapping
        Of its constructor.
    grid : mapping of lists
        Parameters of the constructor of which every combination is fitted.
    test_fraction : float
        Share of the trials that is held out.
    folds : int or None
        Instead: hold out each of so many parts in turn.
    compare : bool
        Whether simpler models are fitted too, and the four words said.
    seeds : tuple of int
        Of the model, and of the trials that are held out.
    seconds : float or None
        Most wall time of a fit.
    memory : float or None
        Most bytes of a fit.
    """

    model: str
    reading: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, list[Any]] = field(default_factory=dict)
    test_fraction: float = 0.25
    folds: int | None = None
    compare: bool = True
    seeds: tuple[int, ...] = (0,)
    seconds: float | None = None
    memory: float | None = None

    @property
    def series(self) -> tuple[str | None, ...]:
        """The series that are fitted, None being what the file offers first."""
        named = self.reading.get("series")
        return tuple(named) if isinstance(named, (list, tuple)) else (named,)

    def points(self) -> list[dict[str, Any]]:
        """Return every combination of the grid, one empty mapping without a grid."""
        names = list(self.grid)
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*self.grid.values())]

    def runs(self) -> Iterator[dict[str, Any]]:
        """Yield what is fitted to each recording: series, point of the grid, fold and seed."""
        folds = [None] if self.folds is None else list(range(self.folds))
        for series, point, fold, seed in itertools.product(self.series, self.points(), folds, self.seeds):
            yield {"series": series, "point": point, "fold": fold, "seed": seed}

    @property
    def n_runs(self) -> int:
        """Fits for each recording."""
        return len(self.series) * len(self.points()) * (self.folds or 1) * len(self.seeds)

    def steps(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that shapes a fit at a point of the grid, but the recording, its series, the fold and the seed."""
        return {
            "reading": {key: value for key, value in self.reading.items() if key != "series"},
            "preprocessing": [[name, dict(given)] for name, given in self.preprocessing],
            "model": self.model,
            "parameters": {**self.parameters, **point},
            "test_fraction": self.test_fraction,
            "folds": self.folds,
            "compare": self.compare,
        }


def digest_of(value: Any) -> str:
    """Return 16 hex digits that two JSON-able values share where they are equal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_study(config: Study | str | os.PathLike[str] | Mapping[str, Any]) -> Study:
    """Return the study of a TOML file or of a mapping with the same sections.

    Raises
    ------
    ValueError
        If a section, key or value is wrong; the closest right one is named.
    FileNotFoundError
        If there is no such file.
    """
    if isinstance(config, Study):
        return config
    if isinstance(config, Mapping):
        return _study(dict(config), "config")
    import tomllib

    path = Path(config).expanduser()
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"config: {str(path)!r} does not exist, wanted the file of a study, such as study.toml"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: this is no TOML: {error}") from None
    return _study(given, path.name)


def _study(given: dict[str, Any], where: str) -> Study:
    _known(given, SECTIONS, where, "section")
    for name in SECTIONS:
        if name == "preprocessing":
            continue
        if not isinstance(given.get(name, {}), Mapping):
            raise ValueError(f"{where}: {name} got {given[name]!r}, wanted a section [{name}] with keys")
    estimator = dict(given.get("estimator", {}))
    if "model" not in estimator:
        raise ValueError(f'{where}: [estimator] has no model; add one, such as model = "lowrank"')
    try:
        cls = estimator_class(estimator.pop("model"))
    except ValueError as error:
        raise ValueError(f"{where}: [estimator] {error}") from None
    parameters = parameters_of(cls)
    _known(estimator, parameters, f"{where}: [estimator]", "parameter", cls.__name__)
    grid = dict(given.get("grid", {}))
    _known(grid, parameters, f"{where}: [grid]", "parameter", cls.__name__)
    for section, mapping in (("estimator", estimator), ("grid", grid)):
        for key in _GIVEN_BY_RUN.keys() & mapping.keys():
            raise ValueError(f"{where}: [{section}] {key} is given by {_GIVEN_BY_RUN[key]}; drop it")
    for key, values in grid.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"{where}: [grid] {key} got {values!r}, wanted a list of values, such as [1, 2, 3]")
        if key in estimator:
            raise ValueError(f"{where}: {key} stands in [estimator] and in [grid]; drop one of them")
    study = Study(
        model=cls.__name__,
        reading=_reading(dict(given.get("reading", {})), where),
        preprocessing=_preprocessing(given.get("preprocessing", []), where),
        parameters=estimator,
        grid={key: list(values) for key, values in grid.items()},
        **_evaluation(dict(given.get("evaluation", {})), where),
        **_limits(dict(given.get("limits", {})), where),
    )
    for point in study.points():
        cls(**study.parameters, **point)  # only assigns; a value that is no value of any kind shows here
    return study


def _reading(given: dict[str, Any], where: str) -> dict[str, Any]:
    section = f"{where}: [reading]"
    _known(given, READING, section, "key")
    if "table" in given and "series" in given:
        raise ValueError(f"{section} table names units, and series a series; drop one of them")
    for key in ("bin_size", "chop", "time_scale"):
        if key in given and not _is_positive(given[key]):
            raise ValueError(f"{section} {key} got {given[key]!r}, wanted a positive number of seconds")
    if "window" in given:
        window = given["window"]
        if not isinstance(window, (list, tuple)) or len(window) != 2 or not all(_is_number(edge) for edge in window):
            raise ValueError(f"{section} window got {window!r}, wanted [start, stop] in s")
        if not window[0] < window[1]:
            raise ValueError(f"{section} window got {list(window)}, whose stop is not after its start")
    if isinstance(given.get("inputs"), str):
        given["inputs"] = [given["inputs"]]
    return given


def _preprocessing(given: Any, where: str) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    from nwb_lrrnn import preprocessing

    offered = [name for name in preprocessing.__all__ if hasattr(getattr(preprocessing, name), "transform")]
    section = f"{where}: [[preprocessing]]"
    if not isinstance(given, (list, tuple)) or not all(isinstance(step, Mapping) for step in given):
        raise ValueError(f'{section} got {given!r}, wanted a list of steps, such as {{step = "ZScore"}}')
    steps = []
    for step in given:
        parameters = dict(step)
        name = parameters.pop("step", None)
        if name not in offered:
            raise ValueError(
                f"{section} step got {name!r}, wanted one of {', '.join(offered)}{closest(str(name), offered)}"
            )
        _known(parameters, parameters_of(getattr(preprocessing, name)), section, "parameter", name)
        steps.append((name, parameters))
    return tuple(steps)


def _evaluation(given: dict[str, Any], where: str) -> dict[str, Any]:
    section = f"{where}: [evaluation]"
    _known(given, EVALUATION, section, "key")
    if "folds" in given and "test_fraction" in given:
        raise ValueError(f"{section} folds and test_fraction both say what is held out; drop one of them")
    folds, fraction = given.get("folds"), given.get("test_fraction", 0.25)
    if folds is not None and (not _is_whole(folds) or folds < 2):
        raise ValueError(f"{section} folds got {folds!r}, wanted a whole number from 2 on")
    if not _is_number(fraction) or not 0 < fraction < 1:
        raise ValueError(f"{section} test_fraction got {fraction!r}, wanted a share between 0 and 1, such as 0.25")
    if not isinstance(given.get("compare", True), bool):
        raise ValueError(f"{section} compare got {given['compare']!r}, wanted true or false")
    seeds = given.get("seeds", [0])
    seeds = [seeds] if _is_whole(seeds) else seeds
    if not isinstance(seeds, (list, tuple)) or not seeds or not all(_is_whole(seed) and seed >= 0 for seed in seeds):
        raise ValueError(f"{section} seeds got {seeds!r}, wanted whole numbers from 0 on, such as [0, 1]")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{section} seeds got {list(seeds)}, in which one stands twice; drop it")
    return {
        "test_fraction": float(fraction),
        "folds": folds,
        "compare": given.get("compare", True),
        "seeds": tuple(seeds),
    }


def _limits(given: dict[str, Any], where: str) -> dict[str, Any]:
    section = f"{where}: [limits]"
    _known(given, LIMITS, section, "key")
    seconds, memory = given.get("seconds"), given.get("memory")
    if seconds is not None and not _is_positive(seconds):
        raise ValueError(f"{section} seconds got {seconds!r}, wanted a positive number")
    if memory is not None:
        from dask.utils import parse_bytes

        try:
            memory = float(parse_bytes(memory))
        except (ValueError, TypeError, AttributeError):
            memory = 0.0
        if not memory > 0:
            raise ValueError(f'{section} memory got {given["memory"]!r}, wanted an amount such as "8 GB"')
    return {"seconds": seconds, "memory": memory}


def _known(given: Mapping[str, Any], names: Any, where: str, kind: str, owner: str = "") -> None:
    for key in given:
        if key not in names:
            has = f"{owner} has no {kind} {key!r}, it has" if owner else f"there is no {kind} {key!r}, wanted one of"
            raise ValueError(f"{where} {has} {', '.join(names)}{closest(str(key), names)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < float("inf")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
