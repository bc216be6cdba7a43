"""Recording.series: populations at their own rate and in bins, inputs at the bins of a population, times gone wrong."""

import logging
import pickle

import h5py
import numpy as np
import pytest
from xarray.indexes import RangeIndex

from nwb_lrrnn.io.clock import InvalidTimestampsError
from nwb_lrrnn.io.nwb import open_nwb
from small_nwb import add_region, add_series, add_table, add_trials, add_units, new_nwb


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a file through `build(file)` and opens it."""

    def make(build):
        with new_nwb(tmp_path / "a.nwb") as file:
            build(file)
        return open_nwb(tmp_path / "a.nwb")

    return make


def ramp(n_samples, n_columns=2):
    """Return samples that count up, and ten times that in the next column."""
    return np.arange(float(n_samples))[:, None] * 10.0 ** np.arange(n_columns)


def test_own_rate(make):
    X = make(lambda file: add_series(file, "acquisition/x", ramp(10), rate=4.0, start=2.0)).series()
    assert X.dims == ("time", "unit")
    assert X.name == "x"
    assert X.time.values.tolist() == (2 + np.arange(10) / 4).tolist()
    assert isinstance(X.xindexes["time"], RangeIndex)
    assert X.attrs["bin_size"] == 0.25
    assert X.attrs["units"] == "V"
    assert str(X.unit_kind.values) == "channel"
    assert X.values.tolist() == ramp(10).tolist()
    assert X.chunks is not None


@pytest.mark.parametrize(
    ("stored", "working"),
    [("f2", "f4"), ("i2", "f4"), (">i2", "f4"), ("?", "f4"), ("f4", "f4"), ("i4", "f8"), (">f8", "f8")],
)
def test_conversion_and_offset_of_every_dtype(make, stored, working):
    data = np.array([[0, 1], [1, 0], [1, 1]]).astype(stored)
    recording = make(lambda file: add_series(file, "acquisition/x", data, rate=1.0, conversion=0.5, offset=2.0))
    X = recording.series()
    assert X.dtype == np.dtype(working)
    assert X.values.tolist() == [[2.0, 2.5], [2.5, 2.0], [2.5, 2.5]]


def test_channel_conversion_and_electrodes(make):
    def build(file):
        table = add_table(
            file, "general/extracellular_ephys/electrodes", "DynamicTable", [5, 6, 7], location=["a", "b", "c"]
        )
        group = add_series(file, "acquisition/LFP/lfp", np.ones((6, 2)), "ElectricalSeries", rate=2.0, conversion=0.1)
        group["channel_conversion"] = [2.0, 3.0]
        add_region(group, "electrodes", [2, 0], table)

    X = make(build).series("lfp")
    np.testing.assert_allclose(X[0], [0.2, 0.3])
    assert X.unit.values.tolist() == [7, 5]
    assert X.location.values.tolist() == ["c", "a"]
    assert make(build).series("lfp", units="location == 'a'").values[0].tolist() == pytest.approx([0.3])


def test_roi_metadata(make):
    def build(file):
        table = add_table(
            file,
            "processing/ophys/ImageSegmentation/PlaneSegmentation",
            "PlaneSegmentation",
            [3, 4],
            iscell=np.array([[1.0, 0.9], [0.0, 0.2]]),
            image_mask=np.zeros((2, 4, 4)),
        )
        table.create_group("imaging_plane")["location"] = "V1"
        table["imaging_plane/indicator"] = "GCaMP6f"
        group = add_series(file, "processing/ophys/DfOverF/dff", ramp(8), "RoiResponseSeries", rate=10.0)
        add_region(group, "rois", [0, 1], table)

    X = make(build).series()
    assert str(X.unit_kind.values) == "roi"
    assert X.unit.values.tolist() == [3, 4]
    assert X.iscell_0.values.tolist() == [1.0, 0.0]
    assert X.plane_location.values.tolist() == ["V1", "V1"]
    assert X.plane_indicator.values.tolist() == ["GCaMP6f"] * 2
    assert "image_mask" not in X.coords


def test_one_column(make):
    recording = make(lambda file: add_series(file, "acquisition/x", np.arange(4.0), "RoiResponseSeries", rate=1.0))
    assert recording.series("x").shape == (4, 1)


def test_transposed_data_are_turned(make):
    def by_region(file):
        table = add_table(file, "processing/ophys/plane", "PlaneSegmentation", [0, 1], depth=[1.0, 2.0])
        group = add_series(file, "processing/ophys/DfOverF/dff", ramp(8).T, "RoiResponseSeries", rate=10.0)
        add_region(group, "rois", [0, 1], table)

    def by_timestamps(file):
        add_series(file, "acquisition/x", ramp(8).T, timestamps=np.arange(8) / 10)

    for build in (by_region, by_timestamps):
        recording = make(build)
        X = recording.series()
        assert X.values.tolist() == ramp(8).tolist()
        assert X[2:4].values.tolist() == ramp(8)[2:4].tolist()
        assert any("the data are stored (unit, time)" in text for text in recording.problems)


def test_data_that_fit_neither_way(make):
    def build(file, shape):
        table = add_table(file, "processing/ophys/plane", "PlaneSegmentation", [0, 1, 2], depth=[1.0, 2.0, 3.0])
        group = add_series(file, "processing/ophys/DfOverF/dff", np.ones(shape), "RoiResponseSeries", rate=10.0)
        add_region(group, "rois", [0, 1, 2], table)

    with pytest.raises(ValueError, match=r"shape \(4, 9\) fit neither \(time, 3\) nor \(3, time\)"):
        make(lambda file: build(file, (4, 9))).series("dff")
    recording = make(lambda file: build(file, (9, 4)))
    with pytest.warns(UserWarning, match="3 rois for 4 columns of data, so that the columns carry no metadata"):
        assert recording.series().shape == (9, 4)


def test_ambiguous_population_is_asked_for(make):
    def build(file):
        for name in ("dff", "neuropil"):
            add_series(file, f"processing/ophys/DfOverF/{name}", ramp(8), "RoiResponseSeries", rate=10.0)

    text = r"holds 2 populations: /processing/ophys/DfOverF/dff, /processing/ophys/DfOverF/neuropil.*name='dff'"
    with pytest.raises(ValueError, match=text):
        make(build).series()
    assert make(build).series("neuropil").shape == (8, 2)


def test_no_population(make):
    with pytest.raises(ValueError, match="the file holds no series that is a population; recording.contents lists"):
        make(lambda file: add_units(file, [[0.1]])).series()
    with pytest.raises(ValueError, match="pixels are not fitted"):
        make(lambda file: add_series(file, "acquisition/x", np.ones((3, 3, 3)), "ImageSeries", rate=1.0)).series("x")


def test_means_in_bins(make):
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(10), rate=4.0, start=2.0))
    X = recording.series(bin_size=0.5)
    assert X.values.tolist() == ramp(10).reshape(5, 2, 2).mean(axis=1).tolist()
    np.testing.assert_allclose(X.time, 2.25 + 0.5 * np.arange(5))
    assert X.attrs["bin_size"] == 0.5
    assert "observed" not in X.coords
    part = recording.series(bin_size=0.5, window=(3.0, 4.0))
    assert part.values.tolist() == X.values[2:4].tolist()
    with pytest.raises(ValueError, match="the series runs from 2 s to 4.25 s and has no sample in the window"):
        recording.series(bin_size=0.5, window=(30.0, 40.0))


def trials_and_series(file):
    """Add a series from 0 to 4 s and trials of which the last reaches beyond."""
    add_series(file, "acquisition/x", ramp(40), rate=10.0)
    add_trials(file, [0.5, 2.0, 3.6], [1.0, 2.5, 4.6], ids=[1, 2, 3], cue=[0.72, 2.2, 3.8])


def test_trials_in_bins(make, caplog):
    recording = make(trials_and_series)
    with caplog.at_level(logging.WARNING):
        X = recording.series(bin_size=0.2, align="cue", window=(-0.2, 0.4))
    assert X.dims == ("trial", "time", "unit")
    assert X.trial.values.tolist() == [1, 2]
    assert X.attrs["dropped_trials"] == ["3: its window reaches beyond the series"]
    assert "dropped 1 of 3 trials" in caplog.text
    assert X.sel(trial=2, unit=0).values.tolist() == [20.5, 22.5, 24.5]
    assert X.sel(trial=1, unit=0).values.tolist() == [6.5, 8.5, 10.5]  # samples 0.6 .. lie in the bin from 0.52
    assert X.align_time.values.tolist() == [0.72, 2.2]


def test_trials_at_own_rate_take_one_sample_a_bin(make):
    X = make(trials_and_series).series(align="cue", window=(-0.2, 0.2), trials=[1, 2])
    assert X.attrs["bin_size"] == 0.1
    assert X.sel(trial=2, unit=0).values.tolist() == [20, 21, 22, 23]
    assert X.sel(trial=1, unit=0).values.tolist() == [6, 7, 8, 9]  # the window begins at 0.52, the next sample at 0.6
    with pytest.raises(ValueError, match=r"no trial is left: dropped 3 \(its window reaches beyond the series\)"):
        make(trials_and_series).series(align="cue", window=(-0.2, 0.4), trials=[3])


def test_unequal_trials_are_padded(make):
    def build(file):
        add_series(file, "acquisition/x", ramp(40) + 1, rate=10.0)
        add_trials(file, [0.0, 3.8], [0.4, 4.0])

    X = make(build).series(bin_size=0.1, intervals="trials")
    assert X[..., 0].values.tolist() == [[1, 2, 3, 4], [39, 40, 0, 0]]
    assert X.observed.values.tolist() == [[True] * 4, [True, True, False, False]]


def gapped(file):
    """Add a series at 10 Hz with 1 s missing after 1.9 s, and trials before, across and after the gap."""
    times = np.concatenate([np.arange(20) / 10, 2.9 + np.arange(20) / 10])
    add_series(file, "acquisition/x", ramp(40) + 1, timestamps=times)
    add_trials(file, [0.5, 1.5, 3.0], [1.0, 2.0, 3.5], ids=[1, 2, 3])


def test_gap_at_own_rate_is_a_boundary(make, caplog):
    with caplog.at_level(logging.WARNING):
        X = make(gapped).series()
    assert X.segment.values.tolist() == [0] * 20 + [1] * 20
    assert "bin_size" not in X.attrs
    assert X.time.values[19:21] == pytest.approx([1.9, 2.9])
    assert "has 1 gaps in its timestamps (the first at 2.9 s)" in caplog.text
    assert any("1 gaps in the timestamps" in text for text in make(gapped).problems)


def test_bins_in_a_gap_are_unobserved(make):
    X = make(gapped).series(bin_size=0.5)
    assert X.observed.values.tolist() == [True] * 4 + [False] + [True] * 4
    assert X[4].values.tolist() == [0.0, 0.0]
    assert not X.isnull().any()
    bridged = make(gapped).series(bin_size=0.5, max_gap=2.0)
    assert bridged[4, 0] == pytest.approx(20 + 0.35)  # at 2.25 s, on the line from 20 at 1.9 s to 21 at 2.9 s
    assert "observed" not in bridged.coords


@pytest.mark.parametrize("bin_size", [None, 0.1])
def test_trials_across_a_gap_are_dropped(make, bin_size):
    X = make(gapped).series(bin_size=bin_size, align="start_time", window=(0.0, 1.0))
    assert X.trial.values.tolist() == [1, 3]
    assert X.attrs["dropped_trials"] == ["2: its window crosses a gap in the timestamps"]
    assert X[..., 0].values.round(6).tolist() == [list(range(6, 16)), list(range(22, 32))]


def test_invalid_times_are_unobserved(make):
    def build(file):
        add_series(file, "acquisition/x", ramp(40), rate=10.0)
        add_trials(file, [1.0], [2.0], path="intervals/invalid_times")

    assert make(build).series(bin_size=1.0).observed.values.tolist() == [True, False, True, True]
    assert make(build).series().observed.values.sum() == 30


def test_regular_timestamps_become_a_rate(make):
    jitter = np.random.default_rng(0).uniform(-1e-7, 1e-7, 50)
    X = make(lambda file: add_series(file, "acquisition/x", ramp(50), timestamps=np.arange(50) / 100 + jitter)).series()
    assert isinstance(X.xindexes["time"], RangeIndex)
    assert X.attrs["bin_size"] == pytest.approx(0.01)


def test_uneven_timestamps_need_bins_for_trials(make):
    def build(file):
        times = np.sort(np.random.default_rng(0).uniform(0, 4, 100))
        add_series(file, "acquisition/x", ramp(100), timestamps=times)
        add_trials(file, [1.0], [2.0])

    recording = make(build)
    assert not isinstance(recording.series().xindexes["time"], RangeIndex)
    with pytest.raises(ValueError, match="are unevenly spaced .*pass bin_size= in s"):
        recording.series(align="start_time", window=(0.0, 0.5))
    assert recording.series(bin_size=0.25, align="start_time", window=(0.0, 0.5)).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("timestamps", "text"),
    [
        (np.zeros((2, 6)), r"got shape \(2, 6\) for 6 samples, wanted \(6,\)"),
        (np.arange(5.0), r"got shape \(5,\) for 6 samples"),
        ([0.0, 1.0, 0.5, 2.0, 3.0, 4.0], r"do not ascend at index 2 \(0.5 after 1\).*repair='sort'"),
        ([0.0, 1.0, 1.0, 2.0, 3.0, 4.0], r"the times repeat at index 2 \(1 after 1\)"),
        ([0.0, 1.0, np.nan, 2.0, 3.0, 4.0], r"do not ascend at index 2 \(nan after 1\)"),
        ([np.nan, 1.0, 1.5, 2.0, 3.0, 4.0], r"do not ascend at index 0 \(nan\)"),
    ],
)
def test_invalid_timestamps(make, timestamps, text):
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(6, 3), timestamps=timestamps))
    with pytest.raises(InvalidTimestampsError, match=text):
        recording.series("x")
    assert any("/acquisition/x/timestamps" in problem for problem in recording.problems)


def test_repair_sorts_samples_and_leaves_out_repeated_times(make):
    times = [0.3, 0.1, 0.2, 0.2, np.nan, 0.0]
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(6, 3), timestamps=times))
    X = recording.series(repair="sort")
    assert X.time.values.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert X[:, 0].values.tolist() == [5, 1, 2, 0]
    binned = recording.series(bin_size=0.2, repair="sort")
    assert binned[:, 0].values.tolist() == [3, 1]
    with pytest.raises(ValueError, match="repair: got 'drop', wanted None or 'sort'"):
        recording.series(repair="drop")


def test_starting_time_that_is_an_array(make):
    def build(file, start):
        group = add_series(file, "acquisition/x", ramp(6), rate=2.0)
        del group["starting_time"]
        group["starting_time"] = start
        group["starting_time"].attrs["rate"] = 2.0

    assert make(lambda file: build(file, [3.0])).series().time[0] == 3.0  # one number in an array: what MatNWB writes
    with pytest.raises(InvalidTimestampsError, match="got starting_time None and rate 2.0 without timestamps"):
        make(lambda file: build(file, [3.0, 4.0])).series("x")


def behaviour(file):
    """Add spikes over 4 s, a hand position at 20 Hz and one at 1 Hz, a heading, and trials."""
    add_units(file, [np.arange(400) / 100])
    add_series(file, "processing/behavior/Position/hand", ramp(80), "SpatialSeries", rate=20.0, units="m")
    add_series(file, "processing/behavior/BehavioralTimeSeries/slow", np.arange(5.0), rate=1.0)
    heading = np.tile([0.1, 2 * np.pi - 0.1], 40)
    add_series(
        file, "processing/behavior/CompassDirection/heading", heading, "SpatialSeries", rate=20.0, units="radians"
    )
    degrees = np.rad2deg(heading)
    add_series(file, "processing/behavior/CompassDirection/deg", degrees, "SpatialSeries", rate=20.0, units="degrees")
    add_trials(file, [1.0, 2.0], [2.0, 3.0], side=["left", "right"])


def test_inputs_at_the_bins_of_trials(make):
    recording = make(behaviour)
    X = recording.spikes(0.1, align="start_time", window=(0.0, 0.3))
    inputs = recording.series("hand", like=X)
    assert inputs.dims == ("trial", "time", "input")
    assert inputs.input.values.tolist() == ["hand_x", "hand_y"]
    assert inputs.sel(input="hand_x").values.tolist() == [[20.5, 22.5, 24.5], [40.5, 42.5, 44.5]]
    assert inputs.side.values.tolist() == ["left", "right"]
    for name in ("trial", "time", "align_time"):
        assert inputs[name].equals(X[name])
    assert inputs.attrs["units"] == "m"
    one = recording.series("hand", like=X, units=[1])
    assert one.input.values.tolist() == ["hand_y"]
    assert one.values.tolist() == inputs.values[..., 1:].tolist()


def test_inputs_at_the_bins_of_a_recording(make):
    recording = make(behaviour)
    X = recording.spikes(0.5, window=(1.0, 3.0))
    slow = recording.series("slow", like=X)
    assert slow.dims == ("time", "input")
    np.testing.assert_allclose(slow[:, 0], [1.0, 1.75, 2.0, 2.75])  # a sample in the bin, or the line to the next
    part = recording.series("slow", like=X[1:3])
    np.testing.assert_allclose(part, slow[1:3])


def test_bins_without_samples_are_nan_and_told(make, caplog):
    recording = make(behaviour)
    X = recording.spikes(0.5)
    with caplog.at_level(logging.WARNING):
        hand = recording.series("hand", like=X.assign_coords(time=X.time + 3.0))
    assert hand.isnull().any("input").values.tolist() == [False] * 2 + [True] * 5
    assert "has no samples in 5 of 7 bins of like=: they are NaN" in caplog.text


def test_inputs_are_zero_where_the_population_is_padding(make):
    def build(file):
        add_units(file, [np.arange(400) / 100])
        add_series(file, "stimulus/presentation/light", np.ones(20), rate=10.0)
        add_trials(file, [0.0, 1.8], [1.0, 2.0])

    recording = make(build)
    X = recording.spikes(0.1, intervals="trials")
    light = recording.series("light", like=X)
    assert light[0, :, 0].values.tolist() == [1.0] * 10
    assert light[1, :, 0].values.tolist() == [1.0] * 2 + [0.0] * 8


@pytest.mark.parametrize(("name", "period"), [("heading", 2 * np.pi), ("deg", 360.0)])
def test_angles_are_averaged_on_the_circle(make, name, period):
    recording = make(behaviour)
    X = recording.spikes(0.1, window=(0.0, 1.0))
    angle = recording.series(name, like=X).values
    distance = np.minimum(angle % period, period - angle % period)
    assert distance.max() < 1e-9 * period  # the arithmetic mean is half a turn away


def test_like_errors(make):
    recording = make(behaviour)
    X = recording.spikes(0.1)
    with pytest.raises(ValueError, match="name: wanted the series to read at the bins of like="):
        recording.series(like=X)
    with pytest.raises(ValueError, match="like: got bin_size, align too, but like= already says trials and bins"):
        recording.series("hand", bin_size=0.1, align="x", like=X)
    with pytest.raises(TypeError, match="like: got ndarray, wanted a DataArray"):
        recording.series("hand", like=X.values)
    lone = X.isel(time=[0]).drop_attrs()
    with pytest.raises(ValueError, match="like: X has one bin and no attrs"):
        recording.series("hand", like=lone)


def test_lazy_series_pickle_and_slices(make, monkeypatch):
    monkeypatch.setattr("nwb_lrrnn.io.lazy._CHUNK_BYTES", 16 * 10)
    monkeypatch.setattr("nwb_lrrnn.io.lazy._BLOCK_BYTES", 16 * 4)

    def build(file):
        group = add_series(file, "acquisition/x", 0.0, rate=10.0, conversion=2.0)
        del group["data"]
        group.create_dataset("data", data=ramp(95), chunks=(3, 2), compression="gzip")
        group["data"].attrs["unit"] = "V"
        add_trials(file, np.arange(8.0), np.arange(8.0) + 0.5)

    recording = make(build)
    X = recording.series()
    assert X.chunks[0][0] == 9  # whole HDF5 chunks
    assert pickle.loads(pickle.dumps(X)).equals(X)
    assert X[7:30:3, 1].values.tolist() == ramp(95)[7:30:3, 1].tolist()
    binned = recording.series(bin_size=0.3)
    assert len(binned.chunks[0]) > 3
    np.testing.assert_allclose(binned[:31, 0], ramp(93).reshape(31, 3, 2).mean(axis=1)[:, 0])
    trials = recording.series(bin_size=0.1, intervals="trials")
    np.testing.assert_allclose(trials[..., 0], np.arange(8)[:, None] * 10 + np.arange(5))
    assert pickle.loads(pickle.dumps(trials)).equals(trials)
    assert recording.series(bin_size=0.3).data.name == binned.data.name


def test_series_of_a_changed_file(make, tmp_path):
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(10), rate=4.0))
    X = recording.series()
    with h5py.File(tmp_path / "a.nwb", "a") as file:
        del file["acquisition/x/data"]
        file["acquisition/x/data"] = ramp(3)
    with pytest.raises(ValueError, match="/acquisition/x/data has another shape than when the file was opened"):
        X.compute()
