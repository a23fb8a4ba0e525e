"""kill -9 at random moments and at each rename: nothing that was measured or trained is lost, nothing is left behind.

`OFA_KILLS` is the number of random moments for each command, `OFA_KILL_SEED` their seed.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from killed import Desk, copy_work, has_pilot, kill_after, make_desk, visits

N_KILLS = int(os.environ.get("OFA_KILLS", "3"))
SEED = int(os.environ.get("OFA_KILL_SEED", "0"))
MAX_REPLIES_LOST = 4  # a probe, and a visit between two probes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
]

SPACE = ("--space", "tiny", "--resolutions", "24")
SESSION = ("--budget-s", "3")
MEASURE = ("ofa-profile", *SPACE, "--backend", "sleep", "--processes", "3", *SESSION, "--out", "table.csv")
VERIFY = ("ofa-profile", "verify", "--lut", "table.csv", "--nets", "3", *SESSION)
SEARCH = ("ofa-search", "--lut", "table.csv", "--max-latency-ms", "0.6", "--accuracy", "proxy:macs", "--no-report",
          "--measure", "local", *SESSION, "--out", "result")  # fmt: skip
TRAIN = ("ofa-train", "supernet", "--config", "run.toml", "--out", "run", "--resume")
ENDED = (0, 3)  # done, or done and too unsteady

RUN_TOML = """
[space]
name = "tiny"
resolutions = [24]

[data]
source = "digits"
held_out = 1000
n_calibration = 50

[run]
device = "cpu"
fast_gradients = false
checkpoint_s = 0.0

[[phase]]
name = "first"
epochs = 1.0
lr = 0.05
batch_size = 64

[[phase]]
name = "second"
epochs = 1.0
lr = 0.05
batch_size = 64
subnets_per_step = 2
"""


@dataclass(frozen=True)
class Case:
    """One command, and what it must not lose.

    Attributes:
        argv: the command.
        journal: the file that keeps what it measured, below its folder; empty where it trains.
        check: what its folder must hold when it has ended.
    """

    argv: tuple[str, ...]
    journal: str
    check: Callable[[Desk], None]


def _table(desk: Desk) -> None:
    from ofa_core.measured_networks import read_networks
    from ofa_core.spaces import tiny
    from ofa_core.table import LatencyTable

    table = LatencyTable.read(desk.work / "table.csv")
    assert {block for _, block in table.entries} == set(tiny().all_blocks([24]))
    assert len(read_networks(desk.work / "table.networks.csv")) == 24


def _verified(desk: Desk) -> None:
    from ofa_core.measured_networks import read_networks

    roles = [net.role for net in read_networks(desk.work / "table.networks.csv")]
    assert roles.count("verify") in (3, 6)  # those of a command that was killed when all was written, and of the next
    assert roles.count("reference") == 24


def _searched(desk: Desk) -> None:
    from ofa_core.search.saved import read_folder

    assert read_folder(desk.work / "result").trials


def _trained(desk: Desk) -> None:
    from ofa_core.formats.checkpoint import read_checkpoint

    read_checkpoint(desk.work / "run" / "supernet.pt")


CASES = {
    "profile": Case((*MEASURE, "--python", "{python}"), "table.journal.jsonl", _table),
    "verify": Case((*VERIFY, "--python", "{python}"), "table.verify.journal.jsonl", _verified),
    "search": Case((*SEARCH, "--python", "{python}"), "table.search.journal.jsonl", _searched),
    "train": Case(TRAIN, "", _trained),
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the commands begin with: a table with its networks, and the settings of a training run."""
    desk = make_desk(tmp_path_factory.mktemp("before") / "desk")
    assert desk.run(MEASURE) in ENDED, desk.stderr()
    (desk.work / "run.toml").write_text(RUN_TOML)
    return desk.work


def _desk(tmp_path: Path, before: Path, name: str) -> Desk:
    desk = make_desk(tmp_path / "desk")
    copy_work(before, desk)
    if name == "profile":
        for path in desk.work.glob("table.*"):
            path.unlink()
    return desk


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_a_command_killed_at_random_moments_continues(name: str, before: Path, tmp_path: Path) -> None:
    case, rng = CASES[name], random.Random(f"{SEED} {name}")
    desk = _desk(tmp_path, before, name)
    start = time.monotonic()
    assert desk.run(case.argv) in ENDED, desk.stderr()
    longest_s = time.monotonic() - start
    case.check(desk)
    whole = _weights(desk) if name == "train" else b""
    copy_work(before if name != "profile" else _empty(tmp_path), desk)
    moments = []
    while len(moments) < N_KILLS:
        moment = rng.uniform(0.2, longest_s)
        kept = _kept(desk, case)
        process, n_replies = desk.start(case.argv), len(desk.replies())
        if not kill_after(process, moment):
            assert process.returncode in ENDED, desk.stderr()
            case.check(desk)
            copy_work(before if name != "profile" else _empty(tmp_path), desk)
            continue
        moments.append(round(moment, 2))
        print(f"{name}: seed {SEED}, killed after {moments} s")
        now = _kept(desk, case)
        assert now.results[: len(kept.results)] == kept.results, "results that were on the disk are gone"
        ended = len(now.results) > len(kept.results) or len(now.rounds) > len(kept.rounds)
        assert ended or now.visits[: len(kept.visits)] == kept.visits, "visits that were on the disk are gone"
        is_written = (desk.work / "result" / "search.json").exists() and not now.rounds
        assert is_written or now.rounds[: len(kept.rounds)] == kept.rounds, "rounds that were on the disk are gone"
        _check_lost(desk, case, n_replies)
        assert "Traceback" not in desk.stderr()
    assert desk.run(case.argv) in ENDED, desk.stderr()
    case.check(desk)
    assert desk.left_behind() == []
    if name == "train":
        assert _weights(desk) == whole, "the resumed run is not the uninterrupted one"


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir(exist_ok=True)
    return folder


