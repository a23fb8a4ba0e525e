"""Connections through jump hosts and commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ssh_setups import answer, configure, gates

from devices.errors import (
    DeviceUnreachableError,
)
from devices.ssh_config import resolve
from devices.target import open_device


@pytest.mark.parametrize("jump", ["root@gate", "root@gate,second", "ssh://root@gate:{port},root@second:{port}"])
def test_a_chain_of_jumps(sshd, jump: str) -> None:
    configure(sshd, f"{gates(sshd)}Host box\n  ProxyJump {jump.format(port=sshd.port)}")
    before = sshd.log_text().count("Accepted publickey")
    with open_device("ssh:box") as device:
        assert device.run(["echo", "here"], timeout_s=20).stdout == b"here\n"
    assert sshd.log_text().count("Accepted publickey") - before == jump.count("gate") + jump.count("second") + 1


def test_a_proxy_command_is_a_line_for_the_shell(sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    monkeypatch.setenv("SHELL", str(shutil.which("bash")))
    script = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & exec cat >&3 2>/dev/null' | cat; : %r %n %%"
    configure(sshd, f"Host box\n  ProxyCommand {script}")
    assert answer(resolve("box")) == "here\n"


def test_the_error_output_of_a_failing_jump_is_quoted(sshd) -> None:
    configure(
        sshd, f"{gates(sshd)}Host box\n  ProxyJump absent.invalid\nHost far\n  HostName 127.0.0.1\n  ProxyJump second"
    )
    with pytest.raises(
        DeviceUnreachableError, match=r"no connection through `ssh .*absent\.invalid`: .*ould not resolve"
    ):
        open_device("ssh:box")
    sshd.known_hosts.write_text("")
    with pytest.raises(DeviceUnreachableError, match=r"`ssh .*second`: .*Host key verification failed\.$") as caught:
        open_device("ssh:far")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo 'no \033[31mway' >&2; exit 3", r"`: no \[31mway$"),
        ("exit 3", "exit code 3$"),
        ("/absent/program", "not found|No such file"),
    ],
)
def test_the_error_output_of_a_failing_command_is_quoted(sshd, command: str, words: str) -> None:
    configure(sshd, f'Host box\n  ProxyCommand sh -c "{command}"')
    with pytest.raises(DeviceUnreachableError, match=words):
        open_device("ssh:box")


def test_a_proxy_ends_with_its_connection(sshd, tmp_path: Path) -> None:
    script = f"sh -c 'echo $$ > {tmp_path}/pid; exec ssh -W [%h]:%p root@second'"
    configure(sshd, f"{gates(sshd)}Host box\n  ProxyCommand {script}")
    with open_device("ssh:box") as device:
        assert device.run(["true"], timeout_s=20).rc == 0
        pid = (tmp_path / "pid").read_text().strip()
        assert Path("/proc", pid).exists()
    assert not Path("/proc", pid).exists()


def test_an_unsupported_proxy_setting_is_refused(sshd) -> None:
    configure(sshd, "Host box\n  ProxyCommand nc -F %h %p\n  ProxyUseFdpass yes")
    with pytest.raises(DeviceUnreachableError, match="ProxyUseFdpass is not supported"):
        resolve("box")


def test_a_jump_host_of_none_is_a_direct_connection(sshd) -> None:
    configure(sshd, "Host box\n  ProxyJump none\nHost second\n  ProxyCommand none\nHost *\n  ProxyJump gate")
    assert resolve("box").proxy is None
    assert resolve("second").proxy is None
    assert resolve("elsewhere").proxy is not None
