"""The study of a batch: what is right is read, what is wrong is named with the closest right thing."""

import pytest

from nwb_lrrnn.batch.plan import Fit, fits_of
from nwb_lrrnn.batch.recordings import BatchRecording, recordings_of
from nwb_lrrnn.batch.study import read_study
from small_archive import SmallArchive
from small_batch import planted_recording

LEAST = {"estimator": {"model": "lowrank", "rank": 2}}


def test_a_file_says_what_a_mapping_says(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        """
        [reading]
        bin_size = 0.02
        window = [-0.2, 0.4]
        [[preprocessing]]
        step = "ZScore"
        [estimator]
        model = "lowrank"
        max_epochs = 5
        [grid]
        rank = [1, 2, 3]
        n_neurons = [10, 20]
        [evaluation]
        folds = 4
        seeds = [0, 7]
        [limits]
        seconds = 60
        memory = "2 GB"
        """
    )
    study = read_study(path)
    assert study == read_study(
        {
            "reading": {"bin_size": 0.02, "window": [-0.2, 0.4]},
            "preprocessing": [{"step": "ZScore"}],
            "estimator": {"model": "LowRankRNN", "max_epochs": 5},
            "grid": {"rank": [1, 2, 3], "n_neurons": [10, 20]},
            "evaluation": {"folds": 4, "seeds": [0, 7]},
            "limits": {"seconds": 60, "memory": 2e9},
        }
    )
    assert study.n_runs == len(list(study.runs())) == 3 * 2 * 4 * 2
    assert (study.seconds, study.memory) == (60, 2e9)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"estimator": {}}, r'\[estimator\] has no model; add one, such as model = "lowrank"'),
        ({"estimator": {"model": "lowrnk"}}, "did you mean 'lowrank'"),
        ({"estimator": {"model": "dis", "rnk": 2}}, r"\[estimator\] DisRNN has no parameter 'rnk', .*mean 'rank'"),
        ({"reeding": {}}, "there is no section 'reeding', .*did you mean 'reading'"),
        ({"reading": {"binsize": 1}}, "there is no key 'binsize', .*did you mean 'bin_size'"),
        ({"reading": {"bin_size": 0}}, "bin_size got 0, wanted a positive number of seconds"),
        ({"reading": {"bin_size": True}}, "bin_size got True"),
        ({"reading": {"window": [1, 0]}}, "whose stop is not after its start"),
        ({"reading": {"window": 1}}, r"window got 1, wanted \[start, stop\]"),
        ({"reading": {"table": "a", "series": "b"}}, "drop one of them"),
        ({"reading": 3}, r"reading got 3, wanted a section \[reading\]"),
        ({"preprocessing": [{"step": "Zscore"}]}, "did you mean 'ZScore'"),
        ({"preprocessing": [{"step": "Smooth", "width": 1}]}, "Smooth has no parameter 'width', it has sd"),
        ({"preprocessing": "ZScore"}, "wanted a list of steps"),
        ({"grid": {"rank": 2}}, r"rank got 2, wanted a list of values, such as \[1, 2, 3\]"),
        ({"grid": {"rank": []}}, "wanted a list of values"),
        ({"grid": {"rank": [1]}}, r"rank stands in \[estimator\] and in \[grid\]"),
        ({"grid": {"random_state": [1]}}, r"random_state is given by \[evaluation\] seeds"),
        ({"evaluation": {"folds": 1}}, "folds got 1, wanted a whole number from 2 on"),
        ({"evaluation": {"folds": 2, "test_fraction": 0.1}}, "both say what is held out"),
        ({"evaluation": {"test_fraction": 1.5}}, "wanted a share between 0 and 1"),
        ({"evaluation": {"seeds": [1, 1]}}, "one stands twice"),
        ({"evaluation": {"seeds": [0.5]}}, "wanted whole numbers"),
        ({"evaluation": {"compare": "yes"}}, "wanted true or false"),
        ({"limits": {"memory": "much"}}, 'wanted an amount such as "8 GB"'),
        ({"limits": {"seconds": -1}}, "wanted a positive number"),
    ],
)
def test_what_is_wrong_is_named(changes, text):
    with pytest.raises(ValueError, match=text):
        read_study({**LEAST, **changes})


