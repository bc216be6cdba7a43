"""What a model generates on its own against the data: the protocol of dynamical-systems reconstruction."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.signal.windows import hann

from nwb_lrrnn.analysis.metrics.asking import Simulator
from nwb_lrrnn.analysis.metrics.divergence import RULES, state_space_divergence
from nwb_lrrnn.analysis.metrics.series import like, moving_units, read_series, unit_ids, whole
from nwb_lrrnn.analysis.metrics.spectra import distance_of_spectra, smoothing_per_bin

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

_RUNAWAY = 1e6  # standard deviations of a unit from its mean: nothing that is generated comes back from there


def smooth_and_standardize(X: Any, *, n_bins: int | None = 15) -> Any:
    """Return X convolved along time with a Hann window and z-scored per unit, as the EEG of Pals et al. 2024.

    Parameters
    ----------
    X : DataArray or array (trial, time, unit) or (time, unit), or DataFrame
        A recording; at the ends of a trial it is mirrored.
    n_bins : int, optional
        Length of the window, its two ends being 0. None: z-score only.

    Returns
    -------
    like X
        Float64, mean 0 and s.d. 1 over all trials; a unit that never changes is 0.

    Raises
    ------
    ValueError
        If X has other dims or gaps, or `n_bins` is less than 3.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 2))
    >>> smooth_and_standardize(x).std(axis=0).round(6)
    array([1., 1.])
    """
    values = read_series("X", X)
    return like(X, _prepared(values, None if n_bins is None else whole("n_bins", n_bins, least=3)))


def _prepared(values: Array, n_bins: int | None) -> Array:
    moves = np.ptp(values, axis=(0, 1)) > 0  # asked before rounding blurs it
    if n_bins is not None:
        values = convolve1d(values, hann(n_bins), axis=1)
    values = values - values.mean(axis=(0, 1))
    scale = values.std(axis=(0, 1))
    moves &= scale > 0
    return np.where(moves, values / np.where(moves, scale, 1.0), 0.0)


def generation_scores(
    model: Simulator,
    data: Any,
    *,
    n_generations: int = 20,
    n_steps: int | None = None,
    n_discarded: int = 0,
    smoothing: int | None = None,
    spectral_smoothing: float | None = None,
    inputs: Any = None,
    n_seeds: int = 1,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return how far series that a model generates on its own are from the data: D_stsp and D_H, generation by one.

    Data and generated series are smoothed alike and each z-scored per unit, so that a wrong mean or scale of a unit
    does not show here. Compare with `phase_surrogate(data)`, and with a linear model: both do well on many recordings.

    Parameters
    ----------
    model : fitted estimator or LowRankDynamics
        Anything with `simulate(n_trials, n_steps, random_state=...)` that returns `observations`.
    data : DataArray or array (trial, time, unit) or (time, unit), or DataFrame
        The recording; as many trials are generated.
    n_generations : int
        Independent generations.
    n_steps : int, optional
        Bins compared in each trial; None: those of data, which is cut to `n_steps` otherwise.
    n_discarded : int
        Bins generated before them and thrown away (Pals et al. 2024: 2400).
    smoothing : int, optional
        Bins of the Hann window of `smooth_and_standardize` (Pals et al. 2024: 15).
    spectral_smoothing : float, optional
        S.d. over frequency of `spectral_distance`, Hz (Pals et al. 2024: 20 / duration).
    inputs : array (trial, time, input) or (time, input), optional
        Inputs of the generated trials, `n_discarded + n_steps` bins.
    n_seeds : int
        Monte Carlo seeds of each D_stsp.
    random_state : int or None
        Seed of everything.

    Returns
    -------
    Dataset
        `divergence` (generation, rule) in nats, `spectral_distance` and `dropped_fraction` (generation,), `ran_away`
        (generation,), and over generations the medians and median absolute deviations `divergence_median`,
        `divergence_mad` (rule,), `spectral_distance_median`, `spectral_distance_mad`. See `state_space_divergence` for
        the two rules. A generation that runs away (to infinity, or a million standard deviations of a unit) has
        divergence inf and spectral distance 1, and the log says so; the published rule is inf where it drops all
        samples. Units that never change in data are left out of both: attrs["left_out"] names them, and the log.

    Raises
    ------
    TypeError
        If the model does not simulate observations.
    ValueError
        If data does not fit.

    Examples
    --------
    >>> from nwb_lrrnn.dynamics import LowRankDynamics
    >>> net = LowRankDynamics(np.eye(2), np.eye(2), dt=0.1, tau=0.5, latent_noise=np.eye(2), loadings=np.eye(2))
    >>> data = net.simulate(1, 400, random_state=1).observations
    >>> scores = generation_scores(net, data, n_generations=3, n_discarded=50)
    >>> dict(scores.sizes)
    {'generation': 3, 'rule': 2}
    """
    n_generations, n_discarded = whole("n_generations", n_generations), whole("n_discarded", n_discarded, least=0)
    window = None if smoothing is None else whole("smoothing", smoothing, least=3)
    recorded = read_series("data", data)
    n_bins = recorded.shape[1] if n_steps is None else whole("n_steps", n_steps)
    if n_bins > recorded.shape[1]:
        raise ValueError(f"n_steps: got {n_bins}, wanted at most {recorded.shape[1]}, the bins of data")
    recorded = recorded[:, :n_bins]
    width = smoothing_per_bin(spectral_smoothing, data, "spectral_smoothing")
    if n_bins < 4:
        raise ValueError(f"data: got trials of {n_bins} bins, wanted at least 4 for a spectrum")
    moving = moving_units(data, recorded)
    wanted = _prepared(recorded[..., moving], window)
    seeds = np.random.default_rng(random_state).integers(2**31, size=(n_generations, 2))
    divergence, dropped = np.full((n_generations, len(RULES)), np.inf), np.ones(n_generations)
    distance, away = np.ones(n_generations), np.zeros(n_generations, dtype=np.int64)
    for k, (seed, sampling) in enumerate(seeds):
        made = _generate(model, len(recorded), n_discarded + n_bins, inputs, int(seed), recorded.shape[2])
        away[k] = _runs_away(recorded, made)
        if away[k]:
            continue
        made = _prepared(made[:, n_discarded:, moving], window)
        result = state_space_divergence(wanted, made, n_seeds=n_seeds, random_state=int(sampling))
        found = result["divergence"].values
        divergence[k], dropped[k] = np.where(np.isnan(found), np.inf, found), result["dropped_fraction"].item()
        distance[k] = distance_of_spectra(wanted, made, width)
    if away.any():
        logger.warning(
            "%s: %d of %d generations run away, the first from step %d on: its dynamics grow; fit on longer trials, or "
            "generate fewer steps", type(model).__name__, (away > 0).sum(), len(away), away[away > 0].min(),
        )  # fmt: skip
    left_out = ", ".join(str(one) for one in unit_ids(data, len(moving))[~moving])
    return _summary(divergence, distance, dropped, away > 0).assign_attrs(left_out=left_out)


