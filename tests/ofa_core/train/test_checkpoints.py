from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import FormatError, OutputError  # noqa: E402
from ofa_core.nn.kernels import FORMS  # noqa: E402
from ofa_core.train import kernel_cache as plans  # noqa: E402
from ofa_core.train.checkpoints import load_latest, save_state  # noqa: E402
from ofa_core.train.kernel_cache import remembered_plan  # noqa: E402
from ofa_core.train.log import open_log, plot_log, read_log  # noqa: E402
from ofa_core.train.loop import Step  # noqa: E402


def test_the_newest_is_used_and_two_are_kept(tmp_path):
    warnings = []
    for n in (5, 9, 12):
        save_state(tmp_path, n, {"n": n, "tensor": torch.arange(n)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-0000000009.pt", "run-0000000012.pt"]
    assert load_latest(tmp_path, warnings.append)["n"] == 12
    assert warnings == []


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, damage):
    save_state(tmp_path, 5, {"n": 5})
    newest = save_state(tmp_path, 9, {"n": 9, "tensor": torch.arange(1000)})
    newest.write_bytes(newest.read_bytes()[:700] if damage is None else damage)
    warnings = []
    assert load_latest(tmp_path, warnings.append)["n"] == 5
    assert len(warnings) == 1
    assert "run-0000000009.pt: damaged checkpoint, the one before it is used (not a readable checkpoint" in warnings[0]


def test_none_readable(tmp_path):
    save_state(tmp_path, 5, {"n": 5}).write_bytes(b"rubbish")
    with pytest.raises(FormatError, match="none of its 1 checkpoints is readable"):
        load_latest(tmp_path, lambda _: None)


def test_nothing_there(tmp_path):
    assert load_latest(tmp_path, lambda _: None) is None
    assert load_latest(tmp_path / "nowhere", lambda _: None) is None


def test_a_full_disk_is_named_and_the_previous_one_stays(tmp_path, full_disk):
    save_state(tmp_path, 5, {"n": 5})
    with (
        full_disk(10_000),
        pytest.raises(OutputError, match=r"run-0000000009.pt: File too large; free .*previous checkpoint is untouched"),
    ):
        save_state(tmp_path, 9, {"n": torch.arange(10_000)})
    assert [p.name for p in tmp_path.iterdir()] == ["run-0000000005.pt"]


def test_rows_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    def step(i):
        return Step("full", i, 24, 0.1, 1.5, 50.0, 8)

    with open_log(tmp_path, 0, tensorboard=False) as log:
        for i in range(4):
            log.step(i + 1, step(i))
    with (tmp_path / "log.csv").open("a") as stream:
        stream.write("5,full,4,24,0.1")  # torn
    with open_log(tmp_path, 2, tensorboard=False) as log:
        log.step(3, step(2))
    assert [row["n_steps"] for row in read_log(tmp_path / "log.csv")] == ["1", "2", "3"]
    with open_log(tmp_path, 0, tensorboard=False):
        pass
    assert read_log(tmp_path / "log.csv") == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_plots_and_tensorboard(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    with open_log(tmp_path, 0) as log:
        for i in range(5):
            log.step(i + 1, Step("full" if i < 3 else "kernel", i, 24, 0.1, 1.5, 50.0, 8))
        log.flush()
    assert plot_log(tmp_path).read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())


def test_plans_are_remembered(tmp_path, monkeypatch):
    from ofa_core.spaces import tiny

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    blocks = tiny().all_blocks((24,))
    told = []
    first = remembered_plan(blocks, 4, told.append)
    (line,) = told
    assert line.startswith("timing the weight gradients of ")
    monkeypatch.setattr(plans, "measure_plan", lambda *_: pytest.fail("measured again"))
    assert remembered_plan(blocks, 4, told.append) == first
    assert len(told) == 1


def test_a_damaged_cache_is_measured_anew(tmp_path, monkeypatch):
    from ofa_core.spaces import tiny

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remembered_plan(tiny().all_blocks((24,)), 4)
    (file,) = (tmp_path / "ofa-latency").iterdir()
    for text in ("[1, 2]", '{"5,1,6": "magic"}', '{"5,1,6": [1]}'):
        file.write_text(text)
        remembered_plan(tiny().all_blocks((24,)), 4)
        assert set(json.loads(file.read_text()).values()) <= {"builtin", *FORMS}


def test_a_full_disk_names_the_log(tmp_path, full_disk):
    step = Step("p", 0, 24, 0.1, 1.0, 50.0, 10)
    with open_log(tmp_path, 0, tensorboard=False) as log:
        log.step(1, step)
        log.flush()
        size = (tmp_path / "log.csv").stat().st_size
        log.step(2, step)
        with full_disk(size), pytest.raises(OutputError, match=r"log.csv: File too large; free some space"):
            log.flush()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "its first line is not n_steps"),
        (b"n_steps,phase,step,px,lr,loss,top1,n_images\n1,full,0,24,0.1\n", "line 2: not 8 fields"),
        (b"n_steps,phase,step,px,lr,loss,top1,n_images\nx,full,0,24,0.1,2,3,4\n", "line 2: not a row of numbers"),
        (b"n_steps,phase,step,px,lr,loss,top1,n_images\n1,full,0,24,0.1,nan,3,4\n", "line 2: not a row of numbers"),
        (b"\xff\xfe\n", "its first line is not n_steps"),
    ],
)
def test_a_damaged_log_is_named_with_its_line_and_left_as_it_is(tmp_path, content, message):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message), open_log(tmp_path, 1, tensorboard=False):
        pass
    assert path.read_bytes() == content


@dataclass(frozen=True)
class Steps:
    n: int


@pytest.mark.parametrize("n", ["9", -1.5, None, [9]])
def test_a_checkpoint_with_a_field_of_another_type_is_damaged(tmp_path, n):
    save_state(tmp_path, 5, {"n": 5})
    save_state(tmp_path, 9, {"n": n})
    warnings = []
    assert load_latest(tmp_path, warnings.append, Steps)["n"] == 5
    assert "run-0000000009.pt: damaged checkpoint" in warnings[0]
