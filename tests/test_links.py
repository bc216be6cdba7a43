"""Files that lead to other files: which of these are opened, by links, virtual datasets and external storage."""

import os
from dataclasses import replace

import h5py
import numpy as np
import pytest

from nwb_lrrnn.io.errors import ElsewhereError
from nwb_lrrnn.io.files.hdf5_low_level import low_level
from nwb_lrrnn.io.files.links import Reach, may_follow
from nwb_lrrnn.io.files.source import resolve

VALUES = np.arange(5.0)
OUTSIDE = (
    r"which is not opened, since it lies neither in the folder of this one nor below; open_nwb\(\.\.\., follow_links"
)


def virtual(file, name, source, path="there"):
    layout = h5py.VirtualLayout((5,), "f8")
    layout[:] = h5py.VirtualSource(source, path, (5,))
    file.create_virtual_dataset(name, layout)


@pytest.fixture
def folders(tmp_path):
    """Make `home/a.h5`, `home/below/b.h5` and `away/c.h5`, each with a dataset `there`; return their paths."""
    paths = [tmp_path / "home" / "a.h5", tmp_path / "home" / "below" / "b.h5", tmp_path / "away" / "c.h5"]
    for path in paths:
        path.parent.mkdir(exist_ok=True, parents=True)
        with h5py.File(path, "w") as file:
            file["there"] = VALUES if path != paths[0] else -VALUES
    return paths


def outcome(path, name, **how):
    """Return the values of a dataset, or the sentence why it is not read; light groups say the same."""
    with replace(resolve(path), **how).open() as file:
        said = [
            sentence(lambda: file[name][()]),
            sentence(lambda: low_level(file)[name]),
            sentence(lambda: file.get(name)),
        ]
        assert said[0] == said[1] == said[2]
        assert name in file  # also where it is not read, so that nobody takes it for what is not there
        return file[name][()].tolist() if said[0] is None else said[0]


def sentence(read):
    """Return why something is not read, None where it is."""
    try:
        read()
    except ElsewhereError as error:
        return str(error)
    return None


@pytest.mark.parametrize("make", [h5py.ExternalLink, None], ids=["link", "virtual"])
def test_the_same_rule_for_links_and_virtual_datasets(folders, make):
    home, below, away = folders
    targets = {
        "below": "below/b.h5",
        "absolute": str(below),
        "moved": "/nowhere/a.h5",  # HDF5 looks for its last part beside the file
        "up": "../away/c.h5",
        "away": str(away),
        "gone": "gone.h5",
    }
    os.symlink(away, home.parent / "link.h5")
    targets["symlink"] = "link.h5"
    with h5py.File(home, "r+") as file:
        for name, target in targets.items():
            if make is None:
                virtual(file, name, target)
            else:
                file[name] = make(target, "/there")
    for name in ("below", "absolute"):
        assert outcome(home, name) == VALUES.tolist()
    assert outcome(home, "moved") == (-VALUES).tolist()
    for name in ("up", "away", "symlink"):
        assert outcome(home, name).startswith(f"{name} lies in another file, {targets[name]}, which is not opened")
        assert outcome(home, name, follow_links=True) == VALUES.tolist()
    assert outcome(home, "gone", follow_links=True) == "gone lies in another file, gone.h5, which is missing"


def test_every_step_of_a_way_is_judged(folders):
    home, below, away = folders
    with h5py.File(below, "r+") as file:
        file["onwards"] = h5py.ExternalLink(str(away), "/there")
        file["back"] = h5py.ExternalLink("../a.h5", "/there")
        virtual(file, "made", str(away))
    with h5py.File(home, "r+") as file:
        file["whole"] = h5py.ExternalLink("below/b.h5", "/")
        file["soft"] = h5py.SoftLink("/whole/onwards")
        file["first"] = h5py.ExternalLink("below/b.h5", "/onwards")
    for name in ("whole/onwards", "soft", "first", "whole/made"):
        assert "which is not opened" in outcome(home, name)
        assert outcome(home, name, follow_links=True) == VALUES.tolist()
    assert outcome(home, "whole/back") == (-VALUES).tolist()  # `..` that ends in the folder of the file
    with resolve(home).open() as file:
        group = file["whole"]
        with pytest.raises(ElsewhereError, match=OUTSIDE):
            group["onwards"]


def test_circles_end_in_a_sentence(folders):
    home, below, _ = folders
    with h5py.File(home, "r+") as file:
        file["soft"] = h5py.SoftLink("/soft")
        file["link"] = h5py.ExternalLink("a.h5", "/link")
        virtual(file, "itself", ".", "itself")
        virtual(file, "by name", "a.h5", "by name")
        virtual(file, "two", "below/b.h5", "two")
    with h5py.File(below, "r+") as file:
        virtual(file, "two", "../a.h5", "two")
    for name in ("soft", "link"):
        assert outcome(home, name).endswith("links, which lead in a circle")
    for name in ("itself", "by name", "two"):
        assert outcome(home, name) == f"{name} is a virtual dataset of itself, so that there are no values"


def test_a_source_that_goes_away_is_missed(folders):
    home, below, _ = folders
    with h5py.File(home, "r+") as file:
        virtual(file, "x", "below/b.h5")
        virtual(file, "empty", "below/b.h5", "nothing")
    assert outcome(home, "x") == VALUES.tolist()
    assert outcome(home, "empty") == "empty lies in another file, below/b.h5, which has no nothing"
    below.unlink()
    assert outcome(home, "x") == "x lies in another file, below/b.h5, which is missing"


def test_external_storage_is_never_read(folders):
    home = folders[0]
    (home.parent / "raw.bin").write_bytes(bytes(40))
    with h5py.File(home, "r+") as file:
        file.create_dataset("x", shape=(5,), dtype="f8", external=[(str(home.parent / "raw.bin"), 0, 40)])
    assert "lies as plain bytes in other files" in outcome(home, "x", follow_links=True)


def test_a_server_leads_to_no_other_files(folders):
    away = Reach("https://lab.org/home/a.h5", is_remote=True, everywhere=True)
    assert "a recording on a server leads to no other files" in (may_follow(away, str(folders[2])) or "")
