"""Recorded trajectories, callables and fields that change in time, as samples of a field."""

import numpy as np
import pytest

from nwb_lrrnn.models.least_squares.derivatives import trajectory_samples
from nwb_lrrnn.models.least_squares.field import fit_field_samples
from nwb_lrrnn.models.least_squares.fields_from import TimeCode, box, fit_field, fit_samples, fit_trajectories
from planted_fields import VAN_DER_POL, error_of, runge_kutta, samples, van_der_pol


def _rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def cycle():
    return runge_kutta(van_der_pol, np.array([1.4, 0.0]), 0.05, 600)[-134:]


@pytest.fixture(scope="module")
def recorded():
    """Return 25 trials of 100 samples, 0.1 apart, from all over the box."""
    starts = np.random.default_rng(1).uniform(-1, 1, (25, 2)) * VAN_DER_POL.box
    return list(runge_kutta(van_der_pol, starts, 0.02, 500)[::5].swapaxes(0, 1))


def test_the_bias_of_forward_differences_is_not_that_of_the_others(cycle, recorded):
    errors = {}
    for derivative in ("savgol", "integral", "central", "euler"):
        field = fit_trajectories(
            recorded, 0.1, tau=1.0, n_neurons=100, derivative=derivative, ridge=1e-8, basis="gaussian", rng=_rng()
        )
        errors[derivative] = error_of(field.velocity(cycle), van_der_pol(cycle))
    assert 5e-3 < errors["euler"] < 5e-2
    assert errors["savgol"] <= 2e-4
    assert errors["integral"] <= 2e-4
    assert errors["central"] < 1e-3
    default = fit_trajectories(recorded, 0.1, tau=1.0, n_neurons=100, ridge=1e-8, basis="gaussian", rng=_rng())
    assert error_of(default.velocity(cycle), van_der_pol(cycle)) == errors["savgol"]


def test_noise_widens_the_window_and_spares_the_field(cycle, recorded):
    noisy = [path + 0.1 * np.random.default_rng(i).standard_normal(path.shape) for i, path in enumerate(recorded)]
    assert trajectory_samples(noisy, 0.1, tau=1.0).window >= trajectory_samples(recorded, 0.1, tau=1.0).window
    slow = [np.sin(np.linspace(0, 1, 200))[:, None] + 0.3 * np.random.default_rng(0).standard_normal((200, 1))]
    assert trajectory_samples(slow, 0.1, tau=1.0).window >= 15
    field = fit_trajectories(noisy, 0.1, tau=1.0, n_neurons=100, rng=_rng())
    assert error_of(field.velocity(cycle), van_der_pol(cycle)) < 5e-3


def test_an_euler_network_is_found_exactly_by_its_own_differences():
    z, dz = samples(VAN_DER_POL, 400, 0)
    planted = fit_field_samples(z, dz, tau=1.0, n_neurons=25, ridge=1e-4, rng=_rng())
    network = planted.to_dynamics(0.1)
    trials = network.simulate(30, 40, initial_latents=z[:30], random_state=0)["latents"].values
    taken = trajectory_samples(list(trials), 0.1, tau=1.0, derivative="euler")
    found = fit_field_samples(
        taken.latents, taken.velocity, tau=1.0, n_neurons=25, features=planted.features, ridge=1e-14, rng=_rng()
    )
    at = taken.latents
    np.testing.assert_allclose(found.velocity(at), network.velocity(at), atol=1e-4)


@pytest.mark.parametrize("derivative", ["savgol", "integral", "central", "euler"])
def test_no_derivative_reaches_over_the_end_of_a_trial(derivative):
    one, other = np.zeros((30, 1)), np.full((25, 1), 1e3)
    taken = trajectory_samples([one, other], 0.1, tau=1.0, derivative=derivative)
    np.testing.assert_allclose(taken.velocity, 0.0, atol=1e-8)
    assert set(taken.groups) == {0, 1}
    if taken.average is not None:
        assert set(np.round(taken.average @ taken.latents[:, 0], 6)) == {0.0, 1000.0}
    # the order of trials, and a trial more, change nothing of a trial
    swapped = trajectory_samples([other, one], 0.1, tau=1.0, derivative=derivative)
    np.testing.assert_array_equal(np.sort(swapped.latents, axis=0), np.sort(taken.latents, axis=0))


@pytest.mark.parametrize("derivative", ["savgol", "integral"])
def test_polynomials_are_told_exactly_and_inputs_go_with_them(derivative):
    t = 0.1 * np.arange(40)[:, None]
    path, u = np.concatenate([t**2, t**3], axis=1), np.cos(t)
    taken = trajectory_samples([path], 0.1, tau=1.0, derivative=derivative, window=7, inputs=[u])
    times = np.arccos(np.clip(taken.inputs[:, 0], -1, 1))  # up to t = pi
    early = taken.inputs[:, 0] > 0
    if taken.average is None:
        np.testing.assert_allclose(taken.velocity[early, 0], 2 * times[early], atol=1e-6)
        np.testing.assert_allclose(taken.velocity[early, 1], 3 * times[early] ** 2, atol=1e-6)
    else:
        np.testing.assert_allclose(taken.average @ (3 * t**2)[:, 0], taken.velocity[:, 1], atol=1e-8)


