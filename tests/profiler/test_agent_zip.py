"""The packed agent and its command line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from devices.local import LocalDevice
from profiler.agent_zip import PythonProgram, build_pyz


def test_the_packed_agent_depends_on_its_sources_only(tmp_path: Path) -> None:
    first, second = build_pyz(tmp_path / "a.pyz"), build_pyz(tmp_path / "deep" / "b.pyz")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pyz", "deep"]


def test_it_holds_the_agent_and_nothing_else(tmp_path: Path) -> None:
    names = zipfile.ZipFile(build_pyz(tmp_path / "a.pyz")).namelist()
    assert {"__main__.py", "profiler/__init__.py", "profiler/agent/protocol.py"} <= set(names)
    assert all(
        name.startswith("profiler/agent/") for name in names if name not in ("__main__.py", "profiler/__init__.py")
    )


@pytest.mark.parametrize(
    ("program", "options"),
    [
        (PythonProgram("sleep", "py"), ["--backend", "sleep", "--dtype", "fp32"]),
        (
            PythonProgram("torch", "py", "fp16", "cuda:1"),
            ["--backend", "torch", "--dtype", "fp16", "--delegate", "cuda:1"],
        ),
    ],
)
def test_the_command_line_names_backend_dtype_and_delegate(
    tmp_path: Path, program: PythonProgram, options: list[str]
) -> None:
    with LocalDevice(tmp_path) as device:
        python, file, *rest = program(device)
        assert Path(file).is_file()
    assert (python, rest) == ("py", options)
