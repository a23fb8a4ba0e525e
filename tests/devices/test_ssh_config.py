"""ssh's configuration, as the real ssh reads it, and connections through the hosts and commands that it names."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.errors import DeviceUnreachableError, HostKeyError, UnknownTargetError
from devices.ssh_config import Host, parse_address, resolve
from devices.ssh_connect import connect
from devices.target import open_device
from profiler.launch import expand_targets


def configure(sshd, text: str) -> None:
    """Put lines before those of the fixture: the first value of a setting counts."""
    file = sshd.home / ".ssh" / "config"
    file.write_text(f"{text}\n{file.read_text()}")


def answer(host: Host) -> str:
    """What a host says, over a connection."""
    with connect(host) as client:
        _, stdout, _ = client.exec_command("echo here")
        return str(stdout.read().decode())


# ---- the answer of ssh ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("include", ["config.d/*", "~/.ssh/config.d/pi", "{home}/.ssh/config.d/*.absent config.d/p?"])
def test_an_included_host(sshd, include: str) -> None:
    folder = sshd.home / ".ssh" / "config.d"
    folder.mkdir()
    (folder / "pi").write_text(
        f"Host pi\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User root\n  IdentityFile {sshd.folder / 'user'}\n"
    )
    configure(sshd, f"Include {include.format(home=sshd.home)}")
    assert (resolve("pi").name, resolve("pi").port) == ("127.0.0.1", sshd.port)
    with open_device("ssh:pi") as device:
        assert device.run(["echo", "here"], timeout_s=20).stdout == b"here\n"


def test_match_blocks_apply_where_they_match(sshd) -> None:
    configure(
        sshd,
        'Match host one exec "true"\n  HostName 10.0.0.1\n  ProxyJump gate\nMatch host two exec "false"\n'
        "  HostName 10.0.0.2\n  ProxyJump gate\nMatch final all\n  Port 77\n",
    )
    one, two = resolve("one"), resolve("two")
    assert (one.name, one.port) == ("10.0.0.1", 77)
    assert one.proxy is not None
    assert (two.name, two.port, two.proxy) == ("two", 77, None)
    assert resolve("two:78").port == 78


def test_a_canonical_name(sshd) -> None:
    (sshd.home / "hosts").write_text("127.0.0.1 localhost\n127.0.0.1 box.example.test.\n")
    configure(
        sshd, "CanonicalizeHostname yes\nCanonicalDomains absent.test example.test\nHost box.example.test\n  Port 77"
    )
    sshd.home.joinpath(".ssh", "config").write_text(
        sshd.home.joinpath(".ssh", "config").read_text().replace("Host box\n", "Host other\n")
    )
    assert (resolve("box").name, resolve("box").port) == ("box.example.test", 77)
    assert resolve("box").key_name == "[box.example.test]:77"


def test_a_configuration_that_ssh_cannot_read_is_one_line(sshd) -> None:
    configure(sshd, "Host box\n  Colour blue")
    with pytest.raises(DeviceUnreachableError, match=r"config.*line 2: Bad configuration option: colour") as caught:
        resolve("box")
    assert "\n" not in str(caught.value)


def test_identity_files_with_tokens(sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    configure(
        sshd, 'Host a\n  HostName h\n  User me\n  IdentityFile "~/my keys/%n-%h-%r%%"\n  IdentityFile ${KEYS}/%p\n'
    )
    home = Path("~root").expanduser() if os.geteuid() == 0 else Path("~").expanduser()
    assert resolve("a").keys == (f"{home}/my keys/a-h-me%", "/keys/22")
    assert f"{home}/.ssh/id_ed25519" in resolve("elsewhere").keys


@pytest.mark.parametrize("address", ["$(id)", "a;b", "`id`@h", "a|b", "'h'", "a&b", "me@h>x", 'a"b', "a\\b"])
def test_names_that_a_shell_would_read_are_refused(address: str) -> None:
    """They go into the user's ProxyCommand, which a shell runs."""
    with pytest.raises(UnknownTargetError, match="USER@"):
        parse_address(address)


# ---- which known_hosts files count, and under which name -----------------------------------------------------------


