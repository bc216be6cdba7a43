"""A batch from end to end, small: an archive, a cluster that loses a worker, broken files, and one result for each."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from nwb_lrrnn.batch.folder import BusyError, FitFolder
from nwb_lrrnn.batch.launch import run_child, stop_children
from nwb_lrrnn.batch.plan import fits_of
from nwb_lrrnn.batch.recordings import recordings_of
from nwb_lrrnn.batch.run import run_batch
from nwb_lrrnn.batch.study import read_study
from nwb_lrrnn.batch.summary import read_batch
from nwb_lrrnn.results import load_model, read_results
from small_archive import SmallArchive
from small_batch import broken_files, planted_recording
from small_bucket import Reply
from small_cli import lines_of, run

distributed = pytest.importorskip("distributed")

STUDY = {
    "reading": {"bin_size": 0.04},
    "preprocessing": [{"step": "SquareRoot"}, {"step": "ZScore"}],
    "estimator": {"model": "linear", "rank": 2, "max_iter": 3},
    "evaluation": {"compare": False},
}


def fail_some(server, share):
    rng, original = random.Random(0), server._fault
    server._fault = lambda request: Reply(503, b"injected", {}) if rng.random() < share else original(request)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Return the table and the folder of a batch on two workers, one of which was killed while it fitted."""
    folder = tmp_path_factory.mktemp("batch")
    with SmallArchive() as archive:
        for k, kind in enumerate(("cycle", "points")):
            path = planted_recording(folder / f"{kind}.nwb", kind, k, n_trials=8, n_units=6)
            archive.add("000001", f"sub-{k}/{kind}.nwb", path)
        broken = [path for path in broken_files(folder / "broken") if path.stem == "few_trials"]
        for path in broken:
            archive.add("000001", f"sub-broken/{path.name}", path)
        for server in (archive.api, archive.bucket.server):
            fail_some(server, 0.05)
        source = f"{archive.api_url}/dandisets/000001/versions/draft"
        out, killed = folder / "out", []
        # workers of a cluster in this process would be forked or share its threads
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:

            def kill():
                while not list(out.glob("runs/*/attempts")):
                    time.sleep(0.05)
                worker = next(iter(cluster.workers.values())).process.process
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            table = run_batch(source, STUDY, out=out, executor="dask", scheduler=cluster.scheduler_address)
            killer.join()
        again = run_batch(source, STUDY, out=out, executor="local", n_workers=1, resume=True)
    assert killed
    return table, again, out


def test_every_healthy_recording_has_one_result_and_every_broken_one_a_sentence(batch):
    table, _, out = batch
    status = dict(zip(table["recording"], table["status"], strict=True))
    assert status == {
        "sub-0/cycle.nwb": "done",
        "sub-1/points.nwb": "done",
        "sub-broken/few_trials.nwb": "failed",
    }
    sentences = dict(zip(table["recording"], table["sentence"], strict=True))
    assert "too few trials to hold some out (1)" in sentences["sub-broken/few_trials.nwb"]
    done = [path.name for path in (out / "runs").iterdir() if not path.name.endswith(".partial")]
    assert sorted(done) == sorted(table["key"][table["status"] == "done"])
    for name in done:
        assert {"result.nwb", "metrics.json", "log.txt"} <= {path.name for path in (out / "runs" / name).iterdir()}


