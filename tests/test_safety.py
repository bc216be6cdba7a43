"""Secrets do not reach files, logs or messages; names do not become paths; nothing in a file is run."""

import ast
import logging
import socket
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from nwb_lrrnn.cli.fit import result_path
from nwb_lrrnn.io.errors import UnreachableError
from nwb_lrrnn.io.files.secrets import texts_without_secrets, without_secrets
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.io.writing.processing_module import read_module, write_module
from small_module import INFO, make_latents, make_loadings, make_tables
from small_server import hasten
from source_files import FILES, dotted, parsed

SECRETS = ("s3cr3t", "X-Amz-Signature", "hunter2")
ADDRESSES = [
    "https://me:hunter2@host.org/a.nwb?X-Amz-Signature=s3cr3t",
    "https:/me:hunter2@host.org/a.nwb?token=s3cr3t",  # what pathlib makes of an address
    "https://host.org?token=s3cr3t",
    "https://[broken/a.nwb?token=s3cr3t#X-Amz-Signature",
    "s3://bucket/a.nwb?X-Amz-Signature=s3cr3t",
    "htps://host.org/a.nwb?token=s3cr3t",
    "dandi://000140/a.nwb?token=s3cr3t",
]


def is_clean(text):
    return not any(secret in text for secret in SECRETS)


