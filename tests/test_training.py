"""The training loop: losses that are not finite, ends without convergence, going on; and the scales of units."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.models.low_rank.objective import ShootingObjective
from nwb_lrrnn.models.networks.scales import scales_of
from nwb_lrrnn.models.smc import SMCLowRankRNN, estimator
from nwb_lrrnn.models.smc.objective import FilterObjective
from nwb_lrrnn.models.training.loop import Schedule, train
from nwb_lrrnn.progress import Progress
from nwb_lrrnn.trials import as_trials


def low_rank(**parameters):
    return LowRankRNN(**{"rank": 2, "n_neurons": 10, "max_epochs": 12, "random_state": 0, **parameters})


def smc(**parameters):
    few = {"n_neurons": 8, "n_particles": 8, "n_trajectories": 8, "max_epochs": 6, "batch_size": 3}
    return SMCLowRankRNN(**{"rank": 2, "random_state": 0, **few, **parameters})


MODELS = {"low_rank": (low_rank, ShootingObjective), "smc": (smc, FilterObjective)}


@pytest.fixture(scope="module")
def waves():
    """Return trials of units that read a rotation with noise, (trial, time, unit)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, size=(8, 1))
    z = np.stack([np.cos(0.3 * np.arange(24) + phase), np.sin(0.3 * np.arange(24) + phase)], -1)
    return z @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((8, 24, 5))


def fit(model, X):
    """Return the model and the texts of its warnings, which must all be of convergence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    assert all(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return model, [str(warning.message) for warning in caught]


class Hill:
    """-|x - 1|^2 of S restarts, with losses and validation values that are not finite where the test says so."""

    def __init__(self, bad_loss=None, bad_value=None, n_nets=2, n_batches=2):
        self.parameters = torch.zeros((n_nets, 3), dtype=torch.float64).requires_grad_()
        self.baseline, self.resolution, self.n_batches = -3.0, 1e-6, n_batches
        self.bad_loss, self.bad_value, self.epoch = bad_loss or {}, bad_value or {}, 0

    def begin_epoch(self, epoch):
        self.epoch = epoch

    def batches(self, rng):
        yield from torch.arange(self.n_batches)

    def value(self):
        return -((self.parameters - 1.0) ** 2).sum(1)

    def loss(self, batch):
        poison = torch.zeros(len(self.parameters), dtype=torch.float64)
        for row, until in self.bad_loss.get((self.epoch, int(batch)), {}).items():
            poison[row] = until
        return -self.value() + poison * self.parameters.sum(1)

    def judge(self):
        value = self.value().detach()
        for row, got in self.bad_value.get(self.epoch, {}).items():
            value[row] = got
        return {"validation": value}

    def snapshot(self):
        return {}

    def state(self):
        return {}

    def load(self, state):
        pass


def climb(objective, max_epochs=400, patience=20):
    with Progress(max_epochs, "Hill") as progress:
        return train(objective, Schedule(max_epochs, patience, 0.05), np.random.default_rng(0), progress=progress)


def test_a_hill_is_climbed_and_nothing_is_said():
    outcome = climb(Hill())
    np.testing.assert_allclose(outcome.parameters.detach(), 1.0, atol=0.02)  # stops where gains fall below 2e-4
    assert (outcome.not_finite, outcome.not_converged) == ("", "")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_batch_that_is_not_finite_is_skipped_and_said(wrong):
    objective = Hill(bad_loss={(7, 1): {0: wrong}})
    outcome = climb(objective)
    np.testing.assert_allclose(outcome.parameters.detach(), 1.0, atol=0.02)
    assert outcome.not_finite.startswith("the loss of 1 of 2 restarts was not finite, first in epoch 7 (likely")
    other, alone = outcome.history.validation[:, 1], climb(Hill()).history.validation[:, 1]
    n = min(len(other), len(alone))
    np.testing.assert_array_equal(other[:n], alone[:n])  # the other restart does not notice


def test_a_restart_without_any_finite_loss_ends_with_its_last_good_state():
    # from epoch 5 on no batch of the first restart is finite: training gains nothing and must not pass for converged
    objective = Hill(bad_loss={(epoch, batch): {0: np.nan} for epoch in range(5, 401) for batch in (0, 1)})
    outcome = climb(objective)
    first = outcome.history.validation[:, 0].values
    assert outcome.validation[0] == first[:5].max() > first[0]
    assert (first[5:] <= first[4]).all()
    assert "1 of 2 restarts was not finite, first in epoch 5" in outcome.not_finite
    np.testing.assert_allclose(outcome.parameters[1].detach(), 1.0, atol=0.02)  # the other one does not suffer


def test_a_validation_value_that_is_not_finite_goes_back_to_the_best():
    outcome = climb(Hill(bad_value={9: {1: np.nan}, 10: {1: np.inf}}))
    np.testing.assert_allclose(outcome.parameters.detach(), 1.0, atol=0.05)
    assert np.isfinite(outcome.validation).all()
    assert (
        "1 of 2 restarts was not finite, first in epoch 9 (likely a learning rate too high); the last good state"
        in (outcome.not_finite)
    )


def test_nothing_finite_at_all_is_an_error():
    with pytest.raises(FloatingPointError, match="Hill: the loss was not finite from epoch 1; X may be scaled extrem"):
        climb(Hill(bad_value={epoch: {0: np.nan, 1: -np.inf} for epoch in range(1, 401)}))


def test_too_few_epochs_are_said_with_numbers():
    outcome = climb(Hill(), max_epochs=3)
    assert outcome.not_converged.startswith("the validation value last rose 0 epochs before the end, to -2.")
    assert outcome.n_epochs == outcome.history.sizes["epoch"] == 3


# --- the estimators --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["loss", "judge"])
def test_a_fit_survives_what_is_not_finite_and_says_so(name, method, waves, monkeypatch):
    make, objective = MODELS[name]
    original, calls = getattr(objective, method), []

    def poisoned(self, *batch):
        calls.append(1)
        got = original(self, *batch)
        if len(calls) != 4:
            return got
        return got * torch.nan if method == "loss" else {term: value * torch.nan for term, value in got.items()}

    monkeypatch.setattr(objective, method, poisoned)
    model, said = fit(make(), waves)
    epoch = 2 if name == "smc" and method == "loss" else 4  # three batches an epoch
    where = "in windows of 5 bins, " if name == "low_rank" else ""
    text = f"{type(model).__name__}: {where}the loss of 1 of 1 restarts was not finite, first in epoch {epoch} (likely"
    assert any(line.startswith(text) for line in said)
    assert np.isfinite(model.score(waves))
    assert model.score(waves) > -8.0  # constant rates: about -6.5


@pytest.mark.parametrize("name", MODELS)
def test_a_learning_rate_far_too_high_keeps_a_good_state(name, waves):
    make, _ = MODELS[name]
    model, _ = fit(make(learning_rate=1e3), waves)
    assert np.isfinite(model.score(waves))


@pytest.mark.parametrize("name", MODELS)
def test_the_warning_points_at_the_caller(name, waves):
    make, _ = MODELS[name]
    with pytest.warns(ConvergenceWarning, match=r"not converged after 2 epochs: .* Raise max_epochs") as caught:
        make(max_epochs=2).fit(waves)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("name", MODELS)
def test_a_warm_start_loses_nothing(name, waves):
    make, _ = MODELS[name]
    model, _ = fit(make(warm_start=True), waves)
    before = model.score(waves)
    fit(model.set_params(max_epochs=3), waves)
    assert model.score(waves) > before - 0.002 * waves.shape[2]  # the resolution of the loop
    assert model.n_iter_ == model.history_.sizes["epoch"] <= 3
    with pytest.raises(ValueError, match=r"warm_start: the fitted network has rank.* set warm_start=False"):
        model.set_params(rank=1).fit(waves)
    with pytest.raises(ValueError, match=r"warm_start: the fitted network has .*units.* set warm_start=False"):
        model.set_params(rank=2).fit(waves[..., :4])


def test_diagonal_noise_outlives_a_warm_start(waves, monkeypatch):
    model, _ = fit(smc(latent_noise="diagonal", warm_start=True, dtype="float64"), waves)
    noise = model.dynamics_.latent_noise
    assert abs(noise[0, 1]) > 1e-3 * np.sqrt(noise[0, 0] * noise[1, 1])  # the gauge has turned it
    model.n_particles_ = 3000
    before = model.score(waves)
    starts = []
    monkeypatch.setattr(estimator.fitting, "run", lambda task: starts.append((task.form, task.starts[0])) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(waves)
    form, flat = starts[0]
    net = form.network(form.layout(), flat)
    turned = estimator.network.to_dynamics(net, 0, 1.0, np.arange(5), (np.zeros(2), np.eye(2)))
    np.testing.assert_allclose(turned.latent_noise, np.diag(np.linalg.eigvalsh(noise)), rtol=1e-6, atol=1e-9)
    # the same model in other latents: only the noise of the particles is another
    assert model.with_dynamics(turned).score(waves) == pytest.approx(before, abs=0.02)


# --- scales ----------------------------------------------------------------------------------------------------------


def masked():
    """Return values (trial, time, unit) whose first unit is seen in every fifth bin, and where they are observed."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 30, 3)) * [2.0, 1.0, 3.0] + [50.0, 0.0, -7.0]
    observed = np.ones(values.shape, dtype=bool)
    observed[:, np.arange(30) % 5 != 0, 0] = False
    return values, observed


