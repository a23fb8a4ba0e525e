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


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("ofa-predict fit nets.csv --out nets.csv", "nets.csv"),
        ("ofa-predict fit table.csv --out table.networks.csv", "table.networks.csv"),
        ("ofa-predict fit nets.csv --source table.csv --out ./table.csv", "table.csv"),
        ("ofa-predict batch 4 table.csv other.csv --out link.csv", "other.csv"),
        ("ofa-predict evaluate nets.csv --html nets.csv", "nets.csv"),
        ("ofa-profile convert table.csv table.csv", "table.csv"),
        ("ofa-profile report table.csv other.csv --out other.csv", "other.csv"),
        ("ofa-profile share table.csv --licence MIT --out table.csv", "table.csv"),
        ("ofa-profile compare table.csv other.csv --fail-above 3% --junit table.csv", "table.csv"),
        ("ofa-profile compare table.csv other.csv --fail-above 3% --markdown new --junit new", "table.csv"),
        ("ofa-search compare --lut table.csv --max-latency-ms 2 --accuracy nets.csv --csv nets.csv", "nets.csv"),
        ("ofa-search --lut networks.csv --max-latency-ms 2 --out .", "networks.csv"),
        ("ofa-search --lut table.csv --max-latency-ms 2 --accuracy measured.csv --out .", "measured.csv"),
        ("ofa-train calibrate arch.json --weights net.pt --data digits --out net.pt", "net.pt"),
    ],
)
def test_an_output_that_would_replace_an_input_is_wrong_usage(
    words: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("nets", "table", "table.networks", "other", "networks", "measured")
    for path in [*(f"{name}.csv" for name in names), "net.pt", "arch.json"]:
        (tmp_path / path).write_text("measured for hours\n")
    (tmp_path / "link.csv").symlink_to("other.csv")
    before = {path.name for path in tmp_path.iterdir()}
    name, *rest = words.split()
    module, function = SCRIPTS[name].split(":")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", [name, *rest])
        assert getattr(import_module(module), function)() == 2
    message = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "name another" in message
    assert (tmp_path / file).read_text() == "measured for hours\n"
    assert {path.name for path in tmp_path.iterdir()} == before


def test_ci_runs_each_test_target_of_the_makefile() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    targets = re.findall(r"^(test[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(targets) == ["test", "test-minimum", "test-newer"]
    for target in targets:
        assert re.search(rf"^make (?:.* )?{target} ", ci, re.MULTILINE)
