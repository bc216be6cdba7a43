"""Dimension of a recording: what was planted comes back, noise has none, and what must not matter does not."""

import json

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from nwb_lrrnn.analysis.dimension import RecordedDimension, dimension_of_recording, effective_rank, estimate, reading
from nwb_lrrnn.plotting import plot_dimension, save
from nwb_lrrnn.results import load_model, read_results, write_results
from small_cli import fill, run, sentence


def planted(seed, n_bins=3000, n_units=60, rank=4, gain=0.5, draw=True):
    """Return counts (time, unit) at 10 spikes/s of rates that a Gaussian process of a rank drives, and their dimension.

    Rates are lognormal: r_i exp(g_i - var g_i / 2), with covariance r_i r_j (exp(cov g_ij) - 1).
    """
    rng = np.random.default_rng(seed)
    z = gaussian_filter1d(rng.standard_normal((n_bins, rank)), 5.0, axis=0) * np.sqrt(10.0 * np.sqrt(np.pi))
    m = rng.standard_normal((n_units, rank)) * gain / np.sqrt(rank)
    covariance = np.expm1(m @ m.T)
    rates = 0.2 * np.exp(z @ m.T - 0.5 * (m**2).sum(axis=1))
    return rng.poisson(rates) if draw else rates, np.trace(covariance) ** 2 / np.sum(covariance**2)


def smooth(seed, n_bins=1500, n_units=30, rank=5, sd=4.0):
    """Return values (time, unit) of a Gaussian process, their dimension, and the half-time of their memory in bins."""
    rng = np.random.default_rng(seed)
    m = rng.standard_normal((rank, n_units))
    z = gaussian_filter1d(rng.standard_normal((n_bins, rank)), sd, axis=0)
    covariance = m.T @ m
    return z @ m, np.trace(covariance) ** 2 / np.sum(covariance**2), 2 * sd * np.sqrt(np.log(2.0))


@pytest.fixture(scope="module")
def values():
    return smooth(0)


@pytest.fixture(scope="module")
def found(values):
    return dimension_of_recording(values[0])


def numbers(table):
    names = ("dimension", "z_scored_dimension", "effective_rank", "half_time", "half_time_of_components")
    return np.array([table.values_of(name) for name in names])


# --- known answers --------------------------------------------------------------------------------------------------


def test_rates_behind_counts_have_the_dimension_that_was_planted():
    hits = 0
    for seed in range(4):
        X, truth = planted(seed)
        table = dimension_of_recording(X)
        _, low, high = table.values_of("dimension")
        assert table.attrs["shared"] == 1
        assert table.attrs["private"] == "poisson"
        assert high < 2.5 * low  # an interval that tells something
        hits += low <= truth <= high
    assert hits >= 3  # 39 of 40 draws were counted


def test_values_have_the_dimension_and_the_memory_that_were_planted(values, found):
    _, truth, half_time = values
    value, low, high = found.values_of("dimension")
    assert low < truth < high
    assert value == pytest.approx(truth, rel=0.15)
    for name in ("half_time", "half_time_of_components"):
        assert found.values_of(name)[0] == pytest.approx(half_time, rel=0.15)
    spectrum = found["spectrum"].values
    assert spectrum[:5].sum() == pytest.approx(1.0, abs=0.02)  # rank 5, and no more in the other half
    assert np.abs(spectrum[5:]).max() < 0.01


def test_a_short_recording_has_no_smaller_dimension_than_a_long_one():
    ratios, naive = [], []
    for seed in range(8):
        X, truth, _ = smooth(seed, n_bins=250, n_units=20)
        ratios.append(truth / float(dimension_of_recording(X)["dimension"]))
        roots = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2
        naive.append(truth * np.sum(roots**2) / np.sum(roots) ** 2)
    error = np.std(ratios) / np.sqrt(8)
    assert abs(np.mean(ratios) - 1.0) < 3 * error + 0.03
    assert np.mean(naive) > np.mean(ratios) + 3 * error


def test_what_is_extrapolated_does_not_change_when_units_are_left_out():
    X, truth, _ = smooth(3, n_bins=3000, n_units=160, rank=12)
    tables = [dimension_of_recording(X[:, :n], n_population=160) for n in (160, 40)]
    few, population = tables[1], float(tables[1]["dimension_of_population"])
    assert float(few["dimension"]) < 0.9 * truth
    assert population == pytest.approx(truth, rel=0.25)
    low, high = few.values_of("dimension_of_population")[1:]
    assert low < truth < high
    assert few.values_of("effective_rank")[1] < float(tables[0]["effective_rank"]) < few.values_of("effective_rank")[2]


