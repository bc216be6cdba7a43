"""A recording as a tree of xarray: everything at its own path, nothing read but tables, reasons in place of errors."""

import pickle
import re

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from xarray.indexes import RangeIndex

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.views.timestamps_index import TimestampsIndex
from small_nwb import add_region, add_series, add_table, add_trials, add_units, ramp

TIMES = np.array([0.0, 0.5, 0.9, 1.6, 2.0])


def build(file):
    electrodes = "general/extracellular_ephys/electrodes"
    table = add_table(file, electrodes, "DynamicTable", [5, 6], location=["a", "b"])
    intervals = [np.array([[0.0, 1.0]]), np.array([[0.0, 1.0], [2.0, 3.0]])]
    units = add_units(file, [[0.7, 0.2], [0.3]], ids=[10, 20], quality=["good", "mua"], obs_intervals=intervals)
    add_region(units, "electrodes", [1, 0], table)
    add_trials(file, [0.0, 1.0, np.nan], [1.0, 2.0, 3.0], ids=[7, 8, 9], cue=[0.5, 1.5, 2.5], licks=[TIMES] * 3)
    lfp = add_series(
        file, "processing/ecephys/LFP/lfp", ramp(6), "ElectricalSeries", rate=2.0, start=1.0, conversion=0.1
    )
    add_region(lfp, "electrodes", [0, 1], table)
    add_series(file, "processing/behavior/Position/hand", ramp(5), "SpatialSeries", timestamps=TIMES, units="m")
    add_series(file, "processing/behavior/BehavioralEvents/lick", np.arange(5.0), timestamps=TIMES)
    add_series(file, "acquisition/notes", np.array([b"one", b"two"]), "AnnotationSeries", timestamps=TIMES[:2])
    add_series(file, "acquisition/movie", np.zeros((3, 4, 4)), "ImageSeries", rate=1.0)


@pytest.fixture
def tree(make):
    return make(build).to_datatree()


def test_root_says_what_the_session_was(make):
    recording = make(build)
    tree = recording.to_datatree()
    assert tree.attrs["subject_id"] == "rat-7"
    assert tree.attrs["nwb_version"] == "2.7.0"
    assert (tree.attrs["source"], tree.attrs["version_tag"]) == (recording.uri, recording.version_tag)
    assert {node.path for node in tree.subtree if node.attrs.get("nwb_path")} == {
        "/units",
        "/intervals/trials",
        "/general/extracellular_ephys/electrodes",
        "/processing/ecephys/LFP/lfp",
        "/processing/behavior/Position/hand",
        "/processing/behavior/BehavioralEvents/lick",
        "/acquisition/notes",
        "/acquisition/movie",
    }
    assert all(node.path == node.attrs["nwb_path"] for node in tree.leaves)


def test_units_have_flat_spike_times_and_where_each_unit_ends(tree):
    units = tree["units"].to_dataset()
    assert isinstance(units["spike_times"].data, da.Array)
    assert units["unit"].values.tolist() == [10, 20]
    assert units["location"].values.tolist() == ["b", "a"]
    assert units["quality"].values.tolist() == ["good", "mua"]
    parts = np.split(units["spike_times"].values, units["spike_index"].values[:-1])
    assert [part.tolist() for part in parts] == [[0.7, 0.2], [0.3]]  # as stored, also where they are not in order
    assert units["obs_intervals"].values.tolist() == [[0.0, 1.0], [0.0, 1.0], [2.0, 3.0]]
    assert units["obs_index"].values.tolist() == [1, 3]


def test_interval_tables_keep_every_row(tree):
    trials = tree["intervals/trials"].to_dataset()
    assert trials["trial"].values.tolist() == [7, 8, 9]
    assert trials["cue"].values.tolist() == [0.5, 1.5, 2.5]
    assert trials["licks"].values[2] == TIMES.tolist()
    assert trials.attrs["dropped"] == ["9: start_time is NaN"]
    assert tree["general/extracellular_ephys/electrodes"]["location"].dims == ("electrode",)


def test_series_at_a_rate(make):
    recording = make(build)
    lfp = recording.to_datatree()["processing/ecephys/LFP/lfp"]["lfp"]
    assert isinstance(lfp.data, da.Array)
    assert isinstance(lfp.xindexes["time"], RangeIndex)
    assert lfp["location"].values.tolist() == ["a", "b"]
    assert lfp.attrs["bin_size"] == 0.5
    xr.testing.assert_equal(lfp, recording.series("lfp").drop_vars(["unit_kind", "align_time"]))
    assert lfp.sel(time=2.4, method="nearest").values.tolist() == pytest.approx([0.3, 3.0])


def test_timestamps_are_an_index_that_reads_when_it_selects(tree):
    hand = tree["processing/behavior/Position/hand"]["hand"]
    assert isinstance(hand.xindexes["time"], TimestampsIndex)
    assert hand["time"].attrs["units"] == "s"
    assert hand["time"].values.tolist() == TIMES.tolist()
    assert hand.sel(time=slice(0.5, 1.7)).values[:, 0].tolist() == [1, 2, 3]
    assert hand.sel(time=0.9).values.tolist() == [2, 20]
    assert hand.sel(time=[0.85, 1.9], method="nearest").values[:, 0].tolist() == [2, 4]
    with pytest.raises(KeyError):
        hand.sel(time=0.91)


