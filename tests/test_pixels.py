"""Movies of cells as populations of pixels: known frames, blocks, masks, sizes, refusals; two sources told apart."""

import re

import h5py
import numpy as np
import pytest

from nwb_lrrnn import DisRNN, PCADenoise
from nwb_lrrnn.io.reading import pixels
from small_nwb import add_series, add_trials, add_units, ramp

FRAMES = np.arange(6 * 5 * 4).reshape(6, 5, 4).astype(np.uint16)


def add_movie(file, data=FRAMES, kind="TwoPhotonSeries", path="acquisition/movie", rate=10.0, **more):
    return add_series(file, path, data, kind, rate=rate, units="a.u.", **more)


@pytest.mark.parametrize("kind", ["TwoPhotonSeries", "OnePhotonSeries", "VoltageImagingSeries"])
def test_every_pixel_is_a_unit(make, kind):
    recording = make(lambda file: add_movie(file, kind=kind, conversion=0.5, offset=1.0))
    content = recording.fittable[0]
    assert (content.kind, content.n_units, content.call) == ("pixels", 20, 'recording.series("movie")')
    assert "5 x 4 pixels, 6 frames, 10 Hz, 0.6 s, 0.00024 MB, a.u." in repr(recording)
    assert recording.problems == []
    X = recording.series()
    np.testing.assert_array_equal(X.values, FRAMES.reshape(6, 20) * 0.5 + 1.0)
    assert X.dims == ("time", "unit")
    assert X["unit_kind"].item() == "pixel"
    assert (X["x"][7].item(), X["y"][7].item()) == (1, 3)
    assert X.attrs["frame_shape"] == [5, 4]
    np.testing.assert_allclose(X["time"], np.arange(6) / 10)


def test_means_of_blocks_also_smaller_ones_at_the_edge(make):
    recording = make(add_movie)
    X = recording.series("movie", binning=2)
    assert X.attrs["frame_shape"] == [3, 2]
    blocks = [[FRAMES[:, a : a + 2, b : b + 2].mean(axis=(1, 2)) for b in (0, 2)] for a in (0, 2, 4)]
    np.testing.assert_allclose(X.values, np.stack([block for row in blocks for block in row], axis=1))
    assert X["x"].values.tolist() == [0.5, 0.5, 2.5, 2.5, 4, 4]
    assert X["n_pixels"].values.tolist() == [4, 4, 4, 4, 2, 2]
    whole = recording.series("movie", binning=5)
    np.testing.assert_allclose(whole.values[:, 0], FRAMES.mean(axis=(1, 2)))


def test_a_mask_says_which_pixels_count(make):
    mask = np.zeros((5, 4), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 3] = True
    recording = make(add_movie)
    X = recording.series("movie", mask=mask)
    np.testing.assert_array_equal(X.values, FRAMES[:, mask])
    assert X["unit"].values.tolist() == [0, 5, 19]
    X = recording.series("movie", binning=2, mask=mask)
    np.testing.assert_allclose(X.values, np.stack([FRAMES[:, [0, 1], [0, 1]].mean(axis=1), FRAMES[:, 4, 3]], axis=1))
    assert X["unit"].values.tolist() == [0, 5]
    every = recording.series("movie", binning=2, mask=np.ones((5, 4), bool))
    np.testing.assert_array_equal(every, recording.series("movie", binning=2))


def test_what_does_not_count_may_be_no_number(make):
    frames = FRAMES.astype(np.float32)
    frames[:, 0] = np.nan
    mask = np.ones((5, 4), bool)
    mask[0] = False
    X = make(lambda file: add_movie(file, frames)).series("movie", binning=2, mask=mask)
    np.testing.assert_allclose(X.values[:, 0], FRAMES[:, 1, :2].mean(axis=1))


