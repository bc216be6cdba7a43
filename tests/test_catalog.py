"""The catalogue: what one walk finds, names that are ambiguous, and what each thing is to a model."""

import html
import re

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.reading import catalog
from nwb_lrrnn.io.reading.catalog import choose, listed, read_catalog
from nwb_lrrnn.io.reading.recording import open_nwb
from small_nwb import add_region, add_series, add_table, add_trials, add_units, new_nwb


@pytest.fixture
def rich(tmp_path):
    path = tmp_path / "rich.nwb"
    rng = np.random.default_rng(0)
    with new_nwb(path) as file:
        add_units(file, [[0.1, 0.5], [0.2]], quality=["good", "mua"])
        add_trials(file, [0.0, 1.0], [0.5, 1.5], side=["left", "right"])
        add_series(file, "acquisition/LFP/lfp", rng.normal(size=(100, 4)), "ElectricalSeries", rate=50.0)
        roi = rng.normal(size=(30, 3))
        add_series(file, "processing/ophys/DfOverF/dff", roi, "RoiResponseSeries", rate=10.0)
        add_series(file, "processing/behavior/Position/hand", roi[:, :2], "SpatialSeries", rate=10.0, units="m")
        add_series(file, "stimulus/presentation/light", roi[:, 0], rate=10.0)
        add_series(file, "acquisition/photometry", roi[:, 0], rate=10.0)
        add_series(file, "acquisition/arrays", roi, rate=10.0)
        add_series(file, "acquisition/movie", np.zeros((3, 2, 2)), "TwoPhotonSeries", rate=10.0)
        words = np.array(["a", "b"], dtype=h5py.string_dtype())
        add_series(file, "acquisition/notes", words, "AnnotationSeries", timestamps=[0.1, 0.2])
        add_series(file, "acquisition/sweep", np.zeros(10), "CurrentClampSeries", rate=10.0)
        add_series(file, "acquisition/snippets", np.zeros((4, 2, 8)), "SpikeEventSeries", timestamps=np.arange(4.0))
        file["acquisition/shortcut"] = h5py.SoftLink("/acquisition/arrays")
        file["acquisition/elsewhere"] = h5py.ExternalLink("gone.nwb", "/acquisition/x")
        file["specifications/core/2.7.0/namespace"] = "{}"
    return path


def test_walk_finds_series_and_tables_once(rich):
    catalog = read_catalog(resolve(rich))
    assert catalog.nwb_version == "2.7.0"
    assert catalog.session["subject_id"] == "rat-7"
    assert catalog.session["subject_species"] == "Rattus norvegicus"
    assert [table.path for table in catalog.tables] == ["/intervals/trials", "/units"]
    assert catalog.tables[0].columns == ("start_time", "stop_time", "side")
    assert (catalog.tables[1].n_rows, catalog.tables[1].n_spikes) == (2, 3)
    paths = [entry.path for entry in catalog.series]
    assert len(paths) == len(set(paths)) == 10
    assert "/acquisition/shortcut" not in paths
    lfp = next(entry for entry in catalog.series if entry.name == "lfp")
    assert (lfp.shape, lfp.rate, lfp.starting_time, lfp.units) == ((100, 4), 50.0, 0.0, "V")


def test_kinds_calls_and_reasons(rich):
    contents = {content.name: content for content in open_nwb(rich).contents}
    kinds = {name: content.kind for name, content in contents.items()}
    assert kinds == {
        "units": "units",
        "lfp": "channel",
        "dff": "roi",
        "arrays": "series",
        "movie": "pixels",
        "hand": "behaviour",
        "light": "stimulus",
        "photometry": "input",
        "notes": "events",
        "trials": "intervals",
        "sweep": "other",
        "snippets": "other",
        "elsewhere": "other",
    }
    assert contents["units"].call == "recording.spikes(bin_size=0.02)"
    assert contents["lfp"].call == 'recording.series("lfp")'
    assert contents["hand"].call == 'recording.series("hand", like=X)'
    assert contents["notes"].call == 'recording.events("notes", like=X)'
    assert contents["trials"].call == "recording.trials"
    assert contents["movie"].call == 'recording.series("movie")'
    assert "a sweep of one cell" in contents["sweep"].reason
    assert "waveforms around spikes" in contents["snippets"].reason
    assert "a single channel; a network needs several" in contents["photometry"].reason
    assert {content.name for content in open_nwb(rich).fittable} == {"units", "dff", "lfp", "arrays", "movie"}