def test_files_that_are_no_study(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*missing\.toml' does not exist"):
        read_study(tmp_path / "missing.toml")
    (tmp_path / "bad.toml").write_text("[estimator\n")
    with pytest.raises(ValueError, match=r"bad\.toml: this is no TOML"):
        read_study(tmp_path / "bad.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "sub-1").mkdir()
    planted_recording(folder / "sub-1" / "b.nwb", "cycle", 0, n_trials=2, n_units=3)
    planted_recording(folder / "a.nwb", "points", 1, n_trials=2, n_units=3)
    return folder


def test_folders_and_patterns(folder):
    assert [one.name for one in recordings_of(folder)] == ["a.nwb", "sub-1/b.nwb"]
    assert [one.name for one in recordings_of(folder, glob="sub-*")] == ["sub-1/b.nwb"]
    assert [one.uri for one in recordings_of(folder / "*.nwb")] == [str(folder / "a.nwb")]
    assert [one.name for one in recordings_of(folder / "a.nwb")] == ["a.nwb"]
    assert recordings_of(folder)[0].size == (folder / "a.nwb").stat().st_size
    with pytest.raises(FileNotFoundError, match="holds no recordings that match 'x'"):
        recordings_of(folder, glob="x")
    with pytest.raises(FileNotFoundError, match="does not exist, wanted a dandiset"):
        recordings_of(folder / "none")


def test_a_manifest_keeps_its_other_columns(folder, tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"uri,lab\n{folder / 'a.nwb'},north\ndandi://000140/x.nwb,south\n")
    one, other = recordings_of(manifest)
    assert (one.metadata, other.metadata) == ({"lab": "north"}, {"lab": "south"})
    assert other.uri == "dandi://000140/x.nwb"  # nothing is asked of a server for it yet
    (folder / "here.csv").write_text("path\na.nwb\n")
    assert recordings_of(folder / "here.csv")[0].uri == str(folder / "a.nwb")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("lab\nnorth\n", r"has no column uri and rows below it; it has \['lab'\]"),
        ("", "has no column uri"),
        ("uri\na.nwb\n\na.nwb\n", "line 3 names 'a.nwb' again"),
        ("uri,lab\n,north\n", "line 2 has no uri"),
        ("uri\nhttps://lab.org/a.nwb?X-Amz-Signature=0123\n", "address with a signature, token or password"),
    ],
)
def test_manifests_that_are_wrong(tmp_path, text, error):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=error):
        recordings_of(tmp_path / "m.csv")


def test_a_dandiset_is_listed_with_its_digests():
    with SmallArchive() as archive:
        archive.add("000001", "sub-1/a.nwb", b"x" * 100)
        archive.add("000001", "sub-2/b.nwb", b"y" * 200)
        with archive.known_as("dandi"):
            assert [one.name for one in recordings_of("dandi://000001@draft")] == ["sub-1/a.nwb", "sub-2/b.nwb"]
            (one,) = recordings_of("dandi://000001@draft/sub-2/*.nwb")
        n_requests = len(archive.requests)
        assert one.size == 200
        digest, tag = one.identified()
        assert digest == tag
        assert digest.startswith("sha256:")
        assert len(archive.requests) == n_requests  # the listing has told


# --- keys -----------------------------------------------------------------------------------------------------------


def keys(recording, given, tmp_path):
    study = read_study(given)
    return [fit.task(study, tmp_path, *fit.recording.identified())["key"] for fit in fits_of([recording], study)]


def test_a_key_is_of_content_and_study_alone(folder, tmp_path):
    here = BatchRecording(str(folder / "a.nwb"), "a")
    (tmp_path / "moved.nwb").write_bytes((folder / "a.nwb").read_bytes())
    moved = BatchRecording(str(tmp_path / "moved.nwb"), "another name")
    (first,) = keys(here, LEAST, tmp_path)
    assert keys(moved, LEAST, tmp_path / "elsewhere") == [first]
    assert keys(here, LEAST | {"limits": {"seconds": 5}}, tmp_path) == [first]  # what a fit may take changes no fit
    others = [
        LEAST | {"evaluation": {"seeds": [1]}},
        LEAST | {"evaluation": {"folds": 2}},
        LEAST | {"evaluation": {"compare": False}},
        LEAST | {"reading": {"bin_size": 0.05}},
        LEAST | {"reading": {"series": "x"}},
        LEAST | {"preprocessing": [{"step": "SquareRoot"}]},
        {"estimator": {"model": "lowrank", "rank": 3}},
        {"estimator": {"model": "smc", "rank": 2}},
    ]
    found = [key for study in others for key in keys(here, study, tmp_path)]
    assert len({first, *found}) == 1 + len(found)
    with (tmp_path / "moved.nwb").open("ab") as file:
        file.write(b"x")
    assert keys(moved, LEAST, tmp_path) != [first]


def test_a_grid_point_has_the_key_of_the_study_that_says_it_alone(folder, tmp_path):
    here = BatchRecording(str(folder / "a.nwb"), "a")
    grid = {"estimator": {"model": "lowrank"}, "grid": {"rank": [1, 2]}}
    assert keys(here, LEAST, tmp_path)[0] == keys(here, grid, tmp_path)[1]


def test_tasks_are_small_and_without_data(folder, tmp_path):
    study = read_study(LEAST | {"reading": {"units": list(range(5000))}})
    fit = Fit(0, BatchRecording(str(folder / "a.nwb"), "a"), None, {}, None, 0)
    with pytest.raises(ValueError, match="takes .* bytes, wanted at most 10000; name units and trials by a query"):
        fit.task(study, tmp_path, "d", "v")
