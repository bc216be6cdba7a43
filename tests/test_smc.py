"""`SMCLowRankRNN` as an estimator: what users do with it. Its refusals are in test_smc_refusals.py."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from nwb_lrrnn.align import canonicalize
from nwb_lrrnn.models.linear import LinearStateSpace, MeanRate
from nwb_lrrnn.models.smc import SMCLowRankRNN, estimator

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs


N_TRIALS, N_BINS, N_UNITS = 8, 24, 6


def small(**parameters):
    few = {"n_neurons": 12, "n_particles": 8, "n_trajectories": 8, "max_epochs": 3}
    return SMCLowRankRNN(**{"rank": 2, "random_state": 0, **few, **parameters})


@pytest.fixture(scope="module")
def waves():
    """Return trials of units that read a rotation with noise, (trial, time, unit)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, size=(N_TRIALS, 1))
    z = np.stack([np.cos(0.2 * np.arange(N_BINS) + phase), np.sin(0.2 * np.arange(N_BINS) + phase)], -1)
    return z @ rng.standard_normal((2, N_UNITS)) + 0.3 * rng.standard_normal((N_TRIALS, N_BINS, N_UNITS))


@pytest.fixture(scope="module")
def counts():
    """Return trials of counts whose rates follow a rotation, (trial, time, unit)."""
    rng = np.random.default_rng(1)
    turn = 0.3 * np.arange(N_BINS) + rng.uniform(0, 2 * np.pi, (N_TRIALS, 1))
    return rng.poisson(2 + 1.5 * np.cos(turn[..., None] + np.arange(N_UNITS)))


def quietly(model, X, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **options)


@pytest.fixture(scope="module")
def model(waves):
    return quietly(small(), waves)


@pytest.fixture(scope="module")
def of_counts(counts):
    return quietly(small(), counts)


# --- fits ------------------------------------------------------------------------------------------------------------


def test_a_fit_is_not_far_from_the_exact_linear_model(model, waves):
    # the data are linear: the bound of 8 particles loses a little of what Kalman's filter knows exactly
    exact = LinearStateSpace(rank=2).fit(waves).score(waves)
    assert model.score(waves) > exact - 0.15
    assert model.score(waves) > MeanRate().fit(waves).score(waves) + 5.0


def test_what_is_kept_is_canonical_and_labelled(model, waves):
    again, gauge = canonicalize(model.dynamics_)
    np.testing.assert_allclose(again.loadings, model.loadings_, atol=1e-9)
    np.testing.assert_allclose(gauge.matrix, np.eye(2), atol=1e-9)
    assert model.loadings_.shape == (N_UNITS, 2)
    assert model.left_vectors_.shape == model.right_vectors_.shape == (12, 2)
    assert model.offset_.shape == (N_UNITS,)
    assert {"elbo", "validation"} <= set(model.history_)
    assert model.n_iter_ == model.history_.sizes["epoch"]
    assert model.n_particles_ == 8
    assert model.restart_scores_.shape == (1,)
    assert all(isinstance(value, np.ndarray) for value in (model.loadings_, model.dynamics_.latent_noise))


def test_the_same_seed_gives_the_same_model_bit_for_bit(model, waves):
    other = small().fit(waves)
    np.testing.assert_array_equal(model.left_vectors_, other.left_vectors_)
    np.testing.assert_array_equal(model.transform(waves), other.transform(waves))
    assert model.score(waves) == other.score(waves)
    assert not np.array_equal(model.left_vectors_, small(random_state=1).fit(waves).left_vectors_)


def test_scores_and_latents_of_a_fit_repeat_without_a_seed(waves):
    model = small(random_state=None).fit(waves)
    assert model.score(waves) == model.score(waves)
    np.testing.assert_array_equal(model.transform(waves), model.transform(waves))


def test_fit_leaves_torch_as_it_was(waves):
    threads, dtype, state = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
    small().fit(waves).score(waves)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_pickles_clones_and_goes_through_a_dataset(model, waves):
    for copy in (pickle.loads(pickle.dumps(model)), SMCLowRankRNN.from_dataset(model.to_dataset())):
        np.testing.assert_array_equal(copy.transform(waves), model.transform(waves))
        assert copy.score(waves) == model.score(waves)
        assert copy.get_params() == model.get_params()
        assert copy.n_particles_ == 8
    with pytest.raises(NotFittedError):
        clone(model).transform(waves)


