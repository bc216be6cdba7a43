"""Results into a recording: whose they are, and that they are no data of it afterwards."""

import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

import nwb_lrrnn.models.smc  # noqa: F401  slow to import, and the first result would import it
from nwb_lrrnn.cli import main
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.io.writing.module_into import write_module_into
from nwb_lrrnn.io.writing.processing_module import read_module
from nwb_lrrnn.models.linear import FactorAnalysis
from nwb_lrrnn.results import read_results, write_results
from small_module import INFO, make_latents
from small_nwb import add_series, add_trials, add_units, new_nwb

BIN = 0.02
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # what is stored matters


def new_session(path, seed=0):
    """Write a recording with three units, whose ids and number say nothing of whose they are."""
    rng = np.random.default_rng(seed)
    with new_nwb(path) as file:
        add_units(file, [np.sort(rng.uniform(0, 4, 300)) for _ in range(3)], ids=[5, 6, 7])
    return path


def fitted(path):
    """Return a model of the units of a recording and the latents that it finds there."""
    X = open_nwb(path).spikes(BIN).load()
    model = FactorAnalysis(rank=1).fit(X)
    return model, model.transform(X)


@pytest.fixture
def two(tmp_path):
    return new_session(tmp_path / "one.nwb"), new_session(tmp_path / "other.nwb", seed=1)


def test_latents_of_another_recording_are_refused(two):
    own, other = two
    model, latents = fitted(own)
    before = other.read_bytes()
    with pytest.raises(
        ValueError, match=r"into: got '.*other.nwb', but the latents came from '.*one.nwb'; pass .*sourc"
    ):
        write_results(model=model, latents=latents, into=other)
    with pytest.raises(ValueError, match="but the latents came from"):
        write_results(model=model, latents=[latents], into=other)
    assert other.read_bytes() == before
    link = own.with_name("link.nwb")
    link.symlink_to(own)
    write_results(model=model, latents=latents, into=link)
    write_results(model=model, latents=latents.drop_attrs(), into=other)  # it says nothing of where it is from


def test_an_address_is_another_recording(two):
    model, latents = fitted(two[0])
    latents.attrs["source"] = "https://me:pw@host/one.nwb?token=secret"
    with pytest.raises(ValueError, match="came from 'https://host/one.nwb'; pass") as refusal:
        write_results(model=model, latents=latents, into=two[0])
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("opened", [False, True])
def test_another_source_that_is_said_is_noted_and_not_linked(two, opened):
    own, other = two
    model, latents = fitted(own)
    write_results(model=model, latents=latents, into=other, source=open_nwb(own) if opened else own)
    results = read_results(other)
    assert results["source"].attrs["uri"] == own.name
    assert results["units/source_row"].values.tolist() == [0, 1, 2]
    with h5py.File(other) as file:
        module = file["processing/lrrnn"]
        assert file[module["unit_loadings/unit"].attrs["table"]] == module["unit_reference"]


def test_a_recording_that_was_moved_is_its_own_source(two):
    model, latents = fitted(two[0])
    moved = Path(shutil.move(two[0], two[0].with_name("moved.nwb")))
    write_results(model=model, latents=latents, into=moved, source=moved)
    assert read_results(moved)["source"].attrs["uri"] == moved.name
    with h5py.File(moved) as file:
        assert file[file["processing/lrrnn/unit_loadings/unit"].attrs["table"]].name == "/units"


@pytest.fixture
def eeg(tmp_path):
    """Return a recording of one series, without trials, with the results of two fits; and what they are made of."""
    path = tmp_path / "eeg.nwb"
    with new_nwb(path) as file:
        add_series(file, "acquisition/eeg", np.random.default_rng(0).normal(size=(200, 3)), rate=50.0)
    X = open_nwb(path).series().load()
    model = FactorAnalysis(rank=2).fit(X)
    latents = model.transform(X)
    write_results(model=model, latents=latents, into=path)
    write_results(model=model, latents=latents, rates=model.inverse_transform(latents), into=path, if_exists="new")
    return path, X, latents


def test_results_are_no_populations_and_no_trials(eeg):
    path, X, latents = eeg
    recording = open_nwb(path)
    np.testing.assert_array_equal(recording.series(), X)
    assert [content.path for content in recording.fittable] == ["/acquisition/eeg"]
    assert not recording.intervals
    assert recording.dropped_trials.empty
    assert recording.problems == []
    for ask in (lambda: recording.trials, lambda: recording.series(bin_size=0.1, trials=[0])):
        with pytest.raises(ValueError, match="intervals: the file holds no table of trials"):
            ask()
    with pytest.raises(
        ValueError, match=r"got 'latents', wanted one of /acquisition/eeg; did you mean '/processing/lr"
    ):
        recording.series("latents")
    np.testing.assert_array_equal(recording.series("/processing/lrrnn/latents"), latents)
    trials = recording.intervals["/processing/lrrnn_2/latent_trials"]
    assert trials["start_time"].values.tolist() == [pytest.approx(-0.01)]
    whole = recording.series(bin_size=BIN, intervals="/processing/lrrnn/latent_trials", window=(0.5, 1.0))
    assert whole.sizes["trial"] == 1


