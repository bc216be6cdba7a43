"""`RecordingStep`: what every transformer shares, from the gate to the note in attrs."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import Any, overload

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.preprocessing.rectangles import Rectangle
from nwb_lrrnn.preprocessing.step_gate import Parts, read
from nwb_lrrnn.trials.same_kind import SameKind


class RecordingStep(OneToOneFeatureMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """A transformer of recordings; a subclass says what it learns (`_learn`) and what becomes of a part (`_apply`)."""

    unit_ids_: np.ndarray
    bin_size_: float
    n_features_in_: int
    feature_names_in_: np.ndarray

    _unit: str | None = None  # unit of measure of what comes out, {} being that of X; None keeps it
    _positive_only = False
    _bin_size_is_known = False  # at fit

    def fit(self, X: Any, y: Any = None):
        """Return the step fitted to X.

        Parameters
        ----------
        X : DataArray (trial, time, unit) or (time, unit), array of 2 or 3 dims, DataFrame, or list of 2-D trials
            The training data.
        y : None
            Ignored; present for scikit-learn.
        """
        parts = read(X, self, reset=True)
        self._bin_size_is_known = parts.bin_size_is_known
        self._check(parts)
        self._learn(parts)
        return self

    @overload
    def transform(self, X: SameKind) -> SameKind: ...
    @overload
    def transform(self, X: Any) -> Any: ...
    def transform(self, X: Any) -> Any:
        """Return X after the step, in the kind of X; lazy where X is on dask, and then nothing is computed here.

        X without a bin size has the bins of `fit`.
        """
        parts = self._read(X)
        self._check(parts)
        return self._restored(parts)

    @overload
    def fit_transform(self, X: SameKind, y: Any = None) -> SameKind: ...
    @overload
    def fit_transform(self, X: Any, y: Any = None) -> Any: ...
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Return X after the step, fitted to it."""
        return self.fit(X).transform(X)

    def _read(self, X: Any) -> Parts:
        """Return X as parts with the units and bins of `fit`, which parameters in seconds refer to."""
        check_is_fitted(self)
        parts = read(X, self, reset=False)
        if self._bin_size_is_known and not parts.bin_size_is_known:
            return replace(parts, bin_size=self.bin_size_, bin_size_is_known=True)
        return parts

    def _restored(self, parts: Parts) -> Any:
        """Return the result in the kind of X; steps that change bins or units do it their way."""
        return parts.restore([self._apply(part, parts) for part in parts.parts], described(self), unit=self._unit)

    def _check(self, parts: Parts) -> None:
        """Refuse parameters that are wrong, or wrong for bins of this size."""

    def _learn(self, parts: Parts) -> None:
        """Set fitted attributes; most steps have none."""

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        raise AttributeError(f"{type(self).__name__} defines no _apply")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "unit_ids_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = self._positive_only
        return tags


class InvertibleStep(RecordingStep, auto_wrap_output_keys=None):
    """A step per unit whose result leads back to X; a subclass says how (`_revert`)."""

    _unit_of_x: str | None = None

    def _learn(self, parts: Parts) -> None:
        first = parts.parts[0].source
        self._unit_of_x = getattr(first, "attrs", {}).get("units")

    @overload
    def inverse_transform(self, X: SameKind) -> SameKind: ...
    @overload
    def inverse_transform(self, X: Any) -> Any: ...
    def inverse_transform(self, X: Any) -> Any:
        """Return what `transform` made X of, in the kind of X and the user's units.

        `attrs["preprocessing"]` loses the step if it is the last, and names the inverse otherwise.
        """
        parts = self._read(X)
        results = [self._revert(part) for part in parts.parts]
        back = parts.restore(results, f"inverse of {described(self)}", unit=self._unit_of_x)
        for array in back if isinstance(back, list) else [back]:
            if hasattr(array, "attrs"):
                self._forget(array.attrs)
        return back

    def _forget(self, attrs: dict[Any, Any]) -> None:
        """Take the step back in attrs that are ours alone."""
        own = described(self)
        if attrs["preprocessing"][-2:] == [own, f"inverse of {own}"]:
            attrs["preprocessing"] = attrs["preprocessing"][:-2]
            if not attrs["preprocessing"]:
                del attrs["preprocessing"]

    def _revert(self, part: Rectangle) -> Any:
        raise AttributeError(f"{type(self).__name__} defines no _revert")


def described(step: RecordingStep) -> str:
    """Return a step as its constructor call, without parameters that say nothing (None, False): 'Smooth(sd=0.05)'."""
    said = ((name, getattr(step, name)) for name in signature(type(step)).parameters)
    shown = (f"{name}={_plain(value)!r}" for name, value in said if value is not None and value is not False)
    return f"{type(step).__name__}({', '.join(shown)})"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
