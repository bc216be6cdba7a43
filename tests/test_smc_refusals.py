"""What `SMCLowRankRNN` says of its choices, and what it refuses, each in a sentence that says how to mend it."""

import logging

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from nwb_lrrnn.models.linear import MeanRate
from nwb_lrrnn.models.smc import SMCLowRankRNN
from test_smc import labelled, quietly, small

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # few epochs


N_TRIALS, N_BINS, N_UNITS = 4, 40, 6


@pytest.fixture(scope="module")
def waves():
    return np.random.default_rng(0).standard_normal((N_TRIALS, N_BINS, N_UNITS)).cumsum(axis=1)


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(1).poisson(1.5, (N_TRIALS, N_BINS, N_UNITS))


@pytest.fixture(scope="module")
def model(waves):
    return quietly(small(max_epochs=1), waves)


@pytest.fixture(scope="module")
def of_counts(counts):
    return quietly(small(max_epochs=1), counts)


def test_auto_says_what_it_chose(waves, caplog):
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        assert small().fit(waves).likelihood_ == "gaussian"
    assert "likelihood='auto': X holds not counts: gaussian" in caplog.text


def test_not_converging_warns_with_numbers(waves):
    with pytest.warns(ConvergenceWarning, match=r"SMCLowRankRNN: not converged after 3 epochs: .*"):
        small(patience=100).fit(waves)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"rank": 7}, "rank: got 7, wanted at most the number of units, 6"),
        ({"rank": 0}, "rank: got 0, wanted a whole number >= 1"),
        ({"rank": 1.5}, r"rank: got 1\.5, wanted a whole number"),
        ({"n_neurons": -1}, "n_neurons: got -1, wanted a whole number >= 1 or None"),
        ({"readout": "currents"}, "n_neurons: got 12 with readout='currents', where the 6 units are the neurons"),
        ({"readout": "current"}, "readout: got 'current'.*did you mean 'currents'"),
        ({"nonlinearity": "tahn"}, "nonlinearity: got 'tahn'.*did you mean 'tanh'"),
        ({"likelihood": "possion"}, "likelihood: got 'possion'.*did you mean 'poisson'"),
        ({"likelihood": "poisson"}, r"X: negative value .* at trial .*poisson wants counts"),
        ({"link": "softplus"}, "link: got 'softplus', wanted one of 'identity'"),
        ({"latent_noise": "diag"}, "latent_noise: got 'diag'.*did you mean 'diagonal'"),
        ({"tau": 0.5}, r"tau: got 0\.5 s, shorter than the bins of 1 s"),
        ({"bin_size": -1}, "bin_size: got -1, wanted seconds > 0"),
        ({"filter_inputs": 1}, "filter_inputs: got 1, wanted True or False"),
        ({"proposal": "optimall"}, "proposal: got 'optimall'.*did you mean 'optimal'"),
        (
            {"proposal": "optimal", "readout": "rates", "n_neurons": None},
            "proposal: got 'optimal' with likelihood='gaussian' and readout='rates', .*use proposal='laplace'",
        ),
        ({"n_particles": 0}, "n_particles: got 0"),
        ({"resampling": "residual"}, "resampling: got 'residual', wanted one of 'systematic'"),
        ({"resample_when": "never"}, "resample_when: got 'never', wanted one of 'every_step'"),
        ({"posterior": "smooth"}, "posterior: got 'smooth'.*did you mean 'smoothed'"),
        ({"n_trajectories": 0}, "n_trajectories: got 0"),
        ({"max_epochs": 0}, "max_epochs: got 0"),
        ({"patience": 0}, "patience: got 0"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"n_init": 0}, "n_init: got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"validation_fraction": 1.0}, r"validation_fraction: got 1\.0"),
        ({"warm_start": "yes"}, "warm_start: got 'yes', wanted True or False"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
        ({"device": "gpu"}, "device: got 'gpu', wanted 'cpu', 'cuda'"),
    ],
)
def test_bad_parameters_are_named_in_one_sentence(waves, parameters, text):
    with pytest.raises(ValueError, match=text):
        small(**parameters).fit(waves)


def test_counts_have_no_optimal_proposal_and_no_identity_link(counts):
    with pytest.raises(ValueError, match="proposal: got 'optimal' with likelihood='poisson' and readout='latents'"):
        small(proposal="optimal").fit(counts)
    with pytest.raises(ValueError, match="link: got 'identity', wanted one of 'softplus', 'exp'"):
        small(link="identity").fit(counts)


def test_data_that_cannot_be_fitted_are_refused(waves):
    with pytest.raises(ValueError, match="X: got trials of one bin, which show no dynamics"):
        small().fit(waves[:, :1])
    with pytest.raises(ValueError, match="X: no bin is observed"):
        small().fit(np.full_like(waves, np.nan))
    u = np.zeros((N_TRIALS, N_BINS, 1))
    u[0, 3] = np.nan
    with pytest.raises(ValueError, match="inputs: not finite at trial 0, bin 3, input 0"):
        small().fit(waves, inputs=u)


def test_data_other_than_those_of_the_fit_are_refused(model, of_counts, waves):
    with pytest.raises(ValueError, match="X has 5 features, but SMCLowRankRNN is expecting 6 features"):
        model.transform(waves[..., :5])
    with pytest.raises(ValueError, match="inputs: got 1 inputs, wanted 0 as in fit"):
        model.score(waves, inputs=np.zeros((N_TRIALS, N_BINS, 1)))
    with pytest.raises(ValueError, match="X: negative value .*poisson wants counts"):
        of_counts.score(waves)
    fitted = small().fit(labelled(waves, unit=np.arange(N_UNITS) + 10))
    with pytest.raises(ValueError, match="unit"):
        fitted.transform(labelled(waves, unit=np.arange(N_UNITS)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, X: m.forecast_score(X, 0), "n_steps: got 0, wanted a whole number >= 1"),
        (lambda m, X: m.forecast_score(X, 40), "n_steps: got 40, wanted fewer than the 40 bins of the shortest trial"),
        (lambda m, X: m.forecast_score([X[0], X[1, :9]], 9), "n_steps: got 9, wanted fewer than the 9 bins"),
        (lambda m, X: m.marginal_forecast_score(X, 41), "n_steps: got 41, wanted fewer than the 40 bins"),
        (lambda m, X: m.trajectories(X, n_draws=0), "n_draws: got 0, wanted a whole number >= 1"),
        (lambda m, X: m.transform(X, posterior="all"), "posterior: got 'all', wanted one of 'smoothed'"),
        (lambda m, X: m.rates(m.transform(X)), "rates: this model is Gaussian and has no spikes"),
    ],
)
def test_bad_arguments_of_the_verbs_are_refused(model, waves, call, text):
    with pytest.raises(ValueError, match=text):
        call(model, waves)


@pytest.mark.parametrize("verb", ["transform", "score", "score_trials", "trajectories"])
def test_verbs_want_a_fit(waves, verb):
    with pytest.raises(NotFittedError):
        getattr(small(), verb)(waves)


def test_a_dataset_of_another_estimator_is_refused(model):
    with pytest.raises(ValueError, match="got a SMCLowRankRNN, wanted a MeanRate"):
        MeanRate.from_dataset(model.to_dataset())


def test_a_network_with_a_gain_of_the_link_is_refused(of_counts):
    net = of_counts.dynamics_.replace(link_gain=np.ones(of_counts.dynamics_.n_units))
    with pytest.raises(ValueError, match="got link_gain, wanted none: an SMCLowRankRNN has no such term; drop it with"):
        SMCLowRankRNN.from_dataset(net.to_dataset())