def test_results_are_told_under_a_heading_of_their_own(eeg, capsys):
    path, *_ = eeg
    told = repr(open_nwb(path))
    assert "Results of earlier fits\n  lrrnn    ProcessingModule  latents (200, 2)" in told
    assert "latents (200, 2), rates (200, 3)" in told
    content = next(content for content in open_nwb(path).contents if content.kind == "results")
    assert content.call == "nwb_lrrnn.read_results(recording.uri, module='lrrnn')"
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(path)])
    shown = capsys.readouterr().out
    assert "Results of earlier fits" in shown
    assert "No problems found." in shown
    assert shown.rstrip().endswith("--rank 2")  # and no --series: there is one population


def test_names_of_the_recording_stay_its_own(tmp_path):
    path = tmp_path / "a.nwb"
    with new_nwb(path) as file:
        add_series(file, "acquisition/latents", np.random.default_rng(0).normal(size=(90, 3)), rate=50.0)
        add_trials(file, [0.0], [1.0], path="intervals/latent_trials")
        add_series(file, "processing/other/fine", np.zeros((9, 2)), rate=50.0)
        file.create_group("processing/other/fit_info")  # somebody else's
    write_module_into(path, latents=make_latents(), info=INFO)
    recording = open_nwb(path)
    assert recording.series("latents").shape == (90, 3)
    assert recording.trials.sizes["trial"] == 1
    assert recording.series("fine").shape == (9, 2)


def test_a_file_of_results_alone_says_so(two, tmp_path):
    model, latents = fitted(two[0])
    path = write_results(tmp_path / "result.nwb", model, latents=latents)
    recording = open_nwb(path)
    assert recording.reason == "the file holds results, but no population: no spike times, no ROI series and no " + (
        "electrical series"
    )
    with pytest.raises(ValueError, match="no series that is a population beside the results in /processing/lrrnn;"):
        recording.series()


def test_a_recording_that_is_called_module(two, tmp_path, monkeypatch):
    path = two[0].rename(tmp_path / "module.nwb")
    monkeypatch.chdir(tmp_path)
    write_module_into(path, info=INFO)
    assert read_module(path)["info"]["model"]["rank"] == 2


@pytest.mark.slow
def test_threads_do_not_meet(two):
    barrier = threading.Barrier(2)

    def write(path):
        for _ in range(3):
            barrier.wait(120)
            write_module_into(path, latents=make_latents(), info=INFO, if_exists="new")

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(write, path) for path in two]
    assert [job.exception() for job in jobs] == [None, None]


def test_nothing_stays_open(two, recwarn):
    warnings.simplefilter("always")
    write_module_into(two[0], info=INFO)
    assert [str(warning.message) for warning in recwarn if warning.category is ResourceWarning] == []


@pytest.mark.parametrize("name", [244 * "a" + ".nwb", 120 * "é" + ".nwb"])
def test_a_long_name(tmp_path, name):
    path = new_session(tmp_path / name)
    model, latents = fitted(path)
    write_results(model=model, latents=latents, into=path)
    write_results(tmp_path / name.replace(".nwb", "_r.nwb"), model, latents=latents)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ([1], r"metrics: got list, wanted a dict of numbers such as \{'score': -1.2\}, or a Dataset or DataFrame"),
        ({"a": "b"}, "metrics: got str for 'a', wanted a dict of numbers"),
        ({"a": [1.0]}, "metrics: got list for 'a', wanted"),
        ({"a": np.ones(2)}, "metrics: got ndarray for 'a', wanted"),
    ],
)
def test_metrics_that_are_no_numbers(two, tmp_path, metrics, told):
    model, _ = fitted(two[0])
    with pytest.raises(TypeError, match=told):
        write_results(tmp_path / "a.nwb", model, metrics=metrics)
    fine = {"a": np.float32(0.5), "b": np.array(2), "c": True}
    assert read_results(write_results(tmp_path / "a.nwb", model, metrics=fine))["metrics"].attrs == {
        "a": 0.5, "b": 2.0, "c": 1.0,
    }  # fmt: skip


def test_times_that_are_no_bins(two, tmp_path):
    model, latents = fitted(two[0])
    slow = latents.assign_coords(time=latents["time"].values * 2)
    with pytest.raises(ValueError, match=r"latents: got times that step by 0\.04 s with a bin_size of 0\.02 s, wanted"):
        write_results(tmp_path / "a.nwb", model, latents=slow)
    with pytest.raises(ValueError, match=r"latents: got times that step by 0\.04 s"):
        write_results(tmp_path / "a.nwb", model, latents=slow.drop_attrs())
    assert list(tmp_path.glob("a.nwb")) == []
