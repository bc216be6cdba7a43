"""Independent groups beside other ways to choose the latents of one network."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import planted_groups as planted
from nwb_lrrnn import DisRNN
from nwb_lrrnn.groups import compare_disentanglement
from nwb_lrrnn.groups import other_latents as coordinates
from scores_of_groups import group_r2

QUICK = {"scaling": "unit", "noise": "readout", "n_surrogates": 20}  # nothing to choose
TURNED = ["DisRNN", "lrRNN", "lrRNN + ICA", "LINT", "fully disentangled"]
COLUMNS = ["log_likelihood", "dependence", "p_value", "group_r2", "r2"]
SAME = 1e-9  # turned latents change rounding alone


@pytest.fixture(scope="module")
def recording():
    """Return two cycles that know nothing of each other, seen by the same units."""
    return planted.oblique(planted.network(n_units=10), n_steps=500)


@pytest.fixture(scope="module")
def one(recording):
    """Return a network without groups."""
    settings = {"scaling": "unit", "noise": "readout", "n_bootstraps": 5, "random_state": 0}
    return DisRNN(4, n_groups=1, **settings).fit(recording.observations[0])


@pytest.fixture(scope="module")
def cycle():
    """Return units (time, unit) that show one cycle."""
    return planted.oblique(planted.network((2,), 6), n_steps=250).observations[0]


def check(table, within=0.01):
    """Assert that DisRNN finds the groups, as well as any method does, in a network as likely as the others'."""
    assert table.index.tolist() == TURNED
    assert table.index.name == "method"
    assert table.columns.tolist() == COLUMNS
    assert np.ptp(table["log_likelihood"]) < SAME
    assert np.isfinite(table.to_numpy()).all()
    assert np.ptp(table["r2"]) < 0.01  # posteriors "smoothed" of latents turned before or after they are learnt
    assert table.loc["DisRNN", "group_r2"] > table.loc["DisRNN", "r2"] - within
    assert table.loc["DisRNN", "group_r2"] > table["group_r2"].max() - within


def test_planted_groups_in_one_recording(recording):
    X, z = recording.observations[0], recording.latents[0]
    table = compare_disentanglement(X, 4, 2, latents=z, max_epochs=0, **QUICK)
    check(table)
    assert table.loc["DisRNN", "r2"] > 0.99
    assert table.loc["DisRNN", "p_value"] > 0.01
    assert table.loc[["lrRNN", "LINT"], "group_r2"].max() < 0.95  # a random readout mixes the cycles


@pytest.fixture(scope="module")
def table(cycle):
    return compare_disentanglement(cycle, 2, 2, max_epochs=0, **QUICK)


KINDS = {
    "frame": pd.DataFrame,
    "array": lambda X: xr.DataArray(X, dims=("time", "unit")),
    "one trial": lambda X: X[None],
    "list": lambda X: [X],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_the_same_whatever_X_is_made_of(cycle, table, kind):
    assert table.columns.tolist() == COLUMNS[:3]
    again = compare_disentanglement(KINDS[kind](cycle), 2, 2, max_epochs=0, **QUICK)
    pd.testing.assert_frame_equal(again, table, atol=1e-3)  # FastICA stops short of more


@pytest.mark.parametrize("kind", ["trials", "ragged"])
def test_planted_groups_in_trials(kind):
    found = planted.oblique(planted.network(n_units=10), n_trials=24, n_steps=40)
    lengths = [30 + k % 11 if kind == "ragged" else 40 for k in range(24)]
    X, z = found.observations, found.latents
    if kind == "ragged":
        X, z = found.ragged(lengths), [trial[:n] for trial, n in zip(z, lengths, strict=True)]
    conditions = np.arange(24) % 2
    check(compare_disentanglement(X, 4, 2, latents=z, conditions=conditions, max_epochs=0, **QUICK))


def test_counts_have_no_block_diagonal_network():
    found = planted.counts(planted.network(n_units=10), n_trials=12, n_steps=40, mean=4.0)
    check(compare_disentanglement(found.observations, 4, 2, latents=found.latents, n_surrogates=20))


def test_the_block_diagonal_network_is_another_one(cycle):
    table = compare_disentanglement(cycle, 2, 2, max_epochs=2, **QUICK)
    assert table.index.tolist() == [*TURNED, "block-diagonal"]
    assert np.ptp(table["log_likelihood"][TURNED]) < SAME
    assert table.loc["block-diagonal", "log_likelihood"] < table.loc["DisRNN", "log_likelihood"]  # 2 epochs of 5000


def test_inputs_are_heeded(cycle):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((len(cycle), 1))
    X = cycle + inputs * rng.standard_normal(cycle.shape[1])
    known = compare_disentanglement(X, 2, 2, inputs=inputs, max_epochs=0, **QUICK)
    assert np.ptp(known["log_likelihood"]) < SAME
    unknown = compare_disentanglement(X, 2, 2, max_epochs=0, **QUICK)
    assert known.loc["DisRNN", "log_likelihood"] > unknown.loc["DisRNN", "log_likelihood"] + 1.0


def test_true_groups_of_other_sizes_leave_r2_alone(recording):
    X, z = recording.observations[0], recording.latents[0]
    table = compare_disentanglement(X, 4, 2, latents=z, latent_ranks=(2, 1, 1), max_epochs=0, **QUICK)
    assert table.columns.tolist() == ["log_likelihood", "dependence", "p_value", "r2"]


def test_networks_without_dynamics_have_no_singular_vectors(cycle):
    table = compare_disentanglement(cycle, 2, 2, n_lags=2, max_epochs=0, **QUICK)
    assert table.index.tolist() == [name for name in TURNED if name != "LINT"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_fraction": 1.5}, "test_fraction: got 1.5"),
        ({"group_ranks": (2, 1)}, "group_ranks: got"),
        ({"n_groups": 3}, "n_groups"),
        ({"latents": np.zeros((499, 4))}, r"latents: got shape \(1, 499, 4\), wanted \(1, 500, 4\)"),
        (
            {"latents": np.zeros((500, 4)), "latent_ranks": (2, 1)},
            r"wanted \(1, 500, 3\) like X and groups of \(2, 1\)",
        ),
        ({"latents": np.zeros((500, 3))}, r"latents: got shape \(1, 500, 3\), wanted \(1, 500, 4\)"),
    ],
)
def test_refusals(recording, change, message):
    with pytest.raises(ValueError, match=message):
        compare_disentanglement(recording.observations[0], 4, **{"max_epochs": 0} | QUICK | change)


