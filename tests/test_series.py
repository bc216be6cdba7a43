"""Recording.series: populations and their metadata, at their own rate, in bins and in trials."""

import logging
import pickle

import h5py
import numpy as np
import pytest
from xarray.indexes import RangeIndex

from small_nwb import add_region, add_series, add_table, add_trials, add_units, ramp


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


def test_lazy_series_pickle_and_slices(make, monkeypatch):
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy._CHUNK_BYTES", 16 * 10)
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy._BLOCK_BYTES", 16 * 4)

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
