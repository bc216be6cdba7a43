"""Linear Gaussian state-space models against the joint Gaussian density, and EM against its own likelihood."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.align import canonicalize
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.linear import LinearStateSpace, em
from nwb_lrrnn.models.linear.smoothing import smooth
from nwb_lrrnn.models.linear.system import LinearSystem, from_dynamics
from nwb_lrrnn.trials import as_trials


def random_system(seed=0, rank=2, n_units=3, n_inputs=0):
    rng = np.random.default_rng(seed)
    transition = rng.standard_normal((rank, rank))
    transition *= 0.9 / np.abs(np.linalg.eigvals(transition)).max()
    root = rng.standard_normal((2, rank, rank))
    weights = (lambda n: rng.standard_normal((n, n_inputs))) if n_inputs else (lambda n: None)
    return LinearSystem(
        transition=transition,
        drive=rng.standard_normal(rank),
        noise=root[0] @ root[0].T,
        initial_mean=rng.standard_normal(rank),
        initial_covariance=root[1] @ root[1].T,
        loadings=rng.standard_normal((n_units, rank)),
        offset=rng.standard_normal(n_units),
        variance=rng.uniform(0.5, 2.0, n_units),
        input_weights=weights(rank),
        initial_input_weights=weights(rank),
        readout_input_weights=weights(n_units),
    )


def joint_moments(system, n_steps, inputs=None):
    """Mean and covariance of (z_1..z_T), built without any recursion over posteriors."""
    rank = system.rank
    drive, initial = system.drives(None if inputs is None else inputs[None], 1, n_steps)
    mean, cov = np.zeros((n_steps, rank)), np.zeros((n_steps, rank, n_steps, rank))
    mean[0], cov[0, :, 0] = initial[0], system.initial_covariance
    for t in range(1, n_steps):
        mean[t] = system.transition @ mean[t - 1] + drive[0, t - 1]
        cov[t, :, :t] = np.tensordot(system.transition, cov[t - 1, :, :t], axes=1)
        cov[:t, :, t] = cov[t, :, :t].transpose(1, 2, 0)
        cov[t, :, t] = system.transition @ cov[t - 1, :, t - 1] @ system.transition.T + system.noise
    return mean.ravel(), cov.reshape(n_steps * rank, n_steps * rank)


def joint_posterior(system, y, observed, inputs=None):
    """Return ln p(y), E z and Cov z given the observed entries of one trial (time, unit), by dense linear algebra."""
    n_steps = len(y)
    mean, cov = joint_moments(system, n_steps, inputs)
    readout = np.kron(np.eye(n_steps), system.loadings)[observed.ravel()]
    offsets = np.broadcast_to(system.offsets(None if inputs is None else inputs[None]), (1, *y.shape))[0]
    residual = (y - offsets)[observed] - readout @ mean
    noise = np.broadcast_to(system.variance, y.shape)[observed]
    total = readout @ cov @ readout.T + np.diag(noise)
    gain = np.linalg.solve(total, readout @ cov).T
    log_p = -0.5 * (residual @ np.linalg.solve(total, residual) + np.linalg.slogdet(2 * np.pi * total)[1])
    posterior = cov - gain @ readout @ cov
    shape = (n_steps, system.rank)
    return log_p, (mean + gain @ residual).reshape(shape), posterior.reshape(*shape, *shape)


def check_against_joint(system, trials, inputs=None):
    moments = smooth(system, trials)
    for k, length in enumerate(trials.lengths):
        seen = np.ones_like(trials.values, bool) if trials.observed is None else trials.observed
        u = None if inputs is None else trials.inputs[k, :length]
        y, mask = trials.values[k, :length], seen[k, :length]
        log_p, mean, cov = joint_posterior(system, y, mask, u)
        t = np.arange(length)
        # dense algebra of some 20 dimensions keeps ten digits
        np.testing.assert_allclose(moments.log_likelihood[k], log_p, rtol=1e-9)
        np.testing.assert_allclose(moments.means[k, :length], mean, atol=1e-9)
        np.testing.assert_allclose(moments.covariances[k, :length], cov[t, :, t], atol=1e-9)
        cross = moments.pattern_cross[moments.pattern[k], : length - 1]
        np.testing.assert_allclose(cross, cov[t[1:], :, t[:-1]], atol=1e-9)
        assert (moments.means[k, length:] == 0).all()
        for now in (0, length - 1):  # filtered and predicted means are posteriors given fewer bins
            until, before = mask & (t <= now)[:, None], mask & (t < now)[:, None]
            np.testing.assert_allclose(
                moments.filtered[k, now], joint_posterior(system, y, until, u)[1][now], atol=1e-9
            )
            np.testing.assert_allclose(
                moments.predicted[k, now], joint_posterior(system, y, before, u)[1][now], atol=1e-9
            )


def test_smoother_equals_joint_gaussian():
    rng = np.random.default_rng(1)
    check_against_joint(random_system(), as_trials(rng.standard_normal((3, 5, 3))))


def test_smoother_equals_joint_gaussian_with_masks_of_units_bins_and_lengths():
    rng = np.random.default_rng(2)
    ragged = [rng.standard_normal((n, 3)) for n in (6, 4, 6, 1)]
    ragged[0][2] = np.nan  # a whole bin
    ragged[1][1, 2] = np.nan  # one unit of a bin
    ragged[2][2] = np.nan
    ragged[0][5] = np.nan  # the last bin
    check_against_joint(random_system(3), as_trials(ragged, allow_nan=True))


def test_smoother_equals_joint_gaussian_with_inputs():
    rng = np.random.default_rng(3)
    system = random_system(4, n_inputs=2)
    trials = as_trials(rng.standard_normal((2, 5, 3)), inputs=rng.standard_normal((2, 5, 2)))
    check_against_joint(system, trials, inputs=True)


def test_smoother_of_singular_systems_equals_joint_gaussian():
    system = random_system(5)
    still = system.replace(noise=np.zeros((2, 2)))
    one = system.replace(noise=np.diag([1.0, 0.0]), initial_covariance=np.diag([0.0, 2.0]))
    trials = as_trials(np.random.default_rng(5).standard_normal((2, 4, 3)))
    check_against_joint(still, trials)
    check_against_joint(one, trials)


def simulate(system, n_trials, n_steps, seed=0, inputs=None):
    rng = np.random.default_rng(seed)
    drive, z = system.drives(inputs, n_trials, n_steps)
    draw = lambda cov: rng.multivariate_normal(np.zeros(len(cov)), cov, n_trials)  # noqa: E731
    z = z + draw(system.initial_covariance)
    values = np.empty((n_trials, n_steps, len(system.offset)))
    for t in range(n_steps):
        noise = rng.standard_normal(values[:, t].shape) * np.sqrt(system.variance)
        values[:, t] = z @ system.loadings.T + system.offset + noise
        z = z @ system.transition.T + drive[:, t] + draw(system.noise)
    return values


def oscillator(n_units=20, noise=1.0):
    """Return a damped oscillator and a decay, of stationary covariance I."""
    turn = 0.97 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    transition = np.block([[turn, np.zeros((2, 1))], [np.zeros((1, 2)), np.full((1, 1), 0.8)]])
    rng = np.random.default_rng(7)
    return LinearSystem(
        transition,
        np.zeros(3),
        np.eye(3) - transition @ transition.T,
        np.zeros(3),
        np.eye(3),
        rng.standard_normal((n_units, 3)),
        rng.standard_normal(n_units) * 3,
        np.full(n_units, noise),
    )


@pytest.mark.parametrize("case", ["whole", "masked", "inputs", "one trial"])
def test_em_increases_the_exact_objective(case):
    system = random_system(11, rank=2, n_units=6, n_inputs=2 if case == "inputs" else 0)
    rng = np.random.default_rng(11)
    inputs = rng.standard_normal((25, 12, 2)) if case == "inputs" else None
    values = simulate(system.replace(readout_input_weights=None), 25, 12, 1, inputs)
    if case == "masked":
        values[rng.uniform(size=values.shape) < 0.3] = np.nan
        values[3, 5:8] = np.nan
    if case == "one trial":
        values = values[:1]
    fitted = em.fit(as_trials(values, inputs=inputs, allow_nan=True), 2, max_iter=40, tol=0.0)
    gains = np.diff(fitted.objective)
    assert len(gains) == 39
    assert gains.min() > -1e-9 * np.abs(fitted.objective).max()  # rounding of a sum of some thousand terms
    if case != "one trial":  # enough trials: no prior, the objective is the likelihood itself
        np.testing.assert_array_equal(fitted.objective, fitted.log_likelihood)


def test_em_recovers_planted_eigenvalues_and_spectrum():
    truth = oscillator()
    model = LinearStateSpace(rank=3, tol=1e-6).fit(simulate(truth, 60, 50))
    got, wanted = (np.sort_complex(np.linalg.eigvals(a)) for a in (model.transition_matrix(), truth.transition))
    # the standard error of an AR(1) coefficient is sqrt((1 - a^2) / 3000) < 0.012: three of them
    np.testing.assert_allclose(got, wanted, atol=0.036)
    modes = model.modes()
    assert modes.sizes["mode"] == 3
    assert modes["is_stable"].all()
    np.testing.assert_allclose(modes["time_constant"][0], -1 / np.log(0.97), rtol=0.4)
    np.testing.assert_allclose(modes["frequency"][:2], [0.3 / (2 * np.pi), -0.3 / (2 * np.pi)], rtol=0.05)


def test_em_recovers_planted_parameters_driven_by_inputs():
    rng = np.random.default_rng(4)
    truth = oscillator().replace(
        input_weights=rng.standard_normal((3, 2)), initial_input_weights=rng.standard_normal((3, 2))
    )
    inputs = rng.standard_normal((80, 30, 2)) * [1.0, 1e4]  # inputs come in any unit
    truth = truth.replace(
        input_weights=truth.input_weights / [1.0, 1e4], initial_input_weights=truth.initial_input_weights / [1.0, 1e4]
    )
    values = simulate(truth, 80, 30, 5, inputs)
    model = LinearStateSpace(rank=3, tol=1e-6).fit(values, inputs=inputs)
    dynamics = model.dynamics_
    # C B is what the units see of an input one step later: free of the gauge
    for got, wanted in [
        (dynamics.loadings @ dynamics.latent_input_weights, truth.loadings @ truth.input_weights),
        (dynamics.loadings @ dynamics.initial_input_weights, truth.loadings @ truth.initial_input_weights),
    ]:
        np.testing.assert_allclose(got * [1.0, 1e4], wanted * [1.0, 1e4], atol=0.8)
        assert np.corrcoef((got * [1.0, 1e4]).ravel(), (wanted * [1.0, 1e4]).ravel())[0, 1] > 0.98


def fitted_model(**changes):
    options = {"rank": 3, "tol": 1e-4} | changes
    values = simulate(oscillator(8), 30, 20)
    return LinearStateSpace(**options).fit(values), values


def test_score_is_log_density_per_bin_in_the_units_of_the_data():
    model, values = fitted_model()
    system = from_dynamics(model.dynamics_)
    wanted = joint_posterior(system, values[0], np.ones_like(values[0], bool))[0]
    np.testing.assert_allclose(model.score(values[:1]), wanted / 20, rtol=1e-9)
    per_trial = model.score_trials(values)
    np.testing.assert_allclose(float(per_trial.sum() / per_trial["n_bins"].sum()), model.score(values))
    scaled, _ = fitted_model()
    scaled = clone(scaled).fit(10 * values + 5)
    np.testing.assert_allclose(scaled.score(10 * values + 5), model.score(values) - 8 * np.log(10), rtol=1e-7)
    np.testing.assert_allclose(scaled.transform(10 * values + 5), 10 * model.transform(values), atol=1e-5)


def test_score_and_latents_ignore_padding_and_order():
    model, values = fitted_model()
    ragged = [values[0], values[1, :7], values[2, :13]]
    together, alone = model.transform(ragged), [model.transform(trial) for trial in ragged]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    scores = model.score_trials(ragged).values
    np.testing.assert_allclose(scores, [float(model.score_trials(trial)[0]) for trial in ragged], rtol=1e-10)
    np.testing.assert_allclose(model.score_trials(ragged[::-1]).values[::-1], scores, rtol=1e-12)


def test_fit_on_ragged_trials_equals_fit_with_masked_tails():
    values = simulate(oscillator(8), 30, 20)
    lengths = np.random.default_rng(0).integers(8, 21, 30)
    ragged = [trial[:n] for trial, n in zip(values, lengths, strict=True)]
    fitted = em.fit(as_trials(ragged), 3, max_iter=5, tol=0.0)
    masked = values.copy()
    for k, n in enumerate(lengths):
        masked[k, n:] = np.nan
    # masked tails have latents too, so EM takes other steps, but the likelihood of given parameters is one number
    np.testing.assert_allclose(
        smooth(fitted.system, as_trials(ragged)).log_likelihood,
        smooth(fitted.system, as_trials(masked, allow_nan=True)).log_likelihood,
        rtol=1e-10,
    )


def test_latents_are_in_the_canonical_gauge():
    model, _ = fitted_model()
    dynamics = model.dynamics_
    np.testing.assert_allclose(dynamics.latent_mean, 0, atol=1e-9)
    spread = np.diag(dynamics.latent_covariance)
    np.testing.assert_allclose(dynamics.latent_covariance, np.diag(spread), atol=1e-9 * spread.max())
    np.testing.assert_allclose(dynamics.loadings.T @ dynamics.loadings, np.eye(3), atol=1e-9)
    again, _ = canonicalize(dynamics)
    for name in ("left_vectors", "right_vectors", "loadings", "latent_noise", "drive"):
        np.testing.assert_allclose(getattr(again, name), getattr(dynamics, name), atol=1e-9)


def test_likelihood_does_not_depend_on_the_gauge():
    model, values = fitted_model()
    rng = np.random.default_rng(0)
    moved = from_dynamics(model.dynamics_).in_gauge(rng.standard_normal((3, 3)), rng.standard_normal(3))
    np.testing.assert_allclose(smooth(moved, as_trials(values)).log_likelihood, model.score_trials(values), rtol=1e-9)


def test_round_trip_through_dynamics_and_dataset():
    model, values = fitted_model()
    for copy in (LinearStateSpace.from_dynamics(model.dynamics_), LinearStateSpace.from_dataset(model.to_dataset())):
        np.testing.assert_array_equal(copy.transform(values), model.transform(values))
        assert copy.score(values) == model.score(values)


def test_network_with_leak_currents_and_inputs_is_the_linear_system_it_simulates():
    rng = np.random.default_rng(0)
    network = LowRankDynamics(
        left_vectors=rng.standard_normal((5, 2)),
        right_vectors=rng.standard_normal((5, 2)),
        dt=0.02,
        tau=0.1,
        nonlinearity="identity",
        bias=rng.standard_normal(5),
        drive=rng.standard_normal(2),
        input_weights=rng.standard_normal((5, 1)),
        latent_input_weights=rng.standard_normal((2, 1)),
        latent_noise=0.1 * np.eye(2),
        readout="currents",
        loadings=rng.standard_normal(5),
        offset=rng.standard_normal(5),
        observation_variance=np.ones(5),
    )
    system = from_dynamics(network)
    z, u = rng.standard_normal((2, 4, 2)), rng.standard_normal((2, 4, 1))
    drive, _ = system.drives(u, 2, 4)
    np.testing.assert_allclose(z @ system.transition.T + drive, network.step(z, u))
    np.testing.assert_allclose(z @ system.loadings.T + system.offsets(u), network.expected(z, u))


def test_transform_offers_three_posteriors():
    model, values = fitted_model()
    smoothed, filtered, delayed = (model.transform(values, posterior=p) for p in ("smoothed", "filtered", "delayed"))
    np.testing.assert_allclose(smoothed[:, -1], filtered[:, -1])
    A, c = model.transition_matrix(), model.dynamics_.drive
    np.testing.assert_allclose(delayed[:, 1:], filtered[:, :-1] @ A.T + c, atol=1e-12)
    assert model.set_params(posterior="filtered").transform(values).tolist() == filtered.tolist()


def test_unconverged_fit_warns_with_numbers():
    with pytest.warns(ConvergenceWarning, match=r"stopped after max_iter=2 iterations: the last one still gained"):
        fitted_model(max_iter=2, tol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 9}, "rank: got 9, wanted at most 8, the number of units of X"),
        ({"rank": 0}, "rank: got 0, wanted a whole number"),
        ({"max_iter": 0}, "max_iter: got 0"),
        ({"tol": -1.0}, "tol: got -1.0"),
        ({"n_particles": 1.5}, "n_particles: got 1.5"),
        ({"posterior": "smooth"}, "posterior: got 'smooth'.*did you mean 'smoothed'"),
        ({"link": "exp"}, "link: got 'exp', wanted one of 'identity'"),
    ],
)
def test_bad_parameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fitted_model(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonlinearity": "tanh"}, "wanted 'identity'"),
        ({"loadings": None, "offset": None}, "without a readout"),
        ({"observation_variance": None}, "no observation_variance"),
        ({"private_noise": np.ones(2)}, "got private_noise"),
        (
            {"likelihood": "poisson", "link": None, "observation_variance": None, "link_gain": np.ones(3)},
            r"got link_gain, wanted none: .* drop it with dynamics.replace\(link_gain=None\)",
        ),
        ({"filter_inputs": True, "latent_input_weights": np.ones((2, 1))}, "filtered inputs beside"),
    ],
)
def test_networks_that_are_not_linear_are_refused(changes, message):
    good = LowRankDynamics(
        np.eye(2), np.eye(2), 1.0, 1.0, "identity", loadings=np.ones((3, 2)), offset=np.zeros(3),
        observation_variance=np.ones(3),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        LinearStateSpace.from_dynamics(good.replace(**changes))
