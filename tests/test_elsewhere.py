"""Recordings of which parts lie in other files: read where these may be opened, said in any case."""

import datetime
import pickle
import re
import warnings

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_region, add_series, add_table, add_trials, add_units, new_nwb, ramp
from small_server import RangeServer

NOT_OPENED = (
    r"raw\.nwb, which is not opened, since it lies neither in the folder of this one nor below; open_nwb\(\.\.\."
)


@pytest.fixture
def raw(tmp_path):
    """Write a file with a bit of everything, in a folder below; return its path."""
    path = tmp_path / "home" / "raw" / "raw.nwb"
    path.parent.mkdir(parents=True)
    with new_nwb(path) as file:
        add_units(file, [np.arange(0.0, 2.0, 0.1), np.arange(0.05, 2.0, 0.2)], quality=["good", "bad"])
        add_trials(file, [0.0, 1.0], [1.0, 2.0])
        add_table(file, "general/filler", "DynamicTable", [0])  # so that the two files differ in their layout
        path_of_electrodes = "general/extracellular_ephys/electrodes"
        electrodes = add_table(file, path_of_electrodes, "DynamicTable", [7, 8], location=["CA1", "V1"])
        lfp = add_series(file, "processing/ecephys/LFP/lfp", ramp(20), "ElectricalSeries", rate=10.0)
        file["processing/ecephys/LFP"].attrs["neurodata_type"] = "LFP"
        add_region(lfp, "electrodes", [1, 0], electrodes)
        add_series(file, "acquisition/speed", ramp(20), timestamps=np.arange(20.0) / 10)
    return path


@pytest.fixture
def linking(raw):
    """Write a file that is nothing but links into the raw one; return its path."""
    path = raw.parent.parent / "linking.nwb"
    with new_nwb(path) as file:
        add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [0], location=["wrong"])
        for name in ("units", "processing", "intervals"):
            file[name] = h5py.ExternalLink("raw/raw.nwb", f"/{name}")
        file["acquisition/speed"] = h5py.ExternalLink("raw/raw.nwb", "/acquisition/speed")
        parts = file.create_group("acquisition/parts")
        parts.attrs["neurodata_type"] = "TimeSeries"
        for name in ("data", "timestamps"):
            parts[name] = h5py.ExternalLink("raw/raw.nwb", f"/acquisition/speed/{name}")
    return path


def test_everything_is_read_through_links_as_from_the_file_itself(linking, raw):
    ours, theirs = open_nwb(linking), open_nwb(raw)
    counts = ours.spikes(0.1, intervals="trials")
    np.testing.assert_array_equal(counts, theirs.spikes(0.1, intervals="trials"))
    assert counts["quality"].values.tolist() == ["good", "bad"]
    lfp = ours.series("lfp")
    np.testing.assert_array_equal(lfp, theirs.series("lfp"))
    assert lfp["location"].values.tolist() == ["V1", "CA1"]  # of the electrodes that its own file has
    assert lfp["unit"].values.tolist() == [8, 7]
    for name in ("speed", "parts"):
        np.testing.assert_array_equal(ours.series(name, bin_size=0.1), theirs.series("speed", bin_size=0.1))
    assert ours.trials.sizes["trial"] == 2
    tree = ours.to_datatree()
    assert tree["processing/ecephys/LFP/lfp"]["lfp"].sel(unit=8).values.tolist() == ramp(20)[:, 0].tolist()


def test_what_lies_in_another_file_is_said(linking):
    recording = open_nwb(linking)
    for path in (
        "/units",
        "/intervals/trials",
        "/processing/ecephys/LFP/lfp",
        "/acquisition/speed",
        "/acquisition/parts",
    ):
        assert f"{path}: it lies in another file, raw/raw.nwb; keep the two together" in recording.problems
    assert len(recording.problems) == 5
    assert "2 units, 30 spikes" in repr(recording)
    assert repr(recording).count(", in raw/raw.nwb") == 5


def test_outside_of_the_folder_only_where_the_user_says_so(linking, raw):
    away = raw.parent.parent.parent / "away"
    raw.parent.rename(away)
    (linking.parent / "raw").symlink_to(away)
    recording = open_nwb(linking)
    assert recording.fittable == []
    reasons = {content.path: content.reason for content in recording.contents}
    assert set(reasons) == {"/units", "/processing", "/intervals", "/acquisition/speed", "/acquisition/parts"}
    for path, reason in reasons.items():
        assert reason.startswith(f"{path}: ")
        assert "which is not opened, since it lies neither in the folder of this one nor below" in reason
        assert reason in recording.problems
    assert "which is not opened" in repr(recording)
    with pytest.raises(ValueError, match=NOT_OPENED):
        recording.series("speed", bin_size=0.1)
    with pytest.raises(ValueError, match=NOT_OPENED):
        recording.series("parts", bin_size=0.1)
    assert "reason" in recording.to_datatree()["acquisition/speed"].attrs
    followed = open_nwb(linking, follow_links=True)
    np.testing.assert_array_equal(followed.spikes(0.1), open_nwb(away / "raw.nwb").spikes(0.1))
    later = pickle.loads(pickle.dumps(followed.series("speed", bin_size=0.1)))  # computed in another process
    np.testing.assert_array_equal(later, open_nwb(away / "raw.nwb").series("speed", bin_size=0.1))
    assert any(str(away / "raw.nwb") in problem for problem in followed.problems)