@pytest.mark.parametrize("readout", ["latents", "currents", "rates"])
@pytest.mark.parametrize("n_inputs", [0, 1])
def test_every_readout_goes_through_a_dataset(waves, readout, n_inputs):
    u = np.random.default_rng(0).standard_normal((N_TRIALS, N_BINS, 1)) if n_inputs else None
    n_neurons = 12 if readout == "latents" else None
    model = small(n_neurons=n_neurons, readout=readout, nonlinearity="relu", max_epochs=1).fit(waves, inputs=u)
    copy = SMCLowRankRNN.from_dataset(model.to_dataset())
    np.testing.assert_array_equal(copy.transform(waves, inputs=u), model.transform(waves, inputs=u))
    assert copy.score(waves, inputs=u) == model.score(waves, inputs=u)
    assert copy.n_inputs_ == n_inputs


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_every_count_likelihood_fits(counts, likelihood, link):
    model = small(likelihood=likelihood, link=link).fit(counts)
    assert model.score(counts) > MeanRate(likelihood=likelihood).fit(counts).score(counts) + 0.05
    assert (np.asarray(model.rates(model.transform(counts))) >= 0).all()
    copy = SMCLowRankRNN.from_dataset(model.to_dataset())
    np.testing.assert_array_equal(copy.transform(counts), model.transform(counts))
    assert copy.score(counts) == model.score(counts)


def test_warm_start_goes_on_where_the_fit_ended(waves):
    model = small(warm_start=True).fit(waves)
    model.n_particles_ = 512  # with the few of the fit the bound has a standard error of 0.07
    before = model.score(waves)
    model.fit(waves).n_particles_ = 512
    assert model.score(waves) > before - 5e-3
    with pytest.raises(ValueError, match=r"warm_start: the fitted network has rank, .* \(2, 12, 6, 0, 'latents'\)"):
        model.set_params(n_neurons=13).fit(waves)
    model.set_params(n_neurons=12)
    with pytest.raises(ValueError, match="X has 5 features, but SMCLowRankRNN|warm_start: the fitted network has"):
        model.fit(waves[..., :5])


def test_restarts_run_side_by_side_and_the_best_is_kept(waves):
    model = small(n_init=2).fit(waves)
    assert model.restart_scores_.shape == (2,)
    assert model.history_.validation.max() == model.restart_scores_.max()


def test_single_precision_is_the_default_and_agrees_with_double(model, waves):
    assert SMCLowRankRNN().dtype == "float32"
    assert model.dynamics_.left_vectors.dtype == np.float64  # what is kept
    double = model.with_dynamics(model.dynamics_).set_params(dtype="float64")
    # the same noise; where an ancestor is on the edge, rounding may choose the other one
    assert double.score(waves) == pytest.approx(model.score(waves), abs=0.02)
    assert small(dtype="float64").fit(waves).score(waves) > MeanRate().fit(waves).score(waves) + 5.0


SLOW_ONES = [pytest.param(name, marks=pytest.mark.slow) for name in ("erf", "clipped_relu", "softplus")]


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity", *SLOW_ONES])
def test_every_nonlinearity_fits(waves, nonlinearity):
    model = small(nonlinearity=nonlinearity).fit(waves)
    assert model.score(waves) > MeanRate().fit(waves).score(waves) + 5.0


@pytest.mark.parametrize("resample_when", ["every_step", "low_ess", "before_step"])
@pytest.mark.parametrize("resampling", ["systematic", "stratified", "multinomial"])
def test_every_resampling_scores(model, waves, resampling, resample_when):
    other = model.with_dynamics(model.dynamics_).set_params(resampling=resampling, resample_when=resample_when)
    assert other.score(waves) == pytest.approx(model.score(waves), abs=0.3)  # noise of 8 particles over 320 bins


def test_the_number_of_particles_is_chosen(waves):
    model = small(n_particles=None).fit(waves)
    assert model.n_particles is None
    assert model.n_particles_ in (64, 256)


def test_one_particle_and_proposals_bound_the_same_likelihood(model, waves):
    assert small(n_particles=1).fit(waves).n_particles_ == 1
    laplace, bootstrap = (model.with_dynamics(model.dynamics_).set_params(proposal=p) for p in ("laplace", "bootstrap"))
    # of a linear readout with Gaussian noise Laplace's approximation is exact
    assert laplace.score(waves) == pytest.approx(model.score(waves), abs=1e-3)
    assert bootstrap.score(waves) < model.score(waves) - 0.5  # blind particles lose most of the bound


def test_diagonal_noise_is_diagonal_before_the_gauge_turns_it(waves, monkeypatch):
    monkeypatch.setattr(estimator, "canonicalize", lambda network: (network, None))
    for shape in ("diagonal", "full"):
        noise = small(latent_noise=shape).fit(waves).dynamics_.latent_noise
        assert (np.diag(noise) > 0).all()
        assert (noise[0, 1] == 0) == (shape == "diagonal")


