"""The driver of a batch with fits that are stubs: who is tried again, when, and who never."""

import json
from concurrent.futures import Future

import pytest

from nwb_lrrnn.batch.driver import MOST_ATTEMPTS, Driver
from nwb_lrrnn.batch.failures import class_of, failure_of
from nwb_lrrnn.batch.folder import BusyError, FitFolder
from nwb_lrrnn.batch.ledger import Ledger, read_ledger
from nwb_lrrnn.batch.plan import fits_of
from nwb_lrrnn.batch.recordings import BatchRecording
from nwb_lrrnn.batch.study import read_study
from nwb_lrrnn.batch.summary import read_batch, summary_of, write_summary
from nwb_lrrnn.io.errors import AccessDeniedError, UnreachableError

STUDY = read_study({"estimator": {"model": "linear", "rank": 2}})


class Stub:
    """Answers at once with what `script` says of a recording, one word an attempt; "done" when it has no more words."""

    def __init__(self, script, slots=2):
        self.script, self.slots = {name: list(words) for name, words in script.items()}, slots
        self.submitted, self.open, self.most, self.alone = [], {}, 0, {}

    def submit(self, task):
        future = Future()
        self.submitted.append(task["name"])
        self.open[future] = task
        self.most = max(self.most, len(self.open))
        self.alone[task["name"]] = len(self.open) == 1
        return future

    def n_slots(self):
        return self.slots

    def stop(self):
        pass

    def end(self):
        """End what runs, in its order."""
        for future, task in list(self.open.items()):
            del self.open[future]
            words = self.script.get(task["name"], [])
            word = words.pop(0) if words else "done"
            folder = FitFolder(task["runs"], task["key"])
            if word == "done":
                folder.partial.mkdir(exist_ok=True)
                folder.finish({"key": task["key"], "score": 1.0})
                future.set_result({"state": "done", "numbers": folder.metrics()})
            elif word == "innocent":
                future.set_exception(RuntimeError("KilledWorker"))
            elif word == "lost":
                folder.partial.mkdir(exist_ok=True)
                with (folder.partial / "attempts").open("a") as file:
                    file.write(".")
                future.set_exception(RuntimeError("KilledWorker"))
            else:
                failure = {"class": word, "error": "E", "sentence": f"it was {word}"}
                folder.partial.mkdir(exist_ok=True)
                folder.fail(failure)
                future.set_result({"state": "failed", **failure})


def run(tmp_path, monkeypatch, script, names=None, slots=2, **options):
    """Return outcomes by recording, and the stub."""
    (tmp_path / "runs").mkdir(exist_ok=True)
    stub = Stub(script, slots)
    names = list(script) if names is None else names
    recordings = [BatchRecording(f"/{name}", name, version_tag=name) for name in names]

    def wait(futures, timeout, return_when):
        stub.end()
        return {future for future in futures if future.done()}, set()

    monkeypatch.setattr("nwb_lrrnn.batch.driver.wait", wait)
    monkeypatch.setattr("nwb_lrrnn.batch.driver.pause", lambda n: 0.0)
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        driver = Driver(fits_of(recordings, STUDY), STUDY, tmp_path, stub, ledger, **options)
        outcomes = {outcome.fit.recording.name: outcome for outcome in driver}
    return outcomes, stub


@pytest.mark.parametrize("kind", ["transient", "memory", "deterministic", "timeout", "stopped", "lost"])
def test_each_class_is_tried_as_often_as_it_may_help(tmp_path, monkeypatch, kind):
    most = MOST_ATTEMPTS[kind]
    outcomes, stub = run(tmp_path, monkeypatch, {"saved": [kind] * (most - 1), "given up": [kind] * 9, "well": []})
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "saved": "done",
        "given up": "failed",
        "well": "done",
    }
    assert stub.submitted.count("given up") == most
    assert stub.submitted.count("well") == 1
    assert outcomes["given up"].found["class"] == kind


def test_what_ran_out_of_memory_runs_alone(tmp_path, monkeypatch):
    outcomes, stub = run(tmp_path, monkeypatch, {"large": ["memory"], **{f"a{k}": [] for k in range(20)}})
    assert stub.submitted[-1] == "large"
    assert stub.alone["large"]
    assert outcomes["large"].state == "done"


def test_innocents_of_a_lost_worker_are_no_suspects(tmp_path, monkeypatch):
    outcomes, stub = run(tmp_path, monkeypatch, {"a": ["innocent"] * 20, "b": []})
    assert outcomes["a"].state == "done"
    assert stub.submitted.count("a") == 21


def test_a_fit_that_was_finished_by_a_lost_worker_is_done(tmp_path, monkeypatch):
    original = Stub.end

    def end(self):
        for future, task in list(self.open.items()):
            folder = FitFolder(task["runs"], task["key"])
            folder.partial.mkdir(exist_ok=True)
            folder.finish({"key": task["key"], "score": 2.0})
            del self.open[future]
            future.set_exception(RuntimeError("KilledWorker"))
        original(self)

    monkeypatch.setattr(Stub, "end", end)
    outcomes, stub = run(tmp_path, monkeypatch, {"a": []})
    assert (outcomes["a"].state, outcomes["a"].found["score"]) == ("done", 2.0)
    assert stub.submitted == ["a"]


