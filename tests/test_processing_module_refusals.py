"""What a processing module never replaces, stores or reads, and the words that say so."""

import logging
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.io.writing.own_files import is_result_file
from nwb_lrrnn.io.writing.processing_module import read_module, write_module
from nwb_lrrnn.io.writing.recording_file import write_recording
from small_module import BIN, INFO, everything, make_latents, make_loadings, make_rates


def test_a_result_is_replaced_on_request_only(tmp_path):
    path = write_module(tmp_path / "a.nwb", info=INFO)
    assert is_result_file(path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_module(path, info=INFO)
    write_module(path, info=[("model", "rank", 3)], overwrite=True)
    assert read_module(path)["info"]["model"] == {"rank": 3}
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_is_never_replaced(tmp_path):
    recording = write_recording(tmp_path / "rec.nwb", np.ones((2, 5, 3)), bin_size=0.1)
    assert not is_result_file(recording)
    before = recording.read_bytes()
    with pytest.raises(FileExistsError, match="a recording is never replaced"):
        write_module(recording, info=INFO, overwrite=True)
    assert recording.read_bytes() == before
    mixed = tmp_path / "mixed.nwb"  # a recording that has a module of ours
    shutil.copy(recording, mixed)
    with h5py.File(write_module(tmp_path / "a.nwb", info=INFO)) as source, h5py.File(mixed, "a") as target:
        source.copy("processing/lrrnn", target["processing"])
    assert not is_result_file(mixed)
    text = tmp_path / "text.nwb"
    text.write_text("precious")
    with pytest.raises(FileExistsError, match="not a result file"):
        write_module(text, info=INFO, overwrite=True)


def test_an_interrupted_write_leaves_the_old_result(tmp_path, monkeypatch):
    path = write_module(tmp_path / "a.nwb", info=INFO)
    before = path.read_bytes()

    def refuse(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_module(path, info=[("model", "rank", 3)], overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("piece", ["latents", "state", "loadings", "tables", "info"])
def test_what_reads_back_otherwise_is_not_stored(tmp_path, monkeypatch, piece):
    from nwb_lrrnn.io.writing import processing_module

    honest = processing_module.read_module

    def damaged(path, module):
        read = honest(path, module)
        if piece == "state":
            read["state"]["tau"] = np.nextafter(read["state"]["tau"], 1)
        elif piece == "tables":
            read["tables"]["metrics"].loc["a", "score"] = 0.0
        elif piece == "info":
            read["info"]["model"]["rank"] = 3
        else:
            read[piece] = read[piece] + 1e-12
        return read

    monkeypatch.setattr(processing_module, "read_module", damaged)
    with pytest.raises(OSError, match=f"{piece}.* read back differs from what was written"):
        everything(tmp_path / "a.nwb")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_stored_is_said(tmp_path, caplog):
    latents = make_latents()
    latents.attrs.update(steps=[{"a": 1}], shape=(1, 2))
    with caplog.at_level(logging.INFO, logger="nwb_lrrnn"):
        path = write_module(tmp_path / "a.nwb", latents=latents, tables={"empty": pd.DataFrame({"a": []})})
    assert "attrs['steps'] of latents is not a number" in caplog.text
    assert "table 'empty' has no rows" in caplog.text
    read = read_module(path)
    assert read["latents"].attrs == {"bin_size": BIN, "source": "file.nwb", "shape": [1, 2]}
    assert read["tables"] == {}


@pytest.mark.parametrize(
    ("pieces", "error", "text"),
    [
        ({"latents": make_latents().T}, ValueError, r"latents: got dims .* wanted \('trial', 'time', 'latent'\)"),
        ({"latents": make_latents()[:0]}, ValueError, r"latents: got shape \(0, 20, 2\), wanted at least one"),
        ({"latents": make_latents().astype(str)}, TypeError, "latents: got dtype <U32, wanted real numbers"),
        ({"rates": make_rates(make_latents())}, ValueError, "rates: got rates without latents"),
        (
            {"latents": make_latents(), "rates": make_rates(make_latents())[:2]},
            ValueError,
            r"rates: got shape \(2, 20, 4\), wanted the trials and bins of latents \(5, 20, 2\)",
        ),
        ({"loadings": xr.Dataset({"a": ("neuron", [1.0])})}, ValueError, r"loadings: got dims .* the dim 'unit'"),
        (
            {"loadings": make_loadings().transpose("latent", "unit")},
            ValueError,
            r"loadings\['loading'\]: got dims \('latent', 'unit'\), wanted 'unit' first",
        ),
        ({"tables": {"fit_info": pd.DataFrame({"a": [1]})}}, ValueError, "tables: got the name 'fit_info'"),
        ({"tables": {"a": xr.Dataset({"b": 1.0})}}, ValueError, r"tables\['a'\]: got a Dataset without a variable"),
        ({"state": {"a": {"b": 1}}}, TypeError, r"state\['a'\]: got dict of dtype object, wanted numbers, booleans"),
        ({"state": {"a": '{"b": 1}'}}, ValueError, r"state\['a'\]: got a text with a dictionary in it"),
        ({"info": [("a", "b", {"c": 1})]}, TypeError, "info: got a.b = {'c': 1}, wanted a number, text, boolean, None"),
        ({"info": [("a", "b", 1), ("a", "b", 2)]}, ValueError, "info: got a.b twice, wanted each key once"),
        ({"session": {"lab_name": "x"}}, ValueError, "session: got the field 'lab_name', wanted any of"),
    ],
)
def test_pieces_of_another_form_are_refused(tmp_path, pieces, error, text):
    with pytest.raises(error, match=text):
        write_module(tmp_path / "a.nwb", **pieces)
    assert list(tmp_path.iterdir()) == []


def test_bad_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_module(tmp_path / "no" / "a.nwb", info=INFO)
    with pytest.raises(FileNotFoundError):
        read_module(tmp_path / "a.nwb")
    (tmp_path / "a.nwb").write_text("text")
    with pytest.raises(ValueError, match="a text file"):
        read_module(tmp_path / "a.nwb")
    recording = write_recording(tmp_path / "rec.nwb", np.ones((2, 5, 3)) / 2, bin_size=0.1, unit_kind="roi")
    with pytest.raises(ValueError, match=r"module: got 'lrrnn', but .* has the processing modules ophys"):
        read_module(recording)
    with pytest.raises(ValueError, match="module: got 'ophys', which nwb_lrrnn did not write"):
        read_module(recording, "ophys")


def test_another_name_of_the_module(tmp_path):
    path = write_module(tmp_path / "a.nwb", info=INFO, module="behavior")
    assert read_module(path, module="behavior")["info"]["model"]["rank"] == 2
    with pytest.raises(ValueError, match="did you mean 'behavior'"):
        read_module(path, module="behaviour")
