"""What scikit-learn asks of a transformer beside its verbs: the names of what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin

from nwb_lrrnn.dynamics import LowRankDynamics


class NamesOut(ClassNamePrefixFeaturesOutMixin):
    """The names of latents, which are those of their columns; the kind of what comes out is the kind of X."""

    readout_network_: LowRankDynamics

    @property
    def _n_features_out(self) -> int:
        return self.readout_network_.rank

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the latents, latent0, latent1, ...: the columns of `transform` of a DataFrame.

        Parameters
        ----------
        input_features : sequence of str, optional
            Names of the units, as in `fit`; nothing of them is in the names of latents.
        """
        names = super().get_feature_names_out(input_features)  # which checks what is given
        return np.array([f"latent{k}" for k in range(len(names))], dtype=object)