def test_the_table_knows_the_sessions_and_where_the_results_are(batch):
    table, _, out = batch
    row = table.set_index("recording").loc["sub-1/points.nwb"]
    assert (row["subject"], row["species"], row["session"]) == ("m1", "Mus musculus", "day-1")
    assert (row["n_trials"], row["n_held_out"], row["n_units"], row["rank"]) == (8, 2, 6, 2)
    assert np.isfinite(row["score"])
    assert "stopped after max_iter=3" in row["warnings"]
    model, found = load_model(row["results"]), read_results(row["results"])
    assert found["trials"]["held_out"].values.sum() == 2
    assert model.loadings_.shape == (6, 2)
    assert read_batch(out)["results"].tolist()[0] == table["results"].tolist()[0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_held_out_has_shaped_no_preprocessing(batch, tmp_path):
    """The score is that of the fit by hand, whose transformers have seen the training trials alone."""
    from nwb_lrrnn import LinearStateSpace, SquareRoot, ZScore, open_nwb
    from nwb_lrrnn.pipeline.held_out import held_out

    table, _, out = batch
    row = table.set_index("recording").loc["sub-0/cycle.nwb"]
    with open_nwb(out.parent / "cycle.nwb") as recording:
        X = SquareRoot().fit_transform(recording.spikes(0.04, intervals="/intervals/trials").load())
    held = held_out(X, 0.25, 0, False)
    X = ZScore().fit(X[~held]).transform(X)
    model = LinearStateSpace(rank=2, max_iter=3, random_state=0).fit(X[~held])
    assert row["score"] == pytest.approx(model.score(X[held]), abs=1e-9)


def test_a_second_run_fits_nothing_again(batch):
    table, again, out = batch
    assert list(again["status"]) == list(table["status"])
    lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    begins = [k for k, line in enumerate(lines) if line["state"] == "driver"]
    assert len(begins) == 2
    assert {line["state"] for line in lines[begins[1] :]} == {"driver", "batch", "found", "found failed", "end"}


def test_the_page_has_a_row_for_each_fit(batch):
    table, _, out = batch
    page = (out / "overview.html").read_text()
    assert page.count("<tr") == 1 + len(table)
    assert "2 of 3 fits done, 1 failed" in page
    for key in table["key"][table["status"] == "done"]:
        assert f"runs/{key}/result.nwb" in page


def long_fit(tmp_path, max_epochs):
    """Return the task of a fit that takes so many epochs."""
    planted_recording(tmp_path / "a.nwb", "cycle", 0, n_trials=8, n_units=6, overwrite=True)
    given = {"model": "lowrank", "rank": 1, "n_neurons": 5, "max_epochs": max_epochs, "patience": 10**6}
    study = read_study({"estimator": given, "evaluation": {"compare": False}})
    (fit,) = fits_of(recordings_of(tmp_path / "a.nwb"), study)
    return fit.task(study, tmp_path / "out", *fit.recording.identified())


def stopped_after(task, is_time):
    """Run a fit until it is time, stop it, and return its outcome; meanwhile nobody else may write into its folder."""
    folder, found = FitFolder(task["runs"], task["key"]), []
    runner = threading.Thread(target=lambda: found.append(run_child(task)))
    runner.start()
    while not is_time(folder.partial / "checkpoint.npz"):
        time.sleep(0.05)
        assert runner.is_alive()
    with pytest.raises(BusyError, match="another process"), folder.held(0.0):
        pass
    stop_children()
    runner.join()
    with folder.held(0.0) as is_to_do:  # the lock has ended with its process
        assert is_to_do
    return found[0]


@pytest.mark.slow
def test_a_stopped_fit_leaves_its_checkpoint(tmp_path):
    task = long_fit(tmp_path, 10**6)
    assert stopped_after(task, Path.exists)["class"] == "stopped"
    folder = FitFolder(task["runs"], task["key"])
    assert (folder.partial / "checkpoint.npz").exists()
    assert not folder.is_done


@pytest.mark.slow
def test_a_stopped_fit_goes_on_from_its_checkpoint(tmp_path):
    task = long_fit(tmp_path, 10**6)
    began = time.time()
    stopped_after(task, lambda path: path.exists() and path.stat().st_mtime > began + 8)
    partial = FitFolder(task["runs"], task["key"]).partial
    before = np.load(partial / "checkpoint.npz")
    stopped_after(task, lambda path: path.stat().st_mtime > time.time() - 1)
    assert set(before.files) <= set(np.load(partial / "checkpoint.npz").files)


def test_a_fit_ends_with_its_worker(tmp_path):
    """A worker that is killed alone takes its fit with it, or at least nobody else is let in before."""
    task = long_fit(tmp_path, 10**6)
    program = f"from nwb_lrrnn.batch.launch import run_child; run_child({task!r})"
    worker = subprocess.Popen([sys.executable, "-c", program])
    folder = FitFolder(task["runs"], task["key"])
    while not (folder.partial / "checkpoint.npz").exists():
        time.sleep(0.05)
        assert worker.poll() is None
    worker.kill()
    worker.wait()
    with folder.held(30.0) as is_to_do:
        assert is_to_do


def test_the_command_refuses_what_is_no_study(tmp_path, capsys):
    (tmp_path / "study.toml").write_text("[estimator]\nmodel = 'lowrnk'\n")
    assert run("batch", tmp_path, "--config", tmp_path / "study.toml", "-o", tmp_path / "out") == 2
    assert "did you mean 'lowrank'" in capsys.readouterr().err
    (tmp_path / "study.toml").write_text("[estimator]\nmodel = 'linear'\n")
    assert run("batch", tmp_path / "none", "--config", tmp_path / "study.toml", "-o", tmp_path / "out") == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    planted_recording(tmp_path / "a.nwb", "cycle", 0, n_trials=2, n_units=3)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(FileExistsError, match="is not empty and holds no batch"):
        run_batch(tmp_path / "a.nwb", STUDY, out=tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_an_array_of_a_queue_runs_the_lines_of_a_manifest(batch, tmp_path, capsys):
    _, _, out = batch
    for name in ("cycle", "points"):
        (tmp_path / f"{name}.nwb").symlink_to(out.parent / f"{name}.nwb")
    (tmp_path / "broken.nwb").touch()
    (tmp_path / "study.toml").write_text(
        "[reading]\nbin_size = 0.04\n[[preprocessing]]\nstep = 'SquareRoot'\n[[preprocessing]]\nstep = 'ZScore'\n"
        "[estimator]\nmodel = 'linear'\nrank = 2\nmax_iter = 3\n[evaluation]\ncompare = false\n"
    )
    batch_of = ["batch", tmp_path / "*.nwb", "--config", tmp_path / "study.toml", "-o", tmp_path / "out"]
    assert run(*batch_of, "--executor", "slurm-array", "--workers", "4") == 0
    script = (tmp_path / "out" / "submit.sh").read_text()
    assert "#SBATCH --array=0-2%4" in script
    assert 'fits.jsonl "$SLURM_ARRAY_TASK_ID" --every 3' in script
    capsys.readouterr()
    assert run("fit-one", tmp_path / "out" / "fits.jsonl", "0", "--json") == 1
    assert "the file is empty" in lines_of(capsys)[0]["sentence"]
    assert run("fit-one", tmp_path / "out" / "fits.jsonl", "9") == 1
    assert run("fit-one", tmp_path / "out" / "fits.jsonl", "1") == 0
    capsys.readouterr()
    assert run(*batch_of, "--executor", "none", "--resume", "--json") == 1
    events = lines_of(capsys)
    assert [event.get("state") for event in events] == ["failed", "done", "missing", None]
    assert events[-1] == {"event": "end", "fits": 3, "failed": 1, "done": 1, "missing": 1, "out": str(tmp_path / "out")}


@pytest.mark.slow
def test_a_dry_run_writes_nothing(batch, tmp_path, capsys):
    _, _, out = batch
    (tmp_path / "study.toml").write_text("[estimator]\nmodel = 'linear'\n[grid]\nrank = [1, 2]\n")
    source = out.parent / "cycle.nwb"
    args = ["--config", tmp_path / "study.toml", "-o", tmp_path / "out", "--dry-run", "--json"]
    assert run("batch", source, *args) == 0
    (found,) = lines_of(capsys)
    assert (found["n_recordings"], found["n_fits"], found["n_done"]) == (1, 2, 0)
    assert found["n_bytes"] == source.stat().st_size
    assert found["seconds"] > 0
    assert found["memory"] > 5e7
    assert not Path(tmp_path / "out").exists()
