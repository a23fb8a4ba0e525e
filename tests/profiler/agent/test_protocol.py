"""The agent itself: where it may run, what it may import, and each line of its protocol."""

from __future__ import annotations

import ast
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import profiler.agent
from profiler.agent.backends import open_backend
from profiler.agent.protocol import PROTOCOL, Agent, serve
from profiler.agent_zip import build_pyz

SOURCES = sorted(Path(profiler.agent.__path__[0]).rglob("*.py"))
# Runtimes that a backend's module may import, and what they stand on.
RUNTIMES = {"numpy", "onnxruntime", "pynvml", "torch", "ai_edge_litert", "tflite_runtime", "tensorflow"}
# Names that Python 3.8 lacks: methods and functions that came later.
LATER_THAN_3_8 = {"removeprefix", "removesuffix", "bit_count", "pairwise", "batched", "is_relative_to", "cache"}


def talk(*requests: Any, backend: str = "sleep") -> list[dict[str, Any]]:
    lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in requests]
    replies = io.BytesIO()
    serve(Agent(backend), lines, replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(profiler.agent.__path__[0])))
def test_it_is_python_3_8_and_stands_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    assert any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body) or path.stem == "__init__"
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            root = name.partition(".")[0]
            assert root in sys.stdlib_module_names | RUNTIMES or name.startswith("profiler.agent"), name
            assert root != "tomllib"
        if isinstance(node, ast.Attribute):
            assert node.attr not in LATER_THAN_3_8, f"{path.name}:{node.lineno} {node.attr}"
        if isinstance(node, ast.keyword):
            assert node.arg not in ("slots", "kw_only", "strict"), f"{path.name}:{node.lineno}"
        if isinstance(node, ast.With):
            assert "(" not in ast.unparse(node.items[0])[:1], "parenthesised with came with 3.10"


def old_python() -> str | None:
    """Return a Python 3.8 or 3.9 of this machine, whether on the path or among pyenv's."""
    found = [shutil.which("python3.8"), shutil.which("python3.9")]
    found += [str(p) for p in Path("~/.pyenv/versions").expanduser().glob("3.[89].*/bin/python3")]
    pyenv = shutil.which("pyenv")
    if pyenv is not None:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        found += [str(p) for p in Path(root, "versions").glob("3.[89].*/bin/python3")]
    for python in filter(None, found):
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return None


def test_it_runs_under_an_old_python(tmp_path: Path) -> None:
    python = old_python()
    if python is None:
        pytest.skip("this machine has no Python 3.8 or 3.9")
    pyz = build_pyz(tmp_path / "agent.pyz")
    (tmp_path / "m.json").write_text('{"ms": 0.1}')
    requests = [
        {"id": 1, "op": "hello"},
        {"id": 2, "op": "load", "model": "m.json", "threads": 1, "cpus": [0]},
        {"id": 3, "op": "run", "handle": 1, "warmup": 1, "repeats": 2},
        {"id": 4, "op": "unload", "handle": 1},
        {"id": 5, "op": "quit"},
    ]
    text = "\n".join(map(json.dumps, requests))
    argv = [python, str(pyz), "--backend", "sleep"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["id"] for r in replies] == [1, 2, 3, 4, 5]
    assert all(r["ok"] for r in replies), replies
    assert replies[0]["python"].startswith(("3.8.", "3.9."))
    # A runtime that is not installed there is an error reply, and the process lives on.
    argv[-1] = "onnxruntime"
    text = '{"id": 1, "op": "hello"}\n{"id": 2, "op": "quit"}\n'
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    hello, bye = (json.loads(line) for line in done.stdout.splitlines())
    assert hello["ok"] or hello["error"]["type"] in ("ModuleNotFoundError", "ImportError")
    assert bye == {"id": 2, "ok": True}


def test_hello_reports_protocol_versions_cores_and_clocks() -> None:
    (hello,) = talk({"id": 7, "op": "hello"})
    assert (hello["id"], hello["ok"], hello["protocol"]) == (7, True, PROTOCOL)
    assert hello["versions"] == {"sleep": "1"}
    assert hello["clocks"]["wall"] == "perf_counter_ns"


def test_ids_of_any_type_are_echoed() -> None:
    for request_id in (0, -1, "a", None, [1], 2**70):
        assert talk({"id": request_id, "op": "hello"})[0]["id"] == request_id