def test_calls_that_are_printed_work(rich):
    recording = open_nwb(rich)
    X = recording.spikes(0.1)
    for content in recording.contents:
        if content.call:
            eval(content.call, {"recording": recording, "X": X})


def test_prints_as_a_table(rich):
    recording = open_nwb(rich)
    text = repr(recording)
    assert text.startswith("NWB recording rich.nwb (")
    assert "made by a test" in text
    assert "rat-7 Rattus norvegicus" in text
    for line in (
        "  lfp     ElectricalSeries   4 channels, 100 samples, 50 Hz, 2 s, V",
        "  trials  TimeIntervals  2 rows: start_time, stop_time, side  recording.trials",
        "2 units, 3 spikes",
    ):
        assert line in text
    assert "Nothing to fit" not in text
    page = recording._repr_html_()
    assert page.startswith("<div>")
    assert "recording.series(&quot;lfp&quot;)" in page


def test_many_contents_are_cut_short(tmp_path):
    with new_nwb(tmp_path / "many.nwb") as file:
        for k in range(25):
            add_series(file, f"acquisition/s{k:02}", np.zeros((4, 2)), rate=1.0)
    recording = open_nwb(tmp_path / "many.nwb")
    assert "... and 5 more" in repr(recording)
    assert len(recording.fittable) == 25


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda file: None, "the file holds no units, no time series and no intervals"),
        (lambda file: add_trials(file, [0.0], [1.0]), "the file holds intervals, but no population"),
        (lambda file: add_units(file, []), "the units table has no rows"),
        (lambda file: add_table(file, "units", "Units", [0], depth=[1.0]), "no column spike_times.; .*: depth"),
        (lambda file: add_series(file, "acquisition/a", np.zeros((0, 3)), rate=1.0), "the series is empty"),
        (lambda file: add_series(file, "acquisition/a", np.zeros((5, 3))), "neither timestamps nor a single starting"),
        (lambda file: add_series(file, "acquisition/a", np.zeros((5, 3), complex), rate=1.0), "no real numbers"),
        (lambda file: add_series(file, "acquisition/a", np.zeros((5, 3, 2)), rate=1.0), "3 dims .*wanted .time, unit"),
    ],
)
def test_nothing_to_fit_is_said_in_one_sentence(tmp_path, build, text):
    with new_nwb(tmp_path / "a.nwb") as file:
        build(file)
    recording = open_nwb(tmp_path / "a.nwb")
    assert recording.fittable == []
    assert re.search(text, recording.reason)
    assert "Nothing to fit: " + recording.reason in repr(recording)
    assert recording.reason in html.unescape(recording._repr_html_())


