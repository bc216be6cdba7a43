"""Kinds of dynamics among many fits: planted kinds, one kind, what must not matter, and what is refused."""

import functools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from sklearn.metrics import adjusted_rand_score

import nwb_lrrnn as lr
from nwb_lrrnn.align import Gauge, change_gauge
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.plotting import plot_fits

OVERLAPS = {
    "cycle": [[1.8, -0.8], [0.8, 1.8]],
    "fast cycle": [[1.8, -1.6], [1.6, 1.8]],
    "two states": [[2.2, 0.0], [0.0, 0.4]],
    "one state": [[0.6, -0.3], [0.3, 0.6]],
}


@functools.cache
def network(kind, seed, *, dt=0.02, n_units=20):
    """Return a random network of a kind, where it lives and how units read it being random too."""
    rng = np.random.default_rng(seed)
    m = np.linalg.qr(rng.standard_normal((300, 2)))[0] * np.sqrt(300)
    n = m @ np.array(OVERLAPS[kind]).T + 0.4 * rng.standard_normal((300, 2))
    net = LowRankDynamics(
        m,
        n,
        dt=dt,
        tau=0.1,
        drive=np.zeros(2),
        latent_noise=0.003 * np.eye(2),
        initial_covariance=np.eye(2),
        loadings=rng.standard_normal((n_units, 2)),
        offset=np.zeros(n_units),
        observation_variance=np.full(n_units, 0.3),
    )
    z = net.simulate(30, 60, random_state=seed)["latents"].values.reshape(-1, 2)
    return net.replace(latent_mean=z.mean(0), latent_covariance=np.cov(z.T))


def networks(kind, n, first=0):
    return [network(kind, first + k, dt=(0.02, 0.025)[k % 2], n_units=15 + 2 * k) for k in range(n)]


@pytest.mark.parametrize(
    "kinds", [("cycle", "two states"), ("cycle", "fast cycle"), ("one state", "two states", "cycle")]
)
def test_planted_kinds_are_found(kinds):
    found = lr.compare_fits([net for k, kind in enumerate(kinds) for net in networks(kind, 6, 100 * k)])
    assert found.n_clusters == len(kinds)
    assert adjusted_rand_score(np.repeat(np.arange(len(kinds)), 6), found.cluster.values) == 1.0
    assert f"{len(kinds)} kinds of dynamics" in found.text
    assert repr(found).startswith("18" if len(kinds) == 3 else "12")


@pytest.mark.parametrize("kind", OVERLAPS)
def test_networks_of_one_kind_are_one_kind(kind):
    found = lr.compare_fits(networks(kind, 12))
    assert found.n_clusters == 1
    assert "Nothing shows more than one kind" in found.text


def test_a_few_fits_are_never_several_kinds():
    found = lr.compare_fits([*networks("cycle", 2), *networks("two states", 2)])
    assert found.n_clusters == 1
    assert "too few to tell kinds" in found.text


def test_fits_of_one_recording_count_once():
    fits = [
        net.replace(latent_noise=None, latent_mean=net.latent_mean + 0.01 * k)
        for net in networks("cycle", 6)
        for k in range(3)
    ]
    found = lr.compare_fits(fits, recordings=np.repeat(list("abcdef"), 3))
    assert found.n_clusters == 1
    assert found.text.startswith("18 fits of 6 recordings")
    twos = lr.compare_fits([*networks("cycle", 6), *networks("two states", 6)] * 2, recordings=[*range(12)] * 2)
    assert twos.cluster.values.tolist() == ([0] * 6 + [1] * 6) * 2


def test_the_same_network_is_at_no_distance_in_other_latents_and_bins():
    net = network("cycle", 0)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    turned = change_gauge(net, Gauge(3.0 * turn, np.array([0.4, -1.0])))
    sheared = change_gauge(net, Gauge(np.array([[2.0, 1.0], [0.0, 0.5]]), np.zeros(2)))
    narrow = net.with_dt(0.01)
    table = lr.compare_fits([net, turned, sheared, narrow, network("fast cycle", 0)], horizon=1.0)
    same, other = table.distance[0, 1:4].values, float(table.distance[0, 4])
    np.testing.assert_array_less(same, 0.2 * other)


def test_the_map_of_latents_undoes_a_change_of_latents():
    net = network("two states", 1)
    gauge = Gauge(np.array([[0.5, 0.2], [-0.3, 1.5]]), np.array([0.3, 0.1]))
    table = lr.compare_fits([net, change_gauge(net, gauge)])
    at = int(np.flatnonzero(table.fit.values != table.medoid.values[0])[0])
    z = np.random.default_rng(0).standard_normal((50, 2))
    here, there = (z, gauge.latents(z)) if at == 0 else (gauge.latents(z), z)
    mapped = here @ table.alignment.values[at] + table.alignment_offset.values[at]
    assert float(table.alignment_error[at]) < 0.1
    flows = [(net, change_gauge(net, gauge))[k] for k in (at, 1 - at)]
    moved = flows[0].step(here) @ table.alignment.values[at] + table.alignment_offset.values[at]
    # up to a symmetry of the flow itself: mapped states flow as those of the medoid do
    np.testing.assert_allclose(moved, flows[1].step(mapped), atol=0.1 * np.abs(there).max())


