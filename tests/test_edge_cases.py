"""Odd files as they are met in the wild: each is read as well as it can be, or ends in one clear sentence."""

import re

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import InvalidTimestampsError
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_region, add_series, add_table, add_trials, add_units, new_nwb, ramp


def everything(recording):
    """Ask for all that a recording has; what cannot be read has to be one sentence, which is returned."""
    said = [*recording.problems, *(content.reason for content in recording.contents if content.reason)]
    assert recording._repr_html_()
    for content in recording.contents:
        try:
            if content.kind == "units":
                recording.spikes(0.1, table=content.path).compute()
            elif content.kind == "intervals":
                assert recording.intervals[content.name].sizes["trial"] >= 0
            elif content.kind not in ("results", "events"):
                recording.series(content.path).compute()
        except ValueError as error:
            said.append(str(error))
    tree = recording.to_datatree().load()
    said += [node.attrs["reason"] for node in tree.subtree if "reason" in node.attrs]
    assert all("\n" not in text for text in said)
    return " | ".join(said)


def with_data(dtype, values):
    """Return a builder of a series whose data have a type that numpy alone cannot write."""

    def build(file):
        group = add_series(file, "acquisition/x", np.zeros(3), rate=1.0)
        del group["data"]
        data = group.create_dataset("data", (3,), dtype=dtype)
        data[0] = values(file)

    return build


def replaced(name, values, dtype=None):
    """Return a builder of a Units table one of whose columns holds something else."""

    def build(file):
        units = add_units(file, [[0.1, 0.9]])
        del units[name]
        units.create_dataset(name, data=values, dtype=dtype)

    return build


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (with_data(h5py.vlen_dtype(float), lambda file: [1.0, 2.0]), r"no real numbers \(dtype \|O\)"),
        (with_data(h5py.ref_dtype, lambda file: file["general"].ref), r"no real numbers \(dtype \|O\)"),
        (with_data(h5py.string_dtype(), lambda file: "a"), r"no real numbers \(dtype \|O\)"),
        (with_data([("a", "f4"), ("b", "i4")], lambda file: (1.0, 2)), r"no real numbers \(dtype compound\)"),
        (with_data(complex, lambda file: 1j), r"no real numbers \(dtype <c16\)"),
        (lambda file: add_series(file, "acquisition/x", 1.0, rate=1.0), "the data are a single value"),
        (lambda file: add_series(file, "acquisition/x", h5py.Empty("f4"), rate=1.0), "the series holds no data"),
        (lambda file: add_series(file, "acquisition/x", np.zeros((0, 2)), rate=1.0), "the series is empty"),
        (lambda file: add_series(file, "acquisition/x", ramp(4), rate=0.0), "one positive rate in Hz"),
        (lambda file: add_series(file, "acquisition/x", ramp(4), rate=np.nan), "one positive rate in Hz"),
        (lambda file: add_series(file, "acquisition/x", ramp(2), timestamps=np.array([b"a", b"b"])), "times of dtype"),
        (replaced("spike_times", 1.0), "its column spike_times is no list of numbers"),
        (replaced("spike_times", np.array([b"a", b"b"])), "its column spike_times is no list of numbers"),
        (replaced("spike_times", np.zeros((2, 2))), "its column spike_times is no list of numbers"),
        (
            lambda file: add_units(file, [[0.1], [0.9]], obs_intervals=[np.zeros(1), np.zeros(2)]),
            r"obs_intervals: got 1 dims, wanted \(interval, 2\)",
        ),
    ],
)
def test_what_cannot_be_read_ends_in_one_sentence(make, build, text):
    assert re.search(text, everything(make(build)))


@pytest.mark.parametrize(
    "build",
    [
        replaced("id", np.array([b"a"])),
        replaced("id", np.array([1.5])),
        replaced("spike_times_index", np.array([2.0])),
        lambda file: add_units(file, [[0.1, 0.9]]).attrs.update(colnames="spike_times"),
        lambda file: add_units(file, [[0.1, 0.9]], obs_intervals=[np.zeros(0)]),
        lambda file: add_series(file, "acquisition/x", ramp(4), rate=1.0).attrs.update(neurodata_type=3),
        lambda file: add_series(add_series(file, "acquisition/x", ramp(4), rate=1.0), "inner", ramp(4), rate=1.0),
        lambda file: add_series(file, "acquisition/odd name.1%", ramp(4), rate=1.0),
        lambda file: add_series(file, "acquisition/x", ramp(4), timestamps=np.arange(-4.0, 0.0)),
        lambda file: add_series(file, "acquisition/x", np.array([[True, False]] * 4), rate=1.0),
        lambda file: file.create_dataset("units", data=np.zeros(3)),
    ],
)
def test_what_is_odd_but_can_be_read(make, build):
    assert not everything(make(build))


