"""Whole runs in processes of their own: interrupted in every way, and compared with one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

from ofa_core.formats.checkpoint import read_checkpoint  # noqa: E402
from ofa_core.train.checkpoints import load_latest  # noqa: E402

_MAIN = "import sys; from ofa_core.train.cli import main; sys.exit(main())"
_TOML = """
[space]
name = "tiny"
dropout = 0.2

[data]
source = "digits"
held_out = 718
n_calibration = 50

[augmentation]
flip = false
saturation = 0

[preprocessing]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
resize = "direct"

[recipe]
epochs = 1.6
batch_size = 48

[run]
device = "cpu"
checkpoint_s = 0
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "run.toml"
    path.write_text(_TOML)
    return path


def start(settings: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(settings.parent),  # the kernel plan is measured once for all runs
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    command = [sys.executable, "-c", _MAIN, "supernet", "--config", str(settings), "--out", str(out), *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def uninterrupted(settings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    code, out, err = finish(start(settings, folder))
    assert code == 0, err
    assert "R32-D2-E6-K5" in out
    return folder


def wait_for_step(process: subprocess.Popen[str], folder: Path, n: int) -> None:
    """Until the run has a checkpoint of step `n` or later."""
    for _ in range(6000):
        if process.poll() is not None:
            pytest.fail(f"ended too early: {process.stderr.read()}")
        if any(int(p.stem.split("-")[1]) >= n for p in folder.glob("run-*.pt")):
            return
        time.sleep(0.01)
    pytest.fail("no checkpoint")


def assert_same_run(folder: Path, whole: Path) -> None:
    ours, theirs = (read_checkpoint(f / "supernet.pt").net.state_dict() for f in (folder, whole))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert (folder / "log.csv").read_text() == (whole / "log.csv").read_text()


def test_kill_9_in_the_middle_of_an_epoch_loses_nothing(settings, uninterrupted, tmp_path):
    process = start(settings, tmp_path / "run")
    wait_for_step(process, tmp_path / "run", 5)  # an epoch has 14 steps, the first phase 7
    process.kill()
    finish(process)
    process = start(settings, tmp_path / "run", "--resume")
    wait_for_step(process, tmp_path / "run", 13)
    process.kill()
    finish(process)
    code, _, err = finish(start(settings, tmp_path / "run", "--resume"))
    assert code == 0, err
    assert_same_run(tmp_path / "run", uninterrupted)


def test_sigterm_writes_a_checkpoint_first(settings, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    patient = settings.with_name("patient.toml")
    patient.write_text(_TOML.replace("checkpoint_s = 0", "checkpoint_s = 3600"))
    process = start(patient, folder)
    for _ in range(6000):
        if (folder / "tensorboard").exists():
            break
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("ofa-train: stopped in phase")
    content = load_latest(folder)
    assert content["step"] >= 1
    code, _, err = finish(start(patient, folder, "--resume"))
    assert code == 0, err
    assert_same_run(folder, uninterrupted)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(settings, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    process = start(settings, folder)
    wait_for_step(process, folder, 4)
    process.kill()
    finish(process)
    newest = max(folder.glob("run-*.pt"))
    newest.write_bytes(newest.read_bytes()[:5000])
    step = int(newest.stem.split("-")[1])
    process = start(settings, folder, "--resume")
    wait_for_step(process, folder, step + 2)
    process.kill()
    _, _, err = finish(process)
    assert f"ofa-train: warning: {newest}: skipped a damaged checkpoint (" in err
    ours = (folder / "log.csv").read_text().splitlines()[: step + 1]
    assert ours == (uninterrupted / "log.csv").read_text().splitlines()[: step + 1]


def test_a_folder_with_a_run_is_not_overwritten(settings, uninterrupted):
    code, _, err = finish(start(settings, uninterrupted))
    assert code == 1
    assert "already holds a run; continue it with --resume, or choose another folder" in err


def test_other_settings_are_not_resumed(settings, uninterrupted):
    code, _, err = finish(start(settings, uninterrupted, "--resume", "--epochs", "4"))
    assert code == 1
    assert "recipe.epochs: 1.6 then, 4.0 now" in err


def test_what_a_run_leaves(uninterrupted):
    names = {p.name for p in uninterrupted.iterdir()}
    assert {"supernet.pt", "log.csv", "phases.csv", "training.png", "tensorboard"} <= names
    assert len((uninterrupted / "phases.csv").read_text().splitlines()) == 1 + 2 * 4
    phases = {line.split(",")[1] for line in (uninterrupted / "log.csv").read_text().splitlines()[1:]}
    assert phases == {"full", "kernel", "depth1", "expand1"}
