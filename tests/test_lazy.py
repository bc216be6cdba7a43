"""Recordings backed by dask: never loaded whole, the same numbers, each block computed as often as it must be."""

import logging
import tracemalloc

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn import DisRNN, LinearStateSpace, LowRankRNN, SMCLowRankRNN
from nwb_lrrnn.models.linear import FactorAnalysis, MeanRate, UnitAutoregression, VectorAutoregression
from nwb_lrrnn.trials import as_lazy_trials, as_trials, blocks
from small_lazy import Counted, hold

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODELS = [
    LinearStateSpace(rank=2, max_iter=5, tol=1e-3),
    FactorAnalysis(rank=2, max_iter=5, tol=1e-3),
    DisRNN(rank=2, n_bootstraps=2, random_state=0),
    LowRankRNN(rank=2, n_neurons=10, max_epochs=2, random_state=0),
    SMCLowRankRNN(rank=2, n_neurons=10, n_particles=8, n_trajectories=8, max_epochs=1, random_state=0),
]
BASELINES = [MeanRate(), UnitAutoregression(), VectorAutoregression()]


@pytest.fixture(scope="module")
def recording() -> xr.DataArray:
    rng = np.random.default_rng(0)
    wave = np.sin(0.3 * np.arange(30) + rng.uniform(0, 6, (12, 1)))
    values = wave[..., None] * [1.0, -1.0, 0.5, 0.2] + 0.1 * rng.normal(size=(12, 30, 4)) + [0.0, 5.0, -3.0, 0.0]
    return xr.DataArray(
        values,
        dims=("trial", "time", "unit"),
        coords={
            "trial": np.arange(12) + 100,
            "time": (np.arange(30) + 0.5) * 0.02,
            "unit": ["a", "b", "c", "d"],
            "align_time": ("trial", np.arange(12.0)),
        },
        attrs={"bin_size": 0.02},
    )


@pytest.fixture
def little_memory(monkeypatch, recording):
    """Let memory hold a quarter of the recording, and blocks be two trials."""
    trial = recording[0].size * 8
    monkeypatch.setattr(blocks, "KEPT_BYTES", 3 * trial)
    monkeypatch.setattr(blocks, "SAMPLE", 1)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2 * trial)


