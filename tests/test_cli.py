"""The command line, as a user meets it: what it prints, what it writes and its exit codes."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest

from nwb_lrrnn.results import load_model, read_results
from small_cli import ALIGNED, QUICK, fill, run, sentence
from small_nwb import add_trials, add_units, new_nwb


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of recordings, and of what is none."""
    return fill(tmp_path_factory.mktemp("cli"))


def test_inspect(folder, capsys):
    assert run("inspect", folder / "spikes.nwb") == 0
    shown = capsys.readouterr()
    assert "5 units" in shown.out
    assert "gaps in the timestamps" in shown.out.partition("Problems")[2]
    assert "To fit a model: nwb-lrrnn fit " in shown.out
    assert shown.err == ""


def test_inspect_of_a_sound_file(folder, capsys):
    assert run("inspect", folder / "channels.nwb") == 0
    assert "No problems found." in capsys.readouterr().out


def test_inspect_says_why_nothing_can_be_fitted(folder, capsys):
    assert run("inspect", folder / "empty.nwb") == 0
    out = capsys.readouterr().out
    assert "Nothing to fit: the file holds no units" in out
    assert "To fit a model" not in out


@pytest.fixture(scope="module")
def fitted(folder):
    """Return exit code, stdout and stderr of one fit with everything on."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run("fit", folder / "spikes.nwb", "--rank", "1", *ALIGNED, *QUICK, "-o", folder / "result.nwb")
    return code, out.getvalue(), err.getvalue()


def test_fit_prints_a_comparison_and_writes_the_result(folder, fitted):
    code, out, err = fitted
    assert code == 0
    assert "Data: 8 trials of 30 bins of 0.02 s, 5 units of spikes.nwb" in out
    assert "Fit: LowRankRNN (rank 1) to 6 trials, 2 held out" in out
    assert "log-likelihood of 2 held-out trials (60 bins), nats per bin" in out
    for name in ("mean rate", "factor analysis (rank 1)", "VAR(1)", "linear state space (rank 2)", "LowRankRNN"):
        assert name in out
    assert "Verdict: nonlinear dynamics undecided: 2 held-out trials, and fewer than 5 decide nothing" in out
    assert f"Result: {folder / 'result.nwb'}" in out
    lines = err.strip().splitlines()
    assert all(line.startswith("Warning: ") for line in lines)  # not converged: one line each, no progress bar
    assert any("not converged" in line for line in lines)


def test_a_stochastic_model_is_compared_by_its_own_bound(folder, tmp_path, capsys):
    quick = ["--set", "n_neurons=10", "--set", "n_particles=8", "--set", "n_trajectories=8", "--max-epochs", "2"]
    options = ["--model", "smc", "--rank", "1", "--device", "cpu", *quick, *ALIGNED, "-o", tmp_path / "a.nwb"]
    assert run("fit", folder / "spikes.nwb", *options) == 0
    shown = capsys.readouterr()
    assert "Fit: SMCLowRankRNN (rank 1) to 6 trials, 2 held out" in shown.out
    assert "linear state space (rank 2)" in shown.out
    assert "Linear state spaces are scored by the particle filter of the model, as the model is." in shown.out
    assert "Verdict: nonlinear dynamics " in shown.out
    assert all(line.startswith("Warning: ") for line in shown.err.strip().splitlines())
    model = load_model(tmp_path / "a.nwb")
    assert (type(model).__name__, model.n_particles_, model.device) == ("SMCLowRankRNN", 8, "cpu")
    scored_by = dict(
        zip(*(read_results(tmp_path / "a.nwb")[f"metrics/{n}"].values for n in ("model", "scored_by")), strict=True)
    )
    assert scored_by["linear state space (rank 1)"] == scored_by["SMCLowRankRNN (rank 1)"]
    assert scored_by["VAR(1)"] == "VectorAutoregression"


def test_a_network_by_regression(folder, tmp_path, capsys):
    quick = ["--model", "leastsquares", "--rank", "1", "--max-epochs", "1", "--set", "n_neurons=10", "--no-compare"]
    assert run("fit", folder / "spikes.nwb", *quick, *ALIGNED, "-o", tmp_path / "a.nwb") == 0
    assert "Fit: LeastSquaresRNN (rank 1) to" in capsys.readouterr().out
    model = load_model(tmp_path / "a.nwb")
    assert (type(model).__name__, model.n_neurons, model.max_epochs) == ("LeastSquaresRNN", 10, 1)


def test_groups_of_latents(folder, tmp_path, capsys):
    quick = ["--model", "dis", "--rank", "3", "--set", "group_ranks=2,1", "--set", "n_bootstraps=2"]
    assert run("fit", folder / "channels.nwb", *quick, "-o", tmp_path / "a.nwb") == 0
    shown = capsys.readouterr()
    assert "Fit: DisRNN (rank 3) to 30 windows, the last 10 held out" in shown.out
    for name in ("mean rate", "VAR(1)", "linear state space (rank 3)", "DisRNN (rank 3)"):
        assert name in shown.out
    assert "Verdict: nonlinear dynamics " in shown.out
    assert shown.err == ""
    assert load_model(tmp_path / "a.nwb").group_ranks == (2, 1)
    results = read_results(tmp_path / "a.nwb")
    assert results["trials/latents"]["latent_group"].values.tolist() == [0, 0, 1]
    linear = dict(zip(*(results[f"metrics/{n}"].values for n in ("model", "is_linear")), strict=True))
    assert linear.pop(next(name for name in linear if name.startswith("autoregression per unit (")))
    assert linear == {
        "mean rate": True,
        "factor analysis (rank 3)": True,
        "VAR(1)": True,
        "linear state space (rank 3)": True,
        "DisRNN (rank 3)": False,
    }


@pytest.mark.parametrize("more", ["n_lags=2", "encoder=mlp"])
def test_a_model_without_dynamics_is_compared_too(folder, tmp_path, capsys, more):
    options = ["--model", "dis", "--set", more, "--max-epochs", "5", *ALIGNED, "-o", tmp_path / "a.nwb"]
    assert run("fit", folder / "spikes.nwb", *options) == 0
    out = capsys.readouterr().out
    assert "linear state space (rank 2)" in out
    assert "DisRNN (rank 2)" in out
    assert ("Verdict" in out) == (more == "encoder=mlp")  # a linear encoder of counts predicts linearly


def test_the_result_holds_model_latents_scores_and_source(folder, fitted):
    results = read_results(folder / "result.nwb")
    model = load_model(folder / "result.nwb")
    assert (model.rank, model.n_neurons, model.random_state) == (1, 10, 0)
    latents = results["trials/latents"]
    assert latents.shape == (8, 30, 1)
    assert latents["held_out"].sum() == 2
    assert list(latents["side"].values[:2]) == ["left", "right"]
    assert results["metrics"].attrs["n_trials"] == 2
    assert "mean rate" in results["metrics/model"]
    assert results["metrics"].attrs["nonlinear"] == "undecided"  # two held-out trials decide nothing
    assert results["metrics"].attrs["verdict"].startswith("nonlinear dynamics undecided: 2 held-out trials, and fewer")
    source = results["source"].attrs
    assert source["uri"] == "spikes.nwb"
    assert source["nwb_path"] == "/units"


def test_fit_all_trials_with_inputs_and_query(folder, tmp_path, capsys):
    args = ["--trials", "side == 'left'", "--units", "0,1,2", "--inputs", "inputs", "--no-compare", "--seed", "7"]
    assert run("fit", folder / "spikes.nwb", *ALIGNED, *QUICK, *args, "-o", tmp_path / "a.nwb") == 0
    assert "4 trials" in capsys.readouterr().out
    model = load_model(tmp_path / "a.nwb")
    assert (model.n_inputs_, model.random_state) == (2, 7)
    assert list(model.unit_ids_) == [0, 1, 2]
    assert "metrics" not in read_results(tmp_path / "a.nwb").children


def test_trials_without_alignment_go_from_start_to_stop(folder, tmp_path, capsys):
    assert run("fit", folder / "spikes.nwb", *QUICK, "--no-compare", "-o", tmp_path / "a.nwb") == 0
    assert "8 trials of 30 bins" in capsys.readouterr().out


def test_units_of_one_table_of_several_and_trials_of_one_name(tmp_path, capsys):
    rng = np.random.default_rng(0)
    with new_nwb(tmp_path / "two.nwb") as file:
        for k, name in enumerate("ab"):
            trains = [np.sort(rng.uniform(0, 20, 200)) for _ in range(4 + k)]
            add_units(file, trains, path=f"processing/{name}/units", accepted=[1, 1, 1, 0, 1][: 4 + k])
            path = f"{'intervals' if k else 'processing/a'}/trials"
            add_trials(file, np.arange(8.0), np.arange(8.0) + 0.5, path=path, correct=[1, 0] * 4)
    args = ["fit", tmp_path / "two.nwb", "--rank", "1", *QUICK, "--no-compare", "-o", tmp_path / "a.nwb"]
    assert "say which" in sentence(capsys, *args)
    choice = ["--table", "/processing/b/units", "--units", "accepted"]
    assert run(*args, *choice) == 0
    assert "8 trials of 25 bins of 0.02 s, 4 units" in capsys.readouterr().out
    assert read_results(tmp_path / "a.nwb")["source"].attrs["nwb_path"] == "/processing/b/units"
    choice += ["--intervals", "/intervals/trials", "--trials", "not correct", "--overwrite"]
    assert run(*args, *choice) == 0
    assert "4 trials of 25 bins of 0.02 s, 4 units" in capsys.readouterr().out
    assert "names units, and --series a series" in sentence(capsys, *args, "--table", "a", "--series", "b", code=2)


def test_a_recording_without_trials_is_cut(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("fit", folder / "channels.nwb", "--model", "linear", "--rank", "1", "--max-epochs", "3", "-v") == 0
    shown = capsys.readouterr()
    assert "No trials: cut into 40 windows of 0.1 s" in shown.out
    assert "Fit: LinearStateSpace (rank 1) to 30 windows, the last 10 held out" in shown.out
    assert "log-likelihood of 10 held-out windows (100 bins), nats per bin" in shown.out
    assert "The intervals are over blocks of up to " in shown.out
    assert "Verdict" not in shown.out  # the model is linear itself
    assert "3 channels" in shown.out
    assert "bits/spike" not in shown.out
    assert "gaussian" in shown.err  # the log, which -v shows
    model = load_model(tmp_path / "channels_lrrnn.nwb")  # the default name, in the current folder
    assert type(model).__name__ == "LinearStateSpace"
    latents = read_results(tmp_path / "channels_lrrnn.nwb")["trials/latents"]
    np.testing.assert_allclose(latents["align_time"], 1.0 + np.arange(40) * 0.1)  # the recording begins at 1 s
    # a window between two that were fitted would be half known
    np.testing.assert_array_equal(latents["held_out"], np.arange(40) >= 30)


def test_a_recording_too_short_for_its_dynamics_is_undecided(folder, tmp_path, capsys):
    assert run("fit", folder / "drift.nwb", "--model", "dis", "--set", "n_bootstraps=2", "-o", tmp_path / "a.nwb") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"cut into 4 windows of 1 s, as the autocorrelation time of the population is 0.\d+ s, of which a", out
    )
    wanted = r"he recording holds [\d.]+ autocorrelation times, and 8 held-out windows of 2 would take about 64"
    assert len(re.findall(wanted, out)) == 2  # above, and in the verdict
    attrs = read_results(tmp_path / "a.nwb")["metrics"].attrs
    assert attrs["nonlinear"] == "undecided"
    assert re.search(wanted, attrs["verdict"])


def test_set_takes_python_values_and_text(folder, tmp_path):
    values = ["--set", "nonlinearity=relu", "--set", "tau=0.05", "--set", "validation_fraction=0"]
    assert run("fit", folder / "spikes.nwb", *QUICK, *values, "--no-compare", "-o", tmp_path / "a.nwb") == 0
    model = load_model(tmp_path / "a.nwb")
    assert (model.nonlinearity, model.tau, model.validation_fraction) == ("relu", 0.05, 0)


def test_existing_results_are_replaced_on_request_only(folder, tmp_path, capsys):
    args = ["fit", folder / "spikes.nwb", *QUICK, "--no-compare", "-o", tmp_path / "a.nwb"]
    assert run(*args) == 0
    capsys.readouterr()
    assert "exists; choose another name with -o, or pass --overwrite" in sentence(capsys, *args)
    assert run(*args, "--overwrite") == 0
    capsys.readouterr()
    other = folder / "channels.nwb"
    before = other.read_bytes()
    args[-1] = other
    assert "is no result of nwb-lrrnn and is not replaced" in sentence(capsys, *args, "--overwrite")
    assert other.read_bytes() == before


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("demo", "inspect", "fit"))
