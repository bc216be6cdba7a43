"""`SMCLowRankRNN` finds planted stochastic networks again: noise, latents, frequency and bound.

Teacher: a relu network of rank 2 on a limit cycle whose latents have noise of s.d. 0.2. Data: trials of 75 bins,
and 50 held out. Gaussian: 60 trials, 20 neurons are the 20 units, noise of s.d. 0.1. Poisson: 150 trials, 40 units,
mean 0.5 counts per bin.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from nwb_lrrnn.align import affine_map
from nwb_lrrnn.models.smc import SMCLowRankRNN
from planted import cycle_frequency, relu_cycle

STUDENTS = {
    "gaussian": {"readout": "currents", "n_particles": 16},
    "poisson": {"n_neurons": 40},
}
N_TRIALS = {"gaussian": 60, "poisson": 150}
CASES = [pytest.param(name, marks=pytest.mark.slow) for name in N_TRIALS]


@pytest.fixture(scope="module", params=CASES)
def planted(request):
    """Return the likelihood, the true network, the student, the true network as a student, and held-out trials."""
    net = relu_cycle(request.param)
    train = net.simulate(N_TRIALS[request.param], 75, random_state=1).observations
    held = net.simulate(50, 75, random_state=2)
    model = SMCLowRankRNN(rank=2, nonlinearity="relu", random_state=0, **STUDENTS[request.param]).fit(train)
    true = model.with_dynamics(net)
    z, X = held.latents.values, held.observations
    found = model.transform(X).values
    return SimpleNamespace(
        likelihood=request.param, net=net, model=model, true=true, X=X, z=z,
        to_truth=affine_map(found, z), found=found, smoothed=true.transform(X).values,
    )  # fmt: skip


def by(planted, gaussian, poisson):
    return gaussian if planted.likelihood == "gaussian" else poisson


def r2(guess, z):
    return 1 - ((guess - z) ** 2).sum() / ((z - z.mean((0, 1))) ** 2).sum()


def test_the_data_are_as_stated(planted):
    assert planted.net.rank == 2
    assert planted.net.n_units == by(planted, 20, 40)
    if planted.likelihood == "poisson":
        assert float(planted.X.mean()) == pytest.approx(0.5, rel=0.05)


def test_held_out_bound_is_near_that_of_the_true_parameters(planted):
    assert planted.model.score(planted.X) > planted.true.score(planted.X) - 0.1


def test_standard_deviations_of_the_noise_are_found(planted):
    A = planted.to_truth.weights.T  # (true latent, latent)
    found = np.sqrt(np.diag(A @ planted.model.dynamics_.latent_noise @ A.T))
    np.testing.assert_allclose(found, 0.2, rtol=by(planted, 0.05, 0.10))


def test_latents_are_as_good_as_those_of_the_true_parameters(planted):
    best = r2(planted.smoothed, planted.z)
    assert r2(planted.to_truth(planted.found), planted.z) > best - by(planted, 0.01, 0.02)


def test_frequency_of_the_noise_free_map_is_found(planted):
    found, true = (cycle_frequency(net.replace(latent_noise=None)) for net in (planted.model.dynamics_, planted.net))
    assert found == pytest.approx(true, rel=0.02)