def test_data_in_a_missing_file(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        group = add_series(file, "acquisition/a", np.zeros((5, 3)), rate=1.0)
        del group["data"]
        group["data"] = h5py.ExternalLink("gone.h5", "/x")
        other = add_series(file, "acquisition/b", np.zeros((5, 3)))
        other["timestamps"] = h5py.SoftLink("/nowhere")
    recording = open_nwb(tmp_path / "a.nwb")
    assert any("`data` lies in another file, gone.h5, which is missing" in text for text in recording.problems)
    assert any("`timestamps` is a link to /nowhere, which is missing" in text for text in recording.problems)


def test_same_name_in_two_modules(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        add_series(file, "processing/a/x", np.ones((5, 3)), rate=1.0)
        add_series(file, "processing/b/x", np.zeros((5, 3)), rate=1.0)
    recording = open_nwb(tmp_path / "a.nwb")
    with pytest.raises(
        ValueError, match=r"name: 'x' names 2 series: /processing/a/x, /processing/b/x; pass the full path"
    ):
        recording.series("x")
    assert recording.series("/processing/a/x").sum() == 15
    assert recording.series("b/x").sum() == 0
    assert [content.call for content in recording.fittable] == [
        'recording.series("/processing/a/x")',
        'recording.series("/processing/b/x")',
    ]


def test_choose_names_the_choices_and_the_closest(rich):
    series = read_catalog(resolve(rich)).series
    with pytest.raises(
        ValueError, match=r"name: got 'dfff', wanted one of .*did you mean '/processing/ophys/DfOverF/dff'"
    ):
        choose(series, "dfff", "name", "series")
    with pytest.raises(ValueError, match="name: got 'x', but the file holds no series"):
        choose((), "x", "name", "series")
    with pytest.raises(TypeError, match="name: got int, wanted the name of a series as text"):
        choose(series, 3, "name", "series")
    assert listed([]) == ""


def test_old_matnwb_attributes_are_arrays_of_bytes(tmp_path):
    path = tmp_path / "a.nwb"
    with new_nwb(path) as file:
        for name, value in (("nwb_version", b"2.0b"), ("neurodata_type", b"NWBFile")):
            file.attrs[name] = np.array([value])
        group = add_series(file, "acquisition/ecog", np.ones((10, 3)), rate=2.0)
        group.attrs["neurodata_type"] = np.array([b"ElectricalSeries"])
        group["data"].attrs["unit"] = np.array([b"V"])
        table = add_trials(file, [0.0], [1.0], path="intervals/trials")
        table.attrs["colnames"] = np.array([b"start_time", b"stop_time"])
        table.attrs["neurodata_type"] = np.array([b"TimeIntervals"])
    recording = open_nwb(path)
    assert recording.nwb_version == "2.0b"
    assert recording.series().attrs["units"] == "V"
    assert recording.trials.sizes["trial"] == 1


def test_region_without_its_table(tmp_path):
    with new_nwb(tmp_path / "a.nwb") as file:
        table = add_table(file, "general/extracellular_ephys/electrodes", "DynamicTable", [0, 1], x=[1.0, 2.0])
        group = add_series(file, "acquisition/a", np.ones((10, 2)), "ElectricalSeries", rate=1.0)
        add_region(group, "electrodes", [0, 5], table)  # row 5 does not exist
    X = open_nwb(tmp_path / "a.nwb").series()
    assert X.unit.values.tolist() == [0, 1]
    assert "x" not in X.coords


def test_hundreds_of_series_are_opened_by_three_objects_each(tmp_path, monkeypatch):
    with new_nwb(tmp_path / "a.nwb") as file:
        for k in range(400):
            file.create_group(f"acquisition/s{k}").attrs["neurodata_type"] = "TimeSeries"
            file[f"acquisition/s{k}/data"] = 0.0
    opened, dear = [], []
    open_object, take = h5py.h5o.open, h5py.Group.__getitem__
    monkeypatch.setattr(h5py.h5o, "open", lambda *given, **how: opened.append(given) or open_object(*given, **how))
    monkeypatch.setattr(h5py.Group, "__getitem__", lambda group, name: dear.append(name) or take(group, name))
    assert len(open_nwb(tmp_path / "a.nwb").catalog.series) == 400
    assert len(opened) <= 3 * 400 + 50  # a series and its data, and not one of them through h5py's ten times dearer way
    assert len(dear) < 10


def test_of_very_many_series_only_the_places_are_read_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "_MOST_AT_ONCE", 2)
    path = tmp_path / "many.nwb"
    with new_nwb(path) as file:
        for k in range(3):
            add_series(file, f"acquisition/s{k}", np.arange(4.0) + k, rate=10.0)
    late, gone = open_nwb(path), open_nwb(path)
    assert [place.path for place in late.catalog.places] == [f"/acquisition/s{k}" for k in range(3)]
    monkeypatch.setattr(catalog, "_MOST_AT_ONCE", 3)
    assert late.catalog.series == open_nwb(path).catalog.series
    assert repr(late) == repr(open_nwb(path))
    with h5py.File(path, "a") as file:
        del file["acquisition/s1"]
    with pytest.raises(ChangedFileError, match="a series is gone since the file was opened; open it again"):
        repr(gone)
