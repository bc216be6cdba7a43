"""`RandomModeModel`: large networks of random modes, drawn and run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.theory import modes
from nwb_lrrnn.analysis.theory.ensembles import Gains, Overlaps, RandomModes
from nwb_lrrnn.analysis.theory.network import Modes, RandomModeNetwork, simulated
from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid, check_sigmoid
from nwb_lrrnn.parameters import choose, positive, whole_number

Array = NDArray[np.floating]

SPECTRA = ("independent", *modes.SPECTRA, "haar", "orthogonal")


@dataclass(frozen=True, eq=False)
class RandomModeModel:
    """Networks (1 + d/dt) x = J G phi(x) whose connectivity J = L D Rᵀ is a sum of random modes.

    Columns of L and R are independent Gaussian vectors of unit length, D their strengths. Time is in units of the
    neurons' time constant.

    Parameters
    ----------
    n_neurons : int
        N.
    g : float
        Coupling strength, standard deviation of the connections (gains included) times sqrt(N); chaos above 1.
    spectrum : {"exponential", "flat", "power", "independent", "haar", "orthogonal"} or array (mode,)
        Strengths of the modes, or other connectivity: independent connections; "haar", exponential singular values with
        free singular vectors; "orthogonal", g times a random orthogonal matrix. An array is the strengths themselves,
        scaled to `g`; with `exact=True` they are singular values.
    effective_rank : float, optional
        (sum D²)² / (N sum D⁴), a fraction of N that may exceed 1; of "haar" that which acts alike. Needed by
        "exponential", "flat", "power" and "haar".
    overlap : float or array (mode,), optional
        Correlation of left and right vectors of every mode; a number goes from it at the strongest modes to its
        negative at the weakest, such that no neuron connects to itself on average.
    gains : float or array (neuron,), optional
        Gains of the neurons, or the participation ratio <G²>² / <G⁴> of log-normal ones.
    exact : bool
        Whether an array is of singular values.
    nonlinearity : {"erf", "tanh"} or callable
        phi.
    random_state : int, optional
        Seed of the networks.

    Raises
    ------
    ValueError
        If a parameter is out of range, or two exclude each other.

    Notes
    -----
    Clark, Marschall, van Meegen & Litwin-Kumar (2025, PRX 15, 041019), Eqs. 2, 7 to 15, K1 and K35.

    Examples
    --------
    >>> model = RandomModeModel(200, 3.0, effective_rank=0.3, random_state=0)
    >>> model.simulate(n_trials=2, duration=5.0, burn_in=5.0).dims
    ('trial', 'time', 'neuron')
    """

    n_neurons: int
    g: float
    spectrum: str | ArrayLike = "exponential"
    effective_rank: float | None = None
    overlap: float | ArrayLike | None = None
    gains: float | ArrayLike | None = None
    exact: bool = False
    nonlinearity: Sigmoid = "erf"
    random_state: int | None = None

    def __post_init__(self):
        whole_number("n_neurons", self.n_neurons, 2)
        positive("g", self.g)
        check_sigmoid(self.nonlinearity)
        _ = self.overlaps  # checks them, and the strengths

    @property
    def strengths(self) -> Array:
        """Strengths D (mode,) or singular values that make `g` where gains are of mean square 1, largest first."""
        if not isinstance(self.spectrum, str):
            given = np.sort(np.asarray(self.spectrum, dtype=float))[::-1]
            if (
                given.ndim != 1
                or not len(given)
                or not (given > 0).all()
                or (self.exact and len(given) > self.n_neurons)
            ):
                raise ValueError(
                    f"spectrum: got an array of shape {given.shape}, wanted (mode,) strengths > 0"
                    f"{f', at most {self.n_neurons} singular values' if self.exact else ''}"
                )
        else:
            given = self._named_strengths(choose("spectrum", self.spectrum, SPECTRA))
        return modes.scaled(given, self.g, self.n_neurons)

    @property
    def overlaps(self) -> Array:
        """Overlaps rho (mode,)."""
        strengths = self.strengths
        if self.overlap is None:
            return np.zeros(len(strengths))
        if self.exact or (isinstance(self.spectrum, str) and self.spectrum not in modes.SPECTRA):
            raise ValueError("overlap: only Gaussian modes overlap; leave it out, or choose spectrum='exponential'")
        rho = np.asarray(self.overlap, dtype=float)
        if rho.ndim == 0:
            return modes.smooth_overlaps(strengths, float(rho))
        if rho.shape != strengths.shape or not (np.abs(rho) <= 1).all():
            raise ValueError(f"overlap: got shape {rho.shape}, wanted ({len(strengths)},) numbers from -1 to 1, or one")
        return rho

    @property
    def kappa(self) -> float:
        """1 / effective rank; of exact singular values 1 / PR - 2, which may be negative."""
        if isinstance(self.spectrum, str) and self.spectrum == "independent":
            return 0.0
        squares = self.strengths**2
        sharpness = self.n_neurons * float(np.sum(squares**2) / np.sum(squares) ** 2)
        return sharpness - 2.0 if self._is_exact else sharpness

    def ensemble(self, rates: Literal["normalised", "raw", "readout"] = "normalised") -> RandomModes | Gains | Overlaps:
        """Return the kind of connectivity, for `four_point`; of gains, with which rates are looked at."""
        if self.overlap is not None:
            if self.gains is not None:
                raise ValueError("gains: there is no theory of gains and overlaps together; leave one of them out")
            return Overlaps(self.strengths, self.overlaps, len(self.strengths) / self.n_neurons)
        if self.gains is None:
            return RandomModes(self.kappa)
        given = np.asarray(self.gains, dtype=float)
        return Gains(self.kappa, float(given) if given.ndim == 0 else modes.participation(given), rates)

    def sample(self, random_state: int | np.random.SeedSequence | None = None) -> RandomModeNetwork:
        """Return one network, drawn from a seed (the model's own by default)."""
        rng = np.random.default_rng(self.random_state if random_state is None else random_state)
        n = self.n_neurons
        gains = np.ones(n) if self.gains is None else modes.gains_of(self.gains, n, rng)
        strengths = self.strengths / np.sqrt(np.mean(gains**2))
        if self._is_exact:
            left, right = _orthonormal(n, len(strengths), rng), _orthonormal(n, len(strengths), rng)
        elif isinstance(self.spectrum, str) and self.spectrum == "independent":
            matrix = rng.standard_normal((n, n)) * strengths[0] / np.sqrt(n)
            return RandomModeNetwork(matrix, gains, self.nonlinearity)
        else:
            left, right = _overlapping(n, self.overlaps, rng)
        return RandomModeNetwork(Modes(left, strengths, right), gains, self.nonlinearity)

    def simulate(
        self,
        n_trials: int = 16,
        duration: float = 200.0,
        *,
        n_networks: int | None = None,
        burn_in: float | None = None,
        sample_interval: float = 1.0,
        step: float = 0.1,
        variable: Literal["rates", "currents"] = "rates",
        dtype: Literal["float32", "float64"] = "float32",
        random_state: int | None = None,
    ) -> xr.DataArray:
        """Return the activity of one network, or of several, from random starts.

        Parameters
        ----------
        n_trials : int
            Trials of a network, run side by side as one matrix.
        duration, burn_in : float
            Recorded time, and time before it (10 half-times of the theory, at least 100, by default), time constants.
        n_networks : int, optional
            Draw this many networks; the result has a leading dim `network`.
        sample_interval, step : float
            Time between samples, and step of the Runge-Kutta method, time constants.
        variable : {"rates", "currents"}
            G phi(x), or x.
        dtype : {"float32", "float64"}
            Arithmetic.
        random_state : int, optional
            Seed of networks and starts, the model's own by default.

        Returns
        -------
        DataArray (trial, time, neuron), or (network, trial, time, neuron)
        """
        n_trials = whole_number("n_trials", n_trials)
        seed = self.random_state if random_state is None else random_state
        count = 1 if n_networks is None else whole_number("n_networks", n_networks)
        seeds = np.random.SeedSequence(seed).spawn(count)
        options = {
            "n_trials": n_trials,
            "duration": positive("duration", duration),
            "burn_in": burn_in,
            "sample_interval": positive("sample_interval", sample_interval),
            "step": positive("step", step),
            "variable": choose("variable", variable, ("rates", "currents")),
            "dtype": choose("dtype", dtype, ("float32", "float64")),
            "g": self.g,
        }
        # one network asked for by its seed is that of `sample`
        drawn = [seed] if n_networks is None else [one.spawn(1)[0] for one in seeds]
        runs = [
            simulated(self.sample(one), rng=np.random.default_rng(start), label=label, **options)
            for one, start, label in zip(drawn, seeds, self._labels(count), strict=True)
        ]
        return runs[0] if n_networks is None else xr.concat(runs, "network")

    def to_dynamics(self, dt: float = 0.1, random_state: int | None = None):
        """Return one network, the one of `sample`, as a `LowRankDynamics` whose latents are its modes (small ranks)."""
        return self.sample(random_state).to_dynamics(dt)

    @property
    def _is_exact(self) -> bool:
        return self.exact or (isinstance(self.spectrum, str) and self.spectrum in ("haar", "orthogonal"))

    def _named_strengths(self, spectrum: str) -> Array:
        n = self.n_neurons
        if spectrum in ("independent", "orthogonal"):
            return np.ones(n)
        if self.effective_rank is None:
            raise ValueError(f"effective_rank: got None, wanted a number > 0: spectrum={spectrum!r} needs it")
        if spectrum == "haar":  # PR of the singular values that acts as this effective rank
            rank = positive("effective_rank", self.effective_rank)
            return modes.mode_strengths("exponential", rank / (1.0 + 2.0 * rank), n)
        return modes.mode_strengths(spectrum, self.effective_rank, n)

    def _labels(self, count: int) -> list[str]:
        return ["simulation"] if count == 1 else [f"network {k + 1} of {count}" for k in range(count)]


def _orthonormal(n: int, m: int, rng: np.random.Generator) -> Array:
    """Return m columns of a Haar orthogonal matrix."""
    q, r = np.linalg.qr(rng.standard_normal((n, m)))
    return q * np.sign(np.diag(r))


def _overlapping(n: int, overlaps: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return left and right vectors (N, M) of unit length on average, l_a · r_a -> rho_a (Eqs. K1, K2)."""
    shape, size = (n, len(overlaps)), np.abs(overlaps)
    left, right = rng.standard_normal(shape) / np.sqrt(n), rng.standard_normal(shape) / np.sqrt(n)
    if size.any():
        shared = rng.standard_normal(shape) / np.sqrt(n)
        left = np.sqrt(1.0 - size) * left + np.sqrt(size) * shared
        right = np.sqrt(1.0 - size) * right + np.sign(overlaps) * np.sqrt(size) * shared
    return left, right
