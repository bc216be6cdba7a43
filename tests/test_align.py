"""Maps between latents, and the canonical gauge of a network."""

import numpy as np
import pytest

from nwb_lrrnn.align import Gauge, affine_map, aligned_r2, canonicalize, change_gauge, match_groups
from nwb_lrrnn.dynamics import HOMOGENEOUS, NONLINEARITIES, ODD, LowRankDynamics
from nwb_lrrnn.dynamics.fields import DIMS

# --- maps ------------------------------------------------------------------------------------------------------------


def test_affine_map_finds_a_planted_map(rng):
    z = rng.normal(size=(4, 30, 3)) + 1e6  # far from 0: the constant must not drown the latents
    weights, offset = rng.normal(size=(3, 2)), rng.normal(size=2)
    found = affine_map(z, z @ weights + offset)
    np.testing.assert_allclose(found.weights, weights, atol=1e-8)  # 1e6 * machine epsilon * a few
    np.testing.assert_allclose(found(z), z @ weights + offset, rtol=1e-10)


def test_affine_map_is_least_squares(rng):
    x, y = rng.normal(size=(50, 2)), rng.normal(size=(50, 3))
    residual = y - affine_map(x, y)(x)
    np.testing.assert_allclose(residual.sum(0), 0, atol=1e-12)  # the normal equations
    np.testing.assert_allclose(x.T @ residual, 0, atol=1e-12)


def test_aligned_r2_on_held_out_latents(rng):
    z, test = rng.normal(size=(3000, 2)), rng.normal(size=(100, 2))
    target = z @ [[1.0, 2.0], [0.0, -1.0]] + 3.0
    noise = rng.normal(size=(100, 2))
    held = test @ [[1.0, 2.0], [0.0, -1.0]] + 3.0 + noise
    expected = 1 - (noise**2).sum() / ((held - held.mean(0)) ** 2).sum()
    assert aligned_r2(z, target) == pytest.approx(1.0, abs=1e-12)
    assert aligned_r2(z, target, test_source=test, test_target=held) == pytest.approx(expected, abs=1e-10)
    unrelated = aligned_r2(rng.normal(size=(3000, 2)), target, test_source=test, test_target=held)
    assert unrelated < 0.1  # a map fitted to 3000 unrelated samples gains nothing on new ones


def test_aligned_r2_of_a_constant_target_is_zero(rng):
    assert aligned_r2(rng.normal(size=(20, 2)), np.full((20, 1), 0.1)) == 0.0


def test_match_groups_finds_a_planted_permutation(rng):
    target = [rng.normal(size=(3, 40, rank)) for rank in (1, 2, 3)]
    source = [target[k] @ (np.eye(k + 1) + rng.uniform(size=(k + 1, k + 1))) + 1.0 for k in (2, 0, 1)]
    source[1] = source[1] + 0.3 * rng.normal(size=source[1].shape)
    match = match_groups(source, target)
    np.testing.assert_array_equal(match.order, [1, 2, 0])
    np.testing.assert_allclose(match.r2[1:], 1.0, atol=1e-12)
    assert 0.3 < match.r2[0] < 0.999