def test_a_file_that_does_not_say_its_version(make):
    def build(file):
        del file.attrs["nwb_version"]
        add_units(file, [[0.1, 0.9]])

    recording = make(build)
    assert recording.nwb_version == "2"
    assert recording.spikes(0.5).values.tolist() == [[1]]


def test_types_of_extensions_are_what_they_look_like(make):
    def build(file):
        add_units(file, [[0.1, 0.9], [0.3]], path="processing/ecephys/sorted").attrs.update(neurodata_type="LabUnits")
        add_trials(file, [0.0], [1.0], path="intervals/runs").attrs.update(neurodata_type="LabRuns")
        add_series(file, "acquisition/x", ramp(4), "LabSeries", rate=1.0)
        add_table(file, "acquisition/log", "LabTable", [0], note=["a"])
        file["acquisition"].create_group("thing").attrs.update(neurodata_type="LabThing", namespace="ndx-lab")

    recording = make(build)
    assert not everything(recording)
    assert recording.spikes(0.5, intervals="runs").values.tolist() == [[[1, 1], [1, 0]]]
    assert recording.series("x").shape == (4, 2)
    assert recording.to_datatree()["acquisition/log"]["note"].dims == ("row",)


def test_attributes_and_text_that_are_no_utf_8(make):
    def build(file):
        file["general/lab"] = np.bytes_(b"M\xfcnchen")
        units = add_units(file, [[0.1, 0.9]])
        units["label"] = np.array([b"\xfc"])

    recording = make(build)
    assert recording.session["lab"] == "M\ufffdnchen"
    assert recording.spikes(0.5).label.values.tolist() == ["\ufffd"]


def test_references_that_lead_nowhere_are_empty(make):
    def build(file):
        units = add_units(file, [[0.1, 0.9], [0.3]])
        shanks = [file.create_group(f"general/extracellular_ephys/shank{k}") for k in range(2)]
        references = np.array([shank.ref for shank in shanks], dtype=h5py.ref_dtype)
        units.create_dataset("electrode_group", data=references, dtype=h5py.ref_dtype)
        del file["general/extracellular_ephys/shank1"]
        regions = np.array([units["spike_times"].regionref[:2]] * 2, dtype=h5py.regionref_dtype)
        units.create_dataset("region", data=regions, dtype=h5py.regionref_dtype)

    recording = make(build)
    assert not everything(recording)
    X = recording.spikes(0.5)
    assert X.electrode_group.values.tolist() == ["shank0", ""]
    assert "region" not in X.coords


@pytest.mark.parametrize("reference", ["x", None])
def test_region_whose_table_is_no_reference(make, reference):
    def build(file):
        table = add_table(file, "processing/a/plane", "PlaneSegmentation", [3, 4])
        group = add_series(file, "processing/a/x", ramp(4), "RoiResponseSeries", rate=1.0)
        add_region(group, "rois", [0, 1], table)
        del group["rois"].attrs["table"]
        if reference is not None:
            group["rois"].attrs["table"] = reference

    recording = make(build)
    assert not everything(recording)
    assert recording.series("x").unit.values.tolist() == [0, 1]


def test_accepted_and_iscell_stay_with_their_rois(make):
    def build(file):
        cells = {"Accepted": [1, 0, 1], "iscell": np.array([[1.0, 0.9], [0.0, 0.2], [1.0, 0.8]])}
        table = add_table(file, "processing/ophys/ImageSegmentation/plane", "PlaneSegmentation", [7, 8, 9], **cells)
        for name in ("Fluorescence/raw", "DfOverF/raw"):
            group = add_series(file, f"processing/ophys/{name}", np.zeros((6, 2)), "RoiResponseSeries", rate=10.0)
            add_region(group, "rois", [2, 1], table)

    recording = make(build)
    for name in ("Fluorescence/raw", "DfOverF/raw"):
        X = recording.series(name)
        assert X.unit.values.tolist() == [9, 8]
        assert X.Accepted.values.tolist() == [1, 0]
        assert X.iscell_0.values.tolist() == [1.0, 0.0]
    assert recording.series("DfOverF/raw", units="Accepted == 1").unit.values.tolist() == [9]
    assert recording.to_datatree()["processing/ophys/DfOverF/raw"]["raw"].Accepted.values.tolist() == [1, 0]


def test_columns_that_do_not_fit_the_rows_are_left_out(make):
    def build(file):
        units = add_units(file, [[0.1, 0.9], [0.3]], depth=[1.0, 2.0])
        units["shorter"] = np.zeros(1)
        units["longer"] = np.zeros(3)

    X = make(build).spikes(0.5)
    assert X.depth.values.tolist() == [1.0, 2.0]
    assert not {"shorter", "longer"} & set(X.coords)


