"""ssh against a real sshd: who may be talked to, files, cut connections, and whole tables."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_setups import box_device, wait_for

from devices import remote_files
from devices.errors import (
    DeviceStorageError,
    DeviceUnreachableError,
)
from devices.remote_files import PREPARE
from devices.remote_options import RemoteOptions
from devices.ssh import SshDevice
from devices.ssh_config import resolve
from devices.target import Target, open_device


@pytest.fixture
def device(sshd, tmp_path: Path) -> Iterator[SshDevice]:
    with box_device(tmp_path) as opened:
        yield opened


# ---- programs and files --------------------------------------------------------------------------------------------


def test_close_removes_the_work_directory_unless_it_is_kept(sshd, tmp_path: Path) -> None:
    for keep in (False, True):
        device = SshDevice(resolve("box"), RemoteOptions(parent_dir=str(tmp_path), keep=keep))
        work = Path(device.work_dir)
        assert work.parent == tmp_path
        assert work.stat().st_mode & 0o777 == 0o700
        device.close()
        assert work.exists() == keep
        with pytest.raises(DeviceUnreachableError, match="is closed"):
            device.run(["true"], timeout_s=1)


def test_the_folder_of_a_killed_session_is_removed_by_the_next(sshd, tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom devices.remote_options import RemoteOptions\n"
        "from devices.ssh import SshDevice\nfrom devices.ssh_config import resolve\n"
        "print(SshDevice(resolve('box'), RemoteOptions(parent_dir=sys.argv[1])).work_dir, flush=True)\n"
        "time.sleep(600)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    left = Path(killed.stdout.readline().strip())
    (left / "model").write_bytes(b"x")
    others = tmp_path / "ofa-latency-AbCdEf"  # without a session's file: kept, or another program's
    others.mkdir()
    with SshDevice(resolve("box"), RemoteOptions(parent_dir=str(tmp_path))) as alive:
        assert left.exists()  # its session lives
        killed.kill()
        killed.communicate()
        deadline = time.monotonic() + 20
        while left.exists() and time.monotonic() < deadline:  # sshd has to notice
            with SshDevice(resolve("box"), RemoteOptions(parent_dir=str(tmp_path), keep=True)) as second:
                kept = Path(second.work_dir)
        assert not left.exists()
        assert Path(alive.work_dir).exists()
    with SshDevice(resolve("box"), RemoteOptions(parent_dir=str(tmp_path))):
        assert kept.exists()
        assert others.exists()


def test_a_session_that_connects_again_holds_its_folder_again(sshd, device: SshDevice, tmp_path: Path) -> None:
    sshd.cut()
    deadline = time.monotonic() + 20
    while device.n_reconnects == 0 and time.monotonic() < deadline:
        with contextlib.suppress(DeviceUnreachableError):
            device.run(["true"], timeout_s=20)
    work = Path(device.work_dir)
    with SshDevice(resolve("box"), RemoteOptions(parent_dir=str(work.parent))):
        assert work.exists()


def test_a_work_directory_that_cannot_be_made_is_named(sshd) -> None:
    with pytest.raises(DeviceStorageError, match="/absent"):
        SshDevice(resolve("box"), RemoteOptions(parent_dir="/absent"))


def test_a_cut_upload_is_resumed(device: SshDevice, tmp_path: Path) -> None:
    import hashlib

    data = bytes(range(256)) * 4000
    (tmp_path / "source").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    for start in (data[:300_000], b"x" * 300_000):  # the second is damaged: it is thrown away
        part = Path(device.work_dir, f".{digest[:24]}.part")
        part.write_bytes(start)
        if start[0] == data[0]:
            device.push(tmp_path / "source", "file")
        else:
            with pytest.raises(DeviceStorageError, match="damaged"):
                device.push(tmp_path / "source", "other")
            device.push(tmp_path / "source", "other")
        assert not part.exists()
    assert Path(device.work_dir, "file").read_bytes() == Path(device.work_dir, "other").read_bytes() == data


def test_a_full_disk_is_a_storage_error_with_the_free_space(
    sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small]).returncode:
        pytest.skip("this system lets nobody mount a tmpfs")
    try:
        (tmp_path / "source").write_bytes(b"x" * 1_000_000)
        message = r"No space left on device: 0\.2 MiB free in .*/ofa-latency-\w{6}, 1\.0 MiB needed$"
        with (
            SshDevice(resolve("box"), RemoteOptions(parent_dir=str(small))) as device,
            pytest.raises(DeviceStorageError, match=message),
        ):
            device.push(tmp_path / "source", "file")
        monkeypatch.setattr(remote_files, "PREPARE", PREPARE.replace("df ", "true "))  # filled meanwhile
        with SshDevice(resolve("box"), RemoteOptions(parent_dir=str(small))) as device:
            with pytest.raises(DeviceStorageError, match=r"cannot put .*source as file: .+"):
                device.push(tmp_path / "source", "file")
            assert not list(Path(device.work_dir).glob(".*.part"))
    finally:
        subprocess.run(["umount", small], check=True)


# ---- connections that break ----------------------------------------------------------------------------------------


def test_a_cut_connection_ends_the_call_and_the_next_connects_again(sshd, device: SshDevice, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    device.push(tmp_path / "source", "kept/file")
    channel = device.start(["sh", "-c", "trap '' HUP; echo $$; while :; do sleep 1; done"])
    left_over = Path("/proc", channel.read_line(20))
    sshd.cut()
    with pytest.raises(DeviceUnreachableError, match="was lost"):
        channel.read_line(20)
    assert left_over.exists()
    assert device.run(["cat", "kept/file"], timeout_s=20).stdout == b"content"
    assert device.n_reconnects == 1
    wait_for(lambda: not left_over.exists())
    inode = Path(device.work_dir, "kept/file").stat().st_ino
    device.push(tmp_path / "source", "kept/file")
    assert Path(device.work_dir, "kept/file").stat().st_ino == inode  # known by its content, not sent again
    sshd.cut()
    wait_for(lambda: not device._is_up())
    shutil.rmtree(device.work_dir)  # as a machine that was started anew
    device.push(tmp_path / "source", "kept/file")
    assert Path(device.work_dir, "kept/file").read_bytes() == b"content"


def test_a_cut_during_run_is_reported(sshd, device: SshDevice) -> None:
    timer = threading.Timer(0.3, sshd.cut)
    timer.start()
    with pytest.raises(DeviceUnreachableError, match="was lost"):
        device.run(["sleep", "600"], timeout_s=60)
    timer.join()


def test_a_host_that_stays_away_is_given_up_with_the_number_of_tries(sshd, device: SshDevice) -> None:
    sshd.process.kill()
    sshd.process.wait()
    assert device._client is not None
    device._client.close()
    with pytest.raises(DeviceUnreachableError, match="tried 2 times"):
        device.run(["true"], timeout_s=5)


# ---- tables --------------------------------------------------------------------------------------------------------


def profile_command(out: Path, backend: str = "onnxruntime") -> list[str]:
    main = "import sys; from profiler.cli import main; sys.exit(main())"
    return [
        *(sys.executable, "-c", main, "--target", "ssh:box", "--space", "tiny", "--resolutions", "24"),
        *("--budget-s", "2", "--processes", "3", "--python", sys.executable, "--out", str(out), "--backend", backend),
    ]


def rows_of(out: Path) -> list[str]:
    return out.read_text().splitlines()[1:]


def test_a_table_over_ssh(sshd, tmp_path: Path) -> None:
    out = tmp_path / "box.csv"
    done = subprocess.run(profile_command(out, "sleep"), capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout == f"{out}\n"
    assert all(row.split(",")[1] == "ssh:box" for row in rows_of(out))
    assert len(rows_of(out)) > 5


def test_more_threads_than_cores_over_ssh(sshd, tmp_path: Path) -> None:
    command = [*profile_command(tmp_path / "t.csv", "sleep"), "--threads", "2000", "--budget-s", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert re.search(
        r"^ofa-profile: warning: ssh:box: 2000 threads share \d+ cores? and wait for each other",
        done.stderr,
        re.MULTILINE,
    )
    assert done.stderr.splitlines()[-1].endswith("beyond --budget-s 1")


def test_an_unknown_host_key_is_one_line_and_exit_1(sshd, tmp_path: Path) -> None:
    sshd.known_hosts.write_text("")
    done = subprocess.run(profile_command(tmp_path / "t.csv"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "SHA256:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_of_setup_prints_its_steps(sshd) -> None:
    main = "import sys; from profiler.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "setup", "--target", "ssh:box", "--dry-run", "--python", sys.executable]
    done = subprocess.run([*command, "--backend", "tflite"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{sys.executable} -m venv ~/.local/share/ofa-latency/venv-tflite"
    assert second.endswith("pip install 'ai-edge-litert>=2.1' numpy")
    assert not (sshd.home / ".local").exists()


def test_a_connection_cut_in_the_middle_costs_one_visit(sshd, tmp_path: Path) -> None:
    out = tmp_path / "box.csv"
    journal = tmp_path / "box.journal.jsonl"
    with (tmp_path / "log").open("wb") as log:
        tool = subprocess.Popen(profile_command(out), stdout=log, stderr=log)
        try:
            wait_for(lambda: journal.exists() and journal.read_bytes().count(b'{"p":') > 5, 90)
            before = journal.read_bytes()
            sshd.cut()
            assert tool.wait(90) in (0, 3), (tmp_path / "log").read_text()
        finally:
            tool.kill()
            tool.wait()
    assert journal.read_bytes().startswith(before)
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert not any("fail" in event for event in events)  # nobody is blamed for a connection
    if not any("redo" in event for event in events):
        keys = [(e["p"], e["c"], e["r"], e["i"]) for e in events if "p" in e]
        assert len(keys) == len(set(keys))
    assert len(rows_of(out)) > 5


def test_a_host_that_was_unreachable_for_a_while(sshd, tmp_path: Path) -> None:
    """The tool gives up, and run again goes on with the journal."""
    from ofa_core.spaces import tiny
    from profiler.agent_runner import AgentRunner
    from profiler.campaign import ProfileSpec, journal_path, profile
    from profiler.journal import read_journal
    from profiler.settings import Settings

    out = tmp_path / "box.csv"
    spec = ProfileSpec(tiny(), (24,), "box", "sleep", settings=Settings(n_processes=3, budget_s=1), n_reference=2)
    config = sshd.home / ".ssh" / "config"
    good = config.read_text()

    def cut_off(progress) -> None:
        if progress.phase == "measure" and progress.done == 5:
            config.write_text(good)
            sshd.known_hosts.write_text("")  # nobody can connect to it any more
            sshd.cut()

    with (
        SshDevice(resolve("box"), RemoteOptions(python=sys.executable, pauses_s=(0,))) as device,
        pytest.raises(DeviceUnreachableError),
    ):
        profile(spec, AgentRunner(device, "sleep"), out, progress=cut_off)
    kept = read_journal(journal_path(out))
    assert len(kept.visits) == 5
    assert not kept.failures
    sshd.write_known_hosts()
    with open_device(Target("ssh", "box", python=sys.executable)) as device:
        result = profile(spec, AgentRunner(device, "sleep"), out)
    assert result.measured.n_visits == (len(result.table) + 2) * 3 * kept.pilot["n_rounds"]
    state = read_journal(journal_path(out))
    assert state.redone or state.visits.items() >= kept.visits.items()
