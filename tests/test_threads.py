"""Threads over independent jobs: each job is done once, and a fit is the same to the last bit in any number of them."""

import numpy as np
import pytest
from sklearn.base import clone

from nwb_lrrnn.models.training import threads
from small_models import MODELS, recording


@pytest.mark.parametrize(("n_jobs", "n_threads"), [(7, 1), (7, 3), (2, 5), (1, 4), (0, 2)])
def test_every_job_is_done_once(n_jobs, n_threads):
    done = np.zeros(n_jobs, dtype=int)

    def work(first, last):
        done[first:last] += 1

    threads.over_ranges(work, n_jobs, threads.WORTH_A_THREAD, n_threads)
    assert (done == 1).all()


def test_little_work_stays_with_the_thread_that_asks():
    ranges = []
    threads.over_ranges(lambda first, last: ranges.append((first, last)), 8, threads.WORTH_A_THREAD - 1, 2)
    assert ranges == [(0, 8)]


def test_what_fails_in_a_thread_is_raised():
    def work(first, last):
        if first > 0:
            raise ValueError(f"job {first}")

    with pytest.raises(ValueError, match="job 4"):
        threads.over_ranges(work, 8, threads.WORTH_A_THREAD, 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["LowRankRNN", "SMCLowRankRNN", "LinearStateSpace"])
@pytest.mark.parametrize("counts", [False, True], ids=["values", "counts"])
def test_a_fit_is_the_same_in_any_number_of_threads(name, counts, monkeypatch):
    X = recording()
    X = X.copy(data=np.round(X.clip(min=0)).astype(int)) if counts else X
    said = []
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 0)
    for n in (1, 3):
        monkeypatch.setattr(threads, "n_cores", lambda n=n: n)
        model = clone(MODELS[name]).fit(X)
        said.append((model.score(X), model.transform(X).values, model.loadings_))
    assert said[0][0] == said[1][0]
    for a, b in zip(said[0][1:], said[1][1:], strict=True):
        np.testing.assert_array_equal(a, b)