@pytest.mark.parametrize("readout", ["currents", "rates"])
def test_units_that_are_neurons_are_fitted(waves, readout):
    model = small(readout=readout, n_neurons=None, nonlinearity="relu").fit(waves)
    assert model.loadings_.shape == (N_UNITS,)
    assert model.dynamics_.n_neurons == N_UNITS
    assert model.score(waves) > MeanRate().fit(waves).score(waves) + 1.0
    expected = model.inverse_transform(model.transform(waves))
    assert np.mean((expected - waves) ** 2) < 0.7 * np.mean((waves - waves.mean((0, 1))) ** 2)


@pytest.fixture(scope="module")
def driven():
    """Return trials of units that read a leaky sum of a known input, and the input, which without it is noise."""
    rng = np.random.default_rng(0)
    u = rng.choice([-1.0, 1.0], size=(12, 8, 1)).repeat(5, axis=1)
    z = np.zeros((12, 40, 1))
    for t in range(39):
        z[:, t + 1] = 0.8 * z[:, t] + 0.4 * u[:, t]
    return z @ rng.standard_normal((1, 5)) + 0.1 * rng.standard_normal((12, 40, 5)), u


def test_inputs_drive_the_network(driven):
    X, u = driven
    model = small(rank=1).fit(X, inputs=u)
    assert model.score(X, inputs=u) > small(rank=1).fit(X).score(X) + 1.0
    with pytest.raises(ValueError, match=r"inputs: got None, wanted 1 inputs.*enable_metadata_routing=True"):
        model.score(X)
    with pytest.raises(ValueError, match="inputs: got 2 inputs, wanted 1 as in fit"):
        model.score(X, inputs=np.concatenate([u, u], axis=-1))


def test_a_filtered_input_says_nothing_of_the_first_latent(driven):
    X, u = driven
    model = small(rank=1, filter_inputs=True).fit(X, inputs=u)
    assert model.score(X, inputs=u) > MeanRate().fit(X).score(X)
    assert model.dynamics_.filter_inputs
    np.testing.assert_array_equal(model.dynamics_.initial_input_weights, 0)


# --- missing bins, kinds, posteriors ---------------------------------------------------------------------------------


def labelled(values, **coords):
    return xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": 1.0})


def test_nan_is_a_mask_as_observed_is(model, waves):
    seen = np.random.default_rng(0).random(waves.shape) > 0.1
    seen[0, 5], seen[2, :3] = False, False
    gaps = labelled(np.where(seen, waves, np.nan))
    filled = labelled(np.where(seen, waves, 123.0), observed=(("trial", "time", "unit"), seen))
    assert model.score(gaps) == model.score(filled)
    np.testing.assert_array_equal(model.transform(gaps), model.transform(filled))
    assert np.isfinite(model.transform(gaps)).all()
    fits = [small().fit(X) for X in (gaps, filled)]
    np.testing.assert_array_equal(fits[0].left_vectors_, fits[1].left_vectors_)
    assert fits[0].score(waves) > MeanRate().fit(waves).score(waves) + 5.0


def test_counts_with_gaps_are_counts(counts):
    gaps = counts.astype(float)
    gaps[0, 3], gaps[1, 4, 2] = np.nan, np.nan
    model = small().fit(gaps)
    assert model.likelihood_ == "poisson"
    assert np.isfinite(model.score(gaps))


