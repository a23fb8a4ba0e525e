"""What the documents name exists: tests, files, commands and their options."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))
# `path/test_file.py::test_name`, or `...::test_name` for the file that was named before it.
NAMED_TEST = re.compile(r"`([\w./]*)::(\w+)`")
NAMED_FILE = re.compile(r"`([\w./]+\.(?:py|sh|toml))(?:::\w+)?`")
# Names of a user's own files, in examples.
OWN_FILES = {"config.toml", "devices.toml", "mine.toml", "recipe.toml"}


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    """Yield the file and the name of each test that a page names."""
    before = ""
    for found in re.finditer(r"`([\w./]*?)(?:::(\w+))?`", text):
        path, name = found[1], found[2]
        if path.endswith(".py"):
            before = path
        if name is not None:
            yield before, name


def files_ending(path: str) -> list[Path]:
    """Return the test files whose path ends so."""
    return [file for file in TEST_FILES if file.as_posix().endswith(f"/{path}")]


def missing_tests(text: str) -> list[str]:
    """Return a line for each named test that does not exist."""
    return [
        f"{path}::{name}"
        for path, name in named_tests(text)
        if not any(re.search(rf"def {name}\(", file.read_text()) for file in files_ending(path))
    ]


def missing_files(text: str) -> list[str]:
    """Return the named files that exist neither in the project nor below tests/."""
    return [
        path
        for path in NAMED_FILE.findall(text)
        if path not in OWN_FILES
        and not (ROOT / path).exists()
        and not files_ending(path)
        and not list(ROOT.glob(f"*/{path}"))
    ]


def command_lines(text: str) -> Iterator[str]:
    """Yield the commands of the project in indented or fenced blocks, without comments and placeholders."""
    for line in text.splitlines():
        found = re.match(r"(?:    |\$ )?(ofa-[a-z]+(?: .*)?)$", line)
        if found and "..." not in line:
            yield re.split(r"  +", found[1])[0]  # what follows two blanks is a comment


def parse(line: str) -> None:
    """Parse one command line without running it.

    Raises:
        typer.BadParameter: or another usage error, for an option or a value that the command does not take.
    """
    program, *words = shlex.split(line, comments=True)
    command = typer.main.get_command(import_module(SCRIPTS[program].split(":")[0]).app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words[0]]  # type: ignore[attr-defined]
        program, *words = f"{program} {words[0]}", *words[1:]
    command.make_context(program, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_and_file_that_a_page_names_exists(page: Path) -> None:
    assert missing_tests(page.read_text()) == []
    assert missing_files(page.read_text()) == []


def test_a_test_that_is_gone_is_noticed() -> None:
    text = "`test_docs.py::test_that_is_gone`, `...::test_a_test_that_is_gone_is_noticed`, `gone.py`, `tools/demo.py`"
    assert missing_tests(text) == ["test_docs.py::test_that_is_gone"]
    assert missing_files(text) == ["gone.py"]


LINES = sorted({(page.name, line) for page in PAGES for line in command_lines(page.read_text())})


def test_command_lines_are_found() -> None:
    assert len(LINES) >= 20
    assert {line.split()[0] for _, line in LINES} == set(SCRIPTS)


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_documented_command_line_is_parsed(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ofa_core.hub.local_path", lambda text, kinds: Path(text))  # which would download it
    parse(line)


@pytest.mark.parametrize(
    "line", ["ofa-predict a.json --no-such-option", "ofa-search --lut", "ofa-profile verify --nets x"]
)
def test_a_command_line_that_is_wrong_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)option|argument|valid integer"):
        parse(line)
