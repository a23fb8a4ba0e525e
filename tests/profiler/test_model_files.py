"""Model files by backend: format, name, and one file per item."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofa_core.errors import OfaError
from ofa_core.spaces import tiny
from profiler.backends import BACKENDS
from profiler.model_files import ModelStore
from profiler.plan import PROBE, BlockItem, NetworkItem

BLOCK, NETWORK = BlockItem(PROBE), NetworkItem(tiny(), tiny().smallest(24))


@pytest.mark.parametrize("backend", sorted({row.name for row in BACKENDS}))
def test_each_item_has_one_file_of_the_backend_s_format(backend: str, tmp_path: Path) -> None:
    if backend.startswith(("tflite", "benchmark")):
        pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert, the extra [tflite]")
    store = ModelStore(tmp_path, backend)
    paths = [store.path(item) for item in (BLOCK, NETWORK, BLOCK)]
    assert paths[0] == paths[2] != paths[1]
    suffix = next(row.model_format for row in BACKENDS if row.name == backend)
    assert all(path.name.endswith(suffix) for path in paths)
    changed = paths[0].stat().st_mtime_ns
    assert store.path(BLOCK).stat().st_mtime_ns == changed


def test_an_old_name_has_the_files_of_its_backend(tmp_path: Path) -> None:
    path = ModelStore(tmp_path / "a", "torch-cuda-fp16:1").path(BLOCK)
    assert path.read_bytes() == ModelStore(tmp_path / "b", "torch").path(BLOCK).read_bytes()


def test_the_sleep_backend_sleeps_for_the_given_time(tmp_path: Path) -> None:
    path = ModelStore(tmp_path, "sleep", fake_ms=lambda blocks: 2.5 * len(blocks)).path(NETWORK)
    assert json.loads(path.read_text()) == {"ms": 2.5 * len(tiny().blocks(NETWORK.arch))}


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OfaError, match="unknown backend 'caffe'; one of benchmark-model, litert-gpu, onnxruntime"):
        ModelStore(tmp_path, "caffe").path(BLOCK)
    assert not list(tmp_path.iterdir())