def move_known_hosts(sshd, file: Path, name: str) -> None:
    words = sshd.known_hosts.read_text().split()
    sshd.known_hosts.write_text("")
    file.write_text(f"{name} {words[1]} {words[2]}\n")


def test_a_host_key_alias(sshd) -> None:
    move_known_hosts(sshd, sshd.known_hosts, "the-farm")
    with pytest.raises(HostKeyError, match=r"key of \[127\.0\.0\.1\]"):
        connect(resolve("box"))
    configure(sshd, "Host box\n  HostKeyAlias the-farm")
    assert resolve("box").key_name == "the-farm"
    assert answer(resolve("box")) == "here\n"
    assert answer(resolve(f"root@box:{sshd.port}")) == "here\n"


@pytest.mark.parametrize("setting", ["UserKnownHostsFile", "GlobalKnownHostsFile"])
@pytest.mark.parametrize(
    "value", ['"{folder}/my known hosts"', '/absent "{folder}/my known hosts"', "{folder}/%%h {file}"]
)
def test_the_files_with_host_keys(sshd, tmp_path: Path, setting: str, value: str) -> None:
    """Quoted, several, with a blank inside; of the user and of the system."""
    file = tmp_path / ("my known hosts" if "my" in value else "known")
    move_known_hosts(sshd, file, f"[127.0.0.1]:{sshd.port}")
    configure(sshd, f"Host box\n  {setting} {value.format(folder=tmp_path, file=file).replace('%%', '%%%%')}")
    assert file in resolve("box").known_hosts
    assert answer(resolve("box")) == "here\n"


def test_a_file_with_tokens(sshd, tmp_path: Path) -> None:
    move_known_hosts(sshd, tmp_path / f"box-127.0.0.1-{sshd.port}-root", f"[127.0.0.1]:{sshd.port}")
    configure(sshd, f"Host box\n  UserKnownHostsFile {tmp_path}/%n-%h-%p-%r")
    assert answer(resolve("box")) == "here\n"


def test_no_user_file_at_all(sshd) -> None:
    configure(sshd, "Host box\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none")
    assert resolve("box").known_hosts == ()
    with pytest.raises(HostKeyError, match="is not known"):
        connect(resolve("box"))


def test_a_key_known_without_the_port(sshd) -> None:
    """ssh takes it; another key under that name is another machine behind the same address, and not a changed one."""
    move_known_hosts(sshd, sshd.known_hosts, "127.0.0.1")
    assert answer(resolve("box")) == "here\n"
    kind, text = (sshd.folder / "other.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"127.0.0.1 {kind} {text}\n")
    with pytest.raises(HostKeyError, match="is not known"):
        connect(resolve("box"))


def test_names_in_known_hosts_have_no_case(sshd) -> None:
    assert Host("B", "Box.Test", 22, "u", (), False, None, ()).key_name == "box.test"


def test_a_changed_key_names_the_file(sshd, tmp_path: Path) -> None:
    kind, text = (sshd.folder / "other.pub").read_text().split()[:2]
    (tmp_path / "known").write_text(f"farm {kind} {text}\n")
    configure(sshd, f"Host box\n  HostKeyAlias farm\n  UserKnownHostsFile {tmp_path}/known")
    with pytest.raises(HostKeyError, match=f"HAS CHANGED.*`ssh-keygen -R farm -f {tmp_path}/known`"):
        connect(resolve("box"))


# ---- keys ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def agent(sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A real ssh-agent that holds the user's key, whose file is encrypted."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        deadline = time.monotonic() + 20
        while subprocess.run(["ssh-add", "-q", sshd.folder / "user"], capture_output=True).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        change = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", sshd.folder / "user"]
        subprocess.run(change, check=True, capture_output=True)
        yield socket
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("ending", ["", ".pub"])
def test_an_encrypted_key_that_the_agent_holds(sshd, agent, ending: str) -> None:
    """`IdentitiesOnly` offers the agent's keys of the files that are named; the file may be the public one."""
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text().replace(f"{sshd.folder / 'user'}\n", f"{sshd.folder / 'user'}{ending}\n"))
    assert resolve("box").only_keys
    assert answer(resolve("box")) == "here\n"