@pytest.fixture
def no_network(monkeypatch):
    """Let no name of a host be found, at once."""

    def getaddrinfo(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hasten(monkeypatch)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("address", ADDRESSES)
def test_messages_and_logs_hold_no_secret(caplog, address):
    caplog.set_level(logging.DEBUG)
    assert is_clean(without_secrets(address))
    for given in (address, Path(address)):
        for attempt in (open_nwb, read_module, lambda uri: write_module(uri, info=INFO)):
            with pytest.raises((ValueError, UnreachableError)) as refusal:
                attempt(given)
            assert is_clean(str(refusal.value))
    assert is_clean(caplog.text)


def test_files_hold_no_secret(tmp_path):
    address = ADDRESSES[0]
    latents = make_latents().assign_attrs(source=address, files=[address, f"see {address} too"])
    tables = make_tables()
    tables["fixed_points"].attrs["source"] = address
    info = [("source", "uri", address), ("preprocessing", "step_1", f"Load({address})"), ("a", "list", [address])]
    path = write_module(tmp_path / "a.nwb", latents=latents, info=info, tables=tables)
    assert is_clean(path.read_bytes().decode("latin-1"))
    assert read_module(path)["latents"].attrs["files"][0] == "https://host.org/a.nwb"
    assert texts_without_secrets("no address: a?b@c#d") == "no address: a?b@c#d"


def test_tables_and_coordinates_hold_no_secret(tmp_path):
    address, clean = ADDRESSES[0], "https://host.org/a.nwb"
    latents = make_latents(picture=("trial", [address] * 5), session=address)
    loadings = make_loadings().assign_coords(location=("unit", [f"see {address}"] * 4))
    tables = make_tables()
    tables["fixed_points"] = tables["fixed_points"].assign(found_in=("point", [address] * 3)).assign_coords(of=address)
    tables["metrics"] = pd.DataFrame({"model": [address, "mean"], "score": [1.0, 2.0]}, index=[address, "b"])
    path = write_module(tmp_path / "a.nwb", latents=latents, loadings=loadings, tables=tables, info=INFO)
    assert is_clean(path.read_bytes().decode("latin-1"))
    pieces = read_module(path)
    assert pieces["latents"]["picture"].values.tolist() == [clean] * 5
    assert pieces["latents"]["choice"].values.tolist() == latents["choice"].values.tolist()
    assert pieces["loadings"]["location"].values.tolist() == [f"see {clean}"] * 4
    assert pieces["tables"]["fixed_points"]["found_in"].values.tolist() == [clean] * 3
    assert pieces["tables"]["fixed_points"]["of"] == clean
    assert pieces["tables"]["metrics"].index.tolist() == [clean, "b"]
    assert pieces["tables"]["metrics"]["model"].tolist() == [clean, "mean"]


@pytest.mark.parametrize(
    "uri",
    [
        "a.nwb",
        "/data/a.nwb",
        "../../a.nwb",
        "../..",
        "..",
        "/",
        "~/a.nwb",
        ".nwb",
        "..\\..\\a.nwb",
        "file:///d/a.nwb",
        "https://host.org/../a.nwb?name=../../b.nwb",
        "dandi://000140/sub-1/a.nwb",
    ],
)
def test_the_name_that_the_command_line_makes_stays_in_the_folder(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    path = result_path(None, uri, overwrite=False)
    assert path.parent == Path(".")
    assert path.name.endswith("_lrrnn.nwb")
    assert path.absolute().resolve().parent == tmp_path.resolve()


def test_names_from_files_are_no_paths(tmp_path):
    inside = tmp_path / "out"
    inside.mkdir()
    latents = make_latents(trial=["../../a", "/b", "..", "c", "d"])
    path = write_module(inside / "a.nwb", latents=latents, info=[("../x", "/y", "..")])
    assert list(read_module(path)["latents"]["trial"].values[:2]) == ["../../a", "/b"]
    assert list(tmp_path.iterdir()) == [inside]
    assert list(inside.iterdir()) == [path]
    for name in ("../lrrnn", "/lrrnn", "..", ""):
        with pytest.raises(ValueError, match="module: got"):
            write_module(inside / "b.nwb", info=INFO, module=name)


def test_objects_in_a_file_stay_bytes(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = write_module(tmp_path / "a.nwb", latents=make_latents(), state={"names": np.array(["a"])}, info=INFO)
    with h5py.File(path, "r+") as file:
        column = file["processing/lrrnn/model_state/text"]
        column[0] = pickle.dumps(Trap(), protocol=0).decode()
    assert isinstance(read_module(path)["state"]["names"][0], str)
    assert not (tmp_path / "sprung").exists()


LOADERS = {"pickle", "joblib", "dill", "shelve", "marshal", "cloudpickle"}


def what_unpickles(file):
    """Return the lines of a file that could run what a file of data holds."""
    # its unpickler finds stand-ins only, as a test of its own says
    loaders = LOADERS - ({"pickle"} if file.parts[-2:] == ("zarr", "array_format.py") else set())
    wrong = []
    for node in ast.walk(parsed(file)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        is_wrong = bool({name.split(".")[0] for name in names} & loaders)
        if isinstance(node, ast.Attribute) and dotted(node).startswith("pickle."):
            is_wrong |= node.attr not in ("Unpickler", "UnpicklingError")
        called = dotted(node.func) if isinstance(node, ast.Call) else ""
        if called in ("eval", "exec", "np.load", "torch.load"):
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            is_wrong |= called in ("eval", "exec") or given.get("allow_pickle", "False") != "False"
            is_wrong |= called == "torch.load" and given.get("weights_only") != "True"
        if is_wrong:
            wrong.append(f"{file}:{node.lineno}: {ast.unparse(node)}")
    return wrong


@pytest.mark.parametrize(
    ("text", "n_wrong"),
    [
        ("import pickle", 1),
        ("from joblib.x import y", 1),
        ("pickle.loads(b)", 1),
        ("pickle.Unpickler(b)", 0),
        ("eval(x)", 1),
        ("np.load(x)", 0),
        ("np.load(x, allow_pickle=True)", 1),
        ("torch.load(x)", 1),
        ("torch.load(x, weights_only=True)", 0),
    ],
)
def test_what_unpickles_is_found(tmp_path, text, n_wrong):
    (tmp_path / "a.py").write_text(text)
    assert len(what_unpickles(tmp_path / "a.py")) == n_wrong


def test_nothing_unpickles():
    assert [line for file in FILES for line in what_unpickles(file)] == []