def test_effective_rank_of_a_connectivity():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((600, 90)) @ rng.standard_normal((90, 600))
    assert effective_rank(J) == pytest.approx(90, rel=0.1)
    assert effective_rank(1e-9 * J[:200, :200]) == pytest.approx(90, rel=0.15)
    assert effective_rank(np.eye(5)) == np.inf
    with pytest.raises(ValueError, match="connectivity: got an array of shape .*, wanted a square one"):
        effective_rank(J[:100])


# --- noise ----------------------------------------------------------------------------------------------------------


def test_independent_units_share_nothing():
    # 2 of 40 draws each at twice this level, counted once; of these at most one by chance of 1 in 200
    said = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = rng.poisson(rng.lognormal(-2.0, 1.0, 40), size=(1000, 40))
        if seed % 2:
            X = gaussian_filter1d(rng.standard_normal((1500, 40)), 4.0, axis=0)
        table = dimension_of_recording(X)
        said += table.attrs["shared"]
        if not table.attrs["shared"]:
            assert repr(table).startswith("No shared dimension: ")
            assert float(table["effective_rank"]) == np.inf or seed % 2 == 0
    assert said <= 1


def test_counts_more_regular_than_poisson_are_known_by_neighbouring_bins():
    """At most one spike a bin, as of refractory units: the variance of such counts is below their mean."""
    rates, truth = planted(1, n_bins=6000, draw=False)
    X = np.random.default_rng(0).binomial(1, np.minimum(rates, 1.0))
    table = dimension_of_recording(X)
    _, low, high = table.values_of("dimension")
    assert low < truth < high
    assert table.attrs["private"] == "neighbours"
    assert "neighbouring bins" in " ".join(repr(table).split())
    assert not low < float(dimension_of_recording(X, private="poisson")["dimension"]) < high
    counts = dimension_of_recording(X, private="kept")
    assert "The dimension of counts of 60 units" in " ".join(repr(counts).split())
    assert float(counts["dimension"]) > 1.5 * high
    with pytest.raises(ValueError, match="private: got 'poisson', but X holds no counts"):
        dimension_of_recording(X + 0.5, private="poisson")


def test_of_units_that_leave_nothing_between_bins_the_number_is_one_of_counts():
    """Each third spike of a train: neighbouring bins shun each other, and no way is left to know the noise."""
    rates, _ = planted(1, draw=False)
    total = np.cumsum(np.random.default_rng(0).poisson(3.0 * rates), axis=0)
    table = dimension_of_recording(np.diff(total // 3, axis=0))
    assert table.attrs["private"] == "kept"
    assert "larger bins may show more" in " ".join(repr(table).split())


# --- what must not matter -------------------------------------------------------------------------------------------


def test_other_kinds_of_the_same_recording(values, found, monkeypatch):
    X = values[0]
    labelled = xr.DataArray(X, dims=("time", "unit"))
    monkeypatch.setattr(reading, "PIECE_BYTES", 2**15)  # many pieces, and bins of the past from other ones
    for other in (X[None], labelled, labelled.chunk(time=170), X.tolist()):
        np.testing.assert_allclose(numbers(dimension_of_recording(other)), numbers(found), rtol=1e-3)


def test_order_and_scale_of_units_and_units_that_tell_nothing(values, found):
    X = values[0]
    order = np.random.default_rng(1).permutation(30)
    more = np.concatenate([X[:, order], np.full((len(X), 1), 7.0), X[:, :1]], axis=1)
    table = dimension_of_recording(5.0 * more + 100.0)
    np.testing.assert_allclose(numbers(table), numbers(found), rtol=1e-3)
    text = " ".join(repr(table).split())
    assert "Left out, as they never change: 30." in text
    assert "31 (a copy of " in text
    scaled = dimension_of_recording(X * np.linspace(0.1, 10.0, 30))
    assert float(scaled["z_scored_dimension"]) == pytest.approx(float(found["z_scored_dimension"]), rel=1e-3)
    assert float(scaled["dimension"]) < 0.95 * float(found["dimension"])


def test_order_of_trials_copies_of_trials_and_seeds(values):
    trials = values[0].reshape(30, 50, 30)
    table = dimension_of_recording(trials)
    turned = dimension_of_recording(trials[::-1], random_state=1)
    np.testing.assert_allclose(numbers(turned)[:, 0], numbers(table)[:, 0], rtol=1e-3)
    np.testing.assert_allclose(numbers(turned), numbers(table), rtol=0.3)  # other draws: other digits
    twice = dimension_of_recording(np.concatenate([trials, trials]))
    assert "30 trials are copies of others and do not count" in " ".join(repr(twice).split())
    np.testing.assert_allclose(numbers(twice)[:, 0], numbers(table)[:, 0], rtol=1e-3)


def test_what_is_not_observed_is_left_out(values, found):
    X = values[0].copy()
    X[300:400] = np.nan
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    table = dimension_of_recording(X)
    assert float(table["dimension"]) == pytest.approx(float(found["dimension"]), rel=0.15)
    assert float(table["half_time"]) == pytest.approx(float(found["half_time"]), rel=0.15)
    flagged = xr.DataArray(np.where(np.isnan(X), 1e6, X), dims=("time", "unit"))
    flagged = flagged.assign_coords(observed=(("time", "unit"), ~np.isnan(X)))
    np.testing.assert_allclose(numbers(dimension_of_recording(flagged)), numbers(table), rtol=1e-9)


def test_of_very_many_units_some_are_drawn(values, found, monkeypatch):
    monkeypatch.setattr(estimate, "MOST_UNITS", 20)
    table = dimension_of_recording(values[0])
    assert "Covariances are those of 20 units" in " ".join(repr(table).split())
    assert float(table["dimension"]) == pytest.approx(float(found["dimension"]), rel=0.2)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (lambda X: X[:60], "X: holds about .* independent samples, .*wanted 10 or more"),
        (lambda X: X[:1], "X: "),
        (lambda X: X[:, :1], "X: 1 of 1 units change"),
        (lambda X: np.ones_like(X), "X: 0 of 30 units change"),
        (lambda X: np.where(X > X.max() - 1e-9, 1e200, X), "X: got values that are infinite or whose squares are"),
        (lambda X: np.repeat(X[:1], 500, axis=0)[None], "X: 0 of 30 units change"),
    ],
)
def test_what_has_no_dimension_is_refused_in_a_sentence(values, damaged, said):
    with pytest.raises(ValueError, match=said):
        dimension_of_recording(damaged(values[0]))


