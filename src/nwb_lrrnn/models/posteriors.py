"""`SeveralPosteriors`: a model whose latents may be asked for given all bins, those so far, or those before."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args, overload

import numpy as np

from nwb_lrrnn.models.base import LatentModel
from nwb_lrrnn.parameters import Posterior, choose
from nwb_lrrnn.trials import Trials
from nwb_lrrnn.trials.same_kind import SameKind

POSTERIORS: tuple[str, ...] = get_args(Posterior)


class SeveralPosteriors(LatentModel, auto_wrap_output_keys=None):
    """A model whose latents may be asked for given more or fewer bins.

    A subclass has the constructor parameter `posterior`, one of `POSTERIORS`, and offers
    `_posterior(trials, posterior)` -> (trial, time, latent).
    """

    posterior: str

    @overload
    def transform(self, X: SameKind, *, inputs: Any = None, posterior: Posterior | None = None) -> SameKind: ...
    @overload
    def transform(self, X: Any, *, inputs: Any = None, posterior: Posterior | None = None) -> Any: ...
    def transform(self, X: Any, *, inputs: Any = None, posterior: str | None = None) -> Any:
        """Return posterior-mean latents in the kind of X, (trial, time, latent).

        Parameters
        ----------
        X : like X of `fit`
            The recording.
        inputs : like X with `input` in place of `unit`, optional
            As in `fit`.
        posterior : {None, "smoothed", "filtered", "delayed"}
            Which bins are used: all, those up to the current one, or those before it; None: the constructor's.
        """
        choice = choose("posterior", self.posterior if posterior is None else posterior, POSTERIORS)
        return self._per_bin(X, inputs, partial(self._scored._posterior, posterior=choice))

    def _posterior(self, trials: Trials, posterior: str) -> np.ndarray:
        raise AttributeError(f"{type(self).__name__} defines no _posterior")

    def _latents(self, trials: Trials) -> np.ndarray:
        return self._posterior(trials, choose("posterior", self.posterior, POSTERIORS))