def test_order_and_seed_change_no_kind():
    fits = [*networks("cycle", 6), *networks("two states", 6)]
    order = np.random.default_rng(0).permutation(12)
    first, second = lr.compare_fits(fits), lr.compare_fits([fits[k] for k in order], random_state=5)
    assert adjusted_rand_score(first.cluster.values[order], second.cluster.values) == 1.0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_table_of_a_batch_is_read(tmp_path):
    X = network("cycle", 0).simulate(6, 40, random_state=0)["observations"].assign_coords(cue=("trial", list("ababab")))
    X.attrs["bin_size"] = 0.02
    model = lr.LinearStateSpace(2, max_iter=3).fit(X)
    rows = []
    for name in ("a", "b"):
        path = lr.write_results(tmp_path / f"{name}.nwb", model, latents=model.transform(X))
        rows.append({"results": str(path), "status": "done", "recording": f"ses-{name}.nwb", "subject": name})
    rows.append({"results": None, "status": "failed", "recording": "ses-c.nwb", "subject": "c"})
    found = lr.compare_fits(pd.DataFrame(rows), condition="cue")
    assert list(found.subject.values) == ["a", "b"]
    assert list(found.fit.values) == ["ses-a.nwb", "ses-b.nwb"]
    assert float(found.distance.max()) == 0.0
    assert "1 row is left out" in found.text
    np.testing.assert_allclose(found.canonical_correlation[0, 1].values, 1.0)
    assert np.isnan(lr.compare_fits(list(pd.DataFrame(rows).results[:2])).canonical_correlation).all()


def test_latents_of_shared_conditions_correlate_and_others_do_not():
    rng = np.random.default_rng(0)
    course = np.cumsum(rng.standard_normal((4, 200, 2)), axis=1)[:, ::10]

    def latents(courses):
        z = courses[[0, 1, 2, 3] * 3] @ rng.standard_normal((2, 2)) + 0.1 * rng.standard_normal((12, 20, 2))
        coords = {"time": 0.02 * np.arange(20), "target": ("trial", [0, 1, 2, 3] * 3)}
        return xr.DataArray(z, dims=("trial", "time", "latent"), coords=coords)

    given = [latents(course), latents(course), latents(rng.standard_normal((4, 20, 2))), None]
    found = lr.compare_fits(networks("cycle", 4), condition="target", latents=given).canonical_correlation
    assert found[0, 1].min() > 0.95
    assert found[0, 2].max() < 0.5
    assert np.isnan(found[0, 3]).all()


@pytest.mark.parametrize(
    ("fits", "options", "error", "message"),
    [
        (
            networks("cycle", 2),
            {"recordings": ["a"]},
            ValueError,
            "recordings: got 1 names, wanted one for each of the 2",
        ),
        ([], {}, ValueError, "fits: got 0, wanted at least 2"),
        ("a.nwb", {}, TypeError, "fits: got a str, wanted a list of result files"),
        ([network("cycle", 0), 3], {}, TypeError, "fits: number 1: model: got a int"),
        (pd.DataFrame({"path": ["a"]}), {}, ValueError, "columns path, wanted 'results'"),
        (pd.DataFrame({"results": ["a", None]}), {}, ValueError, "row 1 has no path"),
        (networks("cycle", 2), {"horizon": 0.01}, ValueError, "horizon: got 0.01 s"),
        (networks("cycle", 2), {"latents": [None, None]}, ValueError, "condition: got None with latents"),
        (networks("cycle", 2), {"latents": [None], "condition": "cue"}, ValueError, "latents: got 1, wanted one for"),
    ],
)
def test_what_does_not_fit_is_refused(fits, options, error, message):
    with pytest.raises(error, match=message):
        lr.compare_fits(fits, **options)


def test_a_flow_that_runs_away_and_another_rank_have_their_place():
    away = LowRankDynamics(np.ones((1, 1)), np.full((1, 1), 60.0), dt=0.02, tau=0.1, nonlinearity="identity")
    found = lr.compare_fits([*networks("cycle", 3), away])
    assert np.isfinite(found.distance).all()
    assert found.distance[3, :3].min() > 5 * found.distance[:3, :3].max()
    assert np.isnan(found.alignment_error[3])


def test_the_picture_parts_the_kinds():
    table = lr.compare_fits([*networks("cycle", 6), *networks("two states", 6)])
    page = plot_fits(table)
    names = [label.get_text() for label in page[1].get_yticklabels()]
    first = {table.cluster.values[list(table.fit.values).index(name)] for name in names[:6]}
    assert len(first) == 1
    assert page[1].get_title() == "Distances: 2 kinds"
    assert len(page[1].lines) == 2
    plt.close(page.figure)
    with pytest.raises(ValueError, match="wanted what compare_fits returns"):
        plot_fits(xr.Dataset())
