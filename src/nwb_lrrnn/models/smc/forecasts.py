"""What a particle filter can be asked beside the six verbs: trajectories and forecasts."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from nwb_lrrnn import parameters as check
from nwb_lrrnn.models.smc import inference
from nwb_lrrnn.models.training.devices import one_thread
from nwb_lrrnn.trials import Trials


class Forecasts:
    """Verbs of `SMCLowRankRNN`, which says how to gate X and what filter to run."""

    _gate: Any
    _in_memory: Any
    _scored: Any

    def trajectories(self, X: Any, *, n_draws: int = 64, inputs: Any = None) -> xr.DataArray:
        """Return draws of the latents given all bins, (draw, trial, time, latent), by backward simulation.

        Parameters
        ----------
        X : like X of `fit`
            The recording.
        n_draws : int
            Trajectories of every trial.
        inputs : like X with `input` in place of `unit`, optional
            As in `fit`.
        """
        trials = self._in_memory(X, inputs)
        n_draws = check.whole_number("n_draws", n_draws) or 1
        net, plan, seed = self._scored._ready()
        with one_thread():
            draws = inference.trajectories(net, trials, plan, seed, n_draws)
        coords: dict[str, Any] = {"latent": np.arange(draws.shape[-1])}
        if isinstance(X, xr.DataArray):
            coords |= {dim: X[dim].variable for dim in ("trial", "time") if dim in X.indexes and dim in X.dims}
        dims, attrs = ("draw", "trial", "time", "latent"), {"long_name": "latents", "units": "a.u."}
        return xr.DataArray(draws, coords, dims, name="latents", attrs=attrs)

    def forecast_score(self, X: Any, n_steps: int, *, inputs: Any = None) -> float:
        """Return ln p(last n_steps bins | the bins before them), per observed bin, in nats.

        The joint score: each of the last bins is predicted from all before it, the forecast ones included.

        Parameters
        ----------
        X : like X of `fit`
            Trials longer than `n_steps`.
        n_steps : int
            Bins at the end of every trial.
        inputs : like X with `input` in place of `unit`, optional
            As in `fit`.

        Raises
        ------
        ValueError
            If a trial is not longer than `n_steps`.
        """
        net, plan, seed = self._scored._ready()
        total, n_bins = 0.0, 0
        for _, trials in self._gate(X, inputs, reset=False).blocks():
            last = _last_bins(trials, n_steps)
            with one_thread():
                total += inference.log_evidence(net, trials, plan, seed)[last].sum()
            n_bins += (trials.bins & last).sum()
        return float(total / n_bins)

    def marginal_forecast_score(self, X: Any, n_steps: int, *, inputs: Any = None) -> float:
        """Return the sum of ln p(y_t | the bins before the last n_steps) over those, per observed bin, in nats.

        The score of Pals et al. (2024): every bin is predicted on its own, without the forecast bins before it; no
        joint density. Parameters and errors as in `forecast_score`.
        """
        net, plan, seed = self._scored._ready()
        dynamics, total, n_bins = self._scored.dynamics_, 0.0, 0
        for _, trials in self._gate(X, inputs, reset=False).blocks():
            last = _last_bins(trials, n_steps)
            with one_thread():
                total += inference.marginal_forecasts(net, dynamics, trials, plan, seed, int(n_steps)).sum()
            n_bins += (trials.bins & last).sum()
        return float(total / n_bins)


def _last_bins(trials: Trials, n_steps: int) -> np.ndarray:
    """Return which bins (trial, time) are the last `n_steps` of each trial."""
    n = check.whole_number("n_steps", n_steps) or 1
    if n >= trials.lengths.min():
        raise ValueError(
            f"n_steps: got {n}, wanted fewer than the {int(trials.lengths.min())} bins of the shortest trial, so "
            "that there is something to forecast from"
        )
    time = np.arange(trials.values.shape[1])[None]
    end = trials.lengths[:, None]
    return (time >= end - n) & (time < end)
