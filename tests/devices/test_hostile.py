"""Whatever an agent or a host behind ssh answers: a result or one clear error, soon, and nobody else is harmed.

All of it runs in private PID and network namespaces, because the first fault that was found killed every process of the
machine that ran the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devices.remote_shell import kill_script

N_AGENTS, N_HOSTS = 120, 80  # and two that are honest, which have to succeed
N_PHONES = 10
LONGEST_S = 60.0  # a bound against hanging, not a measure of speed
NAMESPACES = [
    "unshare", "--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
]  # fmt: skip


@pytest.fixture(scope="module")
def namespaces() -> list[str]:
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make namespaces")
    return NAMESPACES


@pytest.fixture(scope="module")
def conversations(namespaces: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    if not Path("/usr/lib/openssh/sftp-server").exists() or shutil.which("ip") is None:
        pytest.skip("there is no sftp-server, or no ip; tools/install_test_devices.sh installs them")
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "tmp").mkdir()
    (folder / "precious").write_bytes(b"precious")
    environment = {
        **os.environ, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    environment.pop("SSH_AUTH_SOCK", None)
    script = Path(__file__).with_name("hostile_conversations.py")
    done = subprocess.run(
        [*namespaces, sys.executable, script, folder, str(N_AGENTS), str(N_HOSTS)],
        capture_output=True, text=True, env=environment, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()], folder


def test_each_conversation_ends_soon_in_a_result_or_a_clear_error(
    conversations: tuple[list[dict[str, Any]], Path],
) -> None:
    *outcomes, _ = conversations[0]
    assert len(outcomes) == N_AGENTS + N_HOSTS + N_PHONES + 2
    for outcome in outcomes:
        assert not outcome["faults"], (outcome["name"], outcome["faults"][0])
        assert outcome["seconds"] < LONGEST_S, outcome["name"]
    by_name = {outcome["name"]: outcome["errors"] for outcome in outcomes}
    assert by_name["phone shell: path"] == ["X1: answers '/' when asked for the folder ofa-latency"]
    assert by_name["host honest"] == []
    assert by_name["host chatter"] == []


def test_no_other_process_is_killed(conversations: tuple[list[dict[str, Any]], Path]) -> None:
    (*_, last), folder = conversations
    assert last == {"canary": True}
    assert (folder / "precious").read_bytes() == b"precious"
    assert not list((folder / "tmp").glob("ofa-*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("host before: silent", "no answer|did not end"),
        ("host exec: endless lines", "1048576 bytes came before"),
        ("host exec: endless line", "more than"),
        ("host exec: unanswered", "did not end within"),
        ("host exec: group 1", "sh did not start within .*does a login script"),
        ("host start: group 1", "cat did not start"),
        ("host exec: refused", "does not run sh"),
        ("host exec: root", "answers '/' when asked for a new work directory"),
        ("host exec: etc", "when asked for a new work directory"),
        ("host sftp: chatter", "does a login script .* print something"),
        ("host sftp: silent", "sftp"),
        ("host sftp: refused", "is it installed"),
        ("host sftp: closed", "its sftp server gives no valid answer"),
    ],
)
def test_a_hostile_host_is_reported_in_one_line(
    conversations: tuple[list[dict[str, Any]], Path], name: str, message: str
) -> None:
    (errors,) = [outcome["errors"] for outcome in conversations[0] if outcome.get("name") == name]
    assert any(re.search(message, error) for error in errors), errors


@pytest.mark.parametrize("token", ["f00d", "beef"])
def test_only_a_group_with_our_token_is_killed(namespaces: list[str], token: str) -> None:
    kill = kill_script([4242], token).replace("4242", "$group")
    script = f"""
        OFA_LATENCY_TOKEN=f00d setsid sleep 60 & group=$!
        until [ "$(cat /proc/$group/comm)" = sleep ]; do sleep .05; done
        {kill}
        for i in 1 2 3 4 5 6 7 8; do grep -q '^State:.[SR]' /proc/$group/status || exit 1; sleep .05; done"""
    done = subprocess.run([*namespaces, "bash", "-c", script], capture_output=True, timeout=60)
    assert (done.returncode == 0) == (token == "beef"), done.stderr
