"""The backend that sleeps. Faults that end or hang the process are tested through a runner (`test_runner.py`)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from profiler.agent.backends import open_backend
from profiler.agent.backends.sleep import SleepModel


def load(folder: Path, **spec: Any) -> SleepModel:
    path = folder / "model.json"
    path.write_text(json.dumps(spec))
    return open_backend("sleep").load(str(path), 3)


@pytest.mark.parametrize("spin", [False, True])
def test_a_run_takes_at_least_its_time(tmp_path: Path, *, spin: bool) -> None:
    model = load(tmp_path, ms=20, spin=spin)
    assert model.settings == {"ms": 20, "spin": spin, "threads": 3}
    before_s = time.perf_counter()
    model.run()
    assert time.perf_counter() - before_s >= 0.02


def test_a_fault_waits_for_its_run(tmp_path: Path) -> None:
    model = load(tmp_path, fail="run", after=2)
    model.run()
    model.run()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="fails at run"):
            model.run()


def test_faults_of_loading(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="fails at load"):
        load(tmp_path, fail="load")
    with pytest.raises(ValueError, match="unknown fault 'lode', known are load, load_crash"):
        load(tmp_path, fail="lode")
