"""The density and the posteriors of `DisRNN` against the joint Gaussian of a linear network whose noise feeds back."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nwb_lrrnn import DisRNN
from nwb_lrrnn.dynamics import LowRankDynamics

UNITS, RANK, N_BINS = 4, 2, 6


def linear_network(**changes):
    """Return a network with phi = identity in which what the units show drives the latents, inputs and all."""
    rng = np.random.default_rng(0)
    m, n = rng.standard_normal((UNITS, RANK)), rng.standard_normal((UNITS, RANK))
    fields = {
        "dt": 0.1, "tau": 0.1, "nonlinearity": "identity", "bias": rng.standard_normal(UNITS), "drive": [0.3, -0.2],
        "latent_noise": [[0.5, 0.2], [0.2, 0.4]], "private_noise": rng.uniform(0.2, 1.0, UNITS),
        "input_weights": rng.standard_normal((UNITS, 1)), "initial_mean": [0.5, -1.0],
        "initial_covariance": [[1.0, 0.3], [0.3, 0.5]], "initial_input_weights": [[0.5], [-1.0]],
        "readout": "currents", "loadings": rng.uniform(0.5, 2.0, UNITS), "offset": rng.standard_normal(UNITS),
        "latent_mean": [0.2, 0.1], "latent_covariance": [[2.0, 0.5], [0.5, 1.5]],
    }  # fmt: skip
    return LowRankDynamics(m, n, **(fields | changes))


def joint(net, u):
    """Return mean and covariance of (z_1, y_1, z_2, y_2, ...), flat: unrolled as linear maps of independent noise."""
    size, n = RANK + UNITS, len(u)
    mean, root = np.zeros(n * size), np.zeros((n * size, n * size))
    weights = np.asarray(net.right_vectors).T / UNITS  # phi is the identity
    scale = np.asarray(net.loadings)
    before = None
    for t in range(n):
        z, y = slice(t * size, t * size + RANK), slice(t * size + RANK, (t + 1) * size)
        if before is None:
            mean[z] = net.initial_mean + net.initial_input_weights @ u[0]
            root[z, z] = np.linalg.cholesky(net.initial_covariance)
        else:  # x + e of the bin before is (y - offset) / scale
            mean[z] = weights @ ((mean[before] - net.offset) / scale) + net.drive
            root[z] = (weights / scale) @ root[before]
            root[z, z] += np.linalg.cholesky(net.latent_noise)
        mean[y] = scale * (net.left_vectors @ mean[z] + net.bias + net.input_weights @ u[t]) + net.offset
        root[y] = (scale[:, None] * net.left_vectors) @ root[z]
        root[y, y] += np.diag(scale * np.sqrt(net.private_noise))
        before = y
    return mean, root @ root.T


def rows_of(t, what="units"):
    """Return where the units, or the latents, of bin t are in the joint vector."""
    start = t * (RANK + UNITS)
    return np.arange(start, start + RANK) if what == "latents" else np.arange(start + RANK, start + RANK + UNITS)


def conditional(mean, cov, of, given, values):
    gain = np.linalg.solve(cov[np.ix_(given, given)], cov[np.ix_(given, of)]).T
    return mean[of] + gain @ (values - mean[given]), cov[np.ix_(of, of)] - gain @ cov[np.ix_(given, of)]


@pytest.fixture
def planted(rng):
    net = linear_network()
    lengths = (6, 3, 1, 5)
    inputs = [rng.standard_normal((n, 1)) for n in lengths]
    trials = [3.0 * rng.standard_normal((n, UNITS)) for n in lengths]
    return net, DisRNN.from_dataset(net.to_dataset()), trials, inputs


def test_the_score_is_the_density_of_whole_trials(planted):
    net, model, trials, inputs = planted
    wanted = []
    for y, u in zip(trials, inputs, strict=True):
        mean, cov = joint(net, u)
        rows = np.concatenate([rows_of(t) for t in range(len(y))])
        wanted.append(stats.multivariate_normal(mean[rows], cov[np.ix_(rows, rows)]).logpdf(y.ravel()))
    n_bins = sum(len(y) for y in trials)
    # exact linear algebra on both sides: rounding only
    np.testing.assert_allclose(model.score_trials(trials, inputs=inputs), wanted, rtol=1e-9)
    assert model.score(trials, inputs=inputs) == pytest.approx(sum(wanted) / n_bins, rel=1e-9)


def test_latents_are_the_conditional_means_given_the_bins_that_the_posterior_sees(planted):
    net, model, trials, inputs = planted
    filtered = model.transform(trials, inputs=inputs, posterior="filtered")
    delayed = model.transform(trials, inputs=inputs, posterior="delayed")
    for y, u, f, d in zip(trials, inputs, filtered, delayed, strict=True):
        mean, cov = joint(net, u)
        for t in range(len(y)):
            before = np.concatenate([rows_of(s) for s in range(t)]) if t else np.zeros(0, dtype=int)
            z = rows_of(t, "latents")
            wanted = conditional(mean, cov, z, before, y[:t].ravel())[0] if t else mean[z]
            np.testing.assert_allclose(d[t], wanted, atol=1e-9)
            wanted = conditional(mean, cov, z, np.r_[before, rows_of(t)], y[: t + 1].ravel())[0]
            np.testing.assert_allclose(f[t], wanted, atol=1e-9)


def test_bins_after_the_next_tell_nothing_of_latents_whose_units_feed_back(planted):
    net, model, trials, inputs = planted
    y, u = trials[0], inputs[0]
    mean, cov = joint(net, u)
    everything = np.concatenate([rows_of(s) for s in range(len(y))])
    whole = [conditional(mean, cov, rows_of(t, "latents"), everything, y.ravel())[0] for t in range(len(y))]
    np.testing.assert_allclose(model.transform([y], inputs=[u], posterior="smoothed")[0], whole, atol=1e-8)


def masked(y, observed):
    coords = {"observed": (("trial", "time", "unit"), observed[None])}
    return xr.DataArray(y[None], dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": 0.1})


def test_of_a_bin_seen_in_part_the_seen_units_count_and_the_next_bin_has_the_law_of_any_bin(rng):
    net = linear_network(input_weights=None, initial_input_weights=None)
    model = DisRNN.from_dataset(net.to_dataset())
    y = rng.standard_normal((N_BINS, UNITS))
    observed = np.ones((N_BINS, UNITS), dtype=bool)
    observed[2, 1] = observed[4] = False  # one unit; a whole bin
    mean, cov = joint_without_inputs(net, N_BINS)
    scale = np.asarray(net.loadings)
    own = scale[:, None] * net.left_vectors
    any_mean = own @ net.latent_mean + scale * net.bias + net.offset
    any_cov = own @ net.latent_covariance @ own.T + np.diag(scale**2 * net.private_noise)
    wanted = 0.0
    for t in range(N_BINS):
        units = np.flatnonzero(observed[t])
        if not len(units):
            continue
        if t in (3, 5):  # after a gap: any bin of the recording
            there, spread = any_mean[units], any_cov[np.ix_(units, units)]
        else:
            of, given = rows_of(t)[units], rows_of(t - 1) if t else np.zeros(0, dtype=int)
            there, spread = conditional(mean, cov, of, given, y[t - 1]) if t else (mean[of], cov[np.ix_(of, of)])
        wanted += stats.multivariate_normal(there, spread).logpdf(y[t, units])
    assert float(model.score_trials(masked(y, observed))[0]) == pytest.approx(wanted, rel=1e-9)
    assert int(model.score_trials(masked(y, observed))["n_bins"][0]) == N_BINS - 1
    hidden = np.where(observed, y, 1e3)
    np.testing.assert_array_equal(model.score(masked(hidden, observed)), model.score(masked(y, observed)))
    np.testing.assert_array_equal(model.transform(masked(hidden, observed)), model.transform(masked(y, observed)))


def joint_without_inputs(net, n_bins):
    none = {"input_weights": np.zeros((UNITS, 1)), "initial_input_weights": np.zeros((RANK, 1))}
    return joint(net.replace(**none), np.zeros((n_bins, 1)))


def test_the_latents_of_a_bin_seen_in_part_are_the_conditional_mean_given_what_is_seen(rng):
    net = linear_network(input_weights=None, initial_input_weights=None)
    y = rng.standard_normal((N_BINS, UNITS))
    observed = np.ones((N_BINS, UNITS), dtype=bool)
    observed[2, [0, 3]] = False
    mean, cov = joint_without_inputs(net, N_BINS)
    found = DisRNN.from_dataset(net.to_dataset()).transform(masked(y, observed), posterior="filtered").values[0, 2]
    given = np.r_[rows_of(1), rows_of(2)[[1, 2]]]
    wanted = conditional(mean, cov, rows_of(2, "latents"), given, np.r_[y[1], y[2, [1, 2]]])[0]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_no_bin_sees_itself(rng):
    model = DisRNN.from_dataset(linear_network(input_weights=None, initial_input_weights=None).to_dataset())
    y = rng.standard_normal((1, N_BINS, UNITS))
    moved = y.copy()
    moved[0, 3] += 5.0
    before, after = (model.transform(x, posterior="delayed")[0] for x in (y, moved))
    np.testing.assert_array_equal(np.flatnonzero((before != after).any(1)), [4])
    # given the bins before, the density of a bin is one in that bin: it integrates to 1 over a unit of it
    grid = np.linspace(-60, 60, 4001)
    trials = np.repeat(y[:, :1], len(grid), axis=0)
    trials[:, 0, 1] = grid
    seen = np.zeros(trials.shape, dtype=bool)
    seen[..., 1] = True
    coords = {"observed": (("trial", "time", "unit"), seen)}
    X = xr.DataArray(trials, dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": 0.1})
    assert np.trapezoid(np.exp(model.score_trials(X).values), grid) == pytest.approx(1.0, abs=1e-6)


def test_trials_are_independent(planted):
    _, model, trials, inputs = planted
    found = model.score_trials(trials, inputs=inputs).values
    turned = model.score_trials(trials[::-1], inputs=inputs[::-1]).values
    np.testing.assert_allclose(turned[::-1], found, rtol=1e-12)
    alone = [float(model.score_trials([y], inputs=[u])[0]) for y, u in zip(trials, inputs, strict=True)]
    np.testing.assert_allclose(alone, found, rtol=1e-12)  # padding adds nothing
    joined = model.score_trials([np.concatenate(trials)], inputs=[np.concatenate(inputs)])
    assert abs(float(joined[0]) - found.sum()) > 1.0  # first bins have their own law, not the bin of another trial


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latent_input_weights": np.ones((RANK, 1))}, "latent_input_weights, which DisRNN has not"),
        ({"readout_input_weights": np.ones((UNITS, 1))}, "readout_input_weights, which DisRNN has not"),
        ({"filter_inputs": True}, "filter_inputs, which DisRNN has not"),
        ({"observation_variance": np.ones(UNITS)}, "observation_variance beside private_noise"),
        ({"tau": 0.2}, "alpha is not 1"),
        ({"readout": "rates"}, "readout='currents'"),
        ({"loadings": None, "offset": None}, "readout='currents', loadings"),
    ],
)
def test_networks_that_are_no_disrnn_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        DisRNN.from_dataset(linear_network(**changes).to_dataset())


def test_dynamics_of_counts_alone_are_refused():
    net = linear_network(
        likelihood="poisson", private_noise=None, loadings=np.ones(UNITS), offset=None, link_gain=np.full(UNITS, 5.0)
    )
    with pytest.raises(ValueError, match="dynamics of counts alone, which have no encoder"):
        DisRNN.from_dataset(net.to_dataset())
    with pytest.raises(ValueError, match="counts of a DisRNN have loadings 1"):
        DisRNN.from_dataset(net.replace(loadings=np.full(UNITS, 2.0)).to_dataset())
