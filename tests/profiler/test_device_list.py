"""The lines of `ofa-profile devices`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from profiler.device_list import list_devices


def test_this_machine_and_the_sections_of_devices_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("devices.toml").write_text('[rig]\ntarget = "fake"\n[gone]\ntarget = "ssh:127.0.0.1:1"\n')
    devices: list[list[str]] = []
    for is_detail, lines in groupby(list_devices(), lambda line: line.startswith("  ")):
        if is_detail:
            devices[-1] += lines
        else:
            devices += [[line] for line in lines]
    here, rig, gone = (lines for lines in devices if not lines[0].startswith("adb"))  # phones of tests beside this one
    assert here[0].startswith("local: ")
    assert here[1].startswith("  Python 3")
    assert rig[:2] == [
        "rig (fake): Fake SoC, 4 cores, 4 GiB, Fake OS 1",
        "  no Python: the C agent is used (backend tflite), or --benchmark-binary",
    ]
    assert rig[2].startswith("  governor performance, load 0.00")
    assert gone[0].startswith("gone (ssh:127.0.0.1:1): not reachable: ")
    assert len(gone) == 1
