"""Changes of a recording that are no dynamics, and must not turn what is said of its dynamics.

A change takes (train, held, rng) and returns both changed. It is harmless where the answer has to stay; dubious where
the answer stays or it is said, by name, why the question cannot be judged; and void where trials are no new evidence.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr

from nwb_lrrnn.preprocessing import ZScore

EXTRA = "extra"  # the name of an added unit
BOTH = ("gaussian", "poisson")


class Change(NamedTuple):
    """What is done to a recording, to which kinds of values, and what has to be named where it cannot be judged."""

    apply: Callable
    duty: str  # "harmless", "dubious" or "void"
    likelihoods: tuple[str, ...] = BOTH
    named: tuple[str, ...] = ()  # one of these words stands in the sentence


def with_unit(X, values):
    """Return X with one unit more, whose values (trial, time) are given."""
    unit = np.broadcast_to(values, X.shape[:2])[..., None].astype(X.dtype)
    coords = {name: X[name] for name in ("trial", "time") if name in X.coords}
    coords["unit"] = [*X["unit"].values.tolist(), EXTRA]
    return xr.DataArray(np.concatenate([X.values, unit], axis=2), dims=X.dims, coords=coords, attrs=X.attrs)


def _is_counts(X):
    return np.issubdtype(X.dtype, np.integer)


def _active(X, rng):
    """Return values (trial, time) of a unit that knows nothing of the others, as lively as they are."""
    if _is_counts(X):
        return rng.poisson(0.3, X.shape[:2])
    return float(X.std()) * rng.standard_normal(X.shape[:2])


def _constant_unit(train, held, rng):
    value = 2 if _is_counts(train) else 3.3
    return with_unit(train, value), with_unit(held, value)


def _unit_of_zeros(train, held, rng):
    return with_unit(train, 0), with_unit(held, 0)


def _constant_after_z_score(train, held, rng):
    step = ZScore().fit(with_unit(train, 3.3))
    return step.transform(with_unit(train, 3.3)), step.transform(with_unit(held, 3.3))


def _constant_in_training(train, held, rng):
    return with_unit(train, 1), with_unit(held, _active(held, rng))


def _constant_in_test(train, held, rng):
    return with_unit(train, _active(train, rng)), with_unit(held, 1 if _is_counts(held) else 0)


def _silent_in_training(train, held, rng):
    return with_unit(train, 0), with_unit(held, np.maximum(_active(held, rng), 0))


def _silent_in_test(train, held, rng):
    return with_unit(train, np.maximum(_active(train, rng), 0)), with_unit(held, 0)


def _units_permuted(train, held, rng):
    order = rng.permutation(train.sizes["unit"])
    return train.isel(unit=order), held.isel(unit=order)


def _trials_in_another_order(train, held, rng):
    return tuple(X.isel(trial=rng.permutation(X.sizes["trial"])) for X in (train, held))


def _units_scaled_and_shifted(train, held, rng):
    n = train.sizes["unit"]
    scale, shift = 10 ** rng.uniform(-2, 2, n), rng.uniform(-5, 5, n)
    return tuple(((X + shift) * scale).assign_attrs(X.attrs) for X in (train, held))


def _copy_of_a_unit(train, held, rng):
    return tuple(with_unit(X, X[..., 0].values) for X in (train, held))


def _copy_with_noise(train, held, rng):
    return tuple(with_unit(X, X[..., 0].values + 1e-6 * rng.standard_normal(X.shape[:2])) for X in (train, held))


def _sum_of_two_units(train, held, rng):
    return tuple(with_unit(X, (X[..., 0] + X[..., 1]).values) for X in (train, held))


def _with_bin(X, value):
    """Return X with one bin of the first unit, in the middle of a trial, moved by a value."""
    changed = X.copy(deep=True)
    changed[1, X.sizes["time"] // 2, 0] += value
    return changed


def _zero_padded_times(train, held, rng):
    padded = train.copy(deep=True)
    padded[0, 0, 0] += 1500  # a spike train whose array was padded with zeros: as many spikes at time 0
    return padded, held


def _trials_padded_with_zeros(train, held, rng):
    padded = []
    for X in (train, held):
        padded.append(X.copy(deep=True))
        padded[-1][::2, -(X.sizes["time"] // 4) :] = 0
    return tuple(padded)


def _enormous(X):
    return 10**6 if _is_counts(X) else 1e6 * float(X.std())


def _one_enormous_bin(train, held, rng):
    return _with_bin(train, _enormous(train)), held


def _one_enormous_bin_in_test(train, held, rng):
    return train, _with_bin(held, _enormous(train))


def _common_average_reference(train, held, rng):
    return tuple((X - X.mean("unit")).assign_attrs(X.attrs) for X in (train, held))


def _trials_twice(train, held, rng):
    return tuple(xr.concat([X, X], "trial").assign_attrs(X.attrs) for X in (train, held))


_GAUSSIAN, _COUNTS = ("gaussian",), ("poisson",)
_FIRST = ("u0", "bin", "trial")

CHANGES = {
    "constant unit": Change(_constant_unit, "harmless"),
    "unit of zeros": Change(_unit_of_zeros, "harmless"),
    "constant after ZScore": Change(_constant_after_z_score, "harmless", _GAUSSIAN),
    "constant in training": Change(_constant_in_training, "harmless"),
    "constant in test": Change(_constant_in_test, "harmless"),
    "silent in training": Change(_silent_in_training, "harmless"),
    "silent in test": Change(_silent_in_test, "harmless"),
    "units permuted": Change(_units_permuted, "harmless"),
    "trials in another order": Change(_trials_in_another_order, "harmless"),
    "units scaled and shifted": Change(_units_scaled_and_shifted, "harmless", _GAUSSIAN),
    "copy of a unit": Change(_copy_of_a_unit, "dubious", BOTH, (EXTRA, "u0")),
    "copy with noise of 1e-6": Change(_copy_with_noise, "dubious", _GAUSSIAN, (EXTRA, "u0")),
    "sum of two units": Change(_sum_of_two_units, "dubious", BOTH, (EXTRA, "u0")),
    "zero-padded times": Change(_zero_padded_times, "dubious", _COUNTS, _FIRST),
    "trials padded with zeros": Change(_trials_padded_with_zeros, "dubious", BOTH, ("bin", "trial")),
    "one enormous bin": Change(_one_enormous_bin, "dubious", BOTH, _FIRST),
    "one enormous bin in test": Change(_one_enormous_bin_in_test, "dubious", BOTH, _FIRST),
    "common average reference": Change(_common_average_reference, "dubious", _GAUSSIAN, ("u0", "sum", "average")),
    "trials twice": Change(_trials_twice, "void", BOTH, ("trial",)),
}
