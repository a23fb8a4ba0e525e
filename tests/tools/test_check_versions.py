"""The list of known vulnerabilities covers every requirement, and an affected version is found."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_versions", ROOT / "tools" / "check_versions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_project_has_no_affected_version(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main() == 0
    assert "requirements against" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "known", "expected"),
    [
        ("made-up>=1.0", {"advisories": [{"id": "X-1", "affected": "<1.5"}]}, "allows 1.0, affected by X-1"),
        ("made-up==1.4.2", {"advisories": [{"id": "X-1", "affected": "<1.5"}]}, "allows 1.4.2, affected by X-1"),
        ("made-up>=1.2,>=1.4", {"advisories": [{"id": "X-1", "affected": ">=1.3,<1.5"}]}, "allows 1.4, affected"),
        ("numpy>=999", {"advisories": [{"id": "X-2", "affected": "<999"}]}, "has installed"),
        ("made-up", {}, "allows every version"),
        ("made-up<3", {}, "allows every version"),
        ("other>=1.0", {}, "look up its advisories"),
    ],
)
def test_an_affected_or_unknown_version_is_reported(
    tool: ModuleType, asked: str, known: dict[str, object], expected: str
) -> None:
    (line,) = tool.faults([Requirement(asked)], {"made-up": known, "numpy": known})
    assert expected in line


@pytest.mark.parametrize(
    "advisory", [{"id": "X-1", "affected": "<1.0"}, {"id": "X-1", "affected": "<1.5", "exempt": "unused"}]
)
def test_a_version_that_is_not_affected_passes(tool: ModuleType, advisory: dict[str, str]) -> None:
    assert tool.faults([Requirement("made-up>=1.0")], {"made-up": {"advisories": [advisory]}}) == []
