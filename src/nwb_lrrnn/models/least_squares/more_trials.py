"""`LearnsMore`: trials that come after a fit, learnt by recursive least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from nwb_lrrnn.models.least_squares.features import Features
from nwb_lrrnn.models.least_squares.filtering import smooth
from nwb_lrrnn.models.least_squares.online import FieldLearner
from nwb_lrrnn.models.least_squares.samples import field_samples
from nwb_lrrnn.models.posteriors import SeveralPosteriors
from nwb_lrrnn.trials import Trials


class LearnsMore(SeveralPosteriors, auto_wrap_output_keys=None):
    """What a network found by regression does with further trials: neurons, readout and laws stay, the field moves."""

    penalty_: float
    device: str
    _learner: FieldLearner | None = None

    def partial_fit(self, X: Any, y: Any = None, *, inputs: Any = None, forgetting: float = 1.0):
        """Return the model after it learnt from further trials; the first call is `fit`.

        The latents of X are those that the network so far smooths out of it, and its field moves on by recursive least
        squares: as if all trials had been regressed together, each on the latents that it had when it came. After
        `fit`, or loaded from a file, a model does not hold what it has learnt from: it is held where it is instead, as
        firmly as weights are held to 0 in a fit to the new trials.

        Parameters
        ----------
        X : like X of `fit`
            Trials of the same units.
        y : None
            Ignored; present for scikit-learn.
        inputs : like X with `input` in place of `unit`, optional
            As in `fit`; only with input_mode="neuron".
        forgetting : float
            What a bin counts, relative to the one after it; 1 forgets nothing.

        Raises
        ------
        ValueError
            If inputs push the latents, or the units are the network.
        """
        if not self.__sklearn_is_fitted__():
            self.fit(X, inputs=inputs)
            self._scored._begin(self._in_memory(X, inputs), forgetting)
            self._scored._learn_more(self._in_memory(X, inputs))
            return self
        trials, inner = self._in_memory(X, inputs), self._scored
        if inner._learner is None:
            inner._begin(trials, forgetting, is_held=True)
        inner._learn_more(trials)
        if inner is not self:
            self._stand_around(inner, self.readout_network_.expected(np.zeros(self.readout_network_.rank)))
        return self

    def _begin(self, trials: Trials, forgetting: float, *, is_held: bool = False) -> None:
        """Begin to learn: from weights of 0, or from those of the network, of which there is no other trace."""
        network = self.dynamics_
        if network.latent_input_weights is not None:
            raise ValueError("input_mode: got 'latent' with inputs, wanted 'neuron': partial_fit learns those alone")
        if network.readout != "latents":
            raise ValueError("latents: got 'units', wanted 'smoothed': partial_fit learns how latents move")
        weights, neurons = network.input_weights, network.n_neurons
        features = Features(
            np.array(network.left_vectors),
            np.zeros(neurons) if network.bias is None else np.array(network.bias),
            np.zeros((neurons, 0)) if weights is None else np.array(weights),
            network.nonlinearity,
            None if network.thresholds is None else np.array(network.thresholds),
        )
        n = int(np.maximum(trials.lengths - 1, 0).sum())
        size = float(np.trace(np.asarray(network.latent_covariance))) / network.rank  # penalties are of latents of 1
        self._learner = FieldLearner(features, network.tau, penalty=self.penalty_ * n * size, forgetting=forgetting)
        if is_held:
            self._learner.regression.weights = np.asarray(network.right_vectors) / neurons

    def _learn_more(self, trials: Trials) -> None:
        if self._learner is None:
            raise NotFittedError("partial_fit: nothing was learnt so far")
        samples = field_samples(smooth(self.dynamics_, trials, device=self.device), trials)
        field = self._learner.learn(samples.latents, samples.velocity, samples.inputs).field
        self.dynamics_ = self.dynamics_.replace(right_vectors=field.n_neurons * field.weights, drive=field.drive)
