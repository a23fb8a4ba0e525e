from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.nn.kernels import FORMS  # noqa: E402
from ofa_core.train import kernel_cache as plans  # noqa: E402
from ofa_core.train.kernel_cache import remembered_plan  # noqa: E402


def test_plans_are_remembered(tmp_path, monkeypatch, caplog):
    from ofa_core.spaces import tiny

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    blocks = tiny().all_blocks((24,))
    caplog.set_level("INFO")
    first = remembered_plan(blocks, 4)
    (line,) = caplog.messages
    assert line.startswith("timing the weight gradients of ")
    monkeypatch.setattr(plans, "measure_plan", lambda *_: pytest.fail("measured again"))
    assert remembered_plan(blocks, 4) == first
    assert len(caplog.messages) == 1


def test_a_damaged_cache_is_measured_anew(tmp_path, monkeypatch):
    from ofa_core.spaces import tiny

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remembered_plan(tiny().all_blocks((24,)), 4)
    (file,) = (tmp_path / "ofa-latency").iterdir()
    for text in ("[1, 2]", '{"5,1,6": "magic"}', '{"5,1,6": [1]}'):
        file.write_text(text)
        remembered_plan(tiny().all_blocks((24,)), 4)
        assert set(json.loads(file.read_text()).values()) <= {"builtin", *FORMS}
