"""`LatentModel`: the six verbs of every estimator, from the input gate to the user's own kind of array."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, overload

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.dynamics import LIKELIHOODS, LowRankDynamics
from nwb_lrrnn.dynamics.observation import spread_and_floor
from nwb_lrrnn.models import stability
from nwb_lrrnn.models.as_dataset import AsDataset, names_of
from nwb_lrrnn.models.failures import in_a_sentence, refuse_nan
from nwb_lrrnn.models.long_trials import in_pieces
from nwb_lrrnn.models.names_out import NamesOut
from nwb_lrrnn.models.scored_units import (
    KeepsUnitShapes,
    UnscoredUnitsWarning,
    left_out,
    scored_units,
)
from nwb_lrrnn.parameters import choose
from nwb_lrrnn.trials import (
    LazyTrials,
    Trials,
    as_lazy_trials,
    as_trials,
    blocks,
    check_observed,
    is_lazy,
    is_mostly_padding,
    map_blocks,
    map_trials,
    read_trials,
)
from nwb_lrrnn.trials.same_kind import SameKind

logger = logging.getLogger(__name__)


class LatentModel(AsDataset, KeepsUnitShapes, NamesOut, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """The verbs that every model of latents shares; a subclass says how to fit, infer and score `Trials`.

    A subclass has a constructor that only assigns (with at least `bin_size` and `likelihood`), sets `dynamics_` in
    `_fit_trials(trials)`, and offers `_latents(trials)` -> (trial, time, latent) and `_log_evidence(trials)` ->
    (trial,), log p(Y) of each trial in nats and in units of X. One that has several posteriors extends
    `posteriors.SeveralPosteriors`.
    """

    # pre-requested, so that GridSearchCV and Pipeline hand inputs on once metadata routing is enabled
    __metadata_request__fit = {"inputs": True}
    __metadata_request__transform = {"inputs": True}
    __metadata_request__inverse_transform = {"inputs": True}
    # Pipeline.score always routes sample_weight=None and refuses a last step that has never heard of it
    __metadata_request__score = {"inputs": True, "sample_weight": None}

    bin_size: float | None
    likelihood: str
    dynamics_: LowRankDynamics
    bin_size_: float
    bin_size_is_known_: bool  # else bin_size_ is 1.0, and times count in bins
    unit_ids_: np.ndarray
    n_inputs_: int
    input_ids_: np.ndarray | None
    likelihood_: str
    history_: xr.Dataset
    restart_scores_: np.ndarray
    n_iter_: int
    growth_: float  # standard deviations from the data where a free run ends
    is_stable_: bool  # see `stability`; neither is there where a model has no `dynamics_`

    _likelihoods: tuple[str, ...] = ("auto", *LIKELIHOODS)
    _allow_nan = False
    # whether `_fit_trials` takes trials that are not in memory as they are; else it gets a sample of them
    _fits_lazy_trials = False

    # --- the verbs -------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, *, inputs: Any = None):
        """Return the model fitted to X.

        Parameters
        ----------
        X : DataArray (trial, time, unit) or (time, unit), array of 2 or 3 dims, DataFrame, or list of 2-D trials
            The recording; counts or continuous values. Backed by dask and larger than 256 MiB (as float64) it is
            never in memory as a whole: one pass tells what scaling needs, starts and linear models see a sample of
            trials spread evenly over it, and gradients those of all blocks, the next one being read meanwhile.
        y : None
            Ignored; present for scikit-learn.
        inputs : like X with `input` in place of `unit`, optional
            Known inputs u.
        """
        trials = self._gate(X, inputs, reset=True, forecasts=False)
        begin = None
        if is_mostly_padding(trials.lengths):
            trials, begin = in_pieces(trials)
        elif isinstance(trials, LazyTrials) and trials.n_bytes <= blocks.KEPT_BYTES:
            trials = trials.load()
        if isinstance(trials, LazyTrials):
            size = f"{trials.n_bytes / 2**30:.3g} GiB"
            logger.info("X holds %s: it is read block by block, and some steps see a sample of its trials", size)
        kept = scored_units(trials)  # one pass now: a bad value is found before the fit, also where no sample sees it
        model = self._unfitted(kept)
        if model is not self:
            warnings.warn(left_out(trials, kept), UnscoredUnitsWarning, stacklevel=2)
            model.unit_ids_, model.n_features_in_ = self.unit_ids_[kept], int(kept.sum())
            model.bin_size_, model.bin_size_is_known_ = self.bin_size_, self.bin_size_is_known_
        self.scored_units_ = kept
        model._fit_scored(trials.of_units(kept))
        if begin is not None:
            model._settle_beginnings(begin.of_units(kept))
        if model is not self:
            family, told = LIKELIHOODS[model.likelihood_], trials.summary
            self._stand_around(model, family.mean_of(told.mean * told.n_observed, told.n_observed))
        stability.tell(self)
        return self

    def _fit_scored(self, trials: Trials | LazyTrials) -> None:
        """Fit trials of which every unit is scored."""
        self.scored_units_ = np.ones(trials.n_units, dtype=bool)
        self.n_inputs_, self.input_ids_ = trials.n_inputs, trials.input_ids
        self.likelihood_ = self._resolve_likelihood(trials)
        given = trials.sample() if isinstance(trials, LazyTrials) and not self._fits_lazy_trials else trials
        with in_a_sentence(f"the fit of {type(self).__name__}", trials):
            self._fit_trials(given)
        self._note_floors(trials)

    def _settle_beginnings(self, begin: Trials) -> None:
        """Learn the law of first bins from the beginnings of trials, after a fit to pieces that begin anywhere."""
        if "dynamics_" in vars(self):
            from nwb_lrrnn.models.beginnings import with_beginnings

            self.dynamics_ = with_beginnings(self.dynamics_, begin)

    @overload
    def transform(self, X: SameKind, *, inputs: Any = None) -> SameKind: ...
    @overload
    def transform(self, X: Any, *, inputs: Any = None) -> Any: ...
    def transform(self, X: Any, *, inputs: Any = None) -> Any:
        """Return the latents of X in the kind of X: (trial, time, latent), trial and time coordinates kept.

        Bins that are not observed get a forecast; but where more than half of X is padding behind short trials (the
        coordinate `observed` says so), the latents after the end of a trial are 0. Of X backed by dask the latents are
        too: they are computed block by block when they are asked for.
        """
        return self._per_bin(X, inputs, self._scored._latents)

    @overload
    def fit_transform(self, X: SameKind, y: Any = None, *, inputs: Any = None) -> SameKind: ...
    @overload
    def fit_transform(self, X: Any, y: Any = None, *, inputs: Any = None) -> Any: ...
    def fit_transform(self, X: Any, y: Any = None, *, inputs: Any = None) -> Any:
        """Return the latents of X after fitting the model to it, in the kind of X."""
        return self.fit(X, y, inputs=inputs).transform(X, inputs=inputs)  # scikit-learn's own hands inputs to fit only

    def score(self, X: Any, y: Any = None, *, inputs: Any = None) -> float:
        """Return log p(X) per observed time bin, in nats, summed over units, constants included.

        The initial state is integrated out, and the density is that of X in the user's units, so that scores of all
        models of one likelihood compare on the same X.
        """
        evidence, n_bins = self._evidence(X, inputs)
        return float(evidence.sum() / n_bins.sum())

    def score_trials(self, X: Any, *, inputs: Any = None) -> xr.DataArray:
        """Return log p of each trial in nats (not per bin), dims (trial,), with coordinate `n_bins` (observed bins)."""
        evidence, n_bins = self._evidence(X, inputs)
        ids = X["trial"].values if isinstance(X, xr.DataArray) and "trial" in X.coords else np.arange(len(n_bins))
        return xr.DataArray(
            evidence,
            dims="trial",
            coords={"trial": np.atleast_1d(ids), "n_bins": ("trial", n_bins)},
            name="log_likelihood",
        )

    @overload
    def inverse_transform(self, latents: SameKind, *, inputs: Any = None) -> SameKind: ...
    @overload
    def inverse_transform(self, latents: Any, *, inputs: Any = None) -> Any: ...
    def inverse_transform(self, latents: Any, *, inputs: Any = None) -> Any:
        """Return the expected value of X given latents, in the kind of `latents` and the units of X."""
        attrs = {"long_name": "expected value"} | ({} if self._is_gaussian else {"units": "counts"})
        return _named(self._expected_values(latents, inputs), "expected", attrs)

    @overload
    def rates(self, latents: SameKind, *, inputs: Any = None) -> SameKind: ...
    @overload
    def rates(self, latents: Any, *, inputs: Any = None) -> Any: ...
    def rates(self, latents: Any, *, inputs: Any = None) -> Any:
        """Return expected rates in spikes/s (counts per second of bin), in the kind of `latents`; counts only."""
        if self._is_gaussian:
            raise ValueError("rates: this model is Gaussian and has no spikes; call inverse_transform(latents)")
        expected = self._expected_values(latents, inputs)
        is_list = isinstance(expected, list)
        found = [values / self.bin_size_ for values in expected] if is_list else expected / self.bin_size_
        unit = "spikes/s" if self.bin_size_is_known_ else "spikes per bin"
        return _named(found, "rates", {"long_name": "rates", "units": unit})

    @property
    def _is_gaussian(self) -> bool:
        check_is_fitted(self)
        return self.likelihood_ == "gaussian"

    def _expected_values(self, latents: Any, inputs: Any) -> Any:
        shown = _latents_as_units(latents)
        if is_lazy(shown):
            as_lazy_trials(shown, inputs=inputs, bin_size=self.bin_size_)  # refused now, not when it is computed
            size = len(self.unit_ids_)
            form = {"bin_size": self.bin_size_, "allow_nan": False, "dim": "unit", "size": size, "ids": self.unit_ids_}
            return map_trials(shown, inputs, self._expected, **form)
        trials = as_trials(shown, inputs=inputs, bin_size=self.bin_size_)
        return trials.restore(self._expected(trials), "unit", self.unit_ids_)

    def simulate(
        self, n_trials: int, n_steps: int, *, inputs: Any = None, initial_latents: Any = None, random_state: Any = None
    ) -> xr.Dataset:
        """Return a Dataset of `latents` and `observations` drawn from the fitted model."""
        check_is_fitted(self)
        return self.readout_network_.simulate(
            n_trials, n_steps, inputs=inputs, initial_latents=initial_latents, random_state=random_state
        )

    # --- the fitted network ----------------------------------------------------------------------------------------

    @property
    def readout_network_(self) -> LowRankDynamics:
        """The network that says what units show: `dynamics_`, where a model has no other."""
        return self.dynamics_

    @property
    def left_vectors_(self) -> np.ndarray:
        """The left connectivity vectors m (neuron, latent)."""
        return np.asarray(self.dynamics_.left_vectors)

    @property
    def right_vectors_(self) -> np.ndarray:
        """The right connectivity vectors n (neuron, latent)."""
        return np.asarray(self.dynamics_.right_vectors)

    @property
    def loadings_(self) -> np.ndarray:
        """C (unit, latent)."""
        return np.asarray(self.readout_network_.loadings)

    @property
    def offset_(self) -> np.ndarray:
        """The offset d (unit,)."""
        return np.asarray(self.readout_network_.offset)

    # --- what the verbs stand on -----------------------------------------------------------------------------------

    def _note_floors(self, trials: Trials | LazyTrials) -> None:
        """Set `units_at_floor_` (unit,): which noise variances or dispersions are as small as they may be."""
        spread, limit = spread_and_floor(self.readout_network_, trials.summary.variance)
        self.units_at_floor_ = spread <= 1.01 * limit

    def _expected(self, latents: Trials) -> np.ndarray:
        return self.readout_network_.expected(latents.values, self._driving(latents))

    def _per_bin(self, X: Any, inputs: Any, function: Callable[[Trials], np.ndarray]) -> Any:
        """Return latents made of trials by a function, in the kind of X."""
        trials = self._gate(X, inputs, reset=False)
        if isinstance(trials, Trials):
            with in_a_sentence(f"the latents of {type(self).__name__}", trials):
                return trials.restore(trials.per_bin(function), "latent")
        if not is_lazy(X):
            with in_a_sentence(f"the latents of {type(self).__name__}", trials):
                return map_blocks(X, trials, function, dim="latent", size=self.readout_network_.rank)
        on_block = partial(_of_right_values, function, self.likelihood_, self.scored_units_)
        form = {
            "bin_size": self.bin_size_,
            "allow_nan": self._allow_nan,
            "dim": "latent",
            "size": self.readout_network_.rank,
        }
        return map_trials(X, inputs, on_block, **form)

    def _evidence(self, X: Any, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return log p of each trial (trial,), nats, and the observed bins of each (trial,), block by block."""
        trials = self._gate(X, inputs, reset=False, forecasts=False)
        evidence, n_bins = np.zeros(len(trials.lengths)), np.zeros(len(trials.lengths), dtype=np.int64)
        for rows, block in trials.blocks():
            if isinstance(trials, LazyTrials):
                _refuse_wrong(block, self.likelihood_)
            what = f"the score of {type(self).__name__}"
            with in_a_sentence(what, block):
                evidence[rows], n_bins[rows] = block.per_trial(self._scored._log_evidence), block.bins.sum(axis=1)
            refuse_nan(what, evidence[rows], block)
        check_observed(n_bins)
        return evidence, n_bins

    def _fit_trials(self, trials: Any) -> None:
        raise AttributeError(f"{type(self).__name__} defines no _fit_trials")

    def _latents(self, trials: Trials) -> np.ndarray:
        raise AttributeError(f"{type(self).__name__} defines no _latents")

    def _log_evidence(self, trials: Trials) -> np.ndarray:
        raise AttributeError(f"{type(self).__name__} defines no _log_evidence")

    def _gate(self, X: Any, inputs: Any, *, reset: bool, forecasts: bool = True) -> Trials | LazyTrials:
        if not reset:
            check_is_fitted(self)
        options = {"bin_size": self.bin_size, "estimator": self, "reset": reset, "allow_nan": self._allow_nan}
        trials = read_trials(X, inputs=inputs, forecasts=forecasts, **options)
        if not reset:
            trials = trials.of_units(self.scored_units_)
            self._check_inputs(trials)
            if isinstance(trials, Trials):
                _refuse_wrong(trials, self.likelihood_)
        return trials

    def _in_memory(self, X: Any, inputs: Any) -> Trials:
        """Return the trials of X in memory, for what is asked of all of them at once."""
        trials = self._gate(X, inputs, reset=False)
        return trials.load() if isinstance(trials, LazyTrials) else trials

    def _check_inputs(self, trials: Trials | LazyTrials) -> None:
        got = trials.n_inputs
        if got != self.n_inputs_ and got == 0:
            raise ValueError(
                f"inputs: got None, wanted {self.n_inputs_} inputs as in fit; pass inputs=, and inside GridSearchCV or "
                "Pipeline call sklearn.set_config(enable_metadata_routing=True)"
            )
        if got != self.n_inputs_:
            raise ValueError(f"inputs: got {got} inputs, wanted {self.n_inputs_} as in fit")
        names, fitted = (names_of(ids) for ids in (trials.input_ids, getattr(self, "input_ids_", None)))
        if names and fitted and names != fitted:
            raise ValueError(
                f"inputs: got {', '.join(names)}, wanted {', '.join(fitted)} in this order, as in fit; "
                "select them by name, e.g. inputs.sel(input=model.input_ids_)"
            )

    def _resolve_likelihood(self, trials: Trials | LazyTrials) -> str:
        """Return the likelihood that `likelihood` means for these data; 'auto' says once in the log what it chose."""
        name = choose("likelihood", self.likelihood, self._likelihoods)
        if name == "auto":
            name = "poisson" if trials.summary.are_counts and "poisson" in self._likelihoods else "gaussian"
            unit = " in spikes/s" if trials.bin_size_is_known else " in counts per bin"
            kind = f"non-negative whole numbers: poisson,{unit}" if name == "poisson" else "not counts: gaussian"
            logger.info("likelihood='auto': X holds %s", kind)
        elif not LIKELIHOODS[name].is_sure(trials.summary.are_counts):
            for _, block in trials.blocks():
                _refuse_wrong(block, name)
        return name

    def _driving(self, trials: Trials) -> np.ndarray | None:
        """Return v (trial, time, input), the inputs that drive the network, or None."""
        return None if trials.inputs is None else self.readout_network_.filtered_inputs(trials.inputs)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "dynamics_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._allow_nan
        tags.input_tags.three_d_array = True
        return tags


