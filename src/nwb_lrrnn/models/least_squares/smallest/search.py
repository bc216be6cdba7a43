"""`smallest_network`: the smallest network that moves as a field, samples, a network or a fitted model does."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.field import INPUT_MODES
from nwb_lrrnn.models.least_squares.smallest.growth import grow
from nwb_lrrnn.models.least_squares.smallest.network import Whitening, to_dynamics
from nwb_lrrnn.models.least_squares.smallest.path import Held, Path
from nwb_lrrnn.models.least_squares.smallest.polishing import polished
from nwb_lrrnn.models.least_squares.smallest.problem import Fit
from nwb_lrrnn.models.least_squares.smallest.source import Source, from_field, from_model, from_samples, with_runs
from nwb_lrrnn.parameters import choose, flag, fraction, positive, whole_number

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel
    from nwb_lrrnn.models.least_squares.smallest.source import Field, Sampler

logger = logging.getLogger(__name__)

OBJECTIVES = ("auto", "field", "trajectory")
PHIS = ("tanh", "erf", "relu", "softplus")
_FINE_STEPS = 50  # Euler steps in tau, where nothing says how long a step is


class SmallestNetwork(NamedTuple):
    """The network that was chosen, and what networks of other sizes do."""

    network: LowRankDynamics
    path: xr.Dataset


def smallest_network(
    source: LowRankDynamics | LatentModel | Field | tuple[ArrayLike, ...],
    *,
    sampler: Sampler | ArrayLike | None = None,
    latents: Any = None,
    inputs: Any = None,
    tau: float | None = None,
    dt: float | None = None,
    nonlinearity: str = "tanh",
    input_mode: str = "neuron",
    objective: str = "auto",
    max_size: int = 20,
    max_weight: float = 10.0,
    tolerance: float | None = None,
    ridge: float = 1e-12,
    drive: bool = True,
    n_samples: int = 1500,
    n_steps: int = 100,
    jitter: float = 0.1,
    held_out: float = 0.25,
    n_candidates: int = 500,
    n_init: int = 3,
    random_state: int | np.random.Generator | None = None,
) -> SmallestNetwork:
    r"""Return the smallest network whose latents move as the source does, and the path of all sizes that led there.

    The network is :math:`\tau \dot z = -z + N^T \phi(M z + I v + b) + s + S u`. Neurons are added one by one, each the
    best of fresh candidates (greedy least squares, the penalty inside), and after each all weights and biases are
    refined, outgoing weights eliminated (variable projection). Where trajectories matter they are polished further by
    Levenberg-Marquardt on free runs that grow longer. Latents are whitened for the search, so that turning, shifting
    or scaling them changes nothing.

    Without a bound on weights the question has no answer: three neurons draw a Van der Pol oscillator if their
    outgoing weights may be in the thousands, and any noise of their rates then swamps it.

    Parameters
    ----------
    source : LowRankDynamics, fitted model, callable or tuple
        What is to be reduced: a network; a model of this package with `dynamics_`; a field dz/dt = g(z), or g(z, u),
        of arrays (sample, latent), (sample, input); or samples (z, dz/dt) or (z, dz/dt, u).
    sampler : callable or array, optional
        Where a callable field is sampled: points (sample, latent), or a function of a number and a Generator that
        returns them, or them and inputs (sample, input).
    latents, inputs : arrays (trial, time, latent), (trial, time, input), optional
        Of a network or model: recorded latents (what `transform` returned), near which the field is sampled, and the
        inputs that went with them, needed where the network has any. Without latents, trajectories from the law of the
        latents (with inputs: from the initial law) are taken.
    tau : float, optional
        Time constant of the network, s. By default that of the network or model; of a field or samples one over the
        root mean square speed of the whitened latents. A network is found exactly only at its own.
    dt : float, optional
        Step of the network returned, s. By default the source's, or a fiftieth of tau.
    nonlinearity : {"tanh", "erf", "relu", "softplus"}
        phi of the network returned, whatever that of the source.
    input_mode : {"neuron", "latent"}
        Where inputs of a field or of samples enter; those of a network or model enter as they do there.
    objective : {"auto", "field", "trajectory"}
        What decides: the error of dz/dt, or that of free runs. "auto": trajectories of networks and models, the field
        of callables and samples.
    max_size : int
        Sizes tried at most; the path ends before where three sizes in a row improve on nothing.
    max_weight : float
        The largest outgoing weight |N| allowed, of latents of standard deviation 1. At 10, rates may have a noise of
        1 % for each neuron that costs 10 % of a standard deviation. `ridge` is raised until it holds.
    tolerance : float, optional
        Relative error as good as none: 1e-12 of a field, 1e-3 of trajectories by default.
    ridge : float
        The least penalty of outgoing weights.
    drive : bool
        Whether the network has a constant drive s.
    n_samples : int
        Samples of a callable field, or of the surroundings of a network's latents.
    n_steps : int
        Length of free runs in steps of `dt`, where inputs do not give it.
    jitter : float
        Noise added to the latents where a network's field is sampled, in their standard deviations.
    held_out : float
        Fraction of the samples, or of the trajectories, that judge the sizes.
    n_candidates, n_init : int
        Size of a dictionary; networks grown side by side.
    random_state : int, Generator or None
        Seed.

    Returns
    -------
    network : LowRankDynamics
        In the latents of the source, with its readout, noise and initial law where it has them.
    path : Dataset over `size`
        `error`, of dz/dt on held-out samples relative to its variance; `r2` of held-out free runs, where the source
        has trajectories; `training_error`, `largest_weight`, `ridge`, `selected`. attrs: `size`; `has_gain`, 0 where no
        size does better than the mean of dz/dt, or of the latents; `still_falls`, 1 where the largest size tried is
        the one selected.

    Raises
    ------
    ValueError, TypeError
        If the source is none of these or is not finite, lacks a sampler or inputs, or a parameter does not fit.

    Examples
    --------
    >>> teacher = LowRankDynamics([[2.0], [-1.0]], [[3.0], [1.0]], dt=0.1, tau=1.0, bias=[0.5, 0.0])
    >>> found = smallest_network(
    ...     teacher.velocity, sampler=np.linspace(-2, 2, 200)[:, None], tau=1.0, random_state=0
    ... )
    >>> found.network.n_neurons
    2
    """
    choose("nonlinearity", nonlinearity, PHIS)
    choose("input_mode", input_mode, INPUT_MODES)
    max_size, n_init = whole_number("max_size", max_size), whole_number("n_init", n_init)
    n_samples, n_steps = whole_number("n_samples", n_samples, 20), whole_number("n_steps", n_steps, 2)
    n_candidates = whole_number("n_candidates", n_candidates, 10)
    max_weight = positive("max_weight", max_weight, hint=", of latents of standard deviation 1")
    ridge = positive("ridge", ridge, hint=": without a penalty weights grow until any noise of the rates swamps them")
    tolerance = positive("tolerance", tolerance, optional=True)
    jitter, held_out = positive("jitter", jitter, zero=True), fraction("held_out", held_out)
    if held_out == 0:
        raise ValueError("held_out: got 0, wanted a fraction > 0: held-out samples choose the size")
    drive = flag("drive", drive)
    rng = np.random.default_rng(random_state)
    objective = _objective(source, objective)
    given, field = _sampled(source, sampler, latents, inputs, input_mode, n_samples, n_steps, jitter, rng)
    whitening = Whitening.of(given, drive)
    tau = positive("tau", tau, optional=True) or given.tau or 1.0 / max(whitening.speed(given), 1e-300)
    dt = positive("dt", dt, optional=True) or given.dt or tau / _FINE_STEPS
    if dt > tau * (1 + 1e-12):
        raise ValueError(f"dt: got {dt:.6g} s, wanted at most tau = {tau:.6g} s; choose a smaller step")
    if objective == "trajectory" and given.paths is None and field is not None:
        given = with_runs(given, field, dt, n_steps, rng)
    if given.paths is not None and (given.tau, given.dt) != (tau, dt) and given.network is not None:
        raise ValueError("tau, dt: got others than the network's own, wanted None: its trajectories have its steps")
    held = Held.split(whitening, given, tau, held_out, dt / tau, objective, rng)
    path = _walk(held, nonlinearity, rng, max_size, max_weight, ridge, n_candidates, n_init, tolerance)
    chosen, table = path.chosen(), path.dataset(tau)
    _tell(table, objective, max_size)
    return SmallestNetwork(to_dynamics(chosen, whitening, given, tau, dt), table)


def _walk(
    held: Held, nonlinearity: str, rng, max_size: int, max_weight, ridge, n_candidates: int, n_init: int, tolerance
) -> Path:
    """Return the path, size by size, polished where trajectories decide."""
    path = Path(held, max_weight, tolerance)
    growth = grow(
        held.train, nonlinearity, rng, max_weight=max_weight, ridge=ridge, n_candidates=n_candidates, n_init=n_init
    )
    previous: Fit | None = None
    for _ in range(max_size):
        fit = next(growth)
        if held.judged_by == "trajectory" and held.train_runs is not None:
            fit = previous = polished(
                fit, previous, held.train, held.train_runs, held.alpha, rng, n_starts=2 * n_init,
                n_candidates=n_candidates, max_weight=max_weight,
            )  # fmt: skip
        path.add(fit)
        logger.info("smallest network: %d neurons, error %.3g", fit.size, path.errors[-1])
        if path.is_done():
            break
    return path


def _objective(source: object, objective: str) -> str:
    choose("objective", objective, OBJECTIVES)
    if objective == "trajectory" and isinstance(source, (tuple, list)):
        raise ValueError("objective: got 'trajectory' with samples, which cannot run; wanted a field, or 'field'")
    if objective != "auto":
        return objective
    return "trajectory" if isinstance(source, LowRankDynamics) or _is_model(source) else "field"


def _is_model(source: object) -> bool:
    return hasattr(source, "fit") and hasattr(source, "transform")


def _sampled(source, sampler, latents, inputs, input_mode, n_samples, n_steps, jitter, rng) -> tuple[Source, Any]:
    """Return the samples of a source, and the field where it is a callable."""
    if isinstance(source, LowRankDynamics) or _is_model(source):
        form = {"n_samples": n_samples, "n_steps": n_steps, "jitter": jitter, "rng": rng}
        return from_model(source, latents, inputs, **form), None
    for name, value in (("latents", latents), ("inputs", inputs)):
        if value is not None:
            raise ValueError(f"{name}: belongs to a network or a model, wanted None with samples or a callable field")
    if isinstance(source, (tuple, list)):
        if sampler is not None:
            raise ValueError("sampler: got one with samples, wanted None: it says where a callable is to be sampled")
        return from_samples(tuple(source), input_mode), None
    if callable(source):
        field: Any = source
        return from_field(field, sampler, n_samples, input_mode, rng), source
    raise TypeError(
        f"source: got a {type(source).__name__}, wanted a LowRankDynamics, a fitted model, a callable field with "
        "sampler=, or samples (z, dz/dt)"
    )


def _tell(table: xr.Dataset, objective: str, max_size: int) -> None:
    """Warn where no size is better than nothing, or the largest one was not enough."""
    size = table.attrs["size"]
    what = "the field" if objective == "field" else "the trajectories"
    if not table.attrs["has_gain"]:
        warnings.warn(
            f"smallest_network: no network of up to {int(table['size'].max())} neurons does better on held-out samples "
            f"than the mean of {what}: there is nothing for a network to express; the size {size} means nothing",
            UserWarning,
            stacklevel=3,
        )
    elif table.attrs["still_falls"]:
        logger.info(
            "smallest_network: the error still falls at %d neurons, the most tried; it is %.3g. A tolerance= says what "
            "is enough, max_size= and max_weight= what may be tried", max_size, float(table["error"].min()),
        )  # fmt: skip
