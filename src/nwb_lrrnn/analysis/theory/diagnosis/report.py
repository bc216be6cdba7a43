"""`diagnose`: what the connectivity of a fitted network, or of a given matrix, says of its activity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.theory.diagnosis import balancing, nulls, overlaps, predictions, statistics
from nwb_lrrnn.analysis.theory.diagnosis.recorded import recorded_dimension
from nwb_lrrnn.analysis.theory.diagnosis.regime import against_the_theory
from nwb_lrrnn.analysis.theory.diagnosis.wording import paragraph
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.parameters import whole_number

Array = NDArray[np.floating]

_ZERO = 1e-10  # of the largest singular value
_EXTRA = {
    "n_neurons": "neurons that are left",
    "rank": "modes",
    "theory_applies": "whether nothing speaks against it",
    "t3": "overlap of left and right vectors of the modes",
    "t3_p": "share of modes of free direction that overlap as much",
    "t3_null": "t3 of modes of free direction",
    "t3_degree_p": "share of rewired networks of the same degrees that overlap as much",
    "t3_degree_null": "t3 of rewired networks",
    "dimension": "of the rates of the model neurons, run",
    "z_scored_dimension": "of the same, every neuron of unit variance",
    "half_time": "of single neurons, run",
    "unequal": "<v²> / <v>² of the variances v of the neurons, run",
    "null_dimension": "of networks of the same singular values and free directions, run alike",
    "null_half_time": "of the same",
    "null_percentile": "share of these with a smaller dimension",
    "balance_error": "largest |norm² / wanted - 1| of rows and columns",
    "unit_dimension": "of the expected activity of recorded units, run",
    "null_unit_dimension": "of the same, of networks of the same singular values and free directions",
    "recorded_dimension": "of the recording",
    "recorded_percentile": "share of null networks whose units have a smaller dimension",
    "recorded_z_scored_dimension": "of the recording, every unit of unit variance",
    "recorded_half_time": "of single recorded units, s",
    "recorded_leading_half_time": "of the covariances between recorded units, s",
    "recorded_low": "lower end of its interval",
    "recorded_high": "upper end of its interval",
}


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """`table` (Dataset, every number with its `meaning`), `text`, and `kept`, the neurons that were looked at."""

    table: xr.Dataset
    text: str
    kept: NDArray[np.integer]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Subject:
    """What is looked at: a coupling matrix, its modes, and the network that it is of, if any."""

    J: Array  # with its gains
    svd: tuple[Array, Array, Array]  # u (N, R), S (R,), v (N, R)
    nonlinearity: Sigmoid
    gains: Array | None
    network: LowRankDynamics | None
    kept: NDArray[np.integer]
    counts: Array | None
    notes: list[str]


def diagnose(
    model: Any,
    recording: Any = None,
    *,
    signs: ArrayLike | None = None,
    gains: ArrayLike | None = None,
    inputs: ArrayLike | None = None,
    nonlinearity: Sigmoid = "erf",
    is_counts: bool | None = None,
    n_null: int = 200,
    n_simulated: int = 10,
    n_trials: int = 8,
    duration: float = 100.0,
    random_state: int | None = 0,
) -> Diagnosis:
    """Return what a network's connectivity says of its activity, and first of all whether the theory applies to it.

    Parameters
    ----------
    model : fitted estimator, LowRankDynamics, or array (target, source)
        A matrix is the coupling in units of a unit leak and a unit slope, or of synapse counts: then neurons without
        inputs or outputs are dropped, rows and columns balanced to unit L2 norm, and the mean mode taken out.
    recording : what `dimension_of_recording` takes or returns, or a number, optional
        Whose dimension is put beside that of the network.
    signs : array (source,) or (target, source), optional
        +1 and -1, of counts; excitation and inhibition are then balanced each by itself, and no mode is taken out.
    gains : array (neuron,), optional
        Of a matrix: gains G of (1 + d/dt) x = J G phi(x).
    inputs : array (trial, time, input) or (time, input), optional
        Of a model with inputs, for its simulation and that of the null networks; zeros by default.
    nonlinearity : {"erf", "tanh"} or callable
        phi, of a matrix.
    is_counts : bool, optional
        Whether a matrix is of counts; by default when it is of whole numbers, none of them negative.
    n_null : int
        Draws of each null of the overlaps.
    n_simulated : int
        Null networks that are run; 0 runs nothing.
    n_trials, duration : int, float
        Of the simulations, duration in time constants.
    random_state : int or None
        Seed of every draw.

    Returns
    -------
    Diagnosis
        `print` shows its text; `table` holds the numbers.

    Raises
    ------
    ValueError
        If the matrix is not square or signs or gains do not fit.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = diagnose(3.0 * rng.standard_normal((60, 60)) / np.sqrt(60), n_simulated=0)
    >>> found.text.startswith("The theory of large random networks applies")
    True
    """
    n_null, n_simulated = whole_number("n_null", n_null, 19), whole_number("n_simulated", n_simulated, 0)
    subject = _subject(model, signs, gains, nonlinearity, is_counts)
    rng = np.random.default_rng(random_state)
    n, strengths = len(subject.J), subject.svd[1]
    numbers = statistics.connectivity_statistics(subject.J, strengths)
    reasons = against_the_theory(numbers, len(strengths), n, subject.network)
    found, notes = predictions.predictions(numbers, subject.J, subject.nonlinearity, subject.gains)
    values: dict[str, Any] = {"n_neurons": n, "rank": len(strengths), "theory_applies": not reasons, **numbers, **found}
    values |= _overlap_tests(subject, signs, n_null, rng)
    if n_simulated:
        values |= _runs(subject, inputs, n_simulated, n_trials, duration, numbers["g"], rng)
    if recording is not None:
        values |= recorded_dimension(recording)
        null = np.asarray(values.get("null_unit_dimension", np.nan))
        if np.isfinite(null).any():
            smaller = null[np.isfinite(null)] < values["recorded_dimension"]
            values["recorded_percentile"] = float(np.mean(smaller))
    return _told(values, reasons, [*subject.notes, *notes], subject)


def _told(values: dict[str, Any], reasons: list[str], notes: list[str], subject: _Subject) -> Diagnosis:
    meanings = statistics.MEANINGS | predictions.MEANINGS | _EXTRA
    variables = {
        name: ("draw" if name.startswith("t3") else "network", value) if np.ndim(value) else value
        for name, value in values.items()
    }
    table = xr.Dataset(variables)
    for name in table.data_vars:
        table[name].attrs["meaning"] = meanings[str(name)]
    table.attrs["time_unit"] = "time constants" if subject.network is None else "s"
    table.attrs["against_the_theory"] = "; ".join(reasons)
    return Diagnosis(table, paragraph(table, reasons, notes), subject.kept)


def _subject(
    model: Any, signs: ArrayLike | None, gains: ArrayLike | None, phi: Sigmoid, counts: bool | None
) -> _Subject:
    network = getattr(model, "dynamics_", model)
    if isinstance(network, LowRankDynamics):
        for name, given in (("signs", signs), ("gains", gains)):
            if given is not None:
                raise ValueError(f"{name}: they are of a matrix; the connectivity of a model is complete without them")
        J = network.connectivity().values
        return _Subject(J, _modes(J, network.rank), network.nonlinearity, None, network, np.arange(len(J)), None, [])
    given = _checked_matrix(model)
    if balancing.is_counts(given) if counts is None else counts or signs is not None:
        return _of_counts(given, signs, gains, phi)
    if signs is not None:
        raise ValueError("signs: they are of synapse counts, and this matrix has signs of its own; leave them out")
    gain = None if gains is None else np.asarray(gains, dtype=float)
    if gain is not None and gain.shape != (len(given),):
        raise ValueError(f"gains: got shape {gain.shape}, wanted ({len(given)},)")
    J = given if gain is None else given * gain
    return _Subject(J, _modes(J), phi, gain, None, np.arange(len(J)), None, [])


def _checked_matrix(model: Any) -> Array:
    matrix = np.asarray(model, dtype=float) if hasattr(model, "__len__") and not isinstance(model, str) else np.zeros(0)
    if matrix.ndim != 2 or len(set(matrix.shape)) != 1 or not np.isfinite(matrix).all() or not matrix.any():
        raise ValueError(
            f"model: got a {type(model).__name__} of shape {matrix.shape}, wanted a fitted estimator, a network "
            "or a square matrix (target, source) of finite numbers, not all 0"
        )
    return matrix


def _of_counts(counts: Array, signs: ArrayLike | None, gains: ArrayLike | None, phi: Sigmoid) -> _Subject:
    if gains is not None:
        raise ValueError("gains: balancing takes gains away; leave them out, or balance the matrix before")
    if signs is None and (counts < 0).any():
        signs = np.where(counts < 0, -1, 1)
    result = balancing.balanced(np.abs(counts), signs)
    lost = len(counts) - len(result.kept)
    notes = [f"{lost} of {len(counts)} neurons, without inputs or outputs, were dropped."] if lost else []
    how = "rows and columns were balanced to unit L2 norm and the mean mode taken out"
    if signs is not None:
        how = "excitation and inhibition of every neuron were balanced each by itself"
    notes.append(f"Synapse counts: {how}{'' if result.error < 0.01 else f' (to {result.error:.2g})'}.")
    part = counts[np.ix_(result.kept, result.kept)]
    return _Subject(result.matrix, _modes(result.matrix), phi, None, None, result.kept, part, notes)


def _modes(J: Array, most: int | None = None) -> tuple[Array, Array, Array]:
    left, strengths, right = np.linalg.svd(J)
    m = int(np.sum(strengths > _ZERO * strengths[0]))
    m = m if most is None else min(m, most)
    return left[:, :m], strengths[:m], right[:m].T


def _overlap_tests(
    subject: _Subject, signs: ArrayLike | None, n_null: int, rng: np.random.Generator
) -> dict[str, float | Array]:
    left, strengths, right = subject.svd
    n = len(left)
    test = overlaps.haar_test(strengths, np.sum(left * right, axis=0), n, n_null, rng)
    found: dict[str, float | Array] = {"t3": test.statistic, "t3_p": test.p_value, "t3_null": test.null}
    if subject.counts is None or signs is not None or (subject.counts < 0).any():
        return found
    draws = []
    for _ in range(n_null):
        u, s, v = _modes(balancing.balanced(balancing.rewired(subject.counts, rng)).matrix)
        draws.append(overlaps.overlap_statistic(s, np.sum(u * v, axis=0), len(u)))
    degrees = overlaps.against(test.statistic, np.array(draws))
    return found | {"t3_degree_p": degrees.p_value, "t3_degree_null": degrees.null}


def _runs(
    subject: _Subject,
    inputs: ArrayLike | None,
    n_simulated: int,
    n_trials: int,
    duration: float,
    g: float,
    rng: np.random.Generator,
) -> dict[str, float | Array]:
    """Return the activity of the network and of null networks, run alike."""
    network, n = subject.network, len(subject.J)
    if network is None:
        if not isinstance(subject.nonlinearity, str) or g <= 1.0:
            return {}
        gains = np.ones(n)  # they are in J

        def run(J: Array) -> nulls.Activity:
            return nulls.matrix_activity(J, g, subject.nonlinearity, gains, n_trials, duration, rng)

        own = run(subject.J)
        others = [run(nulls.free_matrix(subject.svd[1], n, rng)) for _ in range(n_simulated)]
    else:
        n_steps = int(np.ceil(duration * network.tau / network.dt))
        if inputs is not None:
            n_steps = np.shape(inputs)[-2]
            n_trials = np.shape(inputs)[0] if np.ndim(inputs) == 3 else n_trials
        if network.n_inputs and inputs is None:
            inputs = np.zeros((n_steps, network.n_inputs))
        own = nulls.network_activity(network, inputs, n_trials, n_steps, rng)
        free = [nulls.free_network(network, subject.svd, rng) for _ in range(n_simulated)]
        others = [nulls.network_activity(one, inputs, n_trials, n_steps, rng) for one in free]
    null = np.array([one.dimension for one in others])
    seen = null[np.isfinite(null)]
    return {
        "dimension": own.dimension,
        "z_scored_dimension": own.z_scored_dimension,
        "half_time": own.half_time,
        "unequal": own.unequal,
        "unit_dimension": own.unit_dimension,
        "null_dimension": null,
        "null_unit_dimension": np.array([one.unit_dimension for one in others]),
        "null_half_time": np.array([one.half_time for one in others]),
        "null_percentile": float(np.mean(seen < own.dimension)) if len(seen) else np.nan,
    }
