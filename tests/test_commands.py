"""What holds for all four commands."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
HEAVY = ("pandas", "torch", "xgboost", "plotly", "sklearn", "scipy", "onnx", "onnxruntime", "paramiko", "matplotlib")


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_help_is_told_without_heavy_imports(name: str) -> None:
    module, function = SCRIPTS[name].split(":")
    code = (
        f"import sys; sys.argv = [{name!r}, '--help']; from {module} import {function} as run; rc = run()\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules]); sys.exit(rc)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout
    assert "Usage" in done.stdout
    assert name in done.stdout


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_an_unknown_option_is_usage_with_exit_code_2(name: str) -> None:
    module, function = SCRIPTS[name].split(":")
    code = f"import sys; sys.argv = [{name!r}, '--no-such-option']; from {module} import {function} as f; sys.exit(f())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()
