"""Properties of all four commands: help, usage errors, output paths."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
HEAVY = (
    "numpy",
    "pandas",
    "torch",
    "xgboost",
    "sklearn",
    "scipy",
    "onnx",
    "onnxruntime",
    "paramiko",
    "matplotlib",
)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_help_needs_no_heavy_imports(name: str) -> None:
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


def output_options() -> list[tuple[str, str]]:
    """Return each command with each of its options that name an output file or folder."""
    found = []
    for name, target in SCRIPTS.items():
        group = typer.main.get_command(import_module(target.split(":")[0]).app)
        for command in (group, *group.commands.values()):
            words = name if command is group else f"{name} {command.name}"
            found += [
                (words, option)
                for parameter in command.params
                for option in (*parameter.opts, *(["DST"] if parameter.name == "dst" else []))
                if option in ("--out", "--plots", "--html", "DST")
            ]
    return found


def test_the_outputs_of_all_commands_are_covered() -> None:
    assert len(output_options()) >= 14


@pytest.mark.parametrize(("words", "option"), output_options())
@pytest.mark.parametrize("value", ["", "/dev/null", "{file}/below"])
def test_an_impossible_output_is_wrong_usage(
    words: str, option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    name, *rest = words.split()
    value = value.format(file=tmp_path / "file")
    given = ["src.csv", value] if option == "DST" else [f"{option}={value}"]
    module, function = SCRIPTS[name].split(":")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", [name, *rest, *given])
        assert getattr(import_module(module), function)() == 2
    message = capsys.readouterr().err
    assert "Invalid value for" in message
    assert option in message
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_ci_runs_each_test_target_of_the_makefile() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    targets = re.findall(r"^(test[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(targets) == ["test", "test-minimum", "test-newer"]
    for target in targets:
        assert re.search(rf"^make (?:.* )?{target} ", ci, re.MULTILINE)
