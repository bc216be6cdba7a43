"""A unit that never changes in training is left out by every model alike, and kept in shapes."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from nwb_lrrnn import LinearStateSpace, LowRankRNN, SMCLowRankRNN
from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.models.linear import FactorAnalysis, MeanRate
from nwb_lrrnn.models.scored_units import UnscoredUnitsWarning
from small_models import MODELS, WITH_LATENTS, recording

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few steps

VALUES = recording().values
COUNTS = np.random.default_rng(0).poisson(np.exp(VALUES - 3.0))


def with_constant(X, value):
    """Return X with a unit more, the second, that never changes."""
    return np.insert(X, 1, value, axis=2)


def fitted(model, X):
    with pytest.warns(UnscoredUnitsWarning, match="unit 1 is always"):
        return clone(model).fit(X)


@pytest.mark.parametrize(("X", "value"), [(VALUES, 3.3), (COUNTS, 0)], ids=["values", "counts"])
@pytest.mark.parametrize("name", MODELS)
def test_a_unit_that_never_changes_changes_nothing(name, X, value):
    wide = with_constant(X, value)
    model, alone = fitted(MODELS[name], wide), clone(MODELS[name]).fit(X)
    assert model.scored_units_.tolist() == [True, False, True, True]
    assert model.likelihood_ == alone.likelihood_
    fires = wide.copy()
    fires[..., 1] += 2  # what it does later changes nothing either
    assert model.score(wide) == alone.score(X) == model.score(fires)
    assert pickle.loads(pickle.dumps(model)).score(wide) == alone.score(X)


@pytest.mark.parametrize(("X", "value"), [(VALUES, 3.3), (COUNTS, 0)], ids=["values", "counts"])
@pytest.mark.parametrize("name", WITH_LATENTS)
def test_shapes_hold_every_unit(name, X, value):
    wide = with_constant(X, value)
    model, alone = fitted(MODELS[name], wide), clone(MODELS[name]).fit(X)
    latents = model.transform(wide)
    np.testing.assert_array_equal(latents, alone.transform(X))
    expected, kept = model.inverse_transform(latents), model.scored_units_
    np.testing.assert_allclose(expected[..., kept], alone.inverse_transform(latents), rtol=1e-12)
    np.testing.assert_allclose(expected[..., 1], value if X is VALUES else 0.5 / (6 * 12), rtol=1e-9)
    assert len(model.loadings_) == len(model.offset_) == len(model.unit_ids_) == model.n_features_in_ == 4
    np.testing.assert_allclose(model.dynamics_.step(latents), alone.dynamics_.step(latents), rtol=1e-12)
    shown = model.simulate(2, 5, random_state=0).observations
    assert abs(float(shown[..., 1].mean()) - value) < (0.01 if X is VALUES else 0.5)  # half a count in 72 bins
    again = type(model).from_dataset(model.to_dataset())
    assert again.score(wide) == model.score(wide)
    assert again.scored_units_.tolist() == model.scored_units_.tolist()
    np.testing.assert_array_equal(again.transform(wide), latents)


@pytest.mark.parametrize(("name", "axes"), [("UnitAutoregression", (1,)), ("VectorAutoregression", (1, 2))])
def test_coefficients_hold_every_unit(name, axes):
    model, alone = fitted(MODELS[name], with_constant(VALUES, 3.3)), clone(MODELS[name]).fit(VALUES)
    wide, narrow = model.coefficients_, alone.coefficients_
    assert not wide[:, 1].any()
    for axis in axes:
        assert wide.shape[axis] == len(model.mean_) == 4
        wide = np.delete(wide, 1, axis)
    np.testing.assert_array_equal(wide, narrow)


def test_neurons_that_are_units_keep_their_network():
    X = with_constant(VALUES, 0.0)
    for readout in ("rates", "currents"):
        model = clone(MODELS["SMCLowRankRNN"]).set_params(readout=readout, n_neurons=None)
        wide, alone = fitted(model, X), clone(model).fit(VALUES)
        z = wide.transform(X)
        np.testing.assert_allclose(wide.dynamics_.step(z), alone.dynamics_.step(z), rtol=1e-6, atol=1e-9)


def test_a_linear_model_is_scored_beside_a_model_that_leaves_a_unit_out():
    X = with_constant(VALUES, 3.3)
    wide, alone = fitted(MODELS["SMCLowRankRNN"], X), clone(MODELS["SMCLowRankRNN"]).fit(VALUES)
    linear = LinearStateSpace(1, max_iter=5, bin_size=0.1)
    with_unit = wide.with_dynamics(fitted(linear, X).dynamics_)
    without = alone.with_dynamics(clone(linear).fit(VALUES).dynamics_)
    assert with_unit.score(X) == without.score(VALUES)


def test_what_dask_holds_leaves_out_the_same_units():
    X = recording()
    wide = X.assign_coords(unit=["a", "b", "c"]).reindex(unit=["a", "dead", "b", "c"], fill_value=2.0)
    with pytest.warns(UnscoredUnitsWarning, match="unit dead is always 2"):
        model = LinearStateSpace(1, max_iter=3).fit(wide.chunk(trial=2))
    assert model.score(wide) == LinearStateSpace(1, max_iter=3).fit(X).score(X)
    np.testing.assert_array_equal(model.transform(wide.chunk(trial=2)).compute(), model.transform(wide))


def test_rounding_of_a_constant_is_no_change_and_a_small_unit_is_one():
    X = with_constant(VALUES, 1e6 * (1 + 1e-15 * np.arange(12)))
    assert not fitted(MeanRate(), X).scored_units_[1]
    assert MeanRate().fit(VALUES * [1e-12, 1.0, 1e12]).scored_units_.all()


def test_a_warm_start_goes_on_with_the_same_units_only():
    X = with_constant(VALUES, 3.3)
    model = LowRankRNN(1, warm_start=True, max_epochs=1, n_neurons=4, random_state=0, validation_fraction=0.0)
    with pytest.warns(UnscoredUnitsWarning):
        first = model.fit(X).score(X)
    with pytest.warns(UnscoredUnitsWarning):
        assert model.fit(X).score(X) != first
    with pytest.raises(
        ValueError, match="warm_start: the fitted network has 3 units that changed in its training data, X has 4"
    ):
        model.fit(X + np.random.default_rng(0).normal(size=X.shape))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (0 * VALUES + 1.5, "X: got units that are all constant .unit 0 is always 1.5, .*wanted some that change"),
        (COUNTS * 0, "X: got units that are all constant"),
        (VALUES + 1e15, "all constant .unit 0 is always 1e.15"),
        (VALUES * [1.0, 1e-160, 1.0], "X: unit 1 has values of about .*e-160, wanted sizes between 1e-100 and 1e.100"),
        (VALUES * [1.0, 1.0, 1e160], "X: unit 2 has values of about .*e.160"),
    ],
)
@pytest.mark.parametrize("model", [MeanRate(), FactorAnalysis(1), LowRankRNN(1)])
def test_data_that_say_nothing_are_refused(model, X, message):
    with pytest.raises(ValueError, match=message):
        clone(model).fit(X)


@pytest.mark.parametrize("name", ["LinearStateSpace", "LowRankRNN", "SMCLowRankRNN", "DisRNN"])
def test_no_noise_is_below_the_one_floor(name):
    rng = np.random.default_rng(1)
    shared = rng.standard_normal((10, 20, 1)).cumsum(axis=1)
    X = np.concatenate([shared, 3 * shared, rng.standard_normal((10, 20, 1))], axis=2)  # two units without noise
    options = {} if name in ("LinearStateSpace", "DisRNN") else {"max_epochs": 20}
    if name == "LinearStateSpace":
        options = {"max_iter": 200, "tol": 0.0}
    model = clone(MODELS[name]).set_params(**options).fit(X)
    network = model.readout_network_
    noise = network.observation_variance
    if noise is None:
        noise = network.loadings**2 * network.private_noise
    floor = LIKELIHOODS["gaussian"].spread_limits[0] * X.var(axis=(0, 1))
    assert (noise >= 0.99 * floor).all()
    assert model.units_at_floor_.tolist() == (noise <= 1.01 * floor).tolist()
    if name in ("LinearStateSpace", "DisRNN"):  # which end their fits
        assert model.units_at_floor_[:2].any()
        assert not model.units_at_floor_[2]
    again = type(model).from_dataset(model.to_dataset())
    assert again.units_at_floor_.tolist() == model.units_at_floor_.tolist()


def test_a_dispersion_has_the_same_limits_everywhere():
    X = np.random.default_rng(0).poisson(2.0, (6, 20, 3))  # no more than Poisson: the upper limit
    model = SMCLowRankRNN(
        1, likelihood="negative_binomial", n_particles=8, n_trajectories=4, max_epochs=3, n_neurons=4, random_state=0
    ).fit(X)
    least, most = LIKELIHOODS["negative_binomial"].spread_limits
    assert (model.dynamics_.dispersion <= most * 1.01).all()
    assert (model.dynamics_.dispersion >= least).all()
