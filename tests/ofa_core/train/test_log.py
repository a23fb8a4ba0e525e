from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = pytest.mark.torch

from ofa_core.errors import FormatError, OutputError  # noqa: E402
from ofa_core.train.log import open_log, plot_log, read_log  # noqa: E402
from ofa_core.train.loop import Step  # noqa: E402


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
        (b"a,b\n1,2\n", "its first line should be n_steps,phase"),
        (b"n_steps,phase,step,px,lr,loss,top1,n_images\n1,full,0,24,0.1\n", "line 2: 8 fields are expected"),
        (
            b"n_steps,phase,step,px,lr,loss,top1,n_images\nx,full,0,24,0.1,2,3,4\n",
            "line 2: finite numbers are expected",
        ),
        (
            b"n_steps,phase,step,px,lr,loss,top1,n_images\n1,full,0,24,0.1,nan,3,4\n",
            "line 2: finite numbers are expected",
        ),
        (b"\xff\xfe\n", "its first line should be n_steps,phase"),
    ],
)
def test_a_damaged_log_is_named_with_its_line_and_left_as_it_is(tmp_path, content, message):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message), open_log(tmp_path, 1, tensorboard=False):
        pass
    assert path.read_bytes() == content