def test_latents_come_in_the_kind_of_the_data(model, waves):
    reference = model.transform(waves)
    assert isinstance(reference, np.ndarray)
    assert reference.shape == (N_TRIALS, N_BINS, 2)
    ids = np.arange(N_TRIALS) + 5
    array = model.transform(labelled(waves, trial=ids, time=np.arange(N_BINS) + 0.5))
    assert array.dims == ("trial", "time", "latent")
    np.testing.assert_array_equal(array["trial"], ids)
    np.testing.assert_array_equal(array, reference)
    ragged = model.transform([waves[0], waves[1, :20]])
    assert [trial.shape for trial in ragged] == [(N_BINS, 2), (20, 2)]
    # noise is drawn for each trial from its own content: alone, in a batch and in a ragged one it is the same
    np.testing.assert_allclose(ragged[0], reference[0], atol=1e-6)
    np.testing.assert_allclose(model.transform(waves[0]), reference[0], atol=1e-6)
    np.testing.assert_allclose(model.transform(waves[1, :20]), ragged[1], atol=1e-6)
    frame = model.transform(pd.DataFrame(waves[0], index=np.arange(N_BINS) + 3.0))
    assert list(frame.columns) == ["latent0", "latent1"]
    assert frame.index[0] == 3.0
    np.testing.assert_allclose(frame, reference[0], atol=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_filtered_and_delayed_latents_do_not_look_ahead(model, of_counts, waves, counts, kind):
    fitted, X = (model, waves) if kind == "gaussian" else (of_counts, counts)
    # noise is drawn from the content of a trial, so that changed bins come with other noise: many particles
    fitted = fitted.with_dynamics(fitted.dynamics_).set_params(n_trajectories=50)
    fitted.n_particles_ = 1000
    X = X[:1, :24]
    changed = X.copy()
    changed[:, 20:] = changed[:, 20:].max() + 2
    moved = {
        posterior: np.abs(np.subtract(*(fitted.transform(x, posterior=posterior) for x in (X, changed))))[0]
        for posterior in ("smoothed", "filtered", "delayed")
    }
    size = np.abs(fitted.transform(X)).max()
    assert moved["smoothed"][15:20].max() > 0.05 * size  # the smoother does look ahead
    for posterior, first in (("filtered", 20), ("delayed", 21)):
        assert moved[posterior][:first].max() < 0.08 * size  # the noise of 1000 particles leaves 0.05 on some machines
        assert moved[posterior][first:].max() > 0.1 * size


def test_transform_takes_another_posterior(model, waves):
    smoothed, filtered, delayed = (model.transform(waves, posterior=p) for p in ("smoothed", "filtered", "delayed"))
    np.testing.assert_array_equal(model.transform(waves), smoothed)
    assert not np.array_equal(smoothed, filtered)
    other = SMCLowRankRNN.from_dataset(model.to_dataset()).set_params(posterior="delayed")
    np.testing.assert_array_equal(other.transform(waves), delayed)
    np.testing.assert_array_equal(other.transform(waves, posterior="smoothed"), smoothed)
    # more bins explain more
    errors = [np.mean((model.inverse_transform(z) - waves) ** 2) for z in (smoothed, filtered, delayed)]
    assert errors[0] < errors[2]
    assert errors[1] < errors[2]


def test_trajectories_scatter_around_the_smoothed_latents(model, waves):
    other = model.with_dynamics(model.dynamics_).set_params(n_trajectories=200)
    draws = other.trajectories(waves[:2], n_draws=200)
    assert draws.dims == ("draw", "trial", "time", "latent")
    assert draws.shape == (200, 2, N_BINS, 2)
    gap = draws.mean("draw") - other.transform(waves[:2])
    assert float(np.abs(gap).mean()) < 0.2 * float(draws.std("draw").mean())
    assert (draws.std("draw") > 0).any("time").all()


def test_forecasts_are_joint_and_marginal(model, waves):
    many = model.with_dynamics(model.dynamics_)
    many.n_particles_ = 500  # particle noise well below what is compared
    joint, marginal = many.forecast_score(waves, 5), many.marginal_forecast_score(waves, 5)
    whole, before = (float(many.score_trials(X).sum()) for X in (waves, waves[:, :-5]))
    assert joint == pytest.approx((whole - before) / (5 * N_TRIALS), abs=0.15)  # what the last bins add to ln p
    assert many.forecast_score(waves, 1) == pytest.approx(many.marginal_forecast_score(waves, 1), abs=0.15)
    assert joint > marginal - 0.15  # the forecast bins before a bin help, if anything
    assert marginal > MeanRate().fit(waves).score(waves)


def test_another_network_is_scored_in_the_same_way(model, waves):
    same = model.with_dynamics(model.dynamics_)
    assert same.score(waves) == model.score(waves)
    assert same.n_particles_ == model.n_particles_
    linear = LinearStateSpace(rank=2).fit(waves)
    exact, bound = linear.score(waves), model.with_dynamics(linear.dynamics_).score(waves)
    assert exact - 0.15 < bound < exact + 0.02


@pytest.mark.filterwarnings("ignore::nwb_lrrnn.models.scored_units.UnscoredUnitsWarning")
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
@pytest.mark.parametrize(("dim", "n"), [("trial", 8), ("unit", 6)])
def test_a_trial_or_unit_that_is_never_observed_breaks_nothing(waves, likelihood, dim, n):
    values = np.round(3 + waves).clip(min=0) if likelihood == "poisson" else waves
    X = xr.DataArray(values, dims=("trial", "time", "unit"), coords={"observed": (dim, np.arange(n) != 2)})
    model = small(likelihood=likelihood).fit(X)
    assert np.isfinite(model.score(X))
    assert np.isfinite(model.transform(X)).all()
