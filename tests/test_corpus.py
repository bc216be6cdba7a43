"""Real files of many writers: each ends in something to fit or one clear sentence, never in a traceback.

They are found through the environment variable NWB_LRRNN_DATA; without it these tests are skipped.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.io.backend import NWBBackend
from nwb_lrrnn.io.errors import NotBuiltError, OldNWBError
from nwb_lrrnn.io.reading.recording import open_nwb

ROOT = Path(os.environ.get("NWB_LRRNN_DATA", "nowhere"))
FILES = sorted([*ROOT.glob("nwb/*.nwb"), *ROOT.glob("corpus/**/*.nwb")])
needs_data = pytest.mark.skipif(not FILES, reason="NWB_LRRNN_DATA does not name a folder of recordings")
OLD = {"hackathon18_mutant_photoreceptor_nwb1", "matnwb_retina_20080606_R1", "metacell_nwb_test_file"}


@needs_data
@pytest.mark.parametrize("path", [path for path in FILES if path.stem in OLD], ids=lambda path: path.stem)
def test_nwb_1_is_refused_in_one_sentence(path):
    with pytest.raises(OldNWBError, match="this is NWB 1.* wanted NWB 2"):
        open_nwb(path)


@needs_data
@pytest.mark.filterwarnings("ignore:.*carry no metadata")
@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in OLD], ids=lambda path: path.stem)
def test_opens_prints_and_ends_in_a_selection_or_a_sentence(path):
    recording = open_nwb(path)
    assert recording.source.name in repr(recording)
    assert recording._repr_html_().startswith("<div>")
    assert all(isinstance(problem, str) and "\n" not in problem for problem in recording.problems)
    assert len(recording.dropped_trials) >= 0
    for name in recording.intervals:
        assert recording.intervals[name].sizes["trial"] >= 0
    if not recording.fittable:
        assert recording.reason
        assert "\n" not in recording.reason
    for content in recording.fittable:
        X, sentence = read(recording, content)
        if sentence is not None:
            assert sentence in recording.problems
            continue
        assert X.dims == ("time", "unit")
        assert np.isfinite(X[:50].values).all()
        assert X.attrs["source"] == recording.uri


@needs_data
@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in OLD], ids=lambda path: path.stem)
def test_is_a_tree_of_lazy_arrays_or_reasons(path):
    recording = open_nwb(path)
    tree = recording.to_datatree()
    opened = xr.open_datatree(path, engine=NWBBackend)
    reasons = [node.attrs["reason"] for node in tree.subtree if "reason" in node.attrs]
    assert all("\n" not in reason for reason in reasons)
    assert {content.path for content in recording.contents} <= {node.path for node in tree.subtree}
    xr.testing.assert_identical(tree.load(), opened.load())
    for content in recording.fittable:
        assert tree[content.path].data_vars or "reason" in tree[content.path].attrs


@needs_data
@pytest.mark.filterwarnings("ignore::UserWarning")  # pynwb has much to say of old files
@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in OLD], ids=lambda path: path.stem)
def test_comes_over_to_pynwb_or_says_why(path):
    recording = open_nwb(path)
    identifier, said = str(recording.session["identifier"]), path.name
    try:
        with recording.as_pynwb() as nwbfile:
            identifier = nwbfile.identifier
    except NotBuiltError as error:
        said = str(error)
    assert identifier == str(recording.session["identifier"])
    assert path.name in said
    assert "\n" not in said


@needs_data
@pytest.mark.filterwarnings("ignore:.*carry no metadata")
@pytest.mark.parametrize("path", [path for path in FILES if path.stem not in OLD], ids=lambda path: path.stem)
def test_comes_over_to_pynapple_or_says_why(path):
    pytest.importorskip("pynapple")
    objects = open_nwb(path).to_pynapple()
    said = []
    for name in objects:
        try:
            assert len(objects[name])
        except ValueError as error:
            said.append(str(error))
    assert all(re.fullmatch(r"/\S.*", text) for text in said)  # one sentence, which names the place in the file


def read(recording, content):
    """Return the population and None, or None and the sentence why it cannot be read."""
    try:
        return (recording.spikes(0.02) if content.kind == "units" else recording.series(content.path)), None
    except ValueError as error:
        return None, str(error)


@needs_data
def test_maze_counts_are_those_of_the_file():
    import h5py

    path = ROOT / "nwb" / "nlb_mc_maze_small_test.nwb"
    X = open_nwb(path).spikes(bin_size=0.02, align="move_onset_time", window=(-0.25, 0.45))
    assert X.shape == (100, 35, 107)
    assert "observed" not in X.coords
    with h5py.File(path) as file:
        times = np.split(file["units/spike_times"][()], file["units/spike_times_index"][:-1])
        onsets = file["intervals/trials/move_onset_time"][()]
    inside = [[((t >= onset - 0.25) & (t < onset + 0.45)).sum() for t in times] for onset in onsets]
    assert abs(int(X.sum()) - int(np.sum(inside))) <= 1  # a spike on the outer edge, to rounding
    np.testing.assert_allclose(X.sum("time"), inside, atol=1)
    assert set(X.location.values) == {"PMd"}  # what the file says, also of units 2021 and up, which are of M1


@needs_data
def test_ambiguous_imaging_and_behaviour():
    recording = open_nwb(ROOT / "nwb" / "gin_ophys_nwb_test.nwb")
    with pytest.raises(ValueError, match="the file holds 3 populations"):
        recording.series()
    assert recording.series("Deconvolved").shape == (250, 15)
    recording = open_nwb(ROOT / "nwb" / "monkey_m1_stevenson300s.nwb")
    X = recording.spikes(0.05)
    assert X.shape == (6000, 171)
    assert recording.series("hand_position", like=X).shape == (6000, 2)
    assert not recording.series("hand_velocity", like=X).isnull().any()
