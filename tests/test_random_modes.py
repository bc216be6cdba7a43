"""Networks of random modes: drawn as asked, run as the theory says, and the covariance of one given matrix."""

import numpy as np
import pytest

from nwb_lrrnn import RandomModeModel, four_point, mean_field, predicted_covariance
from nwb_lrrnn.analysis.theory.ensembles import RandomModes
from nwb_lrrnn.analysis.theory.trial_products import simulated_dimension


def sharpness(matrix):
    """1 / PR of the singular values, and the coupling strength."""
    s = np.linalg.svd(matrix, compute_uv=False)
    return len(matrix) * np.sum(s**4) / np.sum(s**2) ** 2, np.linalg.norm(matrix) / np.sqrt(len(matrix))


@pytest.mark.parametrize(
    ("spectrum", "effective_rank", "expected"),
    [("exponential", 0.3, 1 / 0.3), ("flat", 0.1, 10.0), ("power", 0.3, 1 / 0.3), ("haar", 0.75, 1 / 0.75),
     ("exponential", 2.0, 0.5), ("independent", None, 0.0), ("orthogonal", None, -1.0)],
)  # fmt: skip
def test_networks_have_the_effective_rank_and_strength_asked_for(spectrum, effective_rank, expected):
    model = RandomModeModel(300, 3.0, spectrum, effective_rank, random_state=0)
    assert model.kappa == pytest.approx(expected, rel=0.02, abs=1e-9)
    measured, g = sharpness(model.sample().connectivity())
    assert measured == pytest.approx(expected + 2.0, rel=0.08)
    assert g == pytest.approx(3.0, rel=0.03)


def test_strengths_of_the_user():
    given = RandomModeModel(100, 2.0, [1.0, 3.0, 2.0], random_state=0)
    np.testing.assert_allclose(given.strengths / given.strengths[0], [1, 2 / 3, 1 / 3])
    exact = RandomModeModel(100, 2.0, np.arange(1, 101), exact=True, random_state=0)
    singular = np.linalg.svd(exact.sample().connectivity(), compute_uv=False)
    np.testing.assert_allclose(singular / singular[0], np.arange(100, 0, -1) / 100, rtol=1e-9)
    assert exact.kappa == pytest.approx(sharpness(exact.sample().connectivity())[0] - 2)


def test_overlaps_and_gains_are_those_asked_for():
    model = RandomModeModel(400, 3.0, effective_rank=0.6, overlap=-0.4, random_state=0)
    form = model.sample().form
    measured = np.sum(form.left * form.right, axis=0)
    assert np.corrcoef(measured, model.overlaps)[0, 1] > 0.97
    assert np.mean(model.strengths * model.overlaps) == pytest.approx(0.0, abs=1e-12)
    gained = RandomModeModel(300, 4.0, effective_rank=0.5, gains=0.4, random_state=0).sample()
    assert np.mean(gained.gains**2) ** 2 / np.mean(gained.gains**4) == pytest.approx(0.4)
    assert np.linalg.norm(gained.connectivity() * gained.gains) / np.sqrt(300) == pytest.approx(4.0, rel=0.05)


def test_two_parameters_decide():
    # flat, exponential and power-law strengths of one effective rank: one Psi, at fixed responses of both signs
    s1, s2 = 0.25 / (1 + 0.3j), 0.25 / (1 - 0.5j)
    predicted = RandomModes(2.0).factor(3.0, s1, s2)
    for spectrum in ("flat", "exponential", "power"):
        measured = []
        for seed in range(2):
            J = RandomModeModel(300, 3.0, spectrum, 0.5, random_state=seed).sample().connectivity()
            c1, c2 = (g @ g.conj().T for g in (np.linalg.inv(np.eye(300) / s - J) for s in (s1, s2)))
            measured.append(300 * np.sum(c1 * c2).real / (np.trace(c1) * np.trace(c2)).real)
        assert np.mean(measured) == pytest.approx(predicted, rel=0.25)
    assert RandomModes(0.0).factor(3.0, s1, s2) < 0.7 * predicted


def test_an_orthogonal_network_does_what_the_theory_says():
    model = RandomModeModel(300, 3.0, "orthogonal", random_state=1)
    activity = model.simulate(12, 60.0, step=0.25, burn_in=40.0)
    assert activity.dims == ("trial", "time", "neuron")
    found, theory = simulated_dimension(activity, [0, 1, 2, 4]), four_point(3.0, model.ensemble())
    assert found.variance == pytest.approx(theory.rate_variance, rel=0.01)
    assert found.pr == pytest.approx(
        theory.pr, rel=0.2
    )  # at N = 1000 within 4 %; independent connections: a quarter of it
    np.testing.assert_allclose(found.psi / found.psi[0], theory.leading([0, 1, 2, 4]), atol=0.05)
    np.testing.assert_allclose(found.autocovariance, mean_field(3.0).rate_autocovariance([0, 1, 2, 4]), atol=0.03)