def test_match_groups_survives_a_group_that_died(rng):
    target = [rng.normal(size=(40, 1)), np.zeros((40, 2))]
    match = match_groups([np.ones((40, 2)), target[0] * 3], target)
    np.testing.assert_array_equal(match.order, [1, 0])
    np.testing.assert_allclose(match.r2, [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: affine_map(z[:5], z), r"source: got shape \(5, 2\), wanted the leading axes of target, \(9,\)"),
        (lambda z: affine_map(z[:, 0], z), r"source: got shape \(9,\), wanted \(\.\.\., latent\)"),
        (lambda z: affine_map(z, z[:0]), r"target: got shape \(0, 2\), wanted .* at least one row"),
        (lambda z: affine_map(z * np.nan, z), "source: got NaN or infinity, wanted finite latents"),
        (lambda z: aligned_r2(z, z, test_source=z), "test_source: got one of test_source and test_target"),
        (lambda z: match_groups([z], [z, z]), "source: got 1 groups, wanted 2 like target"),
    ],
)
def test_maps_refuse(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(rng.normal(size=(9, 2)))


# --- gauge -----------------------------------------------------------------------------------------------------------

CASES = {
    "observed": {},
    "no drive": {"drive": None},
    "no moments": {"latent_mean": None, "latent_covariance": None},
    "nothing optional": dict.fromkeys(
        ("bias", "drive", "latent_input_weights", "latent_noise", "initial_mean", "initial_covariance")
        + ("initial_input_weights", "input_weights", "readout_input_weights", "offset", "latent_mean")
        + ("latent_covariance",)
    ),
    "unobserved": dict.fromkeys(("loadings", "readout_input_weights", "offset", "observation_variance")),
    "unobserved, no moments": dict.fromkeys(
        ("loadings", "readout_input_weights", "offset", "observation_variance", "latent_mean", "latent_covariance")
    ),
    "fewer units than latents": {"units": 1},
}


def random_gauge(rng, net):
    """Return the network in random latents, its neurons renamed, rescaled and mirrored as phi allows."""
    matrix = rng.normal(size=(net.rank, net.rank)) + 2 * np.eye(net.rank)
    shift = np.zeros(net.rank) if net.drive is None else rng.normal(size=net.rank)
    moved = change_gauge(net, Gauge(matrix, shift))
    factor, order = np.ones(net.n_neurons), rng.permutation(net.n_neurons)
    if net.nonlinearity in HOMOGENEOUS:
        factor = rng.uniform(0.3, 3.0, size=net.n_neurons)
    if net.nonlinearity in ODD:
        factor = factor * rng.choice([-1.0, 1.0], size=net.n_neurons)
    scaled = {"right_vectors": (moved.right_vectors / factor[:, None])[order]}
    for name in ("left_vectors", "input_weights", "bias", "thresholds"):
        value = getattr(moved, name)
        if value is not None:
            scaled[name] = (value.T * factor).T[order]
    return moved.replace(**scaled)


def assert_same_network(a, b, atol=1e-8):
    for name in DIMS:
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None), name
        if left is not None:
            np.testing.assert_allclose(left, right, atol=atol * max(1.0, np.abs(right).max()), err_msg=name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_canonicalize_leaves_all_that_shows_as_it_is(make_network, rng, nonlinearity, case):
    net = make_network(nonlinearity, **CASES[case])
    canonical, gauge = canonicalize(net)
    z, u = rng.normal(size=(6, 2)), rng.normal(size=(6, net.n_inputs)) if net.n_inputs else None
    for _ in range(4):
        there = gauge.latents(z)
        np.testing.assert_allclose(canonical.step(there, u), gauge.latents(net.step(z, u)), atol=1e-9)
        if net.n_units:
            np.testing.assert_allclose(canonical.expected(there, u), net.expected(z, u), atol=1e-9)
        z = net.step(z, u)
    similar = np.linalg.solve(gauge.matrix, net.jacobian(z, u) @ gauge.matrix)
    np.testing.assert_allclose(canonical.jacobian(gauge.latents(z), u), similar, atol=1e-9)


@pytest.mark.parametrize("readout", ["currents", "rates"])
def test_canonicalize_keeps_recorded_neurons_in_their_order(make_network, rng, readout):
    net = make_network("relu", readout=readout, private_noise=np.full(12, 0.1), unit_ids=np.arange(12) + 100)
    canonical, gauge = canonicalize(net)
    z, u = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    np.testing.assert_allclose(canonical.expected(gauge.latents(z), u), net.expected(z, u), atol=1e-10)
    np.testing.assert_allclose(canonical.connectivity(), net.connectivity(), atol=1e-12)
    np.testing.assert_array_equal(canonical.unit_ids, net.unit_ids)


def test_canonicalize_moves_the_whole_law_of_the_network(make_network):
    net = make_network(inputs=1)
    canonical, gauge = canonicalize(net)
    a, c = gauge
    for name in ("latent_noise", "initial_covariance", "latent_covariance"):
        np.testing.assert_allclose(a @ getattr(canonical, name) @ a.T, getattr(net, name), atol=1e-12)
    for name in ("initial_mean", "latent_mean"):
        np.testing.assert_allclose(a @ getattr(canonical, name) + c, getattr(net, name), atol=1e-12)
    np.testing.assert_allclose(a @ canonical.initial_input_weights, net.initial_input_weights, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_canonicalize_finds_one_network_from_every_gauge_and_twice_changes_nothing(
    make_network, rng, nonlinearity, case
):
    net = make_network(nonlinearity, **CASES[case])
    canonical, gauge = canonicalize(random_gauge(rng, net))
    assert_same_network(canonical, canonicalize(random_gauge(rng, net))[0])
    again, identity = canonicalize(canonical)
    assert_same_network(again, canonical, atol=1e-9)
    np.testing.assert_allclose(identity.matrix, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(identity.shift, 0, atol=1e-9)


def test_canonical_gauge_is_what_it_says(make_network):
    net, _ = canonicalize(make_network("relu", rank=3))
    np.testing.assert_allclose(net.loadings.T @ net.loadings, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(net.latent_mean, 0, atol=1e-12)
    np.testing.assert_allclose(net.latent_covariance, np.diag(np.diag(net.latent_covariance)), atol=1e-12)
    assert (np.diff(np.diag(net.latent_covariance)) < 0).all()
    largest = np.abs(net.loadings).argmax(0)
    assert (net.loadings[largest, range(3)] > 0).all()
    np.testing.assert_allclose(np.linalg.norm(net.left_vectors, axis=1), 1.0)
    assert (np.diff(np.linalg.norm(net.right_vectors, axis=1)) <= 0).all()
    unobserved = dict.fromkeys(("loadings", "readout_input_weights", "offset", "observation_variance"))
    net, _ = canonicalize(make_network("tanh", **unobserved))
    np.testing.assert_allclose(net.left_vectors.T @ net.left_vectors, 12 * np.eye(2), atol=1e-11)


@pytest.mark.parametrize("observed", [True, False])
def test_canonicalize_settles_latents_of_equal_variance(make_network, rng, observed):
    # rounding must not choose axes among equals: an oscillator's latents have one variance in every direction
    lost = {} if observed else dict.fromkeys(("loadings", "readout_input_weights", "offset", "observation_variance"))
    net, _ = canonicalize(make_network(rank=3, **lost))
    net = net.replace(latent_covariance=np.diag([2.0, 1.0, 1.0]))
    first, _ = canonicalize(random_gauge(rng, net))
    assert_same_network(first, canonicalize(random_gauge(rng, net))[0])
    assert_same_network(canonicalize(first)[0], first, atol=1e-9)


def test_canonicalize_settles_an_unbiased_symmetric_network(rng):
    # nothing but the overlaps tells signs here, and neurons are as free to flip as latents
    m, n = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    net = LowRankDynamics(m, n, dt=0.1, tau=1.0)
    first, _ = canonicalize(random_gauge(rng, net))
    for _ in range(5):
        assert_same_network(first, canonicalize(random_gauge(rng, net))[0])


def test_canonicalize_settles_signs_where_latents_do_not_overlap(rng):
    m = np.kron(rng.normal(size=(8, 2)), [[1.0], [1.0]])
    m = np.linalg.qr(m)[0] * 4.0
    net = LowRankDynamics(m, m * [1.0, 2.0], dt=0.1, tau=1.0, latent_covariance=np.diag([3.0, 1.0]))
    first, _ = canonicalize(net)
    for signs in ([1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]):
        assert_same_network(first, canonicalize(change_gauge(net, Gauge(np.diag(signs), np.zeros(2))))[0])
    assert_same_network(canonicalize(first)[0], first, atol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 1},
        {"loadings": np.zeros((5, 2))},
        {"loadings": np.outer(np.arange(5.0), [1.0, 2.0])},
        {"left_vectors": np.zeros((12, 2))},
        {"left_vectors": np.outer(np.ones(12), [1.0, 2.0]), "loadings": np.zeros((5, 2))},
        {"left_vectors": np.zeros((12, 2)), "loadings": np.zeros((5, 2))},
        {"latent_covariance": np.zeros((2, 2))},
        {"latent_covariance": np.zeros((2, 2)), "left_vectors": np.zeros((12, 2)), "loadings": np.zeros((5, 2))},
        {"left_vectors": np.ones((12, 2)), "right_vectors": np.ones((12, 2))},
        {"neurons": 1},
    ],
    ids=lambda changes: ",".join(changes),
)
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity"])
def test_canonicalize_of_degenerate_networks(make_network, rng, nonlinearity, changes):
    net = make_network(nonlinearity, **changes)
    canonical, gauge = canonicalize(net)
    z, u = rng.normal(size=(6, net.rank)), rng.normal(size=(6, 2))
    np.testing.assert_allclose(canonical.step(gauge.latents(z), u), gauge.latents(net.step(z, u)), atol=1e-9)
    np.testing.assert_allclose(canonical.expected(gauge.latents(z), u), net.expected(z, u), atol=1e-9)
    assert_same_network(canonicalize(canonical)[0], canonical, atol=1e-9)


def test_canonicalize_orders_neurons_of_equal_weight_alike(rng):
    angles = np.arange(8) * np.pi / 4  # a ring: every |m_i| |n_i| is equal
    ring = np.column_stack([np.cos(angles), np.sin(angles)])
    loadings = rng.normal(size=(4, 2))
    net = LowRankDynamics(ring, 2 * ring, dt=0.1, tau=1.0, nonlinearity="relu", loadings=loadings)
    first, _ = canonicalize(random_gauge(rng, net))
    assert_same_network(first, canonicalize(random_gauge(rng, net))[0])
    assert_same_network(canonicalize(first)[0], first, atol=1e-9)


def test_a_shift_sets_the_initial_mean_that_was_zero_by_absence():
    net = LowRankDynamics([[1.0]], [[2.0]], dt=0.5, tau=1.0, drive=[3.0])
    moved = change_gauge(net, Gauge(np.array([[2.0]]), np.array([1.0])))
    assert moved.initial_mean.item() == -0.5


def test_change_gauge_by_hand():
    net = LowRankDynamics([[1.0]], [[2.0]], dt=0.5, tau=1.0, drive=[3.0], loadings=[[4.0]], initial_mean=[0.0])
    moved = change_gauge(net, Gauge(np.array([[2.0]]), np.array([1.0])))
    got = {name: getattr(moved, name).item() for name in ("left_vectors", "right_vectors", "bias", "drive")}
    assert got == {"left_vectors": 2.0, "right_vectors": 1.0, "bias": 1.0, "drive": 1.0}
    assert moved.loadings.item() == 8.0
    assert moved.offset.item() == 4.0
    assert moved.initial_mean.item() == -0.5
    assert moved.initial_covariance.item() == 0.25  # absent, it means the identity
    back = change_gauge(moved, Gauge(np.array([[0.5]]), np.array([-0.5])))
    assert back.step([0.3]).item() == pytest.approx(net.step([0.3]).item(), abs=1e-15)


@pytest.mark.parametrize(
    ("gauge", "message"),
    [
        (Gauge(np.eye(2), np.ones(2)), "gauge: a shift needs a constant drive s to absorb it"),
        (Gauge(np.eye(3), np.zeros(3)), r"gauge: got matrix \(3, 3\) and shift \(3,\), wanted those of 2 latents"),
        (Gauge(np.zeros((2, 2)), np.zeros(2)), "gauge: got a singular matrix, wanted an invertible one"),
    ],
)
def test_change_gauge_refuses(make_network, gauge, message):
    with pytest.raises(ValueError, match=message):
        change_gauge(make_network(drive=None), gauge)
