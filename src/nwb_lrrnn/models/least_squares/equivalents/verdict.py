"""Intervals over the networks of an ensemble, and what is the same in all of them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[np.floating]

AMONG = ("without inputs", "all")
_SAYINGS = {  # quantity -> how it is called
    "velocity": "the field where the latents were",
    "velocity_beyond": "the field twice as far out",
    "gain": "what becomes of a push along the path",
    "jacobian": "the Jacobian along the path",
    "fixed_point": "where it rests",
    "fixed_point_rate": "the stability there",
    "overlap": "the overlap of its connectivity vectors",
    "connectivity_norm": "the strength of its connectivity",
}
_HEADS = {
    "without inputs": "If no input is unknown",
    "all": "If inputs may be unknown",
}
QUANTITIES = tuple(_SAYINGS)
_RATIOS = ("gain", "connectivity_norm")  # compared by their logarithm


def judged(asked: xr.Dataset, scale: Array, tau: float, level: float, tolerance: float) -> xr.Dataset:
    """Return intervals of what was asked, how wide they are relative to what they are of, and what may be believed.

    `asked` has `kind` over `network`. Networks "without inputs" have intervals of `level`; of "all", rivals under
    inputs of their own among them, the least and the largest count.
    """
    kind = asked["kind"].values
    rows = {"without inputs": kind != "rival", "all": np.ones(len(kind), dtype=bool)}
    tails = {"without inputs": (0.5 - level / 2, 0.5 + level / 2), "all": (0.0, 1.0)}
    found: dict = {}
    width = np.full((len(AMONG), len(QUANTITIES)), np.nan)
    for k, name in enumerate(QUANTITIES):
        values, dims = _values(asked, name)
        bounds = np.stack([_quantiles(values[rows[among]], tails[among]) for among in AMONG])
        middle = np.stack([_quantiles(values[rows[among]], (0.5,))[0] for among in AMONG])
        if name != "velocity_beyond":
            whole = _values(asked, name, all_points=True)[0]
            full = np.stack([_quantiles(whole[rows[among]], tails[among]) for among in AMONG])
            found[f"{name}_interval"] = (("among", "bound", *dims), full)
        for row, (low, high) in enumerate(bounds):
            width[row, k] = _width(name, low, high, middle[row], values[0], asked, scale, tau)
    found["width"] = (("among", "quantity"), width)
    found["may_be_believed"] = (("among", "quantity"), width <= tolerance)
    coords = {"among": list(AMONG), "bound": ["low", "high"], "quantity": list(QUANTITIES)}
    return xr.Dataset(found, coords=coords)


def sentence(verdict: xr.Dataset, has_rivals: bool) -> str:
    """Return in words what the data fix and what they leave open."""
    said = []
    for among in AMONG[: 1 + has_rivals]:
        width = verdict["width"].sel(among=among).values
        sure = verdict["may_be_believed"].sel(among=among).values
        fixed = [_SAYINGS[name] for name, s in zip(QUANTITIES, sure, strict=True) if s]
        left = [_SAYINGS[n] for n, s, w in zip(QUANTITIES, sure, width, strict=True) if not s and not np.isnan(w)]
        body = "the networks agree in all that was asked: the data fix " if not left else "the data fix "
        body += _listed(fixed) if fixed else "nothing that was asked"
        said.append(f"{_HEADS[among]}, {body}" + (f"; they leave open {_listed(left)}" if left and fixed else ""))
    return ". ".join(said) + "."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _values(asked: xr.Dataset, name: str, *, all_points: bool = False) -> tuple[Array, tuple[str, ...]]:
    """Return a quantity (network, ...) and its dims but the first; velocities within, or beyond, what was seen."""
    source = asked["velocity" if name.startswith("velocity") else name]
    values = source.values
    if name.startswith("velocity") and not all_points:
        values = values[:, asked["is_beyond"].values == (name == "velocity_beyond")]
    return values, tuple(str(dim) for dim in source.dims[1:])


def _quantiles(values: Array, tails: tuple[float, ...]) -> Array:
    """Return quantiles over networks; NaN in one network (what it does not have) is NaN in the interval."""
    with np.errstate(invalid="ignore"):
        return np.quantile(values, tails, axis=0, method="inverted_cdf")


def _width(name: str, low, high, middle, first, asked: xr.Dataset, scale: Array, tau: float) -> float:
    """Return half an interval relative to what it is of; infinite where some network lacks the quantity."""
    if not np.size(low):
        return np.nan
    if name in _RATIOS:
        return float(0.5 * np.log(high / low)) if low > 0 and np.isfinite(high) else np.inf
    half = (np.asarray(high) - np.asarray(low)) / 2
    if not np.isfinite(half).all():
        return np.inf
    if name.startswith("velocity"):
        inside = asked["velocity"].values[0][~asked["is_beyond"].values] / scale
        return float(np.sqrt(((half / scale) ** 2).mean() / max((inside**2).mean(), 1e-300)))
    if name == "fixed_point":
        return float((half / scale).max())
    if name == "overlap":
        return float(np.linalg.norm(half) / max(np.linalg.norm(middle), 1.0))
    return float(np.linalg.norm(half) / max(np.linalg.norm(middle), 1.0 / tau))
