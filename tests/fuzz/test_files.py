"""Damaged files of every kind that is read: an answer, or one line. No traceback, nothing lost, nothing else touched.

`OFA_FUZZ_FILES` is the number of files of all kinds together, `OFA_FUZZ_SEED` the seed. Both are printed at the start.
A failure names the seed of each damaged file, and leaves it in pytest's temporary folder.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from in_process import Ended, Watch, run_command
from kinds import KINDS, Kind, answer_is_finite, files_of
from mutations import bytes_of

MAX_MESSAGE = 600
MAX_SECONDS_EACH = 60.0  # a bound against hanging, not a measure of speed
MAX_GROWTH_KB = 1_000_000
MAX_SHOWN = 12

pytestmark = [pytest.mark.torch, pytest.mark.timeout(1200)]


@pytest.fixture(scope="session")
def watch() -> Watch:
    return Watch()


@pytest.fixture
def desk(tmp_path: Path, sound: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, with home and temporary folder inside."""
    for name in ("desk", "home", "tmp"):
        (tmp_path / name).mkdir()
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path / "desk"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_gives_an_answer_or_one_line(
    kind: Kind, desk: Path, sound: Path, watch: Watch, fuzz_seed: int, fuzz_files: int
) -> None:
    whole = (sound / kind.file).read_bytes()
    for call in kind.calls:
        _lay_out(kind, desk, sound, whole)
        ended = run_command(call, desk)
        assert ended.code in (0, 3), (call, ended.stderr, ended.traceback)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faults: Counter[str] = Counter()
    first: dict[str, str] = {}
    n_refused = 0
    n_files = files_of(kind, fuzz_files)
    for number in range(n_files):
        seed = [fuzz_seed, KINDS.index(kind), number]
        rng = np.random.default_rng(seed)
        mutate = (bytes_of, *kind.mutations, *kind.mutations)[int(rng.integers(1 + 2 * len(kind.mutations)))]
        call = kind.calls[int(rng.integers(len(kind.calls)))]
        data = mutate(whole, rng)
        _lay_out(kind, desk, sound, data)
        start = time.monotonic()
        with watch.over(desk, desk.parent / "home", desk.parent / "tmp") as touched:
            ended = run_command(call, desk)
        n_refused += ended.code != 0
        fault = _fault(kind, call, ended, data, desk, touched)
        if time.monotonic() - start > MAX_SECONDS_EACH:
            fault = f"took more than {MAX_SECONDS_EACH:.0f} s"
        if fault:
            faults[fault] += 1
            if fault not in first:
                kept = desk.parent / f"seed-{number}-{Path(kind.file).name}"
                kept.write_bytes(data)
                first[fault] = (
                    f"seed {seed} {mutate.__name__} {' '.join(call) if isinstance(call, tuple) else call}: {kept}"
                )
    print(f"{kind.name}: seed {fuzz_seed}, {n_files} files, {n_refused} refused")
    shown = [f"{n} x {fault}\n    first {first[fault]}" for fault, n in faults.most_common(MAX_SHOWN)]
    assert not faults, f"{faults.total()} of {n_files} files:\n" + "\n".join(shown)
    assert n_refused > n_files // 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < MAX_GROWTH_KB


def _lay_out(kind: Kind, desk: Path, sound: Path, data: bytes) -> None:
    shutil.rmtree(desk)
    (desk / "out").mkdir(parents=True)
    for name in kind.beside:
        (desk / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(sound / name, desk / name)
    (desk / kind.file).parent.mkdir(exist_ok=True)
    (desk / kind.file).write_bytes(data)


def _fault(kind: Kind, call: object, ended: Ended, data: bytes, desk: Path, touched: list[str]) -> str:
    """What is wrong with how a call ended; empty if nothing."""
    if ended.error is not None:
        last = [line for line in ended.traceback.splitlines() if line.startswith("  File")]
        ours = [
            line.strip()
            for line in last
            if "/tests/" not in line and "site-packages" not in line and "/lib/" not in line
        ]
        return f"{type(ended.error).__name__}: {str(ended.error)[:100]!r} at {ours[-1] if ours else last[-1]}"
    if touched:
        return f"touched {touched[0]}"
    left = [p for name in ("home", "tmp") for p in (desk.parent / name).rglob("*") if p.is_file()]
    if left:
        for path in left:
            path.unlink()
        return f"left {left[0].name} behind"
    if not kind.resumes and (desk / kind.file).read_bytes() != data:
        return "the damaged file was changed"
    if any(not (desk / name).exists() for name in kind.beside):
        return "a file beside it is gone"
    if ended.code not in (0, 1, 2, 3):
        return f"exit code {ended.code}"
    message = ended.stderr.strip().splitlines()[-1:]
    if ended.code == 1 and not message:
        return "exit code 1 without a message"
    if ended.code == 1 and (len(message[0].replace(str(desk), "")) > MAX_MESSAGE or not message[0].isprintable()):
        return f"a message that is long or not printable: {message[0][:80]!r}"
    if ended.code == 0 and not answer_is_finite(call, ended.stdout):  # type: ignore[arg-type]
        return f"an answer that is not finite: {ended.stdout[-120:]!r}"
    return ""