def test_other_keys_of_the_agent_are_not_offered(sshd, agent) -> None:
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text().replace(f"{sshd.folder / 'user'}\n", f"{sshd.folder / 'stranger'}\n"))
    with pytest.raises(DeviceUnreachableError, match="the host accepts none of your keys"):
        connect(resolve("box"))
    config.write_text(config.read_text().replace("IdentitiesOnly yes", "IdentitiesOnly no"))
    assert answer(resolve("box")) == "here\n"


def test_the_agent_that_the_configuration_names(sshd, agent, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(sshd, "Host box\n  IdentityAgent none")
    with pytest.raises(DeviceUnreachableError, match="a private key is encrypted"):
        connect(resolve("box"))
    config = sshd.home / ".ssh" / "config"
    config.write_text(config.read_text().replace("IdentityAgent none", f"IdentityAgent {agent}"))
    assert answer(resolve("box")) == "here\n"
    monkeypatch.delenv("SSH_AUTH_SOCK")
    with pytest.raises(DeviceUnreachableError, match=f"; repeat with SSH_AUTH_SOCK={agent}$"):
        connect(resolve("box"))


# ---- through other hosts and commands ------------------------------------------------------------------------------


def gates(sshd) -> str:
    """Two hosts to jump over; the box is reached under a name that only they could resolve."""
    host = f"  HostName 127.0.0.1\n  Port {sshd.port}\n  IdentityFile {sshd.folder / 'user'}\n"
    return f"Host gate\n{host}Host second\n{host}  User root\n"


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


def test_the_words_of_a_jump_that_fails(sshd) -> None:
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
def test_the_words_of_a_command_that_fails(sshd, command: str, words: str) -> None:
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


def test_what_a_proxy_cannot_do_is_said(sshd) -> None:
    configure(sshd, "Host box\n  ProxyCommand nc -F %h %p\n  ProxyUseFdpass yes")
    with pytest.raises(DeviceUnreachableError, match="ProxyUseFdpass is not supported"):
        resolve("box")


def test_a_jump_host_of_none_is_a_direct_connection(sshd) -> None:
    configure(sshd, "Host box\n  ProxyJump none\nHost second\n  ProxyCommand none\nHost *\n  ProxyJump gate")
    assert resolve("box").proxy is None
    assert resolve("second").proxy is None
    assert resolve("elsewhere").proxy is not None


def test_two_names_of_one_host_are_refused(sshd) -> None:
    configure(sshd, f"{gates(sshd)}Host far\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump gate\n")
    for other in ("ssh:gate", f"ssh:127.0.0.1:{sshd.port}", "ssh://root@box/"):
        with pytest.raises(UnknownTargetError, match=f"ssh:box and {other} are one device: name it once"):
            expand_targets(["ssh:box", other])
    targets = ["local", "ssh:box", "ssh:far", "ssh:box:77", "ssh:$(id)"]  # another network, another port, no name
    assert [str(target) for target in expand_targets(targets)] == targets


# ---- without ssh ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_ssh(sshd, tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "empty"))
        yield


def test_without_ssh_paramiko_reads_the_file(sshd, no_ssh, tmp_path: Path) -> None:
    move_known_hosts(sshd, tmp_path / "my known hosts", "the-farm")
    configure(sshd, f'Host box\n  HostKeyAlias the-farm\n  UserKnownHostsFile /absent "{tmp_path}/my known hosts"')
    host = resolve("box")
    assert (host.name, host.port, host.user, host.only_keys) == ("127.0.0.1", sshd.port, "root", True)
    assert answer(host) == "here\n"
    assert resolve("elsewhere").keys[-1] == f"{sshd.home}/.ssh/id_ed25519"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Include config.d/*", r"'Include config\.d/\*' is read by ssh only: install"),
        ("Match final all\n  Port 7", "'Match final all' is read by ssh only"),
        ("Match localnetwork 10.0.0.0/8\n  ProxyJump gate", "'Match localnetwork .*' is read by ssh only"),
        ("Host box\n  ProxyJump gate", "ProxyJump gate needs ssh: install"),
        ('Host box\n  UserKnownHostsFile "open', "cannot read .*config"),
    ],
)
def test_without_ssh_what_cannot_be_read_is_refused(sshd, no_ssh, lines: str, message: str) -> None:
    configure(sshd, lines)
    with pytest.raises(DeviceUnreachableError, match=message):
        resolve("box")