@pytest.mark.parametrize(
    ("line", "type_", "text"),
    [
        (b"x", "JSONDecodeError", "Expecting value"),
        (b"", "JSONDecodeError", "Expecting value"),
        (b"[1]", "TypeError", "a request is a JSON object, not list"),
        (b"\xff", "UnicodeDecodeError", "decode"),
        (b'{"op": "dance"}', "ValueError", "unknown op 'dance', known are hello, load, run, unload, quit"),
        (b'{"op": "load"}', "KeyError", "model"),
        (b'{"op": "load", "model": "absent"}', "FileNotFoundError", "absent"),
        (b'{"op": "run", "handle": 5, "repeats": 1}', "ValueError", "no model has the handle 5"),
        (b'{"op": "run", "handle": 5, "repeats": 0}', "ValueError", "repeats >= 1"),
        (b'{"op": "unload", "handle": 5}', "ValueError", "no model has the handle 5"),
    ],
)
def test_a_bad_request_gets_one_error_reply_and_the_loop_goes_on(line: bytes, type_: str, text: str) -> None:
    error, after = talk(line, {"id": 2, "op": "hello"})
    assert error["ok"] is False
    assert error["error"]["type"] == type_
    assert text in error["error"]["message"]
    assert after["ok"] is True


@given(st.lists(st.binary(max_size=60).filter(lambda b: b"\n" not in b), max_size=5))
def test_each_line_gets_exactly_one_reply(lines: list[bytes]) -> None:
    assert len(talk(*lines)) == len(lines)


def test_nothing_is_answered_after_quit() -> None:
    assert len(talk({"id": 1, "op": "quit"}, {"id": 2, "op": "hello"})) == 1


def test_load_run_unload(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"ms": 0.1, "spin": true}')
    load, run, unload, gone = talk(
        {"id": 1, "op": "load", "model": str(path), "threads": 1},
        {"id": 2, "op": "run", "handle": 1, "warmup": 2, "repeats": 4},
        {"id": 3, "op": "unload", "handle": 1},
        {"id": 4, "op": "run", "handle": 1, "warmup": 0, "repeats": 1},
    )
    assert load["handle"] == 1
    assert load["load_ns"] > 0
    assert load["settings"]["threads"] == 1
    assert all(ns >= 100_000 for ns in run["wall_ns"])
    assert len(run["wall_ns"]) == len(run["cpu_ns"]) == len(run["switches"]) == 4
    assert run["n_involuntary_switches"] == sum(run["switches"])
    assert unload == {"id": 3, "ok": True}
    assert gone["ok"] is False


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="known are litert-gpu, onnxruntime, sleep, tflite, tflite-runtime, torch"):
        open_backend("caffe")
    with pytest.raises(
        ValueError, match="backend tflite has no fp16 none, it has fp32 xnnpack, fp32 none, fp16 xnnpack"
    ):
        open_backend("tflite", "fp16", "none")


def test_a_missing_runtime_is_an_error_with_the_pip_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, backend in (("onnxruntime", "onnxruntime"), ("torch", "torch")):
        monkeypatch.setitem(sys.modules, module, None)
        for loaded in [name for name in sys.modules if name.startswith("profiler.agent.backends.")]:
            monkeypatch.delitem(sys.modules, loaded)
        (reply,) = talk({"id": 1, "op": "hello"}, backend=backend)
        assert not reply["ok"]
        assert reply["error"]["message"].endswith(f"pip install {module}, for the interpreter that runs the agent")


def test_affinity_is_set_for_a_model_and_taken_back_for_the_next(tmp_path: Path) -> None:
    pyz = build_pyz(tmp_path / "agent.pyz")
    (tmp_path / "m.json").write_text("{}")
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]);"
        "from profiler.agent.protocol import Agent; a = Agent('sleep');"
        "home = os.sched_getaffinity(0); cpu = min(home);"
        "a.answer({'op': 'load', 'model': 'm.json', 'cpus': [cpu]}); print(os.sched_getaffinity(0) == {cpu});"
        "a.answer({'op': 'load', 'model': 'm.json'}); print(os.sched_getaffinity(0) == home);"
        "a.answer({'op': 'run', 'handle': 1, 'repeats': 1}); print(os.sched_getaffinity(0) == {cpu});"
        "a.answer({'op': 'run', 'handle': 2, 'repeats': 1}); print(os.sched_getaffinity(0) == home)"
    )
    argv = [sys.executable, "-c", program, str(pyz)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=60)
    assert done.stdout.split() == ["True"] * 4
