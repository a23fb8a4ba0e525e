"""Each script of examples/ runs as its docstring says, and is short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ofa_core.measured_networks import networks_path
from predictors.loading import load_latency

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TABLE = ROOT / "tests/data/v0_1/tiny.csv"


def run(name: str, *words: object) -> str:
    """Run an example in a process of its own, and return its stdout."""
    command = [sys.executable, ROOT / "examples" / name, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_tested_and_shows_how_it_is_run(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert f"python examples/{path.name}" in text
    assert f'run("{path.name}"' in Path(__file__).read_text()


def test_there_are_five_examples() -> None:
    assert len(EXAMPLES) == 5


def test_profile_device(tmp_path: Path) -> None:
    out = tmp_path / "tiny.csv"
    shown = run("profile_device.py", out)
    table = load_latency(out).table
    assert f"{len(table)} blocks and 6 networks" in shown
    assert table.context.device == "my computer"
    assert networks_path(out).exists()


def test_predict_networks() -> None:
    lines = run("predict_networks.py", TABLE, "tiny").splitlines()
    latencies = [float(line.split(": ")[1].split(" ms")[0]) for line in lines[:3]]
    assert 0 < latencies[0] < latencies[1] < latencies[2]


def test_search_own_accuracy() -> None:
    line = run("search_own_accuracy.py", TABLE, "tiny").splitlines()[0]
    limit, predicted = (float(part.split()[-2]) for part in line.split(", ")[:2])
    assert 0 < predicted <= limit


def test_own_space() -> None:
    lines = run("own_space.py", ROOT / "examples/own_space.toml").splitlines()
    assert lines[0].startswith("small images: ")
    assert "and 8 networks" in lines[1]
    assert float(lines[3].split()[-2]) <= 1


@pytest.mark.torch
def test_train_and_export(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    import onnx

    shown = run("train_and_export.py", tmp_path / "run")
    assert float(shown.split("top-1 ")[1].split(" %")[0]) > 15  # guessing gives 10 %
    onnx.checker.check_model(onnx.load(tmp_path / "run/subnet.onnx"))
    assert (tmp_path / "run/supernet.pt").exists()


def test_the_notebook_runs_top_to_bottom_and_holds_no_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    notebook = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == 5
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4, 5]
    shown = "".join(output.get("text", "") for output in cells[-1].outputs)
    assert shown.splitlines()[-1] == "(1, 10)"
