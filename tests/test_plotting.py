"""Figures: what is drawn, and that nothing global is touched."""

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis import DisRNN
from nwb_lrrnn.plotting import plot_comparison, plot_flow, plot_history, plot_latents, plot_summary


def network(rank=2, likelihood="poisson", n_inputs=0):
    rng = np.random.default_rng(0)
    m = rng.standard_normal((40, rank))
    return LowRankDynamics(
        m,
        2.0 * m,
        dt=0.02,
        tau=0.1,
        input_weights=rng.standard_normal((40, n_inputs)) if n_inputs else None,
        loadings=rng.standard_normal((6, rank)),
        offset=np.full(6, 5.0),
        likelihood=likelihood,
        observation_variance=np.ones(6) if likelihood == "gaussian" else None,
    )


class Fitted:
    """What the figures ask of a model."""

    def __init__(self, dynamics):
        self.dynamics_ = dynamics
        self.history_ = xr.Dataset(
            {"log_evidence": ("epoch", [-9.0, -2.0, -1.0]), "validation": ("epoch", [-9.0, -2.5, -1.5])},
            coords={"epoch": [1, 2, 3]},
        )

    def transform(self, X):
        return xr.DataArray(np.zeros((*X.shape[:-1], self.dynamics_.rank)), dims=(*X.dims[:-1], "latent"))


def comparison():
    names = ["mean rate", "VAR(1)", "LowRankRNN (rank 2)"]
    columns = {
        "log_likelihood": [-3.0, -2.0, -1.5],
        "vs_mean_rate": [0.0, 1.0, 1.5],
        "model_above": [1.5, 0.5, 0.0],
        "standard_error": [0.1, 0.1, 0.0],
        "low": [1.3, 0.3, 0.0],
        "high": [1.7, 0.7, 0.0],
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="model"))


def check(figure, tmp_path):
    """Every panel that shows data names its axes, and the figure can be written."""
    path = tmp_path / "figure.png"
    figure.savefig(path, dpi=40)
    assert path.stat().st_size > 1000
    for axes in figure.axes:
        if axes.axison and axes.get_label() != "<colorbar>" and axes.get_xticklabels():
            shown = any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())
            assert axes.get_xlabel() or not shown


@pytest.mark.parametrize("rank", [1, 2, 3, 6])
def test_latents(tmp_path, rank):
    latents = network(rank).simulate(3, 30, random_state=0)["latents"]
    figure = plot_latents(latents, truth=latents.values)
    check(figure, tmp_path)
    assert len(figure.axes) == min(rank, 4) + (rank > 1)
    assert figure.axes[-1].get_xlabel() == "time (s)"
    np.testing.assert_array_equal(figure.axes[-1].lines[0].get_xdata(), latents["time"])


def test_latents_without_times_count_in_bins(tmp_path):
    figure = plot_latents(np.zeros((10, 2)))
    assert figure.axes[-1].get_xlabel() == "time (bins)"
    with pytest.raises(ValueError, match=r"latents: got shape \(3,\)"):
        plot_latents(np.zeros(3))


@pytest.mark.parametrize(("rank", "n_inputs"), [(1, 0), (2, 0), (2, 1), (3, 0)])
def test_flow(tmp_path, rank, n_inputs):
    dynamics = network(rank, n_inputs=n_inputs)
    latents = None if n_inputs else dynamics.simulate(3, 20, random_state=0)["latents"]
    figure = plot_flow(dynamics, latents=latents, n_points=12)
    check(figure, tmp_path)
    assert figure.axes[0].get_xlabel() == "latent 1 (a.u.)"
    if rank == 1:  # the curve is the velocity
        z, velocity = figure.axes[0].lines[1].get_data()
        np.testing.assert_allclose(velocity, dynamics.velocity(np.asarray(z)[:, None])[:, 0])


def test_history(tmp_path):
    model = Fitted(network())
    figure = plot_history(model)
    check(figure, tmp_path)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [-8.0, -1.0, 0.0])
    check(plot_history(model.history_), tmp_path)
    check(plot_history(xr.Dataset({"log_likelihood": ("epoch", [-2.0, -1.0])}, coords={"epoch": [0, 1]})), tmp_path)


def test_comparison(tmp_path):
    figure = plot_comparison(comparison())
    check(figure, tmp_path)
    left, right = figure.axes
    np.testing.assert_array_equal([bar.get_width() for bar in left.patches], [0.0, 1.0, 1.5])
    assert [text.get_text() for text in left.get_yticklabels()] == list(comparison().index)
    assert "+0.5 [+0.3, +0.7]" in [text.get_text() for text in right.texts]
    assert left.get_title() == "Held-out score"
    judged = comparison()
    judged.attrs["nonlinear"] = "undecided"
    assert plot_comparison(judged).axes[0].get_title() == "Held-out score (nonlinear: undecided)"


def test_figures_of_a_network_whose_units_are_its_neurons(tmp_path):
    rng = np.random.default_rng(0)
    X = xr.DataArray(rng.normal(size=(3, 40, 5)).cumsum(axis=1), dims=("trial", "time", "unit"))
    model = DisRNN(2, n_bootstraps=0, random_state=0).fit(X)
    figure = plot_summary(model, X)
    check(figure, tmp_path)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images][:2]
    order = np.argsort(model.loadings_[:, 0])
    np.testing.assert_allclose(drawn[0], X.values[0].T[order])
    np.testing.assert_allclose(drawn[1], model.inverse_transform(model.transform(X)).values[0].T[order])
    check(plot_flow(model, latents=model.transform(X), n_points=12), tmp_path)
    check(plot_history(model), tmp_path)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_summary(tmp_path, rank, likelihood):
    dynamics = network(rank, likelihood)
    drawn = dynamics.simulate(3, 25, random_state=0)
    figure = plot_summary(
        Fitted(dynamics),
        drawn["observations"],
        latents=drawn["latents"],
        truth=drawn["latents"],
        comparison=comparison(),
        title="A fit",
    )
    check(figure, tmp_path)
    expected = dynamics.expected(drawn["latents"][0]) / (dynamics.dt if likelihood == "poisson" else 1)
    order = np.argsort(dynamics.loadings[:, 0])
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), expected.T[order])


def test_summary_of_little(tmp_path):
    X = network().simulate(2, 20, random_state=0)["observations"]
    check(plot_summary(Fitted(network()), X), tmp_path)


def test_nothing_global_is_touched(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    pyplot_was_loaded = "matplotlib.pyplot" in sys.modules
    check(plot_flow(network(), n_points=10), tmp_path)
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_loaded


def test_refusals(monkeypatch):
    with pytest.raises(TypeError, match="model: got a int, wanted a LowRankDynamics or a fitted estimator"):
        plot_flow(3)
    with pytest.raises(TypeError, match="model: got LowRankDynamics without history_"):
        plot_history(network())
    with pytest.raises(ValueError, match="table: got no column 'vs_mean_rate'"):
        plot_comparison(comparison().drop(columns="vs_mean_rate"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'nwb-lrrnn\[plot\]'"):
        plot_history(Fitted(network()))