def test_structure_is_invisible_in_single_neurons():
    found = []
    for rank in (0.1, 1.0):
        model = RandomModeModel(400, 3.0, "flat", rank, random_state=3)
        runs = model.simulate(6, 40.0, n_networks=2, step=0.25, burn_in=30.0)
        found.append([simulated_dimension(one, [0, 3]) for one in runs])
    variances, prs = (np.array([[getattr(one, what) for one in row] for row in found]) for what in ("variance", "pr"))
    assert variances[0].mean() == pytest.approx(variances[1].mean(), rel=0.06)
    ratio = np.mean(1 / prs[0]) / np.mean(1 / prs[1])
    expected = four_point(3.0, RandomModes(1.0)).pr / four_point(3.0, RandomModes(10.0)).pr
    assert ratio == pytest.approx(expected, rel=0.5)
    assert ratio > 2.0


def test_modes_and_matrix_are_one_network():
    network = RandomModeModel(80, 3.0, "flat", 0.1, gains=0.6, random_state=0).sample()
    rates = np.random.default_rng(0).standard_normal((80, 3))
    np.testing.assert_allclose(
        network.recurrent("float64", True)(rates), network.recurrent("float64", False)(rates), atol=1e-12
    )
    dynamics = network.to_dynamics(dt=0.01)
    assert dynamics.rank == 8
    np.testing.assert_allclose(dynamics.connectivity(), network.connectivity() * network.gains, atol=1e-12)
    with pytest.raises(ValueError, match="to_dynamics: got no modes"):
        RandomModeModel(80, 3.0, "independent", random_state=0).to_dynamics()


def test_a_simulation_follows_its_seed_and_its_network():
    model = RandomModeModel(60, 3.0, "flat", 0.2, random_state=5)
    options = {"duration": 4.0, "burn_in": 2.0, "step": 0.25, "dtype": "float64"}
    one, same = model.simulate(2, **options), model.simulate(2, **options)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, model.simulate(2, random_state=6, **options))
    assert model.simulate(2, n_networks=2, **options).dims == ("network", "trial", "time", "neuron")
    finer = model.simulate(2, **(options | {"step": 0.05}))
    np.testing.assert_allclose(one, finer, atol=2e-3)  # Runge-Kutta: a step a fifth as long changes nothing to be seen


def test_covariance_of_a_given_matrix():
    for spectrum, rank, within in (("haar", 0.75, 0.35), ("orthogonal", None, 0.25)):
        model = RandomModeModel(250, 6.0, spectrum, rank, random_state=2)
        predicted = predicted_covariance(model.sample().connectivity())
        found = simulated_dimension(model.simulate(12, 60.0, step=0.25, burn_in=50.0))
        assert bool(predicted.converged)
        assert float(predicted.pr) == pytest.approx(found.pr, rel=within)
        assert float(predicted.rate_variance) == pytest.approx(found.variance, rel=0.02)


def test_covariance_does_not_depend_on_order_form_or_where_gains_are():
    network = RandomModeModel(120, 3.0, "flat", 0.3, gains=0.7, random_state=0).sample()
    J, gains = network.connectivity(), network.gains
    whole = predicted_covariance(J, gains=gains)
    order = np.random.default_rng(0).permutation(120)
    turned = predicted_covariance(J[np.ix_(order, order)], gains=gains[order])
    np.testing.assert_allclose(turned.covariance, whole.covariance.values[np.ix_(order, order)], atol=1e-5)
    absorbed = predicted_covariance(J * gains)
    np.testing.assert_allclose(absorbed.covariance, whole.normalised_covariance, atol=1e-9)
    # rank 36 of 120: the kernel is taken apart; a trace of noise makes it of full rank
    noisy = predicted_covariance(J * gains + 1e-4 * np.random.default_rng(1).standard_normal((120, 120)))
    assert float(noisy.pr) == pytest.approx(float(absorbed.pr), rel=0.02)


def test_what_cannot_be_is_refused():
    quiet = predicted_covariance(0.1 * np.eye(5))
    assert not quiet.covariance.any()
    with pytest.raises(ValueError, match="J: got shape"):
        predicted_covariance(np.ones((2, 3)))
    with pytest.raises(ValueError, match="effective_rank: got None"):
        RandomModeModel(50, 3.0)
    with pytest.raises(ValueError, match="overlap: only Gaussian modes overlap"):
        RandomModeModel(50, 3.0, "haar", 0.5, overlap=0.2)
    with pytest.raises(ValueError, match="overlap: got 1.2"):
        RandomModeModel(50, 3.0, effective_rank=0.5, overlap=1.2)
    with pytest.raises(ValueError, match="spectrum: got 'expnential'"):
        RandomModeModel(50, 3.0, "expnential", 0.5)
    with pytest.raises(ValueError, match="effective_rank: got 0.001, but one mode"):
        RandomModeModel(50, 3.0, effective_rank=0.001)
    with pytest.raises(ValueError, match="activity: got 1 trials"):
        simulated_dimension(RandomModeModel(20, 3.0, "flat", 0.5).simulate(1, 2.0, burn_in=1.0))