# --- files and the command ------------------------------------------------------------------------------------------


def test_it_is_saved_by_xarray_written_into_nwb_and_drawn(found, tmp_path):
    found.to_netcdf(tmp_path / "a.nc")
    assert xr.load_dataset(tmp_path / "a.nc")["dimension"] == found["dimension"]
    assert isinstance(found, RecordedDimension)
    assert "Dimensions" in repr(found[["dimension"]])  # a part of it is shown as xarray does
    path = write_results(tmp_path / "a.nwb", dimension=found)
    results = read_results(path)
    kept = results["dimension"].to_dataset()
    assert kept["value"].sel(quantity="dimension") == found["dimension"]
    assert kept.attrs["text"] == found.text
    np.testing.assert_array_equal(results["dimension_lags/autocorrelation"], found["autocorrelation"])
    assert results["provenance"].attrs["software"].startswith("nwb_lrrnn")
    with pytest.raises(ValueError, match="holds no model, but the dimension of a recording"):
        load_model(path)
    with pytest.raises(TypeError, match="dimension: got Dataset, wanted what dimension_of_recording returns"):
        write_results(tmp_path / "b.nwb", dimension=xr.Dataset())
    page = plot_dimension(found)
    assert [axes.get_title() for axes in page] == ["Spectrum", "Time-scales"]
    save(page, tmp_path / "a.png")
    with pytest.raises(ValueError, match="table: got Dataset, wanted what dimension_of_recording returns"):
        plot_dimension(xr.Dataset())


def test_the_command(tmp_path, capsys):
    folder = fill(tmp_path)
    assert run("dimension", folder / "channels.nwb", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["shared"], shown["effective_rank"]["value"]) == (0, None)  # channels of independent noise
    assert shown["dimension"]["value"] > 1.5
    options = ["-o", tmp_path / "out.nwb", "--picture", tmp_path / "out.png"]
    assert run("dimension", folder / "spikes.nwb", "--bin-size", "0.02", *options) == 0
    out = capsys.readouterr().out
    assert "Data: 8 trials of 30 bins of 0.02 s, 5 units of spikes.nwb" in out
    assert f"Result: {tmp_path / 'out.nwb'}" in out
    assert (tmp_path / "out.png").stat().st_size > 1000
    assert read_results(tmp_path / "out.nwb")["source"].attrs["uri"].endswith("spikes.nwb")
    said = sentence(capsys, "dimension", folder / "spikes.nwb", "--private", "none")
    assert "private: got 'none', wanted one of 'auto', 'poisson', 'kept'" in said
