"""The README is true: its blocks run, its links lead somewhere, its commands exist."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # they write session.nwb and more where they are
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {"session.nwb", "session_lrrnn.nwb", "fit.npz", "flow.png"}
    table, X = names["table"], names["X"]
    assert table.index[0] == "mean rate"
    assert table.loc["mean rate", "high"] < 0  # the README's model beats constant rates
    assert (names["model"].transform(X).values == names["latents"].values).all()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_into_the_repository_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_options_named_in_the_readme_exist():
    from nwb_lrrnn.cli import cli

    known = {option for command in cli.commands.values() for p in command.params for option in p.opts} | {"--help"}
    commands = re.findall(r"nwb-lrrnn (\w+)", README)
    assert set(commands) <= {"demo", "inspect", "fit"}
    shown = [line for line in README.splitlines() if "nwb-lrrnn" in line or line.startswith("`--")]
    named = {option for line in shown for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", line)}
    assert named - {"--index-url"} <= known


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
