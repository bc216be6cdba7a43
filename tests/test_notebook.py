"""The README's quickstart as a notebook, run by nbclient: one picture a cell that draws, and no text beside it."""

import base64
import re
import sys
from pathlib import Path

import pytest

import nwb_lrrnn

nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel matplotlib")
nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel matplotlib")
pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel matplotlib")
pytest.importorskip("matplotlib", reason="pip install nbclient ipykernel matplotlib")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # of jupyter's own

README = (Path(__file__).parent.parent / "README.md").read_text()
QUICKSTART = re.findall(r"```python\n(.*?)```", README.split("## Quickstart")[1].split("\n## ")[0], flags=re.DOTALL)
IMPORT = "from nwb_lrrnn.plotting import plot_comparison, plot_flow, plot_history, plot_latents, plot_summary\n"
PICTURES = {
    "flow": IMPORT + "plot_flow(model)",
    "flow with latents": "plot_flow(model, latents=latents)",
    "latents": "plot_latents(latents)",
    "unequal trials": "plot_latents([latents[0].values, latents[1].values[:20]])",
    "history": "plot_history(model)",
    "comparison": "plot_comparison(table)",
    "summary": "plot_summary(model, test, comparison=table)",
    "assigned": "ax = plot_flow(model)",
    "assigned and shown": "ax = plot_flow(model)\nax",
    "with a semicolon": "plot_flow(model);",
    "with pyplot": "import matplotlib.pyplot as plt\nplot_flow(model)",
    "into given axes": "figure, (a, b) = plt.subplots(1, 2)\nplot_flow(model, ax=a)\nplot_latents(latents, ax=b)",
    "and titled": "ax = plot_flow(model)\nax.set_title('mine')\nax",
    "inline": "%matplotlib inline\nplot_flow(model)",
}


def outputs_of(cells, folder, monkeypatch):
    """Return the outputs of cells by name, run in one kernel in a folder."""
    for name in ("IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(folder / name))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells.values()])
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return {name: cell.outputs for name, cell in zip(cells, notebook.cells, strict=True)}


def kinds(outputs):
    """Return what a cell gave: the kinds of each thing displayed, and the names of streams."""
    return [
        sorted(output["data"]) if "data" in output else output.get("name", output["output_type"]) for output in outputs
    ]


def test_the_quickstart_in_a_notebook(tmp_path, monkeypatch):
    blocks = {f"block {k}": text for k, text in enumerate(QUICKSTART)}
    texts = {"dynamics": "model.dynamics_", "table": "table", "where": "import sys\nprint(sys.executable, lr.__file__)"}
    said = outputs_of(blocks | PICTURES | texts, tmp_path, monkeypatch)
    for name in PICTURES:
        assert [set(kind) - {"text/plain"} for kind in kinds(said[name])] == [{"image/png"}], name
        picture = base64.b64decode(said[name][0]["data"]["image/png"])
        assert picture.startswith(b"\x89PNG")
        (tmp_path / f"{name}.png").write_bytes(picture)
    assert [set(kind) - {"text/plain"} for kind in kinds(said[f"block {len(QUICKSTART) - 1}"])] == [{"image/png"}]
    assert said["block 2"]  # the fit: a bar, in a widget or as text
    assert said["where"][0]["text"].split() == [sys.executable, nwb_lrrnn.__file__]  # this package, not another
    assert all(output["output_type"] != "error" for outputs in said.values() for output in outputs)
    assert len(said["dynamics"][0]["data"]["text/plain"].splitlines()) < 8
    assert "Verdict: nonlinear dynamics" in said["table"][0]["data"]["text/plain"]
    assert "Verdict: nonlinear dynamics" in said["table"][0]["data"]["text/html"]
