"""What a field asks of the network that is to have it: symmetries, coverage, and what noise of the rates costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from nwb_lrrnn.models.least_squares.features import Features
from nwb_lrrnn.models.least_squares.field import checked_samples, fit_field_samples
from nwb_lrrnn.parameters import whole_number

Array = NDArray[np.floating]

_LITTLE = 1e-3  # of the energy of a field: its network would do well without
_N_RAYS = 300  # neurons without bias, whose best fit is the floor of all of them


def expressivity_report(
    latents: ArrayLike,
    velocity: ArrayLike,
    *,
    tau: float,
    n_neurons: int = 100,
    nonlinearity: str = "tanh",
    basis: str = "nef",
    rate_noise: float = 0.01,
    g: Callable[[Array], Array] | None = None,
    rng: np.random.Generator,
) -> xr.Dataset:
    """Return what samples of a field, `velocity` (T, R) at `latents` (T, R), ask of a network of `n_neurons`.

    Parameters
    ----------
    latents, velocity, tau, n_neurons, nonlinearity, basis, rate_noise
        As in `fit_field_samples`.
    g : callable, optional
        The field itself, which says what it is at -z; without it the fitted network does, and `mirrored` says at how
        many samples that is more than a guess.
    rng : Generator

    Returns
    -------
    report : Dataset
        Fractions of the energy of the field about its mean:

        - `even`: the part with g(-z) = g(z), which tanh, erf and identity without bias and inputs cannot have,
        - `floor_odd`, `floor_homogeneous`: least error of neurons without bias and without a drive: odd ones (tanh),
          and relu, whose fields are g(c z) = c g(z),
        - `fit_error`: of the network on the samples, `noise_error`: what noise of the rates adds to it;

        and `mirrored`, the share of samples with others near their mirror image; `coverage`, the median distance to
        the nearest sample in standard deviations of the latents; `condition_number` of the penalised regression;
        `largest_weight`. `attrs["advice"]` says what follows, a sentence a line.
    """
    z, dz, _ = checked_samples(latents, velocity)
    n_neurons = whole_number("n_neurons", n_neurons)
    energy = float(((dz - dz.mean(0)) ** 2).sum())
    energy = energy if energy > 0 else 1.0
    field = fit_field_samples(
        z, dz, tau=tau, n_neurons=n_neurons, nonlinearity=nonlinearity, basis=basis, rate_noise=rate_noise, rng=rng
    )
    mirror = field.velocity(-z) if g is None else np.asarray(g(-z), dtype=float)
    even = (dz + mirror) / 2
    scale = np.where(z.std(0) > 0, z.std(0), 1.0)
    tree = KDTree(z / scale)
    nearest = tree.query(z / scale, k=2)[0][:, 1] if len(z) > 1 else np.zeros(1)
    rates = field.features(z)
    gram = np.linalg.eigvalsh((rates - rates.mean(0)).T @ (rates - rates.mean(0)) / len(z))
    noise = rate_noise**2 * float((field.weights**2).sum()) / tau**2 * len(z)
    report = {
        "even": float((even**2).sum()) / energy,
        "floor_odd": _floor("tanh", z, dz, tau, energy, rng),
        "floor_homogeneous": _floor("relu", z, dz, tau, energy, rng),
        "fit_error": float(((field.velocity(z) - dz) ** 2).sum()) / energy,
        "noise_error": noise / energy,
        "mirrored": float(np.mean(tree.query(-z / scale)[0] <= 2 * np.quantile(nearest, 0.95))),
        "coverage": float(np.median(nearest)),
        "condition_number": float((max(gram[-1], 0.0) + field.penalty) / field.penalty),
        "largest_weight": float(np.abs(field.weights).max()),
    }
    advice = [*_advice(report, g is not None), *field.warnings]
    return xr.Dataset(report, attrs={"advice": "\n".join(advice), "n_samples": len(z), "n_neurons": n_neurons})


def _floor(name: str, z: Array, dz: Array, tau: float, energy: float, rng: np.random.Generator) -> float:
    """Return the error of many neurons without bias, of all gains, and without a drive."""
    n = min(_N_RAYS, max(1, len(z) // 5))
    weights = (
        rng.standard_normal((n, z.shape[1]))
        * np.exp(rng.uniform(-1.5, 1.0, (n, 1)))
        / np.where(z.std(0) > 0, z.std(0), 1.0)
    )
    rays = Features(weights, np.zeros(n), np.zeros((n, 0)), name)
    field = fit_field_samples(z, dz, tau=tau, n_neurons=n, features=rays, intercept=False, ridge=1e-10, rng=rng)
    return float(((field.velocity(z) - dz) ** 2).sum()) / energy


def _advice(report: dict[str, float], is_known: bool) -> list[str]:
    said = []
    if report["even"] < _LITTLE and (is_known or report["mirrored"] > 0.9):
        said.append("the field is odd: tanh neurons without bias, fewer of them, would do (features with biases of 0)")
    elif report["floor_odd"] > _LITTLE:
        said.append(f"without biases tanh neurons miss {report['floor_odd']:.2g} of the field")
    if report["floor_homogeneous"] < _LITTLE:
        said.append("the field is homogeneous: relu neurons without bias would do")
    if not is_known and report["mirrored"] < 0.9:
        said.append(f"only {report['mirrored']:.0%} of the samples have others near -z: what is even is a guess")
    if report["noise_error"] > 3 * report["fit_error"] and report["noise_error"] > _LITTLE:
        said.append(
            f"noise of the rates adds {report['noise_error']:.2g} to an error of {report['fit_error']:.2g}: a larger "
            "ridge or more neurons"
        )
    return said