def _refuse_wrong(trials: Trials, likelihood: str) -> None:
    """Refuse values that a likelihood gives no density."""
    family = LIKELIHOODS[likelihood]
    for wrong, what in family.wrong(trials.values):
        if wrong.any():
            at = np.argwhere(wrong)[0]
            raise ValueError(
                f"X: {what} value {trials.values[tuple(at)]:.6g} at {trials.place(*at)}; {likelihood} wants "
                f"{family.wants}"
            )


def _of_right_values(
    function: Callable[[Trials], np.ndarray], likelihood: str, kept: np.ndarray, trials: Trials
) -> np.ndarray:
    """Return a function of the scored units of trials after checking that the likelihood gives them a density."""
    trials = trials.of_units(kept)
    _refuse_wrong(trials, likelihood)
    return function(trials)


def _named(found: Any, name: str, attrs: dict[str, str]) -> Any:
    """Return a DataArray, or a list of them, with the name and the attributes that `plot` shows; other kinds as is."""
    if isinstance(found, list):
        return [_named(trial, name, attrs) for trial in found]
    return found.rename(name).assign_attrs(attrs) if isinstance(found, xr.DataArray) else found


def _latents_as_units(latents: Any) -> Any:
    """Return latents with their last dim called `unit`, so that the one input gate reads them; all are observed."""
    if isinstance(latents, xr.DataArray):
        latents = latents.drop_vars("observed", errors="ignore")
        return latents.rename(latent="unit") if "latent" in latents.dims else latents
    if isinstance(latents, list) and latents and isinstance(latents[0], xr.DataArray):
        return [_latents_as_units(trial) for trial in latents]
    return latents