# --- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_fits_transforms_and_scores_like_an_array_in_memory(model, recording):
    lazy = recording.chunk(trial=5, time=11, unit=3)
    fitted = model.fit(recording)
    latents, score, per_trial = fitted.transform(recording), fitted.score(recording), fitted.score_trials(recording)
    model.fit(lazy)  # held in memory once read: smaller than what is kept
    got = model.transform(lazy)
    assert got.chunks is not None
    xr.testing.assert_allclose(got.compute(), latents, rtol=0, atol=1e-9)
    assert list(got.coords) == list(latents.coords)
    assert got.attrs == latents.attrs
    assert model.score(lazy) == pytest.approx(score, abs=1e-9)
    xr.testing.assert_allclose(model.score_trials(lazy), per_trial, rtol=0, atol=1e-9)
    back = model.inverse_transform(got)
    assert back.chunks is not None
    xr.testing.assert_allclose(back.compute(), model.inverse_transform(latents), rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", MODELS + BASELINES, ids=lambda m: type(m).__name__)
def test_scores_the_same_where_memory_is_short(model, recording, little_memory):
    model.fit(recording)
    expected = model.score_trials(recording)
    got = model.score_trials(recording.chunk(trial=5, unit=3))
    xr.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


def test_groups_are_found_in_a_sample_where_memory_is_short(recording, little_memory):
    lazy = DisRNN(rank=2, n_bootstraps=2, random_state=0).fit(recording.chunk(trial=5))
    sampled = DisRNN(rank=2, n_bootstraps=2, random_state=0).fit(recording[[0, 6, 11]])
    np.testing.assert_array_equal(lazy.loadings_, sampled.loadings_)
    xr.testing.assert_identical(lazy.connectivity(), sampled.connectivity())
    got = lazy.transform(recording.chunk(trial=5))
    xr.testing.assert_allclose(got.compute(), sampled.transform(recording), rtol=0, atol=1e-9)


def test_masks_and_inputs_go_with_their_trials(recording):
    rng = np.random.default_rng(1)
    X = recording.assign_coords(observed=(("trial", "time"), rng.uniform(size=(12, 30)) > 0.1))
    inputs = xr.DataArray(rng.normal(size=(12, 30, 1)), dims=("trial", "time", "input"), coords={"input": ["light"]})
    model = LinearStateSpace(rank=2, max_iter=5, tol=1e-3).fit(X, inputs=inputs)
    latents, per_trial = model.transform(X, inputs=inputs), model.score_trials(X, inputs=inputs)
    for lazy_inputs in (inputs, inputs.chunk(trial=4)):
        for lazy in (X.chunk(trial=5), X.assign_coords(observed=X.observed.chunk(trial=2)).chunk(trial=5)):
            again = LinearStateSpace(rank=2, max_iter=5, tol=1e-3).fit(lazy, inputs=lazy_inputs)
            xr.testing.assert_allclose(again.transform(lazy, inputs=lazy_inputs).compute(), latents, atol=1e-9)
            xr.testing.assert_allclose(again.score_trials(lazy, inputs=lazy_inputs), per_trial, atol=1e-9)


def test_every_kind_stays_lazy(recording):
    model = LinearStateSpace(rank=2, max_iter=3, tol=1e-2).fit(recording.values)
    array = da.from_array(recording.values, chunks=(5, 30, 4))
    trials = [array[k, : 20 + k] for k in range(4)]
    expected = model.transform(recording.values)
    assert isinstance(model.transform(array), da.Array)
    np.testing.assert_allclose(model.transform(array).compute(), expected, atol=1e-9)
    np.testing.assert_allclose(model.transform(array[3]).compute(), expected[3], atol=1e-9)
    ragged = model.transform(trials)
    assert [type(z) for z in ragged] == [da.Array] * 4
    wanted = model.transform([np.asarray(trial) for trial in trials])
    for got, want in zip(ragged, wanted, strict=True):
        np.testing.assert_allclose(got.compute(), want, atol=1e-9)
    assert model.score(trials) == pytest.approx(model.score([np.asarray(trial) for trial in trials]))


@pytest.mark.parametrize("rows", [1, 3, 12])
def test_one_pass_tells_what_all_values_tell(recording, rows, little_memory):
    lazy, whole = as_lazy_trials(recording.chunk(trial=rows)).summary, as_trials(recording).summary
    np.testing.assert_allclose(lazy.mean, whole.mean)
    np.testing.assert_allclose(lazy.variance, whole.variance)
    np.testing.assert_array_equal(lazy.n_bins, whole.n_bins)
    assert lazy.are_counts is whole.are_counts is False
    counts = xr.DataArray(np.random.default_rng(0).poisson(0.05, (12, 30, 4)), dims=recording.dims)
    counts[3:7] = 0
    assert as_lazy_trials(counts.chunk(trial=rows)).summary.are_counts
    assert not as_lazy_trials((0 * counts).chunk(trial=rows)).summary.are_counts


def test_takes_trials_in_any_order(recording, little_memory):
    trials = as_lazy_trials(recording.chunk(trial=5))
    order = [7, 0, 11, 3]
    np.testing.assert_array_equal(trials.take(order).values, recording.values[order])
    np.testing.assert_array_equal(trials.select([2, 4, 9]).take([2, 0]).values, recording.values[[9, 2]])
    np.testing.assert_array_equal(trials.sample().values, recording.values[[0, 6, 11]])
    rows = np.concatenate([rows for rows, _ in trials.blocks(np.random.default_rng(0))])
    assert sorted(rows) == list(range(12))
    assert list(rows) != list(range(12))


# --- computed once, or as often as it must be ------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS + BASELINES, ids=lambda m: type(m).__name__)
def test_what_memory_holds_is_computed_once_a_fit(model, recording):
    counted = Counted(recording.values, 5)
    model.fit(counted.array)
    np.testing.assert_array_equal(counted.counts, 1)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_transform_computes_nothing_and_then_each_block_once(model, recording):
    model.fit(recording.values)
    counted = Counted(recording.values, 5)
    latents = model.transform(counted.array)
    np.testing.assert_array_equal(counted.counts, 0)
    latents.compute()
    np.testing.assert_array_equal(counted.counts, 1)
    model.score(counted.array)
    np.testing.assert_array_equal(counted.counts, 2)


@pytest.mark.parametrize("rows", [2, 5, 12])
def test_scaling_takes_one_pass(recording, rows, little_memory):
    counted = Counted(recording.values, rows)
    trials = as_lazy_trials(counted.array)
    assert trials.summary.n_bins.sum() == 12 * 30
    assert trials.summary.are_counts is False
    np.testing.assert_array_equal(counted.counts, 6 if rows == 12 else 1)  # blocks hold 2 trials: 12 are too many


def test_the_first_blocks_are_kept_as_far_as_memory_goes(recording, little_memory):
    counted = Counted(recording.values, 1)
    trials = as_lazy_trials(counted.array)
    for _ in range(3):
        list(trials.blocks())
    np.testing.assert_array_equal(counted.counts, [1, 1, *[3] * 10])  # groups of 2 trials, 3 trials are kept


# --- memory ----------------------------------------------------------------------------------------------------------


def _large(n_trials: int = 400) -> da.Array:
    """Return a recording of which every block is drawn anew, 256 bins x 32 units."""

    def draw(block_info=None):
        if block_info is None:
            return np.zeros((0, 0, 0))
        where = block_info[None]
        rng = np.random.default_rng(where["chunk-location"][0])
        shape = tuple(b - a for a, b in where["array-location"])
        wave = np.sin(0.1 * np.arange(shape[1]) + rng.uniform(0, 6, (shape[0], 1)))
        return wave[..., None] * np.linspace(-1, 1, shape[2]) + 0.3 * rng.standard_normal(shape)

    chunks = ((8,) * (n_trials // 8), (256,), (32,))
    return da.map_blocks(draw, dtype=float, chunks=chunks, meta=np.zeros((0, 0, 0)))


@pytest.fixture
def megabytes(monkeypatch):
    """Let memory hold 2 MiB, blocks be 0.5 MiB."""
    monkeypatch.setattr(blocks, "KEPT_BYTES", 2 * 2**20)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**19)


def _peak(work) -> float:
    """Return the most memory, MiB, that arrays of numpy took during work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_one_pass_holds_few_blocks(megabytes):
    trials = as_lazy_trials(_large())  # 25 MiB
    assert _peak(lambda: trials.summary) < 2 + 6 * 0.5


def test_scores_and_latents_hold_few_blocks(megabytes):
    X = _large()
    model = LinearStateSpace(rank=2, max_iter=3, tol=1e-2).fit(X[:8].compute())
    assert _peak(lambda: model.score(X)) < 2 + 16 * 0.5  # the smoother's own arrays are a few blocks
    assert _peak(lambda: model.transform(X).sum().compute()) < 2 + 24 * 0.5  # two threads


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["fit", "transform", "score"])
def test_a_bad_value_is_named_by_its_place_in_the_whole(recording, verb, little_memory):
    bad = recording.copy(deep=True)
    bad[7, 3, 1] = np.inf
    model = LinearStateSpace(rank=2, max_iter=3, tol=1e-2).fit(recording)
    with pytest.raises(ValueError, match=r"X: infinity \(inf\) at trial 107, time 0.07, unit b"):
        np.asarray(getattr(model, verb)(bad.chunk(trial=3)))


def test_a_bad_value_that_no_sample_sees_is_found(recording, monkeypatch):
    hold(monkeypatch, recording.values, 1)
    bad = recording.values.copy()
    bad[5, 3, 1] = np.inf
    with pytest.raises(ValueError, match="trial 5, time 3, unit 1"):
        LinearStateSpace(rank=2, likelihood="gaussian").fit(da.from_array(bad, chunks=(3, 30, 4)))


def test_a_bad_value_of_an_array_is_named_by_its_number(recording, little_memory):
    values = recording.values.copy()
    values[7, 3, 1] = np.inf
    with pytest.raises(ValueError, match="trial 7, time 3, unit 1"):
        MeanRate().fit(da.from_array(values, chunks=(3, 30, 4)))
    with pytest.raises(ValueError, match="trial 7, time 3, unit 1"):
        MeanRate().fit([da.from_array(trial, chunks=(30, 4)) for trial in values])


def test_the_form_is_refused_before_anything_is_computed(recording):
    model = LinearStateSpace(rank=2, max_iter=3, tol=1e-2).fit(recording)
    counted = Counted(recording.values, 5)
    lazy = recording.copy(data=counted.array)
    with pytest.raises(ValueError, match=r"call X.transpose\('trial', 'time', 'unit'\)"):
        model.transform(lazy.transpose("time", "trial", "unit"))
    with pytest.raises(ValueError, match="call X.sel"):
        model.transform(lazy[..., ::-1])
    with pytest.raises(ValueError, match="got bins of 0.01 s, wanted 0.02 s"):
        model.transform(lazy.assign_coords(time=np.arange(30) * 0.01).assign_attrs(bin_size=0.01))
    with pytest.raises(ValueError, match="wanted shape|wanted \\(time|array of shape"):
        model.fit(da.zeros((2, 3, 4, 5)))
    with pytest.raises(ValueError, match="inputs: got 3 trials, wanted 12"):
        model.fit(lazy, inputs=np.zeros((3, 30, 1)))
    np.testing.assert_array_equal(counted.counts, 0)


def test_counts_are_checked_when_they_are_computed(recording):
    counts = xr.DataArray(np.random.default_rng(0).poisson(1.0, (12, 30, 4)), dims=recording.dims)
    model = LinearStateSpace(rank=1, max_iter=2, tol=1e-2).fit(counts.chunk(trial=4))
    assert model.likelihood_ == "poisson"
    latents = model.transform((counts + 0.5).chunk(trial=4))
    with pytest.raises(ValueError, match="fractional value"):
        latents.compute()
    with pytest.raises(ValueError, match="fractional value"):
        LinearStateSpace(rank=1, likelihood="poisson").fit((counts + 0.5).chunk(trial=4))


def test_says_that_a_large_recording_is_read_block_by_block(recording, little_memory, caplog):
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        MeanRate().fit(recording.chunk(trial=5))
    assert "read block by block" in caplog.text


def test_inputs_by_other_names_or_in_another_order_are_refused(recording):
    rng = np.random.default_rng(1)
    inputs = xr.DataArray(
        rng.normal(size=(12, 30, 2)), dims=("trial", "time", "input"), coords={"input": ["light", "sound"]}
    )
    model = LinearStateSpace(rank=2, max_iter=3, tol=1e-2).fit(recording, inputs=inputs)
    with pytest.raises(ValueError, match="inputs: got sound, light, wanted light, sound in this order"):
        model.score(recording, inputs=inputs[..., ::-1])
    again = LinearStateSpace.from_dataset(model.to_dataset())
    with pytest.raises(ValueError, match="wanted light, sound in this order"):
        again.transform(recording, inputs=inputs[..., ::-1])
    assert np.isfinite(again.score(recording, inputs=inputs.values))  # arrays have no names to compare


def test_nothing_observed_is_refused_like_in_memory(recording):
    model = LinearStateSpace(rank=2, max_iter=3, tol=1e-2).fit(recording)
    with pytest.raises(ValueError, match="no bin is observed"):
        model.score(recording.assign_coords(observed=("trial", np.zeros(12, dtype=bool))).chunk(trial=4))


def test_what_dask_cannot_say_is_asked_for(recording):
    model = LinearStateSpace(rank=2)
    array = da.from_array(recording.values[0], chunks=(5, 4))
    with pytest.raises(ValueError, match=r"X: got chunks of unknown size .* call X.compute_chunk_sizes\(\)"):
        model.fit(array[array[:, 0] > 0])
    with pytest.raises(TypeError, match=r"X: got values of type object, wanted real numbers; call X.astype\(float\)"):
        model.fit(recording.astype(object).chunk(trial=4))
    with pytest.raises(ValueError, match=r"X: trial 1 has 3 dims, wanted \(time, unit\) like the first"):
        model.fit([recording[0].chunk(), recording[:2].chunk()])