# --- other latents of the same network -------------------------------------------------------------------------------


def test_a_regrouped_network_is_the_same(one, recording):
    X, matrix = recording.observations[0], np.random.default_rng(0).standard_normal((4, 4))
    other = one.regrouped(matrix, (1, 3))
    assert other.group_ranks_ == (1, 3)
    assert other.latent_groups_.tolist() == [0, 1, 1, 1]
    assert one.group_ranks_ == (4,)
    assert one.group_ranks is None
    assert other.score(X) == pytest.approx(one.score(X), abs=SAME)
    for posterior in ("smoothed", "filtered", "delayed"):
        wanted = one.transform(X, posterior=posterior) @ matrix.T
        np.testing.assert_allclose(other.transform(X, posterior=posterior), wanted, atol=1e-8)
    whole, before = other.connectivity(), one.connectivity()
    np.testing.assert_allclose(whole, before, atol=SAME)
    np.testing.assert_allclose(whole.standard_error, before.standard_error, atol=SAME)
    np.testing.assert_allclose(other.sub_connectivity(0) + other.sub_connectivity(1), whole, atol=SAME)
    assert np.linalg.matrix_rank(other.sub_connectivity(0)) == 1
    with pytest.raises(ValueError, match="group_ranks"):
        one.regrouped(matrix, (2, 3))


def test_latents_by_variance_are_those_of_the_network(one, recording):
    X = recording.observations[0]
    np.testing.assert_allclose(coordinates.principal(one, (2, 2)).transform(X), one.transform(X), atol=SAME)
    shown = np.linalg.norm(one.loadings_, axis=0) * one.transform(X).std(axis=0)
    assert (np.diff(shown) < 0).all()


def test_independent_components_are_uncorrelated(one, recording):
    X = recording.observations[0]
    z = one.transform(X)[None]
    turned = coordinates.independent_components(one, z, np.ones(z.shape[:2], dtype=bool), (2, 2))
    np.testing.assert_allclose(np.cov(turned.transform(X).T, bias=True), np.eye(4), atol=1e-8)


def test_singular_vectors_are_those_of_the_connectivity(one, recording):
    X = recording.observations[0]
    z = one.transform(X)[None]
    turned = coordinates.singular_vectors(one, z, np.ones(z.shape[:2], dtype=bool), (2, 2))
    read = turned.right_vectors_ / turned.dynamics_.n_neurons  # (unit, latent)
    np.testing.assert_allclose(read.T @ read, np.eye(4), atol=1e-8)
    gram = turned.left_vectors_.T @ turned.left_vectors_
    values = np.linalg.svd(one.connectivity().values, compute_uv=False)[:4]
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-8)
    np.testing.assert_allclose(np.sort(np.sqrt(np.diag(gram)))[::-1], values, atol=1e-8)


def test_the_best_grouping_undoes_a_permutation(recording):
    X, z = recording.observations[0], recording.latents[0]
    fitted = DisRNN(4, n_groups=2, scaling="unit", noise="readout", n_bootstraps=0, random_state=0).fit(X)
    mixed = fitted.regrouped(np.eye(4)[[0, 2, 1, 3]], (2, 2))
    latents = mixed.transform(X)
    assert group_r2(z, latents, (2, 2)) < 0.8
    found = coordinates.grouped(mixed, latents[None], np.ones((1, len(X)), dtype=bool), (2, 2))
    assert group_r2(z, found.transform(X), (2, 2)) > 0.99
    # the components are what they were, in another order
    np.testing.assert_allclose(np.sort(found.transform(X)), np.sort(latents), atol=1e-8)
