"""The limits of sizes: what counts, and what does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("check_code", ROOT / "tools" / "check_code.py")
assert SPEC is not None
assert SPEC.loader is not None
check_code = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_code)


def faults(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(check_code, "ROOT", folder)
    path = folder / "code.py"
    path.write_text(text)
    return list(check_code.faults_of(path))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x = 1\n" * 401, "code.py: 401 lines"),
        ("def f():\n" + "    x = 1\n" * 61, "code.py:1: f has 61 lines"),
        ("def f(a, b, c, d, /, e, *, g, h): ...\n", "code.py:1: f has 7 parameters"),
        ("class C:\n    async def f(self, a, b, c, d, e, f, g): ...\n", "code.py:2: f has 7 parameters"),
    ],
)
def test_a_size_above_its_limit_is_one_line(
    text: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = faults(tmp_path, text, monkeypatch)
    assert len(found) == 1
    assert found[0].startswith(f"{fault}, at most ")


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n" * 400,
        'def f():\n    """' + "Text.\n" * 20 + '    """\n' + "    x = 1\n" * 60,
        "def f(self, a, b, c, d, e, g): ...\n",
        "@app.command()\ndef f(a, b, c, d, e, g, h): ...\n",
        "@app.callback()\ndef f(a, b, c, d, e, g, h): ...\n",
    ],
)
def test_what_is_within_the_limits(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(tmp_path, text, monkeypatch) == []