def test_volumes_trials_bins_and_selections_agree(make):
    volumes = np.random.default_rng(0).normal(size=(40, 4, 6, 2)).astype(np.float32)

    def build(file):
        add_trials(file, [0.5, 2.0], [1.5, 3.0])
        add_movie(file, volumes)

    recording = make(build)
    X = recording.series("movie", binning=2)
    assert X.shape == (40, 6)
    assert X["z"].values.tolist() == [0.5] * 6
    np.testing.assert_allclose(X[:, 3], volumes[:, 2:4, 0:2].mean(axis=(1, 2, 3)), rtol=1e-5)
    some = recording.series("movie", binning=2, units="x > 1 and y < 3")
    np.testing.assert_array_equal(some, X.isel(unit=[3, 4]))
    trials = recording.series("movie", binning=2, intervals="trials")
    np.testing.assert_allclose(trials.values, np.stack([X.values[5:15], X.values[20:30]]), rtol=1e-6)
    slow = recording.series("movie", 0.2, window=(-0.05, 3.95), binning=2)
    np.testing.assert_allclose(slow.values, X.values.reshape(20, 2, 6).mean(axis=1), rtol=1e-5)


def test_little_of_a_movie_is_read_at_a_time(make, monkeypatch):
    asked = []
    read = pixels.read_dataset

    def noted(source, path, key, **how):
        asked.append(tuple(part.stop - part.start for part in key))
        return read(source, path, key, **how)

    monkeypatch.setattr(pixels, "read_dataset", noted)
    monkeypatch.setattr(pixels, "_READ_BYTES", 2 * 20 * 4)  # two frames
    X = make(add_movie).series("movie")
    assert asked == []  # nothing before it is computed
    assert X.chunks[0] == (2, 2, 2)
    np.testing.assert_array_equal(X.compute(), FRAMES.reshape(6, 20))
    assert set(asked) == {(2, 5, 4)}
    asked.clear()
    np.testing.assert_array_equal(X[2:4, 5:9], FRAMES.reshape(6, 20)[2:4, 5:9])
    assert set(asked) == {(2, 2, 4)}  # the rows of the frame that hold these pixels
    np.testing.assert_array_equal(X[4:1:-1, [9, 5]], FRAMES.reshape(6, 20)[4:1:-1][:, [9, 5]])


def test_many_pixels_are_proposed_in_blocks(make):
    recording = make(lambda file: add_movie(file, np.zeros((2, 100, 120), np.uint8)))
    assert recording.fittable[0].call == 'recording.series("movie", binning=4)'
    assert recording.series("movie", binning=4).sizes["unit"] == 750


def test_rois_go_before_their_movie(make):
    def build(file):
        add_movie(file)
        add_series(file, "processing/ophys/DfOverF/dff", ramp(8), "RoiResponseSeries", rate=10.0)

    recording = make(build)
    assert recording.series().name == "dff"
    assert {content.name for content in recording.fittable} == {"dff", "movie"}
    with pytest.raises(ValueError, match="binning: /processing/ophys/DfOverF/dff is no movie and has no pixels"):
        recording.series("dff", binning=2)
    assert "as frames; recording.series" in recording.to_datatree()["acquisition/movie"].attrs["reason"]


