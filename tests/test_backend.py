"""xarray's engine "nwb": groups by name, xarray's own laziness and chunks, and a source without secrets."""

from importlib.metadata import entry_points

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.io.backend import NWBBackend
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_series, add_trials, add_units, new_nwb, ramp

TIMES = np.array([0.0, 0.5, 0.9, 1.6, 2.0, 2.1])


@pytest.fixture
def path(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, [[0.7, 0.2], [0.3]], ids=[10, 20], quality=["good", "mua"])
        add_trials(file, [0.0, 1.0], [1.0, 2.0], ids=[7, 8], cue=[0.5, 1.5])
        add_series(file, "processing/a/x", ramp(6), timestamps=TIMES)
        add_series(file, "processing/b/x", ramp(6), rate=1.0)
        group = add_series(file, "acquisition/lfp", ramp(6, 4), rate=2.0)
        del group["data"]
        group.create_dataset("data", data=ramp(6, 4), chunks=(2, 4)).attrs["unit"] = "V"
    return tmp_path / "a.nwb"


def test_groups_by_name_or_path(path):
    units = xr.open_dataset(path, engine=NWBBackend, group="units")
    assert units["quality"].values.tolist() == ["good", "mua"]
    assert units["spike_times"].values.tolist() == [0.7, 0.2, 0.3]
    trials = xr.open_dataset(str(path), engine=NWBBackend, group="trials")
    assert trials.to_dataframe().loc[8, "cue"] == 1.5
    assert xr.open_dataset(path, engine=NWBBackend, group="/processing/b/x")["x"].shape == (6, 2)
    assert xr.open_dataset(path, engine=NWBBackend, group="a/x")["x"].sel(time=0.9).values.tolist() == [2, 20]


def test_unknown_and_ambiguous_groups_are_named(path):
    with pytest.raises(ValueError, match="group: got 'unit', wanted one of /intervals/trials, .*did you mean '/units'"):
        xr.open_dataset(path, engine=NWBBackend, group="unit")
    with pytest.raises(ValueError, match="group: 'x' names 2 groups: /processing/a/x, /processing/b/x"):
        xr.open_dataset(path, engine=NWBBackend, group="x")
    with pytest.raises(ValueError, match="group: got '/processing/c', wanted a path in the file with something below"):
        xr.open_datatree(path, engine=NWBBackend, group="processing/c")


def test_the_root_says_what_groups_there_are(path):
    root = xr.open_dataset(path, engine=NWBBackend)
    assert not root.variables
    assert root.attrs["subject_id"] == "rat-7"
    assert sorted(root.attrs["groups"]) == [
        "/acquisition/lfp",
        "/intervals/trials",
        "/processing/a/x",
        "/processing/b/x",
        "/units",
    ]


def test_the_tree_is_that_of_the_recording(path):
    tree = xr.open_datatree(path, engine=NWBBackend)
    assert tree.encoding["source"] == str(path)
    xr.testing.assert_identical(tree.load(), open_nwb(path).to_datatree().load())
    below = xr.open_datatree(path, engine=NWBBackend, group="processing")
    assert [node.path for node in below.leaves] == ["/a/x", "/b/x"]
    groups = xr.open_groups(path, engine=NWBBackend)
    assert {"/", "/units", "/processing/a/x"} <= set(groups)


def test_lazy_until_used_and_on_dask_in_multiples_of_the_chunks_of_the_file(path, monkeypatch):
    lazy = xr.open_dataset(path, engine=NWBBackend, group="lfp")["lfp"]
    assert not isinstance(lazy.variable._data, np.ndarray | da.Array)
    assert lazy[1:3, ::-2].values.tolist() == ramp(6, 4)[1:3, ::-2].tolist()
    assert lazy[[4, 0], [3, 1]].values.tolist() == ramp(6, 4)[np.ix_([4, 0], [3, 1])].tolist()
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy._CHUNK_BYTES", 4 * 4 * 8)
    chunked = xr.open_dataset(path, engine=NWBBackend, group="lfp", chunks={})["lfp"]
    assert chunked.chunks == ((4, 2), (4,))
    assert chunked.values.tolist() == ramp(6, 4).tolist()
    tree = xr.open_datatree(path, engine=NWBBackend, chunks={})
    assert isinstance(tree["processing/a/x"]["x"].data, da.Array)
    assert tree["processing/a/x"]["x"].sel(time=slice(1, 2)).values[:, 0].tolist() == [3, 4]


def test_opening_a_tree_reads_no_samples_and_no_timestamps(path, monkeypatch):
    monkeypatch.setattr("nwb_lrrnn.io.reading.lazy.read_dataset", None)
    monkeypatch.setattr("nwb_lrrnn.io.reading.clock._timestamps", None)
    tree = xr.open_datatree(path, engine=NWBBackend)
    assert "lfp" in repr(tree)
    with pytest.raises(TypeError):
        tree["acquisition/lfp"].load()


def test_variables_can_be_left_out(path):
    units = xr.open_dataset(path, engine=NWBBackend, group="units", drop_variables="spike_times")
    assert set(units.data_vars) == {"quality", "spike_index"}
    tree = xr.open_datatree(path, engine=NWBBackend, drop_variables=["cue", "quality"])
    assert set(tree["units"].data_vars) == {"spike_times", "spike_index"}
    assert "cue" not in tree["intervals/trials"]


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("a.nwb", True),
        ("https://host.org/a.nwb?X-Amz-Signature=0123", True),
        ("dandi://dandi/000140/sub-1/a.nwb", True),
        ("DANDI:000140/0.220113.0408/sub-1/a", True),
        ("a.h5", False),
        ("a.nc", False),
        ("https://host.org/a.nc?file=b.nwb", False),
        (3, False),
    ],
)
def test_guesses_by_name_alone(name, guess):
    assert NWBBackend().guess_can_open(name) is guess


def test_errors_of_opening_are_those_of_open_nwb(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        xr.open_dataset(tmp_path / "b.nwb", engine=NWBBackend)
    with h5py.File(tmp_path / "b.nwb", "w") as file:
        file["x"] = 1.0
    with pytest.raises(ValueError, match="this is an HDF5 file but not NWB"):
        xr.open_datatree(tmp_path / "b.nwb", engine=NWBBackend)


def test_xarray_finds_the_engine_by_its_name(path):
    (found,) = entry_points(group="xarray.backends", name="nwb")
    assert found.load() is NWBBackend
    assert xr.open_dataset(path, engine="nwb", group="trials").sizes["trial"] == 2
