"""The constraints of `make test-minimum` are the lower bounds of pyproject.toml."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("minimum_versions", ROOT / "tools" / "minimum_versions.py")
assert SPEC is not None
assert SPEC.loader is not None
minimum_versions = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(minimum_versions)


@pytest.mark.parametrize(
    ("requirement", "constraint"),
    [
        ("numpy>=1.26", "numpy==1.26"),
        ("numpy>=1.26,<2; python_version < '3.12'", "numpy==1.26"),
        ("tflite-runtime==2.14.0; python_version >= '3.9'", None),
        ("ofa-latency[train]", None),
    ],
)
def test_a_lower_bound_becomes_a_constraint(requirement: str, constraint: str | None) -> None:
    assert minimum_versions.minimum(requirement) == constraint


def test_each_dependency_has_a_constraint(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert minimum_versions.main(["energy"]) == 0
    lines = capsys.readouterr().out.split()
    expected = [*project["dependencies"], *project["optional-dependencies"]["energy"]]
    assert lines == sorted(requirement.replace(">=", "==") for requirement in expected)


def test_an_unknown_extra_is_named() -> None:
    with pytest.raises(SystemExit, match="no extra 'nothing'; there are xgboost, "):
        minimum_versions.main(["nothing"])
