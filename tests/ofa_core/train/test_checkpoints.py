from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import FormatError, OutputError  # noqa: E402
from ofa_core.train.checkpoints import load_latest, save_state  # noqa: E402


def test_the_newest_is_used_and_two_are_kept(tmp_path, caplog):
    for n in (5, 9, 12):
        save_state(tmp_path, n, {"n": n, "tensor": torch.arange(n)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-0000000009.pt", "run-0000000012.pt"]
    assert load_latest(tmp_path)["n"] == 12
    assert caplog.messages == []


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, damage, caplog):
    save_state(tmp_path, 5, {"n": 5})
    newest = save_state(tmp_path, 9, {"n": 9, "tensor": torch.arange(1000)})
    newest.write_bytes(newest.read_bytes()[:700] if damage is None else damage)
    assert load_latest(tmp_path)["n"] == 5
    (message,) = caplog.messages
    assert "run-0000000009.pt: skipped a damaged checkpoint (not a readable checkpoint" in message


def test_none_readable(tmp_path):
    save_state(tmp_path, 5, {"n": 5}).write_bytes(b"rubbish")
    with pytest.raises(FormatError, match="none of the 1 checkpoints is readable"):
        load_latest(tmp_path)


def test_nothing_there(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "nowhere") is None


def test_a_full_disk_is_named_and_the_previous_one_stays(tmp_path, full_disk):
    save_state(tmp_path, 5, {"n": 5})
    with (
        full_disk(10_000),
        pytest.raises(OutputError, match=r"run-0000000009.pt: File too large; free .*previous checkpoint is unchanged"),
    ):
        save_state(tmp_path, 9, {"n": torch.arange(10_000)})
    assert [p.name for p in tmp_path.iterdir()] == ["run-0000000005.pt"]


@dataclass(frozen=True)
class Steps:
    n: int


@pytest.mark.parametrize("n", ["9", -1.5, None, [9]])
def test_a_checkpoint_with_a_field_of_another_type_is_damaged(tmp_path, n, caplog):
    save_state(tmp_path, 5, {"n": 5})
    save_state(tmp_path, 9, {"n": n})
    assert load_latest(tmp_path, Steps)["n"] == 5
    (message,) = caplog.messages
    assert "run-0000000009.pt: skipped a damaged checkpoint (n" in message
