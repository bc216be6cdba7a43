"""What is said of a network's connectivity: planted structure is found, and none where there is none."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nwb_lrrnn import LowRankDynamics, RandomModeModel, diagnose
from nwb_lrrnn.analysis.theory.diagnosis import balancing
from nwb_lrrnn.analysis.theory.diagnosis.overlaps import haar_test
from nwb_lrrnn.analysis.theory.diagnosis.statistics import connectivity_statistics, motifs

QUICK = {"n_null": 39, "n_simulated": 0}


def coupling(n=70, seed=0, **options):
    return RandomModeModel(n, 3.0, **({"effective_rank": 0.6} | options), random_state=seed).sample().connectivity()


def said(found):
    return " ".join(found.text.split())


def p_value(J):
    left, strengths, right = np.linalg.svd(J)
    rng = np.random.default_rng(0)
    return haar_test(strengths, np.sum(left * right.T, axis=0), len(J), 39, rng).p_value


def test_overlaps_are_found_where_they_are_and_not_where_they_are_not():
    assert sum(p_value(coupling(seed=seed)) <= 0.05 for seed in range(10)) <= 2
    for overlap in (0.4, -0.4):
        assert sum(p_value(coupling(overlap=overlap, seed=seed)) <= 0.05 for seed in range(5)) >= 4
    table = diagnose(coupling(overlap=0.4), **QUICK).table
    assert float(table.t3_p) <= 0.05
    assert float(table.t3) > 1.0


def test_the_number_of_modes_does_not_change_when_neurons_are_left_out():
    J = coupling(400, spectrum="flat", effective_rank=0.3)
    for n in (400, 200, 100):
        part = J[:n, :n]
        numbers = connectivity_statistics(part, np.linalg.svd(part, compute_uv=False))
        assert numbers["k_eff"] == pytest.approx(120.0, rel=0.15)


def test_motifs_are_those_planted():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((200, 200))
    for value in motifs(J).values():
        assert abs(value) < 0.01
    into = rng.standard_normal(200)
    shared = 0.5**0.5 * J + 0.5**0.5 * into[:, None]  # half of the variance is the target's
    assert motifs(shared)["convergent"] == pytest.approx(0.5 * into.var(), abs=0.08)
    assert motifs(shared.T)["divergent"] == pytest.approx(0.5 * into.var(), abs=0.08)
    assert abs(motifs(shared)["divergent"]) < 0.02
    both = J + into[:, None] + into  # who hears much says much
    assert motifs(both)["chain"] == pytest.approx(1 / 3, abs=0.08)
    assert connectivity_statistics(J + J.T, np.linalg.svd(J + J.T, compute_uv=False))["reciprocity"] == pytest.approx(1)


def test_what_must_not_matter():
    J = coupling(60, overlap=0.4)
    order = np.random.default_rng(0).permutation(60)
    one, other = diagnose(J, **QUICK), diagnose(J[np.ix_(order, order)], **QUICK)
    for name in ("g", "kappa", "reciprocity", "chain", "t3", "predicted_dimension", "dimension_of_this_matrix"):
        assert float(other.table[name]) == pytest.approx(float(one.table[name]), rel=1e-3), name
    assert other.text == one.text
    gains = np.full(60, 2.0)
    assert float(diagnose(J / 2, gains=gains, **QUICK).table.g) == pytest.approx(float(one.table.g))


def test_the_regime_comes_first():
    fine = diagnose(coupling(), **QUICK)
    assert fine.text.startswith("The theory of large random networks applies")
    assert bool(fine.table.theory_applies)
    weak = diagnose(coupling() / 10, **QUICK)
    assert "at most 1, so that there is no chaos" in said(weak)
    assert np.isnan(float(weak.table.predicted_dimension))
    dale = np.abs(coupling()) * np.where(np.arange(70) < 35, 1.0, -1.0)
    forward = np.triu(3.0 * np.random.default_rng(0).standard_normal((30, 30)) / np.sqrt(15), 1)
    assert "the network feeds forward" in said(diagnose(forward, **QUICK))
    few = LowRankDynamics(np.ones((20, 1)), np.ones((20, 1)), dt=0.1, tau=1.0)
    assert "1 modes in 20 neurons" in said(diagnose(few, **QUICK))
    assert "Dale's law" in said(diagnose(dale, **QUICK))
    edge = coupling() * 1.003 / connectivity_statistics(coupling(), np.linalg.svd(coupling(), compute_uv=False))["g"]
    assert "that of the transition to chaos, where nothing is predicted" in said(diagnose(edge, **QUICK))
    assert "the connections have a mean" in said(diagnose(coupling() + 0.05, **QUICK))


def test_a_fitted_network():
    rng = np.random.default_rng(0)
    left = rng.standard_normal((100, 2))
    network = LowRankDynamics(
        left, 2.0 * left + rng.standard_normal((100, 2)), dt=0.1, tau=1.0, latent_noise=0.02 * np.eye(2)
    )
    found = diagnose(SimpleNamespace(dynamics_=network), 3.5, n_null=39, n_simulated=3, n_trials=4, duration=40.0)
    assert "does not apply as it stands: it has noise of its own" in said(found)
    assert "2 modes in 100 neurons" in said(found)
    assert "this is no discovery" in said(found)
    assert "The recording has a dimension of 3.5" in said(found)
    assert found.table.null_dimension.shape == (3,)
    assert 1.0 <= float(found.table.dimension) < 4.0
    shown = network.replace(loadings=rng.standard_normal((8, 2)), observation_variance=np.ones(8))
    seen = diagnose(shown, 5.0, n_null=19, n_simulated=3, n_trials=4, duration=40.0)
    assert 1.0 <= float(seen.table.unit_dimension) <= 2.3  # two latents, seen through units
    assert (seen.table.null_unit_dimension < 2.3).all()
    assert "which networks of these singular values do not have" in said(seen)
    with pytest.raises(ValueError, match="signs: they are of a matrix"):
        diagnose(network, signs=np.ones(100))


def test_a_recording_is_put_beside_it():
    rng = np.random.default_rng(0)
    latents = np.cumsum(rng.standard_normal((20, 60, 2)), axis=1)
    X = latents @ rng.standard_normal((2, 12)) + 0.1 * rng.standard_normal((20, 60, 12))
    found = diagnose(coupling(), X, **QUICK)
    assert 1.0 < float(found.table.recorded_dimension) < 2.5
    assert "The recording has a dimension of" in said(found)


def test_gains_are_told_apart_from_modes():
    model = RandomModeModel(300, 4.0, "flat", 0.5, gains=0.5, random_state=0)
    network = model.sample()
    table = diagnose(network.connectivity(), gains=network.gains, **QUICK).table
    assert float(table.gain_pr) == pytest.approx(0.5)
    assert float(table.raw_dimension) < float(table.readout_dimension) < float(table.normalised_dimension)
    # Eq. 46b: in the matrix that acts on unit rates, gains and modes add up
    assert float(table.kappa) == pytest.approx(1 / 0.5 + 1 / 0.5 - 1, rel=0.1)


def counts(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(3.0, (n, n)) * (rng.random((n, n)) < 0.4)


def test_counts_are_balanced_and_dead_neurons_said():
    given = counts()
    given[3] = 0  # no inputs
    given[:, 7] = 0  # no outputs
    balanced = balancing.balanced(given)
    assert balanced.kept.tolist() == [k for k in range(60) if k not in (3, 7)]
    assert balanced.error < 1e-5
    with_mean = balancing.balanced(given, np.ones(60)).matrix
    for axis in (0, 1):
        np.testing.assert_allclose(np.linalg.norm(with_mean, axis=axis), np.sqrt(0.5), rtol=1e-4)
    assert np.linalg.norm(balanced.matrix, 2) < 0.5 * np.sqrt(2.0) * np.linalg.norm(with_mean, 2)
    found = diagnose(given, **QUICK)
    assert found.text.startswith("2 of 60 neurons, without inputs or outputs, were dropped.")
    assert float(found.table.t3_p) > 0.05
    assert float(found.table.t3_degree_p) > 0.05


def test_rewiring_keeps_degrees():
    given = counts()
    np.fill_diagonal(given, 0)
    other = balancing.rewired(given, np.random.default_rng(0))
    for axis in (0, 1):
        np.testing.assert_array_equal((other > 0).sum(axis=axis), (given > 0).sum(axis=axis))
    np.testing.assert_array_equal(other.sum(axis=0), given.sum(axis=0))  # what a source gives stays its own
    assert not np.diag(other).any()
    assert np.mean((other > 0) & (given > 0)) < 0.6 * np.mean(given > 0)


def test_signed_counts_are_balanced_by_sign():
    rng = np.random.default_rng(0)
    given = counts(80)
    for signs in (np.where(rng.random((80, 80)) < 0.7, 1, -1), np.where(np.arange(80) < 40, 1, -1)):
        matrix = balancing.balanced(given, signs).matrix
        for part in (np.maximum(matrix, 0), np.maximum(-matrix, 0)):
            np.testing.assert_allclose(np.linalg.norm(part, axis=1), np.sqrt(0.5), rtol=1e-3)
        if signs.ndim == 2:
            np.testing.assert_allclose(np.linalg.norm(np.maximum(matrix, 0), axis=0), np.sqrt(0.5), rtol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), 1.0, rtol=1e-3)
    # planted: modes of which left and right vectors agree, seen through counts and signs alone
    planted = coupling(80, overlap=0.6)
    as_counts = np.round(20 * np.abs(planted)).astype(int)
    np.fill_diagonal(as_counts, 0)
    found = diagnose(as_counts, signs=np.where(planted >= 0, 1, -1), **QUICK)
    assert float(found.table.t3_p) <= 0.05
    assert float(found.table.g) == pytest.approx(1.0, rel=1e-3)
    signed = diagnose(as_counts * np.where(planted >= 0, 1, -1), is_counts=True, **QUICK)
    assert signed.text == found.text
    with pytest.raises(ValueError, match="signs: got shape"):
        diagnose(given, signs=np.zeros(80))


@pytest.mark.skipif("NWB_LRRNN_DATA" not in os.environ, reason="needs NWB_LRRNN_DATA")
def test_larval_mushroom_body():
    folder = Path(os.environ["NWB_LRRNN_DATA"]) / "arrays" / "drosophila_larva_mb"
    adjacency = np.loadtxt(folder / "left_adjacency.csv").T  # (target, source)
    found = diagnose(adjacency, n_null=19, n_simulated=0)
    assert "83 of 209 neurons, without inputs or outputs, were dropped" in said(found)
    assert float(found.table.t3_p) <= 0.05
    assert float(found.table.t3_degree_p) <= 0.05
    assert len(found.kept) == 126


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match="model: got a list of shape"):
        diagnose([[1.0, 2.0]])
    with pytest.raises(ValueError, match="model: got a object of shape"):
        diagnose(object())
    with pytest.raises(ValueError, match="gains: balancing takes gains away"):
        diagnose(counts(), gains=np.ones(60))
    with pytest.raises(ValueError, match="these synapse counts are all alike"):
        diagnose(np.ones((5, 5), dtype=int))
    with pytest.raises(ValueError, match="neurons of these synapse counts have inputs and outputs"):
        diagnose(np.triu(np.ones((5, 5), dtype=int), 1))