def test_parts_of_an_index_of_timestamps(tree):
    hand = tree["processing/behavior/Position/hand"]["hand"]
    later, backwards = hand.isel(time=slice(1, None)), hand.isel(time=slice(None, None, -2))
    assert isinstance(later.xindexes["time"], TimestampsIndex)
    assert later["time"].values.tolist() == TIMES[1:].tolist()
    assert later.isel(time=slice(None, None, 2)).sel(time=1.6).values.tolist() == [3, 30]
    assert backwards["time"].values.tolist() == TIMES[::-2].tolist()
    assert backwards.sel(time=2.0).values.tolist() == [4, 40]
    assert hand.isel(time=[3, 0]).sel(time=1.6).values.tolist() == [3, 30]
    assert float(hand.isel(time=2)["time"]) == 0.9
    assert (later + hand)["time"].values.tolist() == TIMES[1:].tolist()  # aligned by time
    assert later.equals(later.copy())
    assert not hand.indexes["time"].equals(later.indexes["time"])
    renamed = hand.rename(time="t")
    assert renamed.sel(t=0.5).values.tolist() == [1, 10]
    both = xr.concat([hand.isel(time=slice(0, 2)), hand.isel(time=slice(2, None))], "time")
    assert both.sel(time=1.6).values.tolist() == [3, 30]


def test_events_have_times_and_what_the_file_says_of_each(tree):
    lick = tree["processing/behavior/BehavioralEvents/lick"].to_dataset()
    assert lick["time"].dims == ("event",)
    assert lick["time"].values.tolist() == TIMES.tolist()
    assert lick["lick"].values.tolist() == [0, 1, 2, 3, 4]
    assert tree["acquisition/notes"]["notes"].values.tolist() == ["one", "two"]


def test_what_is_not_read_says_why(tree):
    movie = tree["acquisition/movie"]
    assert not movie.data_vars
    assert (
        movie.attrs["reason"]
        == "/acquisition/movie: pixels are not fitted; fit the ROI series that were extracted from them"
    )
    assert movie.attrs["shape"] == [3, 4, 4]


@pytest.mark.parametrize(
    ("odd", "path", "text"),
    [
        (lambda file: add_units(file, []), "units", "the units table has no rows"),
        (lambda file: add_table(file, "units", "Units", [0], depth=[1.0]), "units", "no column spike_times"),
        (
            lambda file: add_units(file, [[0.1], [0.2]])["spike_times_index"].write_direct(np.array([5, 3], np.uint32)),
            "units",
            "wanted ascending ends, one per row",
        ),
        (
            lambda file: add_series(file, "acquisition/x", ramp(4), timestamps=np.arange(3.0)),
            "acquisition/x",
            r"got shape \(3,\) for 4 samples",
        ),
        (
            lambda file: add_series(file, "acquisition/x", ramp(4), rate=1.0, start=np.arange(2.0)),
            "acquisition/x",
            "starting_time None",
        ),
        (
            lambda file: add_series(file, "acquisition/x", np.ones(3), "IntervalSeries", rate=1.0),
            "acquisition/x",
            "the events have no timestamps",
        ),
    ],
)
def test_odd_things_never_raise(make, odd, path, text):
    node = make(odd).to_datatree()[path]
    assert not set(node.data_vars) & {"x", "spike_times"}
    assert re.search(text, node.attrs["reason"])


def test_results_of_earlier_fits_are_left_to_read_results(make):
    info = {"section": ["fit"], "key": ["a"], "value": ["b"]}
    tree = make(lambda file: add_table(file, "processing/lrrnn/fit_info", "DynamicTable", [0], **info)).to_datatree()
    assert tree["processing/lrrnn"].attrs["reason"].endswith("nwb_lrrnn.read_results reads them")
    assert not tree["processing/lrrnn"].children


def test_names_of_dims_are_kept_free(make):
    def odd(file):
        add_units(file, [[0.1]], spike_index=[3], unit=[4])
        add_series(file, "acquisition/time", ramp(3), rate=1.0)

    tree = make(odd).to_datatree()
    assert tree["units"]["unit_spike_index"].values.tolist() == [3]
    assert tree["units"]["unit_unit"].values.tolist() == [4]
    assert tree["acquisition/time"]["series_time"].dims == ("time", "unit")


def test_building_opens_the_file_once_and_reads_no_samples(make, monkeypatch):
    recording = make(build)
    opened = []
    original = Source.open
    monkeypatch.setattr(Source, "open", lambda source: opened.append(source) or original(source))
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy.read_dataset", None)
    monkeypatch.setattr("nwb_lrrnn.io.reading.clock.read_timestamps", None)
    tree = recording.to_datatree()
    assert "lfp" in repr(tree)
    assert len(opened) == 1
    with pytest.raises(TypeError):
        tree["units"]["spike_times"].compute()


def test_arrays_pickle_and_outlive_the_recording(make):
    with make(build) as recording:
        tree = recording.to_datatree()
    hand = pickle.loads(pickle.dumps(tree["processing/behavior/Position/hand"]["hand"]))
    assert hand.sel(time=1.6).values.tolist() == [3, 30]
    with pytest.raises(ValueError, match=r"this Recording of a\.nwb is closed"):
        recording.to_datatree()
