"""A fitted model into the user's own recording and back: units linked, other readers content, nothing else changed."""

import os
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pynapple
import pynwb
import pytest
from nwbinspector import inspect_nwbfile

import nwb_lrrnn.models.smc  # noqa: F401  slow to import, and the first result would import it
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.io.writing.recording_file import write_recording
from nwb_lrrnn.io.writing.untouched import check_untouched
from nwb_lrrnn.models.linear import FactorAnalysis
from nwb_lrrnn.results import load_model, read_results, write_results
from small_nwb import add_region, add_series, add_table, add_units, new_nwb

BIN = 0.02
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # what is stored matters
ROOT = Path(os.environ.get("NWB_LRRNN_DATA", "nowhere"))
FILES = sorted([*ROOT.glob("nwb/*.nwb"), *ROOT.glob("corpus/**/*.nwb")])


def real(test):
    """Return a test that runs with each real recording."""
    test = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)(test)
    return pytest.mark.skipif(not FILES, reason="NWB_LRRNN_DATA does not name a folder of recordings")(test)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "session.nwb"
    session = {"institution": "The University", "lab": "The Lab", "experimenter": ["Doe, Jane"]}
    counts = np.random.default_rng(0).poisson(1.0, (6, 30, 5))
    return write_recording(path, counts, bin_size=BIN, session=session, random_state=0)


@pytest.fixture(scope="module")
def X(original):
    return open_nwb(original).spikes(BIN, trials=[0, 1, 2, 3, 4, 5], units=[4, 1, 3]).load()


@pytest.fixture(scope="module")
def model(X):
    return FactorAnalysis(rank=1).fit(X)


def inspected(path):
    return {message.check_function_name for message in inspect_nwbfile(nwbfile_path=str(path))}


@pytest.fixture(scope="module")
def found_before(original):
    return inspected(original)


@pytest.fixture
def path(tmp_path, original):
    return Path(shutil.copy(original, tmp_path / "session.nwb"))


def test_results_come_back_and_the_rest_stays(path, original, model, X):
    latents = model.transform(X)
    assert write_results(model=model, latents=latents, metrics={"score": -1.0}, into=path, source=path) == path
    check_untouched(original, path, "processing/lrrnn")
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.transform(X), latents)  # to the last bit
    results = read_results(path)
    np.testing.assert_array_equal(results["trials/latents"], latents)
    assert list(results["units/unit"].values) == [4, 1, 3]
    assert list(results["units/source_row"].values) == [4, 1, 3]
    assert results["source"].attrs["identifier"] == open_nwb(original).session["identifier"]
    assert results["source"].attrs["size_in_bytes"] == original.stat().st_size
    again = open_nwb(path).spikes(BIN, trials=[0, 1, 2, 3, 4, 5], units=[4, 1, 3])
    np.testing.assert_array_equal(again, X)


def test_loadings_are_linked_to_the_units_of_the_recording(path, model):
    write_results(model=model, into=path)
    with h5py.File(path) as file:
        region = file["processing/lrrnn/unit_loadings/unit"]
        assert file[region.attrs["table"]].name == "/units"
        np.testing.assert_array_equal(region, [4, 1, 3])
        assert "unit_reference" not in file["processing/lrrnn"]
    nwbfile = pynwb.read_nwb(str(path))
    column = nwbfile.processing["lrrnn"]["unit_loadings"]["unit"]
    assert column.table is nwbfile.units
    assert list(column[0].index) == [4]
    nwbfile.get_read_io().close()


@pytest.mark.parametrize(("kind", "table"), [("roi", "PlaneSegmentation"), ("channel", "electrodes")])
def test_rois_and_electrodes(tmp_path, kind, table):
    values = np.random.default_rng(1).normal(size=(120, 3))
    path = write_recording(tmp_path / "a.nwb", values, bin_size=BIN, unit_kind=kind)
    X = open_nwb(path).series().load()
    write_results(model=FactorAnalysis(rank=1).fit(X), into=path)
    with h5py.File(path) as file:
        region = file["processing/lrrnn/unit_loadings/unit"]
        assert file[region.attrs["table"]].name.endswith(table)
        np.testing.assert_array_equal(region, [0, 1, 2])


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0]])
def test_units_whose_ids_repeat_in_the_file(tmp_path, rows):
    path = tmp_path / "a.nwb"
    spikes = [np.arange(0.005, 4.0, step) for step in (0.1, 0.03, 0.07)]
    with new_nwb(path) as file:
        add_units(file, spikes, ids=[3, 3, 5], location=["MOs", "CP", "MOs"])
    X = open_nwb(path).spikes(BIN, units=rows).load()
    assert X["unit"].values.tolist() == rows  # rows stand for the ids
    write_results(model=FactorAnalysis(rank=1).fit(X), into=path)
    with h5py.File(path) as file:
        region = file["processing/lrrnn/unit_loadings/unit"]
        assert file[region.attrs["table"]].name == "/units"
        np.testing.assert_array_equal(region, rows)
    units = read_results(path)["units"]
    assert units["unit"].values.tolist() == rows
    assert units["location"].values.tolist() == [["MOs", "CP", "MOs"][row] for row in rows]


