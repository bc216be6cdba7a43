"""Results that were damaged or changed are refused in one sentence, and never read as something else."""

import gzip
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from nwb_lrrnn import load_model, read_results
from nwb_lrrnn.io.errors import DamagedResultsError
from nwb_lrrnn.io.writing.intact import check_rows

KEPT = Path(__file__).parent / "fixtures" / "results_0_1" / "low_rank_gaussian.nwb.gz"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.nwb"
    path.write_bytes(gzip.decompress(KEPT.read_bytes()))
    return path


def names_in(path):
    names = []
    with h5py.File(path) as file:
        file["processing/lrrnn"].visititems(
            lambda name, thing: names.append(name) if isinstance(thing, h5py.Dataset) else None
        )
    return names


def delete(module, name):
    del module[name]


def shorten(module, name):
    old = module[name]
    values, attrs = old[:-1], dict(old.attrs)
    del module[name]
    dtype = h5py.string_dtype() if values.dtype.kind == "O" else values.dtype
    module.create_dataset(name, data=values, dtype=dtype).attrs.update(attrs)


def fill(module, name):
    values = module[name]
    if values.dtype.kind == "f":
        values[...] = np.nan
    elif values.dtype.kind in "iu":
        values[...] = np.iinfo(values.dtype).max
    else:
        values[...] = np.full(values.shape, "nonsense", dtype=object)


def outcome(path, read):
    try:
        read(path)
    except ValueError as error:  # of which DamagedResultsError is one
        return " ".join(str(error).split())
    return "read"


@pytest.mark.parametrize("change", [delete, shorten, fill])
def test_any_change_is_a_sentence_or_does_no_harm(whole, tmp_path, change):
    told = []
    for k, name in enumerate(names_in(whole)[::2]):
        path = shutil.copy(whole, tmp_path / f"{k}.nwb")
        with h5py.File(path, "r+") as file:
            module = file["processing/lrrnn"]
            if module[name].dtype.kind in "OV" and h5py.check_string_dtype(module[name].dtype) is None:
                continue  # references
            if module[name].shape[:1] in ((), (0,)):
                continue
            change(module, name)
        told += [(name, outcome(path, read)) for read in (load_model, read_results)]
    sentences = [text for _, text in told if text != "read"]
    assert len(sentences) > len(told) // 3
    assert [text for text in sentences if ".nwb" not in text] == []


def test_what_is_wrong_is_named(whole, tmp_path):
    path = shutil.copy(whole, tmp_path / "a.nwb")
    with h5py.File(path, "r+") as file:
        order = file["processing/lrrnn/latent_trials/trial_order"]
        order[...] = np.zeros_like(order[()])
    with pytest.raises(DamagedResultsError, match="`trial_order` is no order of .* trials"):
        read_results(path)
    with h5py.File(path, "r+") as file:
        file["processing/lrrnn/latent_trials/trial_order"][...] = np.arange(len(order_of(whole)))
        file["processing/lrrnn/latent_trials/start_index"][...] = 0
    with pytest.raises(DamagedResultsError, match="give rows to two trials"):
        read_results(path)
    with h5py.File(path, "r+") as file:
        del file["processing/lrrnn/model_state/values"]
    with pytest.raises(DamagedResultsError, match="do not fit together .*write them again from the model"):
        load_model(path)


def replace_info(path, key, text):
    """Write another value, as JSON, into the row of a key."""
    with h5py.File(path, "r+") as file:
        table = file["processing/lrrnn/fit_info"]
        row = table["key"].asstr()[()].tolist().index(key)
        table["value"][row] = text


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("n_neurons", "-3", "the parameter n_neurons is -3, which no fit has"),
        ("n_init", "1.5", "the parameter n_init is 1.5"),
        ("learning_rate", "NaN", "the parameter learning_rate is nan"),
        ("learning_rate", "Infinity", "the parameter learning_rate is inf"),
        ("nonlinearity", '"tahn"', "wanted one of"),
        ("bin_size_", "3.0", "bin_size_ is 3.0, 1.0 in the network"),
        ("n_iter_", "-1", "the parameter n_iter_ is -1"),
    ],
)
def test_parameters_that_no_fit_has_are_refused(whole, tmp_path, key, text, said):
    path = shutil.copy(whole, tmp_path / "a.nwb")
    replace_info(path, key, text)
    for read in (load_model, read_results):
        with pytest.raises(DamagedResultsError, match=said):
            read(path)


def test_numbers_that_are_not_finite_and_series_of_no_name_are_refused(whole, tmp_path):
    path = shutil.copy(whole, tmp_path / "a.nwb")
    with h5py.File(path, "r+") as file:
        file["processing/lrrnn/model_state/values"][3] = np.nan
    for read in (load_model, read_results):
        with pytest.raises(DamagedResultsError, match="of the model has numbers that are not finite"):
            read(path)
    path = shutil.copy(whole, tmp_path / "b.nwb")
    for name in ("latents_0", "latents_1", "latents_-1"):
        with h5py.File(path, "r+") as file:
            file["processing/lrrnn/latent_trials/series"][0] = name
        with pytest.raises(DamagedResultsError, match=f"`series` names '{name}', wanted latents, latents_2"):
            read_results(path)


def test_names_in_a_result_file_do_not_act_on_the_terminal(whole, tmp_path):
    path = shutil.copy(whole, tmp_path / "a.nwb")
    replace_info(path, "estimator", '"' + chr(92) + 'u001b[31mRed"')
    with pytest.raises(ValueError, match="31mRed") as refusal:
        load_model(path)
    assert str(refusal.value).isprintable()


def order_of(path):
    with h5py.File(path) as file:
        return file["processing/lrrnn/latent_trials/trial_order"][()]


def test_rows_of_trials():
    two = np.array([0, 1])
    check_rows(two, np.zeros(2, int), np.array([3, 0]), np.array([2, 3]), [5])
    check_rows(two, two, np.zeros(2, int), np.array([2, 3]), [2, 3])
    with pytest.raises(ValueError, match="names no series of 1"):
        check_rows(two, np.array([-1, 0]), np.array([0, 2]), np.array([2, 3]), [5])
    with pytest.raises(ValueError, match="leaves 1 of 5 rows of a series to no trial"):
        check_rows(two, np.zeros(2, int), np.array([0, 2]), np.array([2, 2]), [5])
    for order, first, count in ([(0, 0), (0, 2), (2, 2)], [(0, 1), (0, 1), (2, 3)], [(0, 1), (0, 2), (2, 9)]):
        with pytest.raises(ValueError, match="trial|rows"):
            check_rows(np.array(order), np.zeros(2, int), np.array(first), np.array(count), [5])
