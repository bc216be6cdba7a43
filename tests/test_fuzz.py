"""Damaged recordings: each is read, refused in one sentence, or HDF5's own fault; nothing else."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fuzz.attack import Worker, attack
from fuzz.mutants import mutant
from fuzz.worker import is_sentence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")

CALLS = ["inspect", "spikes"]
LONGEST = 10.0  # s; what takes longer is asked of h5py alone, and given eight times as long where that ends


def test_damaged_recordings_end_in_a_reading_or_a_sentence(tmp_path):
    endings = list(attack(range(200), CALLS, tmp_path, longest=LONGEST))
    assert [f"{one.call} of {one.mutant}: {one.text}" for one in endings if one.kind == "else"] == []
    counts = Counter(one.kind for one in endings)
    assert counts["hdf5"] <= 4
    assert counts["fine"] > 100  # the mutants are no rubbish: many can be read
    assert counts["sentence"] > 100
    assert list(tmp_path.iterdir()) == []


def test_mutants_are_known_by_their_numbers():
    # HDF5 notes in its newer formats when a group was made, so that bytes are not the same every second
    program = "import fuzz.mutants as m; print([(name, len(data)) for name, data in map(m.mutant, range(5))])"
    here = Path(__file__).parent
    told = {
        subprocess.check_output([sys.executable, "-c", program], cwd=here, env=os.environ | {"PYTHONHASHSEED": "0"})
        for _ in range(2)
    }
    assert len(told) == 1
    assert len({mutant(number)[1] for number in range(30)}) == 30


def test_a_worker_that_dies_or_hangs_is_replaced(tmp_path):
    (tmp_path / "a.nwb").write_bytes(mutant(0)[1])
    worker = Worker(["spikes"], longest=LONGEST)
    assert worker.ask("die", tmp_path / "a.nwb") == {"kind": "dead", "text": "died by -9"}
    assert worker.ask("fail", tmp_path / "a.nwb")["kind"] == "else"
    worker.longest = 0.2
    assert worker.ask("hang", tmp_path / "a.nwb")["kind"] == "dead"
    assert worker.process is None


def own_words():
    from nwb_lrrnn.parameters import whole_number

    whole_number("rank", -1)


@pytest.mark.parametrize(
    ("call", "is_one"), [(own_words, True), (lambda: np.zeros(3).reshape(2, 2), False), (lambda: {}["a"], False)]
)
def test_sentences_are_of_our_own_words(call, is_one):
    with pytest.raises((ValueError, KeyError)) as caught:
        call()
    assert is_sentence(caught.value) == is_one