def test_a_callable_is_a_network_and_so_is_one_that_changes_in_time():
    field = fit_field(van_der_pol, box([-1.8, -2.4], [1.8, 2.4]), tau=1.0, n_neurons=100, ridge=1e-8, rng=_rng())
    z = samples(VAN_DER_POL, 500, 3)[0]
    assert error_of(field.velocity(z), van_der_pol(z)) < 1e-3

    def turning(z, t):  # the plane turns one way, then the other
        return np.cos(t / 2)[:, None] * np.stack([-z[:, 1], z[:, 0]], axis=1)

    times = np.random.default_rng(5).uniform(0, 2 * np.pi, 500)
    for code in (TimeCode(2 * np.pi), TimeCode(2 * np.pi, n_bumps=6)):
        field = fit_field(
            turning, box([-2, -2], [2, 2]), tau=1.0, n_neurons=300, time_code=code, ridge=1e-8, rng=_rng()
        )
        z = np.random.default_rng(4).uniform(-2, 2, (500, 2))
        assert error_of(field.velocity(z, code(times)), turning(z, times)) < 1e-2


def test_inputs_enter_where_they_leave_less_unexplained():
    def sampler(n, rng):
        return rng.uniform(-1.5, 1.5, (n, 2)), rng.uniform(-1, 1, (n, 2))

    def ring(z, v):  # a memory of an angle: every drift along it is forgetting
        return 2 * z * (1 - (z**2).sum(1, keepdims=True)) + 4 * v

    pushed, inside = (
        fit_field(ring, sampler, tau=1.0, n_neurons=50, ridge=1e-8, input_mode=mode, rng=_rng())
        for mode in ("auto", "neuron")
    )
    np.testing.assert_allclose(pushed.latent_input_weights, 4 * np.eye(2), atol=0.02)
    assert pushed.features.n_inputs == 0
    angle = np.linspace(0, 2 * np.pi, 100)
    z, along = (np.stack(pair, axis=1) for pair in ((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))
    drifts = [np.abs((field.velocity(z, np.zeros((100, 2))) * along).sum(axis=1)).max() for field in (pushed, inside)]
    assert drifts[0] < 0.1
    assert drifts[1] > 3 * drifts[0]
    gated = fit_field(lambda z, v: z * v, sampler, tau=1.0, n_neurons=50, rng=_rng())
    assert gated.latent_input_weights is None


def test_what_is_wrong_with_samples_is_said(recorded):
    with pytest.warns(UserWarning, match="30 samples for 20 neurons"):
        fit_samples(
            np.random.default_rng(0).standard_normal((30, 1)), np.ones((30, 1)), tau=1.0, n_neurons=20, rng=_rng()
        )
    with pytest.warns(UserWarning, match=r"tau = 0.1 s against samples every 0.1 s.*tau >= 0.2 s"):
        fit_trajectories(recorded, 0.1, tau=0.1, n_neurons=20, rng=_rng())
    with pytest.warns(UserWarning, match="1 trials have fewer than 6 samples"):
        fit_trajectories([*recorded, np.zeros((3, 2))], 0.1, tau=1.0, n_neurons=20, rng=_rng())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"trials": [np.full((9, 1), np.nan)]}, "latents: got nan in trial 0 at sample 0"),
        ({"trials": [np.zeros((3, 1))]}, "latents: got trials of at most 3 samples, wanted 6"),
        ({"trials": []}, "latents: got no trials"),
        ({"trials": [np.zeros(9)]}, "latents: got shape"),
        ({"derivative": "forward"}, "derivative: got 'forward'"),
        ({"window": 8}, "window: got 8, wanted an odd number"),
        ({"inputs": [np.zeros((8, 1))]}, "inputs: got trials of other lengths"),
        ({"step": 0}, "step: got 0"),
    ],
)
def test_refusals(change, text):
    given = {"trials": [np.zeros((9, 1))], "step": 0.1, "tau": 1.0} | change
    with pytest.raises(ValueError, match=text):
        trajectory_samples(**given)


def test_refusals_of_callables():
    with pytest.raises(ValueError, match="g: got dz/dt of shape"):
        fit_field(lambda z: z[0], np.zeros((9, 2)), tau=1.0, n_neurons=2, rng=_rng())
    with pytest.raises(ValueError, match="sampler: got points of shape"):
        fit_field(lambda z: z, np.zeros(9), tau=1.0, n_neurons=2, rng=_rng())
    with pytest.raises(ValueError, match="low, high"):
        box([0.0], [0.0])
    with pytest.raises(ValueError, match="time_code: got one beside inputs"):
        fit_field(
            lambda z, t: z,
            lambda n, rng: (np.zeros((n, 1)), np.zeros((n, 1))),
            tau=1.0,
            n_neurons=2,
            time_code=TimeCode(1.0),
            rng=_rng(),
        )