def test_few_fits_are_under_way_at_any_time(tmp_path, monkeypatch):
    outcomes, stub = run(tmp_path, monkeypatch, {}, names=[f"a{k}" for k in range(50)], slots=6)
    assert len(outcomes) == 50
    assert stub.most == 7


def test_what_is_done_is_never_done_again(tmp_path, monkeypatch):
    first, _ = run(tmp_path, monkeypatch, {"a": [], "bad": ["deterministic"] * 9, "net": ["transient"] * 9})
    again, stub = run(tmp_path, monkeypatch, {"a": [], "bad": [], "net": []})
    assert stub.submitted == ["net"]  # the network may be there again
    assert (again["a"].state, again["a"].is_new) == ("done", False)
    assert again["bad"].found["sentence"] == "it was deterministic"
    once_more, stub = run(tmp_path, monkeypatch, {"a": [], "bad": [], "net": []}, retry_failed=True)
    assert stub.submitted == ["bad"]
    assert {outcome.state for outcome in once_more.values()} == {"done"}


def test_a_recording_that_cannot_be_found_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    stub = Stub({})
    monkeypatch.setattr(
        "nwb_lrrnn.batch.driver.wait", lambda futures, **_: (stub.end(), ({f for f in futures if f.done()}, set()))[1]
    )
    there = BatchRecording("/there", "there", version_tag="1")
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        fits = fits_of([BatchRecording("/nowhere/a.nwb", "gone"), there], STUDY)
        gone, found = Driver(fits, STUDY, tmp_path, stub, ledger)
    assert (gone.state, gone.key, found.state) == ("failed", "", "done")
    assert "there is no such file" in gone.found["sentence"]


def test_nothing_is_fitted_without_an_executor(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, {"a": []})
    recordings = [BatchRecording(f"/{name}", name, version_tag=name) for name in ("a", "b")]
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        a, b = Driver(fits_of(recordings, STUDY), STUDY, tmp_path, None, ledger)
    assert (a.state, b.state) == ("done", "missing")
    table = summary_of([b, a], "LinearStateSpace", tmp_path)
    assert list(table["recording"]) == ["a", "b"]
    write_summary(table, tmp_path)
    assert list(read_batch(tmp_path)["status"]) == ["done", "missing"]


# --- ledger and folder ----------------------------------------------------------------------------------------------


def test_a_ledger_survives_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.note("done", key="a")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"time": "2026-')
    with Ledger(path) as ledger:
        ledger.note("done", key="b")
        with pytest.raises(ValueError, match="another batch runs in"), Ledger(path):
            pass
    assert [line["key"] for line in read_ledger(path) if line["state"] == "done"] == ["a", "b"]


def test_one_writer_at_a_time(tmp_path):
    folder = FitFolder(tmp_path, "k")
    with folder.held(0.0) as is_to_do:
        assert is_to_do
        with pytest.raises(BusyError, match="another process writes into it"), FitFolder(tmp_path, "k").held(0.0):
            pass
        (folder.partial / "result.nwb").write_text("x")
        folder.finish({"score": 1.0})
    assert sorted(path.name for path in folder.final.iterdir()) == ["metrics.json", "result.nwb"]
    with FitFolder(tmp_path, "k").held(0.0) as is_to_do:
        assert not is_to_do


def test_what_failed_leaves_no_result(tmp_path):
    folder = FitFolder(tmp_path, "k")
    with folder.held(0.0):
        folder.fail({"class": "deterministic", "sentence": "no"})
    assert not folder.is_done
    assert folder.failure() == {"class": "deterministic", "sentence": "no"}
    assert folder.n_attempts() == 1
    (folder.partial / "failure.json").write_text("{")  # cut off by a kill
    assert folder.failure() is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnreachableError("no answer"), "transient"),
        (ConnectionResetError(104, "reset"), "transient"),
        (TimeoutError("late"), "transient"),
        (OSError(28, "no space left"), "transient"),
        (BusyError("busy"), "transient"),
        (AccessDeniedError("dandi://dandi/000001/a.nwb: refused"), "transient"),
        (AccessDeniedError("https://lab.org/a.nwb: refused"), "deterministic"),
        (MemoryError(), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory"),
        (ImportError("libtorch.so: failed to map segment: Cannot allocate memory"), "memory"),
        (OSError(12, "Cannot allocate memory"), "memory"),
        (RuntimeError("no compiled object yet for <Library 'newton_step'>"), "transient"),
        (RuntimeError("something else"), "deterministic"),
        (ValueError("wrong"), "deterministic"),
        (FileNotFoundError(2, "gone"), "deterministic"),
        (TypeError("a bug"), "deterministic"),
    ],
)
def test_classes_of_failures(error, expected):
    assert class_of(error) == expected


def test_a_failure_is_one_line_without_secrets_and_escapes():
    found = failure_of(ValueError("https://lab.org/a.nwb?X-Amz-Signature=0123abcd\n\x1b[31mred"))
    assert "0123abcd" not in found["sentence"]
    assert "\x1b" not in found["sentence"]
    assert "\n" not in found["sentence"]
    json.dumps(found)