def test_a_file_that_is_gone_is_missed(linking, raw):
    recording = open_nwb(linking)
    X = recording.series("speed", bin_size=0.1)
    raw.unlink()
    with pytest.raises(
        ValueError, match=r"/acquisition/speed/data lies in another file, raw/raw.nwb, which is missing"
    ):
        X.compute()
    reasons = [content.reason for content in open_nwb(linking).contents]
    assert reasons
    assert [r for r in reasons if not re.search(r"lies in another file, raw/raw.nwb, which is missing$", r)] == []


def test_columns_of_tables_behind_links_and_virtual_ones(tmp_path):
    with h5py.File(tmp_path / "columns.h5", "w") as file:
        file["depth"], file["spikes"] = [1.0, 2.0], np.arange(6.0)
    with new_nwb(tmp_path / "a.nwb") as file:
        units = add_units(file, [np.arange(3.0), np.arange(3.0, 6.0)], depth=[0.0, 0.0], bad=[0.0, 0.0])
        del units["depth"], units["bad"], units["spike_times"]
        units["depth"] = h5py.ExternalLink("columns.h5", "/depth")
        units["bad"] = h5py.ExternalLink("columns.h5", "/nowhere")
        layout = h5py.VirtualLayout((6,), "f8")
        layout[:] = h5py.VirtualSource("columns.h5", "spikes", (6,))
        units.create_virtual_dataset("spike_times", layout)
    recording = open_nwb(tmp_path / "a.nwb")
    X = recording.spikes(1.0)
    assert X.sum("time").values.tolist() == [3, 2]  # the last begins a bin of its own
    assert X["depth"].values.tolist() == [1.0, 2.0]
    assert "/units: it lies in another file, columns.h5; keep the two together" in recording.problems
    (tmp_path / "columns.h5").unlink()
    recording = open_nwb(tmp_path / "a.nwb")
    assert recording.reason == "/units: `spike_times` lies in another file, columns.h5, which is missing"


def test_modular_storage_of_pynwb(tmp_path):
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    begin = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    raw, linking = NWBFile("d", "raw", begin), NWBFile("d", "linking", begin)
    raw.add_acquisition(TimeSeries(name="x", data=ramp(20), unit="V", rate=10.0))
    with NWBHDF5IO(tmp_path / "raw.nwb", "w") as io:
        io.write(raw)
    with NWBHDF5IO(tmp_path / "raw.nwb", "r") as reader, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linking.add_acquisition(reader.read().acquisition["x"])
        with NWBHDF5IO(tmp_path / "linking.nwb", "w", manager=reader.manager) as io:
            io.write(linking, link_data=True)
    recording = open_nwb(tmp_path / "linking.nwb")
    np.testing.assert_array_equal(recording.series("x"), ramp(20))
    assert recording.to_datatree()["acquisition/x"]["x"].shape == (20, 2)
    with recording.as_pynwb() as nwbfile:
        assert nwbfile.acquisition["x"].data[3, 1] == 30.0


def test_a_server_leads_to_no_other_files(tmp_path, linking, raw):
    with new_nwb(tmp_path / "served.nwb") as file:
        add_series(file, "acquisition/own", ramp(20), rate=10.0)
        file["acquisition/speed"] = h5py.ExternalLink(str(raw), "/acquisition/speed")
        series = add_series(file, "acquisition/x", ramp(20), rate=10.0)
        del series["data"]
        series["data"] = h5py.ExternalLink(str(raw), "/acquisition/speed/data")
        layout = h5py.VirtualLayout((20, 2), "f8")
        layout[:] = h5py.VirtualSource(str(raw), "acquisition/speed/data", (20, 2))
        series = add_series(file, "acquisition/v", ramp(20), rate=10.0)
        del series["data"]
        series.create_virtual_dataset("data", layout)
    with RangeServer({"a.nwb": tmp_path / "served.nwb"}) as server:
        for how in ({}, {"follow_links": True}):
            recording = open_nwb(server.url("a.nwb"), **how)
            assert [content.name for content in recording.fittable] == ["own"]
            np.testing.assert_array_equal(recording.series(), ramp(20))
            for name in ("speed", "x", "v"):
                with pytest.raises(ValueError, match="a recording on a server leads to no other files"):
                    recording.series(name)