def test_scales_are_those_of_the_observed_entries():
    values, observed = masked()
    dims = ("trial", "time", "unit")
    trials = as_trials(xr.DataArray(values, dims=dims).assign_coords(observed=(dims, observed)))
    seen = np.where(observed, values, np.nan)
    scale, centre = scales_of(trials, "gaussian", "identity")
    np.testing.assert_allclose(scale, np.nanstd(seen, axis=(0, 1)), rtol=1e-9)
    np.testing.assert_allclose(centre, np.nanmean(seen, axis=(0, 1)), rtol=1e-9)
    of_low_rank, of_smc = low_rank(), smc()
    for model in (of_low_rank, of_smc):
        model.likelihood_, model.n_inputs_ = "gaussian", 0
    where = trials, torch.float64, torch.device("cpu")
    for form in (of_low_rank._form(*where), estimator.settings.form_of(of_smc, *where)):
        np.testing.assert_array_equal(form.scale, scale)
        np.testing.assert_array_equal(form.centre, centre)


def test_scales_of_constant_and_silent_units_are_usable():
    flat = as_trials(np.full((2, 5, 1), 3.0))
    np.testing.assert_array_equal(scales_of(flat, "gaussian", "identity"), ([1.0], [3.0]))
    silent = as_trials(np.zeros((2, 5, 1)), bin_size=0.1)
    np.testing.assert_allclose(scales_of(silent, "poisson", "softplus"), ([0.5], [0.0]))  # half a spike in 1 s
    np.testing.assert_array_equal(scales_of(silent, "poisson", "exp"), ([1.0], [0.0]))


def test_a_linear_model_has_no_warm_start():
    assert "warm_start" not in LinearStateSpace().get_params()
