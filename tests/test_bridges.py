"""A recording as objects of pynwb and of pynapple: what comes over, and one sentence where it cannot."""

import sys
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import NotBuiltError
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_region, add_series, add_table, add_trials, add_units, ramp


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pynwb = pytest.importorskip("pynwb")
    path = tmp_path_factory.mktemp("pynwb") / "a.nwb"
    nwbfile = pynwb.NWBFile("by pynwb", "a", datetime(2024, 1, 2, tzinfo=UTC))
    nwbfile.add_unit(spike_times=[0.1, 0.2])
    nwbfile.add_acquisition(pynwb.TimeSeries(name="x", data=ramp(5), unit="V", rate=2.0))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def test_pynwb_reads_inside_the_block_alone(written):
    recording = open_nwb(written)
    with recording.as_pynwb() as nwbfile:
        assert nwbfile.session_description == "by pynwb"
        assert nwbfile.acquisition["x"].data[2].tolist() == [2, 20]
        data = nwbfile.acquisition["x"].data
    assert not data  # h5py: closed
    with recording.as_pynwb() as nwbfile:  # and again
        assert len(nwbfile.units) == 1


def test_errors_of_the_user_pass_through(written):
    with pytest.raises(KeyError, match="mine"), open_nwb(written).as_pynwb():
        raise KeyError("mine")


def test_an_extension_without_its_schema_is_one_sentence(written, tmp_path):
    path = tmp_path / "b.nwb"
    path.write_bytes(written.read_bytes())
    with h5py.File(path, "a") as file:
        file["acquisition/x"].attrs.update(namespace="ndx-nowhere", neurodata_type="OddSeries")
    with (
        pytest.raises(NotBuiltError, match=r"b\.nwb: pynwb cannot build .*\('ndx-nowhere' not a namespace\).*install"),
        open_nwb(path).as_pynwb(),
    ):
        pass


def test_a_file_that_pynwb_cannot_build_is_one_sentence(make):
    recording = make(lambda file: add_units(file, [[0.1]]))  # without the schema of the core
    with pytest.raises(NotBuiltError, match="to_datatree") as caught, recording.as_pynwb():
        pass
    assert "\n" not in str(caught.value)


def build(file):
    table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [5, 6], location=["a", "b"])
    columns = {"rate": [1.0, 2.0], "depth (um)": [3.0, 4.0]}
    units = add_units(file, [[0.7, np.nan, 0.2], []], ids=[10, 20], quality=["good", "mua"], **columns)
    add_region(units, "electrodes", [1, 0], table)
    add_trials(file, [1.0, 0.0, 2.0], [2.0, 1.0, 2.0], ids=[7, 8, 9], side=["left", "right", "left"])
    add_trials(file, [0.0, 0.5], [1.0, 2.0], path="intervals/epochs")
    lfp = add_series(
        file, "processing/ecephys/LFP/lfp", ramp(6), "ElectricalSeries", rate=2.0, conversion=0.5, offset=1.0
    )
    add_region(lfp, "electrodes", [0, 1], table)
    add_series(file, "processing/behavior/pupil", np.arange(4.0), timestamps=np.array([0.0, 0.1, 0.2, 0.4]))
    add_series(file, "processing/behavior/BehavioralEvents/lick", np.ones(3), timestamps=np.array([0.2, 0.1, np.nan]))
    add_series(file, "acquisition/bad", ramp(3), timestamps=np.array([0.0, 2.0, 1.0]))


@pytest.fixture
def objects(make):
    pytest.importorskip("pynapple")
    return make(build).to_pynapple()


def test_units_become_a_group_with_their_columns(objects):
    units = objects["units"]
    assert units.index.tolist() == [10, 20]
    assert units[10].t.tolist() == [0.2, 0.7]
    assert len(units[20]) == 0
    assert units.get_info("location").tolist() == ["b", "a"]
    assert units.get_info("unit_rate").tolist() == [1.0, 2.0]  # `rate` is pynapple's own
    assert units.get_info("depth__um_").tolist() == [3.0, 4.0]
    assert units.time_support.values.tolist() == [[0.2, 0.7]]


def test_intervals_are_in_order_and_keep_their_columns(objects):
    trials = objects["trials"]
    np.testing.assert_allclose(trials.values, [[0, 1], [1, 2]], atol=2e-6)  # ends that touch a start move by 1 us
    assert trials.get_info("trial").tolist() == [8, 7]
    assert trials.get_info("side").tolist() == ["right", "left"]


def test_intervals_that_overlap_are_not_joined_in_silence(objects):
    with pytest.raises(ValueError, match="/intervals/epochs: 1 of 2 intervals overlap the next one.*would join"):
        objects["epochs"]


def test_series_are_in_their_unit_of_measure(objects):
    lfp = objects["lfp"]
    assert lfp.values.tolist() == (ramp(6) * 0.5 + 1.0).tolist()
    assert lfp.t.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert lfp.columns.tolist() == [5, 6]
    assert lfp.get_info("location").tolist() == ["a", "b"]
    pupil = objects["pupil"]
    assert (type(pupil).__name__, pupil.t.tolist(), pupil.values.tolist()) == ("Tsd", [0, 0.1, 0.2, 0.4], [0, 1, 2, 3])
    assert objects["lick"].t.tolist() == [0.1, 0.2]


def test_a_single_sample_and_no_event_at_all(make):
    def odd(file):
        add_series(file, "acquisition/x", np.ones(1), rate=2.0)
        add_series(file, "acquisition/one", np.ones(1), "IntervalSeries", timestamps=np.array([3.0]))
        add_series(file, "acquisition/none", np.ones(0), "IntervalSeries", timestamps=np.zeros(0))

    pytest.importorskip("pynapple")
    objects = make(odd).to_pynapple()
    assert objects["x"].time_support.values.tolist() == [[0.0, 0.5]]
    assert objects["one"].t.tolist() == [3.0]
    assert set(objects) == {"x", "one"}


def test_mapping_of_names(objects):
    assert set(objects) == {"units", "trials", "epochs", "lfp", "pupil", "lick", "bad"}
    assert len(objects) == 7
    assert "lfp: TsdFrame of /processing/ecephys/LFP/lfp" in repr(objects)
    assert objects["LFP/lfp"].shape == (6, 2)
    with pytest.raises(KeyError, match="did you mean '/processing/behavior/pupil'"):
        objects["pupils"]
    with pytest.raises(ValueError, match="do not ascend at index 2"):
        objects["bad"]


@pytest.mark.parametrize(
    ("odd", "name", "text"),
    [
        (lambda file: add_units(file, [[], []]), "units", "too few spikes to tell how long"),
        (lambda file: add_trials(file, [0.0, 1.0], [0.0, 1.0]), "trials", "the rows are instants, not intervals"),
        (lambda file: add_trials(file, [np.nan], [1.0]), "trials", "no rows with a start and a stop"),
    ],
)
def test_what_pynapple_cannot_hold_is_said(make, odd, name, text):
    pytest.importorskip("pynapple")
    with pytest.raises(ValueError, match=text):
        make(odd).to_pynapple()[name]


def test_without_pynapple_the_install_line_is_named(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynapple", None)
    with pytest.raises(ImportError, match=r"pip install 'nwb-lrrnn\[pynapple\]'"):
        make(build).to_pynapple()


def test_a_closed_recording_gives_nothing(make):
    recording = make(build)
    recording.close()
    with pytest.raises(ValueError, match=r"this Recording of a\.nwb is closed"):
        recording.as_pynwb()
    with pytest.raises(ValueError, match=r"this Recording of a\.nwb is closed"):
        recording.to_pynapple()