def test_two_series_of_the_rois_of_one_segmentation(tmp_path):
    path = tmp_path / "a.nwb"
    values = np.random.default_rng(2).normal(size=(80, 3))
    segmentation = "processing/ophys/ImageSegmentation/plane"
    rows = {"raw": [0, 1, 2], "dff": [0, 1, 2], "red": [4, 2, 1], "odd": [0, 1]}  # odd: warned of only where it is read
    with new_nwb(path) as file:
        table = add_table(file, segmentation, "PlaneSegmentation", [10, 11, 12, 13, 14], depth=np.arange(5.0))
        for name, places in rows.items():
            group = add_series(file, f"processing/ophys/Fluorescence/{name}", values, "RoiResponseSeries", rate=50.0)
            add_region(group, "rois", places, table)
    for name, ids in {"dff": [10, 11, 12], "red": [14, 12, 11]}.items():
        X = open_nwb(path).series(name).load()
        assert X["unit"].values.tolist() == ids
        write_results(model=FactorAnalysis(rank=1).fit(X), into=path, module=name)
        with h5py.File(path) as file:
            region = file[f"processing/{name}/unit_loadings/unit"]
            assert file[region.attrs["table"]].name == f"/{segmentation}"
            np.testing.assert_array_equal(region, rows[name])


def test_pynwb_and_pynapple_accept_the_file(path, model, X):
    write_results(model=model, latents=model.transform(X), into=path, source=path)
    assert pynwb.validate(path=str(path)) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynapple's own
        data = pynapple.load_file(str(path))
    assert data["latents"].shape == (180, 1)


@pytest.mark.slow
def test_the_inspector_finds_no_more_than_before(path, found_before, model, X):
    write_results(model=model, latents=model.transform(X), into=path, source=path)
    assert inspected(path) - found_before == {"check_processing_module_name"}


def test_several_results_in_one_recording(path, model, X):
    write_results(model=model, into=path)
    write_results(model=FactorAnalysis(rank=2).fit(X), into=path, if_exists="new")
    write_results(model=model, into=path, module="lrrnn_fast")
    with pytest.raises(ValueError, match=r"holds 3 results: lrrnn \(FactorAnalysis, .*say which, module='lrrnn_fast'"):
        load_model(path)
    assert load_model(path, "lrrnn_2").rank == 2
    assert read_results(path, module="lrrnn")["parameters"].attrs["rank"] == 1


def test_a_result_takes_the_place_of_another(path, model, X):
    write_results(model=model, into=path)
    with pytest.raises(FileExistsError, match="pass if_exists='replace' or 'new'"):
        write_results(model=model, into=path)
    write_results(model=FactorAnalysis(rank=2).fit(X), into=path, if_exists="replace")
    assert load_model(path).rank == 2


def test_a_recording_with_results_is_still_a_recording(path, model):
    write_results(model=model, into=path)
    with pytest.raises(FileExistsError, match="a recording is never replaced"):
        write_results(path, model, overwrite=True)


def test_units_that_are_not_there(path, model, X, caplog):
    stranger = FactorAnalysis(rank=1).fit(X.assign_coords(unit=[4, 99, 3]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="the units 99 of the model are in no population of session.nwb"):
        write_results(model=stranger, into=path)
    assert path.read_bytes() == before
    caplog.set_level("INFO", logger="nwb_lrrnn")
    write_results(model=FactorAnalysis(rank=1).fit(X.values), into=path)
    assert "fitted without unit ids" in caplog.text
    with h5py.File(path) as file:
        assert "unit_reference" in file["processing/lrrnn"]


def test_where_results_go_is_said_once(tmp_path, path, model):
    with pytest.raises(TypeError, match="path, into: got neither"):
        write_results(model=model)
    with pytest.raises(TypeError, match="path, into: got both"):
        write_results(tmp_path / "a.nwb", model, into=path)
    with pytest.raises(TypeError, match=r"path, into: got both|path: got FactorAnalysis"):
        write_results(model, into=path)
    with pytest.raises(TypeError, match=r"path: got FactorAnalysis, wanted the path of a file: write_results\(path, m"):
        write_results(model)
    with pytest.raises(TypeError, match="model: got a NoneType"):
        write_results(into=path)
    with pytest.raises(ValueError, match="with into= pass if_exists='replace'"):
        write_results(model=model, into=path, overwrite=True)
    with pytest.raises(ValueError, match="if_exists: got 'new' without into="):
        write_results(tmp_path / "a.nwb", model, if_exists="new")


def into_a_copy(file, folder):
    """Return a copy of a recording with a result in it; None where it was refused in one line and left as it was."""
    path = Path(shutil.copyfile(file, folder / file.name))
    model = FactorAnalysis(rank=1).fit(np.random.default_rng(0).normal(size=(4, 20, 3)))
    refusal = None
    try:
        write_results(model=model, into=path)
    except ValueError as error:
        refusal = str(error)
    if refusal is None:
        assert load_model(path).get_params() == model.get_params()
        return path
    assert "\n" not in refusal
    assert path.read_bytes() == file.read_bytes()
    return None


@real
def test_real_recordings_end_in_a_result_or_a_sentence(tmp_path, file):
    path = into_a_copy(file, tmp_path)  # its module was validated before it went there
    if path is not None:
        check_untouched(file, path, "processing/lrrnn")


@real
@pytest.mark.slow
def test_real_recordings_are_as_valid_as_before(tmp_path, file):
    path = into_a_copy(file, tmp_path)
    if path is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on old schemas
        try:
            before = {str(error) for error in pynwb.validate(path=str(file))}
        except (ValueError, AttributeError):  # pynwb cannot read the recording, so nor what was made of it
            return
        assert {str(error) for error in pynwb.validate(path=str(path))} <= before
