"""Frames of pandas and series of pynapple carry their times: bins have a size, and results go back at those times."""

import numpy as np
import pandas as pd
import pytest

from nwb_lrrnn import LinearStateSpace, Resample, SelectUnits, Smooth, SquareRoot, compare_baselines, write_results
from nwb_lrrnn.results import read_results
from nwb_lrrnn.trials import as_trials

nap = pytest.importorskip("pynapple")
BIN, RATE = 0.05, 8.0


@pytest.fixture(scope="module")
def counts():
    """Return the counts that pynapple makes of trains, units 3, 5 and 9."""
    rng = np.random.default_rng(0)
    trains = {k: nap.Ts(np.sort(rng.uniform(0, 60, rng.poisson(RATE * 60)))) for k in (3, 5, 9)}
    return nap.TsGroup(trains, time_support=nap.IntervalSet(0, 60)).count(BIN)


def model(**parameters):
    return LinearStateSpace(**{"rank": 1, "max_iter": 3, "tol": 1e9, "random_state": 0} | parameters)


@pytest.mark.parametrize("kind", ["TsdFrame", "DataFrame"])
def test_bins_have_the_size_that_the_times_say(counts, kind):
    X = counts if kind == "TsdFrame" else counts.as_dataframe()
    fitted = model().fit(X)
    assert fitted.bin_size_ == pytest.approx(BIN)
    assert fitted.bin_size_is_known_
    np.testing.assert_array_equal(fitted.unit_ids_, [3, 5, 9])
    latents = fitted.transform(X)
    rates = fitted.rates(latents)
    assert type(latents) is type(rates) is type(X)
    assert np.asarray(rates).mean() == pytest.approx(RATE, rel=0.1)
    for back in (latents, rates):
        times = back.t if kind == "TsdFrame" else back.index
        np.testing.assert_array_equal(times, counts.t)
    assert list(latents.columns) == ["latent0"]
    assert list(rates.columns) == [3, 5, 9]
    np.testing.assert_array_equal(np.asarray(latents), fitted.transform(np.asarray(counts.d)))
    assert fitted.score(X) == pytest.approx(fitted.score(np.asarray(counts.d)))


def test_a_series_is_one_unit_and_epochs_are_trials(counts):
    one = counts[:, 0]
    assert type(one) is nap.Tsd
    trials = as_trials(one)
    assert trials.values.shape == (1, 1200, 1)
    assert trials.bin_size == pytest.approx(BIN)
    assert type(trials.restore(np.ones((1, 1200, 2)))) is nap.TsdFrame
    epochs = nap.IntervalSet([0, 20, 40], [10, 31, 50])
    apart = counts.restrict(epochs)
    with pytest.raises(ValueError, match=r"X: got a TsdFrame of 3 epochs.*pass a list of trials: \[X.restrict"):
        as_trials(apart)
    X = apart
    parts = [X.restrict(X.time_support[[k]]) for k in range(len(X.time_support))]  # as the message says
    fitted = model().fit(parts)
    assert fitted.bin_size_ == pytest.approx(BIN)
    latents = fitted.transform(parts)
    assert [type(trial) for trial in latents] == [nap.TsdFrame] * 3
    assert [len(trial) for trial in latents] == [len(part) for part in parts]
    with pytest.raises(TypeError, match="X: got a TsdTensor of pynapple, wanted a Tsd or a TsdFrame"):
        as_trials(nap.TsdTensor(t=np.arange(4.0), d=np.ones((4, 2, 2))))


@pytest.mark.parametrize(
    ("step", "n_units"),
    [(Smooth(sd=0.1), 3), (SquareRoot(), 3), (Resample(rate=10.0), 3), (SelectUnits(min_rate=1.0), 3)],
)
def test_steps_keep_the_kind_and_know_the_bins(counts, step, n_units):
    back = step.fit(counts).transform(counts)
    assert step.bin_size_ == pytest.approx(BIN)
    assert type(back) is nap.TsdFrame
    assert list(back.columns) == [3, 5, 9]
    frame = step.fit(counts.as_dataframe()).transform(counts.as_dataframe())
    assert step.bin_size_ == pytest.approx(BIN)
    np.testing.assert_allclose(np.asarray(back.d), frame.to_numpy())
    np.testing.assert_allclose(back.t, frame.index)


def test_latents_are_stored_and_compared_with_their_times(counts, tmp_path):
    fitted = model().fit(counts)
    write_results(tmp_path / "fit.nwb", fitted, latents=fitted.transform(counts))
    stored = read_results(tmp_path / "fit.nwb")["trials"]["latents"]
    np.testing.assert_allclose(np.asarray(stored["time"]) + float(stored.coords.get("align_time", 0.0)), counts.t)
    table = compare_baselines(model(), counts, cv=2, larger_ranks=())
    assert table.attrs["bin_size"] == pytest.approx(BIN)


def test_an_index_that_counts_rows_is_no_time():
    frame = pd.DataFrame(np.ones((6, 2)), columns=["a", "b"])
    for same in (frame, frame.iloc[2:], frame.set_index(np.arange(6) * 2), frame.set_axis(list("uvwxyz"))):
        trials = as_trials(same)
        assert (trials.bin_size, trials.bin_size_is_known) == (1.0, False)
    assert as_trials(frame, bin_size=0.02).bin_size == 0.02


@pytest.mark.parametrize(
    "index",
    [
        pd.to_timedelta(np.arange(6) * 20, unit="ms"),
        pd.date_range("2025-01-01", periods=6, freq="20ms"),
        3.1 + 0.02 * np.arange(6),
        np.float32(0.02) * np.arange(6, dtype=np.float32),
    ],
)
def test_an_index_of_times_says_the_bins(index):
    trials = as_trials(pd.DataFrame(np.ones((6, 2)), index=index))
    assert trials.bin_size_is_known
    assert trials.bin_size == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("order", "index", "message"),
    [
        (
            [0, 2, 1, 3],
            0.1 * np.arange(4),
            r"X: the index does not increase: 0.2 is followed by 0.1; call X.sort_index",
        ),
        ([2, 0, 1, 3], np.arange(4), r"X: the numbers of its rows do not increase.*X.reset_index\(drop=True\)"),
        ([0, 1, 2, 3], [0, 1, 0, 1], "trials one below the other are passed as a list of frames"),
        ([0, 1, 2, 3], [0.0, 0.1, 0.2, 0.5], "X: the index is uneven: step 2 from 0.2 to 0.5 s"),
        ([0, 1, 2, 3], [0.0, 0.1, np.nan, 0.3], "X: the index is not finite at bin 2"),
    ],
)
def test_a_shuffled_or_uneven_index_is_refused(order, index, message):
    frame = pd.DataFrame(np.ones((4, 2)), index=np.asarray(index)).iloc[order]
    with pytest.raises(ValueError, match=message):
        as_trials(frame)
    with pytest.raises(ValueError, match=message):
        SquareRoot().fit(frame)


def test_bins_that_contradict_the_index_are_refused():
    frame = pd.DataFrame(np.ones((4, 2)), index=0.1 * np.arange(4))
    with pytest.raises(ValueError, match=r"bin_size: got 0.2 s, but the index steps by 0.1 s; correct bin_size= or"):
        as_trials(frame, bin_size=0.2)
    with pytest.raises(ValueError, match=r"X\[1\]: got bins of 0.2 s, wanted 0.1 s like X\[0\]"):
        as_trials([frame, frame.set_index(0.2 * np.arange(4))])
