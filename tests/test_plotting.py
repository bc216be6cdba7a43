"""Figures: what is drawn, and that nothing global is touched."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis import DisRNN
from nwb_lrrnn.plotting import plot_comparison, plot_flow, plot_history, plot_latents, plot_summary


@pytest.fixture(autouse=True)
def _no_window_and_no_figure_stays(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    from matplotlib import pyplot as plt

    yield
    plt.close("all")


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
    figure = getattr(figure, "figure", figure)
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
    figure = plot_latents(latents, truth=latents.values).figure
    check(figure, tmp_path)
    assert len(figure.axes) == min(rank, 4) + (rank > 1)
    assert figure.axes[-1].get_xlabel() == "time (s)"
    np.testing.assert_array_equal(figure.axes[-1].lines[0].get_xdata(), latents["time"])


def test_latents_without_times_count_in_bins(tmp_path):
    figure = plot_latents(np.zeros((10, 2))).figure
    assert figure.axes[-1].get_xlabel() == "time (bins)"
    with pytest.raises(ValueError, match=r"latents: got shape \(3,\)"):
        plot_latents(np.zeros(3))


@pytest.mark.parametrize(("rank", "n_inputs"), [(1, 0), (2, 0), (2, 1), (3, 0)])
def test_flow(tmp_path, rank, n_inputs):
    dynamics = network(rank, n_inputs=n_inputs)
    latents = None if n_inputs else dynamics.simulate(3, 20, random_state=0)["latents"]
    figure = plot_flow(dynamics, latents=latents, n_points=12).figure
    check(figure, tmp_path)
    assert figure.axes[0].get_xlabel() == "latent 1 (a.u.)"
    if rank == 1:  # the curve is the velocity
        z, velocity = figure.axes[0].lines[1].get_data()
        np.testing.assert_allclose(velocity, dynamics.velocity(np.asarray(z)[:, None])[:, 0])


def test_history(tmp_path):
    model = Fitted(network())
    figure = plot_history(model).figure
    check(figure, tmp_path)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [-8.0, -1.0, 0.0])
    check(plot_history(model.history_), tmp_path)
    check(plot_history(xr.Dataset({"log_likelihood": ("epoch", [-2.0, -1.0])}, coords={"epoch": [0, 1]})), tmp_path)


def test_comparison(tmp_path):
    figure = plot_comparison(comparison()).figure
    check(figure, tmp_path)
    left, right = figure.axes
    np.testing.assert_array_equal([bar.get_width() for bar in left.patches], [0.0, 1.0, 1.5])
    assert [text.get_text() for text in left.get_yticklabels()] == list(comparison().index)
    assert "+0.5 [+0.3, +0.7]" in [text.get_text() for text in right.texts]
    assert left.get_title() == "Held-out score"
    judged = comparison()
    judged.attrs["nonlinear"] = "undecided"
    assert plot_comparison(judged)[0].get_title() == "Held-out score (nonlinear: undecided)"


def test_figures_of_a_network_whose_units_are_its_neurons(tmp_path):
    rng = np.random.default_rng(0)
    X = xr.DataArray(rng.normal(size=(3, 40, 5)).cumsum(axis=1), dims=("trial", "time", "unit"))
    model = DisRNN(2, n_bootstraps=0, random_state=0).fit(X)
    figure = plot_summary(model, X).figure
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
    ).figure
    check(figure, tmp_path)
    expected = dynamics.expected(drawn["latents"][0]) / (dynamics.dt if likelihood == "poisson" else 1)
    order = np.argsort(dynamics.loadings[:, 0])
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), expected.T[order])


def test_summary_of_little(tmp_path):
    X = network().simulate(2, 20, random_state=0)["observations"]
    check(plot_summary(Fitted(network()), X), tmp_path)


def test_nothing_global_is_touched(tmp_path):
    import matplotlib
    from matplotlib import pyplot as plt

    plt.get_backend()
    before = dict(matplotlib.rcParams)
    check(plot_flow(network(), n_points=10), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_refusals(monkeypatch):
    with pytest.raises(TypeError, match="model: got a int, wanted a LowRankDynamics or a fitted estimator"):
        plot_flow(3)
    with pytest.raises(TypeError, match="model: got LowRankDynamics without history_"):
        plot_history(network())
    with pytest.raises(ValueError, match="table: got no column 'vs_mean_rate'"):
        plot_comparison(comparison().drop(columns="vs_mean_rate"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'nwb-lrrnn\[plot\]'"):
        plot_history(Fitted(network()))


def test_axes_that_are_given_are_drawn_into_and_returned():
    from matplotlib import pyplot as plt

    dynamics = network()
    latents = dynamics.simulate(3, 20, random_state=0)["latents"]
    calls = [
        lambda ax: plot_latents(latents, ax=ax),
        lambda ax: plot_latents(latents[..., :1], ax=ax),
        lambda ax: plot_flow(dynamics, latents=latents, n_points=8, ax=ax),
        lambda ax: plot_history(Fitted(dynamics), ax=ax),
        lambda ax: plot_comparison(comparison(), ax=ax),
    ]
    figure, panels = plt.subplots(1, len(calls))
    for ax, call in zip(panels, calls, strict=True):
        assert call(ax) is ax
        assert ax.has_data()
    assert plt.get_fignums() == [figure.number]


def test_pages_are_arrays_of_axes_and_figures_are_pyplots():
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

    dynamics = network()
    drawn = dynamics.simulate(3, 20, random_state=0)
    pages = {
        (3,): plot_latents(drawn["latents"]),
        (2,): plot_comparison(comparison()),
        (2, 3): plot_summary(Fitted(dynamics), drawn["observations"], latents=drawn["latents"]),
    }
    for shape, page in pages.items():
        assert isinstance(page, np.ndarray)
        assert page.shape == shape
        assert all(isinstance(ax, Axes) for ax in page.flat)
        assert page.figure.number in plt.get_fignums()
    assert isinstance(plot_flow(dynamics, n_points=8), Axes)
    assert len(plt.get_fignums()) == 4


def test_trials_of_unequal_length_are_drawn_as_transform_returns_them():
    z = network().simulate(3, 20, random_state=0)["latents"]
    ragged = [z[0], z[1, :12], z[2, :5]]
    for kind in (ragged, [trial.values for trial in ragged], [trial.to_pandas() for trial in ragged]):
        page = plot_latents(kind)
        assert [int(np.isfinite(line.get_ydata()).sum()) for line in page[1].lines] == [20, 12, 5]
        assert not page[0].texts
    later = [z[0], z[1, :12].assign_coords(time=z.time[:12] + 7.0)]  # times of the session
    np.testing.assert_allclose(plot_latents(later)[1].lines[0].get_xdata(), z.time - z.time[0], atol=1e-12)


def test_bins_that_are_nan_are_said():
    z = network().simulate(3, 20, random_state=0)["latents"].values
    z[1, 4:9] = np.nan
    for ax in (plot_latents(z)[0], plot_flow(network(), latents=z, n_points=8)):
        assert "5 bins are NaN: not drawn" in [text.get_text() for text in ax.texts]
    for nothing, message in ((z * np.nan, "latents: every bin holds NaN"), (z[:0], r"latents: got shape \(0, 20, 2\)")):
        with pytest.raises(ValueError, match=message):
            plot_latents(nothing)
        with pytest.raises(ValueError, match=message):
            plot_flow(network(), latents=nothing)
    with pytest.raises(ValueError, match="table: got no column"):
        plot_comparison(pd.DataFrame())


@pytest.mark.parametrize(("backend", "n_pictures"), [("agg", 1), ("inline", 0)])
def test_the_last_line_of_a_cell_is_one_picture_and_no_text(monkeypatch, backend, n_pictures):
    """A backend that shows open figures by itself shows the one picture; else the axes do."""
    shown = []
    display = SimpleNamespace(Image=lambda data: data, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    drawn = network().simulate(3, 20, random_state=0)["latents"]
    for axes in (plot_flow(network(), n_points=8), plot_latents(drawn)):
        with monkeypatch.context() as patch:
            patch.setattr("matplotlib.get_backend", lambda: backend)
            axes._ipython_display_()
    assert len(shown) == 2 * n_pictures
    assert all(data.startswith(b"\x89PNG") for data in shown)
