"""Plain tensors read without torch equal those that torch reads; other files are left to torch."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_core.formats.plain_tensors import plain_tensors

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
CONTAINERS = pytest.mark.parametrize("zipped", [True, False])


def save(content: Any, path: Path, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def state() -> dict[str, Any]:
    net = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1, bias=False))
    return net.state_dict()  # an OrderedDict with versions of its modules


@CONTAINERS
def test_a_state_dict(tmp_path: Path, zipped: bool) -> None:
    expected = state()
    found = plain_tensors(save(expected, tmp_path / "a.pth", zipped))
    assert found is not None
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], tensor.numpy())


@CONTAINERS
def test_parts_of_one_storage(tmp_path: Path, zipped: bool) -> None:
    whole = torch.arange(24.0)
    parts = {"a": whole[:6].reshape(2, 3), "b": whole[6:], "scalar": whole[5], "none": whole[:0]}
    found = plain_tensors(save(parts, tmp_path / "a.pth", zipped))
    assert found is not None
    assert {name: array.shape for name, array in found.items()} == {"a": (2, 3), "b": (18,), "scalar": (), "none": (0,)}
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in parts.items())


@CONTAINERS
def test_tensors_of_one_storage_share_their_memory(tmp_path: Path, zipped: bool) -> None:
    whole = torch.arange(6.0)
    found = plain_tensors(save({"a": whole, "b": whole, "c": whole[2:]}, tmp_path / "a.pth", zipped))
    assert found is not None
    assert np.shares_memory(found["a"], found["b"])
    assert np.shares_memory(found["a"], found["c"])


@CONTAINERS
def test_many_dimensions_end_at_once(tmp_path: Path, zipped: bool) -> None:
    class Deep:
        def __reduce__(self) -> tuple[Any, ...]:
            storage, ones = torch.storage.TypedStorage(1, dtype=torch.float32, _internal=True), (1,) * 200_000
            arguments = (storage, 0, ones, ones, False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    assert plain_tensors(save({"a": Deep()}, tmp_path / "a.pth", zipped)) is None


@CONTAINERS
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"a": 1.0},
        {"a": torch.zeros(2, dtype=torch.float64)},
        {"a": torch.zeros(2, dtype=torch.int64), "b": torch.zeros(2)},
        {"a": torch.zeros(2, 3).T},
        {"a": torch.zeros(1).expand(4)},
        {"a": torch._neg_view(torch.ones(4))},
        {"a": torch.ones(2), "b": torch._neg_view(torch.ones(2, 3)[1])},
        {"state_dict": {"a": torch.zeros(2)}},
        {1: torch.zeros(2)},
        [torch.zeros(2)],
        torch.zeros(2),
        {"a": torch.nn.Parameter(torch.zeros(2))},
        torch.nn.Linear(2, 2),
        OrderedDict(a=np.zeros(2)),
    ],
    ids=lambda content: f"{type(content).__name__}-{str(content)[:30]}",
)
def test_other_content_is_left_to_torch(tmp_path: Path, zipped: bool, content: Any) -> None:
    assert plain_tensors(save(content, tmp_path / "a.pth", zipped)) is None


@CONTAINERS
def test_any_damage_gives_tensors_or_nothing(tmp_path: Path, zipped: bool) -> None:
    path, rng = save(state(), tmp_path / "a.pth", zipped), np.random.default_rng(0)
    whole = path.read_bytes()
    assert all(plain_tensors(_written(path, whole[:n])) is None for n in range(0, len(whole) - 30, 7))
    for _ in range(1000):
        data = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 4)):
            data[position] = rng.integers(256)
        found = plain_tensors(_written(path, bytes(data)))
        assert found is None or all(array.dtype == np.float32 for array in found.values())


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@CONTAINERS
def test_no_code_of_a_file_is_run(tmp_path: Path, zipped: bool) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    assert plain_tensors(save({"a": Bomb()}, tmp_path / "a.pth", zipped)) is None
    assert not (tmp_path / "ran").exists()


def test_the_published_predictor_needs_no_torch(reference_data: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ofa_core.formats.acc_predictor import read_acc_predictor\n"
        f"print(len(read_acc_predictor(Path({str(reference_data / 'acc_predictor.pth')!r})).weights), "
        "'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["4", "False"]
