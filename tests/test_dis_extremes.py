"""`DisRNN` on strange recordings: what cannot be fitted is refused in a sentence, all else comes out finite."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.models.dis import DisRNN

pytestmark = pytest.mark.filterwarnings("ignore::nwb_lrrnn.models.scored_units.UnscoredUnitsWarning")

RNG = np.random.default_rng(0)


def oscillation(n_trials=6, n_bins=40, n_units=5):
    phase, time = RNG.uniform(0, 6, (n_trials, 1)), 0.3 * np.arange(n_bins)
    z = np.stack([np.cos(time + phase), np.sin(time + phase)], axis=-1)
    return z @ RNG.normal(size=(2, n_units)) + 0.2 * RNG.normal(size=(n_trials, n_bins, n_units))


VALUES = oscillation()
COUNTS = RNG.poisson(np.exp(0.5 * VALUES))


def hiding(X, observed, dims=("trial", "time", "unit")):
    return xr.DataArray(X, dims=("trial", "time", "unit")).assign_coords(observed=(dims, observed))


def with_unit(X, value):
    return np.where(np.arange(X.shape[-1]) == 1, value, X)


def fitted(X, inputs=None, **parameters):
    return DisRNN(**{"rank": 2, "n_bootstraps": 3, "random_state": 0, **parameters}).fit(X, inputs=inputs)


def check_finite(model, X, inputs=None):
    for posterior in ("smoothed", "filtered", "delayed"):
        latents = model.transform(X, inputs=inputs, posterior=posterior)
        for trial in latents if isinstance(latents, list) else [latents]:
            assert np.isfinite(np.asarray(trial)).all()
    assert np.isfinite(model.score(X, inputs=inputs))
    connectivity = model.connectivity()
    assert np.isfinite(connectivity).all()
    assert np.isfinite(connectivity.standard_error).all()
    assert np.isfinite(model.history_.log_likelihood).all()


HIDDEN_UNIT = np.arange(5) + np.zeros((6, 40, 1)) != 2
MASKS = {
    "bins": (RNG.uniform(size=(6, 40)) > 0.1, ("trial", "time")),
    "units": (RNG.uniform(size=(6, 40, 5)) > 0.1, ("trial", "time", "unit")),
    "a trial": (np.arange(6)[:, None] + np.zeros(40) != 2, ("trial", "time")),
    "first bins": (np.zeros((6, 1)) + np.arange(40) > 0, ("trial", "time")),
}
SHAPES = {
    "constant unit": lambda X: with_unit(X, 3),
    "silent unit": lambda X: with_unit(X, 0),
    "one trial": lambda X: X[:1],
    "no trial axis": lambda X: X[0],
    "few bins": lambda X: X[:1, :5],
    "trials of two bins": lambda X: X[:, :2],
    "history constant": lambda X: np.where(np.arange(2)[:, None] == 0, 1, X[:, 3:5]),
    "trials of one bin among others": lambda X: [X[0], X[1, :1], X[2, :2]],
    "ragged": lambda X: [trial[: 40 - 7 * k] for k, trial in enumerate(X)],
    "frame": lambda X: pd.DataFrame(X[0], columns=list("abcde")),
    "units twice": lambda X: np.concatenate([X, X], axis=-1),
    "units alike": lambda X: np.repeat(X[..., :1], 5, axis=-1),
    "trials twice": lambda X: np.concatenate([X, X]),
    "more units than bins": lambda X: np.tile(X[:1, :12], (1, 1, 10)),
    "a unit that no bin shows": lambda X: hiding(X, HIDDEN_UNIT),
    "silent at first": lambda X: np.where(np.arange(40)[:, None] < 20, 0, X),
} | {f"hidden: {name}": lambda X, mask=mask: hiding(X, *mask) for name, mask in MASKS.items()}


OF_COUNTS = (  # the modes of counts are found anew; what the gate sees is the same
    "constant unit", "silent unit", "few bins", "trials of two bins", "trials of one bin among others", "units alike",
    "more units than bins", "a unit that no bin shows", "silent at first", "hidden: units",
)  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_strange_recordings_are_fitted(shape):
    X = SHAPES[shape](VALUES)
    check_finite(fitted(X, likelihood="gaussian"), X)


@pytest.mark.parametrize("shape", OF_COUNTS)
def test_strange_recordings_of_counts_are_fitted(shape):
    X = SHAPES[shape](COUNTS)
    check_finite(fitted(X, likelihood="poisson"), X)


@pytest.mark.parametrize("data", [VALUES, COUNTS], ids=["values", "counts"])
@pytest.mark.parametrize("rank", [1, 4, 5])
def test_any_rank_that_units_allow(data, rank):
    check_finite(fitted(data, rank=rank, n_groups=rank), data)
    X = data[..., :1]
    check_finite(fitted(X, rank=1, n_groups=1), X)


@pytest.mark.parametrize("data", [VALUES, COUNTS], ids=["values", "counts"])
@pytest.mark.parametrize("kind", ["constant", "zero", "collinear", "huge", "tiny"])
def test_strange_inputs(kind, data):
    u = RNG.normal(size=(6, 40, 1))
    inputs = {"constant": np.ones_like(u), "zero": 0 * u, "collinear": np.concatenate([u, 2 * u, u - 1], axis=-1),
              "huge": 1e9 * u, "tiny": 1e-9 * u}[kind]  # fmt: skip
    model = fitted(data, inputs)
    check_finite(model, data, inputs)
    if kind in ("huge", "tiny"):  # units of measure of an input change nothing
        plain = fitted(data, u)
        np.testing.assert_allclose(model.score(data, inputs=inputs), plain.score(data, inputs=u), rtol=1e-6)
        np.testing.assert_allclose(
            model.inverse_transform(model.transform(data, inputs=inputs), inputs=inputs).mean(),
            plain.inverse_transform(plain.transform(data, inputs=u), inputs=u).mean(),
            rtol=1e-6,
        )


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_units_of_measure_change_the_score_by_their_jacobian(size):
    one, other = (fitted(scale * VALUES, scaling="unit") for scale in (1.0, size))
    check_finite(other, size * VALUES)
    shifted = other.score(size * VALUES) + 5 * np.log(size)
    np.testing.assert_allclose(shifted, one.score(VALUES), rtol=1e-6)  # the same numbers but for rounding
    check_finite(fitted(size * VALUES), size * VALUES)
    mixed = VALUES * [size, 1.0, 1 / size, 1.0, 1.0]
    check_finite(fitted(mixed), mixed)


def test_a_linear_recording_is_read_linearly_in_all_units_of_measure():
    turn = 0.95 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    rng = np.random.default_rng(0)
    z = [rng.normal(size=(24, 2))]
    for _ in range(39):
        z.append(z[-1] @ turn.T + 0.3 * rng.normal(size=(24, 2)))
    X = np.stack(z, axis=1) @ rng.normal(size=(2, 8)) + 0.5 * rng.normal(size=(24, 40, 8))
    scores = [
        fitted(size * X[:18], n_groups=1, n_bootstraps=0).score(size * X[18:]) + 8 * np.log(size)
        for size in (1e-6, 1.0, 10.0)
    ]
    assert np.ptp(scores) < 0.02  # nats per bin; 0.16 where standardised currents alone bend


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_values_far_from_zero(offset):
    check_finite(fitted(VALUES + offset), VALUES + offset)


@pytest.mark.parametrize("link", ["softplus", "exp"])
@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_few_counts_and_a_burst(likelihood, link):
    form = {"likelihood": likelihood, "link": link}
    for X in (RNG.poisson(0.02, COUNTS.shape), with_unit(COUNTS, 0), with_unit(COUNTS, 3)):
        check_finite(fitted(X, **form), X)
    burst = COUNTS.copy()
    burst[2, 20, 3] = 5000
    check_finite(fitted(burst, **form), burst)


EVERY_OTHER = np.arange(40) % 2 + np.zeros((6, 1)) == 0


@pytest.mark.parametrize("data", [VALUES, COUNTS], ids=["values", "counts"])
@pytest.mark.parametrize(
    ("change", "parameters", "message"),
    [
        (lambda X: 0 * X + 2, {}, "X: got units that are all constant .*, wanted some that change"),
        (lambda X: X[:, :1], {}, "X: got trials of at most 1 bins, wanted more than n_lags=1"),
        (lambda X: X[:, :2], {"n_lags": 2}, "X: got trials of at most 2 bins, wanted more than n_lags=2"),
        (lambda X: X[:1, :4], {}, "X: got 3 bins that are observed .*, wanted at least 4 for rank=2; give more"),
        (lambda X: X[:, :2], {"encoder": "mlp"}, "X: got 6 bins .*, wanted at least 10 for rank=2; give more"),
        (
            lambda X: hiding(X, EVERY_OTHER, ("trial", "time")),
            {},
            "X: got 0 bins .* fill gaps, or drop units with gaps",
        ),
        (lambda X: X, {"rank": 6}, "rank: got 6, wanted at most 5, the number of units of X; lower rank"),
        (lambda X: X, {"rank": 5}, "n_groups: got 2 for rank=5, which does not split equally; pass group_ranks"),
    ],
)
def test_what_cannot_be_fitted_is_refused(data, change, parameters, message):
    with pytest.raises(ValueError, match=message):
        fitted(change(data), **parameters)


@pytest.mark.parametrize("scaling", ["given", "unit"])
def test_a_unit_that_changes_in_first_bins_alone_is_no_constant(scaling):
    late = RNG.poisson(0.3, VALUES[..., :1].shape) * 1.0
    late[:4, 1:] = 0.0
    late[:4, 0] = [[0], [1], [2], [1]]
    X = np.concatenate([VALUES, late], axis=-1)
    with_it, without = (fitted(Y[:4], scaling=scaling).score(Y[4:]) for Y in (X, VALUES))
    # all that training tells of the unit are its mean (0 after first bins) and its variance over all bins
    variance = late[:4].var()
    alone = -0.5 * (np.log(2 * np.pi * variance) + (late[4:] ** 2).mean() / variance)
    np.testing.assert_allclose(with_it - without, alone, atol=0.5)


def test_more_inputs_than_bins_are_refused():
    with pytest.raises(ValueError, match="X: got 9 bins .*, wanted at least 24 for rank=2 with 20 inputs"):
        fitted(VALUES[:1, :10], RNG.normal(size=(1, 10, 20)))
