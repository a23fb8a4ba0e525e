"""The commands in an environment of the base install alone: a child process that cannot find any optional package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ofa_core.errors import MissingPackageError
from ofa_core.extras import PACKAGES, is_installed, missing_package, needed_for
from ofa_core.spaces import tiny
from ofa_core.table import Context, Entry, LatencyTable

ROOT = Path(__file__).parents[2]

# Runs several commands in one process without the packages in sys.argv[1]; prints [code, stdout, stderr] of each.
BARE = """
import contextlib, importlib, io, json, sys
from importlib.machinery import PathFinder

hidden, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in hidden else PathFinder.find_spec(name, path, target)

sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
results = []
for module, *words in commands:
    sys.argv = words
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = importlib.import_module(module).main()
    results.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""
TRAIN, SEARCH, PREDICT = "ofa_core.train.cli", "ofa_core.search.cli", "predictors.cli"
NEEDS_TORCH = "this command needs torch: pip install 'ofa-latency[train]'\n"


def bare(folder: Path, hidden: list[str], *commands: list[str]) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", BARE, json.dumps(hidden), json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of the tiny space, an architecture of it, and the names of files that need an extra."""
    space = tiny()
    table = LatencyTable(
        Context(device="made-up", backend="onnxruntime", backend_version="1.0", statistic="median"),
        {(None, block): Entry(1e-3 * (1 + block.macs / 1e5)) for block in space.all_blocks()},
    )
    table.write(tmp_path / "table.csv")
    arch = {"space": "tiny", "ks": [3] * 4, "e": [3] * 4, "d": [2, 1], "r": [28]}
    (tmp_path / "arch.json").write_text(json.dumps(arch))
    for name in ("weights.pt", "accuracy.pth"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_the_table_holds_every_optional_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        (re.split(r"[<>=!;\[ ]", requirement)[0], extra)
        for extra, requirements in extras.items()
        for requirement in requirements
        if not requirement.startswith(("ofa-latency", "numpy"))
    }
    known = {(package.distribution, package.extra) for package in PACKAGES.values()}
    assert {distribution for distribution, _ in named} <= {distribution for distribution, _ in known}
    flatbuffers = ("flatbuffers", "tflite")  # comes with ai-edge-litert
    assert known - {flatbuffers} <= named


def test_a_missing_extra_is_one_line_for_each_command(folder: Path) -> None:
    trains = [
        ["ofa-train"],
        ["ofa-train", "supernet", "--data", "digits"],
        ["ofa-train", "evaluate", "weights.pt"],
        ["ofa-train", "evaluate", "weights.pt", "--net-config", "net.config"],
        ["ofa-train", "accuracy-table", "weights.pt"],
        ["ofa-train", "finetune", "arch.json", "--weights", "weights.pt"],
        ["ofa-train", "calibrate", "arch.json", "--weights", "weights.pt"],
        ["ofa-train", "export", "weights.pt"],
    ]
    search = ["ofa-search", "--lut", "table.csv", "--max-latency-ms", "9", "--out", "answer"]
    results = bare(
        folder,
        list(PACKAGES),
        *([TRAIN, *words] for words in trains),
        [SEARCH, *search, "--accuracy", "proxy:macs", "--weights", "weights.pt", "--data", "digits"],
        [SEARCH, *search, "--accuracy", "accuracy.pth"],
        [PREDICT, "ofa-predict", "evaluate", "table.csv", "--plots", "plots"],
    )
    for words, (code, out, err) in zip(trains, results, strict=False):
        assert (code, out, err) == (1, "", f"ofa-train: {NEEDS_TORCH}"), words
    rest = results[len(trains) :]
    assert [code for code, _, _ in rest] == [1] * 3
    assert not any(out for _, out, _ in rest)
    lines = [err.splitlines()[-1] for _, _, err in rest]
    assert lines[0] == f"ofa-search: {NEEDS_TORCH}".strip()
    assert lines[1] == (
        "ofa-search: reading accuracy.pth (a .npz made from it does not) needs torch: pip install 'ofa-latency[torch]'"
    )
    assert lines[2] == "ofa-predict: --plots needs matplotlib: pip install 'ofa-latency[train]'"
    assert sorted(path.name for path in folder.iterdir()) == ["accuracy.pth", "arch.json", "table.csv", "weights.pt"]


def test_the_base_install_predicts_and_searches(folder: Path) -> None:
    predicted, searched = bare(
        folder,
        list(PACKAGES),
        [PREDICT, "ofa-predict", "arch.json", "--lut", "table.csv", "--json"],
        [
            SEARCH,
            "ofa-search",
            "--lut",
            "table.csv",
            "--max-latency-ms",
            "9",
            "--accuracy",
            "proxy:macs",
            "-o",
            "answer",
        ],
    )
    assert predicted[0] == 0
    assert json.loads(predicted[1])["predictions"][0]["latency_ms"] > 0
    assert searched[0] == 0
    assert (folder / "answer" / "report.html").is_file()
    assert (folder / "answer" / "subnet.onnx").is_file()


@pytest.mark.parametrize(("module", "distribution"), [("PIL", "pillow"), ("torch", "torch")])
def test_one_missing_package_among_those_of_an_extra_is_named(folder: Path, module: str, distribution: str) -> None:
    pytest.importorskip("torch", reason="needs torch")
    ((code, out, err),) = bare(folder, [module], [TRAIN, "ofa-train", "evaluate", "weights.pt"])
    assert (code, out) == (1, "")
    assert err == f"ofa-train: this command needs {distribution}: pip install 'ofa-latency[train]'\n"


def test_export_looks_for_litert_before_it_reads_weights(folder: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    words = [TRAIN, "ofa-train", "export", "weights.pt", "--out", "net.tflite"]
    ((code, out, err),) = bare(folder, ["ai_edge_litert"], words)  # weights.pt is no checkpoint
    assert (code, out) == (1, "")
    assert err == "ofa-train: writing .tflite files needs ai-edge-litert: pip install 'ofa-latency[tflite]'\n"
    assert not (folder / "net.tflite").exists()


def test_a_broken_package_is_one_line_with_the_reason() -> None:
    broken = ImportError("libcudart.so.12: cannot open shared object file\nmore", name="torch._C")
    line = missing_package(broken, "training")
    assert line is not None
    assert "libcudart.so.12: cannot open shared object file" in line
    assert "\n" not in line
    assert "pip install 'ofa-latency[train]'" in line


def test_a_missing_module_of_this_project_is_not_a_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ofa_core\.no_such_module"), needed_for("x"):
        import ofa_core.no_such_module  # noqa: F401
    assert missing_package(ImportError("cannot import name 'x'")) is None


def test_needed_for_names_purpose_and_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(MissingPackageError, match=r"^trees needs xgboost: pip install 'ofa-latency\[xgboost\]'$"):  # noqa: SIM117
        with needed_for("trees"):
            import xgboost  # noqa: F401
    assert not is_installed("no_such_module_anywhere")