@dataclass(frozen=True)
class Kept:
    """What is on the disk.

    Attributes:
        results: measured networks, or steps in the newest checkpoint.
        rounds: of a search.
        visits: of the session that is going on, by their times.
    """

    results: list[object]
    rounds: list[object]
    visits: list[object]


def _kept(desk: Desk, case: Case) -> Kept:
    if not case.journal:
        newest = max((p.name for p in (desk.work / "run").glob("run-*.pt")), default="run-0.pt")
        return Kept(list(range(int(newest[4:-3]))), [], [])
    networks, rounds = (_lines(desk.work / name) for name in ("table.networks.csv", "table.search.jsonl"))
    return Kept(networks, rounds, [visit["w"] for visit in visits(desk.work / case.journal)])


def _lines(path: Path) -> list[object]:
    return [*path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def _check_lost(desk: Desk, case: Case, n_replies: int) -> None:
    """At most one visit was answered and is not in the journal; at most one step is not in a checkpoint."""
    if not case.journal:
        log = desk.work / "run" / "log.csv"
        lines = log.read_text().split("\n")[1:-1] if log.exists() else []
        assert len(lines) - len(_kept(desk, case).results) <= 1
        return
    replies = desk.replies()
    if not has_pilot(desk.work / case.journal) or len(replies) == n_replies:
        return
    kept = _kept(desk, case).visits
    last = next((i for i in range(len(replies) - 1, -1, -1) if replies[i] in kept), None)
    if last is None:  # the results were written and the journal removed, or no visit has ended yet
        return
    assert len(replies) - 1 - max(last, n_replies - 1) <= MAX_REPLIES_LOST


def _weights(desk: Desk) -> bytes:
    import torch

    state = torch.load(desk.work / "run" / "supernet.pt", weights_only=True)["state_dict"]
    return b"".join(tensor.numpy().tobytes() for tensor in state.values())


RENAMES = {
    "profile": MEASURE,
    "verify": VERIFY,
    "search": (*SEARCH[:8], "--out", "result"),
    "fit": ("ofa-predict", "fit", "table.csv", "--out", "table.predictor"),
    "convert": ("ofa-profile", "convert", "table.csv", "yaml"),
    "train": TRAIN,
}


@pytest.mark.torch
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("name", RENAMES)
def test_a_command_killed_at_each_rename_continues(name: str, before: Path, tmp_path: Path) -> None:
    desk = _desk(tmp_path, before, "")
    if name == "train":
        (desk.work / "run.toml").write_text(RUN_TOML.replace("batch_size = 64", "batch_size = 400"))
    number, code = 0, -9
    while code == -9:
        number += 1
        names = "rename,renameat,renameat2"
        inject = ("-e", f"trace={names}", "-e", f"inject={names}:signal=KILL:when={number}")
        sound = _files(desk)
        code = desk.run(RENAMES[name], ("strace", "-qq", "-o", str(tmp_path / "strace"), *inject))
        lost = [path for path, size in sound.items() if size and not (desk.work / path).exists()]
        # A verification that ended has its networks in the file beside the table, and removes its journal.
        done = {Path("table.verify.journal.jsonl")} if code in ENDED else set()
        assert not [path for path in lost if not path.name.startswith((".", "run-")) and path not in done], lost
        assert "Traceback" not in desk.stderr()
        for path in desk.work.glob("*.csv"):
            assert path.read_text().endswith("\n")
    print(f"{name}: killed at each of {number - 1} renames")
    assert code in ENDED, desk.stderr()
    assert number > 1
    if name == "verify":
        assert sum(b",verify," in line for line in _lines(desk.work / "table.networks.csv")) == 3
    assert desk.left_behind() == []


def _files(desk: Desk) -> dict[Path, int]:
    return {path.relative_to(desk.work): path.stat().st_size for path in desk.work.rglob("*") if path.is_file()}