def external(file):
    for name, kind in (("movie", "TwoPhotonSeries"), ("face", "ImageSeries")):
        group = add_movie(file, np.zeros((0, 0, 0), np.uint8), kind, f"acquisition/{name}")
        group["external_file"] = np.array(["movie_1.avi", "movie_2.avi"], dtype=h5py.string_dtype())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (external, r"movie: the frames lie in other files \(movie_1.avi and 1 more\), which are not read"),
        (lambda file: add_movie(file, np.zeros((0, 4, 4))), r"the movie holds no frames \(shape \(0, 4, 4\)\)"),
        (lambda file: add_movie(file, np.zeros((4, 4))), r"the data have 2 dims \(4, 4\), wanted \(time, x, y\)"),
        (lambda file: add_movie(file, rate=None), "neither timestamps nor a single starting_time"),
        (
            lambda file: add_movie(file, np.zeros((4, 5, 9)), rate=None, timestamps=np.arange(9.0)),
            r"time comes last in data of shape \(4, 5, 9\)",
        ),
        (lambda file: add_movie(file, rate=None, timestamps=np.arange(5.0)), r"got shape \(5,\) for 6 samples"),
    ],
)
def test_what_is_not_read_says_why(make, build, said):
    recording = make(build)
    assert any(re.search(said, problem) for problem in recording.problems)
    with pytest.raises(ValueError, match=said):
        recording.series("movie", 0.1)
    if build is external:
        reasons = {content.name: content.reason for content in recording.contents}
        assert all("movie_1.avi and 1 more" in reason for reason in reasons.values())
        assert "movie_1.avi" in recording.reason


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"binning": 0}, "binning: got 0, wanted the side of a block in pixels, a whole number from 1 to 5"),
        ({"binning": 2.0}, "binning: got 2.0"),
        (
            {"mask": np.ones((4, 5), bool)},
            r"mask: got bool of shape \(4, 5\), wanted a boolean array of shape \(5, 4\)",
        ),
        ({"mask": np.ones((5, 4))}, "mask: got float64"),
        ({"mask": np.zeros((5, 4), bool)}, r"mask: no pixel of \(5, 4\) is True"),
    ],
)
def test_blocks_and_masks_that_make_no_sense(make, how, said):
    with pytest.raises(ValueError, match=said):
        make(add_movie).series("movie", **how)


def test_units_of_a_file_with_a_movie_stay_units(make):
    def build(file):
        add_units(file, [[0.1, 0.3], [0.2]])
        add_movie(file)

    from nwb_lrrnn.io.writing.unit_rows import find_units

    recording = make(build)
    found = find_units(recording, [0, 1])
    assert found is not None
    assert found.table == "/units"
    blocks = find_units(recording, [0, 5], "/acquisition/movie")
    assert blocks is not None
    assert blocks.table == ""


def test_two_sources_of_a_movie_are_told_apart(make, tmp_path):
    rng = np.random.default_rng(0)
    n_frames, n_trials = 50, 24
    spots = np.zeros((2, 8, 8))
    spots[0, 1:4, 1:4] = spots[1, 4:7, 4:7] = 1.0
    time = np.arange(n_frames) / 10

    def course(frequency):  # damped oscillations, from a state of their own in every trial
        phase = rng.uniform(0, 2 * np.pi, (n_trials, 1))
        return np.cos(2 * np.pi * frequency * time + phase).ravel()

    courses = np.stack([course(0.5), course(1.3)], axis=1)
    frames = np.einsum("tk,kxy->txy", courses, spots) + 0.2 * rng.normal(size=(n_frames * n_trials, 8, 8))

    def build(file):
        starts = np.arange(n_trials) * n_frames / 10
        add_trials(file, starts, starts + n_frames / 10)
        add_movie(file, frames.astype(np.float32))

    recording = make(build)
    X = recording.series("movie", binning=1, mask=spots.any(axis=0), intervals="trials")
    clean = PCADenoise(rank=4).fit_transform(X)
    model = DisRNN(rank=4, n_groups=2, max_epochs=60, random_state=0).fit(clean)
    latents = model.transform(clean).values.reshape(-1, 4)
    explained = np.array([[_explained(latents[:, group], true) for true in courses.T] for group in ([0, 1], [2, 3])])
    assert explained.max(axis=1).min() > 0.8, explained  # each group follows one source
    assert explained.argmax(axis=1).tolist() in ([0, 1], [1, 0])
    assert explained.min(axis=1).max() < 0.2, explained  # and knows little of the other


def _explained(latents, target):
    """Return the share of a course that a linear readout of latents explains."""
    design = np.column_stack([latents, np.ones(len(latents))])
    left = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return 1 - left.var() / target.var()


@pytest.mark.parametrize("conversion", [np.nan, "0.5", 0.0])
def test_a_conversion_that_is_no_number_is_no_1(make, conversion):
    recording = make(lambda file: add_movie(file, conversion=conversion))
    assert any("movie: `conversion` is" in problem for problem in recording.problems)
    with pytest.raises(ValueError, match="`conversion` is"):
        recording.series("movie")
