"""Linear state-space models of counts: against optimisers, grids, and planted parameters."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import gammaln

from nwb_lrrnn.models.linear import LinearStateSpace, counts, laplace
from nwb_lrrnn.models.linear.evidence import particle_bound
from nwb_lrrnn.models.linear.system import LinearSystem, to_dynamics
from nwb_lrrnn.trials import as_trials

BIN = 0.02


def planted(rank=2, n_units=12, link="softplus", seed=0):
    turn = 0.96 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    transition = turn if rank == 2 else np.array([[0.9]])
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((n_units, rank))
    if link == "exp":
        loadings, offset = 0.5 * loadings, np.full(n_units, np.log(30.0))
    else:
        loadings, offset = 15.0 * loadings, np.full(n_units, 30.0)
    return LinearSystem(
        transition,
        0.1 * np.ones(rank),
        np.eye(rank) - transition @ transition.T,
        np.zeros(rank),
        np.eye(rank),
        loadings,
        offset,
    )


def network(system, likelihood="poisson", link="softplus"):
    rank = system.rank
    ids = np.arange(len(system.offset))
    return to_dynamics(system, BIN, likelihood, link, np.zeros(rank), np.eye(rank), ids)


def draw(system, n_trials, n_steps, likelihood="poisson", link="softplus", seed=1):
    return network(system, likelihood, link).simulate(n_trials, n_steps, random_state=seed)["observations"].values


def log_joint(system, path, y, seen, likelihood, link):
    """Return ln p(y, path) of one trial, written out."""

    def normal(residual, cov):
        return -0.5 * (residual @ np.linalg.solve(cov, residual) + np.linalg.slogdet(2 * np.pi * cov)[1])

    total = normal(path[0] - system.initial_mean, system.initial_covariance)
    for t in range(1, len(path)):
        total += normal(path[t] - system.transition @ path[t - 1] - system.drive, system.noise)
    terms = network(system, likelihood, link).log_likelihood(y, path)
    return total + terms[seen].sum()


CASES = [("poisson", "softplus"), ("poisson", "exp"), ("negative_binomial", "softplus"), ("negative_binomial", "exp")]


@pytest.mark.parametrize(("likelihood", "link"), CASES)
def test_laplace_mode_is_the_mode_and_its_evidence_the_laplace_integral(likelihood, link):
    system = planted(link=link)
    if likelihood != "poisson":
        system = system.replace(dispersion=np.full(12, 3.0))
    y = draw(system, 2, 6, likelihood, link)
    ragged = [y[0], y[1, :4]]
    trials = as_trials(ragged, bin_size=BIN)
    moments = laplace.smooth(system, trials, None, likelihood, link, BIN, n_averages=0)
    for k, trial in enumerate(ragged):
        shape = (len(trial), 2)
        seen = np.ones(trial.shape, bool)

        def loss(x, trial=trial, shape=shape, seen=seen):
            return -log_joint(system, x.reshape(shape), trial, seen, likelihood, link)

        found = minimize(loss, np.zeros(2 * len(trial)), method="BFGS", options={"gtol": 1e-6})
        # a generic optimiser without derivatives stops some 1e-5 from the mode
        np.testing.assert_allclose(moments.means[k, : len(trial)].ravel(), found.x, atol=2e-4)
        assert loss(moments.means[k, : len(trial)].ravel()) <= found.fun + 1e-7
        if likelihood == "poisson" or link == "exp":  # the observed information: the Hessian itself
            hessian = second_differences(loss, moments.means[k, : len(trial)].ravel())
            wanted = -found.fun - 0.5 * np.linalg.slogdet(hessian / (2 * np.pi))[1]
            np.testing.assert_allclose(moments.log_likelihood[k], wanted, atol=2e-3)  # of second differences
            covariance = np.linalg.inv(hessian).reshape(*shape, *shape)
            t = np.arange(len(trial))
            np.testing.assert_allclose(moments.covariances[k, t], covariance[t, :, t], rtol=0.01, atol=1e-3)
            np.testing.assert_allclose(
                moments.pattern_cross[moments.pattern[k], t[:-1]], covariance[t[1:], :, t[:-1]], rtol=0.01, atol=1e-3
            )


def second_differences(function, x, h=1e-3):
    n = len(x)
    hessian, steps = np.empty((n, n)), h * np.eye(n)
    for i in range(n):
        for j in range(i + 1):
            a, b = steps[i], steps[j]
            corners = function(x + a + b) - function(x + a - b) - function(x - a + b) + function(x - a - b)
            hessian[i, j] = hessian[j, i] = corners / (4 * h * h)
    return hessian


def grid_log_likelihood(system, y, likelihood, link, seen=None, inputs=None):
    """Return ln p(y) of one trial of a rank-1 system by integration on a grid of z."""
    z = np.linspace(-7, 7, 1501)
    width = z[1] - z[0]
    net = network(system, likelihood, link)
    seen = np.ones(y.shape, bool) if seen is None else seen
    log_p = -0.5 * (z - system.initial_mean) ** 2 / system.initial_covariance[0, 0]
    density = np.exp(log_p) / np.sqrt(2 * np.pi * system.initial_covariance[0, 0])
    step = np.exp(-0.5 * (z[:, None] - system.transition[0, 0] * z - system.drive) ** 2 / system.noise[0, 0])
    step /= np.sqrt(2 * np.pi * system.noise[0, 0])
    total = 0.0
    for t in range(len(y)):
        if t:
            density = step @ density * width
        density = density * np.exp(np.where(seen[t], net.log_likelihood(y[t], z[:, None]), 0.0).sum(axis=1))
        mass = density.sum() * width
        total += np.log(mass)
        density /= mass
    return total


@pytest.mark.parametrize(("likelihood", "link"), CASES)
def test_particle_bound_approaches_the_integral_on_a_grid(likelihood, link):
    system = planted(rank=1, n_units=5, link=link)
    if likelihood != "poisson":
        system = system.replace(dispersion=np.full(5, 2.0))
    y = draw(system, 3, 25, likelihood, link)
    seen = np.ones(y.shape, bool)
    seen[0, 3:6] = False
    seen[1, 10, 2] = False
    values = np.where(seen, y, np.nan)
    trials = as_trials(values, bin_size=BIN, allow_nan=True)
    wanted = [grid_log_likelihood(system, y[k], likelihood, link, seen[k]) for k in range(3)]
    got = particle_bound(system, trials, None, likelihood, link, BIN, n_particles=500)
    assert (np.abs(got - wanted) / 25 < 0.01).all()
    few = particle_bound(system, trials, None, likelihood, link, BIN, n_particles=16)
    assert (np.abs(few - wanted) / 25 < 0.05).all()
    averaged = laplace.smooth(system, trials, None, likelihood, link, BIN).log_likelihood
    if likelihood == "poisson":  # a lower bound, up to the quadrature
        assert (averaged < np.array(wanted) + 0.02 * 25).all()
        assert (averaged > np.array(wanted) - 0.05 * 25).all()


def test_particle_estimate_is_unbiased():
    system = planted(rank=1, n_units=3)
    y = draw(system, 1, 4)
    trials = as_trials(y, bin_size=BIN)
    wanted = grid_log_likelihood(system, y[0], "poisson", "softplus")
    ratios = [
        np.exp(
            particle_bound(system, trials, None, "poisson", "softplus", BIN, n_particles=2, random_state=s)[0] - wanted
        )
        for s in range(300)
    ]
    error = np.std(ratios) / np.sqrt(300)
    assert abs(np.mean(ratios) - 1) < 4 * error + 1e-6


def test_score_of_a_trial_is_the_same_alone_in_a_batch_and_in_any_order():
    model = LinearStateSpace.from_dynamics(network(planted()))
    y = draw(planted(), 4, 20)
    ragged = [y[0], y[1, :7], y[2, :13], y[3]]
    together = model.score_trials(ragged).values
    alone = [float(model.score_trials([trial])[0]) for trial in ragged]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(model.score_trials(ragged[::-1]).values[::-1], together, atol=1e-6)
    for posterior in ("smoothed", "filtered", "delayed"):
        batch = model.transform(ragged, posterior=posterior)
        for k, trial in enumerate(ragged):
            np.testing.assert_allclose(batch[k], model.transform([trial], posterior=posterior)[0], atol=1e-6)


def test_score_does_not_depend_on_the_gauge():
    system = planted()
    y = as_trials(draw(system, 20, 20), bin_size=BIN)
    rng = np.random.default_rng(0)
    moved = system.in_gauge(rng.standard_normal((2, 2)), rng.standard_normal(2))
    a, b = (particle_bound(s, y, None, "poisson", "softplus", BIN, n_particles=200) for s in (system, moved))
    assert abs(a.sum() - b.sum()) / 400 < 0.01  # two particle estimates


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_em_recovers_planted_dynamics_and_rates(link):
    system = planted(link=link)
    y = draw(system, 60, 40, link=link)
    model = LinearStateSpace(rank=2, bin_size=BIN, link=link).fit(y)
    assert model.likelihood_ == "poisson"
    got = np.sort_complex(np.linalg.eigvals(model.transition_matrix()))
    wanted = np.sort_complex(np.linalg.eigvals(system.transition))
    # 2400 bins: the standard error of a coefficient near 0.96 is some 0.006, with latents seen through 12 units twice
    np.testing.assert_allclose(got, wanted, atol=0.04)
    truth = LinearStateSpace.from_dynamics(network(system, link=link))
    held_out = draw(system, 30, 40, link=link, seed=9)
    assert truth.score(held_out) - model.score(held_out) < 0.05
    rates = model.rates(model.transform(held_out))
    true_rates = network(system, link=link).simulate(30, 40, random_state=9)["latents"].values
    true_rates = truth.rates(true_rates)
    assert np.corrcoef(rates.ravel(), true_rates.ravel())[0, 1] > 0.9


def test_em_climbs_its_bound():
    y = draw(planted(), 30, 30)
    fitted = counts.fit(as_trials(y, bin_size=BIN), 2, max_iter=30, tol=0.0)
    # the E-step is one damped step and the averages are quadratures: no loss beyond their error
    assert np.diff(fitted.log_likelihood).min() > -2e-3
    assert fitted.log_likelihood[-1] > fitted.log_likelihood[0]


def test_negative_binomial_recovers_its_dispersion_and_beats_poisson_on_it():
    system = planted(n_units=8).replace(dispersion=np.full(8, 2.0), offset=np.full(8, 100.0))
    y = draw(system, 40, 40, "negative_binomial")
    model = LinearStateSpace(rank=2, likelihood="negative_binomial", bin_size=BIN, tol=1e-3).fit(y)
    np.testing.assert_allclose(model.dynamics_.dispersion, 2.0, rtol=0.35)  # standard error 10 %, and its bias
    poisson = LinearStateSpace(rank=2, bin_size=BIN, tol=1e-3).fit(y)
    assert model.score(y) > poisson.score(y) + 0.1


def test_filter_sees_only_the_past():
    model = LinearStateSpace.from_dynamics(network(planted()))
    y = draw(planted(), 2, 20)
    other = y.copy()
    other[:, 10:] = 0
    for posterior, last in (("filtered", 10), ("delayed", 11)):
        a, b = model.transform(y, posterior=posterior), model.transform(other, posterior=posterior)
        np.testing.assert_array_equal(a[:, :last], b[:, :last])
        assert np.abs(a[:, last:] - b[:, last:]).max() > 1e-3


def test_nearly_silent_units_masks_and_inputs_leave_everything_finite():
    rng = np.random.default_rng(0)
    y = draw(planted(), 15, 20).astype(float)
    y[..., 3] = 0
    y[0, 0, 3] = 1
    y[2, 4:9] = np.nan
    y[3, 5, 1] = np.nan
    u = rng.standard_normal((15, 20, 1))
    model = LinearStateSpace(rank=2, bin_size=BIN, likelihood="poisson", tol=1e-3).fit(y, inputs=u)
    assert np.isfinite(model.transform(y, inputs=u)).all()
    assert np.isfinite(model.score(y, inputs=u))
    busy = np.where(np.isnan(y), np.nan, y + 5)
    assert np.isfinite(model.score(busy, inputs=u))  # the unit fires


def test_large_counts_are_nearly_gaussian():
    system = planted(n_units=6).replace(offset=np.full(6, 1e5), loadings=1e3 * planted(n_units=6).loadings)
    y = as_trials(draw(system, 2, 10), bin_size=BIN)
    gaussian = system.replace(
        loadings=BIN * system.loadings, offset=BIN * system.offset, variance=np.full(6, BIN * 1e5)
    )
    from nwb_lrrnn.models.linear.smoothing import smooth

    a = laplace.smooth(system, y, None, "poisson", "softplus", BIN).means
    b = smooth(gaussian, y).means
    np.testing.assert_allclose(a, b, atol=0.05)  # the variance differs with the rate by some 15 %


def test_score_has_its_constants():
    system = planted(n_units=4).replace(loadings=np.zeros((4, 2)))  # independent Poisson counts
    y = draw(system, 3, 10)
    rate = BIN * np.logaddexp(0, system.offset)
    wanted = (y * np.log(rate) - rate - gammaln(y + 1)).sum() / 30
    np.testing.assert_allclose(LinearStateSpace.from_dynamics(network(system)).score(y), wanted, rtol=1e-12)