def _generate(model: Simulator, n_trials: int, n_steps: int, inputs: Any, seed: int, n_units: int) -> Array:
    """Return generated observations (trial, time, unit)."""
    simulate = getattr(model, "simulate", None)
    if simulate is None:
        raise TypeError(
            f"model: got a {type(model).__name__}, wanted one with simulate(n_trials, n_steps, random_state=...)"
        )
    drive = {} if inputs is None else {"inputs": inputs}
    with np.errstate(over="ignore", invalid="ignore"):  # what runs away is said by the caller
        made = simulate(n_trials, n_steps, random_state=seed, **drive)
    if "observations" not in made:
        raise TypeError("model: its simulate returned no observations, wanted a network with a readout; give loadings=")
    values = np.asarray(made["observations"].transpose("trial", "time", "unit"), dtype=np.float64)
    if values.shape[2] != n_units:
        raise ValueError(f"generated: got {values.shape[2]} units, wanted {n_units}, the units of data")
    return values


def _runs_away(recorded: Array, made: Array) -> int:
    """Return the first step, from 1 on, that is nowhere near what was recorded; 0 where there is none."""
    mean, spread = recorded.mean(axis=(0, 1)), recorded.std(axis=(0, 1))
    spread = np.where(spread > 0, spread, max(float(spread.max()), 1e-300))
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.abs(made - mean) < _RUNAWAY * spread
    lost = ~near.all(axis=(0, 2))
    return int(np.argmax(lost)) + 1 if lost.any() else 0


def _summary(divergence: Array, distance: Array, dropped: Array, ran_away: NDArray[np.bool_]) -> xr.Dataset:
    def median_and_mad(values: Array) -> tuple[Array, Array]:
        middle = np.median(values, axis=0)
        same = values == middle  # also where both are infinite
        gaps = np.abs(np.where(same, 0.0, values) - np.where(same, 0.0, middle))
        return middle, np.median(gaps, axis=0)

    by_rule, of_spectra = median_and_mad(divergence), median_and_mad(distance)
    nats = {"units": "nats"}
    return xr.Dataset(
        {
            "divergence": (("generation", "rule"), divergence, nats),
            "spectral_distance": ("generation", distance),
            "dropped_fraction": ("generation", dropped),
            "ran_away": ("generation", ran_away),
            "divergence_median": ("rule", by_rule[0], nats),
            "divergence_mad": ("rule", by_rule[1], nats),
            "spectral_distance_median": ((), of_spectra[0]),
            "spectral_distance_mad": ((), of_spectra[1]),
        },
        coords={"rule": list(RULES)},
    )
