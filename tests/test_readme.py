"""The README is true: its blocks run, its links lead somewhere, its commands exist."""

import datetime
import re
import runpy
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from pynwb import NWBHDF5IO, NWBFile

from nwb_lrrnn.io.files import connection as remote
from small_archive import SmallArchive, without_accounts

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


MAZE = "sub-Jenkins/sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb"


@pytest.fixture
def archive(tmp_path_factory):
    """Let the archive that the README names be one on this machine, with a file of that name."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    nwb = NWBFile("ten reaches", "maze", datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC))
    nwb.add_trial_column("move_onset_time", "s")
    for begin in range(10):
        nwb.add_trial(start_time=float(begin), stop_time=begin + 0.9, move_onset_time=begin + 0.4)
    for _ in range(3):
        nwb.add_unit(spike_times=np.sort(rng.uniform(0, 10, 50)))
    with NWBHDF5IO(folder / "maze.nwb", "w") as io:
        io.write(nwb)
    with without_accounts(folder / "home"), SmallArchive() as archive, archive.known_as("dandi"):
        archive.add("000140", MAZE, folder / "maze.nwb")
        yield archive
    remote.forget()


SHORTER = {  # what the blocks show does not need more
    "SMCLowRankRNN(": "SMCLowRankRNN(max_epochs=2, ",
    "LeastSquaresRNN(rank=2, r": "LeastSquaresRNN(rank=2, n_neurons=30, max_epochs=1, r",
    "LowRankRNN(rank=2, n_neurons=40, p": "LowRankRNN(max_epochs=15, rank=2, n_neurons=40, p",
    "n_surrogates=50": "n_surrogates=10",
    "DisRNN(rank=2, n_groups=2, r": "DisRNN(rank=2, n_groups=2, n_bootstraps=5, r",
    "equivalent_networks(quick, train, r": "equivalent_networks(quick, train, n_networks=6, r",
    "max_size=4": "max_size=2",
    "[1, 2, 3], cv=2": "[1, 2], cv=2",
    "n_bootstraps=3": "n_bootstraps=2",
    "n_draws=20": "n_draws=3",
    "LinearStateSpace(rank=2, likelihood": "LinearStateSpace(rank=2, max_iter=20, likelihood",
    "X_train=train)\nprint(table)": "X_train=train, larger_ranks=(4,))\nprint(table)",
}


def shortened(block):
    for text, shorter in SHORTER.items():
        block = block.replace(text, shorter)
    return block


@pytest.mark.usefixtures("archive")
@pytest.mark.filterwarnings("ignore:(SMC)?(LowRankRNN|LinearStateSpace):sklearn.exceptions.ConvergenceWarning")
def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # they write session.nwb and more where they are
    names = {}
    for block in BLOCKS:
        exec(compile(shortened(block), "README.md", "exec"), names)
    assert names["reach"].sizes == {"trial": 10, "time": 35, "unit": 3}
    written = {"session.nwb", "session_lrrnn.nwb", "session_dimension.nwb", "fit.npz", "flow.png"}
    assert {path.name for path in tmp_path.iterdir()} == written
    table, X = names["table"], names["X"]
    assert table.index[0] == "mean rate"
    assert table.loc["mean rate", "low"] > 0  # the README's model beats constant rates
    assert (names["model"].transform(X).values == names["latents"].values).all()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_into_the_repository_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.fixture
def absolute(monkeypatch):
    """Return what makes the README's links absolute when the package is built, without the builder."""
    interface = SimpleNamespace(MetadataHookInterface=object)
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    return runpy.run_path(str(ROOT / "hatch_build.py"))["with_absolute_links"]


def test_one_address_makes_every_link_of_the_readme_absolute(absolute):
    shown = absolute(README, "https://host.org/tree/main/")
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) > 5
    assert all(link.startswith("https://") for link in links)
    assert "](https://host.org/tree/main/CONTRIBUTING.md)" in shown
    assert shown.replace("https://host.org/tree/main/", "") == README
    assert absolute("[a](#b) [c](https://d.e/f) [g](/h)", "https://host.org") == "[a](#b) [c](https://d.e/f) [g](/h)"


def test_no_address_is_invented(absolute):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["metadata"]["hooks"]["custom"]["address"] == ""
    assert "urls" not in project["project"]
    assert absolute(README, "") == README


def test_options_named_in_the_readme_exist():
    from nwb_lrrnn.cli import cli

    known = {option for command in cli.commands.values() for p in command.params for option in p.opts} | {"--help"}
    commands = re.findall(r"nwb-lrrnn (\w+)", README)
    assert set(commands) <= {"demo", "inspect", "fit", "dimension", "batch"}
    shown = [line for line in README.splitlines() if "nwb-lrrnn" in line or line.startswith("`--")]
    named = {option for line in shown for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", line)}
    assert named - {"--index-url", "--no-deps"} <= known


def test_the_study_is_one():
    from nwb_lrrnn.batch.study import read_study

    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert read_study(tomllib.loads(block)).n_runs == 4


def test_targets_named_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (demo|test-cuda|test)\b", README):
        assert f"\n{target}:" in makefile


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version("nwb-lrrnn")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == "BSD-3-Clause"


def test_changelog_tells_of_this_version():
    assert version("nwb-lrrnn") in (ROOT / "CHANGELOG.md").read_text()


def test_the_light_install_is_all_but_the_client_of_the_archive():
    line = next(line for line in README.splitlines() if line.startswith("pip install numpy"))
    named = {re.match(r"[\w-]+", part.strip('"'))[0] for part in line.split()[2:]}
    needed = {re.match(r"[\w-]+", text)[0] for text in requires("nwb-lrrnn") if "extra ==" not in text}
    assert named == needed - {"dandi"}