def test_long_columns_are_never_read(tmp_path):
    path = tmp_path / "a.nwb"
    with new_nwb(path) as file:
        units = add_units(file, [[0.1, 0.9], [0.3]], depth=[1.0, 2.0])
        for name in ("waveform_mean", "waveforms", "mask"):
            data = np.random.default_rng(0).normal(size=(2, 4096))
            units.create_dataset(name, data=data, compression="gzip", chunks=(2, 4096))
        places = [units[name].id.get_chunk_info(0) for name in ("waveform_mean", "waveforms", "mask")]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place.byte_offset : place.byte_offset + place.size] = b"\xff" * place.size
    path.write_bytes(content)
    recording = open_nwb(path)
    assert recording.spikes(0.5).depth.values.tolist() == [1.0, 2.0]
    assert not everything(recording)


def test_lists_of_lists_and_damaged_lists_in_a_table_of_intervals(make):
    def build(file):
        trials = add_trials(file, [0.0, 1.0], [1.0, 2.0], licks=[np.arange(2.0), np.arange(3.0)])
        del trials["licks_index"]
        trials["licks_index"] = np.array([1, 3, 5], dtype=np.uint32)
        trials["licks_index_index"] = np.array([1, 3], dtype=np.uint32)
        add_trials(file, [0.0, 1.0], [1.0, 2.0], path="intervals/bad", licks=[np.arange(2.0), np.arange(3.0)])
        file["intervals/bad/licks_index"][:] = [9, 2]

    recording = make(build)
    assert recording.trials.stop_time.values.tolist() == [1.0, 2.0]
    assert recording.trials.attrs["left_out"] == ["licks: lists of lists"]
    for bad in (recording.intervals["bad"], recording.to_datatree()["intervals/bad"]):
        assert bad["stop_time"].values.tolist() == [1.0, 2.0]
        assert len(bad.attrs["left_out"]) == 1
        assert "licks: /intervals/bad/licks_index: got 2 ends up to 9" in bad.attrs["left_out"][0]
    assert any("licks_index: got 2 ends up to 9" in text for text in recording.problems)


def test_links_that_lead_round(make):
    def build(file):
        inner = file.create_group("processing/a")
        inner["b"] = file["processing"]
        file["acquisition/loop"] = h5py.SoftLink("/acquisition")
        add_series(file, "acquisition/x", ramp(4), rate=1.0)

    recording = make(build)
    assert [entry.path for entry in recording.catalog.series] == ["/acquisition/x"]
    assert not everything(recording)


def test_starting_time_and_timestamps_of_the_wrong_shape(make):
    def build(file):
        add_series(file, "acquisition/start", ramp(4), rate=2.0, start=np.arange(3.0))
        add_series(file, "acquisition/two_rows", ramp(4), timestamps=np.zeros((2, 4)))

    recording = make(build)
    for name, text in (("start", "got starting_time None and rate 2.0"), ("two_rows", r"got shape \(2, 4\)")):
        with pytest.raises(InvalidTimestampsError, match=f"/acquisition/{name}.*{text}"):
            recording.series(name)
        assert re.search(text, recording.to_datatree()[f"acquisition/{name}"].attrs["reason"])


def test_transposed_rois_in_the_tree(make):
    def build(file):
        table = add_table(file, "processing/ophys/ImageSegmentation/plane", "PlaneSegmentation", [7, 8])
        group = add_series(file, "processing/ophys/DfOverF/x", ramp(6).T, "RoiResponseSeries", rate=2.0)
        add_region(group, "rois", [0, 1], table)

    recording = make(build)
    assert recording.to_datatree()["processing/ophys/DfOverF/x"]["x"].values.tolist() == ramp(6).tolist()
    assert any("are stored (unit, time)" in text for text in recording.problems)


def test_repeated_unit_ids_in_the_tree(make):
    units = make(lambda file: add_units(file, [[0.1], [0.2], [0.3]], ids=[5, 5, 6])).to_datatree()["units"]
    assert units["unit"].values.tolist() == [0, 1, 2]
    assert units["id"].values.tolist() == [5, 5, 6]
    assert np.split(units["spike_times"].values, units["spike_index"].values[:-1])[1].tolist() == [0.2]


def test_opening_a_reference_never_searches_the_file(make, monkeypatch):
    def build(file):
        table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [5, 6], location=["a", "b"])
        for k in range(3):
            group = add_series(file, f"acquisition/x{k}", ramp(4), "ElectricalSeries", rate=1.0)
            add_region(group, "electrodes", [0, 1], table)
        add_region(add_units(file, [[0.1, 0.9], [0.3]]), "electrodes", [1, 0], table)

    recording = make(build)
    monkeypatch.setattr(h5py.Group, "name", property(lambda group: pytest.fail("HDF5 was asked for a name")))
    tree = recording.to_datatree()
    assert tree["acquisition/x2"]["x2"].location.values.tolist() == ["a", "b"]
    assert recording.spikes(0.5).location.values.tolist() == ["b", "a"]
